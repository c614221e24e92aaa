// Package binarycurve is ECDSA on the four elliptic curves over binary fields
// that OpenStack names for image signatures and Go's standard library lacks:
// sect409k1, sect409r1, sect571k1 and sect571r1 of SEC 2, which NIST calls
// K-409, B-409, K-571 and B-571.
//
// It promises that a [PublicKey] is a point of the curve's prime-order subgroup
// other than infinity, and that [Verify] decides as FIPS 186-4, section 6.4,
// says, for any digest and any numbers it is given.
//
// It refuses points in hybrid form, points outside the subgroup and curves
// given by their parameters. It cannot be made to take another curve.
//
// Nothing here runs in constant time. For Verify and [ParsePoint] that is no
// loss, as they see public data only. [GenerateKey], [NewPrivateKey] and
// [Sign] handle secrets: see Sign for what they do and do not hide. They are
// for a person who signs on a machine of their own, and not for a service that
// signs whenever a stranger asks.
//
//	key, err := binarycurve.ParsePoint(binarycurve.SECT571R1(), point)
//	...
//	ok := binarycurve.Verify(key, digest, r, s)
package binarycurve

import (
	"encoding/asn1"
	"math/big"
	"slices"
)

// A Curve is one of the four that this package has. Each has a single *Curve,
// so that they may be compared by ==.
type Curve struct {
	name  string
	oid   asn1.ObjectIdentifier
	field field
	a     bool // the curve is y² + xy = x³ + ax² + b, with a of 0 or 1
	b     element
	g     point    // the generator
	n     *big.Int // its order, a prime
}

// Name returns the name in SEC 2, such as "sect409k1".
func (c *Curve) Name() string { return c.name }

// OID returns the object identifier that names the curve in keys and
// certificates.
func (c *Curve) OID() asn1.ObjectIdentifier { return slices.Clone(c.oid) }

// BitSize returns the degree of the field, 409 or 571. Coordinates take
// (BitSize + 7) / 8 bytes.
func (c *Curve) BitSize() int { return c.field.degree }

// Order returns n, the prime order of the generator.
func (c *Curve) Order() *big.Int { return new(big.Int).Set(c.n) }

// Curves returns the four curves.
func Curves() []*Curve { return []*Curve{sect409k1, sect409r1, sect571k1, sect571r1} }

// SECT409K1 returns the curve that NIST calls K-409.
func SECT409K1() *Curve { return sect409k1 }

// SECT409R1 returns the curve that NIST calls B-409.
func SECT409R1() *Curve { return sect409r1 }

// SECT571K1 returns the curve that NIST calls K-571.
func SECT571K1() *Curve { return sect571k1 }

// SECT571R1 returns the curve that NIST calls B-571.
func SECT571R1() *Curve { return sect571r1 }
