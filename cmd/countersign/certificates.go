package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/countersign/countersign/certcache"
	"github.com/countersign/countersign/config"
	"github.com/countersign/countersign/proxy"
	"github.com/countersign/countersign/proxy/keystone"
	"github.com/countersign/countersign/signature"
)

// certificates turns the key manager's answers into the proxy's.
type certificates struct {
	source  *keySource
	cache   *certcache.Cache
	anchors *certcache.Anchors
	failed  atomic.Pointer[error] // what the key manager's last answer was, if it was none
	login   atomic.Pointer[error] // why we could not log in, where that is wanted

	metrics *proxy.Metrics // nil: its failures are not counted
}

func newCertificates(cfg config.Config, identities *keystone.Client) *certificates {
	source := newKeySource(cfg, identities)
	negativeAge := min(cfg.CertificateNegativeAge, source.maxAge)
	if negativeAge == 0 {
		negativeAge = -1 // which is how certcache says 'not at all'
	}
	return &certificates{
		source: source,
		cache: certcache.NewCache(source, certcache.CacheConfig{
			Size:        cfg.CertificateCacheSize,
			MaxAge:      source.maxAge,
			NegativeAge: negativeAge,
			Timeout:     cfg.CertificateTimeout,
			NotAfter:    notAfter,
		}),
		anchors: certcache.NewAnchors(source, certcache.AnchorsConfig{
			Token:    source.token,
			Interval: cfg.AnchorInterval,
			MaxAge:   cfg.AnchorMaxAge,
			Timeout:  cfg.CertificateTimeout,
			NotAfter: notAfter,
		}),
	}
}

func notAfter(data []byte) (time.Time, error) {
	certificate, err := signature.ParseCertificate(data)
	if err != nil {
		return time.Time{}, err
	}
	return certificate.NotAfter, nil
}

// run does what the key manager wants done beside uploads, until ctx ends: the
// login is kept, the policy's certificates are fetched, and those that expire
// soon are told of.
func (c *certificates) run(ctx context.Context, log zerolog.Logger) {
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { c.anchors.Run(ctx) })
	group.Go(func() { c.warn(ctx, log) })
	if c.source.token != nil {
		return // Barbican is asked with the callers' tokens: there is nothing to try
	}
	if c.source.vault != nil {
		group.Go(func() { c.source.vault.Keep(ctx, func(err error) { c.loggedIn(err, log) }) })
	}
	group.Go(func() {
		_, err := c.source.Certificate(ctx, certcache.Ref{ID: nobody})
		var away *certcache.UnavailableError
		if errors.As(err, &away) && ctx.Err() == nil {
			c.note(err)
			log.Error().Err(away.Err).Str("key_manager", c.source.texts.name).Msg("the key manager does not answer: uploads that the policy enforces are answered 503 until it does")
		}
	})
}

// loggedIn keeps whether we could log in, and logs what is new about that.
func (c *certificates) loggedIn(err error, log zerolog.Logger) {
	var now *error
	if err != nil {
		now = &err
	}
	before := c.login.Swap(now)
	switch {
	case err != nil && (before == nil || (*before).Error() != err.Error()):
		log.Error().Err(err).Str("key_manager", c.source.texts.name).Msg("logging in to the key manager failed")
	case err == nil && before != nil:
		log.Info().Str("key_manager", c.source.texts.name).Msg("logged in to the key manager")
	}
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
		refused.Problem = fmt.Sprintf("names %s, %s", id, c.source.texts.missing)
		refused.Cure = c.source.texts.store
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
		refused.Cure = c.source.texts.replace
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
	for _, failed := range []*error{c.login.Load(), c.failed.Load()} {
		if failed != nil {
			return *failed
		}
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
	c.measureExpiries(registry)
	registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "countersign_key_manager_up", Help: "1 unless the key manager did not answer when it was last needed, or the login there fails."},
		func() float64 {
			if c.problem() != nil {
				return 0
			}
			return 1
		}))
}
