//go:build e2e

package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"testing"
)

// TestPropertyProtections: in front of a Glance that protects properties a receipt
// is written where the section that the manual ships is there, and the first
// upload is refused, with a cure, where it is not.
func TestPropertyProtections(t *testing.T) {
	manual, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	shipped := regexp.MustCompile("(?s)```ini\n(\\[\\^countersign_\\].*?)```").FindSubmatch(manual)
	if shipped == nil {
		t.Fatal("the manual has no section for countersign_")
	}
	// What else there is an administrator sets.
	const signatures, rest = "[^img_]\ncreate = @\nread = @\nupdate = @\ndelete = @\n", "[.*]\ncreate = admin\nread = @\nupdate = admin\ndelete = admin\n"
	behind := func(t *testing.T, glance server, protections string) (p *proxy, straight *client) {
		t.Helper()
		file := filepath.Join(t.TempDir(), "protections.conf")
		if err := os.WriteFile(file, []byte(protections), 0o600); err != nil {
			t.Fatal(err)
		}
		glance = anotherGlance(t, glance, "property_protection_file = "+file)
		straight = login(t, "demo", glance.url())
		if a := straight.patch(straight.create(nil).id(), add("x", "y")); a.status != http.StatusForbidden {
			t.Fatalf("Glance itself answers %v to a property that nobody may set, want 403", a)
		}
		return startProxy(t, glance, policy), straight
	}
	underBothServers(t, func(t *testing.T, glance server) {
		data := pixels(t, size)
		t.Run("with the section", func(t *testing.T) {
			p, straight := behind(t, glance, string(shipped[1])+signatures+rest)
			id := createSigned(straight, data).id()
			if a := straight.at(p.url).upload(id, data); a.status != http.StatusNoContent {
				t.Fatalf("upload answered %v, want 204", a)
			}
			record := straight.show(id)
			if err := openReceipt(t, record).Describes(record.subject()); err != nil {
				t.Error(err)
			}
		})
		t.Run("without", func(t *testing.T) {
			// Not an administrator's either, as Countersign's own user is one.
			p, straight := behind(t, glance, signatures+"[.*]\ncreate = !\nread = @\nupdate = !\ndelete = !\n")
			id := createSigned(straight, data).id()
			wantRefusal(t, straight.at(p.url).upload(id, data), http.StatusServiceUnavailable, "receipt_unwritable")
			wantStatus(t, straight, id, "queued")
		})
	})
}
