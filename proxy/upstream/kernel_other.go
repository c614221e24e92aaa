//go:build !linux

package upstream

import (
	"errors"
	"net"
	"syscall"
)

// Countersign is made for Linux. Elsewhere it builds, for those who write it.

func quiet(*net.TCPConn) bool { return true }

func reserve(size int) []byte { return make([]byte, size) }

func hollow([]byte) {}

type pipe struct{}

const pipeSize = 0

var errNowhere = errors.New("the kernel moves nothing")

func newPipe() *pipe                                   { return nil }
func (*pipe) close()                                   {}
func (*pipe) fill(*gatherer, int) (int, error)         { return 0, errNowhere }
func (*pipe) drain(syscall.RawConn, int) (int, error)  { return 0, errNowhere }
func setLowWater(syscall.RawConn, int)                 {}
func unpace(syscall.RawConn)                           {}
func peek(syscall.RawConn, []byte) (int, error)        { return 0, errNowhere }
func plain(net.Conn) (raw syscall.RawConn, plain bool) { return nil, false }
