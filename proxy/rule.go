package proxy

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/countersign/countersign/policy"
)

// ruleOf finds the rule that an image is under. Only where it matters whether a
// shared image has members is Glance asked for them, with the caller's own
// credentials.
func (p *Proxy) ruleOf(ctx context.Context, img Image, who credentials) (*policy.Rule, error) {
	rule, err := p.Policies.For(policy.Subject{Owner: img.Owner, Visibility: img.Visibility})
	if img.Visibility != policy.Shared || !p.Policies.LooksAtVisibility() {
		return rule, err
	}
	alone, err2 := p.Policies.For(policy.Subject{Owner: img.Owner, Visibility: policy.Private})
	if err == nil && err2 == nil && alone.Is(rule) {
		return rule, nil
	}
	has, unknown := p.glance.hasMembers(ctx, img.ID, who)
	switch {
	case unknown != nil:
		return nil, &Refusal{Code: string(policy.CodePolicyUndecided), Property: "visibility",
			Problem: "is shared, the policy has another rule for images with members, and Glance does not tell whether this one has any",
			Cure:    "set it to private, or try again", Err: fmt.Errorf("%v", unknown)} // Glance's answer is not the client's
	case has:
		return rule, err
	}
	return alone, err2
}

// hasMembers reports whether an image is shared with anybody, whether they have
// accepted or not.
func (g *glance) hasMembers(ctx context.Context, id string, who credentials) (bool, error) {
	data, err := g.call(ctx, "GET", "/v2/images/"+id+"/members", who, nil, nil)
	if err != nil {
		return false, err
	}
	var answer struct{ Members *[]json.RawMessage }
	if err := json.Unmarshal(data, &answer); err != nil {
		return false, fmt.Errorf("an image's members as Glance shows them: %w", err)
	}
	if answer.Members == nil {
		return false, fmt.Errorf("an image's members as Glance shows them: there is no list")
	}
	return len(*answer.Members) > 0, nil
}

// subjects are the images that these owners may have, of whatever visibility.
func subjects(owners []string) []policy.Subject {
	var list []policy.Subject
	for _, owner := range owners {
		for _, v := range policy.Visibilities {
			list = append(list, policy.Subject{Owner: owner, Visibility: v})
		}
	}
	return list
}
