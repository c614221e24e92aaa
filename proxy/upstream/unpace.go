package upstream

import "net"

// Unpace has a connection to this very host send at once what it may send. Some
// kernels are set up to space out packets by a timer (BBR), for the good of networks.
// There is none here, and each tick interrupts whoever is at work.
func Unpace(conn net.Conn) {
	if raw, able := plain(conn); able && sameHost(conn) {
		unpace(raw)
	}
}

func sameHost(conn net.Conn) bool {
	local, _ := conn.LocalAddr().(*net.TCPAddr)
	remote, _ := conn.RemoteAddr().(*net.TCPAddr)
	return local != nil && remote != nil && (remote.IP.IsLoopback() || remote.IP.Equal(local.IP))
}
