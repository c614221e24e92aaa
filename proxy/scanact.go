package proxy

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"time"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy/receipt"
	"github.com/countersign/countersign/signature"
)

// certify writes the receipt that an image has earned, or puts back what an
// interrupted upload had set aside.
func (s *scanning) certify(ctx context.Context, f *Finding, img Image, r receipt.Receipt) {
	switch {
	case f.Rule.Mode != policy.Enforce:
		f.Note = "the rule audits: nothing is written"
		return
	case !s.proxy.keys().CanSign() && putBack(img) == nil:
		f.Note = "there is no private receipt key: nothing is written"
		return
	case !s.proxy.keys().CanSign():
		s.do(f, Repaired, func() error { return s.settle(ctx, img, f.Rule, "") })
		return
	}
	text, err := s.proxy.keys().Sign(r)
	if err != nil {
		f.Action, f.Note = Failed, err.Error()
		return
	}
	// A receipt that would not do is not written.
	as := img
	as.Properties = maps.Clone(img.Properties)
	as.Properties[receipt.Property] = text
	if _, err := s.proxy.vouched(ctx, as, f.Rule, false); err != nil {
		s.refuse(ctx, f, img, err)
		return
	}
	if err := s.proxy.roomForReceipt(img); err != nil {
		f.Action, f.Note = Failed, asRefusal(err).Error()
		return
	}
	s.do(f, Certified, func() error { return s.settle(ctx, img, f.Rule, text) })
}

var errChanging = errors.New("the image changes while it is looked at; scan again")

// settle writes a receipt, if there is one, and puts back what was set aside,
// until the image is seen so twice: a writer that had loaded the record before
// saves it whole. An image that is no longer what was verified is left alone.
func (s *scanning) settle(ctx context.Context, was Image, rule *policy.Rule, text string) error {
	ctx, cancel := context.WithTimeout(ctx, s.proxy.SettleTimeout)
	defer cancel()
	problem, looks := errChanging, 0
	for range backoff(ctx) {
		own, err := s.own(ctx)
		if err != nil {
			return err
		}
		img, err := s.proxy.glance.image(ctx, was.ID, own, nil)
		switch {
		case isStatus(err, http.StatusNotFound):
			return errors.New("the image was deleted")
		case err != nil:
			problem = err
			continue
		case img.Owner != was.Owner || img.Status != was.Status || img.Size != was.Size || img.HashAlgo != was.HashAlgo ||
			img.HashValue != was.HashValue || !maps.Equal(img.signed(), was.signed()):
			return errChanging
		}
		operations := putBack(img)
		if text != "" {
			// Another's receipt does as well: a replica's, or the upload's own.
			if _, err := s.proxy.vouched(ctx, img, rule, false); err != nil {
				operations = certify(img, receipt.Scan, text)
			}
		}
		if operations == nil {
			if looks++; looks == 2 {
				return nil
			}
			continue
		}
		looks = 0
		if err := s.proxy.glance.patch(ctx, img.ID, own, operations...); err != nil {
			problem = err
		}
	}
	return problem
}

// beyondDoubt are the reasons that no other policy and no other day would undo:
// the evidence itself is wanting. For these alone is an image deleted.
var beyondDoubt = map[string]bool{
	string(policy.CodeSignatureRequired):    true,
	string(signature.CodePropertyMissing):   true,
	string(signature.CodePropertyInvalid):   true,
	string(signature.CodeSignatureMismatch): true,
}

// dispose does what the rule's `unverified:` says to an image that is refused.
func (s *scanning) dispose(ctx context.Context, f *Finding, img Image) {
	action := f.Rule.Unverified
	switch {
	case f.Rule.Mode != policy.Enforce, img.Status != statusActive:
		return
	case action != policy.UnverifiedDeactivate && action != policy.UnverifiedDelete:
		return
	case !s.settled(img):
		f.Note = "it changed a moment ago, and an upload may still be settling: left to the next scan"
		return
	case action == policy.UnverifiedDelete && !beyondDoubt[f.Reason.Code]:
		action, f.Note = policy.UnverifiedDeactivate, "not deleted, since another policy or another day might take it"
	case action == policy.UnverifiedDelete && img.Protected:
		action, f.Note = policy.UnverifiedDeactivate, "not deleted, since it is protected"
	}
	if action == policy.UnverifiedDeactivate {
		s.do(f, Deactivated, func() error { return s.takeOut(ctx, img, s.deactivate) })
		return
	}
	s.do(f, Deleted, func() error {
		return s.takeOut(ctx, img, func(ctx context.Context, id string) error {
			own, err := s.own(ctx)
			if err == nil {
				err = s.proxy.glance.delete(ctx, id, own)
			}
			if err != nil && !isStatus(err, http.StatusNotFound) {
				f.Action, f.Note = Deactivated, "not deleted: "+err.Error()
				return s.deactivate(ctx, id)
			}
			return nil
		})
	})
}

// settled reports whether nobody can be settling the image any more: it has not
// changed for as long as that may take. A clock that is ahead of ours makes it
// wait.
func (s *scanning) settled(img Image) bool {
	changed, err := time.Parse(time.RFC3339, img.Properties["updated_at"])
	return err == nil && s.proxy.Now().Sub(changed) > s.proxy.SettleTimeout
}

// takeOut looks once more, and does what is to be done only to the image that was
// judged: in the hours that a scan may take it may have got its receipt.
func (s *scanning) takeOut(ctx context.Context, was Image, doing func(context.Context, string) error) error {
	own, err := s.own(ctx)
	if err != nil {
		return err
	}
	img, err := s.proxy.glance.image(ctx, was.ID, own, nil)
	switch {
	case isStatus(err, http.StatusNotFound):
		return nil
	case err != nil:
		return err
	case img.Size != was.Size || !maps.Equal(img.Properties, was.Properties):
		return errChanging
	}
	return doing(ctx, was.ID)
}

// deactivate takes an image out of use, and looks until it stays so.
func (s *scanning) deactivate(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, s.proxy.SettleTimeout)
	defer cancel()
	looks, problem := 0, errChanging
	for range backoff(ctx) {
		own, err := s.own(ctx)
		if err != nil {
			return err
		}
		switch img, err := s.proxy.glance.image(ctx, id, own, nil); {
		case isStatus(err, http.StatusNotFound):
			return nil
		case err != nil:
			problem = err
			continue
		case img.Status == statusDeactivated:
			if looks++; looks == stable {
				return nil
			}
			continue
		}
		looks = 0
		if err := s.proxy.glance.deactivate(ctx, id, own); err != nil {
			problem = err
		}
	}
	return problem
}
