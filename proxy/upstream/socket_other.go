//go:build !linux

package upstream

import (
	"net"
	"syscall"
)

// socket is a connection as it is.
type socket struct {
	conn net.Conn
	raw  syscall.RawConn // nil
}

func newSocket(net.Conn) *socket { return nil }

func (s *socket) Read(p []byte) (int, error) { return s.conn.Read(p) }

// Write implements io.Writer.
func (s *socket) Write(p []byte) (int, error) { return s.write(p) }

func (s *socket) write(pieces ...[]byte) (int, error) {
	buffers := net.Buffers(pieces)
	n, err := buffers.WriteTo(s.conn)
	return int(n), err
}
