package signature_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/countersign/countersign/signature"
)

// TestVerifyDigest holds VerifyDigest to what a Verifier says that has seen
// the data.
func TestVerifyDigest(t *testing.T) {
	for _, pair := range keyPairs(t) {
		for i, method := range signature.HashMethods {
			t.Run(pair.name+"/"+string(method), func(t *testing.T) {
				spec := sign(t, pair.private, method, image)
				v, err := signature.NewVerifier(spec, pair.public)
				if err != nil {
					t.Fatal(err)
				}
				v.Write([]byte(image))
				if err := v.Verify(); err != nil {
					t.Fatal(err)
				}
				digest := v.Digest()
				if caveat, err := signature.VerifyDigest(spec, pair.public, digest); err != nil || caveat != v.Caveat() {
					t.Errorf("VerifyDigest = %q, %v, want %q and no error", caveat, err, v.Caveat())
				}

				other := bytes.Clone(digest)
				other[0] ^= 1
				_, err = signature.VerifyDigest(spec, pair.public, other)
				checkRefusal(t, err, signature.CodeSignatureMismatch, signature.PropertySignature, "the image's digest")
				if !errors.Is(err, signature.ErrMismatch) {
					t.Errorf("VerifyDigest of another digest = %v, want ErrMismatch", err)
				}
				if _, err := signature.VerifyDigest(spec, pair.other, digest); err == nil {
					t.Errorf("verified with another key")
				}
				for _, length := range []int{0, len(digest) - 1, len(digest) + 1} {
					if _, err := signature.VerifyDigest(spec, pair.public, append(bytes.Clone(digest), 0)[:length]); err == nil {
						t.Errorf("verified a digest of %d bytes by %s", length, method)
					}
				}
				spec.HashMethod = signature.HashMethods[(i+1)%len(signature.HashMethods)]
				if _, err := signature.VerifyDigest(spec, pair.public, digest); err == nil {
					t.Errorf("verified as %s", spec.HashMethod)
				}
			})
		}
	}
}

func TestVerifyDigestRefusesASpecThatCannotBe(t *testing.T) {
	spec := sign(t, keys()["P-384"], signature.SHA384, image)
	digest := make([]byte, 48)
	spec.KeyType = "DES"
	_, err := signature.VerifyDigest(spec, keys()["P-384"].Public(), digest)
	checkRefusal(t, err, signature.CodePropertyInvalid, signature.PropertyKeyType, "DES")
	spec.KeyType, spec.HashMethod = signature.SECP384R1, "MD5"
	_, err = signature.VerifyDigest(spec, keys()["P-384"].Public(), digest)
	checkRefusal(t, err, signature.CodePropertyInvalid, signature.PropertyHashMethod, "MD5")
}
