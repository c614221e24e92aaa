package proxy

import (
	"context"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"net/http"
	"runtime/debug"
	"time"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy/keystone"
	"github.com/countersign/countersign/proxy/receipt"
	"github.com/countersign/countersign/signature"
)

// uploading is one upload of image data, from its admission on. It is owned by
// the request's goroutine.
type uploading struct {
	image       Image        // as it was when the upload was admitted
	kind        receipt.Kind // Upload, Stage, or Exempt
	rule        *policy.Rule
	spec        signature.Spec
	verifier    *signature.Verifier // nil: exempt, or audited and not even admissible
	certificate []byte              // DER; the signer's
	service     *keystone.Identity  // for Exempt: who is
	who         credentials
	event       *event

	size    int64     // bytes that were verified, or of an exempt upload sent
	sha512  hash.Hash // of what is staged, where the signature is over another digest
	aside   bool      // a property was set aside, see aside.go
	receipt string    // what was written, or is being written, on the image

	// letGo tells that Glance has answered, or never heard of, this upload: if
	// the image is saving afterwards, another one owns it.
	letGo bool

	// unanswered is how many bytes that were not verified went to a Glance
	// which said nothing about them; zero if it did, or got none.
	unanswered int64
}

type uploadKey struct{}

// What uploads are called in events, as CADF forms names.
const (
	actionUpload = "update/" + string(receipt.Upload)
	actionStage  = "update/" + string(receipt.Stage)
)

// upload answers PUT /v2/images/{id}/file: admit, then guard (which settles).
func (p *Proxy) upload(w http.ResponseWriter, r *http.Request) {
	p.take(w, r, receipt.Upload)
}

// stage answers PUT /v2/images/{id}/stage, which is an upload to Glance's staging
// area: an import takes the data from there later, without showing it to us
// again. So its receipt has the SHA-512 that Glance will compute then.
func (p *Proxy) stage(w http.ResponseWriter, r *http.Request) {
	p.take(w, r, receipt.Stage)
}

func (p *Proxy) take(w http.ResponseWriter, r *http.Request, kind receipt.Kind) {
	p.running.Add(1)
	defer p.running.Done()
	defer p.Metrics.upload()()
	var u *uploading
	var err error
	elsewhere(func() { u, err = p.admit(r, kind) })
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

// elsewhere runs f on a stack of its own. To admit an upload takes more of a stack
// than to wait for its end, and a stack that has grown stays so while it is in use:
// the client's would be twice as large for as long as the upload lasts.
func elsewhere(f func()) {
	var panicked any = errors.New("it did not come to its end") // runtime.Goexit
	done := make(chan struct{})
	go func() { // ends with f, which is waited for
		defer close(done)
		defer func() {
			if found := recover(); found != nil {
				panicked = found
				if found != http.ErrAbortHandler {
					panicked = fmt.Errorf("%v\n%s", found, debug.Stack())
				}
			}
		}()
		f()
		panicked = nil
	}()
	<-done
	if panicked != nil {
		panic(panicked) // on the stack where net/http expects it
	}
}

// admit decides, before one byte of the body is read and before Glance hears of
// the upload, whether it may begin. A nil *uploading is none of our business.
// Every error leaves the image as it is; it may be corrected and uploaded.
func (p *Proxy) admit(r *http.Request, kind receipt.Kind) (*uploading, error) {
	ev := eventOf(r.Context())
	u, err := p.subject(r, "update/"+string(kind))
	if err != nil || u == nil {
		return nil, err
	}
	u.kind = kind
	if u.verifier, err = p.judge(r, u); err != nil {
		if u.rule.Failed() == policy.Refuse {
			return nil, err
		}
		ev.outcome, ev.reason = "failure", asRefusal(err)
	}
	if !p.GlanceVerifies && u.verifier != nil && u.rule.Mode == policy.Enforce {
		if err := p.setAside(r.Context(), u); err != nil {
			return nil, err
		}
	}
	return u, nil
}

// subject is find and name, or nil where the rule is off.
func (p *Proxy) subject(r *http.Request, action string) (*uploading, error) {
	u, err := p.find(r, action)
	if err != nil || u.rule.Mode == policy.Off {
		return nil, err
	}
	if err := p.name(r, u, u.rule, action); err != nil {
		return nil, err
	}
	return u, nil
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

// judge builds the verifier that the upload is judged by. It is nil for an
// unsigned upload by a service that the rule exempts.
func (p *Proxy) judge(r *http.Request, u *uploading) (*signature.Verifier, error) {
	ctx := r.Context()
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
		if err := p.roomForReceipt(u.image); err != nil {
			return nil, err
		}
		if err := p.receiptsWritable(ctx); err != nil {
			return nil, err
		}
	}
	spec, err := signature.Parse(u.image.signed())
	if errors.Is(err, signature.ErrUnsigned) && u.kind == receipt.Upload { // services do not stage
		exempt, err := p.exempted(ctx, r, u.rule)
		if err != nil {
			return nil, err
		}
		if exempt != nil {
			u.kind, u.service = receipt.Exempt, exempt
			return nil, nil
		}
	}
	if decision := u.rule.Decide(spec, err); decision.Action != policy.Verify {
		return nil, decision.Reason
	}
	u.spec, u.event.spec = spec, &spec
	certificate, err := p.certificate(ctx, u, spec)
	if err != nil {
		return nil, err
	}
	if u.rule.Mode == policy.Enforce {
		if err := p.boots(ctx, u.image, u.rule, u.who); err != nil {
			return nil, err
		}
	}
	if u.kind == receipt.Stage && spec.HashMethod != signature.SHA512 {
		u.sha512 = sha512.New()
	}
	verifier, err := signature.NewVerifier(spec, certificate.PublicKey)
	if err != nil {
		return nil, err
	}
	verifier.Deny(u.rule.DenyMethods(), u.rule.CheckDigest)
	return verifier, nil
}

// certificate fetches the certificate of a signature, and holds it to the rule.
func (p *Proxy) certificate(ctx context.Context, u *uploading, spec signature.Spec) (*signature.Certificate, error) {
	data, err := p.Certificates.Certificate(ctx, u.image.Owner, spec.CertificateID, u.who.token)
	if err != nil {
		return nil, err
	}
	certificate, err := signature.ParseCertificate(data)
	if err != nil {
		return nil, err
	}
	u.event.signer, u.event.notAfter, u.certificate = certificate.Fingerprint(), certificate.NotAfter, certificate.Raw
	return certificate, u.rule.CheckCertificate(spec.CertificateID, certificate, policy.Moment{Now: p.Now()})
}

// digests are what was computed of an upload's data.
func (u *uploading) digests() map[string]string {
	if u.verifier == nil {
		return nil
	}
	digests := map[string]string{string(u.spec.HashMethod): hex.EncodeToString(u.verifier.Digest())}
	if u.sha512 != nil {
		digests[string(signature.SHA512)] = hex.EncodeToString(u.sha512.Sum(nil))
	}
	return digests
}
