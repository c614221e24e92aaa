package signature_test

import (
	"go/build"
	"strings"
	"testing"
)

// TestImports holds the package to io and crypto: no HTTP, no log, nothing of
// ours but its own sub-packages, and nothing from outside the standard library.
func TestImports(t *testing.T) {
	const module = "github.com/countersign/countersign/"
	pkg, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(pkg.Imports) < 5 {
		t.Fatalf("the package has only the imports %v: the test looks at the wrong place", pkg.Imports)
	}
	for _, path := range pkg.Imports {
		first, _, _ := strings.Cut(path, "/")
		switch {
		case strings.HasPrefix(path, module+"signature/"):
		case strings.Contains(first, "."):
			t.Errorf("the package imports %s", path)
		case first == "net", first == "log", first == "os":
			t.Errorf("the package imports %s", path)
		}
	}
}
