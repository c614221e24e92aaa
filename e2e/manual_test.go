//go:build e2e

package e2e_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestTheManual types the commands of the README, the operator's manual, the
// policy's reference and the runbook into one shell, as a new project of a region
// of its own, and sees that they answer what the documents say.
func TestTheManual(t *testing.T) {
	const whyHere = "the document says where it is elsewhere"
	readme, operations := newPage(t, "README.md", "yaml"), newPage(t, "docs/operations.md") // what is sh there has tests of its own
	reference, runbook := newPage(t, "docs/policy.md"), newPage(t, "docs/runbook.md")
	glance := servers[0]
	region := newRegion(t, glance, map[string]string{"identity": openstack.Keystone, "key-manager": openstack.Barbican})
	boss, demo := newUser(t, "boss"+region, "admin"), newUser(t, "manual"+region, "member", "creator")
	service := user{Name: "countersign" + region, Password: "stack", Project: "service"}
	public, admin := freeAddress(t), freeAddress(t)
	folder := t.TempDir()
	clouds := "clouds:\n"
	for name, u := range map[string]user{"admin": boss, "countersign": service, "demo": demo} {
		clouds += fmt.Sprintf("  %s:\n    region_name: %s\n    image_endpoint_override: http://%s\n    auth: {auth_url: %q, username: %q, password: %q, user_domain_name: Default, project_name: %q, project_domain_name: Default}\n",
			name, region, public, openstack.Keystone, u.Name, u.Password, u.Project)
	}
	place(t, folder, "clouds.yaml", clouds)
	place(t, folder, "password", service.Password)

	readme.take(" ")         // the drawing
	readme.take("make demo") // which make test is, and plays
	place(t, folder, "policy.yaml", change(t, readme.take("# policy.yaml"), edit{"name: demo", "name: " + demo.Project, "a project of the test's own"}))
	place(t, folder, "reference.yaml", newPage(t, "docs/policy.md", "yaml").take("rules:"))
	create := change(t, operations.take("openstack user create"),
		edit{"--password-prompt countersign", "--password " + service.Password + " " + service.Name, whyInteractive},
		edit{"--user countersign ", "--user " + service.Name + " ", "there is a user of the name already"})
	serve := change(t, readme.take("bin/countersign receipt keygen"),
		edit{"http://glance.internal:9292", glance.url(), whyHere}, edit{"https://keystone.example/v3", openstack.Keystone, whyHere},
		edit{"OS_USERNAME=countersign", "OS_USERNAME=" + service.Name, whyHere}, edit{"RegionOne", region, whyHere},
		edit{"countersign serve", "countersign serve 2> countersign.log &", "the shell is needed for what follows"})
	application := operations.take("openstack application credential create")
	receipts := strings.SplitAfterN(operations.take("countersign receipt keygen"), "\n", 2)
	scans := operations.take("countersign scan")
	scanned := operations.take("IMAGE ")
	ready, answer, _ := strings.Cut(strings.TrimPrefix(operations.take("$ curl -s http://127.0.0.1:9293/readyz"), "$ "), "\n")
	place(t, folder, "ready.json", answer)
	signed := readme.take("countersign keygen")
	upload := signed[strings.Index(signed, "openstack image create"):]
	refusal := readme.take("BadRequestException")
	openssl := change(t, readme.take("openssl req"),
		edit{`"$(base64 -w0 certificate.pem)"`, `"$(base64 -w0 certificate.pem)" | tee secret`, whyUUID},
		edit{`=UUID disk`, `=$(grep -o '[0-9a-f]\{8\}-[0-9a-f-]\{27\}' secret) disk`, whyUUID})
	readme.take("rules:") // another policy, which TestPoliciesInDocuments reads
	again := readme.take("openstack image set")
	policies := strings.ReplaceAll(strings.ReplaceAll(reference.take("$ countersign policy check"), "$ ", ""), "policy.yaml", "reference.yaml")
	queries := []string{operations.take("   jq "), runbook.take("jq ")}
	for _, p := range []*page{readme, operations, reference, runbook} {
		p.end()
	}

	c := login(t, "admin", glance.url())
	output, code := run(c, "bash", "-c", strings.Join([]string{
		"set -eu", "cd " + folder, "unset ${!OS_*}", "export OS_CLIENT_CONFIG_FILE=" + folder + "/clouds.yaml",
		"PATH=" + filepath.Dir(binary) + ":$PATH", "mkdir bin elsewhere", "ln -s " + binary + " bin/countersign",
		"trap 'kill $(jobs -p) || true; wait; cat countersign.log' EXIT",
		"export OS_CLOUD=admin", create,
		"openstack role add --project service --user " + service.Name + " admin", // for the project's name in the policy, and the scan
		"OS_CLOUD=countersign " + application + "OS_CLOUD=countersign openstack application credential delete countersign",
		strings.TrimSpace(policies) + " || test $? = 2", // not asked with the properties of an image
		"unset OS_CLOUD; export COUNTERSIGN_LISTEN=" + public + " COUNTERSIGN_ADMIN_LISTEN=" + admin, serve,
		"ask() { " + strings.Replace(ready, "127.0.0.1:9293", admin, 1) + "; }",
		`for i in {1..300}; do [[ "$(ask)" != "$(< ready.json)" ]] || break; sleep 0.2; done; ask; [[ "$(ask)" == "$(< ready.json)" ]]`,
		"export OS_CLOUD=demo; head -c 3000000 /dev/urandom > disk.raw", signed,
		"(cd elsewhere; " + strings.TrimSpace(receipts[0]) + ")", receipts[1],
		"echo changed-by-one-byte: ; cp disk.raw good; printf x >> disk.raw; if " + strings.TrimSpace(upload) + "; then exit 1; fi; mv good disk.raw",
		"countersign keygen --name new --key new.pem --certificate new-certificate.pem", again, "countersign verify --image disk",
		"openstack image delete disk", openssl, "countersign verify --image disk",
		"openstack --os-cloud admin image create --disk-format raw --container-format bare --file disk.raw unsigned",
		"export OS_CLOUD=countersign COUNTERSIGN_POLICY_FILE=policy.yaml COUNTERSIGN_RECEIPT_KEY_FILES=receipts.pem COUNTERSIGN_GLANCE_URL=" + glance.url(),
		strings.Replace(scans, "--dry-run\n", "--dry-run || test $? = 1 # there is an image that would be refused\n", 1),
		"cat inventory.csv",
	}, "\n"))
	forgetOwned(t, c, demo.ProjectID, "disk")
	forgetOwned(t, c, boss.ProjectID, "unsigned")
	var made struct{ Users []struct{ ID string } }
	decodeInto(t, c.send("GET", openstack.Keystone+"/users?name="+service.Name, "", nil), &made)
	for _, u := range made.Users {
		c.unmake("user", u.ID)
	}
	if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, output)
	}
	typed, _, _ := strings.Cut(output, `{"level"`)
	plain := strings.Join(strings.Fields(typed), " ")
	pattern := regexp.MustCompile(`[0-9a-f]{8}-…`).ReplaceAllString(strings.Join(strings.Fields(refusal), " "), "…")
	pattern = strings.ReplaceAll(regexp.QuoteMeta(pattern), "…", `\S+`)
	if !regexp.MustCompile(pattern).MatchString(plain) {
		t.Errorf("what was changed by one byte is not refused in the README's words")
	}
	summary := regexp.MustCompile(`(?m)^\d+ images? looked at.*$`)
	numbers := regexp.MustCompile(`\d+`)
	words := func(text string) string {
		return strings.ReplaceAll(numbers.ReplaceAllString(summary.FindString(text), "N"), "images", "image")
	}
	if got, want := words(typed), words(scanned); got != want {
		t.Errorf("a scan ends with %q, want %q", got, want)
	}
	for i, want := range []string{"signature_required", "signature_mismatch"} {
		query := exec.Command("bash", "-euo", "pipefail", "-c", queries[i])
		query.Dir = folder
		if out, err := query.CombinedOutput(); err != nil || !strings.Contains(string(out), want) {
			t.Errorf("%s\nsays %s (%v), want %s", queries[i], out, err, want)
		}
	}
	if t.Failed() {
		t.Log(output)
	}
}
