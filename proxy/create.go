package proxy

import (
	"encoding/json"
	"net/http"
	"regexp"
	"slices"

	"github.com/countersign/countersign/policy"
)

// create answers POST /v2/images. The body passes byte for byte, if there is one
// way only to read it: the image has no data yet, and what it says of itself is
// judged when data comes. Only Countersign's own properties are left out where a
// rule enforces. They would do no harm, being about other images; but Nova and
// Cinder copy what they find on one image to the next, and to refuse that would
// break snapshots.
func (p *Proxy) create(w http.ResponseWriter, r *http.Request) {
	data, parsed, err := p.readJSON(r)
	if image, ok := parsed.(object); ok && err == nil {
		if err = oneSpelling(image); err == nil && slices.ContainsFunc(image, member.ours) && p.Policies.Enforcing() {
			data, err = p.withoutOurs(r, image, data)
		}
	}
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	setBody(r, data)
	p.pass(w, r)
}

// oneSpelling refuses an id that only some databases take for the same as its
// usual spelling.
func oneSpelling(image object) error {
	id, set := image.get("id")
	if text, isText := id.(string); set && (!isText || !canonicalID.MatchString(text)) {
		return refusal(codeImageIDInvalid, "id", "is not a UUID in lower case with dashes, and other spellings are not one image on every database",
			"write it in lower case, or leave it out")
	}
	return nil
}

func (m member) ours() bool { return isCountersign(m.name) }

// withoutOurs is the body of an image without Countersign's own properties, or
// as it was where no rule enforces.
func (p *Proxy) withoutOurs(r *http.Request, image object, data []byte) ([]byte, error) {
	owner, given := image.get("owner")
	text, _ := owner.(string)
	if !given {
		ev := eventOf(r.Context())
		if err := p.identify(r.Context(), r.Header.Get("X-Auth-Token"), ev); err != nil {
			return nil, err
		}
		text = ev.identity.ProjectID
	}
	rules, err := p.rulesFor(subjects(spellings(text)))
	if err == nil && strictestOf(rules).Mode != policy.Enforce {
		return data, nil
	}
	return json.Marshal(slices.DeleteFunc(slices.Clone(image), member.ours))
}

var canonicalID = regexp.MustCompile(`^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
