package proxy_test

import (
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy"
)

// A shared image without members is private; that is asked only where it
// matters, and where it cannot be told nothing is let in on a guess.
func TestVisibility(t *testing.T) {
	const strict = `
rules:
  - {projects: [id: a], visibility: [public, shared], mode: enforce, signers: any}
  - {projects: [id: b], visibility: [shared], mode: audit}
  - {projects: all, mode: off}
`
	const blind = "rules:\n- {projects: all, mode: enforce, signers: any}"
	for _, test := range []struct {
		name, policy, token, visibility, members string
		status                                   int // of Glance's answer about members
		wantReason                               string
		wantAsked                                int
	}{
		{"public", strict, tokenA, "public", "", 200, "signature_required", 0},
		{"private", strict, tokenA, "private", "", 200, "", 0},
		{"no visibility", strict, tokenA, "", "", 200, "", 0},
		{"one that Glance does not have", strict, tokenA, "hidden", "", 200, "policy_undecided", 0},
		{"shared with somebody", strict, tokenA, "shared", `{"members": [{"member_id": "x", "status": "pending"}]}`, 200, "signature_required", 1},
		{"shared with nobody", strict, tokenA, "shared", `{"members": []}`, 200, "", 1},
		{"members are not told", strict, tokenA, "shared", `{}`, 403, "policy_undecided", 1},
		{"members are not understood", strict, tokenA, "shared", `{"schema": "x"}`, 200, "policy_undecided", 1},
		{"members are not JSON", strict, tokenA, "shared", `<html>`, 200, "policy_undecided", 1},
		{"nothing depends on it", strict, tokenC, "shared", `{}`, 500, "", 0},
		{"no rule depends on it", blind, tokenA, "shared", `{}`, 500, "signature_required", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			rules, err := policy.Load(strings.NewReader(test.policy))
			if err != nil {
				t.Fatal(err)
			}
			s := newStage(t, func(c *proxy.Config) { c.Policies = rules })
			s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.HasSuffix(r.URL.Path, "/members") {
					return false
				}
				w.WriteHeader(test.status)
				io.WriteString(w, test.members)
				return true
			}
			properties := map[string]string{}
			if test.visibility != "" {
				properties["visibility"] = test.visibility
			}
			id := s.image(strings.TrimPrefix(test.token, "token-"), properties)
			status, body := s.upload(id, test.token, []byte("data"), false)
			if reason(body) != test.wantReason || test.wantReason == "" && status != http.StatusNoContent {
				t.Errorf("upload = %d %s, want reason %q", status, body, test.wantReason)
			}
			if asked := s.glance.called("GET", "/v2/images/"+id+"/members"); asked != test.wantAsked {
				t.Errorf("Glance was asked %d times for members, want %d", asked, test.wantAsked)
			}
		})
	}
}

// What a break-glass rule lets through is told loudly, and counted, be its mode
// off; when it is over the rules after it count.
func TestBreakGlass(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	var clock atomic.Pointer[time.Time]
	clock.Store(&now)
	rules, err := policy.LoadAt(strings.NewReader(`
rules:
  - {name: glass, projects: all, mode: off, until: 2026-07-01T13:00:00Z, owner: me, reason: it is needed}
  - {projects: all, mode: enforce, signers: any}
`), func() time.Time { return *clock.Load() })
	if err != nil {
		t.Fatal(err)
	}
	s := newStage(t, func(c *proxy.Config) { c.Policies = rules })
	if status, body := s.upload(s.image("a", nil), tokenA, []byte("data"), false); status != http.StatusNoContent {
		t.Errorf("upload under break-glass = %d %s, want 204", status, body)
	}
	if log := s.log.String(); !strings.Contains(log, `"level":"warn"`) || !strings.Contains(log, `"rule":"glass","mode":"off","until":"2026-07-01T13:00:00Z"`) {
		t.Errorf("the log says of it: %s", log)
	}
	later := now.Add(time.Hour)
	clock.Store(&later)
	if _, body := s.upload(s.image("a", nil), tokenA, []byte("data"), false); reason(body) != "signature_required" {
		t.Errorf("upload after break-glass: %s, want signature_required", body)
	}
}
