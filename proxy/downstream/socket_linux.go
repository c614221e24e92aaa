package downstream

import (
	"io"
	"syscall"
)

// trying tells that there is a tryRead.
const trying = true

// errNothingYet: more may come.
const errNothingYet = syscall.EAGAIN

// tryRead reads what has arrived at a socket, without waiting.
func tryRead(fd int, p []byte) (int, error) {
	for {
		n, err := syscall.Read(fd, p)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// left waits until either side has closed a connection, and returns false if the
// other one says something before, or if the read deadline comes first.
func left(raw syscall.RawConn) bool {
	var n int
	var err error
	waited := raw.Read(func(fd uintptr) bool {
		for {
			var one [1]byte
			n, _, err = syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			if err != syscall.EINTR {
				return err != syscall.EAGAIN
			}
		}
	})
	if waited != nil {
		return !isTimeout(waited)
	}
	return err != nil || n == 0
}
