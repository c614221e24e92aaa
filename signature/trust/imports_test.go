package trust_test

import (
	"go/build"
	"slices"
	"strings"
	"testing"
)

// TestImports holds the package to the standard library's cryptography and
// signature.
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
		case path == module+"signature", path == module+"signature/binarycurve":
		case strings.Contains(first, "."), slices.Contains([]string{"net", "log", "os"}, first):
			t.Errorf("the package imports %s", path)
		}
	}
}
