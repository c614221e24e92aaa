package signature_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"strings"
	"time"

	"github.com/countersign/countersign/signature"
)

// An image is signed, its properties are set, and its data is verified on the
// way to Glance: once as it was signed, and once changed.
func Example() {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	image := strings.Repeat("image data ", 10_000)
	sig, keyType, err := signature.Sign(key, signature.SHA256, strings.NewReader(image))
	if err != nil {
		log.Fatal(err)
	}
	properties := map[string]string{
		signature.PropertySignature:   base64.StdEncoding.EncodeToString(sig),
		signature.PropertyHashMethod:  string(signature.SHA256),
		signature.PropertyKeyType:     string(keyType),
		signature.PropertyCertificate: "8F41C1D66D2B4A0F9A1E0C3D5F7B9E21",
	}

	spec, err := signature.Parse(properties)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("certificate", spec.CertificateID)
	certificate, err := signature.ParseCertificate(keyManager(key))
	if err != nil {
		log.Fatal(err)
	}
	if err := certificate.CheckDates(time.Now()); err != nil {
		log.Fatal(err)
	}
	for _, body := range []string{image, strings.Replace(image, "data", "DATA", 1)} {
		verifier, err := signature.NewVerifier(spec, certificate.PublicKey)
		if err != nil {
			log.Fatal(err)
		}
		var glance bytes.Buffer
		_, err = io.Copy(&glance, signature.NewReader(strings.NewReader(body), verifier))
		switch {
		default:
			log.Fatal(err)
		case err == nil:
			fmt.Println("verified, complete:", glance.String() == body)
		case errors.Is(err, signature.ErrMismatch):
			fmt.Println("refused, complete:", glance.Len() == len(body))
		}
	}
	// Output:
	// certificate 8f41c1d6-6d2b-4a0f-9a1e-0c3d5f7b9e21
	// verified, complete: true
	// refused, complete: false
}

// keyManager returns the certificate as Barbican would.
func keyManager(key *ecdsa.PrivateKey) []byte {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		log.Fatal(err)
	}
	return der
}

func ExampleParse() {
	_, err := signature.Parse(map[string]string{
		signature.PropertySignature:   "c2lnbmF0dXJl",
		signature.PropertyHashMethod:  "sha256",
		signature.PropertyKeyType:     "RSA-PSS",
		signature.PropertyCertificate: "8f41c1d6-6d2b-4a0f-9a1e-0c3d5f7b9e21",
	})
	var refusal *signature.PropertyError
	if errors.As(err, &refusal) {
		fmt.Println(refusal)
		fmt.Println(refusal.Cure)
	}
	// Output:
	// img_signature_hash_method: is "sha256", which must be written exactly SHA-256
	// set it to SHA-256
}
