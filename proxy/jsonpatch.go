package proxy

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"
)

// Glance's media types for PATCH. The older one is a draft of JSON Patch in
// which the operation's name holds the path: {"replace": "/x", "value": 1}.
const (
	patchType20 = "application/openstack-images-v2.0-json-patch"
	patchType21 = "application/openstack-images-v2.1-json-patch"
)

var patchTypes = map[string]bool{patchType20: true, patchType21: false}

var operations = []string{"add", "remove", "replace"}

// change is what one operation of a patch does.
type change struct {
	op       string // add, remove, replace
	property string // the first segment of its path
	value    any    // nil where there is none
}

// text is the value as an image shows it: nothing for null, and for what is not
// a text.
func (c change) text() string {
	text, _ := c.value.(string)
	return text
}

// rebuildPatch reads a patch and writes it anew from what was understood, so
// that Glance can understand no more than that: per operation one of Glance's
// three names, a path, a value. It returns the changes, too.
func rebuildPatch(parsed any, draft bool) (data []byte, changes []change, err error) {
	list, ok := parsed.([]any)
	if !ok {
		return nil, nil, errors.New("it is not a list")
	}
	rebuilt := make([]object, 0, len(list))
	for i, entry := range list {
		operation, ok := entry.(object)
		if !ok {
			return nil, nil, fmt.Errorf("operation %d is not an object", i+1)
		}
		op, path, err := operationOf(operation, draft)
		if err != nil {
			return nil, nil, fmt.Errorf("operation %d %w", i+1, err)
		}
		segments, err := pointer(path)
		if err != nil {
			return nil, nil, fmt.Errorf("operation %d has the path %.64q, which %w", i+1, path, err)
		}
		var out object
		if draft {
			out = object{{op, canonicalPointer(segments)}}
		} else {
			out = object{{"op", op}, {"path", canonicalPointer(segments)}}
		}
		value, ok := operation.get("value")
		if ok && op != "remove" {
			out = append(out, member{"value", value})
		}
		rebuilt = append(rebuilt, out)
		changes = append(changes, change{op, segments[0], value})
	}
	data, err = json.Marshal(rebuilt)
	return data, changes, err
}

// operationOf returns an operation's name and path.
func operationOf(operation object, draft bool) (op, path string, err error) {
	where := "path"
	if draft {
		for _, name := range operations {
			if _, ok := operation.get(name); ok {
				if op != "" {
					return "", "", errors.New("has more than one operation")
				}
				op, where = name, name
			}
		}
	} else if value, ok := operation.get("op"); ok {
		op, _ = value.(string)
	}
	known := false
	for _, name := range operations {
		known = known || op == name
	}
	if !known {
		return "", "", errors.New("is none of add, remove, replace")
	}
	value, _ := operation.get(where)
	path, ok := value.(string)
	if !ok {
		return "", "", errors.New("has no path")
	}
	return op, path, nil
}

// pointer splits a path as Glance does: leading slashes are dropped, ~1 and ~0
// decoded, and white space around each segment trimmed. What Glance refuses,
// and what nobody types, is refused.
func pointer(path string) ([]string, error) {
	if !strings.HasPrefix(path, "/") {
		return nil, errors.New("does not begin with a slash")
	}
	var segments []string
	for raw := range strings.SplitSeq(strings.TrimLeft(path, "/"), "/") {
		for i := range len(raw) {
			if raw[i] == '~' && (i+1 == len(raw) || raw[i+1] != '0' && raw[i+1] != '1') {
				return nil, errors.New("has a ~ that is no escape")
			}
		}
		segment := strings.TrimSpace(strings.ReplaceAll(strings.ReplaceAll(raw, "~1", "/"), "~0", "~"))
		if segment == "" {
			return nil, errors.New("has an empty segment")
		}
		if strings.ContainsFunc(segment, func(c rune) bool { return !unicode.IsPrint(c) }) {
			return nil, errors.New("has a character that is not printable")
		}
		segments = append(segments, segment)
	}
	return segments, nil
}

func canonicalPointer(segments []string) string {
	var out strings.Builder
	for _, segment := range segments {
		out.WriteByte('/')
		out.WriteString(strings.ReplaceAll(strings.ReplaceAll(segment, "~", "~0"), "/", "~1"))
	}
	return out.String()
}
