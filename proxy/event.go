package proxy

import (
	"context"
	"net/http"
	"regexp"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy/keystone"
	"github.com/countersign/countersign/signature"
)

// requestIDHeader is the header in which OpenStack services name a request.
// Glance adopts ours, so that one id finds both logs.
const requestIDHeader = "X-Openstack-Request-Id"

var requestIDForm = regexp.MustCompile(`^req-[0-9A-Za-z-]{1,60}$`)

// statusClientGone is logged where no answer could be given (nginx's 499).
const statusClientGone = 499

// event is what the log tells of one request. It is owned by the request's
// goroutine; it holds no token and no signature.
type event struct {
	requestID string
	started   time.Time
	method    string
	path      string
	route     string // template, or empty where none matched
	imageID   string // in the path, if the template has one
	client    string
	status    int
	upstream  int // Glance's status where it is not the client's

	// When a judged upload was let in, and when Glance was done with its data;
	// zero where it did not come to that.
	admitted, answered time.Time

	// A verdict, where there was something to judge.
	action   string // what the request would do to the image
	outcome  string // CADF outcome: success, failure, or unknown
	audited  bool   // true: the outcome is what would have been
	reason   *Refusal
	err      error
	identity *keystone.Identity
	image    *Image
	rule     *policy.Rule
	spec     *signature.Spec
	signer   string    // fingerprint of the signer's certificate
	notAfter time.Time // when that expires
	digest   []byte
	bytes    int64
	caveat   string
	cleanup  string // what became of an image that did not verify
}

type eventKey struct{}

func eventOf(ctx context.Context) *event {
	if ev, _ := ctx.Value(eventKey{}).(*event); ev != nil {
		return ev
	}
	return newEvent() // a request that did not come through ServeHTTP
}

// newEvent is not made part of its callers, who would have room for an event on
// their stacks.
//
//go:noinline
func newEvent() *event { return new(event) }

// begin gives a request its event and its id: the client's own where it is of
// the usual form, else a new one. What it returns is a copy, ours to change.
func (p *Proxy) begin(r *http.Request) (*http.Request, *event) {
	ev := &event{requestID: r.Header.Get(requestIDHeader), started: time.Now(), method: r.Method, path: r.URL.EscapedPath(), client: r.RemoteAddr}
	if !requestIDForm.MatchString(ev.requestID) {
		ev.requestID = "req-" + uuid.NewString()
	}
	return r.WithContext(context.WithValue(r.Context(), eventKey{}, ev)), ev
}

func (ev *event) refuse(f *Refusal) {
	ev.status = f.status()
	ev.reason = f
	if ev.outcome == "" && ev.action != "" {
		ev.outcome = "failure"
	}
}

// finish writes the event. Its fields follow CADF (DMTF DSP0262) where CADF has
// a word: initiator, action, target, outcome, reason.
func (p *Proxy) finish(ev *event) {
	p.Metrics.count(ev)
	if p.Audit != nil && ev.action != "" {
		p.Audit.Record(ev.record(p.Observer))
	}
	line := p.Log.Info()
	switch {
	case ev.route == healthPath && ev.reason == nil: // every other second, from each load balancer
		line = p.Log.Debug()
	case ev.status >= 500 || ev.cleanup == cleanupFailed || ev.reason != nil && ev.reason.Code == codeDownloadMismatch:
		line = p.Log.Error()
	case ev.outcome == "failure", ev.rule != nil && ev.rule.BreakGlass():
		line = p.Log.Warn()
	}
	line = line.Str("request_id", ev.requestID).
		Str("method", ev.method).Str("path", ev.path).Str("route", ev.route).Str("client", ev.client).
		Int("status", ev.status).Dur("ms", time.Since(ev.started))
	if ev.upstream != 0 && ev.upstream != ev.status {
		line = line.Int("glance_status", ev.upstream)
	}
	if ev.action != "" {
		line = line.Dict("cadf", ev.cadf())
	}
	if ev.reason != nil {
		if ev.action == "" {
			line = line.Str("reason", ev.reason.Code)
		}
		if ev.err == nil {
			ev.err = ev.reason.Err
		}
	}
	if ev.err != nil {
		line = line.AnErr("error", ev.err)
	}
	line.Msg(ev.message())
}

func (ev *event) message() string {
	switch {
	case ev.action == "" && ev.reason != nil:
		return "refused"
	case ev.action == "":
		return "passed"
	case ev.audited && ev.outcome == "failure":
		return "would be refused: " + ev.reason.Error()
	case ev.outcome == "failure":
		return "refused: " + ev.reason.Error()
	case ev.outcome == "success" && ev.caveat != "":
		return "accepted: " + ev.caveat
	case ev.outcome == "success":
		return "accepted"
	}
	return "not judged"
}

func (ev *event) cadf() *zerolog.Event {
	d := zerolog.Dict().Str("typeURI", "http://schemas.dmtf.org/cloud/audit/1.0/event").
		Str("eventType", "control").Str("action", ev.action).Str("outcome", ev.outcome)
	if ev.audited {
		d = d.Bool("audit_only", true)
	}
	if ev.identity != nil {
		d = d.Dict("initiator", zerolog.Dict().Str("id", ev.identity.UserID).Str("name", ev.identity.UserName).
			Str("project_id", ev.identity.ProjectID))
	}
	if ev.image != nil {
		target := zerolog.Dict().Str("typeURI", "service/storage/image").Str("id", ev.image.ID).Str("project_id", ev.image.Owner)
		if ev.bytes > 0 {
			target = target.Int64("bytes", ev.bytes)
		}
		if ev.digest != nil {
			target = target.Hex("digest", ev.digest)
		}
		d = d.Dict("target", target)
	}
	if ev.rule != nil {
		d = d.Str("rule", ev.rule.Name).Str("mode", string(ev.rule.Mode))
		if ev.rule.BreakGlass() {
			d = d.Time("until", ev.rule.Until)
		}
	}
	if ev.spec != nil {
		d = d.Str("key_type", string(ev.spec.KeyType)).Str("hash_method", string(ev.spec.HashMethod)).
			Str("certificate_id", ev.spec.CertificateID)
	}
	if ev.signer != "" {
		d = d.Str("signer", ev.signer)
	}
	if ev.reason != nil {
		reason := zerolog.Dict().Str("reasonType", "countersign").Str("reasonCode", ev.reason.Code)
		if ev.reason.Property != "" {
			reason = reason.Str("property", ev.reason.Property)
		}
		d = d.Dict("reason", reason)
	}
	if ev.caveat != "" {
		d = d.Str("caveat", ev.caveat)
	}
	if ev.cleanup != "" {
		d = d.Str("cleanup", ev.cleanup)
	}
	return d
}
