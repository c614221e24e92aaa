//go:build e2e

package e2e_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/proxy/receipt"
)

// unverified is a policy that does with unverified images of the project demo
// what it is told.
func unverified(action string) string {
	return `
rules:
  - name: guarded
    projects: [{name: demo, domain: Default}]
    mode: enforce
    signers: any
    unverified: ` + action + `
  - projects: all
    unowned: true
    mode: "off"
`
}

// row is what countersign scan says of an image.
type row struct{ Image, Verdict, Reason, Action, Note, Signer string }

// scanRows is scan where an upload takes a second to settle at most.
func scanRows(t *testing.T, glance server, policy string, arguments ...string) (map[string]row, int) {
	t.Helper()
	return scan(t, glance, policy, time.Second, arguments...)
}

// scan runs countersign scan as the service user, and returns what it found by
// image, and its exit code. settle is how long an upload may take to settle.
func scan(t *testing.T, glance server, policy string, settle time.Duration, arguments ...string) (map[string]row, int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	command := exec.Command(binary, append([]string{"scan", "--all", "--format", "json"}, arguments...)...)
	command.Env = append([]string{"COUNTERSIGN_GLANCE_URL=" + glance.url(), "COUNTERSIGN_POLICY_FILE=" + file,
		"COUNTERSIGN_RECEIPT_KEY_FILES=" + receiptKey, "COUNTERSIGN_SETTLE_TIMEOUT=" + settle.String()}, asUser("countersign", glance.region)...)
	var stderr strings.Builder
	command.Stderr = &stderr
	output, err := command.Output()
	var exit *exec.ExitError
	var list []row
	if jsonErr := json.Unmarshal(output, &list); jsonErr != nil || err != nil && !errors.As(err, &exit) {
		t.Fatalf("countersign scan %q: %v, %v\n%s%s", arguments, err, jsonErr, output, &stderr)
	}
	rows := map[string]row{}
	for _, r := range list {
		rows[r.Image] = r
	}
	return rows, command.ProcessState.ExitCode()
}

// images are the flags that name images.
func images(ids ...string) []string {
	var flags []string
	for _, id := range ids {
		flags = append(flags, "--image", id)
	}
	return flags
}

// has makes an active image straight at Glance, with properties that it gets
// afterwards: Glance looks at none of them.
func (c *client) has(data []byte, later map[string]string) string {
	c.t.Helper()
	id := c.create(nil).id()
	if a := c.upload(id, data); a.status != 204 {
		c.t.Fatalf("upload straight to Glance answered %v, want 204", a)
	}
	operations := []map[string]any{}
	for name, value := range later {
		operations = append(operations, map[string]any{"op": "add", "path": "/" + name, "value": value})
	}
	if a := c.patch(id, operations...); a.status != 200 {
		c.t.Fatalf("PATCH straight at Glance answered %v, want 200", a)
	}
	return id
}

// TestAScanFindsWhatCameRoundTheProxy: it reports, deactivates or deletes what
// does not verify, as the rule says, gives what verifies its receipt, and leaves
// alone what has one and what nobody can tell about.
func TestAScanFindsWhatCameRoundTheProxy(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "demo", glance.url())
		data := pixels(t, size)
		s := newSigner(t, time.Hour)
		certificate, secret := c.secret(s.certificate), c.secret(s.certificate)
		c.letRead(certificate, "countersign")

		good := c.create(s.properties(data, certificate)).id()
		if a := c.at(p.url).upload(good, data); a.status != 204 {
			t.Fatalf("upload answered %v, want 204", a)
		}
		its := c.show(good).text(receipt.Property)
		signed := c.has(data, s.properties(data, certificate))
		unsigned := c.has(data, nil)
		forged := c.has(append(bytes.Clone(data[:len(data)-1]), data[len(data)-1]^1), s.properties(data, certificate))
		unknown := c.has(data, s.properties(data, secret))
		all := images(good, signed, unsigned, forged, unknown)

		rows, code := scanRows(t, glance, unverified("report"), all...)
		for id, want := range map[string]row{
			good:     {Verdict: "vouched"},
			signed:   {Verdict: "verified", Action: "receipt"},
			unsigned: {Verdict: "refused", Reason: "signature_required"},
			forged:   {Verdict: "refused", Reason: "signature_mismatch"},
			unknown:  {Verdict: "undecided", Reason: "certificate_forbidden"},
		} {
			if got := rows[id]; got.Verdict != want.Verdict || got.Reason != want.Reason || got.Action != want.Action {
				t.Errorf("report: %+v, want %+v", got, want)
			}
			wantStatus(t, c, id, "active")
		}
		if code != 1 {
			t.Errorf("report: exit code %d, want 1", code)
		}
		record := c.show(signed)
		if r := openReceipt(t, record); r.Kind != receipt.Scan || r.Describes(record.subject()) != nil {
			t.Errorf("the signed image has a receipt of kind %q: %v", r.Kind, r.Describes(record.subject()))
		}
		if c.show(good).text(receipt.Property) != its {
			t.Error("the receipt of the image that had one was written anew")
		}

		eventually(t, "both are deactivated", func() bool {
			scanRows(t, glance, unverified("deactivate"), all...)
			return c.show(unsigned).status() == "deactivated" && c.show(forged).status() == "deactivated"
		})
		unsigned, forged = c.has(data, nil), c.has(append(data[:len(data):len(data)], 'x'), s.properties(data, certificate))
		eventually(t, "both are deleted", func() bool {
			scanRows(t, glance, unverified("delete"), images(good, signed, unsigned, forged, unknown)...)
			return !c.exists(unsigned) && !c.exists(forged)
		})
		for _, id := range []string{good, signed, unknown} {
			wantStatus(t, c, id, "active")
		}
		if rows, code := scanRows(t, glance, unverified("delete"), images(good, signed)...); code != 0 || rows[signed].Verdict != "vouched" {
			t.Errorf("at last: %+v with exit code %d, want both vouched", rows, code)
		}
	})
}

// TestAScanSeesEveryImage: hidden ones as well, of a whole project, and again by
// whoever signed them.
func TestAScanSeesEveryImage(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		c := login(t, "alt", glance.url())
		policy := strings.ReplaceAll(unverified("report"), "name: demo", "name: alt")
		data := pixels(t, 1000)
		s := newSigner(t, time.Hour)
		certificate := c.secret(s.certificate)
		c.letRead(certificate, "countersign")
		plain, hidden := c.has(data, s.properties(data, certificate)), c.has(data, s.properties(data, certificate))
		if a := c.patch(hidden, map[string]any{"op": "replace", "path": "/os_hidden", "value": true}); a.status != 200 {
			t.Fatalf("hiding an image answered %v, want 200", a)
		}
		rows, _ := scanRows(t, glance, policy, "--project", c.user.ProjectID)
		for _, id := range []string{plain, hidden} {
			if rows[id].Action != "receipt" {
				t.Errorf("%+v, want a receipt", rows[id])
			}
		}
		block, _ := pem.Decode(s.certificate)
		sum := sha256.Sum256(block.Bytes)
		rows, code := scanRows(t, glance, policy, "--signed-by", hex.EncodeToString(sum[:]), "--deactivate")
		if len(rows) != 2 || rows[plain].Action != "deactivated" || rows[hidden].Action != "deactivated" || code != 0 {
			t.Errorf("by its signer: %+v with exit code %d, want both deactivated", rows, code)
		}
		wantStatus(t, c, plain, "deactivated")
		wantStatus(t, c, hidden, "deactivated")
	})
}

// TestAProxyScansByItself: what came round it gets its receipt.
func TestAProxyScansByItself(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		c := login(t, "alt", glance.url())
		data := pixels(t, 1000)
		s := newSigner(t, time.Hour)
		certificate := c.secret(s.certificate)
		c.letRead(certificate, "countersign")
		id := c.has(data, s.properties(data, certificate))
		p := startProxy(t, glance, strings.ReplaceAll(unverified("report"), "name: demo", "name: alt"), "COUNTERSIGN_SCAN_INTERVAL=1m")
		p.awaitEvent(t, map[string]string{"message": "scanned"})
		record := c.show(id)
		if err := openReceipt(t, record).Describes(record.subject()); err != nil {
			t.Error(err)
		}
		if p.metric(t, "countersign_scan_completed_timestamp_seconds") == 0 {
			t.Error("the metric says that there was no scan")
		}
	})
}

// elsewhere verifies a receipt with a library that is not ours.
const elsewhere = `
import sys
from jwcrypto import jwk, jws
key = jwk.JWK.from_pem(open(sys.argv[1], "rb").read())
token = jws.JWS()
token.allowed_algs = ["EdDSA"]
token.deserialize(open(sys.argv[2]).read(), key)
if token.jose_header != {"alg": "EdDSA", "kid": key.thumbprint(), "typ": "countersign-receipt+jws"}:
    sys.exit(str(token.jose_header))
sys.stdout.buffer.write(token.payload)
`

// TestAReceiptVerifiesElsewhere: whoever has the public key and any JOSE library
// can check a receipt; here it is Debian's python3-jwcrypto.
func TestAReceiptVerifiesElsewhere(t *testing.T) {
	glance := servers[0]
	p := startProxy(t, glance, policy)
	c := login(t, "demo", p.url)
	data := pixels(t, 1000)
	id := createSigned(c, data).id()
	if a := c.upload(id, data); a.status != 204 {
		t.Fatalf("upload answered %v, want 204", a)
	}
	text := c.show(id).text(receipt.Property)
	file := filepath.Join(t.TempDir(), "receipt.jws")
	verify := func(text string) (string, int) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return run(c, "python3", "-c", elsewhere, receiptPublicKey, file)
	}
	var payload receipt.Receipt
	if output, code := verify(text); code != 0 || json.Unmarshal([]byte(output), &payload) != nil || payload.Image != id {
		t.Errorf("jwcrypto: exit code %d, %s", code, output)
	}
	head, tail, _ := strings.Cut(text, ".")
	other := "A"
	if tail[50:51] == other {
		other = "B"
	}
	if output, code := verify(head + "." + tail[:50] + other + tail[51:]); code == 0 || !strings.Contains(output, "InvalidJWSSignature") {
		t.Errorf("jwcrypto takes a receipt that was changed: exit code %d, %s", code, output)
	}
}
