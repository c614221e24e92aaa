package keystone_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/proxy/keystone"
)

func TestValidate(t *testing.T) {
	f := newFake(t)
	c := f.client()
	want := keystone.Identity{
		UserID: "u1", UserName: "alice", UserDomain: "Default", ProjectID: "p1", ProjectName: "demo", ProjectDomain: "Default",
		Roles: []string{"member", "reader"}, Expires: f.clock.Now().Add(time.Hour).UTC(),
	}
	for range 3 {
		got, err := c.Validate(t.Context(), userTok)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("Validate = %+v, %v, want %+v", got, err, want)
		}
		got.Roles[0] = "admin" // the caller's own copy
	}
	if got := f.seen(); len(got) != 2 {
		t.Errorf("requests %q, want an authentication and one validation", got)
	}
	// A token without a project has none.
	f.with(func() {
		shown := f.describe("u2", "bob", time.Hour)
		delete(shown, "project")
		delete(shown, "roles")
		f.tokens["gAAAAA-unscoped"] = shown
	})
	got, err := c.Validate(t.Context(), "gAAAAA-unscoped")
	if err != nil || got.UserName != "bob" || got.ProjectID != "" || got.Roles != nil {
		t.Errorf("Validate = %+v, %v, want bob without project or roles", got, err)
	}
}

func TestValidateRemembers(t *testing.T) {
	for _, tt := range []struct {
		name       string
		life, kept time.Duration
	}{{"a minute at most", time.Hour, time.Minute}, {"not beyond expiry", 20 * time.Second, 20 * time.Second}} {
		f := newFake(t)
		f.tokens[userTok] = f.describe("u1", "alice", tt.life)
		c := f.client()
		if _, err := c.Validate(t.Context(), userTok); err != nil {
			t.Fatal(err)
		}
		f.revoke(userTok)
		f.clock.move(tt.kept - 1)
		if _, err := c.Validate(t.Context(), userTok); err != nil {
			t.Errorf("%s: Validate = %v just before the end", tt.name, err)
		}
		f.clock.move(1)
		if _, err := c.Validate(t.Context(), userTok); !errors.Is(err, keystone.ErrInvalidToken) {
			t.Errorf("%s: Validate = %v at the end, want ErrInvalidToken", tt.name, err)
		}
	}
}

func TestValidateInvalid(t *testing.T) {
	f := newFake(t)
	c := f.client()
	const late = "gAAAAA-not-issued-yet"
	for _, step := range []struct {
		move     time.Duration
		requests int
	}{{0, 2}, {0, 2}, {5*time.Second - 1, 2}, {1, 3}} {
		f.clock.move(step.move)
		_, err := c.Validate(t.Context(), late)
		if !errors.Is(err, keystone.ErrInvalidToken) || f.total() != step.requests {
			t.Errorf("after %v: Validate = %v and %d requests, want ErrInvalidToken and %d", step.move, err, f.total(), step.requests)
		}
		discreet(t, err)
	}
	f.with(func() { f.tokens[late] = f.describe("u1", "alice", time.Hour) })
	f.clock.move(5 * time.Second)
	if _, err := c.Validate(t.Context(), late); err != nil {
		t.Errorf("Validate = %v when it is valid", err)
	}
	if _, err := c.Validate(t.Context(), ""); !errors.Is(err, keystone.ErrInvalidToken) {
		t.Errorf("Validate of nothing = %v, want ErrInvalidToken", err)
	}
}

// Any number of invalid tokens displaces no valid one.
func TestValidateGarbageDisplacesNothing(t *testing.T) {
	f := newFake(t)
	c := f.client(func(cfg *keystone.Config) { cfg.HTTPClient = &http.Client{Transport: wireless{f}} })
	if _, err := c.Validate(t.Context(), userTok); err != nil {
		t.Fatal(err)
	}
	for i := range 5000 {
		if _, err := c.Validate(t.Context(), fmt.Sprint("gAAAAA-garbage-", i)); !errors.Is(err, keystone.ErrInvalidToken) {
			t.Fatalf("Validate = %v, want ErrInvalidToken", err)
		}
	}
	f.seen()
	if _, err := c.Validate(t.Context(), userTok); err != nil || f.total() != 0 {
		t.Errorf("Validate = %v after %d requests, want none", err, f.total())
	}
}

// wireless is a transport that calls the handler itself, where many requests are made.
type wireless struct{ handler http.Handler }

func (w wireless) RoundTrip(r *http.Request) (*http.Response, error) {
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, r)
	return answer.Result(), nil
}

// Our own token is revoked: that is nobody else's fault, and put right with a new one.
func TestValidateWithRevokedServiceToken(t *testing.T) {
	f := newFake(t)
	c := f.client()
	mine, err := c.Token(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f.clock.move(time.Minute)
	f.revoke(mine)
	if got, err := c.Validate(t.Context(), userTok); err != nil || got.UserID != "u1" {
		t.Errorf("Validate = %+v, %v, want u1", got, err)
	}
	f.revoke("gAAAAA-service-token-2")
	f.clock.move(time.Minute)
	if _, err := c.Validate(t.Context(), "gAAAAA-bad"); !errors.Is(err, keystone.ErrInvalidToken) {
		t.Errorf("Validate of a bad token = %v, want ErrInvalidToken", err)
	}
	if token, err := c.Token(t.Context()); err != nil || token != "gAAAAA-service-token-3" {
		t.Errorf("Token = %q, %v, want the third", token, err)
	}
}

// 401 to whatever we ask: either our token is bad, and nobody knows, or it is good, and so it is the subject's.
func TestValidateWhose401(t *testing.T) {
	for _, tt := range []struct {
		name    string
		ours    bool // the service token validates itself
		invalid bool
	}{{"the subject's", true, true}, {"ours", false, false}} {
		f := newFake(t)
		c := f.client()
		f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			own := r.Header.Get("X-Subject-Token") == r.Header.Get("X-Auth-Token")
			if r.Method == "POST" || own && tt.ours {
				return false
			}
			fail(w, 401, r.Header.Get("X-Subject-Token"))
			return true
		})
		for range 3 {
			f.clock.move(time.Minute)
			_, err := c.Validate(t.Context(), userTok)
			if err == nil || errors.Is(err, keystone.ErrInvalidToken) != tt.invalid {
				t.Errorf("%s: Validate = %v, want ErrInvalidToken: %v", tt.name, err, tt.invalid)
			}
			discreet(t, err)
		}
		if n := f.total(); n > 15 {
			t.Errorf("%s: %d requests for three questions", tt.name, n)
		}
	}
}

// What is no word of Keystone's about the token is neither yes nor no, and is not remembered.
func TestValidateUnknown(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"400":             func(w http.ResponseWriter, r *http.Request) { fail(w, 400, userTok) },
		"403":             func(w http.ResponseWriter, r *http.Request) { fail(w, 403, userTok) },
		"a gateway's 404": func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) },
		"500":             func(w http.ResponseWriter, r *http.Request) { fail(w, 500, userTok) },
		"503":             func(w http.ResponseWriter, r *http.Request) { fail(w, 503, userTok) },
		"302":             func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/v3/elsewhere", http.StatusFound) },
		"204":             func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(204) },
		"nothing":         func(w http.ResponseWriter, r *http.Request) {},
		"html":            func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("<p>" + userTok)) },
		"no token":        func(w http.ResponseWriter, r *http.Request) { write(w, 200, object{}) },
		"no user": func(w http.ResponseWriter, r *http.Request) {
			write(w, 200, object{"token": object{"expires_at": "2999-01-01T00:00:00Z"}})
		},
		"no expiry": func(w http.ResponseWriter, r *http.Request) {
			write(w, 200, object{"token": object{"user": object{"id": "u1"}}})
		},
		"a strange expiry": func(w http.ResponseWriter, r *http.Request) {
			write(w, 200, object{"token": object{"user": object{"id": "u1"}, "expires_at": userTok}})
		},
		"too much": func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(strings.Repeat(" ", 5<<20)))
			write(w, 200, object{"token": object{"user": object{"id": "u1"}, "expires_at": "2999-01-01T00:00:00Z"}})
		},
		"a broken connection": func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
	} {
		f := newFake(t)
		c := f.client()
		f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == "POST" {
				return false
			}
			answer(w, r)
			return true
		})
		_, err := c.Validate(t.Context(), userTok)
		if err == nil || errors.Is(err, keystone.ErrInvalidToken) {
			t.Errorf("%s: Validate = %v, want an error that says neither yes nor no", name, err)
		}
		discreet(t, err)
		f.intercept(nil)
		if got, err := c.Validate(t.Context(), userTok); err != nil || got.UserID != "u1" {
			t.Errorf("%s: afterwards Validate = %+v, %v, want u1", name, got, err)
		}
	}
}

func TestValidateExpired(t *testing.T) {
	f := newFake(t)
	c := f.client()
	f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == "POST" {
			return false
		}
		write(w, 200, object{"token": object{"user": object{"id": "u1"}, "expires_at": f.clock.Now().UTC().Format(time.RFC3339)}})
		return true
	})
	if _, err := c.Validate(t.Context(), userTok); !errors.Is(err, keystone.ErrInvalidToken) {
		t.Errorf("Validate = %v, want ErrInvalidToken: it expires now", err)
	}
}
