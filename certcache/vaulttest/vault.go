// Package vaulttest is a small working Vault for tests: key-value engines of both versions, tokens with leases, and logins
// by AppRole and by JSON Web Token. It answers as Vault 1.21 does, as far as certcache asks it; the scenarios of make
// e2e-vault put the same questions to a real one.
//
// Hooks make it fail: sealed, revoked, slow, anything else.
package vaulttest

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// A Server is an http.Handler. Its fields are set before it serves.
type Server struct {
	// Now is the clock that leases are counted by. Default time.Now.
	Now func() time.Time
	// Lease is what a login gives; 0 is for ever.
	Lease time.Duration
	// Longest bounds a token's life, however often it is renewed; 0 does not.
	Longest time.Duration
	// Batch makes logins give tokens that cannot be renewed.
	Batch bool

	mu       sync.Mutex // guards what follows
	sealed   bool
	engines  map[string]int // mount → version
	entries  map[string]json.RawMessage
	deleted  map[string]bool
	deadline map[string]string // entry → deletion_time
	denied   map[string]bool   // entries that no token may read
	methods  map[string]bool   // mounts of auth methods
	proofs   map[string]int    // how often a proof still serves; -1: for ever
	tokens   map[string]*token
	requests []string
	before   func(w http.ResponseWriter, r *http.Request) bool
}

type token struct {
	made, until time.Time // until is zero for tokens that live for ever
	renewable   bool
}

// New returns a Server with key-value engines at secret (version 2) and kv (version 1).
func New() *Server {
	return &Server{
		Now: time.Now, engines: map[string]int{"secret": 2, "kv": 1}, entries: map[string]json.RawMessage{}, deleted: map[string]bool{},
		deadline: map[string]string{}, denied: map[string]bool{}, methods: map[string]bool{}, proofs: map[string]int{}, tokens: map[string]*token{},
	}
}

// Put writes an entry, a JSON object, at mount/name.
func (s *Server) Put(path, entry string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries[path] = json.RawMessage(entry)
	delete(s.deleted, path)
}

// Entry is what is at mount/name.
func (s *Server) Entry(path string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.entries[path])
}

// Delete deletes the latest version of an entry, of which version 2 of the engine still tells.
func (s *Server) Delete(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deleted[path] = true
}

// DeleteAt sets when the entry's version will be deleted.
func (s *Server) DeleteAt(path string, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.deadline[path] = at.UTC().Format(time.RFC3339Nano)
}

// Deny lets no token read the entry.
func (s *Server) Deny(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied[path] = true
}

// AppRole enables the auth method at mount and takes the role's ids, uses times; -1 is for ever.
func (s *Server) AppRole(mount, roleID, secretID string, uses int) {
	s.proof(mount, uses, "approle", roleID, secretID)
}

// JWT enables an auth method of the kind jwt or kubernetes at mount, and takes the JSON Web Token under the role.
func (s *Server) JWT(mount, role, jwt string) { s.proof(mount, -1, "jwt", role, jwt) }

func (s *Server) proof(mount string, uses int, parts ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.methods[mount] = true
	s.proofs[key(mount, parts...)] = uses
}

func key(mount string, parts ...string) string { return fmt.Sprintf("%q", append(parts, mount)) }

// Token makes a token that lives for ever.
func (s *Server) Token() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	text := "hvs." + rand.Text()
	s.tokens[text] = &token{made: s.Now()}
	return text
}

// Revoke ends all tokens.
func (s *Server) Revoke() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.tokens)
}

// Seal seals it, or unseals it.
func (s *Server) Seal(sealed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sealed = sealed
}

// Intercept has hook see every request first; true means that it has answered.
func (s *Server) Intercept(hook func(w http.ResponseWriter, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = hook
}

// Requests returns the method and path of each request since the last call.
func (s *Server) Requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.requests
	s.requests = nil
	return list
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	hook := s.before
	s.mu.Unlock()
	if hook != nil && hook(w, r) {
		return
	}
	s.mu.Lock()
	status, answer := s.answer(r)
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if status == http.StatusNoContent {
		w.WriteHeader(status)
		return
	}
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer)
}

// answer is called with mu held.
func (s *Server) answer(r *http.Request) (int, any) {
	path, ok := strings.CutPrefix(r.URL.Path, "/v1/")
	login, isLogin := strings.CutSuffix(path, "/login")
	login, isAuth := strings.CutPrefix(login, "auth/")
	text := r.Header.Get("X-Vault-Token")
	held := s.tokens[text]
	switch {
	case !ok:
		return fault(404, "page not found")
	case s.sealed:
		return fault(503, "Vault is sealed")
	case isLogin && isAuth && r.Method == http.MethodPost:
		return s.login(login, r)
	case held == nil, !held.until.IsZero() && !s.Now().Before(held.until):
		return fault(403, "permission denied", "invalid token")
	case path == "auth/token/renew-self" && r.Method == http.MethodPost:
		return s.renew(text, held)
	}
	return s.entry(path, r)
}

func (s *Server) login(mount string, r *http.Request) (int, any) {
	var request struct {
		RoleID   string `json:"role_id"`
		SecretID string `json:"secret_id"`
		Role     string `json:"role"`
		JWT      string `json:"jwt"`
	}
	if !s.methods[mount] {
		return fault(403, "permission denied") // so that nobody learns what is mounted
	}
	if json.NewDecoder(r.Body).Decode(&request) != nil {
		return fault(400, "failed to parse JSON input")
	}
	proof := key(mount, "approle", request.RoleID, request.SecretID)
	if request.JWT != "" {
		proof = key(mount, "jwt", request.Role, request.JWT)
	}
	switch uses := s.proofs[proof]; {
	case uses == 0:
		return fault(400, "invalid role or secret ID")
	case uses > 0:
		s.proofs[proof] = uses - 1
	}
	text := "hvs." + rand.Text()
	s.tokens[text] = &token{made: s.Now(), renewable: !s.Batch}
	return s.lease(text, s.tokens[text])
}

func (s *Server) renew(text string, t *token) (int, any) {
	if !t.renewable {
		return fault(400, "lease is not renewable")
	}
	return s.lease(text, t)
}

func (s *Server) lease(text string, t *token) (int, any) {
	lease := s.Lease
	if s.Longest > 0 {
		lease = min(lease, t.made.Add(s.Longest).Sub(s.Now()))
	}
	if lease > 0 {
		t.until = s.Now().Add(lease)
	}
	return 200, map[string]any{"auth": map[string]any{
		"client_token": text, "lease_duration": int(lease / time.Second), "renewable": t.renewable, "token_type": "service",
	}}
}

func (s *Server) entry(path string, r *http.Request) (int, any) {
	mount, version := "", 0
	for name, v := range s.engines {
		if strings.HasPrefix(path, name+"/") && len(name) > len(mount) {
			mount, version = name, v
		}
	}
	if mount == "" {
		return fault(404, fmt.Sprintf("no handler for route %q. route entry not found.", path))
	}
	name := strings.TrimPrefix(path, mount+"/")
	if version == 2 {
		var ok bool
		if name, ok = strings.CutPrefix(name, "data/"); !ok {
			return 404, map[string]any{"data": nil, "warnings": []string{"Invalid path for a versioned K/V secrets engine."}}
		}
	}
	name = mount + "/" + name
	if s.denied[name] {
		return fault(403, "1 error occurred:\n\t* permission denied\n\n")
	}
	if r.Method == http.MethodPost || r.Method == http.MethodPut {
		return s.write(name, version, r)
	}
	entry, ok := s.entries[name]
	switch {
	case !ok, version == 1 && s.deleted[name]:
		return fault(404)
	case version == 1:
		return 200, map[string]any{"data": entry, "lease_duration": 2764800}
	}
	metadata := map[string]any{"version": 1, "destroyed": false, "deletion_time": s.deadline[name]}
	if s.deleted[name] {
		metadata["deletion_time"] = s.Now().UTC().Format(time.RFC3339Nano)
		return 404, map[string]any{"data": map[string]any{"data": nil, "metadata": metadata}}
	}
	return 200, map[string]any{"data": map[string]any{"data": entry, "metadata": metadata}}
}

func (s *Server) write(name string, version int, r *http.Request) (int, any) {
	var entry json.RawMessage
	if json.NewDecoder(r.Body).Decode(&entry) != nil {
		return fault(400, "failed to parse JSON input")
	}
	if version == 1 {
		s.entries[name] = entry
		return 204, nil
	}
	var versioned struct {
		Data    json.RawMessage `json:"data"`
		Options struct {
			CAS *int `json:"cas"`
		} `json:"options"`
	}
	if json.Unmarshal(entry, &versioned) != nil || versioned.Data == nil {
		return fault(400, "no data provided")
	}
	if versioned.Options.CAS != nil && *versioned.Options.CAS == 0 && s.entries[name] != nil {
		return fault(400, "check-and-set parameter did not match the current version")
	}
	s.entries[name] = versioned.Data
	return 200, map[string]any{"data": map[string]any{"version": 1}}
}

// fault is an answer as Vault writes it: the list may be empty.
func fault(status int, list ...string) (int, any) {
	if list == nil {
		list = []string{}
	}
	return status, map[string]any{"errors": list}
}
