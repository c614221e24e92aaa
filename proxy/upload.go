package proxy

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy/keystone"
	"github.com/countersign/countersign/signature"
)

// uploading is one upload of image data, from its admission on. It is owned by
// the request's goroutine.
type uploading struct {
	image    Image // as it was when the upload was admitted
	rule     *policy.Rule
	spec     signature.Spec
	verifier *signature.Verifier // nil: audited, and not even admissible
	who      credentials
	event    *event

	// letGo tells that Glance has answered, or never heard of, this upload: if
	// the image is saving afterwards, another one owns it.
	letGo bool

	// unanswered is how many bytes that were not verified went to a Glance
	// which said nothing about them; zero if it did, or got none.
	unanswered int64
}

type uploadKey struct{}

// actionUpload is what an upload is called in events, as CADF forms names.
const actionUpload = "update/upload"

// upload answers PUT /v2/images/{id}/file: admit, then guard (which settles).
func (p *Proxy) upload(w http.ResponseWriter, r *http.Request) {
	p.running.Add(1)
	defer p.running.Done()
	defer p.Metrics.upload()()
	u, err := p.admit(r)
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	if u != nil {
		u.event.admitted = time.Now()
		r = r.WithContext(context.WithValue(r.Context(), uploadKey{}, u))
	}
	p.pass(w, r)
}

// admit decides, before one byte of the body is read and before Glance hears of
// the upload, whether it may begin. A nil *uploading is none of our business.
// Every error leaves the image as it is; it may be corrected and uploaded.
func (p *Proxy) admit(r *http.Request) (*uploading, error) {
	ctx, ev := r.Context(), eventOf(r.Context())
	u, err := p.subject(r, actionUpload)
	if err != nil || u == nil {
		return nil, err
	}
	if u.verifier, err = p.judge(ctx, u); err != nil {
		if u.rule.Failed() == policy.Refuse {
			return nil, err
		}
		ev.outcome, ev.reason = "failure", asRefusal(err)
	}
	return u, nil
}

// subject reads the image that a request is about and finds the rule that it is
// under. It returns nil where the rule is off. What is done to the image goes
// into the event as action.
func (p *Proxy) subject(r *http.Request, action string) (*uploading, error) {
	ctx, ev := r.Context(), eventOf(r.Context())
	who := credentials{token: r.Header.Get("X-Auth-Token")}
	if who.token == "" {
		return nil, refusal(codeTokenMissing, "", "the request has no X-Auth-Token", "authenticate with Keystone and send the token")
	}
	// The caller's token alone: whoever may not see the image gets Glance's
	// own 404, in the shape that was asked for.
	img, err := p.glance.image(ctx, imageID(r), who, http.Header{"Accept": r.Header["Accept"], "Origin": r.Header["Origin"]})
	if err != nil {
		return nil, err
	}
	rule, err := p.ruleOf(ctx, img, who)
	if err != nil {
		ev.action, ev.image = action, &img
		return nil, err
	}
	if rule.Mode == policy.Off {
		if rule.BreakGlass() { // which is never silent
			ev.action, ev.image, ev.rule, ev.outcome = action, &img, rule, "unknown"
		}
		return nil, nil
	}
	ev.action, ev.image, ev.rule, ev.audited = action, &img, rule, rule.Mode == policy.Audit
	if err := p.identify(ctx, who.token, ev); err != nil && rule.Mode != policy.Audit {
		return nil, err
	}
	return &uploading{image: img, rule: rule, who: who, event: ev}, nil
}

// identify asks Keystone whose token it is. Where that cannot be known nothing
// is enforced on a guess: the error refuses.
func (p *Proxy) identify(ctx context.Context, token string, ev *event) error {
	who, err := p.Identities.Validate(ctx, token)
	switch {
	case errors.Is(err, keystone.ErrInvalidToken):
		return refusal(codeTokenInvalid, "", "Keystone does not know the token", "authenticate anew")
	case err != nil:
		return noServiceCredential(err)
	}
	ev.identity = &who
	return nil
}

func noServiceCredential(err error) error {
	return &Refusal{Code: codeServiceCredential, Problem: "Countersign's own service credential does not work, so nothing is enforced on a guess",
		Cure: "try again later; an operator finds the reason in the log under the request id", Err: err,
		Header: http.Header{"Retry-After": {"30"}}}
}

// judge builds the verifier that the upload is judged by.
func (p *Proxy) judge(ctx context.Context, u *uploading) (*signature.Verifier, error) {
	if u.image.Status != statusQueued {
		return nil, refusal(codeImageNotQueued, "", "the image is "+u.image.Status+", and data is taken only while it is queued",
			"create a new image")
	}
	if u.rule.Mode == policy.Enforce {
		if err := p.Trusted(); err != nil {
			return nil, &Refusal{Code: codeGlanceNotTrusted, Problem: "Glance is not known to check tokens, so nothing it shows can be relied on",
				Cure: "try again later; an operator finds the reason in the log under the request id", Err: err,
				Header: http.Header{"Retry-After": {"30"}}}
		}
		service, err := p.Identities.Token(ctx)
		if err != nil {
			return nil, noServiceCredential(err)
		}
		u.who.service = service
	}
	spec, err := signature.Parse(u.image.Properties)
	if decision := u.rule.Decide(spec, err); decision.Action != policy.Verify {
		return nil, decision.Reason
	}
	u.spec, u.event.spec = spec, &spec
	data, err := p.Certificates.Certificate(ctx, u.image.Owner, spec.CertificateID, u.who.token)
	if err != nil {
		return nil, err
	}
	certificate, err := signature.ParseCertificate(data)
	if err != nil {
		return nil, err
	}
	u.event.signer, u.event.notAfter = certificate.Fingerprint(), certificate.NotAfter
	if err := certificate.CheckDates(p.Now()); err != nil {
		return nil, err
	}
	if err := u.rule.CheckCertificate(spec.CertificateID, certificate); err != nil {
		return nil, err
	}
	return signature.NewVerifier(spec, certificate.PublicKey)
}
