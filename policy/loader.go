package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Problem is one mistake in a policy file.
type Problem struct {
	Line  int    // counting from 1
	Field string // the field it is about
	Text  string // continues the field's name to a sentence, with the cure after a semicolon
}

// String is one sentence: line, field, what is wrong and the cure.
func (p Problem) String() string { return fmt.Sprintf("line %d: %s %s", p.Line, p.Field, p.Text) }

// Error lists every mistake of a policy file, in the order of its lines.
type Error struct {
	Problems []Problem
}

// Error has one line for each problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// loader walks YAML nodes and collects what is wrong. It works on nodes
// because decoding into structs stops at the first mistake and takes a field
// it does not know in silence or without its line.
type loader struct {
	sets     []*TrustSet // read before the rules, which name them
	problems []Problem
	now      time.Time
}

func (l *loader) wrong(line int, field, format string, args ...any) {
	l.problems = append(l.problems, Problem{line, field, fmt.Sprintf(format, args...)})
}

// failure is nil or an *Error; never a nil *Error.
func (l *loader) failure() error {
	if len(l.problems) == 0 {
		return nil
	}
	slices.SortStableFunc(l.problems, func(a, b Problem) int { return a.Line - b.Line })
	return &Error{l.problems}
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

// syntax reports what the YAML parser says.
func (l *loader) syntax(err error) {
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		text = err.Error()[len(m[0]):]
		line, _ = strconv.Atoi(m[1])
	}
	l.wrong(line, "policy", "is not YAML (%s); look at the indentation and the quotes here and in the line before", text)
}

// fields calls the reader of every member of a mapping, and refuses members
// that are unknown or given twice. It returns the line of each, or nil if n is
// no mapping at all.
func fields[T any](l *loader, n *yaml.Node, where string, known []member[T], into *T) map[string]int {
	n = target(n)
	names := func() string {
		var list []string
		for _, m := range known {
			list = append(list, m.Name)
		}
		slices.Sort(list)
		return alternatives(list)
	}
	if n.Kind != yaml.MappingNode {
		l.wrong(n.Line, where, "is not a set of fields; write `field: value` lines with %s", names())
		return nil
	}
	first := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := target(n.Content[i]), target(n.Content[i+1])
		m := slices.IndexFunc(known, func(m member[T]) bool { return m.Name == key.Value })
		line, twice := first[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode || m < 0:
			name := key.Value
			if key.Kind != yaml.ScalarNode {
				name = "?"
			}
			l.wrong(key.Line, where, "has no field %q; write %s, or remove it", name, names())
		case twice:
			l.wrong(key.Line, key.Value, "is given in line %d already; remove one of them", line)
		default:
			first[key.Value] = key.Line
			known[m].read(l, value, into)
		}
	}
	return first
}

// list returns the items of a sequence that has some.
func (l *loader) list(n *yaml.Node, field, expected string) []*yaml.Node {
	n = target(n)
	switch {
	case n.Kind != yaml.SequenceNode:
		l.wrong(n.Line, field, "is not %s; write it so, each item after a `-`", expected)
		return nil
	case len(n.Content) == 0:
		l.wrong(n.Line, field, "lists nothing; expected %s, so fill it or remove the field", expected)
		return nil
	}
	items := make([]*yaml.Node, len(n.Content))
	for i, item := range n.Content {
		items[i] = target(item)
	}
	return items
}

// text returns a scalar as it is written, so that an id of digits stays one.
func (l *loader) text(n *yaml.Node, field string) (string, bool) {
	switch {
	case n.Kind != yaml.ScalarNode:
		l.wrong(n.Line, field, "is not a single value; write it on the same line")
		return "", false
	case n.ShortTag() == "!!null" || n.Value == "":
		l.wrong(n.Line, field, "is empty; give it a value or remove the field")
		return "", false
	}
	return n.Value, true
}

// target is the node an alias stands for. The walk has a fixed depth, so an
// anchor that contains itself does no harm.
func target(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}
