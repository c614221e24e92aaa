package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"
)

// carrier takes bodies to Glance, each over a connection of its own.
// http.Transport would do, but for one thing: Glance under uWSGI answers early
// (401, 409, 413, 415), closes with the rest unread, and so resets the connection.
// Transport then reports the failed write and loses the answer that has already
// arrived. Here the answer is read, whole, while the data is sent, and is looked
// for once more when sending fails.
//
// net/http writes the request and reads the answer. When the body ends with an
// error nothing more is written, and our half of the connection is closed: Glance
// sees a body that ended too soon, and its answer to that, which nobody is
// shown, tells that it has let go of the image.
type carrier struct {
	dial func(ctx context.Context) (net.Conn, error)

	// patience is how long Glance may take to answer a body that has ended too
	// soon: busy, it lets go of the image late.
	patience time.Duration

	// stall is how long Glance may take nothing of a body. Zero: as long as it
	// likes.
	stall time.Duration
}

// answerGrace is how long an answer may be on its way from a Glance that takes
// no more.
const answerGrace = 5 * time.Second

// RoundTrip implements http.RoundTripper. It may return while the body is still
// being read, and whoever owns the body must then make its Read return.
func (c *carrier) RoundTrip(req *http.Request) (*http.Response, error) {
	conn, err := c.dial(req.Context())
	if err != nil {
		return nil, err
	}
	release := context.AfterFunc(req.Context(), func() { conn.Close() })
	defer release()

	var cause atomic.Pointer[error] // why sending ended, stored before anybody can notice
	go func() {                     // ends with the body, or with the connection
		short, err := c.send(req, conn)
		if err == nil {
			return
		}
		cause.Store(&err)
		patience := answerGrace
		switch {
		case errors.Is(err, errPanic):
			patience = 0 // an answer would hide the reason
		case short:
			patience = c.patience
		}
		conn.SetReadDeadline(time.Now().Add(patience))
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			// Fails where Glance has reset the connection. What it said before
			// is still there to be read, so that is no reason to close.
			half.CloseWrite()
		} else {
			conn.Close()
		} // and what send has in its buffer stays there
	}()

	answer, err := readAnswer(bufio.NewReader(conn), req)
	if err != nil {
		conn.Close()
		if first := cause.Load(); first != nil {
			err = *first
		}
		return nil, err
	}
	defer conn.Close()
	return whole(answer), nil
}

// whole reads an answer into memory; Glance's to an upload are a few hundred
// bytes. One that breaks off, as it may when the connection is reset behind it,
// is still an answer: its head has said what became of the upload.
func whole(answer *http.Response) *http.Response {
	text, _ := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	answer.Body.Close()
	answer.Body = io.NopCloser(bytes.NewReader(text))
	answer.ContentLength = int64(len(text))
	answer.TransferEncoding = nil
	// Glance under uWSGI tells no length. Without one the client would see the
	// end of the answer only when the handler returns, which may linger.
	if answer.StatusCode != http.StatusNoContent || answer.Header.Get("Content-Length") != "" {
		answer.Header.Set("Content-Length", strconv.Itoa(len(text)))
	}
	return answer
}

var errPanic = errors.New("panic while sending")

// send writes a request. If its own body is at fault that error is returned.
func (c *carrier) send(req *http.Request, conn net.Conn) (short bool, err error) {
	// The verdict falls in here, over a key and a signature of the client's. Out
	// of a handler's reach a panic would end the process, and everybody's uploads.
	defer func() {
		if found := recover(); found != nil {
			short, err = true, fmt.Errorf("%w: %v\n%s", errPanic, found, debug.Stack())
		}
	}()
	req = req.Clone(req.Context())
	req.Close = true
	var body *sentBody
	if req.Body != nil && req.Body != http.NoBody {
		body = &sentBody{ReadCloser: req.Body, conn: conn, stall: c.stall}
		req.Body = body
	}
	out := bufio.NewWriterSize(direct{conn}, 64<<10)
	err = req.Write(out)
	if err == nil {
		err = out.Flush()
	}
	if body != nil && body.err != nil {
		return true, body.err
	}
	return false, err
}

// readAnswer skips interim answers (1xx).
func readAnswer(in *bufio.Reader, req *http.Request) (*http.Response, error) {
	for {
		answer, err := http.ReadResponse(in, req)
		if err != nil || answer.StatusCode/100 != 1 {
			return answer, err
		}
	}
}

// direct is a connection to which bufio hands a body without collecting it: what
// was read of the client goes on at once, through TLS as well, so that a slow
// client is no silence to Glance.
type direct struct{ net.Conn }

// ReadFrom implements io.ReaderFrom.
func (d direct) ReadFrom(r io.Reader) (int64, error) {
	return io.Copy(struct{ io.Writer }{d.Conn}, struct{ io.Reader }{r})
}

// sentBody notes how the body ended. What it hands out is sent before it is asked
// again, so it also says until when that may take: while Glance takes nothing
// nothing is read of the client, and that it has left goes unseen.
type sentBody struct {
	io.ReadCloser
	conn  net.Conn
	stall time.Duration
	err   error // owned by whoever sends
}

func (b *sentBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		b.err = err
	}
	if b.stall > 0 {
		b.conn.SetWriteDeadline(time.Now().Add(b.stall))
	}
	return n, err
}
