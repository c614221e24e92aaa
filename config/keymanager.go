package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
)

// The values of KeyManager.
const (
	Barbican = "barbican"
	Vault    = "vault"
	File     = "file"
)

// The values of VaultAuth.
const (
	VaultToken      = "token"
	VaultAppRole    = "approle"
	VaultKubernetes = "kubernetes"
	VaultJWT        = "jwt"
)

// serviceAccountToken is where Kubernetes puts a pod's own.
const serviceAccountToken = "/var/run/secrets/kubernetes.io/serviceaccount/token"

// KeyManagerOf returns the settings of the key manager for a command that the
// operator runs: KEY_MANAGER, KEY_DIRECTORY and VAULT_*. Others are not looked
// at. The error is an *Error that lists everything that is wrong.
func KeyManagerOf(environ map[string]string) (Config, error) {
	var c Config
	var faults Error
	of := make(map[string]string) // never nil, which would make env read the process's own
	for name, value := range environ {
		if rest, ours := strings.CutPrefix(name, Prefix); ours && (strings.HasPrefix(rest, "KEY_") || strings.HasPrefix(rest, "VAULT_")) {
			of[name] = value
		}
	}
	checkNames(of, &faults)
	c.shown = parse(&c, Prefix, of, &faults)
	c.checkKeyManager(&faults)
	if len(faults.Problems) > 0 {
		return Config{}, &faults
	}
	return c, nil
}

func (c *Config) checkKeyManager(faults *Error) {
	// A setting of another key manager would look as if it did something.
	for _, s := range ownSettings() {
		of := ""
		switch {
		case s.Name == Prefix+"BARBICAN_URL":
			of = Barbican
		case s.Name == Prefix+"KEY_DIRECTORY":
			of = File
		case strings.HasPrefix(s.Name, Prefix+"VAULT_"):
			of = Vault
		}
		if of != "" && of != c.KeyManager && c.differs(s) {
			faults.add(s.Name, "is set, but %sKEY_MANAGER is %s; expected that to be %s, or this unset", Prefix, c.KeyManager, of)
		}
	}
	switch c.KeyManager {
	default:
		oneOf(Prefix+"KEY_MANAGER", c.KeyManager, faults, Barbican, Vault, File)
	case Barbican:
	case File:
		c.checkDirectory(faults)
	case Vault:
		c.checkVault(faults)
	}
}

// differs reports whether a setting has another value than its default.
func (c *Config) differs(s Setting) bool {
	for _, shown := range c.shown {
		if shown.name == s.Name {
			return shown.value != s.Default
		}
	}
	return false
}

func (c *Config) checkDirectory(faults *Error) {
	if c.KeyDirectory == "" {
		faults.add(Prefix+"KEY_DIRECTORY", "is not set, but %sKEY_MANAGER is file; expected the directory with the certificates", Prefix)
		return
	}
	if _, err := os.ReadDir(c.KeyDirectory); err != nil {
		faults.add(Prefix+"KEY_DIRECTORY", "cannot be read: %v", err)
	}
}

func (c *Config) checkVault(faults *Error) {
	if c.VaultAddr == nil {
		faults.add(Prefix+"VAULT_ADDR", "is not set, but %sKEY_MANAGER is vault; expected where Vault is, such as https://vault.internal:8200", Prefix)
	}
	if c.VaultKVVersion != 1 && c.VaultKVVersion != 2 {
		faults.add(Prefix+"VAULT_KV_VERSION", "is %d; expected 1 or 2", c.VaultKVVersion)
	}
	for variable, path := range map[string]*string{"VAULT_MOUNT": &c.VaultMount, "VAULT_KV_PATH": &c.VaultKVPath, "VAULT_AUTH_PATH": &c.VaultAuthPath} {
		*path = strings.Trim(*path, "/")
		for _, segment := range strings.Split(*path, "/") {
			if *path != "" && (!literal.MatchString(segment) || segment == "." || segment == "..") {
				faults.add(Prefix+variable, "%q is no path in Vault; expected letters, digits, '.', '_' and '-', with slashes between", *path)
			}
		}
	}
	if c.VaultMount == "" {
		faults.add(Prefix+"VAULT_MOUNT", "is only a slash; expected where the secrets engine is mounted, such as secret")
	}
	if c.VaultCAFile != "" {
		c.vaultRoots = &roots{file: c.VaultCAFile, pool: loadRoots(Prefix+"VAULT_CA_FILE", c.VaultCAFile, faults), read: modified(c.VaultCAFile)}
		if c.VaultAddr != nil && c.VaultAddr.Scheme != "https" {
			faults.add(Prefix+"VAULT_ADDR", "begins with http://, but a file for TLS is named; expected https://, or no VAULT_CA_FILE")
		}
	}
	c.checkVaultAuth(faults)
}

// checkVaultAuth wants what the method needs, and nothing that another would.
func (c *Config) checkVaultAuth(faults *Error) {
	if c.VaultAuth == VaultKubernetes && c.VaultJWTFile == "" {
		c.VaultJWTFile = serviceAccountToken
	}
	needs := map[string][]string{
		VaultToken:      {"VAULT_TOKEN_FILE"},
		VaultAppRole:    {"VAULT_ROLE_ID"},
		VaultKubernetes: {"VAULT_ROLE", "VAULT_JWT_FILE"},
		VaultJWT:        {"VAULT_ROLE", "VAULT_JWT_FILE"},
	}
	takes := map[string][]string{VaultAppRole: {"VAULT_SECRET_ID_FILE", "VAULT_AUTH_PATH"}, VaultKubernetes: {"VAULT_AUTH_PATH"}, VaultJWT: {"VAULT_AUTH_PATH"}}
	methods := []string{VaultToken, VaultAppRole, VaultKubernetes, VaultJWT}
	if needs[c.VaultAuth] == nil {
		if c.VaultAuth == "" {
			faults.add(Prefix+"VAULT_AUTH", "is not set; expected %s", alternatives(methods))
		}
		oneOf(Prefix+"VAULT_AUTH", c.VaultAuth, faults, methods...)
		return
	}
	for name, value := range map[string]string{
		"VAULT_TOKEN_FILE": c.VaultTokenFile, "VAULT_ROLE_ID": c.VaultRoleID, "VAULT_SECRET_ID_FILE": c.VaultSecretIDFile,
		"VAULT_ROLE": c.VaultRole, "VAULT_JWT_FILE": c.VaultJWTFile, "VAULT_AUTH_PATH": c.VaultAuthPath,
	} {
		needed, taken := false, false
		for _, n := range needs[c.VaultAuth] {
			needed = needed || n == name
		}
		for _, n := range takes[c.VaultAuth] {
			taken = taken || n == name
		}
		switch {
		case needed && value == "":
			faults.add(Prefix+name, "is not set, and %sVAULT_AUTH=%s wants it", Prefix, c.VaultAuth)
		case !needed && !taken && value != "":
			faults.add(Prefix+name, "is set, and %sVAULT_AUTH=%s has no use for it; unset one of them", Prefix, c.VaultAuth)
		}
	}
	if c.VaultAuthPath == "" {
		c.VaultAuthPath = c.VaultAuth
	}
	if file, variable := c.vaultSecretFile(); file != "" {
		if _, err := c.VaultSecret(); err != nil {
			faults.add(Prefix+variable, "cannot be read: %v", err)
		}
	}
}

// vaultSecretFile is where the secret of the method is, and which setting says
// so; empty if it needs none.
func (c *Config) vaultSecretFile() (file, variable string) {
	switch c.VaultAuth {
	case VaultToken:
		return c.VaultTokenFile, "VAULT_TOKEN_FILE"
	case VaultAppRole:
		return c.VaultSecretIDFile, "VAULT_SECRET_ID_FILE"
	}
	return c.VaultJWTFile, "VAULT_JWT_FILE"
}

// VaultSecret is the token, secret id or JSON Web Token that is on disk now,
// for one login. Empty for an AppRole without a secret id.
func (c *Config) VaultSecret() (string, error) {
	file, _ := c.vaultSecretFile()
	if file == "" {
		return "", nil
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	secret := strings.TrimSpace(string(data))
	switch {
	case secret == "":
		return "", fmt.Errorf("%s is empty", file)
	case strings.ContainsFunc(secret, func(r rune) bool { return r <= ' ' || r > '~' }):
		return "", errors.New(file + " holds more than one word")
	}
	return secret, nil
}

// VaultTLSNow is for one connection to Vault, with the issuers that are on disk
// now.
func (c *Config) VaultTLSNow() *tls.Config {
	now := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.vaultRoots != nil {
		now.RootCAs = c.vaultRoots.current()
	}
	return now
}
