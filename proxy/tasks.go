package proxy

import (
	"net/http"

	"github.com/countersign/countersign/policy"
)

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
	who, err := caller(r)
	if err != nil {
		return err
	}
	ev.action = "create/task"
	if err := p.identify(r.Context(), who.token, ev); err != nil {
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
		img, err := p.seen(r, images[0], who)
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
