package upstream_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/proxy/upstream"
)

// server plays the other end of connections, which it counts.
type server struct {
	net.Listener
	mu          sync.Mutex // guards what follows
	connections int
	requests    []string
}

// newServer calls play for every request; play reports whether the connection
// shall go on. The number is the request's on its connection, from 1.
func newServer(t testing.TB, play func(conn *net.TCPConn, r *http.Request, number int) bool) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	s := &server{Listener: listener}
	go func() { // ends with the listener
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			s.mu.Lock()
			s.connections++
			s.mu.Unlock()
			go s.serve(conn.(*net.TCPConn), play)
		}
	}()
	return s
}

// serve ends with the connection.
func (s *server) serve(conn *net.TCPConn, play func(*net.TCPConn, *http.Request, int) bool) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	for number := 1; ; number++ {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		s.requests = append(s.requests, r.Method+" "+r.URL.Path+" "+string(body))
		s.mu.Unlock()
		if !play(conn, r, number) {
			return
		}
	}
}

// seen are how many connections and requests there were.
func (s *server) seen() (connections, requests int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.connections, len(s.requests)
}

func (s *server) client(t testing.TB) *upstream.Client {
	c := &upstream.Client{Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", s.Addr().String())
	}}
	t.Cleanup(c.CloseIdleConnections)
	return c
}

func request(t testing.TB, method, path, body string) *http.Request {
	t.Helper()
	var reader io.Reader
	if body != "" {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://server"+path, reader)
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// ask returns status and body of an answer.
func ask(c *upstream.Client, req *http.Request) (int, string, error) {
	res, err := c.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}

func say(text string) func(*net.TCPConn, *http.Request, int) bool {
	return func(conn *net.TCPConn, _ *http.Request, _ int) bool {
		_, err := io.WriteString(conn, text)
		return err == nil
	}
}

// A connection is used again only if nothing speaks against it.
func TestReuse(t *testing.T) {
	tests := []struct {
		name, answer string
		method       string
		want         string
		connections  int // of three requests
	}{
		{"length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "GET", "hello", 1},
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "GET", "hello", 1},
		{"no body", "HTTP/1.1 204 No Content\r\n\r\n", "GET", "", 1},
		{"empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET", "", 1},
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD", "", 1},
		{"interim", "HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "GET", "hello", 1},
		{"close", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello", "GET", "hello", 3},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", "GET", "hello", 3},
		{"more than the body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 403 Smuggled\r\nContent-Length: 0\r\n\r\n", "GET", "hello", 3},
		{"a body where there is none", "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 403 Smuggled\r\nContent-Length: 0\r\n\r\n", "GET", "", 3},
		{"DELETE", "HTTP/1.1 204 No Content\r\n\r\n", "DELETE", "", 3},
	}
	for _, test := range tests {
		s := newServer(t, say(test.answer))
		c := s.client(t)
		for range 3 {
			status, body, err := ask(c, request(t, test.method, "/", ""))
			if status/100 != 2 || body != test.want || err != nil {
				t.Errorf("%s: answer = %d %q, %v; want 2xx %q", test.name, status, body, err, test.want)
			}
		}
		if connections, requests := s.seen(); connections != test.connections || requests != 3 {
			t.Errorf("%s: %d requests over %d connections, want 3 over %d", test.name, requests, connections, test.connections)
		}
	}
}

// A kept connection that has died is noticed, or its request is made once more, if
// that can do no harm.
func TestKeptConnectionDies(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	t.Run("while it is kept", func(t *testing.T) {
		closed := make(chan struct{})
		s := newServer(t, func(conn *net.TCPConn, _ *http.Request, _ int) bool {
			io.WriteString(conn, ok)
			conn.CloseWrite()
			<-closed
			return false
		})
		c := s.client(t)
		for range 2 {
			if status, _, err := ask(c, request(t, "GET", "/", "")); status != 200 || err != nil {
				t.Errorf("answer = %d, %v, want 200", status, err)
			}
		}
		close(closed)
	})
	for _, test := range []struct {
		method, body string
		requests     int // in all, with the one before
	}{{"GET", "", 3}, {"HEAD", "", 3}, {"OPTIONS", "", 3}, {"DELETE", "", 2}, {"POST", "", 2}, {"PATCH", "x", 2}, {"GET", "x", 2}} {
		t.Run(test.method+" "+test.body, func(t *testing.T) {
			s := newServer(t, func(conn *net.TCPConn, _ *http.Request, number int) bool {
				if number == 2 {
					return false // heard, and not answered
				}
				io.WriteString(conn, ok)
				return true
			})
			c := s.client(t)
			ask(c, request(t, "GET", "/first", ""))
			if status, _, err := ask(c, request(t, test.method, "/second", test.body)); status != 200 || err != nil {
				t.Errorf("answer = %d, %v, want 200", status, err)
			}
			if _, requests := s.seen(); requests != test.requests {
				t.Errorf("the server heard %d requests, want %d: %v", requests, test.requests, s.requests)
			}
		})
	}
}

// Nothing is repeated once there was a byte of an answer, nor on a connection that
// is new.
func TestNothingIsRepeated(t *testing.T) {
	for name, play := range map[string]func(*net.TCPConn, *http.Request, int) bool{
		"a new connection dies": func(*net.TCPConn, *http.Request, int) bool { return false },
		"an answer breaks off": func(conn *net.TCPConn, _ *http.Request, _ int) bool {
			io.WriteString(conn, "HTTP/1.1 200 O")
			return false
		},
	} {
		s := newServer(t, play)
		if _, _, err := ask(s.client(t), request(t, "GET", "/", "")); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, requests := s.seen(); requests != 1 {
			t.Errorf("%s: the server heard %d requests, want 1", name, requests)
		}
	}
}

// What a server says between two requests is no answer to the second.
func TestUnaskedAnswer(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
	read, said := make(chan struct{}), make(chan struct{})
	s := newServer(t, func(conn *net.TCPConn, r *http.Request, _ int) bool {
		io.WriteString(conn, ok)
		if r.URL.Path == "/first" {
			<-read
			io.WriteString(conn, "HTTP/1.1 403 Unasked\r\nContent-Length: 0\r\n\r\n")
			close(said)
		}
		return true
	})
	c := s.client(t)
	ask(c, request(t, "GET", "/first", ""))
	close(read)
	<-said
	if status, _, err := ask(c, request(t, "GET", "/second", "")); status != 200 || err != nil {
		t.Errorf("answer = %d, %v, want 200", status, err)
	}
}

func TestAnswersThatAreNone(t *testing.T) {
	for name, answer := range map[string]string{
		"no HTTP":           "what is this\r\n\r\n",
		"an endless head":   "HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2<<20),
		"another protocol":  "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
		"interim for ever":  strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 1000),
		"two lengths":       "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
		"a negative length": "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
	} {
		s := newServer(t, func(conn *net.TCPConn, _ *http.Request, _ int) bool {
			io.WriteString(conn, answer)
			return false
		})
		if status, text, err := ask(s.client(t), request(t, "GET", "/", "")); err == nil {
			t.Errorf("%s: answer = %d %q, want an error", name, status, text)
		}
	}
}

// Who stops waiting gets his own reason, and the server sees the connection end.
func TestContextEnds(t *testing.T) {
	for _, answer := range []string{"", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"} {
		heard, ended := make(chan struct{}), make(chan error, 1)
		s := newServer(t, func(conn *net.TCPConn, _ *http.Request, _ int) bool {
			io.WriteString(conn, answer)
			close(heard)
			_, err := conn.Read(make([]byte, 1))
			ended <- err
			return false
		})
		ctx, cancel := context.WithCancel(t.Context())
		go func() { // ends when the request is heard
			<-heard
			cancel()
		}()
		_, _, err := ask(s.client(t), request(t, "GET", "/", "").WithContext(ctx))
		if answer == "" && !errors.Is(err, context.Canceled) || err == nil {
			t.Errorf("after %q: %v, want %v", answer, err, context.Canceled)
		}
		if err := <-ended; err == nil {
			t.Errorf("after %q: the connection goes on", answer)
		}
	}
}

// A connection is kept for a while, and no longer.
func TestIdleTimeout(t *testing.T) {
	ended := make(chan struct{})
	s := newServer(t, func(conn *net.TCPConn, _ *http.Request, _ int) bool {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		conn.Read(make([]byte, 1))
		close(ended)
		return false
	})
	c := s.client(t)
	c.IdleTimeout = time.Millisecond
	ask(c, request(t, "GET", "/", ""))
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("an idle connection is kept for ever")
	}
}

func TestMaxIdle(t *testing.T) {
	var together sync.WaitGroup
	together.Add(3)
	s := newServer(t, func(conn *net.TCPConn, r *http.Request, _ int) bool {
		if r.URL.Path == "/together" { // each on a connection of its own
			together.Done()
			together.Wait()
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		return true
	})
	c := s.client(t)
	c.MaxIdle = 1
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() { ask(c, request(t, "GET", "/together", "")) })
	}
	all.Wait()
	var kept []*http.Response
	for range 2 { // neither gives its connection back before the other has one
		res, err := c.RoundTrip(request(t, "GET", "/after", ""))
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, res)
	}
	for _, res := range kept {
		res.Body.Close()
	}
	if connections, _ := s.seen(); connections != 3 {
		t.Errorf("%d connections, want 3: one is kept, and serves both that come after", connections)
	}
}

// The rest of an answer that nobody read is not the next one's.
func TestUnreadAnswer(t *testing.T) {
	s := newServer(t, func(conn *net.TCPConn, r *http.Request, _ int) bool {
		if r.URL.Path == "/second" {
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			return true
		}
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello")
		conn.Read(make([]byte, 1)) // until it is closed
		return false
	})
	c := s.client(t)
	res, err := c.RoundTrip(request(t, "GET", "/first", ""))
	if err != nil {
		t.Fatal(err)
	}
	io.ReadFull(res.Body, make([]byte, 5))
	res.Body.Close()
	if n, err := res.Body.Read(make([]byte, 1)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("a closed body reads %d bytes, %v", n, err)
	}
	if status, _, err := ask(c, request(t, "GET", "/second", "")); status != 200 || err != nil {
		t.Errorf("the next answer = %d, %v, want 200", status, err)
	}
	if connections, _ := s.seen(); connections != 2 {
		t.Errorf("%d connections, want 2", connections)
	}
}

// A body is the same however it is read, and one that breaks off is none.
func TestBody(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<16) // a megabyte
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(data))
	for _, missing := range []int{0, 1, len(data) / 2, len(data)} {
		for _, way := range []string{"read", "to a connection", "to memory", "read, then to a connection"} {
			s := newServer(t, func(conn *net.TCPConn, _ *http.Request, _ int) bool {
				io.WriteString(conn, head)
				conn.Write(data[:len(data)-missing])
				return missing == 0
			})
			c := s.client(t)
			for range 2 { // the second over the same connection, if the first was whole
				res, err := c.RoundTrip(request(t, "GET", "/", ""))
				if err != nil {
					t.Fatal(err)
				}
				got, err := bodyBy(t, way, res.Body)
				res.Body.Close()
				if missing == 0 && (err != nil || !bytes.Equal(got, data)) {
					t.Errorf("%s: %d bytes, %v; want %d", way, len(got), err, len(data))
				}
				if missing > 0 && (!errors.Is(err, io.ErrUnexpectedEOF) || !bytes.HasPrefix(data, got)) {
					t.Errorf("%s, %d missing: %d bytes, %v; want %v", way, missing, len(got), err, io.ErrUnexpectedEOF)
				}
			}
			connections, _ := s.seen()
			if want := map[bool]int{true: 1, false: 2}[missing == 0]; connections != want {
				t.Errorf("%s, %d missing: %d connections, want %d", way, missing, connections, want)
			}
		}
	}
}

// bodyBy reads a body one way or another.
func bodyBy(t testing.TB, way string, body io.Reader) ([]byte, error) {
	t.Helper()
	var out bytes.Buffer
	if way == "read" {
		_, err := out.ReadFrom(body)
		return out.Bytes(), err
	}
	if strings.HasPrefix(way, "read, then") {
		io.CopyN(&out, body, 1000)
	}
	if way == "to memory" {
		_, err := io.Copy(struct{ io.Writer }{&out}, body)
		return out.Bytes(), err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	near, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	read := make(chan struct{})
	go func() { // ends with the connection
		out.ReadFrom(far)
		close(read)
	}()
	_, copied := io.Copy(near, body)
	near.Close()
	<-read
	return out.Bytes(), copied
}

// FuzzAnswer: whatever a server says, the client makes of it what net/http's own
// reader does, whichever way the body is read, and keeps no connection of which it
// does not know the state.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhello"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n"))
	f.Add([]byte("HTTP/1.1 200 OK\r\n\r\nuntil the end"))
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"))
	f.Add([]byte("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 1<<16 {
			return
		}
		want, wantErr := reference(t, text)
		for _, way := range []string{"read", "to a connection"} {
			s := newServer(t, func(conn *net.TCPConn, _ *http.Request, _ int) bool {
				conn.Write(text)
				return false
			})
			c := s.client(t)
			res, err := c.RoundTrip(request(t, "GET", "/", ""))
			var got []byte
			if err == nil {
				got, err = bodyBy(t, way, res.Body)
				res.Body.Close()
			}
			if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(got, want) {
				t.Errorf("%q, %s: %q, %v; net/http reads %q, %v", text, way, got, err, want, wantErr)
			}
			s.Close()
		}
	})
}

// reference is what net/http's reader makes of an answer.
func reference(t testing.TB, text []byte) ([]byte, error) {
	in := bufio.NewReader(bytes.NewReader(text))
	for range 16 {
		res, err := http.ReadResponse(in, request(t, "GET", "/", ""))
		if err != nil {
			return nil, err
		}
		if res.StatusCode == 101 {
			return nil, errors.New("switches protocols")
		}
		if res.StatusCode/100 != 1 {
			return io.ReadAll(res.Body)
		}
	}
	return nil, errors.New("interim answers")
}
