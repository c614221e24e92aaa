package keystone

import (
	"context"
	"crypto/sha256"
	"errors"
	"slices"
	"time"

	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	goodAge = time.Minute     // how long a revoked token is still believed, at most
	badAge  = 5 * time.Second // how long a token stays invalid without asking again
)

// Identity is who a token belongs to, and what it is good for.
type Identity struct {
	UserID, UserName, UserDomain string // UserDomain is the domain's name
	// Project is the scope; all three are empty for tokens without scope, of a domain, or of the system.
	ProjectID, ProjectName, ProjectDomain string
	Roles                                 []string // names, on that scope
	Expires                               time.Time
}

// identities remembers tokens by their hash. Invalid ones have a room of their own, so that garbage displaces nobody.
type identities struct {
	good *lru.Cache[[sha256.Size]byte, remembered]
	bad  *lru.Cache[[sha256.Size]byte, time.Time]
}

type remembered struct {
	identity Identity
	until    time.Time
}

func newIdentities() *identities {
	good, err := lru.New[[sha256.Size]byte, remembered](4096)
	if err != nil {
		panic("internal error: " + err.Error()) // the size is positive
	}
	bad, err := lru.New[[sha256.Size]byte, time.Time](1024)
	if err != nil {
		panic("internal error: " + err.Error())
	}
	return &identities{good: good, bad: bad}
}

// Validate returns whose token it is, ErrInvalidToken if Keystone says that it is nobody's, and another error if that
// cannot be found out. An answer is remembered for a minute, and not beyond the token's expiry; ErrInvalidToken for five
// seconds; other errors not at all.
func (c *Client) Validate(ctx context.Context, token string) (Identity, error) {
	if c.invalid != nil {
		return Identity{}, c.invalid
	}
	if token == "" {
		return Identity{}, ErrInvalidToken
	}
	k, now := sha256.Sum256([]byte(token)), c.cfg.Now()
	if r, ok := c.tokens.good.Get(k); ok && now.Before(r.until) {
		return r.identity.clone(), nil
	}
	if until, ok := c.tokens.bad.Get(k); ok && now.Before(until) {
		return Identity{}, ErrInvalidToken
	}

	identity, err := c.validate(ctx, token, now)
	switch {
	default:
		return Identity{}, err
	case errors.Is(err, ErrInvalidToken):
		c.tokens.good.Remove(k)
		c.tokens.bad.Add(k, now.Add(badAge))
		return Identity{}, err
	case err == nil:
		until := now.Add(goodAge)
		if identity.Expires.Before(until) {
			until = identity.Expires
		}
		c.tokens.good.Add(k, remembered{identity.clone(), until})
		return identity, nil
	}
}

func (c *Client) validate(ctx context.Context, token string, now time.Time) (Identity, error) {
	var answer struct {
		Token struct {
			User      *tokens.User    `json:"user"`
			Project   *tokens.Project `json:"project"`
			Roles     []tokens.Role   `json:"roles"`
			ExpiresAt time.Time       `json:"expires_at"`
		} `json:"token"`
	}
	const what = "validate a token"
	s, err := c.get(ctx, what, "auth/tokens?nocatalog", map[string]string{"X-Subject-Token": token}, &answer)
	switch {
	case errors.Is(err, errNotFound):
		return Identity{}, ErrInvalidToken
	case errors.Is(err, errRefused):
		// Keystone answers 404 for a subject it does not know, but a server in its place may not: if our own token
		// turns out to be good, the 401 was the subject's.
		if _, ours := c.get(ctx, what, "auth/tokens?nocatalog", map[string]string{"X-Subject-Token": s.token}, new(struct{})); ours != nil {
			return Identity{}, err
		}
		return Identity{}, ErrInvalidToken
	case err != nil:
		return Identity{}, err
	}
	t := answer.Token
	if t.User == nil || t.User.ID == "" || t.ExpiresAt.IsZero() {
		return Identity{}, errors.New("keystone: validate a token: its answer describes no token")
	}
	if !now.Before(t.ExpiresAt) {
		return Identity{}, ErrInvalidToken
	}
	identity := Identity{UserID: t.User.ID, UserName: t.User.Name, UserDomain: t.User.Domain.Name, Expires: t.ExpiresAt}
	if t.Project != nil {
		identity.ProjectID, identity.ProjectName, identity.ProjectDomain = t.Project.ID, t.Project.Name, t.Project.Domain.Name
	}
	for _, r := range t.Roles {
		identity.Roles = append(identity.Roles, r.Name)
	}
	return identity, nil
}

func (i Identity) clone() Identity {
	i.Roles = slices.Clone(i.Roles)
	return i
}
