package signature

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"
)

// Tail is the number of bytes at the end of the data, 16 KiB, that a Reader
// holds back until the signature has been verified.
const Tail = 16 << 10

// room is what there is at least for a read, and bufferSize what a Reader
// allocates: that and the tail. A source that trickles has the tail moved at every
// read, which costs less than the memory that would spare it.
const (
	room       = 4 << 10
	bufferSize = Tail + room
)

// How many reads in a row that fill the room show that the source is fast, and how
// many that would have fitted into little that it is no longer.
const (
	full  = 4
	slack = 8
)

// SmallBuffer is the size in bytes that a buffer must have at least to be of use
// to a Reader, 20 KiB.
const SmallBuffer = bufferSize

// Buffers lends buffers, of one size or a few. upstream.Buffers are some.
type Buffers interface {
	// Take returns a buffer of whatever content, or nil if there is none to spare.
	Take() []byte
	// Give takes a buffer back, which Take returned and which is not used any more.
	Give([]byte)
}

// maxEmptyReads is how often a source may return neither data nor an error.
const maxEmptyReads = 100

// A Reader passes image data on while a Judge sees it, and lets nobody come
// to the end of data that does not verify:
//
//	source  |—————— passed on at every read ——————|—— held back ——| EOF
//	                                                 Tail bytes    ↓
//	consumer|—————— never more than this ————————>|     Verify() == nil ? the rest, io.EOF
//	                                                              : an error, for good
//
// Data shorter than the tail is held back whole. All methods but Verified are for
// one goroutine at a time.
type Reader struct {
	src   io.Reader
	judge Judge

	buffer     []byte  // nil before the first byte is read, and after the last was passed on
	owner      Buffers // to whom it goes back; nil: nobody
	start, end int     // buffer[start:end] was hashed and not passed on
	err        error   // sticky; io.EOF stands for verified
	verified   atomic.Bool

	small, large Buffers // nil: nobody lends any
	count        int     // of reads in a row that speak for another buffer
}

// Judge sees data and says in the end whether it is the right one: a Verifier,
// or whoever knows otherwise. The error is or wraps ErrMismatch if it is not.
type Judge interface {
	io.Writer
	Verify() error
}

// NewReader returns a Reader of src, which takes 20 KiB of memory however long
// the data is. The Judge must be fresh and belongs to
// the Reader until a Read has returned an error.
func NewReader(src io.Reader, j Judge) *Reader {
	return &Reader{src: src, judge: j}
}

// Borrow lets the Reader take a buffer of small ones, in place of memory of its
// own, and of large ones while the source is fast. It gives back what it holds
// when it needs another, when nothing is left to be read, and on Close.
func (r *Reader) Borrow(small, large Buffers) { r.small, r.large = small, large }

// Close gives back what was borrowed. Nothing can be read afterwards.
func (r *Reader) Close() error {
	if r.err == nil || r.ready() > 0 {
		r.err = errors.New("image data: the reader is closed")
	}
	r.exchange(nil, nil)
	return nil
}

// Prime blocks until there is a byte to pass on or the data has been judged.
// If it returns nil, the next Read does not block, and it is time to call
// whoever the data is for; otherwise it returns the error that Read will
// return.
func (r *Reader) Prime() error {
	for r.ready() == 0 && r.err == nil {
		r.fill()
	}
	if r.err == io.EOF {
		return nil
	}
	return r.err
}

// Read returns data as soon as there is some beyond the tail. It returns
// io.EOF only if the signature has been verified over all the data; the error
// is ErrMismatch if it does not match. An error of the source is returned as
// it is, unless errors.Is takes it for io.EOF. After an error other than
// io.EOF nothing that was held back is ever returned.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for r.ready() == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.fill()
	}
	n := copy(p, r.buffer[r.start:r.start+r.ready()])
	r.pass(n)
	return n, nil
}

// WriteTo implements io.WriterTo: it is Read until the end, without a buffer in
// between. Each piece is written as soon as Read would have returned it.
func (r *Reader) WriteTo(w io.Writer) (n int64, err error) {
	for {
		for r.ready() == 0 {
			switch {
			case r.err == io.EOF:
				return n, nil
			case r.err != nil:
				return n, r.err
			}
			r.fill()
		}
		piece := r.buffer[r.start : r.start+r.ready()]
		written, err := w.Write(piece)
		if written < 0 || written > len(piece) {
			return n, errors.New("image data: writer returned an impossible count")
		}
		n += int64(written)
		short := written < len(piece)
		r.pass(written)
		switch {
		case err != nil:
			return n, err
		case short:
			return n, io.ErrShortWrite
		}
	}
}

// Verified reports whether all the data was read from the source and the
// signature verified over it. It may be called at any time, also while another
// goroutine is in Read.
func (r *Reader) Verified() bool { return r.verified.Load() }

// ready returns how many bytes may be passed on.
func (r *Reader) ready() int {
	held := r.end - r.start
	switch r.err {
	default:
		return 0
	case nil:
		return max(0, held-Tail)
	case io.EOF:
		return held
	}
}

// pass notes that n bytes were passed on.
func (r *Reader) pass(n int) {
	r.start += n
	if r.err == io.EOF && r.start == r.end {
		r.exchange(nil, nil)
	}
}

// fill reads from the source once. It is called only while no more than the
// tail is held, so that moving it to the front always makes room, and what is held
// after a read into the room always fits into a small buffer.
func (r *Reader) fill() {
	switch {
	case r.buffer == nil:
		r.begin()
	case len(r.buffer)-r.end < room:
		r.end = copy(r.buffer, r.buffer[r.start:r.end])
		r.start = 0
	}

	free := len(r.buffer) - r.end
	n, err := r.read(r.buffer[r.end:])
	if _, werr := r.judge.Write(r.buffer[r.end : r.end+n]); werr != nil {
		r.fail(werr)
		return
	}
	r.end += n
	switch {
	case err == nil:
		r.resize(n, n == free && n >= room)
	case err == io.EOF:
		r.decide()
	case errors.Is(err, io.EOF):
		// A consumer that asks errors.Is would take it for the end.
		r.fail(fmt.Errorf("image data: %v", err))
	default:
		r.fail(err)
	}
}

// fail is the end of everything that is held.
func (r *Reader) fail(err error) {
	r.err = err
	r.exchange(nil, nil)
}

// begin goes on with a small buffer.
func (r *Reader) begin() {
	if r.small != nil {
		if lent := r.small.Take(); lent != nil {
			r.exchange(lent, r.small)
			return
		}
	}
	r.exchange(make([]byte, bufferSize), nil)
}

// resize takes or gives back a larger buffer, as a read of n bytes, which filled
// the room or not, speaks for it.
func (r *Reader) resize(n int, filled bool) {
	large := r.large != nil && r.owner == r.large
	switch {
	case !large && filled && r.large != nil:
		if r.count++; r.count >= full {
			if lent := r.large.Take(); lent != nil {
				r.exchange(lent, r.large)
			}
			r.count = 0
		}
	case large && n <= room:
		if r.count++; r.count >= slack {
			r.begin()
		}
	default:
		r.count = 0
	}
}

// exchange goes on with another buffer, or none. What is held goes along, unless
// it is never to be passed on.
func (r *Reader) exchange(other []byte, owner Buffers) {
	held := r.buffer[r.start:r.end]
	if r.err != nil && r.err != io.EOF {
		held = nil
	}
	r.start, r.end = 0, copy(other, held)
	if r.owner != nil {
		r.owner.Give(r.buffer)
	}
	r.buffer, r.owner, r.count = other, owner, 0
}

// read returns at least one byte or an error.
func (r *Reader) read(p []byte) (int, error) {
	for range maxEmptyReads {
		n, err := r.src.Read(p)
		if n < 0 || n > len(p) {
			return 0, errors.New("image data: reader returned an impossible count")
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

// decide is the only place that sets io.EOF.
func (r *Reader) decide() {
	if err := r.judge.Verify(); err != nil {
		r.fail(err)
		return
	}
	r.verified.Store(true)
	r.err = io.EOF
}
