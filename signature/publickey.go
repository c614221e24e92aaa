package signature

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"fmt"

	"github.com/countersign/countersign/signature/binarycurve"
)

// minKeyBits is the least length of an RSA modulus or a DSA prime. It is also
// the least Go's crypto/rsa will verify with. Policies ask for more.
const minKeyBits = 1024

// keyMismatch refuses a key that is not what img_signature_key_type says.
func keyMismatch(spec Spec, publicKey any) error {
	cure := fmt.Sprintf("set %s to the certificate of the %s key that signed the image, or sign with a %s key",
		PropertyCertificate, spec.KeyType, spec.KeyType)
	if fitting := fittingType(publicKey); fitting != "" {
		cure = fmt.Sprintf("if that key signed the image, set %s to %s; otherwise set %s to the certificate of the key that did",
			PropertyKeyType, fitting, PropertyCertificate)
	}
	return &PropertyError{
		Code:     CodeKeyTypeMismatch,
		Property: PropertyKeyType,
		Problem:  fmt.Sprintf("is %s, but the certificate holds %s", spec.KeyType, describeKey(publicKey)),
		Cure:     cure,
	}
}

// fittingType returns the key type for which publicKey could serve, or "".
func fittingType(publicKey any) KeyType {
	switch key := publicKey.(type) {
	default:
		return ""
	case *rsa.PublicKey:
		return RSAPSS
	case *dsaPublicKey:
		return DSA
	case *ecdsa.PublicKey:
		if key == nil {
			return ""
		}
		return keyTypeOf(key.Curve)
	case *binarycurve.PublicKey:
		if key == nil {
			return ""
		}
		return sectKeyType(key.Curve())
	}
}

func describeKey(publicKey any) string {
	switch key := publicKey.(type) {
	default:
		return "a key of another kind"
	case *rsa.PublicKey:
		return "an RSA key"
	case *dsaPublicKey:
		return "a DSA key"
	case *ecdsa.PublicKey:
		if key == nil || key.Curve == nil {
			return "an EC key on no curve"
		}
		return "an EC key on curve " + key.Curve.Params().Name
	case *binarycurve.PublicKey:
		if key == nil || key.Curve() == nil {
			return "an EC key on no curve"
		}
		return "an EC key on curve " + key.Curve().Name()
	case ed25519.PublicKey:
		return "an Ed25519 key"
	}
}

// A keyError says what is wrong with the numbers of a key, be it the one in a
// certificate or the one to sign with.
type keyError struct {
	code    Code
	problem string // a noun phrase: "an RSA key of 512 bits, …"
	cure    string
}

func (e *keyError) Error() string { return e.problem + ": " + e.cure }

// inCertificate is the refusal of a certificate for its key.
func (e *keyError) inCertificate() error {
	return &PropertyError{
		Code:     e.code,
		Property: PropertyCertificate,
		Problem:  "names a certificate with " + e.problem,
		Cure:     e.cure,
	}
}

// unsoundKey refuses numbers that make no key.
func unsoundKey(format string, args ...any) *keyError {
	return &keyError{
		code:    CodeKeyUnsupported,
		problem: fmt.Sprintf(format, args...),
		cure:    "make a new key and a certificate for it, and sign with them",
	}
}

func smallKey(kind string, bits int) *keyError {
	return &keyError{
		code:    CodeKeyTooSmall,
		problem: fmt.Sprintf("%s of %d bits, fewer than the %d that any image needs", kind, bits, minKeyBits),
		cure:    "sign with a longer key, such as RSA of 3072 bits, and a certificate for it",
	}
}
