package binarycurve

import (
	"crypto"
	"errors"
	"fmt"
	"math/big"
)

// A PublicKey is a point that ParsePoint or GenerateKey has vouched for. The
// zero value is no key: nothing verifies with it.
type PublicKey struct {
	curve *Curve
	q     point
}

// ParsePoint reads a public key in the octet string form of SEC 1, section
// 2.3.4, uncompressed or compressed. It returns an error for a point in hybrid
// form, infinity, coordinates outside the field, and a point that is not on
// the curve or not in the subgroup of order n (SEC 1, section 3.2.2.1). The
// last of these checks takes most of the time, several milliseconds.
func ParsePoint(curve *Curve, data []byte) (*PublicKey, error) {
	if curve == nil {
		return nil, errors.New("point is on no curve")
	}
	f := &curve.field
	size := (f.degree + 7) / 8
	var p point
	switch {
	default:
		return nil, fmt.Errorf("%d bytes are not a point on %s in compressed or uncompressed form", len(data), curve.name)
	case len(data) == 1+2*size && data[0] == 4:
		p = point{fromBytes(data[1 : 1+size]), fromBytes(data[1+size:])}
		if !f.contains(&p.x) || !f.contains(&p.y) {
			return nil, fmt.Errorf("point on %s has a coordinate outside the field", curve.name)
		}
	case len(data) == 1+size && (data[0] == 2 || data[0] == 3):
		p.x = fromBytes(data[1:])
		if !f.contains(&p.x) {
			return nil, fmt.Errorf("point on %s has a coordinate outside the field", curve.name)
		}
		var ok bool
		if p.y, ok = curve.decompress(&p.x, data[0] == 3); !ok {
			return nil, fmt.Errorf("no point of the subgroup of %s has that x coordinate", curve.name)
		}
	}
	if !curve.onCurve(&p) {
		return nil, fmt.Errorf("point is not on %s", curve.name)
	}
	if !curve.inSubgroup(&p) {
		return nil, fmt.Errorf("point on %s is not in the subgroup of prime order", curve.name)
	}
	return &PublicKey{curve, p}, nil
}

// decompress finds y for x, with y/x + z = 1 or 0 at the lowest coefficient.
// The point with x = 0 has order two and is left out.
func (c *Curve) decompress(x *element, odd bool) (y element, ok bool) {
	if x.isZero() {
		return element{}, false
	}
	// With y = xz the curve is z² + z = x + a + b/x².
	f := &c.field
	sum := f.square(x)
	sum = f.invert(&sum)
	sum = f.multiply(&sum, &c.b)
	sum = add(&sum, x)
	if c.a {
		sum[0] ^= 1
	}
	z, ok := f.solve(&sum)
	if !ok {
		return element{}, false
	}
	if (z[0]&1 == 1) != odd {
		z[0] ^= 1
	}
	return f.multiply(x, &z), true
}

// Curve returns the curve of the key.
func (k *PublicKey) Curve() *Curve { return k.curve }

// Bytes returns the point in uncompressed form, SEC 1, section 2.3.3.
func (k *PublicKey) Bytes() []byte {
	f := &k.curve.field
	return append(append([]byte{4}, f.bytes(&k.q.x)...), f.bytes(&k.q.y)...)
}

// Equal reports whether x is the same *PublicKey, as those of the standard
// library do.
func (k *PublicKey) Equal(x crypto.PublicKey) bool {
	other, ok := x.(*PublicKey)
	return ok && k.curve == other.curve && k.q == other.q
}

// Verify reports whether r and s are an ECDSA signature of the digest by the
// key: FIPS 186-4, section 6.4. A digest that is longer than the order of the
// curve is cut to as many leading bits. Of r, s and r, n-s both are right.
func Verify(key *PublicKey, digest []byte, r, s *big.Int) bool {
	if key == nil || key.curve == nil || r == nil || s == nil {
		return false
	}
	c := key.curve
	for _, number := range []*big.Int{r, s} {
		if number.Sign() <= 0 || number.Cmp(c.n) >= 0 {
			return false
		}
	}
	w := new(big.Int).ModInverse(s, c.n)
	u := c.fromDigest(digest)
	u.Mul(u, w).Mod(u, c.n)
	v := w.Mul(w, r)
	v.Mod(v, c.n)
	sum := c.combine(u, v, &key.q)
	return c.fromX(&sum).Cmp(r) == 0 // of infinity that is 0, which r is not
}

// fromDigest returns the leading bits of a digest, as many as n has.
func (c *Curve) fromDigest(digest []byte) *big.Int {
	number := new(big.Int).SetBytes(digest)
	if excess := 8*len(digest) - c.n.BitLen(); excess > 0 {
		number.Rsh(number, uint(excess))
	}
	return number
}

// fromX returns the x coordinate, taken for an integer, modulo n.
func (c *Curve) fromX(p *point) *big.Int {
	x := new(big.Int).SetBytes(c.field.bytes(&p.x))
	return x.Mod(x, c.n)
}
