package trust

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/countersign/countersign/signature"
)

// The bounds of one search. A chain in use has three or four certificates, and
// Nova takes at most 50 that are trusted. The first search through a set checks
// the signatures between its certificates; later ones know them.
const (
	maxDepth      = 20              // certificates in a chain
	maxSteps      = 4096            // issuers looked at
	maxSignatures = 256             // signatures checked anew
	maxNodes      = 256             // told in the tree
	maxTime       = 2 * time.Second // measured on this machine's clock
)

// search is one depth-first walk from the signer upwards.
type search struct {
	set     *Set
	now, at time.Time
	end     time.Time

	path       []*certificate // from the signer
	nodes      []*Node        // of path
	steps      int
	signatures int
	told       int

	report    *Report
	bestScore int
	limit     string // why it ended early
}

// Verify looks for a chain from the signer c to where the set lets one end.
// Dates are judged at the time at, which is now, or earlier for an image that
// is known to have been verified then; revocation is judged now in either
// case.
func (s *Set) Verify(c *signature.Certificate, now, at time.Time) *Report {
	w := &search{set: s, now: now, at: at, end: time.Now().Add(maxTime), report: new(Report), bestScore: -1}
	w.report.Tree = &Node{Subject: c.Subject, Fingerprint: c.Fingerprint()}
	signer, err := parseCertificate(c.Raw)
	if err != nil {
		w.report.Failure = &Failure{Check: CheckUnreadable, Subject: c.Subject, Fingerprint: c.Fingerprint(),
			Problem: fmt.Sprintf("cannot be read whole, as a chain needs it to be: %v", err)}
		w.report.Tree.Failure = w.report.Failure
		return w.report
	}
	w.path, w.nodes = []*certificate{signer}, []*Node{w.report.Tree}
	if f := w.checkSigner(signer); f != nil {
		w.fail(f, 0)
		return w.report
	}
	w.climb()
	if w.limit != "" && len(w.report.Path) == 0 {
		w.report.Failure = w.failure(0, CheckLimit, "%s", w.limit)
		w.report.Tree.Failure = w.report.Failure
	}
	return w.report
}

func (w *search) failure(position int, check Check, format string, args ...any) *Failure {
	c := w.path[position]
	return &Failure{Check: check, Position: position, Subject: c.Subject, Fingerprint: c.Fingerprint(), Source: c.source,
		Problem: fmt.Sprintf(format, args...)}
}

// fail notes why the path ends at its last certificate, and how far it got. Of
// the failures as far, the first counts.
func (w *search) fail(f *Failure, stage int) {
	w.nodes[len(w.nodes)-1].Failure = f
	if score := stage*(maxDepth+1) + len(w.path); score > w.bestScore {
		w.bestScore, w.report.Failure = score, f
	}
}

// The stages a path can get to, each nearer to being accepted.
const (
	stageName      = iota // an issuer is listed by its name alone
	stageSignature        // its key signed: a real chain, which something else spoils
	stageAnchor           // the chain ends where it may
)

// climb goes on from the last certificate of the path. It reports whether the
// search is over.
func (w *search) climb() bool {
	last := w.path[len(w.path)-1]
	position := len(w.path) - 1
	if w.mayEnd(last) {
		if f := w.checkPath(); f != nil {
			w.fail(f, stageAnchor)
			return false
		}
		w.nodes[position].Anchor = true
		w.report.Path = slices.Clone(w.nodes)
		w.report.Failure = nil
		return true
	}
	stage := stageSignature
	if position == 0 {
		stage = stageName
	}
	issuers := w.set.issuers(last)
	switch {
	case len(issuers) == 0 && last.source != "" && last.noAnchor != "" && last.subject == last.issuer:
		w.fail(w.failure(position, CheckAnchor, "%s", last.noAnchor), stage)
		return false
	case len(issuers) == 0:
		w.fail(w.failure(position, CheckNoIssuer, "is issued by %q, and no certificate of that name is listed", last.Issuer), stage)
		return false
	case len(w.path) == maxDepth:
		w.fail(w.failure(position, CheckLength, "is the %dth of its chain, which is longer than any that is followed", maxDepth), stage)
		return false
	}
	for i, issuer := range issuers {
		if w.over() {
			w.nodes[position].Hidden += len(issuers) - i
			return true
		}
		w.push(issuer)
		done := w.step(last, issuer)
		w.pop()
		if done {
			return true
		}
	}
	return false
}

// mayEnd reports whether a path may end at a certificate. The signer may be a
// listed one.
func (w *search) mayEnd(last *certificate) bool {
	if len(w.path) > 1 {
		return last.anchor
	}
	for _, one := range w.set.bySubject[last.subject] {
		if bytes.Equal(one.Raw, last.Raw) {
			last.source, last.noAnchor = one.source, one.noAnchor
			w.nodes[0].Source = one.source
			return one.anchor
		}
	}
	return false
}

// step judges a candidate for the issuer of child, which is on the path
// already, and goes on from it.
func (w *search) step(child, issuer *certificate) bool {
	position := len(w.path) - 1
	for _, below := range w.path[:position] {
		if below.subject == issuer.subject && sameKey(below, issuer) {
			w.fail(w.failure(position, CheckLoop, "is the name and key of a certificate further down the chain again"), stageName)
			return false
		}
	}
	if err := w.signed(child, issuer); err != nil {
		w.fail(w.unsigned(position, err), stageName)
		return false
	}
	if f := w.checkIssuer(position); f != nil {
		w.fail(f, stageSignature)
		return false
	}
	return w.climb()
}

// unsigned is the failure of a link. Of a weak hash it is the signed
// certificate that is to blame.
func (w *search) unsigned(position int, err error) *Failure {
	switch {
	case errors.Is(err, errWeak):
		return w.failure(position-1, CheckAlgorithm, "%v", err)
	case errors.Is(err, errOtherKey):
		return w.failure(position, CheckSignature, "has the issuer's name, but not the key that signed the certificate below it: that is of another kind")
	default:
		return w.failure(position, CheckSignature, "has the issuer's name, but its key did not sign the certificate below it")
	}
}

// issuers are the listed certificates of the issuer's name, likely ones first.
func (s *Set) issuers(c *certificate) []*certificate {
	list := slices.Clone(s.bySubject[c.issuer])
	list = slices.DeleteFunc(list, func(one *certificate) bool { return bytes.Equal(one.Raw, c.Raw) })
	rank := func(one *certificate) int {
		rank := 0
		if !one.anchor {
			rank++
		}
		if !one.way {
			rank += 8
		}
		if id := c.parsed.AuthorityKeyId; len(id) > 0 && len(one.parsed.SubjectKeyId) > 0 && !bytes.Equal(id, one.parsed.SubjectKeyId) {
			rank += 4
		}
		return rank
	}
	slices.SortStableFunc(list, func(a, b *certificate) int { return cmp.Compare(rank(a), rank(b)) })
	return list
}

// over reports whether the search has come to one of its bounds.
func (w *search) over() bool {
	w.steps++
	switch {
	case w.limit != "":
	case w.steps > maxSteps:
		w.limit = fmt.Sprintf("has more possible chains than are followed (%d steps)", maxSteps)
	case w.signatures >= maxSignatures:
		w.limit = fmt.Sprintf("has more possible issuers than are tried (%d signatures)", maxSignatures)
	case time.Now().After(w.end):
		w.limit = fmt.Sprintf("has chains that were not followed to their end within %v", maxTime)
	}
	return w.limit != ""
}

func (w *search) push(c *certificate) {
	node := &Node{Subject: c.Subject, Fingerprint: c.Fingerprint(), Source: c.source}
	below := w.nodes[len(w.nodes)-1]
	if w.told++; w.told <= maxNodes {
		below.Issuers = append(below.Issuers, node)
	} else {
		below.Hidden++
	}
	w.path, w.nodes = append(w.path, c), append(w.nodes, node)
}

func (w *search) pop() {
	w.path, w.nodes = w.path[:len(w.path)-1], w.nodes[:len(w.nodes)-1]
}

// signed checks a link, or remembers how it was.
func (w *search) signed(child, issuer *certificate) error {
	link := [2]*certificate{child, issuer}
	s := w.set
	s.mu.Lock()
	err, known := s.links[link]
	s.mu.Unlock()
	if known {
		return err
	}
	w.signatures++
	err = issuer.signed(child)
	if child != w.path[0] { // the signer is gone after this search
		s.mu.Lock()
		s.links[link] = err
		s.mu.Unlock()
	}
	return err
}

// checkSigner judges what the signer is by itself.
func (w *search) checkSigner(c *certificate) *Failure {
	config := &w.set.config
	purposes := c.purposes()
	switch {
	case !config.NotBefore.IsZero() && w.at.Before(config.NotBefore):
		return w.failure(0, CheckEndorsement, "is trusted by this set only from %s on", stamp(config.NotBefore))
	case !config.NotAfter.IsZero() && w.at.After(config.NotAfter):
		return w.failure(0, CheckEndorsement, "was trusted by this set only until %s", stamp(config.NotAfter))
	case len(config.Subjects) > 0 && !slices.ContainsFunc(config.Subjects, func(p Pattern) bool { return p.matches(c.names.subject) }):
		return w.failure(0, CheckSubject, "has none of the subjects that the set is for")
	case len(config.KeyTypes) > 0 && !slices.Contains(config.KeyTypes, keyType(c.PublicKey)):
		return w.failure(0, CheckKeyType, "has a key of none of the types that the set is for (%v)", config.KeyTypes)
	}
	for _, usage := range config.KeyUsage {
		if c.parsed.KeyUsage&usageBits[usage] == 0 {
			return w.failure(0, CheckKeyUsage, "lacks the key usage %s", usage)
		}
	}
	const signs = x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment
	if c.parsed.KeyUsage != 0 && c.parsed.KeyUsage&signs == 0 {
		return w.failure(0, CheckKeyUsage, "has a key that is not for signing data (keyUsage without digitalSignature and contentCommitment)")
	}
	for _, usage := range config.ExtendedKeyUsage {
		if !slices.ContainsFunc(purposes, usage.Equal) {
			return w.failure(0, CheckExtendedKeyUsage, "lacks the extended key usage %v", usage)
		}
	}
	return w.checkAny(0)
}

// checkAny judges what every certificate of a chain needs.
func (w *search) checkAny(position int) *Failure {
	c := w.path[position]
	if problem := weakKey(c.PublicKey, w.set.config.MinRSABits); problem != "" {
		return w.failure(position, CheckKeySize, "%s", problem)
	}
	switch {
	case slices.Contains(w.set.config.Denied, c.Fingerprint()):
		return w.failure(position, CheckDenied, "is denied by its fingerprint")
	case w.at.Before(c.NotBefore):
		return w.failure(position, CheckNotYetValid, "is valid only from %s on", stamp(c.NotBefore))
	case w.at.After(c.NotAfter):
		return w.failure(position, CheckExpired, "expired at %s", stamp(c.NotAfter))
	case len(c.unknown) > 0:
		return w.failure(position, CheckCriticalExtension, "has the critical extension %v, which is not known", c.unknown[0])
	}
	return nil
}

// checkIssuer judges the last certificate of the path as the issuer of the one
// before it (RFC 5280, section 6.1.4).
func (w *search) checkIssuer(position int) *Failure {
	c := w.path[position]
	switch {
	case !c.parsed.BasicConstraintsValid || !c.parsed.IsCA:
		return w.failure(position, CheckCA, "issued the certificate below it, but is no CA (basicConstraints)")
	case c.parsed.KeyUsage != 0 && c.parsed.KeyUsage&x509.KeyUsageCertSign == 0:
		return w.failure(position, CheckKeyUsage, "has a key that is not for signing certificates (keyUsage without keyCertSign)")
	}
	if f := w.checkAny(position); f != nil {
		return f
	}
	if most, set := c.parsed.MaxPathLen, c.parsed.MaxPathLen >= 0; set {
		between := 0
		for _, below := range w.path[1:position] {
			if below.subject != below.issuer { // self-issued ones do not count
				between++
			}
		}
		if between > most {
			return w.failure(position, CheckPathLength, "lets at most %d intermediate certificates come below it, and here are %d", most, between)
		}
	}
	if purposes := c.purposes(); purposes != nil && !slices.ContainsFunc(purposes, oidAnyUsage.Equal) {
		for _, usage := range w.set.config.ExtendedKeyUsage {
			if !slices.ContainsFunc(purposes, usage.Equal) {
				return w.failure(position, CheckExtendedKeyUsage, "is not for certificates of the extended key usage %v", usage)
			}
		}
	}
	return nil
}

// checkPath judges a chain that is complete: what certificates say about all
// below them, and revocation.
func (w *search) checkPath() *Failure {
	for position, c := range w.path[1:] {
		for below := range w.path[:position+1] {
			one := w.path[below]
			if below > 0 && one.subject == one.issuer {
				continue // RFC 5280, section 6.1.3 (b)
			}
			if problem := c.limits.check(one.names); problem != "" {
				return w.failure(below, CheckNameConstraints, "%s by %s", problem, c.short())
			}
		}
	}
	if problem := w.checkPolicies(); problem != "" {
		return w.failure(0, CheckPolicies, "%s", problem)
	}
	if !w.set.revokes {
		return nil
	}
	for position := range w.path[:len(w.path)-1] {
		if f := w.revoked(position); f != nil {
			return f
		}
	}
	return nil
}
