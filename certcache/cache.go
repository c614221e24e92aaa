package certcache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

const (
	// longest bounds CacheConfig.Timeout: a client that waits for an answer to 'may I upload' should have it by then.
	longest = 9 * time.Second
	// largest bounds what is kept, not what is served, so that a full cache stays small: Barbican's own default is
	// 20 kB a secret.
	largest = 64 << 10
	// patience is how many refusals of other callers' tokens one caller waits for before it asks on its own, so that
	// strangers with bad tokens cannot keep it waiting.
	patience = 2
)

// CacheConfig sets up a Cache. The zero value is usable.
type CacheConfig struct {
	// Size is how many answers are kept; the one unused for the longest goes first. Default 512.
	Size int
	// MaxAge is how long a certificate is kept at most: a secret that was deleted, or whose access list was narrowed,
	// serves its project that much longer. Default 5 minutes.
	MaxAge time.Duration
	// NegativeAge is how long 'not found' and 'not a certificate' are kept. Default 10 seconds; negative: not at all.
	NegativeAge time.Duration
	// Timeout covers a whole fetch. Default 8 seconds, 9 at most.
	Timeout time.Duration
	// NotAfter reads the end of validity from the payload. Its error means 'not a certificate' and reaches the client.
	// Nil: payloads are not looked at.
	NotAfter func(data []byte) (time.Time, error)
	// Now is the clock. Default time.Now.
	Now func() time.Time
}

// A Cache is a Source that remembers what another Source answered.
//
// Certificates, 'not found' and 'not a certificate' are kept under the image's owner and the certificate's ID. A token
// that was refused leaves no trace, and neither does a key manager that is away.
type Cache struct {
	src Source
	cfg CacheConfig

	mu      sync.Mutex // guards what follows
	entries *simplelru.LRU[key, entry]
	flights map[key]*flight
	stats   Stats
}

// An Expiry says when a certificate that is remembered expires.
type Expiry struct {
	// Owner is the project for which it was fetched, ID its UUID.
	Owner, ID string
	// NotAfter is the end of its validity.
	NotAfter time.Time
}

// Stats counts since the Cache was made.
type Stats struct {
	// Hits were answered from memory; Misses were not: they fetched, or waited for another's fetch.
	Hits, Misses uint64
	// Fetches were put to the Source.
	Fetches uint64
	// Entries are remembered now, outdated ones included.
	Entries int
}

// key holds no token: whose certificate it is decides, not who asked first.
type key struct{ owner, id string }

// entry is immutable once it is stored.
type entry struct {
	cert     Certificate
	notAfter time.Time
	err      error
	deadline time.Time
}

// flight is one fetch under way. cert and err are set before done is closed and never after.
type flight struct {
	token [sha256.Size]byte // of the caller who started it: who brings the same shares its refusal
	done  chan struct{}
	cert  Certificate
	err   error
}

// NewCache returns a Cache in front of src.
func NewCache(src Source, cfg CacheConfig) *Cache {
	if cfg.Size <= 0 {
		cfg.Size = 512
	}
	if cfg.MaxAge <= 0 {
		cfg.MaxAge = 5 * time.Minute
	}
	if cfg.NegativeAge == 0 {
		cfg.NegativeAge = 10 * time.Second
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 8 * time.Second
	}
	cfg.Timeout = min(cfg.Timeout, longest)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	entries, err := simplelru.NewLRU[key, entry](cfg.Size, nil)
	if err != nil {
		panic("internal error: " + err.Error()) // the size is positive
	}
	return &Cache{src: src, cfg: cfg, entries: entries, flights: make(map[key]*flight)}
}

// Stats returns the counters.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Entries = c.entries.Len()
	return s
}

// Expiries lists the certificates whose end NotAfter could tell, in no order: those that would be fetched again, and those
// that have expired, included.
func (c *Cache) Expiries() []Expiry {
	c.mu.Lock()
	defer c.mu.Unlock()
	var list []Expiry
	for _, k := range c.entries.Keys() {
		if e, ok := c.entries.Peek(k); ok && !e.notAfter.IsZero() {
			list = append(list, Expiry{Owner: k.owner, ID: k.id, NotAfter: e.notAfter})
		}
	}
	return list
}

// Certificate answers from memory, or from a fetch that it starts or joins. Callers who wait for one fetch share its
// certificate, 'not found', 'not a certificate' and 'unavailable'; when it was refused for its token, the next of them
// fetches with its own. A caller whose ctx ends gets an *UnavailableError; the fetch goes on for the others.
func (c *Cache) Certificate(ctx context.Context, ref Ref) (Certificate, error) {
	if !canonical(ref.ID) {
		return Certificate{}, errID()
	}
	k := key{ref.Owner, ref.ID}
	token := sha256.Sum256([]byte(ref.Token))
	for refusals := 0; ; refusals++ {
		f, e, ok := c.join(ctx, k, ref, token, refusals)
		if ok {
			return e.cert.clone(), e.err
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return Certificate{}, &UnavailableError{Err: context.Cause(ctx)}
		}
		if refused(f.err) && f.token != token {
			continue
		}
		return f.cert.clone(), f.err
	}
}

// join returns what is remembered under k or else the fetch to wait for, which it starts if there is none.
func (c *Cache) join(ctx context.Context, k key, ref Ref, token [sha256.Size]byte, refusals int) (*flight, entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.entries.Get(k); ok {
		if c.cfg.Now().Before(e.deadline) {
			if refusals == 0 {
				c.stats.Hits++
			}
			return nil, e, true
		}
		c.entries.Remove(k)
	}
	if refusals == 0 {
		c.stats.Misses++
	}
	// An image without owner belongs to no project for which an answer could be kept or shared.
	if f := c.flights[k]; f != nil && k.owner != "" && refusals < patience {
		return f, entry{}, false
	}
	f := &flight{token: token, done: make(chan struct{})}
	c.flights[k] = f
	c.stats.Fetches++
	// The goroutine belongs to the flight, not to the caller who started it and may leave. It ends with the Source's
	// answer, which is due when the timeout strikes.
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.cfg.Timeout)
		defer cancel()
		c.land(k, f, c.fetch(ctx, ref))
	}()
	return f, entry{}, false
}

// fetch asks the Source, looks at what it got, and says until when it may be remembered: zero means not at all.
func (c *Cache) fetch(ctx context.Context, ref Ref) (e entry) {
	// Out of a handler's reach a panic would end the process: here it ends the fetch.
	defer func() {
		if recover() != nil {
			e = entry{err: &UnavailableError{Err: errors.New("panic while fetching")}}
		}
	}()
	start := c.cfg.Now()
	cert, err := c.src.Certificate(ctx, ref)
	if err != nil {
		if err = known(err); lasting(err) {
			return entry{err: err, deadline: start.Add(c.cfg.NegativeAge)}
		}
		return entry{err: err}
	}
	e = entry{cert: cert.clone(), deadline: start.Add(c.cfg.MaxAge)}
	if !cert.Expires.IsZero() {
		e.deadline = earlier(e.deadline, cert.Expires)
	}
	if c.cfg.NotAfter != nil {
		if e.notAfter, err = c.cfg.NotAfter(cert.Data); err != nil {
			return entry{err: &NotCertificateError{Problem: err.Error(), Err: err}, deadline: start.Add(c.cfg.NegativeAge)}
		}
		e.deadline = earlier(e.deadline, e.notAfter)
	}
	if len(cert.Data) > largest {
		e.deadline = time.Time{}
	}
	return e
}

// land remembers what may be remembered and lets the waiting callers go.
func (c *Cache) land(k key, f *flight, e entry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f.cert, f.err = e.cert, e.err
	if k.owner != "" && c.cfg.Now().Before(e.deadline) {
		c.entries.Add(k, e)
	}
	if c.flights[k] == f { // an impatient caller may have started the next
		delete(c.flights, k)
	}
	close(f.done)
}

// refused reports whether err speaks about the token, and so about one caller only.
func refused(err error) bool {
	return errors.Is(err, ErrForbidden) || errors.Is(err, ErrUnauthorized)
}

// lasting reports whether err speaks about the certificate, and so will be true for a while.
func lasting(err error) bool {
	var not *NotCertificateError
	return errors.Is(err, ErrNotFound) || errors.As(err, &not)
}

// known makes an *UnavailableError of every error a Source should not have returned.
func known(err error) error {
	var away *UnavailableError
	if refused(err) || lasting(err) || errors.As(err, &away) {
		return err
	}
	return &UnavailableError{Err: fmt.Errorf("source: %w", err)}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (c Certificate) clone() Certificate {
	c.Data = bytes.Clone(c.Data)
	return c
}
