package main

import (
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"time"
)

// standIns are a Keystone that believes every token "token-PROJECT", and a
// Barbican that has one certificate under every id, on one address.
type standIns struct {
	listener    net.Listener
	certificate []byte
}

func newStandIns(certificate []byte) (*standIns, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &standIns{listener, certificate}
	go http.Serve(listener, s) // ends with the listener
	return s, nil
}

func (s *standIns) url() string { return "http://" + s.listener.Addr().String() }

// ServeHTTP implements http.Handler.
func (s *standIns) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/v3/auth/tokens" && r.Method == http.MethodPost:
		w.Header().Set("X-Subject-Token", "token-service")
		w.WriteHeader(http.StatusCreated)
		s.token(w, "token-service")
	case r.URL.Path == "/v3/auth/tokens":
		s.token(w, r.Header.Get("X-Subject-Token"))
	case strings.HasSuffix(r.URL.Path, "/payload"):
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Write(s.certificate)
	case strings.HasPrefix(r.URL.Path, "/v1/secrets/"):
		w.Header().Set("Content-Type", "application/json")
		json.NewEncoder(w).Encode(map[string]any{"status": "ACTIVE", "secret_type": "certificate", "secret_ref": s.url() + r.URL.Path,
			"created": "2026-01-01T00:00:00", "updated": "2026-01-01T00:00:00", "content_types": map[string]string{"default": "application/octet-stream"}})
	default:
		http.NotFound(w, r)
	}
}

func (s *standIns) token(w http.ResponseWriter, token string) {
	project := strings.TrimPrefix(token, "token-")
	domain := map[string]string{"id": "default", "name": "Default"}
	endpoint := []map[string]string{{"id": "e", "interface": "public", "region": "RegionOne", "region_id": "RegionOne", "url": s.url()}}
	json.NewEncoder(w).Encode(map[string]any{"token": map[string]any{
		"user":       map[string]any{"id": "user-" + project, "name": project, "domain": domain},
		"project":    map[string]any{"id": project, "name": project, "domain": domain},
		"roles":      []map[string]string{{"id": "r", "name": "member"}},
		"expires_at": time.Now().Add(6 * time.Hour).UTC().Format("2006-01-02T15:04:05.000000Z"),
		"catalog": []map[string]any{
			{"type": "key-manager", "name": "barbican", "endpoints": endpoint},
			{"type": "image", "name": "glance", "endpoints": endpoint}},
	}})
}
