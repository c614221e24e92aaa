package proxy_test

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
)

// wire is a TCP relay that keeps what went to the server, connection by
// connection.
type wire struct {
	net.Listener
	mu   sync.Mutex // guards sent
	sent []*bytes.Buffer
}

func newWire(t testing.TB, server string) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{Listener: listener}
	t.Cleanup(func() { listener.Close() })
	go func() { // ends with the listener
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go w.relay(client, server)
		}
	}()
	return w
}

// relay ends when both sides have.
func (w *wire) relay(client net.Conn, address string) {
	defer client.Close()
	server, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer server.Close()
	kept := &bytes.Buffer{}
	w.mu.Lock()
	w.sent = append(w.sent, kept)
	w.mu.Unlock()
	go func() {
		io.Copy(client, server)
		client.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		w.mu.Lock()
		kept.Write(buf[:n])
		w.mu.Unlock()
		server.Write(buf[:n])
		if err != nil {
			return
		}
	}
}

// forget forgets what was sent.
func (w *wire) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sent = nil
}

// uploads returns, for each PUT, what was sent from its request line on.
func (w *wire) uploads() [][]byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found [][]byte
	for _, kept := range w.sent {
		if at := bytes.Index(kept.Bytes(), []byte("PUT /")); at >= 0 {
			found = append(found, bytes.Clone(kept.Bytes()[at:]))
		}
	}
	return found
}
