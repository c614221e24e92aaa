package signature_test

import (
	"errors"
	"maps"
	"slices"
	"testing"

	"github.com/countersign/countersign/signature"
)

// TestDeny: the verdict is asked with every digest, before the signature is
// looked at, and the signature's own hash is not computed twice.
func TestDeny(t *testing.T) {
	spec := sign(t, keys()["P-384"], signature.SHA384, image)
	wrong := errors.New("not this one")
	for _, methods := range [][]signature.HashMethod{nil, {signature.SHA384}, {signature.SHA256, signature.SHA512}} {
		for _, verdict := range []error{nil, wrong} {
			v, err := signature.NewVerifier(spec, keys()["P-384"].Public())
			if err != nil {
				t.Fatal(err)
			}
			asked := map[signature.HashMethod][]byte{}
			v.Deny(methods, func(method signature.HashMethod, digest []byte) error {
				asked[method] = digest
				return verdict
			})
			for _, part := range []string{image[:3], image[3:]} {
				if n, err := v.Write([]byte(part)); n != len(part) || err != nil {
					t.Fatalf("Write = %d, %v", n, err)
				}
			}
			want := verdict
			if methods == nil {
				want = nil
			}
			if got := v.Verify(); got != want {
				t.Errorf("%v: Verify = %v, want %v", methods, got, want)
			}
			if got := v.Verify(); got != want {
				t.Errorf("%v: Verify again = %v, want %v", methods, got, want)
			}
			if verdict != nil {
				continue
			}
			if got := slices.Collect(maps.Keys(asked)); len(got) != len(methods) {
				t.Errorf("asked by %v, want %v", got, methods)
			}
			for method, digest := range asked {
				hash := method.Hash().New()
				hash.Write([]byte(image))
				if !slices.Equal(hash.Sum(nil), digest) {
					t.Errorf("%s: asked about %x, want %x", method, digest, hash.Sum(nil))
				}
			}
		}
	}
}
