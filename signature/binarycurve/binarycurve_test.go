package binarycurve_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"math/big"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/countersign/countersign/signature/binarycurve"
)

func generate(t testing.TB, curve *binarycurve.Curve) (*binarycurve.PrivateKey, *binarycurve.PublicKey) {
	t.Helper()
	key, err := binarycurve.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key, key.Public().(*binarycurve.PublicKey)
}

func digest(t testing.TB, length int) []byte {
	t.Helper()
	data := make([]byte, length)
	if _, err := rand.Read(data); err != nil {
		t.Fatal(err)
	}
	return data
}

// TestParameters holds the constants to what SEC 2 and FIPS 186-4 demand of
// them, by other arithmetic than the package's. A wrong digit in any of them
// breaks one of the conditions.
func TestParameters(t *testing.T) {
	for _, book := range textbooks(t) {
		curve := book.curve
		t.Run(curve.Name(), func(t *testing.T) {
			if curve.BitSize() != book.m {
				t.Errorf("BitSize = %d, want %d", curve.BitSize(), book.m)
			}
			if koblitz := book.a == 0; koblitz != (book.b.Cmp(big.NewInt(1)) == 0) {
				t.Errorf("b = %x: the curves of Koblitz have b = 1, and they alone", book.b)
			}
			// That the package finds it on its curve means it has the same b.
			if _, err := binarycurve.ParsePoint(curve, book.octets(book.gx, book.gy)); err != nil {
				t.Errorf("ParsePoint of the generator: %v", err)
			}
			if !book.n.ProbablyPrime(32) {
				t.Errorf("the order is not prime")
			}
			if x, _ := book.multiple(book.n, book.gx, book.gy); x != nil {
				t.Errorf("n times the generator is not infinity")
			}
			// Hasse: |2^m + 1 - cofactor n| <= 2 sqrt(2^m).
			distance := new(big.Int).Lsh(big.NewInt(1), uint(book.m))
			distance.Add(distance, big.NewInt(1))
			distance.Sub(distance, new(big.Int).Mul(book.n, big.NewInt(book.cofactor)))
			bound := new(big.Int).Lsh(big.NewInt(1), uint(book.m+2))
			if distance.Mul(distance, distance).Cmp(bound) > 0 {
				t.Errorf("the order is not that of a subgroup of index %d", book.cofactor)
			}
		})
	}
}

func TestCurves(t *testing.T) {
	for i, want := range []struct {
		curve     *binarycurve.Curve
		name, oid string
		size      int
	}{
		{binarycurve.SECT409K1(), "sect409k1", "1.3.132.0.36", 409},
		{binarycurve.SECT409R1(), "sect409r1", "1.3.132.0.37", 409},
		{binarycurve.SECT571K1(), "sect571k1", "1.3.132.0.38", 571},
		{binarycurve.SECT571R1(), "sect571r1", "1.3.132.0.39", 571},
	} {
		got := binarycurve.Curves()[i]
		if got != want.curve || got.Name() != want.name || got.OID().String() != want.oid || got.BitSize() != want.size {
			t.Errorf("Curves()[%d] = %s, %s, %d, want %+v", i, got.Name(), got.OID(), got.BitSize(), want)
		}
		got.Order().SetInt64(0)
		got.OID()[0] = 9
		if got.Order().Sign() == 0 || got.OID().String() != want.oid {
			t.Errorf("%s was changed by a caller", want.name)
		}
	}
}

// TestMultiples compares k·G with the book's at both ends of the range, where
// additions meet infinity and equal points, and in between.
func TestMultiples(t *testing.T) {
	for _, book := range textbooks(t) {
		last, err := binarycurve.NewPrivateKey(book.curve, new(big.Int).Sub(book.n, big.NewInt(1)))
		if err != nil {
			t.Fatal(err)
		}
		if x, y := coordinates(last.Public().(*binarycurve.PublicKey)); x.Cmp(book.gx) != 0 || y.Cmp(xor(book.gx, book.gy)) != 0 {
			t.Errorf("%s: (n-1)·G = %x, %x, want the opposite of G", book.curve.Name(), x, y)
		}
		for _, k := range []*big.Int{big.NewInt(2), big.NewInt(3), big.NewInt(1 << 40), new(big.Int).Rsh(book.n, 1)} {
			key, err := binarycurve.NewPrivateKey(book.curve, k)
			if err != nil {
				t.Fatal(err)
			}
			x, y := coordinates(key.Public().(*binarycurve.PublicKey))
			if wantX, wantY := book.multiple(k, book.gx, book.gy); x.Cmp(wantX) != 0 || y.Cmp(wantY) != 0 {
				t.Errorf("%s: %x·G = %x, %x, want %x, %x", book.curve.Name(), k, x, y, wantX, wantY)
			}
		}
	}
}

func TestSignVerify(t *testing.T) {
	for _, curve := range binarycurve.Curves() {
		private, public := generate(t, curve)
		_, other := generate(t, curve)
		n, one := curve.Order(), big.NewInt(1)
		// The empty digest, and all around the length of the order.
		for _, length := range []int{0, 1, 28, 32, 48, 50, 51, 52, 64, 71, 72, 80} {
			data := digest(t, length)
			r, s, err := binarycurve.Sign(rand.Reader, private, data)
			if err != nil {
				t.Fatal(err)
			}
			if !binarycurve.Verify(public, data, r, s) {
				t.Errorf("%s, digest of %d bytes: does not verify", curve.Name(), length)
			}
			if !binarycurve.Verify(public, data, r, new(big.Int).Sub(n, s)) {
				t.Errorf("%s, digest of %d bytes: r, n-s does not verify", curve.Name(), length)
			}
			if length > 0 {
				data[0] ^= 0x80
				if binarycurve.Verify(public, data, r, s) {
					t.Errorf("%s: verified over another digest", curve.Name())
				}
				data[0] ^= 0x80
			}
			if length != 64 {
				continue
			}
			for name, no := range map[string]bool{
				"s, r":      binarycurve.Verify(public, data, s, r),
				"r+1, s":    binarycurve.Verify(public, data, new(big.Int).Add(r, one), s),
				"r, s+1":    binarycurve.Verify(public, data, r, new(big.Int).Add(s, one)),
				"r+n, s":    binarycurve.Verify(public, data, new(big.Int).Add(r, n), s),
				"r, s+n":    binarycurve.Verify(public, data, r, new(big.Int).Add(s, n)),
				"-r, s":     binarycurve.Verify(public, data, new(big.Int).Neg(r), s),
				"r, s-n":    binarycurve.Verify(public, data, r, new(big.Int).Sub(s, n)),
				"0, s":      binarycurve.Verify(public, data, new(big.Int), s),
				"r, 0":      binarycurve.Verify(public, data, r, new(big.Int)),
				"n, n":      binarycurve.Verify(public, data, n, n),
				"nil, s":    binarycurve.Verify(public, data, nil, s),
				"r, nil":    binarycurve.Verify(public, data, r, nil),
				"other key": binarycurve.Verify(other, data, r, s),
				"no key":    binarycurve.Verify(nil, data, r, s),
				"zero key":  binarycurve.Verify(new(binarycurve.PublicKey), data, r, s),
			} {
				if no {
					t.Errorf("%s, digest of %d bytes: %s verified", curve.Name(), length, name)
				}
			}
		}
	}
}

// TestTruncation changes single bits of a digest longer than the order: those
// beyond its length do not count, all others do.
func TestTruncation(t *testing.T) {
	for _, curve := range binarycurve.Curves() {
		private, public := generate(t, curve)
		order := curve.Order().BitLen()
		for _, length := range []int{80, (order + 7) / 8} {
			data := digest(t, length)
			r, s, err := binarycurve.Sign(rand.Reader, private, data)
			if err != nil {
				t.Fatal(err)
			}
			for _, test := range []struct {
				bit    int
				counts bool
			}{{order - 1, true}, {order, false}, {8*length - 1, false}} {
				changed := bytes.Clone(data)
				changed[test.bit/8] ^= 0x80 >> (test.bit % 8)
				if got := !binarycurve.Verify(public, changed, r, s); got != test.counts {
					t.Errorf("%s, %d bytes: bit %d counts: %v, want %v", curve.Name(), length, test.bit, got, test.counts)
				}
			}
		}
	}
}

// TestRelatedKeys verifies with Q = G, -G and 2G, where G + Q is a doubling,
// infinity, or an ordinary point.
func TestRelatedKeys(t *testing.T) {
	for _, curve := range binarycurve.Curves() {
		for _, d := range []*big.Int{big.NewInt(1), new(big.Int).Sub(curve.Order(), big.NewInt(1)), big.NewInt(2)} {
			key, err := binarycurve.NewPrivateKey(curve, d)
			if err != nil {
				t.Fatal(err)
			}
			data := digest(t, 32)
			r, s, err := binarycurve.Sign(rand.Reader, key, data)
			if err != nil {
				t.Fatal(err)
			}
			if !binarycurve.Verify(key.Public().(*binarycurve.PublicKey), data, r, s) {
				t.Errorf("%s, d = %d: does not verify", curve.Name(), d)
			}
		}
		// u = v and Q = -G make u·G + v·Q infinity, which has no x.
		key, err := binarycurve.NewPrivateKey(curve, new(big.Int).Sub(curve.Order(), big.NewInt(1)))
		if err != nil {
			t.Fatal(err)
		}
		if binarycurve.Verify(key.Public().(*binarycurve.PublicKey), []byte{7}, big.NewInt(7), big.NewInt(1)) {
			t.Errorf("%s: infinity verified", curve.Name())
		}
	}
}

func TestParsePoint(t *testing.T) {
	for _, book := range textbooks(t) {
		_, public := generate(t, book.curve)
		x, y := coordinates(public)
		odd := book.times(y, book.inverse(x)).Bit(0)
		opposite := book.octets(x, xor(x, y))
		compressed := func(format uint) []byte {
			return append([]byte{byte(format)}, public.Bytes()[1:1+book.size()]...)
		}
		for _, test := range []struct {
			name       string
			data, want []byte
		}{
			{"uncompressed", public.Bytes(), public.Bytes()},
			{"opposite", opposite, opposite},
			{"compressed", compressed(2 + odd), public.Bytes()},
			{"compressed opposite", compressed(3 - odd), opposite},
		} {
			key, err := binarycurve.ParsePoint(book.curve, test.data)
			if err != nil {
				t.Errorf("%s, %s: %v", book.curve.Name(), test.name, err)
				continue
			}
			if !bytes.Equal(key.Bytes(), test.want) || key.Curve() != book.curve {
				t.Errorf("%s, %s: another point was read", book.curve.Name(), test.name)
			}
			if got, want := key.Equal(public), bytes.Equal(test.want, public.Bytes()); got != want {
				t.Errorf("%s, %s: Equal = %v, want %v", book.curve.Name(), test.name, got, want)
			}
		}
	}
}

func TestParsePointRefuses(t *testing.T) {
	for i, book := range textbooks(t) {
		curve := book.curve
		_, public := generate(t, curve)
		x, y := coordinates(public)
		with := func(format byte, body []byte) []byte { return append([]byte{format}, body...) }
		body := public.Bytes()[1:]
		half := body[:book.size()]
		zeros := make([]byte, 2*book.size())

		// sqrt(b), of which (0, sqrt(b)) is the point of order two.
		root := book.b
		for range book.m - 1 {
			root = book.times(root, root)
		}
		zero := new(big.Int)
		twoX, twoY := book.add(x, y, zero, root)
		nowhere := big.NewInt(1)
		for book.lift(nowhere) != nil {
			nowhere.Add(nowhere, big.NewInt(1))
		}
		beyond := new(big.Int).SetBit(x, book.m, 1)
		_, elsewhere := generate(t, binarycurve.Curves()[i^1])

		for _, test := range []struct {
			name string
			data []byte
			says string
		}{
			{"nothing", nil, "0 bytes are not a point"},
			{"infinity", []byte{0}, "1 bytes are not a point"},
			{"infinity, long", with(0, zeros), "are not a point"},
			{"zeros", with(4, zeros), "is not on " + curve.Name()},
			{"compressed zero", with(2, zeros[:book.size()]), "no point of the subgroup"},
			{"hybrid", with(6, body), "are not a point"},
			{"hybrid, odd", with(7, body), "are not a point"},
			{"format 1", with(1, half), "are not a point"},
			{"format 5", with(5, body), "are not a point"},
			{"short", public.Bytes()[:2*book.size()], "are not a point"},
			{"long", append(public.Bytes(), 0), "are not a point"},
			{"compressed, short", with(2, half[1:]), "are not a point"},
			{"compressed, long", with(2, body[:book.size()+1]), "are not a point"},
			{"uncompressed of half the length", with(4, half), "are not a point"},
			{"y changed", book.octets(x, xor(y, big.NewInt(1))), "is not on"},
			{"swapped", book.octets(y, x), "is not on"},
			{"x beyond the field", book.octets(beyond, y), "outside the field"},
			{"y beyond the field", book.octets(x, beyond), "outside the field"},
			{"x of no point", with(2, nowhere.FillBytes(make([]byte, book.size()))), "no point of the subgroup"},
			{"x all ones", with(2, bytes.Repeat([]byte{0xff}, book.size())), "outside the field"},
			{"order two", book.octets(zero, root), "not in the subgroup"},
			{"order 2n", book.octets(twoX, twoY), "not in the subgroup"},
			{"on another curve", elsewhere.Bytes(), "is not on"},
		} {
			if test.name == "y changed" && !bytes.Equal(book.octets(x, y), public.Bytes()) {
				t.Fatal("coordinates were not read back")
			}
			key, err := binarycurve.ParsePoint(curve, test.data)
			if err == nil || key != nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("%s: ParsePoint of %s = %v, %v, want an error that says %q", curve.Name(), test.name, key, err, test.says)
			}
		}
	}
	if _, err := binarycurve.ParsePoint(nil, []byte{4}); err == nil {
		t.Errorf("ParsePoint on no curve: no error")
	}
}

func TestPrivateKeys(t *testing.T) {
	for _, curve := range binarycurve.Curves() {
		private, public := generate(t, curve)
		again, err := binarycurve.NewPrivateKey(curve, new(big.Int).SetBytes(private.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if !public.Equal(again.Public()) || again.Curve() != curve {
			t.Errorf("%s: another key came back", curve.Name())
		}
		if got, want := len(private.Bytes()), (curve.Order().BitLen()+7)/8; got != want {
			t.Errorf("%s: %d bytes, want %d", curve.Name(), got, want)
		}
		if _, err := binarycurve.ParsePoint(curve, public.Bytes()); err != nil {
			t.Errorf("%s: %v", curve.Name(), err)
		}
		for _, d := range []*big.Int{nil, new(big.Int), big.NewInt(-1), curve.Order(), new(big.Int).Lsh(curve.Order(), 1)} {
			if key, err := binarycurve.NewPrivateKey(curve, d); err == nil || key != nil {
				t.Errorf("%s: NewPrivateKey(%d) = %v, want an error", curve.Name(), d, key)
			}
		}
	}
	if _, err := binarycurve.NewPrivateKey(nil, big.NewInt(1)); err == nil {
		t.Errorf("NewPrivateKey on no curve: no error")
	}
	if _, err := binarycurve.GenerateKey(nil, rand.Reader); err == nil {
		t.Errorf("GenerateKey on no curve: no error")
	}
}

// TestRandom holds that secret numbers come from the reader alone, that one
// out of range is thrown away, and that a reader that fails makes no key.
func TestRandom(t *testing.T) {
	boom := errors.New("boom")
	for _, curve := range binarycurve.Curves() {
		size := (curve.Order().BitLen() + 7) / 8
		zero, n := make([]byte, size), curve.Order().FillBytes(make([]byte, size))
		three := append(make([]byte, size-1), 3)
		key, err := binarycurve.GenerateKey(curve, bytes.NewReader(bytes.Join([][]byte{zero, n, three}, nil)))
		if err != nil || !bytes.Equal(key.Bytes(), three) {
			t.Errorf("%s: GenerateKey = %v, want the key of the third number", curve.Name(), err)
			continue
		}
		if _, err := binarycurve.GenerateKey(curve, iotest.ErrReader(boom)); !errors.Is(err, boom) {
			t.Errorf("%s: GenerateKey = %v, want %v", curve.Name(), err, boom)
		}
		if _, _, err := binarycurve.Sign(iotest.ErrReader(boom), key, zero); !errors.Is(err, boom) {
			t.Errorf("%s: Sign = %v, want %v", curve.Name(), err, boom)
		}
		r1, _, err1 := binarycurve.Sign(rand.Reader, key, zero)
		r2, _, err2 := binarycurve.Sign(rand.Reader, key, zero)
		if err1 != nil || err2 != nil || r1.Cmp(r2) == 0 {
			t.Errorf("%s: two signatures have one r: %v, %v", curve.Name(), err1, err2)
		}
	}
	for _, key := range []*binarycurve.PrivateKey{nil, {}} {
		if _, _, err := binarycurve.Sign(rand.Reader, key, []byte{1}); err == nil {
			t.Errorf("Sign without a key: no error")
		}
	}
}

// FuzzParsePoint compares with the textbook.
func FuzzParsePoint(f *testing.F) {
	books := textbooks(f)
	for i, book := range books {
		_, public := generate(f, book.curve)
		f.Add(uint8(i), public.Bytes())
		f.Add(uint8(i), append([]byte{2}, public.Bytes()[1:1+book.size()]...))
		f.Add(uint8(i), append([]byte{4}, make([]byte, 2*book.size())...))
	}
	f.Fuzz(func(t *testing.T, i uint8, data []byte) {
		book := books[int(i)%len(books)]
		x, y := book.parse(data)
		key, err := binarycurve.ParsePoint(book.curve, data)
		if (err == nil) != (x != nil) {
			t.Fatalf("%s: ParsePoint(%x) = %v, the textbook accepts: %v", book.curve.Name(), data, err, x != nil)
		}
		if err == nil && !bytes.Equal(key.Bytes(), book.octets(x, y)) {
			t.Errorf("%s: ParsePoint(%x) = %x, want %x, %x", book.curve.Name(), data, key.Bytes(), x, y)
		}
	})
}

// FuzzVerify compares with the textbook, for arbitrary numbers and for the
// signatures of arbitrary keys.
func FuzzVerify(f *testing.F) {
	books := textbooks(f)
	for i := range books {
		f.Add(uint8(i), []byte{byte(i + 1)}, digest(f, 64), []byte{}, []byte{1})
	}
	f.Add(uint8(3), []byte{7}, []byte("seven"), []byte{7}, []byte{77})
	f.Fuzz(func(t *testing.T, i uint8, secret, sum, first, second []byte) {
		book := books[int(i)%len(books)]
		d := new(big.Int).SetBytes(secret)
		key, err := binarycurve.NewPrivateKey(book.curve, d.Mod(d, book.n))
		if err != nil {
			return // 0
		}
		public := key.Public().(*binarycurve.PublicKey)
		qx, qy := coordinates(public)
		r, s := new(big.Int).SetBytes(first), new(big.Int).SetBytes(second)
		if got, want := binarycurve.Verify(public, sum, r, s), book.verify(qx, qy, sum, r, s); got != want {
			t.Errorf("%s: Verify(%x, %x, %x) by key %x = %v, want %v", book.curve.Name(), sum, r, s, d, got, want)
		}
		if r, s, err = binarycurve.Sign(rand.Reader, key, sum); err != nil {
			t.Fatal(err)
		}
		if !binarycurve.Verify(public, sum, r, s) || !book.verify(qx, qy, sum, r, s) {
			t.Errorf("%s: signature of %x by key %x does not verify", book.curve.Name(), sum, d)
		}
	})
}

func BenchmarkVerify(b *testing.B) {
	for _, curve := range binarycurve.Curves() {
		private, public := generate(b, curve)
		data := digest(b, 32)
		r, s, err := binarycurve.Sign(rand.Reader, private, data)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(curve.Name(), func(b *testing.B) {
			for b.Loop() {
				if !binarycurve.Verify(public, data, r, s) {
					b.Fatal("does not verify")
				}
			}
		})
	}
}

func BenchmarkParsePoint(b *testing.B) {
	for _, curve := range binarycurve.Curves() {
		_, public := generate(b, curve)
		point := public.Bytes()
		b.Run(curve.Name(), func(b *testing.B) {
			for b.Loop() {
				if _, err := binarycurve.ParsePoint(curve, point); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
