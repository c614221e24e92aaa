package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/certcache"
	"github.com/countersign/countersign/config"
	"github.com/countersign/countersign/proxy"
	"github.com/countersign/countersign/proxy/keystone"
	"github.com/countersign/countersign/signature"
)

// certificates turns the key manager's answers into the proxy's.
type certificates struct {
	cache  *certcache.Cache
	failed atomic.Pointer[error] // what the key manager's last answer was, if it was none

	metrics *proxy.Metrics // nil: its failures are not counted
}

func newCertificates(cfg config.Config, identities *keystone.Client) *certificates {
	endpoint := func(ctx context.Context) (string, error) { return identities.Endpoint(ctx, "key-manager") }
	if cfg.BarbicanURL != nil {
		endpoint = func(context.Context) (string, error) { return cfg.BarbicanURL.String(), nil }
	}
	return &certificates{cache: certcache.NewCache(
		certcache.NewBarbican(certcache.BarbicanConfig{Endpoint: endpoint, HTTPClient: newClient(cfg)}),
		certcache.CacheConfig{
			Size:        cfg.CertificateCacheSize,
			MaxAge:      cfg.CertificateMaxAge,
			NegativeAge: cfg.CertificateNegativeAge,
			Timeout:     cfg.CertificateTimeout,
			NotAfter: func(data []byte) (time.Time, error) {
				certificate, err := signature.ParseCertificate(data)
				if err != nil {
					return time.Time{}, err
				}
				return certificate.NotAfter, nil
			},
		})}
}

// Certificate implements proxy.Certificates.
func (c *certificates) Certificate(ctx context.Context, owner, id, token string) ([]byte, error) {
	found, err := c.cache.Certificate(ctx, certcache.Ref{Owner: owner, ID: id, Token: token})
	c.note(err)
	if err == nil {
		return found.Data, nil
	}
	refused := &proxy.Refusal{Property: signature.PropertyCertificate, Err: err}
	var property *signature.PropertyError
	var other *certcache.NotCertificateError
	switch {
	default:
		refused.Code = proxy.CodeKeyManagerUnavailable
		refused.Problem = fmt.Sprintf("names certificate %s, and the key manager does not answer", id)
		refused.Cure = "try again later"
		refused.Header = http.Header{"Retry-After": {"30"}}
	case errors.As(err, &property):
		return nil, property
	case errors.Is(err, certcache.ErrNotFound):
		refused.Code = proxy.CodeCertificateNotFound
		refused.Problem = fmt.Sprintf("names %s, which the key manager does not have, or whose expiration has passed", id)
		refused.Cure = "store the certificate in Barbican (openstack secret store --secret-type certificate) and set the property to the UUID in its href"
	case errors.Is(err, certcache.ErrForbidden):
		refused.Code = proxy.CodeCertificateForbidden
		refused.Problem = fmt.Sprintf("names %s, which the key manager does not let you read", id)
		refused.Cure = "upload as a user of the project that stored it, or give the project access (openstack acl user add)"
	case errors.Is(err, certcache.ErrUnauthorized):
		refused.Code = proxy.CodeKeyManagerUnauthorized
		refused.Problem = fmt.Sprintf("names %s, and the key manager does not accept the token", id)
		refused.Cure = "authenticate anew"
	case errors.As(err, &other):
		refused.Code = proxy.CodeCertificateUnreadable
		refused.Problem = fmt.Sprintf("names %s, which is no certificate: %s", id, other.Problem)
		refused.Cure = "store an X.509 certificate in PEM with --secret-type certificate"
	}
	return nil, refused
}

// note keeps whether the key manager answers, for operators.
func (c *certificates) note(err error) {
	var unavailable *certcache.UnavailableError
	switch {
	case errors.Is(err, context.Canceled): // it was the client that left
	case errors.As(err, &unavailable):
		c.failed.Store(&err)
		c.metrics.UpstreamFailed(proxy.ServiceKeyManager)
	default:
		c.failed.Store(nil)
	}
}

// problem is why the key manager did not answer when it was last needed, or
// nil.
func (c *certificates) problem() error {
	if failed := c.failed.Load(); failed != nil {
		return *failed
	}
	return nil
}

// measure registers the cache's counters.
func (c *certificates) measure(registry prometheus.Registerer) {
	count := func(name, help string, value func(certcache.Stats) uint64) {
		registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help},
			func() float64 { return float64(value(c.cache.Stats())) }))
	}
	count("countersign_certificate_hits_total", "Certificates that were in the cache.", func(s certcache.Stats) uint64 { return s.Hits })
	count("countersign_certificate_misses_total", "Certificates that were not.", func(s certcache.Stats) uint64 { return s.Misses })
	count("countersign_certificate_fetches_total", "Questions put to the key manager: callers that wait for the same certificate share one.", func(s certcache.Stats) uint64 { return s.Fetches })
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "countersign_certificates_cached", Help: "Answers of the key manager that are remembered."},
		func() float64 { return float64(c.cache.Stats().Entries) }))
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "countersign_key_manager_up", Help: "1 unless the key manager did not answer when it was last needed."},
		func() float64 {
			if c.problem() != nil {
				return 0
			}
			return 1
		}))
}
