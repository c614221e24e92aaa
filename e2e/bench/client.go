package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// patience bounds one exchange, so that what hangs is an error.
const patience = 4 * time.Minute

// framings of an upload.
const (
	byLength  = false
	byChunked = true
)

// dial opens a client's connection to a proxy.
func (p *peer) dial() (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", p.address, 5*time.Second)
	if err == nil && p.tls {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // our own, on loopback
	}
	if err == nil {
		conn.SetDeadline(time.Now().Add(patience))
	}
	return conn, err
}

// uploadHead is the head of a PUT.
func uploadHead(id, token string, size int64, chunked bool, lines ...string) string {
	framing := fmt.Sprintf("Content-Length: %d", size)
	if chunked {
		framing = "Transfer-Encoding: chunked"
	}
	return fmt.Sprintf("PUT /v2/images/%s/file HTTP/1.1\r\nHost: glance\r\nX-Auth-Token: %s\r\nContent-Type: application/octet-stream\r\n%s\r\n%s\r\n",
		id, token, framing, strings.Join(lines, ""))
}

// upload sends an image through a proxy over a connection of its own, and
// returns the answer's status. The data is sent with sendfile(2).
func (p *peer) upload(d *data, id, token string, size int64, chunked bool) (int, error) {
	conn, err := p.dial()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, uploadHead(id, token, size, chunked)); err != nil {
		return 0, err
	}
	if chunked {
		if size%block != 0 {
			return 0, errors.New("a chunked upload is of whole blocks")
		}
		if err = sendFile(conn, d.chunked, d.framed, size/block*d.framed); err == nil {
			_, err = io.WriteString(conn, "0\r\n\r\n")
		}
	} else {
		err = sendFile(conn, d.plain, block, size)
	}
	if err != nil {
		return 0, err
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	io.Copy(io.Discard, answer.Body)
	return answer.StatusCode, nil
}

// download reads an image through a proxy to nowhere, and returns how many
// bytes came.
func (p *peer) download(id string) (int64, error) {
	conn, err := p.dial()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if _, err := conn.Write(getRequest("/v2/images/" + id + "/file")); err != nil {
		return 0, err
	}
	in := bufio.NewReaderSize(conn, 4<<10)
	answer, err := http.ReadResponse(in, nil)
	if err != nil {
		return 0, err
	}
	if answer.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("download answered %d", answer.StatusCode)
	}
	d := drain{in, conn, 0}
	if answer.ContentLength >= 0 {
		err = d.skip(answer.ContentLength)
	} else {
		err = d.chunks()
	}
	return d.skipped, err
}

func getRequest(path string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: glance\r\nX-Auth-Token: token-off\r\nAccept: application/json\r\nUser-Agent: bench\r\n\r\n", path)
}

// session is a connection that is kept.
type session struct {
	conn net.Conn
	in   *bufio.Reader
}

func (p *peer) session() (*session, error) {
	conn, err := p.dial()
	if err != nil {
		return nil, err
	}
	return &session{conn, bufio.NewReaderSize(conn, 16<<10)}, nil
}

// ask sends a request and reads its answer, of which it returns status and
// length.
func (s *session) ask(request []byte) (status int, length int64, err error) {
	if _, err := s.conn.Write(request); err != nil {
		return 0, 0, err
	}
	return s.answer()
}

// answer reads an answer that tells its length, without making much of it: the
// client shares the machine with what is measured.
func (s *session) answer() (status int, length int64, err error) {
	line, err := s.in.ReadSlice('\n')
	if err != nil {
		return 0, 0, err
	}
	if len(line) < 12 {
		return 0, 0, fmt.Errorf("answer %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, 0, err
	}
	for {
		line, err := s.in.ReadSlice('\n')
		if err != nil {
			return 0, 0, err
		}
		if len(line) <= 2 {
			break
		}
		const name = "content-length: "
		if len(line) > len(name) && strings.EqualFold(string(line[:len(name)]), name) {
			length, _ = strconv.ParseInt(strings.TrimSpace(string(line[len(name):])), 10, 64)
		}
	}
	_, err = s.in.Discard(int(length))
	return status, length, err
}

// gets is what a number of clients found.
type gets struct {
	requests int
	p50      time.Duration
	wall     time.Duration
}

// getAll has some clients ask for an image again and again. Every answer has to
// be 200 and of the length.
func (p *peer) getAll(path string, clients int, length int64, duration time.Duration) (gets, error) {
	request := getRequest(path)
	var wg sync.WaitGroup
	var mu sync.Mutex // guards all and failed
	var all []time.Duration
	var failed error
	begin := time.Now()
	for range clients {
		wg.Add(1)
		go func() { // ends with the duration
			defer wg.Done()
			own, err := p.getUntil(request, length, begin.Add(duration))
			mu.Lock()
			defer mu.Unlock()
			all = append(all, own...)
			if err != nil {
				failed = err
			}
		}()
	}
	wg.Wait()
	if failed != nil || len(all) == 0 {
		return gets{}, fmt.Errorf("GET through %s: %v", p.name, failed)
	}
	slices.Sort(all)
	return gets{len(all), all[len(all)/2], time.Since(begin)}, nil
}

func (p *peer) getUntil(request []byte, length int64, end time.Time) (all []time.Duration, err error) {
	s, err := p.session()
	if err != nil {
		return nil, err
	}
	defer s.conn.Close()
	for {
		before := time.Now()
		if before.After(end) {
			return all, nil
		}
		status, got, err := s.ask(request)
		if err != nil {
			return all, err
		}
		if status != http.StatusOK || got != length {
			return all, fmt.Errorf("answered %d with %d bytes, want 200 with %d", status, got, length)
		}
		all = append(all, time.Since(before))
	}
}
