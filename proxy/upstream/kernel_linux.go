package upstream

import (
	"net"
	"syscall"
)

// quiet looks, without waiting, whether the other side has closed a connection, or
// has said something that nobody asked for.
func quiet(c *net.TCPConn) bool {
	raw, err := c.SyscallConn()
	if err != nil {
		return false
	}
	quiet := false
	err = raw.Read(func(fd uintptr) bool {
		var one [1]byte
		_, _, err := syscall.Recvfrom(int(fd), one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		quiet = err == syscall.EAGAIN
		return true // whatever it says: do not wait
	})
	return err == nil && quiet
}

// reserve returns memory outside the heap, or nil. It is never unmapped, so that
// nothing can point to where there is none.
func reserve(size int) []byte {
	buffer, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return nil
	}
	return buffer
}

// hollow gives the memory behind a buffer back. It is zeros afterwards.
func hollow(buffer []byte) { _ = syscall.Madvise(buffer, syscall.MADV_DONTNEED) }
