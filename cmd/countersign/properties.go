package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"

	"github.com/countersign/countersign/signature"
)

// A format writes properties for whoever is next.
type format string

const (
	formatArgs  format = "args"  // for openstack image create
	formatJSON  format = "json"  // for programs, and verify --properties
	formatShell format = "shell" // for eval
)

var formats = []format{formatArgs, formatJSON, formatShell}

// write leaves out properties that are not there. None of the values has a
// character that a shell would take for its own: base64, names and a UUID.
func (f format) write(w io.Writer, properties map[string]string) error {
	switch f {
	default:
		return fmt.Errorf("format %q is not known", f)
	case formatArgs:
		var args []string
		for _, name := range signature.Properties {
			if value, ok := properties[name]; ok {
				args = append(args, "--property", name+"="+value)
			}
		}
		_, err := fmt.Fprintln(w, strings.Join(args, " "))
		return err
	case formatJSON:
		text, err := json.MarshalIndent(properties, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\n", text)
		return err
	case formatShell:
		for _, name := range signature.Properties {
			if value, ok := properties[name]; ok {
				if _, err := fmt.Fprintf(w, "%s='%s'\n", name, value); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

// withCure adds to a refusal what to do about it.
func withCure(err error) error {
	var refused *signature.PropertyError
	if !errors.As(err, &refused) {
		return err
	}
	return fmt.Errorf("%w\n  %s", err, refused.Cure)
}

// readProperties finds the signature properties in an image as openstack image
// show -f json prints it, as Glance's API answers, or as sign writes it: members
// of the object itself or of its "properties". Whatever else is there is passed
// over; what is there twice, or is no text, is an error.
func readProperties(data []byte) (map[string]string, error) {
	found := make(map[string]string)
	members, err := objectMembers(data)
	if err != nil {
		return nil, err
	}
	if err := addProperties(found, members); err != nil {
		return nil, err
	}
	for _, m := range members {
		if m.name != "properties" || m.value[0] != '{' {
			continue
		}
		inner, err := objectMembers(m.value)
		if err != nil {
			return nil, err
		}
		if err := addProperties(found, inner); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func addProperties(found map[string]string, members []member) error {
	for _, m := range members {
		if !slices.Contains(signature.Properties, m.name) {
			continue
		}
		if _, twice := found[m.name]; twice {
			return fmt.Errorf("has %s twice", m.name)
		}
		var value *string
		if json.Unmarshal(m.value, &value) != nil || value == nil {
			return fmt.Errorf("has %s with a value that is no text", m.name)
		}
		found[m.name] = *value
	}
	return nil
}

// A member of a JSON object; the value is never empty.
type member struct {
	name  string
	value json.RawMessage
}

var errNotObject = errors.New("is not one JSON object")

// objectMembers keeps what encoding/json does not show: names that occur twice.
func objectMembers(data []byte) ([]member, error) {
	if !json.Valid(data) { // also refuses data after the object
		return nil, errNotObject
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	if begin, err := decoder.Token(); err != nil || begin != json.Delim('{') {
		return nil, errNotObject
	}
	var members []member
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, errNotObject
		}
		m := member{name: name.(string)} // a valid object's names are strings
		if err := decoder.Decode(&m.value); err != nil {
			return nil, errNotObject
		}
		members = append(members, m)
	}
	return members, nil
}

// subject is the name in a certificate as it may be shown on a terminal. It is
// a claim and may be anything.
func subject(certificate *signature.Certificate) string {
	if certificate.Subject == "" {
		return "a certificate without a subject"
	}
	return printable(certificate.Subject)
}

// printable keeps a terminal from obeying what others have written.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

// alternatives is "A, B or C".
func alternatives[T ~string](words []T) string {
	var b strings.Builder
	for i, word := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			b.WriteString(" or ")
		default:
			b.WriteString(", ")
		}
		b.WriteString(string(word))
	}
	return b.String()
}
