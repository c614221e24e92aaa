package policy_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/signature"
)

// certify makes a certificate that the key signs for itself.
func certify(t testing.TB, key crypto.Signer) (*signature.Certificate, string) {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: "image signing"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	c, err := signature.ParseCertificate(text)
	if err != nil {
		t.Fatal(err)
	}
	return c, string(text)
}

func rsaKey(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func curveKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// indent makes text a YAML block scalar below a list item of a rule.
func indent(text string) string {
	return "          " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n          ")
}

// rule loads a policy whose only rule has these lines, and returns the rule.
func rule(t testing.TB, lines string) *policy.Rule {
	t.Helper()
	r, err := load(t, "rules:\n  - name: r\n    projects: all\n"+lines).For(policy.Subject{Owner: "someone"})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

const (
	pinned = "cd7cc675-e573-419c-8fff-33a72734a243"
	other  = "cd7cc675-e573-419c-8fff-33a72734a244"
)

// expect compares an error with the code of the refusal wanted; "" is none.
func expect(t testing.TB, what string, err error, code policy.Code, property string) {
	t.Helper()
	if code == "" {
		if err != nil {
			t.Errorf("%s: %v, want it allowed", what, err)
		}
		return
	}
	var r *policy.Refusal
	if !errors.As(err, &r) || r.Code != code || r.Property != property {
		t.Errorf("%s: %v, want refusal %s of %s", what, err, code, property)
		return
	}
	if !strings.Contains(r.Problem, `"r"`) || r.Cure == "" {
		t.Errorf("%s: %+v, want a problem that names the rule, and a cure", what, *r)
	}
}

func TestCheckSpec(t *testing.T) {
	var r *policy.Rule
	allow := func(key signature.KeyType, hash signature.HashMethod) {
		t.Helper()
		expect(t, string(key)+" "+string(hash), r.CheckSpec(signature.Spec{KeyType: key, HashMethod: hash}), "", "")
	}
	deny := func(key signature.KeyType, hash signature.HashMethod, code policy.Code, property string) {
		t.Helper()
		expect(t, string(key)+" "+string(hash), r.CheckSpec(signature.Spec{KeyType: key, HashMethod: hash}), code, property)
	}
	const keyType, hashMethod = signature.PropertyKeyType, signature.PropertyHashMethod

	r = rule(t, "    mode: enforce\n    signers: any")
	for _, key := range signature.KeyTypes {
		for _, hash := range signature.HashMethods {
			allow(key, hash)
		}
	}
	deny("", "SHA-256", policy.CodeKeyTypeNotAllowed, keyType)
	deny("RSA-PSS", "", policy.CodeHashMethodNotAllowed, hashMethod)

	r = rule(t, "    mode: enforce\n    signers: any\n    key_types: [RSA-PSS, ECC_SECP384R1]\n    hash_methods: [SHA-256, SHA-512]")
	allow("RSA-PSS", "SHA-256")
	allow("ECC_SECP384R1", "SHA-512")
	deny("DSA", "SHA-256", policy.CodeKeyTypeNotAllowed, keyType)
	deny("ECC_SECP521R1", "SHA-512", policy.CodeKeyTypeNotAllowed, keyType)
	deny("rsa-pss", "SHA-256", policy.CodeKeyTypeNotAllowed, keyType)
	deny("RSA-PSS", "SHA-224", policy.CodeHashMethodNotAllowed, hashMethod)
	deny("RSA-PSS", "SHA-384", policy.CodeHashMethodNotAllowed, hashMethod)
	deny("DSA", "SHA-224", policy.CodeKeyTypeNotAllowed, keyType)
}

func TestCheckCertificate(t *testing.T) {
	small, _ := certify(t, rsaKey(t, 1024))
	large, largePEM := certify(t, rsaKey(t, 2048))
	curve, _ := certify(t, curveKey(t))

	var r *policy.Rule
	allow := func(id string, c *signature.Certificate) {
		t.Helper()
		expect(t, id+" "+c.Fingerprint(), r.CheckCertificate(id, c, policy.Moment{Now: time.Now()}), "", "")
	}
	deny := func(id string, c *signature.Certificate, code policy.Code) {
		t.Helper()
		expect(t, id+" "+c.Fingerprint(), r.CheckCertificate(id, c, policy.Moment{Now: time.Now()}), code, signature.PropertyCertificate)
	}

	r = rule(t, "    mode: enforce\n    signers: any")
	allow(pinned, small)
	allow(other, curve)

	// An id pins what the key manager has under it, whatever that is.
	r = rule(t, "    mode: enforce\n    signers:\n      - certificate: CD7CC675E573419C8FFF33A72734A243")
	allow(pinned, small)
	allow(pinned, curve)
	deny(other, small, policy.CodeSignerNotTrusted)
	deny("", small, policy.CodeSignerNotTrusted)

	// A certificate in PEM is this one, wherever it is stored.
	r = rule(t, "    mode: enforce\n    signers:\n      - pem: |\n"+indent(largePEM))
	allow(pinned, large)
	allow(other, large)
	deny(pinned, small, policy.CodeSignerNotTrusted)
	deny("", curve, policy.CodeSignerNotTrusted)

	r = rule(t, "    mode: enforce\n    signers:\n      - certificate: "+pinned+"\n      - pem: |\n"+indent(largePEM))
	allow(other, large)
	allow(pinned, curve)
	deny(other, curve, policy.CodeSignerNotTrusted)

	// The size is asked of RSA keys only.
	r = rule(t, "    mode: enforce\n    signers: any\n    min_rsa_bits: 2048")
	allow(pinned, large)
	allow(pinned, curve)
	deny(pinned, small, policy.CodeKeyTooSmall)
	r = rule(t, "    mode: enforce\n    signers: any\n    min_rsa_bits: 2049")
	deny(pinned, large, policy.CodeKeyTooSmall)
	r = rule(t, "    mode: enforce\n    signers: any\n    min_rsa_bits: 1024")
	allow(pinned, small)

	// In audit mode the checks say the same; Failed says what comes of it.
	r = rule(t, "    mode: audit\n    signers:\n      - certificate: "+pinned)
	deny(other, small, policy.CodeSignerNotTrusted)
	r = rule(t, "    mode: audit")
	allow(other, small)
}

func TestDecide(t *testing.T) {
	spec := signature.Spec{Signature: []byte{1}, KeyType: "RSA-PSS", HashMethod: "SHA-256", CertificateID: pinned}
	weak := signature.Spec{Signature: []byte{1}, KeyType: "RSA-PSS", HashMethod: "SHA-224", CertificateID: pinned}
	malformed := &signature.PropertyError{Code: signature.CodePropertyInvalid, Property: signature.PropertySignature, Problem: "is not base64"}
	const good, bad, broken, none = "good", "weak", "malformed", "unsigned"

	rules := map[policy.Mode]*policy.Rule{
		policy.Off:     rule(t, "    mode: off\n    hash_methods: [SHA-256]"),
		policy.Audit:   rule(t, "    mode: audit\n    hash_methods: [SHA-256]"),
		policy.Enforce: rule(t, "    mode: enforce\n    signers: any\n    hash_methods: [SHA-256]"),
		"unheard of":   {Name: "r", Mode: "unheard of"},
	}
	for _, test := range []struct {
		mode   policy.Mode
		image  string
		want   policy.Action
		reason string // the code, "" for no reason
	}{
		{policy.Off, good, policy.Pass, ""},
		{policy.Off, bad, policy.Pass, ""},
		{policy.Off, broken, policy.Pass, ""},
		{policy.Off, none, policy.Pass, ""},
		{policy.Audit, good, policy.Verify, ""},
		{policy.Audit, bad, policy.Pass, "hash_method_not_allowed"},
		{policy.Audit, broken, policy.Pass, "property_invalid"},
		{policy.Audit, none, policy.Pass, "signature_required"},
		{policy.Enforce, good, policy.Verify, ""},
		{policy.Enforce, bad, policy.Refuse, "hash_method_not_allowed"},
		{policy.Enforce, broken, policy.Refuse, "property_invalid"},
		{policy.Enforce, none, policy.Refuse, "signature_required"},
		{"unheard of", good, policy.Refuse, "key_type_not_allowed"},
		{"unheard of", none, policy.Refuse, "signature_required"},
	} {
		var d policy.Decision
		switch r := rules[test.mode]; test.image {
		case good:
			d = r.Decide(spec, nil)
		case bad:
			d = r.Decide(weak, nil)
		case broken:
			d = r.Decide(signature.Spec{}, malformed)
		case none:
			d = r.Decide(signature.Spec{}, signature.ErrUnsigned)
		}
		var code string
		var refusal *policy.Refusal
		var property *signature.PropertyError
		if errors.As(d.Reason, &refusal) {
			code = string(refusal.Code)
		} else if errors.As(d.Reason, &property) {
			code = string(property.Code)
		}
		if d.Action != test.want || code != test.reason {
			t.Errorf("%s, %s image: %v because of %q, want %v because of %q", test.mode, test.image, d.Action, code, test.want, test.reason)
		}
	}
	if (policy.Decision{}).Action != policy.Refuse {
		t.Error("the zero Decision does not refuse")
	}
}
