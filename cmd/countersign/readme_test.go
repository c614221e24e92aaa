package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/countersign/countersign/config"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/signature"
)

const top = "../.."

// documents are the README and the manual, by their paths below the top.
func documents(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(top, "docs", "*.md"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no documents in docs: %v", err)
	}
	texts := make(map[string]string)
	for _, name := range append(names, filepath.Join(top, "README.md")) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		relative, err := filepath.Rel(top, name)
		if err != nil {
			t.Fatal(err)
		}
		texts[relative] = string(text)
	}
	return texts
}

// between is the text between <!-- NAME… --> and <!-- /NAME -->.
func between(t *testing.T, text, name string) string {
	t.Helper()
	found := regexp.MustCompile(`(?s)<!-- ` + name + `\b[^>]*-->\n(.*?)<!-- /` + name + ` -->`).FindStringSubmatch(text)
	if found == nil {
		t.Fatalf("there is no <!-- %s --> … <!-- /%s -->", name, name)
	}
	return found[1]
}

// TestSettings holds the README's table to the settings that are read. Where it
// differs, the right one is printed, to be copied.
func TestSettings(t *testing.T) {
	var want strings.Builder
	want.WriteString("| variable | default | meaning |\n|---|---|---|\n")
	for _, s := range config.Table() {
		value := ""
		if s.Default != "" {
			value = "`" + s.Default + "`"
		}
		fmt.Fprintf(&want, "| `%s` | %s | %s |\n", s.Name, value, strings.ReplaceAll(s.Help, "|", `\|`))
	}
	if got := between(t, documents(t)["README.md"], "settings"); got != want.String() {
		t.Errorf("the README's table of settings should be:\n\n%s", want.String())
	}
}

// TestKeyTypes holds the manual to what can be verified.
func TestKeyTypes(t *testing.T) {
	var want strings.Builder
	for _, k := range signature.KeyTypes {
		fmt.Fprintf(&want, "- `%s`\n", k)
	}
	if got := between(t, documents(t)["docs/verification.md"], "key types"); got != want.String() {
		t.Errorf("the list of key types in docs/verification.md should be:\n\n%s", want.String())
	}
}

// fenced are the code blocks of a document with a language, or without one
// where it is "".
func fenced(text, language string) []string {
	var blocks []string
	for _, found := range regexp.MustCompile("(?sm)^```([a-z]*)\n(.*?)^```$").FindAllStringSubmatch(text, -1) {
		if found[1] == language {
			blocks = append(blocks, found[2])
		}
	}
	return blocks
}

// TestPoliciesInDocuments: what is shown as a policy is one.
func TestPoliciesInDocuments(t *testing.T) {
	count := 0
	for name, text := range documents(t) {
		for _, block := range fenced(text, "yaml") {
			if !strings.Contains(block, "rules:") {
				continue
			}
			count++
			if _, err := policy.Load(strings.NewReader(block)); err != nil {
				t.Errorf("%s: Load of\n%s\n%v", name, block, err)
			}
		}
	}
	if count == 0 {
		t.Error("the documents show no policy")
	}
}

// TestPolicyReference holds docs/policy.md to the members that Load knows, and
// its examples to being policies. Where a table differs, the right one is
// printed, to be copied.
func TestPolicyReference(t *testing.T) {
	text := documents(t)["docs/policy.md"]
	for _, section := range policy.Reference() {
		var want strings.Builder
		want.WriteString("| member | may be | default | meaning |\n|---|---|---|---|\n")
		for _, m := range section.Members {
			fmt.Fprintf(&want, "| `%s` | %s | %s | %s |\n", m.Name, m.Type, m.Default, m.Meaning)
		}
		if got := between(t, text, section.Name); got != want.String() {
			t.Errorf("the table %q in docs/policy.md should be:\n\n%s", section.Name, want.String())
		}
	}
	for _, block := range fenced(text, "yaml") {
		if !strings.HasPrefix(block, "rules:") {
			t.Errorf("docs/policy.md shows what is no whole policy, so that no test loads it:\n%s", block)
		}
	}
}

// TestPolicyMembers: what the README says of the policy's members is there.
func TestPolicyMembers(t *testing.T) {
	text := documents(t)["README.md"]
	_, section, _ := strings.Cut(text, "\n## The policy\n")
	section, _, _ = strings.Cut(section, "\n## ")
	found := regexp.MustCompile("(?m)^\\| `(\\w+)` \\|").FindAllStringSubmatch(section, -1)
	if len(found) == 0 {
		t.Fatal("the README explains no members")
	}
	for _, member := range found {
		// A value that suits nothing shows whether the name is known.
		_, err := policy.Load(strings.NewReader("rules:\n  - " + member[1] + ": {}\n"))
		if err == nil || strings.Contains(err.Error(), "no field") {
			t.Errorf("the README explains %s, which is no member of a rule: %v", member[1], err)
		}
	}
}

// otherVariables are named in the documents, and read by others.
var otherVariables = []string{"OS_IMAGE_URL", "OS_IMAGE_API", "OS_IMAGE_ENDPOINT_OVERRIDE"}

// TestVariablesInDocuments: no document names a variable that nobody reads.
func TestVariablesInDocuments(t *testing.T) {
	known := slices.Clone(otherVariables)
	for _, s := range config.Table() {
		known = append(known, s.Name)
	}
	for name, text := range documents(t) {
		for _, variable := range regexp.MustCompile(`\b(?:COUNTERSIGN|OS)_[A-Z_]*[A-Z]\b`).FindAllString(text, -1) {
			if !slices.Contains(known, variable) {
				t.Errorf("%s names %s, which nobody reads", name, variable)
			}
		}
	}
}

// TestCommandsInDocuments: every `countersign …` in a document is a command with
// flags that exist, and every make has its target.
func TestCommandsInDocuments(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(top, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	var commands, targets int
	for name, text := range documents(t) {
		for _, target := range regexp.MustCompile("(?m)(?:^|`)make ([a-z][a-z0-9-]*)").FindAllStringSubmatch(text, -1) {
			targets++
			if !bytes.Contains(makefile, []byte("\n"+target[1]+":")) {
				t.Errorf("%s: the Makefile has no target %s", name, target[1])
			}
		}
		joined := strings.ReplaceAll(text, "\\\n", " ")
		for _, line := range regexp.MustCompile("(?m)(?:^|[`/ ])countersign ((?:serve|keygen|sign|verify|receipt [a-z]+|scan|policy [a-z]+|config|version)\\b[^`\n|)]*)").FindAllStringSubmatch(joined, -1) {
			commands++
			command, rest, err := newRoot().Find(strings.Fields(line[1]))
			if err != nil || command.Name() == "countersign" {
				t.Errorf("%s: countersign %s: %v", name, line[1], err)
				continue
			}
			for _, argument := range rest {
				flag, isFlag := strings.CutPrefix(argument, "--")
				flag, _, _ = strings.Cut(flag, "=")
				if isFlag && command.Flag(flag) == nil {
					t.Errorf("%s: countersign %s: there is no flag --%s", name, line[1], flag)
				}
			}
		}
	}
	if commands == 0 || targets == 0 {
		t.Errorf("the documents show %d commands and %d targets of the Makefile: the test looks for the wrong thing", commands, targets)
	}
}

// TestTestsInDocuments: every test that a document leans on is there.
func TestTestsInDocuments(t *testing.T) {
	written := regexp.MustCompile(`\bfunc ((?:Test|Fuzz|Example)\w+)\(`)
	there := make(map[string]bool)
	for _, file := range sources(t, true) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range written.FindAllSubmatch(text, -1) {
			there[string(found[1])] = true
		}
	}
	named := 0
	for name, text := range documents(t) {
		for _, test := range regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`).FindAllString(text, -1) {
			named++
			if !there[test] {
				t.Errorf("%s names %s, and there is no such test", name, test)
			}
		}
	}
	if named == 0 {
		t.Error("the documents name no test")
	}
}

// TestLinksInDocuments: links lead to files and headings that are there.
func TestLinksInDocuments(t *testing.T) {
	texts := documents(t)
	for name, text := range texts {
		for _, link := range regexp.MustCompile(`\]\(([^)]+)\)`).FindAllStringSubmatch(text, -1) {
			target, anchor, _ := strings.Cut(link[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			file := name
			if target != "" {
				file = filepath.Join(filepath.Dir(name), target)
			}
			if _, err := os.Stat(filepath.Join(top, file)); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if anchor != "" && !slices.Contains(anchors(texts[file]), anchor) {
				t.Errorf("%s links to %s, and there is no such heading", name, link[1])
			}
		}
	}
}

// anchors are what headings are linked by: lower case, blanks as dashes,
// punctuation left out.
func anchors(text string) []string {
	var list []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(text, -1) {
		list = append(list, strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-', r == '_', 'a' <= r && r <= 'z', '0' <= r && r <= '9':
				return r
			}
			return -1
		}, strings.ToLower(heading[1])))
	}
	return list
}
