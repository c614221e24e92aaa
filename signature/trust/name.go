package trust

import (
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// name is a distinguished name: sets of attributes, in order.
type name [][]attribute

type attribute struct {
	id    asn1.ObjectIdentifier
	value string // as it compares
}

func (a attribute) canonical() string {
	return fmt.Sprintf("%v=%d:%s", a.id, len(a.value), a.value)
}

// parseName reads a name (RFC 5280, section 4.1.2.4).
func parseName(der []byte) (name, error) {
	var sets []asn1.RawValue
	if err := unmarshal(der, &sets); err != nil {
		return nil, err
	}
	var parsed name
	for _, set := range sets {
		if set.Class != asn1.ClassUniversal || set.Tag != asn1.TagSet || !set.IsCompound {
			return nil, errors.New("a name has something that is no set")
		}
		var relative []attribute
		for rest := set.Bytes; len(rest) > 0; {
			var one struct {
				ID    asn1.ObjectIdentifier
				Value asn1.RawValue
			}
			var err error
			if rest, err = asn1.Unmarshal(rest, &one); err != nil {
				return nil, err
			}
			value, err := comparable(one.Value)
			if err != nil {
				return nil, err
			}
			relative = append(relative, attribute{one.ID, value})
		}
		if len(relative) == 0 {
			return nil, errors.New("a name has an empty set")
		}
		slices.SortFunc(relative, func(a, b attribute) int { return strings.Compare(a.canonical(), b.canonical()) })
		parsed = append(parsed, relative)
	}
	return parsed, nil
}

// Tags of string types that encoding/asn1 has no names for.
const (
	tagUniversalString = 28
	tagVisibleString   = 26
)

// comparable returns the text of an attribute as it is compared: in whatever
// string type, lower case, runs of blanks for one (RFC 5280, section 7.1). Two
// names that compare are not proof of anything, as a signature has to follow.
func comparable(value asn1.RawValue) (string, error) {
	if value.Class != asn1.ClassUniversal || value.IsCompound {
		return fmt.Sprintf("#%x", value.FullBytes), nil
	}
	switch value.Tag {
	default:
		return fmt.Sprintf("#%x", value.FullBytes), nil
	case asn1.TagPrintableString, asn1.TagIA5String, asn1.TagNumericString, tagVisibleString, asn1.TagUTF8String:
		if !utf8.Valid(value.Bytes) {
			return "", errors.New("a name is not text")
		}
		return fold(string(value.Bytes)), nil
	case asn1.TagT61String: // Latin-1 by all practice
		text := make([]rune, len(value.Bytes))
		for i, b := range value.Bytes {
			text[i] = rune(b)
		}
		return fold(string(text)), nil
	case asn1.TagBMPString:
		if len(value.Bytes)%2 != 0 {
			return "", errors.New("a name is not text")
		}
		units := make([]uint16, len(value.Bytes)/2)
		for i := range units {
			units[i] = binary.BigEndian.Uint16(value.Bytes[2*i:])
		}
		return fold(string(utf16.Decode(units))), nil
	case tagUniversalString:
		if len(value.Bytes)%4 != 0 {
			return "", errors.New("a name is not text")
		}
		var text strings.Builder
		for i := 0; i < len(value.Bytes); i += 4 {
			text.WriteRune(rune(binary.BigEndian.Uint32(value.Bytes[i:])))
		}
		return fold(text.String()), nil
	}
}

func fold(text string) string { return strings.ToLower(strings.Join(strings.Fields(text), " ")) }

// canonical is the same for names that are equal, and for no others.
func (n name) canonical() string {
	var text strings.Builder
	for _, relative := range n {
		for _, one := range relative {
			text.WriteString(one.canonical())
			text.WriteByte('+')
		}
		text.WriteByte(',')
	}
	return text.String()
}

// within reports whether n is base or below it.
func (n name) within(base name) bool {
	if len(base) > len(n) {
		return false
	}
	return n[:len(base)].canonical() == base.canonical()
}
