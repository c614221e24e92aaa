//go:build e2e

package e2e_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/signature"
	"github.com/countersign/countersign/signature/trust"
)

// cursiveProgram reads cases, a JSON object a line, and answers each with what
// cursive says: accepted, refused (its own error), crashed (any other) or
// endless. The key manager is replaced; nothing else is.
const cursiveProgram = `
import base64, json, signal, sys, warnings
warnings.simplefilter("ignore")
from cryptography import x509, exceptions
from cursive import certificate_utils, signature_utils, exception

class Endless(BaseException):
    pass

def alarm(*_):
    raise Endless()

signal.signal(signal.SIGALRM, alarm)
for line in sys.stdin:
    case = json.loads(line)
    held = case["held"]
    def get(context, uuid):
        return x509.load_der_x509_certificate(base64.b64decode(held[int(uuid)]))
    signature_utils.get_certificate = get
    signal.setitimer(signal.ITIMER_REAL, 3)
    try:
        if case.get("properties"):
            p = case["properties"]
            v = signature_utils.get_verifier(None, "0", p["img_signature_hash_method"], p["img_signature"], p["img_signature_key_type"])
            v.update(base64.b64decode(case["data"]))
            v.verify()
        else:
            certificate_utils.verify_certificate(None, "0", [str(i) for i in range(1, len(held))])
        verdict = "accepted"
    except Endless:
        verdict = "endless"
    except (exception.SignatureVerificationError, exceptions.InvalidSignature):
        verdict = "refused"
    except Exception as e:
        verdict = "crashed"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    print(verdict, flush=True)
`

// disagreements are the classes of cases in which cursive and Countersign say
// different things, and who is right. docs/compatibility.md has the table.
var disagreements = []disagreement{
	{"a CA without a limit of its path's length", "crashed", "accepted", "Countersign: the limit is optional (RFC 5280, section 4.2.1.9), and most roots have none"},
	{"a CA without keyUsage", "refused", "accepted", "both: RFC 5280 wants CAs to have it, and lets validation pass without (6.1.4 n)"},
	{"a CA's certificate for its own new key", "refused", "accepted", "Countersign: self-issued certificates do not count against a path's length (RFC 5280, section 6.1.4 l)"},
	{"names that differ in case and blanks", "refused", "accepted", "Countersign: they are the same name (RFC 5280, section 7.1)"},
	{"CAs that certify each other, without a root", "endless", "refused", "Countersign"},
	{"CAs that certify each other, and a root", "endless", "accepted", "Countersign"},
	{"an unreadable entry in the list", "crashed", "accepted", "Countersign: the others are not to blame"},
	{"a namesake of another key type in the list", "crashed", "accepted", "Countersign: the next one is the issuer"},
	{"an Ed25519 issuer", "crashed", "accepted", "Countersign"},
	{"a certificate signed with RSA-PSS", "refused", "accepted", "Countersign: cursive checks PKCS#1 v1.5 alone"},
	{"a certificate signed with SHA-1", "accepted", "refused", "Countersign: SHA-1 collisions are within reach"},
	{"a CA with an RSA key of 1024 bits", "accepted", "refused", "Countersign, unless the set's min_rsa_bits says otherwise"},
	{"an unknown critical extension", "accepted", "refused", "Countersign (RFC 5280, section 4.2)"},
	{"a name outside of a CA's name constraints", "accepted", "refused", "Countersign (RFC 5280, section 4.2.1.10)"},
	{"a signer whose key is for encryption", "accepted", "refused", "Countersign (RFC 5280, section 4.2.1.3)"},
	{"another curve than the key type names", "accepted", "refused", "Countersign: the property says which curve it is"},
	{"base64 with stray characters", "accepted", "refused", "Countersign: a value with two readings has none"},
}

type disagreement struct {
	class         string
	cursive, ours string
	right         string
}

// comparison is something that both are asked about.
type comparison struct {
	class      string // "" where they should agree
	name       string
	Held       []string          `json:"held"` // the signer's certificate, then the listed ones; DER in base64
	Properties map[string]string `json:"properties,omitempty"`
	Data       string            `json:"data,omitempty"` // base64
	want       string            // where they should agree
}

// made is a certificate with its key.
type made struct {
	der []byte
	key crypto.Signer
}

var serials int64

// build makes a certificate from a template, whose gaps it fills: a CA of
// path length 3 for isCA, dates around now.
func build(t *testing.T, by *made, key crypto.Signer, name string, isCA bool, change func(*x509.Certificate)) *made {
	t.Helper()
	serials++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serials), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		BasicConstraintsValid: true, IsCA: isCA, KeyUsage: x509.KeyUsageDigitalSignature,
	}
	if isCA {
		template.KeyUsage, template.MaxPathLen = x509.KeyUsageCertSign, 3
	}
	if change != nil {
		change(template)
	}
	parent, signer := template, key
	if by != nil {
		var err error
		if parent, err = x509.ParseCertificate(by.der); err != nil {
			t.Fatal(err)
		}
		signer = by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return &made{der, key}
}

func (m *made) text() string { return base64.StdEncoding.EncodeToString(m.der) }

// spoiled has another signature.
func (m *made) spoiled() *made {
	der := bytes.Clone(m.der)
	der[len(der)-1] ^= 1
	return &made{der, m.key}
}

// chainCases are chains of every length and kind of key with every defect at
// every place.
func chainCases(t *testing.T) []comparison {
	t.Helper()
	rsaKeys := []crypto.Signer{}
	for range 4 {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		rsaKeys = append(rsaKeys, key)
	}
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	ec := func(curve elliptic.Curve) func(int) crypto.Signer {
		return func(int) crypto.Signer {
			key, err := ecdsa.GenerateKey(curve, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			return key
		}
	}
	kinds := []struct {
		name string
		key  func(int) crypto.Signer
	}{
		{"RSA", func(i int) crypto.Signer { return rsaKeys[i%len(rsaKeys)] }},
		{"P-256", ec(elliptic.P256())}, {"P-384", ec(elliptic.P384())}, {"P-521", ec(elliptic.P521())},
	}
	defects := []struct {
		name, class, want string
		where             func(position, length int) bool // nil: everywhere
		change            func(*x509.Certificate)
		key               crypto.Signer
		spoil             bool
	}{
		{name: "sound", want: "accepted", where: func(p, _ int) bool { return p == 0 }},
		{name: "wrong signature", want: "refused", where: notLast, spoil: true},
		{name: "expired", want: "refused", change: func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }},
		{name: "not yet valid", want: "refused", change: func(c *x509.Certificate) { c.NotBefore = time.Now().Add(30 * time.Minute) }},
		{name: "no CA", want: "refused", where: notFirst, change: func(c *x509.Certificate) { c.IsCA, c.MaxPathLen = false, 0 }},
		{name: "no keyCertSign", want: "refused", where: notFirst, change: func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageCRLSign }},
		{name: "too long", want: "refused", where: func(p, _ int) bool { return p > 1 }, change: func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true }},
		{name: "no path length", class: "a CA without a limit of its path's length", where: notFirst, change: func(c *x509.Certificate) { c.MaxPathLen = -1 }},
		{name: "no keyUsage", class: "a CA without keyUsage", where: notFirst, change: func(c *x509.Certificate) { c.KeyUsage = 0 }},
		{name: "SHA-1", class: "a certificate signed with SHA-1", where: notLast, change: func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA1WithRSA }},
		{name: "RSA-PSS", class: "a certificate signed with RSA-PSS", where: notLast, change: func(c *x509.Certificate) { c.SignatureAlgorithm = x509.SHA256WithRSAPSS }},
		{name: "RSA 1024", class: "a CA with an RSA key of 1024 bits", where: notFirst, key: small},
		{name: "critical extension", class: "an unknown critical extension", change: func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3, 4}, Critical: true, Value: []byte{5, 0}})
		}},
		{name: "name constraints", class: "a name outside of a CA's name constraints", where: notFirst, change: func(c *x509.Certificate) {
			c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"example.com"}
		}},
		{name: "key for encryption", class: "a signer whose key is for encryption", where: func(p, _ int) bool { return p == 0 }, change: func(c *x509.Certificate) {
			c.KeyUsage = x509.KeyUsageKeyEncipherment
		}},
	}
	var cases []comparison
	for _, kind := range kinds {
		for length := 2; length <= 4; length++ {
			for _, defect := range defects {
				rsaOnly := defect.class == "a certificate signed with SHA-1" || defect.class == "a certificate signed with RSA-PSS"
				if rsaOnly && kind.name != "RSA" {
					continue
				}
				for at := range length {
					if defect.where != nil && !defect.where(at, length) {
						continue
					}
					chain := make([]*made, length)
					var by *made
					for i := length - 1; i >= 0; i-- {
						key := kind.key(i)
						var change func(*x509.Certificate)
						if i == at {
							change = defect.change
							if defect.key != nil {
								key = defect.key
							}
						}
						first := change
						if i == 0 {
							change = func(c *x509.Certificate) {
								c.DNSNames = []string{"builder.acme.example"}
								if first != nil {
									first(c)
								}
							}
						}
						by = build(t, by, key, fmt.Sprintf("%s %d of %d", defect.name, i, length), i > 0, change)
						if i == at && defect.spoil {
							by = by.spoiled()
						}
						chain[i] = by
					}
					c := comparison{class: defect.class, want: defect.want, name: fmt.Sprintf("%s, %s at %d of %d", kind.name, defect.name, at, length)}
					for _, one := range chain {
						c.Held = append(c.Held, one.text())
					}
					cases = append(cases, c)
					if defect.name == "sound" { // without one of the listed
						for without := 1; without < length; without++ {
							cut := c
							cut.name, cut.want = fmt.Sprintf("%s, without %d of %d", kind.name, without, length), "refused"
							cut.Held = slices.Delete(slices.Clone(c.Held), without, without+1)
							cases = append(cases, cut)
						}
					}
				}
			}
		}
	}
	return append(cases, oddCases(t, ec(elliptic.P256()))...)
}

func notLast(position, length int) bool { return position < length-1 }
func notFirst(position, _ int) bool     { return position > 0 }

// oddCases are those that no single defect makes.
func oddCases(t *testing.T, newKey func(int) crypto.Signer) []comparison {
	key := func() crypto.Signer { return newKey(0) }
	root := build(t, nil, key(), "Root", true, nil)
	leaf := build(t, root, key(), "Leaf", false, nil)
	namesake := build(t, nil, key(), "Root", true, nil)
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edRoot := build(t, nil, edKey, "Root", true, nil)
	a, b := build(t, nil, key(), "A", true, nil), build(t, nil, key(), "B", true, nil)
	aByB, bByA := build(t, b, a.key, "A", true, nil), build(t, a, b.key, "B", true, nil)
	crossed := build(t, a, key(), "Leaf", false, nil)
	aByRoot := build(t, root, a.key, "A", true, nil)
	short := build(t, nil, key(), "Rollover", true, func(c *x509.Certificate) { c.MaxPathLen, c.MaxPathLenZero = 0, true })
	rollover := build(t, short, key(), "Rollover", true, nil)
	alone := build(t, nil, key(), "Alone", false, nil)
	ownCA := build(t, nil, key(), "Own", true, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageDigitalSignature })
	other := build(t, root, key(), "Leaf", false, nil)
	other.der = bytes.Replace(other.der, []byte("Root"), []byte("ROOT"), 1) // the signature is made anew below
	differently := build(t, &made{build(t, nil, root.key, "ROOT", true, nil).der, root.key}, key(), "Leaf", false, nil)

	of := func(class, name, want string, held ...*made) comparison {
		c := comparison{class: class, name: name, want: want}
		for _, one := range held {
			c.Held = append(c.Held, one.text())
		}
		return c
	}
	return []comparison{
		of("", "nothing listed", "refused", leaf),
		of("", "a namesake of the root", "refused", leaf, namesake),
		of("", "a namesake before the root", "accepted", leaf, namesake, root),
		of("", "listed twice", "accepted", leaf, root, root),
		of("", "its own signer, no CA", "refused", alone),
		of("", "its own signer, no CA, listed", "refused", alone, alone),
		of("", "its own signer, a CA, listed", "accepted", ownCA, ownCA),
		of("", "names changed after signing", "refused", other, root),
		of("a namesake of another key type in the list", "an Ed25519 namesake before the root", "", leaf, edRoot, root),
		of("an Ed25519 issuer", "an Ed25519 root", "", build(t, edRoot, key(), "Leaf", false, nil), edRoot),
		of("CAs that certify each other, without a root", "crossed", "", crossed, aByB, bByA),
		of("CAs that certify each other, and a root", "crossed, and a root", "", crossed, aByB, bByA, aByRoot, root),
		of("a CA's certificate for its own new key", "rollover", "", build(t, rollover, key(), "Leaf", false, nil), rollover, short),
		of("names that differ in case and blanks", "case", "", differently, root),
		of("an unreadable entry in the list", "unreadable", "", leaf, &made{der: root.der[:50]}, root),
	}
}

// signatureCases are signatures as they are and as they are not to be.
func signatureCases(t *testing.T) []comparison {
	t.Helper()
	data := pixels(t, 1000)
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]crypto.Signer{"RSA-PSS": rsaKey}
	for name, curve := range map[string]elliptic.Curve{"ECC_SECP384R1": elliptic.P384(), "ECC_SECP521R1": elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[name] = key
	}
	hashes := map[string]crypto.Hash{"SHA-224": crypto.SHA224, "SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512}
	digest := func(hash crypto.Hash) []byte {
		h := hash.New()
		h.Write(data)
		return h.Sum(nil)
	}
	var cases []comparison
	add := func(class, name, want string, certificate *made, keyType, hash, text string) {
		cases = append(cases, comparison{class: class, name: name, want: want, Held: []string{certificate.text()}, Data: base64.StdEncoding.EncodeToString(data),
			Properties: map[string]string{"img_signature": text, "img_signature_hash_method": hash, "img_signature_key_type": keyType,
				"img_signature_certificate_uuid": "11111111-2222-3333-4444-555555555555"}})
	}
	certificates := map[string]*made{}
	for keyType, key := range keys {
		certificates[keyType] = build(t, nil, key, "Signer", false, nil)
	}
	for keyType, key := range keys {
		certificate := certificates[keyType]
		for name, hash := range hashes {
			salts := map[string]crypto.SignerOpts{"": hash}
			if keyType == "RSA-PSS" {
				salts = map[string]crypto.SignerOpts{
					" salt max":    &rsa.PSSOptions{SaltLength: 256 - hash.Size() - 2, Hash: hash},
					" salt digest": &rsa.PSSOptions{SaltLength: hash.Size(), Hash: hash},
					" salt 20":     &rsa.PSSOptions{SaltLength: 20, Hash: hash},
				}
			}
			for salt, options := range salts {
				sig, err := key.Sign(rand.Reader, digest(hash), options)
				if err != nil {
					t.Fatal(err)
				}
				text := base64.StdEncoding.EncodeToString
				what := keyType + " " + name + salt
				add("", what, "accepted", certificate, keyType, name, text(sig))
				add("", what+", line ends", "accepted", certificate, keyType, name, text(sig)[:40]+"\n"+text(sig)[40:]+"\n")
				flipped := bytes.Clone(sig)
				flipped[len(flipped)-1] ^= 1
				add("", what+", flipped", "refused", certificate, keyType, name, text(flipped))
				add("", what+", cut", "refused", certificate, keyType, name, text(sig[:len(sig)-1]))
				add("", what+", longer", "refused", certificate, keyType, name, text(append(bytes.Clone(sig), 0)))
				add("base64 with stray characters", what+", stray characters", "", certificate, keyType, name, text(sig)[:8]+"!*"+text(sig)[8:])
				for other := range hashes {
					if other != name {
						add("", what+" as "+other, "refused", certificate, keyType, other, text(sig))
					}
				}
				for other := range keys {
					class, want := "", "refused"
					if other == keyType {
						continue
					}
					if keyType != "RSA-PSS" && other != "RSA-PSS" {
						class, want = "another curve than the key type names", ""
					}
					add(class, what+" as "+other, want, certificate, other, name, text(sig))
				}
			}
		}
		if keyType == "RSA-PSS" {
			sum := sha256.Sum256(data)
			sig, err := rsa.SignPKCS1v15(rand.Reader, rsaKey, crypto.SHA256, sum[:])
			if err != nil {
				t.Fatal(err)
			}
			add("", "PKCS#1 v1.5", "refused", certificate, keyType, "SHA-256", base64.StdEncoding.EncodeToString(sig))
			continue
		}
		sum := sha512.Sum512(data)
		r, s, err := ecdsa.Sign(rand.Reader, key.(*ecdsa.PrivateKey), sum[:])
		if err != nil {
			t.Fatal(err)
		}
		size := (key.(*ecdsa.PrivateKey).Params().BitSize + 7) / 8
		raw := append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...)
		add("", keyType+" without DER", "refused", certificate, keyType, "SHA-512", base64.StdEncoding.EncodeToString(raw))
	}
	return cases
}

// ours is what Countersign says of a case.
func ours(t *testing.T, c comparison) string {
	t.Helper()
	der, err := base64.StdEncoding.DecodeString(c.Held[0])
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := signature.ParseCertificate(der)
	if err != nil {
		return "refused"
	}
	if c.Properties != nil {
		spec, err := signature.Parse(c.Properties)
		if err != nil {
			return "refused"
		}
		v, err := signature.NewVerifier(spec, certificate.PublicKey)
		if err != nil {
			return "refused"
		}
		data, _ := base64.StdEncoding.DecodeString(c.Data)
		v.Write(data)
		if v.Verify() != nil {
			return "refused"
		}
		return "accepted"
	}
	var config trust.Config
	for _, text := range c.Held[1:] {
		der, _ := base64.StdEncoding.DecodeString(text)
		config.Certificates = append(config.Certificates, trust.Entry{Source: "list", Data: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})})
	}
	set, err := trust.New(config)
	if err != nil {
		t.Fatal(err)
	}
	if set.Verify(certificate, time.Now(), time.Now()).Err() != nil {
		return "refused"
	}
	return "accepted"
}

// TestWhereCursiveAndCountersignDiffer asks both about some hundreds of chains
// and signatures. Where they say different things, that is of a class that the
// manual has, with who is right.
func TestWhereCursiveAndCountersignDiffer(t *testing.T) {
	cases := append(chainCases(t), signatureCases(t)...)
	var input bytes.Buffer
	encoder := json.NewEncoder(&input)
	for _, c := range cases {
		if err := encoder.Encode(c); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("stack/stack", "exec", "python3", "-c", cursiveProgram)
	cmd.Stdin = &input
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("cursive: %v\n%s", err, &complaints)
	}
	said := strings.Fields(string(output))
	if len(said) != len(cases) {
		t.Fatalf("cursive answered %d of %d cases\n%s", len(said), len(cases), &complaints)
	}
	seen := map[string]int{}
	for i, c := range cases {
		cursive, we := said[i], ours(t, c)
		if c.class == "" {
			if cursive == "crashed" && we == "refused" && c.want == "refused" {
				cursive = "refused" // by accident
			}
			if cursive != c.want || we != c.want {
				t.Errorf("%s: cursive %s, Countersign %s, want both %s", c.name, cursive, we, c.want)
			}
			continue
		}
		seen[c.class]++
		found := slices.IndexFunc(disagreements, func(d disagreement) bool { return d.class == c.class })
		if found < 0 {
			t.Errorf("%s: there is no class %q", c.name, c.class)
			continue
		}
		if d := disagreements[found]; cursive != d.cursive || we != d.ours {
			t.Errorf("%s: cursive %s, Countersign %s, and of this class (%s) %s and %s", c.name, cursive, we, c.class, d.cursive, d.ours)
		}
	}
	var want strings.Builder
	want.WriteString("| what | cursive | Countersign | who is right |\n|---|---|---|---|\n")
	for _, d := range disagreements {
		if seen[d.class] == 0 {
			t.Errorf("no case is of the class %q", d.class)
		}
		fmt.Fprintf(&want, "| %s | %s | %s | %s |\n", d.class, d.cursive, d.ours, d.right)
	}
	manual, err := os.ReadFile("../docs/compatibility.md")
	if err != nil {
		t.Fatal(err)
	}
	table := regexp.MustCompile(`(?s)<!-- cursive\b[^>]*-->\n(.*?)<!-- /cursive -->`).FindSubmatch(manual)
	if table == nil || string(table[1]) != want.String() {
		t.Errorf("the table in docs/compatibility.md should be:\n\n%s", &want)
	}
	t.Logf("%d cases, %d of them in %d classes of disagreement", len(cases), sum(seen), len(seen))
}

func sum(counts map[string]int) (total int) {
	for _, n := range counts {
		total += n
	}
	return total
}
