// Package policy decides which rule applies to an image and what that rule
// demands of its signature.
//
// It promises that for every owner there is either one rule or one refusal
// that says why, and that a policy which loads has a rule for everybody. It
// trusts the file it is given and what the caller says about project names.
// It refuses what cannot be decided: unknown fields, rules that could never
// apply, and owners that might be a project whose name Keystone could not
// resolve.
//
// A policy is an ordered list; the first rule that matches the image's owner
// and visibility applies:
//
//	rules:
//	  - name: production
//	    projects:
//	      - id: 3f0c2b6d9a8e4c1f8b7a6d5e4c3b2a19
//	      - name: prod
//	        domain: Default
//	    mode: enforce
//	    signers:
//	      - certificate: cd7cc675-e573-419c-8fff-33a72734a243
//	    min_rsa_bits: 2048
//	  - projects: all
//	    unowned: true
//	    mode: audit
//
// The package does no input or output of its own: names arrive resolved,
// certificates arrive loaded.
package policy

import (
	"bytes"
	_ "embed"
	"encoding/hex"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// Policy is a list of rules, ready to be asked. It never changes, but for rules
// that end; Resolve makes another one. Safe for concurrent use.
type Policy struct {
	rules *packed
	names map[Project]Resolution // as Resolve was told
	now   func() time.Time       // asked only where a rule ends

	made   [256]atomic.Pointer[made] // rules as they were asked for, rule i in place i%256
	origin *origin                   // of these

	// Of the rules that do not end, so that their number costs nothing when an
	// image arrives:
	listed    byID  // project id → first rule that lists it
	all       first // first rule for all projects
	unowned   first // first rule for images without owner
	undecided first // first rule with a name that is Unknown
	strict    first // likewise, of those that enforce

	sets   []*TrustSet
	denied *Denials

	loaded []*anchors // of sets

	ending   []ending // break-glass rules: a handful
	warnings []string

	// What is true of any rule.
	enforcing, looksAtVisibility, unknown bool
	guardsDownloads                       Mode // the strictest of those that do
}

// made is a rule that was asked for. As long as nobody asks for another one of the
// same place, it is not made again.
type made struct {
	number int
	Rule
}

// origin tells the rules of one policy from those of another.
type origin struct{ _ byte }

// byID finds projects by their canonical ids, without a pointer for those that
// Keystone makes.
type byID struct {
	usual  map[[16]byte]first // ids of 32 hexadecimal digits
	others map[string]first
}

func newByID(usual int) byID {
	return byID{make(map[[16]byte]first, usual), make(map[string]first)}
}

// get is what set was told, or nothing.
func (b byID) get(id string) first {
	var found first
	var ok bool
	if key, usual := usualID(id); usual {
		found, ok = b.usual[key]
	} else {
		found, ok = b.others[id]
	}
	if !ok {
		return nothing
	}
	return found
}

func (b byID) set(id string, to first) {
	if key, usual := usualID(id); usual {
		b.usual[key] = to
	} else {
		b.others[strings.Clone(id)] = to // of a text that is not to be held
	}
}

// usualID reads 32 hexadecimal digits. Canonical ids have them in lower case only.
func usualID(id string) (key [16]byte, usual bool) {
	if len(id) != 2*len(key) {
		return key, false
	}
	var digits [32]byte
	copy(digits[:], id)
	_, err := hex.Decode(key[:], digits[:])
	return key, err == nil
}

// first is, for each of Visibilities, the first rule that something is true of,
// or none.
type first [4]int32

var nothing = first{none, none, none, none}

// note remembers that rule i, which is for images in set, is such a rule.
func (f *first) note(i int, set visibilities) {
	for v := range f {
		if set.has(v) {
			f[v] = min(f[v], int32(i))
		}
	}
}

// ending is a break-glass rule's share of the index.
type ending struct {
	rule      int32
	made      *Rule
	ids       map[string]bool
	undecided bool // it has a name that is Unknown
}

// none is later than every rule.
const none = math.MaxInt32

// Project names a Keystone project by its name in a domain.
type Project struct {
	Name, Domain string
}

// String is "name in domain".
func (p Project) String() string { return fmt.Sprintf("%q in domain %q", p.Name, p.Domain) }

// State says what became of the question which project a name means.
type State int

const (
	// Unknown: Keystone could not be asked. Any owner might be this
	// project, so whom no earlier rule matches is refused.
	Unknown State = iota
	// Absent: Keystone says that there is no such project. The name
	// matches nobody.
	Absent
	// Found: the project has the id in Resolution.ID.
	Found
)

// Resolution is what Keystone said about a name. The zero value is Unknown.
type Resolution struct {
	State State
	ID    string // for Found: the project's id
}

//go:embed default.yaml
var defaultYAML []byte

// Default is the policy where none is set: audit for all images, with and
// without owner.
func Default() *Policy {
	p, err := Load(bytes.NewReader(defaultYAML))
	if err != nil {
		panic("policy: the embedded default: " + err.Error())
	}
	return p
}

// Rules lists the rules in order.
func (p *Policy) Rules() []*Rule {
	rules := make([]*Rule, p.Len())
	for i := range rules {
		r := p.rules.rule(i)
		r.Projects = slices.Collect(p.rules.projects(i))
		rules[i] = &r
	}
	return rules
}

// Len is how many rules there are.
func (p *Policy) Len() int { return p.rules.len() }

// Enforcing reports whether any rule enforces.
func (p *Policy) Enforcing() bool { return p.enforcing }

// LooksAtVisibility reports whether any rule has a visibility. If none has, all
// images of an owner are under one rule.
func (p *Policy) LooksAtVisibility() bool { return p.looksAtVisibility }

// GuardsDownloads is the strictest mode of the rules that demand something of
// downloads, Off where none does.
func (p *Policy) GuardsDownloads() Mode { return p.guardsDownloads }

// Undecided reports whether some name is Unknown, and so may keep images out.
func (p *Policy) Undecided() bool { return p.unknown }

// BreakGlass lists the rules that end by themselves, those that are over too,
// in order, without their projects. They are not to be changed.
func (p *Policy) BreakGlass() []*Rule {
	var list []*Rule
	for _, e := range p.ending {
		list = append(list, e.made)
	}
	return list
}

// Names lists the projects that want resolving, each once, in the order of
// the file.
func (p *Policy) Names() []Project { return slices.Clone(p.rules.names) }

// Resolve returns a copy in which names mean the ids given, or the policy itself
// where it has no names. A name that is missing from ids is Unknown; so is one found
// with an id that is none.
func (p *Policy) Resolve(ids map[Project]Resolution) *Policy {
	if len(p.rules.names) == 0 {
		return p
	}
	names := make(map[Project]Resolution)
	for _, name := range p.rules.names {
		r := ids[name]
		if r.State == Found {
			id, ok := canonicalID(r.ID)
			if r = (Resolution{State: Found, ID: id}); !ok {
				r = Resolution{}
			}
		}
		names[name] = r
	}
	resolved := newPolicy(p.rules, names, p.now)
	resolved.sets, resolved.loaded, resolved.denied = p.sets, p.loaded, p.denied
	return resolved
}

// newPolicy makes the index. A name missing from names is Unknown.
func newPolicy(rules *packed, names map[Project]Resolution, now func() time.Time) *Policy {
	p := &Policy{rules: rules, names: names, now: now, origin: new(origin), listed: newByID(len(rules.entries)),
		all: nothing, unowned: nothing, undecided: nothing, strict: nothing, guardsDownloads: Off}
	for i := range rules.len() {
		r := rules.demandsOf(i)
		p.enforcing = p.enforcing || r.Mode == Enforce
		p.looksAtVisibility = p.looksAtVisibility || len(r.Visibility) > 0
		if r.Downloads != DownloadsAny && p.guardsDownloads != Enforce {
			p.guardsDownloads = r.Mode
		}
		set := setOf(r.Visibility)
		glass := ending{rule: int32(i)}
		if r.BreakGlass() {
			glass.made, glass.ids = p.make(i), make(map[string]bool)
		}
		for e := range rules.projects(i) {
			id := e.ID
			if id == "" {
				switch resolution := names[e.Project]; resolution.State {
				default:
					p.unknown, glass.undecided = true, true
					continue
				case Absent:
					p.warnings = append(p.warnings, fmt.Sprintf(
						"line %d: Keystone knows no project %s; this entry of rule %q matches nobody", e.Line, e.Project, rules.name(i)))
					continue
				case Found:
					id = resolution.ID
				}
			}
			matched := p.listed.get(id)
			if earlier, all := matched.cover(set, i); all {
				p.warnings = append(p.warnings, fmt.Sprintf(
					"line %d: project %s is already matched by rule %q; this entry of rule %q never applies", e.Line, id, rules.name(earlier), rules.name(i)))
			}
			if r.BreakGlass() {
				glass.ids[strings.Clone(id)] = true
			} else {
				matched.note(i, set)
				p.listed.set(id, matched)
			}
		}
		if r.BreakGlass() {
			p.ending = append(p.ending, glass)
			continue
		}
		if r.All {
			p.all.note(i, set)
		}
		if r.Unowned {
			p.unowned.note(i, set)
		}
		if glass.undecided {
			p.undecided.note(i, set)
			if r.Mode == Enforce {
				p.strict.note(i, set)
			}
		}
	}
	return p
}

// rule is rule i as For gives it out.
func (p *Policy) rule(i int32) *Rule {
	place := &p.made[int(i)%len(p.made)]
	if m := place.Load(); m != nil && m.number == int(i) {
		return &m.Rule
	}
	m := &made{int(i), *p.make(int(i))}
	place.Store(m)
	return &m.Rule
}

func (p *Policy) make(i int) *Rule {
	r := p.rules.rule(i)
	r.origin = p.origin
	return &r
}

// cover reports whether rules before i are there for all of set, and one of them.
func (f first) cover(set visibilities, i int) (earlier int, all bool) {
	for v := range f {
		if !set.has(v) {
			continue
		}
		if int(f[v]) >= i {
			return none, false
		}
		earlier = int(f[v])
	}
	return earlier, true
}

// Resolution is what Resolve was told about a name.
func (p *Policy) Resolution(name Project) Resolution { return p.names[name] }

// Warnings tells, one sentence each, which entries match nobody now that
// names are resolved.
func (p *Policy) Warnings() []string { return slices.Clone(p.warnings) }

// For returns the rule for an image, without its projects. It is not to be changed.
// The error is a *Refusal with CodeImageUnowned or CodePolicyUndecided.
func (p *Policy) For(s Subject) (*Rule, error) {
	v := s.Visibility.index()
	if v < 0 {
		return nil, &Refusal{
			Code:     CodePolicyUndecided,
			Property: "visibility",
			Problem:  fmt.Sprintf("is %q, which the policy does not know", s.Visibility),
			Cure:     "set it to " + alternatives(Visibilities),
		}
	}
	if s.Owner == "" {
		match := p.unowned[v]
		for _, e := range p.ending {
			if e.rule < match && e.made.Unowned && p.on(e, s.Visibility) {
				match = e.rule
			}
		}
		if match == none {
			return nil, &Refusal{
				Code:     CodeImageUnowned,
				Property: "owner",
				Problem:  "is not set, and no rule of the policy is for images that belong to no project",
				Cure:     "give the image an owner, or ask the operator for a rule with `unowned: true`",
			}
		}
		return p.rule(match), nil
	}
	id, ok := canonicalID(s.Owner)
	if !ok {
		id = s.Owner // listed nowhere, so a rule for all applies
	}
	match := min(p.listed.get(id)[v], p.all[v]) // Load saw to it that there is one for all
	undecided := p.undecided[v]
	for _, e := range p.ending {
		if e.rule < match && p.on(e, s.Visibility) {
			if e.ids[id] || e.made.All {
				match = e.rule
			} else if e.undecided {
				undecided = min(undecided, e.rule)
			}
		}
	}
	// Between rules that refuse nothing there is nothing to decide.
	if p.strict[v] < match || undecided < match && p.rules.demandsOf(int(match)).Mode == Enforce {
		return nil, &Refusal{
			Code:     CodePolicyUndecided,
			Property: "owner",
			Problem: fmt.Sprintf("is a project to which rule %q may or may not apply: the rule has a project by its name, and the identity service could not be asked which one that is",
				p.rules.name(int(undecided))),
			Cure: "try again later; the operator can avoid this by listing projects by id",
		}
	}
	return p.rule(match), nil
}

// on reports whether a break-glass rule is for images of this visibility now.
func (p *Policy) on(e ending, v Visibility) bool {
	return e.made.Sees(v) && !e.made.Over(p.now())
}

// canonicalID is how a project id is compared. Keystone makes 32 hexadecimal
// digits in lower case; the dashes of a UUID and upper case mean the same.
// Other ids are taken as they are, if they hold nothing but letters, digits,
// '_' and '-', 64 at most, as Keystone's column has it.
func canonicalID(id string) (string, bool) {
	plain := id
	if len(id) == 36 && id[8] == '-' && id[13] == '-' && id[18] == '-' && id[23] == '-' {
		plain = id[:8] + id[9:13] + id[14:18] + id[19:23] + id[24:]
	}
	if len(plain) == 32 && strings.Trim(plain, "0123456789abcdefABCDEF") == "" {
		return strings.ToLower(plain), true
	}
	if id == "" || len(id) > 64 {
		return "", false
	}
	for _, c := range []byte(id) {
		if !('0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || c == '_' || c == '-') {
			return "", false
		}
	}
	return id, true
}
