package signature

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"errors"
	"fmt"
	"io"

	"github.com/countersign/countersign/signature/binarycurve"
)

var errUnsupportedPrivateKey = errors.New("private key is not usable for images: use RSA, DSA, or EC on secp384r1 (P-384), secp521r1 (P-521), sect409k1, sect409r1, sect571k1 or sect571r1")

// Sign reads the image to its end and returns its signature, not yet in
// base64, with the key type to go with it. The key is a *rsa.PrivateKey,
// *dsa.PrivateKey, *ecdsa.PrivateKey or *binarycurve.PrivateKey, as
// ParsePrivateKey returns it.
// RSA-PSS is given the longest salt, the one that every Glance and Nova
// accepts. A key that NewVerifier would refuse is refused.
func Sign(key any, method HashMethod, image io.Reader) ([]byte, KeyType, error) {
	keyType, err := checkPrivateKey(key)
	if err != nil {
		return nil, "", err
	}
	if method.Hash() == 0 {
		_, err := parseHashMethod(string(method))
		return nil, "", err
	}
	hash := method.Hash().New()
	if _, err := io.Copy(hash, image); err != nil {
		return nil, "", fmt.Errorf("reading image: %w", err)
	}
	digest := hash.Sum(nil)

	var sig []byte
	switch key := key.(type) {
	default:
		err = errUnsupportedPrivateKey
	case *rsa.PrivateKey:
		sig, err = signPSS(key, method, digest)
	case *dsaPrivateKey:
		sig, err = signDSA(key, digest)
	case *ecdsa.PrivateKey:
		sig, err = signECDSA(key, digest)
	case *binarycurve.PrivateKey:
		sig, err = signSECT(key, digest)
	}
	if err != nil {
		return nil, "", fmt.Errorf("signing: %w", err)
	}
	return sig, keyType, nil
}

// checkPrivateKey returns the key type for which key signs.
func checkPrivateKey(key any) (KeyType, error) {
	var keyType KeyType
	var unsound *keyError
	switch key := key.(type) {
	default:
		return "", errUnsupportedPrivateKey
	case *rsa.PrivateKey:
		keyType, unsound = RSAPSS, checkRSA(&key.PublicKey)
	case *dsaPrivateKey:
		keyType, unsound = DSA, checkDSA(&key.PublicKey)
	case *ecdsa.PrivateKey:
		keyType = keyTypeOf(key.Curve)
		if keyType == "" {
			return "", errUnsupportedPrivateKey
		}
		unsound = checkECDSA(&key.PublicKey)
	case *binarycurve.PrivateKey:
		if key != nil {
			keyType = sectKeyType(key.Curve())
		}
		if keyType == "" {
			return "", errUnsupportedPrivateKey
		}
	}
	if unsound != nil {
		return "", fmt.Errorf("private key is %v", unsound)
	}
	return keyType, nil
}
