package signature_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/countersign/countersign/signature"
)

const certificateID = "8f41c1d6-6d2b-4a0f-9a1e-0c3d5f7b9e21"

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// keys are made once: RSA takes its time.
var keys = sync.OnceValue(func() map[string]crypto.Signer {
	return map[string]crypto.Signer{
		"RSA 1024": must(rsa.GenerateKey(rand.Reader, 1024)),
		"RSA 1025": must(rsa.GenerateKey(rand.Reader, 1025)),
		"RSA 2048": must(rsa.GenerateKey(rand.Reader, 2048)),
		"P-256":    must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)),
		"P-384":    must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)),
		"P-521":    must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)),
	}
})

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func privateKey(t testing.TB, name string) any {
	t.Helper()
	key, err := signature.ParsePrivateKey(read(t, name))
	if err != nil {
		t.Fatalf("ParsePrivateKey(%s): %v", name, err)
	}
	return key
}

func certificate(t testing.TB, name string) *signature.Certificate {
	t.Helper()
	c, err := signature.ParseCertificate(read(t, name))
	if err != nil {
		t.Fatalf("ParseCertificate(%s): %v", name, err)
	}
	return c
}

// sign returns a Spec with the signature of data.
func sign(t testing.TB, key any, method signature.HashMethod, data string) signature.Spec {
	t.Helper()
	sig, keyType, err := signature.Sign(key, method, strings.NewReader(data))
	if err != nil {
		t.Fatalf("Sign: %v", err)
	}
	return signature.Spec{Signature: sig, HashMethod: method, KeyType: keyType, CertificateID: certificateID}
}

// verify returns the error of NewVerifier or of Verify.
func verify(t testing.TB, spec signature.Spec, publicKey any, data string) error {
	t.Helper()
	v, err := signature.NewVerifier(spec, publicKey)
	if err != nil {
		return err
	}
	if _, err := v.Write([]byte(data)); err != nil {
		t.Fatalf("Write: %v", err)
	}
	return v.Verify()
}
