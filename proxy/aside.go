package proxy

import (
	"context"
	"net/http"

	"github.com/countersign/countersign/proxy/receipt"
	"github.com/countersign/countersign/signature"
)

// With all four signature properties on an image Glance verifies its data again,
// behind us. Where it cannot (it has no key manager) or refuses what is right
// (cryptography before 39 wants the longest PSS salt), right uploads fail. So with
// COUNTERSIGN_GLANCE_VERIFIES=no one of the four is set aside, under a name that
// Glance does not know, while the data is on its way:
//
//	queued, four properties
//	   │ admitted: one PATCH, with the caller's token
//	   ▼
//	queued, three and propertyAside ──────────────┐
//	   │ data; Glance sees an unsigned image      │ the upload fails:
//	   ▼                                          │ one PATCH back
//	active, three and propertyAside               ▼
//	   │ settled: one PATCH                  queued, four properties
//	   ▼
//	active, four properties, receipt
//
// Image.signed reads both states alike, so that whoever comes next goes on from
// either: a crash in between leaves a queued image that can be uploaded to, or an
// active one without receipt, which scan verifies and writes back. Staged data is
// verified by Glance when it is imported; there the property stays aside, and
// scan writes it back once the image is active.

// propertyAside holds img_signature_certificate_uuid while that is set aside.
const propertyAside = "countersign_certificate_uuid"

// setAside hides from Glance that an image is signed.
func (p *Proxy) setAside(ctx context.Context, u *uploading) error {
	value, ok := u.image.Properties[signature.PropertyCertificate]
	if !ok {
		return nil // is aside already
	}
	_, present := u.image.Properties[propertyAside]
	err := p.glance.patch(ctx, u.image.ID, u.who,
		object{{"op", "remove"}, {"path", "/" + signature.PropertyCertificate}},
		object{{"op", addOrReplace(present)}, {"path", "/" + propertyAside}, {"value", value}})
	u.aside = err == nil
	if isStatus(err, http.StatusConflict) {
		return refusal(codeImageNotQueued, "", "the image was changed just now", "try again")
	}
	return err
}

// putBack are the operations that undo setAside. There are none for an image that
// has nothing aside.
func putBack(img Image) []object {
	value, aside := img.Properties[propertyAside]
	if !aside {
		return nil
	}
	operations := []object{{{"op", "remove"}, {"path", "/" + propertyAside}}}
	if _, present := img.Properties[signature.PropertyCertificate]; !present {
		operations = append(operations, object{{"op", "add"}, {"path", "/" + signature.PropertyCertificate}, {"value", value}})
	}
	return operations
}

// certify are the operations that give an image its receipt, in one PATCH.
func certify(img Image, kind receipt.Kind, text string) []object {
	_, present := img.Properties[receipt.Property]
	operations := []object{{{"op", addOrReplace(present)}, {"path", "/" + receipt.Property}, {"value", text}}}
	if kind != receipt.Stage {
		operations = append(operations, putBack(img)...)
	}
	return operations
}

// restore puts back what was set aside, on an image whose upload failed and left
// it queued. If that fails, the next upload finds the property where it is. On an
// image that another upload has made active this one has set it aside too late:
// where that one has written its receipt, it puts back no more.
func (p *Proxy) restore(ctx context.Context, u *uploading, img Image) {
	_, settled := img.Properties[receipt.Property]
	late := u.aside && img.Status == statusActive && settled
	if operations := putBack(img); operations != nil && (img.Status == statusQueued || late) {
		p.glance.patch(ctx, img.ID, u.who, operations...)
	}
}
