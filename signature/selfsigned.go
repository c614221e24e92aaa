package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"time"
	"unicode/utf8"

	"github.com/countersign/countersign/signature/binarycurve"
)

var (
	oidSHA256WithRSA   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}
	oidSHA256WithECDSA = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}
	oidSHA256WithDSA   = asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 2}

	oidSubjectKeyID     = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKeyUsage         = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidBasicConstraints = asn1.ObjectIdentifier{2, 5, 29, 19}
)

// newCertificate is what SelfSigned encodes. It has the fields of
// tbsCertificate that are always there.
type newCertificate struct {
	Version    int `asn1:"explicit,tag:0"`
	Serial     *big.Int
	Algorithm  pkix.AlgorithmIdentifier
	Issuer     pkix.RDNSequence
	Validity   struct{ NotBefore, NotAfter time.Time }
	Subject    pkix.RDNSequence
	PublicKey  asn1.RawValue
	Extensions []pkix.Extension `asn1:"explicit,tag:3"`
}

// maxCommonName is ub-common-name of RFC 5280, appendix A.1, in characters.
const maxCommonName = 64

// SelfSigned returns a certificate in DER for the public half of a private key
// that Sign takes, signed by that key with SHA-256: X.509 version 3 with a
// random serial number, no CA, for digital signatures alone. Dates count in
// seconds. Unlike crypto/x509 it can do so for DSA and the binary curves.
func SelfSigned(key any, commonName string, notBefore, notAfter time.Time) ([]byte, error) {
	if _, err := checkPrivateKey(key); err != nil {
		return nil, err
	}
	switch {
	case commonName == "":
		return nil, errors.New("a certificate needs a common name")
	case !utf8.ValidString(commonName) || utf8.RuneCountInString(commonName) > maxCommonName:
		return nil, fmt.Errorf("a common name has at most %d characters, in UTF-8", maxCommonName)
	case !notBefore.Before(notAfter):
		return nil, errors.New("a certificate must not end before it begins")
	case notBefore.Year() < 1950 || notAfter.UTC().Year() > 9999:
		return nil, errors.New("a certificate's dates lie between the years 1950 and 9999")
	}
	public, err := marshalPublicKey(key)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	extensions, err := newExtensions(public.Key.RightAlign())
	if err != nil {
		return nil, err
	}
	tbs := newCertificate{
		Version:    2,
		Serial:     serial,
		Algorithm:  certificateAlgorithm(key),
		Issuer:     pkix.Name{CommonName: commonName}.ToRDNSequence(),
		Subject:    pkix.Name{CommonName: commonName}.ToRDNSequence(),
		PublicKey:  asn1.RawValue{FullBytes: public.Raw},
		Extensions: extensions,
	}
	tbs.Validity.NotBefore = notBefore.UTC().Truncate(time.Second)
	tbs.Validity.NotAfter = notAfter.UTC().Truncate(time.Second)
	der, err := asn1.Marshal(tbs)
	if err != nil {
		return nil, fmt.Errorf("encoding certificate: %w", err)
	}
	digest := sha256.Sum256(der)
	sig, err := signCertificate(key, digest[:])
	if err != nil {
		return nil, fmt.Errorf("signing certificate: %w", err)
	}
	return asn1.Marshal(struct {
		TBS       asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: der}, tbs.Algorithm, bitString(sig)})
}

// newSerial draws 127 bits: positive, and within the 20 octets of RFC 5280,
// section 4.1.2.2.
func newSerial() (*big.Int, error) {
	data := make([]byte, 16)
	if _, err := rand.Read(data); err != nil {
		return nil, err
	}
	data[0] = data[0]&0x7f | 0x40 // never 0
	return new(big.Int).SetBytes(data), nil
}

// newExtensions are those of RFC 5280 that tell a signer of data from a CA. The
// key's identifier is that of RFC 7093, section 2, method 1.
func newExtensions(keyBits []byte) ([]pkix.Extension, error) {
	sum := sha256.Sum256(keyBits)
	var extensions []pkix.Extension
	for _, extension := range []struct {
		id       asn1.ObjectIdentifier
		critical bool
		value    any
	}{
		{oidBasicConstraints, true, struct{}{}}, // cA is FALSE by default
		{oidKeyUsage, true, asn1.BitString{Bytes: []byte{0x80}, BitLength: 1}},
		{oidSubjectKeyID, false, sum[:20]},
	} {
		value, err := asn1.Marshal(extension.value)
		if err != nil {
			return nil, err
		}
		extensions = append(extensions, pkix.Extension{Id: extension.id, Critical: extension.critical, Value: value})
	}
	return extensions, nil
}

// certificateAlgorithm is that of RFC 4055, section 5, and RFC 5758, section
// 3, for a key that checkPrivateKey has passed.
func certificateAlgorithm(key any) pkix.AlgorithmIdentifier {
	switch key.(type) {
	default:
		return pkix.AlgorithmIdentifier{Algorithm: oidSHA256WithECDSA}
	case *rsa.PrivateKey:
		return pkix.AlgorithmIdentifier{Algorithm: oidSHA256WithRSA, Parameters: asn1.NullRawValue}
	case *dsaPrivateKey:
		return pkix.AlgorithmIdentifier{Algorithm: oidSHA256WithDSA}
	}
}

// signCertificate signs RSA by PKCS #1 v1.5, as readers of certificates take
// it for granted; images are signed otherwise.
func signCertificate(key any, digest []byte) ([]byte, error) {
	switch key := key.(type) {
	default:
		return nil, errUnsupportedPrivateKey
	case *rsa.PrivateKey:
		return rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, digest)
	case *dsaPrivateKey:
		return signDSA(key, digest)
	case *ecdsa.PrivateKey:
		return signECDSA(key, digest)
	case *binarycurve.PrivateKey:
		return signSECT(key, digest)
	}
}
