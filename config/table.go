package config

import (
	"reflect"
	"slices"
	"strings"
)

// Setting is one row of the table of settings in the README.
type Setting struct {
	Name    string // the variable
	Default string // empty: none
	Help    string
	Secret  bool // never shown

	field string // of the struct it fills
}

// Table lists every variable that is read, in the order of the structs.
func Table() []Setting {
	return append(ownSettings(), settings(reflect.TypeFor[openstack](), osPrefix)...)
}

// ownSettings lists what is Countersign's own.
func ownSettings() []Setting { return settings(reflect.TypeFor[Config](), Prefix) }

func settings(t reflect.Type, prefix string) []Setting {
	var list []Setting
	for i := range t.NumField() {
		field := t.Field(i)
		name := field.Tag.Get("env")
		if name == "" || name == "-" {
			continue
		}
		list = append(list, Setting{
			Name:    prefix + name,
			Default: field.Tag.Get("envDefault"),
			Help:    field.Tag.Get("help"),
			Secret:  field.Tag.Get("secret") == "true",
			field:   field.Name,
		})
	}
	return list
}

// shownSetting is a value as it may be printed.
type shownSetting struct {
	name, value string
	isDefault   bool
}

// Masked lists the settings in force, one "NAME=value" each; secrets are
// starred and what is unset is left out.
func (c Config) Masked() []string {
	var lines []string
	for _, s := range c.shown {
		if s.value != "" {
			lines = append(lines, s.name+"="+s.value)
		}
	}
	return lines
}

// String is Masked on lines of their own.
func (c Config) String() string { return strings.Join(c.Masked(), "\n") }

// checkNames refuses COUNTERSIGN_ variables that nobody reads or that hold
// nothing: both look set and change nothing.
func checkNames(environ map[string]string, faults *Error) {
	known := ownSettings()
	var names []string
	for name := range environ {
		if strings.HasPrefix(name, Prefix) && !serviceLink(name, environ) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range names {
		isKnown := slices.ContainsFunc(known, func(s Setting) bool { return s.Name == name })
		switch {
		case !isKnown:
			faults.add(name, "is not known; did you mean %s?", nearest(name, known))
		case environ[name] == "":
			faults.add(name, "is set to nothing; give it a value or unset it")
		}
	}
}

// serviceLink reports whether Kubernetes set the variable: every Service in a
// pod's namespace appears in its environment as X_SERVICE_HOST,
// X_SERVICE_PORT…, X_PORT…, and ours may well be called countersign.
func serviceLink(name string, environ map[string]string) bool {
	for _, part := range []string{"_SERVICE_HOST", "_SERVICE_PORT", "_PORT"} {
		for at := 0; ; at++ {
			next := strings.Index(name[at:], part)
			if next < 0 {
				break
			}
			at += next
			service := name[:at]
			if environ[service+"_SERVICE_HOST"] != "" && environ[service+"_SERVICE_PORT"] != "" {
				return true
			}
		}
	}
	return false
}

// nearest is the known name with the fewest letters to change.
func nearest(name string, known []Setting) string {
	best, least := "", -1
	for _, s := range known {
		if d := distance(name, s.Name); least < 0 || d < least {
			best, least = s.Name, d
		}
	}
	return best
}

// distance counts the letters to insert, drop or change (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
