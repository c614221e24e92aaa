package main

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"time"

	"github.com/countersign/countersign/certcache"
	"github.com/countersign/countersign/config"
	"github.com/countersign/countersign/proxy/keystone"
)

// keySource is the key manager that the settings name, and what to say about it
// to those whose upload it has no certificate for.
type keySource struct {
	certcache.Source
	vault *certcache.Vault // nil where it is not Vault
	texts keySourceTexts

	maxAge time.Duration // how long the cache may keep what it answered

	// token is the service's own, for anchors; nil where the source wants none.
	token func(context.Context) (string, error)
}

// keySourceTexts are parts of refusals.
type keySourceTexts struct {
	name    string // as logs call it
	missing string // continues "names UUID, "
	store   string // cures that
	replace string // cures what is stored, and no certificate
}

var keySources = map[string]keySourceTexts{
	config.Barbican: {
		name:    "Barbican",
		missing: "which the key manager does not have, or whose expiration has passed",
		store:   "store the certificate in Barbican (openstack secret store --secret-type certificate) and set the property to the UUID in its href",
		replace: "store an X.509 certificate in PEM with --secret-type certificate",
	},
	config.Vault: {
		name:    "Vault",
		missing: "which Vault does not have",
		store:   "have the certificate stored in Vault (countersign sign --store-certificate, or castellan), and set the property to the id it has there",
		replace: "have an X.509 certificate stored in Vault as castellan does, its DER in hexadecimal",
	},
	config.File: {
		name:    "the directory of certificates",
		missing: "and there is no such certificate on file",
		store:   "have the certificate put on file by those who run Countersign, and set the property to its UUID",
		replace: "have an X.509 certificate in PEM put in its place by those who run Countersign",
	},
}

// directoryAge is how long a certificate from a directory is kept: reading a
// file is cheap, and one that was removed shall be gone soon.
const directoryAge = 2 * time.Second

// newKeySource returns the key manager that the settings name. identities may
// be nil where Barbican's address is set.
func newKeySource(cfg config.Config, identities *keystone.Client) *keySource {
	s := &keySource{texts: keySources[cfg.KeyManager], maxAge: cfg.CertificateMaxAge}
	switch cfg.KeyManager {
	default:
		panic("there is no key manager " + cfg.KeyManager) // config has checked it
	case config.Barbican:
		endpoint := func(ctx context.Context) (string, error) { return identities.Endpoint(ctx, "key-manager") }
		if cfg.BarbicanURL != nil {
			endpoint = func(context.Context) (string, error) { return cfg.BarbicanURL.String(), nil }
		}
		s.Source = certcache.NewBarbican(certcache.BarbicanConfig{Endpoint: endpoint, HTTPClient: newClient(cfg)})
		s.token = identities.Token
	case config.Vault:
		s.vault = newVault(cfg)
		s.Source = s.vault
	case config.File:
		s.Source = certcache.NewDirectory(cfg.KeyDirectory)
		s.maxAge = min(s.maxAge, directoryAge)
	}
	return s
}

func newVault(cfg config.Config) *certcache.Vault {
	login := map[string]certcache.VaultLogin{
		config.VaultToken:      certcache.VaultToken(cfg.VaultSecret),
		config.VaultAppRole:    certcache.VaultAppRole(cfg.VaultAuthPath, cfg.VaultRoleID, cfg.VaultSecret),
		config.VaultKubernetes: certcache.VaultJWT(cfg.VaultAuthPath, cfg.VaultRole, cfg.VaultSecret),
		config.VaultJWT:        certcache.VaultJWT(cfg.VaultAuthPath, cfg.VaultRole, cfg.VaultSecret),
	}
	return certcache.NewVault(certcache.VaultConfig{
		Address: cfg.VaultAddr, Namespace: cfg.VaultNamespace,
		Mount: cfg.VaultMount, Version: cfg.VaultKVVersion, Path: cfg.VaultKVPath,
		Login: login[cfg.VaultAuth],
		HTTPClient: &http.Client{Transport: &http.Transport{
			Proxy:       nil, // our token stays between us
			DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
			DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
				defer cancel()
				return (&tls.Dialer{Config: cfg.VaultTLSNow()}).DialContext(ctx, network, address)
			},
			MaxIdleConnsPerHost: 32,
			IdleConnTimeout:     30 * time.Second,
		}},
	})
}

// nobody is the UUID of no certificate, to ask for when it matters only whether
// there is an answer.
const nobody = "00000000-0000-0000-0000-000000000000"
