package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// probe knows whether Glance is what we think it is: one that asks Keystone
// about tokens. A Glance whose pipeline lacks that (paste flavor without
// authtoken) believes whoever says that he is an administrator, and then every
// decision here, which rests on what Glance shows to a token, is worth nothing.
// So enforced uploads wait for a Glance that has shown it does not.
type probe struct {
	glance *glance
	found  atomic.Pointer[error] // what the last probe found; nil before the first
}

// probeTimeout bounds one probe; probeRetry is the pause after one that was
// not answered with 401.
const (
	probeTimeout = 10 * time.Second
	probeRetry   = 5 * time.Second
)

var errNotProbed = errors.New("no answer of Glance's to a probe yet")

// spoofed are the headers by which keystonemiddleware tells a service that it
// has checked a token, and whose it is.
var spoofed = http.Header{
	"X-Identity-Status": {"Confirmed"},
	"X-User-Id":         {"countersign-probe"},
	"X-User-Name":       {"countersign-probe"},
	"X-Project-Id":      {"countersign-probe"},
	"X-Tenant-Id":       {"countersign-probe"},
	"X-Roles":           {"admin,member,reader,service"},
}

// Probe asks Glance for images without a token, with headers that say there was
// one. Anything but 401 is an error, and stays one until the next Probe.
func (p *Proxy) Probe(ctx context.Context) error {
	err := p.probe.ask(ctx)
	p.probe.found.Store(&err)
	p.Metrics.glanceTrusted(err == nil)
	return err
}

func (b *probe) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	target := *b.glance.base
	target.Path, target.RawQuery = strings.TrimRight(target.Path, "/")+"/v2/images", "limit=1"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return err
	}
	for name, values := range spoofed {
		req.Header[name] = values
	}
	res, err := b.glance.transport.RoundTrip(req)
	if err != nil {
		return fmt.Errorf("no answer: %w", err)
	}
	defer res.Body.Close()
	io.Copy(io.Discard, io.LimitReader(res.Body, maxAnswer))
	if res.StatusCode != http.StatusUnauthorized {
		return fmt.Errorf("answer %d, not 401, to a request without a token whose headers claim an administrator", res.StatusCode)
	}
	return nil
}

// Trusted is nil if the last Probe found Glance to be what we think it is.
func (p *Proxy) Trusted() error {
	if found := p.probe.found.Load(); found != nil {
		return *found
	}
	return errNotProbed
}

// Watch probes Glance now, and then every interval, or sooner while it does
// not answer as it should. It returns when ctx ends.
func (p *Proxy) Watch(ctx context.Context, interval time.Duration) {
	before := error(nil)
	for {
		err := p.Probe(ctx)
		if ctx.Err() != nil {
			return
		}
		switch {
		case err != nil && (before == nil || before.Error() != err.Error()):
			p.Log.Error().Err(err).Msg("uploads that the policy enforces are answered 503: Glance is not known to check tokens")
		case err == nil && before != nil:
			p.Log.Info().Msg("Glance checks tokens: enforced uploads are taken")
		}
		before = err
		pause := interval
		if err != nil {
			pause = min(interval, probeRetry)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
