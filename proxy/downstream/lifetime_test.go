package downstream_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/proxy/downstream"
	"github.com/countersign/countersign/proxy/upstream"
)

// Whoever waits on behalf of a client hears that it has left, whether it had sent a
// body or not, and nobody is left behind.
func TestClientLeaves(t *testing.T) {
	before := runtime.NumGoroutine()
	for _, test := range []struct{ name, request string }{
		{"without a body", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"},
		{"with one", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"},
		{"with chunks", "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
		{"within a body", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhell"},
		{"long after a body", "PUT /slow HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"},
	} {
		t.Run(test.name, func(t *testing.T) {
			heard := make(chan time.Time, 1)
			reading := make(chan struct{})
			address := answering(t, func(w http.ResponseWriter, r *http.Request) {
				close(reading)
				if r.URL.Path == "/slow" {
					time.Sleep(150 * time.Millisecond)
				}
				io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
				heard <- time.Now()
			})
			conn := dial(t, address)
			io.WriteString(conn, test.request)
			<-reading
			time.Sleep(80 * time.Millisecond)
			select {
			case <-heard:
				t.Fatal("the context has ended before the client left")
			default:
			}
			left := time.Now()
			conn.Close()
			select {
			case at := <-heard:
				if late := at.Sub(left); late > time.Second {
					t.Errorf("the context ends %v after the client has left", late)
				}
			case <-time.After(5 * time.Second):
				t.Error("the context does not end")
			}
		})
	}
	eventually(t, "all goroutines end", func() bool { return runtime.NumGoroutine() <= before })
}

// A request that takes long is answered, and the next one, which has come meanwhile,
// is no sign that the client has left.
func TestLongRequests(t *testing.T) {
	address := answering(t, func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		time.Sleep(120 * time.Millisecond)
		fmt.Fprint(w, r.Context().Err())
	})
	for _, together := range []bool{true, false} {
		conn := dial(t, address)
		in := bufio.NewReader(conn)
		const request = "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"
		if together {
			io.WriteString(conn, request)
			time.Sleep(80 * time.Millisecond) // it is watched
			io.WriteString(conn, request+request)
		}
		for range 3 {
			if !together {
				io.WriteString(conn, request)
			}
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(res.Body); string(body) != "<nil>" || err != nil {
				t.Errorf("the answer is %q, %v", body, err)
			}
		}
	}
}

// Nothing that bounds one thing ends another: not the time for the next request one
// that takes longer, and not the time for a body what comes behind it.
func TestDeadlinesEndWhatTheyAreFor(t *testing.T) {
	address := listen(t, &downstream.Server{ReadHeaderTimeout: 100 * time.Millisecond, IdleTimeout: 150 * time.Millisecond,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			control := http.NewResponseController(w)
			if r.URL.Path == "/own" {
				control.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
				control.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
			}
			_, err := io.Copy(io.Discard, r.Body)
			control.SetReadDeadline(time.Now().Add(-time.Second)) // too late to be for anything
			time.Sleep(300 * time.Millisecond)
			if r.URL.Path == "/own" {
				control.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
			}
			fmt.Fprint(w, err, r.Context().Err())
		})})
	conn := dial(t, address)
	in := bufio.NewReader(conn)
	for _, path := range []string{"/", "/own", "/"} {
		for _, body := range []string{"", "hello"} {
			fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body[:len(body)/2])
			if body != "" && path != "/own" {
				time.Sleep(250 * time.Millisecond) // longer than what else is waited for
			}
			io.WriteString(conn, body[len(body)/2:])
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatalf("%s %q: %v", path, body, err)
			}
			if text, err := io.ReadAll(res.Body); string(text) != "<nil> <nil>" || err != nil {
				t.Errorf("%s %q is answered %q, %v", path, body, text, err)
			}
		}
	}
}

// Who says nothing, or too slowly, is closed on. A line that breaks off is answered,
// as by http.Server.
func TestSlowClients(t *testing.T) {
	address := listen(t, &downstream.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: 200 * time.Millisecond, IdleTimeout: 400 * time.Millisecond})
	for _, test := range []struct {
		name, first, second string
		most                time.Duration
	}{
		{"nothing", "", "", 300 * time.Millisecond},
		{"half a head", "GET / HTTP", "", 300 * time.Millisecond},
		{"nothing more", next, "", 500 * time.Millisecond},
		{"half of the second", next, "GET / HTTP", 300 * time.Millisecond},
	} {
		conn := dial(t, address)
		in := bufio.NewReader(conn)
		io.WriteString(conn, test.first)
		if test.first == next {
			res, err := http.ReadResponse(in, nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
		}
		begin := time.Now()
		io.WriteString(conn, test.second)
		broken := strings.HasPrefix(test.name, "half")
		if text, err := io.ReadAll(in); len(text) > 0 && !(broken && bytes.HasPrefix(text, []byte("HTTP/1.1 400 "))) || err != nil {
			t.Errorf("%s: %q is answered, then %v", test.name, text, err)
		}
		if took := time.Since(begin); took < 150*time.Millisecond || took > test.most+time.Second {
			t.Errorf("%s: the connection ends after %v, want about %v", test.name, took, test.most)
		}
	}
}

// A panic is told of, but for the one that is meant, and ends one connection without
// an end to the answer.
func TestPanics(t *testing.T) {
	for _, test := range []struct {
		name string
		how  func()
		told bool
	}{
		{"a panic", func() { panic("the reason") }, true},
		{"an abort", func() { panic(http.ErrAbortHandler) }, false},
		{"an end", runtime.Goexit, false},
	} {
		var mu sync.Mutex
		var log bytes.Buffer
		gone := make(chan struct{}, 2)
		server := &downstream.Server{Log: func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			fmt.Fprintf(&log, format, args...)
		}, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			ctx := r.Context()
			go func() { // ends with the request
				<-ctx.Done()
				gone <- struct{}{}
			}()
			w.Header().Set("Content-Length", "100000")
			if r.URL.Path == "/within" {
				w.Write(make([]byte, 50000))
			}
			test.how()
		})}
		address := listen(t, server)
		for path, least := range map[string]int{"/": 0, "/within": 50000} {
			conn := dial(t, address)
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n%s", path, next)
			all, _ := io.ReadAll(conn)
			if len(all) < least || len(all) > least+1000 {
				t.Errorf("%s at %s: %d bytes are answered, want %d and a head", test.name, path, len(all), least)
			}
			<-gone
		}
		mu.Lock()
		if told := strings.Contains(log.String(), "panic") && strings.Contains(log.String(), "the reason") && strings.Contains(log.String(), "lifetime_test.go"); told != test.told {
			t.Errorf("after %s the log is %q", test.name, &log)
		}
		mu.Unlock()
		if err := server.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// What a handler leaves of a body is not taken for a request, and the answer arrives
// though the client is still sending.
func TestBodyThatIsLeft(t *testing.T) {
	for _, reads := range []int{0, 1, 100_000} {
		address := answering(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/next" {
				t.Error("what was left of a body is taken for a request")
			}
			io.ReadFull(r.Body, make([]byte, reads))
			r.Body.Close()
			if _, err := r.Body.Read(make([]byte, 1)); err != http.ErrBodyReadAfterClose {
				t.Errorf("after Close, Read = %v, want %v", err, http.ErrBodyReadAfterClose)
			}
			w.WriteHeader(http.StatusForbidden)
		})
		conn := dial(t, address)
		body := strings.Repeat(next, 20_000)
		go fmt.Fprintf(conn, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
		if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != 403 {
			t.Errorf("after %d bytes the answer is %v, %v; want 403", reads, res, err)
		}
	}
}

// A handler may return while another goroutine reads the body. What that reads is
// the body or nothing, and the connection ends.
func TestBodyIsReadWhileTheHandlerReturns(t *testing.T) {
	const size = 1 << 20
	data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	var readers sync.WaitGroup
	address := answering(t, func(w http.ResponseWriter, r *http.Request) {
		started := make(chan struct{})
		readers.Go(func() {
			control := http.NewResponseController(w)
			var got []byte
			for buffer := make([]byte, 1000); ; {
				control.SetReadDeadline(time.Now().Add(time.Minute))
				n, err := r.Body.Read(buffer)
				if got = append(got, buffer[:n]...); len(got) == n {
					close(started)
				}
				if err != nil {
					break
				}
			}
			if !bytes.HasPrefix(data, got) {
				t.Error("something else was read")
			}
		})
		<-started
		fmt.Fprint(w, "early")
	})
	var clients sync.WaitGroup
	for range 20 {
		conn := dial(t, address)
		clients.Go(func() {
			defer conn.Close()
			in := bufio.NewReader(conn)
			for range 10 {
				fmt.Fprintf(conn, "PUT / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", size)
				conn.Write(data[:size/2])
				time.Sleep(time.Millisecond)
				conn.Write(data[size/2:])
				if _, err := http.ReadResponse(in, nil); err != nil {
					return
				}
			}
		})
	}
	clients.Wait()
	readers.Wait()
}

// A handler may go on reading a body that another goroutine reads to its end; the
// request behind it is the next one.
func TestBodyIsReadByTwo(t *testing.T) {
	address := answering(t, func(w http.ResponseWriter, r *http.Request) {
		var both sync.WaitGroup
		both.Go(func() { io.Copy(io.Discard, r.Body) })
		io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, r.URL.Path)
		go func() { // ends at once
			both.Wait()
			r.Body.Read(make([]byte, 100))
		}()
	})
	conn := dial(t, address)
	in := bufio.NewReader(conn)
	for i := range 200 {
		fmt.Fprintf(conn, "PUT /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n%s", i, strings.Repeat("x", 10000))
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(res.Body); string(body) != fmt.Sprint("/", i) || err != nil {
			t.Fatalf("request %d is answered %q, %v", i, body, err)
		}
	}
}

// Requests carry the connection that they come by.
func TestRequestsKnowTheirConnection(t *testing.T) {
	address := answering(t, func(w http.ResponseWriter, r *http.Request) {
		if conn := upstream.ConnOf(r.Context()); conn == nil || conn.RemoteAddr().String() != r.RemoteAddr || r.TLS != nil {
			t.Errorf("the request comes by %v from %s", conn, r.RemoteAddr)
		}
	})
	said(t, address, next)
}

// A client that waits costs little: no buffer, and a small stack.
func TestIdleClientsHoldLittle(t *testing.T) {
	const clients = 500
	address := answering(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "5")
		io.WriteString(w, "hello")
	})
	heapBefore, stacksBefore := held()
	for range clients {
		conn := dial(t, address)
		io.WriteString(conn, next)
		if _, err := io.ReadFull(conn, make([]byte, 70)); err != nil {
			t.Fatal(err)
		}
	}
	// With what the test has of each client. The race detector makes stacks deeper.
	const mostHeap, mostStack = 4 << 10, 10 << 10
	var heap, stack int64
	for range 100 {
		heap, stack = held()
		heap, stack = (heap-heapBefore)/clients, (stack-stacksBefore)/clients
		if heap < mostHeap && stack < mostStack {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("a waiting client costs %d bytes and %d of a stack, want less than %d and %d", heap, stack, mostHeap, mostStack)
}

// held is what the heap and the stacks have after a collection.
func held() (heap, stacks int64) {
	runtime.GC()
	runtime.GC() // the first leaves what pools had
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc), int64(m.StackInuse)
}

// Empty lines behind a body are passed over, and are not the head that is waited for:
// who sends nothing else, or part of one, is closed on, however long the request took
// and whatever deadline its body had.
func TestEmptyLinesAreNoHead(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"a request that lasts": func(_ http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			time.Sleep(100 * time.Millisecond)
		},
		"a body with a deadline": func(w http.ResponseWriter, r *http.Request) {
			http.NewResponseController(w).SetReadDeadline(time.Now().Add(time.Hour))
			io.Copy(io.Discard, r.Body)
		},
	} {
		for _, behind := range []string{"\r\n\r\n", "\r\n\r\nGET / HT", "\r\n", "\n\n\n\n\r\n\r\n"} {
			s := &downstream.Server{Handler: handler, ReadHeaderTimeout: 200 * time.Millisecond, IdleTimeout: 200 * time.Millisecond}
			conn := dial(t, listen(t, s))
			io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n")
			time.Sleep(100 * time.Millisecond)
			io.WriteString(conn, "x"+behind)
			if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
				t.Fatal(err)
			}
			conn.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Errorf("%s, then %q: the connection is still open: %v", name, behind, err)
			}
		}
	}
}

// What was read ahead of a request does not hold a buffer while the next one is
// answered, or waited for.
func TestNothingIsHeldBetweenRequests(t *testing.T) {
	began, end := make(chan bool), make(chan bool)
	conn := dial(t, answering(t, func(_ http.ResponseWriter, r *http.Request) {
		if io.Copy(io.Discard, struct{ io.Reader }{r.Body}); r.Method == "GET" {
			began <- true
			<-end
		}
	}))
	body := strings.Repeat("400\r\n"+strings.Repeat("x", 1024)+"\r\n", 600) + "0\r\n\r\n"
	io.WriteString(conn, "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"+body+"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HT")
	<-began
	eventually(t, "nothing is lent while a request is answered", func() bool { return upstream.Ahead.Lent() == 0 })
	end <- true
	time.Sleep(50 * time.Millisecond)
	eventually(t, "nothing is lent while a head is waited for", func() bool { return upstream.Ahead.Lent() == 0 })
}
