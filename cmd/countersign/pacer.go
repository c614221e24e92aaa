package main

import (
	"runtime"
	"runtime/debug"
	measured "runtime/metrics"
	"sync"
	"time"
)

const (
	// garbage is how much may lie about while there are very many small requests,
	// in bytes. More than that saved nothing.
	garbage = 16 << 20

	// So many runs of the collector in a row, each soon after the one before, come
	// of many small requests, and not of a heap that grows once.
	collectedSoon = 200 * time.Millisecond
	collectedMany = 4

	// calmAfter is how long after its last run all is as it was.
	calmAfter = 5 * time.Second
)

// pacer has Go's garbage collector run less often while it would run all the
// time. What is alive here is tiny, and as it waits for as much garbage as that, or
// for 4 MiB in all, small requests keep it busy: dozens of runs a second, a tenth of
// the processor. An idle or a slow proxy is left alone, since there the garbage
// would outweigh all else.
type pacer struct {
	live func() uint64 // what is alive, in bytes
	set  func(percent int)

	mu      sync.Mutex // guards what follows
	percent int
	last    time.Time   // when it ran
	soon    int         // how many times in a row
	calming *time.Timer // nil while it is calm
}

// collectLess starts a pacer, unless an operator has set GOGC.
func collectLess() {
	if percent := debug.SetGCPercent(100); percent != 100 {
		debug.SetGCPercent(percent)
		return
	}
	p := &pacer{live: liveBytes, set: func(percent int) { debug.SetGCPercent(percent) }, percent: 100}
	afterEachCollection(p.ran)
}

func liveBytes() uint64 {
	sample := []measured.Sample{{Name: "/gc/heap/live:bytes"}}
	measured.Read(sample)
	return sample[0].Value.Uint64()
}

// afterEachCollection calls f when the collector has run, one call at a time.
func afterEachCollection(f func()) {
	// With a pointer in it, it is not put together with what lives longer.
	found := &struct{ self any }{}
	runtime.SetFinalizer(found, func(any) {
		f()
		afterEachCollection(f)
	})
}

// ran is told of each run.
func (p *pacer) ran() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if p.soon++; now.Sub(p.last) > collectedSoon {
		p.soon = 0
	}
	p.last = now
	switch {
	case p.calming != nil:
		p.calming.Reset(calmAfter)
	case p.soon >= collectedMany:
		p.calming = time.AfterFunc(calmAfter, p.calm)
	default:
		return
	}
	p.let(int(min(400, max(100, garbage*100/max(1, p.live())))))
}

// calm is called when it has not run for a while.
func (p *pacer) calm() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calming, p.soon = nil, 0
	p.let(100)
}

// let sets the percentage, which stops the world for a moment, if it is another.
func (p *pacer) let(percent int) {
	if percent != p.percent {
		p.percent = percent
		p.set(percent)
	}
}
