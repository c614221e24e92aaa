//go:build e2e

package e2e_test

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/proxy/receipt"
)

// openReceipt reads the receipt on an image, and fails the test where there is
// none that the proxies' key has signed.
func openReceipt(t *testing.T, record image) *receipt.Receipt {
	t.Helper()
	public, err := os.ReadFile(receiptPublicKey)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := receipt.ParseKeys(public)
	if err != nil {
		t.Fatal(err)
	}
	r, err := keys.Open(record.text(receipt.Property))
	if err != nil {
		t.Fatalf("the receipt of image %s, %q: %v", record.id(), record.text(receipt.Property), err)
	}
	return r
}

// subject is an image as a receipt is held against it.
func (i image) subject() receipt.Subject {
	properties := map[string]string{}
	for _, name := range []string{"img_signature", "img_signature_hash_method", "img_signature_key_type", "img_signature_certificate_uuid"} {
		if value, ok := i[name].(string); ok {
			properties[name] = value
		}
	}
	size, _ := i["size"].(float64)
	return receipt.Subject{Image: i.id(), Owner: i.text("owner"), Size: int64(size),
		HashAlgo: i.text("os_hash_algo"), HashValue: i.text("os_hash_value"), Properties: properties}
}

func TestAVerifiedImageCarriesAReceipt(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "demo", p.url)
		data := pixels(t, size)
		id := createSigned(c, data).id()
		if a := c.upload(id, data); a.status != 204 {
			t.Fatalf("upload answered %v, want 204", a)
		}
		record := c.show(id)
		r := openReceipt(t, record)
		if err := r.Describes(record.subject()); err != nil || r.Kind != receipt.Upload || r.Rule != "guarded" {
			t.Errorf("receipt of kind %q and rule %q: %v", r.Kind, r.Rule, err)
		}

		// What the command line says of it, from a public key and the cloud.
		command := exec.Command(binary, "receipt", "verify", "--image", id, "--key", receiptPublicKey, "--image-endpoint", p.url)
		command.Env = append(os.Environ(), asUser("demo", glance.region)...)
		if output, err := command.CombinedOutput(); err != nil {
			t.Errorf("receipt verify: %v\n%s", err, output)
		}

		// Copied to another image it is worth nothing, and does no harm.
		other := c.create(map[string]string{receipt.Property: record.text(receipt.Property)})
		if a := c.upload(other.id(), data); a.status != 403 || !bytes.Contains(a.body, []byte("signature_required")) {
			t.Errorf("upload of an unsigned image with a copied receipt answered %v, want 403 signature_required", a)
		}
	})
}

// TestNothingStandsInTheReceiptsPlace: to MariaDB o and ö are one letter, and an
// image has one property of a name.
func TestNothingStandsInTheReceiptsPlace(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "demo", p.url)
		data := pixels(t, size)
		s := newSigner(t, time.Hour)
		properties := s.properties(data, c.secret(s.certificate))
		properties["cöuntersign_receipt"] = "x"
		past := c.at(glance.url()).create(properties).id()
		wantRefusal(t, c.upload(past, data), 400, "property_invalid")
		wantStatus(t, c, past, "queued")
		wantRefusal(t, c.patch(past, add("cöuntersign_receipt", "x")), 403, "door_closed")

		record := c.create(properties)
		if _, there := record["cöuntersign_receipt"]; there {
			t.Error("an image was made with a property that stands in the receipt's place")
		}
		if a := c.upload(record.id(), data); a.status != 204 {
			t.Fatalf("upload answered %v, want 204", a)
		}
		openReceipt(t, c.show(record.id()))
	})
}

func TestStagedDataIsHeldToTheSameRule(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "demo", p.url)
		data := pixels(t, size)
		stage := func(id string, data []byte) answer {
			return c.send("PUT", c.image(id, "stage"), "application/octet-stream", bytes.NewReader(data))
		}

		good := createSigned(c, data).id()
		if a := stage(good, data); a.status != 204 {
			t.Fatalf("staging a signed image answered %v, want 204", a)
		}
		record := c.show(good)
		r := openReceipt(t, record)
		if err := r.Describes(record.subject()); err != nil || r.Kind != receipt.Stage || r.Digests["SHA-512"] == "" {
			t.Errorf("receipt of kind %q with digests %v: %v", r.Kind, r.Digests, err)
		}
		wantStatus(t, c, good, "uploading")

		bad := createSigned(c, data).id()
		wrong := bytes.Clone(data)
		wrong[len(wrong)/2] ^= 1
		if a := stage(bad, wrong); a.status != 400 || !strings.Contains(string(a.body), "signature_mismatch") {
			t.Errorf("staging a tampered image answered %v, want 400 signature_mismatch", a)
		}
		eventually(t, "the tampered image is gone", func() bool { return !c.exists(bad) })

		unsigned := c.create(nil).id()
		if a := stage(unsigned, data); a.status != 403 || !strings.Contains(string(a.body), "signature_required") {
			t.Errorf("staging an unsigned image answered %v, want 403 signature_required", a)
		}
		wantStatus(t, c, unsigned, "queued")
	})
}
