package main

import (
	"context"
	"runtime/debug"
	gauges "runtime/metrics"
	"time"
)

// giveMemoryBack gives the system back what a burst of requests has left, once it is
// over. Go keeps such memory, and stacks as large as they have been, until garbage
// is collected, which happens every two minutes where little is allocated.
func giveMemoryBack(ctx context.Context) {
	var lull lull
	allocated := []gauges.Sample{{Name: "/gc/heap/allocs:bytes"}}
	for tick := time.NewTicker(time.Second); ; {
		select {
		case <-ctx.Done():
			tick.Stop()
			return
		case <-tick.C:
		}
		gauges.Read(allocated)
		if lull.found(allocated[0].Value.Uint64()) {
			debug.FreeOSMemory()
		}
	}
}

const (
	littleAllocation = 1 << 20 // bytes in a second; that long nothing need be hurried
	muchAllocation   = 4 << 20 // bytes since the last time; worth a collection
	collections      = 3       // each halves stacks that are too large
)

// lull finds when to collect garbage.
type lull struct {
	allocated, collected uint64 // bytes in all, at the last look and the last collection
	due                  int
}

// found is told every second how many bytes have been allocated so far, and reports
// whether garbage is to be collected.
func (l *lull) found(allocated uint64) bool {
	quiet := allocated-l.allocated < littleAllocation
	l.allocated = allocated
	if allocated-l.collected >= muchAllocation {
		l.due = collections
	}
	if !quiet || l.due == 0 {
		return false
	}
	l.due--
	l.collected = allocated
	return true
}
