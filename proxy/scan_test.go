package proxy_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy"
	"github.com/countersign/countersign/proxy/receipt"
	"github.com/countersign/countersign/signature"
)

// scanPolicy: images of the project r are reported, of v deactivated, of x
// deleted. Those of n may be signed by nobody there is. The rest is audited, as
// if that meant anything for what is done to them.
const scanPolicy = `
deny:
  images: ["SHA-384:%x", "SHA-512:%x"]
rules:
  - {name: report, projects: [{id: r}], mode: enforce, signers: any}
  - {name: deactivate, projects: [{id: v}], mode: enforce, signers: any, unverified: deactivate}
  - {name: delete, projects: [{id: x}], mode: enforce, signers: any, unverified: delete}
  - {name: nobody, projects: [{id: n}], mode: enforce, signers: [{certificate: 11111111-1111-4111-8111-111111111111}], unverified: delete}
  - {name: trusts, projects: [{id: u}], mode: enforce, signers: [{trust: away}], unverified: delete}
  - {name: off, projects: [{id: c}], mode: off}
  - {projects: all, unowned: true, mode: audit}
trust:
  away: {certificates: [55555555-5555-4555-8555-555555555555]}
`

// Data that the policy denies: by a digest that nobody else computes, and by
// Glance's own.
var denied384, denied512 = []byte("denied"), []byte("denied, too")

// newScanStage is a stage on which images are there already.
func newScanStage(t *testing.T, change ...func(*proxy.Config)) *stage {
	t.Helper()
	rules, err := policy.Load(strings.NewReader(fmt.Sprintf(scanPolicy, sha512.Sum384(denied384), sha512.Sum512(denied512))))
	if err != nil {
		t.Fatal(err)
	}
	return newStage(t, append([]func(*proxy.Config){func(c *proxy.Config) {
		c.Policies, c.SettleTimeout = rules, 10*time.Second
	}}, change...)...)
}

// has makes an active image, an hour old, with data. Whatever else it is to be
// comes in pairs of name and value.
func (s *stage) has(owner string, data []byte, properties map[string]string, more ...any) string {
	sum := sha512.Sum512(data)
	long := time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	img := record{"id": uuid.NewString(), "owner": owner, "status": "active", "size": len(data), "name": "disk of " + owner,
		"visibility": "private", "created_at": long, "updated_at": long, "os_hash_algo": "sha512", "os_hash_value": hex.EncodeToString(sum[:])}
	for name, value := range properties {
		img[name] = value
	}
	for i := 0; i < len(more); i += 2 {
		img[more[i].(string)] = more[i+1]
	}
	s.glance.put(img)
	s.glance.mu.Lock()
	s.glance.data[img.text("id")] = data
	s.glance.mu.Unlock()
	return img.text("id")
}

// property is a property of an image, or "".
func (s *stage) property(id, name string) string {
	s.glance.mu.Lock()
	defer s.glance.mu.Unlock()
	return s.glance.images[id].text(name)
}

// scan runs a scan to its end and returns the findings by image.
func (s *stage) scan(scan proxy.Scan) map[string]proxy.Finding {
	s.t.Helper()
	found := map[string]proxy.Finding{}
	scan.Concurrency = 2
	scan.Report = func(f proxy.Finding) {
		if before, twice := found[f.ID]; twice {
			s.t.Errorf("image %s is found twice: %+v, %+v", f.ID, before, f)
		}
		found[f.ID] = f
	}
	if err := scan.Run(s.t.Context(), s.proxy); err != nil {
		s.t.Fatalf("scan: %v", err)
	}
	return found
}

// code is the reason of a finding, or "".
func code(f proxy.Finding) string {
	if f.Reason == nil {
		return ""
	}
	return f.Reason.Code
}

// changes counts the calls that change something.
func (s *stage) changes() int {
	return s.glance.called("PATCH") + s.glance.called("POST") + s.glance.called("DELETE") + s.glance.called("PUT")
}

func fingerprintOf(t *testing.T, text []byte) string {
	t.Helper()
	block, _ := pem.Decode(text)
	sum := sha256.Sum256(block.Bytes)
	return hex.EncodeToString(sum[:])
}

// What is found about an image, and what becomes of it.
func TestScan(t *testing.T) {
	data := random(t, 50_000)
	good := signed(t, data)
	without := func(names ...string) map[string]string {
		properties := signed(t, data)
		for _, name := range names {
			delete(properties, name)
		}
		return properties
	}
	for _, tt := range []struct {
		name       string
		owner      string
		data       []byte
		properties map[string]string
		more       []any
		verdict    proxy.Verdict // "": it is not looked at
		reason     string
		action     proxy.Action
		status     string // afterwards
	}{
		{"signed", "r", data, good, nil, proxy.Verified, "", proxy.Certified, "active"},
		{"signed, and public", "x", data, good, []any{"visibility", "public"}, proxy.Verified, "", proxy.Certified, "active"},
		{"signed, and hidden", "x", data, good, []any{"os_hidden", true}, proxy.Verified, "", proxy.Certified, "active"},
		{"signed, and protected", "x", data, good, []any{"protected", true}, proxy.Verified, "", proxy.Certified, "active"},
		{"signed, hashed by Glance otherwise", "x", data, good, []any{"os_hash_algo", "blake2b", "os_hash_value", "00"}, proxy.Verified, "", proxy.Certified, "active"},
		{"signed, never hashed", "x", data, good, []any{"os_hash_algo", nil, "os_hash_value", nil}, proxy.Verified, "", proxy.Certified, "active"},
		{"signed, with somebody's receipt", "x", data, good, []any{receipt.Property, "copied"}, proxy.Verified, "", proxy.Certified, "active"},
		{"empty, and signed so", "x", nil, signed(t, nil), nil, proxy.Verified, "", proxy.Certified, "active"},

		{"unsigned", "r", data, nil, nil, proxy.Refused, "signature_required", proxy.None, "active"},
		{"unsigned", "v", data, nil, nil, proxy.Refused, "signature_required", proxy.Deactivated, "deactivated"},
		{"unsigned", "x", data, nil, nil, proxy.Refused, "signature_required", proxy.Deleted, "gone"},
		{"unsigned, and protected", "x", data, nil, []any{"protected", true}, proxy.Refused, "signature_required", proxy.Deactivated, "deactivated"},
		{"unsigned, and hidden", "x", data, nil, []any{"os_hidden", true}, proxy.Refused, "signature_required", proxy.Deleted, "gone"},
		{"unsigned a moment ago", "x", data, nil, []any{"updated_at", time.Now().UTC().Format(time.RFC3339)}, proxy.Refused, "signature_required", proxy.None, "active"},
		{"unsigned in the time to come", "x", data, nil, []any{"updated_at", time.Now().Add(time.Hour).UTC().Format(time.RFC3339)}, proxy.Refused, "signature_required", proxy.None, "active"},
		{"unsigned, and nobody knows since when", "x", data, nil, []any{"updated_at", "long ago"}, proxy.Refused, "signature_required", proxy.None, "active"},
		{"signed in part", "x", data, without(signature.PropertyKeyType), nil, proxy.Refused, "property_missing", proxy.Deleted, "gone"},
		{"signed with a word", "x", data, good, []any{signature.PropertyKeyType, "RSA"}, proxy.Refused, "property_invalid", proxy.Deleted, "gone"},
		{"other data", "x", flipped(data, 7), good, nil, proxy.Refused, "signature_mismatch", proxy.Deleted, "gone"},
		{"other data", "r", flipped(data, 7), good, nil, proxy.Refused, "signature_mismatch", proxy.None, "active"},
		{"signed by another", "n", data, good, nil, proxy.Refused, "signer_not_trusted", proxy.Deactivated, "deactivated"},
		{"signed by one whose time is over", "x", data, good, []any{signature.PropertyCertificate, "22222222-2222-4222-8222-222222222222"}, proxy.Refused, "certificate_expired", proxy.Deactivated, "deactivated"},
		{"signed with what is no certificate", "x", data, good, []any{signature.PropertyCertificate, "33333333-3333-4333-8333-333333333333"}, proxy.Refused, "certificate_unreadable", proxy.Deactivated, "deactivated"},

		{"signed, but servers boot something else", "x", data, good, []any{"block_device_mapping", "[{}]"}, proxy.Refused, "receipt_invalid", proxy.Deactivated, "deactivated"},
		{"signed, and denied", "x", denied384, signed(t, denied384), nil, proxy.Refused, "image_denied", proxy.Deactivated, "deactivated"},
		{"signed, and denied by Glance's hash", "x", denied512, signed(t, denied512), nil, proxy.Refused, "image_denied", proxy.Deactivated, "deactivated"},
		{"signed, and nobody knows who is trusted", "u", data, good, nil, proxy.Undecided, "anchors_unavailable", proxy.None, "active"},

		{"a certificate that is not there", "x", data, good, []any{signature.PropertyCertificate, "44444444-4444-4444-8444-444444444444"}, proxy.Undecided, "certificate_not_found", proxy.None, "active"},
		{"data that is short", "x", data, good, []any{"size", len(data) + 1}, proxy.Undecided, "data_unreadable", proxy.None, "active"},
		{"data that is long", "x", data, good, []any{"size", len(data) - 1}, proxy.Undecided, "data_unreadable", proxy.None, "active"},
		{"damaged in the store", "x", data, signed(t, flipped(data, 3)), []any{"os_hash_value", "00"}, proxy.Undecided, "data_unreadable", proxy.None, "active"},
		{"damaged in the store, yet signed", "x", data, good, []any{"os_hash_value", "00"}, proxy.Undecided, "data_unreadable", proxy.None, "active"},

		{"audited", "b", data, nil, nil, "", "", proxy.None, "active"},
		{"without owner", "", data, nil, nil, "", "", proxy.None, "active"},
		{"off", "c", data, nil, nil, "", "", proxy.None, "active"},
		{"queued", "x", data, nil, []any{"status", "queued"}, "", "", proxy.None, "queued"},
		{"out of use", "x", data, nil, []any{"status", "deactivated"}, "", "", proxy.None, "deactivated"},
	} {
		t.Run(tt.name+" "+tt.owner, func(t *testing.T) {
			s := newScanStage(t, func(c *proxy.Config) { c.SettleTimeout = 30 * time.Minute })
			s.barbican.certificates["22222222-2222-4222-8222-222222222222"] = newCertificate(time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
			s.barbican.certificates["33333333-3333-4333-8333-333333333333"] = []byte("a passphrase")
			id := s.has(tt.owner, tt.data, tt.properties, tt.more...)

			dry := s.scan(proxy.Scan{DryRun: true})[id]
			if dry.Verdict != tt.verdict || code(dry) != tt.reason || dry.Action != tt.action || s.changes() != 0 {
				t.Errorf("dry run: %s %s %s with %d changes, want %s %s %s", dry.Verdict, code(dry), dry.Action, s.changes(), tt.verdict, tt.reason, tt.action)
			}
			f := s.scan(proxy.Scan{})[id]
			if f.Verdict != tt.verdict || code(f) != tt.reason || f.Action != tt.action {
				t.Errorf("scan: %s %s %s (%v; %s), want %s %s %s", f.Verdict, code(f), f.Action, f.Reason, f.Note, tt.verdict, tt.reason, tt.action)
			}
			if got := s.glance.status(id); got != tt.status {
				t.Errorf("afterwards the image is %s, want %s", got, tt.status)
			}
			if tt.verdict != proxy.Verified {
				if s.glance.called("PATCH") != 0 {
					t.Error("something was written")
				}
				return
			}
			if r := s.receipt(id); r.Kind != receipt.Scan || r.Image != id || r.Owner != tt.owner {
				t.Errorf("the receipt is of kind %q for image %s of %s", r.Kind, r.Image, r.Owner)
			}
			s.glance.forget()
			again := s.scan(proxy.Scan{})[id]
			if again.Verdict != proxy.Vouched || again.Signer != fingerprintOf(t, certificatePEM()) || s.glance.called("GET") != 2 {
				t.Errorf("a second scan: %s signed by %s, with %d calls; want %s by two lists", again.Verdict, again.Signer, s.glance.called("GET"), proxy.Vouched)
			}
		})
	}
}

// What a moment may undo is no reason to touch an image.
func TestScanTouchesNothingThatIsUndecided(t *testing.T) {
	data := random(t, 1000)
	for name, fail := range map[string]func(*stage, string){
		"the key manager is away": func(s *stage, _ string) {
			s.barbican.fail = &proxy.Refusal{Code: proxy.CodeKeyManagerUnavailable}
		},
		"the key manager forbids": func(s *stage, _ string) {
			s.barbican.fail = &proxy.Refusal{Code: proxy.CodeCertificateForbidden}
		},
		"the key manager knows us not": func(s *stage, _ string) {
			s.barbican.fail = &proxy.Refusal{Code: proxy.CodeKeyManagerUnauthorized}
		},
		"nobody knows what it is": func(s *stage, _ string) { s.barbican.fail = errors.New("what?") },
		"the data is not there":   func(s *stage, id string) { s.answer("/v2/images/"+id+"/file", http.StatusInternalServerError) },
		"the data is forbidden":   func(s *stage, id string) { s.answer("/v2/images/"+id+"/file", http.StatusForbidden) },
		"the image is not shown":  func(s *stage, id string) { s.answer("/v2/images/"+id, http.StatusServiceUnavailable) },
		"the data breaks off": func(s *stage, id string) {
			s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path != "/v2/images/"+id+"/file" {
					return false
				}
				w.Header().Set("Content-Length", "1000")
				w.Write(data[:500])
				panic(http.ErrAbortHandler)
			}
		},
	} {
		s := newScanStage(t)
		id := s.has("x", data, signed(t, data))
		fail(s, id)
		if f := s.scan(proxy.Scan{})[id]; f.Verdict != proxy.Undecided || f.Reason == nil || f.Action != proxy.None || s.changes() != 0 {
			t.Errorf("%s: %s %s %s with %d changes, want %s alone", name, f.Verdict, code(f), f.Action, s.changes(), proxy.Undecided)
		}
	}
}

// answer makes Glance answer a path with a status.
func (s *stage) answer(path string, status int) {
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != path {
			return false
		}
		http.Error(w, "no", status)
		return true
	}
}

// Images under rules that audit are looked at when they are asked for, and left as
// they are whatever is found.
func TestScanOfAuditedImages(t *testing.T) {
	s := newScanStage(t)
	data := random(t, 1000)
	good, bad := s.has("b", data, signed(t, data)), s.has("b", data, nil)
	found := s.scan(proxy.Scan{Audited: true})
	if f := found[good]; f.Verdict != proxy.Verified || f.Action != proxy.None || f.Note == "" {
		t.Errorf("a signed image: %s %q %q, want %s, and why nothing is done", f.Verdict, f.Action, f.Note, proxy.Verified)
	}
	if f := found[bad]; f.Verdict != proxy.Refused || code(f) != "signature_required" || f.Action != proxy.None {
		t.Errorf("an unsigned image: %s %s %s, want %s", f.Verdict, code(f), f.Action, proxy.Refused)
	}
	if s.changes() != 0 {
		t.Errorf("%d changes, want none", s.changes())
	}
}

// Every image is looked at once, though images are deleted while they are listed,
// and Glance then knows no place to go on from.
func TestScanOfManyPages(t *testing.T) {
	s := newScanStage(t)
	data := random(t, 10)
	var ids []string
	for i := range 20 {
		owner := []string{"r", "x"}[i%2]
		ids = append(ids, s.has(owner, data, nil, "created_at", fmt.Sprintf("2020-01-01T00:00:%02dZ", i), "os_hidden", i > 14))
	}
	lists := 0
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v2/images" {
			if lists++; lists == 2 { // it is asked for what comes after the third
				s.glance.mu.Lock()
				delete(s.glance.images, ids[2])
				s.glance.mu.Unlock()
			}
		}
		return false
	}
	seen := map[string]bool{}
	scan := proxy.Scan{Concurrency: 3, Report: func(f proxy.Finding) { seen[f.ID] = true }}
	if err := scan.Run(t.Context(), s.proxy); err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		if !seen[id] && i != 2 {
			t.Errorf("image %d was not looked at", i)
		}
	}
}

// The images that are asked for, and no others.
func TestScanChooses(t *testing.T) {
	s := newScanStage(t)
	data := random(t, 10)
	r1, r2, x := s.has("r", data, nil), s.has("r", data, nil), s.has("x", data, nil)
	away := s.has("x", data, signed(t, data), "status", "deactivated")
	if found := s.scan(proxy.Scan{Projects: []string{"r"}}); len(found) != 2 || found[r1].ID == "" || found[r2].ID == "" {
		t.Errorf("of project r: %v", found)
	}
	if found := s.scan(proxy.Scan{Images: []string{r1}}); len(found) != 1 || found[r1].ID == "" {
		t.Errorf("one image: %v", found)
	}
	if f := s.scan(proxy.Scan{Images: []string{away}})[away]; f.Action != proxy.Certified || s.glance.status(away) != "deactivated" {
		t.Errorf("a deactivated image that is named: %s %s, and it is %s; want a receipt, and no more", f.Verdict, f.Action, s.glance.status(away))
	}
	if got := s.glance.status(x); got != "active" {
		t.Errorf("an image that was not asked for is %s", got)
	}
	err := proxy.Scan{Images: []string{uuid.NewString()}, Report: func(proxy.Finding) {}}.Run(t.Context(), s.proxy)
	if err == nil {
		t.Error("a scan of an image that is not there succeeds")
	}

	// It is told, and keeps the scan from no other.
	gone, found := uuid.NewString(), map[string]bool{}
	err = proxy.Scan{Images: []string{gone, r1, r2}, Report: func(f proxy.Finding) { found[f.ID] = true }}.Run(t.Context(), s.proxy)
	if err == nil || !strings.Contains(err.Error(), gone) || !found[r1] || !found[r2] {
		t.Errorf("a scan of an image that is not there and of two that are found %v, and says %v", found, err)
	}
}

// Who does not see all images says so, and does not call it all.
func TestScanWithoutTheRole(t *testing.T) {
	s := newScanStage(t)
	s.keystone.member = true
	err := proxy.Scan{Report: func(proxy.Finding) {}}.Run(t.Context(), s.proxy)
	if !errors.Is(err, proxy.ErrNotAdministrator) {
		t.Errorf("Run = %v, want %v", err, proxy.ErrNotAdministrator)
	}
	s.keystone.member, s.keystone.down = false, true
	if err := (proxy.Scan{Report: func(proxy.Finding) {}}).Run(t.Context(), s.proxy); err == nil {
		t.Error("a scan without Keystone succeeds")
	}
}

// A list that is no list, or ends too soon, is not taken for all images.
func TestScanOfABrokenList(t *testing.T) {
	for _, answer := range []string{``, `[]`, `{}`, `{"images": {}}`, `{"images": [`, `{"images": [{}]}`, `{"images": []`, `{"images": [], "next"`, `{"images": 5}`, `{"images": [{"id": "1", "status": 7}]}`} {
		s := newScanStage(t)
		s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/v2/images" {
				return false
			}
			fmt.Fprint(w, answer)
			return true
		}
		if err := (proxy.Scan{Report: func(proxy.Finding) {}}).Run(t.Context(), s.proxy); err == nil {
			t.Errorf("Run over the list %q = nil, want an error", answer)
		}
	}
}

// What a crash in the middle of settling leaves is repaired: the receipt that was
// not written, and the property that was set aside.
func TestScanRepairs(t *testing.T) {
	const aside = "countersign_certificate_uuid"
	data := random(t, 1000)
	properties := signed(t, data)
	delete(properties, signature.PropertyCertificate)
	properties[aside] = certificateID

	s := newScanStage(t)
	id := s.has("x", data, properties)
	if f := s.scan(proxy.Scan{})[id]; f.Verdict != proxy.Verified || f.Action != proxy.Certified {
		t.Errorf("without a receipt: %s %s (%v), want one", f.Verdict, f.Action, f.Reason)
	}
	if s.property(id, aside) != "" || s.property(id, signature.PropertyCertificate) != certificateID || s.glance.called("PATCH") != 1 {
		t.Errorf("afterwards %q is aside and %q in its place, by %d PATCHes; want it back by the one that wrote the receipt",
			s.property(id, aside), s.property(id, signature.PropertyCertificate), s.glance.called("PATCH"))
	}

	// A staged image has its receipt before it is active.
	s.glance.set(s.glance.images[id], aside, certificateID)
	s.glance.unset(s.glance.images[id], signature.PropertyCertificate)
	s.glance.forget()
	if f := s.scan(proxy.Scan{})[id]; f.Verdict != proxy.Vouched || f.Action != proxy.Repaired {
		t.Errorf("with a receipt: %s %s, want it %s", f.Verdict, f.Action, proxy.Repaired)
	}
	if s.property(id, aside) != "" || s.property(id, signature.PropertyCertificate) != certificateID || s.glance.called("GET", "/v2/images/"+id+"/file") != 0 {
		t.Error("afterwards the property is not back, or the data was read")
	}
}

// A writer that had loaded the record before saves it whole, without the receipt.
func TestScanWritesUntilItStays(t *testing.T) {
	s := newScanStage(t)
	data := random(t, 1000)
	id := s.has("x", data, signed(t, data))
	undone := false
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "GET" || r.URL.Path != "/v2/images/"+id || s.property(id, receipt.Property) == "" || undone {
			return false
		}
		undone = true // behind the first look that shows it
		s.glance.mu.Lock()
		json.NewEncoder(w).Encode(s.glance.images[id])
		s.glance.mu.Unlock()
		s.glance.unset(s.glance.images[id], receipt.Property)
		return true
	}
	if f := s.scan(proxy.Scan{})[id]; f.Action != proxy.Certified {
		t.Errorf("%s %s %s, want the receipt written", f.Verdict, f.Action, f.Note)
	}
	if s.property(id, receipt.Property) == "" {
		t.Error("the receipt is gone")
	}
}

// An image that changes while it is looked at is neither vouched for nor touched.
func TestScanOfAnImageThatChanges(t *testing.T) {
	data := random(t, 1000)
	for name, change := range map[string]func(record){
		"owner":     func(img record) { img["owner"] = "r" },
		"signature": func(img record) { img[signature.PropertySignature] = signed(t, data)[signature.PropertySignature] },
		"hash":      func(img record) { img["os_hash_value"] = "00" },
		"size":      func(img record) { img["size"] = 5 },
		"status":    func(img record) { img["status"] = "deactivated" },
	} {
		s := newScanStage(t)
		id := s.has("x", data, signed(t, data))
		s.glance.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/v2/images/"+id+"/file" {
				s.glance.mu.Lock()
				change(s.glance.images[id])
				s.glance.mu.Unlock()
			}
			return false
		}
		if f := s.scan(proxy.Scan{})[id]; f.Action != proxy.Failed || f.Note == "" || s.changes() != 0 {
			t.Errorf("%s: %s %s %q with %d changes, want none, and why", name, f.Verdict, f.Action, f.Note, s.changes())
		}
	}
	// An upload that was settling gives the image its receipt in time.
	s := newScanStage(t)
	id := s.has("x", data, nil)
	looks := 0
	s.glance.before = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == "GET" && r.URL.Path == "/v2/images/"+id {
			if looks++; looks == 2 {
				s.glance.set(s.glance.images[id], receipt.Property, "of a snapshot")
			}
		}
		return false
	}
	if f := s.scan(proxy.Scan{})[id]; f.Action != proxy.Failed || s.glance.status(id) != "active" {
		t.Errorf("an image that gets its receipt: %s %s, and it is %s; want it left alone", f.Verdict, f.Action, s.glance.status(id))
	}
}

// Where Glance lets nobody delete, the image is taken out of use; where it lets
// nobody do that either, this is told.
func TestScanWhereGlanceRefuses(t *testing.T) {
	for name, tt := range map[string]struct {
		methods []string
		action  proxy.Action
		status  string
	}{
		"delete":               {[]string{"DELETE"}, proxy.Deactivated, "deactivated"},
		"delete, and all else": {[]string{"DELETE", "POST"}, proxy.Failed, "active"},
	} {
		s := newScanStage(t, func(c *proxy.Config) {
			if tt.action == proxy.Failed {
				c.SettleTimeout = 300 * time.Millisecond
			}
		})
		id := s.has("x", random(t, 10), nil)
		s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
			for _, method := range tt.methods {
				if r.Method == method {
					http.Error(w, "no", http.StatusForbidden)
					return true
				}
			}
			return false
		}
		f := s.scan(proxy.Scan{})[id]
		if f.Action != tt.action || f.Note == "" || s.glance.status(id) != tt.status {
			t.Errorf("%s: %s %q, and the image is %s; want %s, %s", name, f.Action, f.Note, s.glance.status(id), tt.action, tt.status)
		}
	}
	s := newScanStage(t, func(c *proxy.Config) { c.SettleTimeout = 300 * time.Millisecond })
	data := random(t, 10)
	id := s.has("x", data, signed(t, data))
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != "PATCH" {
			return false
		}
		http.Error(w, "no", http.StatusForbidden)
		return true
	}
	if f := s.scan(proxy.Scan{})[id]; f.Verdict != proxy.Verified || f.Action != proxy.Failed || !strings.Contains(f.Note, "403") {
		t.Errorf("a receipt that Glance does not take: %s %s %q", f.Verdict, f.Action, f.Note)
	}
}

// A certificate that is in a receipt of the project's is not asked for again.
func TestScanTakesTheCertificateFromAReceipt(t *testing.T) {
	s := newScanStage(t)
	data := random(t, 1000)
	first := s.has("x", data, signed(t, data))
	s.scan(proxy.Scan{})
	second := s.has("x", data, signed(t, data), receipt.Property, s.property(first, receipt.Property))
	other := s.has("r", data, signed(t, data), receipt.Property, s.property(first, receipt.Property))
	s.barbican.fail = errors.New("away")
	found := s.scan(proxy.Scan{})
	if f := found[second]; f.Verdict != proxy.Verified || f.Action != proxy.Certified {
		t.Errorf("a copy in the same project: %s %s (%v), want it verified", f.Verdict, f.Action, f.Reason)
	}
	for _, owner := range s.barbican.owners {
		if owner == "x" || owner == "r" {
			t.Errorf("the certificate was fetched for project %q, whose members may not be allowed what the service credential is", owner)
		}
	}
	if f := found[other]; f.Verdict != proxy.Undecided {
		t.Errorf("a copy in another project: %s, want %s", f.Verdict, proxy.Undecided)
	}
}

// Without a private key images are verified, and nothing is written.
func TestScanWithoutReceiptKeys(t *testing.T) {
	s := newScanStage(t, func(c *proxy.Config) { c.Receipts = nil })
	data := random(t, 1000)
	good, bad := s.has("x", data, signed(t, data)), s.has("v", data, nil)
	found := s.scan(proxy.Scan{})
	if f := found[good]; f.Verdict != proxy.Verified || f.Action != proxy.None || f.Note == "" || s.glance.called("PATCH") != 0 {
		t.Errorf("a signed image: %s %s %q, want %s, and why nothing is written", f.Verdict, f.Action, f.Note, proxy.Verified)
	}
	if f := found[bad]; f.Action != proxy.Deactivated {
		t.Errorf("an unsigned image: %s %s", f.Verdict, f.Action)
	}
}

// The images that a certificate signed are found by their receipts, and taken out
// of use at once.
func TestScanBySigner(t *testing.T) {
	s := newScanStage(t)
	data := random(t, 1000)
	mine, hidden := s.has("x", data, signed(t, data)), s.has("r", data, signed(t, data), "os_hidden", true)
	s.scan(proxy.Scan{})
	copied := s.has("x", data, signed(t, data), receipt.Property, s.property(mine, receipt.Property))
	unsigned := s.has("v", data, nil)
	signer := fingerprintOf(t, certificatePEM())
	s.glance.forget()

	found := s.scan(proxy.Scan{SignedBy: signer, Deactivate: true, DryRun: true})
	if len(found) != 2 || found[mine].Verdict != proxy.Signed || found[hidden].Action != proxy.Deactivated || s.changes() != 0 {
		t.Errorf("dry run: %v with %d changes, want the two images, and none", found, s.changes())
	}
	if found := s.scan(proxy.Scan{SignedBy: signer}); len(found) != 2 || found[mine].Action != proxy.None || s.changes() != 0 {
		t.Errorf("list: %v with %d changes", found, s.changes())
	}
	if found := s.scan(proxy.Scan{SignedBy: strings.Repeat("ab", 32), Deactivate: true}); len(found) != 0 {
		t.Errorf("another signer: %v, want none", found)
	}
	s.scan(proxy.Scan{SignedBy: signer, Deactivate: true})
	for id, want := range map[string]string{mine: "deactivated", hidden: "deactivated", copied: "active", unsigned: "active"} {
		if got := s.glance.status(id); got != want {
			t.Errorf("image %s is %s, want %s", id, got, want)
		}
	}
	if found := s.scan(proxy.Scan{SignedBy: signer, Deactivate: true}); len(found) != 2 || found[mine].Action != proxy.None {
		t.Errorf("again: %v, want both, and nothing done", found)
	}
}

// A scan ends when it is told to, and has said nothing about what it did not see.
func TestScanEnds(t *testing.T) {
	s := newScanStage(t)
	data := random(t, 100_000)
	id := s.has("x", data, signed(t, data))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v2/images/"+id+"/file" {
			return false
		}
		w.Write(data[:50_000])
		w.(http.Flusher).Flush()
		cancel()
		<-r.Context().Done()
		return true
	}
	err := proxy.Scan{Report: func(f proxy.Finding) { t.Errorf("found %+v", f) }}.Run(ctx, s.proxy)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v, want %v", err, context.Canceled)
	}
}

// A store that goes silent does not hold the scan.
func TestScanOfASilentStore(t *testing.T) {
	s := newScanStage(t, func(c *proxy.Config) { c.StallTimeout = 50 * time.Millisecond })
	data := random(t, 100_000)
	id := s.has("x", data, signed(t, data))
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v2/images/"+id+"/file" {
			return false
		}
		w.Write(data[:50_000])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
		return true
	}
	if f := s.scan(proxy.Scan{})[id]; f.Verdict != proxy.Undecided || code(f) != "data_unreadable" {
		t.Errorf("%s %s, want %s", f.Verdict, code(f), proxy.Undecided)
	}
}

// serve scans by itself, and tells.
func TestWatchImages(t *testing.T) {
	registry := prometheus.NewRegistry()
	s := newScanStage(t, func(c *proxy.Config) { c.Metrics = proxy.NewMetrics(registry) })
	data := random(t, 1000)
	good, bad := s.has("x", data, signed(t, data)), s.has("r", data, nil)
	ctx, cancel := context.WithCancel(t.Context())
	scans := 0
	s.glance.before = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/v2/images" && r.URL.Query().Get("os_hidden") == "false" {
			if scans++; scans == 3 {
				cancel()
			}
		}
		return false
	}
	s.proxy.WatchImages(ctx, time.Millisecond, 1)
	if s.property(good, receipt.Property) == "" || s.glance.status(bad) != "active" {
		t.Errorf("the signed image has the receipt %q, and the unsigned is %s", s.property(good, receipt.Property), s.glance.status(bad))
	}
	log := s.log.String()
	for _, want := range []string{`"image":"` + bad + `"`, `"reason":"signature_required"`, `"action":"receipt"`, `"message":"scanned"`, `"refused":1`} {
		if !strings.Contains(log, want) {
			t.Errorf("the log has no %s:\n%s", want, log)
		}
	}
	if bytes.Contains([]byte(log), []byte(s.property(good, signature.PropertySignature))) {
		t.Error("the log has a signature")
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			name := family.GetName()
			for _, label := range metric.GetLabel() {
				name += " " + label.GetValue()
			}
			found[name] = metric.GetGauge().GetValue()
		}
	}
	if found["countersign_scan_images vouched"] != 1 || found["countersign_scan_images refused"] != 1 || found["countersign_scan_completed_timestamp_seconds"] == 0 {
		t.Errorf("the metrics are %v", found)
	}
}
