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

	"github.com/countersign/countersign/proxy/upstream"
)

// carrier takes bodies to Glance, each over a connection of its own.
// http.Transport would do, but for one thing: Glance under uWSGI answers early
// (401, 409, 413, 415), closes with the rest unread, and so resets the connection.
// Transport then reports the failed write and loses the answer that has already
// arrived. Here the answer is read, whole, while the data is sent, and is looked
// for once more when sending fails.
//
// upstream.Send writes the request, and net/http reads the answer. When the body ends with an
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

// answerBuffer is the size of an answer to an upload, or more.
const answerBuffer = 1 << 10

// RoundTrip implements http.RoundTripper. It may return while the body is still
// being read, and whoever owns the body must then make its Read return.
func (c *carrier) RoundTrip(req *http.Request) (*http.Response, error) {
	var conn net.Conn
	var err error
	elsewhere(func() { conn, err = c.dial(req.Context()) })
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
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
		}
	}()

	upstream.AwaitAnswer(conn)
	answer, err := upstream.ReadAnswer(bufio.NewReaderSize(conn, answerBuffer), req)
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

// send writes a request, and closes its body. If the body is at fault, short is
// true.
func (c *carrier) send(req *http.Request, conn net.Conn) (short bool, err error) {
	if req.Body != nil {
		defer req.Body.Close()
	}
	// The verdict falls in here, over a key and a signature of the client's. Out
	// of a handler's reach a panic would end the process, and everybody's uploads.
	defer func() {
		if found := recover(); found != nil {
			short, err = true, fmt.Errorf("%w: %v\n%s", errPanic, found, debug.Stack())
		}
	}()
	return upstream.Send(conn, req, c.stall)
}
