//go:build e2e

package e2e_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// run plays a command that a user would type (openstack, glance, openssl,
// curl) inside the stack's root, as the client's user and at its image
// endpoint. It returns what came out, errors included, and the exit code.
// Commands see the temporary folder, and so what t.TempDir gives.
func run(c *client, command ...string) (output string, code int) {
	c.t.Helper()
	cmd := exec.Command("stack/stack", append([]string{"exec"}, command...)...)
	cmd.Env = append(os.Environ(), c.environment()...)
	text, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatalf("%s: %v", strings.Join(command, " "), err)
	}
	return string(text), cmd.ProcessState.ExitCode()
}

// mustRun is run for a command that must succeed; its output is trimmed.
func mustRun(c *client, command ...string) string {
	c.t.Helper()
	output, code := run(c, command...)
	if code != 0 {
		c.t.Fatalf("$ %s\n%sexit code %d", strings.Join(command, " "), output, code)
	}
	return strings.TrimSpace(output)
}

// environment makes OpenStack's clients be the user. The image endpoint is
// told twice: openstack hears only clouds.yaml, glance only OS_IMAGE_URL.
func (c *client) environment() []string {
	c.t.Helper()
	clouds := filepath.Join(c.t.TempDir(), "clouds.yaml")
	text := "clouds:\n  e2e:\n    region_name: RegionOne\n    image_endpoint_override: " + c.images + "\n"
	if err := os.WriteFile(clouds, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return []string{
		"OS_CLIENT_CONFIG_FILE=" + clouds,
		"OS_CLOUD=e2e",
		"OS_IMAGE_URL=" + c.images,
		"OS_REGION_NAME=RegionOne",
		"OS_AUTH_URL=" + openstack.Keystone,
		"OS_IDENTITY_API_VERSION=3",
		"OS_USERNAME=" + c.user.Name,
		"OS_PASSWORD=" + c.user.Password,
		"OS_USER_DOMAIN_NAME=" + c.user.Domain,
		"OS_PROJECT_NAME=" + c.user.Project,
		"OS_PROJECT_DOMAIN_NAME=" + c.user.Domain,
	}
}
