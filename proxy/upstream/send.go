package upstream

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"time"
)

// Send writes a request with a body of any length, which it does not close, and
// tells the server that it is the connection's last one. What
// is read of the body is sent at once, whether it is much or little, so that a slow
// client is no silence to the server. The server may take nothing for as long as
// stall; zero: for ever.
//
// If the body ends with an error, or too soon, short is true and nothing more is
// written: what was sent is incomplete, less than its length or without the last
// chunk. The body's end is always read, and seen before a last chunk is written,
// since it may be a verdict.
func Send(conn net.Conn, req *http.Request, stall time.Duration) (short bool, err error) {
	out := &sender{conn: conn, stall: stall, left: req.ContentLength}
	out.socket = newSocket(conn)
	if out.left == 0 {
		out.left = -1 // a body of which nobody has said that it is empty
	}
	if err := out.begin(req); err != nil || req.Body == nil || req.Body == http.NoBody {
		return false, err
	}
	if _, err := Copy(out, req.Body); err != nil {
		return out.err == nil, err
	}
	switch {
	case out.left < 0:
		return false, out.raw(append(out.head(0), "\r\n"...))
	case out.left > 0:
		return true, fmt.Errorf("the body is %d bytes shorter than was said", out.left)
	}
	return false, nil
}

// begin sends all of a request but its body.
func (s *sender) begin(req *http.Request) error {
	var text bytes.Buffer
	if req.Body != nil && req.Body != http.NoBody {
		if err := writeHead(&text, req, s.left); err != nil {
			return err
		}
		return s.raw(text.Bytes())
	}
	last := *req
	last.Close = true
	if err := last.Write(&text); err != nil {
		return err
	}
	return s.raw(text.Bytes())
}

// writeHead writes what net/http writes of a request before it asks the body for
// its first byte. A negative length stands for chunks.
func writeHead(to *bytes.Buffer, req *http.Request, length int64) error {
	bare, body := *req, new(unread)
	bare.Close = true
	bare.Body, bare.GetBody, bare.ContentLength, bare.TransferEncoding, bare.Trailer = body, nil, length, nil, nil
	if length < 0 {
		bare.TransferEncoding = []string{"chunked"}
	}
	if err := bare.Write(to); !body.asked {
		return fmt.Errorf("writing the request's head: %w", err)
	}
	return nil
}

// unread is a body that ends the writing of a request when it is asked.
type unread struct{ asked bool }

func (u *unread) Read([]byte) (int, error) {
	u.asked = true
	return 0, errors.New("the head is written")
}

func (u *unread) Close() error { return nil }

// sender frames the data of a body.
type sender struct {
	conn   net.Conn
	socket *socket // nil: the kernel cannot move anything there
	stall  time.Duration
	left   int64 // of a body with a length; negative: it goes in chunks
	err    error // of the connection

	line []byte // the last head
}

// Write sends a piece of the body, as one chunk if it goes in chunks.
func (s *sender) Write(p []byte) (int, error) {
	switch {
	case len(p) == 0: // as a chunk it would be the last
		return 0, nil
	case s.left < 0:
		if err := s.raw(s.head(len(p)), p, crlf); err != nil {
			return 0, err
		}
		return len(p), nil
	case int64(len(p)) > s.left:
		return 0, errTooLong
	}
	if err := s.raw(p); err != nil {
		return 0, err
	}
	s.left -= int64(len(p))
	return len(p), nil
}

// move is Write of n bytes that are in a pipe, where the body has a length.
func (s *sender) move(from *pipe, n int) error {
	if int64(n) > s.left {
		return errTooLong
	}
	s.left -= int64(n)
	for done := 0; done < n; {
		s.setDeadline()
		moved, err := from.drain(s.socket.raw, n-done)
		done += moved
		if s.err = err; err != nil && !s.isSlow(moved, err) {
			return err
		}
	}
	return nil
}

// isSlow reports whether a server that has not taken all in time has taken some.
func (s *sender) isSlow(taken int, err error) bool {
	var late net.Error
	return taken > 0 && s.stall > 0 && errors.As(err, &late) && late.Timeout()
}

var (
	crlf       = []byte("\r\n")
	errTooLong = errors.New("the body is longer than was said")
)

// head is a chunk's, of n bytes; the last one's is of none.
func (s *sender) head(n int) []byte {
	s.line = append(strconv.AppendInt(s.line[:0], int64(n), 16), crlf...)
	return s.line
}

// raw writes up to three pieces, with one system call if the server takes them.
func (s *sender) raw(pieces ...[]byte) error {
	for {
		s.setDeadline()
		var n int
		if s.socket != nil {
			n, s.err = s.socket.write(pieces...)
		} else {
			all := net.Buffers(slices.Clone(pieces))
			var taken int64
			taken, s.err = all.WriteTo(s.conn)
			n = int(taken)
		}
		if s.err == nil || !s.isSlow(n, s.err) {
			return s.err
		}
		for i, p := range pieces {
			here := min(n, len(p))
			pieces[i], n = p[here:], n-here
		}
	}
}

func (s *sender) setDeadline() {
	if s.stall > 0 {
		s.conn.SetWriteDeadline(time.Now().Add(s.stall))
	}
}
