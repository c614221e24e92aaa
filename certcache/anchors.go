package certcache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// anchorRetry is how soon a certificate that could not be had is asked for again.
	anchorRetry = 15 * time.Second
	// anchorFetches is how many are asked for at once.
	anchorFetches = 8
)

// AnchorsConfig sets up Anchors. The zero value is usable.
type AnchorsConfig struct {
	// Token returns the service's own token, for a Source that wants one. Nil: the Source wants none.
	Token func(ctx context.Context) (string, error)
	// Interval is how often each certificate is fetched again. Default 5 minutes.
	Interval time.Duration
	// MaxAge is how long the last answer serves while the key manager gives none. Default 24 hours.
	MaxAge time.Duration
	// Timeout covers one fetch. Default 8 seconds.
	Timeout time.Duration
	// NotAfter reads the end of validity from the payload. Its error means 'not a certificate'. Nil: payloads are not
	// looked at.
	NotAfter func(data []byte) (time.Time, error)
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// Anchors are the certificates that a policy names by ID. They are fetched ahead of need with a credential of our own, and
// again in the background, so that no upload waits for them, and kept while the key manager is away. One that the key
// manager no longer has is gone at once: that is an answer.
//
// Want says which they are, Run fetches them until its context ends, Anchor has them, and Changes tells when they have
// become others.
type Anchors struct {
	src     Source
	cfg     AnchorsConfig
	wake    chan struct{} // holds one value while Run has something new to look at
	changes chan struct{} // holds one value while there is a change that nobody has taken note of

	mu       sync.Mutex // guards what follows
	known    map[string]*anchor
	failures uint64
}

// anchor is what is known about one certificate.
type anchor struct {
	data     []byte // nil: there is none
	notAfter time.Time
	got      time.Time // when data was last confirmed
	tried    time.Time // zero: never
	err      error     // what the last try brought, if it was nothing
	served   bool      // whether the last look found it usable, for Changes
}

// AnchorState is what is known about one certificate.
type AnchorState struct {
	// ID is its UUID.
	ID string
	// Loaded reports whether Anchor has it.
	Loaded bool
	// NotAfter is when it expires, if NotAfter of the configuration could say so.
	NotAfter time.Time
	// Fetched is when the key manager last confirmed it; zero: never.
	Fetched time.Time
	// Err is why the last fetch failed, or nil.
	Err error
}

// NewAnchors returns Anchors that want nothing yet.
func NewAnchors(src Source, cfg AnchorsConfig) *Anchors {
	if cfg.Interval <= 0 {
		cfg.Interval = 5 * time.Minute
	}
	if cfg.MaxAge <= 0 {
		cfg.MaxAge = 24 * time.Hour
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 8 * time.Second
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Anchors{
		src: src, cfg: cfg, known: make(map[string]*anchor),
		wake: make(chan struct{}, 1), changes: make(chan struct{}, 1),
	}
}

// Want sets which certificates are wanted, by canonical UUID. What is no longer wanted is forgotten, what is known
// already is kept, and Run fetches the rest at once.
func (a *Anchors) Want(ids []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id := range a.known {
		if !slices.Contains(ids, id) {
			delete(a.known, id)
		}
	}
	for _, id := range ids {
		if a.known[id] == nil {
			a.known[id] = &anchor{}
		}
	}
	signal(a.wake)
}

// Load wants these certificates and fetches those that were never asked for, so that a policy comes into force together
// with its anchors. What could not be had by the end of ctx is left to Run.
func (a *Anchors) Load(ctx context.Context, ids []string) {
	a.Want(ids)
	a.fetch(ctx, func(one *anchor, _ time.Time) bool { return one.tried.IsZero() })
}

// Anchor returns a wanted certificate, as it was stored, from memory. The error is ErrNotFound or a *NotCertificateError if
// that is what the key manager said last, and an *UnavailableError if it was never asked, or last answered longer than
// MaxAge ago.
func (a *Anchors) Anchor(id string) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.known[id]
	switch {
	case one == nil:
		return nil, &UnavailableError{Err: errors.New("the certificate is not among those that were asked for")}
	case one.usable(a.cfg.Now(), a.cfg.MaxAge):
		return bytes.Clone(one.data), nil
	case one.err != nil:
		return nil, one.err
	}
	return nil, &UnavailableError{Err: errors.New("the certificate has not been fetched yet")}
}

// Changes holds one value when Anchor's answers have become others since the last was taken.
func (a *Anchors) Changes() <-chan struct{} { return a.changes }

// States returns what is known about each wanted certificate, in the order of their IDs.
func (a *Anchors) States() []AnchorState {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []AnchorState
	for id, one := range a.known {
		list = append(list, AnchorState{ID: id, Loaded: one.usable(a.cfg.Now(), a.cfg.MaxAge), NotAfter: one.notAfter, Fetched: one.got, Err: one.err})
	}
	slices.SortFunc(list, func(x, y AnchorState) int { return strings.Compare(x.ID, y.ID) })
	return list
}

// Failures counts fetches that brought no certificate.
func (a *Anchors) Failures() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.failures
}

// Run fetches what is wanted until ctx ends.
func (a *Anchors) Run(ctx context.Context) {
	for ctx.Err() == nil {
		a.fetch(ctx, a.due)
		timer := time.NewTimer(a.pause())
		select {
		case <-timer.C:
		case <-a.wake:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// due reports whether a certificate is to be fetched now.
func (a *Anchors) due(one *anchor, now time.Time) bool { return !now.Before(a.next(one)) }

// next is when a certificate is due. The caller holds mu.
func (a *Anchors) next(one *anchor) time.Time {
	switch {
	case one.tried.IsZero():
		return time.Time{}
	case one.err != nil:
		return one.tried.Add(min(anchorRetry, a.cfg.Interval))
	}
	return one.tried.Add(a.cfg.Interval)
}

// pause is how long nothing is due.
func (a *Anchors) pause() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	now, wait := a.cfg.Now(), a.cfg.Interval
	for _, one := range a.known {
		wait = min(wait, max(a.next(one).Sub(now), time.Second))
	}
	return wait
}

// fetch asks for all certificates that the function chooses, a few at once, and returns when it has the answers.
func (a *Anchors) fetch(ctx context.Context, choose func(*anchor, time.Time) bool) {
	a.mu.Lock()
	var ids []string
	for id, one := range a.known {
		if choose(one, a.cfg.Now()) {
			ids = append(ids, id)
		}
	}
	a.mu.Unlock()
	if len(ids) == 0 {
		return
	}
	slices.Sort(ids)
	var token string
	var refused error
	if a.cfg.Token != nil {
		if token, refused = a.cfg.Token(ctx); refused != nil {
			refused = &UnavailableError{Err: fmt.Errorf("the service's token: %w", refused)}
		}
	}
	places := make(chan struct{}, anchorFetches)
	var group sync.WaitGroup
	for _, id := range ids {
		places <- struct{}{}
		group.Go(func() {
			defer func() { <-places }()
			data, notAfter, err := []byte(nil), time.Time{}, refused
			if err == nil {
				data, notAfter, err = a.one(ctx, Ref{ID: id, Token: token})
			}
			a.land(ctx, id, data, notAfter, err)
		})
	}
	group.Wait()
}

// one fetches a certificate and looks at it.
func (a *Anchors) one(ctx context.Context, ref Ref) (data []byte, notAfter time.Time, err error) {
	// In a goroutine of its own a panic would end the process: here it ends the fetch.
	defer func() {
		if recover() != nil {
			data, err = nil, &UnavailableError{Err: errors.New("panic while fetching")}
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, a.cfg.Timeout)
	defer cancel()
	found, err := a.src.Certificate(ctx, ref)
	if err != nil {
		return nil, time.Time{}, known(err)
	}
	if a.cfg.NotAfter != nil {
		if notAfter, err = a.cfg.NotAfter(found.Data); err != nil {
			return nil, time.Time{}, &NotCertificateError{Problem: err.Error(), Err: err}
		}
	}
	return bytes.Clone(found.Data), notAfter, nil
}

// land notes what a fetch brought, and whether that makes a difference.
func (a *Anchors) land(ctx context.Context, id string, data []byte, notAfter time.Time, err error) {
	if err != nil && ctx.Err() != nil {
		return // we are ending, or Load was impatient: that says nothing
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.known[id]
	if one == nil {
		return // no longer wanted
	}
	now := a.cfg.Now()
	one.tried, one.err = now, err
	changed := false
	switch {
	case err == nil:
		changed = !bytes.Equal(one.data, data)
		one.data, one.notAfter, one.got = data, notAfter, now
	case lasting(err):
		one.data, one.notAfter = nil, time.Time{}
		fallthrough
	default:
		a.failures++
	}
	if served := one.usable(now, a.cfg.MaxAge); changed || served != one.served {
		one.served = served
		signal(a.changes)
	}
}

func (one *anchor) usable(now time.Time, maxAge time.Duration) bool {
	return one.data != nil && now.Sub(one.got) < maxAge
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
