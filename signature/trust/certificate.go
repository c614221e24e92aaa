package trust

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/countersign/countersign/signature"
	"github.com/countersign/countersign/signature/binarycurve"
)

// certificate is one that was read to its end. What cannot be is not used in a
// chain, though signature may find its key.
type certificate struct {
	*signature.Certificate
	parsed *x509.Certificate // its PublicKey is a stand-in where Go lacks the curve

	tbs       []byte // what is signed
	algorithm asn1.ObjectIdentifier
	sig       []byte

	subject, issuer string // canonical
	names           names
	limits          constraints
	points          [][]byte // of its revocation lists: each a GeneralName
	unknown         []asn1.ObjectIdentifier

	source   string // "" for the signer
	anchor   bool   // a chain may end here
	noAnchor string // or why it may not
	way      bool   // its name, or that of an issuer of it, is an anchor's
}

// split finds the blocks of some kinds in PEM, or takes DER for one.
func split(data []byte, labels ...string) (blocks [][]byte, problem string) {
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, "is empty"
	}
	if data[0] == 0x30 && len(data) > 1 && data[1]&0x80 != 0 {
		return [][]byte{data}, ""
	}
	begun := 0
	for _, label := range labels {
		begun += bytes.Count(data, []byte("-----BEGIN "+label+"-----"))
	}
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		if slices.Contains(labels, block.Type) {
			blocks = append(blocks, block.Bytes)
		}
	}
	switch {
	case len(blocks) != begun:
		return blocks, fmt.Sprintf("has a damaged PEM block: of %d that begin, %d can be read", begun, len(blocks))
	case begun == 0:
		return nil, fmt.Sprintf("has no PEM block %q, nor is it DER", labels[0])
	}
	return blocks, ""
}

// parseCertificate wants all of a certificate to be understood by crypto/x509,
// except the keys that it does not have.
func parseCertificate(der []byte) (*certificate, error) {
	read, err := signature.ParseCertificate(der)
	if err != nil {
		var refused *signature.PropertyError
		if errors.As(err, &refused) {
			return nil, errors.New("it " + refused.Problem) // of none of an image's properties
		}
		return nil, err
	}
	parsed, err := x509.ParseCertificate(read.Raw)
	if err != nil {
		substitute, ok := withOtherKey(read)
		if !ok {
			return nil, err
		}
		if parsed, err = x509.ParseCertificate(substitute); err != nil {
			return nil, err
		}
	}
	var outer struct {
		TBS       asn1.RawValue
		Algorithm algorithmIdentifier
		Signature asn1.BitString
	}
	if err := unmarshal(read.Raw, &outer); err != nil {
		return nil, err
	}
	c := &certificate{
		Certificate: read,
		parsed:      parsed,
		tbs:         outer.TBS.FullBytes,
		algorithm:   outer.Algorithm.Algorithm,
		sig:         outer.Signature.RightAlign(),
	}
	subject, err := parseName(parsed.RawSubject)
	if err != nil {
		return nil, fmt.Errorf("subject: %w", err)
	}
	issuer, err := parseName(parsed.RawIssuer)
	if err != nil {
		return nil, fmt.Errorf("issuer: %w", err)
	}
	c.subject, c.issuer = subject.canonical(), issuer.canonical()
	c.names.subject = subject
	return c, c.readExtensions()
}

var (
	oidSubjectAltName        = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidNameConstraints       = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidCRLDistributionPoints = asn1.ObjectIdentifier{2, 5, 29, 31}
)

// readExtensions reads what crypto/x509 leaves out: names and constraints of
// all kinds, and whole distribution points.
func (c *certificate) readExtensions() (err error) {
	for _, extension := range c.parsed.Extensions {
		switch {
		case extension.Id.Equal(oidSubjectAltName):
			c.names.alternative, err = parseGeneralNames(extension.Value)
		case extension.Id.Equal(oidNameConstraints):
			c.limits, err = parseConstraints(extension.Value)
		case extension.Id.Equal(oidCRLDistributionPoints):
			c.points, err = parsePoints(extension.Value)
		}
		if err != nil {
			return fmt.Errorf("extension %v: %w", extension.Id, err)
		}
	}
	for _, id := range c.parsed.UnhandledCriticalExtensions {
		if !id.Equal(oidSubjectAltName) && !id.Equal(oidNameConstraints) {
			c.unknown = append(c.unknown, id)
		}
	}
	return nil
}

// standIn is any key that crypto/x509 reads.
var standIn = sync.OnceValues(func() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return x509.MarshalPKIXPublicKey(key.Public())
})

// withOtherKey puts another public key into a certificate whose own is on a
// curve, or in a form, that crypto/x509 refuses, so that all the rest can be
// read by it. The signature is of no use afterwards.
func withOtherKey(read *signature.Certificate) ([]byte, bool) {
	switch read.PublicKey.(type) {
	default:
		return nil, false // it was refused for something else
	case *binarycurve.PublicKey, *ecdsa.PublicKey:
	}
	var outer struct {
		TBS       asn1.RawValue
		Algorithm asn1.RawValue
		Signature asn1.RawValue
	}
	if unmarshal(read.Raw, &outer) != nil {
		return nil, false
	}
	other, err := standIn()
	if err != nil {
		return nil, false
	}
	// The key is the seventh field, or the sixth where version is left out.
	key := 5
	var fields []asn1.RawValue
	for rest := outer.TBS.Bytes; len(rest) > 0; {
		var field asn1.RawValue
		if rest, err = asn1.Unmarshal(rest, &field); err != nil {
			return nil, false
		}
		if len(fields) == 0 && field.Class == asn1.ClassContextSpecific {
			key++
		}
		fields = append(fields, field)
	}
	if len(fields) <= key {
		return nil, false
	}
	fields[key] = asn1.RawValue{FullBytes: other}
	if outer.TBS.FullBytes, err = asn1.Marshal(fields); err != nil {
		return nil, false
	}
	der, err := asn1.Marshal(outer)
	return der, err == nil
}

// sameKey reports whether two certificates hold one key.
func sameKey(a, b *certificate) bool {
	key, ok := a.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok { // DSA
		return dsaEqual(a.PublicKey, b.PublicKey)
	}
	return key.Equal(b.PublicKey)
}

type algorithmIdentifier struct {
	Algorithm  asn1.ObjectIdentifier
	Parameters asn1.RawValue `asn1:"optional"`
}

var errTrailing = errors.New("has bytes after its end")

// unmarshal wants nothing after the end.
func unmarshal(der []byte, into any) error {
	rest, err := asn1.Unmarshal(der, into)
	if err == nil && len(rest) > 0 {
		return errTrailing
	}
	return err
}
