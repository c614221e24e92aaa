package certcache_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/certcache"
)

// clock is a time that stands still until it is moved.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Now()} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) move(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// keeper is a Source without a network, for stories about order: answer decides, and every call is written down.
type keeper struct {
	answer func(ctx context.Context, ref certcache.Ref) (certcache.Certificate, error)
	mu     sync.Mutex
	calls  []string // tokens
}

func (k *keeper) Certificate(ctx context.Context, ref certcache.Ref) (certcache.Certificate, error) {
	k.mu.Lock()
	k.calls = append(k.calls, ref.Token)
	k.mu.Unlock()
	return k.answer(ctx, ref)
}

func (k *keeper) count() int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return len(k.calls)
}

// slowly answers after a second of the bubble's time: 403 to every token but the good one.
func slowly(good string) func(context.Context, certcache.Ref) (certcache.Certificate, error) {
	return func(ctx context.Context, ref certcache.Ref) (certcache.Certificate, error) {
		select {
		case <-ctx.Done():
			return certcache.Certificate{}, &certcache.UnavailableError{Err: context.Cause(ctx)}
		case <-time.After(time.Second):
		}
		if ref.Token != good {
			return certcache.Certificate{}, fmt.Errorf("secret: %w", certcache.ErrForbidden)
		}
		return certcache.Certificate{Data: []byte("the certificate")}, nil
	}
}

func TestCacheOneFetchForAll(t *testing.T) {
	b := newBarbican(t)
	c := certcache.NewCache(b.source(), certcache.CacheConfig{NotAfter: notAfter})
	const callers = 32
	// The key manager answers when the last of them waits.
	b.intercept(func(http.ResponseWriter, *http.Request) bool {
		for c.Stats().Misses < callers {
			runtime.Gosched()
		}
		return false
	})
	ref := certcache.Ref{Owner: ownerA, ID: uuid, Token: tokenA}
	var all sync.WaitGroup
	for range callers {
		all.Go(func() {
			got, err := c.Certificate(t.Context(), ref)
			if err != nil || !bytes.Equal(got.Data, b.payload()) {
				t.Errorf("Certificate = %q, %v", got.Data, err)
			}
		})
	}
	all.Wait()
	if got := b.requests(); len(got) != 2 {
		t.Errorf("%d cold callers made the requests %q, want one for the secret and one for its payload", callers, got)
	}
	for range 3 {
		if _, err := c.Certificate(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.requests(); len(got) != 0 {
		t.Errorf("a warm cache made the requests %q", got)
	}
	if got, want := c.Stats(), (certcache.Stats{Hits: 3, Misses: callers, Fetches: 1, Entries: 1}); got != want {
		t.Errorf("Stats() = %+v, want %+v", got, want)
	}
}

// Whoever uploads into project B's image gets nothing out of what was fetched for project A's.
func TestCacheOwners(t *testing.T) {
	b := newBarbican(t)
	c := certcache.NewCache(b.source(), certcache.CacheConfig{NotAfter: notAfter})
	if _, err := c.Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: uuid, Token: tokenA}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Certificate(t.Context(), certcache.Ref{Owner: ownerB, ID: uuid, Token: tokenB}); class(err) != "forbidden" {
		t.Errorf("project B's Certificate = %v, want forbidden", err)
	}
	// An image without owner belongs to no project: its certificate is fetched each time.
	for range 2 {
		if _, err := c.Certificate(t.Context(), certcache.Ref{ID: uuid, Token: tokenA}); err != nil {
			t.Error(err)
		}
		if _, err := c.Certificate(t.Context(), certcache.Ref{ID: uuid, Token: tokenB}); class(err) != "forbidden" {
			t.Errorf("project B's Certificate for an image without owner = %v, want forbidden", err)
		}
	}
	if got, want := c.Stats(), (certcache.Stats{Misses: 6, Fetches: 6, Entries: 1}); got != want {
		t.Errorf("Stats() = %+v, want %+v", got, want)
	}
}

func TestCacheOwnersAtOnce(t *testing.T) {
	b := newBarbican(t)
	c := certcache.NewCache(b.source(), certcache.CacheConfig{NotAfter: notAfter, NegativeAge: time.Nanosecond})
	var all sync.WaitGroup
	for range 16 {
		for _, owner := range []string{ownerA, ""} {
			all.Go(func() {
				if _, err := c.Certificate(t.Context(), certcache.Ref{Owner: owner, ID: uuid, Token: tokenA}); err != nil {
					t.Errorf("A's Certificate for owner %q = %v", owner, err)
				}
			})
		}
		for _, owner := range []string{ownerB, ""} {
			all.Go(func() {
				if got, err := c.Certificate(t.Context(), certcache.Ref{Owner: owner, ID: uuid, Token: tokenB}); class(err) != "forbidden" || got.Data != nil {
					t.Errorf("B's Certificate for owner %q = %d bytes, %v, want forbidden", owner, len(got.Data), err)
				}
			})
		}
	}
	all.Wait()
}

// Callers for an image without owner share no fetch either.
func TestCacheOwnerless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := certcache.NewCache(&keeper{answer: slowly(tokenA)}, certcache.CacheConfig{})
		var all sync.WaitGroup
		for _, caller := range []struct{ token, want string }{{tokenA, "ok"}, {tokenB, "forbidden"}} {
			all.Go(func() {
				if _, err := c.Certificate(t.Context(), certcache.Ref{ID: uuid, Token: caller.token}); class(err) != caller.want {
					t.Errorf("Certificate with %s = %v, want %s", caller.token, err, caller.want)
				}
			})
			synctest.Wait() // the second comes while the first is being served
		}
		all.Wait()
		if got, want := c.Stats(), (certcache.Stats{Misses: 2, Fetches: 2}); got != want {
			t.Errorf("Stats() = %+v, want %+v", got, want)
		}
	})
}

// The first caller leaves; the others get what it had started to fetch.
func TestCacheFirstCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{answer: slowly(tokenA)}
		c := certcache.NewCache(k, certcache.CacheConfig{})
		ref := certcache.Ref{Owner: ownerA, ID: uuid, Token: tokenA}
		ctx, cancel := context.WithCancel(t.Context())
		var first, second error
		var all sync.WaitGroup
		all.Go(func() { _, first = c.Certificate(ctx, ref) })
		synctest.Wait()
		all.Go(func() { _, second = c.Certificate(t.Context(), ref) })
		synctest.Wait()
		cancel()
		all.Wait()
		if class(first) != "unavailable" || !errors.Is(first, context.Canceled) {
			t.Errorf("first caller's Certificate = %v, want unavailable, being cancelled", first)
		}
		if second != nil || k.count() != 1 {
			t.Errorf("second caller's Certificate = %v after %d fetches, want one that succeeds", second, k.count())
		}
	})
}

// The first caller may not read the certificate; the second asks with its own token, and the third waits for that.
func TestCacheRefusalIsNotShared(t *testing.T) {
	for name, refusal := range map[string]error{"403": certcache.ErrForbidden, "401": certcache.ErrUnauthorized} {
		synctest.Test(t, func(t *testing.T) {
			k := &keeper{answer: func(ctx context.Context, ref certcache.Ref) (certcache.Certificate, error) {
				cert, err := slowly(tokenA)(ctx, ref)
				if err != nil {
					err = refusal
				}
				return cert, err
			}}
			c := certcache.NewCache(k, certcache.CacheConfig{})
			errs := make([]error, 4)
			var all sync.WaitGroup
			for i, token := range []string{tokenB, tokenA, tokenA, tokenB} {
				all.Go(func() {
					_, errs[i] = c.Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: uuid, Token: token})
				})
				synctest.Wait()
			}
			all.Wait()
			if !errors.Is(errs[0], refusal) || errs[1] != nil || errs[2] != nil {
				t.Errorf("%s: Certificate = %v, want a refusal for the first caller only", name, errs)
			}
			// Who brings the token that was refused shares its refusal: the key manager would say the same.
			if !errors.Is(errs[3], refusal) || k.count() != 2 {
				t.Errorf("%s: fourth caller's Certificate = %v after %d fetches, want the refusal after 2", name, errs[3], k.count())
			}
		})
	}
}

// Many bad tokens at once keep nobody waiting for all of them.
func TestCachePatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := certcache.NewCache(&keeper{answer: slowly(tokenA)}, certcache.CacheConfig{})
		start := time.Now()
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				_, err := c.Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: uuid, Token: fmt.Sprint("bad ", i)})
				if class(err) != "forbidden" {
					t.Errorf("bad token: Certificate = %v, want forbidden", err)
				}
			})
		}
		all.Wait()
		if took := time.Since(start); took > 3*time.Second {
			t.Errorf("the last caller waited %v, want 3 fetches at most", took)
		}
	})
}

// A token that is refused while an entry is good changes nothing about the entry.
func TestCacheRefusalDoesNotPoison(t *testing.T) {
	b := newBarbican(t)
	now := newClock()
	c := certcache.NewCache(b.source(), certcache.CacheConfig{MaxAge: time.Minute, NotAfter: notAfter, Now: now.Now})
	for _, step := range []struct {
		move    time.Duration
		token   string
		want    string
		fetches uint64
	}{
		{0, stale, "unauthorized", 1},
		{0, tokenB, "forbidden", 2},
		{0, tokenA, "ok", 3},
		{0, stale, "ok", 3}, // its caller may see the image, or would not have come here
		{59 * time.Second, tokenB, "ok", 3},
		{time.Second, stale, "unauthorized", 4},
		{0, tokenB, "forbidden", 5},
		{0, tokenA, "ok", 6},
		{0, tokenA, "ok", 6},
	} {
		now.move(step.move)
		_, err := c.Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: uuid, Token: step.token})
		if got, fetches := class(err), c.Stats().Fetches; got != step.want || fetches != step.fetches {
			t.Errorf("Certificate with %s = %s after %d fetches, want %s after %d", step.token, got, fetches, step.want, step.fetches)
		}
		discreet(t, err)
	}
}

// The earliest of three ends counts.
func TestCacheDeadlines(t *testing.T) {
	for _, tt := range []struct {
		name                  string
		maxAge, secret, signs time.Duration
		kept                  time.Duration
	}{
		{"configured age", time.Minute, time.Hour, time.Hour, time.Minute},
		{"secret's expiration", time.Hour, time.Minute, time.Hour, time.Minute},
		{"certificate's notAfter", time.Hour, time.Hour, time.Minute, time.Minute},
		{"secret without expiration", time.Minute, 0, time.Hour, time.Minute},
		{"expired certificate", time.Hour, time.Hour, -time.Minute, 0},
		{"expired secret", time.Hour, -time.Minute, time.Hour, 0},
	} {
		now := newClock()
		k := &keeper{answer: func(context.Context, certcache.Ref) (certcache.Certificate, error) {
			cert := certcache.Certificate{Data: []byte("x")}
			if tt.secret != 0 {
				cert.Expires = now.Now().Add(tt.secret)
			}
			return cert, nil
		}}
		ends := now.Now().Add(tt.signs)
		c := certcache.NewCache(k, certcache.CacheConfig{MaxAge: tt.maxAge, Now: now.Now, NotAfter: func([]byte) (time.Time, error) { return ends, nil }})
		ask := func() int {
			if _, err := c.Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: uuid, Token: tokenA}); err != nil {
				t.Errorf("%s: Certificate = %v", tt.name, err)
			}
			return k.count()
		}
		ask()
		if tt.kept > 0 {
			now.move(tt.kept - 1)
			if n := ask(); n != 1 {
				t.Errorf("%s: %d fetches just before the end, want 1", tt.name, n)
			}
			now.move(1)
		}
		if n := ask(); n != 2 {
			t.Errorf("%s: %d fetches at the end, want 2", tt.name, n)
		}
	}
}

func TestCacheNegative(t *testing.T) {
	broken := errors.New("garbled")
	for _, tt := range []struct {
		name string
		err  error // of the source; nil: of NotAfter
		want string
		kept bool
	}{
		{"not found", certcache.ErrNotFound, "not found", true},
		{"wrapped", fmt.Errorf("in project: %w", certcache.ErrNotFound), "not found", true},
		{"not a certificate", &certcache.NotCertificateError{Problem: "opaque"}, "not a certificate", true},
		{"unreadable", nil, "not a certificate", true},
		{"forbidden", certcache.ErrForbidden, "forbidden", false},
		{"unauthorized", certcache.ErrUnauthorized, "unauthorized", false},
		{"unavailable", &certcache.UnavailableError{Err: broken}, "unavailable", false},
		{"unheard of", broken, "unavailable", false},
	} {
		now := newClock()
		k := &keeper{answer: func(context.Context, certcache.Ref) (certcache.Certificate, error) {
			return certcache.Certificate{Data: []byte("x")}, tt.err
		}}
		c := certcache.NewCache(k, certcache.CacheConfig{
			NegativeAge: 5 * time.Second, Now: now.Now,
			NotAfter: func([]byte) (time.Time, error) { return time.Time{}, broken },
		})
		for _, step := range []struct {
			move    time.Duration
			fetches int
		}{{0, 1}, {5*time.Second - 1, 1}, {1, 2}} {
			now.move(step.move)
			got, err := c.Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: uuid, Token: tokenA})
			if class(err) != tt.want || got.Data != nil {
				t.Errorf("%s: Certificate = %q, %v, want %s", tt.name, got.Data, err, tt.want)
			}
			if tt.kept && k.count() != step.fetches {
				t.Errorf("%s: %d fetches, want %d", tt.name, k.count(), step.fetches)
			}
		}
		if !tt.kept && k.count() != 3 {
			t.Errorf("%s: %d fetches, want 3: it must not be remembered", tt.name, k.count())
		}
	}
}

// A key manager that is away is asked once for all who wait, and again for who comes later.
func TestCacheUnavailableIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := &keeper{answer: func(ctx context.Context, _ certcache.Ref) (certcache.Certificate, error) {
			<-ctx.Done()
			return certcache.Certificate{}, &certcache.UnavailableError{Err: context.Cause(ctx)}
		}}
		c := certcache.NewCache(k, certcache.CacheConfig{Timeout: time.Hour})
		start := time.Now()
		var all sync.WaitGroup
		for _, token := range []string{tokenA, tokenA, tokenB} {
			all.Go(func() {
				_, err := c.Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: uuid, Token: token})
				if class(err) != "unavailable" || !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("Certificate = %v, want unavailable for the deadline", err)
				}
			})
		}
		all.Wait()
		if took := time.Since(start); took >= 10*time.Second {
			t.Errorf("Certificate took %v, want less than 10s whatever is configured", took)
		}
		if k.count() != 1 {
			t.Errorf("%d fetches, want 1", k.count())
		}
		if _, err := c.Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: uuid, Token: tokenA}); class(err) != "unavailable" || k.count() != 2 {
			t.Errorf("later: Certificate = %v after %d fetches, want unavailable after 2", err, k.count())
		}
	})
}

// It comes back, and so does the certificate.
func TestCacheOutage(t *testing.T) {
	b := newBarbican(t)
	c := certcache.NewCache(b.source(), certcache.CacheConfig{NotAfter: notAfter})
	ref := certcache.Ref{Owner: ownerA, ID: uuid, Token: tokenA}
	for _, step := range []struct {
		down bool
		want string
	}{{true, "unavailable"}, {true, "unavailable"}, {false, "ok"}, {true, "ok"}} {
		b.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if step.down {
				fail(w, 503, tokenA)
			}
			return step.down
		})
		_, err := c.Certificate(t.Context(), ref)
		if got := class(err); got != step.want {
			t.Errorf("down %v: Certificate = %s (%v), want %s", step.down, got, err, step.want)
		}
		discreet(t, err)
	}
}

// What a caller does to its copy, or a source to its own, reaches nobody else.
func TestCacheCopies(t *testing.T) {
	mine := []byte("the certificate")
	c := certcache.NewCache(&keeper{answer: func(context.Context, certcache.Ref) (certcache.Certificate, error) {
		return certcache.Certificate{Data: mine}, nil
	}}, certcache.CacheConfig{})
	for range 3 {
		got, err := c.Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: uuid, Token: tokenA})
		if err != nil || string(got.Data) != "the certificate" {
			t.Fatalf("Certificate = %q, %v", got.Data, err)
		}
		clear(got.Data)
		clear(mine)
	}
}

func TestCacheBounds(t *testing.T) {
	k := &keeper{answer: func(_ context.Context, ref certcache.Ref) (certcache.Certificate, error) {
		if ref.Owner == ownerB {
			return certcache.Certificate{Data: make([]byte, 64<<10+1)}, nil
		}
		return certcache.Certificate{Data: make([]byte, 64<<10)}, nil
	}}
	c := certcache.NewCache(k, certcache.CacheConfig{Size: 3})
	id := func(i int) string { return strings.Replace(uuid, "0d5b6c1e", fmt.Sprintf("%08x", i), 1) }
	for i := range 10 {
		for _, owner := range []string{ownerA, ownerB} {
			if _, err := c.Certificate(t.Context(), certcache.Ref{Owner: owner, ID: id(i), Token: tokenA}); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := c.Stats(); got.Entries != 3 || got.Fetches != 20 {
		t.Errorf("Stats() = %+v, want 3 entries after 20 fetches", got)
	}
	for i, want := range map[int]int{7: 20, 8: 20, 9: 20} {
		if _, _ = c.Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: id(i), Token: tokenA}); k.count() != want {
			t.Errorf("entry %d: %d fetches, want %d", i, k.count(), want)
		}
	}
	if _, _ = c.Certificate(t.Context(), certcache.Ref{Owner: ownerB, ID: id(9), Token: tokenA}); k.count() != 21 {
		t.Errorf("large certificate: %d fetches, want 21: it must not be kept", k.count())
	}
}

// A source that panics fails its callers, not the process.
func TestCachePanic(t *testing.T) {
	c := certcache.NewCache(&keeper{answer: func(context.Context, certcache.Ref) (certcache.Certificate, error) { panic(tokenA) }}, certcache.CacheConfig{})
	for range 2 {
		_, err := c.Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: uuid, Token: tokenA})
		if class(err) != "unavailable" {
			t.Errorf("Certificate = %v, want unavailable", err)
		}
		discreet(t, err)
	}
}

// A secret that was deleted serves until its entry ends, and is then not found.
func TestCacheDeleted(t *testing.T) {
	b, now := newBarbican(t), newClock()
	c := certcache.NewCache(b.source(), certcache.CacheConfig{MaxAge: time.Minute, NotAfter: notAfter, Now: now.Now})
	for _, step := range []struct {
		do   func()
		want string
	}{
		{func() {}, "ok"},
		{func() { b.remove(uuid) }, "ok"},
		{func() { now.move(time.Minute) }, "not found"},
	} {
		step.do()
		if _, err := c.Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: uuid, Token: tokenA}); class(err) != step.want {
			t.Errorf("Certificate = %v, want %s", err, step.want)
		}
	}
}

// A negative NegativeAge: that there is no certificate is asked anew each time.
func TestCacheRemembersNothingNegative(t *testing.T) {
	src := &shelf{}
	c := certcache.NewCache(src, certcache.CacheConfig{NegativeAge: -1})
	for range 3 {
		if _, err := c.Certificate(t.Context(), reference); class(err) != "not found" {
			t.Errorf("Certificate = %v, want not found", err)
		}
	}
	if n := src.count()[uuid]; n != 3 {
		t.Errorf("asked %d times, want 3", n)
	}
}

// What is known about lifetimes stays known, also when the certificate would be fetched again.
func TestCacheExpiries(t *testing.T) {
	now := time.Now()
	src := &shelf{}
	end := now.Add(24 * time.Hour).Truncate(time.Second)
	src.set(uuid, newCertificate(t, end))
	c := certcache.NewCache(src, certcache.CacheConfig{NotAfter: notAfter, Now: func() time.Time { return now }})
	_, _ = c.Certificate(t.Context(), reference)
	_, _ = c.Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: missing})
	now = now.Add(time.Hour)
	want := certcache.Expiry{Owner: ownerA, ID: uuid, NotAfter: end}
	if got := c.Expiries(); len(got) != 1 || got[0].Owner != want.Owner || got[0].ID != want.ID || !got[0].NotAfter.Equal(end) {
		t.Errorf("Expiries = %v, want %v", got, want)
	}
}
