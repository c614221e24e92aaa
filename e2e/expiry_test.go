//go:build e2e

package e2e_test

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

// tokenLife is how long the tokens live that an upload is to outlive. Admission
// has to come before.
const tokenLife = 20 * time.Second

// startShortKeystone runs a second Keystone over the stack's database and keys
// until the test ends, and returns its address. What it issues every service
// of the stack takes, and no longer than tokenLife. Application credentials
// would give such tokens too, but those Keystone does not let Glance use to
// fetch a certificate.
func startShortKeystone(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(stackFolder(t), "etc", "keystone.conf"))
	if err != nil {
		t.Fatal(err)
	}
	short := regexp.MustCompile(`(?m)^expiration = .*$`).ReplaceAll(text, fmt.Appendf(nil, "expiration = %d", int(tokenLife.Seconds())))
	if bytes.Equal(short, text) {
		t.Fatal("the stack's keystone.conf does not say how long tokens live")
	}
	folder, err := os.MkdirTemp("", "keystone") // seen inside the stack under the same name
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	file := filepath.Join(folder, "keystone.conf")
	if err := os.WriteFile(file, short, 0o600); err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	cmd := exec.Command("stack/stack", "exec", "uwsgi_python3", "--plugins", "python3", "--http-socket", address, "--wsgi-file", "/usr/bin/keystone-wsgi-public",
		"--lazy-apps", "--buffer-size", "65535", "--rem-header", "Content-Length", "--add-header", "Connection: close", "--die-on-term")
	cmd.Env = append(os.Environ(), "OS_KEYSTONE_CONFIG_FILES="+file)
	var log journal
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Logf("the log of the Keystone with short tokens:\n%s", &log)
		}
	})
	eventually(t, "a Keystone with short tokens answers", func() bool {
		response, err := http.Get("http://" + address + "/v3")
		if err != nil {
			return false
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	})
	return "http://" + address + "/v3"
}

// shortLived is the same user with a token that lives only so long.
func (c *client) shortLived(keystone string) *client {
	c.t.Helper()
	domain := map[string]string{"name": c.user.Domain}
	asked := time.Now()
	a := c.send("POST", keystone+"/auth/tokens", "application/json", encode(c.t, map[string]any{"auth": map[string]any{
		"identity": map[string]any{"methods": []string{"password"}, "password": map[string]any{
			"user": map[string]any{"name": c.user.Name, "domain": domain, "password": c.user.Password}}},
		"scope": map[string]any{"project": map[string]any{"name": c.user.Project, "domain": domain}},
	}}))
	if a.status != http.StatusCreated {
		c.t.Fatalf("login: %v", a)
	}
	token, _ := c.decode(a)["token"].(map[string]any)
	until, err := time.Parse(time.RFC3339, image(token).text("expires_at"))
	if err != nil || until.Sub(asked) > tokenLife+5*time.Second {
		c.t.Fatalf("the token lives until %v (%v), want %v from now", until, err, tokenLife)
	}
	other := *c
	other.token = a.header.Get("X-Subject-Token")
	return &other
}

// TestAnUploadOutlivesItsToken: when the data ends, Glance refuses the token
// with which it began. What is then done with the image rests on our service
// token beside it.
func TestAnUploadOutlivesItsToken(t *testing.T) {
	keystone := startShortKeystone(t)
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "demo", p.url)
		straight := c.at(glance.url())
		data := pixels(t, size)
		bad := bytes.Clone(data)
		bad[0] ^= 1
		s := newSigner(t, time.Hour)
		properties := s.properties(data, c.secret(s.certificate))
		short := c.shortLived(keystone)

		uploads := []struct {
			name   string
			data   []byte
			length int
			id     string
			up     *byHand
		}{
			// No more: each holds a worker of Glance's, and there are only a few.
			{name: "good", data: data, length: size},
			{name: "bad", data: bad, length: -1},
		}
		const slice = 40_000
		for i := range uploads {
			u := &uploads[i]
			u.id = c.create(properties).id()
			u.up = short.begin(u.id, u.length)
			u.up.send(u.data[:slice])
			straight.reaches(u.id, "saving")
		}
		// Slowly, but Glance under uWSGI gives up after 10 s of silence.
		sent := slice
		refused := func() bool {
			return short.at(glance.url()).send("GET", c.at(glance.url()).image(uploads[0].id), "", nil).status == http.StatusUnauthorized
		}
		tick := time.NewTicker(2 * time.Second)
		defer tick.Stop()
		for !refused() {
			if sent+slice > size-slice {
				t.Fatal("Glance takes the token for longer than the data lasts")
			}
			<-tick.C
			for _, u := range uploads {
				u.up.send(u.data[sent : sent+slice])
			}
			sent += slice
		}
		for _, u := range uploads {
			u.up.send(u.data[sent:])
			u.up.end()
			a := u.up.answer()
			if &u.data[0] == &data[0] {
				if a.status != http.StatusNoContent {
					t.Errorf("%s: answered %v, want 204", u.name, a)
				}
				wantStatus(t, straight, u.id, "active")
				continue
			}
			wantRefusal(t, a, http.StatusBadRequest, "signature_mismatch")
			if straight.exists(u.id) {
				t.Errorf("%s: the image is still there: %v", u.name, straight.show(u.id))
			}
		}
		if !refused() {
			t.Error("Glance takes the token again: nothing was shown")
		}
	})
}
