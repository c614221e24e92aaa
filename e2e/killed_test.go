//go:build e2e

package e2e_test

import (
	"bytes"
	"math/rand/v2"
	"sync"
	"syscall"
	"testing"
	"time"
)

// scanning is the policy under which what the killed proxies left is put right.
const scanning = `
rules:
  - name: guarded
    projects: [{name: demo, domain: Default}]
    mode: enforce
    signers: any
    on_failure: keep
    unverified: deactivate
  - projects: all
    unowned: true
    mode: "off"
`

// TestKilledAgainAndAgain kills the proxy at moments that chance picks, with
// three uploads under way: a right one, a wrong one, and one into an image that
// is not signed. Then a scan puts right what was left. Nothing that did not verify
// is active, nothing that is right is gone, and what is active has its receipt.
func TestKilledAgainAndAgain(t *testing.T) {
	times := 8
	if full() {
		times = 100 // under each server
	}
	underBothServers(t, func(t *testing.T, glance server) {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		chance := rand.New(rand.NewPCG(seed, 0))
		c := login(t, "demo", glance.url())
		data := pixels(t, size)
		wrong := bytes.Clone(data)
		wrong[size/3] ^= 1
		s := newSigner(t, 24*time.Hour)
		certificate := c.secret(s.certificate)
		c.letRead(certificate, "countersign") // so that the scan can, too

		var good, bad []string
		for range times {
			p := startProxy(t, glance, scanning)
			through := c.at(p.url)
			ids := []string{
				c.create(s.properties(data, certificate)).id(),
				c.create(s.properties(data, certificate)).id(),
				c.create(nil).id(),
			}
			good, bad = append(good, ids[0]), append(bad, ids[1:]...)
			var uploads sync.WaitGroup
			for i, body := range [][]byte{data, wrong, data} {
				up := through.begin(ids[i], size)
				uploads.Go(func() {
					up.conn.Write(body) // as far as it gets
					up.outcome()
				})
			}
			time.Sleep(time.Duration(chance.Int64N(int64(1500 * time.Millisecond))))
			p.cmd.Process.Signal(syscall.SIGKILL)
			<-p.done
			uploads.Wait()
		}
		for _, id := range append(good, bad...) {
			eventually(t, "Glance has let go of image "+id, func() bool { return c.show(id).status() != "saving" })
		}

		scan(t, glance, scanning, 10*time.Second, images(append(good, bad...)...)...)
		active := 0
		for _, id := range good {
			record := c.show(id) // fails the test where it is gone
			if record.status() != "active" {
				continue
			}
			active++
			if err := openReceipt(t, record).Describes(record.subject()); err != nil {
				t.Errorf("image %s is active, and its receipt: %v", id, err)
			}
			if a := c.download(id); !bytes.Equal(a.body, data) {
				t.Errorf("image %s is active with %d bytes that were not signed", id, len(a.body))
			}
		}
		for _, id := range bad {
			if status := c.show(id).status(); status == "active" {
				t.Errorf("image %s, which does not verify, is active", id)
			}
		}
		t.Logf("%d of %d right uploads were done before the proxy was killed", active, len(good))
	})
}

// letRead lets another user read a secret, whatever his project.
func (c *client) letRead(secret, user string) {
	c.t.Helper()
	a := c.send("PUT", openstack.Barbican+"/v1/secrets/"+secret+"/acl", "application/json",
		encode(c.t, map[string]any{"read": map[string]any{"users": []string{openstack.Users[user].ID}, "project-access": true}}))
	if a.status != 200 {
		c.t.Fatalf("letting %s read a secret: %v", user, a)
	}
}
