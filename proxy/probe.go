package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/countersign/countersign/proxy/receipt"
)

// probe knows whether Glance is what we think it is: one that asks Keystone
// about tokens. A Glance whose pipeline lacks that (paste flavor without
// authtoken) believes whoever says that he is an administrator, and then every
// decision here, which rests on what Glance shows to a token, is worth nothing.
// So enforced uploads wait for a Glance that has shown it does not.
type probe struct {
	glance *glance
	found  atomic.Pointer[error] // what the last probe found; nil before the first

	// receipts is why Glance lets nobody write receipts, or nil where it does; nil
	// itself before that was tried.
	receipts atomic.Pointer[error]
	trying   sync.Mutex // held while it is tried
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

// ProbeReceipts writes a receipt on an image of its own and deletes it again, so
// that settling does not fail for property protections (property_protection_file)
// that forbid it. It does nothing without receipt keys. The error, which later
// probes may clear, says what could not be done. A service user who may not
// create images cannot find out: that is ErrCannotProbe, and refuses nothing.
func (p *Proxy) ProbeReceipts(ctx context.Context) error {
	if keys := p.keys(); keys == nil || !keys.CanSign() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	token, err := p.Identities.Token(ctx)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrCannotProbe, err)
	}
	denied, err := p.probe.write(ctx, credentials{token: token})
	switch none := error(nil); {
	case denied:
		p.probe.receipts.Store(&err)
	case err == nil, isStatus(err, http.StatusForbidden):
		p.probe.receipts.Store(&none)
	}
	return err
}

// ErrCannotProbe means that nothing was found out.
var ErrCannotProbe = errors.New("cannot try to write a receipt")

// write creates an image, sets the property, and deletes the image. It reports
// whether it was the property that Glance would not have.
func (b *probe) write(ctx context.Context, who credentials) (denied bool, err error) {
	json := http.Header{"Content-Type": {"application/json"}}
	data, err := b.glance.call(ctx, http.MethodPost, "/v2/images", who, json, []byte(`{"name": "countersign-probe", "visibility": "private"}`))
	if err != nil {
		return false, fmt.Errorf("%w: creating an image: %w", ErrCannotProbe, err)
	}
	img, err := parseImage(data)
	if err != nil || !canonicalID.MatchString(img.ID) {
		return false, fmt.Errorf("%w: creating an image: no image in the answer", ErrCannotProbe)
	}
	err = b.glance.patch(ctx, img.ID, who, object{{"op", "add"}, {"path", "/" + receipt.Property}, {"value", "probe"}})
	denied = isStatus(err, http.StatusForbidden) || isStatus(err, http.StatusConflict)
	// Also when ctx has ended: nothing of ours stays behind.
	after, done := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
	defer done()
	if left := b.glance.delete(after, img.ID, who); left != nil && err == nil {
		err = fmt.Errorf("%w: deleting image %s: %w", ErrCannotProbe, img.ID, left)
	}
	if denied {
		return true, fmt.Errorf("writing %s: %w", receipt.Property, err)
	}
	return false, err
}

// receiptsWritable is nil unless Glance refuses receipts, or it could not be tried
// whether it does. The first upload that wants to know waits until that was tried.
func (p *Proxy) receiptsWritable(ctx context.Context) error {
	if keys := p.keys(); keys == nil || !keys.CanSign() {
		return nil
	}
	found := p.probe.receipts.Load()
	if found == nil {
		p.probe.trying.Lock()
		defer p.probe.trying.Unlock()
		if p.probe.receipts.Load() == nil {
			if err := p.ProbeReceipts(ctx); err != nil {
				p.Log.Error().Err(err).Msg("receipts: see the property protections in the operator's manual")
			}
		}
		found = p.probe.receipts.Load()
	}
	refused := &Refusal{Code: codeReceiptUnwritable, Property: receipt.Property, Problem: "could not be written: Glance lets nobody set it",
		Cure: "the operator gives Glance's property protections the section for countersign_", Header: http.Header{"Retry-After": {"30"}}}
	switch {
	case found == nil:
		refused.Problem, refused.Cure = "could not be tried: Glance or Keystone does not answer", "try again later"
	case *found == nil:
		return nil
	default:
		refused.Err = *found
	}
	return refused
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
	before, told := error(nil), error(nil)
	for {
		if found := p.probe.receipts.Load(); p.Policies.Enforcing() && (found == nil || *found != nil) {
			err := p.ProbeReceipts(ctx)
			if err != nil && (told == nil || told.Error() != err.Error()) && ctx.Err() == nil {
				p.Log.Error().Err(err).Msg("receipts: see the property protections in the operator's manual")
			}
			told = err
		} else {
			told = nil
		}
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
		if err != nil || told != nil {
			pause = min(interval, probeRetry)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
