//go:build e2e

package kubernetes_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const (
	namespace  = "openstack"
	release    = "countersign"
	keystone   = "http://10.99.0.1:25000/v3"
	barbican   = "http://10.99.0.1:25311"
	glance     = "http://10.99.0.1:25292"
	address    = "http://10.99.0.1:30092" // the Service's
	chart      = "../../charts/countersign"
	binaryPath = "../../bin/countersign"
)

// values are what an operator would write; the policy comes beside it.
const values = `
image: {repository: localhost/countersign}
glance: {url: "` + glance + `"}
openstack: {secret: countersign-keystone-user}
settings:
  COUNTERSIGN_BARBICAN_URL: ` + barbican + `
service: {type: NodePort, nodePort: 30092}
endpoint:
  enabled: true
  catalogManagedBy: nobody
  url: ` + address + `
  interfaces: [public, internal, admin]
resources:
  requests: {cpu: 500m, memory: 128Mi}
  limits: {memory: 128Mi}
`

// The project demo has to sign; whether alt has to is what changes.
const policy = `rules:
  - name: production
    projects:
      - name: demo
        domain: Default
    mode: enforce
    signers: any
  - name: alt
    projects:
      - name: alt
        domain: Default
    mode: %s
    signers: any
  - name: everybody else
    projects: all
    unowned: true
    mode: audit
`

// command runs a command and returns what it wrote, both ways.
func command(name string, args ...string) (string, error) {
	var output bytes.Buffer
	c := exec.Command(name, args...)
	c.Stdout, c.Stderr = &output, &output
	err := c.Run()
	return output.String(), err
}

// must runs a command that has to succeed.
func must(t *testing.T, name string, args ...string) string {
	t.Helper()
	output, err := command(name, args...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, output)
	}
	return output
}

func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return must(t, "kubectl", append([]string{"--namespace", namespace}, args...)...)
}

// helm runs helm on the release.
func helm(args ...string) (string, error) {
	return command("helm", append([]string{"--namespace", namespace}, args...)...)
}

// upgrade installs or upgrades to an image and a policy.
func upgrade(t *testing.T, tag, text string, more ...string) (string, error) {
	t.Helper()
	folder := t.TempDir()
	write(t, filepath.Join(folder, "values.yaml"), values)
	write(t, filepath.Join(folder, "policy.yaml"), text)
	return helm(append([]string{"upgrade", "--install", release, chart, "--wait", "--timeout", "5m",
		"--values", filepath.Join(folder, "values.yaml"), "--set", "image.tag=" + tag,
		"--set-file", "policy.text=" + filepath.Join(folder, "policy.yaml")}, more...)...)
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// pods are the names of those that serve, and since when each container runs.
func pods(t *testing.T) string {
	t.Helper()
	return kubectl(t, "get", "pods", "--selector=app.kubernetes.io/component=proxy", "--output",
		"jsonpath={range .items[*]}{.metadata.name} {.status.containerStatuses[0].state.running.startedAt}{'\\n'}{end}")
}

// eventually waits until something holds.
func eventually(t *testing.T, what string, patience time.Duration, holds func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !holds() {
		if time.Since(begin) > patience {
			t.Fatalf("not in %v: %s", patience, what)
		}
		time.Sleep(500 * time.Millisecond)
	}
	return time.Since(begin)
}

// user has a token, and speaks to the Service, unless images is another URL.
type user struct {
	t                   *testing.T
	name, token, images string
}

func login(t *testing.T, name string) user {
	t.Helper()
	body := fmt.Sprintf(`{"auth": {
		"identity": {"methods": ["password"], "password": {"user": {"name": %q, "domain": {"name": "Default"}, "password": "stack"}}},
		"scope": {"project": {"name": %q, "domain": {"name": "Default"}}}}}`, name, name)
	response, err := http.Post(keystone+"/auth/tokens", "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	token := response.Header.Get("X-Subject-Token")
	if token == "" {
		t.Fatalf("%s gets no token: %s", name, response.Status)
	}
	return user{t, name, token, address}
}

// environment is what makes the command countersign that user.
func (u user) environment() []string {
	return append(os.Environ(), "OS_AUTH_URL="+keystone, "OS_USERNAME="+u.name, "OS_PASSWORD=stack", "OS_USER_DOMAIN_NAME=Default",
		"OS_PROJECT_NAME="+u.name, "OS_PROJECT_DOMAIN_NAME=Default", "OS_REGION_NAME=RegionOne")
}

// send returns the status and the body of the answer.
func (u user) send(method, path, kind string, body io.Reader, size int64) (int, []byte, error) {
	request, err := http.NewRequest(method, u.images+path, body)
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("X-Auth-Token", u.token)
	request.Header.Set("Content-Type", kind)
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.ContentLength = size
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	return response.StatusCode, answer, err
}

// create makes an image with properties and returns its id.
func (u user) create(properties map[string]string) string {
	u.t.Helper()
	record := map[string]any{"name": "chart", "disk_format": "raw", "container_format": "bare"}
	for name, value := range properties {
		record[name] = value
	}
	body, err := json.Marshal(record)
	if err != nil {
		u.t.Fatal(err)
	}
	status, answer, err := u.send("POST", "/v2/images", "application/json", bytes.NewReader(body), int64(len(body)))
	var image struct{ ID string }
	if err == nil {
		err = json.Unmarshal(answer, &image)
	}
	if err != nil || status != http.StatusCreated {
		u.t.Fatalf("creating an image: %d %s %v", status, answer, err)
	}
	return image.ID
}

func (u user) upload(id string, body io.Reader, size int64) (int, []byte) {
	u.t.Helper()
	status, answer, err := u.send("PUT", "/v2/images/"+id+"/file", "application/octet-stream", body, size)
	if err != nil {
		u.t.Fatalf("uploading: %v", err)
	}
	return status, answer
}

// image is what Glance says of it.
func (u user) image(id string) map[string]any {
	u.t.Helper()
	status, answer, err := u.send("GET", "/v2/images/"+id, "", nil, 0)
	var image map[string]any
	if err == nil && status == http.StatusOK {
		err = json.Unmarshal(answer, &image)
	}
	if err != nil {
		u.t.Fatalf("reading the image: %d %s %v", status, answer, err)
	}
	return image
}

// signer has a key, and its certificate in Barbican.
type signer struct {
	user
	key, id string
}

func (u user) newSigner(folder string) *signer {
	u.t.Helper()
	key, certificate := filepath.Join(folder, "key.pem"), filepath.Join(folder, "certificate.pem")
	must(u.t, binaryPath, "keygen", "--name", "chart", "--key", key, "--certificate", certificate)
	file := filepath.Join(folder, "nothing")
	write(u.t, file, "x")
	s := &signer{user: u, key: key}
	s.id = s.sign(file, "--store-certificate", certificate)["img_signature_certificate_uuid"]
	return s
}

// sign returns the four properties.
func (s *signer) sign(file string, which ...string) map[string]string {
	s.t.Helper()
	if len(which) == 0 {
		which = []string{"--certificate-uuid", s.id}
	}
	c := exec.Command(binaryPath, append([]string{"sign", file, "--key", s.key, "--format", "json"}, which...)...)
	c.Env = s.environment()
	var complaint bytes.Buffer
	c.Stderr = &complaint
	output, err := c.Output()
	properties := map[string]string{}
	if err == nil {
		err = json.Unmarshal(output, &properties)
	}
	if err != nil {
		s.t.Fatalf("sign: %v\n%s%s", err, output, &complaint)
	}
	return properties
}
