package signature_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/countersign/countersign/signature"
)

// lengths are those around which a Reader changes its ways.
var lengths = []int{
	0, 1, 2,
	signature.Tail - 1, signature.Tail, signature.Tail + 1,
	2*signature.Tail - 1, 2 * signature.Tail, 2*signature.Tail + 1,
	4*signature.Tail - 1, 4 * signature.Tail, 4*signature.Tail + 1,
	5*signature.Tail + 7,
}

func random(length int) []byte {
	data := make([]byte, length)
	rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}

// verifierFor returns a Verifier that says yes to data and to nothing else.
func verifierFor(t testing.TB, data []byte) *signature.Verifier {
	t.Helper()
	key := keys()["RSA 1024"]
	v, err := signature.NewVerifier(sign(t, key, signature.SHA256, string(data)), key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// sources are ways for the same data to arrive.
var sources = map[string]func(data []byte) io.Reader{
	"whole":         func(data []byte) io.Reader { return bytes.NewReader(data) },
	"halves":        func(data []byte) io.Reader { return iotest.HalfReader(bytes.NewReader(data)) },
	"data with EOF": func(data []byte) io.Reader { return iotest.DataErrReader(bytes.NewReader(data)) },
	"hesitant":      func(data []byte) io.Reader { return &hesitant{src: bytes.NewReader(data)} },
}

// hesitant returns (0, nil) every other time.
type hesitant struct {
	src  io.Reader
	turn bool
}

func (h *hesitant) Read(p []byte) (int, error) {
	if h.turn = !h.turn; h.turn {
		return 0, nil
	}
	return h.src.Read(p)
}

func TestReader(t *testing.T) {
	for _, length := range lengths {
		data := random(length)
		for name, source := range sources {
			r := signature.NewReader(source(data), verifierFor(t, data))
			if err := iotest.TestReader(r, data); err != nil {
				t.Errorf("%d bytes, %s: %v", length, name, err)
			}
			if !r.Verified() {
				t.Errorf("%d bytes, %s: not Verified at the end", length, name)
			}
		}
		r := signature.NewReader(iotest.OneByteReader(bytes.NewReader(data)), verifierFor(t, data))
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes, one at a time: %d bytes, %v", length, len(got), err)
		}
	}
}

// TestReaderSteps reads with buffers of every kind of size, from good data and
// from bad.
func TestReaderSteps(t *testing.T) {
	for _, length := range lengths {
		for _, step := range []int{1, 7, 512, signature.Tail - 1, signature.Tail, signature.Tail + 1, 32 << 10, 1 << 20} {
			for name, source := range sources {
				data := random(length)
				r := signature.NewReader(source(data), verifierFor(t, data))
				got, err := readSteps(r, step)
				if err != io.EOF || !bytes.Equal(got, data) || !r.Verified() {
					t.Errorf("%d bytes by %d, %s: %d bytes, %v, Verified %v", length, step, name, len(got), err, r.Verified())
				}

				r = signature.NewReader(source(data), verifierFor(t, append(data, 'x')))
				got, err = readSteps(r, step)
				if !errors.Is(err, signature.ErrMismatch) || r.Verified() {
					t.Errorf("%d bad bytes by %d, %s: %v, Verified %v", length, step, name, err, r.Verified())
				}
				if len(got) > max(0, length-signature.Tail) || !bytes.HasPrefix(data, got) {
					t.Errorf("%d bad bytes by %d, %s: %d were passed on", length, step, name, len(got))
				}
			}
		}
	}
}

// readSteps reads until an error, and checks that the error stays.
func readSteps(r io.Reader, step int) ([]byte, error) {
	var got []byte
	p := make([]byte, step)
	for {
		n, err := r.Read(p)
		got = append(got, p[:n]...)
		if err == nil {
			continue
		}
		for range 3 {
			if n, again := r.Read(p); n != 0 || again != err {
				return got, fmt.Errorf("after %v Read = %d, %v", err, n, again)
			}
		}
		return got, err
	}
}

// TestReaderPassesOn holds that a byte is passed on as soon as Tail bytes are
// behind it, and not before.
func TestReaderPassesOn(t *testing.T) {
	data := random(3 * signature.Tail)
	src := &metered{src: bytes.NewReader(data)}
	r := signature.NewReader(src, verifierFor(t, data))
	passed := 0
	p := make([]byte, 1<<20)
	for passed+signature.Tail < len(data) {
		n, err := r.Read(p)
		if err != nil {
			t.Fatal(err)
		}
		passed += n
		if src.count-passed != signature.Tail {
			t.Fatalf("%d bytes were read and %d passed on: %d are held back, want %d", src.count, passed, src.count-passed, signature.Tail)
		}
	}
	if r.Verified() {
		t.Errorf("Verified before the end was read")
	}
	n, err := io.ReadFull(r, p[:signature.Tail])
	if n != signature.Tail || err != nil || !r.Verified() {
		t.Errorf("the tail: %d bytes, %v, Verified %v", n, err, r.Verified())
	}
}

// metered gives at most 1000 bytes at a time and counts them.
type metered struct {
	src   io.Reader
	count int
}

func (m *metered) Read(p []byte) (int, error) {
	n, err := m.src.Read(p[:min(len(p), 1000)])
	m.count += n
	return n, err
}

func TestPrime(t *testing.T) {
	for _, length := range lengths {
		data := random(length)
		src := &metered{src: bytes.NewReader(data)}
		r := signature.NewReader(src, verifierFor(t, data))
		for range 3 {
			if err := r.Prime(); err != nil {
				t.Errorf("%d bytes: Prime = %v", length, err)
			}
		}
		if long := length > signature.Tail; long == r.Verified() {
			t.Errorf("%d bytes: Verified after Prime = %v", length, r.Verified())
		}
		if src.count > signature.Tail+1000 {
			t.Errorf("%d bytes: Prime read %d", length, src.count)
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes: %d after Prime, %v", length, len(got), err)
		}
		if err := r.Prime(); err != nil {
			t.Errorf("%d bytes: Prime at the end = %v", length, err)
		}

		bad := signature.NewReader(bytes.NewReader(data), verifierFor(t, append(data, 'x')))
		err := bad.Prime()
		if length <= signature.Tail && !errors.Is(err, signature.ErrMismatch) {
			t.Errorf("%d bad bytes: Prime = %v", length, err)
		}
		if n, again := bad.Read(make([]byte, 1)); err != nil && (n != 0 || again != err) {
			t.Errorf("%d bad bytes: Prime = %v, then Read = %d, %v", length, err, n, again)
		}
	}
}

func TestReaderEmptySlice(t *testing.T) {
	boom := errors.New("boom")
	for name, src := range map[string]io.Reader{"fails": iotest.ErrReader(boom), "ends": strings.NewReader("")} {
		r := signature.NewReader(src, verifierFor(t, nil))
		for range 2 {
			if n, err := r.Read(nil); n != 0 || err != nil {
				t.Errorf("%s: Read(nil) = %d, %v, want 0, nil", name, n, err)
			}
			r.Prime()
		}
	}
}

// TestReaderSourceErrors lets the source break off at every length, with the
// last data or after it. What was there would verify, had it ended.
func TestReaderSourceErrors(t *testing.T) {
	boom := errors.New("boom")
	for _, length := range lengths {
		data := random(length)
		for name, src := range map[string]io.Reader{
			"after":          io.MultiReader(bytes.NewReader(data), iotest.ErrReader(boom)),
			"with":           iotest.DataErrReader(io.MultiReader(bytes.NewReader(data), iotest.ErrReader(boom))),
			"then goes on":   &once{err: boom, first: data, rest: strings.NewReader("")},
			"unexpected EOF": io.MultiReader(bytes.NewReader(data), iotest.ErrReader(io.ErrUnexpectedEOF)),
		} {
			want := boom
			if name == "unexpected EOF" {
				want = io.ErrUnexpectedEOF
			}
			r := signature.NewReader(src, verifierFor(t, data))
			got, err := readSteps(r, 4096)
			if err != want || r.Verified() {
				t.Errorf("%d bytes, error %s: %v, Verified %v, want %v", length, name, err, r.Verified(), want)
			}
			if len(got) > max(0, length-signature.Tail) {
				t.Errorf("%d bytes, error %s: %d were passed on", length, name, len(got))
			}
			if err := r.Prime(); err != want {
				t.Errorf("%d bytes, error %s: Prime = %v, want %v", length, name, err, want)
			}
		}
	}
}

// once fails after its first data, and would go on if asked again.
type once struct {
	err    error
	first  []byte
	failed bool
	rest   io.Reader
}

func (o *once) Read(p []byte) (int, error) {
	n := copy(p, o.first)
	if o.first = o.first[n:]; len(o.first) > 0 {
		return n, nil
	}
	if !o.failed {
		o.failed = true
		return n, o.err
	}
	return o.rest.Read(p)
}

// TestReaderWrappedEOF holds that an error is not taken for the end by those
// who ask errors.Is.
func TestReaderWrappedEOF(t *testing.T) {
	r := signature.NewReader(iotest.ErrReader(fmt.Errorf("connection lost: %w", io.EOF)), verifierFor(t, nil))
	_, err := r.Read(make([]byte, 1))
	if err == nil || errors.Is(err, io.EOF) || r.Verified() || !strings.Contains(err.Error(), "connection lost") {
		t.Errorf("Read = %v, Verified = %v, want an error that is not io.EOF", err, r.Verified())
	}
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestReaderBrokenSources(t *testing.T) {
	for name, src := range map[string]readerFunc{
		"never anything": func(p []byte) (int, error) { return 0, nil },
		"too much":       func(p []byte) (int, error) { return len(p) + 1, nil },
		"negative":       func(p []byte) (int, error) { return -1, io.EOF },
	} {
		r := signature.NewReader(src, verifierFor(t, nil))
		if n, err := r.Read(make([]byte, 9)); n != 0 || err == nil || err == io.EOF || r.Verified() {
			t.Errorf("%s: Read = %d, %v, Verified %v", name, n, err, r.Verified())
		}
	}
}

func TestReaderLetsPanicsThrough(t *testing.T) {
	r := signature.NewReader(readerFunc(func([]byte) (int, error) { panic("source") }), verifierFor(t, nil))
	defer func() {
		if got := recover(); got != "source" {
			t.Errorf("recovered %v, want the panic of the source", got)
		}
		if r.Verified() {
			t.Errorf("Verified after a panic")
		}
	}()
	r.Read(make([]byte, 1))
}

// TestReaderJudgedVerifier holds that a Verifier cannot be used for a second
// stream.
func TestReaderJudgedVerifier(t *testing.T) {
	data := random(10)
	v := verifierFor(t, data)
	if _, err := io.ReadAll(signature.NewReader(bytes.NewReader(data), v)); err != nil {
		t.Fatal(err)
	}
	r := signature.NewReader(bytes.NewReader(data), v)
	if got, err := io.ReadAll(r); len(got) != 0 || err == nil || r.Verified() {
		t.Errorf("second stream: %d bytes, %v, Verified %v", len(got), err, r.Verified())
	}
}

// TestReaderMemory holds that a Reader allocates nothing as it goes.
func TestReaderMemory(t *testing.T) {
	data := random(8 << 20)
	r := signature.NewReader(bytes.NewReader(data), verifierFor(t, data))
	p := make([]byte, 32<<10)
	if allocs := testing.AllocsPerRun(200, func() {
		if _, err := r.Read(p); err != nil {
			t.Fatal(err)
		}
	}); allocs > 0 {
		t.Errorf("%v allocations a Read", allocs)
	}
}

func TestVerifiedWhileReading(t *testing.T) {
	data := random(1 << 20)
	r := signature.NewReader(iotest.HalfReader(bytes.NewReader(data)), verifierFor(t, data))
	done := make(chan error)
	go func() { // ends with the data
		_, err := io.Copy(io.Discard, r)
		done <- err
	}()
	for {
		verified := r.Verified()
		select {
		case err := <-done:
			if err != nil || !r.Verified() {
				t.Errorf("Copy = %v, Verified = %v", err, r.Verified())
			}
			return
		default:
			if verified && !r.Verified() {
				t.Fatal("Verified was taken back")
			}
		}
	}
}

func BenchmarkReader(b *testing.B) {
	data := random(64 << 20)
	b.SetBytes(int64(len(data)))
	p := make([]byte, 32<<10)
	for b.Loop() {
		b.StopTimer()
		r := signature.NewReader(bytes.NewReader(data), verifierFor(b, data))
		b.StartTimer()
		if _, err := io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, p); err != nil {
			b.Fatal(err)
		}
	}
}

// lender lends buffers of a size, and keeps account. What it gets back it spoils.
type lender struct {
	t          testing.TB
	size, most int // bytes of a buffer, buffers at once
	lent, all  int
	held       map[*byte]bool
}

func (l *lender) Take() []byte {
	if l.lent == l.most {
		return nil
	}
	b := make([]byte, l.size)
	l.lent, l.all = l.lent+1, l.all+1
	l.held[&b[0]] = true
	return b
}

func (l *lender) Give(b []byte) {
	if len(b) != l.size || !l.held[&b[0]] {
		l.t.Errorf("Give of %d bytes that are not lent", len(b))
		return
	}
	delete(l.held, &b[0])
	l.lent--
	for i := range b {
		b[i] = 0xee
	}
}

func newLender(t testing.TB, most int) *lender {
	return &lender{t: t, size: 256 << 10, most: most, held: map[*byte]bool{}}
}

// unsteady is fast for a while, and then slow, and then fast again.
type unsteady struct {
	src  io.Reader
	read int
}

func (u *unsteady) Read(p []byte) (int, error) {
	if u.read++; u.read%40 > 10 {
		p = p[:min(len(p), 100)]
	}
	return u.src.Read(p)
}

// A Reader that borrows hands out the same, by Read and by WriteTo, and holds
// nothing when it is done.
func TestReaderBorrows(t *testing.T) {
	data := random(3<<20 + 11)
	for name, source := range map[string]func() io.Reader{
		"fast":     func() io.Reader { return bytes.NewReader(data) },
		"unsteady": func() io.Reader { return &unsteady{src: bytes.NewReader(data)} },
		"hesitant": func() io.Reader { return &hesitant{src: bytes.NewReader(data)} },
	} {
		for _, most := range []int{0, 1, 2} {
			for _, good := range []bool{true, false} {
				for _, way := range []string{"Read", "WriteTo", "Read, then WriteTo"} {
					signed := data
					if !good {
						signed = append(bytes.Clone(data), 'x')
					}
					l, small := newLender(t, most), newLender(t, most)
					small.size = signature.SmallBuffer
					r := signature.NewReader(source(), verifierFor(t, signed))
					r.Borrow(small, l)
					got, err := drainBy(r, way)
					label := fmt.Sprintf("%s, %d to lend, good %v, %s", name, most, good, way)
					switch {
					case good && (err != nil || !bytes.Equal(got, data) || !r.Verified()):
						t.Errorf("%s: %d bytes, %v, Verified %v", label, len(got), err, r.Verified())
					case !good && (!errors.Is(err, signature.ErrMismatch) || r.Verified() || len(got) > len(data)-signature.Tail || !bytes.HasPrefix(data, got)):
						t.Errorf("%s: %d bytes, %v, Verified %v", label, len(got), err, r.Verified())
					}
					if l.lent+small.lent != 0 || most > 0 && (l.all == 0 || small.all == 0) {
						t.Errorf("%s: %d buffers are held of %d that were lent, and %d small ones of %d; want none of some", label, l.lent, l.all, small.lent, small.all)
					}
					if name == "unsteady" && most > 0 && l.all < 2 {
						t.Errorf("%s: a buffer was lent %d times: it is not given back when the source is slow", label, l.all)
					}
				}
			}
		}
	}
}

// drainBy reads to the end. What was read must not change when buffers are given
// back, so it is copied as any consumer would.
func drainBy(r *signature.Reader, way string) ([]byte, error) {
	var out bytes.Buffer
	if way == "Read" {
		_, err := io.Copy(&out, struct{ io.Reader }{r})
		return out.Bytes(), err
	}
	if way == "Read, then WriteTo" {
		p := make([]byte, 1000)
		for range 400 {
			n, err := r.Read(p)
			out.Write(p[:n])
			if err != nil {
				return out.Bytes(), err
			}
		}
	}
	_, err := r.WriteTo(struct{ io.Writer }{&out})
	return out.Bytes(), err
}

// WriteTo writes each piece as soon as Read would return it, and ends with what the
// writer says.
func TestReaderWriteTo(t *testing.T) {
	data := random(5 * signature.Tail)
	full := errors.New("full")
	for _, test := range []struct {
		name string
		to   func(p []byte) (int, error)
		want error
	}{
		{"full", func(p []byte) (int, error) { return 0, full }, full},
		{"short", func(p []byte) (int, error) { return len(p) - 1, nil }, io.ErrShortWrite},
		{"half, then full", func(p []byte) (int, error) { return len(p) / 2, full }, full},
	} {
		r := signature.NewReader(bytes.NewReader(data), verifierFor(t, data))
		n, err := r.WriteTo(writerFunc(test.to))
		if err != test.want {
			t.Errorf("%s: WriteTo = %d, %v, want %v", test.name, n, err, test.want)
		}
		rest, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(rest, data[n:]) {
			t.Errorf("%s: %d bytes are left after %d, %v, want the other %d", test.name, len(rest), n, err, len(data)-int(n))
		}
	}
	r := signature.NewReader(bytes.NewReader(data), verifierFor(t, data))
	if n, err := r.WriteTo(writerFunc(func(p []byte) (int, error) { return len(p) + 1, nil })); err == nil {
		t.Errorf("WriteTo a writer of impossible counts = %d, %v, want an error", n, err)
	}
	src := &metered{src: bytes.NewReader(data)}
	r = signature.NewReader(src, verifierFor(t, data))
	passed := 0
	r.WriteTo(writerFunc(func(p []byte) (int, error) {
		passed += len(p)
		if src.count-passed != signature.Tail && !r.Verified() {
			t.Errorf("%d bytes were read and %d passed on, before the verdict: want %d held back", src.count, passed, signature.Tail)
		}
		return len(p), nil
	}))
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// A Reader that is closed gives back what it holds, once, and reads no further.
func TestReaderClose(t *testing.T) {
	data := random(2 << 20)
	l := newLender(t, 1)
	r := signature.NewReader(bytes.NewReader(data), verifierFor(t, data))
	r.Borrow(nil, l)
	io.CopyN(io.Discard, struct{ io.Reader }{r}, 1<<20)
	if l.lent != 1 {
		t.Fatalf("%d buffers are held in the middle, want 1", l.lent)
	}
	r.Close()
	r.Close()
	if n, err := r.Read(make([]byte, 10)); n != 0 || err == nil || err == io.EOF || l.lent != 0 {
		t.Errorf("after Close Read = %d, %v, and %d buffers are held", n, err, l.lent)
	}
	r = signature.NewReader(bytes.NewReader(data), verifierFor(t, data))
	io.Copy(io.Discard, struct{ io.Reader }{r})
	r.Close()
	if n, err := r.Read(make([]byte, 10)); n != 0 || err != io.EOF || !r.Verified() {
		t.Errorf("after the end and Close Read = %d, %v, Verified %v, want 0, EOF, true", n, err, r.Verified())
	}
}
