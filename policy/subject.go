package policy

import "slices"

// Subject is what a rule is chosen by.
type Subject struct {
	Owner      string     // project id; empty for an image without owner
	Visibility Visibility // empty counts as private
}

// Visibility says who besides its owner may use an image, as Glance names it.
// Glance calls an image shared by default; one that has no members counts as
// private here.
type Visibility string

const (
	Public    Visibility = "public"    // everybody
	Community Visibility = "community" // everybody who knows its id
	Shared    Visibility = "shared"    // its members
	Private   Visibility = "private"   // nobody
)

// Visibilities are all that Glance has.
var Visibilities = []Visibility{Public, Community, Shared, Private}

// visibilities is a set of them: bit i is Visibilities[i].
type visibilities uint8

const everyVisibility = visibilities(1<<4 - 1)

// setOf is what a rule's list means: all, if it is empty.
func setOf(list []Visibility) visibilities {
	if len(list) == 0 {
		return everyVisibility
	}
	var set visibilities
	for _, v := range list {
		set |= 1 << slices.Index(Visibilities, v)
	}
	return set
}

// includes reports whether all of other are in s.
func (s visibilities) includes(other visibilities) bool { return s&other == other }

// has reports whether Visibilities[v] is in s.
func (s visibilities) has(v int) bool { return s&(1<<v) != 0 }

// index is a visibility's place in Visibilities, or -1 for what Glance does not
// know.
func (v Visibility) index() int {
	if v == "" {
		v = Private
	}
	return slices.Index(Visibilities, v)
}
