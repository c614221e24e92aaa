package main

import (
	"context"
	"math"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/countersign/countersign/certcache"
)

// What certificates are for, as logs and metrics call it.
const (
	useSigner = "signer" // an image named it
	useAnchor = "anchor" // the policy names it
)

// expiry is when a certificate that we know expires.
type expiry struct {
	id, use  string
	notAfter time.Time
}

// expiries are those of all certificates that are known now. A signer's that
// has expired is left out: uploads with it are refused, and say so.
func (c *certificates) expiries(now time.Time) []expiry {
	var list []expiry
	seen := make(map[string]bool)
	for _, known := range c.cache.Expiries() {
		if !seen[known.ID] && now.Before(known.NotAfter) { // each project has it by itself
			list = append(list, expiry{known.ID, useSigner, known.NotAfter})
		}
		seen[known.ID] = true
	}
	for _, anchor := range c.anchors.States() {
		if anchor.Loaded {
			list = append(list, expiry{anchor.ID, useAnchor, anchor.NotAfter})
		}
	}
	return list
}

// warnFirst is when certificates are looked at for the first time, warnEvery how
// often after that, and warnAgain how long after a warning the next about the
// same is due.
const (
	warnFirst = time.Minute
	warnEvery = time.Hour
	warnAgain = 24 * time.Hour
)

// warn logs which certificates expire soon, each once a day, until ctx ends.
func (c *certificates) warn(ctx context.Context, log zerolog.Logger) {
	told := make(map[expiry]time.Time)
	look := time.NewTimer(warnFirst)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			c.warnNow(log, told, time.Now())
			look.Reset(warnEvery)
		}
	}
}

func (c *certificates) warnNow(log zerolog.Logger, told map[expiry]time.Time, now time.Time) {
	for one, at := range told {
		if now.Sub(at) >= warnAgain {
			delete(told, one)
		}
	}
	for _, one := range c.expiries(now) {
		left := one.notAfter.Sub(now)
		if _, done := told[one]; done || left >= expiresSoon {
			continue
		}
		told[one] = now
		event := log.Warn().Str("certificate_id", one.id).Str("use", one.use).Time("not_after", one.notAfter.UTC()).Int("days", int(math.Floor(left.Hours()/24)))
		if left < 0 {
			event.Msg("a certificate that the policy names has expired")
		} else {
			event.Msg("a certificate expires soon: have its successor accepted and used before that")
		}
	}
}

// measureExpiries registers what is known about lifetimes, and about the
// certificates that the policy names.
func (c *certificates) measureExpiries(registry prometheus.Registerer) {
	for _, use := range []string{useSigner, useAnchor} {
		labels := prometheus.Labels{"use": use}
		registry.MustRegister(
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "countersign_certificate_expiry_timestamp_seconds", ConstLabels: labels,
				Help: "When the first of the certificates expires that images (use=\"signer\") or the policy (anchor) name and that are in memory, as Unix time; +Inf if there are none.",
			}, func() float64 {
				first := math.Inf(1)
				for _, one := range c.expiries(time.Now()) {
					if one.use == use {
						first = min(first, float64(one.notAfter.Unix()))
					}
				}
				return first
			}),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{
				Name: "countersign_certificates_expiring", ConstLabels: labels,
				Help: "Certificates in memory that expire within 30 days: those that images (use=\"signer\") or the policy (anchor) name.",
			}, func() float64 {
				count, now := 0, time.Now()
				for _, one := range c.expiries(now) {
					if one.use == use && one.notAfter.Sub(now) < expiresSoon {
						count++
					}
				}
				return float64(count)
			}))
	}
	anchors := func(name, help string, value func([]certcache.AnchorState) float64) {
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return value(c.anchors.States()) }))
	}
	anchors("countersign_anchors", "Certificates that the policy names by id.", func(all []certcache.AnchorState) float64 { return float64(len(all)) })
	anchors("countersign_anchors_missing", "Of these, how many are not there: rules that need them answer 503.", func(all []certcache.AnchorState) float64 {
		missing := 0
		for _, one := range all {
			if !one.Loaded {
				missing++
			}
		}
		return float64(missing)
	})
	anchors("countersign_anchor_age_seconds", "How long ago the key manager confirmed the one of them that waits for that the longest; it is missing once this is COUNTERSIGN_ANCHOR_MAX_AGE.", func(all []certcache.AnchorState) float64 {
		oldest := 0.0
		for _, one := range all {
			if one.Loaded {
				oldest = max(oldest, time.Since(one.Fetched).Seconds())
			}
		}
		return oldest
	})
	registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "countersign_anchor_failures_total", Help: "Fetches of certificates that the policy names which brought none."},
		func() float64 { return float64(c.anchors.Failures()) }))
}
