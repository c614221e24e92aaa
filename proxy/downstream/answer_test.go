package downstream_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/proxy/downstream"
)

// What handlers do is read back by net/http's client as it was meant, and the
// connection is kept where it may be.
func TestAnswers(t *testing.T) {
	long := strings.Repeat("0123456789", 2000)
	type w = http.ResponseWriter
	length := func(w w, n int) { w.Header().Set("Content-Length", strconv.Itoa(n)) }
	tests := []struct {
		name    string
		method  string
		handler func(w)
		status  int
		header  string // of which this is one line of the answer's; or, after a !, none
		body    string
		closes  bool
	}{
		{"nothing", "GET", func(w w) {}, 200, "Content-Length: 0", "", false},
		{"a status", "GET", func(w w) { w.WriteHeader(404) }, 404, "Content-Length: 0", "", false},
		{"a status that has no name", "GET", func(w w) { w.WriteHeader(799) }, 799, "Content-Length: 0", "", false},
		{"two statuses", "GET", func(w w) { w.WriteHeader(404); w.WriteHeader(200) }, 404, "Content-Length: 0", "", false},
		{"an interim status", "GET", func(w w) { w.WriteHeader(103); w.WriteHeader(404) }, 404, "Content-Length: 0", "", false},
		{"a length", "GET", func(w w) { length(w, 5); io.WriteString(w, "hello") }, 200, "Content-Length: 5", "hello", false},
		{"a long one", "GET", func(w w) { length(w, len(long)); io.WriteString(w, long[:10]); io.WriteString(w, long[10:]) }, 200, "!Transfer-Encoding", long, false},
		{"no length", "GET", func(w w) { io.WriteString(w, "hello") }, 200, "Transfer-Encoding: chunked", "hello", false},
		{"no length, in pieces", "GET", func(w w) {
			for i := range 100 {
				io.WriteString(w, long[i*200:(i+1)*200])
				if i%7 == 0 {
					w.(http.Flusher).Flush()
				}
			}
		}, 200, "Transfer-Encoding: chunked", long, false},
		{"no length, in long pieces", "GET", func(w w) { io.WriteString(w, long[:9000]); io.WriteString(w, long[9000:]) }, 200, "!Content-Length", long, false},
		{"an empty piece", "GET", func(w w) { w.Write(nil); io.WriteString(w, "hello"); w.Write(nil) }, 200, "Transfer-Encoding: chunked", "hello", false},
		{"a framing of its own", "GET", func(w w) { w.Header().Set("Transfer-Encoding", "gzip"); io.WriteString(w, "hello") }, 200, "Transfer-Encoding: chunked", "hello", false},
		{"both framings", "GET", func(w w) {
			w.Header().Set("Transfer-Encoding", "chunked")
			length(w, 5)
			io.WriteString(w, "hello")
		}, 200, "!Transfer-Encoding", "hello", false},
		{"a length that is none", "GET", func(w w) { w.Header().Set("Content-Length", "many"); io.WriteString(w, "hello") }, 200, "!Content-Length", "hello", false},
		{"a line break in a value", "GET", func(w w) { w.Header().Set("A", "b\r\nC: d") }, 200, "A: b  C: d", "", false},
		{"a header afterwards", "GET", func(w w) { w.WriteHeader(200); w.Header().Set("A", "b") }, 200, "!A", "", false},
		{"close", "GET", func(w w) { w.Header().Set("Connection", "close") }, 200, "Connection: close", "", true},
		{"CloseAfter", "GET", func(w w) { w.(interface{ CloseAfter() }).CloseAfter() }, 200, "Connection: close", "", true},
		{"CloseAfter behind the head", "GET", func(w w) { w.(http.Flusher).Flush(); w.(interface{ CloseAfter() }).CloseAfter() }, 200, "!Connection", "", true},
		{"no type", "GET", func(w w) { length(w, 6); io.WriteString(w, "<html>") }, 200, "!Content-Type", "<html>", false},
		{"204", "GET", func(w w) { length(w, 5); w.WriteHeader(204) }, 204, "!Content-Length", "", false},
		{"304", "GET", func(w w) { w.Header().Set("Content-Type", "a/b"); w.WriteHeader(304) }, 304, "!Content-Type", "", false},
		{"HEAD", "HEAD", func(w w) {}, 200, "!Content-Length", "", false},
		{"HEAD with a length", "HEAD", func(w w) { length(w, 5); io.WriteString(w, "hello") }, 200, "Content-Length: 5", "", false},
		{"HEAD with a length alone", "HEAD", func(w w) { length(w, 5) }, 200, "Content-Length: 5", "", false},
		{"HEAD with a body", "HEAD", func(w w) { io.WriteString(w, long) }, 200, "!Transfer-Encoding", "", false},
		{"a date", "GET", func(w w) { w.Header().Set("Date", "now") }, 200, "Date: now", "", false},
		{"read from somewhere", "GET", func(w w) {
			length(w, len(long))
			io.Copy(w, io.LimitReader(strings.NewReader(long), 1<<20))
		}, 200, "!Transfer-Encoding", long, false},
		{"read from somewhere, without a length", "GET", func(w w) { io.Copy(w, io.LimitReader(strings.NewReader(long), 1<<20)) }, 200, "Transfer-Encoding: chunked", long, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			address := answering(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/next" {
					test.handler(w)
				}
			})
			all := said(t, address, test.method+" / HTTP/1.1\r\nHost: x\r\n\r\n"+next)
			in := bufio.NewReader(strings.NewReader(all))
			res, err := http.ReadResponse(in, &http.Request{Method: test.method})
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			if res.StatusCode != test.status || string(body) != test.body || err != nil {
				t.Errorf("the answer is %d %q, %v; want %d %q", res.StatusCode, body, err, test.status, test.body)
			}
			head, _, _ := strings.Cut(all, "\r\n\r\n")
			name, none := strings.CutPrefix(test.header, "!")
			if strings.Contains(head+"\r\n", "\r\n"+name+map[bool]string{true: ": ", false: "\r\n"}[none]) == none {
				t.Errorf("the head is %q, want %s", head, test.header)
			}
			if strings.Count(head, "\r\nDate: ") != 1 {
				t.Errorf("the head has no Date, or two: %q", head)
			}
			_, err = http.ReadResponse(in, nil)
			if closes := err != nil; closes != test.closes {
				t.Errorf("the next answer is %v; want the connection closed: %v", err, test.closes)
			}
			if left, _ := io.ReadAll(in); len(left) > 0 {
				t.Errorf("%q comes behind the answer", left)
			}
		})
	}
}

// No more than the length goes out, and less of it ends the connection.
func TestLengthIsKept(t *testing.T) {
	tooMuch := make(chan error, 1)
	address := answering(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		io.WriteString(w, "hell")
		var err error
		switch r.URL.Path {
		case "/more":
			_, err = io.WriteString(w, "o!")
		case "/stream":
			_, err = io.Copy(w, io.LimitReader(strings.NewReader("o!"), 100))
		}
		tooMuch <- err
	})
	for path, want := range map[string]error{"/more": http.ErrContentLength, "/stream": http.ErrContentLength, "/less": nil} {
		got := said(t, address, "GET "+path+" HTTP/1.1\r\nHost: x\r\n\r\n"+next)
		if err := <-tooMuch; !strings.HasSuffix(got, "\r\n\r\nhell") || !errors.Is(err, want) {
			t.Errorf("%s: the answer is %q and the handler gets %v; want it to end behind hell, and %v", path, got, err, want)
		}
	}
}

func TestBodyThatIsNotAllowed(t *testing.T) {
	got := make(chan error, 1)
	address := answering(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusNoContent)
		_, err := io.WriteString(w, "hello")
		got <- err
	})
	if text := said(t, address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); strings.Contains(text, "hello") {
		t.Errorf("the answer is %q, want no body", text)
	}
	if err := <-got; err != http.ErrBodyNotAllowed {
		t.Errorf("Write = %v, want %v", err, http.ErrBodyNotAllowed)
	}
}

// HTTP/1.0 knows no chunks, and says when it wants to stay.
func TestOldClients(t *testing.T) {
	address := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", "5")
		}
		io.WriteString(w, "hello")
	})
	for _, test := range []struct{ request, begins, contains, ends string }{
		{"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + next, "HTTP/1.0 200 OK\r\n", "", "\r\n\r\nhello"},
		{"GET /length HTTP/1.0\r\n\r\n" + next, "HTTP/1.0 200 OK\r\n", "Content-Length: 5\r\n", "\r\n\r\nhello"},
		{"GET /length HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + next, "HTTP/1.0 200 OK\r\n", "Connection: keep-alive\r\n", "\r\n0\r\n\r\n"},
	} {
		got := said(t, address, test.request)
		if !strings.HasPrefix(got, test.begins) || !strings.Contains(got, test.contains) || !strings.HasSuffix(got, test.ends) {
			t.Errorf("%q is answered %q", test.request, got)
		}
	}
}

// A client that waits is told to go on when somebody wants its body, by whichever
// goroutine, and not when it was answered before.
func TestExpect(t *testing.T) {
	const request = "PUT %s HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
	address := answering(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/read":
			body, _ := io.ReadAll(r.Body)
			w.Write(body)
		case "/elsewhere":
			read := make(chan []byte)
			go func() {
				body, _ := io.ReadAll(r.Body)
				read <- body
			}()
			w.Write(<-read)
		case "/refused":
			w.WriteHeader(http.StatusForbidden)
			r.Body.Read(make([]byte, 1)) // does not come
		}
	})
	for _, path := range []string{"/read", "/elsewhere"} {
		conn := dial(t, address)
		in := bufio.NewReader(conn)
		fmt.Fprintf(conn, request, path)
		if line, err := in.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
			t.Errorf("%s: first comes %q, %v", path, line, err)
		}
		in.ReadString('\n')
		io.WriteString(conn, "hello"+next)
		for _, want := range []string{"hello", ""} {
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(path, err)
			}
			if body, _ := io.ReadAll(res.Body); string(body) != want {
				t.Errorf("%s is answered %q, want %q", path, body, want)
			}
		}
	}
	conn := dial(t, address)
	fmt.Fprintf(conn, request, "/refused")
	conn.CloseWrite()
	if all, err := io.ReadAll(conn); !strings.HasPrefix(string(all), "HTTP/1.1 403 Forbidden\r\n") || !strings.Contains(string(all), "Connection: close\r\n") || err != nil {
		t.Errorf("/refused is answered %q, %v; want 403 and close", all, err)
	}
}

// What comes from a connection is moved by the kernel: this process reads only the
// client's part of it.
func TestAnswerIsMovedByTheKernel(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 512<<10)
	source, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	go func() { // ends with the listener
		conn, err := source.Accept()
		if err == nil {
			conn.Write(data)
			conn.Close()
		}
	}()
	address := answering(t, func(w http.ResponseWriter, r *http.Request) {
		from, err := net.Dial("tcp", source.Addr().String())
		if err != nil {
			t.Error(err)
			return
		}
		defer from.Close()
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Write(data[:10])
		io.CopyN(io.Discard, from, 10)
		if n, err := w.(io.ReaderFrom).ReadFrom(io.LimitReader(from, int64(len(data)-10))); n != int64(len(data)-10) || err != nil {
			t.Errorf("ReadFrom = %d, %v; want %d", n, err, len(data)-10)
		}
	})
	before := readByCalls(t)
	conn := dial(t, address)
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(data))
	if _, err := io.ReadFull(res.Body, got); err != nil || !bytes.Equal(got, data) {
		t.Errorf("other data arrives, or %v", err)
	}
	if read, most := readByCalls(t)-before, int64(len(data))*3/2; read > most {
		t.Errorf("%d bytes were read for an answer of %d: it was copied", read, len(data))
	}
}

// readByCalls is how many bytes this process has read by read(2).
func readByCalls(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	var n int64
	if _, err := fmt.Sscanf(string(text), "rchar: %d", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A connection of another kind serves, too.
func TestOverAPipe(t *testing.T) {
	ours, theirs := net.Pipe()
	l := &single{conns: make(chan net.Conn, 1)}
	l.conns <- theirs
	server := &downstream.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Write(bytes.Repeat(body, 2000))
	}), IdleTimeout: time.Minute, ReadHeaderTimeout: time.Minute}
	go server.Serve(l) // ends with the listener
	defer server.Close()
	defer ours.Close()
	in := bufio.NewReader(ours)
	for range 2 {
		go io.WriteString(ours, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello")
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(res.Body); len(body) != 10_000 || err != nil {
			t.Errorf("the answer has %d bytes, %v", len(body), err)
		}
	}
}

// single is a listener that hands out what it was given.
type single struct{ conns chan net.Conn }

func (l *single) Accept() (net.Conn, error) {
	conn, open := <-l.conns
	if !open {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (l *single) Close() error {
	select {
	case <-l.conns:
	default:
	}
	defer func() { recover() }() // the second time
	close(l.conns)
	return nil
}

func (l *single) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }
