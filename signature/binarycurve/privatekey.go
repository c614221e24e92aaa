package binarycurve

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"math/big"
)

// A PrivateKey signs. The zero value is no key.
type PrivateKey struct {
	public PublicKey
	d      *big.Int // 0 < d < n
}

// GenerateKey makes a key from random, which has to be crypto/rand.Reader save
// in tests: FIPS 186-4, appendix B.4.2.
func GenerateKey(curve *Curve, random io.Reader) (*PrivateKey, error) {
	if curve == nil {
		return nil, errors.New("key is on no curve")
	}
	d, err := curve.draw(random)
	if err != nil {
		return nil, err
	}
	return NewPrivateKey(curve, d)
}

// NewPrivateKey returns the key of the secret number d, which must be greater
// than 0 and less than the order of the curve.
func NewPrivateKey(curve *Curve, d *big.Int) (*PrivateKey, error) {
	if curve == nil {
		return nil, errors.New("key is on no curve")
	}
	if d == nil || d.Sign() <= 0 || d.Cmp(curve.n) >= 0 {
		return nil, fmt.Errorf("private key on %s is out of range", curve.name)
	}
	return &PrivateKey{
		public: PublicKey{curve, curve.multiplyGenerator(d)},
		d:      new(big.Int).Set(d),
	}, nil
}

// Public returns the *PublicKey.
func (k *PrivateKey) Public() crypto.PublicKey {
	public := k.public
	return &public
}

// Curve returns the curve of the key.
func (k *PrivateKey) Curve() *Curve { return k.public.curve }

// Bytes returns the secret number in as many big-endian bytes as the order
// has: the privateKey of ECPrivateKey in SEC 1, appendix C.4.
func (k *PrivateKey) Bytes() []byte {
	return k.d.FillBytes(make([]byte, (k.public.curve.n.BitLen()+7)/8))
}

// Sign returns an ECDSA signature of the digest: FIPS 186-4, section 6.4. The
// digest is cut as Verify does it.
//
// The secret number of each signature is drawn from random anew, uniformly and
// by rejection (FIPS 186-4, appendix B.5.2); random has to be
// crypto/rand.Reader save in tests, since whoever can tell that number has the
// key. The number of steps depends neither on it nor on the key, and the
// arithmetic modulo the order is blinded. The arithmetic in the field is not
// constant time: caches and timing tell something to others on the same
// machine.
func Sign(random io.Reader, key *PrivateKey, digest []byte) (r, s *big.Int, err error) {
	if key == nil || key.d == nil {
		return nil, nil, errors.New("no private key")
	}
	c := key.public.curve
	for {
		k, err := c.draw(random)
		if err != nil {
			return nil, nil, err
		}
		blind, err := c.draw(random)
		if err != nil {
			return nil, nil, err
		}
		p := c.multiplyGenerator(k)
		r := c.fromX(&p)
		// s = (digest + r·d) / k, with both sides of the fraction times blind.
		numerator := new(big.Int).Mul(blind, key.d)
		numerator.Mod(numerator, c.n).Mul(numerator, r)
		s := new(big.Int).Mul(blind, c.fromDigest(digest))
		s.Add(s, numerator)
		k.Mul(k, blind).Mod(k, c.n)
		s.Mul(s, k.ModInverse(k, c.n)).Mod(s, c.n)
		if r.Sign() > 0 && s.Sign() > 0 {
			return r, s, nil
		}
	}
}

// draw returns a number that is greater than 0 and less than n, each with the
// same chance.
func (c *Curve) draw(random io.Reader) (*big.Int, error) {
	length := c.n.BitLen()
	data := make([]byte, (length+7)/8)
	for {
		if _, err := io.ReadFull(random, data); err != nil {
			return nil, fmt.Errorf("drawing a secret number: %w", err)
		}
		data[0] &= 0xff >> (8*len(data) - length)
		number := new(big.Int).SetBytes(data)
		if number.Sign() > 0 && number.Cmp(c.n) < 0 {
			return number, nil
		}
	}
}
