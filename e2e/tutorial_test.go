//go:build e2e

package e2e_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTheTutorial types every command of docs/tutorial.md, in order, into one
// shell, as a new project of a region of its own.
func TestTheTutorial(t *testing.T) {
	text, err := os.ReadFile("../docs/tutorial.md")
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, block := range regexp.MustCompile("(?sm)^```\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		commands = append(commands, block[1])
	}
	glance := servers[0]
	region := newRegion(t, glance, map[string]string{"identity": openstack.Keystone, "key-manager": openstack.Barbican})
	folder := t.TempDir()
	// New users all: Keystone's processes remember the catalog of the others for
	// a while, each for itself.
	boss, demo := newUser(t, "boss"+region, "admin"), newUser(t, "tutorial"+region, "member", "creator")
	service := user{Name: "countersign" + region, Password: "stack", Project: "service"}
	clouds := "clouds:\n"
	for name, u := range map[string]user{"admin": boss, "countersign": service, "demo": demo} {
		clouds += fmt.Sprintf("  %s:\n    region_name: %s\n    auth: {auth_url: %q, username: %q, password: %q, user_domain_name: Default, project_name: %q, project_domain_name: Default}\n",
			name, region, openstack.Keystone, u.Name, u.Password, u.Project)
	}
	place(t, folder, "clouds.yaml", clouds)
	public, admin := freeAddress(t), freeAddress(t)
	script := change(t, strings.Join(commands, "\n"),
		edit{"--password-prompt countersign", "--password " + service.Password + " " + service.Name, whyInteractive},
		edit{"--user countersign ", "--user " + service.Name + " ", "there is a user of the name already"},
		edit{"http://glance.internal:9292", glance.url(), "the document says where Glance is elsewhere"},
		edit{"http://images.internal:9292", "http://" + public, "the port is taken"},
		edit{"http://127.0.0.1:9293", "http://" + admin, "the port is taken"},
	)
	c := login(t, "admin", glance.url())
	output, code := run(c, "bash", "-c", strings.Join([]string{
		"set -eu", "cd " + folder, "unset ${!OS_*}", "export OS_CLIENT_CONFIG_FILE=" + folder + "/clouds.yaml",
		"PATH=" + filepath.Dir(binary) + ":$PATH", "export COUNTERSIGN_LISTEN=" + public + " COUNTERSIGN_ADMIN_LISTEN=" + admin,
		"trap 'kill $(jobs -p) || true; wait; cat countersign.log' EXIT", script,
	}, "\n"))
	var made struct{ Users []struct{ ID string } }
	decodeInto(t, c.send("GET", openstack.Keystone+"/users?name="+service.Name, "", nil), &made)
	for _, u := range made.Users {
		t.Cleanup(func() { c.unmake("user", u.ID) })
	}
	if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, output)
	}
	t.Cleanup(func() {
		for _, name := range []string{"unsigned", "signed", "signed-again", "changed", "unsigned-again"} {
			forgetOwned(t, c, demo.ProjectID, name)
		}
	})
	typed, log, _ := strings.Cut(output, `{"level"`)
	for _, want := range []string{
		"no rule has mode enforce", `"ready": true`, "not Countersign", "would go from " + glance.url(), "would be refused: img_signature is not set",
		`reason="signature_required"`, "refused", "went from http://" + public + " to " + glance.url(),
		"demands a signed image", "does not match the 3000000 bytes of image data",
	} {
		if !strings.Contains(strings.Join(strings.Fields(typed), " "), want) {
			t.Errorf("what is typed shows no %q", want)
		}
	}
	if !regexp.MustCompile(`(?m)^2$`).MatchString(typed) {
		t.Error("the log does not count two policies")
	}
	if t.Failed() {
		t.Logf("%s\n%s", typed, log)
	}
	states := map[string]string{}
	for _, img := range owned(t, c, demo.ProjectID) {
		states[img.text("name")] = img.status()
	}
	for name, want := range map[string]string{"unsigned": "active", "signed": "active", "signed-again": "active", "changed": "", "unsigned-again": ""} {
		if states[name] != want {
			t.Errorf("the image %s is %q, want %q", name, states[name], want)
		}
	}
}

// owned are the images of a project, as an administrator sees them.
func owned(t *testing.T, c *client, project string) []image {
	t.Helper()
	var list struct{ Images []image }
	decodeInto(t, c.send("GET", c.images+"/v2/images?owner="+project, "", nil), &list)
	return list.Images
}

func forgetOwned(t *testing.T, c *client, project, name string) {
	for _, img := range named(t, c, name) {
		if img.text("owner") == project {
			c.remove(img.id())
		}
	}
}

// newUser is one with a project of his own, and roles in it.
func newUser(t *testing.T, name string, roles ...string) user {
	t.Helper()
	c := login(t, "admin", "")
	u := user{Name: name, Password: "stack", Domain: "Default", Project: name}
	u.ProjectID = c.make("project", map[string]any{"name": name, "domain_id": "default"})
	u.ID = c.make("user", map[string]any{"name": name, "password": u.Password, "domain_id": "default"})
	for _, role := range roles {
		var found struct{ Roles []struct{ ID string } }
		decodeInto(t, c.send("GET", openstack.Keystone+"/roles?name="+role, "", nil), &found)
		if a := c.send("PUT", openstack.Keystone+"/projects/"+u.ProjectID+"/users/"+u.ID+"/roles/"+found.Roles[0].ID, "", nil); a.status != http.StatusNoContent {
			t.Fatalf("role %s: %v", role, a)
		}
	}
	return u
}
