package certcache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// A VaultLogin says how to come by a token: VaultToken, VaultAppRole or VaultJWT. What proves who we are is read anew for
// each login, so that a file which was replaced meanwhile counts.
type VaultLogin struct {
	method string                            // where the auth method is mounted; empty: proof is the token itself
	fixed  map[string]string                 // members of the request that are no secret
	member string                            // the request's member that is
	proof  func() (secret string, err error) // its error names no secret
}

// VaultToken takes the token as read returns it, for each question anew: whoever wrote it, such as Vault Agent, renews it.
func VaultToken(read func() (string, error)) VaultLogin {
	return VaultLogin{proof: read}
}

// VaultAppRole logs in by a role's id and a secret id, which may be empty for roles that demand none.
func VaultAppRole(mount, roleID string, secretID func() (string, error)) VaultLogin {
	return VaultLogin{method: mount, fixed: map[string]string{"role_id": roleID}, member: "secret_id", proof: secretID}
}

// VaultJWT logs in by a JSON Web Token under a role, at the auth methods jwt and kubernetes, which take the same request.
func VaultJWT(mount, role string, jwt func() (string, error)) VaultLogin {
	return VaultLogin{method: mount, fixed: map[string]string{"role": role}, member: "jwt", proof: jwt}
}

const (
	// settled is how long after a login or renewal a 403 is not about the token: what we may not read is then asked for
	// without a login each time.
	settled = 10 * time.Second
	// unwelcome is how long a login that failed speaks for all who want one.
	unwelcome = time.Second
	// keepRetry and keepLook are when Keep looks again: after a failure, and at most.
	keepRetry, keepLook = 5 * time.Second, time.Minute
	// loginTimeout bounds a login or renewal by Keep.
	loginTimeout = 8 * time.Second
)

// vaultToken is a token and its lease.
type vaultToken struct {
	text      string
	renewable bool
	since     time.Time     // of the login or renewal, before it was asked for
	lease     time.Duration // 0: for ever
	first     time.Duration // the lease that the login gave
}

func (t vaultToken) good(now time.Time) bool {
	return t.text != "" && (t.lease == 0 || now.Sub(t.since) < t.lease)
}

// due is when to care for a longer lease: a third of it is left for that.
func (t vaultToken) due() time.Time { return t.since.Add(t.lease * 2 / 3) }

// current returns the token to ask with, from a login if there is none.
func (v *Vault) current(ctx context.Context) (vaultToken, error) {
	if v.cfg.Login.method == "" {
		text, err := v.cfg.Login.proof()
		if err != nil {
			return vaultToken{}, fmt.Errorf("token: %w", err)
		}
		return vaultToken{text: text}, nil
	}
	if t := v.held(); t.good(v.cfg.Now()) {
		return t, nil
	}
	select {
	case <-ctx.Done():
		return vaultToken{}, fmt.Errorf("login: %w", context.Cause(ctx))
	case <-v.turn:
		defer func() { v.turn <- struct{}{} }()
	}
	if t := v.held(); t.good(v.cfg.Now()) {
		return t, nil // somebody else has logged in meanwhile
	}
	if err := v.rejection(); err != nil {
		return vaultToken{}, err
	}
	return v.login(ctx)
}

func (v *Vault) held() vaultToken {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.token
}

// rejection is why a login failed a moment ago, or nil.
func (v *Vault) rejection() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.refused != nil && v.cfg.Now().Sub(v.since) < unwelcome {
		return v.refused
	}
	return nil
}

// discard forgets a token that was not accepted. It reports false if that is not worth another login: the token is too
// fresh to be the reason, or is not ours to renew.
func (v *Vault) discard(t vaultToken) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case v.cfg.Login.method == "":
		return false
	case v.token.text != t.text: // somebody else has a newer one
		return true
	case v.cfg.Now().Sub(v.token.since) < settled:
		return false
	}
	v.token = vaultToken{}
	return true
}

// login asks for a token. The caller holds the turn.
func (v *Vault) login(ctx context.Context) (vaultToken, error) {
	secret, err := v.cfg.Login.proof()
	if err != nil {
		return vaultToken{}, v.failed(ctx, fmt.Errorf("login: %w", err))
	}
	members := map[string]string{}
	for name, value := range v.cfg.Login.fixed {
		members[name] = value
	}
	if secret != "" {
		members[v.cfg.Login.member] = secret
	}
	t, err := v.lease(ctx, "login", "", members, "auth", v.cfg.Login.method, "login")
	if err != nil {
		return vaultToken{}, v.failed(ctx, err)
	}
	t.first = t.lease
	v.hold(t)
	return t, nil
}

// renew asks for a longer lease. The caller holds the turn.
func (v *Vault) renew(ctx context.Context, old vaultToken) error {
	t, err := v.lease(ctx, "renewal", old.text, map[string]string{}, "auth", "token", "renew-self")
	if err != nil {
		return err
	}
	t.first = old.first
	v.hold(t)
	return nil
}

// lease puts a question that is answered with a token and its lease.
func (v *Vault) lease(ctx context.Context, what, token string, members map[string]string, path ...string) (vaultToken, error) {
	since := v.cfg.Now()
	status, body, err := v.do(ctx, what, http.MethodPost, token, members, path...)
	if err != nil {
		return vaultToken{}, err
	}
	switch status {
	default:
		return vaultToken{}, fmt.Errorf("%s: it answered %d", what, status)
	case http.StatusBadRequest, http.StatusUnauthorized, http.StatusForbidden:
		return vaultToken{}, fmt.Errorf("%s: %w (%d)", what, errNotAccepted, status)
	case http.StatusNotFound:
		return vaultToken{}, fmt.Errorf("%s: it answered 404: no auth method is enabled at %q", what, v.cfg.Login.method)
	case http.StatusServiceUnavailable:
		return vaultToken{}, fmt.Errorf("%s: it answered 503: it is sealed, or has no active node", what)
	case http.StatusOK:
	}
	var answer struct {
		Auth struct {
			ClientToken   string `json:"client_token"`
			LeaseDuration int64  `json:"lease_duration"` // seconds
			Renewable     bool   `json:"renewable"`
		} `json:"auth"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Auth.ClientToken == "" || answer.Auth.LeaseDuration < 0 || answer.Auth.LeaseDuration > longestLease {
		return vaultToken{}, fmt.Errorf("%s: its answer is not readable", what)
	}
	lease := time.Duration(answer.Auth.LeaseDuration) * time.Second
	return vaultToken{text: answer.Auth.ClientToken, renewable: answer.Auth.Renewable, since: since, lease: lease}, nil
}

// longestLease, in seconds, is far beyond what Vault gives (32 days by default) and far below what overflows.
const longestLease = 100 * 365 * 24 * 3600

// errNotAccepted means that Vault answered, and knows us not.
var errNotAccepted = errors.New("it does not accept the credential")

func (v *Vault) hold(t vaultToken) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.token, v.refused = t, nil
}

// failed remembers why a login failed, unless it was the caller who left.
func (v *Vault) failed(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.refused, v.since = err, v.cfg.Now()
	}
	return err
}

// Keep logs in, and renews the lease or logs in again while a third of it is left, until ctx ends: a certificate is then
// never waited for longer than one read takes, and a secret id that may be used once suffices. It reports each attempt's
// outcome, nil included. With VaultToken there is nothing to keep, and it returns at once.
func (v *Vault) Keep(ctx context.Context, report func(error)) {
	if v.cfg.Login.method == "" {
		return
	}
	for ctx.Err() == nil {
		wait, err := v.refresh(ctx)
		if ctx.Err() != nil {
			return
		}
		report(err)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// refresh does what is due, and says how long nothing will be.
func (v *Vault) refresh(ctx context.Context) (wait time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	select {
	case <-ctx.Done():
		return keepRetry, fmt.Errorf("login: %w", context.Cause(ctx))
	case <-v.turn:
		defer func() { v.turn <- struct{}{} }()
	}
	now := v.cfg.Now()
	t := v.held()
	switch {
	case !t.good(now):
		_, err = v.login(ctx)
	case t.lease == 0 || now.Before(t.due()):
	case t.renewable && 2*t.lease >= t.first:
		if err = v.renew(ctx, t); errors.Is(err, errNotAccepted) {
			_, err = v.login(ctx)
		}
	default: // it cannot be renewed, or its end is near (its maximum TTL)
		_, err = v.login(ctx)
	}
	if err != nil {
		return keepRetry, err
	}
	wait = keepLook
	if t = v.held(); t.lease > 0 {
		wait = min(wait, max(t.due().Sub(v.cfg.Now()), time.Second))
	}
	return wait, nil
}
