package upstream_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/countersign/countersign/proxy/upstream"
)

// sent is what a request is on the wire, and what Send says of it.
func sent(t testing.TB, req *http.Request) (wire []byte, short bool, err error) {
	t.Helper()
	near, far := net.Pipe()
	read := make(chan []byte)
	go func() { // ends with the connection
		text, _ := io.ReadAll(far)
		read <- text
	}()
	short, err = upstream.Send(near, req, time.Minute)
	near.Close()
	return <-read, short, err
}

// pieces hands out its data in pieces of the sizes given, again and again.
type pieces struct {
	data  []byte
	sizes []byte
	next  int
	end   error
}

func (p *pieces) Read(to []byte) (int, error) {
	if len(p.data) == 0 {
		return 0, p.end
	}
	n := len(p.data)
	if len(p.sizes) > 0 {
		n = int(p.sizes[p.next%len(p.sizes)]) << 8
		p.next++
	}
	n = copy(to[:min(n, len(to))], p.data)
	p.data = p.data[n:]
	return n, nil
}

// FuzzSend: what goes over the wire is one request that net/http's reader takes
// for the one that was meant, with all of its body or none that is whole.
func FuzzSend(f *testing.F) {
	f.Add([]byte("hello"), int64(5), []byte{1}, false)
	f.Add([]byte("hello"), int64(-1), []byte{}, false)
	f.Add([]byte("hello"), int64(0), []byte{0, 1}, false)
	f.Add([]byte("hello"), int64(9), []byte{1}, false)
	f.Add([]byte("hello"), int64(3), []byte{1}, false)
	f.Add([]byte("hello"), int64(-1), []byte{1}, true)
	f.Add([]byte{}, int64(-1), []byte{}, false)
	f.Add(bytes.Repeat([]byte("x"), 100_000), int64(100_000), []byte{255, 3, 64}, false)
	f.Add(bytes.Repeat([]byte("x"), 100_000), int64(-1), []byte{255, 3, 64}, true)
	broken := errors.New("the body broke off")
	f.Fuzz(func(t *testing.T, data []byte, length int64, sizes []byte, breaks bool) {
		if len(data) > 1<<20 || length < -1 || length > 1<<21 || len(sizes) > 0 && bytes.Count(sizes, []byte{0}) == len(sizes) {
			return
		}
		end := io.EOF
		if breaks {
			end = broken
		}
		req := request(t, "PUT", "/v2/images/x/file?a=b", "")
		req.Header.Set("X-Auth-Token", "token")
		req.Body, req.ContentLength = io.NopCloser(&pieces{data: data, sizes: sizes, end: end}), length
		wire, short, err := sent(t, req)

		got, rest := bufio.NewReader(bytes.NewReader(wire)), ""
		read, readErr := http.ReadRequest(got)
		if readErr != nil {
			t.Fatalf("net/http does not read the head: %v in %q", readErr, wire[:min(len(wire), 500)])
		}
		body, bodyErr := io.ReadAll(read.Body)
		if bodyErr == nil {
			left, _ := io.ReadAll(got)
			rest = string(left)
		}
		whole := !breaks && (length <= 0 || length == int64(len(data)))
		switch {
		case read.Method != "PUT" || read.URL.String() != "/v2/images/x/file?a=b" || read.Header.Get("X-Auth-Token") != "token" || read.Host != "server":
			t.Errorf("the head is %v", read)
		case whole && (err != nil || short || bodyErr != nil || !bytes.Equal(body, data) || rest != ""):
			t.Errorf("%d bytes, length %d: Send = %v, %v; net/http reads %d bytes, %v, and then %q", len(data), length, short, err, len(body), bodyErr, rest)
		case !whole && (err == nil || !short):
			t.Errorf("%d bytes, length %d, breaks %v: Send = %v, %v, want an error of the body", len(data), length, breaks, short, err)
		case !whole && bodyErr == nil && !(breaks && length == int64(len(data))):
			t.Errorf("%d bytes, length %d, breaks %v: net/http reads a whole body of %d bytes", len(data), length, breaks, len(body))
		case !bytes.HasPrefix(data, body):
			t.Errorf("the body is %q, want %q", body, data)
		case breaks && err != broken && (length <= 0 || length >= int64(len(data))):
			t.Errorf("Send = %v, want the body's own error", err)
		}
	})
}

func TestSendWithoutBody(t *testing.T) {
	for _, body := range []io.ReadCloser{nil, http.NoBody} {
		req := request(t, "PUT", "/x", "")
		req.Body = body
		wire, short, err := sent(t, req)
		if want := "PUT /x HTTP/1.1\r\nHost: server\r\nUser-Agent: Go-http-client/1.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"; string(wire) != want || short || err != nil {
			t.Errorf("wire = %q, %v, %v, want %q", wire, short, err, want)
		}
	}
}

// The end of a body may be a verdict: it is asked for before a last chunk is
// written, and also where the length is reached already.
func TestSendAsksForTheEnd(t *testing.T) {
	refused := errors.New("refused")
	for _, length := range []int64{5, -1} {
		req := request(t, "PUT", "/x", "")
		req.Body, req.ContentLength = io.NopCloser(io.MultiReader(strings.NewReader("hello"), iotest.ErrReader(refused))), length
		wire, short, err := sent(t, req)
		if err != refused || !short || strings.HasSuffix(string(wire), "0\r\n\r\n") {
			t.Errorf("length %d: Send = %v, %v after %q, want %v", length, short, err, wire, refused)
		}
	}
}

// A server that takes little at a time has not stalled, however much it is offered at
// once.
func TestSendToASlowServer(t *testing.T) {
	data := noise(3 << 20)
	for _, moved := range []bool{false, true} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		took := make(chan int64, 1)
		go func() { // ends with the body
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			r, err := http.ReadRequest(bufio.NewReader(conn))
			if err != nil {
				return
			}
			n := int64(0)
			for err == nil {
				var some int64
				some, err = io.CopyN(io.Discard, r.Body, 32<<10)
				n += some
				time.Sleep(10 * time.Millisecond)
			}
			took <- n
		}()
		to, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer to.Close()
		to.(*net.TCPConn).SetWriteBuffer(32 << 10)
		var body io.Reader = bytes.NewReader(data)
		if moved {
			from, client := accepted(t)
			go client.Write(data) // ends with the body
			body = &watched{Reader: io.LimitReader(from, int64(len(data))), conn: from}
		}
		req, _ := http.NewRequest("PUT", "http://server/x", io.NopCloser(body))
		if moved {
			req.Body = body.(*watched)
		}
		req.ContentLength = int64(len(data))
		if short, err := upstream.Send(to, req, 150*time.Millisecond); short || err != nil {
			t.Errorf("moved %v: Send = %v, %v; want that the server took all", moved, short, err)
		}
		to.Close()
		if n := <-took; n != int64(len(data)) {
			t.Errorf("moved %v: the server took %d bytes, want %d", moved, n, len(data))
		}
		if w, is := body.(*watched); is && w.moved.Load() == 0 {
			t.Error("nothing was moved: nothing is shown")
		}
	}
}

// A connection that breaks is not the body's fault.
func TestSendToNobody(t *testing.T) {
	near, far := net.Pipe()
	far.Close()
	req := request(t, "PUT", "/x", "hello")
	if short, err := upstream.Send(near, req, 0); err == nil || short {
		t.Errorf("Send = %v, %v, want an error of the connection", short, err)
	}
	near, far = net.Pipe()
	if short, err := upstream.Send(near, req, time.Millisecond); err == nil || short {
		t.Errorf("Send to who takes nothing = %v, %v, want an error of the connection", short, err)
	}
	far.Close()
}

// Copy hands on what it reads, with small buffers and large ones, and holds none
// when it is over.
func TestCopy(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<17)
	broken := errors.New("broken")
	for _, sizes := range [][]byte{nil, {255}, {1}, {64, 64, 64, 64, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}} {
		for _, end := range []error{io.EOF, broken} {
			var out bytes.Buffer
			n, err := upstream.Copy(struct{ io.Writer }{&out}, &pieces{data: data, sizes: sizes, end: end})
			if n != int64(len(data)) || !bytes.Equal(out.Bytes(), data) || (end == io.EOF) != (err == nil) {
				t.Errorf("by %v, ending with %v: %d bytes, %v; want %d", sizes, end, n, err, len(data))
			}
		}
	}
	if _, err := upstream.Copy(brokenWriter{}, &pieces{data: data, end: io.EOF}); err == nil {
		t.Error("what cannot be written is no error")
	}
	if n := upstream.Large.Lent() + upstream.Small.Lent(); n != 0 {
		t.Errorf("%d buffers are still lent", n)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write(p []byte) (int, error) { return 0, errors.New("full") }

// largest notes the longest piece that it is written.
type largest int

func (l *largest) Write(p []byte) (int, error) {
	*l = max(*l, largest(len(p)))
	return len(p), nil
}

// Who is fast gets large buffers, as long as there are any.
func TestCopyGrows(t *testing.T) {
	data := make([]byte, 4<<20)
	var most largest
	upstream.Copy(&most, &pieces{data: data, end: io.EOF})
	if most != upstream.LargeSize {
		t.Errorf("the largest piece has %d bytes, want %d", most, upstream.LargeSize)
	}
	var all [][]byte
	for b := upstream.Large.Take(); b != nil; b = upstream.Large.Take() {
		all = append(all, b)
	}
	most = 0
	if n, err := upstream.Copy(&most, &pieces{data: data, end: io.EOF}); n != int64(len(data)) || err != nil || most >= upstream.LargeSize {
		t.Errorf("without large buffers: %d bytes, %v, the largest piece has %d", n, err, most)
	}
	for _, b := range all {
		upstream.Large.Give(b)
	}
	if len(all) != 32+64 || upstream.Large.Lent() != 0 {
		t.Errorf("there are %d large buffers, of which %d are still lent; want 96 and 0", len(all), upstream.Large.Lent())
	}
}

// No two hold the same buffer, and what was given back is lent again.
func TestBuffers(t *testing.T) {
	b := upstream.Buffers{Size: upstream.LargeSize, Most: 10}
	seen := map[*byte]bool{}
	var all [][]byte
	for range 10 {
		buffer := b.Take()
		if len(buffer) != upstream.LargeSize || seen[&buffer[0]] {
			t.Fatalf("Take returns %d bytes, seen before %v", len(buffer), seen[&buffer[0]])
		}
		seen[&buffer[0]] = true
		buffer[0], buffer[len(buffer)-1] = 1, 1
		all = append(all, buffer)
	}
	for _, buffer := range all {
		b.Give(buffer[:5])
	}
	b.Give(nil)
	b.Give(make([]byte, 16))
	if n := b.Lent(); n != 0 {
		t.Errorf("%d are lent after all were given back", n)
	}
	for range 10 {
		if buffer := b.Take(); !seen[&buffer[0]] || len(buffer) != upstream.LargeSize {
			t.Errorf("Take returns a new buffer, or one of %d bytes", len(buffer))
		}
	}
	if b.Take() != nil {
		t.Error("Take returns more than there may be")
	}
}
