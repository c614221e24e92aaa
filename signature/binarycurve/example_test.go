package binarycurve_test

import (
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"log"

	"github.com/countersign/countersign/signature/binarycurve"
)

func Example() {
	private, err := binarycurve.GenerateKey(binarycurve.SECT571R1(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	digest := sha256.Sum256([]byte("image data"))
	r, s, err := binarycurve.Sign(rand.Reader, private, digest[:])
	if err != nil {
		log.Fatal(err)
	}

	point := private.Public().(*binarycurve.PublicKey).Bytes() // as a certificate has it
	key, err := binarycurve.ParsePoint(binarycurve.SECT571R1(), point)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(binarycurve.Verify(key, digest[:], r, s))
	digest[0] ^= 1
	fmt.Println(binarycurve.Verify(key, digest[:], r, s))
	// Output:
	// true
	// false
}
