package proxy

import (
	"context"
	"encoding/hex"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy/receipt"
	"github.com/countersign/countersign/signature"
)

// Receipts has the keys by which receipts are signed and checked.
type Receipts interface {
	// Keys returns the keys in force, or nil where none are configured: then no
	// receipt is written, and none is believed.
	Keys() *receipt.Keys
}

// keys are the receipt keys in force, or nil.
func (p *Proxy) keys() *receipt.Keys {
	if p.Receipts == nil {
		return nil
	}
	return p.Receipts.Keys()
}

// vouched returns the receipt that an image carries, if it is valid: made by one
// of our keys, about this image as it is now, and such that it satisfies today's
// rule. Otherwise it is a *Refusal that says what is wanting. exempt says
// whether the receipt of an upload that a service's exemption let pass will do.
func (p *Proxy) vouched(ctx context.Context, img Image, rule *policy.Rule, exempt bool) (*receipt.Receipt, error) {
	r, err := p.proof(img)
	if err != nil {
		return nil, err
	}
	if err := denied(rule, r); err != nil {
		return nil, err
	}
	if r.Kind == receipt.Exempt {
		switch {
		case !exempt:
			return nil, refusal(codeReceiptExempt, receipt.Property, "says that a service uploaded this image unsigned, and that does not do here", cureUnvouched)
		case !rule.Exempts(r.Service, r.ServiceName, r.ServiceDomain):
			return nil, refusal(codeReceiptExempt, receipt.Property,
				fmt.Sprintf("says that a service uploaded this image unsigned, which rule %q does not exempt", rule.Name), cureUnvouched)
		}
		return r, nil
	}
	if property := bootsOtherwise(img); property != "" {
		return nil, refusal(codeReceiptInvalid, property, "makes servers boot from something else than the data that was verified", cureUnvouched)
	}
	if err := p.satisfies(r, rule); err != nil {
		return nil, err
	}
	return r, nil
}

const cureUnvouched = "upload the signed data to a new image, or ask the operator to run countersign scan"

// proof returns the receipt that an image carries, if one of our keys made it,
// about this image as it is now. Whether it satisfies anybody is another question.
func (p *Proxy) proof(img Image) (*receipt.Receipt, error) {
	keys := p.keys()
	if keys == nil {
		return nil, refusal(codeReceiptMissing, receipt.Property, "cannot be checked, for Countersign has no receipt keys",
			"the operator sets COUNTERSIGN_RECEIPT_KEY_FILES and runs countersign scan")
	}
	text, ok := img.Properties[receipt.Property]
	if !ok {
		return nil, refusal(codeReceiptMissing, receipt.Property, "is not set: nobody has verified this image", cureUnvouched)
	}
	r, err := keys.Open(text)
	if err == nil {
		err = r.Describes(img.as())
	}
	if err != nil {
		return nil, &Refusal{Code: codeReceiptInvalid, Property: receipt.Property,
			Problem: "is not a receipt for this image as it is now: " + err.Error(), Cure: cureUnvouched, Err: err}
	}
	return r, nil
}

// satisfies judges what a receipt says by today's rule, as an upload would be.
func (p *Proxy) satisfies(r *receipt.Receipt, rule *policy.Rule) error {
	spec, err := signature.Parse(r.Properties)
	if decision := rule.Decide(spec, err); decision.Reason != nil {
		return decision.Reason
	}
	certificate, err := signature.ParseCertificate(r.Certificate)
	if err != nil {
		return err
	}
	return rule.CheckCertificate(spec.CertificateID, certificate, policy.Moment{Now: p.Now(), Verified: r.IssuedAt})
}

// denied refuses data that the policy denies by one of the digests a receipt
// has of it.
func denied(rule *policy.Rule, r *receipt.Receipt) error {
	for method, value := range r.Digests {
		digest, err := hex.DecodeString(value)
		if err == nil {
			err = rule.CheckDigest(signature.HashMethod(method), digest)
		}
		if err != nil {
			return err
		}
	}
	return deniedHash(rule, r.HashAlgo, r.HashValue)
}

// deniedHash is denied for Glance's own hash of an image's data, such as sha512.
func deniedHash(rule *policy.Rule, algo, value string) error {
	bits, ok := strings.CutPrefix(algo, "sha")
	digest, err := hex.DecodeString(value)
	if !ok || err != nil {
		return nil // Glance says nothing that the policy could deny
	}
	return rule.CheckDigest(signature.HashMethod("SHA-"+bits), digest)
}

// attested makes sure that the image carries the receipt of this upload. It is
// called again and again, with the image as it is each time, until it says true:
// a writer that had loaded the record before us saves it whole, without it.
func (p *Proxy) attested(ctx context.Context, u *uploading, img Image) (bool, error) {
	keys := p.keys()
	if keys == nil || !keys.CanSign() {
		if back := putBack(img); back != nil && u.kind != receipt.Stage {
			return false, p.write(ctx, u, back...)
		}
		return true, nil
	}
	if u.receipt == "" {
		text, err := keys.Sign(u.testimony(img, p.Now()))
		if err != nil {
			return false, err
		}
		u.receipt = text
	}
	if img.Properties[receipt.Property] == u.receipt && (u.kind == receipt.Stage || putBack(img) == nil) {
		return true, nil
	}
	return false, p.write(ctx, u, certify(img, u.kind, u.receipt)...)
}

// addOrReplace is the operation that sets a property: Glance refuses to add one
// that is there.
func addOrReplace(present bool) string {
	if present {
		return "replace"
	}
	return "add"
}

// write changes an image that Glance has taken from this upload's caller: with
// the caller's token, or with our own credential where that no longer serves.
func (p *Proxy) write(ctx context.Context, u *uploading, operations ...object) error {
	err := p.glance.patch(ctx, u.image.ID, u.who, operations...)
	if !isStatus(err, http.StatusUnauthorized) && !isStatus(err, http.StatusForbidden) {
		return err
	}
	own, err := p.Identities.Token(ctx)
	if err != nil {
		return err
	}
	return p.glance.patch(ctx, u.image.ID, credentials{token: own}, operations...)
}

// testimony is what was seen of an upload, over the image that came of it.
func (u *uploading) testimony(img Image, now time.Time) receipt.Receipt {
	r := receipt.Receipt{
		Image: img.ID, Owner: img.Owner, Size: img.Size,
		HashAlgo: img.HashAlgo, HashValue: img.HashValue,
		Properties: img.signed(), Certificate: u.certificate,
		Rule: u.rule.Name, Mode: string(u.rule.Mode), Kind: u.kind,
		Digests: u.digests(), IssuedAt: now,
	}
	if u.service != nil {
		r.Service, r.ServiceName, r.ServiceDomain = u.service.UserID, u.service.UserName, u.service.UserDomain
	}
	return r
}

// roomForReceipt is nil if Glance lets the image have one more property, and has
// none that its database takes for the receipt.
func (p *Proxy) roomForReceipt(img Image) error {
	if p.keys() == nil {
		return nil
	}
	for name := range img.Properties {
		if whole, _ := alike(name, receipt.Property); whole && name != receipt.Property {
			return refusal(string(signature.CodePropertyInvalid), name,
				"is a name that Glance's database may take for "+receipt.Property+", which then could not be written", "create a new image without it")
		}
	}
	if _, present := img.Properties[receipt.Property]; present || p.PropertyQuota < 0 || img.Extra < p.PropertyQuota {
		return nil
	}
	return refusal(codeTooManyProperties, receipt.Property,
		fmt.Sprintf("could not be written: the image has %d properties, and Glance takes %d", img.Extra, p.PropertyQuota),
		"remove a property from the image")
}
