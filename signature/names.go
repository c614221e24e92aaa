package signature

import (
	"crypto"
	_ "crypto/sha256" // SHA-224 and SHA-256 for crypto.Hash.New
	_ "crypto/sha512" // SHA-384 and SHA-512
	"fmt"
	"slices"
	"strings"
)

// A HashMethod is a value of img_signature_hash_method. The names are exact:
// "SHA256" is none.
type HashMethod string

// The hash methods cursive knows. All are supported.
const (
	SHA224 HashMethod = "SHA-224"
	SHA256 HashMethod = "SHA-256"
	SHA384 HashMethod = "SHA-384"
	SHA512 HashMethod = "SHA-512"
)

// HashMethods lists every hash method. It is not to be modified.
var HashMethods = []HashMethod{SHA224, SHA256, SHA384, SHA512}

// Hash returns the hash function, or 0 if m is not one of HashMethods.
func (m HashMethod) Hash() crypto.Hash {
	switch m {
	default:
		return 0
	case SHA224:
		return crypto.SHA224
	case SHA256:
		return crypto.SHA256
	case SHA384:
		return crypto.SHA384
	case SHA512:
		return crypto.SHA512
	}
}

// A KeyType is a value of img_signature_key_type. The names are exact.
type KeyType string

// The key types cursive 0.2 knows. All are supported. Later releases of cursive
// may know the four SECT curves no more.
const (
	RSAPSS    KeyType = "RSA-PSS"
	DSA       KeyType = "DSA"
	SECT571K1 KeyType = "ECC_SECT571K1"
	SECT409K1 KeyType = "ECC_SECT409K1"
	SECT571R1 KeyType = "ECC_SECT571R1"
	SECT409R1 KeyType = "ECC_SECT409R1"
	SECP521R1 KeyType = "ECC_SECP521R1"
	SECP384R1 KeyType = "ECC_SECP384R1"
)

// KeyTypes lists every key type that OpenStack names, in cursive's order. It
// is not to be modified.
var KeyTypes = []KeyType{RSAPSS, DSA, SECT571K1, SECT409K1, SECT571R1, SECT409R1, SECP521R1, SECP384R1}

func parseHashMethod(value string) (HashMethod, error) {
	var names []string
	for _, method := range HashMethods {
		if value == string(method) {
			return method, nil
		}
		names = append(names, string(method))
	}
	return "", unknownName(PropertyHashMethod, value, "a hash method", names, nearHashMethod(value))
}

func parseKeyType(value string) (KeyType, error) {
	if keyType := KeyType(value); slices.Contains(KeyTypes, keyType) {
		return keyType, nil
	}
	return "", unknownName(PropertyKeyType, value, "a key type", keyTypeNames(), string(nearKeyType(value)))
}

func keyTypeNames() []string {
	var names []string
	for _, keyType := range KeyTypes {
		names = append(names, string(keyType))
	}
	return names
}

// unknownName refuses a value that is none of names, though it may come near
// one of them.
func unknownName(property, value, what string, names []string, near string) error {
	err := &PropertyError{
		Code:     CodePropertyInvalid,
		Property: property,
		Problem:  fmt.Sprintf("is %s, which is not the name of %s", quote(value), what),
		Cure:     "set it to one of " + strings.Join(names, ", ") + ", written exactly so",
	}
	switch {
	case value == "":
		err.Problem = "is empty"
	case near != "":
		err.Problem = fmt.Sprintf("is %s, which must be written exactly %s", quote(value), near)
		err.Cure = fmt.Sprintf("set it to %s", near)
	}
	return err
}

// nearHashMethod returns the hash method that value was meant to be: "sha256",
// "SHA2-256", " SHA-256". It returns "" if there is no telling.
func nearHashMethod(value string) string {
	bare := bareName(value)
	for _, method := range HashMethods {
		name := bareName(string(method))
		if bare == name || bare == strings.Replace(name, "SHA", "SHA2", 1) {
			return string(method)
		}
	}
	return ""
}

// nearKeyType returns the key type that value was meant to be: the short names
// in OpenStack's documents ("SECP384R1"), another case, "RSA". It returns ""
// for a name such as "ECC-CURVES", which says nothing about the curve.
func nearKeyType(value string) KeyType {
	bare := bareName(value)
	switch bare {
	case "RSA", "PSS", "RSASSAPSS":
		return RSAPSS
	case "DSS":
		return DSA
	case "P384", "NISTP384", "ECP384", "ECDSAP384":
		return SECP384R1
	case "P521", "NISTP521", "ECP521", "ECDSAP521":
		return SECP521R1
	case "K409", "NISTK409":
		return SECT409K1
	case "B409", "NISTB409":
		return SECT409R1
	case "K571", "NISTK571":
		return SECT571K1
	case "B571", "NISTB571":
		return SECT571R1
	}
	for _, keyType := range KeyTypes {
		name := bareName(string(keyType))
		if bare == name || bare == strings.TrimPrefix(name, "ECC") {
			return keyType
		}
	}
	return ""
}

// bareName keeps the letters and digits of a name, in upper case.
func bareName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		default:
			return -1
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		}
	}, name)
}

// quote shows a property's value in a message, without control characters and
// cut after 64 bytes.
func quote(value string) string {
	const limit = 64
	if len(value) > limit {
		return fmt.Sprintf("%q…", strings.ToValidUTF8(value[:limit], ""))
	}
	return fmt.Sprintf("%q", value)
}
