package proxy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/countersign/countersign/proxy"
	"github.com/countersign/countersign/signature"
)

// trail keeps the events of the audit trail.
type trail struct {
	mu     sync.Mutex // guards what follows
	events [][]byte
}

func (a *trail) Record(event []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.events = append(a.events, event)
}

// await returns the events, once there are so many.
func (a *trail) await(t *testing.T, n int) [][]byte {
	t.Helper()
	var events [][]byte
	waitFor(t, func() bool {
		a.mu.Lock()
		defer a.mu.Unlock()
		events = slices.Clone(a.events)
		return len(events) == n
	}, func() { t.Fatalf("there are %d events, want %d", len(events), n) })
	return events
}

func TestAuditTrail(t *testing.T) {
	audit := new(trail)
	s := newStage(t, func(c *proxy.Config) { c.Audit, c.Observer = audit, "images-1" })
	data := random(t, 1000)
	properties := signed(t, data)
	good, bad, unsigned := s.image("a", properties), s.image("a", properties), s.image("b", nil)
	s.upload(good, tokenA, data, false)
	audit.await(t, 1)
	s.upload(bad, tokenA, flipped(data, 1), false)
	audit.await(t, 2)
	s.upload(unsigned, tokenB, data, false)
	s.upload(s.image("c", nil), tokenC, data, false) // off: nothing is decided
	s.do("GET", "/v2/images", tokenA, nil)
	events := audit.await(t, 3)

	for i, want := range []struct{ outcome, target, project, reasonType, reasonCode, rule, mode, status, auditOnly string }{
		{"success", good, "a", "HTTP", "204", "enforced", "enforce", "204", "false"},
		{"failure", bad, "a", "countersign", "signature_mismatch", "enforced", "enforce", "400", "false"},
		{"failure", unsigned, "b", "countersign", "signature_required", "rule 4", "audit", "204", "true"},
	} {
		e := flat(t, events[i])
		for name, value := range map[string]string{
			"typeURI":                          "http://schemas.dmtf.org/cloud/audit/1.0/event",
			"eventType":                        "control",
			"action":                           "update/upload",
			"outcome":                          want.outcome,
			"initiator.typeURI":                "service/security/account/user",
			"initiator.id":                     "user-" + want.project,
			"initiator.name":                   want.project,
			"initiator.project_id":             want.project,
			"initiator.host.address":           "127.0.0.1",
			"target.typeURI":                   "service/storage/image",
			"target.id":                        want.target,
			"target.project_id":                want.project,
			"observer.typeURI":                 "service/security",
			"observer.name":                    "images-1",
			"reason.reasonType":                want.reasonType,
			"reason.reasonCode":                want.reasonCode,
			"reason.policyType":                "countersign",
			"reason.policyId":                  want.rule,
			"attachments.0.name":               "countersign",
			"attachments.0.typeURI":            "mime:application/json",
			"attachments.0.content.mode":       want.mode,
			"attachments.0.content.status":     want.status,
			"attachments.0.content.audit_only": want.auditOnly,
		} {
			if e[name] != value {
				t.Errorf("event %d has %s = %q, want %q", i, name, e[name], value)
			}
		}
		if _, err := uuid.Parse(e["id"]); err != nil {
			t.Errorf("event %d has the id %q", i, e["id"])
		}
		if at, err := time.Parse("2006-01-02T15:04:05.000000-0700", e["eventTime"]); err != nil || time.Since(at) > time.Minute {
			t.Errorf("event %d has the time %q, %v", i, e["eventTime"], err)
		}
		for what, secret := range map[string]string{"token": "token-", "signature": properties[signature.PropertySignature]} {
			if bytes.Contains(events[i], []byte(secret)) {
				t.Errorf("event %d has a %s: %s", i, what, events[i])
			}
		}
		if bytes.ContainsAny(events[i], "\r\n") {
			t.Errorf("event %d is more than a line", i)
		}
	}
	if got := flat(t, events[1])["attachments.0.content.cleanup"]; got != "deleted" {
		t.Errorf("the refused upload's clean-up is %q, want deleted", got)
	}

	// Whose token it was may not be known.
	s.keystone.down = true
	s.upload(s.image("b", nil), tokenB, data, false)
	e := flat(t, audit.await(t, 4)[3])
	if e["initiator.typeURI"] != "unknown" || e["initiator.id"] != "unknown" {
		t.Errorf("without a Keystone the initiator is %q %q, want unknown", e["initiator.typeURI"], e["initiator.id"])
	}
}

// flat is a JSON object with a path for each value.
func flat(t *testing.T, text []byte) map[string]string {
	t.Helper()
	var parsed any
	if err := json.Unmarshal(text, &parsed); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	found := map[string]string{}
	var walk func(path []string, value any)
	walk = func(path []string, value any) {
		switch value := value.(type) {
		case map[string]any:
			for _, name := range slices.Sorted(maps.Keys(value)) {
				walk(append(slices.Clone(path), name), value[name])
			}
		case []any:
			for i, inner := range value {
				walk(append(slices.Clone(path), fmt.Sprint(i)), inner)
			}
		default:
			found[strings.Join(path, ".")] = fmt.Sprint(value)
		}
	}
	walk(nil, parsed)
	return found
}
