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
	"strings"
	"testing"
)

// written are the blocks of docs/hosts.md in a language.
func written(t *testing.T, language string) string {
	t.Helper()
	text, err := os.ReadFile("../docs/hosts.md")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("(?sm)^```" + language + "\n(.*?)^```$").FindSubmatch(text)
	if found == nil {
		t.Fatalf("docs/hosts.md has no block of %s", language)
	}
	return string(found[1])
}

// change replaces what stands in a text, which it has to.
func change(t *testing.T, text string, edits ...edit) string {
	t.Helper()
	for _, e := range edits {
		if !strings.Contains(text, e.before) {
			t.Fatalf("docs/hosts.md has no %q to replace", e.before)
		}
		text = strings.ReplaceAll(text, e.before, e.after)
	}
	return text
}

// peers are the balancers' binaries, unpacked from Debian where they are not
// installed, and where their libraries are.
func peers(t *testing.T) map[string]string {
	t.Helper()
	out, err := exec.Command("bench/peers").Output()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for line := range strings.Lines(string(out)) {
		name, path, _ := strings.Cut(strings.TrimSpace(line), "=")
		found[name] = path
	}
	return found
}

// TestUploadsThroughALoadBalancer: the files of docs/hosts.md are taken by
// HAProxy and nginx as they stand, and what they balance is streamed, refused
// with its reason before the data and behind it, and drained.
func TestUploadsThroughALoadBalancer(t *testing.T) {
	found := peers(t)
	// What cannot be here: addresses, port 443, and a certificate of one's own.
	const why = "the documents' addresses are nobody's"
	for _, balancer := range []struct {
		name, language string
		literal        func(t *testing.T, folder, text string) []string // checks the file as it is written
		run            func(t *testing.T, folder, text, address string, servers [2]string) []string
		drains         bool
	}{
		{"haproxy", "haproxy", func(t *testing.T, folder, text string) []string {
			text = change(t, text, edit{"/etc/haproxy/images.example.pem", folder + "/both.pem", why})
			return []string{"-c", "-f", place(t, folder, "literal.cfg", text)}
		}, func(t *testing.T, folder, text, address string, servers [2]string) []string {
			text = change(t, text, edit{"bind :443 ssl crt /etc/haproxy/images.example.pem", "bind " + address, why},
				edit{"192.0.2.11:9292", servers[0], why}, edit{"192.0.2.12:9292", servers[1], why},
				edit{"set-header X-Forwarded-Proto https", "set-header X-Forwarded-Proto http", "there is no TLS here"})
			return []string{"-db", "-f", place(t, folder, "haproxy.cfg", text)}
		}, true},
		{"nginx", "nginx", func(t *testing.T, folder, text string) []string {
			text = change(t, text, edit{"/etc/nginx/images.example.pem", folder + "/tls.crt", why}, edit{"/etc/nginx/images.example.key", folder + "/tls.key", why},
				edit{"listen 443 ssl", "listen " + freeAddress(t) + " ssl", why})
			return []string{"-t", "-p", folder, "-e", "stderr", "-c", place(t, folder, "literal.conf", surrounded(folder, text))}
		}, func(t *testing.T, folder, text, address string, servers [2]string) []string {
			text = change(t, text, edit{"listen 443 ssl", "listen " + address, why}, edit{"    ssl_certificate /etc/nginx/images.example.pem;\n", "", why},
				edit{"    ssl_certificate_key /etc/nginx/images.example.key;\n", "", why},
				edit{"192.0.2.11:9292", servers[0], why}, edit{"192.0.2.12:9292", servers[1], why})
			return []string{"-p", folder, "-e", "stderr", "-c", place(t, folder, "nginx.conf", surrounded(folder, text))}
		}, false},
	} {
		t.Run(balancer.name, func(t *testing.T) {
			binary := found[balancer.name]
			if binary == "" {
				t.Fatalf("there is no %s, and Debian's could not be unpacked", balancer.name)
			}
			command := func(arguments []string) *exec.Cmd {
				cmd := exec.Command(binary, arguments...)
				cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+found["LIBRARIES"])
				return cmd
			}
			folder, text := t.TempDir(), written(t, balancer.language)
			certificate := newServerCertificate(t)
			certificate.write(t, folder)
			both, err := os.ReadFile(filepath.Join(folder, "tls.crt"))
			if err != nil {
				t.Fatal(err)
			}
			key, err := os.ReadFile(filepath.Join(folder, "tls.key"))
			if err != nil {
				t.Fatal(err)
			}
			place(t, folder, "both.pem", string(both)+string(key))
			if out, err := command(balancer.literal(t, folder, text)).CombinedOutput(); err != nil {
				t.Fatalf("%s does not take the file of docs/hosts.md: %v\n%s", balancer.name, err, out)
			}

			drain := filepath.Join(folder, "drain")
			first := startProxy(t, servers[0], policy, "COUNTERSIGN_HEALTHCHECK_DISABLE_FILE="+drain)
			second := startProxy(t, servers[1], policy)
			address := freeAddress(t)
			var log journal
			running := command(balancer.run(t, folder, text, address,
				[2]string{strings.TrimPrefix(first.url, "http://"), strings.TrimPrefix(second.url, "http://")}))
			running.Stdout, running.Stderr = &log, &log
			if err := running.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				running.Process.Kill()
				running.Wait()
				if t.Failed() {
					t.Logf("%s said:\n%s", balancer.name, &log)
				}
			})
			eventually(t, balancer.name+" answers", func() bool {
				response, err := http.Get("http://" + address + "/healthcheck")
				if err != nil {
					return false
				}
				response.Body.Close()
				return response.StatusCode == http.StatusOK
			})

			c := login(t, "demo", "http://"+address)
			data := pixels(t, size)
			for _, way := range []struct {
				name   string
				upload func(string, []byte) answer
			}{{"with its length", c.upload}, {"chunked", c.uploadChunked}} {
				id := createSigned(c, data).id()
				if a := way.upload(id, data); a.status != http.StatusNoContent {
					t.Errorf("a signed upload %s answered %v, want 204", way.name, a)
				}
				wantStatus(t, c.at(servers[0].url()), id, "active")
				changed := bytes.Clone(data)
				changed[size/2] ^= 1
				wantRefusal(t, way.upload(createSigned(c, data).id(), changed), http.StatusBadRequest, "signature_mismatch")
			}
			// Refused before 64 MiB of data have been read: the client sees why.
			file := filepath.Join(folder, "large")
			if err := os.WriteFile(file, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(file, 64<<20); err != nil {
				t.Fatal(err)
			}
			output, code := run(c, "curl", "-sS", "-T", file, "-H", "X-Auth-Token: "+c.token, "-H", "Content-Type: application/octet-stream",
				"-H", "Expect:", c.image(c.create(nil).id(), "file"))
			if code != 0 {
				t.Errorf("curl's exit code is %d, want 0", code)
			}
			wantSentence(t, output, "img_signature is not set", "signature_required")

			// It streams: what the client has sent so far is at Glance while the rest is not sent.
			id := createSigned(c, data).id()
			up := c.begin(id, len(data))
			up.send(data[:size/2])
			c.at(servers[0].url()).reaches(id, "saving")
			up.send(data[size/2:])
			if a, err := up.outcome(); err != nil || a.status != http.StatusNoContent {
				t.Errorf("the upload that paused answered %v, %v, want 204", a, err)
			}

			if balancer.drains {
				place(t, folder, "drain", "")
				eventually(t, "nobody is sent to the replica that is drained", func() bool {
					for range 4 {
						id := c.send("GET", c.images+"/v2/images?limit=1", "", nil).header.Get("X-Openstack-Request-Id")
						if !strings.Contains(second.log.String(), id) {
							return false
						}
					}
					return true
				})
			}
		})
	}
}

func place(t *testing.T, folder, name, text string) string {
	t.Helper()
	path := filepath.Join(folder, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// surrounded is what a distribution's nginx.conf puts around a server.
func surrounded(folder, text string) string {
	paths := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		paths += fmt.Sprintf("%s_temp_path %s/%s;\n", kind, folder, kind)
	}
	return "daemon off;\nmaster_process off;\npid " + folder + "/pid;\nevents {}\nhttp {\naccess_log off;\n" + paths + text + "}\n"
}

// TestTheUnitIsHardened: systemd takes the unit of docs/hosts.md, and finds
// little to say against it.
func TestTheUnitIsHardened(t *testing.T) {
	folder := t.TempDir()
	text := change(t, written(t, "ini"), edit{"/usr/local/bin/countersign", binary, "it is not installed here"})
	unit := place(t, folder, "countersign.service", text)
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
	// 0 is no exposure at all, 10 all there is; what is left is the network.
	if out, err := exec.Command("systemd-analyze", "security", "--offline=yes", "--threshold=15", unit).CombinedOutput(); err != nil {
		t.Errorf("systemd-analyze security finds an exposure above 1.5: %v\n%s", err, out)
	}
}
