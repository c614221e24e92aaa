package keystone_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/countersign/countersign/proxy/keystone"
)

const (
	password = "the service's own secret"
	userTok  = "gAAAAA-token-of-a-user"
)

// clock is a time that stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

type object = map[string]any

// fake is a small working Keystone: it issues tokens for one user and password, which expire by the same clock as the
// client's, validates them, and lists projects and domains the way 2025.1 does, for the roles and the scope it is told.
type fake struct {
	*httptest.Server
	clock *clock

	mu       sync.Mutex
	life     time.Duration
	tokens   map[string]object // token → what validation shows
	issued   int
	requests []string
	projects []object
	domains  []object
	region   string // of a second endpoint; empty: there is none
	scope    string // a domain's ID, if the credential is scoped to it
	lister   bool   // the credential may list
	// before answers a request itself if it returns true.
	before func(w http.ResponseWriter, r *http.Request) bool
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{
		clock: &clock{now: time.Now().Truncate(time.Second)}, life: time.Hour, tokens: map[string]object{}, lister: true,
		domains:  []object{{"id": "default", "name": "Default"}, {"id": "d2", "name": "second"}},
		projects: []object{{"id": "p1", "name": "demo", "domain_id": "default"}, {"id": "p2", "name": "demo", "domain_id": "d2"}, {"id": "p3", "name": "Only", "domain_id": "d2"}},
	}
	f.tokens[userTok] = f.describe("u1", "alice", time.Hour)
	f.Server = httptest.NewServer(f)
	t.Cleanup(f.Close)
	return f
}

// client returns a Client with the service credential.
func (f *fake) client(change ...func(*keystone.Config)) *keystone.Client {
	cfg := keystone.Config{
		AuthOptions: gophercloud.AuthOptions{IdentityEndpoint: f.URL, Username: "countersign", Password: password, DomainID: "default", TenantName: "service"},
		Now:         f.clock.Now,
	}
	for _, c := range change {
		c(&cfg)
	}
	return keystone.New(cfg)
}

// describe is a project-scoped token's description. f.mu is held, or f not yet shared.
func (f *fake) describe(id, name string, life time.Duration) object {
	return object{
		"user":       object{"id": id, "name": name, "domain": object{"id": "default", "name": "Default"}},
		"project":    object{"id": "p1", "name": "demo", "domain": object{"id": "default", "name": "Default"}},
		"roles":      []object{{"id": "r1", "name": "member"}, {"id": "r2", "name": "reader"}},
		"expires_at": f.clock.Now().Add(life).UTC().Format("2006-01-02T15:04:05.000000Z"),
	}
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.requests = append(f.requests, r.Method+" "+r.URL.Path)
	hook := f.before
	f.mu.Unlock()
	if hook != nil && hook(w, r) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	q := r.URL.Query()
	domain, one := strings.CutPrefix(r.URL.Path, "/v3/domains/")
	switch {
	default:
		http.NotFound(w, r)
	case r.Method == "POST" && r.URL.Path == "/v3/auth/tokens":
		f.authenticate(w, r)
	case !f.valid(r.Header.Get("X-Auth-Token")):
		fail(w, 401, "The request you have made requires authentication. "+r.Header.Get("X-Auth-Token"))
	case r.URL.Path == "/v3/auth/tokens" && !f.valid(r.Header.Get("X-Subject-Token")):
		fail(w, 404, "Could not find token: "+r.Header.Get("X-Subject-Token"))
	case r.URL.Path == "/v3/auth/tokens" && q.Has("nocatalog"):
		write(w, 200, object{"token": f.tokens[r.Header.Get("X-Subject-Token")]})
	case !f.lister:
		fail(w, 403, "You are not authorized to perform the requested action.")
	case r.URL.Path == "/v3/projects":
		write(w, 200, object{"projects": f.pick(f.projects, q.Get("name"), q.Get("domain_id")), "links": object{"next": nil}})
	case r.URL.Path == "/v3/domains":
		write(w, 200, object{"domains": f.pick(f.domains, q.Get("name"), ""), "links": object{"next": nil}})
	case one:
		for _, d := range f.domains {
			if d["id"] == domain {
				write(w, 200, object{"domain": d})
				return
			}
		}
		fail(w, 404, "Could not find domain: "+domain)
	}
}

// pick filters a list, by name without regard to letter case as a MariaDB does, and to what the scope shows.
func (f *fake) pick(all []object, name, domain string) []object {
	list := []object{}
	for _, o := range all {
		in := o["domain_id"]
		if in == nil {
			in = o["id"]
		}
		if strings.EqualFold(o["name"].(string), name) && (domain == "" || in == domain) && (f.scope == "" || in == f.scope) {
			list = append(list, o)
		}
	}
	return list
}

func (f *fake) valid(token string) bool {
	t, ok := f.tokens[token]
	if !ok {
		return false
	}
	expires, err := time.Parse(time.RFC3339, t["expires_at"].(string))
	return err == nil && f.clock.Now().Before(expires)
}

func (f *fake) authenticate(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Auth struct {
			Identity struct {
				Password struct {
					User struct{ Name, Password string }
				}
			}
		}
	}
	err := json.NewDecoder(r.Body).Decode(&body)
	user := body.Auth.Identity.Password.User
	if err != nil || user.Name != "countersign" || user.Password != password {
		fail(w, 401, "The request you have made requires authentication. "+password)
		return
	}
	f.issued++
	token := fmt.Sprintf("gAAAAA-service-token-%d", f.issued)
	shown := f.describe("u9", "countersign", f.life)
	if f.scope != "" {
		delete(shown, "project")
		shown["domain"] = object{"id": f.scope, "name": f.scope}
	}
	f.tokens[token] = shown
	endpoint := func(region, face, url string) object {
		return object{"id": "e", "interface": face, "region": region, "region_id": region, "url": url}
	}
	image := []object{endpoint("one", "internal", "http://internal:9292"), endpoint("one", "public", "http://public:9292")}
	if f.region != "" {
		image = append(image, endpoint(f.region, "public", "http://second:9292/"))
	}
	answer := object{"catalog": []object{
		{"type": "image", "name": "glance", "endpoints": image},
		{"type": "key-manager", "name": "barbican", "endpoints": []object{endpoint("one", "public", "http://public:9311")}},
	}}
	for k, v := range shown {
		answer[k] = v
	}
	w.Header().Set("X-Subject-Token", token)
	write(w, 201, object{"token": answer})
}

func write(w http.ResponseWriter, code int, body object) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(body)
}

func fail(w http.ResponseWriter, code int, message string) {
	write(w, code, object{"error": object{"code": code, "title": http.StatusText(code), "message": message}})
}

// with changes the fake under its lock.
func (f *fake) with(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// revoke makes a token unknown.
func (f *fake) revoke(token string) { f.with(func() { delete(f.tokens, token) }) }

// intercept sets the hook.
func (f *fake) intercept(hook func(w http.ResponseWriter, r *http.Request) bool) {
	f.with(func() { f.before = hook })
}

// seen returns the requests since the last call.
func (f *fake) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.requests
	f.requests = nil
	return s
}

// discreet fails the test if err names a token or the password.
func discreet(t *testing.T, err error) {
	t.Helper()
	for _, secret := range []string{"gAAAAA", password} {
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("the error %q names a secret", err)
		}
	}
}
