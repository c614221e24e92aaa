package proxy_test

import (
	"net/http"
	"testing"

	"github.com/countersign/countersign/proxy"
)

// A Glance that believes identity headers is none whose word an enforced upload
// could rest on. Everything else passes.
func TestGlanceThatChecksNoTokens(t *testing.T) {
	s := newStage(t)
	believes := true
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		if believes && r.Header.Get("X-Auth-Token") == "" && r.Header.Get("X-Roles") != "" {
			w.Write([]byte(`{"images": []}`))
			return true
		}
		return false
	}
	if err := s.proxy.Probe(t.Context()); err == nil {
		t.Fatal("Probe of a Glance that believes headers = nil")
	}
	data := random(t, 100)
	id := s.image("a", signed(t, data))
	if status, body := s.upload(id, tokenA, data, false); status != 503 || reason(body) != "glance_not_trusted" {
		t.Errorf("enforced upload = %d %s, want 503 glance_not_trusted", status, body)
	}
	if status, _ := s.upload(s.image("b", nil), tokenB, data, false); status != 204 {
		t.Errorf("audited upload = %d, want 204", status)
	}
	if status, _ := s.do("GET", "/v2/images", tokenA, nil); status != 200 {
		t.Errorf("GET images = %d, want 200", status)
	}
	believes = false
	if err := s.proxy.Probe(t.Context()); err != nil {
		t.Fatalf("Probe of a Glance that does not = %v", err)
	}
	if status, body := s.upload(id, tokenA, data, false); status != 204 {
		t.Errorf("enforced upload afterwards = %d %s, want 204", status, body)
	}
}

// What was never probed is not trusted.
func TestGlanceNotYetProbed(t *testing.T) {
	s := newStage(t)
	fresh := proxy.New(s.proxy.Config)
	if fresh.Trusted() == nil {
		t.Error("Trusted before the first Probe = nil")
	}
	s.glance.Close()
	if err := fresh.Probe(t.Context()); err == nil || fresh.Trusted() == nil {
		t.Errorf("Probe of a Glance that is away = %v, and Trusted = %v; want errors", err, fresh.Trusted())
	}
}
