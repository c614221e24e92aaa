package signature

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"strings"
)

const storeAgain = "store the certificate in PEM as one secret of type certificate, and set the property to that secret's UUID"

var beginBlock = []byte("-----BEGIN ")

// certificateDER finds the certificate in a payload. No part of the payload
// gets into an error, since by mistake it may be a private key.
func certificateDER(data []byte) ([]byte, error) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, unreadable(storeAgain, "names an empty secret")
	}
	if isDER(data) {
		return bytes.Clone(data), nil
	}
	if !bytes.Contains(data, beginBlock) {
		if decoded, ok := decodeLoosely(data); ok && (isDER(decoded) || bytes.Contains(decoded, beginBlock)) {
			return nil, unreadable("store the secret again, and let its payload be encoded in base64 once only",
				"names a secret whose payload is base64 of a certificate: it was encoded twice")
		}
		return nil, unreadable(storeAgain, "names a secret that is not a certificate in PEM or DER")
	}
	return firstCertificate(data)
}

// isDER reports whether data begins as a DER SEQUENCE of more than 127 bytes,
// which no certificate is short of, and no text begins like.
func isDER(data []byte) bool {
	return len(data) > 1 && data[0] == 0x30 && data[1]&0x80 != 0
}

// firstCertificate returns the content of the first certificate block. One
// that is damaged is refused, and not passed over in favour of the next.
func firstCertificate(data []byte) ([]byte, error) {
	data = bytes.TrimPrefix(data, []byte("\uFEFF"))
	var others []string
	for len(data) > 0 {
		line, rest, _ := bytes.Cut(data, []byte("\n"))
		label, isBegin := blockLabel(line)
		switch {
		case !isBegin:
		case label == "CERTIFICATE" || label == "X509 CERTIFICATE":
			block, after := pem.Decode(data)
			if block == nil || bytes.Count(data[:len(data)-len(after)], beginBlock) != 1 {
				return nil, unreadable(storeAgain, "names a certificate whose PEM block is damaged")
			}
			return block.Bytes, nil
		default:
			others = append(others, label)
		}
		data = rest
	}
	return nil, noCertificate(others)
}

// blockLabel returns the label of a line that begins a PEM block.
func blockLabel(line []byte) (string, bool) {
	text, ok := strings.CutPrefix(strings.TrimRight(string(line), " \t\r"), string(beginBlock))
	if !ok {
		return "", false
	}
	return strings.CutSuffix(text, "-----")
}

// noCertificate says what the payload holds instead. Only labels known here
// are named, as anything may stand in the place of one.
func noCertificate(labels []string) error {
	for _, label := range labels {
		switch {
		case strings.HasSuffix(label, "PRIVATE KEY"):
			return unreadable("delete that secret, take the key for disclosed to all who may read it, and store the certificate instead",
				"names a secret that is a private key, not a certificate")
		case label == "TRUSTED CERTIFICATE":
			return unreadable("convert it with `openssl x509 -in trusted.pem -out plain.pem`, and store plain.pem",
				"names a certificate in OpenSSL's own TRUSTED CERTIFICATE form")
		case strings.HasSuffix(label, "CERTIFICATE REQUEST"):
			return unreadable("have the request signed, and store the certificate",
				"names a certificate request, not a certificate")
		case strings.HasSuffix(label, "PUBLIC KEY"):
			return unreadable("make a certificate for the key, and store that",
				"names a bare public key, not a certificate")
		}
	}
	return unreadable(storeAgain, "names a secret that is not a certificate in PEM or DER")
}

func decodeLoosely(data []byte) ([]byte, bool) {
	decoded, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(data), nil)))
	return decoded, err == nil
}
