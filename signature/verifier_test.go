package signature_test

//lint:file-ignore SA1019 DSA keys, and hostile EC keys, are made here.

import (
	"bytes"
	"crypto"
	"crypto/dsa"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"fmt"
	"math/big"
	"strings"
	"testing"

	"github.com/countersign/countersign/signature"
	"github.com/countersign/countersign/signature/binarycurve"
)

const image = "the bytes of an image"

type keyPair struct {
	name            string
	private, public any
	other           any // a public key of the same kind that signed nothing
}

func keyPairs(t testing.TB) []keyPair {
	dsa2048 := privateKey(t, "dsa2048.pkcs8.pem").(*dsa.PrivateKey)
	otherDSA := dsa2048.PublicKey
	otherDSA.Y = new(big.Int).Exp(otherDSA.G, big.NewInt(12345), otherDSA.P)
	pairs := []keyPair{{"DSA 2048", dsa2048, &dsa2048.PublicKey, &otherDSA}}
	for name, others := range map[string]crypto.Signer{
		"RSA 1024": must(rsa.GenerateKey(rand.Reader, 1024)),
		"RSA 1025": must(rsa.GenerateKey(rand.Reader, 1025)),
		"RSA 2048": must(rsa.GenerateKey(rand.Reader, 2048)),
		"P-384":    must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		"P-521":    must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)),
	} {
		pairs = append(pairs, keyPair{name, keys()[name], keys()[name].Public(), others.Public()})
	}
	for _, curve := range binarycurve.Curves() {
		key := must(binarycurve.GenerateKey(curve, rand.Reader))
		pairs = append(pairs, keyPair{curve.Name(), key, key.Public(), must(binarycurve.GenerateKey(curve, rand.Reader)).Public()})
	}
	return pairs
}

// TestVerify runs every kind of key with every hash method through what may
// befall a signature.
func TestVerify(t *testing.T) {
	for _, pair := range keyPairs(t) {
		for i, method := range signature.HashMethods {
			t.Run(pair.name+"/"+string(method), func(t *testing.T) {
				spec := sign(t, pair.private, method, image)
				if err := verify(t, spec, pair.public, image); err != nil {
					t.Errorf("valid signature: %v", err)
				}
				for name, data := range map[string]string{
					"flipped":   "\x01" + image[1:],
					"truncated": image[:len(image)-1],
					"extended":  image + "\x00",
					"empty":     "",
				} {
					t.Log(name)
					checkRefusal(t, verify(t, spec, pair.public, data), signature.CodeSignatureMismatch, signature.PropertySignature,
						fmt.Sprintf("%d bytes", len(data)))
				}
				if err := verify(t, spec, pair.other, image); err == nil {
					t.Errorf("verified with another key")
				}
				wrongHash := spec
				wrongHash.HashMethod = signature.HashMethods[(i+1)%len(signature.HashMethods)]
				if err := verify(t, wrongHash, pair.public, image); err == nil {
					t.Errorf("verified as %s", wrongHash.HashMethod)
				}
				for bit := range 8 * len(spec.Signature) {
					if bit%61 != 0 && bit > 40 {
						continue
					}
					flipped := spec
					flipped.Signature = bytes.Clone(spec.Signature)
					flipped.Signature[bit/8] ^= 1 << (bit % 8)
					if err := verify(t, flipped, pair.public, image); err == nil {
						t.Errorf("verified with bit %d of the signature flipped", bit)
					}
				}
			})
		}
	}
}

func TestVerifierKeepsItsVerdict(t *testing.T) {
	spec := sign(t, keys()["P-384"], signature.SHA384, image)
	v, err := signature.NewVerifier(spec, keys()["P-384"].Public())
	if err != nil {
		t.Fatal(err)
	}
	spec.Signature[20] ^= 1 // the Verifier has its own copy
	if v.Digest() != nil || v.Size() != 0 {
		t.Errorf("before data: Digest = %x, Size = %d", v.Digest(), v.Size())
	}
	for _, part := range []string{image[:5], "", image[5:]} {
		if n, err := v.Write([]byte(part)); n != len(part) || err != nil {
			t.Errorf("Write(%q) = %d, %v", part, n, err)
		}
	}
	for range 2 {
		if err := v.Verify(); err != nil {
			t.Errorf("Verify = %v", err)
		}
		if n, err := v.Write([]byte("more")); n != 0 || err == nil {
			t.Errorf("Write after Verify = %d, %v, want an error", n, err)
		}
	}
	want := crypto.SHA384.New()
	want.Write([]byte(image))
	if !bytes.Equal(v.Digest(), want.Sum(nil)) || v.Size() != int64(len(image)) {
		t.Errorf("Digest = %x, Size = %d, want %x, %d", v.Digest(), v.Size(), want.Sum(nil), len(image))
	}

	no, err := signature.NewVerifier(sign(t, keys()["P-384"], signature.SHA384, image), keys()["P-384"].Public())
	if err != nil {
		t.Fatal(err)
	}
	first := no.Verify()
	if n, err := no.Write([]byte(image)); n != 0 || err == nil {
		t.Errorf("Write after Verify = %d, %v, want an error", n, err)
	}
	if again := no.Verify(); first == nil || again != first {
		t.Errorf("Verify = %v, then %v, want the same refusal", first, again)
	}
}

func TestSaltLengths(t *testing.T) {
	const digest = rsa.PSSSaltLengthEqualsHash
	for _, test := range []struct {
		key    string
		method signature.HashMethod
		salt   int
		caveat bool
	}{
		{"RSA 2048", signature.SHA256, 256 - 32 - 2, false},
		{"RSA 2048", signature.SHA256, 256 - 32 - 3, true},
		{"RSA 2048", signature.SHA256, digest, true},
		{"RSA 2048", signature.SHA256, 1, true},
		{"RSA 2048", signature.SHA512, digest, true},
		{"RSA 1024", signature.SHA256, digest, true},
		{"RSA 1024", signature.SHA384, digest, true},
		{"RSA 1024", signature.SHA512, 128 - 64 - 2, false}, // the one pair where OpenSSL's default is the maximum
		{"RSA 1025", signature.SHA256, 128 - 32 - 2, false},
		{"RSA 1025", signature.SHA224, digest, true},
	} {
		key := keys()[test.key].(*rsa.PrivateKey)
		hash := test.method.Hash().New()
		hash.Write([]byte(image))
		sig, err := rsa.SignPSS(rand.Reader, key, test.method.Hash(), hash.Sum(nil), &rsa.PSSOptions{SaltLength: test.salt})
		if err != nil {
			t.Fatal(err)
		}
		v, err := signature.NewVerifier(signature.Spec{Signature: sig, HashMethod: test.method, KeyType: signature.RSAPSS}, &key.PublicKey)
		if err != nil {
			t.Fatal(err)
		}
		v.Write([]byte(image))
		if v.Caveat() != "" {
			t.Errorf("Caveat before Verify = %q", v.Caveat())
		}
		if err := v.Verify(); err != nil {
			t.Errorf("%s, %s, salt %d: %v", test.key, test.method, test.salt, err)
		}
		if got := strings.Contains(v.Caveat(), "-sigopt rsa_pss_saltlen:max"); got != test.caveat || got != (v.Caveat() != "") {
			t.Errorf("%s, %s, salt %d: Caveat = %q, want one: %v", test.key, test.method, test.salt, v.Caveat(), test.caveat)
		}
	}

	key := keys()["RSA 1024"].(*rsa.PrivateKey)
	if _, err := rsa.SignPSS(rand.Reader, key, crypto.SHA512, make([]byte, 64), &rsa.PSSOptions{SaltLength: digest}); err == nil {
		t.Errorf("RSA-1024 had room for a SHA-512 digest and a salt as long")
	}
}

// TestPSSAlone holds that no other RSA signature passes for RSA-PSS.
func TestPSSAlone(t *testing.T) {
	key := keys()["RSA 2048"].(*rsa.PrivateKey)
	hash := crypto.SHA256.New()
	hash.Write([]byte(image))
	sig := must(rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, hash.Sum(nil)))
	spec := signature.Spec{Signature: sig, HashMethod: signature.SHA256, KeyType: signature.RSAPSS}
	checkRefusal(t, verify(t, spec, &key.PublicKey, image), signature.CodeSignatureMismatch, signature.PropertySignature, "sign exactly")

	// RFC 8017 lets MGF1 use another hash; cursive does not, and nor do we.
	spec = signature.Spec{Signature: read(t, "mgf1.sha256.sig"), HashMethod: signature.SHA256, KeyType: signature.RSAPSS}
	checkRefusal(t, verify(t, spec, certificate(t, "mgf1.crt").PublicKey, string(read(t, "image"))),
		signature.CodeSignatureMismatch, signature.PropertySignature, "sign exactly")
}

func TestSignatureForms(t *testing.T) {
	p384 := keys()["P-384"].(*ecdsa.PrivateKey)
	dsaKey := privateKey(t, "dsa2048.pkcs8.pem").(*dsa.PrivateKey)
	rsaKey := keys()["RSA 2048"].(*rsa.PrivateKey)
	type pair struct{ R, S *big.Int }
	der := func(r, s *big.Int) []byte { return must(asn1.Marshal(pair{r, s})) }
	refuse := func(name string, private, public any, order *big.Int, size int) {
		spec := sign(t, private, signature.SHA256, image)
		var rs pair
		must(asn1.Unmarshal(spec.Signature, &rs))
		zero, one := new(big.Int), big.NewInt(1)
		raw := append(rs.R.FillBytes(make([]byte, size)), rs.S.FillBytes(make([]byte, size))...)
		raw[0] = 0x7f // so that it never begins like DER
		content := spec.Signature[bytes.IndexByte(spec.Signature, 2):]
		for _, test := range []struct {
			form string
			sig  []byte
			says string
		}{
			{"empty", nil, "not the DER encoding"},
			{"raw", raw, "P1363"},
			{"trailing byte", append(bytes.Clone(spec.Signature), 0), "1 bytes after the end"},
			{"cut", spec.Signature[:len(spec.Signature)-1], "not the DER encoding"},
			{"long-form length", append([]byte{0x30, 0x81, byte(len(content))}, content...), "DER"},
			{"indefinite length", append(append([]byte{0x30, 0x80}, content...), 0, 0), "DER"},
			{"padded integer", must(asn1.Marshal(struct{ R, S asn1.RawValue }{
				asn1.RawValue{Tag: 2, Bytes: append([]byte{0, 0}, rs.R.Bytes()...)},
				asn1.RawValue{FullBytes: must(asn1.Marshal(rs.S))},
			})), "DER"},
			{"third integer", must(asn1.Marshal(struct{ R, S, T *big.Int }{rs.R, rs.S, one})), "one DER encoding"},
			{"r = 0", der(zero, rs.S), "outside the range"},
			{"s = 0", der(rs.R, zero), "outside the range"},
			{"r < 0", der(new(big.Int).Neg(rs.R), rs.S), "outside the range"},
			{"s < 0", der(rs.R, big.NewInt(-1)), "outside the range"},
			{"r = order", der(order, rs.S), "outside the range"},
			{"s + order", der(rs.R, new(big.Int).Add(rs.S, order)), "outside the range"},
		} {
			malformed := spec
			malformed.Signature = test.sig
			_, err := signature.NewVerifier(malformed, public)
			t.Log(name, test.form)
			checkRefusal(t, err, signature.CodePropertyInvalid, signature.PropertySignature, test.says)
		}
		mismatched := spec
		mismatched.Signature = der(one, one)
		checkRefusal(t, verify(t, mismatched, public, image), signature.CodeSignatureMismatch, signature.PropertySignature, "does not match")
	}
	refuse("ECDSA", p384, &p384.PublicKey, p384.Params().N, 48)
	refuse("DSA", dsaKey, &dsaKey.PublicKey, dsaKey.Q, 32)
	sect := must(binarycurve.GenerateKey(binarycurve.SECT409K1(), rand.Reader))
	refuse("SECT", sect, sect.Public(), sect.Curve().Order(), 51)

	// Of r, s and r, n-s both are right for ECDSA; one of them is high.
	spec := sign(t, p384, signature.SHA256, image)
	var rs pair
	must(asn1.Unmarshal(spec.Signature, &rs))
	spec.Signature = der(rs.R, new(big.Int).Sub(p384.Params().N, rs.S))
	if err := verify(t, spec, &p384.PublicKey, image); err != nil {
		t.Errorf("r, n-s: %v", err)
	}

	for _, length := range []int{0, 1, 255, 257, 512} {
		spec := signature.Spec{Signature: make([]byte, length), HashMethod: signature.SHA256, KeyType: signature.RSAPSS}
		_, err := signature.NewVerifier(spec, &rsaKey.PublicKey)
		checkRefusal(t, err, signature.CodePropertyInvalid, signature.PropertySignature, "2048-bit RSA key have 256")
	}
}

func TestKeyTypeMismatch(t *testing.T) {
	public := map[string]any{
		"DSA":     certificate(t, "dsa2048.crt").PublicKey,
		"K-409":   certificate(t, "sect409k1.crt").PublicKey,
		"B-571":   certificate(t, "sect571r1.crt").PublicKey,
		"Ed25519": ed25519.PublicKey(make([]byte, 32)),
		"nothing": nil,
		"private": keys()["P-384"],
	}
	for name, key := range keys() {
		public[name] = key.Public()
	}
	for _, test := range []struct {
		keyType signature.KeyType
		key     string
		says    string
	}{
		{signature.RSAPSS, "DSA", "holds a DSA key"},
		{signature.RSAPSS, "P-384", "set img_signature_key_type to ECC_SECP384R1"},
		{signature.RSAPSS, "Ed25519", "holds an Ed25519 key"},
		{signature.RSAPSS, "nothing", "a key of another kind"},
		{signature.DSA, "RSA 2048", "set img_signature_key_type to RSA-PSS"},
		{signature.DSA, "P-521", "on curve P-521"},
		{signature.DSA, "private", "a key of another kind"},
		{signature.SECP384R1, "P-521", "set img_signature_key_type to ECC_SECP521R1"},
		{signature.SECP384R1, "P-256", "holds an EC key on curve P-256"},
		{signature.SECP384R1, "RSA 2048", "holds an RSA key"},
		{signature.SECP384R1, "K-409", "set img_signature_key_type to ECC_SECT409K1"},
		{signature.SECT409R1, "K-409", "holds an EC key on curve sect409k1"},
		{signature.SECT571K1, "B-571", "set img_signature_key_type to ECC_SECT571R1"},
		{signature.SECT571R1, "P-521", "set img_signature_key_type to ECC_SECP521R1"},
		{signature.SECT571R1, "nothing", "a key of another kind"},
		{signature.SECP521R1, "P-384", "set img_signature_key_type to ECC_SECP384R1"},
		{signature.SECP521R1, "DSA", "set img_signature_key_type to DSA"},
		{signature.SECP521R1, "private", "a key of another kind"},
	} {
		_, err := signature.NewVerifier(signature.Spec{Signature: []byte{1}, HashMethod: signature.SHA256, KeyType: test.keyType}, public[test.key])
		checkRefusal(t, err, signature.CodeKeyTypeMismatch, signature.PropertyKeyType, test.says)
	}
}

// TestHandmadeSpec holds that NewVerifier does not rely on Parse.
func TestHandmadeSpec(t *testing.T) {
	key := keys()["P-384"].Public()
	for _, test := range []struct {
		spec     signature.Spec
		code     signature.Code
		property string
	}{
		{signature.Spec{}, signature.CodePropertyInvalid, signature.PropertyHashMethod},
		{signature.Spec{HashMethod: "SHA-1"}, signature.CodePropertyInvalid, signature.PropertyHashMethod},
		{signature.Spec{HashMethod: signature.SHA256}, signature.CodePropertyInvalid, signature.PropertyKeyType},
		{signature.Spec{HashMethod: signature.SHA256, KeyType: "rsa-pss"}, signature.CodePropertyInvalid, signature.PropertyKeyType},
		{signature.Spec{HashMethod: signature.SHA256, KeyType: "ECC_SECT283K1"}, signature.CodePropertyInvalid, signature.PropertyKeyType},
		{signature.Spec{HashMethod: signature.SHA256, KeyType: signature.SECT571R1}, signature.CodeKeyTypeMismatch, signature.PropertyKeyType},
	} {
		v, err := signature.NewVerifier(test.spec, key)
		if v != nil {
			t.Errorf("NewVerifier(%+v) is not nil", test.spec)
		}
		checkRefusal(t, err, test.code, test.property, "")
	}
}

func TestHostileKeys(t *testing.T) {
	good := privateKey(t, "dsa2048.pkcs8.pem").(*dsa.PrivateKey).PublicKey
	changed := func(change func(k *dsa.PublicKey)) *dsa.PublicKey {
		k := good
		change(&k)
		return &k
	}
	small := changed(func(k *dsa.PublicKey) { k.P = new(big.Int).Rsh(k.P, 1536) })
	n := keys()["RSA 2048"].(*rsa.PrivateKey).N
	huge := new(big.Int).SetBit(big.NewInt(1), 16384, 1)
	for _, test := range []struct {
		name    string
		keyType signature.KeyType
		key     any
		code    signature.Code
	}{
		{"nil RSA", signature.RSAPSS, (*rsa.PublicKey)(nil), signature.CodeKeyUnsupported},
		{"no modulus", signature.RSAPSS, &rsa.PublicKey{E: 65537}, signature.CodeKeyUnsupported},
		{"negative modulus", signature.RSAPSS, &rsa.PublicKey{N: new(big.Int).Neg(n), E: 65537}, signature.CodeKeyUnsupported},
		{"small modulus", signature.RSAPSS, &rsa.PublicKey{N: new(big.Int).Rsh(n, 1025), E: 65537}, signature.CodeKeyTooSmall},
		{"even modulus", signature.RSAPSS, &rsa.PublicKey{N: new(big.Int).Lsh(n, 1), E: 65537}, signature.CodeKeyUnsupported},
		{"huge modulus", signature.RSAPSS, &rsa.PublicKey{N: huge, E: 65537}, signature.CodeKeyUnsupported},
		{"e = 0", signature.RSAPSS, &rsa.PublicKey{N: n}, signature.CodeKeyUnsupported},
		{"e = 1", signature.RSAPSS, &rsa.PublicKey{N: n, E: 1}, signature.CodeKeyUnsupported},
		{"e even", signature.RSAPSS, &rsa.PublicKey{N: n, E: 65536}, signature.CodeKeyUnsupported},
		{"e long", signature.RSAPSS, &rsa.PublicKey{N: n, E: 1<<31 + 1}, signature.CodeKeyUnsupported},
		{"e negative", signature.RSAPSS, &rsa.PublicKey{N: n, E: -3}, signature.CodeKeyUnsupported},

		{"nil DSA", signature.DSA, (*dsa.PublicKey)(nil), signature.CodeKeyUnsupported},
		{"no numbers", signature.DSA, &dsa.PublicKey{}, signature.CodeKeyUnsupported},
		{"p = 0", signature.DSA, changed(func(k *dsa.PublicKey) { k.P = new(big.Int) }), signature.CodeKeyUnsupported},
		{"p of 512 bits", signature.DSA, small, signature.CodeKeyTooSmall},
		{"p even", signature.DSA, changed(func(k *dsa.PublicKey) { k.P = new(big.Int).Add(k.P, big.NewInt(1)) }), signature.CodeKeyUnsupported},
		{"p long", signature.DSA, changed(func(k *dsa.PublicKey) { k.P = huge }), signature.CodeKeyUnsupported},
		{"q = 0", signature.DSA, changed(func(k *dsa.PublicKey) { k.Q = new(big.Int) }), signature.CodeKeyUnsupported},
		{"q = 1", signature.DSA, changed(func(k *dsa.PublicKey) { k.Q = big.NewInt(1) }), signature.CodeKeyUnsupported},
		{"q no divisor", signature.DSA, changed(func(k *dsa.PublicKey) { k.Q = new(big.Int).Sub(k.Q, big.NewInt(2)) }), signature.CodeKeyUnsupported},
		{"g = 1", signature.DSA, changed(func(k *dsa.PublicKey) { k.G = big.NewInt(1) }), signature.CodeKeyUnsupported},
		{"g = 2", signature.DSA, changed(func(k *dsa.PublicKey) { k.G = big.NewInt(2) }), signature.CodeKeyUnsupported},
		{"g negative", signature.DSA, changed(func(k *dsa.PublicKey) { k.G = new(big.Int).Neg(k.G) }), signature.CodeKeyUnsupported},
		{"y = 0", signature.DSA, changed(func(k *dsa.PublicKey) { k.Y = new(big.Int) }), signature.CodeKeyUnsupported},
		{"y = 1", signature.DSA, changed(func(k *dsa.PublicKey) { k.Y = big.NewInt(1) }), signature.CodeKeyUnsupported},
		{"y = p", signature.DSA, changed(func(k *dsa.PublicKey) { k.Y = k.P }), signature.CodeKeyUnsupported},

		{"nil SECT", signature.SECT409K1, (*binarycurve.PublicKey)(nil), signature.CodeKeyTypeMismatch},
		{"empty SECT", signature.SECT409K1, new(binarycurve.PublicKey), signature.CodeKeyTypeMismatch},
		{"nil EC", signature.SECP384R1, (*ecdsa.PublicKey)(nil), signature.CodeKeyTypeMismatch},
		{"no curve", signature.SECP384R1, &ecdsa.PublicKey{}, signature.CodeKeyTypeMismatch},
		{"no point", signature.SECP384R1, &ecdsa.PublicKey{Curve: elliptic.P384()}, signature.CodeKeyUnsupported},
		{"infinity", signature.SECP384R1, &ecdsa.PublicKey{Curve: elliptic.P384(), X: new(big.Int), Y: new(big.Int)}, signature.CodeKeyUnsupported},
		{"off the curve", signature.SECP384R1, &ecdsa.PublicKey{Curve: elliptic.P384(), X: big.NewInt(1), Y: big.NewInt(2)}, signature.CodeKeyUnsupported},
		{"negative", signature.SECP521R1, &ecdsa.PublicKey{Curve: elliptic.P521(), X: big.NewInt(-1), Y: huge}, signature.CodeKeyUnsupported},
	} {
		t.Run(test.name, func(t *testing.T) {
			property := signature.PropertyCertificate
			if test.code == signature.CodeKeyTypeMismatch {
				property = signature.PropertyKeyType
			}
			_, err := signature.NewVerifier(signature.Spec{Signature: []byte{1}, HashMethod: signature.SHA256, KeyType: test.keyType}, test.key)
			checkRefusal(t, err, test.code, property, "")
		})
	}
}

// FuzzVerifier checks that no bytes but a right signature verify, and that
// none break the verifier.
func FuzzVerifier(f *testing.F) {
	pairs := keyPairs(f)
	specs := make([]signature.Spec, len(pairs))
	for i, pair := range pairs {
		spec := sign(f, pair.private, signature.SHA256, image)
		specs[i] = spec
		f.Add(uint8(i), spec.Signature)
		f.Add(uint8(i), spec.Signature[:len(spec.Signature)-1])
		f.Add(uint8(i), append(bytes.Clone(spec.Signature), 0))
	}
	f.Fuzz(func(t *testing.T, i uint8, sig []byte) {
		pair, spec := pairs[int(i)%len(pairs)], specs[int(i)%len(pairs)]
		spec.Signature = sig
		// The data is another than was signed for the seeds.
		if err := verify(t, spec, pair.public, "other bytes"); err == nil {
			t.Errorf("%s: %x verified", pair.name, sig)
		}
	})
}
