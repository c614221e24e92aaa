package upstream

import (
	"errors"
	"io"
	"slices"
	"syscall"
)

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
		if to, able := dst.(*sender); able && to.socket != nil && to.left >= 0 {
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
	move := &move{pipe: m.pipe, to: m.to, extend: m.extend, rest: p}
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
	pipe   *pipe // empty, unless failed
	to     *sender
	extend func()
	rest   []byte // of the buffer, behind what was moved
	failed error  // sending what was read
}

// moveTo moves what is there to the server. What cannot be sent is lost, but has
// been read: the client is at the place in its body where net/http thinks it is.
func (c *Accepted) moveTo(m *move, most int) (int, error) {
	n, err := m.pipe.fill(&c.gather, most)
	switch {
	case slices.Contains(cannot, err):
		c.gather.attend()
		return c.socket.Read(m.rest[:most])
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	m.rest = m.rest[n:]
	if m.failed = m.to.move(m.pipe, n); m.failed == nil {
		m.extend()
	}
	return n, nil
}

// cannot are what a kernel says that moves nothing, or may not.
var cannot = []error{syscall.EINVAL, syscall.ENOSYS, syscall.EPERM, syscall.EACCES}
