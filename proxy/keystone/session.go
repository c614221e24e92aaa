package keystone

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/tokens"
)

// pause is how long Keystone is left alone after an authentication failed, and how old a session must be before a 401
// ends it.
const pause = 2 * time.Second

// session is one authentication of the service credential. It is immutable.
type session struct {
	token   string
	domain  string // the scope, where it is a domain: lists then show that domain only
	catalog []tokens.CatalogEntry
	issued  time.Time // by our clock
	expires time.Time
	renew   time.Time // from when on a younger one is sought
}

// login is one authentication under way. session and err are set before done is closed and never after.
type login struct {
	done    chan struct{}
	session *session
	err     error
}

// current returns the session, authenticating where there is none, and also where it ends soon: a failure of the latter
// is nobody's concern as long as the token is good.
func (c *Client) current(ctx context.Context) (*session, error) {
	if c.invalid != nil {
		return nil, c.invalid
	}
	c.mu.Lock()
	now, s := c.cfg.Now(), c.session
	usable := s != nil && now.Before(s.expires)
	if usable && now.Before(s.renew) {
		c.mu.Unlock()
		return s, nil
	}
	if c.failure != nil && now.Before(c.retryAt) {
		err := c.failure
		c.mu.Unlock()
		if usable {
			return s, nil
		}
		return nil, err
	}
	l := c.login
	if l == nil {
		l = &login{done: make(chan struct{})}
		c.login = l
		// The goroutine belongs to the login, not to the caller who started it and may leave. It ends with Keystone's
		// answer or the timeout.
		go func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.Timeout)
			defer cancel()
			l.session, l.err = c.authenticate(ctx)
			c.land(l)
		}()
	}
	c.mu.Unlock()

	select {
	case <-l.done:
	case <-ctx.Done():
		if usable {
			return s, nil
		}
		return nil, fmt.Errorf("keystone: authenticate: %w", context.Cause(ctx))
	}
	if l.err != nil && usable {
		return s, nil
	}
	return l.session, l.err
}

// land keeps what a login brought and lets the waiting callers go.
func (c *Client) land(l *login) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.login = nil
	if c.failure = l.err; l.err == nil {
		c.session = l.session
	} else {
		c.retryAt = c.cfg.Now().Add(pause)
	}
	close(l.done)
}

// reject ends a session that Keystone has answered with 401. A young one stays: if Keystone refuses what it issued a
// moment ago, asking it for more would only keep it busy.
func (c *Client) reject(s *session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session == s && c.cfg.Now().Sub(s.issued) >= pause {
		c.session = nil
	}
}

// authenticate asks for a new token.
func (c *Client) authenticate(ctx context.Context) (_ *session, err error) {
	// Out of a handler's reach a panic would end the process: here it ends the login.
	defer func() {
		if recover() != nil {
			err = errors.New("keystone: authenticate: panic")
		}
	}()
	start := c.cfg.Now()
	opts := c.cfg.AuthOptions
	result := tokens.Create(ctx, c.service(""), &opts)
	if result.Err != nil {
		return nil, judge("authenticate", result.Err)
	}
	var body struct {
		Domain    tokens.Domain         `json:"domain"`
		Catalog   []tokens.CatalogEntry `json:"catalog"`
		ExpiresAt time.Time             `json:"expires_at"`
	}
	token, err := result.ExtractTokenID()
	if err != nil || token == "" || result.ExtractInto(&body) != nil || !body.ExpiresAt.After(start) {
		return nil, errors.New("keystone: authenticate: its answer is not readable, or its token has expired already")
	}
	ahead := min(5*time.Minute, body.ExpiresAt.Sub(start)/4)
	return &session{
		token: token, domain: body.Domain.ID, catalog: body.Catalog,
		issued: start, expires: body.ExpiresAt, renew: body.ExpiresAt.Add(-ahead),
	}, nil
}

// get asks Keystone with the service token, and once more with a new one if the first was refused. It returns the
// session that was used. what says in an error what was being done; errNotFound and errRefused are for the caller to
// interpret.
func (c *Client) get(ctx context.Context, what, path string, header map[string]string, into any) (*session, error) {
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	var refused *session
	for {
		s, err := c.current(ctx)
		if err != nil {
			return nil, err
		}
		if s == refused {
			return s, fmt.Errorf("keystone: %s: %w", what, errRefused)
		}
		client := c.service(s.token)
		_, err = client.Get(ctx, client.ServiceURL(path), into, &gophercloud.RequestOpts{MoreHeaders: header})
		switch {
		case err == nil:
			return s, nil
		case !gophercloud.ResponseCodeIs(err, http.StatusUnauthorized):
			return s, judge(what, err)
		case refused != nil:
			return s, fmt.Errorf("keystone: %s: %w", what, errRefused)
		}
		refused = s
		c.reject(s)
	}
}

// service returns a client for one request.
func (c *Client) service(token string) *gophercloud.ServiceClient {
	provider := &gophercloud.ProviderClient{HTTPClient: c.http, TokenID: token}
	return &gophercloud.ServiceClient{ProviderClient: provider, Endpoint: c.root, Type: "identity"}
}
