package proxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// member is one member of a JSON object.
type member struct {
	name  string
	value any
}

// object is a JSON object with its members in their order. No two have the same
// name.
type object []member

// get returns the member of a name.
func (o object) get(name string) (any, bool) {
	for _, m := range o {
		if m.name == name {
			return m.value, true
		}
	}
	return nil, false
}

// MarshalJSON writes the members in their order.
func (o object) MarshalJSON() ([]byte, error) {
	var out bytes.Buffer
	out.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			out.WriteByte(',')
		}
		name, err := json.Marshal(m.name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(m.value)
		if err != nil {
			return nil, err
		}
		out.Write(name)
		out.WriteByte(':')
		out.Write(value)
	}
	out.WriteByte('}')
	return out.Bytes(), nil
}

// maxDepth is how deeply a body may be nested. Glance's own nest five deep.
const maxDepth = 32

// parseStrict reads one JSON text (RFC 8259) that every parser reads alike: no
// two members of one object with the same name, no text that is not UTF-8, no
// half of a surrogate pair, nothing behind it. An object becomes an object, an
// array []any, a number json.Number, and the rest what encoding/json makes of it.
func parseStrict(data []byte) (any, error) {
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("not UTF-8")
	}
	if hasLoneSurrogate(data) {
		return nil, fmt.Errorf("half of a surrogate pair is escaped")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	value, err := parseValue(d, 0)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("something follows the JSON text")
	}
	return value, nil
}

func parseValue(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("nested more than %d deep", maxDepth)
	}
	token, err := d.Token()
	if err == io.EOF {
		return nil, io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		return parseObject(d, depth)
	case json.Delim('['):
		return parseArray(d, depth)
	}
	return token, nil
}

func parseObject(d *json.Decoder, depth int) (any, error) {
	found := object{}
	seen := map[string]bool{} // found.get would take its time with a hundred thousand members
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		name := token.(string) // the decoder knows no other names
		if seen[name] {
			return nil, fmt.Errorf("the member %.64q is there twice", name)
		}
		seen[name] = true
		value, err := parseValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		found = append(found, member{name, value})
	}
	_, err := d.Token() // the closing brace
	return found, err
}

func parseArray(d *json.Decoder, depth int) (any, error) {
	found := []any{}
	for d.More() {
		value, err := parseValue(d, depth+1)
		if err != nil {
			return nil, err
		}
		found = append(found, value)
	}
	_, err := d.Token() // the closing bracket
	return found, err
}

// hasLoneSurrogate reports whether a \u escape names half of a surrogate pair
// without the other half. Python keeps such a half, Go makes U+FFFD of each,
// and two names that differ for one would be the same for the other.
func hasLoneSurrogate(data []byte) bool {
	escaped := func(i int) (rune, bool) {
		if i+6 > len(data) || data[i] != '\\' || data[i+1] != 'u' {
			return 0, false
		}
		unit, err := strconv.ParseUint(string(data[i+2:i+6]), 16, 16)
		return rune(unit), err == nil
	}
	for i := 0; i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		unit, ok := escaped(i)
		if !ok || !utf16.IsSurrogate(unit) {
			i++ // over what is escaped, which may be a backslash
			continue
		}
		low, ok := escaped(i + 6)
		if !ok || utf16.DecodeRune(unit, low) == unicode.ReplacementChar {
			return true
		}
		i += 11
	}
	return false
}
