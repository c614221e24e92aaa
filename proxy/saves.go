package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/countersign/countersign/policy"
)

// Glance saves an image's record whole, as the writer loaded it: a PATCH or a tag
// that was begun before an upload ended takes the receipt off again, and one that
// was begun before a deactivation undoes that. So in projects whose rule enforces
// only such images are written to as nobody has to write to, or undo, at the same
// time: those without data, and those that are verified already.

// tag answers PUT and DELETE of a tag.
func (p *Proxy) tag(w http.ResponseWriter, r *http.Request) {
	if p.Policies.Enforcing() {
		u, err := p.find(r, "update/tag")
		if err == nil && u.rule.Mode == policy.Enforce {
			if err = p.name(r, u, u.rule, "update/tag"); err == nil {
				err = u.hold(u.rule, p.savable(r.Context(), u, nil))
			}
			if err == nil {
				u.passes()
			}
		}
		if err != nil {
			p.refuse(w, r, err)
			return
		}
	}
	p.pass(w, r)
}

// savable decides whether a record may be saved whole. A deactivated image can
// only be saved as one, since nothing but a valid receipt reactivates it; so the
// protection of an image that nobody vouches for is lifted there, for it to be
// deleted.
func (p *Proxy) savable(ctx context.Context, u *uploading, changes []change) error {
	switch u.image.Status {
	default:
		return refusal(codeDoorClosed, "", fmt.Sprintf("the image is %s, and to save its record now could undo what the end of that writes", u.image.Status),
			"wait until it is active")
	case statusQueued:
		return nil
	case statusActive, statusDeactivated:
		_, err := p.vouched(ctx, u.image, u.rule, true)
		if err != nil && u.image.Status == statusDeactivated && len(changes) > 0 && !slices.ContainsFunc(changes, notProtection) {
			return nil
		}
		if err == nil {
			return nil
		}
		f := asRefusal(err)
		return &Refusal{Code: f.Code, Property: f.Property, Problem: f.Problem + ", and so its record is not changed",
			Cure: f.Cure + "; to delete a protected image, deactivate it, set protected to false, and delete it", Err: f.Err}
	}
}

func notProtection(c change) bool { return !strings.EqualFold(c.property, "protected") }

// stillJudged looks at an image once more, when Glance has taken a change that
// was allowed because the image was queued. If it is not any more, an upload may
// have been admitted, and settled, before that change came.
func (p *Proxy) stillJudged(r *http.Request, u *uploading) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), p.SettleTimeout)
	defer cancel()
	begun := time.Now()
	var problem error
	for range backoff(ctx) {
		img, err := p.read(ctx, u)
		switch {
		case isStatus(err, http.StatusNotFound):
			return nil
		case err != nil:
			problem = err
			continue
		case img.Status == statusImporting:
			problem = errors.New("still importing")
			continue
		case img.Status != statusActive:
			return nil // who uploads, or imports, is judged by what the image is now
		}
		rule, err := p.ruleOf(ctx, img, u.who)
		if err == nil && rule.Mode != policy.Enforce {
			return nil
		}
		if err == nil {
			if _, err = p.vouched(ctx, img, rule, true); err == nil {
				return nil
			}
		}
		if problem = err; time.Since(begun) < others {
			continue // its receipt may be being written
		}
		u.event.cleanup = p.withdraw(ctx, u)
		return &Refusal{Code: codeChangedDuringUpload, Problem: "the image became active while it was changed, so it is not what was verified; it was deactivated",
			Cure: "create it again, and change it before its data is uploaded", Err: problem}
	}
	u.event.cleanup = cleanupFailed
	return &Refusal{Code: codeSettleFailed, Problem: "the image was changed, but Glance does not tell what became of it",
		Cure: "look at the image, or tell the operator the request id", Err: problem}
}

// withdraw deactivates an image: with the caller's token, whose change Glance has
// taken, or else with our own.
func (p *Proxy) withdraw(ctx context.Context, u *uploading) (became string) {
	looks := 0
	for range backoff(ctx) {
		img, err := p.read(ctx, u)
		switch {
		case isStatus(err, http.StatusNotFound):
			return cleanupGone
		case err != nil:
			continue
		case img.Status != statusActive:
			if looks++; looks == stable {
				return cleanupDeactivated
			}
			continue
		}
		looks = 0
		if p.glance.deactivate(ctx, u.image.ID, u.who) != nil {
			if own, err := p.Identities.Token(ctx); err == nil {
				p.glance.deactivate(ctx, u.image.ID, credentials{token: own}) // seen, or not, at the next look
			}
		}
	}
	return cleanupFailed
}

// stays re-reads an image until it has the properties that a PATCH of the
// caller's gave it, and writes them again where a writer that had loaded the
// record before took them off.
func (p *Proxy) stays(r *http.Request, u *uploading, properties map[string]string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), p.SettleTimeout)
	defer cancel()
	looks := 0
	var problem error
	for range backoff(ctx) {
		img, err := p.read(ctx, u)
		switch {
		case isStatus(err, http.StatusNotFound):
			return nil
		case err != nil:
			problem = err
			continue
		}
		operations := settingOf(img, properties)
		if operations == nil {
			if looks++; looks == stable {
				return nil
			}
			continue
		}
		looks = 0
		problem = p.glance.patch(ctx, u.image.ID, u.who, operations...)
	}
	return &Refusal{Code: codeSettleFailed, Problem: "the image was changed, but what was written on it does not stay",
		Cure: "look at the image, or tell the operator the request id", Err: problem}
}

// settingOf are the operations after which an image has these properties; nil if
// it has them.
func settingOf(img Image, properties map[string]string) (operations []object) {
	for name, value := range properties {
		if is, present := img.Properties[name]; !present || is != value {
			operations = append(operations, object{{"op", addOrReplace(present)}, {"path", "/" + name}, {"value", value}})
		}
	}
	return operations
}
