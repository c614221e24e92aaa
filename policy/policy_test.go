package policy_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/countersign/countersign/policy"
)

const (
	acme    = "3f0c2b6d9a8e4c1f8b7a6d5e4c3b2a19"
	globex  = "00000000000000000000000000000002"
	initech = "00000000000000000000000000000003"
	hooli   = "00000000000000000000000000000004"
)

// load is for policies that must load.
func load(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Load(strings.NewReader(text))
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	return p
}

const mixed = `
rules:
  - name: by id
    projects:
      - id: 3f0c2b6d-9a8e-4c1f-8b7a-6d5e4c3b2a19
      - id: tenant_A-1
    mode: enforce
    signers: any
  - name: by name
    projects:
      - id: "00000000000000000000000000000002"
      - {name: prod, domain: Default}
      - {name: prod, domain: other}
    mode: enforce
    signers: any
  - name: later
    projects: [id: 00000000000000000000000000000003]
    mode: off
  - name: rest
    projects: all
    mode: audit
`

func TestFor(t *testing.T) {
	inDefault := policy.Project{Name: "prod", Domain: "Default"}
	inOther := policy.Project{Name: "prod", Domain: "other"}
	absent := policy.Resolution{State: policy.Absent}
	found := func(id string) policy.Resolution { return policy.Resolution{State: policy.Found, ID: id} }

	var p *policy.Policy
	given := func(ids map[policy.Project]policy.Resolution) { p = load(t, mixed).Resolve(ids) }
	applies := func(owner, rule string) {
		t.Helper()
		got, err := p.For(policy.Subject{Owner: owner})
		if err != nil || got.Name != rule {
			t.Errorf("For(%q) = %+v, %v, want rule %q", owner, got, err, rule)
		}
	}
	refused := func(owner string, code policy.Code) {
		t.Helper()
		got, err := p.For(policy.Subject{Owner: owner})
		var r *policy.Refusal
		if !errors.As(err, &r) || r.Code != code || got != nil {
			t.Errorf("For(%q) = %+v, %v, want refusal %s", owner, got, err, code)
			return
		}
		if r.Property != "owner" || r.Problem == "" || r.Cure == "" {
			t.Errorf("For(%q) refuses with %+v, want property, problem and cure", owner, *r)
		}
	}

	// All names are known.
	given(map[policy.Project]policy.Resolution{inDefault: found(hooli), inOther: absent})
	applies(acme, "by id")
	applies("3F0C2B6D9A8E4C1F8B7A6D5E4C3B2A19", "by id")
	applies("3f0c2b6d-9a8e-4c1f-8b7a-6d5e4c3b2a19", "by id")
	applies("tenant_A-1", "by id")
	applies("TENANT_A-1", "rest") // only hexadecimal ids have two spellings
	applies(globex, "by name")
	applies(hooli, "by name")
	applies(initech, "later")
	applies("ffffffffffffffffffffffffffffffff", "rest")
	applies("no such id!", "rest")
	refused("", policy.CodeImageUnowned)

	// One name is unknown: whom no rule before it matches may be meant by it,
	// and whom its own rule lists is in it anyway.
	given(map[policy.Project]policy.Resolution{inDefault: found(hooli)})
	applies(acme, "by id")
	applies(globex, "by name")
	applies(hooli, "by name")
	refused(initech, policy.CodePolicyUndecided)
	refused("ffffffffffffffffffffffffffffffff", policy.CodePolicyUndecided)
	refused("no such id!", policy.CodePolicyUndecided)
	refused("", policy.CodeImageUnowned)

	// Nothing was asked, or nothing sensible answered: the same.
	for _, ids := range []map[policy.Project]policy.Resolution{
		nil,
		{inDefault: found(""), inOther: found("a b")},
		{inDefault: {ID: hooli}, inOther: {State: 99, ID: initech}},
	} {
		given(ids)
		applies(acme, "by id")
		applies(globex, "by name")
		refused(hooli, policy.CodePolicyUndecided)
		refused(initech, policy.CodePolicyUndecided)
	}
	p = load(t, mixed)
	applies(acme, "by id")
	refused(initech, policy.CodePolicyUndecided)

	// A name that means nobody does not hold up the rules below.
	given(map[policy.Project]policy.Resolution{inDefault: absent, inOther: absent})
	applies(initech, "later")
	applies(hooli, "rest")

	// A name may turn out to be a project that is listed by id: first wins.
	given(map[policy.Project]policy.Resolution{inDefault: found(acme), inOther: found(initech)})
	applies(acme, "by id")
	applies(initech, "by name")
}

// The first name that is unknown decides, not the last.
func TestForTwoUnknown(t *testing.T) {
	p := load(t, `
rules:
  - {projects: [{name: a, domain: d}], mode: enforce, signers: any}
  - {projects: [id: abc], mode: off}
  - {projects: [{name: b, domain: d}], mode: enforce, signers: any}
  - {projects: all, mode: audit}`)
	if r, err := p.For(policy.Subject{Owner: "abc"}); err == nil {
		t.Errorf("For(abc) = %+v, want a refusal: the project a may be abc", r)
	}
	p = p.Resolve(map[policy.Project]policy.Resolution{{Name: "a", Domain: "d"}: {State: policy.Absent}})
	if r, err := p.For(policy.Subject{Owner: "abc"}); err != nil || r.Mode != policy.Off {
		t.Errorf("For(abc) = %+v, %v, want the rule that lists it", r, err)
	}
	if r, err := p.For(policy.Subject{Owner: "def"}); err == nil {
		t.Errorf("For(def) = %+v, want a refusal: the project b may be def", r)
	}
}

func TestUnowned(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"a rule of its own", `
rules:
  - {name: nobody's, unowned: true, mode: enforce, signers: any}
  - {name: rest, projects: all, mode: audit}`, "nobody's"},
		{"together with projects", `
rules:
  - {name: one, projects: [id: abc], unowned: true, mode: enforce, signers: any}
  - {name: rest, projects: all, mode: audit}`, "one"},
		{"together with all", `
rules:
  - {name: one, projects: [id: abc], mode: enforce, signers: any}
  - {name: rest, projects: all, unowned: true, mode: audit}`, "rest"},
		{"a name nobody could resolve is not the owner", `
rules:
  - {name: one, projects: [{name: prod, domain: d}], mode: enforce, signers: any}
  - {name: rest, projects: all, unowned: true, mode: audit}`, "rest"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := load(t, test.text).For(policy.Subject{})
			if err != nil || r.Name != test.want {
				t.Errorf(`For("") = %+v, %v, want rule %q`, r, err, test.want)
			}
		})
	}
	p := load(t, "rules:\n- {unowned: false, projects: all, mode: audit}")
	if r, err := p.For(policy.Subject{}); err == nil {
		t.Errorf(`For("") = %+v with unowned: false, want a refusal`, r)
	}
}

func TestNamesAndResolve(t *testing.T) {
	p := load(t, mixed)
	want := []policy.Project{{Name: "prod", Domain: "Default"}, {Name: "prod", Domain: "other"}}
	if got := p.Names(); !slices.Equal(got, want) {
		t.Fatalf("Names() = %v, want %v", got, want)
	}
	resolved := p.Resolve(map[policy.Project]policy.Resolution{
		want[0]: {State: policy.Found, ID: acme},
		want[1]: {State: policy.Absent},
	})
	if got := p.Warnings(); len(got) != 0 {
		t.Errorf("Resolve changed the policy it was called on: Warnings() = %q", got)
	}
	if _, err := p.For(policy.Subject{Owner: initech}); err == nil {
		t.Error("Resolve changed the policy it was called on: For decides")
	}
	if !p.Undecided() || resolved.Undecided() {
		t.Errorf("Undecided() = %v before and %v after Resolve, want true and false", p.Undecided(), resolved.Undecided())
	}
	for name, want := range map[policy.Project]policy.Resolution{
		want[0]:              {State: policy.Found, ID: acme},
		want[1]:              {State: policy.Absent},
		{Name: "not listed"}: {},
	} {
		if got := resolved.Resolution(name); got != want {
			t.Errorf("Resolution(%v) = %+v, want %+v", name, got, want)
		}
		if got := p.Resolution(name); got != (policy.Resolution{}) {
			t.Errorf("Resolution(%v) before Resolve = %+v, want Unknown", name, got)
		}
	}
	got := resolved.Warnings()
	if len(got) != 2 ||
		!strings.HasPrefix(got[0], "line 12: project "+acme+` is already matched by rule "by id"`) ||
		!strings.HasPrefix(got[1], `line 13: Keystone knows no project "prod" in domain "other"`) {
		t.Errorf("Warnings() = %q, want one for line 12 (already matched) and one for line 13 (absent)", got)
	}
	if got := resolved.Names(); !slices.Equal(got, want) {
		t.Errorf("Names() after Resolve = %v, want %v: names can change their meaning", got, want)
	}
	again := resolved.Resolve(nil)
	if _, err := again.For(policy.Subject{Owner: initech}); err == nil {
		t.Error("a name that is no longer known still decides")
	}
}

func TestDefault(t *testing.T) {
	p := policy.Default()
	for _, owner := range []string{"", acme, "anything"} {
		r, err := p.For(policy.Subject{Owner: owner})
		if err != nil || r.Mode != policy.Audit {
			t.Errorf("Default().For(%q) = %+v, %v, want audit", owner, r, err)
		}
	}
	if len(p.Names()) != 0 {
		t.Errorf("Default().Names() = %v, want none", p.Names())
	}
}

// large is a policy with n rules of one project each.
func large(n int) string {
	var b strings.Builder
	b.WriteString("rules:\n")
	for i := range n {
		fmt.Fprintf(&b, "- projects: [id: %032x]\n  mode: enforce\n  signers: any\n", i)
	}
	b.WriteString("- projects: all\n  mode: audit\n")
	return b.String()
}

// A rule is the same however often it is asked for, by whomever, and whichever rules
// are asked for in between; but not that of another policy.
func TestForGivesOutTheSameRule(t *testing.T) {
	const rules = 1000
	p, other := load(t, large(rules)), load(t, large(rules))
	ask := func(p *policy.Policy, i int) *policy.Rule {
		r, err := p.For(policy.Subject{Owner: fmt.Sprintf("%032x", i)})
		if err != nil || r.Name != fmt.Sprintf("rule %d", i+1) || r.Mode != policy.Enforce {
			t.Errorf("For(%d) = %+v, %v, want rule %d", i, r, err, i+1)
		}
		return r
	}
	first := make([]*policy.Rule, rules)
	for i := range first {
		first[i] = ask(p, i)
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for i, r := range first {
				if again := ask(p, i); !again.Is(r) || again.Is(first[(i+1)%rules]) || again.Is(ask(other, i)) {
					t.Errorf("rule %d is itself: %v, the next one: %v, another policy's: %v, want true, false, false",
						i, again.Is(r), again.Is(first[(i+1)%rules]), again.Is(ask(other, i)))
				}
			}
		})
	}
	all.Wait()
	if n := testing.AllocsPerRun(100, func() { ask(p, 7) }); n > 4 { // which the owner and the name in ask are
		t.Errorf("asking for the same rule again and again allocates %v objects, want 4 at most", n)
	}
}

func BenchmarkFor(b *testing.B) {
	for _, n := range []int{10, 1000, 100_000} {
		p := load(b, large(n))
		owner := fmt.Sprintf("%032x", n-1)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if r, err := p.For(policy.Subject{Owner: owner}); err != nil || r.Mode != policy.Enforce {
					b.Fatal(r, err)
				}
			}
		})
	}
}

func BenchmarkLoad(b *testing.B) {
	text := large(100_000)
	for b.Loop() {
		load(b, text)
	}
}

// A name that is Unknown keeps nobody out where no rule in question enforces:
// between rules that refuse nothing there is nothing to decide.
func TestForUnknownAmongRulesThatRefuseNothing(t *testing.T) {
	for _, test := range []struct {
		named, last string
		want        bool
	}{
		{"audit", "audit", true},
		{"off", "audit", true},
		{"audit", "enforce\n    signers: any", false},
		{"enforce\n    signers: any", "audit", false},
		{"enforce\n    signers: any", "off", false},
	} {
		p, err := policy.Load(strings.NewReader("rules:\n  - projects: [{name: prod, domain: Default}]\n    mode: " + test.named +
			"\n  - projects: all\n    mode: " + test.last + "\n"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.For(policy.Subject{Owner: "b"}); (err == nil) != test.want {
			t.Errorf("For an owner that may be the unknown project of a rule with mode %s, before one with %s = %v, want decided %v", test.named, test.last, err, test.want)
		}
	}
}
