//go:build e2e

package e2e_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"testing"
	"time"
)

// in is the same user in a subtest.
func (c *client) in(t *testing.T) *client {
	other := *c
	other.t = t
	return &other
}

// byHand is an upload that the test sends byte by byte, and may break off.
type byHand struct {
	t       *testing.T
	conn    *net.TCPConn
	answers *bufio.Reader
	chunked bool
}

// begin sends the head of an upload: with this length, or chunked where it is
// negative. A further line of the head may be given.
func (c *client) begin(id string, length int, line ...string) *byHand {
	c.t.Helper()
	u, err := url.Parse(c.image(id, "file"))
	if err != nil {
		c.t.Fatal(err)
	}
	conn, err := net.Dial("tcp", u.Host)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	framing := fmt.Sprintf("Content-Length: %d", length)
	if length < 0 {
		framing = "Transfer-Encoding: chunked"
	}
	for _, line := range line {
		framing += "\r\n" + line
	}
	up := &byHand{c.t, conn.(*net.TCPConn), bufio.NewReader(conn), length < 0}
	up.write(fmt.Sprintf("PUT %s HTTP/1.1\r\nHost: %s\r\nX-Auth-Token: %s\r\nContent-Type: application/octet-stream\r\n%s\r\n\r\n",
		u.Path, u.Host, c.token, framing))
	return up
}

// beginAdmitted is begin that returns when the upload has been admitted: the
// proxy asks for the first byte of the body no sooner.
func (c *client) beginAdmitted(id string, length int) *byHand {
	c.t.Helper()
	up := c.begin(id, length, "Expect: 100-continue")
	if a := up.answer(); a.status != http.StatusContinue {
		c.t.Fatalf("the head of an upload was answered %v, want 100", a)
	}
	return up
}

func (u *byHand) write(text string) {
	u.t.Helper()
	if _, err := io.WriteString(u.conn, text); err != nil {
		u.t.Fatalf("sending an upload: %v", err)
	}
}

// send sends some of the data.
func (u *byHand) send(data []byte) {
	u.t.Helper()
	switch {
	case len(data) == 0:
	case u.chunked:
		u.write(fmt.Sprintf("%x\r\n%s\r\n", len(data), data))
	default:
		u.write(string(data))
	}
}

// end says, where that has to be said, that there is no more.
func (u *byHand) end() {
	u.t.Helper()
	if u.chunked {
		u.write("0\r\n\r\n")
	}
}

// answer waits for what the upload is answered.
func (u *byHand) answer() answer {
	u.t.Helper()
	a, err := u.outcome()
	if err != nil {
		u.t.Fatalf("the upload was not answered: %v", err)
	}
	return a
}

// outcome is answer where the connection may end without one.
func (u *byHand) outcome() (answer, error) {
	response, err := http.ReadResponse(u.answers, nil)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, text}, err
}

// leave closes the connection in an orderly way (FIN).
func (u *byHand) leave() { u.conn.Close() }

// reset breaks the connection (RST).
func (u *byHand) reset() {
	u.conn.SetLinger(0)
	u.conn.Close()
}

// reaches waits until Glance itself says that the image has a status.
func (c *client) reaches(id, status string) {
	c.t.Helper()
	eventually(c.t, "the image is "+status, func() bool { return c.show(id).status() == status })
}
