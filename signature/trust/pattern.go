package trust

import (
	"encoding/asn1"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Pattern is what a subject has to have in it: attributes, each with a value
// in which '*' stands for any text.
//
//	CN=Image signing *,O=Acme
//
// Each of them has to be in the subject, in any order, among any others.
// Values compare as names do: case and the number of blanks do not matter. A
// backslash takes the next character as it is.
type Pattern struct {
	text       string
	attributes []patternAttribute
}

type patternAttribute struct {
	id    asn1.ObjectIdentifier
	parts []string // between the stars
}

// attributeTypes are the short names of RFC 4514, section 3, and OpenSSL's.
var attributeTypes = map[string]asn1.ObjectIdentifier{
	"CN":           {2, 5, 4, 3},
	"SERIALNUMBER": {2, 5, 4, 5},
	"C":            {2, 5, 4, 6},
	"L":            {2, 5, 4, 7},
	"ST":           {2, 5, 4, 8},
	"STREET":       {2, 5, 4, 9},
	"O":            {2, 5, 4, 10},
	"OU":           {2, 5, 4, 11},
	"EMAILADDRESS": {1, 2, 840, 113549, 1, 9, 1},
	"UID":          {0, 9, 2342, 19200300, 100, 1, 1},
	"DC":           {0, 9, 2342, 19200300, 100, 1, 25},
}

// maxStars bounds the time that a match takes.
const maxStars = 8

// ParsePattern reads a pattern. The types are CN, O, OU, C, ST, L, STREET, DC,
// UID, serialNumber, emailAddress, or dotted numbers.
func ParsePattern(text string) (Pattern, error) {
	p := Pattern{text: text}
	for rest, more := text, true; more; {
		var item string
		item, rest, more = cutUnescaped(rest, ',')
		kind, value, ok := strings.Cut(item, "=")
		if !ok {
			return Pattern{}, fmt.Errorf("%q is not of the form TYPE=value", strings.TrimSpace(item))
		}
		id, ok := attributeType(strings.TrimSpace(kind))
		if !ok {
			return Pattern{}, fmt.Errorf("%q is no attribute of a name that is known; use CN, O, OU, C, ST, L, STREET, DC, UID, serialNumber, emailAddress or dotted numbers", strings.TrimSpace(kind))
		}
		one := patternAttribute{id: id}
		for part, again := value, true; again; {
			var literal string
			literal, part, again = cutUnescaped(part, '*')
			one.parts = append(one.parts, unescape(literal))
		}
		one.parts[0] = strings.TrimLeft(one.parts[0], " \t")
		last := len(one.parts) - 1
		one.parts[last] = strings.TrimRight(one.parts[last], " \t")
		switch {
		case last > maxStars:
			return Pattern{}, fmt.Errorf("%q has more than %d stars", item, maxStars)
		case last == 0 && one.parts[0] == "":
			return Pattern{}, fmt.Errorf("%q has no value; write * for any", item)
		}
		for i, part := range one.parts {
			one.parts[i] = strings.ToLower(part)
		}
		p.attributes = append(p.attributes, one)
	}
	return p, nil
}

// String is the pattern as it was written.
func (p Pattern) String() string { return p.text }

func attributeType(text string) (asn1.ObjectIdentifier, bool) {
	if id, ok := attributeTypes[strings.ToUpper(text)]; ok {
		return id, true
	}
	return ParseOID(text)
}

// ParseOID reads an object identifier in dotted numbers.
func ParseOID(text string) (asn1.ObjectIdentifier, bool) {
	var id asn1.ObjectIdentifier
	for _, digits := range strings.Split(text, ".") {
		number, err := strconv.ParseUint(digits, 10, 31)
		if err != nil {
			return nil, false
		}
		id = append(id, int(number))
	}
	_, err := asn1.Marshal(id)
	return id, err == nil
}

// matches reports whether every attribute of the pattern is in the name.
func (p Pattern) matches(n name) bool {
	for _, wanted := range p.attributes {
		if !slices.ContainsFunc(n, func(relative []attribute) bool {
			return slices.ContainsFunc(relative, func(a attribute) bool { return a.id.Equal(wanted.id) && wanted.fits(a.value) })
		}) {
			return false
		}
	}
	return len(p.attributes) > 0
}

func (p patternAttribute) fits(value string) bool {
	last := len(p.parts) - 1
	if last == 0 {
		return value == p.parts[0]
	}
	value, ok := strings.CutPrefix(value, p.parts[0])
	if !ok {
		return false
	}
	for _, part := range p.parts[1:last] { // the earliest place leaves the most room
		if _, value, ok = strings.Cut(value, part); !ok {
			return false
		}
	}
	return strings.HasSuffix(value, p.parts[last])
}

// cutUnescaped is strings.Cut at a character without backslash before it.
func cutUnescaped(text string, at byte) (before, after string, found bool) {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case at:
			return text[:i], text[i+1:], true
		}
	}
	return text, "", false
}

func unescape(text string) string {
	var plain strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' && i+1 < len(text) {
			i++
		}
		plain.WriteByte(text[i])
	}
	return plain.String()
}
