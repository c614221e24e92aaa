package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
)

// readFromConnection is a ResponseWriter that notes what it is made to read from,
// as net/http's would hand it to the kernel.
type readFromConnection struct {
	*httptest.ResponseRecorder
	source io.Reader
}

func (r *readFromConnection) ReadFrom(src io.Reader) (int64, error) {
	r.source = src
	return io.Copy(r.ResponseRecorder, src)
}

// A download is moved by the kernel: the ResponseWriter is asked to read from the
// connection itself, and nothing hides the one from the other.
func TestDownloadIsMovedByTheKernel(t *testing.T) {
	s := newStage(t)
	data := random(t, 8<<20)
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/file") {
			return false
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		w.Write(data)
		return true
	}
	id := s.image("c", nil)
	req := httptest.NewRequest("GET", "/v2/images/"+id+"/file", nil)
	req.Header.Set("X-Auth-Token", tokenC)
	answer := &readFromConnection{ResponseRecorder: httptest.NewRecorder()}
	s.proxy.ServeHTTP(answer, req)
	limited, _ := answer.source.(*io.LimitedReader)
	if limited == nil {
		t.Fatalf("the answer's body was read from %T, want a limited connection", answer.source)
	}
	if _, ok := limited.R.(*net.TCPConn); !ok {
		t.Errorf("the answer's body was read from %T, want a *net.TCPConn", limited.R)
	}
	if !bytes.Equal(answer.Body.Bytes(), data) {
		t.Errorf("the download has %d bytes, want the %d that were stored", answer.Body.Len(), len(data))
	}

	// And through a real server: of what this process reads, only the client's part
	// is read(2).
	before := readByCalls(t)
	conn := s.dial()
	fmt.Fprintf(conn, "GET /v2/images/%s/file HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Auth-Token: %s\r\n\r\n", id, tokenC)
	n, _ := io.Copy(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{conn})
	if n < int64(len(data)) {
		t.Errorf("the client got %d bytes, want more than %d", n, len(data))
	}
	if got, most := readByCalls(t)-before, int64(len(data))*3/2; got > most {
		t.Errorf("%d bytes were read for a download of %d: the proxy has copied it", got, len(data))
	}
}

// readByCalls is how many bytes this process has read by read(2).
func readByCalls(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "rchar: "); ok {
			n, _ := strconv.ParseInt(strings.TrimSpace(value), 10, 64)
			return n
		}
	}
	t.Fatal("/proc/self/io does not tell what was read")
	return 0
}

// An answer without a length goes on piece by piece, as it comes.
func TestAnswerWithoutLengthGoesOnAtOnce(t *testing.T) {
	s := newStage(t)
	more := make(chan struct{})
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/file") {
			return false
		}
		io.WriteString(w, "first")
		http.NewResponseController(w).Flush()
		<-more
		io.WriteString(w, "second")
		return true
	}
	req, err := http.NewRequest("GET", s.server.URL+"/v2/images/"+s.image("c", nil)+"/file", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", tokenC)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	first := make([]byte, 5)
	if _, err := io.ReadFull(res.Body, first); string(first) != "first" {
		t.Errorf("the first piece is %q, %v", first, err)
	}
	close(more)
	if rest, err := io.ReadAll(res.Body); string(rest) != "second" || err != nil {
		t.Errorf("the rest is %q, %v, want %q", rest, err, "second")
	}
}

// An answer that breaks off reaches the client as one that did.
func TestAnswerThatBreaksOffIsNoWholeOne(t *testing.T) {
	for _, framing := range []string{"Content-Length", "chunked"} {
		s := newStage(t)
		s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/file") {
				return false
			}
			if framing == "Content-Length" {
				w.Header().Set("Content-Length", "100000")
			}
			w.Write(make([]byte, 50_000))
			http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
		status, _, err := s.try("GET", "/v2/images/"+s.image("c", nil)+"/file", tokenC)
		if status != 200 || err == nil {
			t.Errorf("%s: answer = %d, %v, want 200 and an error in its body", framing, status, err)
		}
	}
}

// try is do for an answer whose body may break off.
func (s *stage) try(method, path, token string) (int, []byte, error) {
	s.t.Helper()
	req, err := http.NewRequest(method, s.server.URL+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("X-Auth-Token", token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, text, err
}

// Headers that concern one connection stay on theirs.
func TestHopByHopHeaders(t *testing.T) {
	s := newStage(t)
	var got http.Header
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v2/images" {
			return false
		}
		got = r.Header.Clone()
		w.Header().Set("Connection", "X-Glance-Only")
		for _, name := range []string{"X-Glance-Only", "Keep-Alive", "Proxy-Authenticate", "X-End"} {
			w.Header().Set(name, "x")
		}
		io.WriteString(w, "{}")
		return true
	}
	conn := s.dial()
	io.WriteString(conn, "GET /v2/images HTTP/1.1\r\nHost: x\r\nX-Auth-Token: "+tokenC+"\r\nConnection: close, X-Client-Only\r\nX-Client-Only: x\r\nKeep-Alive: x\r\nTe: trailers\r\n"+
		"Proxy-Authorization: x\r\nProxy-Connection: x\r\nTrailer: x\r\nUpgrade: x\r\nX-End: x\r\n\r\n")
	text, _ := io.ReadAll(conn)
	for _, name := range []string{"X-Client-Only", "Keep-Alive", "Te", "Proxy-Authorization", "Proxy-Connection", "Trailer", "Upgrade", "User-Agent", "Accept-Encoding"} {
		if values, there := got[name]; there {
			t.Errorf("Glance is sent %s: %q", name, values)
		}
	}
	if got.Get("X-End") != "x" || !bytes.Contains(text, []byte("\r\nX-End: x\r\n")) {
		t.Errorf("X-End does not pass: Glance has %v, the client %q", got, text)
	}
	for _, name := range []string{"X-Glance-Only:", "Keep-Alive:", "Proxy-Authenticate:"} {
		if bytes.Contains(text, []byte(name)) {
			t.Errorf("the client is sent %s in %q", name, text)
		}
	}
}
