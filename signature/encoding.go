package signature

import (
	"encoding/base64"
	"fmt"
	"strings"
)

// maxSignature bounds a decoded signature, in bytes. The longest that can
// verify is that of a 16384-bit RSA key, 2 KiB.
const maxSignature = 16 << 10

const encodeAgain = "encode the signature again with `base64 -w0 image.sig` and set the property to its whole output"

// decodeSignature decodes standard base64 in its one canonical form, padding
// and zero tail bits included, once blanks and line ends are taken out.
//
// Glance drops every character outside the alphabet and whatever follows the
// padding. A value with two readings is refused here instead.
func decodeSignature(value string) ([]byte, error) {
	refuse := func(cure, format string, args ...any) ([]byte, error) {
		return nil, &PropertyError{
			Code:     CodePropertyInvalid,
			Property: PropertySignature,
			Problem:  fmt.Sprintf(format, args...),
			Cure:     cure,
		}
	}
	if strings.HasPrefix(value, "b'") || strings.HasPrefix(value, `b"`) {
		return refuse(
			"sign with `countersign sign` or with openssl, and set the property to the base64 text alone, without b and quotes",
			"is a Python bytes literal (it begins with %s), as openstackclient's --sign-key-path sends it by mistake", value[:2])
	}

	var text strings.Builder
	position, padding := 0, 0
	for _, char := range value {
		position++
		switch {
		default:
			return refuse(encodeAgain, "is not base64: it has the character %q at position %d", char, position)
		case char == ' ', char == '\t', char == '\r', char == '\n':
			continue
		case char == '-', char == '_':
			return refuse(
				"encode the signature with the standard alphabet, which has + and /: `base64 -w0 image.sig`",
				"is not standard base64: the character %q at position %d is of the URL-safe alphabet", char, position)
		case char == '=':
			padding++
		case isBase64(char):
			if padding > 0 {
				return refuse(encodeAgain, "has the character %q at position %d, after the padding that ends base64", char, position)
			}
		}
		if text.Len() == base64.StdEncoding.EncodedLen(maxSignature) {
			return refuse(encodeAgain, "is too long: no signature has more than %d bytes", maxSignature)
		}
		text.WriteRune(char)
	}

	switch {
	case text.Len() == 0:
		return refuse("set it to the base64 of the signature: `base64 -w0 image.sig`", "is empty")
	case padding > 2:
		return refuse(encodeAgain, "ends in %d padding characters, where base64 has at most 2", padding)
	case text.Len()%4 != 0:
		return refuse(encodeAgain,
			"has %d characters of base64, which is not a multiple of 4: the padding is missing, or the text was cut", text.Len())
	}
	signature, err := base64.StdEncoding.Strict().DecodeString(text.String())
	if err != nil {
		return refuse(encodeAgain, "is not canonical base64: its last character before the padding carries stray bits")
	}
	return signature, nil
}

func isBase64(char rune) bool {
	return 'A' <= char && char <= 'Z' || 'a' <= char && char <= 'z' || '0' <= char && char <= '9' || char == '+' || char == '/'
}

// parseCertificateID returns the canonical form of a UUID with or without
// dashes, so that one secret has one name in caches and policies.
//
// Glance's key manager also takes any address that ends in a UUID, and then
// ignores the rest of it. An address that promises one thing and fetches
// another is refused.
func parseCertificateID(value string) (string, error) {
	if id, ok := canonicalUUID(value); ok {
		return id, nil
	}
	err := &PropertyError{
		Code:     CodePropertyInvalid,
		Property: PropertyCertificate,
		Problem:  fmt.Sprintf("is %s, which is not a UUID", quote(value)),
		Cure:     "set it to the UUID of the certificate's secret, the last part of the address that `openstack secret list` shows",
	}
	trimmed := strings.TrimSpace(value)
	last := trimmed[strings.LastIndex(trimmed, "/")+1:]
	id, found := canonicalUUID(last)
	switch {
	case value == "":
		err.Problem = "is empty"
	case found && last == trimmed:
		err.Problem = fmt.Sprintf("is %s, a UUID with blanks around it", quote(value))
		err.Cure = "set it to " + id
	case found:
		err.Problem = fmt.Sprintf("is the address %s, where only a UUID is taken", quote(value))
		err.Cure = "set it to " + id
	}
	return "", err
}

// canonicalUUID lower-cases a UUID and gives it its dashes (RFC 9562,
// section 4). The dashes may be absent, all of them or none.
func canonicalUUID(text string) (string, bool) {
	if len(text) == 36 && text[8] == '-' && text[13] == '-' && text[18] == '-' && text[23] == '-' {
		text = text[:8] + text[9:13] + text[14:18] + text[19:23] + text[24:]
	}
	if len(text) != 32 || strings.Trim(text, "0123456789abcdefABCDEF") != "" {
		return "", false
	}
	text = strings.ToLower(text)
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:], true
}
