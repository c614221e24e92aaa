package keystone_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/countersign/countersign/proxy/keystone"
)

func TestTokenIsRenewedAhead(t *testing.T) {
	f := newFake(t)
	c := f.client()
	for _, step := range []struct {
		move time.Duration
		want string
	}{
		{0, "gAAAAA-service-token-1"},
		{55*time.Minute - time.Second, "gAAAAA-service-token-1"},
		{time.Second, "gAAAAA-service-token-2"},
		{54 * time.Minute, "gAAAAA-service-token-2"},
		{24 * time.Hour, "gAAAAA-service-token-3"},
	} {
		f.clock.move(step.move)
		if got, err := c.Token(t.Context()); got != step.want || err != nil {
			t.Errorf("after %v: Token = %q, %v, want %q", step.move, got, err, step.want)
		}
	}
}

// A short-lived token is used for most of its life, too.
func TestTokenOfShortLife(t *testing.T) {
	f := newFake(t)
	f.life = time.Minute
	c := f.client()
	for _, step := range []struct {
		move time.Duration
		want string
	}{{0, "gAAAAA-service-token-1"}, {44 * time.Second, "gAAAAA-service-token-1"}, {time.Second, "gAAAAA-service-token-2"}} {
		f.clock.move(step.move)
		if got, err := c.Token(t.Context()); got != step.want || err != nil {
			t.Errorf("after %v: Token = %q, %v, want %q", step.move, got, err, step.want)
		}
	}
}

// As long as the token is good, nobody hears that a younger one could not be had; afterwards everybody does.
func TestTokenOutlivesOutage(t *testing.T) {
	f := newFake(t)
	c := f.client()
	if _, err := c.Token(t.Context()); err != nil {
		t.Fatal(err)
	}
	f.intercept(func(w http.ResponseWriter, r *http.Request) bool { fail(w, 503, password); return true })
	f.clock.move(time.Hour - time.Second)
	if got, err := c.Token(t.Context()); got != "gAAAAA-service-token-1" || err != nil {
		t.Errorf("Token = %q, %v, want the one that is still good", got, err)
	}
	f.clock.move(time.Second)
	got, err := c.Token(t.Context())
	if got != "" || err == nil {
		t.Errorf("Token = %q, %v, want an error: it has expired", got, err)
	}
	discreet(t, err)
	f.intercept(nil)
	f.clock.move(2 * time.Second)
	if got, err := c.Token(t.Context()); got != "gAAAAA-service-token-2" || err != nil {
		t.Errorf("Token = %q, %v, want a new one", got, err)
	}
}

func TestTokenIsSharedByCallers(t *testing.T) {
	f := newFake(t)
	c := f.client()
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			if got, err := c.Token(t.Context()); got != "gAAAAA-service-token-1" || err != nil {
				t.Errorf("Token = %q, %v", got, err)
			}
		})
	}
	all.Wait()
	if got := f.seen(); len(got) != 1 {
		t.Errorf("32 callers made the requests %q, want one", got)
	}
}

// The caller who started the authentication leaves; the other gets its token.
func TestTokenFirstCallerLeaves(t *testing.T) {
	f := newFake(t)
	arrived, leave := make(chan struct{}), make(chan struct{})
	f.intercept(func(http.ResponseWriter, *http.Request) bool { close(arrived); <-leave; return false })
	c := f.client()
	ctx, cancel := context.WithCancel(t.Context())
	var first error
	var one sync.WaitGroup
	one.Go(func() { _, first = c.Token(ctx) })
	<-arrived
	cancel()
	one.Wait()
	if !errors.Is(first, context.Canceled) {
		t.Errorf("first caller's Token = %v, want it cancelled", first)
	}
	close(leave)
	if got, err := c.Token(t.Context()); got != "gAAAAA-service-token-1" || err != nil {
		t.Errorf("second caller's Token = %q, %v", got, err)
	}
	if got := f.seen(); len(got) != 1 {
		t.Errorf("requests %q, want one", got)
	}
}

// A Keystone that is down is asked once in two seconds.
func TestFailureIsRemembered(t *testing.T) {
	f := newFake(t)
	f.intercept(func(w http.ResponseWriter, r *http.Request) bool { fail(w, 500, password); return true })
	c := f.client()
	for _, step := range []struct {
		move  time.Duration
		total int
	}{{0, 1}, {0, 1}, {2*time.Second - 1, 1}, {1, 2}, {time.Second, 2}} {
		f.clock.move(step.move)
		for what, err := range map[string]error{"Status": c.Status(t.Context()), "Token": second(c.Token(t.Context())), "Validate": second(c.Validate(t.Context(), userTok))} {
			if err == nil || errors.Is(err, keystone.ErrInvalidToken) || errors.Is(err, keystone.ErrNotConfigured) {
				t.Errorf("%s = %v, want that it answered 500", what, err)
			}
			discreet(t, err)
		}
		if n := f.total(); n != step.total {
			t.Errorf("after %v: %d requests, want %d", step.move, n, step.total)
		}
	}
	f.intercept(nil)
	f.clock.move(2 * time.Second)
	if err := c.Status(t.Context()); err != nil {
		t.Errorf("Status = %v when Keystone is back", err)
	}
}

func second[T any](_ T, err error) error { return err }

// total counts the requests since the start.
func (f *fake) total() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.requests)
}

// Statuses, garbage and silence in answer to an authentication are errors that name no secret.
func TestAuthenticateFailures(t *testing.T) {
	for name, answer := range map[string]http.HandlerFunc{
		"401":         func(w http.ResponseWriter, r *http.Request) { fail(w, 401, password) },
		"403":         func(w http.ResponseWriter, r *http.Request) { fail(w, 403, password) },
		"404":         func(w http.ResponseWriter, r *http.Request) { fail(w, 404, password) },
		"404 of none": func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) },
		"200":         func(w http.ResponseWriter, r *http.Request) { write(w, 200, object{}) },
		"302":         func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/v3/elsewhere", http.StatusFound) },
		"307": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/v3/elsewhere", http.StatusTemporaryRedirect)
		},
		"no token": func(w http.ResponseWriter, r *http.Request) {
			write(w, 201, object{"token": object{"expires_at": "2999-01-01T00:00:00Z"}})
		},
		"no expiry": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Subject-Token", "gAAAAA")
			write(w, 201, object{"token": object{}})
		},
		"expired": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("X-Subject-Token", "gAAAAA")
			write(w, 201, object{"token": object{"expires_at": "2001-01-01T00:00:00Z"}})
		},
		"html": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(201)
			_, _ = w.Write([]byte("<html>" + password))
		},
		"cut":    func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
		"silent": func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"endless": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(201)
			for _, err := w.Write(nil); err == nil; _, err = w.Write([]byte(strings.Repeat(" ", 64<<10))) {
			}
		},
	} {
		f := newFake(t)
		f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			// The server sees that the client has left only when the body was read.
			_, _ = http.MaxBytesReader(w, r.Body, 1<<20).Read(make([]byte, 1<<20))
			answer(w, r)
			return true
		})
		c := f.client(func(cfg *keystone.Config) {
			cfg.Timeout = 2 * time.Second
			if name == "silent" {
				cfg.Timeout = 20 * time.Millisecond
			}
		})
		got, err := c.Token(t.Context())
		if got != "" || err == nil {
			t.Errorf("%s: Token = %q, %v, want an error", name, got, err)
		}
		discreet(t, err)
		if seen := f.seen(); len(seen) != 1 {
			t.Errorf("%s: requests %q, want one: nothing is followed or repeated", name, seen)
		}
	}
}

func TestNotConfigured(t *testing.T) {
	good := gophercloud.AuthOptions{IdentityEndpoint: "http://127.0.0.1:1/v3", Username: "countersign", Password: password, DomainID: "default"}
	but := func(change func(*gophercloud.AuthOptions)) gophercloud.AuthOptions { o := good; change(&o); return o }
	for name, options := range map[string]gophercloud.AuthOptions{
		"nothing":         {},
		"only a URL":      {IdentityEndpoint: good.IdentityEndpoint},
		"no URL":          but(func(o *gophercloud.AuthOptions) { o.IdentityEndpoint = "" }),
		"no host":         but(func(o *gophercloud.AuthOptions) { o.IdentityEndpoint = "/v3" }),
		"another scheme":  but(func(o *gophercloud.AuthOptions) { o.IdentityEndpoint = "ftp://host/v3" }),
		"no password":     but(func(o *gophercloud.AuthOptions) { o.Password = "" }),
		"no user":         but(func(o *gophercloud.AuthOptions) { o.Username = "" }),
		"no user domain":  but(func(o *gophercloud.AuthOptions) { o.DomainID = "" }),
		"no app's secret": {IdentityEndpoint: good.IdentityEndpoint, ApplicationCredentialID: "x"},
	} {
		c := keystone.New(keystone.Config{AuthOptions: options})
		for what, err := range map[string]error{
			"Status": c.Status(t.Context()), "Token": second(c.Token(t.Context())), "Validate": second(c.Validate(t.Context(), userTok)),
			"ProjectID": second(c.ProjectID(t.Context(), "demo", "")), "Endpoint": second(c.Endpoint(t.Context(), "image")),
		} {
			if !errors.Is(err, keystone.ErrNotConfigured) {
				t.Errorf("%s: %s = %v, want ErrNotConfigured", name, what, err)
			}
			discreet(t, err)
		}
	}
}

// Any spelling of Keystone's URL leads to /v3.
func TestIdentityEndpoint(t *testing.T) {
	f := newFake(t)
	for _, suffix := range []string{"", "/", "/v3", "/v3/", "/v2.0"} {
		c := f.client(func(cfg *keystone.Config) { cfg.AuthOptions.IdentityEndpoint += suffix })
		if _, err := c.Token(t.Context()); err != nil {
			t.Errorf("URL with %q: Token = %v", suffix, err)
		}
		if got, want := f.seen(), []string{"POST /v3/auth/tokens"}; !slices.Equal(got, want) {
			t.Errorf("URL with %q: requests %q, want %q", suffix, got, want)
		}
	}
}

func TestEndpoint(t *testing.T) {
	for _, tt := range []struct {
		name, service, region string
		availability          gophercloud.Availability
		second                string
		want                  string // empty: an error
	}{
		{"the only one", "image", "", "", "", "http://public:9292/"},
		{"of a region", "image", "one", "", "two", "http://public:9292/"},
		{"of the other region", "image", "two", "", "two", "http://second:9292/"},
		{"internal", "image", "", gophercloud.AvailabilityInternal, "two", "http://internal:9292/"},
		{"another service", "key-manager", "", "", "two", "http://public:9311/"},
		{"two to choose from", "image", "", "", "two", ""},
		{"no such region", "image", "three", "", "two", ""},
		{"no such interface", "image", "", gophercloud.AvailabilityAdmin, "", ""},
		{"no such service", "compute", "", "", "", ""},
	} {
		f := newFake(t)
		f.region = tt.second
		c := f.client(func(cfg *keystone.Config) {
			cfg.EndpointOpts = gophercloud.EndpointOpts{Region: tt.region, Availability: tt.availability}
		})
		got, err := c.Endpoint(t.Context(), tt.service)
		if got != tt.want || (err == nil) != (tt.want != "") {
			t.Errorf("%s: Endpoint(%q) = %q, %v, want %q", tt.name, tt.service, got, err, tt.want)
		}
		discreet(t, err)
	}
}

func TestTLS(t *testing.T) {
	f := newFake(t)
	secure := httptest.NewTLSServer(f)
	defer secure.Close()
	for _, client := range []*http.Client{secure.Client(), nil} {
		c := f.client(func(cfg *keystone.Config) {
			cfg.AuthOptions.IdentityEndpoint, cfg.HTTPClient = secure.URL, client
		})
		if err := c.Status(t.Context()); (err == nil) != (client != nil) {
			t.Errorf("client %v: Status = %v", client, err)
		}
	}
}
