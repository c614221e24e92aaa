package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	"github.com/countersign/countersign/signature/binarycurve"
)

// GenerateKey makes a private key that Sign takes, for a key type. The bits
// are the length of an RSA modulus, 2048 to 16384, or of a DSA prime, 2048 or
// 3072; 0 is 3072 for RSA and 2048 for DSA. An elliptic curve has its own
// length, so that bits must be 0. DSA takes seconds, as its primes are made
// anew.
func GenerateKey(keyType KeyType, bits int) (any, error) {
	key, err := generateKey(keyType, bits)
	if err != nil {
		return nil, err // and no pointer that is nil
	}
	return key, nil
}

func generateKey(keyType KeyType, bits int) (any, error) {
	switch keyType {
	default:
		_, err := parseKeyType(string(keyType))
		return nil, err
	case RSAPSS:
		if bits == 0 {
			bits = 3072
		}
		if bits < 2048 || bits > maxRSABits {
			return nil, fmt.Errorf("an RSA key of %d bits is not made: use 2048 to %d", bits, maxRSABits)
		}
		return rsa.GenerateKey(rand.Reader, bits)
	case DSA:
		if bits == 0 {
			bits = 2048
		}
		return generateDSA(bits)
	case SECT571K1, SECT409K1, SECT571R1, SECT409R1, SECP521R1, SECP384R1:
	}
	if bits != 0 {
		return nil, fmt.Errorf("%s is a curve, and its length is not to be chosen", keyType)
	}
	for _, curve := range binarycurve.Curves() {
		if sectKeyType(curve) == keyType {
			return binarycurve.GenerateKey(curve, rand.Reader)
		}
	}
	for _, curve := range []elliptic.Curve{elliptic.P384(), elliptic.P521()} {
		if keyTypeOf(curve) == keyType {
			return ecdsa.GenerateKey(curve, rand.Reader)
		}
	}
	return nil, errUnsupportedPrivateKey
}

// MarshalPrivateKey returns a private key that Sign takes in PKCS#8, not
// encrypted, in DER. ParsePrivateKey and OpenSSL read it.
func MarshalPrivateKey(key any) ([]byte, error) {
	if _, err := checkPrivateKey(key); err != nil {
		return nil, err
	}
	switch key := key.(type) {
	default:
		return x509.MarshalPKCS8PrivateKey(key)
	case *dsaPrivateKey:
		return marshalDSAPKCS8(key)
	case *binarycurve.PrivateKey:
		return marshalSECTPKCS8(key)
	}
}

// marshalPublicKey returns the SubjectPublicKeyInfo of RFC 5280, section
// 4.1.2.7, and its key bits.
func marshalPublicKey(key any) (publicKeyInfo, error) {
	var der []byte
	var err error
	switch key := key.(type) {
	default:
		signer, ok := key.(crypto.Signer)
		if !ok {
			return publicKeyInfo{}, errUnsupportedPrivateKey
		}
		der, err = x509.MarshalPKIXPublicKey(signer.Public())
	case *dsaPrivateKey:
		der, err = marshalDSAPublicKey(&key.PublicKey)
	case *binarycurve.PrivateKey:
		der, err = marshalSECTPublicKey(key)
	}
	if err != nil {
		return publicKeyInfo{}, err
	}
	var info publicKeyInfo
	if !unmarshalAll(der, &info) {
		return publicKeyInfo{}, errors.New("public key does not decode")
	}
	return info, nil
}

// bitString is one of whole bytes.
func bitString(data []byte) asn1.BitString {
	return asn1.BitString{Bytes: data, BitLength: 8 * len(data)}
}
