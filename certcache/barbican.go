package certcache

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/keymanager/v1/secrets"
)

// maxAnswer bounds what Barbican may answer, errors included. A certificate chain takes a few kB.
const maxAnswer = 256 << 10

// BarbicanConfig says where Barbican is.
type BarbicanConfig struct {
	// Endpoint returns the base URL, with or without /v1: configured, or from the catalog. Required.
	Endpoint func(ctx context.Context) (string, error)
	// HTTPClient carries TLS settings and a timeout. Its CheckRedirect is not used: no redirect is followed, because
	// net/http would take the token along. Nil: http.DefaultTransport without a timeout but the caller's.
	HTTPClient *http.Client
}

// Barbican is the Source of clouds that have one. It asks with the caller's token and nothing else, so that Barbican
// itself decides who may read what.
type Barbican struct {
	endpoint func(context.Context) (string, error)
	client   http.Client
}

// NewBarbican returns a Barbican. It does not call it.
func NewBarbican(cfg BarbicanConfig) *Barbican {
	b := &Barbican{endpoint: cfg.Endpoint}
	if cfg.HTTPClient != nil {
		b.client = *cfg.HTTPClient
	}
	if b.client.Transport == nil {
		b.client.Transport = http.DefaultTransport
	}
	b.client.Transport = bounded{b.client.Transport}
	b.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	b.client.Jar = nil // what one caller is given is not sent with another's request
	return b
}

// Certificate reads the secret's metadata, then its payload: two requests, none of them repeated. The secret must be of
// type certificate, as Glance demands it (cursive's check for castellan's X.509 format).
func (b *Barbican) Certificate(ctx context.Context, ref Ref) (Certificate, error) {
	if !canonical(ref.ID) {
		return Certificate{}, errID()
	}
	if ref.Token == "" {
		return Certificate{}, ErrUnauthorized
	}
	client, err := b.service(ctx, ref.Token)
	if err != nil {
		return Certificate{}, &UnavailableError{Err: err}
	}

	secret, err := secrets.Get(ctx, client, ref.ID).Extract()
	if err != nil {
		return Certificate{}, judge("secret", err)
	}
	switch {
	case secret == nil || secret.SecretType == "" || secret.Status == "":
		return Certificate{}, &UnavailableError{Err: errors.New("its answer describes no secret")}
	case secret.SecretType != string(secrets.CertificateSecret):
		return Certificate{}, &NotCertificateError{Problem: fmt.Sprintf("the secret is of type %.40q, not %q", secret.SecretType, secrets.CertificateSecret)}
	case secret.Status != "ACTIVE":
		return Certificate{}, &NotCertificateError{Problem: fmt.Sprintf("the secret's status is %.40q, not \"ACTIVE\"", secret.Status)}
	case len(secret.ContentTypes) == 0: // Barbican leaves them out until a payload is stored; asked for it, it says 404
		return Certificate{}, &NotCertificateError{Problem: "the secret has no payload"}
	}

	// Barbican serves text and binary secrets alike as octet-stream, while it refuses or garbles a binary one under
	// gophercloud's default, text/plain.
	payload := secrets.GetPayload(ctx, client, ref.ID, secrets.GetPayloadOpts{PayloadContentType: "application/octet-stream"})
	if gophercloud.ResponseCodeIs(payload.Err, http.StatusNotAcceptable) {
		return Certificate{}, &NotCertificateError{Problem: "the secret has no payload"}
	}
	data, err := payload.Extract()
	if err != nil {
		return Certificate{}, judge("payload", err)
	}
	if len(data) == 0 {
		return Certificate{}, &NotCertificateError{Problem: "the secret's payload is empty"}
	}
	return Certificate{Data: data, Expires: secret.Expiration}, nil
}

// service returns a client for one call: the token dies with it.
func (b *Barbican) service(ctx context.Context, token string) (*gophercloud.ServiceClient, error) {
	endpoint, err := b.endpoint(ctx)
	if err != nil {
		return nil, fmt.Errorf("find its endpoint: %w", err)
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("its endpoint is no http or https URL")
	}
	base := strings.TrimRight(u.Path, "/")
	if !strings.HasSuffix(base, "/v1") {
		base += "/v1"
	}
	// Rebuilt from its parts: a query would swallow what is appended.
	root := url.URL{Scheme: u.Scheme, User: u.User, Host: u.Host, Path: base + "/"}
	provider := &gophercloud.ProviderClient{HTTPClient: b.client, TokenID: token}
	return &gophercloud.ServiceClient{ProviderClient: provider, Endpoint: root.String(), Type: "key-manager"}, nil
}

// judge turns gophercloud's errors, which quote URLs and bodies, into ours, which do not.
func judge(what string, err error) error {
	var status gophercloud.ErrUnexpectedResponseCode
	if !errors.As(err, &status) {
		return &UnavailableError{Err: cause(what, err)}
	}
	switch status.Actual {
	default:
		return &UnavailableError{Err: fmt.Errorf("%s: it answered %d", what, status.Actual)}
	case http.StatusNotFound:
		return ErrNotFound
	case http.StatusForbidden:
		return ErrForbidden
	case http.StatusUnauthorized:
		return ErrUnauthorized
	}
}

// cause keeps the errors that are known to name addresses and certificates only.
func cause(what string, err error) error {
	var (
		verify *tls.CertificateVerificationError
		dial   *net.OpError
		large  *http.MaxBytesError
	)
	switch {
	default:
		return fmt.Errorf("%s: its answer is not readable", what)
	case errors.As(err, &large):
		return fmt.Errorf("%s: answer larger than %d bytes", what, large.Limit)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%s: %w", what, context.DeadlineExceeded)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", what, context.Canceled)
	case errors.As(err, &verify):
		return fmt.Errorf("%s: %w", what, verify)
	case errors.As(err, &dial):
		return fmt.Errorf("%s: %w", what, dial)
	}
}

// bounded is a transport that ends an answer beyond maxAnswer with an error, whoever reads it.
type bounded struct{ next http.RoundTripper }

func (t bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	return resp, nil
}
