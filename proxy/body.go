package proxy

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// body is a request's body. It knows whether it was asked for anything and
// whether it came to its end, which decide how the connection is left; and it
// ends with an error when the client has sent nothing for too long, since an
// upload that Glance has not heard of yet is watched by nobody else.
type body struct {
	io.ReadCloser
	control   *http.ResponseController
	stall     time.Duration // zero: the client may take its time
	expected  bool          // the client waits for 100 Continue before it sends
	touched   atomic.Bool
	ended     atomic.Bool
	lingering atomic.Bool  // the deadline is linger's
	until     atomic.Int64 // Unix nanoseconds of the deadline that is set
}

func newBody(w http.ResponseWriter, r *http.Request, stall time.Duration) *body {
	b := &body{ReadCloser: r.Body, control: http.NewResponseController(w), stall: stall, expected: r.Header.Get("Expect") != ""}
	if r.Body == nil || r.Body == http.NoBody {
		b.ReadCloser = http.NoBody
		b.ended.Store(true)
	}
	return b
}

// Read notes that the body ended, well or not.
func (b *body) Read(p []byte) (int, error) {
	b.touched.Store(true)
	b.extend()
	n, err := b.ReadCloser.Read(p)
	if err != nil && !b.ended.Swap(true) && b.stall > 0 && !b.lingering.Load() {
		b.control.SetReadDeadline(time.Time{}) // what is waited for now is not the client
	}
	return n, err
}

// extend sets the deadline for what the client sends next, not at every read.
func (b *body) extend() {
	if b.stall <= 0 || b.ended.Load() || b.lingering.Load() {
		return
	}
	now := time.Now()
	if due := b.until.Load(); due-now.UnixNano() > int64(b.stall)*9/10 {
		return
	}
	b.until.Store(now.Add(b.stall).UnixNano())
	b.control.SetReadDeadline(now.Add(b.stall))
}

// linger lets a client that was answered before it had sent everything go on
// sending for a while, to nowhere. Most clients read an answer only when they
// have sent all; closing on them makes the kernel throw the answer away, and
// the user sees a broken pipe in place of the reason.
func (p *Proxy) linger(b *body) {
	if b.ended.Load() || b.expected && !b.touched.Load() {
		return
	}
	b.lingering.Store(true)
	if b.control.Flush() != nil || b.control.SetReadDeadline(time.Now().Add(p.LingerTimeout)) != nil {
		return
	}
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	for {
		if _, err := b.Read(*buf); err != nil {
			return
		}
	}
}

// bufferSize is what trials on loopback found: larger ones save nothing.
const bufferSize = 256 << 10

var buffers = sync.Pool{New: func() any { b := make([]byte, bufferSize); return &b }}

// newBuffers is the pool for answers that pass.
func newBuffers() bufferPool { return bufferPool{} }

type bufferPool struct{}

func (bufferPool) Get() []byte  { return *buffers.Get().(*[]byte) }
func (bufferPool) Put(b []byte) { buffers.Put(&b) }
