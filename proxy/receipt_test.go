package proxy_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/proxy"
	"github.com/countersign/countersign/proxy/receipt"
)

func TestAVerifiedUploadLeavesAReceipt(t *testing.T) {
	s := newStage(t)
	data := random(t, 100_000)
	properties := signed(t, data)
	id := s.image("a", properties)
	if status, body := s.upload(id, tokenA, data, false); status != 204 {
		t.Fatalf("upload = %d %s, want 204", status, body)
	}
	r := s.receipt(id)
	digest, glances := sha256.Sum256(data), sha512.Sum512(data)
	is := receipt.Subject{Image: id, Owner: "a", Size: 100_000, HashAlgo: "sha512", HashValue: hex.EncodeToString(glances[:]), Properties: properties}
	if err := r.Describes(is); err != nil {
		t.Errorf("the receipt does not describe the image: %v", err)
	}
	if got, want := r.Digests["SHA-256"], hex.EncodeToString(digest[:]); got != want || len(r.Digests) != 1 {
		t.Errorf("the receipt's digests are %v, want SHA-256 %s alone", r.Digests, want)
	}
	if r.Kind != receipt.Upload || r.Rule != "enforced" || r.Mode != "enforce" || len(r.Certificate) == 0 {
		t.Errorf("the receipt is of kind %q, rule %q, mode %q, with a certificate of %d bytes", r.Kind, r.Rule, r.Mode, len(r.Certificate))
	}
	if strings.Contains(s.log.String(), properties["img_signature"]) {
		t.Error("a signature is in the log")
	}
}

func TestAnAuditedUploadGetsNoReceipt(t *testing.T) {
	s := newStage(t)
	data := random(t, 1000)
	id := s.image("b", signed(t, data))
	if status, body := s.upload(id, tokenB, data, false); status != 204 {
		t.Fatalf("upload = %d %s, want 204", status, body)
	}
	if n := s.glance.called("PATCH"); n != 0 {
		t.Errorf("the audited image was patched %d times, want 0", n)
	}
}

// A writer that had loaded the record before saves it whole, without the
// receipt; and where a copied one is there already, it is overwritten.
func TestAReceiptIsWrittenUntilItStays(t *testing.T) {
	s := newStage(t)
	data := random(t, 1000)
	properties := signed(t, data)
	properties[receipt.Property] = "copied"
	id := s.image("a", properties)
	undone := 0
	s.glance.before = func(_ http.ResponseWriter, r *http.Request) bool {
		if r.Method == "GET" && undone < 3 {
			s.glance.mu.Lock()
			defer s.glance.mu.Unlock()
			if img := s.glance.images[id]; img["status"] == "active" && img[receipt.Property] != "copied" {
				img[receipt.Property] = "copied"
				undone++
			}
		}
		return false
	}
	if status, body := s.upload(id, tokenA, data, false); status != 204 {
		t.Fatalf("upload = %d %s, want 204", status, body)
	}
	s.receipt(id)
	if undone != 3 {
		t.Errorf("the receipt was undone %d times, want 3: nothing was shown", undone)
	}
}

func TestAReceiptThatCannotBeWrittenIsNoSuccess(t *testing.T) {
	s := newStage(t, func(c *proxy.Config) { c.SettleTimeout = 300 * time.Millisecond })
	data := random(t, 1000)
	id := s.image("a", signed(t, data))
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == "PATCH" {
			http.Error(w, "no", http.StatusInternalServerError)
		}
		return r.Method == "PATCH"
	}
	if status, body := s.upload(id, tokenA, data, false); status != 502 || reason(body) != "settle_failed" {
		t.Errorf("upload = %d %s, want 502 settle_failed", status, body)
	}
}

func TestAReceiptIsWrittenAfterTheTokenHasExpired(t *testing.T) {
	s := newStage(t)
	data := random(t, 1000)
	id := s.image("a", signed(t, data))
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		expired := s.glance.status(id) == "active" && r.Header.Get("X-Auth-Token") == tokenA
		if expired {
			http.Error(w, "expired", http.StatusUnauthorized)
		}
		return expired
	}
	if status, body := s.upload(id, tokenA, data, false); status != 204 {
		t.Fatalf("upload = %d %s, want 204", status, body)
	}
	s.receipt(id)
}

func TestAnImageWithoutRoomForAReceiptIsRefused(t *testing.T) {
	data := random(t, 1000)
	for extra, want := range map[int]int{123: 204, 124: 413} {
		s := newStage(t)
		properties := signed(t, data)
		for i := range extra {
			properties[fmt.Sprintf("p%d", i)] = "x"
		}
		id := s.image("a", properties)
		status, body := s.upload(id, tokenA, data, false)
		if status != want || want == 413 && reason(body) != "too_many_properties" {
			t.Errorf("upload into an image of %d properties = %d %s, want %d", extra+4, status, body, want)
		}
	}
}

// A database that compares names by their base letters has room for one of them.
func TestAnImageWhoseReceiptWouldMeetItsLikeIsRefused(t *testing.T) {
	data := random(t, 1000)
	for name, refused := range map[string]bool{
		"countersign_receipt":             false,
		"countersign_receipts":            false,
		"countersign":                     false,
		"рецепт_рецепт_рецеп":             false,
		"COUNTERSIGN_Receipt":             true,
		"countersign_receipt ":            true,
		"cöuntersign_re\u0327ceıpt":       true,
		"\u200bｃountersign＿rece\u00adipt": true,
		"c\x00ountersign_receipt":         true,
		"cөuntersign_receipt":             false, // Cyrillic
	} {
		s := newStage(t)
		properties := signed(t, data)
		properties[name] = "x"
		id := s.image("a", properties)
		status, body := s.upload(id, tokenA, data, false)
		if got := status == 400 && reason(body) == "property_invalid"; got != refused || !refused && status != 204 {
			t.Errorf("upload into an image with %q = %d %s, want it refused: %v", name, status, body, refused)
		}
	}
}

func TestUploadsWaitForAGlanceThatTakesReceipts(t *testing.T) {
	s := newStage(t)
	deny := true
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		if deny && r.Method == "PATCH" {
			http.Error(w, "property protections", http.StatusForbidden)
			return true
		}
		return false
	}
	if err := s.proxy.ProbeReceipts(t.Context()); err == nil {
		t.Error("ProbeReceipts of a Glance that lets nobody write them = nil")
	}
	data := random(t, 1000)
	id := s.image("a", signed(t, data))
	if status, body := s.upload(id, tokenA, data, false); status != 503 || reason(body) != "receipt_unwritable" {
		t.Errorf("upload = %d %s, want 503 receipt_unwritable", status, body)
	}
	deny = false
	if err := s.proxy.ProbeReceipts(t.Context()); err != nil {
		t.Errorf("ProbeReceipts = %v", err)
	}
	if status, body := s.upload(id, tokenA, data, false); status != 204 {
		t.Errorf("upload = %d %s, want 204", status, body)
	}
	if n := len(s.glance.images); n != 1 {
		t.Errorf("there are %d images, want 1: the probes' are gone", n)
	}
}

// Who may not create images cannot find out, and that refuses nothing; but while
// nobody answers nothing is taken that might not get its receipt.
func TestWhetherReceiptsCanBeWrittenIsTriedByTheFirstUpload(t *testing.T) {
	data := random(t, 1000)
	for answer, want := range map[int]int{403: 204, 500: 503} {
		s := newStage(t)
		anew := proxy.New(s.proxy.Config)
		if err := anew.Probe(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.server.Config.Handler = anew
		s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == "POST" {
				http.Error(w, "no", answer)
			}
			return r.Method == "POST"
		}
		id := s.image("a", signed(t, data))
		status, body := s.upload(id, tokenA, data, false)
		if status != want || want == 503 && reason(body) != "receipt_unwritable" {
			t.Errorf("with %d for an image of our own, the upload = %d %s, want %d", answer, status, body, want)
		}
	}
}

func TestStagedDataIsVerifiedAndReceipted(t *testing.T) {
	s := newStage(t)
	put := func(id string, data []byte) (int, string) {
		return s.do("PUT", "/v2/images/"+id+"/stage", tokenA, strings.NewReader(string(data)))
	}
	data := random(t, 100_000)
	id := s.image("a", signed(t, data))
	if status, body := put(id, data); status != 204 {
		t.Fatalf("stage = %d %s, want 204", status, body)
	}
	r := s.receipt(id)
	digest := sha512.Sum512(data)
	if got, want := r.Digests["SHA-512"], hex.EncodeToString(digest[:]); got != want || r.Kind != receipt.Stage {
		t.Errorf("the receipt is of kind %q with SHA-512 %q, want stage and %s", r.Kind, got, want)
	}
	if got := s.glance.status(id); got != "uploading" {
		t.Errorf("the image is %s, want uploading", got)
	}

	wrong := s.image("a", signed(t, data))
	if status, body := put(wrong, flipped(data, 50_000)); status != 400 || reason(body) != "signature_mismatch" {
		t.Errorf("stage of wrong data = %d %s, want 400 signature_mismatch", status, body)
	}
	if got := s.glance.status(wrong); got != "gone" {
		t.Errorf("after wrong data was staged the image is %s, want gone", got)
	}
	unsigned := s.image("a", nil)
	if status, body := put(unsigned, data); status != 403 || reason(body) != "signature_required" {
		t.Errorf("stage of unsigned data = %d %s, want 403 signature_required", status, body)
	}
}
