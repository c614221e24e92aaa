package proxy

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy/keystone"
	"github.com/countersign/countersign/proxy/receipt"
	"github.com/countersign/countersign/signature"
)

// Data by its location is data that Glance never verifies, and that nobody shows
// us. Where a rule enforces, only the services come this way that it exempts: Nova
// and Cinder, where they share Glance's storage.

// locate answers POST /v2/images/{id}/locations.
func (p *Proxy) locate(w http.ResponseWriter, r *http.Request) {
	u, err := p.subject(r, "update/locations")
	var then func(*http.Request) error
	if err == nil && u != nil {
		var service *keystone.Identity
		service, err = p.supplier(r, u, u.rule)
		if err == nil && service == nil {
			err = shut(u, "", "a location would bring in data that nobody has verified")
		}
		if err = u.hold(u.rule, err); err == nil {
			u.passes()
		}
		if service != nil && u.rule.Mode == policy.Enforce {
			then = p.supplied(u, service)
		}
	}
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	p.passThen(w, r, then)
}

// supplier is the service that sends a request, if it may give this image data
// that nobody verifies: the rule exempts it, and the image is unsigned, and has
// none yet.
func (p *Proxy) supplier(r *http.Request, u *uploading, rule *policy.Rule) (*keystone.Identity, error) {
	_, err := signature.Parse(u.image.signed())
	if u.image.Status != statusQueued || !errors.Is(err, signature.ErrUnsigned) {
		return nil, nil
	}
	return p.exempted(r.Context(), r, rule)
}

// arrival is how long Glance is given to look at what lies at a location, which
// it does after its answer to a POST.
const arrival = 20 * time.Second

// supplied waits until an image has the data that a service gave it by a
// location, and says on it that this was so. Where Glance takes longer the image
// stays without a receipt, and whatever wants one is refused. A location that
// came in a PATCH it never looks at: then there is no hash to wait for.
func (p *Proxy) supplied(u *uploading, service *keystone.Identity) func(*http.Request) error {
	return func(sent *http.Request) error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(sent.Context()), max(arrival, p.SettleTimeout))
		defer cancel()
		u.kind, u.service = receipt.Exempt, service
		begun := time.Now()
		for range backoff(ctx) {
			img, err := p.read(ctx, u)
			late := time.Since(begun) > arrival
			hashed := img.HashValue != "" || sent.Method == http.MethodPatch
			switch {
			case isStatus(err, http.StatusNotFound):
				return nil
			case err == nil && img.Status == statusActive && (hashed || late):
				u.size = img.Size
				if done, err := p.attested(ctx, u, img); err == nil && done {
					u.note()
					return nil
				}
			case late:
				return nil
			}
		}
		return nil
	}
}

// locates reports whether a patch sets an image's locations.
func locates(changes []change) bool {
	return slices.ContainsFunc(changes, func(c change) bool { return isLocation(c.property) })
}
