package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// cloud is a Keystone and a Barbican in one server. The user demo has the
// password "secret" and the token "token-of-demo"; guest, with the same
// password, may not store secrets. Each region has the key manager at another
// kind of endpoint.
type cloud struct {
	server *httptest.Server // whoever makes a cloud closes it

	mu      sync.Mutex // guards secrets
	secrets []secret
}

// secret is what Barbican was sent.
type secret struct {
	Name        string `json:"name"`
	Type        string `json:"secret_type"`
	Payload     string `json:"payload"`
	ContentType string `json:"payload_content_type"`
	Encoding    string `json:"payload_content_encoding"`
	Expiration  string `json:"expiration"`
}

const secretID = "8f41c1d6-6d2b-4a0f-9a1e-0c3d5f7b9e21"

func newCloud() *cloud {
	c := new(cloud)
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v3/auth/tokens", c.authenticate)
	mux.HandleFunc("GET /v3/auth/tokens", c.validate)
	mux.HandleFunc("GET /key-manager/", func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusMultipleChoices)
		fmt.Fprint(w, `{"versions": {"values": [{"id": "v1", "status": "stable"}]}}`)
	})
	mux.HandleFunc("POST /key-manager/v1/secrets", c.store)
	mux.HandleFunc("GET /broken/", http.NotFound)
	mux.HandleFunc("POST /moved/v1/secrets", func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/key-manager/v1/secrets", http.StatusTemporaryRedirect)
	})
	c.server = httptest.NewServer(mux)
	return c
}

func (c *cloud) authenticate(w http.ResponseWriter, r *http.Request) {
	var request struct {
		Auth struct {
			Identity struct {
				Password struct {
					User struct{ Name, Password string }
				}
			}
		}
	}
	if json.NewDecoder(r.Body).Decode(&request) != nil || request.Auth.Identity.Password.User.Password != "secret" {
		w.WriteHeader(http.StatusUnauthorized)
		fmt.Fprintf(w, `{"error": {"message": "no %s"}}`, request.Auth.Identity.Password.User.Password)
		return
	}
	w.Header().Set("X-Subject-Token", "token-of-"+request.Auth.Identity.Password.User.Name)
	w.WriteHeader(http.StatusCreated)
	c.describe(w, r)
}

func (c *cloud) validate(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Subject-Token") != "token-of-demo" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.Header().Set("X-Subject-Token", "token-of-demo")
	c.describe(w, r)
}

// describe answers with the token's catalog.
func (c *cloud) describe(w http.ResponseWriter, r *http.Request) {
	var endpoints []string
	for _, at := range []struct{ region, path string }{ // the first is taken if none is asked for
		{"RegionOne", "/key-manager"},
		{"Versioned", "/key-manager/v1"},
		{"Broken", "/broken"},
		{"Moved", "/moved/v1"},
	} {
		endpoints = append(endpoints, fmt.Sprintf(`{"interface": "public", "region": %q, "region_id": %[1]q, "url": %q}`, at.region, "http://"+r.Host+at.path))
	}
	fmt.Fprintf(w, `{"token": {"expires_at": "2099-01-01T00:00:00.000000Z", "catalog": [
		{"type": "key-manager", "name": "barbican", "endpoints": [%s]}]}}`, strings.Join(endpoints, ", "))
}

func (c *cloud) store(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Auth-Token") != "token-of-demo" {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	var s secret
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	c.mu.Lock()
	c.secrets = append(c.secrets, s)
	c.mu.Unlock()
	w.WriteHeader(http.StatusCreated)
	fmt.Fprintf(w, `{"secret_ref": "http://%s/key-manager/v1/secrets/%s"}`, r.Host, secretID)
}

// barbican DIR is a command of the scripts: it writes the one secret that is
// stored to DIR/payload, and all else about it to DIR/secret. With ! it demands
// that nothing is stored.
func barbican(ts *testscript.TestScript, neg bool, args []string) {
	c := ts.Value("cloud").(*cloud)
	c.mu.Lock()
	defer c.mu.Unlock()
	if neg {
		if len(c.secrets) > 0 {
			ts.Fatalf("barbican has %d secrets, want none", len(c.secrets))
		}
		return
	}
	if len(c.secrets) != 1 {
		ts.Fatalf("barbican has %d secrets, want 1", len(c.secrets))
	}
	s := c.secrets[0]
	payload, err := base64.StdEncoding.DecodeString(s.Payload)
	ts.Check(err)
	s.Payload = ""
	about, err := json.Marshal(s)
	ts.Check(err)
	dir := ts.MkAbs(args[0])
	ts.Check(os.MkdirAll(dir, 0o700))
	ts.Check(os.WriteFile(dir+"/payload", payload, 0o600))
	ts.Check(os.WriteFile(dir+"/secret", about, 0o600))
}
