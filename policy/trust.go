package policy

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/countersign/countersign/signature"
	"github.com/countersign/countersign/signature/trust"
)

// TrustSet is a named list of certificates that vouch for signers. What it
// names outside the file is loaded by the caller: see Policy.Needs.
type TrustSet struct {
	Name string
	Line int // where it begins in the file

	Certificates []string // ids in the key manager, canonical
	Files        []string // PEM files, or folders of them
	CRLs         []string // likewise, of revocation lists
	Config       trust.Config
}

var setMembers = []member[TrustSet]{
	{Member{"certificates", "list of UUIDs, or one text with commas", "none", "Certificates in the key manager, by id: Nova's trusted image certificate ids, which its clients write with commas between them."},
		func(l *loader, n *yaml.Node, s *TrustSet) { s.Certificates = l.certificateIDs(n) }},
	{Member{"files", "list of paths", "none", "Files with certificates in PEM, or folders of such. A relative path begins where the policy's file is."},
		func(l *loader, n *yaml.Node, s *TrustSet) { s.Files = l.paths(n, "files") }},
	{Member{"pem", "PEM blocks", "none", "Certificates themselves."},
		func(l *loader, n *yaml.Node, s *TrustSet) { l.inline(n, s) }},
	{Member{"mode", list(trust.Modes), "`root`", "Where a chain may end. `root`: in a CA of the set that signs itself. `anchor`: in any certificate of the set, the signer's own included."},
		func(l *loader, n *yaml.Node, s *TrustSet) { s.Config.Mode = word(l, n, "mode", trust.Modes) }},
	{Member{"subjects", "list of patterns such as `CN=Builder *,O=Acme`", "every one", "What has to be in the signer's subject; one of the list. `*` stands for any text."},
		func(l *loader, n *yaml.Node, s *TrustSet) { s.Config.Subjects = l.patterns(n) }},
	{Member{"key_types", "list of " + list(signature.KeyTypes), "all", "What keys signers may have."},
		func(l *loader, n *yaml.Node, s *TrustSet) {
			s.Config.KeyTypes = words(l, n, "key_types", signature.KeyTypes)
		}},
	{Member{"min_rsa_bits", "number from 1024 to 16384", "`2048`", "The shortest RSA modulus or DSA prime anywhere in a chain, in bits."},
		func(l *loader, n *yaml.Node, s *TrustSet) { s.Config.MinRSABits = l.bits(n) }},
	{Member{"extended_key_usage", "list of RFC 5280's names, or OIDs", "none", "Each of them has to be in the signer's certificate, such as `codeSigning`, and in those of its CAs that have the extension. Keeps certificates for TLS under the same root from signing images."},
		func(l *loader, n *yaml.Node, s *TrustSet) { s.Config.ExtendedKeyUsage = l.extendedKeyUsage(n) }},
	{Member{"key_usage", "list of " + list(trust.KeyUsages), "none", "Each of them has to be in the signer's certificate."},
		func(l *loader, n *yaml.Node, s *TrustSet) {
			s.Config.KeyUsage = words(l, n, "key_usage", trust.KeyUsages)
		}},
	{Member{"not_before", "time in RFC 3339", "none", "When the set begins to vouch for anybody."},
		func(l *loader, n *yaml.Node, s *TrustSet) { s.Config.NotBefore = l.time(n, "not_before") }},
	{Member{"not_after", "time in RFC 3339", "none", "When it ends to."},
		func(l *loader, n *yaml.Node, s *TrustSet) { s.Config.NotAfter = l.time(n, "not_after") }},
	{Member{"crls", "list of paths", "none", "Files, or folders of files, with revocation lists in PEM or DER. With them, each issuer in a chain needs one that counts today, or the signer is refused."},
		func(l *loader, n *yaml.Node, s *TrustSet) { s.CRLs = l.paths(n, "crls") }},
}

// trustSets reads the sets by their names.
func (l *loader) trustSets(n *yaml.Node) []*TrustSet {
	n = target(n)
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		l.wrong(n.Line, "trust", "has no sets; write a name for each, and below it what it lists")
		return nil
	}
	var sets []*TrustSet
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := target(n.Content[i]), target(n.Content[i+1])
		s := &TrustSet{Line: key.Line, Config: trust.Config{Mode: trust.Root}}
		s.Name = l.label(key, "trust", 64, "")
		if slices.ContainsFunc(sets, func(other *TrustSet) bool { return other.Name == s.Name }) {
			l.wrong(key.Line, "trust", "has the set %q twice; remove one of them", s.Name)
		}
		given := fields(l, value, "trust", setMembers, s)
		switch {
		case given == nil:
		case given["certificates"]+given["files"]+given["pem"] == 0:
			l.wrong(key.Line, "trust", "has a set %q without certificates; write certificates, files or pem", s.Name)
		case !s.Config.NotBefore.IsZero() && !s.Config.NotAfter.IsZero() && s.Config.NotAfter.Before(s.Config.NotBefore):
			l.wrong(given["not_after"], "not_after", "comes before not_before; exchange them")
		}
		sets = append(sets, s)
	}
	return sets
}

func (l *loader) hasSet(name string) bool {
	return slices.ContainsFunc(l.sets, func(s *TrustSet) bool { return s.Name == name })
}

// certificateIDs takes a list, or Nova's form with commas in one text.
func (l *loader) certificateIDs(n *yaml.Node) []string {
	var texts []string
	if n.Kind == yaml.ScalarNode {
		text, ok := l.text(n, "certificates")
		if !ok {
			return nil
		}
		for _, one := range strings.Split(text, ",") {
			texts = append(texts, strings.TrimSpace(one))
		}
	} else {
		for _, item := range l.list(n, "certificates", "a list of ids") {
			if text, ok := l.text(item, "certificates"); ok {
				texts = append(texts, text)
			}
		}
	}
	var ids []string
	for _, text := range texts {
		if id := l.secretID(n, "certificates", text); id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

func (l *loader) paths(n *yaml.Node, field string) []string {
	var paths []string
	for _, item := range l.list(n, field, "a list of paths") {
		path, ok := l.text(item, field)
		switch {
		case !ok:
		case strings.ContainsRune(path, 0):
			l.wrong(item.Line, field, "has a path with a zero byte; write it as it is on the disk")
		case slices.Contains(paths, path):
			l.wrong(item.Line, field, "has %s twice; remove one of them", path)
		default:
			paths = append(paths, path)
		}
	}
	return paths
}

// inline reads certificates that are in the file itself: there all have to be
// readable.
func (l *loader) inline(n *yaml.Node, s *TrustSet) {
	text, ok := l.text(n, "pem")
	if !ok {
		return
	}
	entry := trust.Entry{Source: fmt.Sprintf("line %d of the policy", n.Line), Data: []byte(text)}
	read, err := trust.New(trust.Config{Certificates: []trust.Entry{entry}})
	if err != nil {
		l.wrong(n.Line, "pem", "cannot be read: %v", err)
		return
	}
	for _, problem := range read.Problems() {
		l.wrong(n.Line, "pem", "%s; copy the certificates again", problem.Text)
	}
	s.Config.Certificates = append(s.Config.Certificates, entry)
}

func (l *loader) patterns(n *yaml.Node) []trust.Pattern {
	var patterns []trust.Pattern
	for _, item := range l.list(n, "subjects", "a list of patterns") {
		text, ok := l.text(item, "subjects")
		if !ok {
			continue
		}
		pattern, err := trust.ParsePattern(text)
		if err != nil {
			l.wrong(item.Line, "subjects", "%v; write for instance CN=Builder *,O=Acme", err)
			continue
		}
		patterns = append(patterns, pattern)
	}
	return patterns
}

func (l *loader) extendedKeyUsage(n *yaml.Node) []asn1.ObjectIdentifier {
	var usages []asn1.ObjectIdentifier
	for _, item := range l.list(n, "extended_key_usage", "a list") {
		text, ok := l.text(item, "extended_key_usage")
		if !ok {
			continue
		}
		id, ok := trust.ParseExtendedKeyUsage(text)
		if !ok {
			l.wrong(item.Line, "extended_key_usage", "%q is not known; write codeSigning, another of RFC 5280's names, or dotted numbers", text)
			continue
		}
		usages = append(usages, id)
	}
	return usages
}

// Needs is what a policy names and does not have: to be loaded, and given to
// With.
type Needs struct {
	Certificates []string // ids in the key manager
	Files        []string // paths of files or folders, as they are written
}

// Needs lists each thing once.
func (p *Policy) Needs() Needs {
	var needs Needs
	add := func(list *[]string, items ...string) {
		for _, item := range items {
			if !slices.Contains(*list, item) {
				*list = append(*list, item)
			}
		}
	}
	for _, s := range p.sets {
		add(&needs.Certificates, s.Certificates...)
		add(&needs.Files, s.Files...)
		add(&needs.Files, s.CRLs...)
	}
	return needs
}

// Material is what was loaded. A thing that is missing from it was not.
type Material struct {
	Certificates map[string][]byte   // id → PEM or DER
	Files        map[string][][]byte // path → a file's content, or those of a folder's files
}

// With returns a copy in which trust sets have what was loaded.
func (p *Policy) With(m Material) *Policy {
	if len(p.sets) == 0 && p.denied == nil {
		return p
	}
	loaded := make(map[string]*anchors)
	for _, s := range p.sets {
		loaded[s.Name] = s.load(m, p.denied)
	}
	rules := *p.rules
	rules.sets, rules.denied = loaded, p.denied
	with := newPolicy(&rules, p.names, p.now)
	with.sets, with.denied = p.sets, p.denied
	for _, s := range p.sets {
		with.loaded = append(with.loaded, loaded[s.Name])
	}
	return with
}

// anchors is a trust set with what was loaded for it.
type anchors struct {
	name    string
	set     *trust.Set
	missing []string // what was not loaded
}

func (s *TrustSet) load(m Material, denied *Denials) *anchors {
	a := &anchors{name: s.Name}
	config := s.Config
	config.Certificates = slices.Clone(config.Certificates)
	if denied != nil {
		config.Denied = denied.Certificates
	}
	for _, id := range s.Certificates {
		data, ok := m.Certificates[id]
		if !ok {
			a.missing = append(a.missing, id)
			continue
		}
		config.Certificates = append(config.Certificates, trust.Entry{Source: id, Data: data})
	}
	files := func(paths []string) (entries []trust.Entry) {
		for _, path := range paths {
			contents, ok := m.Files[path]
			if !ok {
				a.missing = append(a.missing, path)
			}
			for _, content := range contents {
				entries = append(entries, trust.Entry{Source: path, Data: content})
			}
			if len(contents) == 0 {
				entries = append(entries, trust.Entry{Source: path}) // empty: said so, and no reason to ask for less
			}
		}
		return entries
	}
	config.Certificates = append(config.Certificates, files(s.Files)...)
	config.CRLs = files(s.CRLs)
	var err error
	if a.set, err = trust.New(config); err != nil {
		a.missing = append(a.missing, err.Error()) // not with what the loader has read
		a.set = nil
	}
	return a
}

// SetState is a trust set as it is loaded.
type SetState struct {
	Name         string
	Line         int // where it begins in the file
	Mode         trust.Mode
	Certificates []*signature.Certificate
	Problems     []trust.Problem // what is listed and cannot be used
	Missing      []string        // what is listed and was not loaded
}

// Sets lists the trust sets in the order of the file.
func (p *Policy) Sets() []SetState {
	var list []SetState
	for i, a := range p.loaded {
		state := SetState{Name: a.name, Line: p.sets[i].Line, Mode: p.sets[i].Config.Mode, Missing: slices.Clone(a.missing)}
		if a.set != nil {
			state.Certificates = a.set.Certificates()
			for _, problem := range a.set.Problems() {
				if !slices.Contains(a.missing, problem.Source) {
					state.Problems = append(state.Problems, problem)
				}
			}
		}
		list = append(list, state)
	}
	return list
}

// A Moment is when a certificate is judged.
type Moment struct {
	Now time.Time
	// Verified is when a receipt says that the image was verified; zero if
	// there is none.
	Verified time.Time
}

// judged is the time as of which dates count.
func (r *Rule) judged(at Moment) time.Time {
	if r.Expired == ExpiredVerifiedBefore && !at.Verified.IsZero() && at.Verified.Before(at.Now) {
		return at.Verified
	}
	return at.Now
}

// Attempt is what a trust set says of a certificate.
type Attempt struct {
	Set     string
	Report  *trust.Report // nil if nothing of the set was loaded
	Missing []string
}

// Attempts asks every trust set of the rule, for people who want to know why.
func (r *Rule) Attempts(c *signature.Certificate, at Moment) []Attempt {
	var list []Attempt
	for _, a := range r.sets {
		attempt := Attempt{Set: a.name, Missing: a.missing}
		if a.set != nil {
			attempt.Report = a.set.Verify(c, at.Now, r.judged(at))
		}
		list = append(list, attempt)
	}
	return list
}

// trusts is nil if one of the rule's signers is or vouches for the certificate.
func (r *Rule) trusts(id string, c *signature.Certificate, at Moment) error {
	if r.AnySigner {
		return nil
	}
	fingerprint := c.Fingerprint()
	if slices.ContainsFunc(r.Signers, func(s Signer) bool {
		return s.CertificateID != "" && s.CertificateID == id ||
			s.Fingerprint != "" && s.Fingerprint == fingerprint
	}) {
		return nil
	}
	refused := r.notListed(id)
	attempts := r.Attempts(c, at)
	for _, attempt := range attempts {
		if attempt.Report != nil && attempt.Report.Err() == nil {
			return nil
		}
	}
	for i, attempt := range attempts {
		if code, cure := attempt.code(); i == 0 || severity(code) > severity(refused.Code) {
			refused.Code, refused.Cure = code, cure
		}
		if i < maxAttempts {
			refused.Problem += "; trust set " + attempt.String()
		}
	}
	return refused
}

// CheckID refuses a certificate whose id alone tells that the rule does not
// trust it: where all signers are listed by id, and this one is not. The error
// is a *Refusal.
func (r *Rule) CheckID(id string) error {
	if r.AnySigner || slices.ContainsFunc(r.Signers, func(s Signer) bool { return s.CertificateID == "" || s.CertificateID == id }) {
		return nil
	}
	return r.notListed(id)
}

func (r *Rule) notListed(id string) *Refusal {
	if id == "" {
		id = "a certificate" // of no secret yet
	}
	return &Refusal{
		Code:     CodeSignerNotTrusted,
		Property: signature.PropertyCertificate,
		Problem:  fmt.Sprintf("is %s, which is not among the signers of rule %q", id, r.Name),
		Cure:     "sign with a key whose certificate the rule lists, or ask the operator to list this one",
	}
}

// maxAttempts bounds how many sets a refusal tells of.
const maxAttempts = 3

// severity orders the codes of several sets' refusals: what may be gone by
// itself comes before what is not, and that before the general one.
func severity(code Code) int {
	return slices.Index([]Code{CodeSignerNotTrusted, CodeCertificateDenied, CodeCertificateRevoked, CodeRevocationUnknown, CodeAnchorsUnavailable}, code)
}

// code is the refusal's, by why the set does not vouch.
func (a Attempt) code() (code Code, cure string) {
	const again = "try again later; the operator finds the reason in the log"
	if len(a.Missing) > 0 || a.Report == nil {
		return CodeAnchorsUnavailable, again
	}
	var failure *trust.Failure
	errors.As(a.Report.Err(), &failure)
	switch {
	case failure == nil:
	case failure.Check == trust.CheckDenied:
		return CodeCertificateDenied, "sign with another key; the operator has denied this certificate by its fingerprint"
	case failure.Check == trust.CheckRevoked:
		return CodeCertificateRevoked, "sign with a key whose certificate is not revoked"
	case failure.Check == trust.CheckRevocationUnknown:
		return CodeRevocationUnknown, "try again later; the operator has to provide the issuer's current revocation list"
	}
	return CodeSignerNotTrusted, "sign with a key whose certificate the rule trusts, or ask the operator to trust this one"
}

// String names the set and why it does not vouch.
func (a Attempt) String() string {
	if len(a.Missing) > 0 || a.Report == nil {
		return fmt.Sprintf("%q is not loaded", a.Set)
	}
	if err := a.Report.Err(); err != nil {
		return fmt.Sprintf("%q: %v", a.Set, err)
	}
	return fmt.Sprintf("%q vouches for it", a.Set)
}
