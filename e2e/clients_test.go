//go:build e2e

package e2e_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/image/v2/imagedata"
)

// TestClientsAreToldWhyTheyAreRefused: whatever command a user types, the
// reason is on her screen, whether we answer before the data (64 MiB of which
// are then on their way; 1 GiB with E2E_LOAD=full) or behind it.
func TestClientsAreToldWhyTheyAreRefused(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "demo", p.url)
		folder := t.TempDir()
		unsigned, tampered := filepath.Join(folder, "unsigned"), filepath.Join(folder, "tampered")
		before, behind := int64(64<<20), int64(size+1)
		if os.Getenv("E2E_LOAD") == "full" {
			before, behind = 1<<30, 1<<30
		}
		data := pixels(t, size)
		for file, length := range map[string]int64{unsigned: before, tampered: behind} {
			if err := os.WriteFile(file, []byte{'x'}, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(file, length); err != nil {
				t.Fatal(err)
			}
		}
		s := newSigner(t, time.Hour)
		signed := s.properties(data, c.secret(s.certificate))
		var properties []string
		for name, value := range signed {
			properties = append(properties, "--property", name+"="+value)
		}

		cases := []struct {
			name, file, code, sentence string
			properties                 []string
			set                        map[string]string
		}{
			{"before the data", unsigned, "signature_required", `img_signature is not set, and rule "guarded" demands a signed image`, nil, nil},
			{"after the data", tampered, "signature_mismatch", fmt.Sprintf("img_signature does not match the %d bytes of image data", behind), properties, signed},
		}
		for _, refused := range cases {
			t.Run("gophercloud "+refused.name, func(t *testing.T) {
				c := c.in(t)
				file, err := os.Open(refused.file)
				if err != nil {
					t.Fatal(err)
				}
				defer file.Close()
				provider := &gophercloud.ProviderClient{TokenID: c.token}
				service := &gophercloud.ServiceClient{ProviderClient: provider, Endpoint: p.url + "/v2/", Type: "image"}
				err = imagedata.Upload(t.Context(), service, c.create(refused.set).id(), file).ExtractErr()
				if err == nil {
					t.Fatal("no error")
				}
				said := strings.ReplaceAll(err.Error(), `\"`, `"`) // it shows the JSON as it is
				wantSentence(t, said, refused.sentence, refused.code)
			})
			for _, command := range [][]string{{"openstack", "image", "create"}, {"glance", "image-create"}} {
				t.Run(command[0]+" "+refused.name, func(t *testing.T) {
					name := t.Name()
					t.Cleanup(func() { forget(t, c.at(glance.url()), name) }) // the glance command leaves it
					arguments := append(command[:len(command):len(command)], "--container-format", "bare", "--disk-format", "raw", "--file", refused.file)
					arguments = append(arguments, refused.properties...)
					if command[0] == "openstack" {
						arguments = append(arguments, name)
					} else {
						arguments = append(arguments, "--name", name)
					}
					output, code := run(c.in(t), arguments...)
					if code == 0 {
						t.Errorf("exit code 0, want another")
					}
					wantSentence(t, output, refused.sentence, refused.code)
				})
			}
			for _, way := range []struct {
				name    string
				options []string
			}{
				{"with its length", []string{"-H", "Expect:"}},
				{"with its length, asking first", []string{"-H", "Expect: 100-continue"}},
				{"chunked", []string{"-H", "Expect:", "-H", "Transfer-Encoding: chunked"}},
				{"chunked, asking first", []string{"-H", "Expect: 100-continue", "-H", "Transfer-Encoding: chunked"}},
			} {
				t.Run("curl "+refused.name+" "+way.name, func(t *testing.T) {
					c := c.in(t)
					id := c.create(refused.set).id()
					command := append([]string{"curl", "-sS", "-T", refused.file, "-H", "X-Auth-Token: " + c.token,
						"-H", "Content-Type: application/octet-stream", c.image(id, "file")}, way.options...)
					output, code := run(c, command...)
					if code != 0 {
						t.Errorf("curl's exit code is %d, want 0", code)
					}
					wantSentence(t, output, refused.sentence, refused.code)
				})
			}
		}
	})
}

// wantSentence wants what we say, however a client breaks the lines.
func wantSentence(t *testing.T, output string, parts ...string) {
	t.Helper()
	flat := strings.Join(strings.Fields(output), " ")
	for _, part := range parts {
		if !strings.Contains(flat, part) {
			t.Errorf("the user sees\n%s\nwant %q in it", output, part)
		}
	}
}

// forget removes the images of a name.
func forget(t *testing.T, c *client, name string) {
	for _, found := range named(t, c, name) {
		c.remove(found.id())
	}
}

// TestClientsAreLedThroughTheProxy: each way to point a client at an image
// endpoint, of those that are documented, leads to the proxy.
func TestClientsAreLedThroughTheProxy(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		region := map[string]string{"RegionOne": "RegionProxy", "RegionUwsgi": "RegionProxyUwsgi"}[glance.region]
		address := strings.TrimPrefix(openstack.Regions[region], "http://")
		if listener, err := net.Listen("tcp", address); err != nil {
			t.Fatalf("the catalog has a proxy at %s, where something else is: %v", address, err)
		} else {
			listener.Close()
		}
		p := launchProxy(t, glance, policy, "COUNTERSIGN_LISTEN="+address)
		p.url = openstack.Regions[region]
		p.awaitServing(t)
		c := login(t, "demo", p.url)
		credential := []string{
			"OS_AUTH_URL=" + openstack.Keystone, "OS_IDENTITY_API_VERSION=3",
			"OS_USERNAME=" + c.user.Name, "OS_PASSWORD=" + c.user.Password, "OS_USER_DOMAIN_NAME=" + c.user.Domain,
			"OS_PROJECT_NAME=" + c.user.Project, "OS_PROJECT_DOMAIN_NAME=" + c.user.Domain,
		}
		clouds := filepath.Join(t.TempDir(), "clouds.yaml")
		text := "clouds:\n  proxied:\n    region_name: RegionOne\n    image_endpoint_override: " + p.url + "\n"
		if err := os.WriteFile(clouds, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, way := range []struct {
			name        string
			command     []string
			environment []string
		}{
			{"openstack by the catalog's region", []string{"openstack", "image", "list", "--limit", "1"}, []string{"OS_REGION_NAME=" + region}},
			{"glance by the catalog's region", []string{"glance", "image-list", "--limit", "1"}, []string{"OS_REGION_NAME=" + region}},
			{"openstack by clouds.yaml", []string{"openstack", "image", "list", "--limit", "1"}, []string{"OS_CLIENT_CONFIG_FILE=" + clouds, "OS_CLOUD=proxied"}},
			{"glance by OS_IMAGE_URL", []string{"glance", "image-list", "--limit", "1"}, []string{"OS_IMAGE_URL=" + p.url, "OS_REGION_NAME=RegionOne"}},
		} {
			t.Run(way.name, func(t *testing.T) {
				before := len(p.log.events())
				cmd := exec.Command("stack/stack", append([]string{"exec"}, way.command...)...)
				cmd.Env = append(append(os.Environ(), credential...), way.environment...)
				output, err := cmd.CombinedOutput()
				var exit *exec.ExitError
				if err != nil && !errors.As(err, &exit) {
					t.Fatal(err)
				}
				if err != nil {
					t.Errorf("%v: %v\n%s", way.command, err, output)
				}
				if !listed(p.log.events()[before:]) {
					t.Errorf("%v did not pass the proxy", way.command)
				}
			})
		}
	})
}

// listed says whether a list of images was among the requests.
func listed(events []map[string]any) bool {
	for _, event := range events {
		if has(event, map[string]string{"method": "GET", "route": "/v2/images", "status": "200"}) {
			return true
		}
	}
	return false
}
