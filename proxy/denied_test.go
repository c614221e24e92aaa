package proxy_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy"
	"github.com/countersign/countersign/signature"
)

// changing is a policy that is exchanged, as by its file.
type changing struct{ current atomic.Pointer[policy.Policy] }

func (c *changing) For(s policy.Subject) (*policy.Rule, error) { return c.current.Load().For(s) }
func (c *changing) Enforcing() bool                            { return c.current.Load().Enforcing() }
func (c *changing) LooksAtVisibility() bool                    { return c.current.Load().LooksAtVisibility() }
func (c *changing) GuardsDownloads() policy.Mode               { return c.current.Load().GuardsDownloads() }

func (c *changing) load(t testing.TB, text string) {
	t.Helper()
	p, err := policy.Load(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c.current.Store(p)
}

// TestDeniedImage: data that the policy denies is refused as wrong data is,
// whatever its signature says, by a digest of any method.
func TestDeniedImage(t *testing.T) {
	rules := new(changing)
	rules.load(t, testPolicy)
	s := newStage(t, func(c *proxy.Config) { c.Policies = rules })
	data := random(t, 3*signature.Tail)
	short, long := sha256.Sum256(data), sha512.Sum512(data)
	for _, digest := range []string{fmt.Sprintf("SHA-256:%x", short), fmt.Sprintf("SHA-512:%X", long)} {
		rules.load(t, "deny:\n  images: ['"+digest+"']"+testPolicy)
		id := s.image("a", signed(t, data))
		if status, body := s.upload(id, tokenA, data, true); status != 403 || reason(body) != "image_denied" {
			t.Errorf("%.12s: upload = %d %s, want 403 image_denied", digest, status, body)
		}
		if got := s.glance.status(id); got != "gone" {
			t.Errorf("%.12s: after the upload the image is %s, want gone", digest, got)
		}
		if got := len(s.glance.stored(id)); got > len(data)-signature.Tail {
			t.Errorf("%.12s: of %d bytes Glance saw %d", digest, len(data), got)
		}
		other := append(bytes.Clone(data), 0)
		if status, body := s.upload(s.image("a", signed(t, other)), tokenA, other, false); status != 204 {
			t.Errorf("%.12s: upload of other data = %d %s, want 204", digest, status, body)
		}
	}
}

// TestDeniedCertificate: it is refused before the data, and what it signed is
// vouched for no more.
func TestDeniedCertificate(t *testing.T) {
	rules := new(changing)
	rules.load(t, testPolicy)
	s := newStage(t, func(c *proxy.Config) { c.Policies = rules })
	data := random(t, 10)
	id := s.image("a", signed(t, data))
	if status, body := s.upload(id, tokenA, data, false); status != 204 {
		t.Fatalf("upload = %d %s, want 204", status, body)
	}
	c, err := signature.ParseCertificate(certificatePEM())
	if err != nil {
		t.Fatal(err)
	}
	rules.load(t, "deny:\n  certificates: ['"+c.Fingerprint()+"']"+testPolicy)
	if status, body := s.upload(s.image("a", signed(t, data)), tokenA, data, false); status != 403 || reason(body) != "certificate_denied" {
		t.Errorf("upload = %d %s, want 403 certificate_denied", status, body)
	}
	for denied, want := range map[string]string{
		"deny:\n  certificates: ['" + c.Fingerprint() + "']":                          "certificate_denied",
		"deny:\n  images: ['SHA-512:" + fmt.Sprintf("%x", sha512.Sum512(data)) + "']": "image_denied",
	} {
		rules.load(t, denied+testPolicy)
		status, body := s.do("POST", "/v2/images/"+id+"/actions/reactivate", tokenA, nil)
		if status != 403 || reason(body) != want {
			t.Errorf("reactivate = %d %s, want 403 %s", status, body, want)
		}
	}
	rules.load(t, testPolicy)
	if status, body := s.do("POST", "/v2/images/"+id+"/actions/reactivate", tokenA, nil); status/100 != 2 {
		t.Errorf("reactivate = %d %s, want it done", status, body)
	}
}

// What a trust set lacks today is no verdict: a scan leaves the image alone.
func TestScanWithoutAnchors(t *testing.T) {
	rules := new(changing)
	rules.load(t, "trust:\n  corp: {files: [nowhere]}\nrules: [{projects: all, mode: enforce, unverified: delete, signers: [trust: corp]}]\n")
	s := newScanStage(t, func(c *proxy.Config) { c.Policies = rules })
	data := random(t, 100)
	id := s.has("x", data, signed(t, data))
	if f := s.scan(proxy.Scan{})[id]; f.Verdict != proxy.Undecided || code(f) != "anchors_unavailable" || f.Action != proxy.None {
		t.Errorf("scan: %s %s %s, want %s anchors_unavailable", f.Verdict, code(f), f.Action, proxy.Undecided)
	}
}
