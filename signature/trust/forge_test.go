package trust_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/signature"
	"github.com/countersign/countersign/signature/trust"
)

var now = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// forge is a certificate with its private key. It makes what crypto/x509
// refuses to make: any extension, any issuer's name, DSA and SECT keys, SHA-1.
type forge struct {
	der []byte
	key any // private
}

func (f *forge) certificate(t testing.TB) *signature.Certificate {
	t.Helper()
	c, err := parse(f)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func parse(f *forge) (*signature.Certificate, error) { return signature.ParseCertificate(f.der) }

func (f *forge) entry(source string) trust.Entry { return trust.Entry{Source: source, Data: f.der} }

func (f *forge) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.der})
}

// plan is what a certificate shall be.
type plan struct {
	subject, issuer []byte // DER; nil: CN=name, the issuer's subject
	name            string
	serial          *big.Int // nil: random
	notBefore       time.Time
	notAfter        time.Time
	key             any // nil: P-256
	algorithm       *pkix.AlgorithmIdentifier
	extensions      []pkix.Extension
	spoil           bool // flip a bit of the signature
}

type tbs struct {
	Version    int `asn1:"explicit,tag:0"`
	Serial     *big.Int
	Algorithm  pkix.AlgorithmIdentifier
	Issuer     asn1.RawValue
	Validity   struct{ NotBefore, NotAfter time.Time }
	Subject    asn1.RawValue
	PublicKey  asn1.RawValue
	Extensions []pkix.Extension `asn1:"explicit,optional,omitempty,tag:3"`
}

func cn(name string) []byte {
	return must(asn1.Marshal(pkix.Name{CommonName: name}.ToRDNSequence()))
}

// issue makes a certificate by issuer, or by itself if that is nil.
func issue(issuer *forge, p plan) *forge {
	if p.key == nil {
		p.key = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	}
	f := &forge{key: p.key}
	signer := p.key
	if p.subject == nil {
		p.subject = cn(p.name)
	}
	if issuer != nil {
		signer = issuer.key
	}
	if p.issuer == nil {
		p.issuer = p.subject
		if issuer != nil {
			p.issuer = subjectOf(issuer.der)
		}
	}
	if p.serial == nil {
		p.serial = must(rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100)))
	}
	if p.notBefore.IsZero() {
		p.notBefore = now.Add(-24 * time.Hour)
	}
	if p.notAfter.IsZero() {
		p.notAfter = now.Add(24 * time.Hour)
	}
	if p.algorithm == nil {
		p.algorithm = algorithmFor(signer)
	}
	body := tbs{
		Version:    2,
		Serial:     p.serial,
		Algorithm:  *p.algorithm,
		Issuer:     asn1.RawValue{FullBytes: p.issuer},
		Subject:    asn1.RawValue{FullBytes: p.subject},
		PublicKey:  asn1.RawValue{FullBytes: publicKey(p.key)},
		Extensions: p.extensions,
	}
	body.Validity.NotBefore, body.Validity.NotAfter = p.notBefore, p.notAfter
	f.der = seal(must(asn1.Marshal(body)), *p.algorithm, signer, p.spoil)
	return f
}

// seal signs what is to be signed in a certificate or a list.
func seal(body []byte, algorithm pkix.AlgorithmIdentifier, signer any, spoil bool) []byte {
	sig := signBody(signer, algorithm, body)
	if spoil {
		sig[len(sig)-1] ^= 1
	}
	return must(asn1.Marshal(struct {
		Body      asn1.RawValue
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}{asn1.RawValue{FullBytes: body}, algorithm, asn1.BitString{Bytes: sig, BitLength: 8 * len(sig)}}))
}

var (
	sha256WithRSA   = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, Parameters: asn1.NullRawValue}
	sha1WithRSA     = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}, Parameters: asn1.NullRawValue}
	sha256WithECDSA = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}}
	sha1WithECDSA   = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 1}}
	sha256WithDSA   = pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{2, 16, 840, 1, 101, 3, 4, 3, 2}}
)

func algorithmFor(key any) *pkix.AlgorithmIdentifier {
	switch key.(type) {
	case *rsa.PrivateKey:
		return &sha256WithRSA
	case *ecdsa.PrivateKey:
		return &sha256WithECDSA
	}
	if _, keyType, err := signature.Sign(key, signature.SHA256, strings.NewReader("")); err == nil && keyType == signature.DSA {
		return &sha256WithDSA
	}
	return &sha256WithECDSA
}

func signBody(key any, algorithm pkix.AlgorithmIdentifier, body []byte) []byte {
	hash, sum := crypto.SHA256, sha256.Sum256(body)
	digest := sum[:]
	if algorithm.Algorithm.Equal(sha1WithRSA.Algorithm) || algorithm.Algorithm.Equal(sha1WithECDSA.Algorithm) {
		old := sha1.Sum(body)
		hash, digest = crypto.SHA1, old[:]
	}
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return must(rsa.SignPKCS1v15(rand.Reader, key, hash, digest))
	case *ecdsa.PrivateKey:
		return must(ecdsa.SignASN1(rand.Reader, key, digest))
	}
	sig, _, err := signature.Sign(key, signature.SHA256, strings.NewReader(string(body)))
	return must(sig, err)
}

// publicKey returns the SubjectPublicKeyInfo of a private key.
func publicKey(key any) []byte {
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return must(x509.MarshalPKIXPublicKey(key.Public()))
	case *ecdsa.PrivateKey:
		return must(x509.MarshalPKIXPublicKey(key.Public()))
	}
	der := must(signature.SelfSigned(key, "x", now, now.Add(time.Hour)))
	return fieldsOf(der)[6].FullBytes
}

func subjectOf(der []byte) []byte { return fieldsOf(der)[5].FullBytes }

// fieldsOf are those of a TBSCertificate of version 3.
func fieldsOf(der []byte) []asn1.RawValue {
	var outer struct {
		TBS       asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.RawValue
	}
	must(asn1.Unmarshal(der, &outer))
	var fields []asn1.RawValue
	for rest := outer.TBS.Bytes; len(rest) > 0; {
		var field asn1.RawValue
		rest = must(asn1.Unmarshal(rest, &field))
		fields = append(fields, field)
	}
	return fields
}

func extension(critical bool, value any, id ...int) pkix.Extension {
	return pkix.Extension{Id: id, Critical: critical, Value: must(asn1.Marshal(value))}
}

// ca is basicConstraints of a CA; -1 for no limit of its path's length.
func ca(length int) pkix.Extension {
	return extension(true, struct {
		CA     bool
		Length int `asn1:"optional,default:-1"`
	}{true, length}, 2, 5, 29, 19)
}

func noCA() pkix.Extension { return extension(true, struct{}{}, 2, 5, 29, 19) }

// usage is keyUsage by the positions of its bits.
func usage(bits ...int) pkix.Extension {
	value := asn1.BitString{Bytes: []byte{0}}
	for _, bit := range bits {
		value.Bytes[0] |= 0x80 >> bit
		value.BitLength = max(value.BitLength, bit+1)
	}
	return extension(true, value, 2, 5, 29, 15)
}

const (
	digitalSignature = 0
	keyEncipherment  = 2
	keyCertSign      = 5
	cRLSign          = 6
)

func purposes(ids ...asn1.ObjectIdentifier) pkix.Extension {
	return extension(false, ids, 2, 5, 29, 37)
}

var (
	codeSigning = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3}
	serverAuth  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
)

// authority is the plan of an ordinary CA.
func authority(name string) plan {
	return plan{name: name, extensions: []pkix.Extension{ca(-1), usage(keyCertSign, cRLSign)}}
}

// signer is the plan of an ordinary signer.
func signer(name string) plan {
	return plan{name: name, extensions: []pkix.Extension{noCA(), usage(digitalSignature)}}
}

// keys that take their time are made once.
var (
	rsa1024 = sync.OnceValue(func() any { return must(rsa.GenerateKey(rand.Reader, 1024)) })
	rsa2048 = sync.OnceValue(func() any { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	dsa2048 = sync.OnceValue(func() any {
		return must(signature.ParsePrivateKey(must(os.ReadFile("../testdata/dsa2048.pkcs8.pem"))))
	})
	sect409 = sync.OnceValue(func() any { return must(signature.GenerateKey(signature.SECT409R1, 0)) })
	sect571 = sync.OnceValue(func() any { return must(signature.GenerateKey(signature.SECT571K1, 0)) })
)

// revocations makes a list by issuer of the serial numbers of some.
func revocations(issuer *forge, thisUpdate, nextUpdate time.Time, extensions []pkix.Extension, revoked ...*forge) []byte {
	type entry struct {
		Serial *big.Int
		Since  time.Time
	}
	body := struct {
		Version    int
		Algorithm  pkix.AlgorithmIdentifier
		Issuer     asn1.RawValue
		ThisUpdate time.Time
		NextUpdate time.Time        `asn1:"optional"`
		Revoked    []entry          `asn1:"optional,omitempty"`
		Extensions []pkix.Extension `asn1:"optional,omitempty,explicit,tag:0"`
	}{Version: 1, Algorithm: *algorithmFor(issuer.key), Issuer: asn1.RawValue{FullBytes: subjectOf(issuer.der)},
		ThisUpdate: thisUpdate, NextUpdate: nextUpdate, Extensions: extensions}
	for _, f := range revoked {
		var serial *big.Int
		must(asn1.Unmarshal(fieldsOf(f.der)[1].FullBytes, &serial))
		body.Revoked = append(body.Revoked, entry{serial, thisUpdate})
	}
	return seal(must(asn1.Marshal(body)), body.Algorithm, issuer.key, false)
}

func set(t testing.TB, c trust.Config) *trust.Set {
	t.Helper()
	s, err := trust.New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func list(forges ...*forge) []trust.Entry {
	var entries []trust.Entry
	for _, f := range forges {
		entries = append(entries, f.entry("list"))
	}
	return entries
}

// expect compares a report with the check that is to fail, "" for none.
func expect(t testing.TB, what string, report *trust.Report, want trust.Check) {
	t.Helper()
	var got trust.Check
	if report.Failure != nil {
		got = report.Failure.Check
	}
	if got != want || (report.Err() == nil) != (want == "") {
		t.Errorf("%s: %v, fails at %q, want %q\n%s", what, report.Err(), got, want, report.Draw())
	}
}
