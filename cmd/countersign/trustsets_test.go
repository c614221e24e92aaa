package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/countersign/countersign/config"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/signature"
)

// ca is a certificate with its key.
type ca struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newCA(t *testing.T, by *ca, name string, isCA bool, life time.Duration) *ca {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(life), BasicConstraintsValid: true, IsCA: isCA}
	if isCA {
		template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	if by == nil {
		by = &ca{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.certificate, key.Public(), by.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &ca{c, key}
}

func (c *ca) pem() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.certificate.Raw}))
}

func (c *ca) revokes(t *testing.T, life time.Duration, revoked ...*ca) string {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(life)}
	for _, one := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries, x509.RevocationListEntry{
			SerialNumber: one.certificate.SerialNumber, RevocationTime: list.ThisUpdate})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, c.certificate, c.key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der}))
}

// judged is the code of the refusal of a certificate by the policy in force.
func judged(t *testing.T, f *policyFile, c *ca) policy.Code {
	t.Helper()
	signer, err := signature.ParseCertificate(c.certificate.Raw)
	if err != nil {
		t.Fatal(err)
	}
	rule, err := f.For(policy.Subject{Owner: projectID})
	if err != nil {
		t.Fatal(err)
	}
	err = rule.CheckCertificate("11111111-2222-3333-4444-555555555555", signer, policy.Moment{Now: time.Now()})
	var refused *policy.Refusal
	if err != nil && !errors.As(err, &refused) {
		t.Fatal(err)
	}
	if refused == nil {
		return ""
	}
	return refused.Code
}

// fakeAnchors is a key manager's memory.
type fakeAnchors struct {
	mu      sync.Mutex
	have    map[string]string
	wanted  []string
	changes chan struct{}
}

func (a *fakeAnchors) Load(_ context.Context, ids []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.wanted = ids
}

func (a *fakeAnchors) Anchor(id string) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if text, ok := a.have[id]; ok {
		return []byte(text), nil
	}
	return nil, errors.New("the key manager is away")
}

func (a *fakeAnchors) Changes() <-chan struct{} { return a.changes }

func (a *fakeAnchors) set(id, text string) {
	a.mu.Lock()
	a.have[id] = text
	a.mu.Unlock()
	a.changes <- struct{}{}
}

const anchorID = "79a6ad17-3298-4e55-8b3a-1672dd93c40f"

// Trust sets follow their files, folders and the key manager.
func TestTrustSetsReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder := t.TempDir()
		at := func(name ...string) string { return filepath.Join(append([]string{folder}, name...)...) }
		root, other := newCA(t, nil, "Root", true, 20*24*time.Hour), newCA(t, nil, "Other", true, 90*24*time.Hour)
		middle := newCA(t, root, "Middle", true, 90*24*time.Hour)
		leaf, otherLeaf := newCA(t, middle, "Leaf", false, 90*24*time.Hour), newCA(t, other, "Leaf", false, 90*24*time.Hour)
		for _, name := range []string{"anchors", "crls"} {
			if err := os.Mkdir(at(name), 0o700); err != nil {
				t.Fatal(err)
			}
		}
		save(t, at("anchors", "middle.pem"), middle.pem())
		save(t, at("anchors", ".hidden"), "not looked at")
		save(t, at("crls", "root.pem"), root.revokes(t, 90*24*time.Hour))
		save(t, at("crls", "middle.pem"), middle.revokes(t, 90*24*time.Hour))
		save(t, at("policy.yaml"), `
trust:
  corp: {files: [anchors, root.pem], crls: [crls]}
  more: {certificates: `+anchorID+`}
rules: [{projects: all, mode: enforce, signers: [trust: corp, trust: more]}]
`)
		from := &fakeAnchors{have: map[string]string{}, changes: make(chan struct{})}
		log := new(sharedLog)
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		f, err := openPolicy(ctx, config.Config{PolicyFile: at("policy.yaml"), PolicyInterval: time.Minute, ProjectRefresh: time.Hour}, nil, from, zerolog.New(log))
		if err != nil {
			t.Fatal(err)
		}
		if len(from.wanted) != 1 || from.wanted[0] != anchorID {
			t.Errorf("asked the key manager for %v", from.wanted)
		}
		want := func(when string, signer *ca, code policy.Code) {
			t.Helper()
			if got := judged(t, f, signer); got != code {
				t.Errorf("%s: %q, want %q", when, got, code)
			}
		}
		want("nothing is there", leaf, policy.CodeAnchorsUnavailable)
		save(t, at("root.pem"), root.pem())
		wait(time.Minute)
		want("with the root", leaf, "")
		want("a stranger, and the key manager is away", otherLeaf, policy.CodeAnchorsUnavailable)
		from.set(anchorID, other.pem())
		wait(0)
		want("the key manager's", otherLeaf, "")

		save(t, at("crls", "root.pem"), root.revokes(t, 90*24*time.Hour, middle))
		wait(time.Minute)
		want("revoked", leaf, policy.CodeCertificateRevoked)
		want("another's", otherLeaf, "")
		if err := os.Remove(at("crls", "root.pem")); err != nil {
			t.Fatal(err)
		}
		wait(time.Minute)
		want("no list", leaf, policy.CodeRevocationUnknown)
		save(t, at("crls", "root.pem"), root.revokes(t, 90*24*time.Hour))
		wait(time.Minute)
		want("a list again", leaf, "")

		if told := log.take(); !strings.Contains(told, "expires within 30 days") || !strings.Contains(told, "CN=Root") {
			t.Errorf("the log does not tell of the root's end:\n%s", told)
		}
		wait(25 * time.Hour)
		if told := log.take(); strings.Count(told, "expires within 30 days") != 1 {
			t.Errorf("a day later the log does not tell once of the root's end:\n%s", told)
		}

		registry := prometheus.NewRegistry()
		f.measure(registry)
		text := gathered(t, registry)
		for set, first := range map[string]*ca{"corp": root, "more": other} {
			if got := text["countersign_anchor_expiry_timestamp_seconds{"+set+"}"]; got != float64(first.certificate.NotAfter.Unix()) {
				t.Errorf("set %s expires at %v, want %v", set, got, first.certificate.NotAfter.Unix())
			}
			if got, ok := text["countersign_trust_set_missing{"+set+"}"]; got != 0 || !ok {
				t.Errorf("set %s lacks %v", set, got)
			}
		}
	})
}

// gathered are the gauges of a registry, as name{label's value}.
func gathered(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for _, family := range families {
		for _, m := range family.GetMetric() {
			if len(m.GetLabel()) == 1 && m.GetGauge() != nil {
				values[family.GetName()+"{"+m.GetLabel()[0].GetValue()+"}"] = m.GetGauge().GetValue()
			}
		}
	}
	return values
}
