package proxy_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy"
	"github.com/countersign/countersign/proxy/receipt"
)

func exemptingStage(t *testing.T) *stage {
	t.Helper()
	rules, err := policy.Load(strings.NewReader(`
rules:
  - name: enforced
    projects: [{id: a}]
    mode: enforce
    signers: any
    services:
      users: [{id: user-nova}]
      mode: exempt
  - projects: all
    mode: audit
`))
	if err != nil {
		t.Fatal(err)
	}
	return newStage(t, func(c *proxy.Config) { c.Policies = rules })
}

func TestOnlyAListedServiceMayUploadUnsigned(t *testing.T) {
	data := random(t, 100_000)
	for _, test := range []struct {
		name, token string
		status      int
	}{
		{"no service token", "", 403},
		{"the user's own", tokenA, 403},
		{"one that Keystone does not know", "forged", 403},
		{"a service that is not listed", "token-cinder", 403},
		{"a listed service", "token-nova", 204},
	} {
		s := exemptingStage(t)
		id := s.image("a", nil)
		status, body := s.do("PUT", "/v2/images/"+id+"/file", tokenA, bytes.NewReader(data), "X-Service-Token", test.token)
		if status != test.status {
			t.Errorf("%s: unsigned upload = %d %s, want %d", test.name, status, body, test.status)
		}
		if status != 204 {
			continue
		}
		if r := s.receipt(id); r.Kind != receipt.Exempt || r.Service != "user-nova" || r.Size != 100_000 {
			t.Errorf("%s: the receipt is of kind %q, service %q, over %d bytes", test.name, r.Kind, r.Service, r.Size)
		}
	}
}

// A volume-backed snapshot has no data.
func TestAListedServiceMayUploadNothing(t *testing.T) {
	s := exemptingStage(t)
	id := s.image("a", nil)
	if status, body := s.do("PUT", "/v2/images/"+id+"/file", tokenA, nil, "X-Service-Token", "token-nova"); status != 204 {
		t.Errorf("empty upload = %d %s, want 204", status, body)
	}
	if r := s.receipt(id); r.Kind != receipt.Exempt || r.Size != 0 {
		t.Errorf("the receipt is of kind %q over %d bytes, want exempt over 0", r.Kind, r.Size)
	}
}

func TestAServiceDoesNotStage(t *testing.T) {
	s := exemptingStage(t)
	id := s.image("a", nil)
	status, body := s.do("PUT", "/v2/images/"+id+"/stage", tokenA, bytes.NewReader(random(t, 1000)), "X-Service-Token", "token-nova")
	if status != 403 || reason(body) != "signature_required" || s.glance.status(id) != "queued" {
		t.Errorf("stage = %d %s and the image is %s, want 403 signature_required and queued", status, body, s.glance.status(id))
	}
}

// What is signed is verified, whoever sends it.
func TestAServicesSignedUploadIsVerified(t *testing.T) {
	s := exemptingStage(t)
	data := random(t, 100_000)
	id := s.image("a", signed(t, data))
	status, body := s.do("PUT", "/v2/images/"+id+"/file", tokenA, bytes.NewReader(flipped(data, 7)), "X-Service-Token", "token-nova")
	if status != 400 || reason(body) != "signature_mismatch" {
		t.Errorf("upload = %d %s, want 400 signature_mismatch", status, body)
	}
}
