package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// sink plays the part of Glance that is needed, and as little besides as can be:
// it throws a body away in the kernel (MSG_TRUNC), sends data from a file, and
// knows what a signed upload has to find. It counts what it is asked.
type sink struct {
	listener net.Listener
	data     *os.File

	mu      sync.Mutex // guards what follows
	images  map[string]*image
	counts  map[string]int
	deletes time.Duration // time from a DELETE's arrival to its answer, in all
	serial  int
}

// image is a record. Owner is the project that its token names.
type image struct {
	id, owner, status string
	size              int64  // what arrived
	sha512            []byte // what Glance would compute
	properties        map[string]string
	shown             []byte // as JSON; nil: to be rendered
}

func newSink(d *data, config *tls.Config) (*sink, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &sink{listener: listener, data: d.plain, images: map[string]*image{}, counts: map[string]int{}}
	go func() { // ends with the listener
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if config != nil {
				conn = tls.Server(conn, config)
			}
			go s.serve(conn)
		}
	}()
	return s, nil
}

func (s *sink) address() string { return s.listener.Addr().String() }

// create makes a queued image.
func (s *sink) create(owner string, properties map[string]string, sha512 []byte) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.serial++
	id := fmt.Sprintf("00000000-0000-4000-8000-%012x", s.serial)
	img := &image{id: id, owner: owner, status: "queued", size: -1, sha512: sha512, properties: map[string]string{}}
	for name, value := range properties {
		img.properties[name] = value
	}
	s.images[id] = img
	return id
}

// active makes an image that has data.
func (s *sink) active(owner string, size int64) string {
	id := s.create(owner, nil, nil)
	s.change(id, func(img *image) { img.status, img.size = "active", size })
	return id
}

func (s *sink) change(id string, how func(*image)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if img := s.images[id]; img != nil {
		how(img)
		img.shown = nil
	}
}

// state tells what became of an image.
func (s *sink) state(id string) (status string, size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if img := s.images[id]; img != nil {
		return img.status, img.size
	}
	return "gone", 0
}

// counted returns what was asked since the last call.
func (s *sink) counted() (counts map[string]int, deletes time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	counts, deletes = s.counts, s.deletes
	s.counts, s.deletes = map[string]int{}, 0
	return counts, deletes
}

// serve answers the requests of one connection.
func (s *sink) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReaderSize(conn, 16<<10)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if !s.answer(conn, in, req) {
			return
		}
	}
}

// answer reports whether the connection can take another request.
func (s *sink) answer(conn net.Conn, in *bufio.Reader, req *http.Request) bool {
	begun := time.Now()
	segments := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	what := req.Method
	if len(segments) > 3 {
		what += " " + strings.Join(segments[3:], "/")
	}
	var id string
	if len(segments) > 2 {
		id = segments[2]
	}
	s.mu.Lock()
	s.counts[what]++
	img := s.images[id]
	if what == "DELETE" && img != nil {
		delete(s.images, id)
		s.deletes += time.Since(begun)
	}
	s.mu.Unlock()
	switch {
	case req.Header.Get("X-Auth-Token") == "":
		return s.say(conn, req, "401 Unauthorized", []byte("no token"))
	case what == "POST" && id == "":
		io.Copy(io.Discard, req.Body)
		created := s.create("service", nil, nil) // it is tried whether receipts can be written
		s.mu.Lock()
		img = s.images[created]
		s.mu.Unlock()
		return s.say(conn, req, "201 Created", s.show(img))
	case img == nil:
		return s.say(conn, req, "404 Not Found", []byte("no such image"))
	case what == "GET":
		return s.say(conn, req, "200 OK", s.show(img))
	case what == "GET file":
		return s.send(conn, img)
	case what == "PUT file":
		return s.take(conn, in, req, img)
	case what == "PATCH":
		return s.patch(conn, req, img)
	case what == "DELETE":
		return s.say(conn, req, "204 No Content", nil)
	case what == "POST actions/deactivate":
		s.change(id, func(img *image) { img.status = "deactivated" })
		return s.say(conn, req, "204 No Content", nil)
	}
	return s.say(conn, req, "404 Not Found", []byte("not played here"))
}

func (s *sink) say(conn net.Conn, req *http.Request, status string, body []byte) bool {
	var out bytes.Buffer
	fmt.Fprintf(&out, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nX-Openstack-Request-Id: %s\r\n", status, req.Header.Get("X-Openstack-Request-Id"))
	if body != nil {
		fmt.Fprintf(&out, "Content-Length: %d\r\n", len(body))
	}
	out.WriteString("\r\n")
	out.Write(body)
	_, err := conn.Write(out.Bytes())
	return err == nil && !req.Close
}

// show is the image as JSON of about the length that Glance's has.
func (s *sink) show(img *image) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if img.shown != nil {
		return img.shown
	}
	fields := map[string]any{
		"id": img.id, "owner": img.owner, "status": img.status, "name": "an image of the bench", "visibility": "private", "protected": false,
		"os_hidden": false, "tags": []string{}, "min_ram": 0, "min_disk": 0, "container_format": "bare", "disk_format": "raw",
		"created_at": "2026-01-01T00:00:00Z", "updated_at": "2026-01-01T00:00:00Z", "schema": "/v2/schemas/image",
		"self": "/v2/images/" + img.id, "file": "/v2/images/" + img.id + "/file", "size": nil, "os_hash_algo": nil, "os_hash_value": nil, "checksum": nil,
		"padding": strings.Repeat("x", 700),
	}
	if img.status == "active" {
		fields["size"] = img.size
		fields["os_hash_algo"], fields["os_hash_value"] = "sha512", hex.EncodeToString(img.sha512)
		fields["checksum"] = "d41d8cd98f00b204e9800998ecf8427e"
	}
	for name, value := range img.properties {
		fields[name] = value
	}
	img.shown, _ = json.Marshal(fields)
	return img.shown
}

// patch sets and removes properties.
func (s *sink) patch(conn net.Conn, req *http.Request, img *image) bool {
	var changes []struct {
		Op, Path string
		Value    any
	}
	if json.NewDecoder(req.Body).Decode(&changes) != nil {
		return s.say(conn, req, "400 Bad Request", []byte("no patch"))
	}
	io.Copy(io.Discard, req.Body)
	s.change(img.id, func(img *image) {
		for _, c := range changes {
			name := strings.TrimPrefix(c.Path, "/")
			if c.Op == "remove" {
				delete(img.properties, name)
			} else {
				img.properties[name] = fmt.Sprint(c.Value)
			}
		}
	})
	return s.say(conn, req, "200 OK", s.show(img))
}

// send sends the image's data from the file.
func (s *sink) send(conn net.Conn, img *image) bool {
	fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", img.size)
	return sendFile(conn, s.data, block, img.size) == nil
}

// take throws the body away. One that breaks off puts the image back.
func (s *sink) take(conn net.Conn, in *bufio.Reader, req *http.Request, img *image) bool {
	s.change(img.id, func(img *image) { img.status = "saving" })
	d := drain{in, conn, 0}
	var err error
	if req.ContentLength >= 0 {
		err = d.skip(req.ContentLength)
	} else {
		err = d.chunks()
	}
	if err != nil {
		s.mu.Lock()
		s.counts["broken"]++
		s.mu.Unlock()
		s.change(img.id, func(img *image) { img.status, img.size = "queued", -1 })
		req.Close = true
		s.say(conn, req, "400 Bad Request", []byte("the body broke off"))
		return false
	}
	s.change(img.id, func(img *image) { img.status, img.size = "active", d.skipped })
	return s.say(conn, req, "204 No Content", nil)
}

// drain throws away what comes over a connection.
type drain struct {
	in      *bufio.Reader // what it has is to be thrown away first
	conn    net.Conn
	skipped int64
}

// scratch is what MSG_TRUNC is told to truncate to. Nobody writes to it.
var scratch = make([]byte, mib)

func (d *drain) skip(n int64) error {
	d.skipped += n
	first := min(n, int64(d.in.Buffered()))
	d.in.Discard(int(first))
	n -= first
	tcp, ok := d.conn.(*net.TCPConn)
	if !ok {
		_, err := io.CopyN(io.Discard, d.conn, n)
		return err
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return err
	}
	for n > 0 {
		var got int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			got, _, failed = syscall.Recvfrom(int(fd), scratch[:min(n, mib)], syscall.MSG_TRUNC)
			return failed != syscall.EAGAIN
		})
		switch {
		case err != nil:
			return err
		case failed == syscall.EINTR:
		case failed != nil:
			return failed
		case got == 0:
			return io.ErrUnexpectedEOF
		default:
			n -= int64(got)
		}
	}
	return nil
}

// chunks reads a chunked body without trailers.
func (d *drain) chunks() error {
	for {
		line, err := d.in.ReadString('\n')
		if err != nil {
			return err
		}
		size, err := strconv.ParseInt(strings.TrimSpace(line), 16, 64)
		if err != nil {
			return err
		}
		if err := d.skip(size); err != nil {
			return err
		}
		if end, err := d.in.ReadString('\n'); err != nil || end != "\r\n" {
			return fmt.Errorf("chunk ends with %q, %v", end, err)
		}
		if size == 0 {
			return nil
		}
	}
}

// sendFile sends length bytes of a file that holds period of them, again and
// again, by sendfile(2) where the connection can.
func sendFile(conn net.Conn, file *os.File, period, length int64) error {
	own, err := os.Open(fmt.Sprintf("/proc/self/fd/%d", file.Fd())) // a position of its own
	if err != nil {
		return err
	}
	defer own.Close()
	for length > 0 {
		if _, err := own.Seek(0, io.SeekStart); err != nil {
			return err
		}
		n, err := io.Copy(conn, io.LimitReader(own, min(length, period)))
		if err != nil {
			return err
		}
		length -= n
	}
	return nil
}
