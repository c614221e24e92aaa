package proxy

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// body is a request's body. It knows whether it was asked for anything and
// whether it came to its end, which decide how the connection is left.
type body struct {
	io.ReadCloser
	expected bool // the client waits for 100 Continue before it sends
	touched  atomic.Bool
	ended    atomic.Bool
}

func newBody(r *http.Request) *body {
	b := &body{ReadCloser: r.Body, expected: r.Header.Get("Expect") != ""}
	if r.Body == nil || r.Body == http.NoBody {
		b.ReadCloser = http.NoBody
		b.ended.Store(true)
	}
	return b
}

// Read notes that the body ended, well or not.
func (b *body) Read(p []byte) (int, error) {
	b.touched.Store(true)
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.ended.Store(true)
	}
	return n, err
}

// linger lets a client that was answered before it had sent everything go on
// sending for a while, to nowhere. Most clients read an answer only when they
// have sent all; closing on them makes the kernel throw the answer away, and
// the user sees a broken pipe in place of the reason.
func (p *Proxy) linger(w http.ResponseWriter, b *body) {
	if b.ended.Load() || b.expected && !b.touched.Load() {
		return
	}
	control := http.NewResponseController(w)
	if control.Flush() != nil || control.SetReadDeadline(time.Now().Add(p.LingerTimeout)) != nil {
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
