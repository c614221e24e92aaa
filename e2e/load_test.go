//go:build e2e

package e2e_test

import (
	"bytes"
	"crypto"
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// full says that the load is to be as large as a busy day's (make load), which
// takes minutes and wants MariaDB: SQLite answers a second writer with 500.
func full() bool { return os.Getenv("E2E_LOAD") == "full" }

// memoryLimit is what the proxy may have had in memory at its largest, in
// bytes.
const memoryLimit = 96 << 20

// peakMemory is the largest part of the proxy that was ever in memory at once
// (VmHWM, proc_pid_status(5)), in bytes.
func (p *proxy) peakMemory(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var kilobytes int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kilobytes); n == 1 {
			return kilobytes << 10
		}
	}
	t.Fatal("the kernel does not tell VmHWM")
	return 0
}

// plainBinary is the countersign that users get. The one that the other
// scenarios run has the race detector in it, which takes several times the
// memory.
func plainBinary(t *testing.T) string {
	t.Helper()
	file := filepath.Join(filepath.Dir(binary), "countersign-plain")
	build := exec.Command("go", "build", "-o", file, "../cmd/countersign")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("building countersign: %v\n%s", err, text)
	}
	return file
}

// startPlainProxy is startProxy with such a binary.
func startPlainProxy(t *testing.T, glance server, policy string, environment ...string) *proxy {
	t.Helper()
	before := binary
	binary = plainBinary(t)
	defer func() { binary = before }()
	return startProxy(t, glance, policy, environment...)
}

// stream is data of any length that need not be kept: the same for the same
// seed.
type stream struct {
	left  int64
	block []byte
	at    int
}

func newStream(seed string, length int64) *stream {
	block := make([]byte, 0, 64<<10)
	for sum := sha256.Sum256([]byte(seed)); len(block) < cap(block); sum = sha256.Sum256(sum[:]) {
		block = append(block, sum[:]...)
	}
	return &stream{left: length, block: block}
}

func (s *stream) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(int64(len(p)), s.left)], s.block[s.at:])
	s.at = (s.at + n) % len(s.block)
	s.left -= int64(n)
	return n, nil
}

// signStream is the four properties for a stream, and its md5 as Glance tells
// it.
func signStream(s *signer, data io.Reader, certificate string) (properties map[string]string, checksum string) {
	s.t.Helper()
	sha, md := sha256.New(), md5.New()
	if _, err := io.Copy(io.MultiWriter(sha, md), data); err != nil {
		s.t.Fatal(err)
	}
	return map[string]string{
		"img_signature":                  s.signDigest(sha),
		"img_signature_hash_method":      "SHA-256",
		"img_signature_key_type":         "RSA-PSS",
		"img_signature_certificate_uuid": certificate,
	}, hex.EncodeToString(md.Sum(nil))
}

func (s *signer) signDigest(h hash.Hash) string {
	s.t.Helper()
	signature, err := rsa.SignPSS(rand.Reader, s.key, crypto.SHA256, h.Sum(nil), &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto})
	if err != nil {
		s.t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(signature)
}

// put uploads a stream and returns what came of it. It may be used by many
// goroutines.
func (c *client) put(id string, data io.Reader, length int64) (status int, body string, err error) {
	request, err := http.NewRequestWithContext(c.t.Context(), "PUT", c.image(id, "file"), data)
	if err != nil {
		return 0, "", err
	}
	request.ContentLength = length
	request.Header.Set("X-Auth-Token", c.token)
	request.Header.Set("Content-Type", "application/octet-stream")
	request.Header.Set("Accept", "application/json")
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Hour}).Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return response.StatusCode, string(text), err
}

// TestManyUploadsAtOnce: of many that run at the same time every good one
// becomes active with its own data, every bad one is gone, other requests are
// answered meanwhile, and the proxy stays small.
func TestManyUploadsAtOnce(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		uploads, length, gets := 24, int64(8<<20), 500
		switch {
		case openstack.Database == "sqlite":
			uploads, length, gets = 4, 8<<20, 200
		case full():
			uploads, length, gets = 100, 64<<20, 5000
		}
		t.Logf("%d uploads of %d MiB and %d other requests, %s", uploads, length>>20, gets, openstack.Database)
		p := startPlainProxy(t, glance, policy)
		c := login(t, "demo", p.url)
		straight := c.at(glance.url())
		s := newSigner(t, time.Hour)
		certificate := c.secret(s.certificate)
		properties := make([]map[string]string, uploads)
		checksums, ids := make([]string, uploads), make([]string, uploads)
		for i := range uploads {
			properties[i], checksums[i] = signStream(s, newStream(fmt.Sprint(i), length), certificate)
			ids[i] = c.create(properties[i]).id()
		}

		var running, others sync.WaitGroup
		var over atomic.Bool
		begun := time.Now()
		for i := range uploads {
			running.Go(func() {
				good := i%2 == 0
				var data io.Reader = newStream(fmt.Sprint(i), length)
				if !good { // wrong in its last byte only
					data = io.MultiReader(io.LimitReader(data, length-1), strings.NewReader("x"))
				}
				announced := length
				if i%4 > 1 {
					announced = -1 // chunked
				}
				status, body, err := c.put(ids[i], data, announced)
				switch {
				case err != nil:
					t.Errorf("upload %d: %v", i, err)
				case good && status != http.StatusNoContent:
					t.Errorf("good upload %d answered %d %s, want 204", i, status, body)
				case !good && (status != http.StatusBadRequest || !strings.Contains(body, "signature_mismatch")):
					t.Errorf("bad upload %d answered %d %s, want 400 signature_mismatch", i, status, body)
				}
			})
		}
		// They wait for their turn in Glance's workers, and take it from the
		// uploads: so there are few at once, with pauses, until the uploads end.
		var answered atomic.Int64
		for range 4 {
			others.Go(func() {
				transport := &http.Transport{}
				defer transport.CloseIdleConnections()
				pause := time.NewTicker(50 * time.Millisecond)
				defer pause.Stop()
				for ; answered.Add(1) <= int64(gets) || !over.Load(); <-pause.C {
					request, _ := http.NewRequest("GET", c.images+"/v2/schemas/image", nil)
					request.Header.Set("X-Auth-Token", c.token)
					response, err := transport.RoundTrip(request)
					if err != nil {
						t.Errorf("GET meanwhile: %v", err)
						return
					}
					text, err := io.ReadAll(response.Body)
					response.Body.Close()
					if err != nil || response.StatusCode != http.StatusOK || !json.Valid(text) {
						t.Errorf("GET meanwhile answered %d with %d bytes, %v; want 200", response.StatusCode, len(text), err)
						return
					}
				}
			})
		}
		running.Wait()
		took := time.Since(begun)
		over.Store(true)
		others.Wait()

		for i, id := range ids {
			if i%2 == 1 {
				if straight.exists(id) {
					t.Errorf("bad image %d is %s, want it gone", i, straight.show(id).status())
				}
				continue
			}
			is := straight.show(id)
			if is.status() != "active" || is.text("checksum") != checksums[i] || is["size"] != float64(length) {
				t.Errorf("good image %d is %s with %v bytes of md5 %s, want active with %d of %s",
					i, is.status(), is["size"], is.text("checksum"), length, checksums[i])
			}
		}
		peak := p.peakMemory(t)
		if peak > memoryLimit {
			t.Errorf("the proxy took %d MiB of memory, want %d at most", peak>>20, memoryLimit>>20)
		}
		t.Logf("%v for the uploads, %d other requests, %d MiB of memory", took.Round(time.Second), answered.Load(), peak>>20)
	})
}

// sink is a Glance that takes one image and keeps none of its data.
type sink struct {
	*httptest.Server
	mu    sync.Mutex // guards image
	image map[string]any
}

func newSink(t *testing.T, image map[string]any) *sink {
	s := &sink{image: image}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("X-Auth-Token") == "":
			w.WriteHeader(http.StatusUnauthorized)
		case r.Method == "PUT":
			n, err := io.Copy(io.Discard, r.Body)
			if err != nil {
				panic(http.ErrAbortHandler)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			s.image["status"], s.image["size"] = "active", n
			w.WriteHeader(http.StatusNoContent)
		default:
			s.mu.Lock()
			defer s.mu.Unlock()
			if r.Method == "PATCH" { // the receipt
				var changes []struct {
					Path  string
					Value any
				}
				json.NewDecoder(r.Body).Decode(&changes)
				for _, change := range changes {
					s.image[strings.TrimPrefix(change.Path, "/")] = change.Value
				}
			}
			w.Header().Set("Content-Type", "application/json")
			json.NewEncoder(w).Encode(s.image)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// TestMemoryDoesNotGrowWithTheImage: what an upload takes is the same for a
// small image and a large one.
func TestMemoryDoesNotGrowWithTheImage(t *testing.T) {
	large := int64(1 << 30)
	if full() {
		large = 20 << 30
	}
	c := login(t, "demo", "")
	s := newSigner(t, time.Hour)
	certificate := c.secret(s.certificate)
	peak := func(length int64, chunked bool) int64 {
		const id = "6f4a1bf2-3c0d-4a5e-9e55-0a7c51b0f3d1"
		properties, _ := signStream(s, newStream("", length), certificate)
		record := map[string]any{"id": id, "owner": c.user.ProjectID, "status": "queued", "size": nil}
		for name, value := range properties {
			record[name] = value
		}
		sink := newSink(t, record)
		p := startPlainProxy(t, server{name: "sink", region: "RegionOne"}, policy, "COUNTERSIGN_GLANCE_URL="+sink.URL)
		announced := length
		if chunked {
			announced = -1
		}
		if status, body, err := c.at(p.url).put(id, newStream("", length), announced); status != http.StatusNoContent {
			t.Fatalf("upload of %d MiB answered %d %s %v, want 204", length>>20, status, body, err)
		}
		return p.peakMemory(t)
	}
	small := peak(1<<20, false)
	for _, chunked := range []bool{false, true} {
		big := peak(large, chunked)
		t.Logf("%d MiB for an upload of 1 MiB, %d MiB for one of %d, chunked %v", small>>20, big>>20, large>>20, chunked)
		if big > small+16<<20 {
			t.Errorf("an upload of %d MiB, chunked %v, took %d MiB of memory, want what one of 1 MiB takes (%d MiB)", large>>20, chunked, big>>20, small>>20)
		}
	}
}

// TestWhatIsJudgedIsRead: the kernel moves an upload that nobody judges, if its length
// is known, and not one that somebody does, since a client on the same host could
// still change that after it was hashed.
func TestWhatIsJudgedIsRead(t *testing.T) {
	const length = 64 << 20
	const everybody = "rules: [{name: everybody, projects: all, unowned: true, mode: %q, signers: any}]"
	c := login(t, "demo", "")
	s := newSigner(t, time.Hour)
	certificate := c.secret(s.certificate)
	for _, test := range []struct {
		policy string
		judged bool
	}{{fmt.Sprintf(everybody, "enforce"), true}, {fmt.Sprintf(everybody, "audit"), true}, {fmt.Sprintf(everybody, "off"), false}} {
		for _, announced := range []int64{length, -1} {
			const id = "6f4a1bf2-3c0d-4a5e-9e55-0a7c51b0f3d2"
			properties, _ := signStream(s, newStream("", length), certificate)
			record := map[string]any{"id": id, "owner": c.user.ProjectID, "status": "queued", "size": nil}
			for name, value := range properties {
				record[name] = value
			}
			p := startPlainProxy(t, server{name: "sink", region: "RegionOne"}, test.policy, "COUNTERSIGN_GLANCE_URL="+newSink(t, record).URL)
			before := p.hasRead(t)
			if status, body, err := c.at(p.url).put(id, newStream("", length), announced); status != http.StatusNoContent {
				t.Fatalf("upload answered %d %s %v, want 204", status, body, err)
			}
			read, moved := p.hasRead(t)-before, !test.judged && announced == length
			if !moved && read < length || moved && read > length/2 {
				t.Errorf("policy %q, Content-Length %d: %d MiB of %d were read; want it moved: %v", test.policy, announced, read>>20, length>>20, moved)
			}
			p.stop(t)
		}
	}
}

// hasRead is how many bytes the proxy has read(2) so far.
func (p *proxy) hasRead(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	var read int64
	if n, err := fmt.Sscanf(string(text), "rchar: %d", &read); n != 1 {
		t.Fatal(err)
	}
	return read
}

// TestOneCertificateIsFetchedOnce: uploads that arrive at once with the same
// certificate share one question to the key manager, and later ones ask none.
func TestOneCertificateIsFetchedOnce(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "demo", p.url)
		s := newSigner(t, time.Hour)
		certificate := c.secret(s.certificate)
		data := []byte("small, so that nobody waits for Glance")
		const fetches = "countersign_certificate_fetches_total"
		const uploads = 32
		var ids [uploads]string
		for i := range ids { // the data is wrong: Glance sees no upload
			ids[i] = c.create(s.properties(data, certificate)).id()
		}
		before := p.metric(t, fetches)
		var running sync.WaitGroup
		for _, id := range ids {
			running.Go(func() {
				wrong := bytes.ToUpper(data)
				if status, body, err := c.put(id, bytes.NewReader(wrong), int64(len(wrong))); status != http.StatusBadRequest {
					t.Errorf("upload answered %d %s %v, want 400", status, body, err)
				}
			})
		}
		running.Wait()
		cold := p.metric(t, fetches)
		if cold != before+1 {
			t.Errorf("%d uploads at once put %v questions to the key manager, want 1", uploads, cold-before)
		}
		if a := c.upload(c.create(s.properties(data, certificate)).id(), data); a.status != http.StatusNoContent {
			t.Errorf("one more upload answered %v, want 204", a)
		}
		if warm := p.metric(t, fetches); warm != cold {
			t.Errorf("one more upload put %v questions to the key manager, want none", warm-cold)
		}
	})
}
