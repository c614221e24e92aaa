package proxy_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy"
	"github.com/countersign/countersign/proxy/receipt"
	"github.com/countersign/countersign/signature"
)

const downloadPolicy = `
rules:
  - {name: receipt, projects: [id: r], mode: enforce, signers: any, downloads: receipt}
  - {name: verify, projects: [id: v], mode: enforce, signers: any, downloads: verify, services: {mode: exempt, users: [id: user-nova]}}
  - {name: ranges, projects: [id: w], mode: enforce, signers: any, downloads: verify, ranges: true}
  - {name: audited, projects: [id: x], mode: audit, downloads: verify}
  - {name: enforced, projects: [id: a], mode: enforce, signers: any}
  - {name: off, projects: [id: c], mode: off}
  - {name: rest, projects: all, mode: audit}
`

func newDownloadStage(t testing.TB) *stage {
	t.Helper()
	rules, err := policy.Load(strings.NewReader(downloadPolicy))
	if err != nil {
		t.Fatal(err)
	}
	return newStage(t, func(c *proxy.Config) { c.Policies = rules })
}

// download gets an image's data. The error is of a body that did not come to its
// end.
func (s *stage) download(id, token string, header ...string) (status int, body []byte, err error) {
	s.t.Helper()
	req, _ := http.NewRequest("GET", s.server.URL+"/v2/images/"+id+"/file", nil)
	req.Header.Set("X-Auth-Token", token)
	req.Header.Set("Accept", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err = io.ReadAll(res.Body)
	return res.StatusCode, body, err
}

// active makes an active image of a project, signed and uploaded through the
// proxy.
func (s *stage) active(t *testing.T, project string, data []byte, extra ...string) string {
	t.Helper()
	properties := signed(t, data)
	properties["visibility"] = "public"
	for i := 0; i+1 < len(extra); i += 2 {
		properties[extra[i]] = extra[i+1]
	}
	id := s.image(project, properties)
	if status, body := s.upload(id, "token-"+project, data, false); status != http.StatusNoContent {
		t.Fatalf("upload = %d %s, want 204", status, body)
	}
	return id
}

// change alters an image behind the proxy's back.
func (s *stage) change(id string, alter func(img record)) {
	s.glance.mu.Lock()
	defer s.glance.mu.Unlock()
	alter(s.glance.images[id])
}

func (s *stage) swap(id string, data []byte) {
	s.glance.mu.Lock()
	defer s.glance.mu.Unlock()
	s.glance.data[id] = data
}

func unreceipted(img record) { delete(img, receipt.Property) }
func unsigned(img record) {
	delete(img, receipt.Property)
	for _, name := range signature.Properties {
		delete(img, name)
	}
}

func TestDownload(t *testing.T) {
	data := random(t, 100_000)
	for _, test := range []struct {
		name, owner, token string
		alter              func(record)
		header             []string
		wantStatus         int
		wantReason         string
		wantLog            string
	}{
		{"receipt", "r", "token-r", nil, nil, 200, "", `"action":"read/download","outcome":"success"`},
		{"receipt, a part", "r", "token-r", nil, []string{"Range", "bytes=0-9"}, 206, "", `"outcome":"success"`},
		{"no receipt", "r", "token-r", unreceipted, nil, 403, "receipt_missing", `"outcome":"failure"`},
		{"no receipt, a part", "r", "token-r", unreceipted, []string{"Range", "bytes=0-9"}, 403, "receipt_missing", ""},
		{"receipt of what it was before", "r", "token-r", func(img record) { img["os_hash_value"] = strings.Repeat("0", 128) }, nil, 403, "receipt_invalid", ""},
		{"receipt of another owner", "v", "token-r", func(img record) { img["owner"] = "r" }, nil, 403, "receipt_invalid", ""},
		{"receipt, of a caller that verifies", "r", "token-v", nil, nil, 200, "", `"rule":"verify"`},
		{"deactivated, seen by an administrator", "r", "token-r", func(img record) { unreceipted(img); img["status"] = "deactivated" }, nil, 403, "receipt_missing", ""},

		{"a caller of the guarded project", "b", "token-r", unsigned, nil, 403, "receipt_missing", `"rule":"receipt","mode":"enforce"`},
		{"a caller of another project", "b", "token-b", unsigned, nil, 200, "", ""},
		{"somebody of another project, of a guarded image", "r", "token-b", unreceipted, nil, 403, "receipt_missing", ""},
		{"a service is no exception", "r", "token-b", unreceipted, []string{"X-Service-Token", "token-nova"}, 403, "receipt_missing", ""},
		{"off", "c", "token-c", unsigned, nil, 200, "", ""},
		{"an image without owner", "", "token-b", unsigned, nil, 200, "", ""},
		{"an image without owner, to a guarded project", "", "token-r", unsigned, nil, 403, "receipt_missing", ""},

		{"verify", "v", "token-v", nil, nil, 200, "", `"outcome":"success"`},
		{"verify without receipt", "v", "token-v", unreceipted, nil, 200, "", `"outcome":"success"`},
		{"verify without receipt, Glance's hash wrong", "v", "token-v", func(img record) { img["os_hash_value"] = strings.Repeat("0", 128) }, nil, 200, "", ""},
		{"verify without anything", "v", "token-v", unsigned, nil, 403, "receipt_missing", ""},
		{"verify with half a signature", "v", "token-v", func(img record) { unreceipted(img); delete(img, signature.PropertyKeyType) }, nil, 400, "property_missing", ""},
		{"verify a part", "v", "token-v", nil, []string{"Range", "bytes=0-9"}, 403, "range_refused", ""},
		{"verify a part, in Glance's other header", "v", "token-v", nil, []string{"Content-Range", "bytes 0-9/*"}, 403, "range_refused", ""},
		{"verify a part of an unsigned image", "v", "token-v", unsigned, []string{"Range", "bytes=0-9"}, 403, "range_refused", ""},
		{"a part that the rule allows", "w", "token-w", nil, []string{"Range", "bytes=0-9"}, 206, "", ""},
		{"a part that the rule allows, without receipt", "w", "token-w", unreceipted, []string{"Range", "bytes=0-9"}, 403, "receipt_missing", ""},
		{"a part that the owner allows and the caller does not", "w", "token-v", nil, []string{"Range", "bytes=0-9"}, 403, "range_refused", ""},

		{"audited", "x", "token-x", unsigned, nil, 200, "", `"message":"would be refused: countersign_receipt`},
		{"audited, a part", "x", "token-x", unsigned, []string{"Range", "bytes=0-9"}, 206, "", `"reasonCode":"range_refused"`},
		{"audited and signed", "x", "token-x", nil, nil, 200, "", `"audit_only":true`},
		{"audited owner, enforcing caller", "x", "token-r", unsigned, nil, 403, "receipt_missing", `"mode":"enforce"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newDownloadStage(t)
			var id string
			if test.owner == "" {
				id = s.active(t, "b", data)
				s.change(id, func(img record) { img["owner"] = nil })
			} else {
				id = s.active(t, test.owner, data)
			}
			if test.alter != nil {
				s.change(id, test.alter)
			}
			s.glance.forget()
			before := len(s.log.String())
			status, body, err := s.download(id, test.token, test.header...)
			if status != test.wantStatus || reason(string(body)) != test.wantReason && test.wantReason != "" || err != nil {
				t.Errorf("download = %d %.300s, %v, want %d %s", status, body, err, test.wantStatus, test.wantReason)
			}
			if status == 200 && string(body) != string(data) {
				t.Errorf("the data is not the image's: %d bytes, want %d", len(body), len(data))
			}
			s.server.Close() // so that the log is written
			if log := s.log.String()[before:]; !strings.Contains(log, test.wantLog) {
				t.Errorf("the log says %s, want %s", log, test.wantLog)
			}
			if status/100 != 2 && s.glance.called("GET", "/v2/images/"+id+"/file") != 0 {
				t.Error("Glance was asked for data that was refused")
			}
		})
	}
}

// Data that is not what was verified does not come to its end, and if it is
// short the client sees none of it.
func TestDownloadOfOtherData(t *testing.T) {
	for _, withReceipt := range []bool{true, false} {
		for _, size := range []int{1, signature.Tail - 1, signature.Tail, signature.Tail + 1, 1 << 20} {
			for _, wrong := range []struct {
				name string
				of   func(data []byte) []byte
			}{
				{"first bit", func(data []byte) []byte { return flipped(data, 0) }},
				{"last bit", func(data []byte) []byte { return flipped(data, len(data)-1) }},
				{"a byte more", func(data []byte) []byte { return append(append([]byte{}, data...), 0) }},
				{"half", func(data []byte) []byte { return data[:(len(data)+1)/2] }},
			} {
				if size == 1 && wrong.name == "half" {
					continue // is all of it
				}
				t.Run(fmt.Sprintf("%d bytes, receipt %v, %s", size, withReceipt, wrong.name), func(t *testing.T) {
					s := newDownloadStage(t)
					data := random(t, size)
					id := s.active(t, "v", data)
					if !withReceipt {
						s.change(id, unreceipted)
					}
					other := wrong.of(data)
					s.swap(id, other)
					status, body, err := s.download(id, "token-v")
					refused := status == http.StatusBadGateway && reason(string(body)) == "download_mismatch"
					brokenOff := status == 200 && err != nil && len(body) <= len(other)-signature.Tail
					switch {
					case len(other) <= signature.Tail && !refused:
						t.Errorf("download = %d %.300s, want 502 download_mismatch", status, body)
					case len(other) > 1<<18 && !brokenOff:
						t.Errorf("download = %d, %d of %d bytes, %v, want 200 and at least the last %d held back", status, len(body), len(other), err, signature.Tail)
					case !refused && !brokenOff: // as much as was there at once
						t.Errorf("download = %d, %d of %d bytes, %v", status, len(body), len(other), err)
					}
					s.server.Close() // so that the log is written
					if log := s.log.String(); !strings.Contains(log, `"level":"error"`) || !strings.Contains(log, `"reasonCode":"download_mismatch"`) {
						t.Errorf("the log says %s, want an error", log)
					}
				})
			}
		}
	}
}

// In audit mode the same is noted, and nothing else.
func TestDownloadOfOtherDataAudited(t *testing.T) {
	s := newDownloadStage(t)
	data := random(t, 100_000)
	id := s.active(t, "x", data)
	s.swap(id, flipped(data, 5))
	status, body, err := s.download(id, "token-x")
	if status != 200 || err != nil || len(body) != len(data) {
		t.Errorf("download = %d, %d bytes, %v, want all of it", status, len(body), err)
	}
	s.server.Close() // so that the log is written
	if log := s.log.String(); !strings.Contains(log, "would be refused: the data that Glance hands out is not what was verified") {
		t.Errorf("the log says %s", log)
	}
}

// What had no data when it was looked at is not handed out if it has some when
// Glance answers.
func TestDownloadThatBecomesActive(t *testing.T) {
	s := newDownloadStage(t)
	id := s.image("r", map[string]string{"visibility": "public"})
	if status, _, _ := s.download(id, "token-r"); status != http.StatusNoContent {
		t.Errorf("download of nothing = %d, want Glance's 204", status)
	}
	s.swap(id, []byte("data"))
	if status, body, _ := s.download(id, "token-r"); reason(string(body)) != "receipt_missing" {
		t.Errorf("download = %d %s, want receipt_missing", status, body)
	}
}

// An answer that is not the whole data cannot be checked.
func TestDownloadAnsweredInPart(t *testing.T) {
	s := newDownloadStage(t)
	data := random(t, 100_000)
	id := s.active(t, "v", data)
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		if strings.HasSuffix(r.URL.Path, "/file") {
			r.Header.Set("Range", "bytes=0-9")
		}
		return false
	}
	if status, body, _ := s.download(id, "token-v"); status != http.StatusBadGateway || reason(string(body)) != "download_mismatch" {
		t.Errorf("download = %d %s, want 502 download_mismatch", status, body)
	}
}

// Who asks has to be known where any rule enforces: the caller's project may be
// one that does.
func TestDownloadWithoutKeystone(t *testing.T) {
	s := newDownloadStage(t)
	id := s.active(t, "b", []byte("data"))
	s.keystone.down = true
	if status, body, _ := s.download(id, "token-b"); reason(string(body)) != "service_credential_unavailable" {
		t.Errorf("download = %d %s, want service_credential_unavailable", status, body)
	}
	rules, err := policy.Load(strings.NewReader("rules:\n- {projects: all, mode: audit, downloads: receipt}"))
	if err != nil {
		t.Fatal(err)
	}
	s = newStage(t, func(c *proxy.Config) { c.Policies = rules })
	id = s.active(t, "b", []byte("data"))
	s.keystone.down = true
	if status, body, _ := s.download(id, "token-b"); status != 200 {
		t.Errorf("audited download = %d %s, want 200", status, body)
	}
}

// What a service uploaded unsigned is checked by Glance's own hash, which the
// receipt has.
func TestDownloadExempt(t *testing.T) {
	s := newDownloadStage(t)
	data := random(t, 100_000)
	id := s.image("v", map[string]string{"visibility": "public"})
	status, text := s.do("PUT", "/v2/images/"+id+"/file", "token-v", strings.NewReader(string(data)), "X-Service-Token", "token-nova")
	if status != http.StatusNoContent {
		t.Fatalf("upload by a service = %d %s, want 204", status, text)
	}
	if status, body, err := s.download(id, "token-v"); status != 200 || err != nil || string(body) != string(data) {
		t.Errorf("download = %d, %v, want the data", status, err)
	}
	if status, body, _ := s.download(id, "token-r"); reason(string(body)) != "receipt_exempt" {
		t.Errorf("download by a project that exempts nobody = %d %.200s, want receipt_exempt", status, body)
	}
	s.swap(id, flipped(data, 7))
	if status, _, err := s.download(id, "token-v"); status != 200 || err == nil {
		t.Errorf("download of other data = %d, %v, want a body that breaks off", status, err)
	}
}

// What the policy denies does not go out, with a receipt or by its signature.
func TestDownloadOfWhatIsDenied(t *testing.T) {
	rules := new(changing)
	rules.load(t, downloadPolicy)
	s := newStage(t, func(c *proxy.Config) { c.Policies = rules })
	data := random(t, 100_000)
	id := s.active(t, "v", data)
	rules.load(t, fmt.Sprintf("deny:\n  images: ['SHA-256:%x']%s", sha256.Sum256(data), downloadPolicy))
	if status, body, _ := s.download(id, "token-v"); status != http.StatusForbidden || reason(string(body)) != "image_denied" {
		t.Errorf("download with a receipt = %d %.300s, want image_denied", status, body)
	}
	s.change(id, unreceipted)
	if status, body, err := s.download(id, "token-v"); status == 200 && err == nil {
		t.Errorf("download by the signature = %d, %d bytes, want less than all", status, len(body))
	}
	s.server.Close() // so that the log is written
	if log := s.log.String(); strings.Count(log, `"reasonCode":"image_denied"`) != 2 {
		t.Errorf("the log says %s, want image_denied twice", log)
	}
}

// Properties that make Nova boot from something else are no better for a
// signature.
func TestDownloadThatBootsOtherwise(t *testing.T) {
	s := newDownloadStage(t)
	id := s.active(t, "v", []byte("data"))
	for _, alter := range []func(record){func(record) {}, unreceipted} {
		s.change(id, func(img record) {
			img["block_device_mapping"] = `[{"device_name": "/dev/vda"}]`
			alter(img)
		})
		if status, body, _ := s.download(id, "token-v"); status != http.StatusForbidden {
			t.Errorf("download = %d %.300s, want 403", status, body)
		}
	}
}

// Where every rule says any, nothing is looked at.
func TestDownloadUnguarded(t *testing.T) {
	s := newStage(t)
	id := s.active(t, "a", []byte("data"))
	s.change(id, unsigned)
	s.keystone.down = true
	s.glance.forget()
	if status, body, err := s.download(id, "token-a"); status != 200 || err != nil || string(body) != "data" {
		t.Errorf("download = %d %s, %v, want the data", status, body, err)
	}
	if calls := s.glance.calls; len(calls) != 1 {
		t.Errorf("Glance was asked %q, want the download alone", calls)
	}
}

// A download takes the same memory however long it is.
func TestDownloadMemory(t *testing.T) {
	s := newDownloadStage(t)
	id := s.active(t, "v", []byte("data"))
	const size = 256 << 20
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/file") {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(size))
		io.CopyN(w, zeros{}, size)
		return true
	}
	req, _ := http.NewRequest("GET", s.server.URL+"/v2/images/"+id+"/file", nil)
	req.Header.Set("X-Auth-Token", "token-v")
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	n, err := io.Copy(io.Discard, res.Body)
	runtime.ReadMemStats(&after)
	if n > size-signature.Tail || n < size/2 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%d bytes came, %v, want none of the last %d", n, err, signature.Tail)
	}
	if used := after.TotalAlloc - before.TotalAlloc; used > 4<<20 {
		t.Errorf("%d bytes were allocated for a download of %d", used, size)
	}
}
