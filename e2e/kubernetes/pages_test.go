//go:build e2e

package kubernetes_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// excused are the commands of the documents that are not typed, by how they
// begin.
var excused = map[string]string{
	"make image":   "cluster image has run it, with this machine's Go in place of a registry's",
	"for chart in": "openstack-helm's charts are not here; what they are told is TestOpenStackHelm's (make chart)",
	"kubectl -n openstack patch openstackcontrolplane": "the operators are not here; what they are told is TestOpenStackOperators' (make chart)",
	"helm upgrade --install countersign charts/countersign --namespace openstack --values charts/countersign/ci/openstack-k8s-operators-values.yaml": "it wants cert-manager and the operators' Secrets; it is rendered by TestOpenStackOperators (make chart)",
}

// pages are what the documents say to type into a shell that has a cluster.
type pages struct {
	t        *testing.T
	folder   string // where it is typed; charts and docs are in it
	commands []string
}

// newPages reads all commands of the page about Kubernetes and of the chart's
// README, and of the other documents those that begin with kubectl or helm.
func newPages(t *testing.T) *pages {
	t.Helper()
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	p := &pages{t: t, folder: t.TempDir()}
	for _, name := range []string{"charts", "docs"} {
		if err := os.Symlink(filepath.Join(top, name), filepath.Join(p.folder, name)); err != nil {
			t.Fatal(err)
		}
	}
	others, err := filepath.Glob(top + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, file := range append([]string{top + "/docs/kubernetes.md", top + "/charts/countersign/README.md", top + "/README.md"}, others...) {
		if i > 2 && strings.HasSuffix(file, "/kubernetes.md") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, command := range typed(string(text)) {
			if i < 2 || strings.HasPrefix(command, "kubectl ") || strings.HasPrefix(command, "helm ") {
				p.commands = append(p.commands, command)
			}
		}
	}
	return p
}

// typed are the commands in the code blocks of a document, each on one line; of
// a block that shows a prompt, what is behind it.
func typed(text string) []string {
	var commands []string
	for _, block := range regexp.MustCompile("(?sm)^ *```\n(.*?)^ *```$").FindAllStringSubmatch(text, -1) {
		joined := regexp.MustCompile(`\s*\\\n\s*`).ReplaceAllString(block[1], " ")
		joined = regexp.MustCompile(`(?s)\bdo\n(.*?)\ndone\b`).ReplaceAllString(joined, "do $1; done")
		prompt := regexp.MustCompile(`(?m)^\$ `).MatchString(joined)
		for line := range strings.Lines(joined) {
			command, prompted := strings.CutPrefix(strings.TrimSpace(line), "$ ")
			if command != "" && prompted == prompt {
				commands = append(commands, command)
			}
		}
	}
	return commands
}

// find takes out the first command that begins so.
func (p *pages) find(begin string) string {
	p.t.Helper()
	for i, command := range p.commands {
		if strings.HasPrefix(command, begin) {
			p.commands = append(p.commands[:i:i], p.commands[i+1:]...)
			return command
		}
	}
	p.t.Fatalf("no document says to type %s", begin)
	return ""
}

// run types a line, as a user.
func (p *pages) run(u user, line string) (string, error) {
	p.t.Logf("$ %s", line)
	c := exec.Command("bash", "-c", line)
	c.Dir, c.Env = p.folder, u.environment()
	output, err := c.CombinedOutput()
	return string(output), err
}

// types types the first command that begins so, in which the pairs of words have
// been replaced.
func (p *pages) types(begin string, pairs ...string) string {
	p.t.Helper()
	command := p.find(begin)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(command, pairs[i]) {
			p.t.Fatalf("%s has no %s", command, pairs[i])
		}
		command = strings.ReplaceAll(command, pairs[i], pairs[i+1])
	}
	output, err := p.run(login(p.t, "admin"), command)
	if err != nil {
		p.t.Fatalf("%v\n%s", err, output)
	}
	return output
}

// services have the names by which openstack-helm's are known.
const services = `
{apiVersion: v1, kind: Service, metadata: {name: glance-api}, spec: {ports: [{port: 9292}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: glance-api, labels: {kubernetes.io/service-name: glance-api}},
 addressType: IPv4, endpoints: [{addresses: [10.99.0.1]}], ports: [{name: "", port: 25292}]}
---
{apiVersion: v1, kind: Service, metadata: {name: keystone-api}, spec: {ports: [{port: 5000}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: keystone-api, labels: {kubernetes.io/service-name: keystone-api}},
 addressType: IPv4, endpoints: [{addresses: [10.99.0.1]}], ports: [{name: "", port: 25000}]}
`

// TestThePages types what docs/kubernetes.md and the chart's README say, word
// for word, and what the chart itself says to type next (NOTES.txt).
func TestThePages(t *testing.T) {
	p := newPages(t)
	admin := login(t, "admin")
	must(t, "kubectl", "create", "namespace", namespace)
	t.Cleanup(func() {
		must(t, "kubectl", "delete", "namespace", namespace, "--wait", "--timeout=3m")
	})
	write(t, filepath.Join(p.folder, "services.yaml"), services)
	kubectl(t, "apply", "--filename", filepath.Join(p.folder, "services.yaml"))
	write(t, filepath.Join(p.folder, "password"), "stack")

	p.types("kubectl -n openstack create secret")
	notes := p.types("helm install countersign charts/countersign")
	if said := p.types("helm test countersign"); !strings.Contains(said, "Succeeded") {
		t.Errorf("helm test says\n%s", said)
	}

	// What the chart says to type next.
	service := "http://" + kubectl(t, "get", "service", release, "--output=jsonpath={.spec.clusterIP}") + ":9292"
	demo := login(t, "demo")
	demo.images = service
	if status, answer := demo.upload(demo.create(nil), strings.NewReader("data"), 4); status != 204 {
		t.Fatalf("an unsigned upload while everything is audited: %d %s", status, answer)
	}
	next := regexp.MustCompile(`(?m)^ +((?:kubectl|helm|countersign) .*)$`).FindAllStringSubmatch(notes, -1)
	if len(next) != 5 {
		t.Errorf("the notes say to type %d commands, want 5:\n%s", len(next), notes)
	}
	binary, err := filepath.Abs(binaryPath)
	if err != nil {
		t.Fatal(err)
	}
	for _, found := range next {
		command := strings.Replace(found[1], "http://countersign.openstack.svc:9292", service, 1) // the node does not ask the cluster's DNS
		command = regexp.MustCompile(`^countersign`).ReplaceAllLiteralString(command, binary)
		said, err := p.run(admin, command)
		switch {
		case err != nil:
			t.Errorf("%s: %v\n%s", command, err, said)
		case strings.Contains(command, "would be refused") && !strings.Contains(said, "img_signature is not set"):
			t.Errorf("the log of what would be refused is\n%s", said)
		case strings.Contains(command, "endpoint set"):
			catalogLeadsTo(t, service)
		}
	}
	catalogLeadsTo(t, glance) // restored
	if saved, err := os.ReadFile(filepath.Join(p.folder, "receipt-keys.yaml")); err != nil || !strings.Contains(string(saved), "receipt-key.pem:") {
		t.Errorf("the copy of the receipts' key is %q, %v", saved, err)
	}

	// No policy keeps a pod off Glance here: the look ends well, and it does not
	// where there is nobody.
	look := strings.Replace(p.find("kubectl -n openstack run look"), "--image=curlimages/curl", "--image=localhost/curl:e2e", 1)
	if said, err := p.run(admin, look); err != nil {
		t.Errorf("%v\n%s", err, said)
	}
	if said, err := p.run(admin, strings.Replace(look, ":9292/", ":9/", 1)); err == nil || !strings.Contains(said, "terminated (Error)") {
		t.Errorf("where there is nobody, the look says %v\n%s", err, said)
	}

	// The mistake that the page shows is answered as the page shows.
	page, err := os.ReadFile(filepath.Join(p.folder, "docs/kubernetes.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, shown, _ := strings.Cut(string(page), "--set-file policy.text=policy.yaml\n")
	shown, _, _ = strings.Cut(shown, "```")
	policyFile := filepath.Join(p.folder, "policy.yaml")
	write(t, policyFile, "rules:\n  - name: production\n    projects:\n      - name: demo\n        domain: Default\n    mode: enforces\n    signers: any\n")
	said, err := p.run(admin, p.find("helm upgrade countersign charts/countersign"))
	if err == nil {
		t.Errorf("the policy with a mistake is taken:\n%s", said)
	}
	for line := range strings.Lines(shown) {
		if want := strings.TrimSuffix(strings.TrimSpace(line), " …"); !strings.Contains(said, want) {
			t.Errorf("helm upgrade says\n%s\nand not %s", said, want)
		}
	}

	p.types("helm upgrade --install countersign charts/countersign --namespace openstack --values charts/countersign/ci/openstack-helm-values.yaml")
	must(t, "helm", "uninstall", release, "--namespace", namespace, "--wait", "--timeout", "5m")

	// The chart's README has a policy from the start.
	write(t, policyFile, "rules:\n  - name: everybody\n    projects: all\n    unowned: true\n    mode: enforce\n    signers: any\n")
	p.types("helm install countersign charts/countersign")
	p.types("helm test countersign")
	demo.images = "http://" + kubectl(t, "get", "service", release, "--output=jsonpath={.spec.clusterIP}") + ":9292"
	if status, answer := demo.upload(demo.create(nil), strings.NewReader("data"), 4); status != 403 {
		t.Errorf("an unsigned upload under the README's policy: %d %s", status, answer)
	}
	must(t, "helm", "uninstall", release, "--namespace", namespace, "--wait", "--timeout", "5m")

	for begin := range excused {
		p.find(begin)
	}
	if len(p.commands) > 0 {
		t.Errorf("no test types\n%s", strings.Join(p.commands, "\n"))
	}
}
