package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/proxy"
)

// answers returns the statuses of all answers that come over a connection until
// the proxy closes it, and how it ends.
func answers(conn io.Reader) (statuses []int, end error) {
	in := bufio.NewReader(conn)
	for {
		if _, err := in.Peek(1); err != nil {
			return statuses, err
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			return statuses, err
		}
		io.Copy(io.Discard, res.Body)
		statuses = append(statuses, res.StatusCode)
	}
}

// What a client, or a load balancer that reads chunks in another way, sends
// behind a body that did not come to its end is not the next request; and nobody
// is waited for without a limit.
func TestConnectionEndsWithABodyThatDidNot(t *testing.T) {
	const next = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	tests := []struct {
		name, request string
		status        int
	}{
		{"a chunk that is none, before any look at the token", "POST /v2/images HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\nZZ\r\n" + next, 400},
		{"a chunk that is none, in an upload", "PUT /v2/images/{id}/file HTTP/1.1\r\nHost: x\r\nX-Auth-Token: " + tokenA + "\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\nZZ\r\n" + next, 400},
		{"a chunk that is none, in what nobody reads", "PUT /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\nZZ\r\n" + next, 404},
		{"a trailer that is none", "PUT /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx\r\n\r\n" + next, 404},
		{"lingered for, with a length", "PUT /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nx", 404},
		{"lingered for, chunked", "PUT /nowhere HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", 404},
		{"lingered for, HTTP/1.0", "PUT /nowhere HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 1000\r\n\r\nx", 404},
		{"stalled, with a length", "PUT /v2/images/{id}/file HTTP/1.1\r\nHost: x\r\nX-Auth-Token: " + tokenA + "\r\nContent-Length: 1000\r\n\r\nx", 400},
		{"stalled, chunked", "PUT /v2/images/{id}/file HTTP/1.1\r\nHost: x\r\nX-Auth-Token: " + tokenA + "\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n", 400},
		{"waits for 100 Continue", "PUT /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n", 404},
		{"waits for 100 Continue, HTTP/1.0", "PUT /nowhere HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n", 404},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newStage(t, func(c *proxy.Config) {
				c.LingerTimeout, c.StallTimeout = 100*time.Millisecond, 200*time.Millisecond
			})
			conn := s.dial()
			conn.SetDeadline(time.Now().Add(3 * time.Second)) // all that is waited for is over by then
			io.WriteString(conn, strings.ReplaceAll(test.request, "{id}", s.image("a", signed(t, []byte("other data")))))
			if got, end := answers(conn); len(got) != 1 || got[0] != test.status || end != io.EOF {
				t.Errorf("answers = %v, then %v; want %d alone, then EOF", got, end, test.status)
			}
		})
	}
}

// A client that was refused and has sent its body all the same goes on with the
// connection.
func TestConnectionOutlivesARefusal(t *testing.T) {
	for _, framing := range []string{"Content-Length: 1\r\n\r\nx", "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"} {
		s := newStage(t)
		conn := s.dial()
		io.WriteString(conn, "PUT /nowhere HTTP/1.1\r\nHost: x\r\n"+framing+"GET /versions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		if got, end := answers(conn); len(got) != 2 || got[0] != 404 || got[1] != 200 || end != io.EOF {
			t.Errorf("answers after %q = %v, then %v; want 404, 200, then EOF", framing, got, end)
		}
	}
}

// panics is a body that ends so after some bytes.
type panics struct{ left int }

func (b *panics) Read(p []byte) (int, error) {
	if b.left == 0 {
		panic("the reason")
	}
	n := min(len(p), b.left)
	b.left -= n
	return n, nil
}

// The data is read and judged where no handler catches a panic. One there ends
// its upload, and not the process.
func TestPanicWhileSendingEndsOneUpload(t *testing.T) {
	for _, token := range []string{tokenA, tokenB, tokenC} {
		s := newStage(t)
		id := s.image(strings.TrimPrefix(token, "token-"), signed(t, []byte("other data")))
		req := httptest.NewRequest("PUT", "/v2/images/"+id+"/file", &panics{faultSize})
		req.ContentLength = 2 * faultSize
		req.Header.Set("X-Auth-Token", token)
		answer := httptest.NewRecorder()
		s.proxy.ServeHTTP(answer, req)
		waitFor(t, func() bool { return s.glance.status(id) == "queued" })
		if answer.Code != 502 || !strings.Contains(s.log.String(), "the reason") || strings.Contains(answer.Body.String(), "the reason") {
			t.Errorf("with %s: answer = %d %s and the log is\n%s\nwant 502, and the reason in the log alone", token, answer.Code, answer.Body, s.log)
		}
	}
}

// ends ends the goroutine of whoever asks for a certificate, one way or another.
type ends struct{ how func() }

func (e ends) Certificate(context.Context, string, string, string) ([]byte, error) {
	e.how()
	return nil, nil
}

// An upload is admitted where no handler catches a panic either. Whatever ends
// there without an answer admits nothing.
func TestWhatEndsInAdmissionAdmitsNothing(t *testing.T) {
	for name, how := range map[string]func(){"panic": func() { panic("the reason") }, "Goexit": runtime.Goexit} {
		s := newStage(t, func(c *proxy.Config) { c.Certificates = ends{how} })
		data := []byte("data")
		id := s.image(strings.TrimPrefix(tokenA, "token-"), signed(t, data))
		req := httptest.NewRequest("PUT", "/v2/images/"+id+"/file", bytes.NewReader(data))
		req.Header.Set("X-Auth-Token", tokenA)
		s.glance.forget()
		func() {
			defer func() {
				if found := recover(); found == nil || name == "panic" && !strings.Contains(fmt.Sprint(found), "the reason") {
					t.Errorf("%s: the handler panics with %v", name, found)
				}
			}()
			s.proxy.ServeHTTP(httptest.NewRecorder(), req)
		}()
		if calls := s.glance.called("PUT"); s.glance.status(id) != "queued" || calls != 0 {
			t.Errorf("%s: the image is %s, and Glance has seen %d uploads", name, s.glance.status(id), calls)
		}
	}
}
