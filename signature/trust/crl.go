package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"sync"
	"time"
)

// list is a complete certificate revocation list (RFC 5280, section 5).
type list struct {
	parsed    *x509.RevocationList
	algorithm asn1.ObjectIdentifier
	issuer    string               // canonical
	revoked   map[string]time.Time // serial → since when
	scope     scope
	source    string

	mu      sync.Mutex             // guards signers
	signers map[*certificate]error // listed certificates: whether their key signed the list
}

// scope is which certificates of its issuer a list is about.
type scope struct {
	users, authorities bool     // only end entities, only CAs
	points             [][]byte // only certificates that name one of these; each a GeneralName
}

var (
	oidIssuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidDeltaCRLIndicator        = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidAuthorityKeyID           = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidReasonCode               = asn1.ObjectIdentifier{2, 5, 29, 21}
	oidInvalidityDate           = asn1.ObjectIdentifier{2, 5, 29, 24}
)

// removeFromCRL is the reason code that only a delta list may have.
const removeFromCRL = 8

// parseList reads a list, and refuses kinds that would need others beside it
// to say whether a certificate is revoked.
func parseList(der []byte) (*list, error) {
	parsed, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, err
	}
	var outer struct {
		TBS       asn1.RawValue
		Algorithm algorithmIdentifier
		Signature asn1.BitString
	}
	if err := unmarshal(der, &outer); err != nil {
		return nil, err
	}
	issuer, err := parseName(parsed.RawIssuer)
	if err != nil {
		return nil, err
	}
	l := &list{
		parsed:    parsed,
		algorithm: outer.Algorithm.Algorithm,
		issuer:    issuer.canonical(),
		revoked:   make(map[string]time.Time, len(parsed.RevokedCertificateEntries)),
	}
	for _, extension := range parsed.Extensions {
		switch {
		case extension.Id.Equal(oidDeltaCRLIndicator):
			return nil, errors.New("it is a delta list; give the complete one")
		case extension.Id.Equal(oidIssuingDistributionPoint):
			if l.scope, err = parseScope(extension.Value); err != nil {
				return nil, err
			}
		case extension.Id.Equal(oidAuthorityKeyID):
		case extension.Critical:
			return nil, fmt.Errorf("it has the critical extension %v, which is not known", extension.Id)
		}
	}
	for _, entry := range parsed.RevokedCertificateEntries {
		for _, extension := range entry.Extensions {
			if extension.Critical && !extension.Id.Equal(oidReasonCode) && !extension.Id.Equal(oidInvalidityDate) {
				return nil, fmt.Errorf("its entry for serial number %x has the critical extension %v, which is not known", entry.SerialNumber, extension.Id)
			}
		}
		if entry.ReasonCode == removeFromCRL {
			return nil, errors.New("it has an entry that only a delta list may have")
		}
		l.revoked[serialKey(entry.SerialNumber)] = entry.RevocationTime
	}
	return l, nil
}

func serialKey(serial *big.Int) string { return serial.Text(16) }

func parseScope(der []byte) (scope, error) {
	var encoded struct {
		Point       asn1.RawValue  `asn1:"optional,tag:0"`
		Users       bool           `asn1:"optional,tag:1"`
		Authorities bool           `asn1:"optional,tag:2"`
		Reasons     asn1.BitString `asn1:"optional,tag:3"`
		Indirect    bool           `asn1:"optional,tag:4"`
		Attributes  bool           `asn1:"optional,tag:5"`
	}
	if err := unmarshal(der, &encoded); err != nil {
		return scope{}, fmt.Errorf("its issuing distribution point: %w", err)
	}
	switch {
	case encoded.Indirect:
		return scope{}, errors.New("it is an indirect list; give one by the issuer itself")
	case encoded.Reasons.BitLength > 0:
		return scope{}, errors.New("it is for some reasons of revocation only; give the complete one")
	case encoded.Attributes:
		return scope{}, errors.New("it is for attribute certificates, which sign no images")
	}
	s := scope{users: encoded.Users, authorities: encoded.Authorities}
	if len(encoded.Point.Bytes) > 0 {
		points, err := fullNames(encoded.Point.Bytes)
		if err != nil {
			return scope{}, err
		}
		s.points = points
	}
	return s, nil
}

// fullNames reads a DistributionPointName, of which it wants the first choice.
func fullNames(der []byte) ([][]byte, error) {
	var choice asn1.RawValue
	if err := unmarshal(der, &choice); err != nil {
		return nil, err
	}
	if choice.Class != asn1.ClassContextSpecific || choice.Tag != 0 {
		return nil, errors.New("a distribution point is named relative to its issuer, which is not supported")
	}
	var points [][]byte
	for rest := choice.Bytes; len(rest) > 0; {
		var one asn1.RawValue
		var err error
		if rest, err = asn1.Unmarshal(rest, &one); err != nil {
			return nil, err
		}
		points = append(points, one.FullBytes)
	}
	return points, nil
}

// parsePoints reads cRLDistributionPoints (RFC 5280, section 4.2.1.13), as far
// as a point is for all reasons and by the certificate's own issuer.
func parsePoints(der []byte) ([][]byte, error) {
	var encoded []struct {
		Point   asn1.RawValue  `asn1:"optional,tag:0"`
		Reasons asn1.BitString `asn1:"optional,tag:1"`
		Issuer  asn1.RawValue  `asn1:"optional,tag:2"`
	}
	if err := unmarshal(der, &encoded); err != nil {
		return nil, err
	}
	var points [][]byte
	for _, one := range encoded {
		if len(one.Point.Bytes) == 0 || one.Reasons.BitLength > 0 || len(one.Issuer.FullBytes) > 0 {
			continue
		}
		if full, err := fullNames(one.Point.Bytes); err == nil {
			points = append(points, full...)
		}
	}
	return points, nil
}

// covers reports whether a certificate is in the list's scope.
func (s scope) covers(c *certificate) bool {
	isCA := c.parsed.BasicConstraintsValid && c.parsed.IsCA
	switch {
	case s.users && isCA, s.authorities && !isCA:
		return false
	case s.points == nil:
		return true
	}
	return slices.ContainsFunc(s.points, func(point []byte) bool {
		return slices.ContainsFunc(c.points, func(named []byte) bool { return bytes.Equal(point, named) })
	})
}

// revoked says whether c is revoked by its issuer, or whether that cannot be
// told. A list that names it counts even after its day; to say that it is not
// revoked takes one of today.
func (s *Set) revoked(c, issuer *certificate, now time.Time) *Failure {
	var why string // of the lists by this issuer, the last that does not count
	good := false
	for _, l := range s.lists {
		if l.issuer != c.issuer || !l.scope.covers(c) {
			continue
		}
		if err := s.signedList(l, issuer); err != nil {
			why = fmt.Sprintf("the list in %s does not count: %v", l.source, err)
			continue
		}
		if since, ok := l.revoked[serialKey(c.parsed.SerialNumber)]; ok {
			return &Failure{Check: CheckRevoked, Problem: fmt.Sprintf("was revoked at %s, by the list in %s", stamp(since), l.source)}
		}
		switch update := l.parsed; {
		case now.Before(update.ThisUpdate):
			why = fmt.Sprintf("the list in %s is of %s, which is to come", l.source, stamp(update.ThisUpdate))
		case update.NextUpdate.IsZero():
			why = fmt.Sprintf("the list in %s does not say until when it counts (nextUpdate)", l.source)
		case now.After(update.NextUpdate):
			why = fmt.Sprintf("the list in %s counted until %s", l.source, stamp(update.NextUpdate))
		default:
			good = true
		}
	}
	switch {
	case good:
		return nil
	case why == "":
		why = fmt.Sprintf("there is no revocation list by its issuer %s for it", issuer.short())
	}
	return &Failure{Check: CheckRevocationUnknown, Problem: "may be revoked: " + why}
}

// signedList checks that the key which signed the certificate signed the list,
// and that it may.
func (s *Set) signedList(l *list, issuer *certificate) error {
	if issuer.parsed.KeyUsage != 0 && issuer.parsed.KeyUsage&x509.KeyUsageCRLSign == 0 {
		return errors.New("its issuer's key is not for signing lists (keyUsage without cRLSign)")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	err, known := l.signers[issuer]
	if !known {
		err = issuer.verify(l.algorithm, l.parsed.SignatureAlgorithm, l.parsed.RawTBSRevocationList, l.parsed.Signature)
		if err != nil && !errors.Is(err, errWeak) && !errors.Is(err, errOtherKey) {
			err = errors.New("its signature is not by the key of its issuer")
		}
		if l.signers == nil {
			l.signers = make(map[*certificate]error)
		}
		l.signers[issuer] = err
	}
	return err
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
