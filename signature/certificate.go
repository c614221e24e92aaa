package signature

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"time"
)

// A Certificate is what is needed of an X.509 certificate to verify an image:
// the key, and what a policy asks about. That it was read says nothing about
// trust, dates or the strength of its key.
type Certificate struct {
	// PublicKey is a *rsa.PublicKey, *dsa.PublicKey, *ecdsa.PublicKey or
	// *binarycurve.PublicKey, or of another type that crypto/x509 returns and
	// NewVerifier refuses.
	PublicKey any

	NotBefore, NotAfter time.Time // both inclusive

	// Subject and Issuer are in the form of RFC 2253, empty if they cannot be
	// decoded. Names are claims, not identities: see Fingerprint.
	Subject, Issuer string
	Serial          string // lower-case hex

	Raw []byte // DER
}

// ParseCertificate reads a certificate in PEM or DER, as a key manager holds
// it. In PEM the first certificate counts, and any other block or text is
// passed over. Data after the end of a DER encoding is refused. The error is a
// *PropertyError of code certificate_unreadable, or key_unsupported if all but
// the key could be read.
//
// A certificate that crypto/x509 finds oddly encoded, but cursive loads, is
// read as far as its key, dates and names.
func ParseCertificate(data []byte) (*Certificate, error) {
	der, err := certificateDER(data)
	if err != nil {
		return nil, err
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return walkCertificate(der)
	}
	if parsed.PublicKey == nil {
		return walkCertificate(der)
	}
	return &Certificate{
		PublicKey: parsed.PublicKey,
		NotBefore: parsed.NotBefore,
		NotAfter:  parsed.NotAfter,
		Subject:   parsed.Subject.String(),
		Issuer:    parsed.Issuer.String(),
		Serial:    parsed.SerialNumber.Text(16),
		Raw:       parsed.Raw,
	}, nil
}

// CheckDates returns nil if now lies within the certificate's validity, ends
// included (RFC 5280, section 4.1.2.5), and otherwise a *PropertyError.
func (c *Certificate) CheckDates(now time.Time) error {
	switch {
	case now.Before(c.NotBefore):
		return &PropertyError{
			Code:     CodeCertificateNotYetValid,
			Property: PropertyCertificate,
			Problem:  fmt.Sprintf("names a certificate that is valid only from %s on", c.NotBefore.UTC().Format(time.RFC3339)),
			Cure:     "upload after that time, or sign with a certificate that is valid now",
		}
	case now.After(c.NotAfter):
		return &PropertyError{
			Code:     CodeCertificateExpired,
			Property: PropertyCertificate,
			Problem:  fmt.Sprintf("names a certificate that expired at %s", c.NotAfter.UTC().Format(time.RFC3339)),
			Cure:     "sign with a certificate that is valid now, or renew this one and set the property to the new certificate's UUID",
		}
	}
	return nil
}

// Fingerprint returns the lower-case hex SHA-256 of the certificate's DER, as
// `openssl x509 -fingerprint -sha256` shows it with colons.
func (c *Certificate) Fingerprint() string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

func unreadable(cure, format string, args ...any) error {
	return &PropertyError{
		Code:     CodeCertificateUnreadable,
		Property: PropertyCertificate,
		Problem:  fmt.Sprintf(format, args...),
		Cure:     cure,
	}
}
