package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/proxy"
	"github.com/countersign/countersign/signature"
)

var sizes = []int{0, 1, signature.Tail - 1, signature.Tail, signature.Tail + 1, 3*signature.Tail + 17, 1 << 20}

func TestSignedUploadBecomesActive(t *testing.T) {
	s := newStage(t)
	for _, size := range sizes {
		for _, chunked := range []bool{false, true} {
			data := random(t, size)
			id := s.image("a", signed(t, data))
			if status, body := s.upload(id, tokenA, data, chunked); status != 204 {
				t.Errorf("upload of %d bytes, chunked %v = %d %s, want 204", size, chunked, status, body)
			}
			if got := s.glance.status(id); got != "active" {
				t.Errorf("after an upload of %d bytes, chunked %v, the image is %s, want active", size, chunked, got)
			}
			if got := s.glance.stored(id); !bytes.Equal(got, data) {
				t.Errorf("of %d bytes, chunked %v, Glance stored %d that are not the same", size, chunked, len(got))
			}
		}
	}
}

func TestWrongDataIsRefusedAndGone(t *testing.T) {
	s := newStage(t)
	for _, size := range sizes[1:] {
		for _, chunked := range []bool{false, true} {
			for name, change := range map[string]func([]byte) []byte{
				"first bit flipped": func(d []byte) []byte { return flipped(d, 0) },
				"last bit flipped":  func(d []byte) []byte { return flipped(d, len(d)-1) },
				"truncated":         func(d []byte) []byte { return d[:len(d)-1] },
				"extended":          func(d []byte) []byte { return append(bytes.Clone(d), 0) },
			} {
				data := random(t, size)
				id := s.image("a", signed(t, data))
				wrong := change(data)
				status, body := s.upload(id, tokenA, wrong, chunked)
				if status != 400 || reason(body) != "signature_mismatch" {
					t.Errorf("%s: upload of %d bytes, chunked %v = %d %s, want 400 signature_mismatch", name, size, chunked, status, body)
				}
				if got := s.glance.status(id); got != "gone" {
					t.Errorf("%s: after an upload of %d bytes, chunked %v, the image is %s, want gone", name, size, chunked, got)
				}
				if got, most := len(s.glance.stored(id)), max(0, len(wrong)-signature.Tail); got > most {
					t.Errorf("%s: of %d bytes Glance saw %d, want %d at most", name, len(wrong), got, most)
				}
			}
		}
	}
	if s.glance.begun == 0 {
		t.Error("no upload reached Glance: nothing was shown about what it sees")
	}
}

// What never had a byte beyond the tail never was at Glance.
func TestSmallWrongUploadDialsNobody(t *testing.T) {
	s := newStage(t)
	data := random(t, signature.Tail)
	id := s.image("a", signed(t, data))
	s.upload(id, tokenA, flipped(data, 7), true)
	if s.glance.begun != 0 {
		t.Errorf("Glance saw %d uploads, want 0", s.glance.begun)
	}
	if got := s.glance.status(id); got != "gone" {
		t.Errorf("the image is %s, want gone", got)
	}
}

func TestKeepLeavesTheImageQueued(t *testing.T) {
	s := newStage(t)
	data := random(t, 100_000)
	id := s.image("k", signed(t, data))
	if status, _ := s.upload(id, "token-k", flipped(data, 7), false); status != 400 {
		t.Errorf("upload = %d, want 400", status)
	}
	if got := s.glance.status(id); got != "queued" {
		t.Errorf("the image is %s, want queued", got)
	}
	if status, body := s.upload(id, "token-k", data, false); status != 204 {
		t.Errorf("upload of the right data afterwards = %d %s, want 204", status, body)
	}
}

func TestProtectedImageIsGoneToo(t *testing.T) {
	s := newStage(t)
	data := random(t, 100_000)
	id := s.image("a", signed(t, data))
	s.glance.set(s.glance.images[id], "protected", true)
	s.upload(id, tokenA, flipped(data, 7), false)
	if got := s.glance.status(id); got != "gone" {
		t.Errorf("the image is %s, want gone", got)
	}
}

// What is refused in admit costs the client nothing and leaves the image as it
// is.
func TestAdmissionRefusesBeforeTheBody(t *testing.T) {
	data := random(t, 1000)
	good := signed(t, data)
	without := func(name string) map[string]string {
		some := map[string]string{}
		for k, v := range good {
			if k != name {
				some[k] = v
			}
		}
		return some
	}
	with := func(name, value string) map[string]string {
		some := without(name)
		some[name] = value
		return some
	}
	expired := newCertificate(time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	tests := []struct {
		name       string
		properties map[string]string
		prepare    func(*stage)
		status     int
		reason     string
	}{
		{"unsigned", nil, nil, 403, "signature_required"},
		{"no signature", without(signature.PropertySignature), nil, 400, "property_missing"},
		{"no hash", without(signature.PropertyHashMethod), nil, 400, "property_missing"},
		{"no key type", without(signature.PropertyKeyType), nil, 400, "property_missing"},
		{"no certificate", without(signature.PropertyCertificate), nil, 400, "property_missing"},
		{"hash misspelt", with(signature.PropertyHashMethod, "SHA256"), nil, 400, "property_invalid"},
		{"Python's repr", with(signature.PropertySignature, "b'"+good[signature.PropertySignature]+"'"), nil, 400, "property_invalid"},
		{"unknown certificate", with(signature.PropertyCertificate, "00000000-0000-0000-0000-000000000000"), nil, 400, "certificate_not_found"},
		{"expired certificate", good, func(s *stage) { s.barbican.certificates[certificateID] = expired }, 400, "certificate_expired"},
		{"no certificate at all", good, func(s *stage) { s.barbican.certificates[certificateID] = []byte("hello") }, 400, "certificate_unreadable"},
		{"another key type", with(signature.PropertyKeyType, "DSA"), nil, 400, "key_type_mismatch"},
		{"key manager away", good, func(s *stage) { s.barbican.fail = &proxy.Refusal{Code: proxy.CodeKeyManagerUnavailable} }, 503, "key_manager_unavailable"},
		{"key manager broken", good, func(s *stage) { s.barbican.fail = fmt.Errorf("what is this") }, 500, "internal_error"},
		{"Keystone away", good, func(s *stage) { s.keystone.down = true }, 503, "service_credential_unavailable"},
	}
	for _, test := range tests {
		s := newStage(t)
		if test.prepare != nil {
			test.prepare(s)
		}
		id := s.image("a", test.properties)
		status, body := s.upload(id, tokenA, data, false)
		if status != test.status || reason(body) != test.reason {
			t.Errorf("%s: upload = %d %s, want %d %s", test.name, status, body, test.status, test.reason)
		}
		if s.glance.begun != 0 || s.glance.called("DELETE") != 0 || s.glance.status(id) != "queued" {
			t.Errorf("%s: Glance saw %d uploads and %d DELETEs, and the image is %s; want none, none, queued",
				test.name, s.glance.begun, s.glance.called("DELETE"), s.glance.status(id))
		}
	}
}

// A client that waits for 100 Continue never sends a body that is refused.
func TestRefusalBeforeContinue(t *testing.T) {
	s := newStage(t)
	id := s.image("a", nil)
	conn := s.dial()
	fmt.Fprintf(conn, "PUT /v2/images/%s/file HTTP/1.1\r\nHost: x\r\nX-Auth-Token: %s\r\nContent-Type: application/octet-stream\r\nContent-Length: 1000000\r\nExpect: 100-continue\r\n\r\n", id, tokenA)
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 403 {
		t.Errorf("answer = %d, want 403 without 100 before it", res.StatusCode)
	}
}

// A client that reads only when it has sent everything reads the reason.
func TestRefusalIsReadByWhoSendsFirst(t *testing.T) {
	s := newStage(t)
	id := s.image("a", nil)
	conn := s.dial()
	const size = 64 << 20
	fmt.Fprintf(conn, "PUT /v2/images/%s/file HTTP/1.1\r\nHost: x\r\nX-Auth-Token: %s\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n", id, tokenA, size)
	chunk := make([]byte, 1<<20)
	for range size / len(chunk) {
		if _, err := conn.Write(chunk); err != nil {
			t.Fatalf("sending: %v", err)
		}
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(res.Body)
	if res.StatusCode != 403 || !strings.Contains(string(body), "signature_required") {
		t.Errorf("answer = %d %s, want 403 signature_required", res.StatusCode, body)
	}
}

func (s *stage) dial() net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.server.Listener.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn
}

// Who cannot write an image cannot make the proxy delete it, either.
func TestNobodyDeletesWhatIsNotTheirs(t *testing.T) {
	for _, size := range []int{10, 100_000} {
		data := random(t, size)
		s := newStage(t)
		id := s.image("a", signed(t, data))
		s.glance.set(s.glance.images[id], "visibility", "public")
		s.upload(id, tokenB, flipped(data, 3), false)
		if got := s.glance.status(id); got != "queued" {
			t.Errorf("after another project's upload of %d bad bytes the image is %s, want queued", size, got)
		}
		if status, body := s.upload(id, tokenA, data, false); status != 204 {
			t.Errorf("its owner's upload afterwards = %d %s, want 204", status, body)
		}
		if status, body := s.upload(id, tokenA, flipped(data, 3), false); status != 409 || reason(body) != "image_not_queued" {
			t.Errorf("upload to an active image = %d %s, want 409 image_not_queued", status, body)
		}
		if got := s.glance.status(id); got != "active" {
			t.Errorf("the active image is %s, want active", got)
		}
	}
}

// A bad second upload leaves the good first one alone, which is still running.
func TestBadSecondUploadDuringAGoodFirst(t *testing.T) {
	s := newStage(t, func(c *proxy.Config) { c.SettleTimeout = 300 * time.Millisecond })
	data := random(t, 200_000)
	id := s.image("a", signed(t, data))

	// The second is admitted while the image is still queued, and then waits.
	second, secondWrites := io.Pipe()
	answer := make(chan string)
	go func() {
		status, body := s.do("PUT", "/v2/images/"+id+"/file", tokenA, second)
		answer <- fmt.Sprint(status, " ", reason(body))
	}()
	secondWrites.Write(make([]byte, 100)) // returns when the proxy reads: it has admitted

	first, firstWrites := io.Pipe()
	good := make(chan int)
	go func() {
		status, _ := s.do("PUT", "/v2/images/"+id+"/file", tokenA, first)
		good <- status
	}()
	firstWrites.Write(data[:100_000])
	waitFor(t, func() bool { return s.glance.status(id) == "saving" })
	secondWrites.Close()
	if got := <-answer; got != "400 signature_mismatch" {
		t.Errorf("the second upload = %s, want 400 signature_mismatch", got)
	}
	firstWrites.Write(data[100_000:])
	firstWrites.Close()
	if status := <-good; status != 204 || s.glance.status(id) != "active" {
		t.Errorf("the first upload = %d and the image is %s, want 204 and active", status, s.glance.status(id))
	}
}

// waitFor waits until done, five seconds at most; complain says what is amiss.
func waitFor(t testing.TB, done func() bool, complain ...func()) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); !done(); runtime.Gosched() {
		if time.Now().After(deadline) {
			for _, f := range complain {
				f()
			}
			t.Fatal("waited in vain")
		}
	}
}

// What became active must be what was admitted, whatever came between.
func TestSettleComparesWhatBecameActive(t *testing.T) {
	data := random(t, 50_000)
	tests := map[string]func(record){
		"signature":   func(r record) { r[signature.PropertySignature] = "AAAA" },
		"hash":        func(r record) { r[signature.PropertyHashMethod] = "SHA-512" },
		"removed":     func(r record) { delete(r, signature.PropertyKeyType) },
		"certificate": func(r record) { r[signature.PropertyCertificate] = "00000000-0000-0000-0000-000000000000" },
		"owner":       func(r record) { r["owner"] = "z"; r["visibility"] = "public" },
		"size":        func(r record) { r["size"] = len(data) - 1 },
		"status":      func(r record) { r["status"] = "deactivated" },
	}
	for name, change := range tests {
		s := newStage(t)
		s.glance.after = change
		id := s.image("a", signed(t, data))
		status, body := s.upload(id, tokenA, data, false)
		if status != 409 || reason(body) != "changed_during_upload" {
			t.Errorf("%s: upload = %d %s, want 409 changed_during_upload", name, status, body)
		}
		if got := s.glance.status(id); got == "active" {
			t.Errorf("%s: the image is still active", name)
		}
	}
}

// A success that Glance gives before the verdict is taken back.
func TestEarlySuccessIsNone(t *testing.T) {
	s := newStage(t)
	data := random(t, 1<<20)
	id := s.image("a", signed(t, data))
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "PUT" {
			return false
		}
		s.glance.set(s.glance.images[id], "status", "active")
		http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(http.StatusNoContent)
		http.NewResponseController(w).Flush()
		return true
	}
	body, writes := io.Pipe()
	go writes.Write(data[:1<<19]) // and no more: the verdict never comes
	status, text := s.do("PUT", "/v2/images/"+id+"/file", tokenA, body)
	writes.Close()
	if status != 502 || reason(text) != "answered_before_verdict" {
		t.Errorf("upload = %d %s, want 502 answered_before_verdict", status, text)
	}
	if got := s.glance.status(id); got == "active" {
		t.Error("the image is still active")
	}
}

// Where Glance refuses a verified upload its answer passes, and the image stays
// as Glance left it.
func TestGlancesRefusalPasses(t *testing.T) {
	s := newStage(t)
	data := random(t, 50_000)
	id := s.image("a", signed(t, data))
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "PUT" {
			return false
		}
		io.Copy(io.Discard, r.Body)
		http.Error(w, "Denying attempt to upload image larger than 1 bytes.", http.StatusRequestEntityTooLarge)
		return true
	}
	status, body := s.upload(id, tokenA, data, false)
	if status != 413 || !strings.Contains(body, "larger than 1") {
		t.Errorf("upload = %d %s, want Glance's 413", status, body)
	}
	if s.glance.called("DELETE") != 0 {
		t.Error("the image was deleted")
	}
}

// A client that breaks off leaves its image queued and nothing running.
func TestClientBreaksOff(t *testing.T) {
	for _, framing := range []string{"Content-Length: 1000000", "Transfer-Encoding: chunked"} {
		s := newStage(t)
		data := random(t, 1_000_000)
		id := s.image("a", signed(t, data))
		conn := s.dial()
		fmt.Fprintf(conn, "PUT /v2/images/%s/file HTTP/1.1\r\nHost: x\r\nX-Auth-Token: %s\r\nContent-Type: application/octet-stream\r\n%s\r\n\r\n", id, tokenA, framing)
		if strings.HasPrefix(framing, "Transfer") {
			fmt.Fprintf(conn, "%x\r\n", 200_000)
		}
		conn.Write(data[:200_000])
		waitFor(t, func() bool { return s.glance.status(id) == "saving" })
		conn.Close()
		waitFor(t, func() bool { return s.glance.status(id) == "queued" })
		waitFor(t, func() bool { return strings.Contains(s.log.String(), `"reasonCode":"upload_incomplete"`) })
		if s.glance.called("DELETE") != 0 {
			t.Errorf("%s: the image was deleted", framing)
		}
	}
}

// A client that sends nothing for too long is cut; one that is slow is not.
func TestStalledClient(t *testing.T) {
	for _, sent := range []int{100, 200_000} { // before Glance has heard of it, and after
		s := newStage(t, func(c *proxy.Config) { c.StallTimeout = 500 * time.Millisecond })
		data := random(t, 1_000_000)
		id := s.image("a", signed(t, data))
		body, writes := io.Pipe()
		go func() {
			writes.Write(data[:sent]) // and no more
		}()
		status, text := s.do("PUT", "/v2/images/"+id+"/file", tokenA, body)
		writes.Close()
		if status != 400 || reason(text) != "upload_incomplete" || s.glance.status(id) != "queued" {
			t.Errorf("upload that stalls after %d bytes = %d %s and the image is %s, want 400 upload_incomplete and queued", sent, status, text, s.glance.status(id))
		}
		slow, pieces := io.Pipe()
		go func() {
			for pace := time.NewTicker(50 * time.Millisecond); len(data) > 0; <-pace.C {
				n := min(len(data), 50_000)
				pieces.Write(data[:n])
				data = data[n:]
			}
			pieces.Close()
		}()
		if status, text := s.do("PUT", "/v2/images/"+id+"/file", tokenA, slow); status != 204 {
			t.Errorf("slow upload = %d %s, want 204", status, text)
		}
	}
}

// On failure the upstream connection carries neither the held-back bytes nor
// anything that ends the body: seen on the wire.
func TestNothingFollowsAFailure(t *testing.T) {
	for _, chunked := range []bool{false, true} {
		s := newStage(t)
		data := random(t, 300_000)
		id := s.image("a", signed(t, data))

		wire := newWire(t, s.glance.Listener.Addr().String())
		base, _ := url.Parse("http://" + wire.Addr().String())
		other := newStage(t, func(c *proxy.Config) { c.Glance = base; c.Log = c.Log.Output(s.log) })
		status, body := other.upload(id, tokenA, flipped(data, 10), chunked)
		if status != 400 || reason(body) != "signature_mismatch" {
			t.Errorf("upload, chunked %v = %d %s, want 400 signature_mismatch", chunked, status, body)
		}
		sent := wire.uploads()
		if len(sent) != 1 {
			t.Fatalf("chunked %v: %d uploads on the wire, want 1", chunked, len(sent))
		}
		_, after, _ := bytes.Cut(sent[0], []byte("\r\n\r\n"))
		if bytes.Contains(after, flipped(data, 10)[len(data)-signature.Tail:][:64]) {
			t.Errorf("chunked %v: held-back bytes are on the wire", chunked)
		}
		if chunked && (bytes.HasSuffix(after, []byte("0\r\n\r\n")) || bytes.HasSuffix(after, []byte("0\r\n"))) {
			t.Error("a terminating chunk is on the wire")
		}
		if !chunked && len(after) > len(data)-signature.Tail {
			t.Errorf("%d body bytes are on the wire, want %d at most", len(after), len(data)-signature.Tail)
		}
		if !bytes.Contains(after, data[1000:1064]) {
			t.Errorf("chunked %v: the beginning of the data is not on the wire: nothing was shown", chunked)
		}
		if got := s.glance.status(id); got != "gone" {
			t.Errorf("chunked %v: the image is %s, want gone", chunked, got)
		}
	}
}

func TestAuditAltersNothing(t *testing.T) {
	for _, size := range sizes {
		s := newStage(t)
		data := random(t, size)
		properties := signed(t, data)
		for name, test := range map[string]struct {
			properties map[string]string
			data       []byte
			outcome    string
		}{
			"good":     {properties, data, `"outcome":"success"`},
			"wrong":    {properties, append(bytes.Clone(data), 1), `"reasonCode":"signature_mismatch"`},
			"unsigned": {nil, data, `"reasonCode":"signature_required"`},
		} {
			id := s.image("b", test.properties)
			if status, body := s.upload(id, tokenB, test.data, size%2 == 1); status != 204 {
				t.Errorf("%s, %d bytes: upload = %d %s, want 204", name, size, status, body)
			}
			if got := s.glance.stored(id); !bytes.Equal(got, test.data) {
				t.Errorf("%s, %d bytes: Glance stored %d that are not the same", name, size, len(got))
			}
			line := lineAbout(s.log.String(), id+"/file")
			if !strings.Contains(line, test.outcome) || !strings.Contains(line, `"audit_only":true`) {
				t.Errorf("%s, %d bytes: the log says %s, want %s", name, size, line, test.outcome)
			}
		}
	}
}

func TestAuditNeedsNeitherKeystoneNorBarbican(t *testing.T) {
	s := newStage(t)
	s.keystone.down = true
	s.barbican.fail = fmt.Errorf("away")
	data := random(t, 1000)
	id := s.image("b", signed(t, data))
	if status, body := s.upload(id, tokenB, data, false); status != 204 {
		t.Errorf("upload = %d %s, want 204", status, body)
	}
}

func TestOffIsNotLookedAt(t *testing.T) {
	s := newStage(t)
	s.keystone.down = true
	id := s.image("c", map[string]string{signature.PropertySignature: "x"})
	if status, body := s.upload(id, tokenC, []byte("anything"), false); status != 204 {
		t.Errorf("upload = %d %s, want 204", status, body)
	}
	if s.barbican.asked != 0 {
		t.Errorf("the key manager was asked %d times, want 0", s.barbican.asked)
	}
}

func TestNoSecretIsLogged(t *testing.T) {
	s := newStage(t)
	data := random(t, 30_000)
	properties := signed(t, data)
	for _, body := range [][]byte{data, flipped(data, 1)} {
		id := s.image("a", properties)
		s.upload(id, tokenA, body, false)
	}
	s.do("PUT", "/v2/images/"+s.image("a", nil)+"/file?x=secret", tokenA, strings.NewReader(""))
	for name, secret := range map[string]string{"the token": tokenA, "our token": service, "the signature": properties[signature.PropertySignature], "the query": "secret"} {
		if strings.Contains(s.log.String(), secret) {
			t.Errorf("the log has %s", name)
		}
	}
}

// Memory does not depend on the size of an upload.
func TestMemoryIsConstant(t *testing.T) {
	s := newStage(t)
	var peak atomic.Uint64
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "PUT" {
			return false
		}
		buf := make([]byte, 64<<10)
		for n := 0; ; n++ {
			if _, err := r.Body.Read(buf); err != nil {
				return true
			}
			if n%512 == 0 {
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak.Store(max(peak.Load(), m.HeapInuse))
			}
		}
	}
	id := s.image("a", signed(t, []byte("other")))
	measure := func(size int64) uint64 {
		peak.Store(0)
		runtime.GC()
		s.do("PUT", "/v2/images/"+id+"/file", tokenA, io.LimitReader(zeros{}, size))
		s.glance.put(record{"id": id, "owner": "a", "status": "queued"})
		for k, v := range signed(t, []byte("other")) {
			s.glance.set(s.glance.images[id], k, v)
		}
		return peak.Load()
	}
	measure(8 << 20)
	small, large := measure(16<<20), measure(512<<20)
	if large > small+8<<20 {
		t.Errorf("the heap peaked at %d MiB for 512 MiB, and at %d MiB for 16 MiB", large>>20, small>>20)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func lineAbout(log, what string) string {
	for line := range strings.Lines(log) {
		if strings.Contains(line, what) {
			return line
		}
	}
	return ""
}

// A Glance that does not like our service token (it answers 404 to one that is
// scoped to the system) is not believed that the image is gone.
func TestServiceTokenThatGlanceDoesNotLike(t *testing.T) {
	s := newStage(t)
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("X-Service-Token") != "" {
			http.Error(w, "The resource could not be found.", http.StatusNotFound)
			return true
		}
		return false
	}
	data := random(t, 50_000)
	good := s.image("a", signed(t, data))
	if status, body := s.upload(good, tokenA, data, false); status != 204 || s.glance.status(good) != "active" {
		t.Errorf("good upload = %d %s and the image is %s, want 204 and active", status, body, s.glance.status(good))
	}
	bad := s.image("a", signed(t, data))
	if status, _ := s.upload(bad, tokenA, flipped(data, 9), false); status != 400 || s.glance.status(bad) != "gone" {
		t.Errorf("bad upload = %d and the image is %s, want 400 and gone", status, s.glance.status(bad))
	}
	s.glance.after = func(r record) { r["size"] = 1 }
	changed := s.image("a", signed(t, data))
	if status, _ := s.upload(changed, tokenA, data, false); status != 409 || s.glance.status(changed) != "gone" {
		t.Errorf("changed upload = %d and the image is %s, want 409 and gone", status, s.glance.status(changed))
	}
}

// A token that expires in mid-upload still settles it, by our service token
// beside it, or by our own alone.
func TestTokenThatExpiresDuringTheUpload(t *testing.T) {
	for name, helps := range map[string]bool{"with our service token it counts": true, "it never counts": false} {
		s := newStage(t)
		expired := false
		s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
			if expired && r.Header.Get("X-Auth-Token") == tokenA && !(helps && r.Header.Get("X-Service-Token") == service) {
				http.Error(w, "expired", http.StatusUnauthorized)
				return true
			}
			return false
		}
		s.glance.after = func(record) { expired = true }
		data := random(t, 50_000)
		id := s.image("a", signed(t, data))
		if status, body := s.upload(id, tokenA, data, false); status != 204 || s.glance.status(id) != "active" {
			t.Errorf("%s: good upload = %d %s and the image is %s, want 204 and active", name, status, body, s.glance.status(id))
		}
		expired = false
		s.glance.after = func(r record) { expired = true; r["size"] = 1 }
		id = s.image("a", signed(t, data))
		want := "deactivated"
		if helps {
			want = "gone"
		}
		if status, body := s.upload(id, tokenA, data, false); status != 409 || s.glance.status(id) != want {
			t.Errorf("%s: changed upload = %d %s and the image is %s, want 409 and %s", name, status, body, s.glance.status(id), want)
		}
	}
}
