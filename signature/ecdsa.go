package signature

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
)

// keyTypeOf returns the key type that stands for curve, or "".
func keyTypeOf(curve elliptic.Curve) KeyType {
	switch curve {
	default:
		return ""
	case elliptic.P384():
		return SECP384R1
	case elliptic.P521():
		return SECP521R1
	}
}

// ecdsaSignature is ECDSA of FIPS 186-5, section 6.4. Both (r, s) and
// (r, n-s) verify: a signature is evidence here, not an identifier.
type ecdsaSignature struct {
	key *ecdsa.PublicKey
	sig []byte
}

// newECDSA also holds the key to the curve that the key type names, which
// cursive does not.
func newECDSA(spec Spec, publicKey any) (scheme, error) {
	key, ok := publicKey.(*ecdsa.PublicKey)
	if !ok || key == nil || keyTypeOf(key.Curve) != spec.KeyType {
		return nil, keyMismatch(spec, publicKey)
	}
	if err := checkECDSA(key); err != nil {
		return nil, err.inCertificate()
	}
	if _, err := parsePair(spec.Signature, key.Params().N); err != nil {
		return nil, err
	}
	return &ecdsaSignature{key, spec.Signature}, nil
}

// checkECDSA refuses a point that is not on the curve. Both curves have prime
// order, so every point on them but infinity is a sound key.
func checkECDSA(key *ecdsa.PublicKey) *keyError {
	//lint:ignore SA1019 a key that was not parsed may lack its coordinates, and ECDH would panic
	if key.X == nil || key.Y == nil {
		return unsoundKey("an EC key without a point")
	}
	if _, err := key.ECDH(); err != nil {
		return unsoundKey("an EC key that is no point on its curve")
	}
	return nil
}

func (s *ecdsaSignature) verify(digest []byte) (caveat string, ok bool) {
	return "", ecdsa.VerifyASN1(s.key, digest, s.sig)
}

func signECDSA(key *ecdsa.PrivateKey, digest []byte) ([]byte, error) {
	return ecdsa.SignASN1(rand.Reader, key, digest)
}
