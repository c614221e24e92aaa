package downstream

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strings"
)

// slop is how much more than MaxHeaderBytes may be read of a head; http.Server's.
const slop = 4096

const defaultMaxHeader = http.DefaultMaxHeaderBytes

// badHead is what is wrong with a head that could be read.
type badHead struct {
	status int
	text   string
}

func (b *badHead) Error() string { return b.text }

var errTooLarge = errors.New("the head of a request is too large")

// readHead reads a request's head, of which some is in the reader. It looks at what
// http.Server looks at, in the same order.
func (c *conn) readHead() (*http.Request, error) {
	most := c.server.MaxHeaderBytes
	if most <= 0 {
		most = defaultMaxHeader
	}
	c.allow = int64(max(1, most+slop-c.in.Buffered()))
	defer func() { c.allow = -1 }()
	if c.served { // the first head has a deadline
		if c.posted || !c.isWhole() {
			c.allowUntil(c.server.ReadHeaderTimeout)
		}
		begin, err := c.in.Peek(4)
		if err != nil {
			return nil, io.EOF // nobody has asked for anything
		}
		if c.posted { // some put an empty line behind a body (RFC 9112 §2.2)
			c.in.Discard(len(begin) - len(bytes.TrimLeft(begin, "\r\n")))
		}
	}
	hosts, known := c.hosts()
	req, err := http.ReadRequest(c.in)
	switch {
	case err != nil && c.allow == 0:
		return nil, errTooLarge
	case err != nil:
		return nil, err
	}
	if req.URL.Host == "" {
		hosts, known = nil, true
		if req.Host != "" {
			hosts = []string{req.Host}
		}
	}
	c.posted = req.Method == http.MethodPost
	preface := isPreface(req)
	switch {
	case req.ProtoMajor != 1 && !preface:
		return nil, &badHead{http.StatusHTTPVersionNotSupported, "unsupported protocol version"}
	case req.ProtoAtLeast(1, 1) && len(hosts) == 0 && known && !(preface && len(req.Header) == 0) && req.Method != http.MethodConnect:
		return nil, &badHead{http.StatusBadRequest, "missing required Host header"}
	case !known || len(hosts) == 1 && !all(hosts[0], &inHosts):
		return nil, &badHead{http.StatusBadRequest, "malformed Host header"}
	}
	for name, values := range req.Header {
		if name == "" || !all(name, &inNames) {
			return nil, &badHead{http.StatusBadRequest, "invalid header name"}
		}
		for _, value := range values {
			if !all(value, &inValues) {
				return nil, &badHead{http.StatusBadRequest, "invalid header value"}
			}
		}
	}
	return req, nil
}

// isWhole reports whether a head need not be waited for.
func (c *conn) isWhole() bool {
	ahead, _ := c.in.Peek(c.in.Buffered())
	return bytes.Contains(ahead, []byte("\r\n\r\n"))
}

// isPreface reports whether a request is how HTTP/2 begins. http.Server hands it to
// the handler, too; ReadRequest says that it is the last.
func isPreface(req *http.Request) bool {
	return req.Method == "PRI" && req.RequestURI == "*" && req.ProtoMajor == 2 && req.ProtoMinor == 0
}

// hosts returns the Host lines of a head whose request line names a host, too.
// ReadRequest takes that one, as it should, and does not tell of the others. They
// are not known if the head is none, or does not fit into the reader.
func (c *conn) hosts() (hosts []string, known bool) {
	for {
		head, _ := c.in.Peek(c.in.Buffered())
		line, _, isLine := bytes.Cut(head, []byte("\n"))
		method, target, _ := bytes.Cut(line, []byte(" "))
		switch {
		case bytes.HasPrefix(target, []byte("/")), // almost all
			isLine && !bytes.Contains(target, []byte("://")) && string(method) != http.MethodConnect:
			return nil, false
		case bytes.Contains(head, []byte("\n\r\n")), bytes.Contains(head, []byte("\n\n")):
			lines := textproto.NewReader(bufio.NewReader(bytes.NewReader(head)))
			lines.ReadLine()
			header, err := lines.ReadMIMEHeader()
			return header["Host"], err == nil
		}
		if _, err := c.in.Peek(len(head) + 1); err != nil {
			return nil, false // ReadRequest finds out why
		}
	}
}

// refuse answers what is no request, in http.Server's words. It says nothing to who
// has left, or has been waited for in vain.
func (c *conn) refuse(err error) {
	status, more := http.StatusBadRequest, ""
	var bad *badHead
	var read *net.OpError
	switch {
	case err == errTooLarge:
		status = http.StatusRequestHeaderFieldsTooLarge
	case errors.As(err, &bad):
		status, more = bad.status, ": "+bad.text
	case err == io.EOF, isTimeout(err), errors.As(err, &read):
		return
	case strings.HasPrefix(err.Error(), "unsupported transfer encoding"), strings.HasPrefix(err.Error(), "too many transfer encodings"):
		status = http.StatusNotImplemented // the error's type is not exported
	}
	said := fmt.Sprintf("%d %s%s", status, http.StatusText(status), more)
	body := said
	if status == http.StatusNotImplemented {
		body = "Unsupported transfer encoding"
	}
	fmt.Fprintf(c.Conn, "HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n%s", said, body)
	c.closeGently(nil)
}

func isTimeout(err error) bool {
	var waited net.Error
	return errors.As(err, &waited) && waited.Timeout()
}

// What may be in a name, in a Host and in a value, as golang.org/x/net/http/httpguts
// has it, which net/http's server asks. A test holds every byte to its answers.
var (
	inNames  = bytesOf("!#$%&'*+-.^_`|~" + letters)
	inHosts  = bytesOf("!$%&()*+,-.:;=['" + "]_~" + letters)
	inValues = func() (in [256]bool) {
		for c := range in {
			in[c] = c >= ' ' && c != 0x7f || c == '\t'
		}
		return in
	}()
)

const letters = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

func bytesOf(text string) (in [256]bool) {
	for _, c := range []byte(text) {
		in[c] = true
	}
	return in
}

func all(text string, in *[256]bool) bool {
	for i := range len(text) {
		if !in[text[i]] {
			return false
		}
	}
	return true
}
