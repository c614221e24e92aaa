package main

import (
	"slices"
	"strings"
	"testing"
)

func TestTender(t *testing.T) {
	quiet := func(looks int) []int { return make([]int, looks) }
	tests := []struct {
		name      string
		alive     uint64 // MiB
		allocated []int  // between two looks, KiB
		collected string // at which looks garbage is collected
		percent   []int  // before that
		bodies    int
	}{
		{"nothing happens", 2, quiet(7), ".......", []int{50, 50, 50, 50, 50, 50, 50}, 0},
		{"next to nothing happens", 2, []int{90, 90, 90, 90, 90, 90}, "......", []int{50, 50, 50, 50, 50, 50}, 0},
		{"a burst", 2, append([]int{9000}, quiet(20)...), ".....#....#....#.....", nil, 0},
		{"a burst that goes on", 2, append([]int{9000, 1000, 9000}, quiet(6)...), ".......#.", []int{50, 50, 50, 50, 50, 50, 50, 50, 50}, 0},
		{"a burst between collections", 2, slices.Concat([]int{9000}, quiet(6), []int{9000}, quiet(16)), ".....#......#....#....#.", nil, 0},
		{"pauses that do not last", 2, slices.Concat([]int{9000}, quiet(4), []int{9000}, quiet(4)), "..........", nil, 0},
		{"a trickle", 2, slices.Repeat([]int{99}, 60), strings.Repeat(".", 44) + "#....#....#.....", nil, 0},
		{"a small burst", 2, append([]int{3000}, quiet(9)...), "..........", []int{50}, 0},
		{"many requests", 2, append([]int{4000, 9000, 2000}, quiet(6)...), ".......#.", []int{50, 400, 400, 400, 400, 400, 400, 50, 50}, 0},
		{"many requests over many connections", 8, append([]int{4000, 4000}, quiet(5)...), "......#", []int{50, 200, 200, 200, 200, 200, 50}, 0},
		{"many uploads that begin", 2, []int{4000, 9000}, "..", []int{50, 50}, 8},
		{"over very many", 60, []int{4000, 4000}, "..", []int{50, 50}, 0},
	}
	for _, test := range tests {
		tender := tender{percent: calm}
		var collected string
		var sum uint64
		for i, kib := range test.allocated {
			sum += uint64(kib) << 10
			if tender.look(sum, test.alive<<20, test.bodies) {
				collected += "#"
			} else {
				collected += "."
			}
			if i < len(test.percent) && tender.percent != test.percent[i] {
				t.Errorf("%s: look %d: %d %%, want %d", test.name, i, tender.percent, test.percent[i])
			}
		}
		if collected != test.collected {
			t.Errorf("%s: collected in %s, want %s", test.name, collected, test.collected)
		}
	}
}
