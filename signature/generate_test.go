package signature_test

//lint:file-ignore SA1019 DSA keys are made here.

import (
	"bytes"
	"crypto/dsa"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/signature"
	"github.com/countersign/countersign/signature/binarycurve"
)

// TestGenerateKey makes a key of every type, writes and reads it, certifies it,
// and verifies with the certificate what the key has signed.
func TestGenerateKey(t *testing.T) {
	for _, keyType := range signature.KeyTypes {
		t.Run(string(keyType), func(t *testing.T) {
			bits := 0
			if keyType == signature.RSAPSS {
				bits = 2048 // in less time than the default
			}
			key, err := signature.GenerateKey(keyType, bits)
			if err != nil {
				t.Fatal(err)
			}
			der, err := signature.MarshalPrivateKey(key)
			if err != nil {
				t.Fatal(err)
			}
			again, err := signature.ParsePrivateKey(der)
			if err != nil {
				t.Fatal(err)
			}
			if other, err := signature.MarshalPrivateKey(again); err != nil || !bytes.Equal(other, der) {
				t.Errorf("MarshalPrivateKey of what was read: %v, the same: %v", err, bytes.Equal(other, der))
			}
			raw, err := signature.SelfSigned(key, "Zoë", notBefore, notAfter)
			if err != nil {
				t.Fatal(err)
			}
			c, err := signature.ParseCertificate(raw)
			if err != nil {
				t.Fatal(err)
			}
			spec := sign(t, again, signature.SHA512, image)
			if spec.KeyType != keyType {
				t.Errorf("the key signs as %s", spec.KeyType)
			}
			if err := verify(t, spec, c.PublicKey, image); err != nil {
				t.Errorf("its certificate does not verify what it signed: %v", err)
			}
			checkCertificate(t, c)
		})
	}
}

func checkCertificate(t *testing.T, c *signature.Certificate) {
	t.Helper()
	if c.Subject != "CN=Zoë" || c.Issuer != "CN=Zoë" || !c.NotBefore.Equal(notBefore) || !c.NotAfter.Equal(notAfter) {
		t.Errorf("certificate = %s by %s, %v to %v", c.Subject, c.Issuer, c.NotBefore, c.NotAfter)
	}
	if len(c.Serial) != 32 {
		t.Errorf("serial number %s has not 127 bits", c.Serial)
	}
	var outer struct {
		TBS       asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	must(asn1.Unmarshal(c.Raw, &outer))
	switch key := c.PublicKey.(type) {
	case *dsa.PublicKey, *binarycurve.PublicKey:
		// The signature in the certificate is one over its TBSCertificate.
		keyType := signature.DSA
		if key, ok := key.(*binarycurve.PublicKey); ok {
			keyType = signature.KeyType("ECC_" + strings.ToUpper(key.Curve().Name()))
		}
		spec := signature.Spec{Signature: outer.Signature.Bytes, HashMethod: signature.SHA256, KeyType: keyType}
		if err := verify(t, spec, c.PublicKey, string(outer.TBS.FullBytes)); err != nil {
			t.Errorf("certificate is not signed: %v", err)
		}
	case *rsa.PublicKey, *ecdsa.PublicKey:
		parsed, err := x509.ParseCertificate(c.Raw)
		if err != nil {
			t.Fatal(err)
		}
		if err := parsed.CheckSignature(parsed.SignatureAlgorithm, parsed.RawTBSCertificate, parsed.Signature); err != nil {
			t.Errorf("certificate is not signed: %v", err)
		}
		if parsed.Version != 3 || parsed.IsCA || !parsed.BasicConstraintsValid || parsed.KeyUsage != x509.KeyUsageDigitalSignature {
			t.Errorf("version %d, CA %v, key usage %b", parsed.Version, parsed.IsCA, parsed.KeyUsage)
		}
		for i, critical := range []bool{true, true, false} {
			if parsed.Extensions[i].Critical != critical {
				t.Errorf("extension %v is critical: %v, want %v", parsed.Extensions[i].Id, !critical, critical)
			}
		}
		if len(parsed.SubjectKeyId) != 20 || len(parsed.Extensions) != 3 {
			t.Errorf("key identifier %x, %d extensions", parsed.SubjectKeyId, len(parsed.Extensions))
		}
	default:
		t.Errorf("certificate of a %T", key)
	}
}

func TestGenerateKeyRefuses(t *testing.T) {
	for _, test := range []struct {
		keyType signature.KeyType
		bits    int
		says    string
	}{
		{"rsa", 0, "exactly RSA-PSS"},
		{"", 0, "is empty"},
		{signature.RSAPSS, 1024, "1024 bits"},
		{signature.RSAPSS, 2047, "2047 bits"},
		{signature.RSAPSS, 16385, "16385 bits"},
		{signature.RSAPSS, -1, "-1 bits"},
		{signature.DSA, 1024, "2048 or 3072"},
		{signature.DSA, 2049, "2048 or 3072"},
		{signature.SECP384R1, 384, "is a curve"},
		{signature.SECT571K1, 571, "is a curve"},
	} {
		key, err := signature.GenerateKey(test.keyType, test.bits)
		if err == nil || key != nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("GenerateKey(%q, %d) = %T, %v, want an error that says %q", test.keyType, test.bits, key, err, test.says)
		}
	}
}

func TestMarshalPrivateKeyRefuses(t *testing.T) {
	for _, key := range []any{nil, keys()["P-256"], keys()["P-384"].Public(), (*binarycurve.PrivateKey)(nil), &dsa.PrivateKey{}, &ecdsa.PrivateKey{}, "key"} {
		if der, err := signature.MarshalPrivateKey(key); err == nil || der != nil {
			t.Errorf("MarshalPrivateKey(%T) = %x, want an error", key, der)
		}
	}
}

func TestSelfSignedRefuses(t *testing.T) {
	key := keys()["P-384"]
	for _, test := range []struct {
		name     string
		key      any
		cn       string
		from, to time.Time
		says     string
	}{
		{"no name", key, "", notBefore, notAfter, "common name"},
		{"long name", key, strings.Repeat("é", 65), notBefore, notAfter, "at most 64"},
		{"no text", key, "\xff", notBefore, notAfter, "UTF-8"},
		{"no time", key, "x", notBefore, notBefore, "end before it begins"},
		{"backwards", key, "x", notAfter, notBefore, "end before it begins"},
		{"far future", key, "x", notBefore, notBefore.AddDate(8000, 0, 0), "9999"},
		{"far past", key, "x", notBefore.AddDate(-80, 0, 0), notAfter, "1950"},
		{"other key", keys()["P-256"], "x", notBefore, notAfter, "secp384r1"},
	} {
		der, err := signature.SelfSigned(test.key, test.cn, test.from, test.to)
		if err == nil || der != nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: SelfSigned = %x, %v, want an error that says %q", test.name, der, err, test.says)
		}
	}

	// RFC 5280 wants another encoding of dates from 2050 on.
	der, err := signature.SelfSigned(key, strings.Repeat("é", 64), notBefore.Add(time.Millisecond), notBefore.AddDate(100, 0, 0))
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil || parsed.NotAfter.Year() != 2126 || !parsed.NotBefore.Equal(notBefore) {
		t.Errorf("a century: %v, %v", parsed, err)
	}
}

func BenchmarkVerifier(b *testing.B) {
	for _, pair := range keyPairs(b) {
		spec := sign(b, pair.private, signature.SHA256, image)
		b.Run(pair.name, func(b *testing.B) {
			for b.Loop() {
				if err := verify(b, spec, pair.public, image); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
