// Package upstream speaks HTTP/1.1 to one server over plain TCP connections that
// it owns.
//
// It is http.Transport without what a proxy pays for and does not need: no
// goroutines for a connection, so that a request costs no hand-over between
// threads, and no wrapper around it, so that the kernel can move an answer's body
// to the client by itself, and a request's body, which nobody judges, from the
// client (Copy, for a client that Listener accepted).
//
// Why it is safe:
//
//   - Heads are written and parsed by net/http's own codec (Request.Write,
//     ReadResponse), and so is the framing of answers. What is framed here is the
//     chunks of a body that is sent, and a fuzz test holds them to net/http's
//     reader. The length of an answer's body is net/http's, too: that many bytes
//     are moved past it, or the answer ends with an error.
//   - A connection carries one request at a time and belongs to one goroutine. It
//     is used again only if the answer said where it ends, was read to that end,
//     nothing came behind it, and nobody spoke of closing. All else closes it.
//   - A request is repeated only if nothing can come of it: GET, HEAD and OPTIONS
//     without a body, on a connection that was kept and died before the first byte
//     of an answer. What must not be repeated gets a connection that is new.
//   - The end of the request's context closes the connection. There is no goroutine
//     to forget.
//   - Data that is moved by the kernel is never data that is judged: for a client
//     on the same host could still change it. A signature.Reader has copied what it
//     hands out, and is no Movable; only a body that nobody looks into is one.
//   - A client's connection stays with package downstream while the kernel moves what
//     comes by it, and reads through us what was read ahead (see Listener). How much there
//     is to a body, and where its chunks end, net/http's codec says, and a fuzz test
//     holds what is moved or read ahead to what is read as it comes.
//   - Waiting for much to be there (see gatherer) ends after 10 ms with what there is,
//     and never asks for more than a body still has.
//
// It refuses an answer whose head is larger than a megabyte, and one that switches
// protocols. It knows no TLS, redirects, cookies, proxies or compression.
package upstream

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"
)

// Client is an http.RoundTripper. The zero value with a Dial is ready; it is safe
// for concurrent use.
type Client struct {
	// Dial opens a connection. Required. What is not a *net.TCPConn serves, too,
	// but the kernel does not move bodies from it, and that it died is noticed late.
	Dial func(ctx context.Context) (net.Conn, error)

	// IdleTimeout is how long a connection is kept without a request. Zero: 30 s.
	IdleTimeout time.Duration

	// MaxIdle is how many are kept. Zero: 1024.
	MaxIdle int

	idle pool
}

// maxHead bounds an answer's head, in bytes.
const maxHead = 1 << 20

// maxInterim is how many interim answers (1xx) one request may get.
const maxInterim = 16

var requests = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// RoundTrip implements http.RoundTripper. The request's body, if it has one, is
// read into memory: large ones are for Send, on a connection of their own.
func (c *Client) RoundTrip(req *http.Request) (*http.Response, error) {
	text := requests.Get().(*bytes.Buffer)
	defer requests.Put(text)
	text.Reset()
	if err := req.Write(text); err != nil {
		return nil, err
	}
	ctx := req.Context()
	repeatable := (req.Body == nil || req.Body == http.NoBody) &&
		(req.Method == http.MethodGet || req.Method == http.MethodHead || req.Method == http.MethodOptions)
	if repeatable {
		if kept := c.idle.take(); kept != nil {
			answer, err := c.exchange(kept, req, text.Bytes())
			if !errors.Is(err, errSilent) || ctx.Err() != nil {
				return answer, err
			}
		}
	}
	dialled, err := c.Dial(ctx)
	if err != nil {
		return nil, err
	}
	return c.exchange(newConn(dialled), req, text.Bytes())
}

// CloseIdleConnections closes what is kept for the next request.
func (c *Client) CloseIdleConnections() { c.idle.clear() }

// errSilent: the connection ended before the first byte of an answer.
var errSilent = errors.New("the connection ended without an answer")

// exchange sends a request and reads the head of its answer. The connection goes
// back to the pool, or ends, with the answer's body.
func (c *Client) exchange(conn *conn, req *http.Request, text []byte) (*http.Response, error) {
	ctx := req.Context()
	release := context.AfterFunc(ctx, func() { conn.Close() })
	answer, err := conn.exchange(req, text)
	if err != nil {
		release()
		conn.Close()
		if ended := ctx.Err(); ended != nil {
			err = ended
		}
		return nil, err
	}
	body := &body{framed: answer.Body, left: answer.ContentLength, conn: conn, client: c, release: release,
		reusable: !answer.Close && !req.Close && (answer.ContentLength >= 0 || len(answer.TransferEncoding) > 0)}
	if answer.Body == http.NoBody {
		body.end(true)
		return answer, nil
	}
	answer.Body = body
	return answer, nil
}

// conn is a connection and what was read of it ahead.
type conn struct {
	net.Conn
	tcp   *net.TCPConn  // the same, or nil
	in    *bufio.Reader // nil while it is in the pool
	allow int64         // how much may still be read of a head; negative: no head is being read
	since time.Time     // when it was last put into the pool; guarded by the pool
}

func newConn(c net.Conn) *conn {
	own := &conn{Conn: c}
	own.tcp, _ = c.(*net.TCPConn)
	return own
}

// readers are those that connections in the pool do without.
var readers = sync.Pool{New: func() any { return bufio.NewReader(nil) }}

// Read bounds a head.
func (c *conn) Read(p []byte) (int, error) {
	switch {
	case c.allow < 0:
		return c.Conn.Read(p)
	case c.allow == 0:
		return 0, fmt.Errorf("the head of an answer has more than %d bytes", maxHead)
	}
	n, err := c.Conn.Read(p[:min(int64(len(p)), c.allow)])
	c.allow -= int64(n)
	return n, err
}

func (c *conn) exchange(req *http.Request, text []byte) (*http.Response, error) {
	c.in = readers.Get().(*bufio.Reader)
	c.in.Reset(c)
	if _, err := c.Write(text); err != nil {
		return nil, fmt.Errorf("%w: %w", errSilent, err)
	}
	c.allow = maxHead
	defer func() { c.allow = -1 }()
	if _, err := c.in.Peek(1); err != nil {
		return nil, fmt.Errorf("%w: %w", errSilent, err)
	}
	return ReadAnswer(c.in, req)
}

// ReadAnswer reads the head of the final answer to a request, past interim ones.
func ReadAnswer(in *bufio.Reader, req *http.Request) (*http.Response, error) {
	for range maxInterim {
		answer, err := http.ReadResponse(in, req)
		switch {
		case err == nil && answer.StatusCode == http.StatusSwitchingProtocols:
			return nil, errors.New("the answer switches to a protocol that nobody asked for")
		case err != nil || answer.StatusCode/100 != 1:
			return answer, err
		}
	}
	return nil, errors.New("one interim answer follows another")
}

// body is an answer's. Whoever has it reads it to its end, or closes it.
type body struct {
	framed   io.ReadCloser // as net/http understands it
	left     int64         // of a body with a length, what was not read; else -1
	conn     *conn
	client   *Client
	release  func() bool // false: the context has ended
	reusable bool
	ended    bool
	err      error // sticky
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.framed.Read(p)
	if b.left > 0 {
		b.left -= int64(n)
	}
	if err != nil {
		b.err = err
		b.end(err == io.EOF)
	}
	return n, err
}

// WriteTo implements io.WriterTo. A body with a length goes from one connection
// to the other in the kernel, if the writer reads from a TCP connection by itself
// (net/http's ResponseWriter and *net.TCPConn do, splice(2)).
func (b *body) WriteTo(w io.Writer) (int64, error) {
	to, able := w.(io.ReaderFrom)
	if !able || b.conn.tcp == nil || b.left < 0 || b.err != nil {
		return Copy(w, struct{ io.Reader }{b})
	}
	ahead, _ := b.conn.in.Peek(int(min(int64(b.conn.in.Buffered()), b.left)))
	n, err := w.Write(ahead)
	b.conn.in.Discard(n)
	moved := int64(n)
	if b.left -= moved; err == nil && b.left > 0 {
		// The reader is empty now, and past it lies the rest of this body.
		rest := &io.LimitedReader{R: b.conn.tcp, N: b.left}
		var n int64
		n, err = to.ReadFrom(rest)
		moved, b.left = moved+n, b.left-n
		if err == nil && b.left > 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	b.err = io.EOF
	if err != nil {
		b.err = err
	}
	b.end(err == nil)
	return moved, err
}

// Close ends the connection unless the body was read to its end.
func (b *body) Close() error {
	b.end(false)
	if b.err == nil {
		b.err = http.ErrBodyReadAfterClose
	}
	return nil
}

// end gives the connection back, or closes it.
func (b *body) end(whole bool) {
	if b.ended {
		return
	}
	b.ended = true
	if !b.release() || !whole || !b.reusable || b.conn.in.Buffered() > 0 {
		b.conn.Close()
		return
	}
	b.conn.in.Reset(nil)
	readers.Put(b.conn.in)
	b.conn.in = nil
	b.client.idle.put(b.conn, b.client.IdleTimeout, b.client.MaxIdle)
}

// AwaitAnswer waits until there is something to read on a connection, or until
// nothing can come any more. It holds no memory meanwhile.
func AwaitAnswer(conn net.Conn) {
	if raw, able := plain(conn); able {
		var one [1]byte
		_, _ = peek(raw, one[:]) // who reads finds out why
	}
}
