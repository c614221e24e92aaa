//go:build e2e

package e2e_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// page is what a document shows, block by block. One that nobody has taken in
// the end is one that no test runs.
type page struct {
	t      *testing.T
	name   string
	blocks []string
}

// newPage reads the blocks of a document that have no language, or one of those.
func newPage(t *testing.T, name string, languages ...string) *page {
	t.Helper()
	text, err := os.ReadFile("../" + name)
	if err != nil {
		t.Fatal(err)
	}
	p := &page{t: t, name: name}
	for _, found := range regexp.MustCompile("(?sm)^ *```([a-z]*)\n(.*?)^ *```$").FindAllSubmatch(text, -1) {
		if language := string(found[1]); language == "" || slices.Contains(languages, language) {
			p.blocks = append(p.blocks, string(found[2]))
		}
	}
	return p
}

// take is the next block, which has to begin with certain words.
func (p *page) take(begin string) string {
	p.t.Helper()
	if len(p.blocks) == 0 || !strings.HasPrefix(p.blocks[0], begin) {
		p.t.Fatalf("%s does not go on with a block that begins %q, but with %.60q", p.name, begin, p.blocks)
	}
	block := p.blocks[0]
	p.blocks = p.blocks[1:]
	return block
}

// end is where every block has been taken.
func (p *page) end() {
	p.t.Helper()
	if len(p.blocks) > 0 {
		p.t.Errorf("%s has what no test runs:\n%s", p.name, strings.Join(p.blocks, "\n"))
	}
}
