package main

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/keymanager/v1/secrets"

	"github.com/countersign/countersign/config"
	"github.com/countersign/countersign/signature"
)

// keyManager is Barbican as the person who runs the command may use it.
type keyManager struct{ client *gophercloud.ServiceClient }

// keyManagerTimeout bounds one exchange with Keystone or Barbican.
const keyManagerTimeout = time.Minute

// openKeyManager authenticates with the environment's credential and finds
// Barbican in the catalog.
func openKeyManager(ctx context.Context) (*keyManager, error) {
	credential, err := config.Client(config.Environ())
	if err != nil {
		return nil, fmt.Errorf("the certificate cannot be stored without an OpenStack credential:\n%w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, keyManagerTimeout)
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
	client, err := openstack.NewKeyManagerV1(provider, credential.EndpointOpts)
	var absent *gophercloud.ErrEndpointNotFound
	switch {
	case errors.As(err, &absent):
		return nil, errors.New("the catalog has no key manager (Barbican) in this region and interface; see OS_REGION_NAME and OS_INTERFACE")
	case err != nil:
		return nil, fmt.Errorf("asking the key manager (Barbican) for its versions: %w", answer(err))
	}
	if strings.HasSuffix(client.Endpoint, "/v1/") {
		client.ResourceBase = client.Endpoint // gophercloud would write v1 a second time
	}
	return &keyManager{client}, nil
}

// store makes the certificate a secret of the project and returns its UUID.
// The secret expires with the certificate.
func (k *keyManager) store(ctx context.Context, certificate *signature.Certificate, name string) (string, error) {
	if name == "" {
		name = fmt.Sprintf("%.255s", printable(certificate.Subject)) // as many characters as Barbican has room for
	}
	// Encoded anew: the file may hold more than the certificate, even its key.
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
	expiration := certificate.NotAfter.UTC()
	ctx, cancel := context.WithTimeout(ctx, keyManagerTimeout)
	defer cancel()
	secret, err := secrets.Create(ctx, k.client, secrets.CreateOpts{
		Name:                   name,
		SecretType:             secrets.CertificateSecret,
		Payload:                base64.StdEncoding.EncodeToString(text),
		PayloadContentType:     "application/octet-stream",
		PayloadContentEncoding: "base64",
		Expiration:             &expiration,
	}).Extract()
	if err != nil {
		return "", fmt.Errorf("storing the certificate in Barbican, as member or creator in the project: %w", answer(err))
	}
	id, err := uuid.Parse(path.Base(secret.SecretRef))
	if err != nil {
		return "", errors.New("storing the certificate in Barbican: its answer names no UUID")
	}
	return id.String(), nil
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
