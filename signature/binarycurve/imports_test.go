package binarycurve_test

import (
	"go/build"
	"strings"
	"testing"
)

// TestImports holds the package to the standard library.
func TestImports(t *testing.T) {
	pkg, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(pkg.Imports) < 5 {
		t.Fatalf("the package has only the imports %v: the test looks at the wrong place", pkg.Imports)
	}
	for _, path := range pkg.Imports {
		if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") || first == "net" || first == "os" || first == "unsafe" {
			t.Errorf("the package imports %s", path)
		}
	}
}
