// Package keystone says who a token belongs to, turns project names into IDs, and holds the service credential.
//
// It promises an answer within the configured time, one authentication for any number of callers, and that Keystone is
// left in peace for a moment after it failed. Tokens are remembered by their SHA-256, for a minute at most.
//
// It trusts what Keystone answers at the configured URL. It does not discover versions and follows no redirect: the
// credential goes where the operator said, and nowhere else.
//
// It refuses to guess. ErrInvalidToken and ErrNoProject mean that Keystone has said so; a 403, a timeout, or an answer
// that does not read as Keystone's is another error, and means that nobody knows.
//
// What the service credential needs, measured with Keystone 2025.1 and its default policies: any role to authenticate
// and to find endpoints; the role service, on any scope, to validate tokens; and to list projects and domains for
// ProjectID admin on a project. (Reader on the system may do both as well, but Glance refuses what comes with a token of
// that scope.) A reader of one domain sees that domain's projects and is told nothing of others. Without the right to
// list, ProjectID is an error and the rest works.
//
//	client := keystone.New(keystone.Config{AuthOptions: options})
//	id, err := client.Validate(ctx, token)
//	if slices.Contains(id.Roles, "service") { … }
package keystone

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
)

var (
	// ErrNotConfigured means that there is no service credential.
	ErrNotConfigured = errors.New("keystone: no service credential is configured")
	// ErrInvalidToken means that Keystone does not know the token: expired, revoked, or never issued.
	ErrInvalidToken = errors.New("keystone: token is not valid")
	// ErrNoProject means that Keystone knows no project, or no domain, of that name.
	ErrNoProject = errors.New("keystone: no such project")
)

// Config is the service credential, and how to reach Keystone with it.
type Config struct {
	// AuthOptions names the user or application credential, its scope, and Keystone's URL with or without /v3. Without
	// a URL every call is answered ErrNotConfigured. AllowReauth has no meaning here.
	AuthOptions gophercloud.AuthOptions
	// EndpointOpts chooses from the catalog: Region (empty: there must be only one) and Availability (default public).
	EndpointOpts gophercloud.EndpointOpts
	// HTTPClient carries TLS settings. No redirect is followed, whatever it says. Nil: http.DefaultTransport.
	HTTPClient *http.Client
	// Timeout bounds each question to Keystone, with the authentication that may have to come first; ProjectID asks up
	// to three. Default 5 seconds.
	Timeout time.Duration
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// A Client speaks to one Keystone with one credential. It is safe for concurrent use.
type Client struct {
	cfg     Config
	http    http.Client
	root    string // …/v3/
	invalid error  // what New found wrong, the answer to every call
	tokens  *identities

	mu      sync.Mutex // guards what follows
	session *session   // the last authentication, nil before the first
	login   *login     // the authentication under way, nil if there is none
	failure error      // of the last authentication, until retryAt
	retryAt time.Time
}

// New returns a Client and calls nobody: a Keystone that is away shows in the calls, and in Status.
func New(cfg Config) *Client {
	if cfg.Timeout <= 0 {
		cfg.Timeout = 5 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c := &Client{cfg: cfg, tokens: newIdentities()}
	if c.root, c.invalid = check(cfg.AuthOptions); c.invalid != nil {
		return c
	}
	if cfg.HTTPClient != nil {
		c.http = *cfg.HTTPClient
	}
	if c.http.Transport == nil {
		c.http.Transport = http.DefaultTransport
	}
	c.http.Transport = bounded{c.http.Transport}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.http.Jar = nil
	return c
}

// check returns Keystone's root, …/v3/, or what is missing from the options.
func check(options gophercloud.AuthOptions) (root string, err error) {
	if options.IdentityEndpoint == "" {
		return "", ErrNotConfigured
	}
	u, err := url.Parse(options.IdentityEndpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return "", fmt.Errorf("%w: Keystone's URL is no http or https URL", ErrNotConfigured)
	}
	scope, err := options.ToTokenV3ScopeMap()
	if err == nil {
		_, err = options.ToTokenV3CreateMap(scope)
	}
	if err != nil {
		return "", fmt.Errorf("%w: %v", ErrNotConfigured, err) // its texts name what is missing, and quote nothing
	}
	provider, err := openstack.NewClient(options.IdentityEndpoint)
	if err != nil {
		return "", fmt.Errorf("%w: Keystone's URL is no http or https URL", ErrNotConfigured)
	}
	identity, err := openstack.NewIdentityV3(provider, gophercloud.EndpointOpts{})
	if err != nil {
		return "", fmt.Errorf("%w: Keystone's URL is no http or https URL", ErrNotConfigured)
	}
	return identity.Endpoint, nil
}

// Status returns nil if there is a service token to work with, and otherwise what stands in the way. It asks Keystone
// only when there is none.
func (c *Client) Status(ctx context.Context) error {
	_, err := c.current(ctx)
	return err
}

// Token returns the service credential's token. It is renewed ahead of its expiry, so that it lasts for the request it
// is wanted for.
func (c *Client) Token(ctx context.Context) (string, error) {
	s, err := c.current(ctx)
	if err != nil {
		return "", err
	}
	return s.token, nil
}

// Endpoint returns the URL of a service in the catalog that came with the service token, with a slash at its end. Where
// the catalog leaves a choice between several it is an error: the region has to be configured.
func (c *Client) Endpoint(ctx context.Context, serviceType string) (string, error) {
	s, err := c.current(ctx)
	if err != nil {
		return "", err
	}
	opts := c.cfg.EndpointOpts
	opts.Type, opts.Aliases, opts.Name = serviceType, nil, ""
	opts.ApplyDefaults(serviceType)

	found := ""
	for _, service := range s.catalog {
		if !slices.Contains(opts.Types(), service.Type) {
			continue
		}
		for _, e := range service.Endpoints {
			switch {
			case e.Interface != string(opts.Availability), opts.Region != "" && e.Region != opts.Region && e.RegionID != opts.Region:
			case found == "":
				found = gophercloud.NormalizeURL(e.URL)
			case found != gophercloud.NormalizeURL(e.URL):
				return "", errors.New("keystone: the catalog has several " + string(opts.Availability) + " " + serviceType + " endpoints: name the region")
			}
		}
	}
	if found == "" {
		return "", errors.New("keystone: the catalog has no " + string(opts.Availability) + " " + serviceType + " endpoint in region " + opts.Region)
	}
	return found, nil
}
