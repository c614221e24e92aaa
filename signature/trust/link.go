package trust

//lint:file-ignore SA1019 OpenStack names DSA as a signature key type, so there are CAs that use it.

import (
	"crypto/dsa"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"strings"

	"github.com/countersign/countersign/signature"
	"github.com/countersign/countersign/signature/binarycurve"
)

// errWeak and errOtherKey tell, among the reasons why a link does not hold, a
// hash that proves nothing, and a key of another kind than the one that signed.
var (
	errWeak     = errors.New("is signed with MD5 or SHA-1, which prove nothing any more")
	errOtherKey = errors.New("is signed by a key of another kind")
)

// The algorithms that crypto/x509 cannot verify with: DSA, and ECDSA on the
// binary curves (FIPS 186-4 by NIST's CSOR; RFC 5758, section 3).
var (
	oidDSA = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3}
	oidEC  = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3}

	hashes = []signature.HashMethod{signature.SHA224, signature.SHA256, signature.SHA384, signature.SHA512}
)

// weak are the algorithms of RFC 3279 and older: MD2, MD5 and SHA-1.
var weak = []asn1.ObjectIdentifier{
	{1, 2, 840, 113549, 1, 1, 2}, {1, 2, 840, 113549, 1, 1, 4}, {1, 2, 840, 113549, 1, 1, 5},
	{1, 3, 14, 3, 2, 29}, {1, 3, 14, 3, 2, 27}, {1, 2, 840, 10040, 4, 3}, {1, 2, 840, 10045, 4, 1},
}

// hashOf is the hash method of an algorithm whose identifier is under arc.
func hashOf(algorithm, arc asn1.ObjectIdentifier) (signature.HashMethod, bool) {
	if len(algorithm) != len(arc)+1 || !algorithm[:len(arc)].Equal(arc) {
		return "", false
	}
	if last := algorithm[len(arc)]; last >= 1 && last <= len(hashes) {
		return hashes[last-1], true
	}
	return "", false
}

// verify checks a signature over data by the key of c. Where crypto/x509 has
// the algorithm it decides. The errors continue "the certificate …".
func (c *certificate) verify(algorithm asn1.ObjectIdentifier, known x509.SignatureAlgorithm, data, sig []byte) error {
	for _, id := range weak {
		if algorithm.Equal(id) {
			return errWeak
		}
	}
	switch key := c.PublicKey.(type) {
	default:
		return errOtherKey
	case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
		if known == x509.UnknownSignatureAlgorithm {
			return fmt.Errorf("is signed with an algorithm that is not supported (%v)", algorithm)
		}
		// CheckSignature looks at nothing but the key.
		err := (&x509.Certificate{PublicKey: key}).CheckSignature(known, data, sig)
		var insecure x509.InsecureAlgorithmError
		switch {
		case errors.As(err, &insecure):
			return errWeak
		case err != nil && !sameFamily(known, key):
			return errOtherKey
		}
		return err
	case *dsa.PublicKey:
		hash, ok := hashOf(algorithm, oidDSA)
		if !ok {
			return errOtherKey
		}
		return verifyWith(signature.DSA, hash, key, data, sig)
	case *binarycurve.PublicKey:
		hash, ok := hashOf(algorithm, oidEC)
		if !ok {
			return errOtherKey
		}
		return verifyWith(sectType(key), hash, key, data, sig)
	}
}

func sameFamily(known x509.SignatureAlgorithm, key any) bool {
	name := known.String()
	switch key.(type) {
	default:
		return false
	case *rsa.PublicKey:
		return strings.Contains(name, "RSA")
	case *ecdsa.PublicKey:
		return strings.HasPrefix(name, "ECDSA")
	case ed25519.PublicKey:
		return known == x509.PureEd25519
	}
}

// sectType is the key type named after the key's curve.
func sectType(key *binarycurve.PublicKey) signature.KeyType {
	return signature.KeyType("ECC_" + strings.ToUpper(key.Curve().Name()))
}

// verifyWith verifies as if data were an image.
func verifyWith(keyType signature.KeyType, hash signature.HashMethod, key any, data, sig []byte) error {
	v, err := signature.NewVerifier(signature.Spec{Signature: sig, HashMethod: hash, KeyType: keyType}, key)
	if err != nil {
		return err
	}
	if _, err := v.Write(data); err != nil {
		return err
	}
	return v.Verify()
}

// signed checks the signature of child by the key of c.
func (c *certificate) signed(child *certificate) error {
	return c.verify(child.algorithm, child.parsed.SignatureAlgorithm, child.tbs, child.sig)
}

// verifySelf is signed by itself, with SHA-1 allowed.
func (c *certificate) verifySelf() error {
	err := c.signed(c)
	if errors.Is(err, errWeak) {
		return (&x509.Certificate{PublicKey: c.PublicKey}).CheckSignature(c.parsed.SignatureAlgorithm, c.tbs, c.sig)
	}
	return err
}

// dsaEqual compares DSA keys, which lack an Equal.
func dsaEqual(a, b any) bool {
	one, ok := a.(*dsa.PublicKey)
	other, same := b.(*dsa.PublicKey)
	return ok && same && one.Y.Cmp(other.Y) == 0 && one.P.Cmp(other.P) == 0 && one.Q.Cmp(other.Q) == 0 && one.G.Cmp(other.G) == 0
}

// keyType is the image key type that a key serves, or "".
func keyType(key any) signature.KeyType {
	switch key := key.(type) {
	default:
		return ""
	case *rsa.PublicKey:
		return signature.RSAPSS
	case *dsa.PublicKey:
		return signature.DSA
	case *binarycurve.PublicKey:
		return sectType(key)
	case *ecdsa.PublicKey:
		switch key.Curve.Params().BitSize {
		case 384:
			return signature.SECP384R1
		case 521:
			return signature.SECP521R1
		}
		return ""
	}
}

// weakKey says what is wrong with a key's size, or "".
func weakKey(key any, least int) string {
	switch key := key.(type) {
	default:
		return ""
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits < least {
			return fmt.Sprintf("has an RSA key of %d bits, fewer than %d", bits, least)
		}
	case *dsa.PublicKey:
		if bits := key.P.BitLen(); bits < least {
			return fmt.Sprintf("has a DSA key of %d bits, fewer than %d", bits, least)
		}
	}
	return ""
}
