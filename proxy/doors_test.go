package proxy_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"encoding/pem"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/proxy/receipt"
)

// verifiedData is what the images have that verified makes.
var verifiedData = []byte("the bytes of a verified image")

// verified makes an active image of a project that carries a receipt, as an
// upload leaves it. Changes are made to the receipt before it is signed, and
// properties are set on the image afterwards.
func (s *stage) verified(owner string, properties map[string]string, changes ...func(*receipt.Receipt)) string {
	s.t.Helper()
	four := signed(s.t, verifiedData)
	id := s.image(owner, four)
	digest, glances := sha256.Sum256(verifiedData), sha512.Sum512(verifiedData)
	block, _ := pem.Decode(certificatePEM())
	r := receipt.Receipt{Image: id, Owner: owner, Size: int64(len(verifiedData)), Digests: map[string]string{"SHA-256": hex.EncodeToString(digest[:])},
		HashAlgo: "sha512", HashValue: hex.EncodeToString(glances[:]), Properties: four, Certificate: block.Bytes,
		Rule: "enforced", Mode: "enforce", Kind: receipt.Upload, IssuedAt: time.Now()}
	for _, change := range changes {
		change(&r)
	}
	text, err := receiptKeys().Sign(r)
	if err != nil {
		s.t.Fatal(err)
	}
	s.glance.mu.Lock()
	defer s.glance.mu.Unlock()
	img := s.glance.images[id]
	maps.Copy(img, record{"status": "active", "size": len(verifiedData), "os_hash_algo": "sha512", "os_hash_value": hex.EncodeToString(glances[:]),
		receipt.Property: text})
	for name, value := range properties {
		img[name] = value
	}
	return id
}

// byNova makes a receipt say that a service uploaded the image unsigned.
func byNova(r *receipt.Receipt) {
	r.Kind, r.Service, r.Certificate, r.Properties = receipt.Exempt, "user-nova", nil, map[string]string{}
}

// doorRequests bring data into an image, or back, without showing it to us as
// PUT /file does. The last member is why they are refused, one of several codes.
func doorRequests(id string) [][4]string {
	return [][4]string{
		{"PUT", "/v2/images/" + id + "/stage", "data", "signature_required image_not_queued"},
		{"POST", "/v2/images/" + id + "/import", `{"method":{"name":"glance-direct"}}`, "door_closed"},
		{"POST", "/v2/images/" + id + "/import", `{"method":{"name":"web-download","uri":"http://elsewhere.example/"}}`, "door_closed"},
		{"POST", "/v2/images/" + id + "/import", `{"method":{"name":"glance-download","glance_image_id":"` + imageA + `","glance_region":"r"}}`, "door_closed"},
		{"POST", "/v2/images/" + id + "/import", `{"method":{"name":"copy-image"},"all_stores":true}`, "receipt_missing"},
		{"POST", "/v2/images/" + id + "/import", ``, "body_invalid"},
		{"POST", "/v2/images/" + id + "/locations", `{"url":"http://elsewhere.example/"}`, "door_closed"},
		{"POST", "/v2/images/" + id + "/actions/reactivate", ``, "receipt_missing"},
		{"POST", "/v2.17/images/" + id + "/locations", `{"url":"http://elsewhere.example/"}`, "door_closed"},
		{"POST", "//v2//images/" + id + "/%69mport", `{}`, "body_invalid"},
	}
}

func TestDoorsAreShutWhereEnforced(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	for _, status := range []string{"queued", "active", "deactivated", "uploading"} {
		for owner, open := range map[string]bool{"a": false, "b": true, "c": true} {
			id := s.image(owner, map[string]string{"status": status})
			for _, request := range doorRequests(id) {
				code, answer := s.do(request[0], request[1], "token-"+owner, strings.NewReader(request[2]), "Content-Type", "application/octet-stream")
				got := rec.take()
				if open && (code != 200 || len(got) != 1 || got[0].body != request[2]) {
					t.Errorf("%s %s of project %s = %d %s, and arrives as %v, want it to pass", request[0], request[1], owner, code, answer, got)
				}
				if !open && (code/100 != 4 || !strings.Contains(request[3], reason(answer)) || len(got) != 0) {
					t.Errorf("%s %s of project %s = %d %s, and arrives %d times, want %s", request[0], request[1], owner, code, answer, len(got), request[3])
				}
			}
		}
	}
}

// What counts is whose image it is, not whose token.
func TestDoorsAreTheOwnersNotTheCallers(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	id := s.image("a", map[string]string{"visibility": "public"})
	for _, request := range doorRequests(id) {
		for _, token := range []string{tokenB, tokenC, service} {
			code, answer := s.do(request[0], request[1], token, strings.NewReader(request[2]), "Content-Type", "application/octet-stream")
			if got := rec.take(); code/100 != 4 || !strings.Contains(request[3], reason(answer)) || len(got) != 0 {
				t.Errorf("%s %s with %s = %d %s, want %s", request[0], request[1], token, code, answer, request[3])
			}
		}
	}
}

func TestGuardedRoutesWantAToken(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	id := s.image("b", nil)
	requests := append(doorRequests(id), [4]string{"PUT", "/v2/images/" + id + "/file", "data"}, [4]string{"PATCH", "/v2/images/" + id, "[]"},
		[4]string{"POST", "/v2/tasks", "{}"}, [4]string{"PUT", "/v2/images/" + id + "/tags/x"}, [4]string{"POST", "/v2/images/" + id + "/members", "{}"})
	for _, request := range requests {
		for _, header := range [][]string{nil, {"X-Auth-Token", ""}, {"X-Storage-Token", tokenB}, {"X_Auth_Token", tokenB}, {"X-Service-Token", service}} {
			code, answer := s.do(request[0], request[1], "", strings.NewReader(request[2]), header...)
			if got := rec.take(); code != 401 || reason(answer) != "token_missing" || len(got) != 0 {
				t.Errorf("%s %s with %q = %d %s, want 401 token_missing", request[0], request[1], header, code, answer)
			}
		}
	}
	if n := s.glance.called("GET"); n != 0 {
		t.Errorf("Glance was asked %d times for requests without a token, want 0", n)
	}
}
