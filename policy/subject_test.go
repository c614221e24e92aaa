package policy_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/policy"
)

// A rule that has visibility takes its images, and leaves the others to the
// rules below.
func TestForVisibility(t *testing.T) {
	p := load(t, `
rules:
  - {name: published, projects: [id: a], visibility: [public, community], mode: enforce, signers: any}
  - {name: lent, projects: [{id: a}, {id: b}], visibility: [shared], mode: enforce, signers: any}
  - {name: own, projects: [id: a], mode: audit}
  - {name: anybody's, projects: all, unowned: true, visibility: [public], mode: enforce, signers: any}
  - {name: rest, projects: all, mode: off}
`)
	if !p.LooksAtVisibility() {
		t.Error("LooksAtVisibility() = false, want true")
	}
	for _, test := range []struct {
		owner      string
		visibility policy.Visibility
		want       string
	}{
		{"a", policy.Public, "published"},
		{"a", policy.Community, "published"},
		{"a", policy.Shared, "lent"},
		{"a", policy.Private, "own"},
		{"a", "", "own"},
		{"b", policy.Public, "anybody's"},
		{"b", policy.Community, "rest"},
		{"b", policy.Shared, "lent"},
		{"b", policy.Private, "rest"},
		{"c", policy.Public, "anybody's"},
		{"c", policy.Shared, "rest"},
		{"", policy.Public, "anybody's"},
	} {
		r, err := p.For(policy.Subject{Owner: test.owner, Visibility: test.visibility})
		if err != nil || r.Name != test.want {
			t.Errorf("For(%q, %q) = %+v, %v, want rule %q", test.owner, test.visibility, r, err, test.want)
		}
	}
	for subject, code := range map[policy.Subject]policy.Code{
		{Owner: "", Visibility: policy.Private}:  policy.CodeImageUnowned,
		{Owner: "a", Visibility: "hidden"}:       policy.CodePolicyUndecided,
		{Owner: "a", Visibility: "Public"}:       policy.CodePolicyUndecided,
		{Owner: "nobody's", Visibility: "x y z"}: policy.CodePolicyUndecided,
	} {
		r, err := p.For(subject)
		var refused *policy.Refusal
		if !errors.As(err, &refused) || refused.Code != code {
			t.Errorf("For(%+v) = %+v, %v, want refusal %s", subject, r, err, code)
		}
	}
	if load(t, mixed).LooksAtVisibility() {
		t.Error("LooksAtVisibility() = true without any, want false")
	}
}

// A name that is Unknown keeps those images out that its rule might be for, and
// no others.
func TestForUnknownVisibility(t *testing.T) {
	p := load(t, `
rules:
  - {projects: [{name: prod, domain: d}], visibility: [public], mode: enforce, signers: any}
  - {projects: all, mode: audit}
`)
	if r, err := p.For(policy.Subject{Owner: "a", Visibility: policy.Private}); err != nil || r.Mode != policy.Audit {
		t.Errorf("For a private image = %+v, %v, want the rule for all", r, err)
	}
	if r, err := p.For(policy.Subject{Owner: "a", Visibility: policy.Public}); err == nil {
		t.Errorf("For a public image = %+v, want a refusal", r)
	}
	named := policy.Project{Name: "prod", Domain: "d"}
	p = p.Resolve(map[policy.Project]policy.Resolution{named: {State: policy.Found, ID: "a"}})
	if r, err := p.For(policy.Subject{Owner: "a", Visibility: policy.Public}); err != nil || r.Mode != policy.Enforce {
		t.Errorf("For a public image of the project = %+v, %v, want its rule", r, err)
	}
	if r, err := p.For(policy.Subject{Owner: "b", Visibility: policy.Public}); err != nil || r.Mode != policy.Audit {
		t.Errorf("For a public image of another = %+v, %v, want the rule for all", r, err)
	}
}

func TestExempts(t *testing.T) {
	const text = `
rules:
  - projects: all
    mode: enforce
    signers: any
    services:
      users:
        - id: 3F0C2B6D9A8E4C1F8B7A6D5E4C3B2A19
        - {name: cinder, domain: Default}
      mode: `
	for _, test := range []struct {
		mode, id, name, domain string
		want                   bool
	}{
		{"exempt", acme, "anything", "anywhere", true},
		{"exempt", strings.ToUpper(acme), "", "", true},
		{"exempt", globex, "cinder", "Default", true},
		{"exempt", globex, "cinder", "other", false},
		{"exempt", globex, "Cinder", "Default", false},
		{"exempt", globex, "nova", "Default", false},
		{"exempt", "", "", "", false},
		{"enforce", acme, "cinder", "Default", false},
	} {
		r := load(t, text+test.mode).Rules()[0]
		if got := r.Exempts(test.id, test.name, test.domain); got != test.want {
			t.Errorf("mode %s: Exempts(%q, %q, %q) = %v, want %v", test.mode, test.id, test.name, test.domain, got, test.want)
		}
	}
	if load(t, mixed).Rules()[0].Exempts("", "", "") {
		t.Error("a rule without services exempts nobody's token")
	}
}

// A break-glass rule is there until its time has come, and then as if it had
// never been.
func TestBreakGlass(t *testing.T) {
	now := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	p, err := policy.LoadAt(strings.NewReader(`
rules:
  - name: over
    projects: all
    mode: off
    until: 2026-07-01T12:00:00Z
    owner: me
    reason: it was needed
  - name: short
    projects: [{id: a}, {name: prod, domain: d}]
    unowned: true
    mode: off
    until: 2026-07-01T14:00:00+01:00
    owner: me
    reason: it is needed
  - name: long
    projects: all
    visibility: [private]
    mode: audit
    until: 2026-07-31T12:00:00Z
    owner: me
    reason: it is needed for longer
  - {name: a, projects: [id: a], mode: enforce, signers: any}
  - {name: rest, projects: all, unowned: true, mode: enforce, signers: any}
`), func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	applies := func(owner string, visibility policy.Visibility, want string) {
		t.Helper()
		r, err := p.For(policy.Subject{Owner: owner, Visibility: visibility})
		if want == "" && err == nil || want != "" && (err != nil || r.Name != want) {
			t.Errorf("at %v, For(%q, %q) = %+v, %v, want rule %q", now, owner, visibility, r, err, want)
		}
	}
	if got := p.BreakGlass(); len(got) != 3 || got[0].Name != "over" || !got[0].Over(now) || got[2].Name != "long" || got[2].Over(now) {
		t.Errorf("BreakGlass() = %v, want three, the first of them over", got)
	}
	applies("a", policy.Private, "short")
	applies("a", policy.Public, "short")
	applies("", policy.Public, "short")
	applies("b", policy.Public, "") // it may be the project prod
	applies("b", policy.Private, "long")

	p = p.Resolve(map[policy.Project]policy.Resolution{{Name: "prod", Domain: "d"}: {State: policy.Found, ID: "b"}})
	applies("b", policy.Private, "short")
	applies("c", policy.Public, "rest")
	applies("c", policy.Private, "long")
	now = time.Date(2026, 7, 1, 12, 59, 59, 0, time.UTC)
	applies("a", policy.Private, "short")

	now = now.Add(time.Second)
	applies("a", policy.Private, "long")
	applies("a", policy.Public, "a")
	applies("b", policy.Public, "rest")
	applies("", policy.Public, "rest")
	now = now.AddDate(0, 1, 0)
	applies("a", policy.Private, "a")
	applies("b", policy.Private, "rest")
	if got := p.Warnings(); len(got) != 0 {
		t.Errorf("Warnings() = %q, want none", got)
	}

	p = p.Resolve(nil)
	applies("b", policy.Public, "rest") // what is over keeps nobody out, either
}

func TestDownloadsStricter(t *testing.T) {
	for _, test := range []struct{ a, b, want policy.Downloads }{
		{policy.DownloadsAny, policy.DownloadsReceipt, policy.DownloadsReceipt},
		{policy.DownloadsVerify, policy.DownloadsReceipt, policy.DownloadsVerify},
		{policy.DownloadsVerify, policy.DownloadsAny, policy.DownloadsVerify},
		{policy.DownloadsAny, policy.DownloadsAny, policy.DownloadsAny},
	} {
		if got := test.a.Stricter(test.b); got != test.want {
			t.Errorf("%s.Stricter(%s) = %s, want %s", test.a, test.b, got, test.want)
		}
		if got := test.b.Stricter(test.a); got != test.want {
			t.Errorf("%s.Stricter(%s) = %s, want %s", test.b, test.a, got, test.want)
		}
	}
}
