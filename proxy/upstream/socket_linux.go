package upstream

import (
	"io"
	"net"
	"syscall"
	"unsafe"
)

// socket reads and writes a TCP connection by system calls of which Go's scheduler is
// not told: they never wait, and a megabyte is copied within a fraction of a
// millisecond. Told of them, the scheduler would hand the processor to another thread
// in the middle, where others have something to do, and want it back at once: with 32
// uploads at a time that takes a quarter more. One goroutine reads at a time, and one
// writes.
type socket struct {
	raw     syscall.RawConn
	in, out transfer
}

// transfer is a read or a write, one call or more.
type transfer struct {
	pieces [3][]byte // what is left of them
	iovecs [3]syscall.Iovec
	done   int // bytes
	failed syscall.Errno
	step   func(fd uintptr) bool // made once
}

// newSocket returns a TCP connection's socket, or nil.
func newSocket(conn net.Conn) *socket {
	raw, able := plain(conn)
	if !able {
		return nil
	}
	s := &socket{raw: raw}
	s.in.step = func(fd uintptr) bool { return s.in.once(syscall.SYS_READV, fd) }
	s.out.step = func(fd uintptr) bool {
		for s.out.left() && s.out.failed == 0 {
			if !s.out.once(syscall.SYS_WRITEV, fd) {
				return false
			}
		}
		return true
	}
	return s
}

// Read implements io.Reader.
func (s *socket) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	s.in.begin(p)
	waited := s.raw.Read(s.in.step)
	n, err := s.in.end("read", waited)
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

// Write implements io.Writer.
func (s *socket) Write(p []byte) (int, error) { return s.write(p) }

// write writes up to three pieces, all or until an error.
func (s *socket) write(pieces ...[]byte) (int, error) {
	s.out.begin(pieces...)
	waited := s.raw.Write(s.out.step)
	return s.out.end("write", waited)
}

func (t *transfer) begin(pieces ...[]byte) {
	copy(t.pieces[:], pieces)
	t.done, t.failed = 0, 0
}

func (t *transfer) left() bool {
	return len(t.pieces[0])+len(t.pieces[1])+len(t.pieces[2]) > 0
}

// once makes a call, and reports whether there was no need to wait for it.
func (t *transfer) once(number, fd uintptr) bool {
	count := 0
	for _, p := range t.pieces {
		if len(p) > 0 {
			t.iovecs[count].Base = &p[0]
			t.iovecs[count].SetLen(len(p))
			count++
		}
	}
	for {
		n, _, failed := syscall.RawSyscall(number, fd, uintptr(unsafe.Pointer(&t.iovecs[0])), uintptr(count))
		switch failed {
		case 0:
			t.pass(int(n))
			return true
		case syscall.EAGAIN:
			return false
		case syscall.EINTR:
		default:
			t.failed = failed
			return true
		}
	}
}

// pass goes on behind n bytes.
func (t *transfer) pass(n int) {
	t.done += n
	for i, p := range t.pieces {
		here := min(n, len(p))
		t.pieces[i], n = p[here:], n-here
	}
}

// end forgets the pieces.
func (t *transfer) end(operation string, waited error) (int, error) {
	clear(t.pieces[:])
	clear(t.iovecs[:])
	switch {
	case waited != nil:
		return t.done, waited
	case t.failed != 0:
		return t.done, &net.OpError{Op: operation, Net: "tcp", Err: t.failed}
	}
	return t.done, nil
}
