//go:build e2e

package e2e_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestLoadBalancersAreToldWhomToSendHere: /healthcheck is Glance's own while
// nothing speaks against it, as oslo.middleware has it while the file is there
// that disables it, and 503 from SIGTERM on; requests are served all the same.
func TestLoadBalancersAreToldWhomToSendHere(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		file := filepath.Join(t.TempDir(), "drain")
		p := startProxy(t, glance, policy, "COUNTERSIGN_HEALTHCHECK_DISABLE_FILE="+file, "COUNTERSIGN_SHUTDOWN_DELAY=20s")
		want := func(method, accept string, status int, body string) {
			t.Helper()
			request, err := http.NewRequestWithContext(t.Context(), method, p.url+"/healthcheck", nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("Accept", accept)
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			got, err := io.ReadAll(response.Body)
			if err != nil || response.StatusCode != status || string(got) != body {
				t.Errorf("%s /healthcheck = %d %q, %v, want %d %q", method, response.StatusCode, got, err, status, body)
			}
		}
		want("GET", "", 200, "OK")
		want("GET", "application/json", 200, "{\n    \"detailed\": false,\n    \"reasons\": [\n        \"OK\"\n    ]\n}")
		want("HEAD", "", 204, "")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		want("GET", "", 503, "DISABLED BY FILE")
		want("HEAD", "", 503, "")
		c := login(t, "demo", p.url)
		if a := c.send("GET", c.images+"/v2/images?limit=1", "", nil); a.status != 200 {
			t.Errorf("a list while it is drained = %v, want 200", a)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		want("GET", "", 200, "OK")
		p.cmd.Process.Signal(syscall.SIGTERM)
		eventually(t, "/healthcheck says that it is ending", func() bool {
			return c.send("GET", p.url+"/healthcheck", "", nil).status == 503
		})
		want("GET", "", 503, "SHUTTING DOWN")
		if a := c.send("GET", c.images+"/v2/images?limit=1", "", nil); a.status != 200 {
			t.Errorf("a list while it is ending = %v, want 200", a)
		}
	})
}
