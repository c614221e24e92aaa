package upstream

import (
	"bytes"
	"net"
	"slices"
	"syscall"
	"unsafe"
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

// setLowWater has a connection be readable only when so many bytes are there, or its
// end (SO_RCVLOWAT). What can be read by asking stays as it is.
func setLowWater(raw syscall.RawConn, n int) {
	_ = raw.Control(func(fd uintptr) { // who sees less at a time is only slower
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVLOWAT, n)
	})
}

const tcpCongestion = 13 // TCP_CONGESTION

// paced are the congestion controls that send by a timer.
var paced = []string{"bbr"}

// unpace sends without a timer, if the connection does not.
func unpace(raw syscall.RawConn) {
	_ = raw.Control(func(fd uintptr) { // refused, it stays as it was
		name := make([]byte, 16) // TCP_CA_NAME_MAX
		size := uint32(len(name))
		_, _, failed := syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_TCP, tcpCongestion,
			uintptr(unsafe.Pointer(&name[0])), uintptr(unsafe.Pointer(&size)), 0)
		if failed == 0 && slices.Contains(paced, string(bytes.TrimRight(name[:size], "\x00"))) {
			_ = syscall.SetsockoptString(int(fd), syscall.IPPROTO_TCP, tcpCongestion, "reno") // which every kernel has, and allows
		}
	})
}
