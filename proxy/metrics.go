package proxy

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics counts what the proxy does. Every label has a small, fixed set of
// values, or those that the policy gives it (rule): a project or an image is
// looked up in the log. A nil *Metrics counts nothing.
type Metrics struct {
	scans      scanMetrics
	requests   *prometheus.CounterVec
	decisions  *prometheus.CounterVec
	cleanups   *prometheus.CounterVec
	bytes      *prometheus.CounterVec
	duration   *prometheus.HistogramVec
	added      *prometheus.HistogramVec
	running    prometheus.Gauge
	settling   prometheus.Gauge
	upstream   *prometheus.CounterVec
	signers    *prometheus.GaugeVec
	trusted    prometheus.Gauge
	credential prometheus.Gauge
}

// The services behind, as metrics call them.
const (
	ServiceGlance     = "glance"
	ServiceKeystone   = "keystone"
	ServiceKeyManager = "key_manager"
)

// NewMetrics registers its metrics with r.
func NewMetrics(r prometheus.Registerer) *Metrics {
	m := &Metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "countersign_requests_total",
			Help: "Requests answered, by the answer's status class (499: the client left)."},
			[]string{"status"}),
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "countersign_decisions_total",
			Help: "Requests that a rule had to decide about: by the rule and its mode, what was asked for (action), the outcome (in audit mode: what it would have been), and the reason's code."},
			[]string{"rule", "mode", "action", "outcome", "reason"}),
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
		added: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "countersign_verification_seconds",
			Help:    "Time that judging an upload adds to it, by part: admit (image, caller, rule and certificate, before the first byte) and settle (after Glance's answer: re-reading, or cleaning up). Hashing takes place while the data is on its way.",
			Buckets: prometheus.ExponentialBuckets(0.005, 3, 10)},
			[]string{"part"}),
		running: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "countersign_uploads_running",
			Help: "Uploads under way, settling and cleaning up included."}),
		settling: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "countersign_uploads_settling",
			Help: "Uploads whose data is over and whose image is being re-read or cleaned up; each for COUNTERSIGN_SETTLE_TIMEOUT at most."}),
		upstream: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "countersign_upstream_errors_total",
			Help: "Exchanges with a service behind that brought no answer, or one of 500 and more."},
			[]string{"service"}),
		signers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "countersign_signer_expiry_timestamp_seconds",
			Help: "When the certificate expires by which the last upload under the rule verified, as Unix time."},
			[]string{"rule"}),
		trusted: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "countersign_glance_trusted",
			Help: "1 if Glance refuses spoofed identity headers; while 0, enforced uploads are answered 503."}),
		credential: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "countersign_service_credential_up",
			Help: "1 if the service credential worked when it was last needed; while 0, enforced uploads are answered 503."}),
	}
	m.scans = newScanMetrics(r)
	r.MustRegister(m.requests, m.decisions, m.cleanups, m.bytes, m.duration, m.added, m.running, m.settling, m.upstream, m.signers, m.trusted, m.credential)
	// A counter that appears with its first event has not increased.
	for _, result := range cleanups {
		m.cleanups.WithLabelValues(result)
	}
	for _, service := range []string{ServiceGlance, ServiceKeystone, ServiceKeyManager} {
		m.upstream.WithLabelValues(service)
	}
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
	rule, mode, reason := "", "undecided", ""
	if ev.rule != nil {
		rule, mode = ev.rule.Name, string(ev.rule.Mode)
	}
	if ev.reason != nil {
		reason = ev.reason.Code
	}
	m.decisions.WithLabelValues(rule, mode, ev.action, ev.outcome, reason).Inc()
	if ev.action == actionUpload || ev.action == actionStage {
		m.bytes.WithLabelValues(mode).Add(float64(ev.bytes))
		m.duration.WithLabelValues(ev.outcome).Observe(time.Since(ev.started).Seconds())
		if !ev.admitted.IsZero() {
			m.added.WithLabelValues("admit").Observe(ev.admitted.Sub(ev.started).Seconds())
		}
		if !ev.answered.IsZero() {
			m.added.WithLabelValues("settle").Observe(time.Since(ev.answered).Seconds())
		}
		if ev.outcome == "success" && !ev.notAfter.IsZero() {
			m.signers.WithLabelValues(rule).Set(float64(ev.notAfter.Unix()))
		}
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

// settle counts an upload as settling until the returned func is called.
func (m *Metrics) settle() (done func()) {
	if m == nil {
		return func() {}
	}
	m.settling.Inc()
	return m.settling.Dec
}

// UpstreamFailed counts an exchange that brought no answer, or no good one.
func (m *Metrics) UpstreamFailed(service string) {
	if m != nil {
		m.upstream.WithLabelValues(service).Inc()
	}
}

// Upstream counts the failures of a transport that speaks to a service. An
// exchange that was given up on our side is none.
func (m *Metrics) Upstream(service string, next http.RoundTripper) http.RoundTripper {
	return &counted{m, service, next}
}

type counted struct {
	metrics *Metrics
	service string
	next    http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (c *counted) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := c.next.RoundTrip(req)
	if err != nil && !errors.Is(err, context.Canceled) || err == nil && res.StatusCode >= 500 {
		c.metrics.UpstreamFailed(c.service)
	}
	return res, err
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
