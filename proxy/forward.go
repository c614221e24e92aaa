package proxy

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"

	"github.com/countersign/countersign/proxy/upstream"
)

// pass sends a request on as it was understood, and hands Glance's answer back. An
// answer that breaks off breaks the client's connection, too: nobody shall take it
// for a whole one.
func (p *Proxy) pass(w http.ResponseWriter, r *http.Request) {
	handed := p.outgoing(r)
	defer handed.end()
	answer, err := p.toGlance.RoundTrip(r)
	if err == nil && answer.StatusCode < http.StatusOK {
		answer.Body.Close()
		err = errors.New("an answer that switches to a protocol nobody asked for")
	}
	if err != nil {
		p.unreached(w, r, err)
		return
	}
	defer answer.Body.Close()
	removeHopByHop(answer.Header)
	if err := p.answered(answer); err != nil {
		p.unreached(w, r, err)
		return
	}
	header := w.Header()
	for name, values := range answer.Header {
		if _, there := header[name]; there {
			values = append(header[name], values...)
		}
		header[name] = values
	}
	w.WriteHeader(answer.StatusCode)
	if err := handBack(w, r, answer); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// handBack copies an answer's body. Through plain connections the kernel does it
// (upstream.Client's bodies write themselves to a ResponseWriter that reads from a
// connection, as package downstream's does). What has no length may be slow: it goes on as
// it comes.
func handBack(w http.ResponseWriter, r *http.Request, answer *http.Response) error {
	var err error
	switch {
	case answer.Body == http.NoBody:
	case answer.ContentLength < 0:
		_, err = upstream.Copy(flushing{w, http.NewResponseController(w)}, answer.Body)
	case r.TLS != nil:
		_, err = upstream.Copy(w, struct{ io.Reader }{answer.Body})
	default:
		_, err = upstream.Copy(w, answer.Body)
	}
	return err
}

// flushing sends each piece at once.
type flushing struct {
	io.Writer
	control *http.ResponseController
}

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	if err == nil {
		err = f.control.Flush()
	}
	return n, err
}

// isHopByHop reports whether a header concerns one connection only (RFC 9110
// §7.6.1, and older usage).
func isHopByHop(name string) bool {
	switch name {
	case "Connection", "Proxy-Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return true
	}
	return false
}

// removeHopByHop takes out what the connection alone was told.
func removeHopByHop(header http.Header) {
	for _, value := range header["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			header.Del(strings.TrimSpace(name))
		}
	}
	for name := range header {
		if isHopByHop(name) {
			delete(header, name)
		}
	}
}

// outgoing turns what the gate has made into the request that goes to Glance.
// Whoever calls ends the handing of the body before the handler returns.
func (p *Proxy) outgoing(r *http.Request) *handing {
	prefix := strings.TrimRight(p.Glance.EscapedPath(), "/")
	r.URL.Scheme, r.URL.Host, r.URL.RawPath = p.Glance.Scheme, p.Glance.Host, prefix+r.URL.RawPath
	r.URL.Path, _ = url.PathUnescape(r.URL.RawPath) // of our own making, always valid
	r.Trailer, r.TransferEncoding, r.Close = nil, nil, false

	// Glance builds its links from Host and these; they are the client's own.
	if r.TLS != nil && r.Header.Get("X-Forwarded-Proto") == "" {
		r.Header["X-Forwarded-Proto"] = []string{"https"}
	}
	if r.Header.Get("User-Agent") == "" {
		r.Header["User-Agent"] = nil // do not add Go's
	}

	handed := &handing{Reader: r.Body}
	r.Body = handed
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodDelete, http.MethodOptions:
		r.ContentLength = 0 // Glance takes none with these
	}
	if r.ContentLength == 0 {
		r.Body = nil
	}
	return handed
}

// handing is a client's body while it is handed on. Who carries it may go on
// reading when the handler is about to return, after which nobody may.
type handing struct {
	io.Reader
	unseen bool // nobody judges it
	ended  atomic.Bool
}

var errHandled = errors.New("the request has been answered")

func (h *handing) Read(p []byte) (int, error) {
	if h.ended.Load() {
		return 0, errHandled
	}
	return h.Reader.Read(p)
}

// Conn implements upstream.Movable, once guard has said that nobody looks into it.
func (h *handing) Conn() *upstream.Accepted {
	if movable, able := h.Reader.(upstream.Movable); able && h.unseen {
		return movable.Conn()
	}
	return nil
}

// Extend implements upstream.Movable.
func (h *handing) Extend() {
	if movable, able := h.Reader.(upstream.Movable); able {
		movable.Extend()
	}
}

func (h *handing) end() { h.ended.Store(true) }

// Close implements io.Closer. The client's body is the server's to close.
func (h *handing) Close() error { return nil }

// answered sees every answer of Glance's before the client does.
func (p *Proxy) answered(res *http.Response) error {
	ev := eventOf(res.Request.Context())
	ev.status = res.StatusCode
	if res.StatusCode >= 500 {
		p.Metrics.UpstreamFailed(ServiceGlance)
	}
	res.Header.Del(requestIDHeader) // ours is set already, and Glance adopted it
	p.relink(res)
	if err := taken(res); err != nil {
		return err
	}
	if d, ok := res.Request.Context().Value(downloadKey{}).(*downloading); ok {
		return d.hand(res)
	}
	return p.hide(res)
}
