package trust

import (
	"errors"
	"fmt"
	"strings"
)

// A Check is a thing that a chain can fail at. The set is closed.
type Check string

const (
	CheckUnreadable        Check = "unreadable"         // the certificate as a whole
	CheckNoIssuer          Check = "no_issuer"          // nobody of the issuer's name is listed
	CheckSignature         Check = "signature"          // made by the issuer's key
	CheckAlgorithm         Check = "algorithm"          // not MD5 or SHA-1
	CheckKeySize           Check = "key_size"           // long enough
	CheckNotYetValid       Check = "not_yet_valid"      // notBefore
	CheckExpired           Check = "expired"            // notAfter
	CheckCA                Check = "ca"                 // basicConstraints: a CA issues
	CheckPathLength        Check = "path_length"        // basicConstraints: so many below
	CheckKeyUsage          Check = "key_usage"          // keyCertSign of a CA; the signer's
	CheckExtendedKeyUsage  Check = "extended_key_usage" // of the signer, and of CAs that have one
	CheckCriticalExtension Check = "critical_extension" // all known
	CheckNameConstraints   Check = "name_constraints"   // of all CAs above
	CheckPolicies          Check = "policies"           // where a CA demands one
	CheckAnchor            Check = "anchor"             // the chain ends where it may
	CheckLoop              Check = "loop"               // the same name and key twice
	CheckLength            Check = "length"             // not too many certificates
	CheckRevoked           Check = "revoked"            // not on its issuer's list
	CheckRevocationUnknown Check = "revocation_unknown" // there is such a list of today
	CheckDenied            Check = "denied"             // not on the list of those that are
	CheckSubject           Check = "subject"            // one of the set's patterns
	CheckKeyType           Check = "key_type"           // one of the set's
	CheckEndorsement       Check = "endorsement"        // the set's own dates
	CheckLimit             Check = "limit"              // the search ended in time
)

// Checks lists all of them. It is not to be modified.
var Checks = []Check{
	CheckUnreadable, CheckNoIssuer, CheckSignature, CheckAlgorithm, CheckKeySize, CheckNotYetValid, CheckExpired, CheckCA,
	CheckPathLength, CheckKeyUsage, CheckExtendedKeyUsage, CheckCriticalExtension, CheckNameConstraints, CheckPolicies,
	CheckAnchor, CheckLoop, CheckLength, CheckRevoked, CheckRevocationUnknown, CheckDenied, CheckSubject, CheckKeyType, CheckEndorsement,
	CheckLimit,
}

// A Failure says at which certificate which check failed.
type Failure struct {
	Check Check
	// Position counts from the signer, which is 0, along the chain.
	Position    int
	Subject     string // RFC 2253, as far as it can be decoded
	Fingerprint string // SHA-256 of the DER, lower-case hex
	Source      string // the entry it is from; empty for the signer
	Problem     string // continues the certificate to a sentence
}

// Error is one sentence: which certificate, and what is wrong with it.
func (f *Failure) Error() string {
	who := "the signer"
	if f.Position > 0 {
		who = fmt.Sprintf("certificate %d above the signer", f.Position)
	}
	return fmt.Sprintf("%s, %s, %s", who, shortName(f.Subject, f.Fingerprint), f.Problem)
}

func shortName(subject, fingerprint string) string {
	if subject == "" {
		subject = "without a name"
	}
	if len(subject) > 128 {
		subject = strings.ToValidUTF8(subject[:128], "") + "…"
	}
	return fmt.Sprintf("%q (SHA-256 %.16s…)", subject, fingerprint)
}

func (c *certificate) short() string { return shortName(c.Subject, c.Fingerprint()) }

// A Node is a certificate in the tree of tried paths. The root is the signer.
type Node struct {
	Subject     string
	Fingerprint string
	Source      string // the entry it is from; empty for the signer
	// Failure is why no path goes on from here. With Issuers it is about
	// what lies below, such as a name constraint of this certificate.
	Failure *Failure
	Anchor  bool // a path ended here and was accepted
	Issuers []*Node
	Hidden  int // issuers that were tried and are not told
}

// A Report is the answer of Verify.
type Report struct {
	// Path is the accepted chain, from the signer to where it ends; empty if
	// there is none.
	Path []*Node
	// Tree has every path that was tried.
	Tree *Node
	// Failure is that of the path which came nearest to being accepted.
	Failure *Failure
}

// ErrUntrusted is what errors.Is finds in the error of a Report.
var ErrUntrusted = errors.New("no chain of certificates is accepted")

// Err is nil if the signer is trusted, and else the Failure, which also is
// ErrUntrusted.
func (r *Report) Err() error {
	if len(r.Path) > 0 {
		return nil
	}
	if r.Failure == nil {
		return ErrUntrusted
	}
	return r.Failure
}

// Is makes every Failure an ErrUntrusted.
func (f *Failure) Is(target error) bool { return target == ErrUntrusted }

// Draw returns the tree as text, a line for each certificate and each failure,
// for people to read.
func (r *Report) Draw() string {
	var text strings.Builder
	r.Tree.draw(&text, "", "")
	return text.String()
}

func (n *Node) draw(text *strings.Builder, first, rest string) {
	from := ""
	if n.Source != "" {
		from = " from " + n.Source
	}
	text.WriteString(first + shortName(n.Subject, n.Fingerprint) + from + "\n")
	hasMore := len(n.Issuers) > 0 || n.Hidden > 0
	if n.Anchor {
		text.WriteString(rest + branch(hasMore) + "accepted: the chain ends here\n")
	}
	if n.Failure != nil {
		text.WriteString(rest + branch(hasMore) + string(n.Failure.Check) + ": " + n.Failure.where(n) + n.Failure.Problem + "\n")
	}
	for i, issuer := range n.Issuers {
		more := i < len(n.Issuers)-1 || n.Hidden > 0
		indent := "   "
		if more {
			indent = "│  "
		}
		issuer.draw(text, rest+branch(more)+"issued by ", rest+indent)
	}
	if n.Hidden > 0 {
		fmt.Fprintf(text, "%s└─ %d more\n", rest, n.Hidden)
	}
}

func branch(more bool) string {
	if more {
		return "├─ "
	}
	return "└─ "
}

// where names the certificate of a failure that is not the node's own.
func (f *Failure) where(n *Node) string {
	if f.Fingerprint == n.Fingerprint {
		return ""
	}
	return shortName(f.Subject, f.Fingerprint) + " "
}
