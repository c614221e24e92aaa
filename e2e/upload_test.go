//go:build e2e

package e2e_test

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// policy enforces signatures by anybody's certificate in the project demo,
// only watches audited, and leaves the rest alone.
const policy = `
rules:
  - name: guarded
    projects: [{name: demo, domain: Default}]
    mode: enforce
    signers: any
  - name: watched
    projects: [{name: audited, domain: Default}]
    mode: audit
    signers: any
  - name: everybody else
    projects: all
    unowned: true
    mode: "off"
`

// size is some chunks, some buffers and an odd rest.
const size = 1<<20 + 12345

// TestGlanceAloneLetsAnUnsignedImageThrough is the control: what the others
// see refused is refused by Countersign.
func TestGlanceAloneLetsAnUnsignedImageThrough(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		c := login(t, "demo", glance.url())
		id := c.create(nil).id()
		if a := c.upload(id, pixels(t, size)); a.status != http.StatusNoContent {
			t.Fatalf("upload answered %v, want 204", a)
		}
		wantStatus(t, c, id, "active")
	})
}

func TestASignedUploadBecomesActive(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "demo", p.url)
		data := pixels(t, size)
		for _, way := range waysToUpload {
			t.Run(way.name, func(t *testing.T) {
				c := *c
				c.t = t
				id := createSigned(&c, data).id()
				if a := way.upload(&c, id, data); a.status != http.StatusNoContent {
					t.Fatalf("upload answered %v, want 204", a)
				}
				wantStatus(t, c.at(glance.url()), id, "active")
				if a := c.download(id); a.status != http.StatusOK || !bytes.Equal(a.body, data) {
					t.Errorf("download answered %d with %d bytes, want 200 with the %d bytes uploaded", a.status, len(a.body), len(data))
				}
			})
		}
	})
}

func TestATamperedImageIsRefusedAndGone(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "demo", p.url)
		data := pixels(t, size)
		tampered := bytes.Clone(data)
		tampered[len(tampered)-1] ^= 1
		for _, way := range waysToUpload {
			t.Run(way.name, func(t *testing.T) {
				c := *c
				c.t = t
				id := createSigned(&c, data).id()
				a := way.upload(&c, id, tampered)
				wantRefusal(t, a, http.StatusBadRequest, "signature_mismatch")
				if c.at(glance.url()).exists(id) {
					t.Errorf("the image is still there: %v", c.at(glance.url()).show(id))
				}
			})
		}
	})
}

// With on_failure: keep the image stays for another try, and another try with
// the right bytes succeeds.
func TestAKeptImageTakesTheRightBytesAfterTheWrongOnes(t *testing.T) {
	keep := strings.Replace(policy, "mode: enforce", "mode: enforce\n    on_failure: keep", 1)
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, keep)
		c := login(t, "demo", p.url)
		data := pixels(t, size)
		id := createSigned(c, data).id()
		wantRefusal(t, c.upload(id, append([]byte{0}, data...)), http.StatusBadRequest, "signature_mismatch")
		// Glance takes a moment to notice that the first upload broke off and
		// to let go of the image; until then another upload is a conflict,
		// which uWSGI may tell by breaking off in its turn.
		eventually(t, "the right bytes are taken", func() bool { return c.upload(id, data).status == http.StatusNoContent })
		wantStatus(t, c.at(glance.url()), id, "active")
	})
}

func TestAnUnsignedImageIsRefusedBeforeItsBody(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "demo", p.url)
		id := c.create(nil).id()
		// Nothing is ever written to the body: whoever waited for it would
		// answer nothing.
		body, never := io.Pipe()
		defer never.Close()
		a := c.send("PUT", c.image(id, "file"), "application/octet-stream", body)
		wantRefusal(t, a, http.StatusForbidden, "signature_required")
		wantStatus(t, c.at(glance.url()), id, "queued")
	})
}

// Glance alone verifies what has four properties and takes what has none, so
// that whoever may change the properties may upload anything.
func TestTakingTheSignatureAwayDoesNotHelp(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "demo", p.url)
		data := pixels(t, 4096)
		signed := createSigned(c, data)
		id := signed.id()
		var removals []map[string]any
		for property := range signed {
			if strings.HasPrefix(property, "img_signature") {
				removals = append(removals, map[string]any{"op": "remove", "path": "/" + property})
			}
		}
		// While the image is queued its properties are nobody's promise yet.
		if a := c.patch(id, removals...); a.status != http.StatusOK {
			t.Fatalf("removing the four properties answered %v, want 200", a)
		}
		wantRefusal(t, c.upload(id, data), http.StatusForbidden, "signature_required")
		wantStatus(t, c.at(glance.url()), id, "queued")
	})
}

// The four properties count only together: Glance alone would take an image
// that lacks one as unsigned.
func TestAnImageThatLacksOneOfTheFourPropertiesIsRefused(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "demo", p.url)
		data := pixels(t, 4096)
		s := newSigner(t, time.Hour)
		certificate := c.secret(s.certificate)
		for property := range s.properties(nil, certificate) {
			properties := s.properties(data, certificate)
			delete(properties, property)
			id := c.create(properties).id()
			a := c.upload(id, data)
			wantRefusal(t, a, http.StatusBadRequest, "property_missing")
			if !strings.Contains(string(a.body), property) {
				t.Errorf("without %s the answer is %v, want one that names it", property, a)
			}
			wantStatus(t, c.at(glance.url()), id, "queued")
		}
	})
}

func TestAnExpiredCertificateIsRefused(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "demo", p.url)
		data := pixels(t, 4096)
		s := newSigner(t, -time.Minute)
		id := c.create(s.properties(data, c.secret(s.certificate))).id()
		wantRefusal(t, c.upload(id, data), http.StatusBadRequest, "certificate_expired")
		wantStatus(t, c.at(glance.url()), id, "queued")
	})
}

func TestACertificateOfAnotherProjectIsRefused(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "demo", p.url)
		data := pixels(t, 4096)
		s := newSigner(t, time.Hour)
		id := c.create(s.properties(data, login(t, "alt", p.url).secret(s.certificate))).id()
		wantRefusal(t, c.upload(id, data), http.StatusBadRequest, "certificate_forbidden")
		wantStatus(t, c.at(glance.url()), id, "queued")
	})
}

// A client that vanishes in mid-upload leaves what it would leave without us:
// a queued image, which takes another upload.
func TestAnUploadThatBreaksOffLeavesTheImageQueued(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "demo", p.url)
		data := pixels(t, size)
		id := createSigned(c, data).id()
		request, err := http.NewRequest("PUT", c.image(id, "file"), io.MultiReader(bytes.NewReader(data[:size/2]), broken{}))
		if err != nil {
			t.Fatal(err)
		}
		request.ContentLength = size
		request.Header.Set("X-Auth-Token", c.token)
		request.Header.Set("Content-Type", "application/octet-stream")
		if response, err := http.DefaultClient.Do(request); err == nil {
			response.Body.Close()
			t.Fatalf("half an upload answered %s", response.Status)
		}
		eventually(t, "a second upload is taken", func() bool {
			return c.at(glance.url()).show(id).status() == "queued" && c.upload(id, data).status == http.StatusNoContent
		})
		wantStatus(t, c.at(glance.url()), id, "active")
	})
}

func TestAnAuditedProjectIsLeftAlone(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "auditor", p.url)
		straight := c.at(glance.url())
		data := pixels(t, size)

		id, other := c.create(nil).id(), c.create(nil).id()
		a := c.upload(id, data)
		if a.status != http.StatusNoContent {
			t.Fatalf("upload of an unsigned image answered %v, want Glance's 204", a)
		}
		straight.upload(other, data)
		// What Glance records is what it records without us, but for the
		// names and times of the two.
		with, without := straight.show(id), straight.show(other)
		for _, own := range []string{"id", "self", "file", "created_at", "updated_at"} {
			delete(with, own)
			delete(without, own)
		}
		if !maps.EqualFunc(with, without, func(a, b any) bool { return reflect.DeepEqual(a, b) }) {
			t.Errorf("the image is\n%v\nwant what it is without Countersign:\n%v", with, without)
		}
		if got := straight.download(id).body; !bytes.Equal(got, data) {
			t.Errorf("Glance has %d bytes, want the %d that were uploaded", len(got), len(data))
		}
		event := p.awaitEvent(t, map[string]string{"request_id": a.header.Get("X-Openstack-Request-Id")})
		if message, _ := event["message"].(string); !strings.HasPrefix(message, "would be refused") || !strings.Contains(message, "signature_required") {
			t.Errorf("the log says %q, want that the upload would be refused with signature_required", message)
		}
	})
}

func TestAProjectWithTheRuleOffIsLeftAlone(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "off", p.url)
		id := c.create(nil).id()
		if a := c.upload(id, pixels(t, size)); a.status != http.StatusNoContent {
			t.Fatalf("upload answered %v, want 204", a)
		}
		wantStatus(t, c.at(glance.url()), id, "active")
	})
}

// The story with the commands of OpenStack's documents, typed by a user.
func TestTheCommandLineClientsSignAndAreUnderstood(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "demo", p.url)
		folder := t.TempDir()
		file := func(name string) string { return filepath.Join(folder, name) }
		data := pixels(t, size)
		if err := os.WriteFile(file("image"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		mustRun(c, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-noenc", "-days", "1", "-subj", "/CN=e2e",
			"-keyout", file("key"), "-out", file("certificate"))
		mustRun(c, "openssl", "dgst", "-sha256", "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:max",
			"-sign", file("key"), "-out", file("signature"), file("image"))
		signature := mustRun(c, "base64", "-w0", file("signature"))
		certificate := mustRun(c, "base64", "-w0", file("certificate"))
		href := mustRun(c, "openstack", "secret", "store", "--name", t.Name(), "--secret-type", "certificate",
			"--payload-content-type", "application/octet-stream", "--payload-content-encoding", "base64",
			"--payload", certificate, "-f", "value", "-c", "Secret href")
		create := []string{"openstack", "image", "create", "--container-format", "bare", "--disk-format", "raw",
			"--property", "img_signature=" + signature,
			"--property", "img_signature_hash_method=SHA-256",
			"--property", "img_signature_key_type=RSA-PSS",
			"--property", "img_signature_certificate_uuid=" + filepath.Base(href),
			"-f", "value", "-c", "id", "--file"}

		id := mustRun(c, append(create, file("image"), "signed")...)
		t.Cleanup(func() { c.at(glance.url()).remove(id) })
		wantStatus(t, c.at(glance.url()), id, "active")

		if err := os.WriteFile(file("image"), append(data, 'x'), 0o600); err != nil {
			t.Fatal(err)
		}
		output, code := run(c, append(create, file("image"), "tampered")...)
		if code == 0 || !strings.Contains(output, "signature_mismatch") {
			t.Errorf("openstack image create of a tampered image: exit code %d, want another than 0 and signature_mismatch in:\n%s", code, output)
		}
		unsigned := uuid.NewString()
		t.Cleanup(func() { c.at(glance.url()).remove(unsigned) }) // glance leaves it
		output, code = run(c, "glance", "image-create", "--id", unsigned, "--container-format", "bare", "--disk-format", "raw", "--name", "unsigned", "--file", file("image"))
		if code == 0 || !strings.Contains(output, "signature_required") {
			t.Errorf("glance image-create of an unsigned image: exit code %d, want another than 0 and signature_required in:\n%s", code, output)
		}
	})
}

// waysToUpload differ in how the body's end is told.
var waysToUpload = []struct {
	name   string
	upload func(*client, string, []byte) answer
}{
	{"with its length", (*client).upload},
	{"chunked", (*client).uploadChunked},
}

// broken is a body that ends in an error.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func wantStatus(t *testing.T, c *client, id, want string) {
	t.Helper()
	if got := c.show(id).status(); got != want {
		t.Errorf("the image is %s, want %s", got, want)
	}
}

// wantRefusal wants an answer of ours: a status, and a reason code in it.
func wantRefusal(t *testing.T, a answer, status int, code string) {
	t.Helper()
	if a.status != status || !strings.Contains(string(a.body), code) {
		t.Errorf("answered %v, want %d with %s", a, status, code)
	}
}
