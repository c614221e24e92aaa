package signature

import (
	"crypto/rand"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"

	"github.com/countersign/countersign/signature/binarycurve"
)

// sectKeyType returns the key type that stands for a binary curve, or "".
func sectKeyType(curve *binarycurve.Curve) KeyType {
	switch curve {
	default:
		return ""
	case binarycurve.SECT409K1():
		return SECT409K1
	case binarycurve.SECT409R1():
		return SECT409R1
	case binarycurve.SECT571K1():
		return SECT571K1
	case binarycurve.SECT571R1():
		return SECT571R1
	}
}

// sectCurve returns the binary curve that EC parameters name, or nil. A curve
// given by its numbers is not looked at: RFC 5480, section 2.1.1, wants a name.
func sectCurve(parameters []byte) *binarycurve.Curve {
	var id asn1.ObjectIdentifier
	if !unmarshalAll(parameters, &id) {
		return nil
	}
	return sectCurveNamed(id)
}

func sectCurveNamed(id asn1.ObjectIdentifier) *binarycurve.Curve {
	for _, curve := range binarycurve.Curves() {
		if id.Equal(curve.OID()) {
			return curve
		}
	}
	return nil
}

// sectSignature is ECDSA like ecdsaSignature, on a binary curve.
type sectSignature struct {
	key *binarycurve.PublicKey
	rs  pair
}

// newSECT need not check the point: there is no *binarycurve.PublicKey of an
// unsound one.
func newSECT(spec Spec, publicKey any) (scheme, error) {
	key, ok := publicKey.(*binarycurve.PublicKey)
	if !ok || key == nil || sectKeyType(key.Curve()) != spec.KeyType {
		return nil, keyMismatch(spec, publicKey)
	}
	rs, err := parsePair(spec.Signature, key.Curve().Order())
	if err != nil {
		return nil, err
	}
	return &sectSignature{key, rs}, nil
}

func (s *sectSignature) verify(digest []byte) (caveat string, ok bool) {
	return "", binarycurve.Verify(s.key, digest, s.rs.R, s.rs.S)
}

func signSECT(key *binarycurve.PrivateKey, digest []byte) ([]byte, error) {
	r, s, err := binarycurve.Sign(rand.Reader, key, digest)
	if err != nil {
		return nil, err
	}
	return pair{r, s}.marshal()
}

// ecPrivateKey is ECPrivateKey of RFC 5915.
type ecPrivateKey struct {
	Version    int
	PrivateKey []byte
	Curve      asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
	PublicKey  asn1.BitString        `asn1:"optional,explicit,tag:1"`
}

// decodeSECT reads a key of RFC 5915 on a binary curve. The curve is named
// within, unless it is given. A public key that is another's is refused: what
// the one signs the other's certificate would not verify.
func decodeSECT(der []byte, curve *binarycurve.Curve) (*binarycurve.PrivateKey, bool) {
	var encoded ecPrivateKey
	if !unmarshalAll(der, &encoded) || encoded.Version != 1 {
		return nil, false
	}
	if len(encoded.Curve) > 0 {
		within := sectCurveNamed(encoded.Curve)
		if curve != nil && within != curve {
			return nil, false
		}
		curve = within
	}
	if curve == nil {
		return nil, false
	}
	key, err := binarycurve.NewPrivateKey(curve, new(big.Int).SetBytes(encoded.PrivateKey))
	if err != nil {
		return nil, false
	}
	if point := encoded.PublicKey.RightAlign(); len(point) > 0 {
		public, err := binarycurve.ParsePoint(curve, point)
		if err != nil || !public.Equal(key.Public()) {
			return nil, false
		}
	}
	return key, true
}

func decodeSECTPKCS8(der []byte) (*binarycurve.PrivateKey, bool) {
	var info privateKeyInfo
	if !unmarshalAll(der, &info) || !info.Algorithm.Algorithm.Equal(oidEC) {
		return nil, false
	}
	curve := sectCurve(info.Algorithm.Parameters.FullBytes)
	if curve == nil {
		return nil, false
	}
	return decodeSECT(info.PrivateKey, curve)
}

// sectAlgorithm is the AlgorithmIdentifier of RFC 5480, section 2.1.1.
func sectAlgorithm(curve *binarycurve.Curve) (pkix.AlgorithmIdentifier, error) {
	named, err := asn1.Marshal(curve.OID())
	return pkix.AlgorithmIdentifier{Algorithm: oidEC, Parameters: asn1.RawValue{FullBytes: named}}, err
}

func marshalSECTPublicKey(key *binarycurve.PrivateKey) ([]byte, error) {
	algorithm, err := sectAlgorithm(key.Curve())
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(publicKeyInfo{Algorithm: algorithm, Key: bitString(key.Public().(*binarycurve.PublicKey).Bytes())})
}

// marshalSECTPKCS8 names the curve outside and not within, as OpenSSL does.
func marshalSECTPKCS8(key *binarycurve.PrivateKey) ([]byte, error) {
	algorithm, err := sectAlgorithm(key.Curve())
	if err != nil {
		return nil, err
	}
	within, err := asn1.Marshal(struct {
		Version    int
		PrivateKey []byte
		PublicKey  asn1.BitString `asn1:"explicit,tag:1"`
	}{1, key.Bytes(), bitString(key.Public().(*binarycurve.PublicKey).Bytes())})
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(newPrivateKeyInfo{Algorithm: algorithm, PrivateKey: within})
}
