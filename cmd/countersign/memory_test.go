package main

import "testing"

func TestLull(t *testing.T) {
	tests := []struct {
		name      string
		allocated []uint64 // in each second, in KiB
		want      string   // in which of them garbage is collected
	}{
		{"nothing happens", []uint64{0, 0, 0, 0}, "...."},
		{"next to nothing happens", []uint64{100, 100, 100, 100}, "...."},
		{"a burst", []uint64{9000, 0, 0, 0, 0, 0}, ".###.."},
		{"a burst that goes on", []uint64{9000, 9000, 2000, 9000, 10, 10, 10, 10}, "....###."},
		{"a burst between collections", []uint64{9000, 10, 9000, 10, 10, 10, 10}, ".#.###."},
		{"a trickle", []uint64{1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000, 1000}, "....###.."},
		{"a small burst", []uint64{3000, 0, 0, 0}, "...."},
	}
	for _, test := range tests {
		var l lull
		var got string
		var sum uint64
		for _, kib := range test.allocated {
			sum += kib << 10
			if l.found(sum) {
				got += "#"
			} else {
				got += "."
			}
		}
		if got != test.want {
			t.Errorf("%s: collected in %s, want %s", test.name, got, test.want)
		}
	}
}
