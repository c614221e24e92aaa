package proxy

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what the proxy does. Every label has a small, fixed set of
// values: a project or an image is looked up in the log. A nil *Metrics counts
// nothing.
type Metrics struct {
	requests   *prometheus.CounterVec
	decisions  *prometheus.CounterVec
	cleanups   *prometheus.CounterVec
	bytes      *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	running    prometheus.Gauge
	trusted    prometheus.Gauge
	credential prometheus.Gauge
}

// NewMetrics registers its metrics with r.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "countersign_requests_total",
			Help: "Requests answered, by the answer's status class (499: the client left)."},
			[]string{"status"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "countersign_decisions_total",
			Help: "Requests that a rule had to decide about: by the rule's mode, what was asked for (action), the outcome (in audit mode: what it would have been), and the reason's code."},
			[]string{"mode", "action", "outcome", "reason"}),
		cleanups: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "countersign_cleanups_total",
			Help: "Images whose upload did not end well, by what became of them; failed wants an operator."},
			[]string{"result"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "countersign_verified_bytes_total",
			Help: "Image data that was hashed to its end, in bytes, by the rule's mode."},
			[]string{"mode"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "countersign_upload_seconds",
			Help:    "Time from the request to the answer of judged uploads, by outcome.",
			Buckets: prometheus.ExponentialBuckets(0.05, 4, 9)},
			[]string{"outcome"}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "countersign_uploads_running",
			Help: "Uploads under way, settling and cleaning up included."}),
		trusted: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "countersign_glance_trusted",
			Help: "1 if Glance refuses spoofed identity headers; while 0, enforced uploads are answered 503."}),
		credential: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "countersign_service_credential_up",
			Help: "1 if the service credential worked when it was last needed; while 0, enforced uploads are answered 503."}),
	}
	r.MustRegister(m.requests, m.decisions, m.cleanups, m.bytes, m.duration, m.running, m.trusted, m.credential)
	return m
}

// count takes a request's event when it is over.
func (m *Metrics) count(ev *event) {
	if m == nil {
		return
	}
	class := strconv.Itoa(ev.status/100) + "xx"
	if ev.status == statusClientGone {
		class = "499"
	}
	m.requests.WithLabelValues(class).Inc()
	if ev.cleanup != "" {
		m.cleanups.WithLabelValues(ev.cleanup).Inc()
	}
	if ev.action == "" {
		return
	}
	mode, reason := "undecided", ""
	if ev.rule != nil {
		mode = string(ev.rule.Mode)
	}
	if ev.reason != nil {
		reason = ev.reason.Code
	}
	m.decisions.WithLabelValues(mode, ev.action, ev.outcome, reason).Inc()
	if ev.action == actionUpload {
		m.bytes.WithLabelValues(mode).Add(float64(ev.bytes))
		m.duration.WithLabelValues(ev.outcome).Observe(time.Since(ev.started).Seconds())
	}
}

func (m *Metrics) glanceTrusted(yes bool) {
	if m != nil {
		m.trusted.Set(number(yes))
	}
}

// ServiceCredential notes whether the service credential works.
func (m *Metrics) ServiceCredential(works bool) {
	if m != nil {
		m.credential.Set(number(works))
	}
}

// upload counts an upload as running until the returned func is called.
func (m *Metrics) upload() (done func()) {
	if m == nil {
		return func() {}
	}
	m.running.Inc()
	return m.running.Dec
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
