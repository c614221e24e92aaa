package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/proxy"
)

// FuzzFraming sends an upload whose framing is up to the fuzzer, and compares
// what Glance is sent with what net/http makes of what the client sent: Glance
// gets a whole body only if the client's was whole, and then the same one, in a
// framing that has one reading. Project c is off, so nothing but framing decides.
func FuzzFraming(f *testing.F) {
	f.Add("Content-Length: 5", []byte("hello"))
	f.Add("Content-Length: 9", []byte("hello"))
	f.Add("Content-Length: 3", []byte("hello"))
	f.Add("Content-Length: +5", []byte("hello"))
	f.Add("Content-Length: 5\r\nContent-Length: 6", []byte("hello!"))
	f.Add("Transfer-Encoding: chunked", []byte("5\r\nhello\r\n0\r\n\r\n"))
	f.Add("Transfer-Encoding: chunked", []byte("5\r\nhello\r\n"))
	f.Add("Transfer-Encoding: chunked", []byte("5\r\nhello\r\nZZ\r\n"))
	f.Add("Transfer-Encoding: chunked", []byte("5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n"))
	f.Add("Transfer-Encoding: chunked", []byte("5\nhello\n0\n\n"))
	f.Add("Transfer-Encoding: chunked\r\nContent-Length: 5", []byte("0\r\n\r\nhello"))
	f.Add("Transfer-Encoding: gzip, chunked", []byte("0\r\n\r\n"))
	f.Add("transfer-encoding:\tchunked", []byte("05\r\nhello\r\n00\r\n\r\n"))
	f.Add("X: y", []byte("GET / HTTP/1.1\r\n\r\n"))

	s, upstream := newFramingStage(f)
	f.Fuzz(func(t *testing.T, header string, body []byte) {
		if strings.Contains(header, "\r\n\r\n") || strings.Contains(header, "\n\n") || len(body) > 1<<16 {
			return // the head ends where the test says
		}
		id := s.image("c", nil)
		head := fmt.Sprintf("PUT /v2/images/%s/file HTTP/1.1\r\nHost: x\r\nX-Auth-Token: %s\r\nContent-Type: application/octet-stream\r\nConnection: close\r\n%s\r\n\r\n", id, tokenC, header)

		want, whole := readBody(head, body)
		upstream.forget()
		conn, err := net.Dial("tcp", s.server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		go func() { // ends with the connection
			conn.Write(append([]byte(head), body...))
			if !whole { // who waits for more is told that there is none
				conn.(*net.TCPConn).CloseWrite()
			}
		}()
		io.Copy(io.Discard, conn)

		arrived := 0
		for _, sent := range upstream.uploads() {
			if !bytes.Contains(sent, []byte(id)) {
				continue // of the input before, whose connection came late
			}
			got, complete, err := readUpload(sent)
			if complete {
				arrived++
			}
			switch {
			case err != nil:
				t.Errorf("Glance is sent what net/http cannot read: %v\n%q", err, sent)
			case complete && !whole:
				t.Errorf("Glance is sent a whole body of %d bytes, where the client's was none", len(got))
			case complete && !bytes.Equal(got, want):
				t.Errorf("Glance is sent %q, the client sent %q", got, want)
			case !bytes.HasPrefix(want, got):
				t.Errorf("Glance is sent %q, which is not how %q begins; on the wire %q", got, want, sent)
			}
		}
		if header == "Content-Length: 5" && string(body) == "hello" && arrived != 1 {
			t.Errorf("a plain upload arrived %d times, want once: nothing is shown", arrived)
		}
	})
}

// newFramingStage is a stage whose uploads pass a relay that keeps them.
func newFramingStage(f *testing.F) (*stage, *wire) {
	glance := newFakeGlance(f)
	upstream := newWire(f, glance.Listener.Addr().String())
	base, _ := url.Parse("http://" + upstream.Addr().String())
	s := newStage(f, func(c *proxy.Config) { c.Glance = base; c.LingerTimeout = time.Millisecond })
	s.glance = glance
	return s, upstream
}

// readBody is what net/http's server would make of a request, and whether its
// body came to its end.
func readBody(head string, body []byte) (data []byte, whole bool) {
	req, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(head), bytes.NewReader(body))))
	if err != nil {
		return nil, false
	}
	data, err = io.ReadAll(req.Body)
	return data, err == nil
}

// readUpload reads what went over the wire to Glance.
func readUpload(sent []byte) (data []byte, complete bool, err error) {
	req, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(sent)))
	if err != nil {
		return nil, false, err
	}
	if len(req.TransferEncoding) > 0 && req.Header.Get("Content-Length") != "" {
		return nil, false, fmt.Errorf("both framings")
	}
	data, err = io.ReadAll(req.Body)
	return data, err == nil, nil
}
