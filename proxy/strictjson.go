package proxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
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
// two members of one object with the same name, no text that is not UTF-8,
// nothing behind it. An object becomes an object, an array []any, a number
// json.Number, and the rest what encoding/json makes of it.
func parseStrict(data []byte) (any, error) {
	if !utf8.Valid(data) {
		return nil, fmt.Errorf("not UTF-8")
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
	for d.More() {
		token, err := d.Token()
		if err != nil {
			return nil, err
		}
		name := token.(string) // the decoder knows no other names
		if _, twice := found.get(name); twice {
			return nil, fmt.Errorf("the member %q is there twice", name)
		}
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
