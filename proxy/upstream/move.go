package upstream

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
)

// Listener accepts clients whose bodies the kernel can move to the server: Copy has
// it do so where nobody looks into a body.
//
// The connection stays net/http's, with keep-alive, graceful shutdown and the rest
// of what its server does. What is done in the kernel is a Read: Copy reads the body
// into a buffer, net/http checks that much may be read, and hands that very buffer
// down to the connection, which moves as many bytes as it was to read and says so.
// The buffer stays as it was. So net/http counts what it would have counted, and
// frames what it would have framed. Where it reads ahead, or into another buffer, it
// gets the bytes themselves, and so does Copy.
type Listener struct{ net.Listener }

// Accept implements net.Listener.
func (l Listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, is := conn.(*net.TCPConn); is && err == nil {
		if raw, able := plain(tcp); able {
			return &Accepted{TCPConn: tcp, raw: raw}, nil
		}
	}
	return conn, err
}

// Accepted is a client's connection.
type Accepted struct {
	*net.TCPConn
	raw  syscall.RawConn
	move atomic.Pointer[move] // while Copy reads
	head int                  // the length of the last chunk's head, if it was looked for; belongs to who reads
}

type acceptedKey struct{}

// ConnContext is for http.Server: it tells requests their connection.
func ConnContext(ctx context.Context, conn net.Conn) context.Context {
	if accepted, is := conn.(*Accepted); is {
		return context.WithValue(ctx, acceptedKey{}, accepted)
	}
	return ctx
}

// ConnOf returns the connection that a request came by, or nil where the kernel
// cannot move anything from it.
func ConnOf(ctx context.Context) *Accepted {
	conn, _ := ctx.Value(acceptedKey{}).(*Accepted)
	return conn
}

// Movable is a body of which all bytes may be moved past whoever reads it. What is
// judged is never one.
type Movable interface {
	io.Reader

	// Conn returns the connection from which the body comes, or nil.
	Conn() *Accepted

	// Extend gives the client more time for what it sends next: the server has
	// had some of it, within one Read.
	Extend()
}

// mover reads for Copy.
type mover struct {
	src    io.Reader
	from   *Accepted // nil: the kernel moves nothing
	extend func()
	to     *sender
	pipe   *pipe // while it does
}

func newMover(dst io.Writer, src io.Reader) mover {
	m := mover{src: src}
	if movable, able := src.(Movable); able {
		if to, able := dst.(*sender); able && to.socket != nil {
			m.from, m.extend, m.to = movable.Conn(), movable.Extend, to
		}
	}
	return m
}

// read is a Read, of which the first bytes have been written as well: moved tells
// how many, and p was not touched by them. An error may be of either.
func (m *mover) read(p []byte) (n, moved int, err error) {
	if m.pipe == nil && m.from != nil && len(p) > slow {
		m.pipe = newPipe()
	}
	if m.pipe == nil {
		n, err = m.src.Read(p)
		return n, 0, err
	}
	move := &move{pipe: m.pipe, to: m.to, extend: m.extend, chunked: m.to.left < 0, rest: p}
	n, err = m.readAs(move, p)
	switch moved = len(p) - len(move.rest); {
	case move.failed != nil:
		return n, n, move.failed
	case moved > n:
		return n, n, errors.New("more of the body was moved than read")
	}
	return n, moved, err
}

// readAs is a Read during which the connection knows of move, and no longer,
// however it ends: buffer and pipe are somebody else's afterwards.
func (m *mover) readAs(move *move, p []byte) (int, error) {
	m.from.move.Store(move)
	defer m.from.move.Store(nil)
	return m.src.Read(p)
}

// end ends what the kernel has for this.
func (m *mover) end() {
	if m.pipe != nil {
		m.pipe.close()
		m.pipe = nil
	}
}

// move is a Read that the kernel may do.
type move struct {
	pipe    *pipe // empty, unless failed
	to      *sender
	extend  func()
	chunked bool
	headed  bool   // a chunk's head has been looked for
	rest    []byte // of the buffer, behind what was moved
	failed  error  // sending what was read
}

// Read implements net.Conn.
func (c *Accepted) Read(p []byte) (int, error) {
	m := c.move.Load()
	switch {
	case m == nil || len(p) == 0 || m.failed != nil:
		return c.TCPConn.Read(p)
	case len(m.rest) > 0 && &p[0] == &m.rest[0]:
		return c.moveTo(m, len(p))
	case m.chunked && !m.headed && len(p) > longestHead:
		m.headed = true // it comes first, if at all; data may look like one
		return c.readHead(p)
	}
	return c.TCPConn.Read(p)
}

// moveTo moves what is there to the server. What cannot be sent is lost, but has
// been read: the client is at the place in its body where net/http thinks it is.
func (c *Accepted) moveTo(m *move, most int) (int, error) {
	n, err := m.pipe.fill(c.raw, most)
	switch {
	case slices.Contains(cannot, err):
		return c.TCPConn.Read(m.rest[:most])
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	m.rest = m.rest[n:]
	if m.failed = m.to.move(m.pipe, n, most); m.failed == nil {
		m.extend()
	}
	return n, nil
}

// cannot are what a kernel says that moves nothing, or may not.
var cannot = []error{syscall.EINVAL, syscall.ENOSYS, syscall.EPERM, syscall.EACCES}

// longestHead is how far a chunk's head is looked for, in bytes.
const longestHead = 32

// readHead reads no further than a chunk's head goes, if one is next, so that
// net/http has read nothing ahead when it comes to the data. Heads are mostly as
// long as the one before; after one that was not, the next is looked for.
func (c *Accepted) readHead(p []byte) (int, error) {
	if c.head == 0 {
		seen, err := peek(c.raw, p[:longestHead])
		if err != nil {
			return 0, err
		}
		c.head = headLength(p[:seen])
	}
	if c.head == 0 {
		return c.TCPConn.Read(p)
	}
	n, err := c.TCPConn.Read(p[:c.head])
	if headLength(p[:n]) != c.head {
		c.head = 0
	}
	return n, err
}

// headLength is that of the chunk's head with which p begins, with the end of the
// line before, or 0.
func headLength(p []byte) int {
	if !bytes.HasPrefix(p, crlf) {
		return 0
	}
	end := bytes.IndexByte(p[len(crlf):], '\n')
	if end < 0 {
		return 0
	}
	return len(crlf) + end + 1
}
