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
	"unicode"

	"go.yaml.in/yaml/v3"

	"github.com/countersign/countersign/signature"
)

// maxFile bounds what Load reads: some hundred thousand rules.
const maxFile = 64 << 20

// Load reads a policy in YAML. All names are Unknown until Resolve is called.
// The error is an *Error that lists every mistake with its line, or one of r.
func Load(r io.Reader) (*Policy, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("reading the policy: %w", err)
	}
	l := new(loader)
	if len(data) > maxFile {
		l.wrong(1, "policy", "is larger than %d MiB; split the projects between fewer, longer rules", maxFile>>20)
		return nil, l.failure()
	}
	rules := l.document(data)
	if err := l.failure(); err != nil {
		return nil, err
	}
	return newPolicy(rules, nil), nil
}

// document reads the one document a policy is.
func (l *loader) document(data []byte) []*Rule {
	var document, second yaml.Node
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	switch err := decoder.Decode(&document); {
	case err == io.EOF:
		l.wrong(1, "rules", "is missing, the file is empty; a last rule with `projects: all` must be there")
		return nil
	case err != nil:
		l.syntax(err)
		return nil
	}
	switch err := decoder.Decode(&second); {
	case err == nil:
		l.wrong(second.Line, "policy", "goes on with a second document; remove the line `---` or what follows it")
	case err != io.EOF:
		l.syntax(err)
	}

	var list *yaml.Node
	isMapping := l.fields(document.Content[0], "policy", map[string]func(*yaml.Node){
		"rules": func(n *yaml.Node) { list = n },
	})
	switch {
	case !isMapping:
		return nil
	case list == nil:
		l.wrong(document.Content[0].Line, "rules", "is missing; list the rules there, the last one with `projects: all`")
		return nil
	}
	items := l.list(list, "rules", "a list of rules")
	var rules []*Rule
	for _, item := range items {
		rules = append(rules, l.rule(item, len(rules)+1))
	}
	l.order(rules)
	return rules
}

// rule reads one rule. What is missing is judged here too; what depends on
// other rules is judged by order.
func (l *loader) rule(n *yaml.Node, number int) *Rule {
	r := &Rule{
		Name:        fmt.Sprintf("rule %d", number),
		Line:        n.Line,
		OnFailure:   Delete,
		MinRSABits:  minRSABits,
		KeyTypes:    signature.KeyTypes,
		HashMethods: signature.HashMethods,
	}
	given := make(map[string]bool)
	field := func(name string, read func(*yaml.Node)) func(*yaml.Node) {
		return func(n *yaml.Node) {
			given[name] = true
			read(n)
		}
	}
	isMapping := l.fields(n, "rule", map[string]func(*yaml.Node){
		"name":         func(n *yaml.Node) { l.label(n, r) },
		"projects":     field("projects", func(n *yaml.Node) { l.projects(n, r) }),
		"unowned":      field("unowned", func(n *yaml.Node) { l.unowned(n, r) }),
		"mode":         field("mode", func(n *yaml.Node) { r.Mode = word(l, n, "mode", modes) }),
		"signers":      field("signers", func(n *yaml.Node) { l.signers(n, r) }),
		"key_types":    func(n *yaml.Node) { r.KeyTypes = words(l, n, "key_types", signature.KeyTypes) },
		"hash_methods": func(n *yaml.Node) { r.HashMethods = words(l, n, "hash_methods", signature.HashMethods) },
		"min_rsa_bits": func(n *yaml.Node) { r.MinRSABits = l.bits(n) },
		"on_failure":   func(n *yaml.Node) { r.OnFailure = word(l, n, "on_failure", []OnFailure{Delete, Keep}) },
	})
	if !isMapping {
		return r
	}
	if !given["projects"] && !given["unowned"] {
		l.wrong(n.Line, "projects", "is missing; list the projects the rule is for, or write `projects: all` or `unowned: true`")
	} else if !given["projects"] && !r.Unowned {
		l.wrong(n.Line, "unowned", "is not true and `projects` is missing, so the rule is for nobody; remove the rule or list its projects")
	}
	if !given["mode"] {
		l.wrong(n.Line, "mode", "is missing; write off, audit or enforce")
	}
	if !given["signers"] {
		if r.Mode == Enforce {
			l.wrong(n.Line, "signers", "is missing, which mode enforce does not allow; list the certificates that are trusted, or write `signers: any`")
		}
		r.AnySigner = true
	}
	return r
}

func (l *loader) label(n *yaml.Node, r *Rule) {
	name, ok := l.text(n, "name")
	if !ok {
		return
	}
	if len(name) > 64 || strings.TrimSpace(name) != name || strings.ContainsFunc(name, func(c rune) bool { return !unicode.IsPrint(c) }) {
		l.wrong(n.Line, "name", "is not fit for logs; use at most 64 bytes, all printable and no blanks at the ends")
		return
	}
	r.Name = name
}

func (l *loader) projects(n *yaml.Node, r *Rule) {
	if n.Kind == yaml.ScalarNode && n.Value == "all" {
		r.All = true
		return
	}
	for _, item := range l.list(n, "projects", "a list of projects, or the word all") {
		e := Entry{Line: item.Line}
		wrong := len(l.problems)
		isMapping := l.fields(item, "projects", map[string]func(*yaml.Node){
			"id":     func(n *yaml.Node) { e.ID = l.projectID(n) },
			"name":   func(n *yaml.Node) { e.Project.Name, _ = l.text(n, "name") },
			"domain": func(n *yaml.Node) { e.Project.Domain, _ = l.text(n, "domain") },
		})
		switch {
		case !isMapping || len(l.problems) > wrong:
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

func (l *loader) unowned(n *yaml.Node, r *Rule) {
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" {
		l.wrong(n.Line, "unowned", "is neither true nor false; write `unowned: true`, or leave it out")
		r.Unowned = true // spare the reader a second sentence about it
		return
	}
	r.Unowned = strings.EqualFold(n.Value, "true")
}

func (l *loader) signers(n *yaml.Node, r *Rule) {
	if n.Kind == yaml.ScalarNode && n.Value == "any" {
		r.AnySigner = true
		return
	}
	first := make(map[Signer]int) // signer → line
	for _, item := range l.list(n, "signers", "a list of certificates, or the word any") {
		var s Signer
		given, wrong := 0, len(l.problems)
		isMapping := l.fields(item, "signers", map[string]func(*yaml.Node){
			"certificate": func(n *yaml.Node) { given++; s.CertificateID = l.certificateID(n) },
			"pem":         func(n *yaml.Node) { given++; s.Fingerprint = l.certificate(n) },
		})
		line, twice := first[s]
		switch {
		case !isMapping || len(l.problems) > wrong:
		case given != 1:
			l.wrong(item.Line, "signers", "has an entry that is not one certificate; write either `- certificate: …` with its id in the key manager or `- pem: …` with itself")
		case twice:
			l.wrong(item.Line, "signers", "has the certificate of line %d again; remove one of them", line)
		default:
			first[s] = item.Line
			r.Signers = append(r.Signers, s)
		}
	}
}

// certificateID wants the UUID of a secret, with or without its dashes.
func (l *loader) certificateID(n *yaml.Node) string {
	text, ok := l.text(n, "certificate")
	if !ok {
		return ""
	}
	id, ok := canonicalID(text)
	if !ok || len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
		l.wrong(n.Line, "certificate", "%q is not a UUID; write the last part of what `openstack secret list` shows as Secret href", text)
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

// order judges the rules together: names, reachability, the rule for all.
func (l *loader) order(rules []*Rule) {
	labels := make(map[string]*Rule)
	ids := make(map[string]Entry)
	names := make(map[Project]Entry)
	var all, unowned *Rule
	for _, r := range rules {
		if first := labels[r.Name]; first != nil {
			l.wrong(r.Line, "name", "%q is also the name of the rule in line %d; give one of them another", r.Name, first.Line)
		}
		labels[r.Name] = r

		if all != nil {
			l.wrong(r.Line, "rules", "has a rule after the one for all projects in line %d, so it would never apply; move it up", all.Line)
		}
		if r.All && all == nil {
			all = r
		}
		if r.Unowned && unowned != nil {
			l.wrong(r.Line, "unowned", "is true in the rule in line %d already, so here it would never apply; remove one of them", unowned.Line)
		}
		if r.Unowned && unowned == nil {
			unowned = r
		}
		for _, e := range r.Projects {
			first, twice := ids[e.ID]
			if e.ID == "" {
				first, twice = names[e.Project]
			}
			switch {
			case twice && e.ID == "":
				l.wrong(e.Line, "projects", "has project %s, which line %d has already; remove one of them", e.Project, first.Line)
			case twice:
				l.wrong(e.Line, "projects", "has project %s, which line %d has already; remove one of them", e.ID, first.Line)
			case e.ID == "":
				names[e.Project] = e
			default:
				ids[e.ID] = e
			}
		}
	}
	if all == nil && len(rules) > 0 {
		last := rules[len(rules)-1]
		l.wrong(last.Line, "rules", "ends without a rule for everybody else; add a last rule with `projects: all` and the mode it shall have")
	}
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
