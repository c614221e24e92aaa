package signature

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/countersign/countersign/signature/binarycurve"
)

// x509Certificate is Certificate of RFC 5280, section 4.1, with everything
// left undecoded that a signature over image data does not depend on.
type x509Certificate struct {
	TBS                tbsCertificate
	SignatureAlgorithm asn1.RawValue
	Signature          asn1.BitString
}

type tbsCertificate struct {
	Version         int `asn1:"optional,explicit,default:0,tag:0"`
	Serial          *big.Int
	Algorithm       asn1.RawValue
	Issuer          asn1.RawValue
	Validity        struct{ NotBefore, NotAfter time.Time }
	Subject         asn1.RawValue
	PublicKey       publicKeyInfo
	IssuerUniqueID  asn1.BitString `asn1:"optional,tag:1"`
	SubjectUniqueID asn1.BitString `asn1:"optional,tag:2"`
	Extensions      asn1.RawValue  `asn1:"optional,explicit,tag:3"`
}

type publicKeyInfo struct {
	Raw       asn1.RawContent
	Algorithm pkix.AlgorithmIdentifier
	Key       asn1.BitString
}

var (
	oidRSA    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}
	oidRSAPSS = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidEC     = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidP384   = asn1.ObjectIdentifier{1, 3, 132, 0, 34}
	oidP521   = asn1.ObjectIdentifier{1, 3, 132, 0, 35}
)

// walkCertificate reads key, dates and names of a certificate that crypto/x509
// refuses as a whole: for a negative serial number, a name in an odd string
// type, an extension it finds malformed, a compressed point, a binary curve.
func walkCertificate(der []byte) (*Certificate, error) {
	var parsed x509Certificate
	rest, err := asn1.Unmarshal(der, &parsed)
	if err != nil {
		return nil, unreadable(storeAgain, "names a secret that does not decode as an X.509 certificate")
	}
	if len(rest) > 0 {
		return nil, unreadable(storeAgain, "names a certificate with %d bytes after its end", len(rest))
	}
	tbs := parsed.TBS
	if tbs.Version < 0 || tbs.Version > 2 {
		return nil, unreadable(storeAgain, "names an X.509 certificate of unknown version %d", tbs.Version+1)
	}
	key, err := walkPublicKey(tbs.PublicKey)
	if err != nil {
		return nil, err
	}
	return &Certificate{
		PublicKey: key,
		NotBefore: tbs.Validity.NotBefore,
		NotAfter:  tbs.Validity.NotAfter,
		Subject:   name(tbs.Subject),
		Issuer:    name(tbs.Issuer),
		Serial:    tbs.Serial.Text(16),
		Raw:       der,
	}, nil
}

// walkPublicKey reads the forms that crypto/x509 does not, and hands it the
// others.
func walkPublicKey(info publicKeyInfo) (any, error) {
	algorithm, parameters := info.Algorithm.Algorithm, info.Algorithm.Parameters.FullBytes
	var key any
	var err error
	switch {
	default:
		key, err = x509.ParsePKIXPublicKey(info.Raw)
	case algorithm.Equal(oidRSA) && len(parameters) == 0,
		// With parameters the key would be bound to one hash and salt.
		algorithm.Equal(oidRSAPSS) && len(parameters) == 0:
		key, err = x509.ParsePKCS1PublicKey(info.Key.RightAlign())
	case algorithm.Equal(oidEC) && sectCurve(parameters) != nil:
		key, err = binarycurve.ParsePoint(sectCurve(parameters), info.Key.RightAlign())
		if err != nil {
			return nil, unsoundKey("an EC key that is no point of its curve's group").inCertificate()
		}
	case algorithm.Equal(oidEC) && isCompressed(info.Key.Bytes):
		key, err = decompress(parameters, info.Key.Bytes)
	}
	if err != nil {
		return nil, &PropertyError{
			Code:     CodeKeyUnsupported,
			Property: PropertyCertificate,
			Problem:  "names a certificate whose key is of a kind that this release cannot read",
			Cure:     "sign with a key of one of the types " + strings.Join(keyTypeNames(), ", ") + "; an EC key must name its curve",
		}
	}
	return key, nil
}

func isCompressed(point []byte) bool {
	return len(point) > 0 && (point[0] == 2 || point[0] == 3)
}

// decompress reads a compressed point (SEC 1, section 2.3.4) on one of the
// prime curves that NewVerifier takes.
func decompress(parameters, point []byte) (*ecdsa.PublicKey, error) {
	var curveID asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(parameters, &curveID); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("curve is not named")
	}
	var curve elliptic.Curve
	switch {
	default:
		return nil, fmt.Errorf("unknown curve %v", curveID)
	case curveID.Equal(oidP384):
		curve = elliptic.P384()
	case curveID.Equal(oidP521):
		curve = elliptic.P521()
	}
	x, y := elliptic.UnmarshalCompressed(curve, point)
	if x == nil {
		return nil, fmt.Errorf("no point on curve %v", curveID)
	}
	size := (curve.Params().BitSize + 7) / 8
	uncompressed := make([]byte, 1+2*size)
	uncompressed[0] = 4
	x.FillBytes(uncompressed[1 : 1+size])
	y.FillBytes(uncompressed[1+size:])
	return ecdsa.ParseUncompressedPublicKey(curve, uncompressed)
}

// name returns a distinguished name as text, or "".
func name(raw asn1.RawValue) string {
	var sequence pkix.RDNSequence
	if rest, err := asn1.Unmarshal(raw.FullBytes, &sequence); err != nil || len(rest) > 0 {
		return ""
	}
	for _, set := range sequence {
		for _, attribute := range set {
			if attribute.Value == nil {
				return "" // of a string type that encoding/asn1 does not know
			}
		}
	}
	var decoded pkix.Name
	decoded.FillFromRDNSequence(&sequence)
	return decoded.String()
}
