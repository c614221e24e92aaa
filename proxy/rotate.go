package proxy

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/countersign/countersign/proxy/receipt"
	"github.com/countersign/countersign/signature"
)

// A key is rotated without the data being uploaded again: the signature properties
// of an active image are replaced in one PATCH, and the signature that they make is
// verified over the digest that the image's receipt has. The receipt need not
// satisfy today's rule, for that is why keys are rotated; but it has to be one of
// ours, about this image as it is now.

// rotates reports whether a patch sets signature properties, and does nothing
// else. Clients that compare what is there with what is wanted, as openstackclient
// does, leave out those of the four that stay.
func rotates(changes []change) bool {
	var set []string
	for _, c := range changes {
		if _, text := c.value.(string); !text || c.op == "remove" || slices.Contains(set, c.property) || !slices.Contains(signature.Properties, c.property) {
			return false
		}
		set = append(set, c.property)
	}
	return len(set) > 0
}

// rotate decides about a patch that rotates. What goes to Glance is a patch of
// ours: the four properties, and the receipt that says what was verified.
func (p *Proxy) rotate(r *http.Request, u *uploading, changes []change) ([]byte, func(*http.Request) error, error) {
	properties := u.image.signed()
	for _, c := range changes {
		properties[c.property] = c.text()
	}
	anew, err := p.signedAnew(r, u, properties)
	if err = u.hold(u.rule, err); err != nil {
		return nil, nil, err
	}
	text, err := p.keys().Sign(*anew)
	if err != nil {
		return nil, nil, &Refusal{Code: codeReceiptUnwritable, Problem: "the receipt cannot be signed", Cure: "tell the operator the request id", Err: err}
	}
	now := maps.Clone(properties)
	now[receipt.Property] = text
	operations := settingOf(u.image, now)
	if _, aside := u.image.Properties[propertyAside]; aside {
		operations = append(operations, object{{"op", "remove"}, {"path", "/" + propertyAside}})
	}
	data, err := json.Marshal(operations)
	if err != nil {
		return nil, nil, err
	}
	r.Header.Set("Content-Type", patchType21)
	u.passes()
	return data, func(sent *http.Request) error { return p.stays(sent, u, now) }, nil
}

// signedAnew returns the receipt of an image under its new signature.
func (p *Proxy) signedAnew(r *http.Request, u *uploading, properties map[string]string) (*receipt.Receipt, error) {
	was, err := p.proof(u.image)
	if err == nil {
		err = denied(u.rule, was)
	}
	if err != nil {
		return nil, err
	}
	spec, err := signature.Parse(properties)
	if decision := u.rule.Decide(spec, err); decision.Reason != nil {
		return nil, decision.Reason
	}
	u.event.spec = &spec
	digest, err := digestBy(was, spec.HashMethod)
	if err != nil {
		return nil, err
	}
	certificate, err := p.certificate(r.Context(), u, spec)
	if err != nil {
		return nil, err
	}
	if u.event.caveat, err = signature.VerifyDigest(spec, certificate.PublicKey, digest); err != nil {
		return nil, err
	}
	if err := p.boots(r.Context(), u.image, u.rule, u.who); err != nil {
		return nil, err
	}
	u.event.digest, u.event.bytes = digest, was.Size
	anew := *was
	anew.Properties, anew.Certificate = properties, certificate.Raw
	anew.HashAlgo, anew.HashValue = u.image.HashAlgo, u.image.HashValue
	anew.Rule, anew.Mode, anew.Kind, anew.IssuedAt = u.rule.Name, string(u.rule.Mode), receipt.Rotation, p.Now()
	anew.Service, anew.ServiceName, anew.ServiceDomain = "", "", ""
	return &anew, nil
}

// digestBy is what a receipt records as the data's digest by a hash method: what
// Countersign computed, or else Glance, if that is its own method.
func digestBy(r *receipt.Receipt, method signature.HashMethod) ([]byte, error) {
	text := r.Digests[string(method)]
	if text == "" && r.HashAlgo == strings.ToLower(strings.ReplaceAll(string(method), "-", "")) {
		text = r.HashValue
	}
	digest, err := hex.DecodeString(text)
	if err != nil || len(digest) == 0 {
		known := slices.Sorted(maps.Keys(r.Digests))
		if r.HashAlgo == "sha512" && !slices.Contains(known, string(signature.SHA512)) {
			known = append(known, string(signature.SHA512))
		}
		return nil, refusal(codeDoorClosed, signature.PropertyHashMethod,
			fmt.Sprintf("is %s, and the image's receipt has no digest by that", method), "sign with "+strings.Join(known, " or "))
	}
	return digest, nil
}
