package certcache_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/certcache"
	"github.com/countersign/countersign/certcache/vaulttest"
)

// bare is uuid as castellan names it.
const bare = "0d5b6c1e4a524e0b9f6e2f5a3c1d7e90"

// record is what castellan 4.0.0 stored for an X.509 certificate, with another value.
func record(data []byte) string {
	return fmt.Sprintf(`{"type": "certificate", "value": "%x", "algorithm": null, "bit_length": null, "name": "signer", "created": 1795372800}`, data)
}

// vault serves a stand-in that holds one certificate, and returns a Config that reads it with a token.
func vault(t *testing.T) (*vaulttest.Server, certcache.VaultConfig) {
	t.Helper()
	s := vaulttest.New()
	s.Put("secret/"+bare, record([]byte("der")))
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	address, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return s, certcache.VaultConfig{Address: address, Mount: "secret", Version: 2, Login: certcache.VaultToken(always(s.Token()))}
}

// always is a secret that does not change.
func always(secret string) func() (string, error) {
	return func() (string, error) { return secret, nil }
}

var reference = certcache.Ref{Owner: ownerA, ID: uuid, Token: tokenA}

func TestVaultRecords(t *testing.T) {
	s, cfg := vault(t)
	long := bytes.Repeat([]byte("x"), 100<<10)
	for _, tt := range []struct{ name, record, want, says string }{
		{"as castellan writes it", record([]byte("der")), "ok", ""},
		{"in capitals", `{"type": "certificate", "value": "646572AF"}`, "ok", ""},
		{"PEM", record([]byte("-----BEGIN CERTIFICATE-----")), "ok", ""},
		{"of 100 KiB", record(long), "ok", ""},
		{"another type", `{"type": "opaque", "value": "646572"}`, "not a certificate", `"opaque"`},
		{"no type", `{"value": "646572"}`, "not a certificate", `""`},
		{"no value", `{"type": "certificate"}`, "not a certificate", "empty"},
		{"null", `{"type": "certificate", "value": null}`, "not a certificate", "empty"},
		{"not hexadecimal", `{"type": "certificate", "value": "der!"}`, "not a certificate", "hexadecimal"},
		{"half a byte", `{"type": "certificate", "value": "646"}`, "not a certificate", "hexadecimal"},
		{"PEM as text", `{"type": "certificate", "value": "-----BEGIN"}`, "not a certificate", "hexadecimal"},
		{"a number", `{"type": "certificate", "value": 646572}`, "not a certificate", "castellan"},
		{"a list", `["certificate", "646572"]`, "not a certificate", "castellan"},
		{"text", `"certificate"`, "not a certificate", "castellan"},
		{"larger than an answer may be", record(bytes.Repeat([]byte("x"), 128<<10)), "unavailable", "larger than"},
	} {
		for version, mount := range map[int]string{1: "kv", 2: "secret"} {
			s.Put(mount+"/"+bare, tt.record)
			cfg := cfg
			cfg.Mount, cfg.Version = mount, version
			got, err := certcache.NewVault(cfg).Certificate(t.Context(), reference)
			if class(err) != tt.want {
				t.Errorf("%s, version %d: Certificate = %q, %v, want %s", tt.name, version, got.Data, err, tt.want)
			}
			if err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%s, version %d: the error %q does not say %q", tt.name, version, err, tt.says)
			}
			if err == nil && !strings.Contains(strings.ToLower(tt.record), hex.EncodeToString(got.Data)) {
				t.Errorf("%s, version %d: Data = %x, which is not in %s", tt.name, version, got.Data, tt.record)
			}
		}
	}
}

func TestVaultPlaces(t *testing.T) {
	s, cfg := vault(t)
	s.Put("secret/image/signers/"+bare, record([]byte("below")))
	s.Put("kv/image/"+bare, record([]byte("first")))
	for _, tt := range []struct {
		mount     string
		version   int
		path      string
		want      string
		requested string
	}{
		{"secret", 2, "", "der", "/v1/secret/data/" + bare},
		{"/secret/", 2, "/", "der", "/v1/secret/data/" + bare},
		{"secret", 2, "image/signers", "below", "/v1/secret/data/image/signers/" + bare},
		{"secret", 2, "image/signers/", "below", "/v1/secret/data/image/signers/" + bare},
		{"kv", 1, "image", "first", "/v1/kv/image/" + bare},
	} {
		cfg.Mount, cfg.Version, cfg.Path = tt.mount, tt.version, tt.path
		got, err := certcache.NewVault(cfg).Certificate(t.Context(), reference)
		if err != nil || string(got.Data) != tt.want {
			t.Errorf("%+v: Certificate = %q, %v", tt, got.Data, err)
		}
		if requests := s.Requests(); !slices.Equal(requests, []string{"GET " + tt.requested}) {
			t.Errorf("%+v: requests %q", tt, requests)
		}
	}

	// An address with a path of its own, and a namespace.
	behind := httptest.NewServer(http.StripPrefix("/prefix", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Vault-Namespace") != "cloud/images" || r.Header.Get("X-Vault-Request") != "true" {
			t.Errorf("headers %v", r.Header)
		}
		s.ServeHTTP(w, r)
	})))
	defer behind.Close()
	cfg.Address, _ = url.Parse(behind.URL + "/prefix/")
	cfg.Namespace, cfg.Mount, cfg.Version, cfg.Path = "cloud/images", "secret", 2, ""
	if _, err := certcache.NewVault(cfg).Certificate(t.Context(), reference); err != nil {
		t.Errorf("behind a prefix: %v", err)
	}
}

// What is wrong with Vault, or with us, is no answer about a certificate.
func TestVaultRefusals(t *testing.T) {
	for _, tt := range []struct {
		name   string
		break_ func(s *vaulttest.Server, cfg *certcache.VaultConfig)
		want   string
		says   string
	}{
		{"no such entry", func(s *vaulttest.Server, cfg *certcache.VaultConfig) { cfg.Path = "elsewhere" }, "not found", ""},
		{"a deleted version", func(s *vaulttest.Server, cfg *certcache.VaultConfig) { s.Delete("secret/" + bare) }, "not found", ""},
		{"sealed", func(s *vaulttest.Server, cfg *certcache.VaultConfig) { s.Seal(true) }, "unavailable", "sealed"},
		{"a revoked token", func(s *vaulttest.Server, cfg *certcache.VaultConfig) { s.Revoke() }, "unavailable", "403"},
		{"an entry that is denied", func(s *vaulttest.Server, cfg *certcache.VaultConfig) { s.Deny("secret/" + bare) }, "unavailable", "403"},
		{"nothing mounted there", func(s *vaulttest.Server, cfg *certcache.VaultConfig) { cfg.Mount = "wrong" }, "unavailable", `"wrong"`},
		{"version 2 asked as 1", func(s *vaulttest.Server, cfg *certcache.VaultConfig) { cfg.Version = 1 }, "unavailable", "not of version 1"},
		{"no token", func(s *vaulttest.Server, cfg *certcache.VaultConfig) { cfg.Login = certcache.VaultToken(always("")) }, "unavailable", "403"},
		{"no token's file", func(s *vaulttest.Server, cfg *certcache.VaultConfig) {
			cfg.Login = certcache.VaultToken(func() (string, error) { return "", errors.New("no such file") })
		}, "unavailable", "no such file"},
	} {
		s, cfg := vault(t)
		tt.break_(s, &cfg)
		_, err := certcache.NewVault(cfg).Certificate(t.Context(), reference)
		if class(err) != tt.want || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: Certificate = %v, want %s that says %q", tt.name, err, tt.want, tt.says)
		}
		if n := len(s.Requests()); n > 1 {
			t.Errorf("%s: %d requests, want one", tt.name, n)
		}
	}
}

// Every status, with a body that names the token, and one that says 'not found' as others do.
func TestVaultStatuses(t *testing.T) {
	s, cfg := vault(t)
	text := s.Token()
	cfg.Login = certcache.VaultToken(always(text))
	for code := 200; code < 600; code++ {
		for _, body := range []string{`{"errors": ["` + text + `"]}`, text, "{}", `{"errors": null}`, "null", `{"data": null}`, ""} {
			s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				w.Header().Set("Location", "/v1/elsewhere")
				w.WriteHeader(code)
				if code != 204 && code != 304 {
					_, _ = w.Write([]byte(body))
				}
				return true
			})
			_, err := certcache.NewVault(cfg).Certificate(t.Context(), reference)
			if class(err) != "unavailable" {
				t.Errorf("%d with %q: Certificate = %v, want unavailable", code, body, err)
			}
			if err != nil && strings.Contains(err.Error(), text) {
				t.Errorf("%d: the error %q names the token", code, err)
			}
			if n := len(s.Requests()); n != 1 {
				t.Errorf("%d: %d requests, want one: nothing is repeated or followed", code, n)
			}
		}
	}
}

func TestVaultGarbage(t *testing.T) {
	s, cfg := vault(t)
	for name, body := range map[string]string{
		"a list":            `[{"data": {}}]`,
		"no data":           `{"data": null}`,
		"version 1's":       `{"data": {"type": "certificate", "value": "00"}}`,
		"data that is text": `{"data": "certificate"}`,
		"no end":            `{"data": ` + strings.Repeat(" ", 300<<10) + `{"data": {"type": "certificate", "value": "00"}}}`,
		"half":              `{"data": {"data": {"type": "certificate", "value": "00"`,
		"a strange end":     `{"data": {"data": {"type": "certificate", "value": "00"}, "metadata": {"deletion_time": "soon"}}}`,
		"html":              "<html>",
	} {
		s.Intercept(func(w http.ResponseWriter, r *http.Request) bool { _, _ = w.Write([]byte(body)); return true })
		if _, err := certcache.NewVault(cfg).Certificate(t.Context(), reference); class(err) != "unavailable" {
			t.Errorf("%s: Certificate = %v, want unavailable", name, err)
		}
	}
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool { panic(http.ErrAbortHandler) })
	if _, err := certcache.NewVault(cfg).Certificate(t.Context(), reference); class(err) != "unavailable" {
		t.Errorf("a broken connection: Certificate = %v, want unavailable", err)
	}
}

// A version that Vault will delete is not remembered for longer.
func TestVaultDeletionTime(t *testing.T) {
	s, cfg := vault(t)
	at := time.Now().Add(time.Hour).Round(0)
	s.DeleteAt("secret/"+bare, at)
	got, err := certcache.NewVault(cfg).Certificate(t.Context(), reference)
	if err != nil || !got.Expires.Equal(at) {
		t.Errorf("Certificate expires at %v, %v, want %v", got.Expires, err, at)
	}
}

func TestVaultSlow(t *testing.T) {
	s, cfg := vault(t)
	s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
		_, _ = io.Copy(io.Discard, r.Body) // until then the server does not see that the client has left
		<-r.Context().Done()
		return true
	})
	s.AppRole("approle", "role", "secret", -1)
	for name, login := range map[string]certcache.VaultLogin{
		"the answer": cfg.Login, "the login": certcache.VaultAppRole("approle", "role", always("secret")),
	} {
		cfg.Login = login
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := certcache.NewVault(cfg).Certificate(ctx, reference)
		if class(err) != "unavailable" || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("slow %s: Certificate = %v, want unavailable for the deadline", name, err)
		}
		cancel()
	}
}

// Neither token nor proof goes to another place.
func TestVaultRedirect(t *testing.T) {
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("redirect followed with the headers %v", r.Header)
	}))
	defer thief.Close()
	for _, code := range []int{301, 302, 303, 307, 308} {
		s, cfg := vault(t)
		s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, thief.URL+r.URL.Path, code)
			return true
		})
		cfg.HTTPClient = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}
		for _, login := range []certcache.VaultLogin{cfg.Login, certcache.VaultAppRole("approle", "role", always("secret"))} {
			cfg.Login = login
			if _, err := certcache.NewVault(cfg).Certificate(t.Context(), reference); class(err) != "unavailable" {
				t.Errorf("%d: Certificate = %v, want unavailable", code, err)
			}
		}
	}
}

func TestVaultTLS(t *testing.T) {
	s, cfg := vault(t)
	secure := httptest.NewTLSServer(s)
	defer secure.Close()
	cfg.Address, _ = url.Parse(secure.URL)
	for _, tt := range []struct {
		client *http.Client
		want   string
	}{{secure.Client(), "ok"}, {nil, "unavailable"}} {
		cfg.HTTPClient = tt.client
		if _, err := certcache.NewVault(cfg).Certificate(t.Context(), reference); class(err) != tt.want {
			t.Errorf("client %v: Certificate = %v, want %s", tt.client, err, tt.want)
		}
	}
}

func TestVaultStore(t *testing.T) {
	s, cfg := vault(t)
	for version, mount := range map[int]string{1: "kv", 2: "secret"} {
		cfg.Version, cfg.Mount, cfg.Path = version, mount, "signers"
		v := certcache.NewVault(cfg)
		if err := v.Store(t.Context(), uuid, "build server", []byte("der")); err != nil {
			t.Fatal(err)
		}
		got, err := v.Certificate(t.Context(), reference)
		if err != nil || string(got.Data) != "der" {
			t.Errorf("version %d: stored and read: %q, %v", version, got.Data, err)
		}
		for _, member := range []string{`"name":"build server"`, `"created":`, `"algorithm":null`, `"bit_length":null`, `"type":"certificate"`} {
			if entry := s.Entry(mount + "/signers/" + bare); !strings.Contains(entry, member) {
				t.Errorf("version %d: the entry %s lacks %s", version, entry, member)
			}
		}
	}
	cfg.Mount, cfg.Version, cfg.Path = "secret", 2, ""
	if err := certcache.NewVault(cfg).Store(t.Context(), uuid, "other", []byte("other")); err == nil || !strings.Contains(s.Entry("secret/"+bare), hex.EncodeToString([]byte("der"))) {
		t.Errorf("Store over another's entry = %v, and it is now %s", err, s.Entry("secret/"+bare))
	}
	if err := certcache.NewVault(cfg).Store(t.Context(), "../"+uuid[3:], "x", []byte("x")); class(err) != "not a certificate" {
		t.Errorf("Store under a path = %v", err)
	}
}

func FuzzVaultAnswer(f *testing.F) {
	for _, seed := range []string{
		`{"data": {"data": ` + record([]byte("der")) + `, "metadata": {"deletion_time": ""}}}`,
		`{"data": ` + record([]byte("der")) + `}`,
		`{"errors": []}`, `{"errors": ["no handler"]}`, `{"data": {"data": null}}`, `{"warnings": ["x"]}`,
	} {
		for _, status := range []int{200, 404} {
			f.Add(status, []byte(seed))
		}
	}
	address := &url.URL{Scheme: "http", Host: "vault"}
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		if status < 200 || status > 599 {
			return
		}
		client := &http.Client{Transport: answering(func(*http.Request) *http.Response {
			answer := httptest.NewRecorder()
			answer.WriteHeader(status)
			_, _ = answer.Write(body)
			return answer.Result()
		})}
		for version := 1; version <= 2; version++ {
			v := certcache.NewVault(certcache.VaultConfig{Address: address, Mount: "secret", Version: version, Login: certcache.VaultToken(always("t")), HTTPClient: client})
			got, err := v.Certificate(t.Context(), reference)
			switch c := class(err); {
			case c == "forbidden", c == "unauthorized", strings.HasPrefix(c, "unknown"):
				t.Errorf("%d with %q: %v", status, body, err)
			case c == "not found" && status != 404, c == "not a certificate" && status != 200:
				t.Errorf("%d with %q: %v", status, body, err)
			case c == "ok" && (status != 200 || len(got.Data) == 0 || !bytes.Contains(bytes.ToLower(body), []byte(hex.EncodeToString(got.Data)[:2]))):
				t.Errorf("%d with %q: Certificate = %x", status, body, got.Data)
			}
		}
	})
}

// answering is a transport without a network, which a synctest bubble needs.
type answering func(*http.Request) *http.Response

func (a answering) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	return a(r), nil
}
