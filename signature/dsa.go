package signature

//lint:file-ignore SA1019 OpenStack names DSA as a signature key type, so it is verified.

import (
	"crypto/dsa"
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
)

type (
	dsaPublicKey  = dsa.PublicKey
	dsaPrivateKey = dsa.PrivateKey
)

// dsaSignature is DSA of FIPS 186-4, section 4.7.
type dsaSignature struct {
	key *dsa.PublicKey
	rs  pair
}

func newDSA(spec Spec, publicKey any) (scheme, error) {
	key, ok := publicKey.(*dsa.PublicKey)
	if !ok {
		return nil, keyMismatch(spec, publicKey)
	}
	if err := checkDSA(key); err != nil {
		return nil, err.inCertificate()
	}
	rs, err := parsePair(spec.Signature, key.Q)
	if err != nil {
		return nil, err
	}
	return &dsaSignature{key, rs}, nil
}

// checkDSA holds a key to the ranges of FIPS 186-4, sections 4.1 and 4.2. That
// p and q are prime is not tested: whoever chose them has the private key
// anyway.
func checkDSA(key *dsa.PublicKey) *keyError {
	if key == nil || key.P == nil || key.Q == nil || key.G == nil || key.Y == nil {
		return unsoundKey("a DSA key that lacks a number")
	}
	p, q := key.P, key.Q
	one := big.NewInt(1)
	switch {
	case p.Sign() <= 0 || q.Sign() <= 0:
		return unsoundKey("a DSA key with a prime that is not positive")
	case p.BitLen() < minKeyBits:
		return smallKey("a DSA key", p.BitLen())
	case p.BitLen() > 3072:
		return unsoundKey("a DSA key of %d bits, more than 3072", p.BitLen())
	case q.BitLen() != 160 && q.BitLen() != 224 && q.BitLen() != 256:
		return unsoundKey("a DSA key whose q has %d bits, not 160, 224 or 256", q.BitLen())
	case p.Bit(0) == 0 || q.Bit(0) == 0:
		return unsoundKey("a DSA key with an even prime")
	case new(big.Int).Mod(new(big.Int).Sub(p, one), q).Sign() != 0:
		return unsoundKey("a DSA key whose q does not divide p-1")
	}
	for _, element := range []*big.Int{key.G, key.Y} {
		if element.Cmp(one) <= 0 || element.Cmp(p) >= 0 || new(big.Int).Exp(element, q, p).Cmp(one) != 0 {
			return unsoundKey("a DSA key whose g or y is not in the subgroup of order q")
		}
	}
	return nil
}

func (s *dsaSignature) verify(digest []byte) (caveat string, ok bool) {
	return "", dsa.Verify(s.key, truncate(digest, s.key.Q), s.rs.R, s.rs.S)
}

// truncate keeps as many leading bytes of the digest as q has, which crypto/dsa
// leaves to its caller.
func truncate(digest []byte, q *big.Int) []byte {
	return digest[:min(len(digest), q.BitLen()/8)]
}

func signDSA(key *dsa.PrivateKey, digest []byte) ([]byte, error) {
	r, s, err := dsa.Sign(rand.Reader, key, truncate(digest, key.Q))
	if err != nil {
		return nil, err
	}
	return pair{r, s}.marshal()
}

// newDSAPrivateKey completes a private key from its numbers.
func newDSAPrivateKey(p, q, g, x *big.Int) *dsa.PrivateKey {
	key := &dsa.PrivateKey{X: x}
	key.P, key.Q, key.G = p, q, g
	if p.Sign() > 0 {
		key.Y = new(big.Int).Exp(g, x, p)
	}
	return key
}

// generateDSA makes parameters and a key (FIPS 186-4, appendices A and B).
func generateDSA(bits int) (*dsa.PrivateKey, error) {
	var sizes dsa.ParameterSizes
	switch bits {
	default:
		return nil, fmt.Errorf("a DSA key of %d bits is not made: use 2048 or 3072", bits)
	case 2048:
		sizes = dsa.L2048N256
	case 3072:
		sizes = dsa.L3072N256
	}
	key := new(dsa.PrivateKey)
	if err := dsa.GenerateParameters(&key.Parameters, rand.Reader, sizes); err != nil {
		return nil, err
	}
	return key, dsa.GenerateKey(key, rand.Reader)
}

// dsaAlgorithm is the AlgorithmIdentifier of RFC 3279, section 2.3.2.
func dsaAlgorithm(key *dsa.PublicKey) (pkix.AlgorithmIdentifier, error) {
	parameters, err := asn1.Marshal(struct{ P, Q, G *big.Int }{key.P, key.Q, key.G})
	return pkix.AlgorithmIdentifier{Algorithm: oidDSA, Parameters: asn1.RawValue{FullBytes: parameters}}, err
}

func marshalDSAPublicKey(key *dsa.PublicKey) ([]byte, error) {
	algorithm, err := dsaAlgorithm(key)
	if err != nil {
		return nil, err
	}
	y, err := asn1.Marshal(key.Y)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(publicKeyInfo{Algorithm: algorithm, Key: bitString(y)})
}

func marshalDSAPKCS8(key *dsa.PrivateKey) ([]byte, error) {
	algorithm, err := dsaAlgorithm(&key.PublicKey)
	if err != nil {
		return nil, err
	}
	x, err := asn1.Marshal(key.X)
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(newPrivateKeyInfo{Algorithm: algorithm, PrivateKey: x})
}
