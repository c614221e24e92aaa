package main

import (
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// The collector runs less often while it would run all the time, and as it did
// when that is over.
func TestPacer(t *testing.T) {
	tests := []struct {
		name string
		live uint64
		runs []time.Duration // the pause before each
		want []int           // what was set, in turn
	}{
		{"now and then", 2 << 20, []time.Duration{time.Second, time.Second, time.Second, time.Second, time.Second, time.Second}, nil},
		{"a heap that grows once", 2 << 20, []time.Duration{time.Second, 10, 10, 10, time.Second, 10, 10, 10}, nil},
		{"all the time", 2 << 20, []time.Duration{time.Second, 10, 10, 10, 10, time.Second, time.Second}, []int{400, 100}},
		{"all the time, twice", 2 << 20, []time.Duration{time.Second, 10, 10, 10, 10, time.Minute, 10, 10, 10, 10}, []int{400, 100, 400, 100}},
		{"more and more alive", 8 << 20, []time.Duration{time.Second, 10, 10, 10, 10, 10, 10}, []int{200, 100}},
		{"very much alive", 100 << 20, []time.Duration{time.Second, 10, 10, 10, 10, 10, 10}, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var got []int
				p := &pacer{live: func() uint64 { return test.live }, set: func(percent int) { got = append(got, percent) }, percent: 100}
				for _, pause := range test.runs {
					time.Sleep(pause) // the bubble's clock
					p.ran()
				}
				time.Sleep(2 * calmAfter)
				if synctest.Wait(); !slices.Equal(got, test.want) {
					t.Errorf("percent was set to %v, want %v", got, test.want)
				}
			})
		})
	}
}

func TestAfterEachCollection(t *testing.T) {
	ran := make(chan struct{}, 1)
	afterEachCollection(func() {
		select {
		case ran <- struct{}{}:
		default: // the test is over
		}
	})
	for range 3 {
		runtime.GC()
		select {
		case <-ran:
		case <-time.After(10 * time.Second):
			t.Fatal("nobody was told")
		}
	}
	if live := liveBytes(); live == 0 {
		t.Errorf("%d bytes are alive", live)
	}
}
