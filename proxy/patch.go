package proxy

import (
	"fmt"
	"mime"
	"net/http"
	"slices"
	"strings"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/signature"
)

// patch answers PATCH /v2/images/{id}. The body is sent on as it was understood.
// Where a rule enforces, now or once the PATCH is done, it is decided:
//
//	each change    what is fixed stays as it is        fixed, below
//	the whole      saves the record, so it must be safe to save   saves.go
//	the result     owner and visibility want a receipt  becomes.go
//	the signature  another one over the same data         rotate.go
func (p *Proxy) patch(w http.ResponseWriter, r *http.Request) {
	if _, err := caller(r); err != nil {
		p.refuse(w, r, err)
		return
	}
	data, changes, err := p.readPatch(r)
	var then func(*http.Request) error
	if err == nil && len(changes) > 0 && (p.Policies.Enforcing() || slices.ContainsFunc(changes, change.guarded)) {
		data, then, err = p.patchable(r, data, changes)
	}
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	setBody(r, data)
	p.passThen(w, r, then)
}

// guarded reports whether a change wants to be decided about even where nothing
// is enforced, for the sake of audit.
func (c change) guarded() bool {
	return isSignature(c.property) || isCountersign(c.property) || isLocation(c.property) || isOwner(c.property) || isInner(c.property) || isBooted(c.property)
}

// patchable decides about a PATCH. It returns the body that is to be sent on, and
// what is to be done once Glance has taken it.
func (p *Proxy) patchable(r *http.Request, data []byte, changes []change) ([]byte, func(*http.Request) error, error) {
	if err := p.shutInner(r, changes); err != nil {
		return nil, nil, err
	}
	u, err := p.find(r, "update")
	if err != nil {
		return nil, nil, err
	}
	becomes, err := p.becoming(u.image, changes)
	if err != nil {
		u.event.action, u.event.image = "update", &u.image
		return nil, nil, err
	}
	strictest := strictestOf(append([]*policy.Rule{u.rule}, becomes...))
	if strictest.Mode == policy.Off || strictest.Mode == policy.Audit && !slices.ContainsFunc(changes, change.guarded) {
		return data, nil, nil
	}
	if err := p.name(r, u, strictest, "update"); err != nil {
		return nil, nil, err
	}
	if strictest.Mode == policy.Enforce {
		// Once more, now that Keystone has been asked: an upload may have ended
		// in the meantime.
		if u.image, err = p.glance.image(r.Context(), u.image.ID, u.who, nil); err != nil {
			return nil, nil, err
		}
	}
	if strictest.Mode == policy.Enforce && u.image.Status == statusActive && rotates(changes) {
		return p.rotate(r, u, changes)
	}
	for _, c := range changes {
		if err := u.hold(strictest, p.fixed(r, u, strictest, c)); err != nil {
			return nil, nil, err
		}
	}
	if strictest.Mode != policy.Enforce {
		u.passes()
		return data, nil, nil
	}
	if u.rule.Mode == policy.Enforce {
		if err := u.hold(u.rule, p.savable(r.Context(), u, changes)); err != nil {
			return nil, nil, err
		}
	}
	data, then, err := p.become(r, u, data, changes, becomes)
	if err == nil {
		u.passes()
	}
	return data, then, err
}

// strictestOf returns the first rule that enforces, else the first that audits,
// else the first.
func strictestOf(rules []*policy.Rule) *policy.Rule {
	for _, mode := range []policy.Mode{policy.Enforce, policy.Audit} {
		for _, rule := range rules {
			if rule.Mode == mode {
				return rule
			}
		}
	}
	return rules[0]
}

// fixed refuses a change of what does not change: Countersign's own word about
// an image and where its data is, never; what the verdict is about and what is
// booted, once the image has left queued.
func (p *Proxy) fixed(r *http.Request, u *uploading, rule *policy.Rule, c change) error {
	ctx, queued := r.Context(), u.image.Status == statusQueued
	switch {
	case isCountersign(c.property):
		return shut(u, c.property, "is what Countersign says about an image, and nobody else does")
	case isSignature(c.property) && !queued:
		return frozen(u, c.property, "replace the signature properties alone, in one PATCH, if the data is signed with another key")
	case !isLocation(c.property) && !isBooted(c.property):
		return nil
	}
	service, err := p.supplier(r, u, rule)
	switch {
	case err != nil || service != nil:
		return err
	case isLocation(c.property):
		return shut(u, c.property, "would bring in data that nobody has verified")
	case among(c.property, replacing) && c.op != "remove" && !nothing(c.text()):
		return refusal(codeDoorClosed, c.property, "makes servers boot from something else than the data that is verified", "leave it out")
	case !queued:
		return frozen(u, c.property, "create a new image")
	case among(c.property, referring) && c.op != "remove":
		return p.bootable(ctx, c.property, c.text(), rule, u.who)
	}
	return nil
}

// shut refuses what a rule that enforces keeps shut.
func shut(u *uploading, property, problem string) error {
	return refusal(codeDoorClosed, property, problem, "upload the signed data with PUT /v2/images/"+u.image.ID+"/file, to a new image if this one has data")
}

func frozen(u *uploading, property, cure string) error {
	return refusal(codeDoorClosed, property, fmt.Sprintf("is fixed once the image has left queued, and this one is %s", u.image.Status), cure)
}

// shutInner keeps a patch to what the Image API documents as properties. The
// attributes that Glance keeps beside them are not patched while anything is
// enforced, in whosever project.
func (p *Proxy) shutInner(r *http.Request, changes []change) error {
	i := slices.IndexFunc(changes, func(c change) bool { return isInner(c.property) })
	if i < 0 || !p.Policies.Enforcing() {
		return nil
	}
	ev := eventOf(r.Context())
	ev.action, ev.audited = "update", false
	return refusal(codeDoorClosed, changes[i].property, "is no property of the Image API",
		"change the image's properties by their names")
}

// isSignature reports whether a change to a property of this name changes a
// signature property. Databases compare names without regard to case.
func isSignature(name string) bool { return among(name, signature.Properties) }

// isCountersign reports whether a property is one of Countersign's own, or one
// that would stand in its place.
func isCountersign(name string) bool {
	_, begins := alike(name, "countersign_")
	return begins
}

func isLocation(name string) bool {
	return among(name, []string{"locations", "location", "direct_url"})
}

func isOwner(name string) bool      { return strings.EqualFold(name, "owner") }
func isVisibility(name string) bool { return strings.EqualFold(name, "visibility") }

// isInner reports whether a name is that of an attribute of Glance's image
// object (glance.domain) which its API does not mean to expose.
func isInner(name string) bool { return among(name, []string{"image_id", "extra_properties"}) }

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
