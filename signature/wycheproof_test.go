package signature_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/c2sp/wycheproof"

	"github.com/countersign/countersign/signature"
)

// wycheproofFile is the part of Wycheproof's schemas for signatures that is
// needed here.
type wycheproofFile struct {
	TestGroups []struct {
		PublicKeyDer string
		SHA          string
		MGFSHA       string
		Tests        []struct {
			TcID    int
			Comment string
			Flags   []string
			Msg     string
			Sig     string
			Result  string // valid, invalid or acceptable
		}
	}
}

// differences are the cases in which our verdict is not Wycheproof's on purpose,
// by how their comment begins.
var differences = []struct {
	comment, result string
	valid           bool // our verdict
	reason          string
}{
	{"s_len changed to ", "invalid", true,
		"no property of an image names a salt length: cursive demands the longest, newer cryptography libraries take any, and openssl's default has changed"},
	{"Legacy:ASN encoding of r misses leading 0", "acceptable", false,
		"DER has one encoding of a number, and this is not it; cursive refuses it, too"},
}

// TestWycheproof judges Wycheproof's vectors for every key type, curve and hash
// that OpenStack names. It has none for signatures on the SECT curves.
func TestWycheproof(t *testing.T) {
	for _, kind := range []struct {
		keyType signature.KeyType
		files   string
		least   int // tests that there are, at the least
	}{
		{signature.DSA, "dsa_*_sha*_test.json", 1400},
		{signature.SECP384R1, "ecdsa_secp384r1_sha*_test.json", 1400},
		{signature.SECP521R1, "ecdsa_secp521r1_sha512_test.json", 500},
		{signature.RSAPSS, "rsa_pss_*_test.json", 500},
	} {
		t.Run(string(kind.keyType), func(t *testing.T) {
			names, err := fs.Glob(wycheproof.TestVectors, kind.files)
			if err != nil {
				t.Fatal(err)
			}
			judged := 0
			for _, name := range names {
				if !strings.Contains(name, "p1363") { // raw r‖s is no form that OpenStack has
					judged += judgeWycheproof(t, kind.keyType, name)
				}
			}
			if judged < kind.least {
				t.Errorf("%d tests were judged, want %d at least", judged, kind.least)
			}
		})
	}
}

// judgeWycheproof returns how many tests of a file it has judged. Groups with a
// hash that OpenStack does not name are none of them.
func judgeWycheproof(t *testing.T, keyType signature.KeyType, name string) (judged int) {
	t.Helper()
	text, err := fs.ReadFile(wycheproof.TestVectors, name)
	if err != nil {
		t.Fatal(err)
	}
	var file wycheproofFile
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for _, group := range file.TestGroups {
		method := signature.HashMethod(group.SHA)
		if !slices.Contains(signature.HashMethods, method) || group.PublicKeyDer == "" {
			continue
		}
		key, err := x509.ParsePKIXPublicKey(unhex(t, group.PublicKeyDer))
		if err != nil {
			continue // such as id-RSASSA-PSS with parameters: the certificate parser's business
		}
		if rsaKey, ok := key.(*rsa.PublicKey); ok && rsaKey.N.BitLen() < 1024 {
			continue
		}
		for _, test := range group.Tests {
			judged++
			got := verdict(keyType, method, key, unhex(t, test.Sig), unhex(t, test.Msg))
			want := test.Result != "invalid"
			for _, d := range differences {
				if strings.HasPrefix(test.Comment, d.comment) && test.Result == d.result {
					want = d.valid
				}
			}
			if group.MGFSHA != "" && group.MGFSHA != group.SHA {
				want = false // cursive's MGF1 takes the hash that the property names
			}
			if got != want {
				t.Errorf("%s test %d (%s, %v, %s): valid = %v", path.Base(name), test.TcID, test.Comment, test.Flags, test.Result, got)
			}
		}
	}
	return judged
}

// verdict is whether a signature is taken, from the Spec to the end of the data.
func verdict(keyType signature.KeyType, method signature.HashMethod, key any, sig, data []byte) bool {
	v, err := signature.NewVerifier(signature.Spec{Signature: sig, HashMethod: method, KeyType: keyType, CertificateID: "cd7cc675-e573-419c-8fff-33a72734a243"}, key)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, signature.NewReader(bytes.NewReader(data), v))
	return err == nil
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
