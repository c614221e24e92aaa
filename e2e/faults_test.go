//go:build e2e

package e2e_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// metric is the value of one of the proxy's metrics, labels included in its
// name.
func (p *proxy) metric(t *testing.T, name string) float64 {
	t.Helper()
	response, err := http.Get(p.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		if text, found := strings.CutPrefix(lines.Text(), name+" "); found {
			value, err := strconv.ParseFloat(text, 64)
			if err != nil {
				t.Fatalf("metric %s: %v", name, err)
			}
			return value
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// TestClientsThatLeaveCostNothing: whatever clients do, the proxy holds
// afterwards the goroutines and files that it held before.
func TestClientsThatLeaveCostNothing(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "demo", p.url)
		straight := c.at(glance.url())
		data := pixels(t, size)
		s := newSigner(t, time.Hour)
		properties := s.properties(data, c.secret(s.certificate))
		if a := c.upload(c.create(properties).id(), data); a.status != http.StatusNoContent {
			t.Fatalf("a whole upload answered %v, want 204", a)
		}
		goroutines, files := p.metric(t, "go_goroutines"), p.connections(t)
		bad := bytes.Clone(data)
		bad[size-1] ^= 1

		for _, framing := range []struct {
			name   string
			length int
		}{{"by length", size}, {"chunked", -1}} {
			for _, way := range []struct {
				name string
				cut  func(*byHand)
			}{{"FIN", (*byHand).leave}, {"RST", (*byHand).reset}} {
				name := framing.name + ", " + way.name

				half := c.create(properties).id()
				up := c.begin(half, framing.length)
				up.send(data[:size/2])
				straight.reaches(half, "saving")
				way.cut(up)
				straight.reaches(half, "queued")

				// Everything is sent, and nobody waits for the answer.
				whole, wrong := c.create(properties).id(), c.create(properties).id()
				for id, sent := range map[string][]byte{whole: data, wrong: bad} {
					up := c.begin(id, framing.length)
					up.send(sent)
					up.end()
					if way.name == "RST" {
						up.outcome() // or the reset takes along what is on the way
					}
					way.cut(up)
				}
				straight.reaches(whole, "active")
				eventually(t, name+": the bad image is gone", func() bool { return !straight.exists(wrong) })
				if got := straight.download(whole).body; !bytes.Equal(got, data) {
					t.Errorf("%s: Glance has %d bytes, want the %d that were sent", name, len(got), len(data))
				}
			}
		}
		p.wantBack(t, goroutines, files)
	})
}

// wantBack waits until the proxy holds no more than it did. A few connections
// may be kept open for other requests, with two goroutines each.
func (p *proxy) wantBack(t *testing.T, goroutines float64, files int) {
	t.Helper()
	const kept = 4
	eventually(t, fmt.Sprintf("goroutines are %v and files %d again", goroutines, files), func() bool {
		return p.metric(t, "go_goroutines") <= goroutines+2*kept && p.connections(t) <= files+kept
	})
}

// TestAKilledProxyLeavesImagesQueued: the kernel closes what the dead process
// held, Glance puts the image back, and the next process takes the upload.
func TestAKilledProxyLeavesImagesQueued(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		for _, at := range []int{size / 2, size - 1} {
			p := startProxy(t, glance, policy)
			c := login(t, "demo", p.url)
			straight := c.at(glance.url())
			data := pixels(t, size)
			id := createSigned(c, data).id()
			up := c.begin(id, size)
			up.send(data[:at])
			straight.reaches(id, "saving")
			p.cmd.Process.Signal(syscall.SIGKILL)
			<-p.done
			if a, err := up.outcome(); err == nil {
				t.Errorf("killed after %d bytes: the upload answered %v, want no answer", at, a)
			}
			straight.reaches(id, "queued")
			next := startProxy(t, glance, policy)
			if a := c.at(next.url).upload(id, data); a.status != http.StatusNoContent {
				t.Errorf("killed after %d bytes: the upload through the next process answered %v, want 204", at, a)
			}
			wantStatus(t, straight, id, "active")
		}
	})
}

// TestGlanceIsKilledInMidUpload: the client hears it, and when Glance is back
// the proxy serves as before, with no restart. Nothing but what verified is
// ever active, though a killed Glance leaves its image saving.
func TestGlanceIsKilledInMidUpload(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy, "COUNTERSIGN_SETTLE_TIMEOUT=3s", "COUNTERSIGN_PROBE_INTERVAL=1s")
		c := login(t, "demo", p.url)
		data := pixels(t, size)
		id, next, idle := createSigned(c, data).id(), createSigned(c, data).id(), createSigned(c, data).id()
		up := c.begin(id, size)
		up.send(data[:size/2])
		c.at(glance.url()).reaches(id, "saving")
		goroutines, files := p.metric(t, "go_goroutines"), p.connections(t)

		killService(t, "glance-"+glance.name)
		t.Cleanup(func() { restoreStack(t) })
		if a := up.answer(); a.status != http.StatusBadGateway {
			t.Errorf("the upload answered %v, want 502", a)
		}
		if a := c.upload(idle, data); a.status != http.StatusBadGateway && a.status != http.StatusServiceUnavailable {
			t.Errorf("an upload while Glance is away answered %v, want 502 or 503", a)
		}
		restoreStack(t)

		eventually(t, "an upload is taken again", func() bool { return c.upload(next, data).status == http.StatusNoContent })
		straight := c.at(glance.url())
		wantStatus(t, straight, next, "active")
		wantStatus(t, straight, idle, "queued")
		if got := straight.show(id).status(); got != "saving" && got != "queued" {
			t.Errorf("the image whose upload was cut is %s, want saving or queued", got)
		}
		p.wantBack(t, goroutines, files)
	})
}

// killService kills every process of a service of the stack, with no chance to
// clean up.
func killService(t *testing.T, name string) {
	t.Helper()
	folder := stackFolder(t)
	text, err := os.ReadFile(filepath.Join(folder, "pid", name))
	if err != nil {
		t.Fatal(err)
	}
	leader, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	// The leader began a session, so that its group is the service.
	root, err := os.Readlink(fmt.Sprintf("/proc/%d/root", leader))
	if err != nil || !strings.HasPrefix(root, filepath.Dir(folder)) {
		t.Fatalf("process %d, which %s shall be, is in %q (%v)", leader, name, root, err)
	}
	if err := syscall.Kill(-leader, syscall.SIGKILL); err != nil {
		t.Fatalf("kill %s: %v", name, err)
	}
}

// stackFolder is where the stack keeps its state.
func stackFolder(t *testing.T) string {
	t.Helper()
	folder := os.Getenv("E2E_CACHE")
	if folder == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			t.Fatal(err)
		}
		folder = filepath.Join(cache, "countersign")
	}
	return filepath.Join(folder, "e2e", "run-"+openstack.Suite)
}

// restoreStack starts what does not run. It tells the script what the stack
// that runs was told, or the script would make another of it.
func restoreStack(t *testing.T) {
	t.Helper()
	keystone, err := url.Parse(openstack.Keystone)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("stack/stack", "up")
	cmd.Env = append(os.Environ(), "SUITE="+openstack.Suite, "DATABASE="+openstack.Database, "PORT_BASE="+keystone.Port())
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("stack up: %v\n%s", err, text)
	}
}
