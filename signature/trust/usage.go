package trust

import (
	"crypto/x509"
	"encoding/asn1"
	"strings"
)

// A KeyUsage is a bit of that extension, by its name in RFC 5280, section
// 4.2.1.3.
type KeyUsage string

// KeyUsages lists them. It is not to be modified.
var KeyUsages = []KeyUsage{"digitalSignature", "contentCommitment", "keyEncipherment", "dataEncipherment", "keyAgreement", "keyCertSign", "cRLSign"}

var usageBits = map[KeyUsage]x509.KeyUsage{
	"digitalSignature":  x509.KeyUsageDigitalSignature,
	"contentCommitment": x509.KeyUsageContentCommitment,
	"keyEncipherment":   x509.KeyUsageKeyEncipherment,
	"dataEncipherment":  x509.KeyUsageDataEncipherment,
	"keyAgreement":      x509.KeyUsageKeyAgreement,
	"keyCertSign":       x509.KeyUsageCertSign,
	"cRLSign":           x509.KeyUsageCRLSign,
}

// extendedUsages are the names of RFC 5280, section 4.2.1.12.
var extendedUsages = map[string]asn1.ObjectIdentifier{
	"serverAuth":      {1, 3, 6, 1, 5, 5, 7, 3, 1},
	"clientAuth":      {1, 3, 6, 1, 5, 5, 7, 3, 2},
	"codeSigning":     {1, 3, 6, 1, 5, 5, 7, 3, 3},
	"emailProtection": {1, 3, 6, 1, 5, 5, 7, 3, 4},
	"timeStamping":    {1, 3, 6, 1, 5, 5, 7, 3, 8},
	"OCSPSigning":     {1, 3, 6, 1, 5, 5, 7, 3, 9},
}

var (
	oidExtendedKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidAnyUsage         = asn1.ObjectIdentifier{2, 5, 29, 37, 0}
)

// ParseExtendedKeyUsage reads a purpose by its name in RFC 5280, such as
// codeSigning, or in dotted numbers.
func ParseExtendedKeyUsage(text string) (asn1.ObjectIdentifier, bool) {
	if id, ok := extendedUsages[text]; ok {
		return id, true
	}
	if !strings.Contains(text, ".") {
		return nil, false
	}
	return ParseOID(text)
}

// purposes are the extended key usages of a certificate; nil without the
// extension.
func (c *certificate) purposes() []asn1.ObjectIdentifier {
	for _, extension := range c.parsed.Extensions {
		if extension.Id.Equal(oidExtendedKeyUsage) {
			var list []asn1.ObjectIdentifier
			if unmarshal(extension.Value, &list) != nil {
				return []asn1.ObjectIdentifier{}
			}
			return list
		}
	}
	return nil
}
