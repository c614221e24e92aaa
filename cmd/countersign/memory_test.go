package main

import "testing"

func TestTender(t *testing.T) {
	tests := []struct {
		name      string
		alive     uint64 // MiB
		allocated []int  // between two looks, KiB
		collected string // in which of them garbage is collected
		percent   []int
	}{
		{"nothing happens", 2, []int{0, 0, 0}, "...", []int{50, 50, 50}},
		{"next to nothing happens", 2, []int{100, 100, 100}, "...", []int{50, 50, 50}},
		{"a burst", 2, []int{9000, 0, 0, 0, 0}, ".###.", []int{50, 50, 50, 50, 50}},
		{"a burst that goes on", 2, []int{9000, 1000, 9000, 10, 10, 10, 10}, "...###.", []int{50, 50, 50, 50, 50, 50, 50}},
		{"a burst between collections", 2, []int{9000, 10, 9000, 10, 10, 10, 10}, ".#.###.", []int{50, 50, 50, 50, 50, 50, 50}},
		{"a trickle", 2, []int{500, 500, 500, 500, 500, 500, 500, 500, 500, 500, 500, 500}, "........###.", []int{50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50, 50}},
		{"a small burst", 2, []int{3000, 0, 0}, "...", []int{50, 50, 50}},
		{"many requests", 2, []int{20_000, 45_000, 10_000, 10, 10, 10, 10}, "...###.", []int{400, 400, 400, 50, 50, 50, 50}},
		{"many requests over many connections", 8, []int{20_000, 10}, ".#", []int{200, 50}},
		{"over very many", 60, []int{20_000, 10}, ".#", []int{50, 50}},
	}
	for _, test := range tests {
		tender := tender{percent: calm}
		var collected string
		var sum uint64
		for i, kib := range test.allocated {
			sum += uint64(kib) << 10
			if tender.look(sum, test.alive<<20) {
				collected += "#"
			} else {
				collected += "."
			}
			if tender.percent != test.percent[i] {
				t.Errorf("%s: look %d: %d %%, want %d", test.name, i, tender.percent, test.percent[i])
			}
		}
		if collected != test.collected {
			t.Errorf("%s: collected in %s, want %s", test.name, collected, test.collected)
		}
	}
}
