package certcache_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/certcache"
)

const (
	uuid    = "0d5b6c1e-4a52-4e0b-9f6e-2f5a3c1d7e90"
	missing = "ffffffff-4a52-4e0b-9f6e-2f5a3c1d7e90"
	ownerA  = "a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0"
	ownerB  = "b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1b1"
	tokenA  = "gAAAAA-token-of-project-A"
	tokenB  = "gAAAAA-token-of-project-B"
	stale   = "gAAAAA-token-that-expired"
)

// secret is what the fake stores. Empty strings stand for null, as Barbican writes it.
type secret struct {
	kind, status, expiration string
	text                     bool // stored as text/plain
	project                  string
	payload                  []byte // nil: none was stored
}

// barbican is a small working key manager: it knows tokens, projects and secrets, and answers 401, 403, 404 and 406 for
// the reasons for which the real one does.
type barbican struct {
	*httptest.Server
	projects map[string]string // token → project

	mu      sync.Mutex
	secrets map[string]secret
	paths   []string                                          // of requests, in order of arrival
	before  func(w http.ResponseWriter, r *http.Request) bool // answers the request itself if it returns true
}

func newBarbican(t *testing.T) *barbican {
	t.Helper()
	b := &barbican{
		projects: map[string]string{tokenA: ownerA, tokenB: ownerB},
		secrets:  map[string]secret{uuid: {kind: "certificate", status: "ACTIVE", project: ownerA, payload: newCertificate(t, time.Now().Add(24*time.Hour))}},
	}
	b.Server = httptest.NewServer(b)
	t.Cleanup(b.Close)
	return b
}

func (b *barbican) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	b.paths = append(b.paths, r.URL.Path)
	hook := b.before
	id, payload := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/v1/secrets/"), "/payload")
	s, ok := b.secrets[id]
	b.mu.Unlock()
	if hook != nil && hook(w, r) {
		return
	}
	project, known := b.projects[r.Header.Get("X-Auth-Token")]
	accept := r.Header.Get("Accept")
	switch {
	default:
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.metadata(b.URL + r.URL.Path))
	case !known:
		fail(w, 401, "The request you have made requires authentication.")
	case !ok:
		fail(w, 404, "Secret not found.")
	case project != s.project:
		fail(w, 403, "Secret retrieval attempt not allowed, "+r.Header.Get("X-Auth-Token"))
	case payload && s.payload == nil:
		fail(w, 404, "Not Found. Sorry but your secret has no payload.")
	case payload && accept != "application/octet-stream" && !(accept == "text/plain" && s.text):
		fail(w, 406, "Wrong payload content-type.")
	case payload:
		w.Header().Set("Content-Type", accept)
		_, _ = w.Write(s.payload)
	}
}

func (s secret) metadata(ref string) map[string]any {
	m := map[string]any{
		"created": "2026-11-22T16:16:44.408646", "updated": "2026-11-22T16:16:44.412269", "name": nil, "algorithm": nil,
		"bit_length": nil, "mode": nil, "status": s.status, "secret_type": s.kind, "expiration": nil, "secret_ref": ref,
	}
	if s.expiration != "" {
		m["expiration"] = s.expiration
	}
	if s.payload != nil {
		m["content_types"] = map[string]string{"default": "application/octet-stream"}
	}
	return m
}

// fail answers like Barbican, with the token in it: a proxy in its place may well echo one.
func fail(w http.ResponseWriter, code int, description string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"code": code, "title": http.StatusText(code), "description": description})
}

func (b *barbican) store(id string, s secret) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.secrets[id] = s
}

func (b *barbican) remove(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.secrets, id)
}

func (b *barbican) intercept(hook func(w http.ResponseWriter, r *http.Request) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.before = hook
}

func (b *barbican) payload() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.secrets[uuid].payload
}

// requests returns the paths asked for since the last call.
func (b *barbican) requests() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	paths := b.paths
	b.paths = nil
	return paths
}

// source returns a Barbican Source for the fake.
func (b *barbican) source() *certcache.Barbican {
	return certcache.NewBarbican(certcache.BarbicanConfig{Endpoint: at(b.URL)})
}

// newCertificate returns a self-signed certificate in PEM.
func newCertificate(t *testing.T, notAfter time.Time) []byte {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "signer"}, NotBefore: notAfter.Add(-48 * time.Hour), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// notAfter is the function that main hands to the cache, for PEM.
func notAfter(data []byte) (time.Time, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return time.Time{}, errNoPEM
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return time.Time{}, err
	}
	return c.NotAfter, nil
}
