package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy"
	"github.com/countersign/countersign/proxy/receipt"
)

// Glance lets a member give an image away with "add", though not with
// "replace": an unverified one would turn up in a project that takes none.
func TestNobodyGivesAnUnverifiedImageToAnEnforcedProject(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	for _, owner := range []string{"b", "c", "a"} {
		for _, status := range []string{"active", "queued"} {
			id := s.image(owner, map[string]string{"status": status})
			for _, to := range []any{"a", "k", "A", " a", "a "} {
				for _, path := range []string{"/owner", "/ owner ", "//owner", "/own\\u0065r", "/OWNER"} {
					for _, body := range spelledPatches(path, to) {
						code, answer, got := s.patched(rec, id, "token-"+owner, body[0], body[1])
						if code != 403 || reason(answer) != "receipt_missing" || got != "nothing" {
							t.Errorf("PATCH %s of an image of %s = %d %s, and arrives as %s, want 403 receipt_missing", body[1], owner, code, answer, got)
						}
					}
				}
			}
			if owner == "a" {
				id = s.verified(owner, nil)
			}
			for _, to := range []any{"b", "c", "elsewhere"} {
				for _, body := range spelledPatches("/owner", to) {
					if code, answer, got := s.patched(rec, id, "token-"+owner, body[0], body[1]); code != 200 || got == "nothing" {
						t.Errorf("PATCH %s of an image of %s = %d %s, want it to pass", body[1], owner, code, answer)
					}
				}
			}
			// No rule of the test's policy is about images without owner.
			for _, body := range spelledPatches("/owner", nil) {
				if code, answer, got := s.patched(rec, id, "token-"+owner, body[0], body[1]); code != 403 || got != "nothing" {
					t.Errorf("PATCH %s of an image of %s = %d %s, want 403", body[1], owner, code, answer)
				}
			}
		}
	}
}

// A verified image can be given away, and is vouched for there, too: the receipt
// for its new owner goes along.
func TestAVerifiedImageIsGivenAwayWithAReceipt(t *testing.T) {
	for _, from := range []string{"a", "b", "c"} {
		s := newStage(t)
		id := s.verified(from, nil)
		for _, body := range [][2]string{
			{patch21, `[{"op":"replace","path":"/owner","value":"k"}]`},
		} {
			if code, answer := s.do("PATCH", "/v2/images/"+id, "token-"+from, strings.NewReader(body[1]), "Content-Type", body[0]); code != 200 {
				// The new owner is not the caller: the fake no longer shows the image to it.
				t.Fatalf("PATCH %s of a verified image of %s = %d %s, want 200", body[1], from, code, answer)
			}
		}
		if r := s.receipt(id); r.Owner != "k" || r.Image != id {
			t.Errorf("the receipt is for %s, want k", r.Owner)
		}
		if code, answer := s.do("PATCH", "/v2/images/"+id, "token-k", strings.NewReader(`[{"op":"add","path":"/name","value":"x"}]`), "Content-Type", patch21); code != 200 {
			t.Errorf("PATCH by the new owner = %d %s, want 200: it is vouched for", code, answer)
		}
	}
}

// visibilities is a policy that holds what others may boot stricter.
func visibilities(t *testing.T) func(*proxy.Config) {
	t.Helper()
	rules, err := policy.Load(strings.NewReader(`
rules:
  - name: shown
    projects: [{id: a}]
    visibility: [public, community, shared]
    mode: enforce
    signers: any
    min_rsa_bits: 2048
  - name: strict
    projects: [{id: s}]
    visibility: [public]
    mode: enforce
    signers: any
    min_rsa_bits: 4096
  - name: mild
    projects: [{id: s}]
    mode: enforce
    signers: any
  - projects: all
    mode: off
`))
	if err != nil {
		t.Fatal(err)
	}
	return func(c *proxy.Config) { c.Policies = rules }
}

func TestWhatAnImageBecomesWantsAReceipt(t *testing.T) {
	s := newStage(t, visibilities(t))
	rec := record200(s)
	private := map[string]string{"visibility": "private"}
	unsigned := s.image("a", map[string]string{"visibility": "private", "status": "active"})
	for name, test := range map[string]struct{ id, to, reason string }{
		"unsigned, shown":                    {unsigned, "public", "receipt_missing"},
		"unsigned, shown to who knows it":    {unsigned, "community", "receipt_missing"},
		"unsigned, shared":                   {unsigned, "shared", "receipt_missing"},
		"unsigned, private as before":        {unsigned, "private", ""},
		"queued, under no rule":              {s.image("a", private), "public", "receipt_missing"},
		"verified, shown":                    {s.verified("a", private), "public", ""},
		"verified with a key that is weak":   {s.verified("s", private), "public", "key_too_small"},
		"verified, shared with a mild rule":  {s.verified("s", private), "shared", ""},
		"queued, and judged later":           {s.image("s", private), "public", ""},
		"saving":                             {s.image("s", map[string]string{"visibility": "private", "status": "saving"}), "public", "door_closed"},
		"uploaded by a service":              {s.verified("a", private, byNova), "public", "receipt_invalid receipt_exempt"},
		"boots from elsewhere":               {s.verified("a", map[string]string{"visibility": "private", "block_device_mapping": "[{}]"}), "public", "receipt_invalid"},
		"with a kernel that nobody verified": {s.verified("a", map[string]string{"visibility": "private", "kernel_id": unsigned}), "public", "receipt_missing"},
		"with a verified kernel":             {s.verified("a", map[string]string{"visibility": "private", "kernel_id": s.verified("a", nil)}), "public", ""},
	} {
		owner := s.glance.images[test.id].text("owner")
		for _, path := range []string{"/visibility", "/ visibility", "/VISIBILITY"} {
			body := fmt.Sprintf(`[{"op":"replace","path":%q,"value":%q}]`, path, test.to)
			code, answer, got := s.patched(rec, test.id, "token-"+owner, patch21, body)
			if test.reason == "" && (code != 200 || got == "nothing") {
				t.Errorf("%s: PATCH %s = %d %s, want it to pass", name, body, code, answer)
			}
			if test.reason != "" && (code != 403 || !strings.Contains(test.reason, reason(answer)) || got != "nothing") {
				t.Errorf("%s: PATCH %s = %d %s, and arrives as %s, want %s", name, body, code, answer, got, test.reason)
			}
		}
		if test.to != "shared" {
			continue
		}
		code, answer := s.do("POST", "/v2/images/"+test.id+"/members", "token-"+owner, strings.NewReader(`{"member":"x"}`), "Content-Type", "application/json")
		if got := rec.take(); (code == 200) != (test.reason == "") || (len(got) == 1) != (test.reason == "") {
			t.Errorf("%s: POST of a member = %d %s, and arrives %d times, want %q", name, code, answer, len(got), test.reason)
		}
	}
}

func TestMembersWantAReceipt(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	shared := map[string]string{"visibility": "shared"}
	with := func(status string) map[string]string {
		return map[string]string{"visibility": "shared", "status": status}
	}
	for name, test := range map[string]struct{ id, reason string }{
		"queued":                  {s.image("a", shared), ""},
		"verified":                {s.verified("a", shared), ""},
		"active without receipt":  {s.image("a", with("active")), "receipt_missing"},
		"saving":                  {s.image("a", with("saving")), "receipt_missing"},
		"uploaded by a service":   {s.verified("a", shared, byNova), "receipt_invalid receipt_exempt"},
		"of an audited project":   {s.image("b", with("active")), ""},
		"of a project left alone": {s.image("c", with("active")), ""},
		"forged":                  {s.verified("a", map[string]string{receipt.Property: "x"}), "receipt_invalid"},
	} {
		token := "token-" + s.glance.images[test.id].text("owner")
		code, answer := s.do("POST", "/v2/images/"+test.id+"/members", token, strings.NewReader(`{"member":"x"}`), "Content-Type", "application/json")
		got := rec.take()
		if test.reason == "" && (code != 200 || len(got) != 1 || got[0].body != `{"member":"x"}`) {
			t.Errorf("%s: POST of a member = %d %s, and arrives as %v, want it to pass", name, code, answer, got)
		}
		if test.reason != "" && (code != 403 || !strings.Contains(test.reason, reason(answer)) || len(got) != 0) {
			t.Errorf("%s: POST of a member = %d %s, and arrives %d times, want %s", name, code, answer, len(got), test.reason)
		}
	}
}
