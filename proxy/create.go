package proxy

import (
	"net/http"
	"regexp"
)

// create looks at the body of POST /v2/images. It passes byte for byte, if
// there is one way only to read it.
func (p *Proxy) create(w http.ResponseWriter, r *http.Request) {
	data, parsed, err := p.readJSON(r)
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	if image, ok := parsed.(object); ok {
		id, set := image.get("id")
		if text, isText := id.(string); set && (!isText || !canonicalID.MatchString(text)) {
			p.refuse(w, r, refusal(codeImageIDInvalid, "id", "is not a UUID in lower case with dashes, and other spellings are not one image on every database",
				"write it in lower case, or leave it out"))
			return
		}
	}
	setBody(r, data)
	p.pass(w, r)
}

var canonicalID = regexp.MustCompile(`^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
