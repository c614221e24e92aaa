package receipt_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"slices"
	"strings"
	"testing"

	"github.com/countersign/countersign/proxy/receipt"
)

// TestKeyID is the example of RFC 8037, appendix A.3.
func TestKeyID(t *testing.T) {
	public, err := base64.RawURLEncoding.DecodeString("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
	if err != nil {
		t.Fatal(err)
	}
	// RFC 8410, section 4: the prefix of every Ed25519 SubjectPublicKeyInfo.
	der := append([]byte{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00}, public...)
	keys := parseKeys(t, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	if got, want := keys.IDs(), []string{"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"}; !slices.Equal(got, want) {
		t.Errorf("IDs() = %q, want %q", got, want)
	}
}

func TestParseKeys(t *testing.T) {
	private, public := pair(t)
	other, _ := pair(t)
	for name, c := range map[string]struct {
		pems    [][]byte
		signs   bool
		entries int
	}{
		"private":                       {[][]byte{private}, true, 1},
		"public":                        {[][]byte{public}, false, 1},
		"both, of one pair":             {[][]byte{public, private}, true, 1},
		"two in one file":               {[][]byte{append(slices.Clone(private), other...)}, true, 2},
		"with a remark, and CRLF":       {[][]byte{append([]byte("for 2026\r\n"), bytes.ReplaceAll(public, []byte("\n"), []byte("\r\n"))...)}, false, 1},
		"a public key before a private": {[][]byte{public, other}, true, 2},
	} {
		keys, err := receipt.ParseKeys(c.pems...)
		if err != nil || keys.CanSign() != c.signs || len(keys.IDs()) != c.entries {
			t.Errorf("%s: ParseKeys = %q, can sign %v, %v; want %d, %v", name, keys.IDs(), keys.CanSign(), err, c.entries, c.signs)
		}
	}
}

func TestParseKeysRefuses(t *testing.T) {
	private, public := pair(t)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecPrivate, err := x509.MarshalPKCS8PrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	ecPublic, err := x509.MarshalPKIXPublicKey(&ec.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	block := func(label string, data []byte) []byte {
		return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: data})
	}
	secret := strings.Split(string(private), "\n")[1]
	for name, pems := range map[string][][]byte{
		"no file":              {},
		"an empty file":        {{}},
		"not PEM":              {[]byte("secret")},
		"the base64 alone":     {[]byte(secret)},
		"cut off":              {private[:len(private)-9]},
		"good, then cut off":   {append(slices.Clone(public), private[:40]...)},
		"a good and an empty":  {private, nil},
		"damaged DER":          {block("PRIVATE KEY", []byte(secret))},
		"damaged public DER":   {block("PUBLIC KEY", []byte(secret))},
		"an ECDSA key":         {block("PRIVATE KEY", ecPrivate)},
		"an ECDSA public key":  {block("PUBLIC KEY", ecPublic)},
		"a certificate":        {block("CERTIFICATE", []byte(secret))},
		"an encrypted key":     {block("ENCRYPTED PRIVATE KEY", []byte(secret))},
		"good, then something": {append(slices.Clone(private), block("CERTIFICATE", []byte(secret))...)},
	} {
		keys, err := receipt.ParseKeys(pems...)
		if err == nil || keys != nil {
			t.Errorf("%s: ParseKeys = %v, %v, want an error alone", name, keys, err)
			continue
		}
		if strings.Contains(err.Error(), secret) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error holds part of the file: %v", name, err)
		}
	}
}
