package policy

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/countersign/countersign/signature"
)

// Denials are what no rule takes.
type Denials struct {
	Certificates []string // SHA-256 fingerprints, lower-case hex
	Images       []Digest
}

// Digest is that of an image's data.
type Digest struct {
	Method signature.HashMethod
	Value  string // lower-case hex
}

var denyMembers = []member[Denials]{
	{Member{"certificates", "list of SHA-256 fingerprints", "none", "Certificates that nothing may be signed with, nor any certificate of a chain be. In hexadecimal digits, with or without colons, as `openssl x509 -fingerprint -sha256` shows them."},
		func(l *loader, n *yaml.Node, d *Denials) { l.fingerprints(n, d) }},
	{Member{"images", "list of `METHOD:DIGEST`", "none", "Data that is not taken, by its digest, such as `SHA-512:9f86…`. Each method here costs an upload another hash, unless the image is signed with it."},
		func(l *loader, n *yaml.Node, d *Denials) { l.digests(n, d) }},
}

func (l *loader) denials(n *yaml.Node) *Denials {
	d := new(Denials)
	if fields(l, n, "deny", denyMembers, d) == nil {
		return nil
	}
	return d
}

func (l *loader) fingerprints(n *yaml.Node, d *Denials) {
	for _, item := range l.list(n, "certificates", "a list of fingerprints") {
		text, ok := l.text(item, "certificates")
		if !ok {
			continue
		}
		_, digits, named := strings.Cut(text, "=") // sha256 Fingerprint=…
		if !named {
			digits = text
		}
		value := strings.ToLower(strings.ReplaceAll(digits, ":", ""))
		switch {
		case len(value) != 64 || strings.Trim(value, "0123456789abcdef") != "":
			l.wrong(item.Line, "certificates", "%q is no SHA-256 fingerprint; write what `openssl x509 -noout -fingerprint -sha256` shows", text)
		case slices.Contains(d.Certificates, value):
			l.wrong(item.Line, "certificates", "has %s twice; remove one of them", text)
		default:
			d.Certificates = append(d.Certificates, value)
		}
	}
}

func (l *loader) digests(n *yaml.Node, d *Denials) {
	for _, item := range l.list(n, "images", "a list of digests") {
		text, ok := l.text(item, "images")
		if !ok {
			continue
		}
		method, value, _ := strings.Cut(text, ":")
		one := Digest{signature.HashMethod(strings.TrimSpace(method)), strings.ToLower(strings.TrimSpace(value))}
		data, err := hex.DecodeString(one.Value)
		switch hash := one.Method.Hash(); {
		case hash == 0 || err != nil || len(data) != hash.Size():
			l.wrong(item.Line, "images", "%q is no digest; write the method, a colon and the digits, such as SHA-256: and 64 of them", text)
		case slices.Contains(d.Images, one):
			l.wrong(item.Line, "images", "has %s twice; remove one of them", text)
		default:
			d.Images = append(d.Images, one)
		}
	}
}

// certificate reports whether a fingerprint is denied. A nil d denies nothing.
func (d *Denials) certificate(fingerprint string) bool {
	return d != nil && slices.Contains(d.Certificates, fingerprint)
}

// DenyMethods are the hash methods by which the policy denies images.
func (r *Rule) DenyMethods() []signature.HashMethod {
	if r.denied == nil {
		return nil
	}
	var methods []signature.HashMethod
	for _, image := range r.denied.Images {
		if !slices.Contains(methods, image.Method) {
			methods = append(methods, image.Method)
		}
	}
	return methods
}

// CheckDigest says whether the policy takes data of this digest. The error is a
// *Refusal, which also is signature.ErrMismatch.
func (r *Rule) CheckDigest(method signature.HashMethod, digest []byte) error {
	if r.denied == nil || !slices.Contains(r.denied.Images, Digest{method, hex.EncodeToString(digest)}) {
		return nil
	}
	return &Refusal{
		Code:     CodeImageDenied,
		Property: signature.PropertySignature,
		Problem:  fmt.Sprintf("is over data that the policy denies by its %s digest, whatever rule %q says", method, r.Name),
		Cure:     "upload another image; the operator has denied this one",
	}
}
