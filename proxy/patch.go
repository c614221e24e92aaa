package proxy

import (
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/signature"
)

// patch answers PATCH /v2/images/{id}. The body is sent on as it was
// understood. In an enforced project the signature properties can be corrected
// while the image is queued, and never afterwards; locations not at all.
func (p *Proxy) patch(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Auth-Token") == "" {
		p.refuse(w, r, refusal(codeTokenMissing, "", "the request has no X-Auth-Token", "authenticate with Keystone and send the token"))
		return
	}
	data, changes, err := p.readPatch(r)
	if err == nil && slices.ContainsFunc(changes, change.guarded) {
		err = p.patchable(r, changes)
	}
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	setBody(r, data)
	p.pass(w, r)
}

// readPatch reads the body of a PATCH in either of Glance's media types and
// returns it as it was understood, with the changes that it makes.
func (p *Proxy) readPatch(r *http.Request) (data []byte, changes []change, err error) {
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	draft, known := patchTypes[mediaType]
	if !known {
		return nil, nil, &Refusal{Code: codeMediaType, Problem: "the media type is not one of the Image API's for PATCH",
			Cure:   "send Content-Type: " + patchType21,
			Header: http.Header{"Accept-Patch": {patchType20 + ", " + patchType21}}}
	}
	data, parsed, err := p.readJSON(r)
	if err != nil || parsed == nil {
		return data, nil, err
	}
	data, changes, err = rebuildPatch(parsed, draft)
	if err != nil {
		return nil, nil, refusal(codeBodyInvalid, "", "the body is no patch that every parser reads alike: "+err.Error(),
			"send a list of operations as the Image API reference describes it")
	}
	r.Header.Set("Content-Type", mediaType)
	return data, changes, nil
}

// guarded reports whether a change wants to be decided about.
func (c change) guarded() bool {
	return isSignature(c.property) || isLocation(c.property) || isOwner(c.property) || isInner(c.property)
}

// patchable decides about a PATCH of signature properties, locations, the
// owner, or what is no property at all.
func (p *Proxy) patchable(r *http.Request, changes []change) error {
	u, err := p.subject(r, "update")
	if err == nil && u != nil && u.rule.Failed() == policy.Refuse {
		// Once more, now that Keystone has been asked: an upload may have ended
		// in the meantime.
		u.image, err = p.glance.image(r.Context(), u.image.ID, u.who, nil)
	}
	if err != nil {
		return err
	}
	for _, c := range changes {
		switch {
		case isOwner(c.property):
			err = p.givable(r, c.value)
		case isInner(c.property):
			err = p.shutInner(r, c.property)
		case u == nil:
		case isLocation(c.property):
			err = p.closed(u, c.property, "would bring in data that nobody has verified")
		case isSignature(c.property) && u.image.Status != statusQueued:
			err = p.closed(u, c.property, "is fixed once the image has left queued, and this one is "+u.image.Status)
		}
		if err != nil {
			return err
		}
	}
	if u != nil && u.event.outcome == "" {
		u.event.outcome = "success"
	}
	return nil
}

// givable decides whether an image may be given to a project: not to one that
// takes verified images only, whichever operation asks for it. Who the image
// belongs to at the moment, and its visibility, do not matter, for they may
// change before Glance sees the request.
func (p *Proxy) givable(r *http.Request, owner any) error {
	ev := eventOf(r.Context())
	text, _ := owner.(string)
	for _, subject := range subjects(spellings(text)) {
		rule, err := p.Policies.For(subject)
		if err != nil {
			ev.action = "update"
			return err
		}
		if rule.Mode == policy.Enforce {
			ev.action, ev.rule, ev.audited = "update", rule, false
			return refusal(codeDoorClosed, "owner", "would bring an image into a project that takes verified ones only",
				"create the image with that owner, and upload the signed data")
		}
	}
	return nil
}

// spellings are the project ids that a database may take for the same as id:
// MariaDB compares without regard to case and to blanks at the end.
func spellings(id string) []string {
	if folded := strings.ToLower(strings.TrimSpace(id)); folded != id {
		return []string{id, folded}
	}
	return []string{id}
}

// shutInner keeps a patch to what the Image API documents as properties. The
// attributes that Glance keeps beside them are not patched while anything is
// enforced, in whosever project.
func (p *Proxy) shutInner(r *http.Request, property string) error {
	if !p.Policies.Enforcing() {
		return nil
	}
	ev := eventOf(r.Context())
	ev.action, ev.audited = "update", false
	return refusal(codeDoorClosed, property, "is no property of the Image API",
		"change the image's properties by their names")
}

// isSignature reports whether a change to a property of this name changes a
// signature property. Databases compare names without regard to case.
func isSignature(name string) bool {
	for _, property := range signature.Properties {
		if strings.EqualFold(name, property) {
			return true
		}
	}
	return false
}

func isLocation(name string) bool {
	return strings.EqualFold(name, "locations") || strings.EqualFold(name, "location") || strings.EqualFold(name, "direct_url")
}

func isOwner(name string) bool { return strings.EqualFold(name, "owner") }

// isInner reports whether a name is that of an attribute of Glance's image
// object (glance.domain) which its API does not mean to expose.
func isInner(name string) bool {
	return strings.EqualFold(name, "image_id") || strings.EqualFold(name, "extra_properties")
}
