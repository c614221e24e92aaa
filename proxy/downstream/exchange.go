package downstream

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// exchange is a request and its answer: the handler's ResponseWriter. There is a new
// one for each request, since whoever got hold of it may come late; he finds that it
// is over. What has no word about it belongs to the goroutine of the handler.
type exchange struct {
	conn   *conn
	req    *http.Request
	cancel context.CancelFunc
	body   body
	answer

	lasting bool // it has taken so long that the client is watched; guarded by conn.mu
	whole   bool // the request's body has come to its end; guarded by conn.mu
	broken  bool // it cannot any more; likewise
	timed   bool // the handler has set a write deadline; likewise

	unexpected bool        // the client expects what nobody knows
	expects    bool        // the client waits for 100 Continue, or did
	sending    sync.Mutex  // held while that is sent
	waiting    atomic.Bool // it has not been sent, and can still be
}

// begin makes an exchange of a request.
func (c *conn) begin(req *http.Request) *exchange {
	x := &exchange{conn: c}
	var ctx context.Context
	ctx, x.cancel = context.WithCancel(c.ctx)
	x.req = req.WithContext(ctx)
	x.req.RemoteAddr = c.remote
	x.header = make(http.Header)
	x.length = -1
	x.isHead = req.Method == http.MethodHead
	x.old = !req.ProtoAtLeast(1, 1)
	x.last = req.Close || says(req.Header["Connection"], "close")
	x.whole = req.Body == http.NoBody
	if expect := req.Header.Get("Expect"); expect != "" {
		x.unexpected = !strings.EqualFold(strings.TrimSpace(expect), "100-continue")
		x.expects = !x.unexpected && !x.old && req.ContentLength != 0
		x.waiting.Store(x.expects)
	}
	if !x.whole {
		x.body.framed, x.body.exchange = req.Body, x
		x.req.Body = &x.body
	}
	c.mu.Lock()
	c.now = x
	if !x.whole {
		c.lift() // it was the head's
	}
	c.mu.Unlock()
	c.watchLater()
	return x
}

// says reports whether a header has a word, in whatever place: who looks for "close"
// closes where it is doubtful.
func says(values []string, word string) bool {
	for _, value := range values {
		if strings.Contains(strings.ToLower(value), word) {
			return true
		}
	}
	return false
}

// end takes back what an exchange has of the connection, and reports whether the
// request's body has come to its end. If not, its handler may have left somebody
// behind who is reading it.
func (c *conn) end(x *exchange) (whole bool) {
	c.stopWatch(x)
	x.waiting.Store(false)
	x.cancel()
	x.release()
	c.mu.Lock()
	defer c.mu.Unlock()
	if x.timed {
		c.Conn.SetWriteDeadline(time.Time{})
	}
	return x.whole
}

// SetReadDeadline is for http.ResponseController. It concerns the body, and does
// nothing where there is no more of that.
func (x *exchange) SetReadDeadline(due time.Time) error {
	c := x.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now != x || x.whole {
		return nil
	}
	return c.deadline(due)
}

// SetWriteDeadline is for http.ResponseController.
func (x *exchange) SetWriteDeadline(due time.Time) error {
	c := x.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now != x {
		return nil
	}
	x.timed = true
	return c.Conn.SetWriteDeadline(due)
}

// EnableFullDuplex is for http.ResponseController. It is never otherwise.
func (x *exchange) EnableFullDuplex() error { return nil }

// body is a request's, as net/http frames it. More than one goroutine may read it.
type body struct {
	framed   io.Reader
	exchange *exchange
	reading  sync.Mutex // held while it is read
	closed   atomic.Bool
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	if b.closed.Load() {
		return 0, http.ErrBodyReadAfterClose
	}
	if b.exchange.waiting.Load() {
		b.exchange.proceed()
	}
	n, err := b.framed.Read(p)
	if err != nil {
		b.exchange.ended(err)
	}
	return n, err
}

// Close implements io.Closer. It leaves the rest where it is: the connection ends
// with the answer.
func (b *body) Close() error {
	b.closed.Store(true)
	return nil
}

// shut returns when nobody reads the body, and nobody will.
func (b *body) shut() {
	b.closed.Store(true)
	b.reading.Lock()
	defer b.reading.Unlock()
	b.framed = nil
}

// ended notes how the body ended. After a good end nothing of it is read any more,
// whoever asks: the reader is free for the next request.
func (x *exchange) ended(err error) {
	c := x.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != io.EOF || x.broken {
		x.broken = true
		return
	}
	x.whole = true
	c.watch(x)
}

// isLost reports whether it is certain by now that the body will not be read to its
// end. Who waits for 100 Continue when the answer begins may send it, or not.
func (x *exchange) isLost() bool {
	x.conn.mu.Lock()
	defer x.conn.mu.Unlock()
	return x.broken || x.expects && !x.whole
}

// proceed tells a client that waits to send its body.
func (x *exchange) proceed() {
	x.sending.Lock()
	defer x.sending.Unlock()
	if x.waiting.Swap(false) {
		io.WriteString(x.conn.Conn, "HTTP/1.1 100 Continue\r\n\r\n") // whether it fails, the body will tell
	}
}

// noMoreWaiting returns when it is certain that no 100 Continue follows.
func (x *exchange) noMoreWaiting() {
	if x.expects {
		x.sending.Lock()
		x.waiting.Store(false)
		x.sending.Unlock()
	}
}
