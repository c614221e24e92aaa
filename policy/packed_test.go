package policy

import (
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// What is packed comes out again, whatever of a rule differs from another one: a field
// that appendDemands forgets would give a rule the demands of an earlier one.
func TestPackedRulesDifferInEveryField(t *testing.T) {
	own := []string{"sets", "denied", "origin"} // set as a rule is unpacked
	var rules []*Rule
	vary := func(v reflect.Value, path string, with func(set func(*Rule))) {
		at := func(r *Rule) reflect.Value { return reflect.ValueOf(r).Elem().FieldByName(path) }
		switch v.Interface().(type) {
		case time.Time:
			with(func(r *Rule) { at(r).Set(reflect.ValueOf(time.Unix(1, 1).UTC())) })
			with(func(r *Rule) { at(r).Set(reflect.ValueOf(time.Unix(1, 2).UTC())) })
			return
		case Services:
			with(func(r *Rule) { r.Services.Mode = ServicesExempt })
			with(func(r *Rule) { r.Services.Users = []User{{ID: "a"}} })
			with(func(r *Rule) { r.Services.Users = []User{{Name: "a"}} })
			with(func(r *Rule) { r.Services.Users = []User{{Domain: "a"}} })
			with(func(r *Rule) { r.Services.Users = []User{{ID: "a"}, {Name: "b"}} })
			return
		case []Entry:
			with(func(r *Rule) { r.Projects = []Entry{{ID: "a", Line: 7}, {Project: Project{"b", "c"}, Line: 8}} })
			with(func(r *Rule) {
				r.Projects = []Entry{{Project: Project{"b", "c"}}, {Project: Project{"c", "b"}}, {ID: "b"}}
			})
			return
		case []Signer:
			with(func(r *Rule) { r.Signers = []Signer{{CertificateID: "a"}, {CertificateID: "b"}} })
			with(func(r *Rule) { r.Signers = []Signer{{CertificateID: "ab"}} })
			with(func(r *Rule) { r.Signers = []Signer{{Fingerprint: "ab"}} })
			with(func(r *Rule) { r.Signers = []Signer{{Trust: "ab"}, {CertificateID: "c"}} })
			return
		}
		switch v.Kind() {
		case reflect.Bool:
			with(func(r *Rule) { at(r).SetBool(true) })
		case reflect.Int:
			with(func(r *Rule) { at(r).SetInt(7) })
			with(func(r *Rule) { at(r).SetInt(8) })
		case reflect.String:
			with(func(r *Rule) { at(r).SetString("a") })
			with(func(r *Rule) { at(r).SetString("b") })
		case reflect.Slice:
			texts := func(texts ...string) {
				with(func(r *Rule) {
					list := reflect.MakeSlice(v.Type(), len(texts), len(texts))
					for i, text := range texts {
						list.Index(i).SetString(text)
					}
					at(r).Set(list)
				})
			}
			known := "a"
			if v.Type() == reflect.TypeFor[[]Visibility]() {
				known = string(Shared)
			}
			texts(known)
			texts(known, known)
		default:
			t.Fatalf("%s is a %s, which this test does not know", path, v.Type())
		}
	}
	rules = append(rules, new(Rule))
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Rule]()) {
		if slices.Contains(own, field.Name) {
			continue
		}
		vary(reflect.Zero(field.Type), field.Name, func(set func(*Rule)) {
			r := new(Rule)
			set(r)
			rules = append(rules, r)
		})
	}
	p := pack(rules)
	for i, want := range rules {
		got := p.rule(i)
		got.Projects = slices.Collect(p.projects(i))
		if !reflect.DeepEqual(&got, want) {
			t.Errorf("rule %d is\n%+v, want\n%+v", i, got, *want)
		}
	}
}

// A collection of garbage goes through all that has pointers, so their number must not
// grow with that of rules, nor may much else.
func TestManyRulesHoldLittle(t *testing.T) {
	const many = 5_000
	for _, test := range []struct {
		name    string
		signers string // %d: the rule's number
		bytes   int    // a rule
	}{
		{"any signer", "any", 200},
		{"the same signer", "[certificate: cd7cc675-e573-419c-8fff-33a72734a243]", 200},
		{"each its own", "[certificate: cd7cc675-e573-419c-8fff-%012d]", 260},
	} {
		var text strings.Builder
		text.WriteString("rules:\n")
		for i := range many {
			signers := test.signers
			if strings.Contains(signers, "%") {
				signers = fmt.Sprintf(signers, i)
			}
			fmt.Fprintf(&text, "- {name: rule number %d, projects: [id: %032x], mode: enforce, signers: %s}\n", i, i, signers)
		}
		text.WriteString("- {projects: all, mode: audit}\n")
		before := alive()
		p, err := Load(strings.NewReader(text.String()))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 1000 {
			if _, err := p.For(Subject{Owner: fmt.Sprintf("%032x", i)}); err != nil {
				t.Fatal(err)
			}
		}
		after := alive()
		if objects := int(after.HeapObjects) - int(before.HeapObjects); objects > 2000 {
			t.Errorf("%s: %d rules are %d objects, want 2000 at most", test.name, many, objects)
		}
		if bytes := (int(after.HeapAlloc) - int(before.HeapAlloc)) / many; bytes < 50 || bytes > test.bytes {
			t.Errorf("%s: a rule holds %d bytes, want 50 to %d", test.name, bytes, test.bytes)
		}
		runtime.KeepAlive(p)
		runtime.KeepAlive(&text) // which counts on both sides
	}
	for _, one := range []any{packedRow{}, packedEntry{}, packedList{}, packedSigner{}, first{}, [16]byte{}} {
		if hasPointers(reflect.TypeOf(one)) {
			t.Errorf("%T has pointers", one)
		}
	}
}

func alive() (m runtime.MemStats) {
	runtime.GC()
	runtime.GC() // what was finalized, too
	runtime.ReadMemStats(&m)
	return m
}

func hasPointers(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Array:
		return hasPointers(t.Elem())
	case reflect.Struct:
		return slices.ContainsFunc(reflect.VisibleFields(t), func(f reflect.StructField) bool { return hasPointers(f.Type) })
	default:
		return t.Kind() == reflect.String || t.Kind() >= reflect.Chan && t.Kind() != reflect.Struct
	}
}
