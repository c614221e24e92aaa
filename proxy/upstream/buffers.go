package upstream

import (
	"runtime"
	"sync"
)

const (
	// LargeSize is the size of a large buffer in bytes: 1 MiB, and a
	// signature.Reader's tail. With a quarter of it an upload costs the same where
	// system calls and interrupts are cheap, and a third more where they are not.
	LargeSize = 1<<20 + 16<<10

	// mediumSize is 256 KiB and such a tail, for when those are spent.
	mediumSize = 256<<10 + 16<<10

	// SmallSize is the size of a small one, 20 KiB: what a signature.Reader needs.
	SmallSize = 20 << 10
)

// Where buffers come from: 50, 24 and 80 MiB at most.
var (
	Large = Sizes{{Size: LargeSize, Most: 32}, {Size: mediumSize, Most: 64}}
	Ahead = Buffers{Size: LargeSize, Most: 24} // for reading ahead: a client can hold one for as long as it likes
	Small = Buffers{Size: SmallSize, Most: 4096}
)

// Sizes are buffers of several sizes, of which the first that are not spent are lent.
type Sizes []Buffers

// Take is Buffers.Take.
func (s Sizes) Take() []byte {
	for i := range s {
		if buffer := s[i].Take(); buffer != nil {
			return buffer
		}
	}
	return nil
}

// Give is Buffers.Give.
func (s Sizes) Give(buffer []byte) {
	for i := range s {
		s[i].Give(buffer)
	}
}

// Trim is Buffers.Trim.
func (s Sizes) Trim() {
	for i := range s {
		s[i].Trim()
	}
}

// Lent is Buffers.Lent.
func (s Sizes) Lent() (lent int) {
	for i := range s {
		lent += s[i].Lent()
	}
	return lent
}

// Buffers are buffers of one size within a budget. They lie outside Go's heap, so
// that the memory behind one that is given back is the system's again at once, and
// not after some collections; a few are kept as they are. It is safe for concurrent
// use.
type Buffers struct {
	Size int // of each, in bytes
	Most int // that there may be

	mu     sync.Mutex // guards what follows
	made   int
	lent   int
	ready  [][]byte // with memory behind them
	hollow [][]byte // without
}

// Take returns a buffer of whatever content, or nil if the budget is spent.
// Whoever takes it gives it back, once, and uses it no more.
func (b *Buffers) Take() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, list := range []*[][]byte{&b.ready, &b.hollow} {
		if n := len(*list); n > 0 {
			buffer := (*list)[n-1]
			*list = (*list)[:n-1]
			b.lent++
			return buffer
		}
	}
	if b.made == b.Most {
		return nil
	}
	buffer := reserve(b.Size)
	if buffer != nil {
		b.made++
		b.lent++
	}
	return buffer
}

// Give takes a buffer back, or a piece from its beginning. One of another size is
// left alone.
func (b *Buffers) Give(buffer []byte) {
	if cap(buffer) != b.Size {
		return
	}
	buffer = buffer[:b.Size]
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lent--
	if len(b.ready) < 2*runtime.GOMAXPROCS(0) {
		b.ready = append(b.ready, buffer)
		return
	}
	hollow(buffer)
	b.hollow = append(b.hollow, buffer)
}

// Trim gives back the memory behind the buffers that are not lent.
func (b *Buffers) Trim() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, buffer := range b.ready {
		hollow(buffer)
	}
	b.hollow = append(b.hollow, b.ready...)
	b.ready = b.ready[:0]
}

// Lent returns how many buffers have been taken and not given back.
func (b *Buffers) Lent() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lent
}
