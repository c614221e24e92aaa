package proxy

import (
	"context"
	"net/http"

	"github.com/countersign/countersign/policy"
)

// Every way but PUT /file and /stage in which an image's data or meaning changes
// is a door. Each has a file: patch.go, saves.go (tags), becomes.go (owner,
// visibility, members), import.go, tasks.go, locate.go.
// What they do is the same: find the image and its rule, decide, and refuse or
// pass. Where the rule only audits, what would be refused is noted, if it can be
// told without a receipt: under such a rule there are none.

// caller returns what a request shows of who sends it: the user's token, alone.
func caller(r *http.Request) (credentials, error) {
	token := r.Header.Get("X-Auth-Token")
	if token == "" {
		return credentials{}, refusal(codeTokenMissing, "", "the request has no X-Auth-Token", "authenticate with Keystone and send the token")
	}
	return credentials{token: token}, nil
}

// seen reads an image as the caller sees it. Whoever may not see it gets Glance's
// own 404, in the shape that was asked for.
func (p *Proxy) seen(r *http.Request, id string, who credentials) (Image, error) {
	return p.glance.image(r.Context(), id, who, http.Header{"Accept": r.Header["Accept"], "Origin": r.Header["Origin"]})
}

// find reads the image that a request is about, with the caller's token alone,
// and the rule that it is under, which may be off.
func (p *Proxy) find(r *http.Request, action string) (*uploading, error) {
	ctx, ev := r.Context(), eventOf(r.Context())
	who, err := caller(r)
	if err != nil {
		return nil, err
	}
	img, err := p.seen(r, imageID(r), who)
	if err != nil {
		return nil, err
	}
	rule, err := p.ruleOf(ctx, img, who)
	if err != nil {
		ev.action, ev.image = action, &img
		return nil, err
	}
	if rule.Mode == policy.Off && rule.BreakGlass() { // which is never silent
		ev.action, ev.image, ev.rule, ev.outcome = action, &img, rule, "unknown"
	}
	return &uploading{image: img, rule: rule, who: who, event: ev}, nil
}

// name writes into the event what is decided, by which rule, and who asks.
func (p *Proxy) name(r *http.Request, u *uploading, rule *policy.Rule, action string) error {
	ev := u.event
	ev.action, ev.image, ev.rule, ev.audited = action, &u.image, rule, rule.Mode == policy.Audit
	if err := p.identify(r.Context(), u.who.token, ev); err != nil && rule.Mode != policy.Audit {
		return err
	}
	return nil
}

// hold holds an image to a rule: it returns the error, if the rule refuses, and
// else notes that it would.
func (u *uploading) hold(rule *policy.Rule, err error) error {
	if err == nil {
		return nil
	}
	u.event.outcome, u.event.reason, u.event.rule, u.event.audited = "failure", asRefusal(err), rule, rule.Mode == policy.Audit
	if rule.Failed() == policy.Refuse {
		return err
	}
	return nil
}

// passes notes that nothing was found amiss.
func (u *uploading) passes() {
	if u.event.outcome == "" {
		u.event.outcome = "success"
	}
}

// door makes the handler of a request that an image's rule lets pass or not.
func door(action string, decide func(*Proxy, *http.Request, *uploading) error) func(*Proxy, http.ResponseWriter, *http.Request) {
	return func(p *Proxy, w http.ResponseWriter, r *http.Request) {
		u, err := p.subject(r, action)
		if err == nil && u != nil {
			err = u.hold(u.rule, decide(p, r, u))
		}
		if err != nil {
			p.refuse(w, r, err)
			return
		}
		if u != nil {
			u.passes()
		}
		p.pass(w, r)
	}
}

// reactivate decides about POST /v2/images/{id}/actions/reactivate, whatever the
// image's status is now: it may be about to be taken out of use.
func (p *Proxy) reactivate(r *http.Request, u *uploading) error {
	if u.rule.Mode != policy.Enforce {
		return nil
	}
	_, err := p.vouched(r.Context(), u.image, u.rule, true)
	return err
}

type thenKey struct{}

// passThen sends a request on, and does something more once Glance has taken it
// and before the client hears of that.
func (p *Proxy) passThen(w http.ResponseWriter, r *http.Request, then func(*http.Request) error) {
	if then != nil {
		p.running.Add(1)
		defer p.running.Done()
		r = r.WithContext(context.WithValue(r.Context(), thenKey{}, then))
	}
	p.pass(w, r)
}

// taken does what passThen put off.
func taken(res *http.Response) error {
	then, ok := res.Request.Context().Value(thenKey{}).(func(*http.Request) error)
	if !ok || res.StatusCode/100 != 2 {
		return nil
	}
	return then(res.Request)
}
