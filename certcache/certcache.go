// Package certcache fetches signing certificates from the key manager, and remembers them for a while.
//
// It promises that a certificate it hands out was fetched in the name of the project that owns the image: what was
// fetched for one project's images never serves another's. Barbican is asked with the caller's own token, and so decides
// who may read what. Vault and a Directory know no projects: whoever may upload may name any certificate that is stored
// there. It promises an answer within the configured time, one fetch for any number of callers who want the same
// certificate at once, and that no caller's token outlives the call it came with, in a key, an entry or an error.
//
// It trusts the key manager to enforce its own access rules, and nothing else: answers are bounded, redirects are not
// followed, and what does not read as an answer counts as none.
//
// It refuses to look inside a certificate. Whether the bytes are a certificate, and until when, is asked of the
// function in CacheConfig; whether it may sign is policy's question.
//
//	barbican := certcache.NewBarbican(certcache.BarbicanConfig{Endpoint: endpoint})
//	source := certcache.NewCache(barbican, certcache.CacheConfig{NotAfter: notAfter})
//	c, err := source.Certificate(ctx, certcache.Ref{Owner: image.Owner, ID: spec.CertificateID, Token: token})
package certcache

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Ref says which certificate is wanted, for whose image, and by whom.
type Ref struct {
	// Owner is the ID of the project that owns the image, as Glance has it. Empty for an image without owner, for
	// which nothing is remembered.
	Owner string
	// ID is the certificate's UUID in lower case, with dashes.
	ID string
	// Token is the caller's, for Barbican. It is used for this one call and kept nowhere.
	Token string
}

// A Certificate is what the key manager stores under an ID.
type Certificate struct {
	// Data is the payload, PEM or DER, as it was stored. It belongs to whoever received it.
	Data []byte
	// Expires is when the key manager will forget the secret; zero means never. It is not the certificate's notAfter.
	Expires time.Time
}

// A Source has certificates: a key manager, a directory, or a cache in front of another Source.
//
// Its error is, or wraps, ErrNotFound, ErrForbidden, ErrUnauthorized, a *NotCertificateError or an *UnavailableError.
// A Source is safe for concurrent use and returns soon after ctx ends.
type Source interface {
	Certificate(ctx context.Context, ref Ref) (Certificate, error)
}

var (
	// ErrNotFound means that the key manager knows no such certificate: never stored, deleted, or past its expiration.
	ErrNotFound = errors.New("certificate not found")
	// ErrForbidden means that the token is good, but does not give the right to read this certificate.
	ErrForbidden = errors.New("token may not read the certificate")
	// ErrUnauthorized means that the key manager does not accept the token.
	ErrUnauthorized = errors.New("token not accepted by the key manager")
)

// A NotCertificateError says that the ID leads to something which is no certificate.
type NotCertificateError struct {
	// Problem continues the sentence 'not a certificate: '.
	Problem string
	// Err is what CacheConfig.NotAfter said. It may be nil.
	Err error
}

// Unwrap returns Err.
func (e *NotCertificateError) Unwrap() error { return e.Err }

func (e *NotCertificateError) Error() string { return "not a certificate: " + e.Problem }

// An UnavailableError says that nobody knows: the key manager is slow, away, or answered with something that is not an
// answer. The same question may do better later.
type UnavailableError struct {
	// Err is the cause. It holds no token and nothing the key manager wrote.
	Err error
}

func (e *UnavailableError) Error() string { return fmt.Sprintf("key manager unavailable: %v", e.Err) }

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }

// canonical reports whether id is a UUID in lower case with dashes, the only form that becomes a path or a key.
func canonical(id string) bool {
	if len(id) != 36 {
		return false
	}
	for i := range len(id) {
		switch c := id[i]; {
		default:
			return false
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case '0' <= c && c <= '9', 'a' <= c && c <= 'f':
		}
	}
	return true
}

// errID is the answer to every other form.
func errID() error {
	return &NotCertificateError{Problem: "its id is not a lower-case UUID with dashes"}
}
