//go:build e2e

package e2e_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
)

// signer is somebody with a key and a certificate of her own making. She
// signs with the standard library, so that nothing of ours vouches for itself.
type signer struct {
	t           *testing.T
	key         *rsa.PrivateKey
	certificate []byte // PEM
}

// newSigner has a certificate that was valid from an hour ago and is until
// lifetime from now.
func newSigner(t *testing.T, lifetime time.Duration) *signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		Subject:      pkix.Name{CommonName: t.Name()},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(lifetime),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{t, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// sign is the signature over data in base64: RSA-PSS, SHA-256, the longest
// salt, which every release of Glance accepts.
func (s *signer) sign(data []byte) string {
	s.t.Helper()
	digest := sha256.Sum256(data)
	signature, err := rsa.SignPSS(rand.Reader, s.key, crypto.SHA256, digest[:], &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto})
	if err != nil {
		s.t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(signature)
}

// properties are the four that make an image signed.
func (s *signer) properties(data []byte, certificateID string) map[string]string {
	s.t.Helper()
	return map[string]string{
		"img_signature":                  s.sign(data),
		"img_signature_hash_method":      "SHA-256",
		"img_signature_key_type":         "RSA-PSS",
		"img_signature_certificate_uuid": certificateID,
	}
}

// createSigned makes a queued image with a good signature over data, by a
// signer whose certificate the user keeps at Barbican.
func createSigned(c *client, data []byte) image {
	c.t.Helper()
	s := newSigner(c.t, time.Hour)
	return c.create(s.properties(data, c.secret(s.certificate)))
}

// pixels are n bytes that are no known image format and compress badly.
func pixels(t *testing.T, n int) []byte {
	t.Helper()
	data := make([]byte, n)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	return data
}
