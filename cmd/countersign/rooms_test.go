package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/countersign/countersign"

// sources are the Go files of the module, those with build tags included: the
// tests, or all others.
func sources(t *testing.T, tests bool) []string {
	t.Helper()
	var files []string
	err := filepath.WalkDir(top, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != top && (strings.HasPrefix(entry.Name(), ".") || entry.Name() == "testdata" || isModule(name)):
			return filepath.SkipDir
		case !entry.IsDir() && path.Ext(name) == ".go" && strings.HasSuffix(name, "_test.go") == tests:
			files = append(files, name)
		}
		return nil
	})
	if err != nil || len(files) < 10 {
		t.Fatalf("found %d Go files below %s, %v", len(files), top, err)
	}
	return files
}

// isModule reports whether a folder is a module of its own, with dependencies of its own.
func isModule(folder string) bool {
	_, err := os.Stat(filepath.Join(folder, "go.mod"))
	return err == nil
}

// room is the folder of a file below the top: signature, proxy/keystone.
func room(t *testing.T, file string) string {
	t.Helper()
	relative, err := filepath.Rel(top, filepath.Dir(file))
	if err != nil {
		t.Fatal(err)
	}
	return filepath.ToSlash(relative)
}

func parse(t *testing.T, file string) (*token.FileSet, *ast.File) {
	t.Helper()
	set := token.NewFileSet()
	parsed, err := parser.ParseFile(set, file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return set, parsed
}

func imports(f *ast.File) []string {
	var list []string
	for _, spec := range f.Imports {
		name, _ := strconv.Unquote(spec.Path.Value) // the parser saw to it
		list = append(list, name)
	}
	return list
}

// foreign are our rooms that a room may import. A room that is not in it is new,
// and has to be thought about. A room may import what is below it.
var foreign = map[string][]string{
	"cmd/countersign":  {"certcache", "config", "policy", "proxy", "proxy/downstream", "proxy/keystone", "proxy/upstream", "proxy/receipt", "signature", "signature/trust"},
	"config":           nil,
	"signature":        nil,
	"signature/trust":  {"signature", "signature/binarycurve"},
	"policy":           {"signature", "signature/trust"},
	"certcache":        nil,
	"proxy":            {"policy", "signature"},
	"proxy/keystone":   nil,
	"proxy/downstream": {"proxy/upstream"},
	"proxy/receipt":    {"signature"},
	"e2e":              nil,
}

// within is the nearest room of the table at or above a folder.
func within(folder string) (string, bool) {
	for name := folder; name != "."; name = path.Dir(name) {
		if _, ok := foreign[name]; ok {
			return name, true
		}
	}
	return "", false
}

// TestArrows holds the rooms apart: an import that is not in the table is a new
// arrow in the design.
func TestArrows(t *testing.T) {
	seen := map[string]bool{}
	for _, file := range sources(t, false) {
		folder := room(t, file)
		here, ok := within(folder)
		if !ok {
			t.Errorf("%s is in no room that the table knows", file)
			continue
		}
		seen[here] = true
		_, f := parse(t, file)
		for _, name := range imports(f) {
			ours, isOurs := strings.CutPrefix(name, module+"/")
			below := strings.HasPrefix(ours, here+"/")
			if isOurs && !below && !slices.Contains(foreign[here], ours) {
				t.Errorf("%s imports %s; %s may import %v of ours", file, ours, here, foreign[here])
			}
		}
	}
	for here := range foreign {
		if !seen[here] {
			t.Errorf("the table has %s, and there is no such room", here)
		}
	}
}

// TestForbidden keeps a few packages to the rooms that they belong to.
func TestForbidden(t *testing.T) {
	for _, rule := range []struct {
		packages string // a regular expression
		rooms    []string
		why      string
	}{
		{`^net(/|$)`, []string{"cmd/countersign", "config", "certcache", "certcache/vaulttest", "proxy", "proxy/downstream", "proxy/keystone", "proxy/upstream", "e2e", "e2e/bench"}, "signature, policy and receipts are pure"},
		{`^os(/|$)`, []string{"cmd/countersign", "config", "certcache", "e2e", "e2e/bench"}, "the others are given readers and values; certcache reads a directory that stands for a key manager"},
		{`^(log(/|$)|github\.com/rs/zerolog)`, []string{"cmd/countersign", "proxy", "e2e"}, "the others return errors"},
		{`^github\.com/gophercloud/`, []string{"cmd/countersign", "config", "certcache", "proxy/keystone"}, "signature, policy and proxy know no OpenStack client"},
		{`^github\.com/gorilla/mux`, []string{"proxy"}, "one room serves HTTP"},
		{`^github\.com/go-jose/`, []string{"proxy/receipt"}, "one room signs and reads receipts"},
		{`^github\.com/caarlos0/env`, []string{"config"}, "one room reads the environment"},
		{`^go\.yaml\.in/`, []string{"policy"}, "one room reads YAML"},
		{`^github\.com/spf13/|^golang\.org/x/term|progressbar`, []string{"cmd/countersign"}, "one room speaks to people"},
		{`^net/http/httptest$|^testing(/|$)`, nil, "tests are in files of their own"},
		{`^unsafe$`, []string{"proxy/upstream"}, "one room makes system calls of which the scheduler is not told"},
		{`^(C|math/rand)$`, nil, "nothing here needs it"},
	} {
		pattern := regexp.MustCompile(rule.packages)
		for _, file := range sources(t, false) {
			folder := room(t, file)
			_, f := parse(t, file)
			for _, name := range imports(f) {
				if pattern.MatchString(name) && !slices.Contains(rule.rooms, folder) {
					t.Errorf("%s imports %s: %s", file, name, rule.why)
				}
			}
		}
	}
}

// environment are the functions that read it. The last does so for the proxy of
// the HTTP client, which the README tells of.
var environment = regexp.MustCompile(`^(os\.(Getenv|LookupEnv|Environ|ExpandEnv|UserHomeDir|UserConfigDir|UserCacheDir)|syscall\.(Getenv|Environ)|openstack\.AuthOptionsFromEnv|http\.(ProxyFromEnvironment|DefaultClient|Get|Post|Head|PostForm))$`)

// TestEnvironment: config alone reads the environment.
func TestEnvironment(t *testing.T) {
	found := 0
	for _, file := range sources(t, false) {
		set, f := parse(t, file)
		ast.Inspect(f, func(n ast.Node) bool {
			selector, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			of, ok := selector.X.(*ast.Ident)
			if !ok {
				return true
			}
			name := of.Name + "." + selector.Sel.Name
			switch here := room(t, file); {
			case !environment.MatchString(name):
			case here == "config", here == "cmd/countersign" && name == "http.ProxyFromEnvironment":
				found++
			default:
				t.Errorf("%s: %s", set.Position(n.Pos()), name)
			}
			return true
		})
	}
	if found == 0 {
		t.Error("nobody reads the environment: the test looks for the wrong thing")
	}
}

// required are the modules that go.mod requires: path → whether it is marked as
// indirect.
func required(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(top, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	list := make(map[string]bool)
	for _, found := range regexp.MustCompile(`(?m)^(?:require )?\s*(\S+\.\S+/\S+) v\S+( // indirect)?$`).FindAllStringSubmatch(string(text), -1) {
		list[found[1]] = found[2] != ""
	}
	if len(list) == 0 {
		t.Fatal("go.mod requires nothing")
	}
	return list
}

// TestDependencies: docs/dependencies.md has a reason for every module that our
// files import, tests included, and for no other.
func TestDependencies(t *testing.T) {
	modules := required(t)
	used := map[string]string{} // module → a file that imports it
	for _, file := range append(sources(t, false), sources(t, true)...) {
		_, f := parse(t, file)
		for _, name := range imports(f) {
			first, _, _ := strings.Cut(name, "/")
			if !strings.Contains(first, ".") || name == module || strings.HasPrefix(name, module+"/") {
				continue
			}
			owner := ""
			for candidate := range modules {
				if (name == candidate || strings.HasPrefix(name, candidate+"/")) && len(candidate) > len(owner) {
					owner = candidate
				}
			}
			if owner == "" {
				t.Errorf("%s imports %s, which go.mod does not require", file, name)
				continue
			}
			used[owner] = file
		}
	}
	table := between(t, documents(t)["docs/dependencies.md"], "direct")
	named := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|[^|]+\\|[^|]+\\|[^|]*\\w[^|]*\\|$").FindAllStringSubmatch(table, -1) {
		named[row[1]] = true
		if used[row[1]] == "" {
			t.Errorf("docs/dependencies.md has %s, which no file imports", row[1])
		}
	}
	for name, file := range used {
		if !named[name] {
			t.Errorf("%s imports %s, for which docs/dependencies.md has no reason", file, name)
		}
	}
	for name, indirect := range modules {
		if !indirect && used[name] == "" {
			t.Errorf("go.mod requires %s directly, and no file imports it", name)
		}
	}
}
