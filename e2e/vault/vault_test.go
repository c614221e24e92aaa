//go:build vault

package vault_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/x509"
	_ "embed"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/certcache"
	"github.com/countersign/countersign/certcache/vaulttest"
)

//go:embed openstack.py
var script string

// real is the Vault that runs beside the tests.
var real struct {
	Address, Token, Key string
}

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

func runAll(m *testing.M) int {
	server := exec.Command(os.Getenv("VAULT_SERVER")) // the Makefile builds it
	server.Stderr = os.Stderr
	stdin, err := server.StdinPipe()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	stdout, err := server.StdoutPipe()
	if err == nil {
		err = server.Start()
	}
	if err == nil {
		err = json.NewDecoder(stdout).Decode(&real)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "starting VAULT_SERVER (make e2e-vault):", err)
		return 1
	}
	code := m.Run()
	stdin.Close()
	_ = server.Wait()
	return code
}

// call sends one request to Vault as its administrator and fails the test unless it succeeds.
func call(t *testing.T, method, path string, body any) map[string]any {
	t.Helper()
	text, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequest(method, real.Address+"/v1/"+path, bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", real.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %d %s %v", method, path, resp.StatusCode, answer, err)
	}
	var parsed map[string]any
	if len(answer) > 0 {
		if err := json.Unmarshal(answer, &parsed); err != nil {
			t.Fatal(err)
		}
	}
	return parsed
}

type object = map[string]any

// mount enables a secrets engine of a version for the test.
func mount(t *testing.T, version int) string {
	t.Helper()
	name := fmt.Sprintf("kv%d-%d", version, time.Now().UnixNano())
	call(t, "POST", "sys/mounts/"+name, object{"type": "kv", "options": object{"version": fmt.Sprint(version)}})
	t.Cleanup(func() { call(t, "DELETE", "sys/mounts/"+name, nil) })
	await(t, name)
	return name
}

// await waits for an engine: one of version 2 prepares itself for a moment before it takes the first entry.
func await(t *testing.T, name string) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ready(t, name); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the engine at %s is not ready after 30 s", name)
		}
	}
}

func ready(t *testing.T, name string) bool {
	t.Helper()
	req, err := http.NewRequest("GET", real.Address+"/v1/"+name+"/data/none", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Vault-Token", real.Token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusNotFound
}

// config reads from a mount as the administrator.
func config(t *testing.T, mount string, version int) certcache.VaultConfig {
	t.Helper()
	address, err := url.Parse(real.Address)
	if err != nil {
		t.Fatal(err)
	}
	return certcache.VaultConfig{Address: address, Mount: mount, Version: version, Login: certcache.VaultToken(always(real.Token))}
}

func always(secret string) func() (string, error) {
	return func() (string, error) { return secret, nil }
}

const id = "0d5b6c1e-4a52-4e0b-9f6e-2f5a3c1d7e90"

var bare = strings.ReplaceAll(id, "-", "")

// dashed is a castellan id as an image's property has it after it was read.
func dashed(id string) string {
	return strings.Join([]string{id[:8], id[8:12], id[12:16], id[16:20], id[20:]}, "-")
}

// castellan runs openstack.py in the stack's root.
func castellan(t *testing.T, mount string, version int, path, action, argument string) string {
	t.Helper()
	cmd := exec.Command("../stack/stack", "exec", "python3", "-c", script, real.Address, real.Token, mount, fmt.Sprint(version), path, action, argument)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("castellan: %v\n%s", err, &stderr)
	}
	return strings.TrimSpace(string(out))
}

// What the real castellan stored is read, and what we store is read by it.
func TestCastellan(t *testing.T) {
	der := []byte("stands for DER: nobody looks into it")
	for _, version := range []int{1, 2} {
		for _, path := range []string{"", "image/signers"} {
			name := mount(t, version)
			cfg := config(t, name, version)
			cfg.Path = path
			v := certcache.NewVault(cfg)

			theirs := castellan(t, name, version, path, "store", hex.EncodeToString(der))
			got, err := v.Certificate(t.Context(), certcache.Ref{ID: dashed(theirs)})
			if err != nil || !bytes.Equal(got.Data, der) || !got.Expires.IsZero() {
				t.Errorf("version %d, path %q: castellan stored %s, and Certificate = %q, %v", version, path, theirs, got.Data, err)
			}
			if err := v.Store(t.Context(), id, "signer", der); err != nil {
				t.Fatal(err)
			}
			if got := castellan(t, name, version, path, "get", bare); got != hex.EncodeToString(der) {
				t.Errorf("version %d, path %q: castellan reads %q", version, path, got)
			}
		}
	}
}

// class names what a caller does about err.
func class(err error) string {
	var not *certcache.NotCertificateError
	var away *certcache.UnavailableError
	switch {
	default:
		return "unknown"
	case err == nil:
		return "ok"
	case errors.Is(err, certcache.ErrNotFound):
		return "not found"
	case errors.As(err, &not):
		return "not a certificate"
	case errors.As(err, &away):
		return "unavailable"
	}
}

// The stand-in of the other tests gives rise to the same answers as Vault, sentence for sentence.
func TestStandInIsFaithful(t *testing.T) {
	entry := object{"type": "certificate", "value": "646572"}
	text, _ := json.Marshal(entry)
	standIn := vaulttest.New()
	server := httptest.NewServer(standIn)
	defer server.Close()
	address, _ := url.Parse(server.URL)
	for version, stood := range map[int]string{1: "kv", 2: "secret"} {
		name := mount(t, version)
		below := map[int]string{1: name + "/", 2: name + "/data/"}[version]
		put := func(entryName string, entry object) {
			body := entry
			if version == 2 {
				body = object{"data": entry}
			}
			call(t, "POST", below+entryName, body)
		}
		put(bare, entry)
		standIn.Put(stood+"/"+bare, string(text))
		gone := strings.Repeat("e", 32)
		put(gone, entry)
		call(t, "DELETE", below+gone, nil)
		standIn.Put(stood+"/"+gone, string(text))
		standIn.Delete(stood + "/" + gone)
		put("other/"+bare, object{"type": "opaque", "value": "00"})
		standIn.Put(stood+"/other/"+bare, `{"type": "opaque", "value": "00"}`)

		ours := config(t, name, version)
		theirs := ours
		theirs.Address, theirs.Mount, theirs.Login = address, stood, certcache.VaultToken(always(standIn.Token()))
		for _, tt := range []struct {
			name   string
			id     string
			change func(cfg *certcache.VaultConfig)
			want   string
		}{
			{"an entry", id, func(*certcache.VaultConfig) {}, "ok"},
			{"no entry", strings.Repeat("f", 8) + id[8:], func(*certcache.VaultConfig) {}, "not found"},
			{"a deleted one", dashed(gone), func(*certcache.VaultConfig) {}, "not found"},
			{"another type", id, func(cfg *certcache.VaultConfig) { cfg.Path = "other" }, "not a certificate"},
			{"nothing mounted", id, func(cfg *certcache.VaultConfig) { cfg.Mount = "nowhere" }, "unavailable"},
			{"another version", id, func(cfg *certcache.VaultConfig) { cfg.Version = 3 - version }, map[int]string{1: "not found", 2: "unavailable"}[version]},
			{"a wrong token", id, func(cfg *certcache.VaultConfig) { cfg.Login = certcache.VaultToken(always("hvs.wrong")) }, "unavailable"},
			{"no token", id, func(cfg *certcache.VaultConfig) { cfg.Login = certcache.VaultToken(always("")) }, "unavailable"},
			{"a wrong AppRole", id, func(cfg *certcache.VaultConfig) {
				cfg.Login = certcache.VaultAppRole("nowhere", "role", always("secret"))
			}, "unavailable"},
		} {
			var said [2]string
			for i, cfg := range []certcache.VaultConfig{ours, theirs} {
				tt.change(&cfg)
				_, err := certcache.NewVault(cfg).Certificate(t.Context(), certcache.Ref{ID: tt.id})
				said[i] = strings.NewReplacer(name, "MOUNT", stood, "MOUNT").Replace(fmt.Sprint(class(err), ": ", err))
			}
			if said[0] != said[1] || !strings.HasPrefix(said[0], tt.want+":") {
				t.Errorf("%s, version %d:\nVault     %s\nstand-in  %s\nwant      %s", tt.name, version, said[0], said[1], tt.want)
			}
		}
	}
}

// role makes an AppRole whose tokens live for ttl, and returns its ids. The secret id serves uses times; 0 is for ever.
func role(t *testing.T, mount, ttl string, uses int) (roleID, secretID string) {
	t.Helper()
	call(t, "PUT", "sys/policies/acl/signers", object{"policy": `path "` + mount + `/*" { capabilities = ["read"] }`})
	call(t, "POST", "sys/auth/approle", object{"type": "approle"})
	t.Cleanup(func() { call(t, "DELETE", "sys/auth/approle", nil) })
	call(t, "POST", "auth/approle/role/countersign", object{"token_policies": "signers", "token_ttl": ttl, "secret_id_num_uses": uses})
	roleID = call(t, "GET", "auth/approle/role/countersign/role-id", nil)["data"].(object)["role_id"].(string)
	return roleID, anotherSecretID(t)
}

func anotherSecretID(t *testing.T) string {
	t.Helper()
	return call(t, "POST", "auth/approle/role/countersign/secret-id", object{})["data"].(object)["secret_id"].(string)
}

func put(t *testing.T, mount string) {
	t.Helper()
	call(t, "POST", mount+"/"+bare, object{"type": "certificate", "value": "646572"})
}

// A secret id that serves once is enough for as long as Keep renews the token.
func TestAppRole(t *testing.T) {
	name := mount(t, 1)
	put(t, name)
	roleID, secretID := role(t, name, "6s", 1)
	cfg := config(t, name, 1)
	cfg.Login = certcache.VaultAppRole("approle", roleID, always(secretID))
	v := certcache.NewVault(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	done, reports := make(chan struct{}), make(chan error, 100)
	go func() { defer close(done); v.Keep(ctx, func(err error) { reports <- err }) }()
	for range 3 { // a login and two renewals: beyond the first lease
		if err := <-reports; err != nil {
			t.Errorf("Keep reported %v", err)
		}
	}
	if _, err := v.Certificate(t.Context(), certcache.Ref{ID: id}); err != nil {
		t.Errorf("after two renewals: %v", err)
	}
	cancel()
	<-done
	// What the role may not read is nobody's certificate.
	cfg.Mount = mount(t, 1)
	cfg.Login = certcache.VaultAppRole("approle", roleID, always(anotherSecretID(t)))
	if _, err := certcache.NewVault(cfg).Certificate(t.Context(), certcache.Ref{ID: id}); class(err) != "unavailable" || !strings.Contains(err.Error(), "403") {
		t.Errorf("of another mount: %v, want unavailable, 403", err)
	}
}

// A token that was revoked costs a login, and no upload.
func TestRevokedToken(t *testing.T) {
	name := mount(t, 1)
	put(t, name)
	roleID, secretID := role(t, name, "1h", 0)
	cfg := config(t, name, 1)
	cfg.Login = certcache.VaultAppRole("approle", roleID, always(secretID))
	now := time.Now()
	cfg.Now = func() time.Time { return now }
	v := certcache.NewVault(cfg)
	for range 2 {
		if _, err := v.Certificate(t.Context(), certcache.Ref{ID: id}); err != nil {
			t.Errorf("Certificate = %v", err)
		}
		call(t, "POST", "sys/leases/revoke-prefix/auth/approle/login", nil)
		now = now.Add(time.Minute)
	}
}

// segment encodes a part of a JSON Web Token.
func segment(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}

func TestJWT(t *testing.T) {
	name := mount(t, 1)
	put(t, name)
	call(t, "PUT", "sys/policies/acl/signers", object{"policy": `path "` + name + `/*" { capabilities = ["read"] }`})
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	call(t, "POST", "sys/auth/spiffe", object{"type": "jwt"})
	t.Cleanup(func() { call(t, "DELETE", "sys/auth/spiffe", nil) })
	call(t, "POST", "auth/spiffe/config", object{"jwt_validation_pubkeys": []string{string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))}})
	call(t, "POST", "auth/spiffe/role/countersign", object{
		"role_type": "jwt", "user_claim": "sub", "bound_audiences": []string{"vault"}, "token_policies": "signers", "token_ttl": "1h",
	})
	token := segment(object{"alg": "EdDSA", "typ": "JWT"}) + "." + segment(object{
		"sub": "countersign", "aud": "vault", "iat": time.Now().Unix(), "nbf": time.Now().Add(-time.Minute).Unix(), "exp": time.Now().Add(time.Hour).Unix(),
	})
	token += "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(private, []byte(token)))
	for _, tt := range []struct{ role, jwt, want string }{
		{"countersign", token, "ok"},
		{"other", token, "unavailable"},
		{"countersign", token[:len(token)-6] + "AAAAAA", "unavailable"},
	} {
		cfg := config(t, name, 1)
		cfg.Login = certcache.VaultJWT("spiffe", tt.role, always(tt.jwt))
		if _, err := certcache.NewVault(cfg).Certificate(t.Context(), certcache.Ref{ID: id}); class(err) != tt.want {
			t.Errorf("role %s: Certificate = %v, want %s", tt.role, err, tt.want)
		}
	}
}

// Vault asks Kubernetes whose the token is: a server that answers TokenReviews stands for it.
func TestKubernetes(t *testing.T) {
	name := mount(t, 1)
	put(t, name)
	call(t, "PUT", "sys/policies/acl/signers", object{"policy": `path "` + name + `/*" { capabilities = ["read"] }`})
	claims := segment(object{
		"iss": "kubernetes/serviceaccount", "exp": time.Now().Add(time.Hour).Unix(), "iat": time.Now().Unix(), "sub": "system:serviceaccount:images:countersign",
		"kubernetes.io": object{"namespace": "images", "serviceaccount": object{"name": "countersign", "uid": "u-1"}},
	})
	good := segment(object{"alg": "RS256"}) + "." + claims + "." + base64.RawURLEncoding.EncodeToString([]byte("signature"))
	cluster := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review struct {
			Spec struct{ Token string } `json:"spec"`
		}
		_ = json.NewDecoder(r.Body).Decode(&review)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusCreated)
		_ = json.NewEncoder(w).Encode(object{
			"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
			"status": object{"authenticated": review.Spec.Token == good, "user": object{
				"username": "system:serviceaccount:images:countersign", "uid": "u-1", "groups": []string{"system:serviceaccounts", "system:serviceaccounts:images"},
			}},
		})
	}))
	defer cluster.Close()
	call(t, "POST", "sys/auth/kubernetes", object{"type": "kubernetes"})
	t.Cleanup(func() { call(t, "DELETE", "sys/auth/kubernetes", nil) })
	call(t, "POST", "auth/kubernetes/config", object{"kubernetes_host": cluster.URL, "token_reviewer_jwt": "reviewer", "disable_iss_validation": true, "disable_local_ca_jwt": true})
	call(t, "POST", "auth/kubernetes/role/countersign", object{
		"bound_service_account_names": "countersign", "bound_service_account_namespaces": "images", "token_policies": "signers", "token_ttl": "1h",
	})
	for token, want := range map[string]string{good: "ok", good + "x": "unavailable"} {
		cfg := config(t, name, 1)
		cfg.Login = certcache.VaultJWT("kubernetes", "countersign", always(token))
		if _, err := certcache.NewVault(cfg).Certificate(t.Context(), certcache.Ref{ID: id}); class(err) != want {
			t.Errorf("Certificate = %v, want %s", err, want)
		}
	}
}

// Sealed, Vault answers nothing; unsealed, it does again.
func TestSealed(t *testing.T) {
	name := mount(t, 1)
	put(t, name)
	v := certcache.NewVault(config(t, name, 1))
	call(t, "PUT", "sys/seal", nil)
	_, err := v.Certificate(t.Context(), certcache.Ref{ID: id})
	if class(err) != "unavailable" || !strings.Contains(err.Error(), "sealed") {
		t.Errorf("while it is sealed: %v", err)
	}
	call(t, "PUT", "sys/unseal", object{"key": real.Key})
	if _, err := v.Certificate(t.Context(), certcache.Ref{ID: id}); err != nil {
		t.Errorf("after it was unsealed: %v", err)
	}
}

// typed runs the commands of a section of the manual in a folder with a certificate, and returns the id that they print.
func typed(t *testing.T, section string, environment ...string) (id string, certificate []byte) {
	t.Helper()
	manual, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(manual), "\n### "+section+"\n")
	_, text, _ = strings.Cut(text, "\n```sh\n")
	commands, _, found := strings.Cut(text, "\n```\n")
	if !found {
		t.Fatalf("the section %q of the manual has no commands", section)
	}
	cmd := exec.Command("sh", "-euc", "openssl req -x509 -newkey rsa:2048 -noenc -keyout key.pem -out certificate.pem -days 1 -subj '/CN=test' 2>openssl.log\n"+commands)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), environment...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, id, found = strings.Cut(strings.TrimSpace(string(out)), "img_signature_certificate_uuid=")
	if !found {
		t.Fatalf("the commands print no id: %s", out)
	}
	written, err := os.ReadFile(cmd.Dir + "/certificate.pem")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(written)
	return id, block.Bytes
}

// The manual's commands store what is read: by us, and from Vault by castellan.
func TestTheManualsCommands(t *testing.T) {
	call(t, "POST", "sys/mounts/secret", object{"type": "kv", "options": object{"version": "2"}})
	t.Cleanup(func() { call(t, "DELETE", "sys/mounts/secret", nil) })
	await(t, "secret")
	id, der := typed(t, "Vault", "VAULT_ADDR="+real.Address, "VAULT_TOKEN="+real.Token)
	got, err := certcache.NewVault(config(t, "secret", 2)).Certificate(t.Context(), certcache.Ref{ID: dashed(id)})
	if err != nil || !bytes.Equal(got.Data, der) {
		t.Errorf("from Vault: %d bytes, %v, want the certificate's %d", len(got.Data), err, len(der))
	}
	if read := castellan(t, "secret", 2, "", "get", id); read != hex.EncodeToString(der) {
		t.Errorf("castellan reads %q", read)
	}

	directory := t.TempDir()
	id, der = typed(t, "A directory", "COUNTERSIGN_KEY_DIRECTORY="+directory)
	got, err = certcache.NewDirectory(directory).Certificate(t.Context(), certcache.Ref{ID: id})
	if block, _ := pem.Decode(got.Data); err != nil || block == nil || !bytes.Equal(block.Bytes, der) {
		t.Errorf("from the directory: %q, %v", got.Data, err)
	}
}
