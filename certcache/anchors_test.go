package certcache_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign/countersign/certcache"
)

// shelf is a Source whose answers are set by the test.
type shelf struct {
	mu      sync.Mutex
	answers map[string]any // []byte, error, or a channel that ends with the caller's patience
	tokens  []string       // that came with the questions
	asked   map[string]int
}

func (s *shelf) set(id string, answer any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.answers == nil {
		s.answers = map[string]any{}
	}
	s.answers[id] = answer
}

// count returns how often each was asked for since the last call.
func (s *shelf) count() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := s.asked
	s.asked = nil
	return asked
}

func (s *shelf) Certificate(ctx context.Context, ref certcache.Ref) (certcache.Certificate, error) {
	s.mu.Lock()
	if s.asked == nil {
		s.asked = map[string]int{}
	}
	s.asked[ref.ID]++
	s.tokens = append(s.tokens, ref.Token)
	answer := s.answers[ref.ID]
	s.mu.Unlock()
	switch answer := answer.(type) {
	default:
		<-ctx.Done()
		return certcache.Certificate{}, &certcache.UnavailableError{Err: ctx.Err()}
	case nil:
		return certcache.Certificate{}, certcache.ErrNotFound
	case string:
		panic(answer)
	case []byte:
		return certcache.Certificate{Data: answer}, nil
	case error:
		return certcache.Certificate{}, answer
	}
}

var away = &certcache.UnavailableError{Err: errors.New("it answered 502")}

// running runs the Anchors until the test ends.
func running(t *testing.T, a *certcache.Anchors) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); a.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

// changed reports whether Changes holds something, and takes it.
func changed(a *certcache.Anchors) bool {
	select {
	case <-a.Changes():
		return true
	default:
		return false
	}
}

func TestAnchors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &shelf{}
		src.set(uuid, []byte("first"))
		a := certcache.NewAnchors(src, certcache.AnchorsConfig{Token: func(context.Context) (string, error) { return tokenA, nil }})
		if _, err := a.Anchor(uuid); class(err) != "unavailable" {
			t.Errorf("what nobody wants: %v, want unavailable", err)
		}
		running(t, a)
		synctest.Wait()
		if src.count() != nil || changed(a) {
			t.Error("something was fetched before anything was wanted")
		}

		a.Want([]string{uuid, missing})
		synctest.Wait()
		if got, err := a.Anchor(uuid); err != nil || string(got) != "first" || !changed(a) {
			t.Errorf("Anchor = %q, %v, want first, and a change", got, err)
		}
		if _, err := a.Anchor(missing); class(err) != "not found" {
			t.Errorf("Anchor of what the key manager does not have = %v, want not found", err)
		}
		if !slices.Equal(src.tokens, []string{tokenA, tokenA}) {
			t.Errorf("asked with the tokens %q", src.tokens)
		}
		if n := a.Failures(); n != 1 {
			t.Errorf("%d failures, want 1", n)
		}
		got, _ := a.Anchor(uuid)
		got[0] = 'X' // it belongs to whoever received it
		src.count()

		// Every five minutes, and what is missing every fifteen seconds.
		time.Sleep(5*time.Minute - time.Second)
		if n := src.count(); n[uuid] != 0 || n[missing] != 19 {
			t.Errorf("in five minutes asked %v", n)
		}
		src.set(uuid, []byte("second"))
		src.set(missing, []byte("third"))
		time.Sleep(15 * time.Second)
		for id, want := range map[string]string{uuid: "second", missing: "third"} {
			if got, err := a.Anchor(id); err != nil || string(got) != want {
				t.Errorf("Anchor = %q, %v, want %s", got, err, want)
			}
		}
		if !changed(a) || changed(a) {
			t.Error("two changes want one value")
		}
		src.count()
		time.Sleep(time.Hour)
		if n := src.count(); n[uuid] != 12 || n[missing] != 12 || changed(a) {
			t.Errorf("in an hour asked %v, want 12 times each, and no change", n)
		}

		a.Want([]string{missing})
		if _, err := a.Anchor(uuid); class(err) != "unavailable" {
			t.Errorf("what is no longer wanted: %v, want unavailable", err)
		}
		if got, err := a.Anchor(missing); err != nil || string(got) != "third" {
			t.Errorf("what still is: %q, %v", got, err)
		}
	})
}

// The key manager is away: what was there serves for MaxAge, and is back when it is. What it says it does not have is gone
// at once, and so is what has become something else.
func TestAnchorsThroughOutage(t *testing.T) {
	for name, outage := range map[string]any{
		"unavailable":      away,
		"a strange error":  errors.New("strange"),
		"401":              certcache.ErrUnauthorized,
		"403":              certcache.ErrForbidden,
		"no answer at all": make(chan bool),
		"a panic":          "panic",
	} {
		synctest.Test(t, func(t *testing.T) {
			src := &shelf{}
			src.set(uuid, []byte("first"))
			a := certcache.NewAnchors(src, certcache.AnchorsConfig{MaxAge: time.Hour})
			running(t, a)
			a.Want([]string{uuid})
			synctest.Wait()
			changed(a)
			src.set(uuid, outage)
			time.Sleep(time.Hour - time.Second)
			if got, err := a.Anchor(uuid); err != nil || string(got) != "first" || changed(a) {
				t.Errorf("%s: after almost an hour: %q, %v", name, got, err)
			}
			if s := a.States(); len(s) != 1 || !s[0].Loaded || s[0].Err == nil {
				t.Errorf("%s: States = %+v", name, s)
			}
			time.Sleep(time.Minute)
			if _, err := a.Anchor(uuid); err == nil || class(err) == "not found" || class(err) == "not a certificate" || !changed(a) {
				t.Errorf("%s: after an hour: %v, want unavailable, and a change", name, err)
			}
			src.set(uuid, []byte("first"))
			time.Sleep(time.Minute)
			if got, err := a.Anchor(uuid); err != nil || string(got) != "first" || !changed(a) {
				t.Errorf("%s: when it is back: %q, %v, want first, and a change", name, got, err)
			}
		})
	}
	for name, tt := range map[string]struct {
		answer any
		want   string
	}{
		"gone":           {certcache.ErrNotFound, "not found"},
		"something else": {&certcache.NotCertificateError{Problem: "x"}, "not a certificate"},
		"no certificate": {[]byte("text"), "not a certificate"},
	} {
		synctest.Test(t, func(t *testing.T) {
			src := &shelf{}
			src.set(uuid, newCertificate(t, time.Now().Add(time.Hour)))
			a := certcache.NewAnchors(src, certcache.AnchorsConfig{NotAfter: notAfter})
			running(t, a)
			a.Want([]string{uuid})
			synctest.Wait()
			if s := a.States(); len(s) != 1 || !s[0].Loaded || !s[0].NotAfter.Equal(time.Now().Add(time.Hour).Truncate(time.Second)) {
				t.Errorf("States = %+v", s)
			}
			changed(a)
			src.set(uuid, tt.answer)
			time.Sleep(5*time.Minute + time.Second)
			if _, err := a.Anchor(uuid); class(err) != tt.want || !changed(a) {
				t.Errorf("%s: Anchor = %v, want %s, and a change", name, err, tt.want)
			}
		})
	}
}

// A policy comes into force together with its anchors, if they can be had in time.
func TestAnchorsLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &shelf{}
		src.set(uuid, []byte("first"))
		src.set(missing, make(chan bool))
		a := certcache.NewAnchors(src, certcache.AnchorsConfig{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		a.Load(ctx, []string{uuid, missing})
		if took := time.Since(start); took != time.Second {
			t.Errorf("Load took %v, want the second that it was given", took)
		}
		if got, err := a.Anchor(uuid); err != nil || string(got) != "first" {
			t.Errorf("Anchor = %q, %v, want first", got, err)
		}
		if _, err := a.Anchor(missing); class(err) != "unavailable" {
			t.Errorf("Anchor of what could not be had = %v, want unavailable", err)
		}
		src.set(missing, []byte("second"))
		running(t, a)
		synctest.Wait()
		if got, err := a.Anchor(missing); err != nil || string(got) != "second" {
			t.Errorf("left to Run: Anchor = %q, %v, want second", got, err)
		}
		src.count()
		a.Load(t.Context(), []string{uuid, missing})
		if n := src.count(); n != nil {
			t.Errorf("what is known was asked for again: %v", n)
		}
	})
}

// Without a service token nothing is asked, and nothing is lost.
func TestAnchorsToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &shelf{}
		src.set(uuid, []byte("first"))
		var mu sync.Mutex
		var problem error
		a := certcache.NewAnchors(src, certcache.AnchorsConfig{Token: func(context.Context) (string, error) {
			mu.Lock()
			defer mu.Unlock()
			return tokenA, problem
		}})
		running(t, a)
		a.Want([]string{uuid})
		synctest.Wait()
		mu.Lock()
		problem = errors.New("keystone is away")
		mu.Unlock()
		src.count()
		time.Sleep(time.Hour)
		if got, err := a.Anchor(uuid); err != nil || string(got) != "first" || src.count() != nil {
			t.Errorf("without a token: %q, %v", got, err)
		}
		a.Want([]string{missing})
		synctest.Wait()
		if _, err := a.Anchor(missing); class(err) != "unavailable" || !errors.Is(err, problem) {
			t.Errorf("never loaded: %v, want unavailable for the token", err)
		}
	})
}

// Many are fetched a few at a time, and a slow one keeps no other waiting beyond its timeout.
func TestAnchorsMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src := &shelf{}
		var ids []string
		for i := range 100 {
			id := string(bytes.Replace([]byte(uuid), []byte("0d5b"), []byte{'a', 'b', '0' + byte(i/10), '0' + byte(i%10)}, 1))
			ids = append(ids, id)
			src.set(id, []byte(id))
		}
		src.set(ids[3], make(chan bool))
		a := certcache.NewAnchors(src, certcache.AnchorsConfig{})
		running(t, a)
		a.Want(ids)
		time.Sleep(8 * time.Second)
		synctest.Wait()
		loaded := 0
		for _, s := range a.States() {
			if s.Loaded {
				loaded++
			}
		}
		if loaded != 99 {
			t.Errorf("%d are loaded, want 99", loaded)
		}
	})
}
