package proxy

import (
	"bytes"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/gorilla/mux"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/signature"
)

// door answers requests that bring data into an image, or bring it back into
// use, past PUT /file: stage, import, locations, reactivate. They pass where
// nothing is enforced.
func (p *Proxy) door(w http.ResponseWriter, r *http.Request) {
	template, _ := mux.CurrentRoute(r).GetPathTemplate()
	name := template[strings.LastIndexByte(template, '/')+1:]
	u, err := p.subject(r, "update/"+name)
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	if u != nil {
		if err := p.closed(u, "", name+" would bring in, or back, data that nobody has verified"); err != nil {
			p.refuse(w, r, err)
			return
		}
	}
	p.pass(w, r)
}

// closed refuses what an enforcing rule keeps shut, and in an audited project
// notes that it would be.
func (p *Proxy) closed(u *uploading, property, problem string) error {
	shut := refusal(codeDoorClosed, property, problem, "upload the signed data with PUT /v2/images/"+u.image.ID+"/file, to a new image if this one has data")
	u.event.outcome, u.event.reason = "failure", shut
	if u.rule.Mode == policy.Audit {
		return nil
	}
	return shut
}

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

// task answers POST /v2/tasks. A task of type import makes an image of the
// caller's project, or of the owner that its input names, out of data that
// never passes here; the other types bring such data into the image that the
// input names.
func (p *Proxy) task(w http.ResponseWriter, r *http.Request) {
	data, parsed, err := p.readJSON(r)
	if err == nil && p.Policies.Enforcing() {
		err = p.taskable(r, parsed)
	}
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	setBody(r, data)
	p.pass(w, r)
}

func (p *Proxy) taskable(r *http.Request, parsed any) error {
	ev := eventOf(r.Context())
	token := r.Header.Get("X-Auth-Token")
	if token == "" {
		return refusal(codeTokenMissing, "", "the request has no X-Auth-Token", "authenticate with Keystone and send the token")
	}
	ev.action = "create/task"
	if err := p.identify(r.Context(), token, ev); err != nil {
		return err
	}
	owners, images := named(parsed)
	owners = append(owners, ev.identity.ProjectID)
	for i, id := range images {
		switch {
		case !canonicalID.MatchString(id):
			return refusal(codeImageIDInvalid, "image_id", "is not a UUID in lower case with dashes", "write it in lower case")
		case i > 0 && id != images[0]:
			return refusal(codeBodyInvalid, "image_id", "names more than one image", "name one")
		}
	}
	if len(images) > 0 {
		img, err := p.glance.image(r.Context(), images[0], credentials{token: token}, http.Header{"Accept": r.Header["Accept"], "Origin": r.Header["Origin"]})
		if err != nil {
			return err
		}
		ev.image = &img
		owners = append(owners, img.Owner)
	}
	for _, subject := range subjects(owners) {
		rule, err := p.Policies.For(subject)
		if err != nil {
			return err
		}
		if rule.Mode == policy.Off {
			continue
		}
		shut := refusal(codeDoorClosed, "", "a task would bring in data that nobody has verified",
			"create an image and upload the signed data with PUT /v2/images/{id}/file")
		ev.rule, ev.outcome, ev.reason, ev.audited = rule, "failure", shut, rule.Mode == policy.Audit
		if rule.Failed() == policy.Refuse {
			return shut
		}
	}
	if ev.rule == nil {
		ev.action = "" // no rule looks at it
	}
	return nil
}

// named lists the owners and the images that a task's input names, at whatever
// depth: which of them count depends on the task's type and Glance's release.
func named(parsed any) (owners, images []string) {
	switch value := parsed.(type) {
	case []any:
		for _, inner := range value {
			o, i := named(inner)
			owners, images = append(owners, o...), append(images, i...)
		}
	case object:
		for _, m := range value {
			text, _ := m.value.(string)
			switch {
			case m.name == "owner":
				owners = append(owners, spellings(text)...)
			case m.name == "image_id" && m.value != nil:
				images = append(images, text)
			}
			o, i := named(m.value)
			owners, images = append(owners, o...), append(images, i...)
		}
	}
	return owners, images
}

// readJSON reads a body of JSON, at most MaxBody bytes.
func (p *Proxy) readJSON(r *http.Request) (data []byte, parsed any, err error) {
	data, err = io.ReadAll(io.LimitReader(bodyOf(r), p.MaxBody+1))
	switch {
	case err != nil:
		return nil, nil, &Refusal{Code: codeUploadIncomplete, Problem: "the body ended before it was complete", Cure: "send it again", Err: err}
	case int64(len(data)) > p.MaxBody:
		return nil, nil, refusal(codeBodyTooLarge, "", fmt.Sprintf("the body has more than %d bytes", p.MaxBody), "send less; an operator can raise COUNTERSIGN_MAX_BODY")
	case len(bytes.TrimSpace(data)) == 0:
		return data, nil, nil // Glance has its own words for that
	}
	parsed, err = parseStrict(data)
	if err != nil {
		return nil, nil, refusal(codeBodyInvalid, "", "the body is not JSON that every parser reads alike: "+err.Error(), "send UTF-8 JSON with each member once")
	}
	return data, parsed, nil
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

// setBody replaces the body of a request that was read.
func setBody(r *http.Request, data []byte) {
	r.Body = io.NopCloser(bytes.NewReader(data))
	r.ContentLength = int64(len(data))
	r.TransferEncoding = nil
}
