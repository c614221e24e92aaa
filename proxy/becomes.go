package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy/receipt"
)

// An image comes under another rule when its owner or its visibility changes, or
// when it gets its first member. What it becomes has to satisfy that rule: a
// receipt says so, for nobody looks at the data again.

// becoming returns the rules that an image may be under when these changes are
// done, without its present one. None: neither owner nor visibility changes.
//
// Two changes may arrive in either order. So one of the owner counts for every
// visibility, and one of the visibility for the owner as it is.
func (p *Proxy) becoming(img Image, changes []change) ([]*policy.Rule, error) {
	var given []policy.Subject
	for _, c := range changes {
		switch {
		case isOwner(c.property):
			given = append(given, subjects(spellings(c.text()))...)
		case isVisibility(c.property) && slices.Contains(policy.Visibilities, policy.Visibility(c.text())): // Glance refuses others
			given = append(given, policy.Subject{Owner: img.Owner, Visibility: policy.Visibility(c.text())})
		}
	}
	return p.rulesFor(given)
}

func (p *Proxy) rulesFor(subjects []policy.Subject) (rules []*policy.Rule, err error) {
	for _, subject := range subjects {
		rule, err := p.Policies.For(subject)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(rules, rule.Is) {
			rules = append(rules, rule)
		}
	}
	return rules, nil
}

// spellings are the project ids that a database may take for the same as id:
// MariaDB compares without regard to case and to blanks at the end.
func spellings(id string) []string {
	if folded := strings.ToLower(strings.TrimSpace(id)); folded != id {
		return []string{id, folded}
	}
	return []string{id}
}

// worthy decides whether an image may come under other rules. What has no data
// yet, and is under a rule that enforces, will be judged when it has; an image
// that nobody looks at now would escape that. later says that it is so put off.
func (p *Proxy) worthy(ctx context.Context, u *uploading, property string, becomes []*policy.Rule) (proof *receipt.Receipt, later bool, err error) {
	for _, rule := range becomes {
		if rule.Mode != policy.Enforce {
			continue
		}
		if u.image.Status == statusQueued && u.rule.Mode == policy.Enforce && !isOwner(property) {
			later = true
			continue
		}
		proof, err = p.vouched(ctx, u.image, rule, false)
		if err == nil {
			err = p.boots(ctx, u.image, rule, u.who)
		}
		if err != nil {
			f := asRefusal(err)
			return nil, false, u.hold(rule, &Refusal{Code: f.Code, Property: property,
				Problem: "would bring the image under rule \"" + rule.Name + "\", which it does not satisfy: its " + f.Property + " " + f.Problem, Cure: f.Cure, Err: f.Err})
		}
	}
	return proof, later, nil
}

// become decides about what owner and visibility a PATCH gives an image. A new
// owner gets a new receipt along, in the same PATCH: the present one is for the
// present owner.
func (p *Proxy) become(r *http.Request, u *uploading, data []byte, changes []change, becomes []*policy.Rule) ([]byte, func(*http.Request) error, error) {
	property, owner := "visibility", ""
	for _, c := range changes {
		if isOwner(c.property) {
			property, owner = "owner", c.text()
		}
	}
	proof, later, err := p.worthy(r.Context(), u, property, becomes)
	if err != nil {
		return nil, nil, err
	}
	if proof != nil && property == "owner" {
		anew := *proof
		anew.Owner, anew.IssuedAt = owner, p.Now()
		text, err := p.keys().Sign(anew)
		if err != nil {
			return nil, nil, err
		}
		if data, err = appended(r, data, text); err != nil {
			return nil, nil, err
		}
		return data, func(*http.Request) error { return p.stays(r, u, map[string]string{receipt.Property: text}) }, nil
	}
	if locates(changes) { // which fixed has let pass for a service
		service, err := p.supplier(r, u, u.rule)
		if err == nil && service == nil {
			err = u.hold(u.rule, shut(u, "locations", "would bring in data that nobody has verified"))
		}
		return data, p.supplied(u, service), err
	}
	if later || u.image.Status == statusQueued && slices.ContainsFunc(changes, change.guarded) {
		return data, func(*http.Request) error { return p.stillJudged(r, u) }, nil
	}
	return data, nil, nil
}

// appended is a patch with one operation more, which replaces the receipt.
func appended(r *http.Request, patch []byte, text string) ([]byte, error) {
	operation := object{{"op", "replace"}, {"path", "/" + receipt.Property}, {"value", text}}
	if patchTypes[r.Header.Get("Content-Type")] {
		operation = object{{"replace", "/" + receipt.Property}, {"value", text}}
	}
	more, err := json.Marshal(operation)
	if err != nil {
		return nil, err
	}
	return slices.Concat(bytes.TrimSuffix(patch, []byte("]")), []byte(","), more, []byte("]")), nil
}

// share answers POST /v2/images/{id}/members, by which an image becomes one that
// is shared.
func (p *Proxy) share(w http.ResponseWriter, r *http.Request) {
	var then func(*http.Request) error
	if p.Policies.Enforcing() {
		u, err := p.find(r, "update/members")
		if err == nil {
			then, err = p.sharable(r, u)
		}
		if err != nil {
			p.refuse(w, r, err)
			return
		}
	}
	p.passThen(w, r, then)
}

func (p *Proxy) sharable(r *http.Request, u *uploading) (func(*http.Request) error, error) {
	becomes, err := p.rulesFor([]policy.Subject{{Owner: u.image.Owner, Visibility: policy.Shared}})
	if err != nil {
		return nil, err
	}
	if becomes[0].Mode != policy.Enforce {
		return nil, nil
	}
	if err := p.name(r, u, becomes[0], "update/members"); err != nil {
		return nil, err
	}
	_, later, err := p.worthy(r.Context(), u, "members", becomes)
	if err != nil {
		return nil, err
	}
	u.passes()
	if !later {
		return nil, nil
	}
	return func(*http.Request) error { return p.stillJudged(r, u) }, nil
}

// outgrown tells whether an image has come under a rule, while its data was
// uploaded, that the upload does not satisfy.
func (p *Proxy) outgrown(ctx context.Context, u *uploading, img Image) (difference string, err error) {
	if !p.Policies.LooksAtVisibility() {
		return "", nil
	}
	rule, err := p.ruleOf(ctx, img, u.who)
	if err != nil || rule.Mode != policy.Enforce || rule.Name == u.rule.Name && rule.Line == u.rule.Line {
		return "", err
	}
	if u.kind == receipt.Exempt {
		return "the image, which no one has verified, came under rule \"" + rule.Name + "\"", nil
	}
	seen := u.testimony(img, p.Now())
	if p.satisfies(&seen, rule) != nil {
		return "the image came under rule \"" + rule.Name + "\", which it does not satisfy,", nil
	}
	return "", nil
}
