package binarycurve_test

import (
	"math/big"
	"testing"

	"github.com/countersign/countersign/signature/binarycurve"
)

// A textbook is a curve once more, as SEC 1 and SEC 2 introduce it: affine
// points, polynomials in a big.Int, and no thought of speed.
type textbook struct {
	curve    *binarycurve.Curve
	modulus  *big.Int // z^m + …
	m        int
	a        uint
	b        *big.Int
	gx, gy   *big.Int
	n        *big.Int
	cofactor int64
	rows     map[int]row // by the length of their images; made by solve
}

// textbooks are in the order of binarycurve.Curves. Generator and order are the
// package's; b is the one that a curve through the generator has.
func textbooks(t testing.TB) []*textbook {
	t.Helper()
	var books []*textbook
	for i, known := range []struct {
		m        int
		terms    []int
		a        uint
		cofactor int64
	}{
		{409, []int{87, 0}, 0, 4},
		{409, []int{87, 0}, 1, 2},
		{571, []int{10, 5, 2, 0}, 0, 4},
		{571, []int{10, 5, 2, 0}, 1, 2},
	} {
		book := &textbook{curve: binarycurve.Curves()[i], m: known.m, a: known.a, cofactor: known.cofactor}
		book.modulus = new(big.Int).Lsh(big.NewInt(1), uint(known.m))
		for _, term := range known.terms {
			book.modulus.SetBit(book.modulus, term, 1)
		}
		one, err := binarycurve.NewPrivateKey(book.curve, big.NewInt(1))
		if err != nil {
			t.Fatal(err)
		}
		book.gx, book.gy = coordinates(one.Public().(*binarycurve.PublicKey))
		book.n = book.curve.Order()
		book.b = new(big.Int)
		book.b = xor(book.right(book.gx), book.left(book.gx, book.gy))
		books = append(books, book)
	}
	return books
}

func coordinates(key *binarycurve.PublicKey) (x, y *big.Int) {
	data := key.Bytes()
	size := len(data) / 2
	return new(big.Int).SetBytes(data[1 : 1+size]), new(big.Int).SetBytes(data[1+size:])
}

func (c *textbook) size() int { return (c.m + 7) / 8 }

// octets is SEC 1, section 2.3.3.
func (c *textbook) octets(x, y *big.Int) []byte {
	data := make([]byte, 1+2*c.size())
	data[0] = 4
	x.FillBytes(data[1 : 1+c.size()])
	y.FillBytes(data[1+c.size():])
	return data
}

func xor(x *big.Int, others ...*big.Int) *big.Int {
	sum := new(big.Int).Set(x)
	for _, y := range others {
		sum.Xor(sum, y)
	}
	return sum
}

func (c *textbook) times(x, y *big.Int) *big.Int {
	product := new(big.Int)
	for i := y.BitLen() - 1; i >= 0; i-- {
		product.Lsh(product, 1)
		if product.BitLen() > c.m {
			product.Xor(product, c.modulus)
		}
		if y.Bit(i) == 1 {
			product.Xor(product, x)
		}
	}
	return product
}

// inverse is Euclid's algorithm for polynomials.
func (c *textbook) inverse(x *big.Int) *big.Int {
	u, v := new(big.Int).Set(x), new(big.Int).Set(c.modulus)
	g, h := big.NewInt(1), new(big.Int)
	for u.BitLen() > 1 {
		shift := u.BitLen() - v.BitLen()
		if shift < 0 {
			u, v, g, h, shift = v, u, h, g, -shift
		}
		u.Xor(u, new(big.Int).Lsh(v, uint(shift)))
		g.Xor(g, new(big.Int).Lsh(h, uint(shift)))
	}
	return g
}

// The curve is y² + xy = x³ + ax² + b.
func (c *textbook) left(x, y *big.Int) *big.Int { return xor(c.times(y, y), c.times(x, y)) }

func (c *textbook) right(x *big.Int) *big.Int {
	xx := c.times(x, x)
	right := xor(c.times(xx, x), c.b)
	if c.a == 1 {
		right.Xor(right, xx)
	}
	return right
}

func (c *textbook) onCurve(x, y *big.Int) bool { return c.left(x, y).Cmp(c.right(x)) == 0 }

// add adds points, of which a nil x is infinity (SEC 1, section 2.2.2).
func (c *textbook) add(x1, y1, x2, y2 *big.Int) (x, y *big.Int) {
	var slope *big.Int
	a := new(big.Int).SetUint64(uint64(c.a))
	switch {
	case x1 == nil:
		return x2, y2
	case x2 == nil:
		return x1, y1
	case x1.Cmp(x2) != 0:
		slope = c.times(xor(y1, y2), c.inverse(xor(x1, x2)))
		x = xor(c.times(slope, slope), slope, x1, x2, a)
	case y1.Cmp(y2) != 0 || x1.Sign() == 0:
		return nil, nil
	default:
		slope = xor(x1, c.times(y1, c.inverse(x1)))
		x = xor(c.times(slope, slope), slope, a)
	}
	return x, xor(c.times(slope, xor(x1, x)), x, y1)
}

func (c *textbook) multiple(k, x, y *big.Int) (kx, ky *big.Int) {
	for i := k.BitLen() - 1; i >= 0; i-- {
		kx, ky = c.add(kx, ky, kx, ky)
		if k.Bit(i) == 1 {
			kx, ky = c.add(kx, ky, x, y)
		}
	}
	return kx, ky
}

// A row says that the polynomial of has the image of² + of.
type row struct{ image, of *big.Int }

// reduced takes from r the rows that share its leading bit, one after another.
func (c *textbook) reduced(r row) row {
	for r.image.Sign() != 0 {
		pivot, ok := c.rows[r.image.BitLen()]
		if !ok {
			break
		}
		r = row{xor(r.image, pivot.image), xor(r.of, pivot.of)}
	}
	return r
}

// solve returns a z with z² + z = sum, or nil, as linear equations are solved.
func (c *textbook) solve(sum *big.Int) *big.Int {
	if c.rows == nil {
		c.rows = make(map[int]row)
		for i := range c.m {
			z := new(big.Int).SetBit(new(big.Int), i, 1)
			if r := c.reduced(row{xor(c.times(z, z), z), z}); r.image.Sign() != 0 {
				c.rows[r.image.BitLen()] = r
			}
		}
	}
	r := c.reduced(row{sum, new(big.Int)})
	if r.image.Sign() != 0 {
		return nil
	}
	return r.of
}

// lift returns a z such that (x, xz) is on the curve, or nil; x is not 0.
func (c *textbook) lift(x *big.Int) *big.Int {
	inverse := c.inverse(x)
	return c.solve(xor(x, new(big.Int).SetUint64(uint64(c.a)), c.times(c.b, c.times(inverse, inverse))))
}

// parse is ParsePoint by the book: SEC 1, sections 2.3.4 and 3.2.2.1.
func (c *textbook) parse(data []byte) (x, y *big.Int) {
	limit := new(big.Int).Lsh(big.NewInt(1), uint(c.m))
	switch {
	default:
		return nil, nil
	case len(data) == 1+2*c.size() && data[0] == 4:
		x, y = new(big.Int).SetBytes(data[1:1+c.size()]), new(big.Int).SetBytes(data[1+c.size():])
	case len(data) == 1+c.size() && (data[0] == 2 || data[0] == 3):
		x = new(big.Int).SetBytes(data[1:])
		if x.Sign() == 0 || x.Cmp(limit) >= 0 {
			return nil, nil
		}
		z := c.lift(x)
		if z == nil {
			return nil, nil
		}
		z.SetBit(z, 0, uint(data[0]&1))
		y = c.times(x, z)
	}
	if x.Cmp(limit) >= 0 || y.Cmp(limit) >= 0 || !c.onCurve(x, y) {
		return nil, nil
	}
	if nx, _ := c.multiple(c.n, x, y); nx != nil {
		return nil, nil
	}
	return x, y
}

// verify is SEC 1, section 4.1.4, with the digest cut bit by bit.
func (c *textbook) verify(qx, qy *big.Int, digest []byte, r, s *big.Int) bool {
	if r.Sign() <= 0 || s.Sign() <= 0 || r.Cmp(c.n) >= 0 || s.Cmp(c.n) >= 0 {
		return false
	}
	e := new(big.Int)
	for i := range min(8*len(digest), c.n.BitLen()) {
		e.Lsh(e, 1).Or(e, big.NewInt(int64(digest[i/8]>>(7-i%8)&1)))
	}
	w := new(big.Int).ModInverse(s, c.n)
	u := new(big.Int).Mul(e, w)
	v := new(big.Int).Mul(r, w)
	ux, uy := c.multiple(u.Mod(u, c.n), c.gx, c.gy)
	vx, vy := c.multiple(v.Mod(v, c.n), qx, qy)
	x, _ := c.add(ux, uy, vx, vy)
	return x != nil && new(big.Int).Mod(x, c.n).Cmp(r) == 0
}
