package upstream

import (
	"runtime"
	"sync"
)

// LargeSize is the size of a large buffer in bytes: 256 KiB, beyond which trials
// found nothing more to save, and a signature.Reader's tail.
const LargeSize = 256<<10 + 16<<10

// largeMost is how many large buffers there may be: 68 MiB in all.
const largeMost = 256

// Large is where large buffers come from.
var Large Buffers

// Buffers are large buffers within a budget. They lie outside Go's heap, so that
// the memory behind one that is given back is the system's again at once, and not
// after some collections; a few are kept as they are.
type Buffers struct {
	mu     sync.Mutex // guards what follows
	made   int
	lent   int
	ready  [][]byte // with memory behind them
	hollow [][]byte // without
}

// Take returns a buffer of LargeSize bytes of whatever content, or nil if the
// budget is spent. Whoever takes it gives it back, once, and uses it no more.
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
	if b.made == largeMost {
		return nil
	}
	buffer := reserve(LargeSize)
	if buffer != nil {
		b.made++
		b.lent++
	}
	return buffer
}

// Give takes a buffer back. One that is not large is left alone.
func (b *Buffers) Give(buffer []byte) {
	if cap(buffer) != LargeSize {
		return
	}
	buffer = buffer[:LargeSize]
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

// Lent returns how many buffers have been taken and not given back.
func (b *Buffers) Lent() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lent
}
