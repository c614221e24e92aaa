//go:build e2e

package e2e_test

import (
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/certcache/vaulttest"
)

// certificates is a key manager that is not Barbican, and that Glance knows
// nothing of.
type certificates struct {
	settings   []string
	put        func(id string, certificate []byte) // in PEM
	property   func(id string) string              // how an image names it
	away, back func()
}

// inDirectory keeps certificates in files.
func inDirectory(t *testing.T) certificates {
	directory := filepath.Join(t.TempDir(), "certificates")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Mkdir(directory, 0o755))
	return certificates{
		settings: []string{"COUNTERSIGN_KEY_MANAGER=file", "COUNTERSIGN_KEY_DIRECTORY=" + directory},
		put: func(id string, certificate []byte) {
			must(os.WriteFile(filepath.Join(directory, id+".pem"), certificate, 0o644))
		},
		property: func(id string) string { return id },
		away:     func() { must(os.Rename(directory, directory+".away")) },
		back:     func() { must(os.Rename(directory+".away", directory)) },
	}
}

// inVault keeps certificates in a stand-in for Vault, as castellan does. The
// tests of e2e/vault hold it to the real one.
func inVault(t *testing.T) certificates {
	vault := vaulttest.New()
	vault.AppRole("approle", "countersign", "s3cret-id", -1)
	server := httptest.NewServer(vault)
	t.Cleanup(server.Close)
	secretID := filepath.Join(t.TempDir(), "secret-id")
	if err := os.WriteFile(secretID, []byte("s3cret-id"), 0o600); err != nil {
		t.Fatal(err)
	}
	bare := func(id string) string { return strings.ReplaceAll(id, "-", "") }
	return certificates{
		settings: []string{
			"COUNTERSIGN_KEY_MANAGER=vault", "COUNTERSIGN_VAULT_ADDR=" + server.URL, "COUNTERSIGN_VAULT_AUTH=approle",
			"COUNTERSIGN_VAULT_ROLE_ID=countersign", "COUNTERSIGN_VAULT_SECRET_ID_FILE=" + secretID,
		},
		put: func(id string, certificate []byte) {
			block, _ := pem.Decode(certificate)
			vault.Put("secret/"+bare(id), fmt.Sprintf(`{"type": "certificate", "value": "%x", "name": "signer", "created": 1795372800}`, block.Bytes))
		},
		property: bare,
		away:     func() { vault.Seal(true) },
		back:     func() { vault.Seal(false) },
	}
}

// TestAnotherKeyManager: certificates in Vault or in a directory serve as those in
// Barbican do. Glance cannot look at them, and is spared that.
func TestAnotherKeyManager(t *testing.T) {
	for name, keep := range map[string]func(*testing.T) certificates{"directory": inDirectory, "Vault": inVault} {
		t.Run(name, func(t *testing.T) {
			underBothServers(t, func(t *testing.T, glance server) { anotherKeyManager(t, glance, keep(t)) })
		})
	}
}

func anotherKeyManager(t *testing.T, glance server, keys certificates) {
	p := startProxy(t, glance, policy, append(keys.settings, "COUNTERSIGN_GLANCE_VERIFIES=no", "COUNTERSIGN_CERTIFICATE_NEGATIVE_AGE=0s", "COUNTERSIGN_CERTIFICATE_MAX_AGE=1s")...)
	c := login(t, "demo", p.url)
	straight := c.at(glance.url())
	data := pixels(t, size)
	s := newSigner(t, time.Hour)
	certificate, later := uuid.NewString(), uuid.NewString()
	keys.put(certificate, s.certificate)
	create := func(id string) string { return c.create(s.properties(data, keys.property(id))).id() }

	id := create(certificate)
	if a := c.upload(id, data); a.status != http.StatusNoContent {
		t.Errorf("a signed upload answered %v, want 204", a)
	}
	wantStatus(t, straight, id, "active")

	tampered := create(certificate)
	wantRefusal(t, c.upload(tampered, append([]byte("x"), data[1:]...)), http.StatusBadRequest, "signature_mismatch")

	// Nobody has that certificate: not a byte of the data is asked for. Then there is one.
	id = create(later)
	wantRefusal(t, c.begin(id, len(data)).answer(), http.StatusBadRequest, "certificate_not_found")
	wantStatus(t, straight, id, "queued")
	keys.put(later, s.certificate)
	if a := c.upload(id, data); a.status != http.StatusNoContent {
		t.Errorf("once it is stored the upload answered %v, want 204", a)
	}
	wantStatus(t, straight, id, "active")

	// Away: 503 before the data, and again as before when it is back.
	keys.away()
	id = create(uuid.NewString())
	a := c.begin(id, len(data)).answer()
	wantRefusal(t, a, http.StatusServiceUnavailable, "key_manager_unavailable")
	if a.header.Get("Retry-After") == "" {
		t.Error("the 503 has no Retry-After")
	}
	wantStatus(t, straight, id, "queued")
	if p.metric(t, "countersign_key_manager_up") != 0 {
		t.Error("the metric says that the key manager is up")
	}
	off := login(t, "off", p.url)
	if a := off.upload(off.create(nil).id(), data); a.status != http.StatusNoContent {
		t.Errorf("the upload where the rule is off answered %v, want 204", a)
	}
	keys.back()
	id = create(certificate)
	eventually(t, "uploads are accepted again", func() bool { return c.upload(id, data).status == http.StatusNoContent })
	wantStatus(t, straight, id, "active")
}

// TestThePolicysCertificatesOutliveAnOutage: a rule whose trust set was never
// loaded refuses before the data; loaded once, it serves on without the key
// manager.
func TestThePolicysCertificatesOutliveAnOutage(t *testing.T) {
	glance := servers[0] // the other one sees the same of it: nothing
	keys := inVault(t)
	s := newSigner(t, time.Hour)
	certificate := uuid.NewString()
	keys.put(certificate, s.certificate)
	keys.away()
	p := startProxy(t, glance, fmt.Sprintf(`
trust:
  builders:
    certificates: [%s]
    mode: anchor
rules:
  - name: guarded
    projects: [{name: demo, domain: Default}]
    mode: enforce
    signers: [{trust: builders}]
  - name: everybody else
    projects: all
    unowned: true
    mode: "off"
`, certificate), append(keys.settings, "COUNTERSIGN_GLANCE_VERIFIES=no", "COUNTERSIGN_ANCHOR_INTERVAL=1s")...)
	c := login(t, "demo", p.url)
	data := pixels(t, size)
	create := func() string { return c.create(s.properties(data, certificate)).id() }

	id := create()
	a := c.begin(id, len(data)).answer()
	if a.status != http.StatusServiceUnavailable {
		t.Errorf("an upload whose rule has no certificates yet answered %v, want 503", a)
	}
	wantStatus(t, c.at(glance.url()), id, "queued")
	if p.metric(t, "countersign_anchors_missing") != 1 {
		t.Error("the metric does not say that the certificate is missing")
	}
	keys.back()
	eventually(t, "the rule has its certificates", func() bool { return c.upload(id, data).status == http.StatusNoContent })
	wantStatus(t, c.at(glance.url()), id, "active")

	keys.away()
	before := p.metric(t, "countersign_anchor_failures_total")
	eventually(t, "the key manager was asked in vain", func() bool { return p.metric(t, "countersign_anchor_failures_total") > before+1 })
	id = create()
	if a := c.upload(id, data); a.status != http.StatusNoContent {
		t.Errorf("an upload during the outage answered %v, want 204", a)
	}
	wantStatus(t, c.at(glance.url()), id, "active")
}
