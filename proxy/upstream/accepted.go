package upstream

import (
	"context"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
)

// Listener accepts clients whose bodies the kernel can move to the server: Copy has
// it do so where nobody looks into a body.
//
// The connection stays with package downstream, and so do keep-alive, graceful
// shutdown and all else. What is done in the kernel is a Read: Copy reads the body
// into a buffer, net/http's codec checks that much may be read, and hands that very
// buffer down to the connection, which moves as many bytes as it was to read and says
// so. The buffer stays as it was. So the codec counts what it would have counted, and
// frames what it would have framed. Where it reads into another buffer, it gets the
// bytes themselves, and so does Copy. Only a body with a length is moved: between
// chunks there are heads to be read, each of which would cost as much as copying.
type Listener struct{ net.Listener }

// Accept implements net.Listener.
func (l Listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, is := conn.(*net.TCPConn); is && err == nil {
		if raw, able := plain(tcp); able {
			Unpace(tcp)
			return &Accepted{TCPConn: tcp, socket: newSocket(tcp), gather: gatherer{raw: raw}}, nil
		}
	}
	return conn, err
}

// Accepted is a client's connection. While its reads are filled, one after the
// other, it reads ahead: what frames a body reads line by line and chunk by chunk.
type Accepted struct {
	*net.TCPConn
	socket *socket
	gather gatherer
	move   atomic.Pointer[move] // while Copy reads
	closed atomic.Bool

	mu       sync.Mutex // guards what follows; held while reading
	buffer   []byte     // of Ahead, while it reads ahead
	from, to int        // what of the buffer was read ahead
	filled   int        // reads in a row that were
	scarce   int        // reads ahead in a row that got little
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

// Read implements net.Conn.
func (c *Accepted) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.unlock()
	if m := c.move.Load(); m != nil && m.failed == nil && c.from == c.to && len(p) > 0 && len(m.rest) > 0 && &p[0] == &m.rest[0] {
		return c.moveTo(m, len(p))
	}
	return c.readAhead(p)
}

// unlock ends a Read.
func (c *Accepted) unlock() {
	c.mu.Unlock()
	if c.closed.Load() {
		c.drop()
	}
}

// A connection reads ahead after so many reads in a row that were filled, and that
// were of fewer bytes than are worth copying once more.
const (
	eager = 8
	worth = 128 << 10
)

// readAhead is Read by way of the buffer, once there is one.
func (c *Accepted) readAhead(p []byte) (int, error) {
	if c.from == c.to {
		c.gather.attend()
		if c.buffer == nil || len(p) >= len(c.buffer) || c.scarce >= slack {
			return c.readInto(p)
		}
		n, err := c.socket.Read(c.buffer)
		if n == 0 {
			return 0, err
		}
		c.from, c.to = 0, n
		if c.scarce++; n >= len(c.buffer)/4 { // what comes in bursts of less does without
			c.scarce = 0
		}
	}
	n := copy(p, c.buffer[c.from:c.to])
	c.from += n
	return n, nil
}

// readInto is Read without a buffer. It takes one for the next, if that is worth it.
func (c *Accepted) readInto(p []byte) (int, error) {
	c.giveBack()
	n, err := c.socket.Read(p)
	if c.filled++; n < len(p) || len(p) < slow/2 || len(p) >= worth {
		c.filled = 0
	}
	if c.filled >= eager && err == nil {
		c.buffer, c.filled = Ahead.Take(), 0
	}
	return n, err
}

// ReadFrom implements io.ReaderFrom. What comes from a TCP connection, up to a
// length, is moved by the kernel, as net.TCPConn does it, but more at a time.
func (c *Accepted) ReadFrom(src io.Reader) (moved int64, err error) {
	limited, is := src.(*io.LimitedReader)
	if !is {
		return c.TCPConn.ReadFrom(src)
	}
	tcp, is := limited.R.(*net.TCPConn)
	if !is {
		return c.TCPConn.ReadFrom(src)
	}
	raw, able := plain(tcp)
	if !able {
		return c.TCPConn.ReadFrom(src)
	}
	pipe := newPipe()
	if pipe == nil {
		return c.TCPConn.ReadFrom(src)
	}
	defer pipe.close()
	from := gatherer{raw: raw}
	defer from.end()
	for limited.N > 0 {
		n, err := pipe.fill(&from, int(min(limited.N, pipeSize)))
		switch {
		case moved == 0 && slices.Contains(cannot, err):
			from.end()
			return c.TCPConn.ReadFrom(src)
		case err != nil || n == 0:
			return moved, err
		}
		limited.N -= int64(n)
		out, err := pipe.drain(c.gather.raw, n)
		if moved += int64(out); err != nil {
			return moved, err
		}
	}
	return moved, nil
}

func (c *Accepted) giveBack() {
	Ahead.Give(c.buffer)
	c.buffer, c.scarce = nil, 0
}

// Rest is for who waits for a client's next request in his own way, and not by Read.
// He may if it returns true: then nothing has been read ahead, nothing is held, and
// the connection is readable when anything comes. Nobody may be reading.
func (c *Accepted) Rest() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.from < c.to {
		return false
	}
	c.giveBack()
	c.gather.attend()
	c.filled = 0
	return true
}

// Close implements net.Conn. What was read ahead is lost. It waits for no Read, which
// may be waiting for the server.
func (c *Accepted) Close() error {
	err := c.TCPConn.Close()
	c.closed.Store(true)
	c.drop()
	return err
}

// drop gives back what a closed connection holds, unless a Read does so at its end.
func (c *Accepted) drop() {
	if c.mu.TryLock() {
		c.from, c.to = 0, 0
		c.giveBack()
		c.mu.Unlock()
	}
}
