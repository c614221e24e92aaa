package signature

import "errors"

var (
	// ErrUnsigned is returned by Parse for an image that has none of the four
	// signature properties.
	ErrUnsigned = errors.New("image has no signature properties")

	// ErrMismatch is what errors.Is finds in the error of a Verifier, or of
	// the Reader around it, whose signature does not fit the data.
	ErrMismatch = errors.New("signature does not match the image data")
)

// A Code classifies a PropertyError for programs. The set is closed.
type Code string

const (
	// CodePropertyMissing: some but not all of the four properties are set.
	CodePropertyMissing Code = "property_missing"
	// CodePropertyInvalid: a property has a value that nothing could satisfy.
	CodePropertyInvalid Code = "property_invalid"
	// CodeCertificateUnreadable: the payload is not one readable X.509
	// certificate.
	CodeCertificateUnreadable Code = "certificate_unreadable"
	// CodeCertificateExpired: the certificate's notAfter has passed.
	CodeCertificateExpired Code = "certificate_expired"
	// CodeCertificateNotYetValid: the certificate's notBefore is to come.
	CodeCertificateNotYetValid Code = "certificate_not_yet_valid"
	// CodeKeyTypeMismatch: the certificate's key is of another type, or on
	// another curve, than img_signature_key_type says.
	CodeKeyTypeMismatch Code = "key_type_mismatch"
	// CodeKeyUnsupported: the certificate's key is of no usable kind, or its
	// numbers are unsound.
	CodeKeyUnsupported Code = "key_unsupported"
	// CodeKeyTooSmall: the certificate's key is shorter than 1024 bits.
	CodeKeyTooSmall Code = "key_too_small"
	// CodeSignatureMismatch: the signature does not fit the data; such an
	// error also is ErrMismatch.
	CodeSignatureMismatch Code = "signature_mismatch"
)

// A PropertyError says why an image's signature is refused, in words meant for
// whoever signed the image. It never contains the signature.
type PropertyError struct {
	Code     Code
	Property string // the one of Properties that is at fault
	Problem  string // continues the property's name to a sentence: "is missing, …"
	Cure     string // what to type or do, in the imperative
}

func (e *PropertyError) Error() string {
	return e.Property + ": " + e.Problem
}

// Is makes an error of code signature_mismatch an ErrMismatch.
func (e *PropertyError) Is(target error) bool {
	return target == ErrMismatch && e.Code == CodeSignatureMismatch
}
