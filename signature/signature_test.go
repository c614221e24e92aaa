package signature_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/countersign/countersign/signature"
)

func properties(edits ...string) map[string]string {
	p := map[string]string{
		signature.PropertySignature:   "c2lnbmF0dXJlIQ==",
		signature.PropertyHashMethod:  "SHA-256",
		signature.PropertyKeyType:     "RSA-PSS",
		signature.PropertyCertificate: certificateID,
	}
	for edit := range slices.Chunk(edits, 2) {
		p[edit[0]] = edit[1]
	}
	return p
}

func TestParse(t *testing.T) {
	for _, method := range signature.HashMethods {
		for _, keyType := range signature.KeyTypes {
			spec, err := signature.Parse(properties(
				signature.PropertyHashMethod, string(method),
				signature.PropertyKeyType, string(keyType),
				"os_distro", "debian"))
			if err != nil {
				t.Errorf("Parse with %s and %s: %v", method, keyType, err)
				continue
			}
			if string(spec.Signature) != "signature!" || spec.HashMethod != method ||
				spec.KeyType != keyType || spec.CertificateID != certificateID {
				t.Errorf("Parse with %s and %s = %+v", method, keyType, spec)
			}
		}
	}
}

func TestParseUnsigned(t *testing.T) {
	for _, p := range []map[string]string{nil, {}, {"os_distro": "debian", "IMG_SIGNATURE": "x", "img_signature_uuid": "x"}} {
		if _, err := signature.Parse(p); !errors.Is(err, signature.ErrUnsigned) {
			t.Errorf("Parse(%v) = %v, want ErrUnsigned", p, err)
		}
	}
}

func TestParseMissing(t *testing.T) {
	// Every choice of one to three properties.
	for mask := 1; mask < 15; mask++ {
		p := properties()
		var missing []string
		for i, name := range signature.Properties {
			if mask&(1<<i) != 0 {
				delete(p, name)
				missing = append(missing, name)
			}
		}
		_, err := signature.Parse(p)
		checkRefusal(t, err, signature.CodePropertyMissing, missing[0], "is missing")
		for _, name := range missing {
			checkRefusal(t, err, signature.CodePropertyMissing, missing[0], name)
		}
		for name := range maps.Keys(p) {
			if strings.Contains(err.Error()+" ", name+" ") || strings.Contains(err.Error(), name+",") {
				t.Errorf("Parse without %v: %q names %s, which is there", missing, err, name)
			}
		}
	}
}

func TestParseSignature(t *testing.T) {
	for _, test := range []struct{ value, want string }{
		{"AA==", "\x00"},
		{" A\tA\r\n=\n= ", "\x00"},
		{"+/+/", "\xfb\xff\xbf"},
		{"QUI=", "AB"},
	} {
		spec, err := signature.Parse(properties(signature.PropertySignature, test.value))
		if err != nil || string(spec.Signature) != test.want {
			t.Errorf("signature %q = %q, %v, want %q", test.value, spec.Signature, err, test.want)
		}
	}

	longest := bytes.Repeat([]byte{7}, 16<<10)
	spec, err := signature.Parse(properties(signature.PropertySignature, base64.StdEncoding.EncodeToString(longest)))
	if err != nil || !bytes.Equal(spec.Signature, longest) {
		t.Errorf("signature of 16 KiB: %d bytes, %v", len(spec.Signature), err)
	}

	for _, test := range []struct{ value, says string }{
		{"", "is empty"},
		{" \n", "is empty"},
		{"QUI", "3 characters of base64"},
		{"QUI==", "not a multiple of 4"},
		{"Q===", "3 padding characters"},
		{"====", "4 padding characters"},
		{"=QUI", `'Q' at position 2, after the padding`},
		{"QUI=QUI=", `'Q' at position 5, after the padding`},
		{"QU!I", `'!' at position 3`},
		{"QU\x00I", `'\x00' at position 3`},
		{"QU\vI", `'\v' at position 3`},
		{"Q\né!", `'é' at position 3`},
		{"QU\u00a0I", `'\u00a0' at position 3`},
		{"QU\xffI", `'�' at position 3`},
		{"QU-I", "URL-safe"},
		{"QU_I", "URL-safe"},
		{"QUJ=", "stray bits"},
		{"QR==", "stray bits"},
		{"b'QUI='", "countersign sign"},
		{`b"QUI="`, "Python bytes literal"},
		{strings.Repeat("A", 32<<10), "too long"},
		{strings.Repeat("A", 21848) + "A", "too long"},
	} {
		_, err := signature.Parse(properties(signature.PropertySignature, test.value))
		checkRefusal(t, err, signature.CodePropertyInvalid, signature.PropertySignature, test.says)
	}
}

func TestParseHashMethod(t *testing.T) {
	for _, test := range []struct{ value, says string }{
		{"", "is empty"},
		{"sha256", "exactly SHA-256"},
		{"SHA256", "exactly SHA-256"},
		{"SHA-256 ", "exactly SHA-256"},
		{"SHA2-512", "exactly SHA-512"},
		{"sha_384", "exactly SHA-384"},
		{"SHA-1", "one of SHA-224, SHA-256, SHA-384, SHA-512"},
		{"MD5", "is not the name of a hash method"},
		{"SHA3-256", "is not the name of a hash method"},
		{"SHA-512/256", "is not the name of a hash method"},
		{"SHA-256\x1b[2J", `\x1b[2J`},
	} {
		_, err := signature.Parse(properties(signature.PropertyHashMethod, test.value))
		checkRefusal(t, err, signature.CodePropertyInvalid, signature.PropertyHashMethod, test.says)
	}
}

func TestParseKeyType(t *testing.T) {
	const all = "one of RSA-PSS, DSA, ECC_SECT571K1, ECC_SECT409K1, ECC_SECT571R1, ECC_SECT409R1, ECC_SECP521R1, ECC_SECP384R1"
	for _, test := range []struct{ value, says string }{
		{"", "is empty"},
		{"RSA", "exactly RSA-PSS"},
		{"rsa-pss", "exactly RSA-PSS"},
		{"RSA_PSS", "exactly RSA-PSS"},
		{" RSA-PSS", "exactly RSA-PSS"},
		{"dsa", "exactly DSA"},
		{"DSS", "exactly DSA"},
		{"ECDSA-P384", "exactly ECC_SECP384R1"},
		{"SECP384R1", "exactly ECC_SECP384R1"},
		{"ECC-SECP384R1", "exactly ECC_SECP384R1"},
		{"P-521", "exactly ECC_SECP521R1"},
		{"SECT571K1", "exactly ECC_SECT571K1"},
		{"ecc_sect409r1", "exactly ECC_SECT409R1"},
		{"K-409", "exactly ECC_SECT409K1"},
		{"B571", "exactly ECC_SECT571R1"},
		{"NIST B-571", "exactly ECC_SECT571R1"},
		{"sect283k1", all},
		{"ECC-CURVES", all},
		{"ECC", all},
		{"ECDSA", all},
		{"ED25519", all},
		{"ECC_SECP256R1", all},
		{strings.Repeat("é", 500), "é\"…"},
	} {
		_, err := signature.Parse(properties(signature.PropertyKeyType, test.value))
		checkRefusal(t, err, signature.CodePropertyInvalid, signature.PropertyKeyType, test.says)
		if len(err.Error()) > 300 {
			t.Errorf("key type of %d bytes: the error has %d", len(test.value), len(err.Error()))
		}
	}
}

func TestParseCertificateID(t *testing.T) {
	for _, value := range []string{
		certificateID,
		strings.ToUpper(certificateID),
		strings.ReplaceAll(certificateID, "-", ""),
		strings.ToUpper(strings.ReplaceAll(certificateID, "-", "")),
	} {
		spec, err := signature.Parse(properties(signature.PropertyCertificate, value))
		if err != nil || spec.CertificateID != certificateID {
			t.Errorf("certificate %q = %q, %v, want %q", value, spec.CertificateID, err, certificateID)
		}
	}

	for _, test := range []struct{ value, says string }{
		{"", "is empty"},
		{"zzz", "not a UUID"},
		{"../containers", "not a UUID"},
		{"https://barbican.example/v1/secrets/" + certificateID, "set it to " + certificateID},
		{"x/" + strings.ToUpper(certificateID), "set it to " + certificateID},
		{"https://barbican.example/v1/secrets/" + certificateID + "/", "not a UUID"},
		{" " + certificateID + "\n", "blanks around it"},
		{"{" + certificateID + "}", "not a UUID"},
		{"urn:uuid:" + certificateID, "not a UUID"},
		{certificateID[:35], "not a UUID"},
		{certificateID + "0", "not a UUID"},
		{strings.Replace(certificateID, "-", "", 1), "not a UUID"},
		{strings.Replace(certificateID, "8f41", "8f4-", 1), "not a UUID"},
		{strings.Replace(certificateID, "8f41", "8g41", 1), "not a UUID"},
	} {
		_, err := signature.Parse(properties(signature.PropertyCertificate, test.value))
		checkRefusal(t, err, signature.CodePropertyInvalid, signature.PropertyCertificate, test.says)
	}
}

// FuzzParse checks that what parses says the same when written anew.
func FuzzParse(f *testing.F) {
	f.Add("AA==", "SHA-256", "RSA-PSS", certificateID)
	f.Add("b'AA=='", "sha256", "SECT409K1", "https://x/"+certificateID)
	f.Add("A\nA = =", "SHA-512", "ECC_SECP384R1", strings.ReplaceAll(certificateID, "-", ""))
	f.Fuzz(func(t *testing.T, sig, hashMethod, keyType, id string) {
		spec, err := signature.Parse(map[string]string{
			signature.PropertySignature:   sig,
			signature.PropertyHashMethod:  hashMethod,
			signature.PropertyKeyType:     keyType,
			signature.PropertyCertificate: id,
		})
		if err != nil {
			var refusal *signature.PropertyError
			if !errors.As(err, &refusal) || refusal.Cure == "" {
				t.Fatalf("Parse: %v is no refusal with a cure", err)
			}
			if strings.ContainsAny(err.Error()+refusal.Cure, "\r\n\x00\x1b") {
				t.Fatalf("Parse: %q has control characters", err)
			}
			return
		}
		encoded := base64.StdEncoding.EncodeToString(spec.Signature)
		if stripped := strings.Join(strings.FieldsFunc(sig, func(r rune) bool { return strings.ContainsRune(" \t\r\n", r) }), ""); stripped != encoded {
			t.Errorf("signature %q was read as %q", sig, encoded)
		}
		again, err := signature.Parse(map[string]string{
			signature.PropertySignature:   encoded,
			signature.PropertyHashMethod:  string(spec.HashMethod),
			signature.PropertyKeyType:     string(spec.KeyType),
			signature.PropertyCertificate: spec.CertificateID,
		})
		if err != nil || !bytes.Equal(again.Signature, spec.Signature) || again.CertificateID != spec.CertificateID {
			t.Errorf("Parse of %+v = %+v, %v", spec, again, err)
		}
	})
}
