package proxy

import (
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy/receipt"
	"github.com/countersign/countersign/signature"
)

// actionDownload is what a download is called in events.
const actionDownload = "read/download"

// downloading is one download that a rule demands something of. It is owned by
// the request's goroutine.
type downloading struct {
	image  Image
	event  *event
	judges judges // what the bytes have to satisfy as they go out; none: nothing any more

	// empty tells that the image had no data when it was looked at, so that there
	// was nothing to demand.
	empty bool
}

type downloadKey struct{}

// download answers GET /v2/images/{id}/file. Where no rule demands anything of
// downloads it costs nothing.
func (p *Proxy) download(w http.ResponseWriter, r *http.Request) {
	if p.Policies.GuardsDownloads() != policy.Off {
		d, err := p.release(r)
		if err != nil {
			p.refuse(w, r, err)
			return
		}
		if d != nil {
			r = r.WithContext(context.WithValue(r.Context(), downloadKey{}, d))
		}
	}
	p.pass(w, r)
}

// release decides, before Glance is asked for the data, whether it may go out.
// Both the rule of the image's owner and that of the caller's project have a
// say: a project's data, and what a project boots. It returns nil where neither
// has anything to say.
func (p *Proxy) release(r *http.Request) (*downloading, error) {
	ctx, ev := r.Context(), eventOf(r.Context())
	who, err := caller(r)
	if err != nil {
		return nil, err
	}
	img, err := p.seen(r, imageID(r), who)
	if err != nil {
		return nil, err
	}
	rules, err := p.releaseRules(ctx, img, who)
	if err != nil {
		ev.action, ev.image = actionDownload, &img
		return nil, err
	}
	d := &downloading{image: img, event: ev}
	for _, rule := range rules {
		ev.action, ev.image, ev.rule, ev.audited = actionDownload, &img, rule, rule.Mode == policy.Audit
		if d.empty = img.Status != statusActive && img.Status != statusDeactivated; d.empty {
			continue
		}
		asked, err := p.releasable(r, img, rule, who)
		if err != nil {
			ev.outcome, ev.reason = "failure", asRefusal(err)
			if rule.Failed() == policy.Refuse {
				return nil, err
			}
			continue
		}
		if asked != nil {
			d.judges = append(d.judges, asked)
		}
	}
	switch {
	case ev.action == "":
		return nil, nil
	case ev.outcome == "" && len(d.judges) == 0 && !d.empty:
		ev.outcome = "success"
	case d.empty:
		ev.outcome = "unknown"
	}
	return d, nil
}

// releaseRules are the rules that demand something of a download: those that
// enforce, or else those that audit.
func (p *Proxy) releaseRules(ctx context.Context, img Image, who credentials) ([]*policy.Rule, error) {
	found := map[policy.Mode][]*policy.Rule{}
	add := func(owner string) error {
		img.Owner = owner
		rule, err := p.ruleOf(ctx, img, who)
		switch {
		case isUnruled(err):
			return nil
		case err != nil:
			return err
		}
		found[demands(rule)] = append(found[demands(rule)], rule)
		return nil
	}
	if err := add(img.Owner); err != nil {
		return nil, err
	}
	ev := eventOf(ctx)
	if err := p.identify(ctx, who.token, ev); err != nil {
		if p.Policies.GuardsDownloads() == policy.Enforce {
			return nil, err // the caller's project may be one that enforces
		}
	} else if caller := ev.identity.ProjectID; caller != "" && caller != img.Owner { // a token without a project is nobody's who boots
		if err := add(caller); err != nil {
			return nil, err
		}
	}
	if strict := found[policy.Enforce]; len(strict) > 0 {
		return strict, nil
	}
	return found[policy.Audit], nil
}

// releasable holds an image to a rule's demand. The judge, if there is one, is
// what the bytes have to satisfy on their way out.
func (p *Proxy) releasable(r *http.Request, img Image, rule *policy.Rule, who credentials) (signature.Judge, error) {
	vouch, err := p.vouched(r.Context(), img, rule, true)
	if rule.Downloads == policy.DownloadsReceipt {
		return nil, err
	}
	// Glance takes a Content-Range in a request for a Range.
	if partial := len(r.Header["Range"]) > 0 || len(r.Header["Content-Range"]) > 0; partial {
		if !rule.Ranges {
			return nil, refusal(codeRangeRefused, "", fmt.Sprintf("rule %q has the whole data checked on its way out, which a part of it cannot be", rule.Name),
				"ask for the whole image; an operator can allow parts of images with a receipt by `ranges: true`")
		}
		return nil, err
	}
	if err == nil {
		return judgeOf(vouch)
	}
	spec, unsigned := signature.Parse(img.signed())
	if _, none := p.proof(img); none == nil || errors.Is(unsigned, signature.ErrUnsigned) {
		return nil, err // what the rule says of the receipt stands
	}
	if property := bootsOtherwise(img); property != "" {
		return nil, err
	}
	if decision := rule.Decide(spec, unsigned); decision.Action != policy.Verify {
		return nil, decision.Reason
	}
	u := &uploading{image: img, rule: rule, who: who, event: eventOf(r.Context())}
	certificate, err := p.certificate(r.Context(), u, spec)
	if err != nil {
		return nil, err
	}
	verifier, err := signature.NewVerifier(spec, certificate.PublicKey)
	if err != nil {
		return nil, err
	}
	verifier.Deny(rule.DenyMethods(), rule.CheckDigest)
	return verifier, nil
}

// hand looks at Glance's answer to a download: only what was released goes out.
func (d *downloading) hand(res *http.Response) error {
	switch {
	case res.StatusCode/100 != 2 || res.StatusCode == http.StatusNoContent:
		return nil
	case d.event.audited && (len(d.judges) == 0 || res.StatusCode != http.StatusOK):
		return nil
	case d.empty:
		res.Body.Close()
		return refusal(codeReceiptMissing, receipt.Property, "was not looked for, since the image had no data yet", "ask again")
	case len(d.judges) == 0:
		return nil
	case res.StatusCode != http.StatusOK:
		res.Body.Close()
		return refusal(codeDownloadMismatch, "", fmt.Sprintf("Glance answered %d, and only the whole data can be checked on its way out", res.StatusCode), "ask for the whole image")
	}
	// Told, so that a client which does not get the end knows that it is missing.
	if res.ContentLength < 0 && d.image.Size >= 0 {
		res.ContentLength = d.image.Size
		res.Header.Set("Content-Length", strconv.FormatInt(d.image.Size, 10))
		res.TransferEncoding = nil
	}
	body := &handed{Closer: res.Body, from: res.Body, download: d}
	if d.event.audited {
		res.Body = body
		return nil
	}
	reader := signature.NewReader(res.Body, d.judges)
	body.from = reader
	// A small image is judged before the client has seen a byte.
	if err := reader.Prime(); err != nil {
		res.Body.Close()
		return body.failed(err)
	}
	res.Body = body
	return nil
}

// handed is the body of an answer whose bytes are judged. Its last 16 KiB come
// only after the verdict: on an error the server breaks the connection off, with
// the body incomplete. In audit mode nothing is held back.
type handed struct {
	io.Closer
	from     io.Reader
	download *downloading
}

// Read implements io.Reader.
func (h *handed) Read(p []byte) (int, error) {
	d := h.download
	n, err := h.from.Read(p)
	audited := d.event.audited
	if audited {
		d.judges.Write(p[:n])
	}
	switch {
	case err != nil && err != io.EOF:
		return n, h.failed(err)
	case err == io.EOF && d.event.outcome == "":
		d.event.outcome = "success"
		if audited {
			if wrong := d.judges.Verify(); wrong != nil {
				h.failed(wrong)
			}
		}
	}
	return n, err
}

// failed writes into the event why the data did not go out to its end.
func (h *handed) failed(err error) error {
	ev := h.download.event
	var property *signature.PropertyError
	var ruled *policy.Refusal
	switch {
	default:
		err = noGlance(err)
	case errors.As(err, &ruled):
	case errors.Is(err, signature.ErrMismatch), errors.As(err, &property):
		err = &Refusal{Code: codeDownloadMismatch, Problem: "the data that Glance hands out is not what was verified, so its end was held back",
			Cure: "do not use what came; tell the operator the request id", Err: errors.New(err.Error())}
	}
	ev.outcome, ev.reason = "failure", asRefusal(err)
	return err
}

// judges have to agree.
type judges []signature.Judge

func (j judges) Write(p []byte) (int, error) {
	for _, one := range j {
		if n, err := one.Write(p); err != nil {
			return n, err
		}
	}
	return len(p), nil
}

func (j judges) Verify() error {
	for _, one := range j {
		if err := one.Verify(); err != nil {
			return err
		}
	}
	return nil
}

// digest is the judge that knows what the data has to hash to.
type digest struct {
	hash.Hash
	want string // lower-case hexadecimal
	size int64
	seen int64
}

// judgeOf is the judge for what a receipt vouches for: by a digest that we
// computed, or, where the receipt has none, since a service was exempt, by the
// one that Glance had computed when it was written.
func judgeOf(r *receipt.Receipt) (signature.Judge, error) {
	for _, method := range []struct {
		name, glance string
		new          func() hash.Hash
	}{
		{"SHA-512", "sha512", sha512.New},
		{"SHA-384", "sha384", sha512.New384},
		{"SHA-256", "sha256", sha256.New},
		{"SHA-224", "sha224", sha256.New224},
	} {
		want := r.Digests[method.name]
		if len(r.Digests) == 0 && r.HashAlgo == method.glance {
			want = r.HashValue
		}
		if want != "" {
			return &digest{Hash: method.new(), want: want, size: r.Size}, nil
		}
	}
	return nil, refusal(codeReceiptInvalid, receipt.Property, "has no digest by which the data could be checked on its way out",
		"upload the data again, through Countersign")
}

func (d *digest) Write(p []byte) (int, error) {
	d.seen += int64(len(p))
	return d.Hash.Write(p)
}

// Verify implements signature.Judge. The error is signature.ErrMismatch.
func (d *digest) Verify() error {
	if sum := hex.EncodeToString(d.Sum(nil)); sum != d.want || d.seen != d.size {
		return fmt.Errorf("%d bytes that hash to %s, where the receipt has %d and %s: %w", d.seen, sum, d.size, d.want, signature.ErrMismatch)
	}
	return nil
}
