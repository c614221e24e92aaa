package binarycurve

import "math/bits"

// maxWords are enough for the field of degree 571.
const maxWords = 9

// An element is a polynomial over GF(2) of a degree less than its field's: bit
// i of word j is the coefficient of z^(64j+i). Addition is XOR.
type element [maxWords]uint64

// A field is GF(2)[z] modulo z^degree + the sum of z^t for t in terms.
type field struct {
	degree int
	words  int   // of an element
	terms  []int // descending; the first is more than 64 below degree
}

// fromBytes reads big-endian bytes, at most 72 of them.
func fromBytes(data []byte) (e element) {
	for i := range data {
		e[i/8] |= uint64(data[len(data)-1-i]) << (i % 8 * 8)
	}
	return e
}

// bytes writes an element in (degree + 7) / 8 big-endian bytes.
func (f *field) bytes(e *element) []byte {
	data := make([]byte, (f.degree+7)/8)
	for i := range data {
		data[len(data)-1-i] = byte(e[i/8] >> (i % 8 * 8))
	}
	return data
}

// contains reports whether e is of a degree less than the field's.
func (f *field) contains(e *element) bool {
	for i := maxWords - 1; i >= 0; i-- {
		if e[i] != 0 {
			return 64*i+bits.Len64(e[i]) <= f.degree
		}
	}
	return true
}

//go:norace
func add(x, y *element) (sum element) {
	for i := range sum {
		sum[i] = x[i] ^ y[i]
	}
	return sum
}

func (e *element) isZero() bool { return *e == element{} }

// multiply is the left-to-right comb method with windows of four bits: Hankerson,
// Menezes and Vanstone, Guide to Elliptic Curve Cryptography, algorithm 2.36.
//
// The race detector is kept out of the arithmetic, which it slows tenfold. What
// goroutines share, curves and keys, is not written to once it is made.
//
//go:norace
func (f *field) multiply(x, y *element) element {
	a, b, words := *x, *y, f.words // local, and so in reach of the compiler
	var multiples [16]element      // of b; the degree leaves room for three more bits
	multiples[1] = b
	for i := 2; i < 16; i += 2 {
		carry := uint64(0)
		for j := range words {
			word := multiples[i/2][j]
			multiples[i][j] = word<<1 | carry
			multiples[i+1][j] = multiples[i][j] ^ b[j]
			carry = word >> 63
		}
	}

	var product [2 * maxWords]uint64
	for shift := 60; shift >= 0; shift -= 4 {
		for i := range words {
			m, p := &multiples[a[i]>>shift&15], (*element)(product[i:])
			p[0] ^= m[0] // a loop would take three times as long
			p[1] ^= m[1]
			p[2] ^= m[2]
			p[3] ^= m[3]
			p[4] ^= m[4]
			p[5] ^= m[5]
			p[6] ^= m[6]
			p[7] ^= m[7]
			p[8] ^= m[8]
		}
		if shift > 0 {
			for i := 2*words - 1; i > 0; i-- {
				product[i] = product[i]<<4 | product[i-1]>>60
			}
			product[0] <<= 4
		}
	}
	return f.reduce(product)
}

// spread has the bits of a byte with a zero before each.
var spread = func() (table [256]uint16) {
	for i := range table {
		for bit := range 8 {
			table[i] |= uint16(i>>bit&1) << (2 * bit)
		}
	}
	return table
}()

//go:norace
func spread32(x uint32) uint64 {
	return uint64(spread[byte(x)]) | uint64(spread[byte(x>>8)])<<16 |
		uint64(spread[byte(x>>16)])<<32 | uint64(spread[byte(x>>24)])<<48
}

// square spreads the coefficients: in characteristic two there are no others.
//
//go:norace
func (f *field) square(x *element) element {
	a := *x
	var product [2 * maxWords]uint64
	for i := range f.words {
		low, high := uint32(a[i]), uint32(a[i]>>32)
		product[2*i], product[2*i+1] = spread32(low), spread32(high)
	}
	return f.reduce(product)
}

// squares squares x count times.
func (f *field) squares(x element, count int) element {
	for range count {
		x = f.square(&x)
	}
	return x
}

// reduce replaces z^degree by the lower terms, a word at a time from the top.
// No word falls back on itself, as every term is more than a word below.
//
//go:norace
func (f *field) reduce(product [2 * maxWords]uint64) (e element) {
	top, rest := f.degree/64, f.degree%64
	for i := 2*f.words - 1; i > top; i-- {
		word := product[i]
		product[i] = 0
		for _, term := range f.terms {
			addAt(&product, word, 64*i-f.degree+term)
		}
	}
	word := product[top] >> rest
	product[top] &= 1<<rest - 1
	for _, term := range f.terms {
		addAt(&product, word, term)
	}
	copy(e[:], product[:f.words])
	return e
}

// addAt adds word times z^position.
//
//go:norace
func addAt(product *[2 * maxWords]uint64, word uint64, position int) {
	i, shift := uint(position)/64, uint(position)%64
	product[i] ^= word << shift
	product[i+1] ^= word >> (64 - shift) // nothing, where shift is 0
}

// invert returns x^-1 = x^(2^degree - 2), and 0 for 0. After Itoh and Tsujii,
// powers of the form x^(2^k - 1) are built along the bits of degree - 1.
func (f *field) invert(x *element) element {
	exponent := f.degree - 1
	power, k := *x, 1
	for bit := bits.Len(uint(exponent)) - 2; bit >= 0; bit-- {
		shifted := f.squares(power, k)
		power, k = f.multiply(&shifted, &power), 2*k
		if exponent>>bit&1 == 1 {
			power = f.square(&power)
			power, k = f.multiply(&power, x), k+1
		}
	}
	return f.square(&power)
}

// solve returns a z with z² + z = c, if there is one; the other is z + 1. The
// half-trace gives it, as the degree is odd (SEC 1, section 2.3.4, and Guide
// to Elliptic Curve Cryptography, section 3.6.2).
func (f *field) solve(c *element) (z element, ok bool) {
	z = *c
	for range (f.degree - 1) / 2 {
		z = f.squares(z, 2)
		z = add(&z, c)
	}
	squared := f.square(&z)
	return z, add(&squared, &z) == *c
}
