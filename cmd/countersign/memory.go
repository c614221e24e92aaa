package main

import (
	"context"
	"runtime/debug"
	gauges "runtime/metrics"
	"time"

	"github.com/countersign/countersign/proxy/upstream"
)

// tending is how often memory is looked at.
const tending = time.Second / 10

// Bytes that are allocated between two looks.
const (
	// In a rush of small requests. What is alive is a few MiB, and as Go waits for
	// as much garbage as that, it would collect dozens of times a second, a tenth of
	// the processor.
	rush = 3 << 20
	// While nothing is hurried.
	lull = 100 << 10
	// Since the last collection, for one to be worth it in a lull.
	worthwhile = 4 << 20
)

const (
	// calm is how much garbage may lie about as a rule, in percent of what is alive:
	// half of what Go allows by itself, since uploads last long, and what was garbage
	// when they began leaves holes between what they hold.
	calm = 50
	// mayLie is how many bytes may in a rush. More than that saved nothing.
	mayLie = 16 << 20
	// manyBodies are so many that what lies between what they hold counts for more.
	manyBodies = 8
	// lasting is how many looks a lull must last, for garbage to be collected then, and
	// collections how many times, if it goes on: each halves stacks that are too large.
	lasting     = 5
	collections = 3
)

// tendMemory lets garbage lie while there are many small requests, and gives the
// system back what they, and uploads, have left, once they are over: Go keeps it, and
// stacks as large as they have been, until garbage is collected, which happens every
// two minutes where little is allocated. It ends with ctx.
func tendMemory(ctx context.Context) {
	t := tender{percent: calm}
	if found := debug.SetGCPercent(t.percent); found != 100 {
		debug.SetGCPercent(found) // GOGC, an operator's
		return
	}
	samples := []gauges.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	for tick := time.NewTicker(tending); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		gauges.Read(samples)
		before := t.percent
		collect := t.look(samples[0].Value.Uint64(), samples[1].Value.Uint64(), upstream.Small.Lent())
		if t.percent != before { // stops the world for a moment
			debug.SetGCPercent(t.percent)
		}
		if collect {
			upstream.Small.Trim()
			upstream.Large.Trim()
			upstream.Ahead.Trim()
			debug.FreeOSMemory()
		}
	}
}

// tender looks at every tending.
type tender struct {
	allocated, collected uint64 // bytes in all, at the last look, and when it last had garbage collected
	hurried, quiet       int    // looks that found a rush, and a lull, in a row
	due                  int
	percent              int // as debug.SetGCPercent wants it
}

// look is told how many bytes have been allocated so far, how many are alive, and how
// many bodies are on their way. It changes percent, and reports whether garbage is to
// be collected now.
func (t *tender) look(allocated, alive uint64, bodies int) (collect bool) {
	garbage := allocated - t.allocated
	t.allocated = allocated
	if allocated-t.collected >= worthwhile {
		t.due = collections
	}
	t.hurried++
	if garbage < rush {
		t.hurried = 0
	}
	t.quiet++
	if garbage >= lull {
		t.quiet = 0
	}
	switch {
	case bodies >= manyBodies:
		t.percent = calm
	case t.hurried >= 2: // and not a start
		t.percent = int(min(400, max(calm, mayLie*100/max(1, alive))))
	}
	if t.quiet < lasting {
		return false
	}
	t.percent = calm
	if t.due == 0 || t.quiet%lasting != 0 {
		return false
	}
	t.due--
	t.collected = allocated
	return true
}
