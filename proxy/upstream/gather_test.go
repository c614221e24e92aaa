package upstream_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/proxy/upstream"
)

// A client that sends much, and then little by little, is passed on little by little,
// however much is left to come; and so is a server that answers so.
func TestNobodyWaitsForMuchForLong(t *testing.T) {
	data := noise(8 << 20)
	// How much has been sent when there is a pause, until that has arrived.
	steps := []int{4 << 20, 4<<20 + 1, 4<<20 + 70_000, 4<<20 + 70_001, 5 << 20, 5<<20 + 100_000, len(data)}
	send := func(to io.Writer, arrived *atomic.Int64) {
		from := 0
		for _, step := range steps {
			to.Write(data[from:step])
			from = step
			begun := time.Now()
			for arrived.Load() < int64(step) && time.Since(begun) < 5*time.Second {
				time.Sleep(time.Millisecond)
			}
			if got := arrived.Load(); got < int64(step) {
				t.Errorf("%d bytes have arrived of %d that were sent", got, step)
			}
		}
	}
	t.Run("upload", func(t *testing.T) {
		server, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		var arrived atomic.Int64
		go func() { // ends with the connection
			conn, err := server.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				count(r.Body, &arrived)
			}
		}()
		f := newFront(t, owned, func() (net.Conn, error) { return net.Dial("tcp", server.Addr().String()) })
		client, err := net.Dial("tcp", f.address)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		head, _, _ := strings.Cut(string(framed("/x", data, nil)), "\r\n\r\n")
		io.WriteString(client, head+"\r\n\r\n")
		send(client, &arrived)
		client.(*net.TCPConn).CloseWrite()
		if seen := <-f.seen; seen.moved < 4<<20 {
			t.Errorf("the kernel moved %d bytes: nothing is shown", seen.moved)
		}
	})
	t.Run("download", func(t *testing.T) {
		var arrived atomic.Int64
		sent := make(chan bool)
		s := newServer(t, func(conn *net.TCPConn, _ *http.Request, _ int) bool {
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(data))
			send(conn, &arrived)
			close(sent)
			return true
		})
		answer, err := s.client(t).RoundTrip(request(t, "GET", "/", ""))
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		go func() { // ends with the connection
			if conn, err := net.Dial("tcp", listener.Addr().String()); err == nil {
				defer conn.Close()
				count(conn, &arrived)
			}
		}()
		to, err := upstream.Listener{Listener: listener}.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer to.Close()
		if n, err := upstream.Copy(to, answer.Body); n != int64(len(data)) || err != nil {
			t.Errorf("%d bytes were moved, %v; want %d", n, err, len(data))
		}
		<-sent
	})
}

func count(from io.Reader, arrived *atomic.Int64) {
	for buffer := make([]byte, 64<<10); ; {
		n, err := from.Read(buffer)
		arrived.Add(int64(n))
		if err != nil {
			return
		}
	}
}
