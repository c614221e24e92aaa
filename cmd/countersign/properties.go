package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

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
