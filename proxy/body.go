package proxy

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/countersign/countersign/proxy/upstream"
)

// body is a request's body. It knows whether it was asked for anything and
// whether it came to its end, which decide how the connection is left; and it
// ends with an error when the client has sent nothing for too long, since an
// upload that Glance has not heard of yet is watched by nobody else.
type body struct {
	io.ReadCloser
	conn     *upstream.Accepted // that it comes by; nil: the kernel moves nothing from there
	control  *http.ResponseController
	stall    time.Duration // zero: the client may take its time
	expected bool          // the client waits for 100 Continue before it sends
	touched  atomic.Bool
	ended    atomic.Bool // well or not
	whole    atomic.Bool // well

	mu        sync.Mutex // guards what follows: carrier may still read when linger begins
	lingering bool       // the deadline is linger's
	due       time.Time  // the deadline that is set
}

func newBody(w http.ResponseWriter, r *http.Request, stall time.Duration) *body {
	return &body{ReadCloser: r.Body, conn: upstream.ConnOf(r.Context()), control: http.NewResponseController(w), stall: stall, expected: r.Header.Get("Expect") != ""}
}

// Read notes that the body ended, well or not. At a good end the server itself
// lifts the deadline, to watch for a client that leaves; after a bad one it must
// stand, or net/http's would wait for the rest for ever when it tidies up.
func (b *body) Read(p []byte) (int, error) {
	b.touched.Store(true)
	b.extend()
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.whole.Store(true)
	}
	if err != nil {
		b.ended.Store(true)
	}
	return n, err
}

// Conn implements upstream.Movable, for bodies that nobody looks into.
func (b *body) Conn() *upstream.Accepted { return b.conn }

// Extend implements upstream.Movable.
func (b *body) Extend() { b.extend() }

// extend sets the deadline for what the client sends next, not at every read.
func (b *body) extend() {
	if b.stall <= 0 || b.ended.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.lingering || b.due.Sub(now) > b.stall/10*9 {
		return
	}
	b.due = now.Add(b.stall)
	b.control.SetReadDeadline(b.due)
}

// until sets the last deadline of all.
func (b *body) until(due time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lingering = true
	return b.control.SetReadDeadline(due)
}

// linger lets a client that was answered before it had sent everything go on
// sending for a while, to nowhere. Most clients read an answer only when they
// have sent all; closing on them makes the kernel throw the answer away, and
// the user sees a broken pipe in place of the reason. A connection whose body
// did not come to its end takes no further request: what is still to come would
// be read as one.
func (p *Proxy) linger(w http.ResponseWriter, b *body) {
	if b.whole.Load() {
		return
	}
	due := time.Now().Add(p.LingerTimeout)
	switch {
	case b.ended.Load():
		closeAfter(w)
		return
	case b.expected && !b.touched.Load():
		closeAfter(w)
		b.until(due) // for net/http, which reads a short body to its end
		return
	}
	if b.until(due) != nil || b.control.Flush() != nil {
		closeAfter(w)
		return
	}
	if _, err := upstream.Copy(io.Discard, b); err != nil {
		closeAfter(w)
	}
}

// closeAfter has the server close the connection when the answer is sent, gently.
// By itself net/http's would not: with full duplex it leaves that to the handler.
// Its own door to it is a body that is found to be too large.
func closeAfter(w http.ResponseWriter) {
	if ours, is := w.(interface{ CloseAfter() }); is { // package downstream's
		ours.CloseAfter()
		return
	}
	http.MaxBytesReader(w, io.NopCloser(strings.NewReader("x")), 0).Read(make([]byte, 1))
}
