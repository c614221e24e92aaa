package proxy

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// acceptElement is one element of an Accept header (RFC 9110 §12.5.1): media
// range, its parameters, weight, and what may follow.
var acceptElement = func() *regexp.Regexp {
	const (
		token = "[!#$%&'*+.^_`|~0-9A-Za-z-]+"
		value = `(?:` + token + `|"(?:[^"\\]|\\.)*")`
		param = `(?:[ \t]*;[ \t]*` + token + `=` + value + `)`
	)
	return regexp.MustCompile(`\A(` + token + `/` + token + `)(` + param + `*?)` +
		`(?:[ \t]*;[ \t]*[qQ]=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)` + param + `*)?\z`)
}()

var weightParam = regexp.MustCompile(`(?:;|\A)[ \t]*[qQ]=`)

// preferred returns the offer that an Accept header prefers, the first among
// equals, or "" if it takes none or is absent. Like webob, which chooses for
// Glance, it takes the first offer where the header is not well formed, and
// does not find an offer without parameters in a range with some.
func preferred(accept string, offers ...string) string {
	if accept == "" {
		return ""
	}
	type mediaRange struct {
		name   string
		weight float64
	}
	var ranges []mediaRange
	for element := range strings.SplitSeq(accept, ",") {
		element = strings.Trim(element, " \t")
		if element == "" {
			continue
		}
		parts := acceptElement.FindStringSubmatch(element)
		if parts == nil || weightParam.MatchString(parts[2]) {
			return offers[0]
		}
		if parts[2] != "" {
			continue
		}
		weight := 1.0
		if parts[3] != "" {
			weight, _ = strconv.ParseFloat(parts[3], 64) // the expression has seen to it
		}
		ranges = append(ranges, mediaRange{strings.ToLower(parts[1]), weight})
	}
	best, chosen := 0.0, ""
	for _, offer := range offers {
		kind, _, _ := strings.Cut(offer, "/")
		weight, specificity := 0.0, 0
		for _, r := range ranges {
			switch s := 1 + slices.Index([]string{"*/*", kind + "/*", offer}, r.name); {
			case s > specificity:
				weight, specificity = r.weight, s
			case s > 0 && s == specificity:
				weight = max(weight, r.weight)
			}
		}
		if weight > best {
			best, chosen = weight, offer
		}
	}
	return chosen
}
