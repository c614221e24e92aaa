package signature

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
)

var (
	errEncrypted = errors.New("private key is encrypted: decrypt it with `openssl pkey -in key.pem -out plain.pem`, use plain.pem and remove it afterwards")
	errOpenSSH   = errors.New("private key is in OpenSSH's form: convert a copy with `ssh-keygen -p -m PKCS8 -f copy`")
	errNoKey     = errors.New("not a private key in PEM or DER (PKCS#8, PKCS#1, SEC 1 or OpenSSL's DSA form)")
)

// ParsePrivateKey reads an unencrypted private key in PEM or DER: PKCS#8,
// PKCS#1, SEC 1, or the form of OpenSSL's "DSA PRIVATE KEY". In PEM the first
// private key counts. It returns a *rsa.PrivateKey, *dsa.PrivateKey,
// *ecdsa.PrivateKey or *binarycurve.PrivateKey that Sign takes. No error contains anything of the key.
func ParsePrivateKey(data []byte) (any, error) {
	der, err := privateKeyDER(data)
	if err != nil {
		return nil, err
	}
	key, err := decodePrivateKey(der)
	if err != nil {
		return nil, err
	}
	if _, err := checkPrivateKey(key); err != nil {
		return nil, err
	}
	return key, nil
}

func privateKeyDER(data []byte) ([]byte, error) {
	if !bytes.Contains(data, beginBlock) {
		return data, nil
	}
	rest := bytes.TrimPrefix(data, []byte("\uFEFF"))
	for {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		switch {
		case block == nil:
			return nil, errNoKey
		case !strings.HasSuffix(block.Type, "PRIVATE KEY"):
			continue
		case block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "":
			return nil, errEncrypted
		case block.Type == "OPENSSH PRIVATE KEY":
			return nil, errOpenSSH
		}
		return block.Bytes, nil
	}
}

// decodePrivateKey tries the encodings in turn. They are told apart by their
// structure, not by a PEM label, which DER has none of.
func decodePrivateKey(der []byte) (any, error) {
	var whole asn1.RawValue
	if !unmarshalAll(der, &whole) {
		return nil, errNoKey // cut, or with data after its end
	}
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	if key, ok := decodeDSA(der); ok {
		return key, nil
	}
	if key, ok := decodeDSAPKCS8(der); ok {
		return key, nil
	}
	if key, ok := decodeSECT(der, nil); ok {
		return key, nil
	}
	if key, ok := decodeSECTPKCS8(der); ok {
		return key, nil
	}
	if isEncryptedPKCS8(der) {
		return nil, errEncrypted
	}
	if isPrivateKeyInfo(der) {
		return nil, errUnsupportedPrivateKey
	}
	return nil, errNoKey
}

// decodeDSA reads OpenSSL's own form.
func decodeDSA(der []byte) (*dsaPrivateKey, bool) {
	var numbers struct {
		Version       int
		P, Q, G, Y, X *big.Int
	}
	if !unmarshalAll(der, &numbers) || numbers.Version != 0 {
		return nil, false
	}
	// encoding/asn1 lets a SEQUENCE go on, and then RSA looks like DSA.
	if again, err := asn1.Marshal(numbers); err != nil || !bytes.Equal(again, der) {
		return nil, false
	}
	return newDSAPrivateKey(numbers.P, numbers.Q, numbers.G, numbers.X), true
}

// privateKeyInfo is PrivateKeyInfo of RFC 5208.
type privateKeyInfo struct {
	Version    int
	Algorithm  pkix.AlgorithmIdentifier
	PrivateKey []byte
	Attributes asn1.RawValue `asn1:"optional,tag:0"`
}

// newPrivateKeyInfo is a privateKeyInfo without attributes, to be written.
type newPrivateKeyInfo struct {
	Version    int
	Algorithm  pkix.AlgorithmIdentifier
	PrivateKey []byte
}

var oidDSA = asn1.ObjectIdentifier{1, 2, 840, 10040, 4, 1}

// decodeDSAPKCS8 reads what crypto/x509 does not: DSA in PKCS#8.
func decodeDSAPKCS8(der []byte) (*dsaPrivateKey, bool) {
	var info privateKeyInfo
	var parameters struct{ P, Q, G *big.Int }
	var x *big.Int
	if !unmarshalAll(der, &info) || !info.Algorithm.Algorithm.Equal(oidDSA) ||
		!unmarshalAll(info.Algorithm.Parameters.FullBytes, &parameters) ||
		!unmarshalAll(info.PrivateKey, &x) {
		return nil, false
	}
	return newDSAPrivateKey(parameters.P, parameters.Q, parameters.G, x), true
}

func isPrivateKeyInfo(der []byte) bool {
	var info privateKeyInfo
	return unmarshalAll(der, &info)
}

// isEncryptedPKCS8 recognises EncryptedPrivateKeyInfo of RFC 5208.
func isEncryptedPKCS8(der []byte) bool {
	var info struct {
		Algorithm pkix.AlgorithmIdentifier
		Data      []byte
	}
	return unmarshalAll(der, &info)
}

func unmarshalAll(der []byte, into any) bool {
	rest, err := asn1.Unmarshal(der, into)
	return err == nil && len(rest) == 0
}
