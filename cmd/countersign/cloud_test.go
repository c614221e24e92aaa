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

// cloud is a Keystone, a Barbican and a Glance in one server. The user demo has the
// password "secret" and the token "token-of-demo"; guest, with the same
// password, may not use secrets. Each region has the key manager and the image
// service at another kind of endpoint.
type cloud struct {
	server *httptest.Server // whoever makes a cloud closes it

	mu      sync.Mutex // guards what follows
	secrets []secret
	images  []imageRecord
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
	mux.HandleFunc("GET /key-manager/v1/secrets/{id}", c.secret)
	mux.HandleFunc("GET /key-manager/v1/secrets/{id}/payload", c.payload)
	mux.HandleFunc("GET /broken/", http.NotFound)
	mux.Handle("GET /image/", http.StripPrefix("/image", c.imageService()))
	mux.HandleFunc("GET /v3/projects", c.projects)
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
	token := r.Header.Get("X-Subject-Token")
	if token != "token-of-demo" && token != "token-of-guest" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	w.Header().Set("X-Subject-Token", token)
	c.describe(w, r)
}

// describe answers with the token's catalog.
func (c *cloud) describe(w http.ResponseWriter, r *http.Request) {
	var keys, images []string
	for _, at := range []struct{ region, keys, images string }{ // the first is taken if none is asked for
		{"RegionOne", "/key-manager", "/image"},
		{"Versioned", "/key-manager/v1", "/image/v2/"},
		{"Broken", "/broken", "/broken"},
		{"Moved", "/moved/v1", "/moved"},
		{"Keyless", "", "/image"},
	} {
		const entry = `{"interface": "public", "region": %q, "region_id": %[1]q, "url": %q}`
		if at.keys != "" {
			keys = append(keys, fmt.Sprintf(entry, at.region, "http://"+r.Host+at.keys))
		}
		images = append(images, fmt.Sprintf(entry, at.region, "http://"+r.Host+at.images))
	}
	role := "admin"
	if r.Header.Get("X-Subject-Token") == "token-of-guest" {
		role = "member"
	}
	fmt.Fprintf(w, `{"token": {"expires_at": "2099-01-01T00:00:00.000000Z", "roles": [{"id": "r1", "name": %q}],
		"user": {"id": "u1", "name": "demo", "domain": {"id": "default", "name": "Default"}},
		"project": {"id": %q, "name": "demo", "domain": {"id": "default", "name": "Default"}}, "catalog": [
		{"type": "key-manager", "name": "barbican", "endpoints": [%s]},
		{"type": "image", "name": "glance", "endpoints": [%s]}]}}`,
		role, demoProject, strings.Join(keys, ", "), strings.Join(images, ", "))
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

// notCertificate is the id of a secret that is no certificate.
const notCertificate = "11111111-6d2b-4a0f-9a1e-0c3d5f7b9e21"

// secret answers with what is known of a secret, but for its payload.
func (c *cloud) secret(w http.ResponseWriter, r *http.Request) {
	switch id := r.PathValue("id"); {
	default:
		w.WriteHeader(http.StatusNotFound)
	case r.Header.Get("X-Auth-Token") != "token-of-demo":
		w.WriteHeader(http.StatusForbidden)
	case id == notCertificate:
		fmt.Fprint(w, `{"secret_type": "passphrase", "status": "ACTIVE", "content_types": {"default": "text/plain"}}`)
	case id == secretID && c.stored() != nil:
		fmt.Fprint(w, `{"secret_type": "certificate", "status": "ACTIVE", "content_types": {"default": "application/octet-stream"}}`)
	}
}

func (c *cloud) payload(w http.ResponseWriter, r *http.Request) {
	data := c.stored()
	if r.Header.Get("X-Auth-Token") != "token-of-demo" || r.PathValue("id") != secretID || data == nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	w.Write(data)
}

// stored is the payload of the secret that was stored last; nil if none was.
func (c *cloud) stored() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.secrets) == 0 {
		return nil
	}
	payload, err := base64.StdEncoding.DecodeString(c.secrets[len(c.secrets)-1].Payload)
	if err != nil {
		return nil
	}
	return payload
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
