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
	"github.com/countersign/countersign/config"
	"github.com/countersign/countersign/signature"
)

// certificateStore is a key manager that a command may put a certificate into.
type certificateStore interface {
	// store returns the id, as verifiers have to ask for it. An empty name is the
	// certificate's subject.
	store(ctx context.Context, certificate *signature.Certificate, name string) (id string, err error)
	// name is what sentences call it.
	name() string
}

// openKeyManager finds the key manager that COUNTERSIGN_KEY_MANAGER names, and
// sees to it that storing in it can be tried.
func openKeyManager(ctx context.Context) (certificateStore, error) {
	cfg, err := config.KeyManagerOf(config.Environ())
	if err != nil {
		return nil, err
	}
	switch cfg.KeyManager {
	case config.Vault:
		return vaultStore{newVault(cfg)}, nil
	case config.File:
		return directoryStore{certcache.NewDirectory(cfg.KeyDirectory)}, nil
	}
	return openBarbican(ctx)
}

// vaultStore writes as castellan does.
type vaultStore struct{ vault *certcache.Vault }

func (vaultStore) name() string { return "Vault" }

func (v vaultStore) store(ctx context.Context, certificate *signature.Certificate, name string) (string, error) {
	if name == "" {
		name = printable(certificate.Subject)
	}
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	id := uuid.NewString()
	if err := v.vault.Store(ctx, id, name, certificate.Raw); err != nil {
		return "", fmt.Errorf("storing the certificate in Vault: %w", err)
	}
	return bareID(id), nil
}

// bareID is a UUID without its dashes, which is what castellan names a secret
// in Vault by: Glance and Nova ask for it as the property has it.
func bareID(id string) string { return strings.ReplaceAll(id, "-", "") }

// directoryStore writes files for COUNTERSIGN_KEY_DIRECTORY. They have no names
// of their own.
type directoryStore struct{ directory *certcache.Directory }

func (directoryStore) name() string { return "The directory of certificates" }

func (d directoryStore) store(_ context.Context, certificate *signature.Certificate, _ string) (string, error) {
	id := uuid.NewString()
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
	if err := d.directory.Store(id, text); err != nil {
		return "", fmt.Errorf("storing the certificate: %w", err)
	}
	return id, nil
}

// keyManager is Barbican as the person who runs the command may use it.
type keyManager struct{ client *gophercloud.ServiceClient }

func (*keyManager) name() string { return "Barbican" }

// openBarbican authenticates with the environment's credential and finds
// Barbican in the catalog.
func openBarbican(ctx context.Context) (*keyManager, error) {
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

// certificate reads a certificate from the key manager that
// COUNTERSIGN_KEY_MANAGER names. That it is none is a verdict; that there is none
// leaves it open what the signature is worth.
func (s *session) certificate(ctx context.Context, id string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	cfg, err := config.KeyManagerOf(config.Environ())
	if err != nil {
		return nil, err
	}
	if cfg.KeyManager != config.Barbican {
		return certificateFrom(ctx, newKeySource(cfg, nil), id)
	}
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

// certificateFrom reads a certificate from a key manager that knows no users.
func certificateFrom(ctx context.Context, source *keySource, id string) ([]byte, error) {
	found, err := source.Certificate(ctx, certcache.Ref{ID: id})
	var other *certcache.NotCertificateError
	switch {
	case err == nil:
		return found.Data, nil
	case errors.Is(err, certcache.ErrNotFound):
		return nil, fmt.Errorf("certificate %s: %s does not have it; give the certificate's file with --certificate", id, source.texts.name)
	case errors.As(err, &other):
		return nil, &verdict{fmt.Errorf("%s: names %s, which is no certificate: %s\n  %s", signature.PropertyCertificate, id, other.Problem, source.texts.replace)}
	}
	return nil, fmt.Errorf("certificate %s: %w; it can be given as a file with --certificate", id, err)
}
