package policy

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/countersign/countersign/signature"
)

// maxFile bounds what Load reads: some hundred thousand rules.
const maxFile = 64 << 20

// Load reads a policy in YAML. All names are Unknown until Resolve is called.
// The error is an *Error that lists every mistake with its line, or one of r.
func Load(r io.Reader) (*Policy, error) { return LoadAt(r, time.Now) }

// LoadAt is Load by another clock: it tells when break-glass rules end, now and
// whenever the policy is asked.
func LoadAt(r io.Reader, now func() time.Time) (*Policy, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading the policy: %w", err)
	}
	l := &loader{now: now()}
	if len(data) > maxFile {
		l.wrong(1, "policy", "is larger than %d MiB; split the projects between fewer, longer rules", maxFile>>20)
		return nil, l.failure()
	}
	f := l.document(data)
	if err := l.failure(); err != nil {
		return nil, err
	}
	p := newPolicy(pack(f.list), nil, now)
	p.sets, p.denied = f.sets, f.deny
	return p.With(Material{}), nil
}

// document reads the one document a policy is.
func (l *loader) document(data []byte) (f file) {
	var document, second yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	switch err := decoder.Decode(&document); {
	case err == io.EOF:
		l.wrong(1, "rules", "is missing, the file is empty; a last rule with `projects: all` must be there")
		return f
	case err != nil:
		l.syntax(err)
		return f
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		l.wrong(second.Line, "policy", "goes on with a second document; remove the line `---` or what follows it")
	case err != io.EOF:
		l.syntax(err)
	}

	given := fields(l, document.Content[0], "policy", fileMembers, &f)
	switch {
	case given == nil:
		return f
	case f.rules == nil:
		l.wrong(document.Content[0].Line, "rules", "is missing; list the rules there, the last one with `projects: all`")
		return f
	}
	l.sets = f.sets
	for _, item := range l.list(f.rules, "rules", "a list of rules") {
		f.list = append(f.list, l.rule(item, len(f.list)+1))
	}
	l.order(f.list)
	return f
}

// rule reads one rule. What is missing, and what contradicts itself, is judged
// here too; what depends on other rules is judged by order.
func (l *loader) rule(n *yaml.Node, number int) *Rule {
	r := &Rule{
		Name:        fmt.Sprintf("rule %d", number),
		Line:        n.Line,
		OnFailure:   Delete,
		Expired:     ExpiredRefuse,
		MinRSABits:  minRSABits,
		KeyTypes:    signature.KeyTypes,
		HashMethods: signature.HashMethods,
		Import:      ImportRefuse,
		Downloads:   DownloadsAny,
		Services:    Services{Mode: ServicesEnforce},
		Unverified:  UnverifiedReport,
	}
	given := fields(l, n, "rule", ruleMembers, r)
	if given == nil {
		return r
	}
	has := func(name string) bool { return given[name] > 0 }
	if !has("projects") && !has("unowned") {
		l.wrong(n.Line, "projects", "is missing; list the projects the rule is for, or write `projects: all` or `unowned: true`")
	} else if !has("projects") && !r.Unowned {
		l.wrong(n.Line, "unowned", "is not true and `projects` is missing, so the rule is for nobody; remove the rule or list its projects")
	}
	if !has("mode") {
		l.wrong(n.Line, "mode", "is missing; write off, audit or enforce")
	}
	if !has("signers") {
		if r.Mode == Enforce {
			l.wrong(n.Line, "signers", "is missing, which mode enforce does not allow; list the certificates that are trusted, or write `signers: any`")
		}
		r.AnySigner = true
	}
	if r.Mode == Off && r.Downloads != DownloadsAny {
		l.wrong(given["downloads"], "downloads", "is %s in a rule with mode off, which looks at nothing; write mode audit or enforce, or remove it", r.Downloads)
	}
	if r.Ranges && r.Downloads != DownloadsVerify {
		l.wrong(given["ranges"], "ranges", "is true, and parts are refused with `downloads: verify` only; remove it")
	}
	l.breakGlass(r, given)
	return r
}

// breakGlassDays is how long a break-glass rule may be on, from when it is read.
const breakGlassDays = 30

// breakGlass judges the members that make a rule end by itself.
func (l *loader) breakGlass(r *Rule, given map[string]int) {
	line := max(given["until"], given["owner"], given["reason"])
	if line == 0 {
		return
	}
	for _, name := range []string{"until", "owner", "reason"} {
		if given[name] == 0 {
			l.wrong(line, name, "is missing; a break-glass rule has until, owner and reason, so write all three or none")
		}
	}
	if r.Mode == Enforce {
		l.wrong(given["mode"], "mode", "is enforce in a break-glass rule, which is there to loosen for a while what the rules after it demand; write off or audit, or remove until, owner and reason")
	}
	if r.Until.After(l.now.AddDate(0, 0, breakGlassDays)) {
		l.wrong(given["until"], "until", "is more than %d days ahead; write an earlier time, and renew it if it has to be", breakGlassDays)
	}
}

// label reads a text that goes into logs, of at most limit bytes. It returns
// otherwise where there is none.
func (l *loader) label(n *yaml.Node, field string, limit int, otherwise string) string {
	text, ok := l.text(n, field)
	if !ok {
		return otherwise
	}
	if len(text) > limit || strings.TrimSpace(text) != text || strings.ContainsFunc(text, func(c rune) bool { return !unicode.IsPrint(c) }) {
		l.wrong(n.Line, field, "is not fit for logs; use at most %d bytes, all printable and no blanks at the ends", limit)
		return otherwise
	}
	return text
}

// time reads a point in time.
func (l *loader) time(n *yaml.Node, field string) time.Time {
	text, ok := l.text(n, field)
	if !ok {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		l.wrong(n.Line, field, "%q is no time in RFC 3339; write for instance 2026-08-01T18:00:00Z", text)
		return time.Time{}
	}
	return t.UTC()
}

func (l *loader) projects(n *yaml.Node, r *Rule) {
	if n.Kind == yaml.ScalarNode && n.Value == "all" {
		r.All = true
		return
	}
	for _, item := range l.list(n, "projects", "a list of projects, or the word all") {
		e := Entry{Line: item.Line}
		wrong := len(l.problems)
		given := fields(l, item, "projects", projectMembers, &e)
		switch {
		case given == nil || len(l.problems) > wrong:
		case e.ID != "" && e.Project != Project{}:
			l.wrong(item.Line, "projects", "has an entry with an id and a name; keep the id and remove name and domain")
		case e.ID == "" && e.Project.Name == "":
			l.wrong(item.Line, "projects", "has an entry without id; write `- id: …`, or `- name: …` with `domain: …`")
		case e.ID == "" && e.Project.Domain == "":
			l.wrong(item.Line, "domain", "is missing; a project's name means something only in its domain, so write `domain: …` below it, or use the id")
		default:
			r.Projects = append(r.Projects, e)
		}
	}
}

func (l *loader) projectID(n *yaml.Node) string {
	text, ok := l.text(n, "id")
	if !ok {
		return ""
	}
	id, ok := canonicalID(text)
	if !ok {
		l.wrong(n.Line, "id", "%q is no project id; write what `openstack project list` shows under ID", text)
	}
	return id
}

// flag reads true or false. It returns otherwise where there is neither.
func (l *loader) flag(n *yaml.Node, field string, otherwise bool) bool {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
		l.wrong(n.Line, field, "is neither true nor false; write `%s: true`, or leave it out", field)
		return otherwise
	}
	return strings.EqualFold(n.Value, "true")
}

func (l *loader) signers(n *yaml.Node, r *Rule) {
	if n.Kind == yaml.ScalarNode && n.Value == "any" {
		r.AnySigner = true
		return
	}
	first := make(map[Signer]int) // signer → line
	for _, item := range l.list(n, "signers", "a list of certificates, or the word any") {
		var s Signer
		wrong := len(l.problems)
		given := fields(l, item, "signers", signerMembers, &s)
		line, twice := first[s]
		switch {
		case given == nil || len(l.problems) > wrong:
		case len(given) != 1:
			l.wrong(item.Line, "signers", "has an entry that is not one certificate; write either `- certificate: …` with its id in the key manager, `- pem: …` with itself, or `- trust: …` with the name of a trust set")
		case s.Trust != "" && !l.hasSet(s.Trust):
			l.wrong(item.Line, "trust", "%q is no set below `trust:` at the top of the file; write one of its names, or add the set", s.Trust)
		case twice:
			l.wrong(item.Line, "signers", "has the certificate of line %d again; remove one of them", line)
		default:
			first[s] = item.Line
			r.Signers = append(r.Signers, s)
		}
	}
}

// services reads who uploads on behalf of others.
func (l *loader) services(n *yaml.Node, r *Rule) {
	given := fields(l, n, "services", serviceMembers, &r.Services)
	if given != nil && given["users"] == 0 {
		l.wrong(n.Line, "users", "is missing; list the services' users, such as Nova's, or remove `services`")
	}
}

func (l *loader) users(n *yaml.Node, s *Services) {
	for _, item := range l.list(n, "users", "a list of users") {
		var u User
		wrong := len(l.problems)
		given := fields(l, item, "users", userMembers, &u)
		switch {
		case given == nil || len(l.problems) > wrong:
		case u.ID != "" && u != User{ID: u.ID}:
			l.wrong(item.Line, "users", "has an entry with an id and a name; keep the id and remove name and domain")
		case u.ID == "" && u.Name == "":
			l.wrong(item.Line, "users", "has an entry without id; write `- id: …`, or `- name: …` with `domain: …`")
		case u.ID == "" && u.Domain == "":
			l.wrong(item.Line, "domain", "is missing; a user's name means something only in its domain, so write `domain: …` below it, or use the id")
		case slices.Contains(s.Users, u):
			l.wrong(item.Line, "users", "has a user twice; remove one of them")
		default:
			s.Users = append(s.Users, u)
		}
	}
}

func (l *loader) userID(n *yaml.Node) string {
	text, ok := l.text(n, "id")
	if !ok {
		return ""
	}
	id, ok := canonicalID(text)
	if !ok {
		l.wrong(n.Line, "id", "%q is no user id; write what `openstack user list` shows under ID", text)
	}
	return id
}

// certificateID wants the UUID of a secret, with or without its dashes.
func (l *loader) certificateID(n *yaml.Node) string {
	text, ok := l.text(n, "certificate")
	if !ok {
		return ""
	}
	return l.secretID(n, "certificate", text)
}

func (l *loader) secretID(n *yaml.Node, field, text string) string {
	id, ok := canonicalID(text)
	if !ok || len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
		l.wrong(n.Line, field, "%q is not a UUID; write the last part of what `openstack secret list` shows as Secret href", text)
		return ""
	}
	return id[:8] + "-" + id[8:12] + "-" + id[12:16] + "-" + id[16:20] + "-" + id[20:]
}

// certificate wants one certificate in PEM and returns its fingerprint.
func (l *loader) certificate(n *yaml.Node) string {
	text, ok := l.text(n, "pem")
	if !ok {
		return ""
	}
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" {
		l.wrong(n.Line, "pem", "is not a certificate; write `pem: |` and below it, indented, from BEGIN CERTIFICATE to END CERTIFICATE")
		return ""
	}
	if more, _ := pem.Decode(rest); more != nil {
		l.wrong(n.Line, "pem", "holds more than one block; keep the signer's own certificate, without those of its issuers")
		return ""
	}
	c, err := signature.ParseCertificate([]byte(text))
	if err != nil {
		problem := "cannot be read: " + err.Error()
		if refused := (*signature.PropertyError)(nil); errors.As(err, &refused) {
			problem = refused.Problem // without the property, which is none of this file's fields
		}
		l.wrong(n.Line, "pem", "%s; copy the certificate again", problem)
		return ""
	}
	return c.Fingerprint()
}

func (l *loader) bits(n *yaml.Node) int {
	bits, err := strconv.Atoi(n.Value)
	switch {
	case n.Kind != yaml.ScalarNode || err != nil:
		l.wrong(n.Line, "min_rsa_bits", "is not a whole number; write for instance 2048")
	case bits < minRSABits:
		l.wrong(n.Line, "min_rsa_bits", "is %d, and keys that short are never accepted; write %d or more", bits, minRSABits)
	case bits > 16384:
		l.wrong(n.Line, "min_rsa_bits", "is %d, and no such keys are accepted; write 16384 or less", bits)
	default:
		return bits
	}
	return minRSABits
}

// word reads one of a few words.
func word[T ~string](l *loader, n *yaml.Node, field string, known []T) T {
	text, ok := l.text(n, field)
	if ok && !slices.Contains(known, T(text)) {
		l.wrong(n.Line, field, "%q is not known; write %s", text, alternatives(known))
	}
	return T(text)
}

// words reads a list of them.
func words[T ~string](l *loader, n *yaml.Node, field string, known []T) []T {
	var list []T
	for _, item := range l.list(n, field, "a list") {
		text, ok := l.text(item, field)
		switch {
		case !ok:
		case !slices.Contains(known, T(text)):
			l.wrong(item.Line, field, "%q is not known; write %s", text, alternatives(known))
		case slices.Contains(list, T(text)):
			l.wrong(item.Line, field, "has %s twice; remove one of them", text)
		default:
			list = append(list, T(text))
		}
	}
	return list
}
