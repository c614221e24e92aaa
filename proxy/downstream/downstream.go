// Package downstream serves HTTP/1.1 to clients over plain TCP connections that it
// owns.
//
// It is http.Server without what a proxy pays for and does not need: no goroutine
// for a request beside the connection's own, so that a small one costs no hand-over
// between threads; one read and one write for each; and no buffer for a client that
// is waited for. Clients through TLS stay with http.Server.
//
// Why it is safe:
//
//   - Heads are parsed by net/http's own codec (ReadRequest), and bodies are framed
//     by what it returns, whose end is the next request's beginning. What net/http's
//     server looks at beyond that is looked at here (head.go), and a fuzz test holds
//     both to the same answers on the same bytes, the same requests understood and
//     the same end of the connection.
//   - A request is the first of a connection, or the one before it was read to its
//     very end without an error and answered whole. All else closes the connection.
//   - Nothing here reads a body: what the handler leaves of it is passed over only
//     when the connection has been closed to the client. A goroutine of the handler's
//     may still be reading when the handler returns. Then the connection ends, what
//     it reads is the body without a gap, or an error, and what it reads through is
//     given to nobody else.
//   - The head of an answer is written by net/http's codec (Header.WriteSubset). Its
//     framing is decided here and is one of the two, Content-Length or chunks, or the
//     connection's end; the handler's own Transfer-Encoding and Connection are not
//     repeated. No more goes out than the length that was said, and after less of it
//     the connection ends.
//   - One goroutine belongs to a connection. A second one waits for a client that
//     leaves while a request takes long, and the request ends it (watch.go).
//   - Whoever sends a request slowly, or none, is bounded by ReadHeaderTimeout and
//     IdleTimeout, and a head by MaxHeaderBytes. A body's pace is the handler's to
//     bound, by http.ResponseController.
//
// It refuses what http.Server refuses, and what that lets pass in three places: an
// empty Host, an Expect that is a list, and a head of more than 4 KiB whose request
// line names a host. It knows no TLS, HTTP/2, Hijack, trailers or interim answers
// but 100, and guesses no Content-Type.
package downstream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// Server serves connections. It is used by pointer, and not again once it was shut
// down or closed.
type Server struct {
	// Handler answers requests. Its ResponseWriter has, for a handler that wants the
	// connection closed behind the answer, a method CloseAfter().
	Handler http.Handler

	// ReadHeaderTimeout is how long a request's head may take, from its first byte,
	// or from the connection's beginning if it is the first. Zero: as long as it likes.
	ReadHeaderTimeout time.Duration

	// IdleTimeout is how long a connection is kept without a request, give or take a
	// tenth. Zero: as long as the client likes.
	IdleTimeout time.Duration

	// MaxHeaderBytes bounds a head, give or take 4 KiB. Zero: a megabyte.
	MaxHeaderBytes int

	// Log is told of panics, and of handlers' mistakes. Nil: nobody is.
	Log func(format string, args ...any)

	closing atomic.Bool

	mu        sync.Mutex // guards what follows
	listeners []net.Listener
	conns     map[*conn]struct{}
}

// Serve answers those who connect to l, until it fails or the server is shut down or
// closed, which is http.ErrServerClosed. It closes l.
func (s *Server) Serve(l net.Listener) error {
	defer l.Close()
	if !s.listen(l) {
		return http.ErrServerClosed
	}
	var delay time.Duration
	for {
		accepted, err := l.Accept()
		var passing interface{ Temporary() bool }
		switch {
		case err == nil:
			delay = 0
			if c := newConn(s, accepted); s.track(c) {
				go c.serve() // ends with the connection
			} else {
				accepted.Close()
			}
		case s.closing.Load():
			return http.ErrServerClosed
		case errors.As(err, &passing) && passing.Temporary(): // too many open files
			delay = min(max(2*delay, 5*time.Millisecond), time.Second)
			s.logf("downstream: accepting: %v; again in %v", err, delay)
			time.Sleep(delay)
		default:
			return err
		}
	}
}

// listen notes a listener, unless it comes too late.
func (s *Server) listen(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return false
	}
	s.listeners = append(s.listeners, l)
	return true
}

// track notes a connection, unless it comes too late.
func (s *Server) track(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing.Load() {
		return false
	}
	if s.conns == nil {
		s.conns = make(map[*conn]struct{})
	}
	s.conns[c] = struct{}{}
	return true
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Shutdown accepts nobody any more, closes the connections that wait for a request,
// and returns when the others have ended, or with ctx's error when that ends first.
// Answers on the way say that the connection ends with them.
func (s *Server) Shutdown(ctx context.Context) error {
	err := s.stop()
	pause := time.Millisecond
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for !s.closeIdle() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			pause = min(2*pause, 500*time.Millisecond)
			timer.Reset(pause)
		}
	}
	return err
}

// Close accepts nobody any more and cuts all connections.
func (s *Server) Close() error {
	err := s.stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		c.Conn.Close()
		delete(s.conns, c)
	}
	return err
}

// stop closes the listeners. Nothing is tracked afterwards.
func (s *Server) stop() (err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing.Store(true)
	for _, l := range s.listeners {
		if failed := l.Close(); failed != nil && !errors.Is(failed, net.ErrClosed) && err == nil {
			err = failed
		}
	}
	return err
}

// closeIdle closes what waits for a request, and reports whether nothing is left.
func (s *Server) closeIdle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.claim() {
			c.Conn.Close()
			delete(s.conns, c)
		}
	}
	return len(s.conns) == 0
}

func (s *Server) logf(format string, args ...any) {
	if s.Log != nil {
		s.Log(format, args...)
	}
}
