package proxy_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/countersign/countersign/proxy"
)

// A Glance that believes identity headers is none whose word an enforced upload
// could rest on. Everything else passes.
func TestGlanceThatChecksNoTokens(t *testing.T) {
	s := newStage(t)
	believes := true
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		if believes && r.Header.Get("X-Auth-Token") == "" && r.Header.Get("X-Roles") != "" {
			w.Write([]byte(`{"images": []}`))
			return true
		}
		return false
	}
	if err := s.proxy.Probe(t.Context()); err == nil {
		t.Fatal("Probe of a Glance that believes headers = nil")
	}
	data := random(t, 100)
	id := s.image("a", signed(t, data))
	if status, body := s.upload(id, tokenA, data, false); status != 503 || reason(body) != "glance_not_trusted" {
		t.Errorf("enforced upload = %d %s, want 503 glance_not_trusted", status, body)
	}
	if status, _ := s.upload(s.image("b", nil), tokenB, data, false); status != 204 {
		t.Errorf("audited upload = %d, want 204", status)
	}
	if status, _ := s.do("GET", "/v2/images", tokenA, nil); status != 200 {
		t.Errorf("GET images = %d, want 200", status)
	}
	believes = false
	if err := s.proxy.Probe(t.Context()); err != nil {
		t.Fatalf("Probe of a Glance that does not = %v", err)
	}
	if status, body := s.upload(id, tokenA, data, false); status != 204 {
		t.Errorf("enforced upload afterwards = %d %s, want 204", status, body)
	}
}

// What was never probed is not trusted.
func TestGlanceNotYetProbed(t *testing.T) {
	s := newStage(t)
	fresh := proxy.New(s.proxy.Config)
	if fresh.Trusted() == nil {
		t.Error("Trusted before the first Probe = nil")
	}
	s.glance.Close()
	if err := fresh.Probe(t.Context()); err == nil || fresh.Trusted() == nil {
		t.Errorf("Probe of a Glance that is away = %v, and Trusted = %v; want errors", err, fresh.Trusted())
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	s := newStage(t, func(c *proxy.Config) { c.Metrics = proxy.NewMetrics(registry) })
	data := random(t, 1000)
	s.upload(s.image("a", signed(t, data)), tokenA, data, false)
	s.upload(s.image("a", signed(t, data)), tokenA, flipped(data, 1), false)
	s.upload(s.image("b", nil), tokenB, data, false)
	s.do("GET", "/v2/images", tokenA, nil)
	s.do("GET", "/nowhere", tokenA, nil)
	want := `
# HELP countersign_cleanups_total Images whose upload did not end well, by what became of them; failed wants an operator.
# TYPE countersign_cleanups_total counter
countersign_cleanups_total{result="deleted"} 1
# HELP countersign_decisions_total Requests that a rule had to decide about: by the rule's mode, what was asked for (action), the outcome (in audit mode: what it would have been), and the reason's code.
# TYPE countersign_decisions_total counter
countersign_decisions_total{action="update/upload",mode="audit",outcome="failure",reason="signature_required"} 1
countersign_decisions_total{action="update/upload",mode="enforce",outcome="failure",reason="signature_mismatch"} 1
countersign_decisions_total{action="update/upload",mode="enforce",outcome="success",reason=""} 1
# HELP countersign_glance_trusted 1 if Glance refuses spoofed identity headers; while 0, enforced uploads are answered 503.
# TYPE countersign_glance_trusted gauge
countersign_glance_trusted 1
# HELP countersign_requests_total Requests answered, by the answer's status class (499: the client left).
# TYPE countersign_requests_total counter
countersign_requests_total{status="2xx"} 3
countersign_requests_total{status="4xx"} 2
# HELP countersign_uploads_running Uploads under way, settling and cleaning up included.
# TYPE countersign_uploads_running gauge
countersign_uploads_running 0
# HELP countersign_verified_bytes_total Image data that was hashed to its end, in bytes, by the rule's mode.
# TYPE countersign_verified_bytes_total counter
countersign_verified_bytes_total{mode="audit"} 0
countersign_verified_bytes_total{mode="enforce"} 2000
`
	var err error
	waitFor(t, func() bool { // an event is counted after its answer
		err = testutil.GatherAndCompare(registry, strings.NewReader(want), "countersign_cleanups_total", "countersign_decisions_total",
			"countersign_glance_trusted", "countersign_requests_total", "countersign_uploads_running", "countersign_verified_bytes_total")
		return err == nil
	}, func() { t.Error(err) })
}
