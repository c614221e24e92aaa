package policy

import "slices"

// Services are users that upload on behalf of others, unsigned, such as Nova's
// and Cinder's, and what becomes of their uploads. That a request comes from
// such a user has to be known from a token, and is not this package's business.
type Services struct {
	Users []User
	Mode  ServiceMode
}

// ServiceMode is what the listed services are held to.
type ServiceMode string

const (
	ServicesExempt  ServiceMode = "exempt"  // their data is taken unverified
	ServicesEnforce ServiceMode = "enforce" // as everybody else
)

// User is one user in Keystone: by the id, or by name and domain.
type User struct {
	ID           string // canonical; empty if named
	Name, Domain string // the domain by its name
}

// Exempts reports whether the rule lists this user among its services and
// exempts them. Domain is the name of the user's domain.
func (r *Rule) Exempts(userID, userName, userDomain string) bool {
	if r.Services.Mode != ServicesExempt {
		return false
	}
	id, ok := canonicalID(userID)
	return slices.ContainsFunc(r.Services.Users, func(u User) bool {
		if u.ID != "" {
			return ok && u.ID == id
		}
		return userName != "" && u.Name == userName && u.Domain == userDomain
	})
}
