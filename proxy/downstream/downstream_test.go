package downstream_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/proxy/downstream"
	"github.com/countersign/countersign/proxy/upstream"
)

// serving is either of the two servers.
type serving interface {
	Serve(net.Listener) error
	Close() error
}

// listen serves until the test ends, and returns the address.
func listen(t testing.TB, s serving) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(upstream.Listener{Listener: l}) }() // ends with the test
	t.Cleanup(func() {
		s.Close()
		if err := <-done; err != http.ErrServerClosed {
			t.Errorf("Serve = %v, want %v", err, http.ErrServerClosed)
		}
	})
	return l.Addr().String()
}

// answering is a server whose handler is f.
func answering(t testing.TB, f http.HandlerFunc) string {
	t.Helper()
	return listen(t, &downstream.Server{Handler: f, Log: logTo(t)})
}

// logTo logs while the test runs.
func logTo(t testing.TB) func(string, ...any) {
	return func(format string, args ...any) {
		if t.Context().Err() == nil {
			t.Logf(format, args...)
		}
	}
}

func dial(t testing.TB, address string) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn.(*net.TCPConn)
}

// said sends text, and returns all that is answered until the server closes.
func said(t testing.TB, address, text string) string {
	t.Helper()
	conn := dial(t, address)
	io.WriteString(conn, text)
	conn.CloseWrite()
	all, err := io.ReadAll(conn)
	if err != nil {
		t.Errorf("the end of the connection after %q is %v, want EOF", text, err)
	}
	return string(all)
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it does not come to it that %s", what)
		}
	}
}

// both are the two servers with one handler, which reads a body, says what it has
// understood, and notes it.
type both struct {
	ours, theirs string
	mu           sync.Mutex
	understood   []string // what has been since the last look
}

const mostHeader = 8 << 10

func newBoth(t testing.TB) *both {
	t.Helper()
	b := &both{}
	b.ours = listen(t, &downstream.Server{Handler: b, MaxHeaderBytes: mostHeader})
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	b.theirs = listen(t, &http.Server{Handler: b, MaxHeaderBytes: mostHeader, Protocols: protocols, DisableGeneralOptionsHandler: true})
	return b
}

func (b *both) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	text := fmt.Sprintf("%s %s of %s as %s %v: %q %v", r.Method, r.RequestURI, r.Host, r.Proto, r.Header, body, err != nil)
	b.mu.Lock()
	b.understood = append(b.understood, text)
	b.mu.Unlock()
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", "2")
	if err != nil {
		w.WriteHeader(http.StatusTeapot)
	}
	io.WriteString(w, "ok")
}

// outcome is what became of a connection over which text was sent.
type outcome struct {
	answers    []string // status and body
	understood []string
	reset      bool // the server closed before it had read all, so that answers may be lost
}

func (b *both) outcome(t testing.TB, address, text string) (o outcome) {
	t.Helper()
	conn := dial(t, address)
	defer conn.Close()
	io.WriteString(conn, text)
	conn.CloseWrite()
	all, err := io.ReadAll(conn)
	o.reset = err != nil
	in := bufio.NewReader(bytes.NewReader(all))
	for {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			if _, more := in.Peek(1); more == nil {
				o.answers = append(o.answers, err.Error())
			}
			break
		}
		if res.StatusCode == http.StatusContinue {
			continue
		}
		body, err := io.ReadAll(res.Body)
		o.answers = append(o.answers, fmt.Sprint(res.StatusCode, " ", string(body), " ", err))
		if _, more := in.Peek(1); res.Close && more == nil {
			o.answers = append(o.answers, "an answer behind the last")
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	o.understood, b.understood = b.understood, nil
	return o
}

func begins(list, with []string) bool {
	return len(with) <= len(list) && strings.Join(list[:len(with)], "\n") == strings.Join(with, "\n")
}

// next is a request behind all others. Whether it is answered tells whether the
// connection was kept, and whether the one before ended where it should.
const next = "GET /next HTTP/1.1\r\nHost: x\r\n\r\n"

// stricter are the requests of which ours takes some for none, or for the last.
var stricter = regexp.MustCompile(`(?i)\n(host:[ \t]*\r?\n|expect:|connection:)|[a-z]://|^connect`)

// compare sends the same to both.
func (b *both) compare(t testing.TB, text string) (got outcome) {
	t.Helper()
	want := b.outcome(t, b.theirs, text+next)
	got = b.outcome(t, b.ours, text+next)
	same := fmt.Sprint(got.understood, got.answers) == fmt.Sprint(want.understood, want.answers)
	switch {
	case same || want.reset && begins(got.understood, want.understood) && begins(want.understood, got.understood):
	case !stricter.MatchString(text) || !begins(want.understood, got.understood):
		t.Errorf("%q:\ngot  %q\nand  %q\nwant %q\nand  %q", text, got.understood, got.answers, want.understood, want.answers)
	}
	return got
}

// requests is a table of what clients send: what they are answered, and whether the
// connection goes on.
var requests = []struct {
	name, text string
	statuses   string
	goesOn     bool
}{
	{"a request", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "200", true},
	{"two at once", "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n", "200 200", true},
	{"a length", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", "200", true},
	{"no length to it", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "200", true},
	{"chunks", "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "200", true},
	{"chunks with a trailer", "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n", "200", true},
	{"a trailer that is none", "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx\r\n\r\n", "418", false},
	{"a chunk that is none", "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n", "418", false},
	{"both framings", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "200", true},
	{"two lengths", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nhell", "400", false},
	{"one length twice", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\nhell", "200", true},
	{"a signed length", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: +4\r\n\r\nhell", "400", false},
	{"another coding", "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501", false},
	{"two codings", "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "501", false},
	{"chunks in HTTP/1.0", "PUT / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n", "200", true},
	{"asked to close", "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "200", false},
	{"asked to close in a list", "GET / HTTP/1.1\r\nHost: x\r\nConnection: te, Close\r\n\r\n", "200", false},
	{"HTTP/1.0", "GET / HTTP/1.0\r\n\r\n", "200", false},
	{"HTTP/1.0 that stays", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "200", true},
	{"HTTP/1.2", "GET / HTTP/1.2\r\nHost: x\r\n\r\n", "200", true},
	{"HTTP/0.9", "GET / HTTP/0.9\r\n\r\n", "505", false},
	{"HTTP/2.0", "GET / HTTP/2.0\r\nHost: x\r\n\r\n", "505", false},
	{"HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "200", false},
	{"HTTP/2 with a Host", "PRI * HTTP/2.0\r\nHost: x\r\n\r\n", "200", true},
	{"HTTP/2 with something else", "PRI * HTTP/2.0\r\nA: b\r\n\r\n", "400", false},
	{"HTTP/2 with all", "PRI * HTTP/2.0\r\nHost: x\r\nA: b\r\n\r\n", "200", true},
	{"an upgrade", "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", "200", true},
	{"no version", "GET /\r\n\r\n", "400", false},
	{"no request", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", "400", false},
	{"an empty line", "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "400", false},
	{"an empty line behind a POST", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx\r\n", "200", true},
	{"an empty line behind a PUT", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx\r\n", "200 400", false},
	{"no Host", "GET / HTTP/1.1\r\n\r\n", "400", false},
	{"two Hosts", "GET / HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", "400", false},
	{"a Host that is none", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", "400", false},
	{"an empty Host", "GET / HTTP/1.1\r\nHost: \r\n\r\n", "400", false}, // stricter
	{"a host in the line", "GET http://a/ HTTP/1.1\r\nHost: x\r\n\r\n", "200", true},
	{"a host in the line and an empty Host", "GET http://a/ HTTP/1.1\r\nHost:\r\n\r\n", "200", true},
	{"a host in the line alone", "GET http://a/ HTTP/1.1\r\n\r\n", "400", false},
	{"a host in the line and a Host that is none", "GET http://a/ HTTP/1.1\r\nHost: a/b\r\n\r\n", "400", false},
	{"a host in the line and two Hosts", "GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", "400", false},
	{"a host in the line of a long head", "GET http://a/ HTTP/1.1\r\nHost: x\r\nLong: " + strings.Repeat("x", 4096) + "\r\n\r\n", "400", false}, // stricter
	{"a tunnel", "CONNECT a:80 HTTP/1.1\r\n\r\n", "200", true},
	{"a tunnel with a Host that is none", "CONNECT a:80 HTTP/1.1\r\nHost: a/b\r\n\r\n", "400", false},
	{"all of a server", "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "200", true},
	{"a name with a space", "GET / HTTP/1.1\r\nHost: x\r\nA b: c\r\n\r\n", "400", false},
	{"a space before the colon", "GET / HTTP/1.1\r\nHost: x\r\nContent-Length : 3\r\n\r\nabc", "400", false},
	{"a value with a control character", "GET / HTTP/1.1\r\nHost: x\r\nA: b\x01c\r\n\r\n", "400", false},
	{"a folded line", "GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", "200", true},
	{"a line that begins with a space", "GET / HTTP/1.1\r\n Host: x\r\n\r\n", "400", false},
	{"lines that end with LF", "PUT / HTTP/1.1\nHost: x\nContent-Length: 1\n\nx", "200", true},
	{"an expectation", "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", "200", true},
	{"an expectation in HTTP/1.0", "PUT / HTTP/1.0\r\nConnection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello", "200", true},
	{"an expectation without a body", "GET / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n\r\n", "200", true},
	{"another expectation", "PUT / HTTP/1.1\r\nHost: x\r\nExpect: wonders\r\nContent-Length: 5\r\n\r\nhello", "417", false},
	{"two expectations", "PUT / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue, wonders\r\nContent-Length: 5\r\n\r\nhello", "417", false}, // stricter
	{"a body that breaks off", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nhello", "418", false},
	{"the longest head", "GET / HTTP/1.1\r\nHost: x\r\nLong: " + strings.Repeat("x", mostHeader+3000) + "\r\n\r\n", "200", true},
	{"a longer head", "GET / HTTP/1.1\r\nHost: x\r\nLong: " + strings.Repeat("x", mostHeader+5000) + "\r\n\r\n", "431", false},
	{"nothing", "", "", true},
}

// What clients are answered, and whether the connection goes on, is what http.Server
// makes of it.
func TestRequests(t *testing.T) {
	b := newBoth(t)
	for _, test := range requests {
		t.Run(test.name, func(t *testing.T) {
			o := b.compare(t, test.text)
			want := strings.Fields(test.statuses)
			if test.goesOn {
				want = append(want, "200")
			}
			var got []string
			for _, answer := range o.answers {
				got = append(got, answer[:3])
			}
			wentOn := len(o.understood) > 0 && strings.HasPrefix(o.understood[len(o.understood)-1], "GET /next")
			if fmt.Sprint(got) != fmt.Sprint(want) || wentOn != test.goesOn {
				t.Errorf("the answers are %v and the connection goes on: %v; want %v, %v", got, wentOn, want, test.goesOn)
			}
		})
	}
}

// Every byte has its place in a name, in a value and in a Host, and in no other.
func TestEveryByteInAHead(t *testing.T) {
	b := newBoth(t)
	for c := range 256 {
		for _, where := range []string{"Host: a%sb\r\n", "Host: x\r\nA%sb: c\r\n", "Host: x\r\nA: b%sc\r\n", "Host: x\r\n%s: c\r\n"} {
			b.compare(t, "GET / HTTP/1.1\r\n"+fmt.Sprintf(where, string([]byte{byte(c)}))+"\r\n")
		}
	}
}

// However a request is cut into pieces on its way, it is the same.
func TestPieces(t *testing.T) {
	b := newBoth(t)
	text := "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello" + "PUT http://a/b HTTP/1.1\r\nHost: y\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n" + next
	want := b.outcome(t, b.theirs, text).understood
	for size := 1; size < len(text); size += 7 {
		conn := dial(t, b.ours)
		for rest := text; rest != ""; {
			n := min(size, len(rest))
			io.WriteString(conn, rest[:n])
			rest = rest[n:]
			time.Sleep(200 * time.Microsecond)
		}
		conn.CloseWrite()
		io.Copy(io.Discard, conn)
		b.mu.Lock()
		got := b.understood
		b.understood = nil
		b.mu.Unlock()
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("in pieces of %d: %q, want %q", size, got, want)
		}
	}
}

// FuzzServe: whatever a client sends, ours understands what http.Server does, and
// answers and closes as it does, or understands less where it is meant to.
func FuzzServe(f *testing.F) {
	for _, test := range requests {
		f.Add([]byte(test.text))
	}
	b := newBoth(f)
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 3000 {
			return // net/http reads that at once, and so loses no answer by closing
		}
		b.compare(t, string(text))
	})
}

// Shutdown closes who waits, and lets the others finish, who are told.
func TestShutdown(t *testing.T) {
	started, finish := make(chan struct{}), make(chan struct{})
	server := &downstream.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(started)
			<-finish
		}
	})}
	address := listen(t, server)
	waiting, busy := dial(t, address), dial(t, address)
	io.WriteString(waiting, next)
	if res, err := http.ReadResponse(bufio.NewReader(waiting), nil); err != nil || res.Close {
		t.Fatalf("the answer is %v, %v", res, err)
	}
	io.WriteString(busy, "GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
	<-started
	done := make(chan error, 1)
	go func() { done <- server.Shutdown(context.Background()) }()
	if _, err := waiting.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("who waits reads %v, want EOF", err)
	}
	if conn, err := net.Dial("tcp", address); err == nil {
		conn.Close()
		t.Error("somebody is accepted")
	}
	select {
	case err := <-done:
		t.Errorf("Shutdown = %v while a request is answered", err)
	case <-time.After(50 * time.Millisecond):
	}
	hasty, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if err := server.Shutdown(hasty); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a hasty Shutdown = %v, want %v", err, context.DeadlineExceeded)
	}
	close(finish)
	if res, err := http.ReadResponse(bufio.NewReader(busy), nil); err != nil || !res.Close {
		t.Errorf("the last answer is %v, %v; want it to say close", res, err)
	}
	if err := <-done; err != nil {
		t.Errorf("Shutdown = %v", err)
	}
	if err := server.Serve(closedListener(t)); err != http.ErrServerClosed {
		t.Errorf("Serve afterwards = %v, want %v", err, http.ErrServerClosed)
	}
}

func closedListener(t *testing.T) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	return l
}

// Clients that go on asking while the server is shut down are answered, or find the
// connection closed before they had asked.
func TestShutdownLosesNoRequest(t *testing.T) {
	for range 20 {
		var begun sync.Map
		server := &downstream.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { begun.Store(r.URL.Path, true) })}
		address := listen(t, server)
		var clients sync.WaitGroup
		for client := range 8 {
			conn := dial(t, address)
			clients.Go(func() {
				in := bufio.NewReader(conn)
				for i := 0; ; i++ {
					path := fmt.Sprintf("/%d/%d", client, i)
					fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
					if _, err := http.ReadResponse(in, nil); err != nil {
						if _, was := begun.Load(path); was {
							t.Errorf("%s was handled, and not answered: %v", path, err)
						}
						return
					}
				}
			})
		}
		time.Sleep(5 * time.Millisecond)
		if err := server.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown = %v", err)
		}
		clients.Wait()
	}
}

// Close cuts who is answered.
func TestClose(t *testing.T) {
	gone := make(chan struct{})
	server := &downstream.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
	})}
	conn := dial(t, listen(t, server))
	io.WriteString(conn, next)
	in := bufio.NewReader(conn)
	if _, err := in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := server.Close(); err != nil {
		t.Errorf("Close = %v", err)
	}
	if _, err := io.ReadAll(in); err != nil && !strings.Contains(err.Error(), "reset") {
		t.Errorf("the client reads %v", err)
	}
	select {
	case <-gone:
	case <-time.After(5 * time.Second):
		t.Error("the request's context does not end")
	}
}

// troubled is a listener that has too many open files at first.
type troubled struct {
	net.Listener
	trouble int
}

type temporary struct{ error }

func (temporary) Temporary() bool { return true }

func (l *troubled) Accept() (net.Conn, error) {
	if l.trouble--; l.trouble >= 0 {
		return nil, temporary{errors.New("too many open files")}
	}
	return l.Listener.Accept()
}

func TestAcceptingGoesOn(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &downstream.Server{Handler: http.NotFoundHandler()}
	defer server.Close()
	go server.Serve(&troubled{l, 3}) // ends with the test
	if got := said(t, l.Addr().String(), next); !strings.HasPrefix(got, "HTTP/1.1 404 Not Found\r\n") {
		t.Errorf("the answer is %q, want 404", got)
	}
}
