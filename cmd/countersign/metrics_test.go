package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/proxy"
)

// metric is what operators are told of one.
type metric struct{ kind, labels, help string }

// recorder takes down what is registered with it.
type recorder struct {
	t     *testing.T
	found map[string]metric
}

func (r *recorder) Register(c prometheus.Collector) error {
	r.MustRegister(c)
	return nil
}

func (r *recorder) Unregister(prometheus.Collector) bool { return false }

var described = regexp.MustCompile(`^Desc\{fqName: "([^"]*)", help: ("(?:[^"\\]|\\.)*"), (?:unit: "[^"]*", )?constLabels: \{([^}]*)\}, variableLabels: \{([^}]*)\}\}$`)

func (r *recorder) MustRegister(collectors ...prometheus.Collector) {
	for _, c := range collectors {
		descriptions := make(chan *prometheus.Desc, 100)
		c.Describe(descriptions)
		close(descriptions)
		for d := range descriptions {
			parts := described.FindStringSubmatch(d.String())
			if parts == nil {
				r.t.Fatalf("prometheus describes a metric as %s: the test looks for something else", d)
			}
			var help string
			if _, err := fmt.Sscanf(parts[2], "%q", &help); err != nil {
				r.t.Fatal(err)
			}
			var labels []string
			for _, label := range strings.Split(strings.TrimSuffix(regexp.MustCompile(`="[^"]*"`).ReplaceAllString(parts[3], "")+","+parts[4], ","), ",") {
				if label != "" {
					labels = append(labels, "`"+label+"`")
				}
			}
			kind := "gauge"
			_, histogram := c.(*prometheus.HistogramVec)
			switch {
			case histogram:
				kind = "histogram"
			case strings.HasSuffix(parts[1], "_total"):
				kind = "counter"
			}
			r.found[parts[1]] = metric{kind, strings.Join(labels, ", "), help}
		}
	}
}

// metrics are all that serve registers.
func metrics(t *testing.T) map[string]metric {
	t.Helper()
	certificate, key := keyFiles(t)
	cfg := settings(t, map[string]string{
		"COUNTERSIGN_TLS_CERT_FILE": certificate, "COUNTERSIGN_TLS_KEY_FILE": key,
	})
	r := &recorder{t, map[string]metric{}}
	measureBuild(r)
	(&auditTrail{sinks: []*auditSink{new(auditSink)}}).measure(r)
	proxy.NewMetrics(r)
	new(policyFile).measure(r)
	newCertificates(cfg, nil).measure(r)
	measureTLS(r, &cfg)
	new(receiptKeys).measure(r)
	return r.found
}

// TestMetrics holds docs/metrics.md to the metrics that are registered. Where it
// differs, the right table is printed, to be copied.
func TestMetrics(t *testing.T) {
	all := metrics(t)
	var want strings.Builder
	want.WriteString("| metric | kind | labels | meaning |\n|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(all)) {
		m := all[name]
		fmt.Fprintf(&want, "| `%s` | %s | %s | %s |\n", name, m.kind, m.labels, m.help)
	}
	if got := between(t, documents(t)["docs/metrics.md"], "metrics"); got != want.String() {
		t.Errorf("the table of docs/metrics.md should be:\n\n%s", want.String())
	}
	for _, file := range sources(t, false) {
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(source, []byte("prometheus.")) {
			continue
		}
		for _, found := range regexp.MustCompile(`"(countersign_[a-z_]+)"`).FindAllSubmatch(source, -1) {
			if name := string(found[1]); all[name].kind == "" {
				t.Errorf("%s has the metric %s, which the test does not register", file, name)
			}
		}
	}
}

// keyFiles are those of a certificate and its key, made for the test.
func keyFiles(t *testing.T) (certificate, key string) {
	t.Helper()
	folder := t.TempDir()
	certificate, key = filepath.Join(folder, "certificate.pem"), filepath.Join(folder, "key.pem")
	if code := run(t.Context(), []string{"keygen", "--name", "test", "--key", key, "--certificate", certificate}); code != 0 {
		t.Fatalf("keygen: exit code %d", code)
	}
	return certificate, key
}
