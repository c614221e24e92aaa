// Package trust decides whether a certificate that signs images is vouched for
// by certificates that an operator lists.
//
// It promises that an accepted signer has a chain of certificates in which
// every link holds by RFC 5280, section 6.1: signature, dates,
// basicConstraints, path length, key usage, name constraints, critical
// extensions, certificate policies and, where revocation lists are given,
// revocation. Whatever the lists look like, loops, look-alikes and unreadable
// entries included, the answer comes within bounds of steps and time.
//
// It trusts the listed certificates alone: those of a chain come from the list,
// save the signer. It refuses what it cannot decide, such as a revocation list
// that is missing or stale, and says which check failed at which certificate.
//
//	set, err := trust.New(trust.Config{Certificates: []trust.Entry{{Source: "root.pem", Data: root}}})
//	...
//	report := set.Verify(signer, time.Now(), time.Now())
//	if err := report.Err(); err != nil {
//		return err
//	}
//
// The package does no input or output, and keeps no clock: it is told the time.
package trust

import (
	"encoding/asn1"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/countersign/countersign/signature"
)

// A Mode says where a chain may end.
type Mode string

const (
	// Root: in a listed certificate that signs itself and is a CA, as cursive
	// and Nova have it. Intermediates have to be listed, too.
	Root Mode = "root"
	// Anchor: in any listed certificate, be it an intermediate, or the signer
	// itself, which then needs no issuer.
	Anchor Mode = "anchor"
)

// Modes lists the modes. It is not to be modified.
var Modes = []Mode{Root, Anchor}

// An Entry is something an operator lists.
type Entry struct {
	Source string // where it comes from, for messages: a path, an id
	Data   []byte // PEM, any number of blocks; or DER, of one
}

// Config is what a Set is made of.
type Config struct {
	Mode         Mode // empty is Root
	Certificates []Entry
	// CRLs are complete revocation lists of version 2 (RFC 5280, section 5).
	// With any entry, every certificate of a chain but its last needs one by
	// its issuer that counts today, and an entry that cannot be read leaves
	// every chain undecided. Without entries nothing is revoked.
	CRLs []Entry

	// Denied are the SHA-256 fingerprints, in lower-case hex, of certificates
	// that no chain may contain.
	Denied []string

	// What is demanded of the signer. Empty members demand nothing.
	Subjects         []Pattern           // one of these
	KeyTypes         []signature.KeyType // one of these
	ExtendedKeyUsage []asn1.ObjectIdentifier
	KeyUsage         []KeyUsage

	// MinRSABits is the least length of an RSA modulus or DSA prime anywhere
	// in a chain; 0 is 2048.
	MinRSABits int

	// NotBefore and NotAfter bound the time in which the set vouches for
	// anybody, both inclusive. Zero is without bound.
	NotBefore, NotAfter time.Time
}

// DefaultMinRSABits is what Config.MinRSABits is if nothing is said.
const DefaultMinRSABits = 2048

// A Problem is an entry that was left out of a set.
type Problem struct {
	Source string
	Text   string // continues the source to a sentence
}

func (p Problem) String() string { return p.Source + " " + p.Text }

// A Set is a list of certificates that are trusted to vouch for signers. It
// never changes, and is safe for concurrent use.
type Set struct {
	config    Config
	listed    []*certificate
	lists     []*list
	bySubject map[string][]*certificate // a name's canonical form → who has it
	problems  []Problem
	unread    []Problem // those of revocation lists, which leaves open whom they revoke
	revokes   bool      // there are lists, or should be

	mu    sync.Mutex                // guards links
	links map[[2]*certificate]error // signatures between listed certificates, once checked
}

// New makes a set. Entries that cannot be read are left out, and told by
// Problems: a chain that needs one is refused. The error is about the other
// members of the Config.
func New(c Config) (*Set, error) {
	if c.Mode == "" {
		c.Mode = Root
	}
	if !slices.Contains(Modes, c.Mode) {
		return nil, fmt.Errorf("mode %q is neither root nor anchor", c.Mode)
	}
	for _, usage := range c.KeyUsage {
		if _, ok := usageBits[usage]; !ok {
			return nil, fmt.Errorf("key usage %q is not one of RFC 5280's", usage)
		}
	}
	if c.MinRSABits == 0 {
		c.MinRSABits = DefaultMinRSABits
	}
	s := &Set{
		config:    c,
		bySubject: make(map[string][]*certificate),
		links:     make(map[[2]*certificate]error),
	}
	seen := make(map[string]bool)
	for _, entry := range c.Certificates {
		s.addCertificates(entry, seen)
	}
	for _, entry := range c.CRLs {
		s.addLists(entry)
	}
	for _, one := range s.listed {
		s.bySubject[one.subject] = append(s.bySubject[one.subject], one)
	}
	for _, one := range s.listed {
		one.anchor, one.noAnchor = s.isAnchor(one)
	}
	s.findWays()
	s.revokes = len(c.CRLs) > 0
	s.config.Certificates, s.config.CRLs = nil, nil // parsed, and not needed again
	return s, nil
}

// Problems tells what was left out, in the order given.
func (s *Set) Problems() []Problem { return slices.Clone(s.problems) }

// Mode is Root or Anchor.
func (s *Set) Mode() Mode { return s.config.Mode }

// Certificates lists what could be read, each once.
func (s *Set) Certificates() []*signature.Certificate {
	var list []*signature.Certificate
	for _, one := range s.listed {
		list = append(list, one.Certificate)
	}
	return list
}

func (s *Set) addCertificates(entry Entry, seen map[string]bool) {
	blocks, problem := split(entry.Data, "CERTIFICATE", "X509 CERTIFICATE")
	if problem != "" {
		s.problems = append(s.problems, Problem{entry.Source, problem})
	}
	for i, block := range blocks {
		one, err := parseCertificate(block)
		if err != nil {
			s.problems = append(s.problems, Problem{entry.Source, fmt.Sprintf("has a certificate that cannot be used (number %d): %v", i+1, err)})
			continue
		}
		one.source = entry.Source
		if !seen[one.Fingerprint()] {
			seen[one.Fingerprint()] = true
			s.listed = append(s.listed, one)
		}
	}
}

func (s *Set) addLists(entry Entry) {
	blocks, problem := split(entry.Data, "X509 CRL")
	if problem != "" {
		p := Problem{entry.Source, problem}
		s.problems, s.unread = append(s.problems, p), append(s.unread, p)
	}
	for i, block := range blocks {
		one, err := parseList(block)
		if err != nil {
			p := Problem{entry.Source, fmt.Sprintf("has a revocation list that cannot be used (number %d): %v", i+1, err)}
			s.problems, s.unread = append(s.problems, p), append(s.unread, p)
			continue
		}
		one.source = entry.Source
		if one.undecided != "" {
			s.problems = append(s.problems, Problem{entry.Source, fmt.Sprintf("has a revocation list that decides nothing (number %d): %s", i+1, one.undecided)})
		}
		s.lists = append(s.lists, one)
	}
}

// isAnchor says whether a chain may end in a listed certificate, or else why
// not. That a root signs itself proves nothing; it tells a root from others of
// its name, so that the hash of that signature does not matter.
func (s *Set) isAnchor(one *certificate) (bool, string) {
	switch s.config.Mode {
	default:
		return false, "is listed in a set of unknown mode"
	case Anchor:
		return true, ""
	case Root:
		switch {
		case one.subject != one.issuer:
			return false, "does not sign itself, which mode root wants of the last certificate"
		case one.verifySelf() != nil:
			return false, "has its own name for issuer, but its key did not sign it, which mode root wants of the last certificate"
		case !one.parsed.IsCA:
			return false, "signs itself, but is no CA, which mode root wants; a pinned signer is for mode anchor"
		}
		return true, ""
	}
}

// findWays marks the certificates from whose names a listed anchor can be
// reached, so that a search turns back early.
func (s *Set) findWays() {
	var open []*certificate
	for _, one := range s.listed {
		if one.anchor {
			one.way = true
			open = append(open, one)
		}
	}
	byIssuer := make(map[string][]*certificate)
	for _, one := range s.listed {
		byIssuer[one.issuer] = append(byIssuer[one.issuer], one)
	}
	for len(open) > 0 {
		last := open[len(open)-1]
		open = open[:len(open)-1]
		for _, one := range byIssuer[last.subject] {
			if !one.way {
				one.way = true
				open = append(open, one)
			}
		}
	}
}
