package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/proxy"
	"github.com/countersign/countersign/proxy/upstream"
	"github.com/countersign/countersign/signature"
)

// faultSize is some buffers beyond what is held back.
const faultSize = 300_000

// A way is how a connection ends.
type way struct {
	name string
	end  func(*net.TCPConn)
}

var ways = []way{
	{"FIN", func(c *net.TCPConn) { c.Close() }},
	{"RST", func(c *net.TCPConn) { c.SetLinger(0); c.Close() }},
}

// spoken is an upload as it goes over the wire: its head, and its body.
func spoken(id string, data []byte, chunked bool) (head, body []byte) {
	framing := fmt.Sprintf("Content-Length: %d", len(data))
	if chunked {
		framing = "Transfer-Encoding: chunked"
	}
	head = fmt.Appendf(nil, "PUT /v2/images/%s/file HTTP/1.1\r\nHost: x\r\nAccept: application/json\r\nX-Auth-Token: %s\r\nContent-Type: application/octet-stream\r\n%s\r\n\r\n", id, tokenA, framing)
	if !chunked {
		return head, data
	}
	for len(data) > 0 {
		n := min(len(data), 20_000)
		body = fmt.Appendf(body, "%x\r\n%s\r\n", n, data[:n])
		data = data[n:]
	}
	return head, append(body, "0\r\n\r\n"...)
}

// census is what an exchange, however it ends, has to give back.
type census struct{ goroutines, files, buffers int }

func (s *stage) count() census {
	s.t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		s.t.Fatal(err)
	}
	return census{runtime.NumGoroutine(), len(files), upstream.Large.Lent() + upstream.Ahead.Lent() + upstream.Small.Lent()}
}

// returns waits until no more is held than there was before. Connections that
// are kept for the next request are closed: they are not what is looked for.
func (s *stage) returns(t *testing.T, before census) {
	t.Helper()
	var now census
	waitFor(t, func() bool {
		http.DefaultClient.CloseIdleConnections()
		s.transport().CloseIdleConnections()
		runtime.GC() // package net keeps pipes for splice(2) until then
		now = s.count()
		return now.goroutines <= before.goroutines && now.files <= before.files && now.buffers <= before.buffers
	}, func() {
		stacks := make([]byte, 64<<10)
		t.Errorf("%+v are held, %+v were before:\n%s", now, before, stacks[:runtime.Stack(stacks, true)])
	})
}

func (s *stage) transport() *upstream.Client { return s.proxy.Transport.(*upstream.Client) }

// ended waits until the upload's event is written, which is when its handler
// returns.
func (s *stage) ended(t *testing.T, id string) {
	t.Helper()
	waitFor(t, func() bool { return lineAbout(s.log.String(), id+"/file") != "" }, func() { t.Error("the upload does not end") })
}

// tcp is a connection to the proxy.
func (s *stage) tcp() *net.TCPConn { return s.dial().(*net.TCPConn) }

// Wherever a client leaves, its image is queued, not deleted and takes the next
// upload, and nothing is held for it.
func TestClientCutsAnywhere(t *testing.T) {
	data := random(t, faultSize)
	properties := signed(t, data)
	places := []struct {
		name string
		at   func(head, body int) int
	}{
		{"in the head", func(head, body int) int { return head / 2 }},
		{"before the last byte of the head", func(head, body int) int { return head - 1 }},
		{"after the head", func(head, body int) int { return head }},
		{"after the first byte", func(head, body int) int { return head + 1 }},
		{"within what is held back from the start", func(head, body int) int { return head + signature.Tail }},
		{"in the middle", func(head, body int) int { return head + body/2 }},
		{"in the tail", func(head, body int) int { return head + body - 100 }},
		{"before the last byte", func(head, body int) int { return head + body - 1 }},
	}
	for _, chunked := range []bool{false, true} {
		for _, way := range ways {
			for _, place := range places {
				t.Run(fmt.Sprintf("%s/chunked=%v/%s", way.name, chunked, place.name), func(t *testing.T) {
					s := newStage(t)
					id := s.image("a", properties)
					before := s.count()
					conn := s.tcp()
					head, body := spoken(id, data, chunked)
					cut := place.at(len(head), len(body))
					conn.Write(append(head, body...)[:cut])
					heard := cut > len(head)+2*signature.Tail
					if heard {
						waitFor(t, func() bool { return s.glance.status(id) == "saving" })
					}
					way.end(conn)
					if heard || cut >= len(head) && way.name == "FIN" { // a reset may take the head along
						s.ended(t, id)
					}
					s.returns(t, before)
					if got := s.glance.status(id); got != "queued" || s.glance.called("DELETE") != 0 {
						t.Errorf("the image is %s after %d DELETEs, want queued after none", got, s.glance.called("DELETE"))
					}
					if status, text := s.upload(id, tokenA, data, chunked); status != 204 {
						t.Errorf("the next upload = %d %s, want 204", status, text)
					}
				})
			}
		}
	}
}

// A client that ends only its own half hears why its upload is none.
func TestClientEndsItsHalf(t *testing.T) {
	data := random(t, faultSize)
	properties := signed(t, data)
	for _, chunked := range []bool{false, true} {
		for _, missing := range []int{0, 1, 100, faultSize / 2, faultSize - 1} {
			s := newStage(t)
			id := s.image("a", properties)
			before := s.count()
			conn := s.tcp()
			head, body := spoken(id, data, chunked)
			conn.Write(append(head, body[:len(body)-missing]...))
			conn.CloseWrite()
			status, text := readAnswer(t, conn)
			wantStatus, wantReason, wantImage := 400, "upload_incomplete", "queued"
			if missing == 0 {
				wantStatus, wantReason, wantImage = 204, "", "active"
			}
			if status != wantStatus || reason(text) != wantReason {
				t.Errorf("chunked %v, %d bytes missing: answer = %d %s, want %d %s", chunked, missing, status, text, wantStatus, wantReason)
			}
			conn.Close()
			s.ended(t, id)
			s.returns(t, before)
			if got := s.glance.status(id); got != wantImage || s.glance.called("DELETE") != 0 {
				t.Errorf("chunked %v, %d bytes missing: the image is %s after %d DELETEs, want %s after none", chunked, missing, got, s.glance.called("DELETE"), wantImage)
			}
		}
	}
}

// readAnswer reads an answer that has to come.
func readAnswer(t *testing.T, conn net.Conn) (status int, body string) {
	t.Helper()
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("no answer: %v", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("answer %d: %v", res.StatusCode, err)
	}
	return res.StatusCode, string(text)
}

// A client that has sent everything and leaves has no say any more: what
// verified is active, what did not is gone, unless the reset took some of it
// away.
func TestClientLeavesBeforeTheAnswer(t *testing.T) {
	data := random(t, faultSize)
	properties := signed(t, data)
	for _, chunked := range []bool{false, true} {
		for _, way := range ways {
			for _, good := range []bool{true, false} {
				name := fmt.Sprintf("%s, chunked %v, good %v", way.name, chunked, good)
				s := newStage(t)
				id := s.image("a", properties)
				before := s.count()
				sent, want := data, "active"
				if !good {
					sent, want = flipped(data, faultSize-1), "gone"
				}
				conn := s.tcp()
				head, body := spoken(id, sent, chunked)
				conn.Write(append(head, body...))
				if way.name == "RST" {
					s.ended(t, id) // or the kernel throws away what is on the way
				}
				way.end(conn)
				s.ended(t, id)
				s.returns(t, before)
				if got := s.glance.status(id); got != want {
					t.Errorf("%s: the image is %s, want %s\n%s", name, got, want, s.log)
				}
				if good && (!bytes.Equal(s.glance.stored(id), data) || s.glance.called("DELETE") != 0) {
					t.Errorf("%s: Glance stored %d bytes and saw %d DELETEs, want %d and none", name, len(s.glance.stored(id)), s.glance.called("DELETE"), len(data))
				}
			}
		}
	}
}

// front stands before the fake Glance and plays the connection of every upload
// itself; all other connections reach the fake.
type front struct {
	net.Listener
	play func(*exchange)
}

// exchange is one upload as Glance's end of the connection has it.
type exchange struct {
	conn *net.TCPConn
	body io.Reader
	head *http.Request
}

// take reads n bytes of the body, and reports whether there were as many.
func (e *exchange) take(n int) bool {
	_, err := io.CopyN(io.Discard, e.body, int64(n))
	return err == nil
}

// say writes an answer of an HTTP server that closes afterwards.
func (e *exchange) say(answer string) { io.WriteString(e.conn, answer) }

// newFronted is newStage with play in Glance's place for uploads. An upload
// makes the image saving when it begins, and queued again when play returns
// unless play has changed it.
func newFronted(t *testing.T, play func(s *stage, id string, e *exchange), change ...func(*proxy.Config)) *stage {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	f := &front{Listener: listener}
	at, _ := url.Parse("http://" + listener.Addr().String())
	var s *stage
	ready := make(chan struct{})
	var target string
	f.play = func(e *exchange) {
		id := strings.Split(e.head.URL.Path, "/")[3]
		s.glance.mu.Lock()
		img := s.glance.images[id]
		s.glance.begun++
		s.glance.mu.Unlock()
		s.glance.set(img, "status", "saving")
		play(s, id, e)
		s.glance.mu.Lock()
		defer s.glance.mu.Unlock()
		if img["status"] == "saving" {
			img["status"] = "queued"
		}
	}
	go func() { // ends with the listener
		<-ready
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go f.serve(conn.(*net.TCPConn), target)
		}
	}()
	s = newStage(t, append(change, func(c *proxy.Config) {
		target = c.Glance.Host
		c.Glance = at
		close(ready)
	})...)
	return s
}

// serve ends when either side has.
func (f *front) serve(conn *net.TCPConn, target string) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	if method, err := in.Peek(4); err != nil || string(method) == "PUT " {
		if head, err := http.ReadRequest(in); err == nil {
			f.play(&exchange{conn, head.Body, head})
		}
		return
	}
	server, err := net.Dial("tcp", target)
	if err != nil {
		return
	}
	go func() {
		io.Copy(server, in)
		server.Close()
	}()
	io.Copy(conn, server)
}

// upstreamFaults are what Glance, or the way to it, may do to an upload whose
// data is good.
var upstreamFaults = []struct {
	name   string
	play   func(*stage, string, *exchange, way)
	status int
	reason string
	image  string
}{
	{"cut after the head", func(s *stage, id string, e *exchange, w way) { w.end(e.conn) }, 502, "glance_broke_off", "queued"},
	{"cut after the first byte", func(s *stage, id string, e *exchange, w way) { e.take(1); w.end(e.conn) }, 502, "glance_broke_off", "queued"},
	{"cut in the middle", func(s *stage, id string, e *exchange, w way) { e.take(faultSize / 2); w.end(e.conn) }, 502, "glance_broke_off", "queued"},
	{"cut before the verdict", func(s *stage, id string, e *exchange, w way) { e.take(faultSize - signature.Tail); w.end(e.conn) }, 502, "glance_broke_off", "queued"},
	{"cut after the verdict", func(s *stage, id string, e *exchange, w way) { e.take(faultSize - 1); w.end(e.conn) }, 502, "glance_broke_off", "queued"},
	{"cut before the answer", func(s *stage, id string, e *exchange, w way) { io.Copy(io.Discard, e.body); w.end(e.conn) }, 502, "glance_broke_off", "queued"},
	{"active, and cut before the answer", func(s *stage, id string, e *exchange, w way) {
		io.Copy(io.Discard, e.body)
		s.glance.activate(id, faultSize)
		w.end(e.conn)
	}, 502, "glance_broke_off", "active"},
	{"cut in the answer's first line", func(s *stage, id string, e *exchange, w way) {
		io.Copy(io.Discard, e.body)
		e.say("HTTP/1.1 20")
		w.end(e.conn)
	}, 502, "glance_broke_off", "queued"},
	{"cut in the answer's head", func(s *stage, id string, e *exchange, w way) {
		io.Copy(io.Discard, e.body)
		s.glance.activate(id, faultSize)
		e.say("HTTP/1.1 204 No Content\r\nX-Openstack-Req")
		w.end(e.conn)
	}, 502, "glance_broke_off", "active"},
	{"no HTTP", func(s *stage, id string, e *exchange, w way) {
		io.Copy(io.Discard, e.body)
		e.say("what is this\r\n\r\n")
		w.end(e.conn)
	}, 502, "glance_broke_off", "queued"},
	{"2xx before the data", func(s *stage, id string, e *exchange, w way) {
		s.glance.activate(id, 0)
		e.say("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
		w.end(e.conn)
	}, 502, "answered_before_verdict", "gone"},
	{"2xx in the middle", func(s *stage, id string, e *exchange, w way) {
		e.take(faultSize / 2)
		s.glance.activate(id, faultSize/2)
		e.say("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
		w.end(e.conn)
	}, 502, "answered_before_verdict", "gone"},
	{"2xx for less than was sent", func(s *stage, id string, e *exchange, w way) {
		io.Copy(io.Discard, e.body)
		s.glance.activate(id, faultSize-1)
		e.say("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
		w.end(e.conn)
	}, 409, "changed_during_upload", "gone"},
	{"2xx, and still queued", func(s *stage, id string, e *exchange, w way) {
		io.Copy(io.Discard, e.body)
		s.glance.restore(id)
		e.say("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
		w.end(e.conn)
	}, 409, "changed_during_upload", "gone"},
}

// activate is what Glance does at the end of an upload.
func (g *fakeGlance) activate(id string, size int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.images[id]["status"], g.images[id]["size"] = "active", size
}

// restore is what Glance does when an upload breaks off.
func (g *fakeGlance) restore(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.images[id]["status"] = "queued"
}

// However Glance's end breaks, the client hears of it, nothing that was not
// verified is active, and nothing that was is deleted.
func TestUpstreamFaults(t *testing.T) {
	data := random(t, faultSize)
	properties := signed(t, data)
	for _, fault := range upstreamFaults {
		for _, way := range ways {
			for _, chunked := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/chunked=%v", fault.name, way.name, chunked), func(t *testing.T) {
					if way.name == "RST" && strings.HasPrefix(fault.name, "2xx") {
						way = ways[0] // a reset may overtake the answer: TestEarlyAnswers looks at that
					}
					s := newFronted(t, func(s *stage, id string, e *exchange) { fault.play(s, id, e, way) })
					id := s.image("a", properties)
					before := s.count()
					conn := s.tcp()
					head, body := spoken(id, data, chunked)
					if fault.reason == "answered_before_verdict" {
						body = body[:len(body)-1]
					}
					conn.Write(append(head, body...))
					status, text := readAnswer(t, conn)
					if status != fault.status || reason(text) != fault.reason {
						t.Errorf("upload = %d %s, want %d %s", status, text, fault.status, fault.reason)
					}
					conn.Close()
					s.ended(t, id)
					if got := s.glance.status(id); got != fault.image {
						t.Errorf("the image is %s, want %s", got, fault.image)
					}
					if n := s.glance.called("DELETE"); n != 0 && fault.image != "gone" {
						t.Errorf("Glance saw %d DELETEs, want none", n)
					}
					s.returns(t, before)
				})
			}
		}
	}
}

// Glance under uWSGI answers before it has read the data and resets the
// connection. The client gets that answer, whether it is still sending or has
// gone silent.
func TestEarlyAnswers(t *testing.T) {
	const megabytes = 8 << 20 // more than all the buffers on the way take
	data := random(t, megabytes)
	properties := signed(t, data)
	for _, test := range []struct {
		name    string
		sent    int // of the body; the client is silent then, and waits for the whole answer
		chunked bool
		way     way
	}{
		{"sending, by length", megabytes, false, ways[0]},
		{"sending, by length, reset", megabytes, false, ways[1]},
		{"sending, chunked", 2 * megabytes, true, ways[0]},
		{"sending, chunked, reset", 2 * megabytes, true, ways[1]},
		{"silent, by length", 200_000, false, ways[0]},
		{"silent, by length, reset", 200_000, false, ways[1]},
		{"silent, chunked", 200_000, true, ways[0]},
		{"silent, chunked, reset", 200_000, true, ways[1]},
	} {
		code := http.StatusConflict
		s := newFronted(t, func(s *stage, id string, e *exchange) {
			e.take(1000)
			e.say(fmt.Sprintf("HTTP/1.1 %d Early\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nGlance says so", code))
			test.way.end(e.conn) // what lies unread makes a close a reset, too
		}, func(c *proxy.Config) { c.LingerTimeout = time.Hour })
		for _, code = range []int{401, 403, 409, 410, 413, 415, 500, 503} {
			id := s.image("a", properties)
			before := s.count()
			conn := s.tcp()
			head, body := spoken(id, data, test.chunked)
			conn.Write(append(head, body[:min(test.sent, len(body))]...))
			if status, text := readAnswer(t, conn); status != code || text != "Glance says so" {
				t.Errorf("%s: upload = %d %q, want Glance's %d", test.name, status, text, code)
			}
			conn.Close()
			s.ended(t, id)
			s.returns(t, before)
			if got := s.glance.status(id); got != "queued" || s.glance.called("DELETE") != 0 {
				t.Errorf("%s, %d: the image is %s after %d DELETEs, want queued after none", test.name, code, got, s.glance.called("DELETE"))
			}
		}
	}
}

// What Glance says to the proxy's own look reaches the client whole, while the
// client has sent nothing yet and the proxy would let it go on for long.
func TestGlancesNoIsWhole(t *testing.T) {
	s := newStage(t, func(c *proxy.Config) { c.LingerTimeout = time.Hour })
	for _, chunked := range []bool{false, true} {
		conn := s.tcp()
		head, _ := spoken("00000000-0000-0000-0000-000000000000", make([]byte, faultSize), chunked)
		conn.Write(head)
		if status, text := readAnswer(t, conn); status != 404 || !strings.Contains(text, "No image found") {
			t.Errorf("upload to no image, chunked %v = %d %q, want Glance's 404", chunked, status, text)
		}
		conn.Close()
	}
}

// An answer whose text breaks off has still told what became of the upload.
func TestAnswerBreaksOff(t *testing.T) {
	data := random(t, faultSize)
	for _, way := range ways {
		s := newFronted(t, func(s *stage, id string, e *exchange) {
			io.Copy(io.Discard, e.body)
			e.say("HTTP/1.1 413 Too Large\r\nContent-Type: text/plain\r\nContent-Length: 1000\r\n\r\ntoo la")
			time.Sleep(20 * time.Millisecond) // a reset overtakes what has not been read
			way.end(e.conn)
		})
		id := s.image("a", signed(t, data))
		before := s.count()
		conn := s.tcp()
		head, body := spoken(id, data, false)
		conn.Write(append(head, body...))
		if status, text := readAnswer(t, conn); status != 413 || text != "too la" {
			t.Errorf("%s: upload = %d %q, want 413 with what there was", way.name, status, text)
		}
		conn.Close()
		s.returns(t, before)
	}
}

// Glance that takes a body that was cut for a whole one has made an image
// active that nobody verified: it is taken back.
func TestGlanceTakesACutBodyForAWholeOne(t *testing.T) {
	data := random(t, faultSize)
	properties := signed(t, data)
	for _, chunked := range []bool{false, true} {
		s := newFronted(t, func(s *stage, id string, e *exchange) {
			n, _ := io.Copy(io.Discard, e.body)
			s.glance.activate(id, int(n))
			e.say("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
		})
		id := s.image("a", properties)
		status, text := s.upload(id, tokenA, flipped(data, 3), chunked)
		if status != 502 || reason(text) != "answered_before_verdict" {
			t.Errorf("bad upload, chunked %v = %d %s, want 502 answered_before_verdict", chunked, status, text)
		}
		if got := s.glance.status(id); got != "gone" {
			t.Errorf("after a bad upload, chunked %v, the image is %s, want gone", chunked, got)
		}

		id = s.image("a", properties)
		conn := s.tcp()
		head, body := spoken(id, data, chunked)
		conn.Write(append(head, body[:len(body)/2]...))
		waitFor(t, func() bool { return s.glance.status(id) == "saving" })
		conn.Close()
		s.ended(t, id)
		if got := s.glance.status(id); got != "gone" {
			t.Errorf("after half an upload, chunked %v, the image is %s, want gone", chunked, got)
		}
	}
}

// The same from a Glance that says nothing: what may be the cut body is taken
// out of use, and what another upload has made of the image is left alone.
func TestGlanceTakesACutBodyAndSaysNothing(t *testing.T) {
	data := random(t, faultSize)
	for name, test := range map[string]struct {
		size int // of the active image; zero is what was handed
		want string
	}{
		"of the size that was handed": {0, "deactivated"},
		"larger":                      {faultSize, "active"},
	} {
		s := newFronted(t, func(s *stage, id string, e *exchange) {
			n, _ := io.Copy(io.Discard, e.body)
			s.glance.activate(id, max(int(n), test.size))
		})
		id := s.image("a", signed(t, data))
		if status, text := s.upload(id, tokenA, flipped(data, 3), false); status != 400 || reason(text) != "signature_mismatch" {
			t.Errorf("%s: bad upload = %d %s, want 400 signature_mismatch", name, status, text)
		}
		if got := s.glance.status(id); got != test.want {
			t.Errorf("%s: the image is %s, want %s", name, got, test.want)
		}
	}
}

// An answer that never comes is waited for as long as the client waits, and not
// much longer.
func TestAnswerNeverComes(t *testing.T) {
	data := random(t, faultSize)
	properties := signed(t, data)
	for name, take := range map[string]int{"after the head": 0, "in the middle": faultSize / 2, "when all is sent": faultSize} {
		for _, chunked := range []bool{false, true} {
			for _, way := range ways {
				reached, forgotten := make(chan struct{}), make(chan struct{})
				s := newFronted(t, func(s *stage, id string, e *exchange) {
					e.take(take)
					close(reached)
					io.Copy(io.Discard, e.conn) // until the other end has gone
					close(forgotten)
				}, func(c *proxy.Config) { c.SettleTimeout = 200 * time.Millisecond })
				id := s.image("a", properties)
				before := s.count()
				conn := s.tcp()
				head, body := spoken(id, data, chunked)
				conn.Write(append(head, body...))
				<-reached
				select {
				case <-forgotten:
					t.Errorf("%s, %s, chunked %v: Glance's answer is not waited for", name, way.name, chunked)
				case <-time.After(50 * time.Millisecond):
				}
				way.end(conn)
				<-forgotten
				s.ended(t, id)
				s.returns(t, before)
				if got := s.glance.status(id); got != "queued" || s.glance.called("DELETE") != 0 {
					t.Errorf("%s, %s, chunked %v: the image is %s after %d DELETEs, want queued after none", name, way.name, chunked, got, s.glance.called("DELETE"))
				}
			}
		}
	}
}

// Glance that reads no more holds the client back, and lets go of it with its
// connection.
func TestGlanceStopsReading(t *testing.T) {
	const megabytes = 16 << 20
	data := random(t, megabytes)
	properties := signed(t, data)
	for _, way := range ways {
		stop := make(chan struct{})
		s := newFronted(t, func(s *stage, id string, e *exchange) {
			e.take(100_000)
			<-stop
			way.end(e.conn)
		})
		id := s.image("a", properties)
		before := s.count()
		conn := s.tcp()
		head, body := spoken(id, data, false)
		sent := make(chan struct{})
		go func() { // ends when the proxy reads again
			conn.Write(append(head, body...))
			close(sent)
		}()
		waitFor(t, func() bool { return s.glance.status(id) == "saving" })
		select {
		case <-sent:
			t.Errorf("%s: %d bytes were taken from the client that Glance does not read", way.name, megabytes)
		case <-time.After(100 * time.Millisecond):
		}
		close(stop)
		if status, text := readAnswer(t, conn); status != 502 || reason(text) != "glance_broke_off" {
			t.Errorf("%s: upload = %d %s, want 502 glance_broke_off", way.name, status, text)
		}
		<-sent
		conn.Close()
		s.ended(t, id)
		s.returns(t, before)
	}
}

// Glance that reads no more, and keeps its connection, is given up on, also where
// the client has left, which nobody can see while nothing is read of it.
func TestGlanceStopsReadingForGood(t *testing.T) {
	data := random(t, 16<<20)
	properties := signed(t, data)
	for _, leave := range []bool{false, true} {
		s := newFronted(t, func(s *stage, id string, e *exchange) {
			e.take(100_000)
			<-t.Context().Done()
		}, func(c *proxy.Config) { c.StallTimeout, c.SettleTimeout = 300*time.Millisecond, 100*time.Millisecond })
		id := s.image("a", properties)
		conn := s.tcp()
		head, body := spoken(id, data, false)
		go conn.Write(append(head, body...)) // ends with the connection
		waitFor(t, func() bool { return s.glance.status(id) == "saving" })
		if leave {
			conn.Close()
		} else if status, text := readAnswer(t, conn); status != 502 || reason(text) != "glance_broke_off" {
			t.Errorf("upload = %d %s, want 502 glance_broke_off", status, text)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second) // an answer may be on its way for some
		if err := s.proxy.Wait(ctx); err != nil {
			t.Errorf("client left %v: the upload does not end", leave)
		}
		cancel()
	}
}

// Glance goes away between the look at the image and the upload.
func TestGlanceGoesAwayAfterTheLook(t *testing.T) {
	s := newStage(t)
	data := random(t, faultSize)
	id := s.image("a", signed(t, data))
	dead, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	c := s.proxy.Config
	c.Dial = func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", dead.Addr().String())
	}
	s.proxy = proxy.New(c)
	if err := s.proxy.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.proxy.ProbeReceipts(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.glance.forget()
	s.server.Config.Handler = s.proxy
	if status, text := s.upload(id, tokenA, data, false); status != 502 {
		t.Errorf("upload = %d %s, want 502", status, text)
	}
	if got := s.glance.status(id); got != "queued" || s.glance.called("DELETE") != 0 {
		t.Errorf("the image is %s after %d DELETEs, want queued after none", got, s.glance.called("DELETE"))
	}
}

// What a slow client has sent goes on at once, also over a connection that cannot
// read from a body by itself, as one through TLS cannot.
func TestSlowDataGoesOnAtOnce(t *testing.T) {
	s := newStage(t)
	arrived := make(chan struct{})
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == "PUT" {
			r.Body.Read(make([]byte, 1))
			close(arrived)
			io.Copy(io.Discard, r.Body)
			return true
		}
		return false
	}
	c, dial := s.proxy.Config, s.proxy.Config.Dial
	c.Dial = func(ctx context.Context) (net.Conn, error) {
		conn, err := dial(ctx)
		return struct{ net.Conn }{conn}, err
	}
	slow := proxy.New(c)
	if err := slow.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	server := serveProxy(t, slow)
	data := random(t, 100_000)
	id := s.image("a", signed(t, data))
	body, writes := io.Pipe()
	req, err := http.NewRequest("PUT", server.URL+"/v2/images/"+id+"/file", body)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = int64(len(data))
	req.Header = http.Header{"X-Auth-Token": {tokenA}, "Content-Type": {"application/octet-stream"}}
	answered := make(chan error)
	go func() {
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Close()
		}
		answered <- err
	}()
	writes.Write(data[:signature.Tail+1000])
	select {
	case <-arrived:
	case <-time.After(5 * time.Second):
		t.Error("what was read beyond the tail has not gone on to Glance")
	}
	writes.CloseWithError(io.ErrUnexpectedEOF)
	<-answered
}
