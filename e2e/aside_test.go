//go:build e2e

package e2e_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"testing"
	"time"
)

// TestASaltThatAnOldGlanceRefuses is the 'Known Limitations' of Glance's manual
// for operators: with cryptography before 39 (Zed's packages) Glance refuses a
// PSS salt as long as the digest. It is right, and with GLANCE_VERIFIES=no nobody
// behind us is asked.
func TestASaltThatAnOldGlanceRefuses(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		data := pixels(t, size)
		upload := func(verifies string) (answer, image) {
			p := startProxy(t, glance, policy, "COUNTERSIGN_GLANCE_VERIFIES="+verifies)
			c := login(t, "demo", p.url)
			s := newSigner(t, time.Hour)
			properties := s.properties(data, c.secret(s.certificate))
			digest := sha256.Sum256(data)
			signature, err := rsa.SignPSS(rand.Reader, s.key, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
			if err != nil {
				t.Fatal(err)
			}
			properties["img_signature"] = base64.StdEncoding.EncodeToString(signature)
			id := c.create(properties).id()
			return c.upload(id, data), c.show(id)
		}

		want := 204
		if openstack.Suite == "bookworm" {
			want = 400
		}
		if a, _ := upload("yes"); a.status != want {
			t.Errorf("where Glance verifies too, the upload answered %v, want %d", a, want)
		}
		a, record := upload("no")
		if a.status != 204 || record.status() != "active" {
			t.Fatalf("where Glance does not verify, the upload answered %v and the image is %s, want 204 and active", a, record.status())
		}
		if err := openReceipt(t, record).Describes(record.subject()); err != nil {
			t.Errorf("the receipt: %v", err)
		}
		if _, left := record["countersign_certificate_uuid"]; left || record.text("img_signature_certificate_uuid") == "" {
			t.Errorf("the image does not have its four properties back: %v", record)
		}
	})
}
