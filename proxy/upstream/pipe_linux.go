package upstream

import (
	"io"
	"net"
	"sync/atomic"
	"syscall"
)

const (
	pipeSize  = 1 << 20 // bytes; what an unprivileged user may have (pipe-max-size)
	pipesMost = 32      // at once, half of what such a user may have in all (pipe-user-pages-soft)
)

// pipe is where data waits that the kernel moves from one connection to another
// (splice(2)). It is empty but within one move, and belongs to one goroutine.
type pipe struct{ out, in int }

var pipesLent atomic.Int32

// newPipe returns an empty pipe, or nil if there is none to be had.
func newPipe() *pipe {
	var ends [2]int
	if pipesLent.Add(1) > pipesMost || syscall.Pipe2(ends[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK) != nil {
		pipesLent.Add(-1)
		return nil
	}
	// Refused, it stays smaller, and more calls are made.
	_, _, _ = syscall.Syscall(syscall.SYS_FCNTL, uintptr(ends[0]), syscall.F_SETPIPE_SZ, pipeSize)
	return &pipe{out: ends[0], in: ends[1]}
}

// close ends a pipe, with what may be in it.
func (p *pipe) close() {
	syscall.Close(p.out)
	syscall.Close(p.in)
	pipesLent.Add(-1)
}

// fill moves what has arrived on a connection into the empty pipe, at most so many
// bytes, all of which are sure to come or the connection to end, and waits for some.
// Zero is the connection's end.
func (p *pipe) fill(from *gatherer, most int) (n int, err error) {
	var failed error
	err = from.raw.Read(func(fd uintptr) bool {
		if n, failed = splice(int(fd), p.in, most); failed != syscall.EAGAIN {
			return true
		}
		from.await(most)
		return false
	})
	from.arrived()
	return n, first(err, failed)
}

// drain moves n bytes out of the pipe to a connection, or some before an error.
func (p *pipe) drain(to syscall.RawConn, n int) (done int, err error) {
	var failed error
	err = to.Write(func(fd uintptr) bool {
		for done < n {
			var moved int
			moved, failed = splice(p.out, int(fd), n-done)
			switch {
			case failed != nil:
				return failed != syscall.EAGAIN
			case moved == 0: // or it would be asked for ever
				failed = io.ErrUnexpectedEOF
				return true
			}
			done += moved
		}
		return true
	})
	return done, first(err, failed)
}

// splice returns 0 with an error. It never waits, and is over soon (see once).
func splice(from, to, most int) (int, error) {
	const flags = 0x1 | 0x2 // SPLICE_F_MOVE, SPLICE_F_NONBLOCK
	for {
		n, _, failed := syscall.RawSyscall6(syscall.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(most), flags)
		switch failed {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		default:
			return 0, failed
		}
	}
}

// peek copies what has arrived on a connection, and leaves it there. It waits for
// some; zero is the connection's end.
func peek(from syscall.RawConn, p []byte) (n int, err error) {
	var failed error
	err = from.Read(func(fd uintptr) bool {
		for {
			n, _, failed = syscall.Recvfrom(int(fd), p, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			if failed != syscall.EINTR {
				return failed != syscall.EAGAIN
			}
		}
	})
	return max(0, n), first(err, failed)
}

// first is why a call ended: the waiting, or the call itself.
func first(waiting, failed error) error {
	if waiting != nil {
		return waiting
	}
	return failed
}

// plain returns the connection's socket, for the calls above.
func plain(c net.Conn) (syscall.RawConn, bool) {
	tcp, is := c.(*net.TCPConn)
	if !is {
		return nil, false
	}
	raw, err := tcp.SyscallConn()
	return raw, err == nil
}
