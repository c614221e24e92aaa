//go:build e2e

package e2e_test

import (
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
)

func TestAnUploadThatRunsAtShutdownFinishes(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "demo", p.url)
		data := pixels(t, size)
		id := createSigned(c, data).id()
		up := c.begin(id, len(data))
		up.send(data[:size/2])
		c.at(glance.url()).reaches(id, "saving")
		p.cmd.Process.Signal(syscall.SIGTERM)
		p.refusesConnections(t)
		up.send(data[size/2:])
		if a := up.answer(); a.status != http.StatusNoContent {
			t.Errorf("the upload answered %v, want 204", a)
		}
		if code := p.exitCode(t); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
		wantStatus(t, c.at(glance.url()), id, "active")
	})
}

func TestAnUploadThatOutlastsTheShutdownIsCut(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy, "COUNTERSIGN_SHUTDOWN_TIMEOUT=500ms")
		c := login(t, "demo", p.url)
		data := pixels(t, size)
		id := createSigned(c, data).id()
		up := c.begin(id, len(data))
		up.send(data[:size/2])
		c.at(glance.url()).reaches(id, "saving")
		p.cmd.Process.Signal(syscall.SIGTERM)
		p.refusesConnections(t)
		if a, err := up.outcome(); err == nil && a.status/100 == 2 {
			t.Errorf("the cut upload answered %v", a)
		}
		if code := p.exitCode(t); code != 0 {
			t.Errorf("exit code %d, want 0", code)
		}
		c.at(glance.url()).reaches(id, "queued")
		if log := p.log.String(); !strings.Contains(log, "uploads are still running: they are cut") {
			t.Errorf("the log does not say that an upload was cut:\n%s", log)
		}
	})
}

// refusesConnections waits until nobody new gets in.
func (p *proxy) refusesConnections(t *testing.T) {
	t.Helper()
	eventually(t, "new connections are refused", func() bool {
		conn, err := net.Dial("tcp", strings.TrimPrefix(p.url, "http://"))
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
}
