package proxy

import (
	"strings"
	"unicode"
)

// alike reports whether a database may take a name for one of ours, or for one
// that begins as ours does. Ours is ASCII in lower case. MariaDB compares names by
// their base letters: without regard to case, accents, full width, blanks at the
// end, and what is not seen at all. Which letters those are depends on how it
// collates; so each that could be is taken for any one, and for none.
func alike(name, ours string) (whole, begins bool) {
	at, end := uint64(1), len(ours) // bit i: what was read may be the first i letters of ours
	for _, c := range strings.TrimRight(name, " ") {
		next := at | at<<1
		switch {
		case ' ' <= c && c <= '~':
			next = 0
			for i := range ours {
				if at>>i&1 == 1 && unicode.ToLower(c) == rune(ours[i]) {
					next |= 1 << (i + 1)
				}
			}
		case unicode.IsLetter(c) && !unicode.In(c, unicode.Latin, unicode.Common):
			next = 0 // no letter of another script is one of ours
		}
		at = next & (1<<(end+1) - 1)
		begins = begins || at>>end == 1
	}
	return at>>end == 1, begins
}
