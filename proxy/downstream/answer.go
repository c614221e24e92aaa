package downstream

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/countersign/countersign/proxy/upstream"
)

// answer is the part of an exchange that is written. It belongs to the goroutine of
// the handler.
type answer struct {
	header http.Header
	isHead bool // the request was HEAD
	old    bool // it was HTTP/1.0
	last   bool // the client wants no other

	status  int   // zero: the head has not begun
	length  int64 // of the body, as it was said; negative: it was not
	written int64 // of the body, whether it could be or not
	framed  bool  // the head is whole, and has said where the body ends
	chunked bool
	closing bool  // the connection ends with the answer
	text    *text // what is to be sent next; nil before the head and after the end
	failed  error // sticky: why nothing more is sent
	sent    bool  // nothing failed until the end
}

// text is sent in one piece, and given back to where it came from.
type text struct{ bytes []byte }

const textSize = 4 << 10

var texts = sync.Pool{New: func() any { return &text{make([]byte, 0, textSize)} }}

func (t *text) Write(p []byte) (int, error) {
	t.bytes = append(t.bytes, p...)
	return len(p), nil
}

func (t *text) WriteString(s string) (int, error) {
	t.bytes = append(t.bytes, s...)
	return len(s), nil
}

// What is not written as the handler has it: frame says it, or nobody does.
var (
	hopByHop = map[string]bool{"Connection": true, "Content-Length": true, "Transfer-Encoding": true, "Trailer": true}
	of304    = map[string]bool{"Connection": true, "Content-Length": true, "Transfer-Encoding": true, "Trailer": true, "Content-Type": true}
)

// Header implements http.ResponseWriter.
func (x *exchange) Header() http.Header { return x.header }

// WriteHeader implements http.ResponseWriter. It begins the head; what the handler
// changes in the header afterwards is not sent.
func (x *exchange) WriteHeader(status int) {
	switch {
	case status < 100 || status > 999:
		panic(fmt.Sprintf("downstream: status %d", status))
	case x.status != 0:
		x.conn.server.logf("downstream: a second status, %d after %d", status, x.status)
		return
	case status < 200:
		x.conn.server.logf("downstream: interim answers are not sent: %d", status)
		return
	}
	x.noMoreWaiting()
	x.status = status
	if said := x.header.Get("Content-Length"); said != "" {
		if n, err := strconv.ParseInt(said, 10, 64); err == nil && n >= 0 {
			x.length = n
		} else {
			x.conn.server.logf("downstream: a Content-Length of %q", said)
		}
	}
	x.text = texts.Get().(*text)
	x.text.bytes = append(x.text.bytes[:0], "HTTP/1.1 "...)
	if x.old {
		x.text.bytes[len("HTTP/1.")] = '0'
	}
	x.text.bytes = append(strconv.AppendInt(x.text.bytes, int64(status), 10), ' ')
	if reason := http.StatusText(status); reason != "" {
		x.text.WriteString(reason)
	} else {
		fmt.Fprintf(x.text, "status code %d", status)
	}
	x.text.WriteString("\r\n")
	excluded := hopByHop
	if status == http.StatusNotModified {
		excluded = of304
	}
	x.header.WriteSubset(x.text, excluded) // a text takes all
	if _, there := x.header["Date"]; !there {
		x.text.WriteString("Date: ")
		x.text.bytes = time.Now().UTC().AppendFormat(x.text.bytes, http.TimeFormat)
		x.text.WriteString("\r\n")
	}
}

// allowsBody reports whether an answer with a status may have a body.
func allowsBody(status int) bool {
	return status >= 200 && status != http.StatusNoContent && status != http.StatusNotModified
}

// frame ends the head, once. It is complete if nothing of a body was written, and
// nothing will be.
func (x *exchange) frame(complete bool) {
	if x.framed {
		return
	}
	x.framed = true
	ends := true // without the connection's end
	if bodied := allowsBody(x.status); bodied {
		if x.length < 0 && complete && !x.isHead {
			x.length = 0
		}
		switch {
		case x.length >= 0:
			x.text.WriteString("Content-Length: ")
			x.text.bytes = strconv.AppendInt(x.text.bytes, x.length, 10)
			x.text.WriteString("\r\n")
		case x.isHead:
		case x.old:
			ends = false
		default:
			x.chunked = true
			x.text.WriteString("Transfer-Encoding: chunked\r\n")
		}
	}
	own := x.header["Connection"]
	if x.last || !ends || x.conn.server.closing.Load() || says(own, "close") || x.isLost() {
		x.closing = true
	}
	switch {
	case x.closing && !x.old:
		x.text.WriteString("Connection: close\r\n")
	case x.closing:
	case len(own) > 0:
		http.Header{"Connection": own}.Write(x.text)
	case x.old:
		x.text.WriteString("Connection: keep-alive\r\n")
	}
	x.text.WriteString("\r\n")
}

// CloseAfter has the connection closed when the answer is sent, gently.
func (x *exchange) CloseAfter() { x.closing = true }

// Write implements http.ResponseWriter.
func (x *exchange) Write(p []byte) (int, error) {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	if len(p) == 0 {
		return 0, nil
	}
	x.written += int64(len(p))
	switch {
	case !allowsBody(x.status):
		return 0, http.ErrBodyNotAllowed
	case x.length >= 0 && x.written > x.length:
		return 0, http.ErrContentLength
	case x.failed != nil:
		return 0, x.failed
	}
	x.frame(false)
	if x.isHead {
		return len(p), nil
	}
	var end []byte
	if x.chunked {
		x.text.bytes = append(strconv.AppendInt(x.text.bytes, int64(len(p)), 16), crlf...)
		end = crlf
	}
	if len(x.text.bytes)+len(p)+len(end) <= textSize {
		x.text.bytes = append(append(x.text.bytes, p...), end...)
		return len(p), nil
	}
	if err := x.send(p, end); err != nil {
		return 0, err
	}
	return len(p), nil
}

var crlf = []byte("\r\n")

// ReadFrom implements io.ReaderFrom. From a TCP connection, of which no more than
// the rest of the answer is to be taken, the kernel moves it (splice(2)).
func (x *exchange) ReadFrom(src io.Reader) (int64, error) {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	limited, is := src.(*io.LimitedReader)
	if is {
		_, is = limited.R.(*net.TCPConn)
	}
	if !is || x.conn.tcp == nil || x.isHead || !allowsBody(x.status) || x.length < 0 || limited.N > x.length-x.written {
		return upstream.Copy(struct{ io.Writer }{x}, src)
	}
	if err := x.FlushError(); err != nil {
		return 0, err
	}
	var to io.ReaderFrom = x.conn.tcp
	if x.conn.own != nil {
		to = x.conn.own
	}
	n, err := to.ReadFrom(limited)
	x.written += n
	if err != nil {
		x.closing = true // of which connection it is, is not told
	}
	return n, err
}

// FlushError is for http.ResponseController.
func (x *exchange) FlushError() error {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	if x.failed != nil {
		return x.failed
	}
	x.frame(false)
	return x.send(nil, nil)
}

// Flush implements http.Flusher.
func (x *exchange) Flush() { x.FlushError() }

// send writes what is ready, and what follows it, in one system call.
func (x *exchange) send(p, end []byte) error {
	c, n := x.conn, 0
	for _, piece := range [...][]byte{x.text.bytes, p, end} {
		if len(piece) > 0 {
			c.pieces[n] = piece
			n++
		}
	}
	var err error
	switch n {
	case 0:
	case 1:
		_, err = c.Conn.Write(c.pieces[0])
	default:
		c.vector = c.pieces[:n]
		_, err = c.vector.WriteTo(c.buffersTo())
	}
	clear(c.pieces[:])
	x.text.bytes = x.text.bytes[:0]
	if err != nil {
		x.failed = err
		x.cancel()
	}
	return err
}

// buffersTo is where writev(2) is known.
func (c *conn) buffersTo() io.Writer {
	if c.tcp != nil {
		return c.tcp
	}
	return c.Conn
}

// finish sends what is left of the answer when the handler has returned.
func (x *exchange) finish() {
	if x.status == 0 {
		x.WriteHeader(http.StatusOK)
	}
	if x.failed != nil {
		return
	}
	x.frame(true)
	if x.chunked {
		x.text.WriteString("0\r\n\r\n")
	}
	x.send(nil, nil)
}

// answered reports whether the answer went out as its head has said.
func (x *exchange) answered() bool {
	return x.sent && (x.isHead || !allowsBody(x.status) || x.length < 0 || x.written == x.length)
}

// release gives back what the answer was written in.
func (x *exchange) release() {
	if x.text != nil && cap(x.text.bytes) == textSize {
		texts.Put(x.text)
	}
	x.text = nil
	x.sent = x.status != 0 && x.failed == nil
	x.failed = http.ErrHandlerTimeout // for whoever still writes
}
