//go:build e2e

package e2e_test

import (
	"bufio"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestTheAuditTrailIsCADF: what is decided is told to a file and a webhook, as
// events that OpenStack's own library for CADF takes, and none has a token or a
// signature.
func TestTheAuditTrailIsCADF(t *testing.T) {
	var mu sync.Mutex
	var posted []string
	siem := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		posted = append(posted, string(body))
	}))
	defer siem.Close()
	folder := t.TempDir()
	file := filepath.Join(folder, "audit.log")
	p := startProxy(t, servers[0], policy, "COUNTERSIGN_AUDIT_FILE="+file, "COUNTERSIGN_AUDIT_URL="+siem.URL)
	c, audited := login(t, "demo", p.url), login(t, "auditor", p.url)
	data := pixels(t, size)
	s := newSigner(t, time.Hour)
	properties := s.properties(data, c.secret(s.certificate))
	good := c.create(properties).id()
	c.upload(good, data)
	c.upload(c.create(nil).id(), data)
	audited.upload(audited.create(nil).id(), data)
	c.send("POST", c.image(good, "actions", "reactivate"), "", nil)

	eventually(t, "both have four events", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(posted) == 4 && len(lines(t, file)) == 4
	})
	text := strings.Join(lines(t, file), "\n")
	if got := strings.Join(posted, "\n"); got != text {
		t.Errorf("the webhook has\n%s\nand the file\n%s", got, text)
	}
	for what, secret := range map[string]string{"token": c.token, "signature": properties["img_signature"]} {
		if strings.Contains(text, secret) {
			t.Errorf("the audit trail has a %s", what)
		}
	}
	for _, want := range []string{`"reasonCode":"signature_required"`, `"audit_only":true`, `"outcome":"success"`, `"action":"update/reactivate"`} {
		if !strings.Contains(text, want) {
			t.Errorf("the audit trail has no %s:\n%s", want, text)
		}
	}

	judge := filepath.Join(folder, "judge.py")
	if err := os.WriteFile(judge, []byte(`
import json, sys
from pycadf import attachment, event, host, reason, resource
for line in open(sys.argv[1]):
    e = json.loads(line)
    def made(r):
        r = dict(r)
        r.pop("project_id", None)
        if "host" in r:
            r["host"] = host.Host(**r["host"])
        return resource.Resource(**r)
    built = event.Event(eventType=e["eventType"], id=e["id"], eventTime=e["eventTime"], action=e["action"], outcome=e["outcome"],
                        initiator=made(e["initiator"]), target=made(e["target"]), observer=made(e["observer"]), reason=reason.Reason(**e["reason"]))
    for a in e["attachments"]:
        built.add_attachment(attachment.Attachment(**a))
    if e["typeURI"] != built.typeURI or not built.is_valid():
        sys.exit("not valid: " + line)
`), 0o600); err != nil {
		t.Fatal(err)
	}
	mustRun(c, "python3", "-W", "error::UserWarning", judge, file)
}

func lines(t *testing.T, name string) []string {
	t.Helper()
	file, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var list []string
	scanner := bufio.NewScanner(file)
	for scanner.Scan() {
		list = append(list, scanner.Text())
	}
	return list
}
