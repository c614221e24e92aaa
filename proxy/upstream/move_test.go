package upstream_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/proxy/downstream"
	"github.com/countersign/countersign/proxy/upstream"
)

// watched is a body that can be moved. It notes what was moved: that for which
// bytes were read into a buffer that is as it was.
type watched struct {
	io.Reader
	conn  *upstream.Accepted
	moved atomic.Int64
	hide  bool

	extended atomic.Int64
}

func (w *watched) Conn() *upstream.Accepted {
	if w.hide {
		return nil
	}
	return w.conn
}

func (w *watched) Extend() { w.extended.Add(1) }

func (w *watched) Close() error { return nil }

func (w *watched) Read(p []byte) (int, error) {
	const mark = "not touched, not touched, not touched, not touched, not touched"
	for i := 0; i < len(p); i += 4096 {
		copy(p[i:], mark)
	}
	n, err := w.Reader.Read(p)
	if n >= len(mark) && string(p[:len(mark)]) == mark {
		w.moved.Add(int64(n))
	}
	return n, err
}

// front is a server that sends the bodies it is sent to another one, by Send, and
// answers with what Send said. Its requests are noted.
type front struct {
	address  string
	seen     chan sight
	hide     bool
	answered bool // the server answers
}

// serving is who serves a front's clients.
type serving int

const (
	copying serving = iota // net/http, by connections of its own
	moving                 // net/http, by those that move and read ahead
	owned                  // package downstream, by such
)

// sight is a request that a front has seen: how many bytes of its body were moved,
// and how often its client got more time.
type sight struct {
	what            string
	moved, extended int64
}

func newFront(t testing.TB, by serving, dial func() (net.Conn, error)) *front {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &front{address: listener.Addr().String(), seen: make(chan sight, 10)}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		conn, err := dial()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		body := &watched{Reader: r.Body, conn: upstream.ConnOf(r.Context()), hide: f.hide}
		out, _ := http.NewRequestWithContext(context.Background(), r.Method, "http://server"+r.URL.Path, body)
		out.ContentLength = r.ContentLength
		short, err := upstream.Send(conn, out, time.Minute)
		if f.answered && err == nil {
			upstream.ReadAnswer(bufio.NewReader(conn), out)
		}
		f.seen <- sight{r.Method + " " + r.URL.Path, body.moved.Load(), body.extended.Load()}
		io.Copy(io.Discard, r.Body)
		if err != nil {
			w.Header().Set("Error", err.Error())
			w.WriteHeader(http.StatusBadGateway)
		}
		fmt.Fprintf(w, "%v %v", short, err != nil)
	})
	var server interface {
		Serve(net.Listener) error
		Close() error
	} = &http.Server{Handler: handler, ConnContext: upstream.ConnContext}
	switch by {
	case moving:
		listener = upstream.Listener{Listener: listener}
	case owned:
		listener = upstream.Listener{Listener: listener}
		server = &downstream.Server{Handler: handler}
	}
	go server.Serve(listener) // ends with the test
	t.Cleanup(func() { server.Close() })
	return f
}

// framed is a request with a body in chunks of these sizes, again and again, or by
// length.
func framed(path string, body []byte, sizes []int) []byte {
	var text bytes.Buffer
	fmt.Fprintf(&text, "PUT %s HTTP/1.1\r\nHost: front\r\n", path)
	if len(sizes) == 0 {
		fmt.Fprintf(&text, "Content-Length: %d\r\n\r\n%s", len(body), body)
		return text.Bytes()
	}
	text.WriteString("Transfer-Encoding: chunked\r\n\r\n")
	for i := 0; len(body) > 0; i++ {
		n := min(sizes[i%len(sizes)], len(body))
		fmt.Fprintf(&text, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	text.WriteString("0\r\n\r\n")
	return text.Bytes()
}

func noise(size int) []byte {
	data := make([]byte, size)
	chance := rand.NewChaCha8([32]byte{1})
	chance.Read(data)
	return data
}

// What the kernel moves, or was read ahead, arrives as it was sent, and the client's
// connection goes on behind it. Of chunks nothing is moved.
func TestMove(t *testing.T) {
	data := noise(3<<20 + 77)
	for _, test := range []struct {
		name  string
		sizes []int
		least int64 // that the kernel moves
	}{
		{"length", nil, 1 << 18},
		{"chunks of 64 KiB", []int{64 << 10}, 0},
		{"chunks of a megabyte", []int{1 << 20}, 0},
		{"one chunk", []int{len(data)}, 0},
		{"large and tiny chunks", []int{100_000, 1, 70_000, 2, 3}, 0},
		{"small chunks", []int{4096, 4095, 1, 8192}, 0},
	} {
		for _, hide := range []bool{false, true} {
			t.Run(fmt.Sprint(test.name, " ", hide), func(t *testing.T) {
				type request struct {
					path string
					body []byte
				}
				got := make(chan request, 2)
				listener, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer listener.Close()
				go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // ends with the listener
					body, err := io.ReadAll(r.Body)
					if err != nil {
						t.Error(err)
					}
					got <- request{r.URL.Path, body}
				}))
				f := newFront(t, owned, func() (net.Conn, error) { return net.Dial("tcp", listener.Addr().String()) })
				f.hide, f.answered = hide, true
				client, err := net.Dial("tcp", f.address)
				if err != nil {
					t.Fatal(err)
				}
				defer client.Close()
				go func() { // ends with the connection
					client.Write(framed("/first", data, test.sizes))
					client.Write(framed("/second", data[:100_000], nil))
				}()
				in := bufio.NewReader(client)
				for i, want := range []request{{"/first", data}, {"/second", data[:100_000]}, {"/third", data[:1]}} {
					if i == 2 { // when it is waited for
						time.Sleep(10 * time.Millisecond)
						client.SetDeadline(time.Now().Add(5 * time.Second))
						client.Write(framed(want.path, want.body, nil))
					}
					answer, err := http.ReadResponse(in, nil)
					if err != nil {
						t.Fatal(err)
					}
					text, _ := io.ReadAll(answer.Body)
					if answer.StatusCode != 200 || string(text) != "false false" {
						t.Errorf("answer %d = %d %s, want that all was sent", i, answer.StatusCode, text)
					}
					if r := <-got; r.path != want.path || !bytes.Equal(r.body, want.body) {
						t.Errorf("request %d arrived as %s with %d bytes, want %s with %d", i, r.path, len(r.body), want.path, len(want.body))
					}
					seen := <-f.seen
					switch {
					case i > 0:
					case !hide && seen.moved < test.least:
						t.Errorf("the kernel moved %d bytes, want %d at least", seen.moved, test.least)
					case seen.moved > 0 && seen.extended == 0:
						t.Error("the client got no more time while the server was given what it had sent")
					case (hide || test.sizes != nil) && seen.moved > 0:
						t.Errorf("the kernel moved %d bytes of a body that cannot be moved", seen.moved)
					}
				}
				// What was read ahead is given back with the connection, at the latest.
				client.Close()
				for until := time.Now().Add(5 * time.Second); upstream.Ahead.Lent() > 0 && time.Now().Before(until); {
					time.Sleep(time.Millisecond)
				}
				if lent := upstream.Ahead.Lent(); lent != 0 {
					t.Errorf("%d buffers of what was read ahead are still lent", lent)
				}
			})
		}
	}
}

// When the server closes in the middle, what is lost on the way has been read all
// the same: the client's next request is understood as it was meant.
func TestMoveToAServerThatCloses(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 2<<20) // 32 MiB, more than the kernel holds on its way
	for _, sizes := range [][]int{nil, {64 << 10}, {3 << 20}} {
		server := newServerThatCloses(t, 1<<20)
		f := newFront(t, owned, func() (net.Conn, error) { return net.Dial("tcp", server) })
		client, err := net.Dial("tcp", f.address)
		if err != nil {
			t.Fatal(err)
		}
		go func() { // ends with the connection
			client.Write(framed("/first", data, sizes))
			client.Write(framed("/second", []byte("hello"), nil))
		}()
		in := bufio.NewReader(client)
		for _, want := range []string{"PUT /first", "PUT /second"} {
			answer, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("chunks of %v: %v", sizes, err)
			}
			text, _ := io.ReadAll(answer.Body)
			if seen := <-f.seen; seen.what != want {
				t.Errorf("chunks of %v: the request is %s, want %s", sizes, seen.what, want)
			}
			if want == "PUT /first" && string(text) != "false true" {
				t.Errorf("chunks of %v: Send said %s, want an error of the server's connection (%s)", sizes, text, answer.Header.Get("Error"))
			}
		}
		client.Close()
	}
}

// newServerThatCloses reads so many bytes of each connection.
func newServerThatCloses(t testing.TB, most int64) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() { // ends with the listener
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			io.CopyN(io.Discard, conn, most)
			conn.Close()
		}
	}()
	return listener.Addr().String()
}

// A client that leaves in the middle leaves the body short, and the server does
// not see a whole one.
func TestMoveOfABrokenBody(t *testing.T) {
	data := noise(4 << 20)
	for _, sizes := range [][]int{nil, {64 << 10}, {3 << 20}} {
		arrived := make(chan error, 1)
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // ends with the listener
			body, err := io.ReadAll(r.Body)
			if !bytes.HasPrefix(data, body) {
				t.Errorf("chunks of %v: something else arrived", sizes)
			}
			arrived <- err
		}))
		f := newFront(t, owned, func() (net.Conn, error) { return net.Dial("tcp", listener.Addr().String()) })
		client, err := net.Dial("tcp", f.address)
		if err != nil {
			t.Fatal(err)
		}
		text := framed("/first", data, sizes)
		client.Write(text[:len(text)*3/4])
		client.Close()
		<-f.seen
		if err := <-arrived; err == nil {
			t.Errorf("chunks of %v: the server sees a whole body", sizes)
		}
		listener.Close()
	}
}

// FuzzMove: whatever a client sends, and in whatever pieces, what arrives is what
// arrives where the kernel moves nothing, and nothing is read ahead.
func FuzzMove(f *testing.F) {
	f.Add(framed("/x", noise(60_000), []int{30_000}), uint16(9000))
	f.Add(framed("/x", noise(60_000), nil), uint16(9000))
	f.Add(append(framed("/x", noise(300_000), []int{5000}), framed("/y", noise(200_000), nil)...), uint16(65535))
	f.Add(append(framed("/x", noise(50_000), []int{20_000, 1}), framed("/y", noise(20_000), nil)...), uint16(65535))
	f.Add(framed("/x", bytes.Repeat([]byte("\r\n\n"), 20_000), []int{20_000, 3000}), uint16(9000))
	f.Add([]byte("PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n8000;x=y\r\n"+strings.Repeat("x", 0x8000)+"\r\n0\r\nTrailer: x\r\n\r\n"), uint16(1000))
	f.Add([]byte("PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n8000\n"+strings.Repeat("x", 0x8000)+"\r\n9000\r\n"), uint16(40_000))
	f.Fuzz(func(t *testing.T, text []byte, piece uint16) {
		if len(text) > 1<<20 || piece == 0 || len(text)/int(piece) > 100 {
			return
		}
		var outcomes [2]string
		for i, by := range []serving{copying, moving} {
			outcomes[i] = outcome(t, text, int(piece), by)
		}
		if outcomes[0] != outcomes[1] {
			t.Errorf("moved, it is %q; copied, %q", outcomes[1], outcomes[0])
		}
	})
}

// outcome tells what a server behind a front has understood of what a client sent.
func outcome(t *testing.T, text []byte, piece int, by serving) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	understood := make(chan string, 100)
	go func() { // ends with the listener
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			r, err := http.ReadRequest(bufio.NewReader(conn))
			if err == nil {
				body, err := io.ReadAll(r.Body)
				understood <- r.Method + " " + r.URL.Path + " " + strconv.Itoa(len(body)) + " " + string(body) + " " + fmt.Sprint(err)
			} else {
				understood <- err.Error()
			}
			conn.Close()
		}
	}()
	front := newFront(t, by, func() (net.Conn, error) { return net.Dial("tcp", listener.Addr().String()) })
	client, err := net.Dial("tcp", front.address)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	go func() { // ends with the connection
		for len(text) > 0 {
			n := min(piece, len(text))
			client.Write(text[:n])
			text = text[n:]
		}
		client.(*net.TCPConn).CloseWrite()
	}()
	var all strings.Builder
	in := bufio.NewReader(client)
	for {
		answer, err := http.ReadResponse(in, nil)
		if err != nil {
			break
		}
		said, _ := io.ReadAll(answer.Body)
		fmt.Fprintf(&all, "%d %s; ", answer.StatusCode, said)
		select {
		case seen := <-front.seen:
			fmt.Fprintf(&all, "%s, %s; ", seen.what, <-understood)
		default: // net/http answered it by itself
		}
	}
	return all.String()
}

// accepted returns both ends of a connection, ours first.
func accepted(t *testing.T) (*upstream.Accepted, net.Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	conn, err := upstream.Listener{Listener: listener}.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn.(*upstream.Accepted), client
}

// A connection is closed at once, also while what came by it waits for a server that
// takes nothing.
func TestCloseWaitsForNoServer(t *testing.T) {
	far := make(chan net.Conn, 1)
	accepted, client := accepted(t)
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	go func() { // ends with the first connection
		if conn, err := server.Accept(); err == nil {
			far <- conn // and reads nothing
		}
	}()
	to, err := net.Dial("tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	defer func() { (<-far).Close() }()
	go client.Write(make([]byte, 64<<20)) // ends with the connection
	body := &watched{Reader: io.LimitReader(accepted, 64<<20), conn: accepted}
	req, _ := http.NewRequest("PUT", "http://server/x", body)
	req.ContentLength = 64 << 20
	sent := make(chan error, 1)
	go func() { // ends with to
		_, err := upstream.Send(to, req, 0)
		sent <- err
	}()
	for moved := int64(-1); body.moved.Load() == 0 || body.moved.Load() != moved; time.Sleep(100 * time.Millisecond) {
		moved = body.moved.Load() // until the server's side is full
	}
	closed := make(chan bool)
	go func() {
		accepted.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(5 * time.Second):
		t.Error("Close waits for the server")
	}
	to.Close()
	<-sent
}

// A connection that has read ahead, or waited for much, is as good as new for the
// request that follows.
func TestRest(t *testing.T) {
	data := noise(4 << 20)
	server := newServerThatCloses(t, int64(len(data))+10_000)
	f := newFront(t, owned, func() (net.Conn, error) { return net.Dial("tcp", server) })
	client, err := net.Dial("tcp", f.address)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	client.SetDeadline(time.Now().Add(20 * time.Second))
	in := bufio.NewReader(client)
	answered := func() {
		t.Helper()
		answer, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, answer.Body)
		<-f.seen
	}
	// Requests of which eight fill a reader to its last byte, all read ahead.
	small := framed("/small", []byte("x"), nil)
	small = bytes.Replace(small, []byte("Host:"), []byte("X: "+strings.Repeat("x", 512-len(small)-5)+"\r\nHost:"), 1)
	if len(small) != 512 {
		t.Fatalf("the request has %d bytes, want 512", len(small))
	}
	const many = 400
	go client.Write(bytes.Repeat(small, many)) // ends with the connection
	for range many {
		answered()
	}
	// Bodies whose end is waited for with much of it to come.
	large := framed("/large", data, nil)
	for range 20 {
		client.Write(large[:len(large)-200_000])
		time.Sleep(5 * time.Millisecond)
		client.Write(large[len(large)-200_000:])
		answered()
		client.Write(small)
		answered()
	}
}
