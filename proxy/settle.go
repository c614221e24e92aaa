package proxy

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"net/http"
	"strings"
	"time"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy/receipt"
	"github.com/countersign/countersign/signature"
)

// What became of an image whose upload did not end well.
const (
	cleanupDeleted     = "deleted"
	cleanupGone        = "gone"          // somebody else had deleted it
	cleanupKept        = "kept"          // on_failure: keep
	cleanupDeactivated = "deactivated"   // could not be deleted
	cleanupNotOurs     = "not permitted" // the caller may not do it
	cleanupFailed      = "failed"
	cleanupLeft        = "left " // and the status in which it was not touched
)

// cleanups are the results that have a counter from the start.
var cleanups = []string{cleanupDeleted, cleanupGone, cleanupKept, cleanupDeactivated, cleanupNotOurs, cleanupFailed,
	cleanupLeft + statusQueued, cleanupLeft + statusActive}

// settle makes sure that what Glance has made of the data is what was verified,
// and writes the receipt on it: the record that counted for Glance was loaded
// after the proxy had looked at it, and a PATCH may have come between.
func (p *Proxy) settle(ctx context.Context, u *uploading) error {
	u.note()
	var problem error = errors.New("no answer")
	for range backoff(ctx) {
		img, err := p.read(ctx, u)
		switch {
		case isStatus(err, http.StatusNotFound):
			u.event.cleanup = cleanupGone
			return refusal(codeChangedDuringUpload, "", "the image was deleted while its data was uploaded", "create the image again")
		case err != nil:
			problem = err
			continue
		case img.Status == statusSaving:
			problem = errors.New("still saving")
			continue
		}
		property, difference := u.differs(img)
		if difference == "" {
			if difference, err = p.outgrown(ctx, u, img); err != nil {
				problem = err
				continue
			}
		}
		if err := deniedHash(u.rule, img.HashAlgo, img.HashValue); err != nil && difference == "" {
			u.event.cleanup = p.quarantine(ctx, u) // of a service's data nothing else was hashed
			return err
		}
		if difference == "" {
			attested, err := p.attested(ctx, u, img)
			if attested {
				u.event.outcome = "success"
				return nil
			}
			if problem = errors.New("the receipt does not stay"); err != nil {
				problem = err
			}
			continue
		}
		u.event.cleanup = p.quarantine(ctx, u)
		return refusal(codeChangedDuringUpload, property, difference+" while its data was uploaded, so it is not what was verified",
			"create the image again and leave it alone until it is active")
	}
	u.event.cleanup = cleanupFailed
	return &Refusal{Code: codeSettleFailed, Problem: "the data was taken, but the image could not be read again or given its receipt",
		Cure: "look at the image, or tell the operator the request id", Err: problem}
}

// differs tells in what an image is not the one that was admitted and verified.
func (u *uploading) differs(img Image) (property, difference string) {
	was, is := u.image.signed(), img.signed()
	for _, name := range signature.Properties {
		if was[name] != is[name] {
			return name, "changed"
		}
	}
	if !maps.Equal(u.image.booted(), img.booted()) {
		return "", "what is booted with the image changed"
	}
	taken := statusActive
	if u.kind == receipt.Stage {
		taken = statusUploading
	}
	switch {
	case img.Owner != u.image.Owner:
		return "", "the image changed its owner"
	case img.Status != taken:
		return "", "the image became " + img.Status
	case img.Size != u.size:
		return "", fmt.Sprintf("the image became %d bytes long, where %d were sent,", img.Size, u.size)
	}
	for method, digest := range u.digests() {
		if algo := strings.ToLower(strings.ReplaceAll(method, "-", "")); img.HashAlgo == algo && img.HashValue != digest {
			return "", "the image's data changed"
		}
	}
	return "", ""
}

// busy is the status in which an image is while its data arrives.
func (u *uploading) busy() string {
	if u.kind == receipt.Stage {
		return statusUploading
	}
	return statusSaving
}

// look reads the image with the caller's token, and with our service token
// beside it, so that one which has expired since still counts. Where Glance does
// not like ours (it answers 404 to one that is scoped to the system) the
// caller's goes alone from then on: only what Glance says to that alone, or to
// both, tells that an image is gone.
func (p *Proxy) look(ctx context.Context, u *uploading) (Image, error) {
	img, err := p.glance.image(ctx, u.image.ID, u.who, nil)
	if u.who.service == "" || !isStatus(err, http.StatusNotFound) && !isStatus(err, http.StatusUnauthorized) {
		return img, err
	}
	alone := credentials{token: u.who.token}
	other, otherErr := p.glance.image(ctx, u.image.ID, alone, nil)
	switch {
	case isStatus(otherErr, http.StatusUnauthorized):
		return img, err // it has expired: both together have the word
	case otherErr == nil:
		u.who = alone
	}
	return other, otherErr
}

// read is look, or a look with the service credential alone where the token has
// expired. An image that this one cannot see may still be there.
func (p *Proxy) read(ctx context.Context, u *uploading) (Image, error) {
	img, err := p.look(ctx, u)
	if !isStatus(err, http.StatusUnauthorized) {
		return img, err
	}
	own, err := p.Identities.Token(ctx)
	if err != nil {
		return Image{}, err
	}
	img, err = p.glance.image(ctx, u.image.ID, credentials{token: own}, nil)
	if isStatus(err, http.StatusNotFound) {
		return Image{}, errors.New("the caller's token has expired, and the service credential does not see the image")
	}
	return img, err
}

// others bounds how long an image is waited for that is busy although Glance
// has let go of our upload: another one owns it, and may for hours.
const others = 2 * time.Second

// discard deletes an image whose data did not verify, and which Glance has not
// taken. The caller's token decides whether it may: the proxy lends nobody a
// right. A second upload may own the image's state, so only a queued image is
// deleted.
func (p *Proxy) discard(ctx context.Context, u *uploading) (became string) {
	left, begun := cleanupFailed, time.Now()
	for range backoff(ctx) {
		img, err := p.look(ctx, u)
		switch {
		case isStatus(err, http.StatusNotFound):
			return cleanupGone
		case err != nil:
			continue
		case img.Status == u.busy() && !(u.letGo && time.Since(begun) > others):
			left = cleanupLeft + img.Status
			continue
		case img.Status == statusActive:
			return p.disown(ctx, u, img)
		case img.Status != statusQueued:
			return cleanupLeft + img.Status
		case u.rule.OnFailure == policy.Keep:
			p.restore(ctx, u, img)
			return cleanupKept
		}
		switch err := p.remove(ctx, img, u.who); {
		case err == nil:
			return cleanupDeleted
		case isStatus(err, http.StatusForbidden):
			return cleanupNotOurs
		}
	}
	return left
}

// stable is how many looks in a row must show an image out of use. A PATCH or a
// tag that had loaded the record before saves it whole, and so undoes a
// deactivation.
const stable = 3

// quarantine takes an image out of use that Glance has taken and that is not
// what was verified. Glance's 2xx has shown that the caller may write it, so
// the service credential may, too.
func (p *Proxy) quarantine(ctx context.Context, u *uploading) (became string) {
	looks := 0
	for range backoff(ctx) {
		img, err := p.read(ctx, u)
		switch {
		case isStatus(err, http.StatusNotFound):
			return cleanupGone
		case err != nil:
			continue
		case img.Status == statusDeactivated:
			if looks++; looks == stable {
				return cleanupDeactivated
			}
			continue
		}
		looks = 0
		if p.remove(ctx, img, u.who) == nil {
			return cleanupDeleted
		}
		if own, err := p.Identities.Token(ctx); err == nil {
			p.glance.deactivate(ctx, u.image.ID, credentials{token: own}) // seen, or not, at the next look
		}
	}
	return cleanupFailed
}

// report looks at an image whose upload broke off, and tells what became of it.
func (p *Proxy) report(ctx context.Context, u *uploading) (became string) {
	begun := time.Now()
	for range backoff(ctx) {
		img, err := p.read(ctx, u)
		switch {
		case isStatus(err, http.StatusNotFound):
			return cleanupGone
		case err != nil || img.Status == u.busy() && !(u.letGo && time.Since(begun) > others):
			continue
		case img.Status == statusActive:
			return p.disown(ctx, u, img)
		}
		p.restore(ctx, u, img)
		return cleanupLeft + img.Status
	}
	return cleanupFailed
}

// disown deals with an image that is active after an upload which did not
// verify. As a rule another upload has made it so, and then it is not ours to
// touch. But where Glance has said nothing about this one, and the image is no
// larger than what it was handed, it may have taken a body that was cut for a
// whole one: then it is deactivated, with the caller's token, which its owner
// can undo.
func (p *Proxy) disown(ctx context.Context, u *uploading, img Image) (became string) {
	p.restore(ctx, u, img)
	if u.unanswered == 0 || img.Size > u.unanswered {
		return cleanupLeft + statusActive
	}
	looks := 0
	for range backoff(ctx) {
		switch img, err := p.look(ctx, u); {
		case isStatus(err, http.StatusNotFound):
			return cleanupGone
		case err != nil:
			continue
		case img.Status == statusDeactivated:
			if looks++; looks == stable {
				return cleanupDeactivated
			}
			continue
		case img.Status != statusActive:
			return cleanupLeft + img.Status
		}
		looks = 0
		if isStatus(p.glance.deactivate(ctx, u.image.ID, u.who), http.StatusForbidden) {
			return cleanupNotOurs
		}
	}
	return cleanupFailed
}

// remove deletes an image, lifting its protection first where it has one.
func (p *Proxy) remove(ctx context.Context, img Image, who credentials) error {
	if img.Protected {
		if err := p.glance.unprotect(ctx, img.ID, who); err != nil {
			return err
		}
	}
	return p.glance.delete(ctx, img.ID, who)
}

func isStatus(err error, status int) bool {
	var answer *answerError
	return errors.As(err, &answer) && answer.status == status
}

// backoff yields at once and then after growing pauses, until ctx ends.
func backoff(ctx context.Context) iter.Seq[struct{}] {
	return func(yield func(struct{}) bool) {
		for pause := 25 * time.Millisecond; yield(struct{}{}); pause = min(2*pause, time.Second) {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
		}
	}
}
