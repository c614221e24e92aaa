//go:build e2e

package e2e_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/proxy/receipt"
)

// exempting lets one service upload in the project demo what is not signed.
const exempting = `
rules:
  - name: guarded
    projects: [{name: demo, domain: Default}]
    mode: enforce
    signers: any
    services:
      users: [{name: glance, domain: Default}]
      mode: exempt
  - projects: all
    unowned: true
    mode: "off"
`

// TestServicesUploadWhatIsNotSigned does what Nova does to snapshot a server and
// Cinder to upload a volume: the user's token, and beside it the service's own.
// The user glance stands for theirs, since it has the role service.
func TestServicesUploadWhatIsNotSigned(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, exempting)
		user := login(t, "demo", p.url)
		nova := *user
		nova.service = login(t, "glance", p.url).token
		data := pixels(t, size)

		t.Run("a snapshot", func(t *testing.T) {
			// Nova copies properties of the base image, cut to 255 characters.
			id := nova.create(map[string]string{"image_type": "snapshot", "base_image_ref": "cd7cc675-e573-419c-8fff-33a72734a243",
				receipt.Property: strings.Repeat("x", 255)}).id()
			if a := nova.upload(id, data); a.status != 204 {
				t.Fatalf("upload answered %v, want 204", a)
			}
			record := user.show(id)
			r := openReceipt(t, record)
			if err := r.Describes(record.subject()); err != nil || r.Kind != receipt.Exempt || r.Service != openstack.Users["glance"].ID {
				t.Errorf("receipt of kind %q for service %q: %v", r.Kind, r.Service, err)
			}
			wantStatus(t, user, id, "active")
		})
		t.Run("a volume-backed snapshot, which has no data", func(t *testing.T) {
			id := nova.create(map[string]string{"image_type": "snapshot", "bdm_v2": "True",
				"block_device_mapping": `[{"source_type": "snapshot", "boot_index": 0}]`}).id()
			if a := nova.upload(id, nil); a.status != 204 {
				t.Fatalf("upload answered %v, want 204", a)
			}
			if r := openReceipt(t, user.show(id)); r.Kind != receipt.Exempt || r.Size != 0 {
				t.Errorf("receipt of kind %q over %d bytes, want exempt over 0", r.Kind, r.Size)
			}
		})
		t.Run("who is not a listed service", func(t *testing.T) {
			for name, token := range map[string]string{
				"nobody":          "",
				"the user itself": user.token,
				"another service": login(t, "barbican", p.url).token,
				"an admin":        login(t, "admin", p.url).token,
			} {
				other := *user
				other.service = token
				id := other.create(nil).id()
				if a := other.upload(id, data); a.status != 403 || !strings.Contains(string(a.body), "signature_required") {
					t.Errorf("%s: upload answered %v, want 403 signature_required", name, a)
				}
			}
		})
	})
}

// TestServicesGiveLocations does what Nova and Cinder do where they share Glance's
// storage: they say where the data is, in a PATCH or, as from Epoxy on, in a POST.
// The data is on the web here, which is as far from Glance's eyes.
func TestServicesGiveLocations(t *testing.T) {
	data := pixels(t, size)
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}))
	defer web.Close()
	const patch, post = "PATCH", "POST"
	give := func(c *client, how, id string) answer {
		if how == patch {
			return c.patch(id, map[string]any{"op": "add", "path": "/locations/-", "value": map[string]any{"url": web.URL + "/volume", "metadata": map[string]any{}}})
		}
		return c.send("POST", c.image(id, "locations"), "application/json", encode(t, map[string]any{"url": web.URL + "/volume"}))
	}
	ways := []string{patch, post}
	if openstack.Suite == "bookworm" {
		ways = ways[:1] // Zed knows no other
	}
	underBothServers(t, func(t *testing.T, glance server) {
		glance = anotherGlance(t, glance, telling...)
		p := startProxy(t, glance, exempting)
		user := login(t, "demo", p.url)
		straight := user.at(glance.url())
		as := func(service string) *client {
			c := *user
			c.service = service
			return &c
		}
		cinder := as(login(t, "glance", p.url).token)
		for _, how := range ways {
			t.Run(how, func(t *testing.T) {
				// Glance alone takes it from anybody.
				id := straight.create(nil).id()
				if a := give(straight, how, id); a.status/100 != 2 {
					t.Fatalf("Glance itself answers %v, want 2xx", a)
				}
				straight.reaches(id, "active")

				id = cinder.create(map[string]string{"image_type": "volume"}).id()
				begun := time.Now()
				if a := give(cinder, how, id); a.status/100 != 2 {
					t.Fatalf("a service was answered %v, want 2xx", a)
				}
				if took := time.Since(begun); took > 10*time.Second {
					t.Errorf("a service waited %v for its answer", took)
				}
				wantStatus(t, straight, id, "active")
				record := straight.show(id)
				r := openReceipt(t, record)
				if err := r.Describes(record.subject()); err != nil || r.Kind != receipt.Exempt || r.Size != size || r.Service != openstack.Users["glance"].ID {
					t.Errorf("receipt of kind %q over %d bytes for service %q: %v", r.Kind, r.Size, r.Service, err)
				}
				if a := user.download(id); !bytes.Equal(a.body, data) {
					t.Errorf("download answered %d with %d bytes, want the volume's", a.status, len(a.body))
				}

				for name, c := range map[string]*client{
					"nobody":          user,
					"the user itself": as(user.token),
					"another service": as(login(t, "barbican", p.url).token),
					"an admin":        as(login(t, "admin", p.url).token),
				} {
					id := user.create(nil).id()
					wantRefusal(t, give(c, how, id), http.StatusForbidden, "door_closed")
					if status := straight.show(id).status(); status != "queued" {
						t.Errorf("%s: the image is %s, want queued", name, status)
					}
				}
				// Not even a service gives data to a signed image, or to one that has some.
				signed := createSigned(user, data).id()
				wantRefusal(t, give(cinder, how, signed), http.StatusForbidden, "door_closed")
				wantStatus(t, straight, signed, "queued")
				wantRefusal(t, give(cinder, how, id), http.StatusForbidden, "door_closed")
			})
		}
	})
}
