package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"

	"github.com/countersign/countersign/config"
)

// session is what Keystone gave the person who runs the command: a token, and a
// catalog of services to use it with.
type session struct {
	provider  *gophercloud.ProviderClient
	endpoints gophercloud.EndpointOpts
}

// sessionTimeout bounds one exchange with Keystone, Barbican or Glance, but for
// image data.
const sessionTimeout = time.Minute

// openSession authenticates with the environment's credential.
func openSession(ctx context.Context) (*session, error) {
	credential, err := config.Client(config.Environ())
	if err != nil {
		return nil, &noCredentialError{err}
	}
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	provider, err := openstack.NewClient(credential.AuthOptions.IdentityEndpoint)
	if err != nil {
		return nil, fmt.Errorf("keystone %s: %w", credential.AuthOptions.IdentityEndpoint, err)
	}
	provider.HTTPClient = *newClient(config.Config{Service: credential})
	// net/http would take password and token along to wherever it is sent.
	provider.HTTPClient.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	if err := openstack.Authenticate(ctx, provider, credential.AuthOptions); err != nil {
		return nil, fmt.Errorf("keystone %s: %w", credential.AuthOptions.IdentityEndpoint, answer(err))
	}
	return &session{provider, credential.EndpointOpts}, nil
}

// noCredentialError says that the environment has no credential, or what is
// wrong with it, line by line.
type noCredentialError struct{ err error }

func (e *noCredentialError) Error() string { return "no OpenStack credential:\n" + e.err.Error() }

func (e *noCredentialError) Unwrap() error { return e.err }

// endpoint is where the catalog has a service, with a slash at its end. The
// service's versions are not asked for.
func (s *session) endpoint(serviceType, name string) (string, error) {
	options := s.endpoints
	options.ApplyDefaults(serviceType)
	found, err := s.provider.EndpointLocator(options)
	if err != nil {
		return "", noEndpoint(name)
	}
	return found, nil
}

func noEndpoint(name string) error {
	return fmt.Errorf("the catalog has no %s in this region and interface; see OS_REGION_NAME and OS_INTERFACE", name)
}

// answer says in our words what a service answered: gophercloud's errors quote
// bodies, and those may quote what was sent.
func answer(err error) error {
	var status gophercloud.ErrUnexpectedResponseCode
	var renewal *gophercloud.ErrUnableToReauthenticate
	switch {
	case errors.As(err, &renewal):
		return errors.New("it does not accept the token (401), which could not be renewed")
	case !errors.As(err, &status):
		return err
	}
	switch status.Actual {
	default:
		return fmt.Errorf("it answered %d", status.Actual)
	case http.StatusUnauthorized:
		return errors.New("it does not accept the credential (401)")
	case http.StatusForbidden:
		return errors.New("it does not permit this to you (403)")
	}
}
