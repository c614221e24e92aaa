package policy

import (
	"crypto/rsa"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/countersign/countersign/signature"
)

// Mode is what happens to an image that does not satisfy its rule.
type Mode string

const (
	Off     Mode = "off"     // nothing is looked at
	Audit   Mode = "audit"   // what Enforce would refuse is logged, and passes
	Enforce Mode = "enforce" // refused
)

// OnFailure is what happens to the image record after a wrong signature.
type OnFailure string

const (
	Delete OnFailure = "delete" // the image is deleted
	Keep   OnFailure = "keep"   // the image stays queued, and may be corrected
)

// ImportMode is what becomes of an import of staged data.
type ImportMode string

const (
	ImportRefuse ImportMode = "refuse"
	ImportDirect ImportMode = "direct" // glance-direct passes, if a receipt vouches for what was staged
)

// Downloads is what handing out an image's data depends on. In a growing order.
type Downloads string

const (
	DownloadsAny     Downloads = "any"     // nothing
	DownloadsReceipt Downloads = "receipt" // a valid receipt
	DownloadsVerify  Downloads = "verify"  // the bytes are checked again as they go out
)

// Stricter returns the one of two that demands more.
func (d Downloads) Stricter(other Downloads) Downloads {
	if slices.Index(downloads, other) > slices.Index(downloads, d) {
		return other
	}
	return d
}

// Unverified is what a scan does with an active image that does not verify.
type Unverified string

const (
	UnverifiedReport     Unverified = "report"
	UnverifiedDeactivate Unverified = "deactivate"
	UnverifiedDelete     Unverified = "delete"
)

// Expired is what an expired certificate does to an image that a receipt says
// was verified before.
type Expired string

const (
	ExpiredRefuse         Expired = "refuse"                    // it counts no more
	ExpiredVerifiedBefore Expired = "accept_if_verified_before" // dates are judged as of then
)

// The words that the file has for these.
var (
	modes        = []Mode{Off, Audit, Enforce}
	onFailures   = []OnFailure{Delete, Keep}
	expireds     = []Expired{ExpiredRefuse, ExpiredVerifiedBefore}
	imports      = []ImportMode{ImportRefuse, ImportDirect}
	downloads    = []Downloads{DownloadsAny, DownloadsReceipt, DownloadsVerify}
	unverifieds  = []Unverified{UnverifiedReport, UnverifiedDeactivate, UnverifiedDelete}
	serviceModes = []ServiceMode{ServicesExempt, ServicesEnforce}
)

// Rule is what some projects demand.
type Rule struct {
	Name string // the label given, or "rule N" counting from 1
	Line int    // where it begins in the file

	Projects   []Entry      // whom it is for; empty if All or only Unowned. Only Policy.Rules fills it in
	All        bool         // for every project no earlier rule matched
	Unowned    bool         // for images without owner
	Visibility []Visibility // for such images only; empty: for every one

	Mode        Mode
	AnySigner   bool     // no certificate in particular is demanded
	Signers     []Signer // else one of these
	KeyTypes    []signature.KeyType
	HashMethods []signature.HashMethod
	MinRSABits  int // at least 1024; says nothing about other keys
	OnFailure   OnFailure
	Expired     Expired

	Import     ImportMode
	Downloads  Downloads
	Ranges     bool // with DownloadsVerify: parts are handed out too, where a receipt vouches
	Services   Services
	Unverified Unverified

	// A break-glass rule loosens for a while what later rules demand: until
	// then, on whose word, and why. The three are set together, with mode Off
	// or Audit; after Until the rule matches nobody.
	Until           time.Time
	Sponsor, Reason string

	sets   []*anchors // those that Signers name, as Policy.With has loaded them
	denied *Denials   // the policy's; nil if nothing is
	origin *origin    // whose For it came from
}

// Is reports whether two rules that For has given out are the same of one policy.
func (r *Rule) Is(other *Rule) bool { return r.origin == other.origin && r.Name == other.Name }

// BreakGlass reports whether the rule ends by itself.
func (r *Rule) BreakGlass() bool { return !r.Until.IsZero() }

// Over reports whether the rule has ended.
func (r *Rule) Over(now time.Time) bool { return r.BreakGlass() && !now.Before(r.Until) }

// Sees reports whether the rule is for images of this visibility at all.
func (r *Rule) Sees(v Visibility) bool {
	i := v.index()
	return i >= 0 && setOf(r.Visibility).has(i)
}

// Entry is one project in a rule: by its id, or by name and domain.
type Entry struct {
	ID      string // canonical; empty if named
	Project Project
	Line    int
}

// Signer is a certificate that a rule trusts. One field is set.
type Signer struct {
	// CertificateID is the secret's UUID in the key manager, lower case
	// with dashes. A secret's payload cannot be changed there, so the id
	// pins the certificate as far as the key manager is trusted.
	CertificateID string
	// Fingerprint is the SHA-256 of the certificate's DER in lower-case
	// hex: this very certificate, wherever it is stored.
	Fingerprint string
	// Trust is the name of a trust set: whoever it vouches for.
	Trust string
}

// minRSABits is what is demanded if a rule says nothing, and the least it
// may say.
const minRSABits = 1024

// CheckSpec says whether the rule admits the key type and the hash method.
// The error is a *Refusal.
func (r *Rule) CheckSpec(spec signature.Spec) error {
	if !slices.Contains(r.KeyTypes, spec.KeyType) {
		return &Refusal{
			Code:     CodeKeyTypeNotAllowed,
			Property: signature.PropertyKeyType,
			Problem:  fmt.Sprintf("is %q, which rule %q does not allow", spec.KeyType, r.Name),
			Cure:     "sign with a key of type " + alternatives(r.KeyTypes),
		}
	}
	if !slices.Contains(r.HashMethods, spec.HashMethod) {
		return &Refusal{
			Code:     CodeHashMethodNotAllowed,
			Property: signature.PropertyHashMethod,
			Problem:  fmt.Sprintf("is %q, which rule %q does not allow", spec.HashMethod, r.Name),
			Cure:     "sign with the hash method " + alternatives(r.HashMethods),
		}
	}
	return nil
}

// CheckCertificate says whether the rule takes the certificate c, which the key
// manager has under id (canonical, as in signature.Spec): its dates, whether it
// is denied or trusted, and whether its key is long enough. It does not look at
// the key's type, which is signature's business. The error is a *Refusal, or a
// *signature.PropertyError for a date.
func (r *Rule) CheckCertificate(id string, c *signature.Certificate, at Moment) error {
	if r.denied.certificate(c.Fingerprint()) {
		return &Refusal{
			Code:     CodeCertificateDenied,
			Property: signature.PropertyCertificate,
			Problem:  fmt.Sprintf("is a certificate that the policy denies, whatever rule %q says", r.Name),
			Cure:     "sign with another key; the operator has denied this one by its fingerprint",
		}
	}
	if err := c.CheckDates(r.judged(at)); err != nil {
		return err
	}
	if err := r.trusts(id, c, at); err != nil {
		return err
	}
	if key, ok := c.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < r.MinRSABits {
		return &Refusal{
			Code:     CodeKeyTooSmall,
			Property: signature.PropertyCertificate,
			Problem:  fmt.Sprintf("is a certificate whose RSA key has %d bits, and rule %q demands %d", key.N.BitLen(), r.Name, r.MinRSABits),
			Cure:     fmt.Sprintf("sign with an RSA key of at least %d bits, or with an elliptic curve", r.MinRSABits),
		}
	}
	return nil
}

// alternatives is "A, B or C".
func alternatives[T ~string](words []T) string {
	var b strings.Builder
	for i, word := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			b.WriteString(" or ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(string(word))
	}
	return b.String()
}
