//go:build e2e

package e2e_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"
)

// badBodies end in different places: the first is judged before Glance hears of
// it, the second when most of it is there.
var badBodies = []struct {
	name string
	size int
}{{"tiny", 100}, {"large", size}}

// TestNobodyMakesTheProxyDeleteWhatIsNotTheirs: an upload that does not verify
// is cleaned up with the rights of who sent it, and with no others.
func TestNobodyMakesTheProxyDeleteWhatIsNotTheirs(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		owner, stranger, admin := login(t, "demo", p.url), login(t, "alt", p.url), login(t, "admin", p.url)
		straight := owner.at(glance.url())
		data := pixels(t, size)
		s := newSigner(t, time.Hour)
		certificate := owner.secret(s.certificate)

		// signed is a queued image for data; the certificate is known to the
		// proxy by then, so that nobody is stopped by not being allowed to read it.
		signed := func(t *testing.T) string {
			t.Helper()
			return owner.in(t).create(s.properties(data, certificate)).id()
		}
		if id := signed(t); owner.upload(id, data).status != http.StatusNoContent {
			t.Fatalf("the owner cannot upload: %v", straight.show(id))
		}

		for _, bad := range badBodies {
			t.Run("a stranger uploads a "+bad.name+" body into a public image", func(t *testing.T) {
				id := signed(t)
				replaceAs(t, admin, id, "visibility", "public")
				a := stranger.in(t).upload(id, pixels(t, bad.size))
				if a.status/100 == 2 {
					t.Errorf("the upload answered %v, want a refusal", a)
				}
				wantStatus(t, straight.in(t), id, "queued")
				if a := owner.in(t).upload(id, data); a.status != http.StatusNoContent {
					t.Errorf("afterwards the owner's upload answered %v, want 204", a)
				}
				wantStatus(t, straight.in(t), id, "active")
			})
			t.Run("a stranger uploads a "+bad.name+" body into an image shared with her", func(t *testing.T) {
				id := signed(t)
				share(t, owner, stranger, id)
				if a := stranger.in(t).upload(id, pixels(t, bad.size)); a.status/100 == 2 {
					t.Errorf("the upload answered %v, want a refusal", a)
				}
				wantStatus(t, straight.in(t), id, "queued")
			})
			t.Run("a "+bad.name+" body goes to an active image", func(t *testing.T) {
				id := signed(t)
				owner := owner.in(t)
				if a := owner.upload(id, data); a.status != http.StatusNoContent {
					t.Fatalf("upload answered %v, want 204", a)
				}
				for _, c := range []*client{owner, admin.in(t)} {
					wantRefusal(t, c.upload(id, pixels(t, bad.size)), http.StatusConflict, "image_not_queued")
				}
				wantStatus(t, straight.in(t), id, "active")
				if a := owner.download(id); !bytes.Equal(a.body, data) {
					t.Errorf("the image's data is not what was uploaded: download answered %d with %d bytes", a.status, len(a.body))
				}
			})
			t.Run("a "+bad.name+" body comes while a good one is on its way", func(t *testing.T) {
				id := signed(t)
				owner := owner.in(t)
				good := owner.begin(id, len(data))
				good.send(data[:size/2])
				straight.in(t).reaches(id, "saving")
				wantRefusal(t, owner.upload(id, pixels(t, bad.size)), http.StatusConflict, "image_not_queued")
				good.send(data[size/2:])
				if a := good.answer(); a.status != http.StatusNoContent {
					t.Errorf("the good upload answered %v, want 204", a)
				}
				wantStatus(t, straight.in(t), id, "active")
			})
			t.Run("a "+bad.name+" body that was admitted first ends in the middle of a good one", func(t *testing.T) {
				id := signed(t)
				owner := owner.in(t)
				evil := pixels(t, bad.size)
				// Admitted while the image is queued, and then kept waiting
				// before Glance hears of it.
				held := owner.beginAdmitted(id, len(evil))
				held.send(evil[:50])
				good := owner.begin(id, len(data))
				good.send(data[:size/2])
				straight.in(t).reaches(id, "saving")
				held.send(evil[50:])
				// It is answered when it is known what became of the image, and
				// that depends on the good one.
				time.Sleep(300 * time.Millisecond)
				good.send(data[size/2:])
				if a := good.answer(); a.status != http.StatusNoContent {
					t.Errorf("the good upload answered %v, want 204", a)
				}
				if a, err := held.outcome(); err == nil && a.status/100 == 2 {
					t.Errorf("the bad upload answered %v, want a refusal", a)
				}
				wantStatus(t, straight.in(t), id, "active")
			})
		}

		t.Run("an administrator uploads into somebody's image", func(t *testing.T) {
			// Glance verifies once more, with his token, which Barbican does
			// not let read the certificate.
			id := signed(t)
			if a := admin.in(t).upload(id, data); a.status != http.StatusBadRequest || !strings.Contains(string(a.body), "Unable to retrieve certificate") {
				t.Errorf("good data answered %v, want Glance's own 400", a)
			}
			straight.in(t).reaches(id, "queued")
			id = signed(t)
			wantRefusal(t, admin.in(t).upload(id, pixels(t, size)), http.StatusBadRequest, "signature_mismatch")
			if straight.in(t).exists(id) {
				t.Errorf("bad data of an administrator's left the image: %v", straight.show(id))
			}
		})
		t.Run("an administrator uploads by a certificate that he may not read", func(t *testing.T) {
			id := owner.in(t).create(s.properties(data, owner.in(t).secret(s.certificate))).id()
			wantRefusal(t, admin.in(t).upload(id, data), http.StatusBadRequest, "certificate_forbidden")
			wantStatus(t, straight.in(t), id, "queued")
		})
		t.Run("a protected image fails", func(t *testing.T) {
			id := signed(t)
			replaceAs(t, owner, id, "protected", true)
			wantRefusal(t, owner.in(t).upload(id, pixels(t, size)), http.StatusBadRequest, "signature_mismatch")
			if straight.in(t).exists(id) {
				t.Errorf("the image is still there: %v", straight.show(id))
			}
		})
	})
}

// replaceAs sets a property of an image.
func replaceAs(t *testing.T, c *client, id, property string, value any) {
	t.Helper()
	a := c.in(t).patch(id, map[string]any{"op": "replace", "path": "/" + property, "value": value})
	if a.status != http.StatusOK {
		t.Fatalf("setting %s answered %v, want 200", property, a)
	}
}

// share makes an image visible to the guest's project, which accepts it.
func share(t *testing.T, host, guest *client, id string) {
	t.Helper()
	host, guest = host.in(t), guest.in(t)
	member := guest.user.ProjectID
	if a := host.send("POST", host.image(id, "members"), "application/json", encode(t, map[string]string{"member": member})); a.status != http.StatusOK {
		t.Fatalf("sharing the image answered %v, want 200", a)
	}
	if a := guest.send("PUT", guest.image(id, "members", member), "application/json", encode(t, map[string]string{"status": "accepted"})); a.status != http.StatusOK {
		t.Fatalf("accepting the image answered %v, want 200", a)
	}
}
