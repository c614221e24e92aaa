package signature_test

import (
	"testing"

	"github.com/countersign/countersign/signature"
)

// TestOpenSSL verifies what OpenSSL 3 has signed; testdata/make.sh shows how.
func TestOpenSSL(t *testing.T) {
	for _, test := range []struct {
		certificate, signature string
		method                 signature.HashMethod
		keyType                signature.KeyType
		caveat                 bool
	}{
		{"rsa.crt", "rsa.sha256.sig", signature.SHA256, signature.RSAPSS, false}, // salt max
		{"rsa.crt", "rsa.sha512.sig", signature.SHA512, signature.RSAPSS, true},  // salt digest
		{"rsa.crt", "rsa.sha224.sig", signature.SHA224, signature.RSAPSS, true},  // salt 0
		{"rsapss.crt", "rsapss.sha256.sig", signature.SHA256, signature.RSAPSS, false},
		{"dsa1024.crt", "dsa1024.sha224.sig", signature.SHA224, signature.DSA, false},
		{"dsa1024.crt", "dsa1024.sha256.sig", signature.SHA256, signature.DSA, false},
		{"dsa1024.crt", "dsa1024.sha384.sig", signature.SHA384, signature.DSA, false},
		{"dsa1024.crt", "dsa1024.sha512.sig", signature.SHA512, signature.DSA, false},
		{"dsa2048.crt", "dsa2048.sha224.sig", signature.SHA224, signature.DSA, false},
		{"dsa2048.crt", "dsa2048.sha256.sig", signature.SHA256, signature.DSA, false},
		{"dsa2048.crt", "dsa2048.sha384.sig", signature.SHA384, signature.DSA, false},
		{"dsa2048.crt", "dsa2048.sha512.sig", signature.SHA512, signature.DSA, false},
		{"secp384r1.crt", "secp384r1.sha384.sig", signature.SHA384, signature.SECP384R1, false},
		{"secp521r1.crt", "secp521r1.sha512.sig", signature.SHA512, signature.SECP521R1, false},
		{"sect409k1.crt", "sect409k1.sha512.sig", signature.SHA512, signature.SECT409K1, false},
		{"sect409r1.crt", "sect409r1.sha384.sig", signature.SHA384, signature.SECT409R1, false},
		{"sect409r1.crt", "sect409r1.sha512.sig", signature.SHA512, signature.SECT409R1, false},
		{"sect571k1.crt", "sect571k1.sha224.sig", signature.SHA224, signature.SECT571K1, false},
		{"sect571r1.crt", "sect571r1.sha256.sig", signature.SHA256, signature.SECT571R1, false},
		{"sectcompressed.crt", "sect571r1.sha256.sig", signature.SHA256, signature.SECT571R1, false},
	} {
		data := read(t, "image")
		spec := signature.Spec{Signature: read(t, test.signature), HashMethod: test.method, KeyType: test.keyType}
		v, err := signature.NewVerifier(spec, certificate(t, test.certificate).PublicKey)
		if err != nil {
			t.Errorf("%s: %v", test.signature, err)
			continue
		}
		v.Write(data)
		if err := v.Verify(); err != nil || (v.Caveat() != "") != test.caveat {
			t.Errorf("%s: Verify = %v, Caveat = %q, want one: %v", test.signature, err, v.Caveat(), test.caveat)
		}

		data[0] ^= 1
		if err := verify(t, spec, certificate(t, test.certificate).PublicKey, string(data)); err == nil {
			t.Errorf("%s: verified over other data", test.signature)
		}
	}
}
