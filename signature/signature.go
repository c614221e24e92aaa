// Package signature verifies image data against the four signature properties
// of an OpenStack image while the data streams by.
//
// It promises that a [Reader] reports [io.EOF] only after the signature has
// been verified over every byte it was given, and that the last [Tail] bytes
// of the data are held back until then. Whoever copies from a Reader cannot
// finish an upload that does not verify.
//
// It trusts the public key it is handed. Whether the certificate around that
// key belongs to an accepted signer is not decided here; [Certificate] has the
// dates and names for those who decide it. It also trusts the caller to take
// the properties from the image and not from the request.
//
// It refuses whatever it cannot decide: a missing property, a name that is not
// exactly one of OpenStack's, base64 or DER with a second reading, a key of
// another type or on another curve than the property says. Each refusal is a
// [PropertyError] that names the property and the cure. It is stricter than
// cursive, the library Glance and Nova verify with, and never more lenient,
// save that it takes a certificate in DER, and RSA-PSS salts of any length,
// which older releases refuse; see [Verifier.Caveat].
//
// The order of use is enforced by the types. A [Spec] is parsed from the
// properties, a [Verifier] is built from a Spec and a key, and a Reader needs
// a Verifier:
//
//	spec, err := signature.Parse(properties)
//	...
//	certificate, err := signature.ParseCertificate(data) // of spec.CertificateID
//	...
//	verifier, err := signature.NewVerifier(spec, certificate.PublicKey)
//	...
//	_, err = io.Copy(upstream, signature.NewReader(body, verifier))
package signature

import (
	"fmt"
	"strings"
)

// The image properties that make up a signature, as cursive's signature_utils
// names them.
const (
	PropertySignature   = "img_signature"
	PropertyHashMethod  = "img_signature_hash_method"
	PropertyKeyType     = "img_signature_key_type"
	PropertyCertificate = "img_signature_certificate_uuid"
)

// Properties lists the four property names in the order in which Parse checks
// them. It is not to be modified.
var Properties = []string{
	PropertySignature,
	PropertyHashMethod,
	PropertyKeyType,
	PropertyCertificate,
}

// A Spec is what the four properties say, checked and decoded. Parse is the
// way to obtain one; NewVerifier checks again what it relies on.
type Spec struct {
	Signature     []byte     // decoded from base64, never empty, at most 16 KiB
	HashMethod    HashMethod // hashes the image and, for RSA-PSS, feeds MGF1
	KeyType       KeyType    // a type for which KeyType.Supported is true
	CertificateID string     // canonical UUID: lower case, with dashes
}

// Parse reads the signature properties among an image's properties. It returns
// ErrUnsigned if none of the four is there, and otherwise a Spec or a
// *PropertyError that names the first property at fault.
//
// An image with some but not all of the four is refused: Glance would take it
// for unsigned without a word.
func Parse(properties map[string]string) (Spec, error) {
	if err := checkPresence(properties); err != nil {
		return Spec{}, err
	}
	signature, err := decodeSignature(properties[PropertySignature])
	if err != nil {
		return Spec{}, err
	}
	hashMethod, err := parseHashMethod(properties[PropertyHashMethod])
	if err != nil {
		return Spec{}, err
	}
	keyType, err := parseKeyType(properties[PropertyKeyType])
	if err != nil {
		return Spec{}, err
	}
	certificateID, err := parseCertificateID(properties[PropertyCertificate])
	if err != nil {
		return Spec{}, err
	}
	return Spec{
		Signature:     signature,
		HashMethod:    hashMethod,
		KeyType:       keyType,
		CertificateID: certificateID,
	}, nil
}

func checkPresence(properties map[string]string) error {
	var missing []string
	for _, name := range Properties {
		if _, ok := properties[name]; !ok {
			missing = append(missing, name)
		}
	}
	switch len(missing) {
	case 0:
		return nil
	case len(Properties):
		return ErrUnsigned
	}
	problem := "is missing, though other signature properties are set"
	if len(missing) > 1 {
		problem = fmt.Sprintf("is missing, as are others: %s", strings.Join(missing[1:], ", "))
	}
	return &PropertyError{
		Code:     CodePropertyMissing,
		Property: missing[0],
		Problem:  problem,
		Cure:     "set " + strings.Join(missing, ", ") + ", or remove all four signature properties from the image",
	}
}
