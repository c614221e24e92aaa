package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/countersign/countersign/policy"
)

// Where a rule demands something of downloads, data does not go past us: an
// answer does not tell where it is stored, except to the services that share
// Glance's storage.

// answersWithImages are the routes whose answers show images, and whether a list
// of them.
var answersWithImages = map[string]bool{
	"GET /v2/images":        true,
	"POST /v2/images":       false,
	"GET /v2/images/{id}":   false,
	"PATCH /v2/images/{id}": false,
}

// hide takes direct_url and locations out of an answer.
func (p *Proxy) hide(res *http.Response) error {
	if p.Policies.GuardsDownloads() != policy.Enforce {
		return nil
	}
	ctx := res.Request.Context()
	ev := eventOf(ctx)
	list, images := answersWithImages[ev.method+" "+ev.route]
	if !images || res.StatusCode/100 != 2 {
		return nil
	}
	if service, err := p.serviceOf(ctx, res.Request); err == nil && service != nil {
		return nil
	}
	if encoding := res.Header.Get("Content-Encoding"); encoding != "" {
		res.Body.Close()
		return noGlance(errors.New("an answer in the content encoding " + encoding))
	}
	concealer := newConcealer(res.Body, list, p.secretFrom(ctx, res.Request.Header.Get("X-Auth-Token")))
	if res.ContentLength < 0 || res.ContentLength > maxMember {
		res.Body, res.ContentLength = concealer, -1
		res.Header.Del("Content-Length")
		return nil
	}
	data, err := io.ReadAll(concealer)
	concealer.Close()
	if err != nil {
		return noGlance(err)
	}
	res.Body, res.ContentLength = io.NopCloser(bytes.NewReader(data)), int64(len(data))
	res.Header.Set("Content-Length", strconv.Itoa(len(data)))
	return nil
}

// secretFrom tells which images' places a caller may not see: those that a rule
// guards, and all if the caller's project is guarded or cannot be told.
func (p *Proxy) secretFrom(ctx context.Context, token string) func(owner string, v policy.Visibility) bool {
	caller, err := p.Identities.Validate(ctx, token)
	return func(owner string, v policy.Visibility) bool {
		return err != nil || p.guards(owner, v) || caller.ProjectID != "" && p.guards(caller.ProjectID, v)
	}
}

// guards reports whether downloads of an image with this owner are guarded. A
// shared image may or may not have members: the stricter rule counts.
func (p *Proxy) guards(owner string, v policy.Visibility) bool {
	rule, err := p.Policies.For(policy.Subject{Owner: owner, Visibility: v})
	switch {
	case isUnruled(err):
	case err != nil, demands(rule) == policy.Enforce:
		return true
	}
	return v == policy.Shared && p.guards(owner, policy.Private)
}

// demands is the mode in which a rule demands something of downloads, Off where
// it demands nothing.
func demands(rule *policy.Rule) policy.Mode {
	if rule.Downloads == policy.DownloadsAny {
		return policy.Off
	}
	return rule.Mode
}

// isUnruled reports whether err says that an image has no owner and no rule is
// for such images. Nobody demands anything of handing them out.
func isUnruled(err error) bool {
	var refused *policy.Refusal
	return errors.As(err, &refused) && refused.Code == policy.CodeImageUnowned
}

// locations answers GET /v2/images/{id}/locations.
func (p *Proxy) locations(w http.ResponseWriter, r *http.Request) {
	if err := p.locatable(r); err != nil {
		p.refuse(w, r, err)
		return
	}
	p.pass(w, r)
}

func (p *Proxy) locatable(r *http.Request) error {
	token := r.Header.Get("X-Auth-Token")
	if p.Policies.GuardsDownloads() != policy.Enforce || token == "" {
		return nil // without a token Glance refuses
	}
	service, err := p.serviceOf(r.Context(), r)
	if err != nil || service != nil {
		return err
	}
	img, err := p.seen(r, imageID(r), credentials{token: token})
	if err != nil {
		return err
	}
	if !p.secretFrom(r.Context(), token)(img.Owner, img.Visibility) {
		return nil
	}
	ev := eventOf(r.Context())
	ev.action, ev.image = "read/locations", &img
	return refusal(codeDoorClosed, "locations", "would show where the data is, past all verification", "download it with GET /v2/images/"+img.ID+"/file")
}
