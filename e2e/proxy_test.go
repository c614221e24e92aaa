//go:build e2e

package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// proxy is a countersign that runs, on a port of its own.
type proxy struct {
	url   string
	admin string // where /readyz and /metrics are
	log   journal
	cmd   *exec.Cmd
	done  chan struct{} // closed when the process has ended
}

// startProxy runs `countersign serve` in front of a Glance until the test
// ends, with a policy in YAML and further variables NAME=value. A panic or a
// data race in its log fails the test, and so does not ending on SIGTERM.
func startProxy(t *testing.T, glance server, policy string, environment ...string) *proxy {
	t.Helper()
	p := launchProxy(t, glance, policy, environment...)
	p.awaitServing(t)
	return p
}

// awaitServing waits until the proxy answers.
func (p *proxy) awaitServing(t *testing.T) {
	t.Helper()
	eventually(t, "countersign answers", func() bool {
		select {
		case <-p.done:
			t.Fatalf("countersign ended while starting: %v\n%s", p.cmd.ProcessState, &p.log)
		default:
		}
		response, err := http.Get(p.admin + "/livez")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode < 500
	})
}

// launchProxy is startProxy that does not wait until the proxy serves, which
// it may be meant not to.
func launchProxy(t *testing.T, glance server, policy string, environment ...string) *proxy {
	t.Helper()
	file := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte(policy), 0o600); err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	service := openstack.Users["countersign"]
	admin := freeAddress(t)
	p := &proxy{url: "http://" + address, admin: "http://" + admin, done: make(chan struct{})}
	p.cmd = exec.Command(binary, "serve")
	p.cmd.Env = append([]string{
		"COUNTERSIGN_LISTEN=" + address,
		"COUNTERSIGN_ADMIN_LISTEN=" + admin,
		"COUNTERSIGN_GLANCE_URL=" + glance.url(),
		"COUNTERSIGN_POLICY_FILE=" + file,
		"COUNTERSIGN_RECEIPT_KEY_FILES=" + receiptKey,
		"OS_AUTH_URL=" + openstack.Keystone,
		"OS_USERNAME=" + service.Name,
		"OS_PASSWORD=" + service.Password,
		"OS_PROJECT_NAME=" + service.Project,
		"OS_USER_DOMAIN_NAME=" + service.Domain,
		"OS_PROJECT_DOMAIN_NAME=" + service.Domain,
		"OS_REGION_NAME=" + glance.region,
	}, environment...)
	p.cmd.Stderr = &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { // ends with the process; stop waits for it
		p.cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() { p.stop(t) })
	return p
}

// exitCode waits until the process has ended.
func (p *proxy) exitCode(t *testing.T) int {
	t.Helper()
	select {
	case <-p.done:
	case <-time.After(patience):
		t.Fatalf("countersign has not ended after %v", patience)
	}
	return p.cmd.ProcessState.ExitCode()
}

// stop ends the process as an init system would, and reads its log.
func (p *proxy) stop(t *testing.T) {
	p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(30 * time.Second):
		p.cmd.Process.Kill()
		<-p.done
		t.Error("countersign did not end within 30 s of SIGTERM")
	}
	log := p.log.String()
	for _, bad := range []string{"DATA RACE", "panic:", "panic serving", "fatal error:"} {
		if strings.Contains(log, bad) {
			t.Errorf("countersign's log has %q", bad)
		}
	}
	if t.Failed() {
		t.Logf("countersign's log:\n%s", log)
	}
}

// awaitEvent returns the first event in the log whose fields have all the
// given values.
func (p *proxy) awaitEvent(t *testing.T, fields map[string]string) map[string]any {
	t.Helper()
	var found map[string]any
	eventually(t, fmt.Sprintf("an event %v in the log", fields), func() bool {
		for _, event := range p.log.events() {
			if has(event, fields) {
				found = event
				return true
			}
		}
		return false
	})
	return found
}

func has(event map[string]any, fields map[string]string) bool {
	for name, value := range fields {
		if fmt.Sprint(event[name]) != value {
			return false
		}
	}
	return true
}

// journal collects what a process writes.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// events are the whole lines that are JSON objects.
func (j *journal) events() []map[string]any {
	var list []map[string]any
	for line := range strings.Lines(j.String()) {
		var event map[string]any
		if json.Unmarshal([]byte(line), &event) == nil {
			list = append(list, event)
		}
	}
	return list
}

// eventually fails the test if a condition does not come true.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %v in vain until %s", patience, what)
		}
	}
}

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}
