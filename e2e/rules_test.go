//go:build e2e

package e2e_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestWhatOthersMayBootIsHeldStricter: a rule may look at an image's visibility,
// and Glance calls every image shared that nothing else is said of.
func TestWhatOthersMayBootIsHeldStricter(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, `
rules:
  - name: lent
    projects: [{name: demo, domain: Default}]
    visibility: [public, community, shared]
    mode: enforce
    signers: any
  - projects: all
    unowned: true
    mode: "off"
`)
		demo, alt, admin := login(t, "demo", p.url), login(t, "alt", p.url), login(t, "admin", p.url)
		straight := demo.at(glance.url())
		with := func(visibility string) string { return demo.create(map[string]string{"visibility": visibility}).id() }
		shared := func() string {
			id := with("shared")
			if a := straight.send("POST", straight.image(id, "members"), "application/json", encode(t, map[string]string{"member": alt.user.ProjectID})); a.status != http.StatusOK {
				t.Fatalf("sharing answered %v, want 200", a)
			}
			return id
		}
		data := pixels(t, size)
		for _, test := range []struct {
			name string
			id   string
			by   *client
			pass bool
		}{
			{"private", with("private"), demo, true},
			{"shared with nobody", with("shared"), demo, true},
			{"shared with nobody, by an administrator", with("shared"), admin, true},
			{"nothing said", demo.create(nil).id(), demo, true},
			{"shared with a project that has not answered", shared(), demo, false},
			{"shared with a project, by an administrator", shared(), admin, false},
			{"community", with("community"), demo, false},
		} {
			a := test.by.upload(test.id, data)
			if test.pass && a.status != 204 || !test.pass && (a.status != 403 || !strings.Contains(string(a.body), "signature_required")) {
				t.Errorf("%s: unsigned upload answered %v, want it to pass: %v", test.name, a, test.pass)
			}
		}
	})
}

// TestBreakGlassEndsByItself: until its time a rule loosens what the rules after
// it demand, loudly, and then no more.
func TestBreakGlassEndsByItself(t *testing.T) {
	glance := servers[0]
	until := time.Now().Add(30 * time.Second).Truncate(time.Second)
	p := startProxy(t, glance, fmt.Sprintf(`
rules:
  - name: the key manager is moved
    projects: [{name: demo, domain: Default}]
    mode: audit
    until: %s
    owner: Jane Doe
    reason: the scenario wants it
`, until.Format(time.RFC3339))+strings.TrimPrefix(policy, "\nrules:\n"))
	demo := login(t, "demo", p.url)
	p.awaitEvent(t, map[string]string{"level": "error", "rule": "the key manager is moved", "owner": "Jane Doe"})
	if a := demo.upload(demo.create(nil).id(), pixels(t, size)); a.status != 204 {
		t.Fatalf("unsigned upload under break-glass answered %v, want 204", a)
	}
	p.awaitEvent(t, map[string]string{"level": "warn", "route": "/v2/images/{id}/file", "status": "204"})
	metrics := demo.send("GET", p.admin+"/metrics", "", nil)
	if line := `countersign_break_glass{rule="the key manager is moved"} 1`; !strings.Contains(string(metrics.body), line) {
		t.Errorf("/metrics lacks %s", line)
	}
	p.awaitEvent(t, map[string]string{"level": "error", "message": "a break-glass rule has ended: the rules after it count again"})
	if now := time.Now(); now.Before(until) {
		t.Errorf("it ended at %v, before %v", now, until)
	}
	if a := demo.upload(demo.create(nil).id(), pixels(t, size)); a.status != 403 || !strings.Contains(string(a.body), "signature_required") {
		t.Errorf("unsigned upload after break-glass answered %v, want 403 signature_required", a)
	}
}
