package binarycurve

import "math/big"

// A point is affine. The zero value stands for infinity: (0, 0) is on none of
// the curves, as b is not 0.
type point struct{ x, y element }

func (p *point) isInfinity() bool { return *p == point{} }

// onCurve reports whether y² + xy = x³ + ax² + b.
func (c *Curve) onCurve(p *point) bool {
	f := &c.field
	left := add(&p.y, &p.x)
	left = f.multiply(&left, &p.y)
	right := p.x
	if c.a {
		right[0] ^= 1
	}
	square := f.square(&p.x)
	right = f.multiply(&right, &square)
	right = add(&right, &c.b)
	return left == right
}

// A projective point has the coordinates of López and Dahab: x = X/Z and
// y = Y/Z². Infinity has Z = 0.
type projective struct{ x, y, z element }

func (p *point) projective() projective {
	if p.isInfinity() {
		return projective{x: element{1}}
	}
	return projective{p.x, p.y, element{1}}
}

func (c *Curve) affine(p *projective) point {
	if p.z.isZero() {
		return point{}
	}
	f := &c.field
	inverse := f.invert(&p.z)
	squared := f.square(&inverse)
	return point{f.multiply(&p.x, &inverse), f.multiply(&p.y, &squared)}
}

// double is algorithm 3.24 of the Guide to Elliptic Curve Cryptography, for
// any b. It takes infinity to infinity.
func (c *Curve) double(p *projective) (d projective) {
	f := &c.field
	xx, zz := f.square(&p.x), f.square(&p.z)
	d.z = f.multiply(&xx, &zz)
	bzzzz := f.square(&zz)
	bzzzz = f.multiply(&bzzzz, &c.b)
	d.x = f.square(&xx)
	d.x = add(&d.x, &bzzzz)

	sum := f.square(&p.y)
	sum = add(&sum, &bzzzz)
	if c.a {
		sum = add(&sum, &d.z)
	}
	sum = f.multiply(&sum, &d.x)
	d.y = f.multiply(&bzzzz, &d.z)
	d.y = add(&d.y, &sum)
	return d
}

// add is algorithm 3.25 of the Guide to Elliptic Curve Cryptography, and what
// it leaves out: infinity and equal points. Of opposite ones it makes Z = 0 by
// itself.
func (c *Curve) add(p *projective, q *point) (sum projective) {
	switch {
	case q.isInfinity():
		return *p
	case p.z.isZero():
		return q.projective()
	}
	f := &c.field
	zz := f.square(&p.z)
	dy := f.multiply(&q.y, &zz)
	dy = add(&dy, &p.y)
	dx := f.multiply(&q.x, &p.z)
	dx = add(&dx, &p.x)
	if dx.isZero() && dy.isZero() {
		return c.double(p)
	}

	dxz := f.multiply(&dx, &p.z)
	dxx := f.square(&dx)
	t := dxz
	if c.a {
		t = add(&t, &zz)
	}
	d := f.multiply(&dxx, &t)
	sum.z = f.square(&dxz)
	e := f.multiply(&dy, &dxz)
	sum.x = f.square(&dy)
	sum.x = add(&sum.x, &d)
	sum.x = add(&sum.x, &e)

	t = f.multiply(&q.x, &sum.z)
	t = add(&t, &sum.x)
	ez := add(&e, &sum.z)
	sum.y = f.multiply(&ez, &t)
	g := add(&q.x, &q.y)
	zz = f.square(&sum.z)
	g = f.multiply(&g, &zz)
	sum.y = add(&sum.y, &g)
	return sum
}

// combine returns u·G + v·q for u, v >= 0, a bit of both at a time.
func (c *Curve) combine(u, v *big.Int, q *point) point {
	both := c.g.projective()
	both = c.add(&both, q)
	gq := c.affine(&both)
	sum := projective{x: element{1}}
	for i := max(u.BitLen(), v.BitLen()) - 1; i >= 0; i-- {
		sum = c.double(&sum)
		switch u.Bit(i) | v.Bit(i)<<1 {
		case 1:
			sum = c.add(&sum, &c.g)
		case 2:
			sum = c.add(&sum, q)
		case 3:
			sum = c.add(&sum, &gq)
		}
	}
	return c.affine(&sum)
}

// inSubgroup reports whether n·p is infinity.
func (c *Curve) inSubgroup(p *point) bool {
	multiple := c.combine(new(big.Int), c.n, p)
	return multiple.isInfinity()
}

// multiplyGenerator returns k·G for 0 < k < n. k is a secret: what is added to
// it makes its length that of n, and one, for every k, and every bit costs
// a doubling and an addition. Their own time still depends on k.
func (c *Curve) multiplyGenerator(k *big.Int) point {
	length := c.n.BitLen() + 1
	k = new(big.Int).Add(k, c.n)
	if k.BitLen() < length {
		k.Add(k, c.n)
	}
	sums := [2]projective{c.g.projective()}
	for i := length - 2; i >= 0; i-- {
		sums[0] = c.double(&sums[0])
		sums[1] = c.add(&sums[0], &c.g)
		sums[0] = sums[k.Bit(i)]
	}
	return c.affine(&sums[0])
}
