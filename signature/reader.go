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

// bufferSize is what a Reader allocates, once: the tail, and room for what is
// read beyond it.
const bufferSize = Tail + 48<<10

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
// Data shorter than the tail is held back whole. Read and Prime are for one
// goroutine at a time.
type Reader struct {
	src   io.Reader
	judge Judge

	buffer     []byte
	start, end int   // buffer[start:end] was hashed and not passed on
	err        error // sticky; io.EOF stands for verified
	verified   atomic.Bool
}

// Judge sees data and says in the end whether it is the right one: a Verifier,
// or whoever knows otherwise. The error is or wraps ErrMismatch if it is not.
type Judge interface {
	io.Writer
	Verify() error
}

// NewReader returns a Reader of src, which takes 64 KiB of memory however long
// the data is. The Judge must be fresh and belongs to
// the Reader until a Read has returned an error.
func NewReader(src io.Reader, j Judge) *Reader {
	return &Reader{src: src, judge: j, buffer: make([]byte, bufferSize)}
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
	r.start += n
	return n, nil
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

// fill reads from the source once. It is called only while no more than the
// tail is held, so that moving it to the front always makes room.
func (r *Reader) fill() {
	// Not at every read: a source may trickle.
	if len(r.buffer)-r.end < Tail {
		r.end = copy(r.buffer, r.buffer[r.start:r.end])
		r.start = 0
	}

	n, err := r.read(r.buffer[r.end:])
	if _, werr := r.judge.Write(r.buffer[r.end : r.end+n]); werr != nil {
		r.err = werr
		return
	}
	r.end += n
	switch {
	case err == nil:
	case err == io.EOF:
		r.decide()
	case errors.Is(err, io.EOF):
		// A consumer that asks errors.Is would take it for the end.
		r.err = fmt.Errorf("image data: %v", err)
	default:
		r.err = err
	}
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
		r.err = err
		return
	}
	r.verified.Store(true)
	r.err = io.EOF
}
