package proxy

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// codes are the constants of a package's files that name the reason of a
// refusal: code → the constant's name.
func codes(t *testing.T, folder string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".go") || strings.HasSuffix(entry.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), folder+"/"+entry.Name(), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || len(spec.Values) != len(spec.Names) {
				return true
			}
			for i, name := range spec.Names {
				text, ok := spec.Values[i].(*ast.BasicLit)
				if ok && text.Kind == token.STRING && strings.HasPrefix(strings.ToLower(name.Name), "code") {
					code, _ := strconv.Unquote(text.Value) // the parser saw to it
					found[code] = name.Name
				}
			}
			return true
		})
	}
	if len(found) == 0 {
		t.Fatalf("%s has no codes: the test looks for the wrong thing", folder)
	}
	return found
}

// TestEveryCodeHasAStatus: no refusal becomes a 500 because somebody forgot it.
func TestEveryCodeHasAStatus(t *testing.T) {
	all := map[string]string{}
	for _, folder := range []string{".", "../policy", "../signature"} {
		maps.Copy(all, codes(t, folder))
	}
	for code, name := range all {
		if _, ok := statuses[code]; !ok && code != codeInternal {
			t.Errorf("%s (%s) has no status", code, name)
		}
	}
	for code := range statuses {
		if all[code] == "" {
			t.Errorf("%s has a status, and no constant names it", code)
		}
	}
}

// TestCodesAreDocumented holds the README's table of refusals to the codes and
// their statuses.
func TestCodesAreDocumented(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, opened := strings.Cut(string(text), "<!-- refusals")
	table, _, closed := strings.Cut(table, "<!-- /refusals -->")
	if !opened || !closed {
		t.Fatal("the README has no <!-- refusals --> … <!-- /refusals -->")
	}
	documented := map[string]int{}
	row := regexp.MustCompile("(?m)^\\| `(\\w+)`(?: \\*)? \\| (\\d{3}) \\| [^|]+ \\| [^|]+ \\|$")
	for _, found := range row.FindAllStringSubmatch(table, -1) {
		status, err := strconv.Atoi(found[2])
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := documented[found[1]]; twice {
			t.Errorf("the README has %s twice", found[1])
		}
		documented[found[1]] = status
	}
	want := maps.Clone(statuses)
	want[codeInternal] = http.StatusInternalServerError
	for code, status := range want {
		if documented[code] != status {
			t.Errorf("the README has %s with status %d, want %d", code, documented[code], status)
		}
	}
	for code := range documented {
		if _, ok := want[code]; !ok {
			t.Errorf("the README has %s, which is no code", code)
		}
	}
	if rows := strings.Count(table, "\n| `"); rows != len(documented) {
		t.Errorf("the README's table has %d rows, of which %d could be read", rows, len(documented))
	}
}

// TestLogIsDocumented: the manual explains every field of an event.
func TestLogIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	f, err := parser.ParseFile(token.NewFileSet(), "event.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	adders := []string{"Str", "Int", "Int64", "Dur", "Bool", "Hex", "Dict", "AnErr"}
	fields := map[string]bool{}
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		method, ok := call.Fun.(*ast.SelectorExpr)
		if !ok || !slices.Contains(adders, method.Sel.Name) || len(call.Args) != 2 {
			return true
		}
		if name, ok := call.Args[0].(*ast.BasicLit); ok {
			field, _ := strconv.Unquote(name.Value) // the parser saw to it
			fields[field] = true
		}
		return true
	})
	if len(fields) < 20 {
		t.Fatalf("event.go has only the fields %v: the test looks for the wrong thing", fields)
	}
	for field := range fields {
		if !regexp.MustCompile("(?m)^\\| .*`" + field + "`.* \\|$").Match(text) {
			t.Errorf("docs/operations.md does not explain the field %s", field)
		}
	}
}
