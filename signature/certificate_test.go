package signature_test

//lint:file-ignore SA1019 MarshalCompressed wants the coordinates of a point.

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/signature"
	"github.com/countersign/countersign/signature/binarycurve"
)

var (
	notBefore = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	notAfter  = time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC)
)

// selfSigned returns the DER of a certificate for the named key.
func selfSigned(t testing.TB, key string) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(0xbeef),
		Subject:      pkix.Name{CommonName: key, Organization: []string{"Example"}},
		NotBefore:    notBefore,
		NotAfter:     notAfter,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, keys()[key].Public(), keys()[key])
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func encodePEM(label string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}))
}

func TestParseCertificate(t *testing.T) {
	der := selfSigned(t, "P-384")
	text := encodePEM("CERTIFICATE", der)
	other := encodePEM("CERTIFICATE", selfSigned(t, "RSA 2048"))
	privateKeyBlock := encodePEM("PRIVATE KEY", []byte("a key"))
	for _, test := range []struct{ name, payload string }{
		{"DER", string(der)},
		{"PEM", text},
		{"CRLF", strings.ReplaceAll(text, "\n", "\r\n")},
		{"no final newline", strings.TrimSuffix(text, "\n")},
		{"byte order mark", "\uFEFF" + text},
		{"blank lines", "\n \n\n" + text},
		{"leading text", "0 subject: CN=x\n" + text},
		{"trailing text", text + "\nthe end\n"},
		{"X509 label", encodePEM("X509 CERTIFICATE", der)},
		{"bundle", text + other},
		{"leading key", privateKeyBlock + text},
		{"leading damaged key", "-----BEGIN PRIVATE KEY-----\n" + text},
		{"trailing damage", text + "-----BEGIN CERTIFICATE-----\n"},
	} {
		c, err := signature.ParseCertificate([]byte(test.payload))
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if !keys()["P-384"].(*ecdsa.PrivateKey).PublicKey.Equal(c.PublicKey) || !bytes.Equal(c.Raw, der) {
			t.Errorf("%s: another certificate was read", test.name)
		}
		if !c.NotBefore.Equal(notBefore) || !c.NotAfter.Equal(notAfter) ||
			c.Subject != "CN=P-384,O=Example" || c.Issuer != c.Subject || c.Serial != "beef" {
			t.Errorf("%s: ParseCertificate = %+v", test.name, c)
		}
		sum := sha256.Sum256(der)
		if got, want := c.Fingerprint(), hex.EncodeToString(sum[:]); got != want {
			t.Errorf("%s: Fingerprint = %s, want %s", test.name, got, want)
		}
	}
}

func TestParseCertificateKeepsNoPayload(t *testing.T) {
	payload := selfSigned(t, "P-384")
	c, err := signature.ParseCertificate(payload)
	if err != nil {
		t.Fatal(err)
	}
	before := c.Fingerprint()
	clear(payload)
	if c.Fingerprint() != before {
		t.Errorf("the certificate changed with the caller's payload")
	}
}

func TestParseCertificateRefuses(t *testing.T) {
	der := selfSigned(t, "P-384")
	text := encodePEM("CERTIFICATE", der)
	secret := "c2VjcmV0IGtleQ=="
	for _, test := range []struct{ name, payload, says string }{
		{"empty", "", "an empty secret"},
		{"blank", " \r\n", "an empty secret"},
		{"garbage", "garbage", "not a certificate in PEM or DER"},
		{"lone begin", "-----BEGIN ", "not a certificate in PEM or DER"},
		{"DER and more", string(der) + "\x00", "1 bytes after its end"},
		{"DER cut", string(der[:len(der)-1]), "does not decode"},
		{"PEM and more inside", encodePEM("CERTIFICATE", append(bytes.Clone(der), 0)), "1 bytes after its end"},
		{"PEM of garbage", encodePEM("CERTIFICATE", []byte("garbage")), "does not decode"},
		{"PEM cut", text[:len(text)-40], "PEM block is damaged"},
		{"PEM damaged, and a good one", text[:len(text)-40] + "\n" + text, "PEM block is damaged"},
		{"bytes in the PEM", strings.Replace(text, "\n", "\n!", 2), "PEM block is damaged"},
		{"base64 of PEM", base64.StdEncoding.EncodeToString([]byte(text)), "encoded twice"},
		{"base64 of DER", base64.StdEncoding.EncodeToString(der), "encoded twice"},
		{"private key", "-----BEGIN PRIVATE KEY-----\n" + secret + "\n-----END PRIVATE KEY-----\n", "is a private key, not a certificate"},
		{"RSA private key", "-----BEGIN RSA PRIVATE KEY-----\n" + secret, "is a private key, not a certificate"},
		{"request", encodePEM("CERTIFICATE REQUEST", der), "certificate request"},
		{"new request", encodePEM("NEW CERTIFICATE REQUEST", der), "certificate request"},
		{"public key", encodePEM("PUBLIC KEY", der), "bare public key"},
		{"trusted", string(read(t, "trusted.crt")), "openssl x509 -in"},
		{"other label", encodePEM("PKCS7", der), "not a certificate in PEM or DER"},
	} {
		_, err := signature.ParseCertificate([]byte(test.payload))
		t.Log(test.name)
		if err == nil {
			t.Errorf("%s: no error", test.name)
			continue
		}
		checkRefusal(t, err, signature.CodeCertificateUnreadable, signature.PropertyCertificate, test.says)
		if strings.Contains(err.Error(), secret[:6]) {
			t.Errorf("%s: the error tells the payload: %v", test.name, err)
		}
	}
}

// TestUnusualCertificates reads what crypto/x509 refuses and cursive loads.
func TestUnusualCertificates(t *testing.T) {
	for _, name := range []string{"negative.crt", "rsapss.crt", "compressed.crt", "sect409k1.crt", "sect409r1.crt", "sect571k1.crt", "sect571r1.crt", "sectcompressed.crt"} {
		block, _ := pem.Decode(read(t, name))
		if parsed, err := x509.ParseCertificate(block.Bytes); err == nil && parsed.PublicKey != nil {
			t.Errorf("%s: crypto/x509 reads it, so that the test shows nothing", name)
		}
		c := certificate(t, name)
		want := "CN=" + strings.TrimSuffix(name, ".crt") + ",O=Example"
		if c.Subject != want || c.Issuer != want {
			t.Errorf("%s: Subject = %q, Issuer = %q, want %q", name, c.Subject, c.Issuer, want)
		}
		if years := c.NotAfter.Sub(c.NotBefore).Hours() / 24 / 365; years < 99 || years > 101 {
			t.Errorf("%s: valid from %v to %v", name, c.NotBefore, c.NotAfter)
		}
	}
	if got := certificate(t, "negative.crt").Serial; got != "-5" {
		t.Errorf("Serial = %s, want -5", got)
	}
	if !certificate(t, "compressed.crt").PublicKey.(*ecdsa.PublicKey).Equal(certificate(t, "secp384r1.crt").PublicKey) {
		t.Errorf("the compressed point was read as another key")
	}
	if !certificate(t, "negative.crt").PublicKey.(*rsa.PublicKey).Equal(certificate(t, "rsa.crt").PublicKey) {
		t.Errorf("the key of a certificate with a negative serial number was read as another")
	}

	if !certificate(t, "sectcompressed.crt").PublicKey.(*binarycurve.PublicKey).Equal(certificate(t, "sect571r1.crt").PublicKey) {
		t.Errorf("the compressed point on a binary curve was read as another key")
	}

	for _, name := range []string{"sectexplicit.crt", "brainpoolP384r1.crt", "explicit.crt", "ed448.crt", "restricted.crt"} {
		_, err := signature.ParseCertificate(read(t, name))
		t.Log(name)
		checkRefusal(t, err, signature.CodeKeyUnsupported, signature.PropertyCertificate, "this release cannot read")
	}
}

// TestOddEncodings changes a certificate in ways that leave its key in order.
func TestOddEncodings(t *testing.T) {
	der := selfSigned(t, "RSA 2048")
	key := &keys()["RSA 2048"].(*rsa.PrivateKey).PublicKey

	withoutNull := reencode(t, der, func(tbs []asn1.RawValue) {
		var info struct {
			Algorithm struct{ ID asn1.ObjectIdentifier }
			Key       asn1.BitString
		}
		must(asn1.Unmarshal(tbs[6].FullBytes, &info))
		tbs[6] = asn1.RawValue{FullBytes: must(asn1.Marshal(info))}
	})
	oddName := reencode(t, der, func(tbs []asn1.RawValue) {
		// CN as a UniversalString, which encoding/asn1 does not know.
		cn := must(asn1.Marshal(struct {
			ID    asn1.ObjectIdentifier
			Value asn1.RawValue
		}{asn1.ObjectIdentifier{2, 5, 4, 3}, asn1.RawValue{Tag: 28, Bytes: []byte("\x00\x00\x00x")}}))
		set := must(asn1.Marshal(asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: cn}))
		tbs[5] = asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: set}
	})
	for name, odd := range map[string][]byte{"no NULL": withoutNull, "UniversalString": oddName} {
		if _, err := x509.ParseCertificate(odd); err == nil {
			t.Errorf("%s: crypto/x509 reads it, so that the test shows nothing", name)
		}
		c, err := signature.ParseCertificate(odd)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !key.Equal(c.PublicKey) || !c.NotAfter.Equal(notAfter) || c.Issuer != "CN=RSA 2048,O=Example" {
			t.Errorf("%s: ParseCertificate = %+v", name, c)
		}
		if name == "UniversalString" && c.Subject != "" {
			t.Errorf("%s: Subject = %q, want none", name, c.Subject)
		}
	}

	version4 := reencode(t, der, func(tbs []asn1.RawValue) {
		tbs[0] = asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: []byte{2, 1, 3}}
	})
	_, err := signature.ParseCertificate(version4)
	checkRefusal(t, err, signature.CodeCertificateUnreadable, signature.PropertyCertificate, "unknown version 4")
}

// reencode lets change alter the fields of a certificate's TBSCertificate.
func reencode(t *testing.T, der []byte, change func(tbs []asn1.RawValue)) []byte {
	t.Helper()
	var outer struct {
		TBS       []asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(der, &outer); err != nil {
		t.Fatal(err)
	}
	change(outer.TBS)
	return must(asn1.Marshal(outer))
}

// TestForeignKeys holds that a certificate may be read whose key is refused
// later, with a better reason.
func TestForeignKeys(t *testing.T) {
	if _, ok := certificate(t, "prime256v1.crt").PublicKey.(*ecdsa.PublicKey); !ok {
		t.Errorf("P-256 certificate has no EC key")
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	c, err := signature.ParseCertificate(must(x509.CreateCertificate(rand.Reader, template, template, public, private)))
	if err != nil || !public.Equal(c.PublicKey) {
		t.Errorf("Ed25519 certificate: %v", err)
	}
}

func TestCheckDates(t *testing.T) {
	c, err := signature.ParseCertificate(selfSigned(t, "P-384"))
	if err != nil {
		t.Fatal(err)
	}
	for _, now := range []time.Time{notBefore, notBefore.Add(time.Hour), notAfter} {
		if err := c.CheckDates(now.In(time.FixedZone("", 7*3600))); err != nil {
			t.Errorf("CheckDates(%v) = %v", now, err)
		}
	}
	checkRefusal(t, c.CheckDates(notBefore.Add(-1)), signature.CodeCertificateNotYetValid, signature.PropertyCertificate, "2026-01-02T03:04:05Z")
	checkRefusal(t, c.CheckDates(notAfter.Add(1)), signature.CodeCertificateExpired, signature.PropertyCertificate, "2027-01-02T03:04:05Z")
}

// FuzzParseCertificate checks that what is read as PEM is read alike as DER,
// and that no key that comes out of it breaks a Verifier.
func FuzzParseCertificate(f *testing.F) {
	for _, key := range []string{"RSA 1024", "P-256", "P-384", "P-521"} {
		f.Add(selfSigned(f, key))
	}
	for _, name := range []string{"dsa1024.crt", "compressed.crt", "explicit.crt", "negative.crt", "rsapss.crt", "restricted.crt", "sect409k1.crt", "sectcompressed.crt", "sectexplicit.crt", "trusted.crt"} {
		f.Add(read(f, name))
		block, _ := pem.Decode(read(f, name))
		f.Add(block.Bytes)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := signature.ParseCertificate(data)
		if err != nil {
			var refusal *signature.PropertyError
			if !errors.As(err, &refusal) || refusal.Cure == "" {
				t.Fatalf("ParseCertificate: %v is no refusal with a cure", err)
			}
			return
		}
		again, err := signature.ParseCertificate(c.Raw)
		if err != nil || again.Fingerprint() != c.Fingerprint() || again.Subject != c.Subject {
			t.Errorf("its DER is read as %+v, %v, want %+v", again, err, c)
		}
		again, err = signature.ParseCertificate([]byte(encodePEM("CERTIFICATE", c.Raw)))
		if err != nil || again.Fingerprint() != c.Fingerprint() {
			t.Errorf("its PEM is read as %+v, %v, want %+v", again, err, c)
		}
		c.CheckDates(notBefore)
		for _, keyType := range signature.KeyTypes {
			for _, size := range []int{8, 128, 256} {
				sig := must(asn1.Marshal([]*big.Int{big.NewInt(1), big.NewInt(1)}))
				if keyType == signature.RSAPSS {
					sig = make([]byte, size)
				}
				spec := signature.Spec{Signature: sig, HashMethod: signature.SHA256, KeyType: keyType}
				if err := verify(t, spec, c.PublicKey, image); err == nil && keyType == signature.RSAPSS {
					t.Errorf("zeros verified as a signature by %+v", c.PublicKey)
				}
			}
		}
	})
}

// TestCompressedPoints writes the key of a certificate anew as a compressed
// point, and then damages it.
func TestCompressedPoints(t *testing.T) {
	type keyInfo struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	compress := func(name string, damage func(point []byte)) []byte {
		key := keys()[name].(*ecdsa.PrivateKey)
		point := elliptic.MarshalCompressed(key.Curve, key.X, key.Y)
		damage(point)
		return reencode(t, selfSigned(t, name), func(tbs []asn1.RawValue) {
			var info keyInfo
			must(asn1.Unmarshal(tbs[6].FullBytes, &info))
			info.Key = asn1.BitString{Bytes: point, BitLength: 8 * len(point)}
			tbs[6] = asn1.RawValue{FullBytes: must(asn1.Marshal(info))}
		})
	}
	intact := func([]byte) {}
	for _, name := range []string{"P-384", "P-521"} {
		c, err := signature.ParseCertificate(compress(name, intact))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if !keys()[name].(*ecdsa.PrivateKey).PublicKey.Equal(c.PublicKey) {
			t.Errorf("%s: another key was read", name)
		}
		if err := verify(t, sign(t, keys()[name], signature.SHA384, image), c.PublicKey, image); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, der := range map[string][]byte{
		"other curve":  compress("P-256", intact),
		"out of range": compress("P-384", func(point []byte) { copy(point[1:], bytes.Repeat([]byte{0xff}, 48)) }),
	} {
		_, err := signature.ParseCertificate(der)
		t.Log(name)
		checkRefusal(t, err, signature.CodeKeyUnsupported, signature.PropertyCertificate, "must name its curve")
	}
}

// TestUnsoundBinaryPoints puts points into a certificate that are none of the
// group its key belongs to.
func TestUnsoundBinaryPoints(t *testing.T) {
	block, _ := pem.Decode(read(t, "sect409k1.crt"))
	size := (binarycurve.SECT409K1().BitSize() + 7) / 8
	orderTwo := make([]byte, 1+2*size) // (0, 1)
	orderTwo[0], orderTwo[2*size] = 4, 1
	for name, point := range map[string][]byte{
		"nothing":   {},
		"infinity":  {0},
		"zeros":     append([]byte{4}, make([]byte, 2*size)...),
		"order two": orderTwo,
		"other":     certificate(t, "sect571k1.crt").PublicKey.(*binarycurve.PublicKey).Bytes(),
	} {
		der := reencode(t, block.Bytes, func(tbs []asn1.RawValue) {
			var info struct {
				Algorithm asn1.RawValue
				Key       asn1.BitString
			}
			must(asn1.Unmarshal(tbs[6].FullBytes, &info))
			info.Key = asn1.BitString{Bytes: point, BitLength: 8 * len(point)}
			tbs[6] = asn1.RawValue{FullBytes: must(asn1.Marshal(info))}
		})
		_, err := signature.ParseCertificate(der)
		t.Log(name)
		checkRefusal(t, err, signature.CodeKeyUnsupported, signature.PropertyCertificate, "no point of its curve's group")
	}
}
