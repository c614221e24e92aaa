package certcache_test

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/certcache"
)

var errNoPEM = errors.New("no PEM block")

// at returns an Endpoint function for a fixed URL.
func at(url string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return url, nil }
}

// class names what a caller does about err.
func class(err error) string {
	var not *certcache.NotCertificateError
	var away *certcache.UnavailableError
	switch {
	default:
		return "unknown: " + err.Error()
	case err == nil:
		return "ok"
	case errors.Is(err, certcache.ErrNotFound):
		return "not found"
	case errors.Is(err, certcache.ErrForbidden):
		return "forbidden"
	case errors.Is(err, certcache.ErrUnauthorized):
		return "unauthorized"
	case errors.As(err, &not):
		return "not a certificate"
	case errors.As(err, &away):
		return "unavailable"
	}
}

// discreet fails the test if err names a token.
func discreet(t *testing.T, err error) {
	t.Helper()
	for _, token := range []string{tokenA, tokenB, stale} {
		if err != nil && strings.Contains(err.Error(), token) {
			t.Errorf("the error %q names a token", err)
		}
	}
}

func TestBarbicanPayloads(t *testing.T) {
	b := newBarbican(t)
	text := b.payload()
	block, _ := pem.Decode(text)
	for name, s := range map[string]secret{
		"PEM as octet-stream": {payload: text},
		"PEM as text":         {payload: text, text: true},
		"DER":                 {payload: block.Bytes},
		"with an expiration":  {payload: text, expiration: "2027-02-28T19:14:44.180394"},
		"of 256 KiB":          {payload: bytes.Repeat([]byte("x"), 256<<10)},
	} {
		s.kind, s.status, s.project = "certificate", "ACTIVE", ownerA
		b.store(uuid, s)
		got, err := b.source().Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: uuid, Token: tokenA})
		if err != nil || !bytes.Equal(got.Data, s.payload) {
			t.Errorf("%s: Certificate = %d bytes, %v, want the %d that were stored", name, len(got.Data), err, len(s.payload))
		}
		want := time.Time{}
		if s.expiration != "" {
			want = time.Date(2027, 2, 28, 19, 14, 44, 180394000, time.UTC)
		}
		if !got.Expires.Equal(want) {
			t.Errorf("%s: Expires = %v, want %v", name, got.Expires, want)
		}
	}
}

func TestBarbicanRefusals(t *testing.T) {
	good := secret{kind: "certificate", status: "ACTIVE", project: ownerA, payload: []byte("x")}
	but := func(change func(*secret)) secret { s := good; change(&s); return s }
	for _, tt := range []struct {
		name      string
		secret    secret
		id, token string
		want      string
		says      string
	}{
		{"as it should be", good, uuid, tokenA, "ok", ""},
		{"no such secret", good, missing, tokenA, "not found", ""},
		{"another project's token", good, uuid, tokenB, "forbidden", ""},
		{"an expired token", good, uuid, stale, "unauthorized", ""},
		{"no token", good, uuid, "", "unauthorized", ""},
		{"another type", but(func(s *secret) { s.kind = "opaque" }), uuid, tokenA, "not a certificate", "opaque"},
		{"another status", but(func(s *secret) { s.status = "PENDING" }), uuid, tokenA, "not a certificate", "PENDING"},
		{"no type", but(func(s *secret) { s.kind = "" }), uuid, tokenA, "unavailable", ""},
		{"no status", but(func(s *secret) { s.status = "" }), uuid, tokenA, "unavailable", ""},
		{"no payload", but(func(s *secret) { s.payload = nil }), uuid, tokenA, "not a certificate", "no payload"},
		{"an empty payload", but(func(s *secret) { s.payload = []byte{} }), uuid, tokenA, "not a certificate", "empty"},
		{"a payload too large", but(func(s *secret) { s.payload = make([]byte, 256<<10+1) }), uuid, tokenA, "unavailable", "larger than"},
		{"an expiration that is none", but(func(s *secret) { s.expiration = "soon " + tokenA }), uuid, tokenA, "unavailable", ""},
	} {
		b := newBarbican(t)
		b.store(uuid, tt.secret)
		_, err := b.source().Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: tt.id, Token: tt.token})
		if got := class(err); got != tt.want {
			t.Errorf("%s: Certificate = %s (%v), want %s", tt.name, got, err, tt.want)
		}
		if err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: the error %q does not say %q", tt.name, err, tt.says)
		}
		if n := len(b.requests()); tt.token == "" && n != 0 {
			t.Errorf("%s: %d requests, want none", tt.name, n)
		}
		discreet(t, err)
	}
}

// Every status at either request, with a body that names the token.
func TestBarbicanStatuses(t *testing.T) {
	for _, tt := range []struct {
		code          int
		first, second string
	}{
		{204, "unavailable", "unavailable"},
		{300, "unavailable", "unavailable"},
		{301, "unavailable", "unavailable"},
		{307, "unavailable", "unavailable"},
		{400, "unavailable", "unavailable"},
		{401, "unauthorized", "unauthorized"},
		{403, "forbidden", "forbidden"},
		{404, "not found", "not found"},
		{406, "unavailable", "not a certificate"},
		{410, "unavailable", "unavailable"},
		{413, "unavailable", "unavailable"},
		{429, "unavailable", "unavailable"},
		{500, "unavailable", "unavailable"},
		{502, "unavailable", "unavailable"},
		{503, "unavailable", "unavailable"},
		{504, "unavailable", "unavailable"},
	} {
		for i, want := range []string{tt.first, tt.second} {
			b := newBarbican(t)
			b.intercept(func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, "/payload") != (i == 1) {
					return false
				}
				w.Header().Set("Location", b.URL+"/elsewhere")
				w.WriteHeader(tt.code)
				_, _ = w.Write([]byte(`{"description": "` + r.Header.Get("X-Auth-Token") + `"}`))
				return true
			})
			_, err := b.source().Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: uuid, Token: tokenA})
			if got := class(err); got != want {
				t.Errorf("%d to request %d: Certificate = %s (%v), want %s", tt.code, i+1, got, err, want)
			}
			discreet(t, err)
			if n := len(b.requests()); n != i+1 {
				t.Errorf("%d to request %d: %d requests, want %d: nothing is repeated or followed", tt.code, i+1, n, i+1)
			}
		}
	}
}

func TestBarbicanGarbage(t *testing.T) {
	for name, answer := range map[string]func(w http.ResponseWriter, r *http.Request){
		"nothing": func(w http.ResponseWriter, r *http.Request) {},
		"html":    func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("<html>" + tokenA)) },
		"null":    func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("null")) },
		"an array": func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(`[{"secret_type":"certificate"}]`))
		},
		"no secret": func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("{}")) },
		"a wrong one": func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(`{"secret_type":["` + tokenA + `"]}`))
		},
		"no end": func(w http.ResponseWriter, r *http.Request) {
			for range 100 {
				_, _ = w.Write(bytes.Repeat([]byte(" "), 8<<10))
			}
			_, _ = w.Write([]byte(`{"secret_type":"certificate","status":"ACTIVE"}`))
		},
		"a broken body": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(`{"secret_type":"certificate"`))
		},
		"a broken connection": func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
	} {
		b := newBarbican(t)
		b.intercept(func(w http.ResponseWriter, r *http.Request) bool { answer(w, r); return true })
		_, err := b.source().Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: uuid, Token: tokenA})
		if got := class(err); got != "unavailable" {
			t.Errorf("%s: Certificate = %s (%v), want unavailable", name, got, err)
		}
		discreet(t, err)
	}
}

// A payload that breaks off is no shorter payload.
func TestBarbicanCutPayload(t *testing.T) {
	b := newBarbican(t)
	b.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/payload") {
			return false
		}
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write(b.payload()[:100])
		return true
	})
	_, err := b.source().Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: uuid, Token: tokenA})
	if got := class(err); got != "unavailable" {
		t.Errorf("Certificate = %s (%v), want unavailable", got, err)
	}
}

func TestBarbicanSlow(t *testing.T) {
	b := newBarbican(t)
	b.intercept(func(w http.ResponseWriter, r *http.Request) bool { <-r.Context().Done(); return true })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err := b.source().Certificate(ctx, certcache.Ref{Owner: ownerA, ID: uuid, Token: tokenA})
	if class(err) != "unavailable" || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Certificate = %v, want unavailable for the deadline", err)
	}
	discreet(t, err)
}

func TestBarbicanAway(t *testing.T) {
	b := newBarbican(t)
	src := b.source()
	b.Close()
	_, err := src.Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: uuid, Token: tokenA})
	if got := class(err); got != "unavailable" {
		t.Errorf("Certificate = %s (%v), want unavailable", got, err)
	}
	discreet(t, err)
}

// The token goes to no other host, and not even to another path of the same one.
func TestBarbicanRedirect(t *testing.T) {
	thief := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("redirect followed with X-Auth-Token %q", r.Header.Get("X-Auth-Token"))
	}))
	defer thief.Close()
	for _, code := range []int{301, 302, 303, 307, 308} {
		b := newBarbican(t)
		b.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, thief.URL+r.URL.Path, code)
			return true
		})
		client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return nil }}
		src := certcache.NewBarbican(certcache.BarbicanConfig{Endpoint: at(b.URL), HTTPClient: client})
		_, err := src.Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: uuid, Token: tokenA})
		if got := class(err); got != "unavailable" {
			t.Errorf("%d: Certificate = %s (%v), want unavailable", code, got, err)
		}
		discreet(t, err)
	}
}

// Only a canonical UUID becomes a path.
func TestID(t *testing.T) {
	b := newBarbican(t)
	sources := map[string]certcache.Source{
		"Barbican":  b.source(),
		"Cache":     certcache.NewCache(anything{}, certcache.CacheConfig{}),
		"Directory": certcache.NewDirectory(t.TempDir()),
	}
	for _, id := range []string{
		"", "x", strings.ToUpper(uuid), strings.ReplaceAll(uuid, "-", ""), uuid + "/", uuid + "\n", "/" + uuid, uuid[1:] + "/",
		"../" + uuid[3:], uuid[:35] + "?", uuid[:35] + "%", "0d5b6c1e+4a52+4e0b+9f6e+2f5a3c1d7e90", "0d5b6c1e-4a52-4e0b-9f6e-2f5a3c1d7e9g",
		b.URL + "/v1/secrets/" + uuid, "------------------------------------",
	} {
		for name, src := range sources {
			_, err := src.Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: id, Token: tokenA})
			if got := class(err); got != "not a certificate" {
				t.Errorf("%s: Certificate(%q) = %s, want not a certificate", name, id, got)
			}
		}
	}
	if paths := b.requests(); paths != nil {
		t.Errorf("requests %q, want none", paths)
	}
}

// anything has every certificate.
type anything struct{}

func (anything) Certificate(context.Context, certcache.Ref) (certcache.Certificate, error) {
	return certcache.Certificate{Data: []byte("x")}, nil
}

func TestBarbicanEndpoint(t *testing.T) {
	b := newBarbican(t)
	want := []string{"/v1/secrets/" + uuid, "/v1/secrets/" + uuid + "/payload"}
	for _, suffix := range []string{"", "/", "/v1", "/v1/", "//", "/?x=y", "/v1?x=y#z"} {
		src := certcache.NewBarbican(certcache.BarbicanConfig{Endpoint: at(b.URL + suffix)})
		_, err := src.Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: uuid, Token: tokenA})
		if got := b.requests(); err != nil || !slices.Equal(got, want) {
			t.Errorf("endpoint %q: requests %q, %v, want %q", suffix, got, err, want)
		}
	}
	src := certcache.NewBarbican(certcache.BarbicanConfig{Endpoint: at(b.URL + "/key-manager")})
	_, _ = src.Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: uuid, Token: tokenA})
	if got := b.requests(); len(got) == 0 || got[0] != "/key-manager/v1/secrets/"+uuid {
		t.Errorf("endpoint with a path: requests %q", got)
	}
	for _, bad := range []string{"", "key-manager", "ftp://host/", "http://", "/v1", "http://[::1/"} {
		src := certcache.NewBarbican(certcache.BarbicanConfig{Endpoint: at(bad)})
		_, err := src.Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: uuid, Token: tokenA})
		if got := class(err); got != "unavailable" {
			t.Errorf("endpoint %q: Certificate = %s, want unavailable", bad, got)
		}
	}
	away := errors.New("no catalog")
	src = certcache.NewBarbican(certcache.BarbicanConfig{Endpoint: func(context.Context) (string, error) { return "", away }})
	if _, err := src.Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: uuid, Token: tokenA}); class(err) != "unavailable" || !errors.Is(err, away) {
		t.Errorf("endpoint that cannot be found: Certificate = %v, want unavailable for %v", err, away)
	}
}

func TestBarbicanTLS(t *testing.T) {
	b := newBarbican(t)
	secure := httptest.NewTLSServer(b)
	defer secure.Close()
	for _, tt := range []struct {
		client *http.Client
		want   string
	}{{secure.Client(), "ok"}, {nil, "unavailable"}} {
		src := certcache.NewBarbican(certcache.BarbicanConfig{Endpoint: at(secure.URL), HTTPClient: tt.client})
		_, err := src.Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: uuid, Token: tokenA})
		if got := class(err); got != tt.want {
			t.Errorf("client %v: Certificate = %s (%v), want %s", tt.client, got, err, tt.want)
		}
	}
}
