package proxy

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy/receipt"
	"github.com/countersign/countersign/proxy/upstream"
	"github.com/countersign/countersign/signature"
)

// guard is the transport to Glance. Requests that carry no upload to be judged
// pass; the others are wrapped, forwarded, judged and settled here, in the order
// in which it happens:
//
//	client ──▶ body ──▶ signature.Reader ──▶ carrier ──▶ Glance
//	                     │ hash             │ the last 16 KiB come only
//	                     └ Verify at EOF ───┘ after Verify has said yes
//
// On failure the Reader returns an error in place of the rest, and the
// carrier closes the connection with the body incomplete: short of its
// Content-Length, or without the terminating chunk. Nothing more is written,
// since uWSGI takes even a garbled chunk size for the end of the data. Glance
// then puts the image back to queued by itself.
type guard struct {
	proxy *Proxy
	next  http.RoundTripper // for what has no body
	body  http.RoundTripper // for what has one
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(req *http.Request) (*http.Response, error) {
	u, judged := req.Context().Value(uploadKey{}).(*uploading)
	switch {
	case !judged && req.Body != nil:
		if handed, is := req.Body.(*handing); is {
			handed.unseen = true
		}
		return g.body.RoundTrip(req)
	case !judged:
		return g.next.RoundTrip(req)
	case u.rule.Mode == policy.Audit:
		return g.audit(req, u)
	}
	// One context for the exchange with Glance: its end closes the connection.
	// It outlives a client that leaves when all is sent, since what Glance then
	// makes of the data has still to be settled.
	exchange, cut := context.WithCancel(context.WithoutCancel(req.Context()))
	defer cut()
	late := time.AfterFunc(g.proxy.SettleTimeout, cut) // after the client has left
	late.Stop()
	defer late.Stop() // or it holds all of this for as long
	defer context.AfterFunc(req.Context(), func() { late.Reset(g.proxy.SettleTimeout) })()
	body := &guarded{reader: u.reader(bodyOf(req))}
	defer body.stop()

	// Glance is dialled when there is a byte beyond what is held back: a small
	// or slow upload that fails has never been there.
	err := body.reader.Prime()
	dialled := err == nil
	var answer *http.Response
	if dialled {
		req = req.WithContext(exchange)
		req.Body = body
		answer, err = g.body.RoundTrip(req)
	} else {
		body.fail(err)
	}
	cut() // whatever Glance has not been sent by now, it never gets
	body.stop()
	return g.settle(req, u, body, dialled, answer, err)
}

// settle makes the image what it shall be after an upload. It was not dialled
// where Glance was not asked for anything; the error is why it has not answered.
func (g *guard) settle(req *http.Request, u *uploading, body *guarded, dialled bool, answer *http.Response, err error) (*http.Response, error) {
	p, failure := g.proxy, body.failure()
	u.event.answered = time.Now()
	defer p.Metrics.settle()()
	taken := answer != nil && answer.StatusCode/100 == 2
	// What follows outlives the client; its time limit is SettleTimeout.
	after, done := context.WithTimeout(context.WithoutCancel(req.Context()), p.SettleTimeout)
	defer done()
	u.letGo = answer != nil || !dialled
	switch {
	case answer != nil:
		u.event.upstream = answer.StatusCode
	case !body.reader.Verified():
		u.unanswered = body.handed.Load()
	}
	switch {
	case taken && body.reader.Verified() && (u.verifier == nil || body.handed.Load() == u.verifier.Size()):
		u.size = body.handed.Load()
		if err := p.settle(after, u); err != nil {
			return nil, err
		}
		return answer, nil
	case taken:
		u.event.cleanup = p.quarantine(after, u)
		return nil, &Refusal{Code: codeUnverifiedSuccess, Problem: "Glance took the data before it could be verified, so the image was taken back",
			Cure: "upload again", Err: failure}
	case errors.Is(failure, signature.ErrMismatch):
		u.note()
		u.event.cleanup = p.discard(after, u)
		return nil, failure
	case failure != nil:
		u.event.cleanup = p.report(after, u)
		return nil, &Refusal{Code: codeUploadIncomplete, Problem: "the image data ended before it was complete", Cure: "upload again", Err: failure}
	case answer != nil:
		u.event.outcome = "failure" // Glance's own refusal passes; the image is as Glance left it
		u.event.reason = refusal("glance_refused", "", "Glance refused the upload", "see Glance's answer")
		if u.aside {
			p.report(after, u)
		}
		return answer, nil
	default:
		u.event.cleanup = p.report(after, u)
		return nil, &Refusal{Code: codeUpstreamBroke, Problem: "the connection to Glance broke in the middle of the upload",
			Cure: "look at the image; upload again if it is still queued", Err: err}
	}
}

// reader is what is sent on of an upload's body.
func (u *uploading) reader(body io.Reader) judged {
	switch {
	case u.kind == receipt.Exempt:
		return &exempt{src: body}
	case u.sha512 != nil:
		body = io.TeeReader(body, u.sha512)
	}
	reader := signature.NewReader(body, u.verifier)
	reader.Borrow(&upstream.Small, &upstream.Large)
	return reader
}

// judged is a body that withholds its end until it may be sent.
type judged interface {
	io.Reader

	// Prime blocks until there is something to send, or the error that Read
	// will return.
	Prime() error

	// Verified reports whether the body has come to an end that may be sent.
	Verified() bool
}

// exempt is the body of an upload that a rule lets pass unverified.
type exempt struct {
	src   io.Reader
	ended atomic.Bool
}

func (e *exempt) Prime() error   { return nil }
func (e *exempt) Verified() bool { return e.ended.Load() }

func (e *exempt) Read(p []byte) (int, error) {
	n, err := e.src.Read(p)
	if err == io.EOF {
		e.ended.Store(true)
	}
	return n, err
}

// audit forwards an upload as if nobody looked, and notes what would have been
// decided.
func (g *guard) audit(req *http.Request, u *uploading) (*http.Response, error) {
	if u.verifier == nil {
		if u.kind == receipt.Exempt {
			u.note()
			u.event.outcome = "success"
		}
		return g.body.RoundTrip(req)
	}
	tee := &audited{ReadCloser: req.Body, verifier: u.verifier}
	if req.Body == nil {
		tee.ended.Store(true)
	} else {
		req.Body = tee
	}
	answer, err := g.body.RoundTrip(req)
	if !tee.ended.Load() {
		return answer, err // not all of it was seen: nothing can be said
	}
	// The transport reads no further once it has seen the end.
	err2 := u.verifier.Verify()
	u.note()
	if err2 != nil {
		u.event.outcome, u.event.reason = "failure", asRefusal(err2)
	} else {
		u.event.outcome = "success"
	}
	return answer, err
}

// note writes what the verifier found into the event.
func (u *uploading) note() {
	if u.verifier == nil {
		u.event.bytes, u.event.caveat = u.size, "exempt: "+u.service.UserName+" may upload what is not signed"
		return
	}
	u.event.bytes, u.event.digest, u.event.caveat = u.verifier.Size(), u.verifier.Digest(), u.verifier.Caveat()
}

func bodyOf(req *http.Request) io.Reader {
	if req.Body == nil {
		return http.NoBody
	}
	return req.Body
}

// guarded is the body that the transport sends. Unlike the Reader, it may be
// stopped and asked from another goroutine.
type guarded struct {
	reader  judged
	stopped atomic.Bool
	handed  atomic.Int64 // bytes given to the carrier
	err     atomic.Pointer[error]
}

var errStopped = errors.New("the exchange with Glance is over")

func (g *guarded) Read(p []byte) (int, error) {
	if g.stopped.Load() {
		return 0, errStopped
	}
	n, err := g.reader.Read(p)
	g.handed.Add(int64(n))
	if err != nil && err != io.EOF {
		g.fail(err)
	}
	return n, err
}

// WriteTo implements io.WriterTo: the data goes from the Reader's own memory to
// Glance, and into no other.
func (g *guarded) WriteTo(w io.Writer) (int64, error) {
	to := &leaving{body: g, to: w}
	n, err := upstream.Copy(to, g.reader)
	if err != nil && to.err == nil {
		g.fail(err)
	}
	return n, err
}

// leaving notes what goes to the carrier, until the exchange is over.
type leaving struct {
	body *guarded
	to   io.Writer
	err  error // the writer's, not the body's
}

func (l *leaving) Write(p []byte) (n int, err error) {
	if l.body.stopped.Load() {
		l.err = errStopped
		return 0, l.err
	}
	l.body.handed.Add(int64(len(p)))
	n, l.err = l.to.Write(p)
	return n, l.err
}

func (g *guarded) fail(err error) { g.err.CompareAndSwap(nil, &err) }

// failure is why the data did not come to a verified end, or nil.
func (g *guarded) failure() error {
	if err := g.err.Load(); err != nil {
		return *err
	}
	return nil
}

// stop makes further Reads fail: the request's handler is about to return.
func (g *guarded) stop() { g.stopped.Store(true) }

// Close is the carrier's, which calls it once it has no more use for the body,
// from where it read. The client's body is the server's to close.
func (g *guarded) Close() error {
	if borrower, ok := g.reader.(io.Closer); ok {
		return borrower.Close()
	}
	return nil
}

// audited lets a verifier see what passes.
type audited struct {
	io.ReadCloser
	verifier *signature.Verifier
	ended    atomic.Bool
}

func (a *audited) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	if !a.ended.Load() {
		a.verifier.Write(p[:n])
	}
	if err == io.EOF {
		a.ended.Store(true)
	}
	return n, err
}
