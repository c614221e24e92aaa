package main

import (
	"context"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/keymanager/v1/secrets"

	"github.com/countersign/countersign/certcache"
	"github.com/countersign/countersign/signature"
)

// keyManager is Barbican as the person who runs the command may use it.
type keyManager struct{ client *gophercloud.ServiceClient }

// openKeyManager authenticates with the environment's credential and finds
// Barbican in the catalog.
func openKeyManager(ctx context.Context) (*keyManager, error) {
	s, err := openSession(ctx)
	var without *noCredentialError
	switch {
	case errors.As(err, &without):
		return nil, fmt.Errorf("the certificate cannot be stored without an OpenStack credential:\n%w", without.err)
	case err != nil:
		return nil, err
	}
	client, err := openstack.NewKeyManagerV1(s.provider, s.endpoints)
	var absent *gophercloud.ErrEndpointNotFound
	switch {
	case errors.As(err, &absent):
		return nil, noEndpoint(barbicanName)
	case err != nil:
		return nil, fmt.Errorf("asking the key manager (Barbican) for its versions: %w", answer(err))
	}
	if strings.HasSuffix(client.Endpoint, "/v1/") {
		client.ResourceBase = client.Endpoint // gophercloud would write v1 a second time
	}
	return &keyManager{client}, nil
}

const barbicanName = "key manager (Barbican)"

// store makes the certificate a secret of the project and returns its UUID.
// The secret expires with the certificate.
func (k *keyManager) store(ctx context.Context, certificate *signature.Certificate, name string) (string, error) {
	if name == "" {
		name = fmt.Sprintf("%.255s", printable(certificate.Subject)) // as many characters as Barbican has room for
	}
	// Encoded anew: the file may hold more than the certificate, even its key.
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
	expiration := certificate.NotAfter.UTC()
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
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

// certificate reads a certificate from Barbican. That it is none is a verdict;
// that there is none leaves it open what the signature is worth.
func (s *session) certificate(ctx context.Context, id string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	barbican := certcache.NewBarbican(certcache.BarbicanConfig{
		Endpoint:   func(context.Context) (string, error) { return s.endpoint("key-manager", barbicanName) },
		HTTPClient: &s.provider.HTTPClient,
	})
	found, err := barbican.Certificate(ctx, certcache.Ref{ID: id, Token: s.provider.Token()})
	var other *certcache.NotCertificateError
	switch {
	default:
		return nil, fmt.Errorf("certificate %s: %w; it can be given as a file with --certificate", id, err)
	case err == nil:
		return found.Data, nil
	case errors.Is(err, certcache.ErrForbidden):
		return nil, fmt.Errorf("certificate %s: Barbican does not let you read it (403); verify as a user of the project that stored it, or give the certificate's file with --certificate", id)
	case errors.Is(err, certcache.ErrNotFound):
		return nil, fmt.Errorf("certificate %s: Barbican does not have it (404), or its expiration has passed; store it there and set %s to its UUID, or give the certificate's file with --certificate", id, signature.PropertyCertificate)
	case errors.As(err, &other):
		return nil, &verdict{fmt.Errorf("%s: names %s, which is no certificate: %s\n  store an X.509 certificate in PEM with --secret-type certificate, and set the property to its UUID",
			signature.PropertyCertificate, id, other.Problem)}
	}
}
