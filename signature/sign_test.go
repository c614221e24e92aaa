package signature_test

import (
	"bytes"
	"crypto"
	"crypto/dsa"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/countersign/countersign/signature"
	"github.com/countersign/countersign/signature/binarycurve"
)

//lint:file-ignore SA1019 DSA keys are read here.

func TestSign(t *testing.T) {
	for _, pair := range keyPairs(t) {
		for _, method := range signature.HashMethods {
			spec := sign(t, pair.private, method, image)
			v, err := signature.NewVerifier(spec, pair.public)
			if err != nil {
				t.Errorf("%s, %s: %v", pair.name, method, err)
				continue
			}
			v.Write([]byte(image))
			if err := v.Verify(); err != nil || v.Caveat() != "" {
				t.Errorf("%s, %s: Verify = %v, Caveat = %q", pair.name, method, err, v.Caveat())
			}
		}
	}
}

func TestSignRefuses(t *testing.T) {
	_, ed25519Key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	even := *keys()["RSA 2048"].(*rsa.PrivateKey)
	even.N = new(big.Int).Lsh(even.N, 1)
	for _, test := range []struct {
		name   string
		key    any
		method signature.HashMethod
		says   string
	}{
		{"P-256", keys()["P-256"], signature.SHA256, "secp384r1"},
		{"Ed25519", ed25519Key, signature.SHA256, "RSA, DSA, or EC"},
		{"nothing", nil, signature.SHA256, "RSA, DSA, or EC"},
		{"public key", keys()["P-384"].Public(), signature.SHA256, "RSA, DSA, or EC"},
		{"no curve", &ecdsa.PrivateKey{}, signature.SHA256, "secp384r1"},
		{"nil SECT", (*binarycurve.PrivateKey)(nil), signature.SHA256, "sect409k1"},
		{"empty SECT", &binarycurve.PrivateKey{}, signature.SHA256, "sect409k1"},
		{"even RSA", &even, signature.SHA256, "private key is an RSA key whose modulus is even"},
		{"empty DSA", &dsa.PrivateKey{}, signature.SHA256, "private key is a DSA key that lacks a number"},
		{"hash method", keys()["P-384"], "sha256", "exactly SHA-256"},
	} {
		sig, _, err := signature.Sign(test.key, test.method, strings.NewReader(image))
		if err == nil || sig != nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("Sign with %s = %x, %v, want an error that says %q", test.name, sig, err, test.says)
		}
	}

	boom := errors.New("boom")
	if _, _, err := signature.Sign(keys()["P-384"], signature.SHA256, iotest.ErrReader(boom)); !errors.Is(err, boom) {
		t.Errorf("Sign of an unreadable image = %v, want %v", err, boom)
	}
}

func TestParsePrivateKey(t *testing.T) {
	for name, key := range keys() {
		if name == "P-256" {
			continue
		}
		pkcs8 := must(x509.MarshalPKCS8PrivateKey(key))
		encodings := map[string][]byte{
			"PKCS#8":            pkcs8,
			"PKCS#8 PEM":        []byte(encodePEM("PRIVATE KEY", pkcs8)),
			"after certificate": []byte(encodePEM("CERTIFICATE", []byte("x")) + encodePEM("PRIVATE KEY", pkcs8)),
			"byte order mark":   []byte("\uFEFF" + encodePEM("PRIVATE KEY", pkcs8)),
		}
		switch key := key.(type) {
		case *rsa.PrivateKey:
			encodings["PKCS#1"] = x509.MarshalPKCS1PrivateKey(key)
			encodings["PKCS#1 PEM"] = []byte(encodePEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key)))
		case *ecdsa.PrivateKey:
			encodings["SEC 1"] = must(x509.MarshalECPrivateKey(key))
			encodings["SEC 1 PEM"] = []byte(encodePEM("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(key))))
		}
		for encoding, data := range encodings {
			parsed, err := signature.ParsePrivateKey(data)
			if err != nil {
				t.Errorf("%s, %s: %v", name, encoding, err)
				continue
			}
			if !parsed.(interface {
				Equal(x crypto.PrivateKey) bool
			}).Equal(key) {
				t.Errorf("%s, %s: another key was read", name, encoding)
			}
		}
	}
}

// TestParseOpenSSLKeys reads the forms that only OpenSSL writes.
func TestParseOpenSSLKeys(t *testing.T) {
	want := certificate(t, "dsa2048.crt").PublicKey.(*dsa.PublicKey)
	for _, name := range []string{"dsa2048.pkcs8.pem", "dsa2048.traditional.pem"} {
		key := privateKey(t, name).(*dsa.PrivateKey)
		if key.Y.Cmp(want.Y) != 0 || key.P.Cmp(want.P) != 0 || key.Q.Cmp(want.Q) != 0 || key.G.Cmp(want.G) != 0 {
			t.Errorf("%s: not the key of its certificate", name)
		}
	}
	key := privateKey(t, "secp384r1.ecparam.pem").(*ecdsa.PrivateKey)
	if !key.PublicKey.Equal(certificate(t, "secp384r1.crt").PublicKey) {
		t.Errorf("secp384r1.ecparam.pem: not the key of its certificate")
	}
	for name, owner := range map[string]string{"sect409k1.pkcs8.pem": "sect409k1.crt", "sect571r1.ecparam.pem": "sect571r1.crt"} {
		key := privateKey(t, name).(*binarycurve.PrivateKey)
		if !key.Public().(*binarycurve.PublicKey).Equal(certificate(t, owner).PublicKey) {
			t.Errorf("%s: not the key of its certificate", name)
		}
	}
}

func TestParsePrivateKeyRefuses(t *testing.T) {
	p256 := must(x509.MarshalPKCS8PrivateKey(keys()["P-256"]))
	_, ed25519Key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224 := must(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))
	sect, _ := pem.Decode(read(t, "sect409k1.pkcs8.pem"))
	otherPublic := bytes.Clone(sect.Bytes)
	otherPublic[len(otherPublic)-1] ^= 1
	type sec1 struct {
		Version int
		Key     []byte
		Curve   asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
	}
	k409 := binarycurve.SECT409K1()
	// wrapped is PKCS#8 around a key that names a curve itself.
	wrapped := func(algorithm, within asn1.ObjectIdentifier) []byte {
		return must(asn1.Marshal(struct {
			Version   int
			Algorithm struct{ ID, Curve asn1.ObjectIdentifier }
			Key       []byte
		}{
			Algorithm: struct{ ID, Curve asn1.ObjectIdentifier }{algorithm, k409.OID()},
			Key:       must(asn1.Marshal(sec1{1, []byte{5}, within})),
		}))
	}
	ecPublicKey := asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	if _, err := signature.ParsePrivateKey(wrapped(ecPublicKey, k409.OID())); err != nil {
		t.Errorf("a curve named twice: %v", err)
	}
	oddRSA := must(asn1.Marshal([]int{0, 15, 3, 3, 3, 5, 1, 1, 2})) // of the shape of PKCS#1
	for _, test := range []struct {
		name string
		data []byte
		says string
	}{
		{"encrypted PKCS#8", read(t, "encrypted.pkcs8.pem"), "openssl pkey"},
		{"encrypted DER", read(t, "encrypted.pkcs8.der"), "openssl pkey"},
		{"encrypted DSA", read(t, "encrypted.traditional.pem"), "openssl pkey"},
		{"OpenSSH", []byte(encodePEM("OPENSSH PRIVATE KEY", []byte("x"))), "ssh-keygen"},
		{"P-256", p256, "secp384r1"},
		{"P-224", must(x509.MarshalECPrivateKey(p224)), "secp384r1"},
		{"Ed25519", must(x509.MarshalPKCS8PrivateKey(ed25519Key)), "RSA, DSA, or EC"},
		{"certificate", read(t, "rsa.crt"), "not a private key"},
		{"odd RSA", oddRSA, "not a private key"},
		{"empty", nil, "not a private key"},
		{"cut", p256[:len(p256)-1], "not a private key"},
		{"trailing byte", append(bytes.Clone(p256), 0), "not a private key"},
		{"sect409k1, explicit", read(t, "sectexplicit.pem"), "not a private key"},
		{"sect409k1, other public key", otherPublic, "sect409k1"},
		{"sect409k1, sect409r1 within", wrapped(ecPublicKey, binarycurve.SECT409R1().OID()), "not usable for images"},
		{"sect409k1, for ECDH", wrapped(asn1.ObjectIdentifier{1, 3, 132, 1, 12}, k409.OID()), "not usable for images"},
		{"sect409k1, zero", must(asn1.Marshal(sec1{1, []byte{0}, k409.OID()})), "not a private key"},
		{"sect409k1, order", must(asn1.Marshal(sec1{1, k409.Order().Bytes(), k409.OID()})), "not a private key"},
		{"sect409k1, version 2", must(asn1.Marshal(sec1{2, []byte{5}, k409.OID()})), "not a private key"},
		{"no curve", must(asn1.Marshal(sec1{Version: 1, Key: []byte{5}})), "not a private key"},
		{"sect283k1", must(asn1.Marshal(sec1{1, []byte{5}, asn1.ObjectIdentifier{1, 3, 132, 0, 16}})), "not a private key"},
		{"small DSA", must(asn1.Marshal([]int{0, 23, 11, 2, 8, 3})), "private key is a DSA key of 5 bits"},
	} {
		key, err := signature.ParsePrivateKey(test.data)
		if err == nil || key != nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("ParsePrivateKey of %s = %T, %v, want an error that says %q", test.name, key, err, test.says)
		}
	}
}

// FuzzParsePrivateKey checks that whatever is taken for a key can sign.
func FuzzParsePrivateKey(f *testing.F) {
	for _, name := range []string{"dsa2048.pkcs8.pem", "dsa2048.traditional.pem", "encrypted.pkcs8.der", "secp384r1.ecparam.pem", "sect409k1.pkcs8.pem", "sect571r1.ecparam.pem"} {
		f.Add(read(f, name))
	}
	f.Add(must(x509.MarshalPKCS8PrivateKey(keys()["RSA 1024"])))
	f.Fuzz(func(t *testing.T, data []byte) {
		key, err := signature.ParsePrivateKey(data)
		if err != nil {
			return
		}
		if _, _, err := signature.Sign(key, signature.SHA256, strings.NewReader(image)); err != nil {
			t.Errorf("Sign with a parsed %T: %v", key, err)
		}
	})
}
