package trust

import (
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"
)

// names are all names that a certificate gives its subject.
type names struct {
	subject     name
	alternative []generalName
}

// The kinds of GeneralName (RFC 5280, section 4.2.1.6).
const (
	kindEmail     = 1
	kindDNS       = 2
	kindDirectory = 4
	kindURI       = 6
	kindIP        = 7
)

var kindNames = []string{"otherName", "rfc822Name", "dNSName", "x400Address", "directoryName", "ediPartyName", "URI", "iPAddress", "registeredID"}

// generalName is one of any kind. Those without names here are not decoded.
type generalName struct {
	kind      int
	text      string // of e-mail, DNS and URI
	address   []byte // of IP
	directory name
}

func (g generalName) String() string {
	switch g.kind {
	default:
		return "a name of kind " + g.kindName()
	case kindEmail, kindDNS, kindURI:
		return fmt.Sprintf("%s %q", g.kindName(), g.text)
	case kindIP, kindDirectory:
		return "the " + g.kindName()
	}
}

func (g generalName) kindName() string {
	if g.kind < len(kindNames) {
		return kindNames[g.kind]
	}
	return fmt.Sprint(g.kind)
}

func parseGeneralName(value asn1.RawValue) (generalName, error) {
	g := generalName{kind: value.Tag}
	if value.Class != asn1.ClassContextSpecific {
		return g, errors.New("has a name that is no GeneralName")
	}
	switch g.kind {
	case kindEmail, kindDNS, kindURI:
		for _, b := range value.Bytes {
			if b >= 0x80 {
				return g, errors.New("has a name that is not IA5")
			}
		}
		g.text = string(value.Bytes)
	case kindIP:
		g.address = value.Bytes
	case kindDirectory: // explicit, as Name is a CHOICE
		var err error
		g.directory, err = parseName(value.Bytes)
		return g, err
	}
	return g, nil
}

func parseGeneralNames(der []byte) ([]generalName, error) {
	var values []asn1.RawValue
	if err := unmarshal(der, &values); err != nil {
		return nil, err
	}
	var list []generalName
	for _, value := range values {
		g, err := parseGeneralName(value)
		if err != nil {
			return nil, err
		}
		list = append(list, g)
	}
	return list, nil
}

// constraints are what a CA may name (RFC 5280, section 4.2.1.10).
type constraints struct {
	permitted, excluded []generalName
	// unclear are the kinds with a subtree that has a minimum or maximum, which
	// the RFC has no use for.
	unclear map[int]bool
}

func parseConstraints(der []byte) (constraints, error) {
	var encoded struct {
		Permitted []subtree `asn1:"optional,tag:0"`
		Excluded  []subtree `asn1:"optional,tag:1"`
	}
	if err := unmarshal(der, &encoded); err != nil {
		return constraints{}, err
	}
	c := constraints{unclear: make(map[int]bool)}
	for _, side := range []struct {
		from []subtree
		into *[]generalName
	}{{encoded.Permitted, &c.permitted}, {encoded.Excluded, &c.excluded}} {
		for _, tree := range side.from {
			g, err := parseGeneralName(tree.Base)
			if err != nil {
				return c, err
			}
			if tree.Minimum != 0 || tree.Maximum != -1 {
				c.unclear[g.kind] = true
			}
			*side.into = append(*side.into, g)
		}
	}
	return c, nil
}

type subtree struct {
	Base    asn1.RawValue
	Minimum int `asn1:"optional,default:0,tag:0"`
	Maximum int `asn1:"optional,default:-1,tag:1"`
}

var oidEmailAddress = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 1}

// maxComparisons bounds how many names are compared with how many subtrees.
const maxComparisons = 1 << 20

// check says which of the names a CA with these constraints may not give, or
// "". What cannot be decided may not be given.
func (c constraints) check(n names) string {
	if len(c.permitted) == 0 && len(c.excluded) == 0 {
		return ""
	}
	all := n.alternative
	if len(n.subject) > 0 {
		all = append([]generalName{{kind: kindDirectory, directory: n.subject}}, all...)
	}
	// E-mail addresses in the subject count where there is no other place for
	// them (same section); here they count in any case.
	for _, relative := range n.subject {
		for _, one := range relative {
			if one.id.Equal(oidEmailAddress) {
				all = append(all[:len(all):len(all)], generalName{kind: kindEmail, text: one.value})
			}
		}
	}
	if len(all)*(len(c.permitted)+len(c.excluded)) > maxComparisons {
		return fmt.Sprintf("has %d names, too many to compare with %d constraints", len(all), len(c.permitted)+len(c.excluded))
	}
	for _, g := range all {
		if problem := c.checkOne(g); problem != "" {
			return problem
		}
	}
	return ""
}

func (c constraints) checkOne(g generalName) string {
	limited, permitted := false, false
	for _, base := range c.excluded {
		if base.kind != g.kind {
			continue
		}
		if inside, known := g.within(base); inside || !known || c.unclear[g.kind] {
			return fmt.Sprintf("names %s, which is excluded", g)
		}
	}
	for _, base := range c.permitted {
		if base.kind != g.kind {
			continue
		}
		limited = true
		inside, known := g.within(base)
		permitted = permitted || inside && known && !c.unclear[g.kind]
	}
	if limited && !permitted {
		return fmt.Sprintf("names %s, which is not permitted", g)
	}
	return ""
}

// within reports whether a name lies in the subtree of a base of its kind, and
// whether that can be told.
func (g generalName) within(base generalName) (inside, known bool) {
	switch g.kind {
	default:
		return false, false
	case kindDirectory:
		return g.directory.within(base.directory), true
	case kindDNS:
		return hostWithin(g.text, base.text, true)
	case kindEmail:
		at := strings.LastIndexByte(g.text, '@')
		if at < 1 || at == len(g.text)-1 {
			return false, false
		}
		if strings.Contains(base.text, "@") {
			return strings.EqualFold(g.text, base.text), true
		}
		return hostWithin(g.text[at+1:], base.text, false)
	case kindURI:
		host, ok := uriHost(g.text)
		if !ok {
			return false, false
		}
		return hostWithin(host, base.text, false)
	case kindIP:
		if len(base.address) != 8 && len(base.address) != 32 || len(g.address) != 4 && len(g.address) != 16 {
			return false, false
		}
		if 2*len(g.address) != len(base.address) {
			return false, true // of the other family
		}
		network, mask := base.address[:len(g.address)], base.address[len(g.address):]
		for i, b := range g.address {
			if b&mask[i] != network[i]&mask[i] {
				return false, true
			}
		}
		return true, true
	}
}

// hostWithin compares a host with a constraint. One that begins with a dot is
// for those below it; another is for that host and, in the case of DNS names,
// for those below it; an empty one is for all.
func hostWithin(host, base string, below bool) (inside, known bool) {
	host, base = strings.ToLower(strings.TrimSuffix(host, ".")), strings.ToLower(strings.TrimSuffix(base, "."))
	switch {
	case host == "":
		return false, false
	case base == "" || host == base:
		return true, true
	case strings.HasPrefix(base, "."):
		return strings.HasSuffix(host, base), true
	case !below:
		return false, true
	}
	return strings.HasSuffix(host, "."+base), true
}

// uriHost returns the host of a URI, where it has one by name.
func uriHost(uri string) (string, bool) {
	_, rest, ok := strings.Cut(uri, "://")
	if !ok {
		return "", false
	}
	if end := strings.IndexAny(rest, "/?#\\"); end >= 0 {
		rest = rest[:end]
	}
	host := rest[strings.LastIndexByte(rest, '@')+1:]
	host, _, _ = strings.Cut(host, ":") // of an IPv6 address nothing of use remains
	if strings.Trim(host, "0123456789.") == "" || strings.HasPrefix(host, "[") {
		return "", false
	}
	return host, true
}
