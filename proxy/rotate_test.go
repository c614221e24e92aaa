package proxy_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy"
	"github.com/countersign/countersign/proxy/receipt"
	"github.com/countersign/countersign/signature"
)

// otherID is where the fake Barbican has another certificate of the signer's key.
const otherID = "0a1b2c3d-e573-419c-8fff-33a72734a243"

// signedBy returns the four properties for verifiedData by a hash method.
func signedBy(t *testing.T, key *rsa.PrivateKey, method signature.HashMethod, data []byte, certificate string) map[string]string {
	t.Helper()
	sig, keyType, err := signature.Sign(key, method, bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		signature.PropertySignature:   base64.StdEncoding.EncodeToString(sig),
		signature.PropertyHashMethod:  string(method),
		signature.PropertyKeyType:     string(keyType),
		signature.PropertyCertificate: certificate,
	}
}

// replacing is a patch that sets properties.
func replacing(properties map[string]string) string {
	var operations []map[string]any
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		operations = append(operations, map[string]any{"op": "replace", "path": "/" + name, "value": properties[name]})
	}
	text, _ := json.Marshal(operations)
	return string(text)
}

func TestAnotherSignatureOverTheSameData(t *testing.T) {
	s := newStage(t)
	s.barbican.certificates[otherID] = newCertificate(time.Now().Add(-time.Hour), time.Now().Add(2*time.Hour))
	for _, method := range []signature.HashMethod{"SHA-256", "SHA-512"} { // the receipt's own, and Glance's
		id := s.verified("a", nil)
		anew := signedBy(t, signer(), method, verifiedData, otherID)
		s.glance.forget()
		code, answer := s.do("PATCH", "/v2/images/"+id, tokenA, strings.NewReader(replacing(anew)), "Content-Type", patch21)
		if code != 200 || s.glance.called("PATCH") != 1 {
			t.Fatalf("%s: PATCH = %d %s, in %d requests to Glance, want 200 and one", method, code, answer, s.glance.called("PATCH"))
		}
		for name, value := range anew {
			if got := s.glance.images[id].text(name); got != value {
				t.Errorf("%s: %s is %q, want %q", method, name, got, value)
			}
		}
		sum := sha512.Sum512(verifiedData)
		r := s.receipt(id)
		if err := r.Describes(receipt.Subject{Image: id, Owner: "a", Size: int64(len(verifiedData)), HashAlgo: "sha512", HashValue: hex.EncodeToString(sum[:]), Properties: anew}); err != nil {
			t.Errorf("%s: the receipt does not describe the image: %v", method, err)
		}
		if r.Kind != receipt.Rotation || r.Rule != "enforced" || len(r.Digests) == 0 {
			t.Errorf("%s: the receipt is of kind %q, rule %q", method, r.Kind, r.Rule)
		}
		// And again: the image is vouched for.
		if code, answer := s.do("PATCH", "/v2/images/"+id, tokenA, strings.NewReader(`[{"op":"add","path":"/name","value":"x"}]`), "Content-Type", patch21); code != 200 {
			t.Errorf("%s: PATCH after it = %d %s, want 200", method, code, answer)
		}
	}
}

// A key is rotated because its certificate has expired, or is no longer trusted:
// the old receipt need not satisfy today's rule.
func TestASignatureThatNoLongerSatisfiesIsReplaced(t *testing.T) {
	block := newCertificate(time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	rules, err := policy.Load(strings.NewReader("rules:\n- projects: all\n  mode: enforce\n  signers: [{certificate: " + otherID + "}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := newStage(t, func(c *proxy.Config) { c.Policies = rules })
	s.barbican.certificates[otherID] = block
	id := s.verified("a", nil)
	rename := func() (int, string) {
		return s.do("PATCH", "/v2/images/"+id, tokenA, strings.NewReader(`[{"op":"add","path":"/x","value":"x"}]`), "Content-Type", patch21)
	}
	if code, answer := rename(); code != 403 || reason(answer) != "signer_not_trusted" {
		t.Errorf("PATCH before = %d %s, want 403 signer_not_trusted", code, answer)
	}
	anew := signedBy(t, signer(), "SHA-256", verifiedData, otherID)
	if code, answer := s.do("PATCH", "/v2/images/"+id, tokenA, strings.NewReader(replacing(anew)), "Content-Type", patch21); code != 200 {
		t.Errorf("PATCH of the signature = %d %s, want 200", code, answer)
	}
	if code, answer := rename(); code != 200 {
		t.Errorf("PATCH after = %d %s, want 200", code, answer)
	}
}

func TestSignaturesThatAreNotReplaced(t *testing.T) {
	s := newStage(t)
	s.barbican.certificates[otherID] = newCertificate(time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	right := signedBy(t, signer(), "SHA-256", verifiedData, certificateID)
	with := func(name, value string) map[string]string {
		changed := maps.Clone(right)
		if changed[name] = value; value == "" {
			delete(changed, name)
		}
		return changed
	}
	for name, test := range map[string]struct{ id, patch, reason string }{
		"over other data":               {s.verified("a", nil), replacing(signedBy(t, signer(), "SHA-256", []byte("other"), certificateID)), "signature_mismatch"},
		"by a method nobody computed":   {s.verified("a", nil), replacing(signedBy(t, signer(), "SHA-384", verifiedData, certificateID)), "door_closed"},
		"with an expired certificate":   {s.verified("a", nil), replacing(with("img_signature_certificate_uuid", otherID)), "certificate_expired"},
		"with an unknown certificate":   {s.verified("a", nil), replacing(with("img_signature_certificate_uuid", imageA)), "certificate_not_found"},
		"the signature alone":           {s.verified("a", nil), `[{"op":"replace","path":"/img_signature","value":"AAAA"}]`, "property_invalid"},
		"the hash method alone":         {s.verified("a", nil), `[{"op":"replace","path":"/img_signature_hash_method","value":"SHA-512"}]`, "signature_mismatch"},
		"the same twice":                {s.verified("a", nil), `[{"op":"replace","path":"/img_signature","value":"AAAA"},{"op":"replace","path":"/img_signature","value":"AAAA"}]`, "door_closed"},
		"four and the name":             {s.verified("a", nil), replacing(with("name", "x")), "door_closed"},
		"four and a receipt":            {s.verified("a", nil), replacing(with("countersign_receipt", "x")), "door_closed"},
		"four in other letters":         {s.verified("a", nil), strings.Replace(replacing(right), "/img_signature\"", "/IMG_signature\"", 1), "door_closed"},
		"one of them removed":           {s.verified("a", nil), strings.Replace(replacing(right), `"op":"replace"`, `"op":"remove"`, 1), "door_closed"},
		"of an image without receipt":   {s.image("a", map[string]string{"status": "active"}), replacing(right), "receipt_missing"},
		"of one with another's receipt": {s.verified("a", nil, func(r *receipt.Receipt) { r.Image = imageA }), replacing(right), "receipt_invalid"},
		"of one that is deactivated":    {s.verified("a", map[string]string{"status": "deactivated"}), replacing(right), "door_closed"},
		"of one that boots otherwise":   {s.verified("a", map[string]string{"block_device_mapping": "[1]"}), replacing(right), "door_closed"},
	} {
		s.glance.forget()
		code, answer := s.do("PATCH", "/v2/images/"+test.id, tokenA, strings.NewReader(test.patch), "Content-Type", patch21)
		if reason(answer) != test.reason || code/100 != 4 || s.glance.called("PATCH") != 0 {
			t.Errorf("%s: PATCH = %d %s, and arrives %d times, want %s", name, code, answer, s.glance.called("PATCH"), test.reason)
		}
	}
}

// openstackclient sends what changes.
func TestAnotherKeyByTheSameMethod(t *testing.T) {
	s := newStage(t)
	s.barbican.certificates[otherID] = newCertificate(time.Now().Add(-time.Hour), time.Now().Add(2*time.Hour))
	id := s.verified("a", nil)
	anew := signedBy(t, signer(), "SHA-256", verifiedData, otherID)
	delete(anew, signature.PropertyHashMethod)
	delete(anew, signature.PropertyKeyType)
	if code, answer := s.do("PATCH", "/v2/images/"+id, tokenA, strings.NewReader(replacing(anew)), "Content-Type", patch21); code != 200 {
		t.Fatalf("PATCH = %d %s, want 200", code, answer)
	}
	if r := s.receipt(id); r.Kind != receipt.Rotation || r.Properties[signature.PropertyCertificate] != otherID || len(r.Properties) != 4 {
		t.Errorf("the receipt is of kind %q, over %v", r.Kind, r.Properties)
	}
}

// A writer that had loaded the record before saves it whole, without the new
// signature.
func TestAReplacedSignatureStays(t *testing.T) {
	s := newStage(t)
	id := s.verified("a", nil)
	old := maps.Clone(s.glance.images[id])
	undone := 0
	s.glance.before = func(_ http.ResponseWriter, r *http.Request) bool {
		s.glance.mu.Lock()
		defer s.glance.mu.Unlock()
		if img := s.glance.images[id]; r.Method == "GET" && img["img_signature"] != old["img_signature"] && undone < 2 {
			maps.Copy(img, old)
			undone++
		}
		return false
	}
	anew := signedBy(t, signer(), "SHA-512", verifiedData, certificateID)
	if code, answer := s.do("PATCH", "/v2/images/"+id, tokenA, strings.NewReader(replacing(anew)), "Content-Type", patch21); code != 200 {
		t.Fatalf("PATCH = %d %s, want 200", code, answer)
	}
	if undone != 2 {
		t.Errorf("it was undone %d times, want 2: nothing was shown", undone)
	}
	if r := s.receipt(id); r.Kind != receipt.Rotation || s.glance.images[id].text("img_signature") != anew["img_signature"] {
		t.Errorf("the receipt is of kind %q, and the signature is the old one", r.Kind)
	}
}
