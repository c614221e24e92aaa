//go:build e2e

package e2e_test

import (
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"crypto/x509"

	"github.com/google/uuid"
)

// keyManager is a Barbican that answers for each secret what it is told to.
type keyManager struct {
	*httptest.Server
	mu      sync.Mutex // guards answers
	answers map[string]http.HandlerFunc
}

func newKeyManager(t *testing.T) *keyManager {
	k := &keyManager{answers: map[string]http.HandlerFunc{}}
	k.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v1/secrets/"), "/")
		k.mu.Lock()
		answer := k.answers[id]
		k.mu.Unlock()
		if answer == nil {
			answer = status(http.StatusNotFound)
		}
		answer(w, r)
	}))
	t.Cleanup(k.Close)
	return k
}

func (k *keyManager) set(id string, answer http.HandlerFunc) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.answers[id] = answer
}

// status answers as Barbican does when it has nothing to give.
func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		json.NewEncoder(w).Encode(map[string]any{"code": code, "title": http.StatusText(code), "description": "no"})
	}
}

// secret answers with a secret of a type and content type.
func secret(kind, contentType string, payload []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if path.Base(r.URL.Path) == "payload" {
			w.Header().Set("Content-Type", r.Header.Get("Accept"))
			w.Write(payload)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"secret_type": kind, "status": "ACTIVE", "content_types": map[string]string{"default": contentType}})
	}
}

// TestTheKeyManagerFails: whatever Barbican does instead of showing the
// certificate, the answer says so before the data is asked for, and nobody
// else is the worse for it.
func TestTheKeyManagerFails(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		barbican := newKeyManager(t)
		p := startProxy(t, glance, policy, "COUNTERSIGN_BARBICAN_URL="+barbican.URL, "COUNTERSIGN_CERTIFICATE_TIMEOUT=1s")
		c, auditor, off := login(t, "demo", p.url), login(t, "auditor", p.url), login(t, "off", p.url)
		straight := c.at(glance.url())
		data := pixels(t, 100_000)
		s := newSigner(t, time.Hour)
		der := func() []byte { block, _ := pem.Decode(s.certificate); return block.Bytes }()
		key := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(s.key)})
		octets, text := "application/octet-stream", "text/plain"
		done := make(chan struct{})
		defer close(done)

		failures := []struct {
			name   string
			answer http.HandlerFunc
			status int
			code   string
		}{
			{"breaks the connection", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 503, "key_manager_unavailable"},
			{"is slow", func(_ http.ResponseWriter, r *http.Request) {
				select {
				case <-r.Context().Done():
				case <-done:
				}
			}, 503, "key_manager_unavailable"},
			{"does not know the token", status(401), 401, "key_manager_unauthorized"},
			{"forbids it", status(403), 400, "certificate_forbidden"},
			{"has no such secret, or an expired one", status(404), 400, "certificate_not_found"},
			{"is broken", status(500), 503, "key_manager_unavailable"},
			{"is starting", status(503), 503, "key_manager_unavailable"},
			{"talks nonsense", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>hello")) }, 503, "key_manager_unavailable"},
			{"redirects", func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, openstack.Barbican+r.URL.Path, http.StatusFound)
			}, 503, "key_manager_unavailable"},
			{"has a private key of that type", secret("private", octets, key), 400, "certificate_unreadable"},
			{"has a private key for a certificate", secret("certificate", octets, key), 400, "certificate_unreadable"},
			{"has a passphrase", secret("passphrase", text, []byte("open sesame")), 400, "certificate_unreadable"},
			{"has it in base64 twice", secret("certificate", octets, []byte(base64.StdEncoding.EncodeToString(s.certificate))), 400, "certificate_unreadable"},
			{"has an empty one", secret("certificate", octets, nil), 400, "certificate_unreadable"},
			{"has nonsense", secret("certificate", octets, []byte("hello")), 400, "certificate_unreadable"},
			{"has half of it", secret("certificate", octets, s.certificate[:len(s.certificate)/2]), 400, "certificate_unreadable"},
		}
		others := auditor.secret(s.certificate)
		for _, failure := range failures {
			t.Run(failure.name, func(t *testing.T) {
				c := c.in(t)
				certificate := uuid.NewString()
				barbican.set(certificate, failure.answer)
				barbican.set(others, failure.answer)
				id := c.create(s.properties(data, certificate)).id()
				// Not a byte of the data is sent before the answer.
				a := c.begin(id, len(data)).answer()
				wantRefusal(t, a, failure.status, failure.code)
				if failure.status == 503 && a.header.Get("Retry-After") == "" {
					t.Error("the 503 has no Retry-After")
				}
				wantStatus(t, straight.in(t), id, "queued")

				audited := auditor.in(t)
				if a := audited.upload(audited.create(s.properties(data, others)).id(), data); a.status != http.StatusNoContent {
					t.Errorf("the audited project's upload answered %v, want 204", a)
				}
				open := off.in(t)
				if a := open.upload(open.create(nil).id(), data); a.status != http.StatusNoContent {
					t.Errorf("the upload where the rule is off answered %v, want 204", a)
				}
			})
		}

		// The control: in whatever form there is a certificate, it serves. Glance
		// looks at its own Barbican for it.
		for name, answer := range map[string]http.HandlerFunc{
			"PEM":            secret("certificate", octets, s.certificate),
			"DER":            secret("certificate", octets, der),
			"PEM, as a text": secret("certificate", text, s.certificate),
		} {
			t.Run(name, func(t *testing.T) {
				c := c.in(t)
				certificate := c.secret(s.certificate)
				barbican.set(certificate, answer)
				id := c.create(s.properties(data, certificate)).id()
				if a := c.upload(id, data); a.status != http.StatusNoContent {
					t.Errorf("answered %v, want 204", a)
				}
				wantStatus(t, straight.in(t), id, "active")
			})
		}

		t.Run("is away", func(t *testing.T) {
			c := c.in(t)
			id := c.create(s.properties(data, uuid.NewString())).id()
			barbican.CloseClientConnections()
			barbican.Listener.Close()
			wantRefusal(t, c.begin(id, len(data)).answer(), http.StatusServiceUnavailable, "key_manager_unavailable")
			wantStatus(t, straight.in(t), id, "queued")
			open := off.in(t)
			if a := open.upload(open.create(nil).id(), data); a.status != http.StatusNoContent {
				t.Errorf("the upload where the rule is off answered %v, want 204", a)
			}
		})
	})
}
