package signature

import (
	"bytes"
	"errors"
	"fmt"
	"hash"
)

// A Verifier takes the image data as an io.Writer and then judges the
// signature, once. It serves one stream, is built by NewVerifier, and is not
// safe for concurrent use.
type Verifier struct {
	spec   Spec
	scheme scheme
	hash   hash.Hash
	size   int64

	more map[HashMethod]hash.Hash       // for deny
	deny func(HashMethod, []byte) error // nil: nothing is denied

	digest []byte // nil until Verify
	caveat string // set by Verify
	err    error  // set by Verify
}

// A scheme is a signature that waits for its digest.
type scheme interface {
	// verify reports whether the signature fits the digest. A caveat may
	// accompany a yes.
	verify(digest []byte) (caveat string, ok bool)
}

// NewVerifier checks that the public key is of the type and on the curve that
// the spec names, that its numbers are sound, and that the signature has the
// form such a key gives it. Whatever can be refused before the data is seen is
// refused here, with a *PropertyError. The key is a *rsa.PublicKey,
// *dsa.PublicKey, *ecdsa.PublicKey or *binarycurve.PublicKey, as
// ParseCertificate returns it, and must not be changed afterwards.
func NewVerifier(spec Spec, publicKey any) (*Verifier, error) {
	scheme, err := newScheme(spec, publicKey)
	if err != nil {
		return nil, err
	}
	return &Verifier{spec: spec, scheme: scheme, hash: spec.HashMethod.Hash().New()}, nil
}

// VerifyDigest judges a signature over data that is known by its digest alone:
// the hash of all of it by spec.HashMethod. Whoever passes a digest answers for
// its being the data's. It refuses what NewVerifier and Verify refuse, and a
// digest that does not have the length which the hash method gives. The caveat
// is Verifier.Caveat's.
func VerifyDigest(spec Spec, publicKey any, digest []byte) (caveat string, err error) {
	scheme, err := newScheme(spec, publicKey)
	if err != nil {
		return "", err
	}
	if want := spec.HashMethod.Hash().Size(); len(digest) != want {
		return "", fmt.Errorf("signature: a digest of %d bytes, where %s has %d", len(digest), spec.HashMethod, want)
	}
	caveat, ok := scheme.verify(digest)
	if !ok {
		return "", mismatch(spec, "the image's digest", "the image's data")
	}
	return caveat, nil
}

func newScheme(spec Spec, publicKey any) (scheme, error) {
	if spec.HashMethod.Hash() == 0 {
		_, err := parseHashMethod(string(spec.HashMethod))
		return nil, err
	}
	spec.Signature = bytes.Clone(spec.Signature)
	switch spec.KeyType {
	default:
		_, err := parseKeyType(string(spec.KeyType))
		return nil, err
	case RSAPSS:
		return newPSS(spec, publicKey)
	case DSA:
		return newDSA(spec, publicKey)
	case SECP384R1, SECP521R1:
		return newECDSA(spec, publicKey)
	case SECT409K1, SECT409R1, SECT571K1, SECT571R1:
		return newSECT(spec, publicKey)
	}
}

// Deny has Verify ask about the data's digests, by each of the methods, before
// it judges the signature. An error of ask is then its verdict. It is to be
// called before the first Write.
func (v *Verifier) Deny(methods []HashMethod, ask func(method HashMethod, digest []byte) error) {
	v.deny, v.more = ask, make(map[HashMethod]hash.Hash)
	for _, method := range methods {
		if hash := method.Hash(); hash != 0 {
			v.more[method] = hash.New()
		}
	}
	if _, asked := v.more[v.spec.HashMethod]; asked {
		v.more[v.spec.HashMethod] = v.hash // which is computed anyway
	}
}

// Write adds image data. It fails only after Verify.
func (v *Verifier) Write(p []byte) (int, error) {
	if v.digest != nil {
		return 0, errors.New("signature: write after the signature was judged")
	}
	v.size += int64(len(p))
	for _, hash := range v.more {
		if hash != v.hash {
			hash.Write(p)
		}
	}
	return v.hash.Write(p)
}

// Verify judges the signature over all data written. It returns nil, or a
// *PropertyError of code signature_mismatch that also is ErrMismatch, or what
// Deny's function said. The first verdict stands: no data can be added after it.
func (v *Verifier) Verify() error {
	if v.digest != nil {
		return v.err
	}
	v.digest = v.hash.Sum(nil)
	for method, hash := range v.more {
		if v.err = v.deny(method, hash.Sum(nil)); v.err != nil {
			return v.err
		}
	}
	caveat, ok := v.scheme.verify(v.digest)
	if !ok {
		v.err = mismatch(v.spec, fmt.Sprintf("the %d bytes of image data", v.size), "the file that is uploaded")
		return v.err
	}
	v.caveat = caveat
	return nil
}

// mismatch says that a signature does not fit what was signed.
func mismatch(spec Spec, what, source string) error {
	return &PropertyError{
		Code:     CodeSignatureMismatch,
		Property: PropertySignature,
		Problem:  fmt.Sprintf("does not match %s, by %s with %s and certificate %s", what, spec.KeyType, spec.HashMethod, spec.CertificateID),
		Cure:     fmt.Sprintf("sign exactly %s, with %s and the private key that belongs to the certificate", source, spec.HashMethod),
	}
}

// Digest returns the hash of the image data, or nil before Verify.
func (v *Verifier) Digest() []byte { return bytes.Clone(v.digest) }

// Size returns the number of bytes written so far.
func (v *Verifier) Size() int64 { return v.size }

// Caveat returns a sentence with its cure if the signature is valid but other
// verifiers on the image's way may refuse it, and otherwise "". There is one
// such case: cursive on a cryptography library of the 38 series wants the
// RSA-PSS salt to have its maximal length.
func (v *Verifier) Caveat() string { return v.caveat }

// invalidSignature refuses a signature for its form.
func invalidSignature(cure, format string, args ...any) error {
	return &PropertyError{
		Code:     CodePropertyInvalid,
		Property: PropertySignature,
		Problem:  fmt.Sprintf(format, args...),
		Cure:     cure,
	}
}
