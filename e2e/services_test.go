//go:build e2e

package e2e_test

import (
	"strings"
	"testing"

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
