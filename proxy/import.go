package proxy

import (
	"encoding/json"
	"net/http"
	"slices"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy/receipt"
)

// An import takes data into an image in a task of Glance's own, which nobody
// watches: what was staged (glance-direct), what lies at an address
// (web-download), in another Glance (glance-download), or in one store for
// another (copy-image). Import plugins may change it on the way. So of staged
// data it is the receipt that counts: it has the digest by which Glance names
// what it then stores, and what is stored otherwise has no valid receipt.

// importMembers are the members of an import's body and its method's, by
// Image API v2 and glance.api.v2.images.
var (
	importMembers = []string{"method", "stores", "all_stores", "all_stores_must_succeed"}
	methodMembers = map[string][]string{
		"glance-direct":   {"name"},
		"web-download":    {"name", "uri"},
		"glance-download": {"name", "glance_image_id", "glance_region", "glance_service_interface"},
		"copy-image":      {"name"},
	}
)

// importHeaders are the request headers that mean something to an import.
var importHeaders = []string{"X-Auth-Token", "X-Service-Token", "X-Image-Meta-Store", requestIDHeader, "Content-Type",
	"Accept", "Accept-Encoding", "Accept-Language", "Origin", "User-Agent", "Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto"}

// importImage answers POST /v2/images/{id}/import. Where the rule enforces, what
// goes to Glance is built from what was understood.
func (p *Proxy) importImage(w http.ResponseWriter, r *http.Request) {
	if _, err := caller(r); err != nil {
		p.refuse(w, r, err)
		return
	}
	data, parsed, err := p.readJSON(r)
	var u *uploading
	if err == nil {
		u, err = p.subject(r, "update/import")
	}
	if err == nil && u != nil {
		var rebuilt []byte
		rebuilt, err = p.importable(r, u, parsed)
		if err = u.hold(u.rule, err); err == nil {
			u.passes()
		}
		if u.rule.Mode == policy.Enforce {
			data = rebuilt
			for name := range r.Header {
				if !slices.Contains(importHeaders, name) {
					r.Header.Del(name)
				}
			}
		}
	}
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	setBody(r, data)
	p.pass(w, r)
}

// importable decides about an import, and returns its body as it was understood.
func (p *Proxy) importable(r *http.Request, u *uploading, parsed any) ([]byte, error) {
	method, body, err := rebuildImport(parsed)
	if err != nil {
		return nil, err
	}
	switch method {
	default: // web-download, glance-download
		return nil, shut(u, "", "an import by "+method+" would bring in data that nobody has verified")
	case "glance-direct":
		return body, p.importsStaged(r, u)
	case "copy-image":
		if u.rule.Mode != policy.Enforce {
			return body, nil // there are no receipts
		}
		_, err := p.vouched(r.Context(), u.image, u.rule, false)
		return body, err
	}
}

// importsStaged decides about an import of what was staged.
func (p *Proxy) importsStaged(r *http.Request, u *uploading) error {
	switch {
	case u.rule.Import != policy.ImportDirect:
		return shut(u, "", "what is staged is imported in projects only whose rule says `import: direct`")
	case u.rule.Mode != policy.Enforce:
		return nil
	case u.image.Status != statusUploading:
		return refusal(codeDoorClosed, "", "the image is "+u.image.Status+", and has no staged data that was verified",
			"stage the signed data with PUT /v2/images/"+u.image.ID+"/stage, and import it then")
	}
	proof, err := p.vouched(r.Context(), u.image, u.rule, false)
	if err != nil {
		return err
	}
	if proof.Kind != receipt.Stage {
		return refusal(codeReceiptInvalid, receipt.Property, "is not about what was staged", "stage the signed data again, in a new image")
	}
	return p.boots(r.Context(), u.image, u.rule, u.who)
}

// rebuildImport reads the body of an import and writes it anew, so that Glance
// can understand no more than was understood here.
func rebuildImport(parsed any) (method string, data []byte, err error) {
	invalid := func(problem string) (string, []byte, error) {
		return "", nil, refusal(codeBodyInvalid, "", "the body is no import: "+problem, "send what the Image API reference describes, and nothing besides")
	}
	body, ok := parsed.(object)
	if !ok {
		return invalid("it is not an object")
	}
	how, _ := body.get("method")
	described, ok := how.(object)
	if !ok {
		return invalid("it has no method")
	}
	name, _ := described.get("name")
	method, _ = name.(string)
	known, ok := methodMembers[method]
	if !ok {
		return invalid("its method's name is none of glance-direct, web-download, glance-download, copy-image")
	}
	for _, m := range described {
		if _, text := m.value.(string); !text || !slices.Contains(known, m.name) {
			return invalid("its method has a member that " + method + " does not, or that is not a text")
		}
	}
	for _, m := range body {
		switch {
		case !slices.Contains(importMembers, m.name):
			return invalid("it has a member that imports do not have")
		case m.name == "stores" && !isTexts(m.value):
			return invalid("stores is not a list of texts")
		case m.name == "all_stores" || m.name == "all_stores_must_succeed":
			if _, is := m.value.(bool); !is {
				return invalid(m.name + " is neither true nor false")
			}
		}
	}
	data, err = json.Marshal(body)
	return method, data, err
}

func isTexts(value any) bool {
	list, ok := value.([]any)
	return ok && !slices.ContainsFunc(list, func(entry any) bool { _, text := entry.(string); return !text })
}
