package config_test

import (
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/config"
)

// vault is a complete configuration with a token; more changes it, and an
// empty value takes a setting out.
func vault(t *testing.T, more map[string]string) map[string]string {
	t.Helper()
	e := map[string]string{
		"COUNTERSIGN_KEY_MANAGER":      "vault",
		"COUNTERSIGN_VAULT_ADDR":       "https://vault:8200/",
		"COUNTERSIGN_VAULT_AUTH":       "token",
		"COUNTERSIGN_VAULT_TOKEN_FILE": write(t, "token", "hvs.secret\n"),
	}
	maps.Copy(e, more)
	maps.DeleteFunc(e, func(_, value string) bool { return value == "" })
	return environ(e)
}

func TestKeyManagers(t *testing.T) {
	directory := t.TempDir()
	jwt := write(t, "jwt", "  header.claims.signature\n")
	secretID := write(t, "secret-id", "s3cret")
	for _, tt := range []struct {
		name           string
		env            map[string]string
		manager, path  string
		secret, method string
	}{
		{"none said", environ(nil), config.Barbican, "", "", ""},
		{"a directory", environ(map[string]string{"COUNTERSIGN_KEY_MANAGER": "file", "COUNTERSIGN_KEY_DIRECTORY": directory}), config.File, "", "", ""},
		{"a token", vault(t, nil), config.Vault, "secret|2|", "hvs.secret", "token"},
		{"AppRole", vault(t, map[string]string{
			"COUNTERSIGN_VAULT_AUTH": "approle", "COUNTERSIGN_VAULT_TOKEN_FILE": "", "COUNTERSIGN_VAULT_ROLE_ID": "r",
			"COUNTERSIGN_VAULT_SECRET_ID_FILE": secretID, "COUNTERSIGN_VAULT_MOUNT": "/kv/images/", "COUNTERSIGN_VAULT_KV_VERSION": "1", "COUNTERSIGN_VAULT_KV_PATH": "signers/",
		}), config.Vault, "kv/images|1|signers", "s3cret", "approle"},
		{"AppRole without a secret id", vault(t, map[string]string{
			"COUNTERSIGN_VAULT_AUTH": "approle", "COUNTERSIGN_VAULT_TOKEN_FILE": "", "COUNTERSIGN_VAULT_ROLE_ID": "r",
		}), config.Vault, "secret|2|", "", "approle"},
		{"a JSON Web Token", vault(t, map[string]string{
			"COUNTERSIGN_VAULT_AUTH": "jwt", "COUNTERSIGN_VAULT_TOKEN_FILE": "", "COUNTERSIGN_VAULT_ROLE": "r", "COUNTERSIGN_VAULT_JWT_FILE": jwt,
			"COUNTERSIGN_VAULT_AUTH_PATH": "/spiffe/",
		}), config.Vault, "secret|2|", "header.claims.signature", "spiffe"},
		{"Kubernetes", vault(t, map[string]string{
			"COUNTERSIGN_VAULT_AUTH": "kubernetes", "COUNTERSIGN_VAULT_TOKEN_FILE": "", "COUNTERSIGN_VAULT_ROLE": "r", "COUNTERSIGN_VAULT_JWT_FILE": jwt,
		}), config.Vault, "secret|2|", "header.claims.signature", "kubernetes"},
	} {
		c, err := config.Load(tt.env)
		if err != nil {
			t.Errorf("%s: Load: %v", tt.name, err)
			continue
		}
		if c.KeyManager != tt.manager {
			t.Errorf("%s: KeyManager = %q, want %q", tt.name, c.KeyManager, tt.manager)
		}
		if tt.manager != config.Vault {
			continue
		}
		if got := strings.Join([]string{c.VaultMount, map[int]string{1: "1", 2: "2"}[c.VaultKVVersion], c.VaultKVPath}, "|"); got != tt.path {
			t.Errorf("%s: mount, version and path are %q, want %q", tt.name, got, tt.path)
		}
		if secret, err := c.VaultSecret(); err != nil || secret != tt.secret || c.VaultAuthPath != tt.method {
			t.Errorf("%s: VaultSecret = %q, %v, at %q, want %q at %q", tt.name, secret, err, c.VaultAuthPath, tt.secret, tt.method)
		}
		if shown := c.String(); tt.secret != "" && strings.Contains(shown, tt.secret) {
			t.Errorf("%s: String shows the secret:\n%s", tt.name, shown)
		}
	}
}

// Each mistake by itself: the variable blamed, and a piece of the sentence.
func TestWrongKeyManagers(t *testing.T) {
	file := write(t, "file", "secret words that belong in no error")
	with := func(name, value string) map[string]string {
		return vault(t, map[string]string{"COUNTERSIGN_" + name: value})
	}
	approle := func(name, value string) map[string]string {
		e := map[string]string{"COUNTERSIGN_VAULT_AUTH": "approle", "COUNTERSIGN_VAULT_TOKEN_FILE": "", "COUNTERSIGN_VAULT_ROLE_ID": "r"}
		e["COUNTERSIGN_"+name] = value
		return vault(t, e)
	}
	for _, tt := range []struct {
		env            map[string]string
		variable, want string
	}{
		{environ(map[string]string{"COUNTERSIGN_KEY_MANAGER": "castellan"}), "KEY_MANAGER", "expected barbican, vault or file"},
		{environ(map[string]string{"COUNTERSIGN_KEY_MANAGER": "file"}), "KEY_DIRECTORY", "is not set"},
		{environ(map[string]string{"COUNTERSIGN_KEY_MANAGER": "file", "COUNTERSIGN_KEY_DIRECTORY": file}), "KEY_DIRECTORY", "not a directory"},
		{environ(map[string]string{"COUNTERSIGN_KEY_MANAGER": "file", "COUNTERSIGN_KEY_DIRECTORY": "/nonexistent"}), "KEY_DIRECTORY", "no such file"},
		{environ(map[string]string{"COUNTERSIGN_KEY_DIRECTORY": "/"}), "KEY_DIRECTORY", "KEY_MANAGER is barbican"},
		{environ(map[string]string{"COUNTERSIGN_VAULT_ADDR": "https://vault"}), "VAULT_ADDR", "KEY_MANAGER is barbican"},
		{environ(map[string]string{"COUNTERSIGN_VAULT_KV_VERSION": "1"}), "VAULT_KV_VERSION", "KEY_MANAGER is barbican"},
		{with("BARBICAN_URL", "http://barbican"), "BARBICAN_URL", "KEY_MANAGER is vault"},
		{with("VAULT_ADDR", ""), "VAULT_ADDR", "is not set"},
		{with("VAULT_ADDR", "vault:8200"), "VAULT_ADDR", "http:// or https://"},
		{with("VAULT_KV_VERSION", "3"), "VAULT_KV_VERSION", "expected 1 or 2"},
		{with("VAULT_KV_VERSION", "v2"), "VAULT_KV_VERSION", "whole number"},
		{with("VAULT_MOUNT", "/"), "VAULT_MOUNT", "only a slash"},
		{with("VAULT_MOUNT", "a//b"), "VAULT_MOUNT", "is no path"},
		{with("VAULT_MOUNT", "../sys"), "VAULT_MOUNT", "is no path"},
		{with("VAULT_KV_PATH", "a/./b"), "VAULT_KV_PATH", "is no path"},
		{with("VAULT_KV_PATH", "a?b"), "VAULT_KV_PATH", "is no path"},
		{with("VAULT_CA_FILE", file), "VAULT_CA_FILE", "holds no certificate"},
		{with("VAULT_AUTH", ""), "VAULT_AUTH", "is not set; expected token, approle, kubernetes or jwt"},
		{with("VAULT_AUTH", "ldap"), "VAULT_AUTH", "expected token, approle, kubernetes or jwt"},
		{with("VAULT_TOKEN_FILE", ""), "VAULT_TOKEN_FILE", "wants it"},
		{with("VAULT_TOKEN_FILE", "/nonexistent"), "VAULT_TOKEN_FILE", "no such file"},
		{with("VAULT_TOKEN_FILE", write(t, "empty", "\n")), "VAULT_TOKEN_FILE", "is empty"},
		{with("VAULT_TOKEN_FILE", file), "VAULT_TOKEN_FILE", "more than one word"},
		{with("VAULT_ROLE", "r"), "VAULT_ROLE", "no use"},
		{with("VAULT_AUTH_PATH", "x"), "VAULT_AUTH_PATH", "no use"},
		{approle("VAULT_ROLE_ID", ""), "VAULT_ROLE_ID", "wants it"},
		{approle("VAULT_SECRET_ID_FILE", "/nonexistent"), "VAULT_SECRET_ID_FILE", "no such file"},
		{approle("VAULT_TOKEN_FILE", file), "VAULT_TOKEN_FILE", "no use"},
		{approle("VAULT_AUTH_PATH", "a b"), "VAULT_AUTH_PATH", "is no path"},
		{with("ANCHOR_INTERVAL", "0s"), "ANCHOR_INTERVAL", "at least 1s"},
		{with("ANCHOR_MAX_AGE", "1s"), "ANCHOR_MAX_AGE", "at least 1m"},
	} {
		_, err := config.Load(tt.env)
		var all *config.Error
		if !errors.As(err, &all) || len(all.Problems) != 1 {
			t.Errorf("%s: %v, want one problem with %q in it", tt.variable, err, tt.want)
			continue
		}
		if all.Problems[0].Variable != "COUNTERSIGN_"+tt.variable || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "secret words") {
			t.Errorf("%s: %v, want %q in it", tt.variable, err, tt.want)
		}
	}
}

// Plain http with issuers for TLS: one of them is a mistake.
func TestVaultTLS(t *testing.T) {
	issuer, _ := certify(t, "vault")
	ca := write(t, "ca.pem", issuer)
	got := problems(t, vault(t, map[string]string{"COUNTERSIGN_VAULT_CA_FILE": ca, "COUNTERSIGN_VAULT_ADDR": "http://vault:8200"}))
	if len(got) != 1 || got[0].Variable != "COUNTERSIGN_VAULT_ADDR" {
		t.Errorf("problems %v, want one of VAULT_ADDR", got)
	}
	c, err := config.Load(vault(t, map[string]string{"COUNTERSIGN_VAULT_CA_FILE": ca}))
	if err != nil {
		t.Fatal(err)
	}
	if now := c.VaultTLSNow(); now.RootCAs == nil || now.InsecureSkipVerify {
		t.Errorf("VaultTLSNow = %+v, want the file's roots", now)
	}
	c, err = config.Load(vault(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	if now := c.VaultTLSNow(); now.RootCAs != nil || now.InsecureSkipVerify {
		t.Errorf("VaultTLSNow = %+v, want the system's roots", now)
	}
}

// A file that was replaced counts at the next login.
func TestVaultSecretIsReadAgain(t *testing.T) {
	env := vault(t, nil)
	c, err := config.Load(env)
	if err != nil {
		t.Fatal(err)
	}
	file := env["COUNTERSIGN_VAULT_TOKEN_FILE"]
	if err := os.WriteFile(file, []byte("hvs.second"), 0o600); err != nil {
		t.Fatal(err)
	}
	if secret, err := c.VaultSecret(); err != nil || secret != "hvs.second" {
		t.Errorf("VaultSecret = %q, %v, want hvs.second", secret, err)
	}
	if err := os.Rename(file, filepath.Join(t.TempDir(), "gone")); err != nil {
		t.Fatal(err)
	}
	if _, err := c.VaultSecret(); err == nil {
		t.Error("VaultSecret of a file that is gone is no error")
	}
}

// A command looks at the key manager's settings and at no others.
func TestKeyManagerOf(t *testing.T) {
	env := vault(t, map[string]string{"COUNTERSIGN_LISTEN": "nonsense"})
	delete(env, "COUNTERSIGN_GLANCE_URL")
	c, err := config.KeyManagerOf(env)
	if err != nil || c.KeyManager != config.Vault || c.VaultMount != "secret" {
		t.Errorf("KeyManagerOf = %v, %v, want Vault", c.KeyManager, err)
	}
	if c, err := config.KeyManagerOf(nil); err != nil || c.KeyManager != config.Barbican {
		t.Errorf("KeyManagerOf(nil) = %v, %v, want Barbican", c.KeyManager, err)
	}
	for variable, value := range map[string]string{"COUNTERSIGN_VAULT_AUTH": "ldap", "COUNTERSIGN_VAULT_URL": "https://vault"} {
		env := vault(t, map[string]string{variable: value})
		if _, err := config.KeyManagerOf(env); err == nil || !strings.Contains(err.Error(), variable) {
			t.Errorf("KeyManagerOf with %s=%s = %v, want a problem with it", variable, value, err)
		}
	}
}
