package main

import (
	"strings"
	"testing"

	"github.com/countersign/countersign/policy"
)

// What is explained is what the proxy does: for each owner, and each thing that
// Keystone may have said about names, the rule that the table says yes to is
// the policy's, and undecided is undecided.
func TestExplainAgreesWithPolicy(t *testing.T) {
	const (
		one, two, three = "11111111111111111111111111111111", "22222222222222222222222222222222", "33333333333333333333333333333333"
		text            = `rules:
  - {name: ids, projects: [{id: ONE}, {id: 22222222-2222-2222-2222-222222222222}], mode: MODE1, signers: any}
  - {name: first, projects: [{name: a, domain: d}], mode: MODE2, signers: any}
  - {name: both, projects: [{name: b, domain: d}, {id: special_3}], unowned: true, mode: MODE1, signers: any}
  - {name: rest, projects: all, mode: MODE3, signers: any}
`
	)
	resolutions := []policy.Resolution{
		{}, {State: policy.Absent}, {State: policy.Found, ID: one}, {State: policy.Found, ID: three},
	}
	count := map[string]int{}
	for _, modes := range [][]string{
		{"off", "enforce", "audit"}, {"audit", "audit", "enforce"}, {"enforce", "off", "audit"}, {"audit", "off", "audit"},
	} {
		file := strings.NewReplacer("MODE1", modes[0], "MODE2", modes[1], "MODE3", modes[2], "ONE", one).Replace(text)
		loaded, err := policy.Load(strings.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range resolutions {
			for _, b := range resolutions {
				p := loaded.Resolve(map[policy.Project]policy.Resolution{{Name: "a", Domain: "d"}: a, {Name: "b", Domain: "d"}: b})
				for _, id := range []string{one, two, three, "special_3", "44444444444444444444444444444444", ""} {
					x := &explanation{Owner: &owner{ID: id, Unowned: id == ""}}
					got := x.choose(p)
					want, err := p.For(policy.Subject{Owner: id})
					if got != want || (x.Undecided != "") != (err != nil) {
						t.Errorf("modes %v, a %v, b %v: choose(%q) = %v, %q, want %v, %v", modes, a, b, id, got, x.Undecided, want, err)
					}
					last := x.Considered[len(x.Considered)-1]
					if last.Applies != yes || got != nil && last.Rule != got.Name {
						t.Errorf("modes %v, a %v, b %v: choose(%q) says yes to %+v, the policy to %v", modes, a, b, id, last, got)
					}
					for _, c := range x.Considered[:len(x.Considered)-1] {
						if c.Applies == yes || c.Applies == maybe && a.State != policy.Unknown && b.State != policy.Unknown {
							t.Errorf("modes %v, a %v, b %v: choose(%q) says %+v, which is not the last", modes, a, b, id, c)
						}
					}
					count[last.Rule]++
					if err != nil {
						count["undecided"]++
					}
				}
			}
		}
	}
	for _, name := range []string{"ids", "first", "both", "rest", "undecided"} {
		if count[name] == 0 {
			t.Errorf("no case ended in %s: the test looks at too little", name)
		}
	}
}
