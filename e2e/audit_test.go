//go:build e2e

package e2e_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestWhatIsWrongInAnAuditedProjectIsOnlyNoted: a project that is watched
// must not notice. (An unsigned one is in upload_test.go.) Glance behind does
// verify an image that has all four properties, so a case that it does not
// look at shows what is ours: the certificate has expired.
func TestWhatIsWrongInAnAuditedProjectIsOnlyNoted(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "auditor", p.url)
		data := pixels(t, size)
		expired, good := newSigner(t, -time.Minute), newSigner(t, time.Hour)

		t.Run("expired", func(t *testing.T) {
			c := c.in(t)
			id := c.create(expired.properties(data, c.secret(expired.certificate))).id()
			a := c.upload(id, data)
			if a.status != http.StatusNoContent {
				t.Errorf("upload answered %v, want Glance's 204", a)
			}
			wantStatus(t, c.at(glance.url()), id, "active")
			wantNoted(t, p, a, "certificate_expired")
		})
		t.Run("one property fewer", func(t *testing.T) {
			c := c.in(t)
			properties := good.properties(data, c.secret(good.certificate))
			delete(properties, "img_signature_key_type")
			id := c.create(properties).id()
			a := c.uploadChunked(id, data)
			if a.status != http.StatusNoContent {
				t.Errorf("upload answered %v, want Glance's 204", a)
			}
			wantStatus(t, c.at(glance.url()), id, "active")
			wantNoted(t, p, a, "property_missing")
		})
		// Glance's own answer, and Glance's own way to leave the image.
		t.Run("tampered", func(t *testing.T) {
			c := c.in(t)
			id := c.create(good.properties(data, c.secret(good.certificate))).id()
			a := c.upload(id, append([]byte{'x'}, data...))
			if a.status != http.StatusBadRequest || strings.Contains(string(a.body), "signature_mismatch") {
				t.Errorf("upload answered %v, want Glance's own 400", a)
			}
			c.at(glance.url()).reaches(id, "queued")
			wantNoted(t, p, a, "signature_mismatch")
		})
	})
}

// wantNoted wants the refusal that would have been in the log, with the id of
// the request that was answered.
func wantNoted(t *testing.T, p *proxy, a answer, code string) {
	t.Helper()
	event := p.awaitEvent(t, map[string]string{"request_id": a.header.Get("X-Openstack-Request-Id"), "method": "PUT"})
	message, _ := event["message"].(string)
	if !strings.HasPrefix(message, "would be refused") || !strings.Contains(message, code) {
		t.Errorf("the log says %q, want that the upload would be refused with %s", message, code)
	}
}

// TestThePolicyIsReadAgainWhenItChanges tells of an operator who edits the
// file, of one who mounts a ConfigMap, and of one who makes a mistake.
func TestThePolicyIsReadAgainWhenItChanges(t *testing.T) {
	enforcing := policy
	lax := strings.Replace(policy, "mode: enforce", `mode: "off"`, 1)
	folder := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(filepath.Join(folder, name)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(folder, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// As Kubernetes mounts a ConfigMap: policy.yaml → ..data/policy.yaml, and
	// ..data → a folder that is swapped whole.
	swap := func(version string) {
		t.Helper()
		link := filepath.Join(folder, "..data")
		if err := os.Symlink(version, link+"_new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link+"_new", link); err != nil {
			t.Fatal(err)
		}
	}
	write("..1/policy.yaml", enforcing)
	write("..2/policy.yaml", lax)
	write("..3/policy.yaml", enforcing)
	swap("..1")
	if err := os.Symlink("..data/policy.yaml", filepath.Join(folder, "policy.yaml")); err != nil {
		t.Fatal(err)
	}
	p := startProxy(t, servers[0], policy, "COUNTERSIGN_POLICY_FILE="+filepath.Join(folder, "policy.yaml"), "COUNTERSIGN_POLICY_INTERVAL=100ms")
	c := login(t, "demo", p.url)
	enforces := func() bool { return c.upload(c.create(nil).id(), []byte("unsigned")).status == http.StatusForbidden }
	if !enforces() {
		t.Fatal("an unsigned image is taken at the start, want it refused")
	}
	swap("..2")
	eventually(t, "the ConfigMap's new version is in force", func() bool { return !enforces() })
	swap("..3")
	eventually(t, "the ConfigMap's third version is in force", enforces)
	write("..3/policy.yaml", lax)
	eventually(t, "the edited file is in force", func() bool { return !enforces() })
	write("..3/policy.yaml", enforcing)
	eventually(t, "the file that was edited back is in force", enforces)

	const kept = "the policy file is wrong: the last good policy stays in force"
	for _, mistake := range []struct{ name, text string }{
		{"no YAML", "rules: ["},
		{"an unknown field", strings.Replace(enforcing, "mode: enforce", "mode: enforce\n    mood: good", 1)},
		{"empty", ""},
	} {
		before := len(p.log.events())
		write("..3/policy.yaml", mistake.text)
		eventually(t, "the log says what is wrong with a file that is "+mistake.name, func() bool { return loud(p.log.events()[before:], kept) })
		if !enforces() {
			t.Errorf("with a file that is %s an unsigned image is taken, want the last good policy", mistake.name)
		}
	}
	before := len(p.log.events())
	if err := os.Remove(filepath.Join(folder, "..data")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the log says that the file cannot be read", func() bool {
		return loud(p.log.events()[before:], kept)
	})
	if !enforces() {
		t.Error("without the file an unsigned image is taken, want the last good policy")
	}
	swap("..2")
	eventually(t, "a good file is in force again", func() bool { return !enforces() })
}

// loud says whether an error of this text is among the events.
func loud(events []map[string]any, message string) bool {
	for _, event := range events {
		if has(event, map[string]string{"level": "error", "message": message}) {
			return true
		}
	}
	return false
}

// TestThereIsNoStartWithoutTheRightPolicy: a policy that cannot be read is not
// taken for none.
func TestThereIsNoStartWithoutTheRightPolicy(t *testing.T) {
	for _, wrong := range []struct{ name, policy, file, says string }{
		{"no such file", policy, filepath.Join(t.TempDir(), "missing.yaml"), "missing.yaml"},
		{"a folder", policy, t.TempDir(), "is a directory"},
		{"an unknown field", policy + "\nmood: good\n", "", "mood"},
		{"an empty file", "", "", "polic"},
	} {
		t.Run(wrong.name, func(t *testing.T) {
			var environment []string
			if wrong.file != "" {
				environment = []string{"COUNTERSIGN_POLICY_FILE=" + wrong.file}
			}
			p := launchProxy(t, servers[0], wrong.policy, environment...)
			if code := p.exitCode(t); code == 0 {
				t.Error("exit code 0, want another")
			}
			if !strings.Contains(p.log.String(), wrong.says) {
				t.Errorf("the last words are %q, want %q in them", &p.log, wrong.says)
			}
		})
	}
}
