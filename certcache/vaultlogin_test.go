package certcache_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/certcache"
	"github.com/countersign/countersign/certcache/vaulttest"
)

const (
	read    = "GET /v1/secret/data/" + bare
	appRole = "POST /v1/auth/approle/login"
	renewal = "POST /v1/auth/token/renew-self"
)

// bubble returns a stand-in whose tokens live for an hour, and a Vault that logs in by AppRole; no network is used, so that
// synctest's clock counts.
func bubble(s *vaulttest.Server, login certcache.VaultLogin) *certcache.Vault {
	s.Put("secret/"+bare, record([]byte("der")))
	return certcache.NewVault(certcache.VaultConfig{
		Address: &url.URL{Scheme: "http", Host: "vault"}, Mount: "secret", Version: 2, Login: login,
		HTTPClient: &http.Client{Transport: answering(func(r *http.Request) *http.Response {
			answer := httptest.NewRecorder()
			s.ServeHTTP(answer, r)
			return answer.Result()
		})},
	})
}

func byAppRole() certcache.VaultLogin {
	return certcache.VaultAppRole("approle", "role", always("s3cret-id"))
}

// wants compares the requests since the last call.
func wants(t *testing.T, when string, s *vaulttest.Server, want ...string) {
	t.Helper()
	if got := s.Requests(); !slices.Equal(got, want) {
		t.Errorf("%s: requests %q, want %q", when, got, want)
	}
}

func TestVaultLogins(t *testing.T) {
	s, cfg := vault(t)
	s.AppRole("approle", "role", "secret", -1)
	s.AppRole("other/place", "role", "", -1)
	s.JWT("kubernetes", "image", "header.claims.signature")
	for _, tt := range []struct {
		name  string
		login certcache.VaultLogin
		want  string
		says  string
	}{
		{"AppRole", certcache.VaultAppRole("approle", "role", always("secret")), "ok", ""},
		{"AppRole without a secret id, elsewhere", certcache.VaultAppRole("other/place", "role", always("")), "ok", ""},
		{"another role", certcache.VaultAppRole("approle", "other", always("secret")), "unavailable", "does not accept"},
		{"another secret id", certcache.VaultAppRole("approle", "role", always("s3cret")), "unavailable", "does not accept"},
		{"no such method", certcache.VaultAppRole("nowhere", "role", always("secret")), "unavailable", "does not accept"},
		{"Kubernetes", certcache.VaultJWT("kubernetes", "image", always("header.claims.signature")), "ok", ""},
		{"another role of Kubernetes", certcache.VaultJWT("kubernetes", "other", always("header.claims.signature")), "unavailable", "does not accept"},
		{"a file that is gone", certcache.VaultJWT("kubernetes", "image", func() (string, error) { return "", errors.New("no such file") }), "unavailable", "no such file"},
	} {
		cfg.Login = tt.login
		_, err := certcache.NewVault(cfg).Certificate(t.Context(), reference)
		if class(err) != tt.want {
			t.Errorf("%s: Certificate = %v, want %s", tt.name, err, tt.want)
		}
		if err != nil && (!strings.Contains(err.Error(), tt.says) || strings.Contains(err.Error(), "s3cret")) {
			t.Errorf("%s: the error %q does not say %q, or too much", tt.name, err, tt.says)
		}
	}
}

// Every status that a login may be answered with, and answers that are none.
func TestVaultLoginAnswers(t *testing.T) {
	s, cfg := vault(t)
	cfg.Login = byAppRole()
	for _, body := range []string{
		`{"auth": {"client_token": ""}}`, `{"auth": null}`, "{}", "", "s3cret-id", `{"auth": {"client_token": "t", "lease_duration": -1}}`,
		`{"auth": {"client_token": "t", "lease_duration": 9223372036854775807}}`, `{"auth": {"client_token": "t", "lease_duration": "1h"}}`,
	} {
		for _, status := range []int{200, 204, 301, 400, 401, 403, 404, 429, 500, 503} {
			s.Intercept(func(w http.ResponseWriter, r *http.Request) bool {
				w.WriteHeader(status)
				if status != 204 {
					_, _ = w.Write([]byte(body))
				}
				return true
			})
			_, err := certcache.NewVault(cfg).Certificate(t.Context(), reference)
			if class(err) != "unavailable" || strings.Contains(err.Error(), "s3cret-id") {
				t.Errorf("%d with %q: Certificate = %v, want unavailable", status, body, err)
			}
			wants(t, body, s, appRole)
		}
	}
}

// Who has a token uses it; who has none is waited for by all.
func TestVaultOneLogin(t *testing.T) {
	s, cfg := vault(t)
	s.AppRole("approle", "role", "s3cret-id", -1)
	cfg.Login = byAppRole()
	v := certcache.NewVault(cfg)
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			if _, err := v.Certificate(t.Context(), reference); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	logins := 0
	for _, request := range s.Requests() {
		if request == appRole {
			logins++
		}
	}
	if logins != 1 {
		t.Errorf("%d logins, want one", logins)
	}
}

// A token that ran out, or that was revoked, costs one login; what we may not read costs none each time.
func TestVaultTokenEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := vaulttest.New()
		s.Lease = time.Hour
		s.AppRole("approle", "role", "s3cret-id", -1)
		v := bubble(s, byAppRole())
		ask := func(when, class_ string, want ...string) {
			t.Helper()
			if _, err := v.Certificate(t.Context(), reference); class(err) != class_ {
				t.Errorf("%s: Certificate = %v, want %s", when, err, class_)
			}
			wants(t, when, s, want...)
		}
		ask("first", "ok", appRole, read)
		ask("again", "ok", read)
		time.Sleep(time.Hour)
		ask("after the lease", "ok", appRole, read)

		time.Sleep(time.Minute)
		s.Revoke()
		ask("after it was revoked", "ok", read, appRole, read)

		s.Deny("secret/" + bare)
		ask("denied, with a fresh token", "unavailable", read)
		time.Sleep(time.Minute)
		ask("denied, with an older one", "unavailable", read, appRole, read)
		ask("denied again", "unavailable", read)
	})
}

// A login that failed speaks for all who come within a second.
func TestVaultLoginFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := vaulttest.New()
		v := bubble(s, byAppRole())
		for range 10 {
			if _, err := v.Certificate(t.Context(), reference); class(err) != "unavailable" || !strings.Contains(err.Error(), "does not accept") {
				t.Errorf("Certificate = %v, want unavailable for the credential", err)
			}
		}
		wants(t, "ten at once", s, appRole)
		s.AppRole("approle", "role", "s3cret-id", -1)
		time.Sleep(time.Second)
		if _, err := v.Certificate(t.Context(), reference); err != nil {
			t.Errorf("a second later: %v", err)
		}
		wants(t, "a second later", s, appRole, read)
	})
}

// kept runs Keep until the test ends, and returns what it reported since the last call.
func kept(t *testing.T, v *certcache.Vault) func() []error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var reports []error
	done := make(chan struct{})
	go func() {
		defer close(done)
		v.Keep(ctx, func(err error) {
			mu.Lock()
			defer mu.Unlock()
			reports = append(reports, err)
		})
	}()
	t.Cleanup(func() { cancel(); <-done })
	return func() []error {
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		list := reports
		reports = nil
		return list
	}
}

// The secret id serves once: the lease is renewed while a third of it is left, for as long as Vault lets us.
func TestVaultKeep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := vaulttest.New()
		s.Lease = time.Hour
		s.AppRole("approle", "role", "s3cret-id", 1)
		reports := kept(t, bubble(s, byAppRole()))
		if got := reports(); len(got) != 1 || got[0] != nil {
			t.Errorf("at start Keep reported %v, want one nil", got)
		}
		wants(t, "at start", s, appRole)
		time.Sleep(40*time.Minute - time.Second)
		wants(t, "before two thirds", s)
		time.Sleep(2 * time.Second)
		wants(t, "after two thirds", s, renewal)
		time.Sleep(24 * time.Hour)
		for _, err := range reports() {
			if err != nil {
				t.Errorf("Keep reported %v", err)
			}
		}
		if got := s.Requests(); len(got) != 36 || slices.Contains(got, appRole) {
			t.Errorf("in a day: %d requests %q, want 36 renewals", len(got), got)
		}
	})
}

// Where a lease can no longer be had in full, or cannot be renewed at all, a login gives the next one.
func TestVaultKeepLogsInAgain(t *testing.T) {
	for _, tt := range []struct {
		name  string
		set   func(s *vaulttest.Server)
		want  []string
		after time.Duration
	}{
		{"a maximum TTL", func(s *vaulttest.Server) { s.Longest = 100 * time.Minute }, []string{appRole, renewal, renewal, appRole}, 95 * time.Minute},
		{"a batch token", func(s *vaulttest.Server) { s.Batch = true }, []string{appRole, appRole, appRole}, 90 * time.Minute},
		{"a token for ever", func(s *vaulttest.Server) { s.Lease = 0 }, []string{appRole}, 24 * time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := vaulttest.New()
			s.Lease = time.Hour
			tt.set(s)
			s.AppRole("approle", "role", "s3cret-id", -1)
			v := bubble(s, byAppRole())
			reports := kept(t, v)
			time.Sleep(tt.after)
			wants(t, tt.name, s, tt.want...)
			for _, err := range reports() {
				if err != nil {
					t.Errorf("%s: Keep reported %v", tt.name, err)
				}
			}
			if _, err := v.Certificate(t.Context(), reference); err != nil {
				t.Errorf("%s: %v", tt.name, err)
			}
		})
	}
}

// Vault is away for a while: the token that is left serves on, and Keep tries again every five seconds.
func TestVaultKeepThroughOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := vaulttest.New()
		s.Lease = time.Hour
		s.AppRole("approle", "role", "s3cret-id", 1)
		v := bubble(s, byAppRole())
		reports := kept(t, v)
		time.Sleep(39 * time.Minute)
		reports()
		s.Requests()
		s.Seal(true)
		time.Sleep(2 * time.Minute)
		failed := reports()
		if len(failed) < 10 || failed[len(failed)-1] == nil || !strings.Contains(failed[len(failed)-1].Error(), "sealed") {
			t.Errorf("while it was sealed Keep reported %v", failed)
		}
		if slices.Contains(s.Requests(), appRole) {
			t.Error("the secret id was spent on a Vault that is sealed")
		}
		s.Seal(false)
		time.Sleep(6 * time.Second)
		if got := reports(); len(got) == 0 || got[len(got)-1] != nil {
			t.Errorf("after it was unsealed Keep reported %v", got)
		}
		time.Sleep(2 * time.Hour)
		if _, err := v.Certificate(t.Context(), reference); err != nil {
			t.Errorf("two hours later: %v", err)
		}
	})
}

// There is nothing to keep of a token from a file.
func TestVaultKeepToken(t *testing.T) {
	_, cfg := vault(t)
	certcache.NewVault(cfg).Keep(t.Context(), func(err error) { t.Errorf("Keep reported %v", err) })
}
