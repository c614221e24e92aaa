//go:build e2e

package e2e_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
)

// TestTheHosts types docs/hosts.md, in order, on a host with a systemd of its
// own, whose Glance is on another one; a region is theirs.
func TestTheHosts(t *testing.T) {
	const whyHere = "the document says where it is elsewhere"
	glance := servers[0]
	region := newRegion(t, glance, map[string]string{"identity": openstack.Keystone, "key-manager": openstack.Barbican})
	service := newUser(t, "hosts"+region, "admin")
	host, other := newMachine(t, "images-1"), newMachine(t, "glance")
	wire(t, host, other)
	host.must("ip link set eth0 up; for last in 11 12 13; do ip address add 192.0.2.$last/24 dev eth0; done; ip address add 2001:db8::11/64 dev eth0 nodad")
	other.must("ip link set eth0 up; ip address add 192.0.2.20/24 dev eth0; ip address add 2001:db8::20/64 dev eth0 nodad")
	other.lead("glance", "9292", glance.url())
	other.lead("another", "9191", glance.url())
	host.must("printf '192.0.2.20 glance.internal\n2001:db8::20 glance6.internal\n127.0.0.1 images.example\n' >>/etc/hosts")
	host.lead("keystone", strings.TrimSuffix(strings.TrimPrefix(openstack.Keystone, "http://"), "/v3"), strings.TrimSuffix(openstack.Keystone, "/v3"))
	host.lead("barbican", strings.TrimPrefix(openstack.Barbican, "http://"), openstack.Barbican)

	p := newPage(t, "docs/hosts.md", "ini", "nft") // HAProxy's and nginx' are TestUploadsThroughALoadBalancer's
	p.take(" ")                                    // the drawing
	host.write("policy.yaml", policy)
	host.write("password", service.Password)
	host.must(p.take("make build"))
	host.write("/etc/countersign/environment", change(t, p.take("COUNTERSIGN_LISTEN=")+"COUNTERSIGN_AUDIT_FILE=/var/log/countersign/audit.log\n",
		edit{"https://keystone.example/v3", openstack.Keystone, whyHere},
		edit{"OS_USERNAME=countersign", "OS_USERNAME=" + service.Name, "there is a user of the name already"},
		edit{"OS_PROJECT_NAME=service", "OS_PROJECT_NAME=" + service.Project, "the user is in none"},
		edit{"OS_REGION_NAME=RegionOne", "OS_REGION_NAME=" + region, whyHere}))
	unit := p.take("[Unit]")
	host.write("/etc/systemd/system/countersign.service", unit)
	start, look, _ := strings.Cut(p.take("systemctl daemon-reload"), "curl ")
	host.must(start)
	eventually(t, "the unit's Countersign is ready", func() bool {
		out, code := host.run("curl " + look)
		return code == 0 && strings.Contains(out, `"ready": true`) && strings.Contains(out, `"service_credential": "ok"`) && strings.Contains(out, `"glance": "ok"`)
	})

	c := login(t, "demo", host.expose("images", "127.0.0.1:9292"))
	data := pixels(t, size)
	uploads := func(t *testing.T) {
		t.Helper()
		id := createSigned(c, data).id()
		if a := c.upload(id, data); a.status != http.StatusNoContent {
			t.Errorf("a signed upload answered %v, want 204", a)
		}
		changed := bytes.Clone(data)
		changed[size/2] ^= 1
		wantRefusal(t, c.upload(createSigned(c, data).id(), changed), http.StatusBadRequest, "signature_mismatch")
	}
	uploads(t)
	if trail := host.must("stat -c %U:%G:%a /var/log/countersign; cat /var/log/countersign/audit.log"); !strings.HasPrefix(trail, "countersign:countersign:750\n") ||
		strings.Count(trail, "\n") != 3 || !strings.Contains(trail, "signature_mismatch") {
		t.Errorf("the audit trail of two uploads is\n%s", trail)
	}

	// The catalog, and back.
	moved := host.must(change(t, p.take("countersign endpoint set"), edit{"https://images.example", "http://images.example:9292", "there is no balancer here"}),
		asUser("admin", region)...)
	wantSentence(t, moved, "went from "+glance.url()+" to http://images.example:9292")
	if strings.Count(moved, " Countersign ") != 3 {
		t.Errorf("the catalog does not lead to Countersign:\n%s", moved)
	}
	back := host.must("countersign endpoint restore", asUser("admin", region)...)
	if strings.Count(back, "went from http://images.example:9292 to "+glance.url()) != 3 {
		t.Errorf("the catalog does not lead to Glance again:\n%s", back)
	}

	// The other way is closed.
	rules, load := p.take("# Made anew"), p.take("nft -f")
	ask := p.take("curl -m 5 http://glance.internal:9292/")
	from := func(address, command string) int {
		_, code := host.run(strings.Replace(command, "curl ", "curl -s -o /dev/null --interface "+address+" ", 1))
		return code
	}
	const timeout = 28 // curl's
	ask6, another := strings.Replace(ask, "glance", "glance6", 1), strings.Replace(ask, "9292", "9191", 1)
	if code := from("192.0.2.13", ask) + from("2001:db8::11", ask6); code != 0 {
		t.Fatalf("Glance cannot be reached before it is closed: curl says %d", code)
	}
	other.must("mkdir -p /etc/nftables.d")
	other.write("/etc/nftables.d/glance.nft", rules)
	for range 2 {
		other.must(load)
	}
	if n := strings.Count(other.must("nft list ruleset"), "drop"); n != 2 {
		t.Errorf("read twice, the file makes %d rules, want 2", n)
	}
	for _, replica := range []string{"192.0.2.11", "192.0.2.12"} {
		if code := from(replica, ask); code != 0 {
			t.Errorf("from %s curl says %d, want 0", replica, code)
		}
	}
	if code := from("192.0.2.13", ask); code != timeout {
		t.Errorf("from a host that is neither curl says %d, want %d", code, timeout)
	}
	if code := from("2001:db8::11", ask6); code != timeout {
		t.Errorf("by IPv6 curl says %d, want %d", code, timeout)
	}
	if code := from("192.0.2.13", another); code != 0 {
		t.Errorf("another port is closed as well: curl says %d", code)
	}
	uploads(t)

	// A restart waits for what runs.
	lines := strings.SplitAfter(p.take("touch /etc/countersign/drain"), "\n")
	health := func() string {
		return host.must("curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:9292/healthcheck")
	}
	host.must(lines[0])
	if got := health(); got != "503" {
		t.Errorf("with the file /healthcheck answers %s, want 503", got)
	}
	id := createSigned(c, data).id()
	up := c.beginAdmitted(id, len(data))
	up.send(data[:size/2])
	restarted := make(chan string, 1)
	go func() { // ends with the script
		out, code := host.run(lines[1] + lines[2])
		if code == 0 {
			out = ""
		}
		restarted <- out
	}()
	eventually(t, "the unit is stopping", func() bool {
		out, _ := host.run("systemctl is-active countersign")
		return strings.TrimSpace(out) == "deactivating"
	})
	up.send(data[size/2:])
	if a, err := up.outcome(); err != nil || a.status != http.StatusNoContent {
		t.Errorf("the upload over which Countersign was restarted answered %v, %v, want 204", a, err)
	}
	if out := <-restarted; out != "" {
		t.Fatalf("the restart says %s", out)
	}
	host.must(lines[3])
	eventually(t, "it serves again", func() bool {
		out, code := host.run("curl -sf http://127.0.0.1:9292/healthcheck")
		return code == 0 && out == "OK"
	})
	uploads(t)

	// A port below 1024, as the document says to do it.
	host.must("systemctl kill --signal=KILL countersign; systemctl stop countersign; sed -i s/LISTEN=:9292/LISTEN=:443/ /etc/countersign/environment")
	host.write("/etc/systemd/system/countersign.service", change(t, unit, edit{"Capabilities=\n", "Capabilities=CAP_NET_BIND_SERVICE\n", ""},
		edit{"BoundingSet=\n", "BoundingSet=CAP_NET_BIND_SERVICE\n", ""}, edit{"PrivateUsers=yes\n", "", ""}))
	host.must("systemctl daemon-reload; systemctl start countersign")
	eventually(t, "it serves on port 443", func() bool {
		out, code := host.run("curl -sf http://127.0.0.1:443/healthcheck")
		return code == 0 && out == "OK"
	})

	p.end()
}
