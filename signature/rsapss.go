package signature

import (
	"crypto/rand"
	"crypto/rsa"
	"fmt"
)

// maxRSABits bounds the time a hostile key can take; OpenSSL has the same
// bound for a modulus.
const maxRSABits = 16384

// pss is RSASSA-PSS of RFC 8017, section 8.1, with MGF1 over the same hash.
type pss struct {
	key    *rsa.PublicKey
	method HashMethod
	sig    []byte
}

func newPSS(spec Spec, publicKey any) (scheme, error) {
	key, ok := publicKey.(*rsa.PublicKey)
	if !ok {
		return nil, keyMismatch(spec, publicKey)
	}
	if err := checkRSA(key); err != nil {
		return nil, err.inCertificate()
	}
	if len(spec.Signature) != key.Size() {
		return nil, invalidSignature(
			fmt.Sprintf("set %s to the certificate of the key that signed, or sign again with this one; a signature is not to be cut or padded", PropertyCertificate),
			"has %d bytes, but signatures by the certificate's %d-bit RSA key have %d", len(spec.Signature), key.N.BitLen(), key.Size())
	}
	return &pss{key, spec.HashMethod, spec.Signature}, nil
}

// checkRSA refuses keys that crypto/rsa would refuse later, or take long over.
// The least modulus leaves room for every hash method.
func checkRSA(key *rsa.PublicKey) *keyError {
	switch {
	case key == nil || key.N == nil || key.N.Sign() <= 0:
		return unsoundKey("an RSA key without a modulus")
	case key.N.BitLen() < minKeyBits:
		return smallKey("an RSA key", key.N.BitLen())
	case key.N.BitLen() > maxRSABits:
		return unsoundKey("an RSA key of %d bits, more than %d", key.N.BitLen(), maxRSABits)
	case key.N.Bit(0) == 0:
		return unsoundKey("an RSA key whose modulus is even")
	case key.E < 3 || key.E%2 == 0 || key.E > 1<<31-1:
		return unsoundKey("an RSA key whose public exponent is not an odd number from 3 to 2^31-1")
	}
	return nil
}

// maxSalt is the length of the longest salt: emLen - hLen - 2 of RFC 8017,
// section 9.1.1. It is never 0, which crypto/rsa would take for automatic.
func maxSalt(key *rsa.PublicKey, method HashMethod) int {
	encoded := (key.N.BitLen() - 1 + 7) / 8
	return encoded - method.Hash().Size() - 2
}

func (s *pss) verify(digest []byte) (caveat string, ok bool) {
	fits := func(salt int) bool {
		return rsa.VerifyPSS(s.key, s.method.Hash(), digest, s.sig, &rsa.PSSOptions{SaltLength: salt}) == nil
	}
	if !fits(rsa.PSSSaltLengthAuto) {
		return "", false
	}
	if !fits(maxSalt(s.key, s.method)) {
		return "the signature is valid, but its RSA-PSS salt is shorter than possible, which older releases of Glance and Nova refuse: " +
			"sign again with `-sigopt rsa_pss_saltlen:max`", true
	}
	return "", true
}

func signPSS(key *rsa.PrivateKey, method HashMethod, digest []byte) ([]byte, error) {
	return rsa.SignPSS(rand.Reader, key, method.Hash(), digest, &rsa.PSSOptions{SaltLength: maxSalt(&key.PublicKey, method)})
}
