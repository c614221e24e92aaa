package policy_test

import (
	"crypto"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/signature"
)

// authority is a CA or a signer, with its key.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// issue makes a certificate, by itself where by is nil.
func issue(t testing.TB, by *authority, name string, isCA bool, notAfter time.Time) *authority {
	t.Helper()
	key := curveKey(t)
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(time.Now().UnixNano()),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-48 * time.Hour),
		NotAfter:              notAfter,
		BasicConstraintsValid: true,
		IsCA:                  isCA,
		KeyUsage:              x509.KeyUsageDigitalSignature,
	}
	if isCA {
		template.KeyUsage = x509.KeyUsageCertSign | x509.KeyUsageCRLSign
	}
	parent, signer := template, crypto.Signer(key)
	if by != nil {
		parent, signer = by.certificate, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{c, key}
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

func (a *authority) signer(t testing.TB) *signature.Certificate {
	t.Helper()
	c, err := signature.ParseCertificate(a.certificate.Raw)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// revoke makes a list of the serial numbers of some.
func (a *authority) revoke(t testing.TB, nextUpdate time.Time, revoked ...*authority) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: nextUpdate}
	for _, one := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: one.certificate.SerialNumber, RevocationTime: list.ThisUpdate})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, a.certificate, a.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

const (
	byTrust = "  - name: r\n    projects: all\n    mode: enforce\n    signers:\n      - trust: corp\n"
	rootID  = "11111111-2222-3333-4444-555555555555"
	otherID = "11111111-2222-3333-4444-666666666666"
)

// only is the rule of a policy that has one.
func only(t testing.TB, p *policy.Policy) *policy.Rule {
	t.Helper()
	r, err := p.For(policy.Subject{Owner: "someone"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTrustSets(t *testing.T) {
	later := time.Now().Add(24 * time.Hour)
	root := issue(t, nil, "Root", true, later)
	middle := issue(t, root, "Middle", true, later)
	leaf := issue(t, middle, "Leaf", false, later)
	stranger := issue(t, nil, "Leaf", false, later)
	now := policy.Moment{Now: time.Now()}

	inline := "trust:\n  corp:\n    pem: |\n" + indent(string(root.pem())+string(middle.pem())) + "\nrules:\n" + byTrust
	r := only(t, load(t, inline))
	expect(t, "inline", r.CheckCertificate(pinned, leaf.signer(t), now), "", "")
	expect(t, "stranger", r.CheckCertificate(pinned, stranger.signer(t), now), policy.CodeSignerNotTrusted, signature.PropertyCertificate)
	if err := r.CheckCertificate(pinned, stranger.signer(t), now); !strings.Contains(err.Error(), `trust set "corp": the signer, "CN=Leaf"`) {
		t.Errorf("the refusal says %v, and not which certificate failed", err)
	}
	if err := r.CheckID(pinned); err != nil {
		t.Errorf("CheckID = %v, though a set may vouch", err)
	}

	// What is outside of the file has to be loaded first.
	p := load(t, "trust:\n  corp:\n    certificates: "+rootID+", "+strings.ToUpper(otherID)+"\n    files: [middle.pem]\nrules:\n"+byTrust)
	if needs := p.Needs(); !slices.Equal(needs.Certificates, []string{rootID, otherID}) || !slices.Equal(needs.Files, []string{"middle.pem"}) {
		t.Errorf("Needs() = %+v", needs)
	}
	material := policy.Material{Certificates: map[string][]byte{}, Files: map[string][][]byte{}}
	expect(t, "nothing loaded", only(t, p.With(material)).CheckCertificate(pinned, leaf.signer(t), now), policy.CodeAnchorsUnavailable, signature.PropertyCertificate)
	material.Certificates[rootID] = root.pem()
	material.Files["middle.pem"] = [][]byte{middle.pem()}
	expect(t, "enough loaded", only(t, p.With(material)).CheckCertificate(pinned, leaf.signer(t), now), "", "")
	expect(t, "perhaps not enough loaded", only(t, p.With(material)).CheckCertificate(pinned, stranger.signer(t), now), policy.CodeAnchorsUnavailable, signature.PropertyCertificate)
	material.Certificates[otherID] = []byte("no certificate")
	loaded := p.With(material)
	expect(t, "all loaded", only(t, loaded).CheckCertificate(pinned, stranger.signer(t), now), policy.CodeSignerNotTrusted, signature.PropertyCertificate)
	expect(t, "resolved since", only(t, loaded.Resolve(nil)).CheckCertificate(pinned, leaf.signer(t), now), "", "")
	if states := loaded.Resolve(nil).Sets(); len(states) != 1 || states[0].Name != "corp" || len(states[0].Certificates) != 2 || len(states[0].Problems) != 1 || len(states[0].Missing) != 0 {
		t.Errorf("Sets() = %+v", states)
	}
	expect(t, "the policy before", only(t, p).CheckCertificate(pinned, leaf.signer(t), now), policy.CodeAnchorsUnavailable, signature.PropertyCertificate)

	// Another signer of the rule decides without the set.
	p = load(t, "trust:\n  corp: {files: [a]}\n  more: {files: [b]}\nrules:\n"+byTrust+"      - trust: more\n      - certificate: "+pinned+"\n")
	expect(t, "by id", only(t, p).CheckCertificate(pinned, stranger.signer(t), now), "", "")
	expect(t, "by no id", only(t, p).CheckCertificate(other, stranger.signer(t), now), policy.CodeAnchorsUnavailable, signature.PropertyCertificate)
	some := policy.Material{Files: map[string][][]byte{"b": {root.pem(), middle.pem()}}}
	expect(t, "by the other set", only(t, p.With(some)).CheckCertificate(other, leaf.signer(t), now), "", "")
}

func TestTrustRevocation(t *testing.T) {
	later := time.Now().Add(24 * time.Hour)
	root := issue(t, nil, "Root", true, later)
	middle := issue(t, root, "Middle", true, later)
	leaf := issue(t, middle, "Leaf", false, later).signer(t)
	now := policy.Moment{Now: time.Now()}
	p := load(t, "trust:\n  corp: {files: [certs], crls: [lists]}\nrules:\n"+byTrust)
	check := func(lists ...[]byte) error {
		return only(t, p.With(policy.Material{Files: map[string][][]byte{"certs": {root.pem(), middle.pem()}, "lists": lists}})).CheckCertificate(pinned, leaf, now)
	}
	const property = signature.PropertyCertificate
	expect(t, "good lists", check(root.revoke(t, later), middle.revoke(t, later)), "", "")
	expect(t, "intermediate revoked", check(root.revoke(t, later, middle), middle.revoke(t, later)), policy.CodeCertificateRevoked, property)
	expect(t, "a list gone", check(middle.revoke(t, later)), policy.CodeRevocationUnknown, property)
	expect(t, "all lists gone", check(), policy.CodeRevocationUnknown, property)
	expect(t, "a stale list", check(root.revoke(t, time.Now().Add(-time.Minute)), middle.revoke(t, later)), policy.CodeRevocationUnknown, property)
	missing := only(t, p.With(policy.Material{Files: map[string][][]byte{"certs": {root.pem(), middle.pem()}}}))
	expect(t, "lists not loaded", missing.CheckCertificate(pinned, leaf, now), policy.CodeAnchorsUnavailable, property)
}

func TestExpired(t *testing.T) {
	expired := time.Now().Add(-time.Hour)
	root := issue(t, nil, "Root", true, time.Now().Add(time.Hour))
	leaf := issue(t, root, "Leaf", false, expired).signer(t)
	text := "trust:\n  corp:\n    pem: |\n" + indent(string(root.pem())) + "\nrules:\n" + byTrust
	for _, test := range []struct {
		extra    string
		verified time.Time
		want     bool
	}{
		{"", time.Time{}, false},
		{"", expired.Add(-time.Minute), false},
		{"    expired: refuse\n", expired.Add(-time.Minute), false},
		{"    expired: accept_if_verified_before\n", time.Time{}, false},
		{"    expired: accept_if_verified_before\n", expired.Add(-time.Minute), true},
		{"    expired: accept_if_verified_before\n", expired.Add(time.Minute), false},
		{"    expired: accept_if_verified_before\n", time.Now().Add(time.Hour), false}, // a receipt from the future
	} {
		err := only(t, load(t, text+test.extra)).CheckCertificate(pinned, leaf, policy.Moment{Now: time.Now(), Verified: test.verified})
		var property *signature.PropertyError
		if (err == nil) != test.want || !test.want && !errors.As(err, &property) {
			t.Errorf("%q, verified at %v: %v, want it accepted: %v", test.extra, test.verified, err, test.want)
		}
	}
}

func TestDenied(t *testing.T) {
	later := time.Now().Add(time.Hour)
	root := issue(t, nil, "Root", true, later)
	middle := issue(t, root, "Middle", true, later)
	leaf := issue(t, middle, "Leaf", false, later).signer(t)
	now := policy.Moment{Now: time.Now()}
	deny := func(fingerprint string) string { return "deny:\n  certificates: ['" + fingerprint + "']\n" }
	sets := "trust:\n  corp:\n    pem: |\n" + indent(string(root.pem())+string(middle.pem())) + "\nrules:\n" + byTrust
	anybody := "rules:\n  - name: r\n    projects: all\n    mode: enforce\n    signers: any\n"
	const property = signature.PropertyCertificate

	expect(t, "nobody", only(t, load(t, anybody)).CheckCertificate(pinned, leaf, now), "", "")
	expect(t, "the signer, of any", only(t, load(t, deny(leaf.Fingerprint())+anybody)).CheckCertificate(pinned, leaf, now), policy.CodeCertificateDenied, property)
	expect(t, "an intermediate", only(t, load(t, deny(middle.signer(t).Fingerprint())+sets)).CheckCertificate(pinned, leaf, now), policy.CodeCertificateDenied, property)
	expect(t, "another", only(t, load(t, deny(strings.Repeat("0", 64))+sets)).CheckCertificate(pinned, leaf, now), "", "")
	colons := strings.ToUpper(strings.Join(pairs(leaf.Fingerprint()), ":"))
	expect(t, "as openssl shows it", only(t, load(t, deny("sha256 Fingerprint="+colons)+anybody)).CheckCertificate(pinned, leaf, now), policy.CodeCertificateDenied, property)

	data := []byte("an image")
	short, long := sha256.Sum256(data), sha512.Sum512(data)
	r := only(t, load(t, fmt.Sprintf("deny:\n  images: ['SHA-256:%X']\n", short)+anybody))
	if methods := r.DenyMethods(); !slices.Equal(methods, []signature.HashMethod{signature.SHA256}) {
		t.Errorf("DenyMethods() = %v", methods)
	}
	err := r.CheckDigest(signature.SHA256, short[:])
	expect(t, "image", err, policy.CodeImageDenied, signature.PropertySignature)
	if !errors.Is(err, signature.ErrMismatch) {
		t.Errorf("%v is no ErrMismatch", err)
	}
	expect(t, "by another method", r.CheckDigest(signature.SHA512, long[:]), "", "")
	expect(t, "another image", r.CheckDigest(signature.SHA256, long[:32]), "", "")
	if r := only(t, load(t, anybody)); r.DenyMethods() != nil || r.CheckDigest(signature.SHA256, short[:]) != nil {
		t.Error("a policy without deny denies")
	}
}

func pairs(digits string) []string {
	var list []string
	for i := 0; i+2 <= len(digits); i += 2 {
		list = append(list, digits[i:i+2])
	}
	return list
}

// FuzzLoadTrust: whatever the sets say, there is a policy or a list of mistakes.
func FuzzLoadTrust(f *testing.F) {
	f.Add("corp: {files: [a], subjects: ['CN=a*,O=b'], extended_key_usage: [codeSigning]}", hex.EncodeToString(make([]byte, 32)))
	f.Fuzz(func(t *testing.T, set, fingerprint string) {
		p, err := policy.Load(strings.NewReader("trust:\n  " + set + "\ndeny:\n  certificates: ['" + fingerprint + "']\nrules:\n" + byTrust))
		var mistakes *policy.Error
		if (p == nil) == (err == nil) || err != nil && !errors.As(err, &mistakes) {
			t.Errorf("Load = %v, %v", p, err)
		}
	})
}
