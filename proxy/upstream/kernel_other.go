//go:build !linux

package upstream

import "net"

// Countersign is made for Linux. Elsewhere it builds, for those who write it.

func quiet(*net.TCPConn) bool { return true }

func reserve(size int) []byte { return make([]byte, size) }

func hollow([]byte) {}
