package proxy_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/countersign/countersign/proxy"
	"github.com/countersign/countersign/signature"
)

// samples are what a registry shows, but for sums and buckets, which depend on
// the clock: name and labels → value.
func samples(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	found := map[string]float64{}
	for line := range strings.Lines(w.Body.String()) {
		at := strings.LastIndexByte(line, ' ')
		if line[0] == '#' || strings.Contains(line, "_sum{") || strings.Contains(line, "_bucket{") {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(line[at:]), 64)
		if err != nil {
			t.Fatalf("/metrics has the line %q: %v", line, err)
		}
		found[line[:at]] = value
	}
	return found
}

// wantSamples waits for samples: an event is counted after its answer.
func wantSamples(t *testing.T, registry *prometheus.Registry, want map[string]float64) {
	t.Helper()
	var wrong []string
	waitFor(t, func() bool {
		wrong = nil
		got := samples(t, registry)
		for name, value := range want {
			if there, ok := got[name]; !ok || there != value {
				wrong = append(wrong, name+" is "+strconv.FormatFloat(there, 'g', -1, 64)+", want "+strconv.FormatFloat(value, 'g', -1, 64))
			}
		}
		slices.Sort(wrong)
		return wrong == nil
	}, func() { t.Error(strings.Join(wrong, "\n")) })
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	s := newStage(t, func(c *proxy.Config) { c.Metrics = proxy.NewMetrics(registry) })
	data := random(t, 1000)
	certificate, err := signature.ParseCertificate(certificatePEM())
	if err != nil {
		t.Fatal(err)
	}
	s.upload(s.image("a", signed(t, data)), tokenA, data, false)
	s.upload(s.image("a", signed(t, data)), tokenA, flipped(data, 1), false)
	s.upload(s.image("b", nil), tokenB, data, false)
	s.do("GET", "/v2/images", tokenA, nil)
	s.do("GET", "/nowhere", tokenA, nil)
	wantSamples(t, registry, map[string]float64{
		`countersign_cleanups_total{result="deleted"}`:     1,
		`countersign_cleanups_total{result="failed"}`:      0,
		`countersign_cleanups_total{result="left active"}`: 0,
		`countersign_decisions_total{action="update/upload",mode="audit",outcome="failure",reason="signature_required",rule="rule 4"}`:     1,
		`countersign_decisions_total{action="update/upload",mode="enforce",outcome="failure",reason="signature_mismatch",rule="enforced"}`: 1,
		`countersign_decisions_total{action="update/upload",mode="enforce",outcome="success",reason="",rule="enforced"}`:                   1,
		`countersign_glance_trusted`:                                   1,
		`countersign_requests_total{status="2xx"}`:                     3,
		`countersign_requests_total{status="4xx"}`:                     2,
		`countersign_signer_expiry_timestamp_seconds{rule="enforced"}`: float64(certificate.NotAfter.Unix()),
		`countersign_upload_seconds_count{outcome="success"}`:          1,
		`countersign_upload_seconds_count{outcome="failure"}`:          2,
		`countersign_uploads_running`:                                  0,
		`countersign_uploads_settling`:                                 0,
		`countersign_upstream_errors_total{service="glance"}`:          0,
		`countersign_upstream_errors_total{service="keystone"}`:        0,
		`countersign_upstream_errors_total{service="key_manager"}`:     0,
		`countersign_verification_seconds_count{part="admit"}`:         3,
		`countersign_verification_seconds_count{part="settle"}`:        2,
		`countersign_verified_bytes_total{mode="audit"}`:               0,
		`countersign_verified_bytes_total{mode="enforce"}`:             2000,
	})
}

// An answer of Glance's that is none counts, whoever it was for; what ends on
// our side does not.
func TestMetricsOfAGlanceThatFails(t *testing.T) {
	registry := prometheus.NewRegistry()
	s := newStage(t, func(c *proxy.Config) { c.Metrics = proxy.NewMetrics(registry) })
	failing := false
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		if failing && r.Method == "GET" {
			w.WriteHeader(http.StatusBadGateway)
		}
		return failing && r.Method == "GET"
	}
	data := random(t, 1000)
	id := s.image("a", signed(t, data))
	s.upload(id, tokenA, flipped(data, 1), false)
	failing = true
	s.do("GET", "/v2/images", tokenA, nil)           // passes, 502
	s.upload(s.image("a", nil), tokenA, data, false) // the image cannot be read
	s.glance.Close()
	s.do("GET", "/v2/images", tokenA, nil) // nobody is there
	wantSamples(t, registry, map[string]float64{`countersign_upstream_errors_total{service="glance"}`: 3})
}
