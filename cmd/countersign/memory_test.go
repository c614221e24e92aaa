package main

import "testing"

func TestTender(t *testing.T) {
	tests := []struct {
		name      string
		alive     uint64 // MiB
		allocated []int  // in each second, KiB
		collected string // in which of them garbage is collected
		percent   []int
	}{
		{"nothing happens", 2, []int{0, 0, 0}, "...", []int{100, 100, 100}},
		{"next to nothing happens", 2, []int{100, 100, 100}, "...", []int{100, 100, 100}},
		{"a burst", 2, []int{9000, 0, 0, 0, 0}, ".###.", []int{100, 100, 100, 100, 100}},
		{"a burst that goes on", 2, []int{9000, 2000, 9000, 10, 10, 10, 10}, "...###.", []int{100, 100, 100, 100, 100, 100, 100}},
		{"a burst between collections", 2, []int{9000, 10, 9000, 10, 10, 10, 10}, ".#.###.", []int{100, 100, 100, 100, 100, 100, 100}},
		{"a trickle", 2, []int{1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000}, "....###.", []int{100, 100, 100, 100, 100, 100, 100, 100}},
		{"a small burst", 2, []int{3000, 0, 0}, "...", []int{100, 100, 100}},
		{"many requests", 2, []int{40_000, 90_000, 20_000, 10, 10, 10, 10}, "...###.", []int{400, 400, 400, 100, 100, 100, 100}},
		{"many requests over many connections", 8, []int{40_000, 10}, ".#", []int{200, 100}},
		{"over very many", 60, []int{40_000, 10}, ".#", []int{100, 100}},
	}
	for _, test := range tests {
		tender := tender{percent: 100}
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
				t.Errorf("%s: second %d: %d %%, want %d", test.name, i, tender.percent, test.percent[i])
			}
		}
		if collected != test.collected {
			t.Errorf("%s: collected in %s, want %s", test.name, collected, test.collected)
		}
	}
}
