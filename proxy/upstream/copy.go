package upstream

import "io"

const (
	// slow is how much is read at once of a stream that has not shown that it is
	// fast. More of a small buffer has no memory behind it.
	slow = 8 << 10
	// full is how many full reads in a row show that it is, and slack how many
	// small ones that it is no longer.
	full, slack = 2, 8
)

// Copy copies a stream until its end. It begins with a small buffer, takes a large
// one while whole buffers are there to be read, and gives it back when they are
// not: a slow stream holds little memory, and a fast one makes few system calls.
// An io.WriterTo is asked to do it itself. While a Movable is fast the kernel moves
// it, if it goes to where Send sends.
func Copy(dst io.Writer, src io.Reader) (n int64, err error) {
	if to, able := src.(io.WriterTo); able {
		return to.WriteTo(dst)
	}
	return through(dst, src)
}

// through is Copy through a buffer. (On its own, so that an io.WriterTo does not
// stand on what this takes of the stack, for as long as an upload lasts.)
func through(dst io.Writer, src io.Reader) (n int64, err error) {
	small := Small.Take()
	defer func() { Small.Give(small) }()
	if small == nil {
		small = make([]byte, slow)
	}
	buffer, count := small[:slow], 0
	defer func() { Large.Give(buffer) }()
	kernel := newMover(dst, src)
	defer kernel.end()
	for {
		read, moved, err := kernel.read(buffer)
		n += int64(moved)
		if moved < read {
			written, err := dst.Write(buffer[moved:read])
			n += int64(written)
			if err != nil {
				return n, err
			}
			if written < read-moved {
				return n, io.ErrShortWrite
			}
		}
		switch {
		case err == io.EOF:
			return n, nil
		case err != nil:
			return n, err
		case len(buffer) == slow && read == slow:
			if count++; count >= full {
				if large := Large.Take(); large != nil {
					buffer = large
				}
				count = 0
			}
		case len(buffer) > slow && read <= slow:
			if count++; count >= slack {
				Large.Give(buffer)
				kernel.end()
				buffer, count = small[:slow], 0
			}
		default:
			count = 0
		}
	}
}
