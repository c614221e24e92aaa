//go:build e2e

package e2e_test

import (
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"testing"
)

// TestTheCatalogIsMovedAndPutBack: an administrator moves the catalog's image
// endpoints to the proxy and back, a command each, in a region of the test's
// own; and users' clients follow.
func TestTheCatalogIsMovedAndPutBack(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		other := startProxy(t, glance, policy)
		region := newRegion(t, glance, nil)
		a := &administrator{t: t, client: login(t, "admin", ""), region: region}

		if out := a.countersign(0, "show"); strings.Count(out, "not Countersign") != 3 {
			t.Errorf("show of three endpoints at Glance is\n%s", out)
		}
		out := a.countersign(1, "set", glance.url())
		wantSentence(t, out, "what answers there is not Countersign", "nothing is changed")
		out = a.countersign(1, "set", "http://"+freeAddress(t))
		wantSentence(t, out, "nothing answers there", "connection refused")
		a.wantURLs(glance.url(), glance.url(), glance.url())
		a.countersign(0, "set", p.url, "--dry-run")
		a.wantURLs(glance.url(), glance.url(), glance.url())

		a.countersign(0, "set", p.url+"/", "--interface", "public")
		a.wantURLs(p.url, glance.url(), glance.url())
		out = a.countersign(0, "set", p.url)
		wantSentence(t, out, "public: leads to "+p.url+" already", "internal: went from "+glance.url()+" to "+p.url)
		a.wantURLs(p.url, p.url, p.url)
		if out := a.countersign(0, "show"); strings.Count(out, " Countersign ") != 3 || strings.Count(out, glance.url()) != 3 {
			t.Errorf("show of three endpoints at Countersign is\n%s", out)
		}
		cmd := exec.Command("stack/stack", "exec", "openstack", "image", "list", "--limit", "1")
		cmd.Env = append(cmd.Environ(), asUser("demo", region)...)
		if output, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("openstack image list in %s: %v\n%s", region, err, output)
		}
		if !listed(p.log.events()) {
			t.Error("the client did not follow the catalog to the proxy")
		}

		// Moved on to another proxy, Glance is still what it goes back to; what
		// somebody else has written of the endpoint stays.
		a.countersign(0, "set", other.url)
		a.wantURLs(other.url, other.url, other.url)
		a.patch("internal", map[string]any{"url": "http://elsewhere.example"})
		out = a.countersign(1, "restore")
		wantSentence(t, out, "was moved to "+other.url+", and somebody has moved it to http://elsewhere.example since; nothing is changed")
		a.wantURLs(other.url, "http://elsewhere.example", other.url)
		a.countersign(0, "restore", "--dry-run", "--force")
		a.wantURLs(other.url, "http://elsewhere.example", other.url)
		a.countersign(0, "restore", "--force")
		a.wantURLs(glance.url(), glance.url(), glance.url())
		for _, e := range a.endpoints() {
			if e.Description != "of the test" {
				t.Errorf("the %s endpoint's description is %q, want it as it was", e.Interface, e.Description)
			}
		}
		out = a.countersign(0, "restore")
		wantSentence(t, out, "was not moved by countersign, and stays at "+glance.url())

		// Who is no administrator is told so.
		a.client.user = openstack.Users["demo"]
		wantSentence(t, a.countersign(2, "show"), "it takes the role admin")
	})
}

// newRegion makes a region whose three image endpoints lead to a Glance, and
// one for each other service at its URL, and removes it when the test ends.
func newRegion(t *testing.T, glance server, others map[string]string) string {
	t.Helper()
	admin := login(t, "admin", "")
	region := "Test" + strings.ReplaceAll(freeAddress(t), ":", ".")
	admin.make("region", map[string]any{"id": region})
	endpoint := func(service, kind, url string) {
		var services struct{ Services []struct{ ID string } }
		decodeInto(t, admin.send("GET", openstack.Keystone+"/services?type="+service, "", nil), &services)
		admin.make("endpoint", map[string]any{"service_id": services.Services[0].ID, "interface": kind, "region_id": region,
			"url": url, "description": "of the test"})
	}
	for _, kind := range []string{"public", "internal", "admin"} {
		endpoint("image", kind, glance.url())
	}
	for service, url := range others {
		endpoint(service, "public", url)
	}
	return region
}

// make is a new thing of a kind in Keystone, which is removed when the test
// ends. It returns its id.
func (c *client) make(kind string, what map[string]any) string {
	c.t.Helper()
	a := c.send("POST", openstack.Keystone+"/"+kind+"s", "application/json", encode(c.t, map[string]any{kind: what}))
	if a.status != http.StatusCreated {
		c.t.Fatalf("new %s: %v", kind, a)
	}
	id := c.decode(a)[kind].(map[string]any)["id"].(string)
	c.t.Cleanup(func() { c.unmake(kind, id) })
	return id
}

// unmake removes a thing, after the test's own context has ended.
func (c *client) unmake(kind, id string) {
	request, err := http.NewRequest("DELETE", openstack.Keystone+"/"+kind+"s/"+id, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	request.Header.Set("X-Auth-Token", c.token)
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		c.t.Fatal(err)
	}
	answer.Body.Close()
}

// administrator types `countersign endpoint …` in one region.
type administrator struct {
	t      *testing.T
	client *client
	region string
}

// countersign returns what a command prints, which has to exit with code.
func (a *administrator) countersign(code int, arguments ...string) string {
	a.t.Helper()
	cmd := exec.Command(binary, append([]string{"endpoint"}, arguments...)...)
	cmd.Env = append(cmd.Environ(), asUser(a.client.user.Name, a.region)...)
	if arguments[0] == "show" {
		cmd.Args = append(cmd.Args, "--region", a.region)
	}
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		a.t.Fatal(err)
	}
	if got := cmd.ProcessState.ExitCode(); got != code {
		a.t.Fatalf("countersign endpoint %v: exit code %d, want %d:\n%s", arguments, got, code, out)
	}
	return string(out)
}

func asUser(name, region string) []string {
	u := openstack.Users[name]
	return []string{"OS_AUTH_URL=" + openstack.Keystone, "OS_IDENTITY_API_VERSION=3", "OS_USERNAME=" + u.Name, "OS_PASSWORD=" + u.Password,
		"OS_USER_DOMAIN_NAME=" + u.Domain, "OS_PROJECT_NAME=" + u.Project, "OS_PROJECT_DOMAIN_NAME=" + u.Domain, "OS_REGION_NAME=" + region}
}

type catalogEntry struct{ ID, Interface, URL, Description string }

// endpoints are the region's, by their interface.
func (a *administrator) endpoints() map[string]catalogEntry {
	a.t.Helper()
	var list struct{ Endpoints []catalogEntry }
	decodeInto(a.t, a.client.send("GET", openstack.Keystone+"/endpoints?region_id="+a.region, "", nil), &list)
	found := map[string]catalogEntry{}
	for _, e := range list.Endpoints {
		found[e.Interface] = e
	}
	return found
}

func (a *administrator) wantURLs(public, internal, admin string) {
	a.t.Helper()
	found := a.endpoints()
	got := fmt.Sprint(found["public"].URL, " ", found["internal"].URL, " ", found["admin"].URL)
	if want := fmt.Sprint(public, " ", internal, " ", admin); got != want {
		a.t.Errorf("public, internal and admin endpoints are %s, want %s", got, want)
	}
}

func (a *administrator) patch(kind string, change map[string]any) {
	a.t.Helper()
	answer := a.client.send("PATCH", openstack.Keystone+"/endpoints/"+a.endpoints()[kind].ID, "application/json",
		encode(a.t, map[string]any{"endpoint": change}))
	if answer.status != http.StatusOK {
		a.t.Fatalf("change endpoint: %v", answer)
	}
}
