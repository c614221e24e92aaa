package proxy

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy/keystone"
)

// serviceRole is the role that marks a token in X-Service-Token as a service's.
// Glance itself believes any valid token there (service_token_roles_required is
// false by default in keystonemiddleware).
const serviceRole = "service"

// serviceOf tells which service sends a request in its user's name, or nil where
// none does: there is no X-Service-Token, Keystone does not know it, or it lacks
// the role service. A member's own token there makes nobody a service.
func (p *Proxy) serviceOf(ctx context.Context, r *http.Request) (*keystone.Identity, error) {
	token := r.Header.Get("X-Service-Token")
	if token == "" {
		return nil, nil
	}
	who, err := p.Identities.Validate(ctx, token)
	switch {
	case errors.Is(err, keystone.ErrInvalidToken):
		return nil, nil
	case err != nil:
		return nil, noServiceCredential(err)
	case !slices.Contains(who.Roles, serviceRole):
		return nil, nil
	}
	return &who, nil
}

// exempted is the service that sends a request, if the rule lets it bring in what
// is not signed: Nova's snapshots and Cinder's volumes never are. Nil: nobody is
// exempt.
func (p *Proxy) exempted(ctx context.Context, r *http.Request, rule *policy.Rule) (*keystone.Identity, error) {
	if rule.Services.Mode != policy.ServicesExempt {
		return nil, nil // spares Keystone the question
	}
	who, err := p.serviceOf(ctx, r)
	if err != nil || who == nil || !rule.Exempts(who.UserID, who.UserName, who.UserDomain) {
		return nil, err
	}
	return who, nil
}
