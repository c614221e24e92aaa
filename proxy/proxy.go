// Package proxy stands in front of one Glance and enforces image signatures.
//
// It promises that, in a project whose policy rule enforces signatures, no
// image becomes active with data that did not verify, by any request that
// passes through it; and that requests which have nothing to do with that
// reach Glance as the client meant them.
//
// It trusts Glance's word about an image (its owner, status and properties,
// read with the caller's own token), the key manager's word about a
// certificate, and the policy. It trusts nothing that a client says about
// itself: identity headers are removed, and the request that goes to Glance is
// built from what was understood of the client's, never copied from it.
//
// It refuses what it does not understand: a request outside the table in
// routes.go, a body with two members of one name, a certificate that cannot be
// fetched. Each refusal has a stable code, names the property, and tells the
// cure.
//
// A request's way:
//
//	ServeHTTP   gate.go     what is asked for: method, path and query are parsed into parts
//	routes      routes.go   one table; what is not in it does not exist here
//	upload      upload.go   admit: who, which rule, which signature, which certificate
//	guard       guard.go    forward the body, judge it, settle or discard
//	doors       doors.go    every other way in which an image's data or meaning changes
//	download    download.go what goes out; hide.go and conceal.go: and not past it
//	pass        forward.go  everything else, and back
//
// Clients come in by downstream/, which is a small HTTP server for those without TLS.
// Bytes go to Glance and back in upstream/, which is a small HTTP client. There
// stands why what is fast is safe.
package proxy

import (
	"context"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/gorilla/mux"
	"github.com/rs/zerolog"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy/keystone"
)

// Config is what a Proxy needs. Fields without a stated default are required.
type Config struct {
	// Glance is the base URL of the Glance behind: http or https, with an
	// optional path prefix, without a version.
	Glance *url.URL

	// Transport speaks to Glance. It must not follow redirects, decompress or
	// retry by itself.
	Transport http.RoundTripper

	// Dial opens a connection to Glance, through TLS where Glance is https.
	// Each upload of image data has one of its own.
	Dial func(ctx context.Context) (net.Conn, error)

	// Policies tells which rule an image's owner is under. It is asked anew
	// for every request, so that a reload counts at once.
	Policies Policies

	// Certificates fetches certificates from the key manager.
	Certificates Certificates

	// Identities tells who a token belongs to and lends our own service
	// token. Both fail where no service credential works; enforced uploads
	// are then refused with 503, and all else passes.
	Identities Identities

	// Receipts has the keys for receipts. Nil: none are written or believed.
	Receipts Receipts

	// PropertyQuota is how many properties Glance lets an image have
	// (image_property_quota), negative for any number.
	PropertyQuota int

	// GlanceVerifies leaves it to Glance to verify once more behind us. False:
	// one property is set aside while the data is on its way; see aside.go.
	GlanceVerifies bool

	// AuthURL is Keystone's address as it is told to clients without a token.
	// Empty: it is not told.
	AuthURL string

	// PublicURL is where clients reach the proxy, as links in / and /versions
	// shall say. Nil: each request's own scheme and host.
	PublicURL *url.URL

	// ExtraGET are path templates of further GET routes that pass, for
	// vendors' additions to Glance: "/v2/vendor/{name}".
	ExtraGET []string

	// SettleTimeout bounds the re-reading and cleaning up after an upload.
	SettleTimeout time.Duration

	// StallTimeout bounds how long a client may send nothing of its body, and
	// Glance take nothing of it. Zero: as long as they like.
	StallTimeout time.Duration

	// LingerTimeout bounds how long a refused client may go on sending, so
	// that it reads the answer instead of a broken pipe.
	LingerTimeout time.Duration

	// MaxBody is the size in bytes up to which a JSON body is read.
	MaxBody int64

	// Unfit tells why load balancers shall send nobody here, in a word or two
	// that /healthcheck repeats; empty while they may. Nil: they always may.
	Unfit func() string

	// Metrics counts. Nil: nothing is counted.
	Metrics *Metrics

	// Audit takes what a rule had to decide about, as CADF events. Nil: only the
	// log tells of it.
	Audit Audit

	// Observer is who we are in the audit trail: the host's name.
	Observer string

	// Log takes one event a request.
	Log zerolog.Logger

	// Now is the clock against which certificates are dated. Nil: time.Now.
	Now func() time.Time
}

// Policies tells which rule an image is under.
type Policies interface {
	// For returns the rule for an image. The error is a *policy.Refusal.
	For(policy.Subject) (*policy.Rule, error)

	// Enforcing reports whether any rule enforces at all.
	Enforcing() bool

	// LooksAtVisibility reports whether any rule depends on an image's
	// visibility.
	LooksAtVisibility() bool

	// GuardsDownloads is the strictest mode of the rules that demand something
	// of downloads, Off where none does.
	GuardsDownloads() policy.Mode
}

// Certificates fetches a certificate with the caller's token, for an image
// that belongs to owner. The id is a canonical UUID. The error is a *Refusal.
type Certificates interface {
	Certificate(ctx context.Context, owner, id, token string) ([]byte, error)
}

// Identities is the part of Keystone that the proxy needs.
type Identities interface {
	// Validate tells who a token belongs to; keystone.ErrInvalidToken where
	// Keystone does not know it.
	Validate(ctx context.Context, token string) (keystone.Identity, error)

	// Token returns our own service token.
	Token(ctx context.Context) (string, error)
}

// Proxy is an http.Handler. It has no state of its own.
type Proxy struct {
	Config
	glance   *glance
	toGlance *guard
	router   *mux.Router
	origins  *origins
	probe    *probe
	running  sync.WaitGroup // guarded uploads and their cleaning up
}

// New returns a Proxy over c. It takes enforced uploads once Probe has found
// Glance to be what we think it is; Watch does that again and again.
func New(c Config) *Proxy {
	if c.Now == nil {
		c.Now = time.Now
	}
	p := &Proxy{Config: c}
	p.glance = &glance{base: c.Glance, transport: c.Metrics.Upstream(ServiceGlance, c.Transport)}
	p.origins = newOrigins(p.glance)
	p.probe = &probe{glance: p.glance}
	p.toGlance = &guard{proxy: p, next: c.Transport, body: &carrier{dial: c.Dial, patience: c.SettleTimeout, stall: c.StallTimeout}}
	p.router = p.routes()
	return p
}

// ServeHTTP is the only door. See gate.go.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r, ev := p.begin(r)
	w.Header().Set(requestIDHeader, ev.requestID)
	defer p.finish(ev)

	if r.Body == http.NoBody { // most have none; nobody lingers for it
		p.answer(w, r)
		return
	}
	body := newBody(w, r, p.StallTimeout)
	// Answer without reading the rest first; linger does that.
	body.control.EnableFullDuplex()
	r.Body = body
	p.answer(w, r)
	p.linger(w, body)
}

// answer makes of a request what is understood of it, and dispatches that.
func (p *Proxy) answer(w http.ResponseWriter, r *http.Request) {
	if err := gate(r); err != nil {
		p.refuse(w, r, err)
		return
	}
	p.dispatch(w, r)
}

// Wait returns when no guarded upload, and no cleaning up after one, is
// running any more, or when ctx ends.
func (p *Proxy) Wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() { // ends with the last upload, each of which has its own time limits
		p.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
