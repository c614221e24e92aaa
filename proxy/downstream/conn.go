package downstream

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/countersign/countersign/proxy/upstream"
)

// conn is a client's connection. What has no word about it belongs to the goroutine
// that serves it.
type conn struct {
	net.Conn
	server *Server
	ctx    context.Context // of all its requests
	remote string
	since  time.Time
	state  atomic.Int32

	own *upstream.Accepted    // the same connection, or nil
	tcp *net.TCPConn          // likewise
	raw syscall.RawConn       // likewise
	try func(fd uintptr) bool // tryRead, made once

	in     *bufio.Reader // nil while a request is waited for
	fd     int           // where Read reads without waiting; negative but within tryRead
	ended  error         // what tryRead found in place of a request
	allow  int64         // how much may still be read of a head; negative: no head is being read
	served bool          // the head being read is not the first
	posted bool          // the request before was a POST
	timer  *time.Timer   // runs while a request is answered
	pieces [3][]byte     // room for what is written at once
	vector net.Buffers

	mu       sync.Mutex    // guards what follows, and the setting of read deadlines
	due      time.Time     // the read deadline that is set
	now      *exchange     // the request that is answered, or nil
	watching chan struct{} // closed by the watch as it ends; nil where there is none
}

// What a connection is at. Shutdown takes it from fresh and idle to closed, its own
// goroutine from either to active, and one of them comes first.
const (
	fresh = iota // accepted, and silent so far
	idle
	active // the first byte of a request has been read
	closed
)

// freshness is how long a connection may take, while the server is shut down, to say
// the first thing. So it is for http.Server.
const freshness = 5 * time.Second

func newConn(s *Server, accepted net.Conn) *conn {
	c := &conn{Conn: accepted, server: s, since: time.Now(), fd: -1, allow: -1,
		ctx: upstream.ConnContext(context.Background(), accepted)}
	if address := accepted.RemoteAddr(); address != nil {
		c.remote = address.String()
	}
	switch known := accepted.(type) {
	case *upstream.Accepted:
		c.own, c.tcp = known, known.TCPConn
	case *net.TCPConn:
		c.tcp = known
	}
	if c.tcp != nil && trying {
		c.raw, _ = c.tcp.SyscallConn()
		c.try = c.tryRead
	}
	return c
}

// claim is Shutdown's. It takes a connection that waits for a request.
func (c *conn) claim() bool {
	return c.state.CompareAndSwap(idle, closed) ||
		time.Since(c.since) > freshness && c.state.CompareAndSwap(fresh, closed)
}

// serve answers one request after the other. It waits for the next on a stack that
// is almost empty: the collector gives back what the last one has made of it.
func (c *conn) serve() {
	defer c.server.forget(c)
	defer c.Conn.Close()
	c.allowUntil(c.server.ReadHeaderTimeout)
	for c.await() && c.exchange() && !c.server.closing.Load() {
		c.served = true
		if c.in == nil {
			c.rest()
			c.state.Store(idle)
		}
	}
}

// readers are those that waiting connections do without.
var readers = sync.Pool{New: func() any { return bufio.NewReader(nil) }}

func (c *conn) takeReader() {
	c.in = readers.Get().(*bufio.Reader)
	c.in.Reset(c)
}

// giveReader may be called only when nobody else can be reading.
func (c *conn) giveReader() {
	c.in.Reset(nil)
	readers.Put(c.in)
	c.in = nil
}

// await waits until some of a request has been read, and reports whether it may be
// answered.
func (c *conn) await() bool {
	switch {
	case c.in != nil:
		return true // it came with the one before
	case c.raw != nil:
		if c.raw.Read(c.try) != nil || c.ended != nil {
			return false
		}
	default:
		c.takeReader()
		if _, err := c.in.Peek(1); err != nil {
			return false
		}
	}
	return c.state.CompareAndSwap(idle, active) || c.state.CompareAndSwap(fresh, active)
}

// tryRead reads into a reader of its own for as long as there is something to read.
func (c *conn) tryRead(fd uintptr) bool {
	c.takeReader()
	c.fd = int(fd)
	_, c.ended = c.in.Peek(1)
	c.fd = -1
	if c.ended != nil {
		c.giveReader()
	}
	return c.ended != errNothingYet
}

// Read is how the reader reads. It bounds a head, and tells the request when nothing
// more can come.
func (c *conn) Read(p []byte) (n int, err error) {
	switch {
	case c.fd >= 0:
		return tryRead(c.fd, p)
	case c.allow == 0:
		return 0, io.EOF
	case c.allow > 0:
		n, err = c.Conn.Read(p[:min(int64(len(p)), c.allow)])
		c.allow -= int64(n)
	default:
		if n, err = c.Conn.Read(p); err != nil {
			c.lost()
		}
	}
	return n, err
}

// exchange reads a request and has it answered, and reports whether the connection
// takes another one. (On its own, so that serve does not stand on its frame.)
//
//go:noinline
func (c *conn) exchange() bool {
	req, err := c.readHead()
	if err != nil {
		c.refuse(err)
		return false
	}
	x := c.begin(req)
	if x.unexpected {
		x.CloseAfter()
		x.WriteHeader(http.StatusExpectationFailed)
	} else if !x.handle() {
		c.end(x)
		return false
	}
	x.cancel()
	x.finish()
	whole := c.end(x)
	again := whole && !x.closing && x.answered()
	rested := !whole || c.own == nil || c.own.Rest()
	switch pending := !whole || c.in.Buffered() > 0 || !rested; {
	case !pending:
		c.giveReader()
	case !again:
		c.closeGently(&x.body)
	}
	return again
}

// handle has the handler answer, and reports whether it returned.
func (x *exchange) handle() (returned bool) {
	defer func() {
		if returned {
			return
		}
		x.cancel()
		if found := recover(); found != nil && found != http.ErrAbortHandler {
			x.conn.server.logf("downstream: panic serving %s: %v\n%s", x.conn.remote, found, debug.Stack())
		}
	}()
	x.conn.server.Handler.ServeHTTP(x, x.req)
	return true
}

// closeDelay is how long a client may take to read an answer behind which it was
// closed on; http.Server's rstAvoidanceDelay.
const closeDelay = 500 * time.Millisecond

// passedOver is how many bytes are read of what such a client still sends. Who means to
// let it send more has done so (proxy.linger).
const passedOver = 64 << 10

// closeGently tells the client that the last has been said. Closed on at once while
// it still sends, its kernel might throw the answer away. What it sends is passed
// over, and so nobody may be reading a body any more: whoever does would find a gap
// in it.
func (c *conn) closeGently(left *body) {
	var in net.Conn = c.Conn
	if c.tcp != nil {
		in = c.tcp
	}
	half, able := in.(interface{ CloseWrite() error })
	if !able || half.CloseWrite() != nil {
		return
	}
	due := time.Now().Add(closeDelay)
	in.SetReadDeadline(due)
	if left != nil {
		left.shut()
	}
	if n, _ := io.CopyN(io.Discard, in, passedOver); n == passedOver {
		time.Sleep(time.Until(due)) // it sends much, and stops when nobody reads it
	}
}

// allowUntil sets the read deadline.
func (c *conn) allowUntil(from time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if from <= 0 {
		c.lift()
		return
	}
	c.deadline(time.Now().Add(from))
}

// rest sets the read deadline for the next request, not at every one.
func (c *conn) rest() {
	c.mu.Lock()
	defer c.mu.Unlock()
	patience := c.server.IdleTimeout
	if patience <= 0 {
		c.lift()
		return
	}
	now := time.Now()
	if left := c.due.Sub(now); left > patience || left < patience/10*9 {
		c.deadline(now.Add(patience))
	}
}

// lift takes the read deadline away. mu is held.
func (c *conn) lift() {
	if !c.due.IsZero() {
		c.deadline(time.Time{})
	}
}

// deadline: mu is held.
func (c *conn) deadline(due time.Time) error {
	c.due = due
	return c.Conn.SetReadDeadline(due)
}
