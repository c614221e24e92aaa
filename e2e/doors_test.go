//go:build e2e

package e2e_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	gocrypto "crypto"
)

// doorPolicy enforces on demo, and lets staged data be imported there.
var doorPolicy = strings.Replace(policy, "signers: any\n", "signers: any\n    import: direct\n", 1)

// verifiedImage uploads signed data, and returns the active image.
func verifiedImage(t *testing.T, c *client, s *signer, data []byte, properties map[string]string) string {
	t.Helper()
	all := s.properties(data, c.secret(s.certificate))
	maps.Copy(all, properties)
	id := c.create(all).id()
	if a := c.upload(id, data); a.status != http.StatusNoContent {
		t.Fatalf("upload answered %v, want 204", a)
	}
	return id
}

// unverifiedImage is one of demo's that was active before there was a proxy.
func unverifiedImage(t *testing.T, straight *client, properties map[string]string) string {
	t.Helper()
	id := straight.create(properties).id()
	if a := straight.upload(id, []byte("unsigned")); a.status != http.StatusNoContent {
		t.Fatalf("upload past the proxy answered %v, want 204", a)
	}
	return id
}

// vouched asserts that an image's receipt is one, about it as it is: by the
// public key, without a cloud.
func vouched(t *testing.T, is image) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "image.json")
	text, err := json.Marshal(is)
	if err == nil {
		err = os.WriteFile(file, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command(binary, "receipt", "verify", file, "--key", receiptPublicKey).CombinedOutput(); err != nil {
		t.Errorf("the receipt of image %s: %v\n%s", is.id(), err, said)
	}
}

func add(property string, value any) map[string]any {
	return map[string]any{"op": "add", "path": "/" + property, "value": value}
}

// TestAnUnverifiedImageIsLeftAsItIs: nothing that saves its record passes, nor
// what would show it to others; to be deleted it stays.
func TestAnUnverifiedImageIsLeftAsItIs(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, doorPolicy)
		c := login(t, "demo", p.url)
		straight := c.at(glance.url())
		id := unverifiedImage(t, straight, nil)
		before := straight.show(id)
		for _, operations := range [][]map[string]any{
			{replacement("name", "other")}, {add("x", "y")}, {replacement("visibility", "community")}, {replacement("protected", true)},
			{replacement("os_hidden", true)}, {replacement("tags", []string{"x"})},
		} {
			wantRefusal(t, c.patch(id, operations...), http.StatusForbidden, "receipt_missing")
		}
		wantRefusal(t, c.send("PUT", c.image(id, "tags", "x"), "", nil), http.StatusForbidden, "receipt_missing")
		wantRefusal(t, c.send("DELETE", c.image(id, "tags", "x"), "", nil), http.StatusForbidden, "receipt_missing")
		wantRefusal(t, c.send("POST", c.image(id, "members"), "application/json", encode(t, map[string]string{"member": openstack.Projects["alt"]})),
			http.StatusForbidden, "receipt_missing")
		wantRefusal(t, c.send("POST", c.image(id, "import"), "application/json", strings.NewReader(`{"method":{"name":"copy-image"},"all_stores":true}`)),
			http.StatusForbidden, "receipt_missing")
		if after := straight.show(id); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("the image is %v, and was %v", after, before)
		}

		// Taken out of use, it does not come back.
		if a := c.send("POST", c.image(id, "actions", "deactivate"), "", nil); a.status != http.StatusNoContent {
			t.Fatalf("deactivate answered %v, want 204", a)
		}
		wantRefusal(t, c.send("POST", c.image(id, "actions", "reactivate"), "", nil), http.StatusForbidden, "receipt_missing")
		wantStatus(t, straight, id, "deactivated")

		// A protected one can be deleted all the same.
		if a := straight.patch(id, replacement("protected", true)); a.status != http.StatusOK {
			t.Fatalf("protecting it past the proxy answered %v, want 200", a)
		}
		if a := c.send("DELETE", c.image(id), "", nil); a.status != http.StatusForbidden {
			t.Errorf("DELETE of a protected image answered %v, want Glance's 403", a)
		}
		if a := c.patch(id, replacement("protected", false)); a.status != http.StatusOK {
			t.Errorf("lifting the protection of a deactivated image answered %v, want 200", a)
		}
		wantStatus(t, straight, id, "deactivated")
		if a := c.send("DELETE", c.image(id), "", nil); a.status != http.StatusNoContent {
			t.Errorf("DELETE answered %v, want 204", a)
		}
	})
}

// TestAVerifiedImageIsUsedAsBefore: what a project does with its images every
// day, its receipt stays through.
func TestAVerifiedImageIsUsedAsBefore(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, doorPolicy)
		c, guest := login(t, "demo", p.url), login(t, "alt", p.url)
		straight := c.at(glance.url())
		data := pixels(t, size)
		id := verifiedImage(t, c, newSigner(t, time.Hour), data, nil)
		want := func(status int, a answer) {
			t.Helper()
			if a.status != status {
				t.Errorf("answer %v, want %d", a, status)
			}
		}
		want(200, c.patch(id, replacement("name", "other"), add("os_distro", "debian"), replacement("protected", true)))
		want(200, c.send("PATCH", c.image(id), "application/openstack-images-v2.0-json-patch", strings.NewReader(`[{"replace": "/min_ram", "value": 64}]`)))
		want(204, c.send("PUT", c.image(id, "tags", "x"), "", nil))
		want(204, c.send("DELETE", c.image(id, "tags", "x"), "", nil))
		share(t, c, guest, id)
		want(204, c.send("DELETE", c.image(id, "members", guest.user.ProjectID), "", nil))
		want(204, c.send("POST", c.image(id, "actions", "deactivate"), "", nil))
		want(200, c.patch(id, replacement("protected", false)))
		want(204, c.send("POST", c.image(id, "actions", "reactivate"), "", nil))
		want(200, c.patch(id, replacement("visibility", "community")))
		is := straight.show(id)
		wantStatus(t, straight, id, "active")
		vouched(t, is)
		if is.text("name") != "other" || is.text("os_distro") != "debian" || is["min_ram"] != 64.0 || is.text("visibility") != "community" {
			t.Errorf("the image is %v", is)
		}
		if a := c.send("POST", c.image(id, "import"), "application/json", strings.NewReader(`{"method":{"name":"copy-image"},"all_stores":true}`)); a.status != http.StatusAccepted && a.status != http.StatusForbidden {
			t.Errorf("copy-image answered %v, want Glance's own answer", a)
		} else if strings.Contains(string(a.body), "receipt") {
			t.Errorf("copy-image answered %v", a)
		}
		want(204, c.send("DELETE", c.image(id), "", nil))
	})
}

// TestWhatIsVerifiedStaysAsItIs: no spelling of a PATCH changes what the verdict
// is about, or what is booted.
func TestWhatIsVerifiedStaysAsItIs(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, doorPolicy)
		c := login(t, "demo", p.url)
		straight := c.at(glance.url())
		data := pixels(t, size)
		id := verifiedImage(t, c, newSigner(t, time.Hour), data, map[string]string{"bdm_v2": "False"})
		before := straight.show(id)
		unverified := unverifiedImage(t, straight, nil)
		for _, property := range []string{"img_signature", "img_signature_hash_method", "img_signature_key_type", "img_signature_certificate_uuid"} {
			for _, operation := range []map[string]any{add(property, unverified), replacement(property, unverified), removal(property)} {
				if a := c.patch(id, operation); a.status/100 != 4 {
					t.Errorf("%v answered %v, want a refusal", operation, a)
				}
				wantRefusal(t, c.patch(id, replacement("name", "x"), operation), http.StatusForbidden, "door_closed")
			}
		}
		for _, property := range []string{"countersign_receipt", "countersign_certificate_uuid", "countersign_anything", "block_device_mapping", "bdm_v2", "kernel_id", "ramdisk_id",
			"base_image_ref", "os_command_line", "Kernel_Id", " kernel_id ", "/kernel_id"} {
			for _, operation := range []map[string]any{add(property, unverified), replacement(property, unverified), removal(property)} {
				wantRefusal(t, c.patch(id, operation), http.StatusForbidden, "door_closed")
				wantRefusal(t, c.patch(id, replacement("name", "x"), operation), http.StatusForbidden, "door_closed")
			}
			draft, _ := json.Marshal([]map[string]any{{"add": "/" + property, "value": unverified}})
			wantRefusal(t, c.send("PATCH", c.image(id), "application/openstack-images-v2.0-json-patch", strings.NewReader(string(draft))), http.StatusForbidden, "door_closed")
		}
		if after := straight.show(id); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("the image is %v, and was %v", after, before)
		}
		vouched(t, straight.show(id))
	})
}

// TestAKeyIsRotatedWithoutUploadingAgain, under both of Glance's servers: the
// new signature is verified over the digest that the receipt records.
func TestAKeyIsRotatedWithoutUploadingAgain(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, doorPolicy)
		c := login(t, "demo", p.url)
		straight := c.at(glance.url())
		data := pixels(t, size)
		id := verifiedImage(t, c, newSigner(t, time.Hour), data, nil)
		setting := func(properties map[string]string) (operations []map[string]any) {
			for name, value := range properties {
				operations = append(operations, replacement(name, value))
			}
			return operations
		}
		other := newSigner(t, time.Hour)
		certificate := c.secret(other.certificate)
		// By the method of the first signature, and by Glance's own.
		for _, anew := range []map[string]string{other.properties(data, certificate), other.propertiesSHA512(data, certificate)} {
			if a := c.patch(id, setting(anew)...); a.status != http.StatusOK {
				t.Fatalf("replacing the signature answered %v, want 200", a)
			}
			is := straight.show(id)
			for name, want := range anew {
				if is.text(name) != want {
					t.Errorf("%s is %q, want %q", name, is.text(name), want)
				}
			}
			wantStatus(t, straight, id, "active")
			vouched(t, is)
		}
		// As a user would type it; the client sends only what changes.
		third := newSigner(t, time.Hour)
		command := []string{"openstack", "image", "set"}
		for name, value := range third.propertiesSHA512(data, c.secret(third.certificate)) {
			command = append(command, "--property", name+"="+value)
		}
		mustRun(c, append(command, id)...)
		vouched(t, straight.show(id))
		is := straight.show(id)
		wrong := other.properties([]byte("other data"), certificate)
		wantRefusal(t, c.patch(id, setting(wrong)...), http.StatusBadRequest, "signature_mismatch")
		expired := newSigner(t, -time.Minute)
		wantRefusal(t, c.patch(id, setting(expired.properties(data, c.secret(expired.certificate)))...), http.StatusBadRequest, "certificate_expired")
		wantRefusal(t, c.patch(unverifiedImage(t, straight, nil), setting(other.properties(data, certificate))...), http.StatusForbidden, "receipt_missing")
		if after := straight.show(id); fmt.Sprint(after) != fmt.Sprint(is) {
			t.Errorf("the image is %v, and was %v", after, is)
		}
		if a := c.download(id); string(a.body) != string(data) {
			t.Errorf("download answered %d with %d bytes, want the data", a.status, len(a.body))
		}
	})
}

// propertiesSHA512 are the four over SHA-512, with a salt as long as the hash.
func (s *signer) propertiesSHA512(data []byte, certificate string) map[string]string {
	s.t.Helper()
	digest := sha512.Sum512(data)
	signature, err := rsa.SignPSS(rand.Reader, s.key, gocrypto.SHA512, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto})
	if err != nil {
		s.t.Fatal(err)
	}
	properties := s.properties(data, certificate)
	properties["img_signature"] = base64.StdEncoding.EncodeToString(signature)
	properties["img_signature_hash_method"] = "SHA-512"
	return properties
}

// TestStagedDataIsVerifiedAndImported: what is staged is held to its signature,
// and what Glance makes of it has the receipt that was written then.
func TestStagedDataIsVerifiedAndImported(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, doorPolicy)
		c := login(t, "demo", p.url)
		straight := c.at(glance.url())
		data := pixels(t, size)
		s := newSigner(t, time.Hour)
		certificate := c.secret(s.certificate)
		stage := func(id string, data []byte) answer {
			return c.send("PUT", c.image(id, "stage"), "application/octet-stream", strings.NewReader(string(data)))
		}
		imports := func(id, body string) answer {
			return c.send("POST", c.image(id, "import"), "application/json", strings.NewReader(body))
		}
		const direct = `{"method": {"name": "glance-direct"}}`
		for _, properties := range []map[string]string{s.properties(data, certificate), s.propertiesSHA512(data, certificate)} {
			id := c.create(properties).id()
			wantRefusal(t, imports(id, direct), http.StatusForbidden, "door_closed")
			if a := stage(id, data); a.status != http.StatusNoContent {
				t.Fatalf("staging answered %v, want 204", a)
			}
			wantRefusal(t, c.patch(id, replacement("name", "x")), http.StatusForbidden, "door_closed")
			if a := imports(id, direct); a.status != http.StatusAccepted {
				t.Fatalf("import answered %v, want 202", a)
			}
			straight.reaches(id, "active")
			eventually(t, "the image is vouched for", func() bool { return straight.show(id).text("os_hash_value") != "" })
			vouched(t, straight.show(id))
			if a := c.patch(id, replacement("name", "x")); a.status != http.StatusOK {
				t.Errorf("PATCH after the import answered %v, want 200", a)
			}
		}
		// What is not verified is not staged, or not imported.
		id := c.create(s.properties(data, certificate)).id()
		wantRefusal(t, stage(id, append([]byte("x"), data...)), http.StatusBadRequest, "signature_mismatch")
		past := straight.create(s.properties(data, certificate)).id()
		if a := straight.send("PUT", straight.image(past, "stage"), "application/octet-stream", strings.NewReader("other")); a.status != http.StatusNoContent {
			t.Fatalf("staging past the proxy answered %v, want 204", a)
		}
		wantRefusal(t, imports(past, direct), http.StatusForbidden, "receipt_missing")
		for _, body := range []string{`{"method": {"name": "web-download", "uri": "http://127.0.0.1:1/"}}`,
			`{"method": {"name": "glance-download", "glance_image_id": "` + past + `", "glance_region": "RegionOne"}}`} {
			wantRefusal(t, imports(c.create(s.properties(data, certificate)).id(), body), http.StatusForbidden, "door_closed")
		}
		wantRefusal(t, imports(past, `{"method": {"name": "glance-direct", "uri": "x"}}`), http.StatusBadRequest, "body_invalid")
		wantRefusal(t, imports(past, `{"method": {"name": "copy-image"}, "method": {"name": "glance-direct"}}`), http.StatusBadRequest, "body_invalid")
	})
}

// TestWhatIsBootedIsVerifiedToo: Nova boots the kernel that an image names.
func TestWhatIsBootedIsVerifiedToo(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, doorPolicy)
		c := login(t, "demo", p.url)
		straight := c.at(glance.url())
		data := pixels(t, size)
		s := newSigner(t, time.Hour)
		kernel := verifiedImage(t, c, s, data, nil)
		unverified := unverifiedImage(t, straight, nil)
		certificate := c.secret(s.certificate)
		for _, test := range []struct{ property, value, code string }{
			{"kernel_id", unverified, "receipt_missing"},
			{"ramdisk_id", unverified, "receipt_missing"},
			{"block_device_mapping", `[{"source_type": "snapshot", "snapshot_id": "` + unverified + `", "boot_index": 0}]`, "door_closed"},
		} {
			queued := c.create(s.properties(data, certificate)).id()
			wantRefusal(t, c.patch(queued, add(test.property, test.value)), http.StatusForbidden, test.code)
			properties := s.properties(data, certificate)
			properties[test.property] = test.value
			born := c.create(properties).id()
			wantRefusal(t, c.upload(born, data), http.StatusForbidden, test.code)
			wantStatus(t, straight, born, "queued")
			if a := c.patch(born, removal(test.property)); a.status != http.StatusOK {
				t.Errorf("taking %s away answered %v, want 200", test.property, a)
			}
			if a := c.upload(born, data); a.status != http.StatusNoContent {
				t.Errorf("the upload answered %v, want 204", a)
			}
		}
		id := c.create(s.properties(data, certificate)).id()
		if a := c.patch(id, add("kernel_id", kernel)); a.status != http.StatusOK {
			t.Errorf("naming a verified kernel answered %v, want 200", a)
		}
		if a := c.upload(id, data); a.status != http.StatusNoContent {
			t.Errorf("the upload answered %v, want 204", a)
		}
	})
}
