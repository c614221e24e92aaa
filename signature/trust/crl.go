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
	// undecided is why the list leaves open what it revokes, or "".
	undecided string

	mu      sync.Mutex             // guards signers
	signers map[*certificate]error // listed certificates: whether their key signed the list
}

// scope is which certificates of its issuer a list is about.
type scope struct {
	users, authorities bool     // only end entities, only CAs
	attributes         bool     // no certificates of keys at all
	points             [][]byte // only certificates that name one of these; each a GeneralName
}

var (
	oidIssuingDistributionPoint = asn1.ObjectIdentifier{2, 5, 29, 28}
	oidDeltaCRLIndicator        = asn1.ObjectIdentifier{2, 5, 29, 27}
	oidAuthorityKeyID           = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidReasonCode               = asn1.ObjectIdentifier{2, 5, 29, 21}
	oidInvalidityDate           = asn1.ObjectIdentifier{2, 5, 29, 24}
)

// errOthers refuses a list that may revoke certificates of any issuer.
var errOthers = errors.New("it is an indirect list, which is about certificates of others; give one by the issuer itself")

// parseList reads a list. One that needs others beside it, to say whether a
// certificate is revoked, is undecided about all of its issuer's.
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
			l.undecided = "it is a delta list; give the complete one instead"
		case extension.Id.Equal(oidIssuingDistributionPoint):
			if err := l.readScope(extension.Value); err != nil {
				return nil, err
			}
		case extension.Id.Equal(oidAuthorityKeyID):
		case extension.Critical:
			l.undecided = fmt.Sprintf("it has the critical extension %v, which is not known", extension.Id)
		}
	}
	for _, entry := range parsed.RevokedCertificateEntries {
		for _, extension := range entry.Extensions {
			if extension.Critical && !extension.Id.Equal(oidReasonCode) && !extension.Id.Equal(oidInvalidityDate) {
				l.undecided = fmt.Sprintf("its entry for serial number %x has the critical extension %v, which is not known", entry.SerialNumber, extension.Id)
			}
		}
		l.revoked[serialKey(entry.SerialNumber)] = entry.RevocationTime
	}
	return l, nil
}

func serialKey(serial *big.Int) string { return serial.Text(16) }

// readScope reads issuingDistributionPoint (RFC 5280, section 5.2.5).
func (l *list) readScope(der []byte) error {
	var encoded struct {
		Point       asn1.RawValue  `asn1:"optional,tag:0"`
		Users       bool           `asn1:"optional,tag:1"`
		Authorities bool           `asn1:"optional,tag:2"`
		Reasons     asn1.BitString `asn1:"optional,tag:3"`
		Indirect    bool           `asn1:"optional,tag:4"`
		Attributes  bool           `asn1:"optional,tag:5"`
	}
	if err := unmarshal(der, &encoded); err != nil {
		return fmt.Errorf("its issuing distribution point: %w", err)
	}
	l.scope = scope{users: encoded.Users, authorities: encoded.Authorities, attributes: encoded.Attributes}
	if encoded.Indirect {
		return errOthers
	}
	if encoded.Reasons.BitLength > 0 {
		l.undecided = "it is for some reasons of revocation only; give the complete one instead"
	}
	if len(encoded.Point.Bytes) > 0 {
		points, err := fullNames(encoded.Point.Bytes)
		if err != nil {
			l.undecided = err.Error()
		}
		l.scope.points = points
	}
	return nil
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
	case s.users && isCA, s.authorities && !isCA, s.attributes:
		return false
	case len(s.points) == 0:
		return true
	}
	return slices.ContainsFunc(s.points, func(point []byte) bool {
		return slices.ContainsFunc(c.points, func(named []byte) bool { return bytes.Equal(point, named) })
	})
}

// revoked says whether a certificate of the path is revoked by its issuer, or
// whether that cannot be told. A list that names it counts even after its day;
// to say that it is not revoked takes one of today.
func (w *search) revoked(position int) *Failure {
	c, issuer := w.path[position], w.path[position+1]
	if len(w.set.unread) > 0 {
		return w.failure(position, CheckRevocationUnknown, "may be revoked: %s", w.set.unread[0])
	}
	var why string // of the lists by this issuer, the last that does not count
	good := false
	for _, l := range w.set.lists {
		if l.issuer != c.issuer || !l.scope.covers(c) {
			continue
		}
		if err := w.signedList(l, issuer); err != nil {
			why = fmt.Sprintf("the list in %s does not count: %v", l.source, err)
			continue
		}
		if since, ok := l.revoked[serialKey(c.parsed.SerialNumber)]; ok {
			return w.failure(position, CheckRevoked, "was revoked at %s, by the list in %s", stamp(since), l.source)
		}
		switch update := l.parsed; {
		case l.undecided != "":
			return w.failure(position, CheckRevocationUnknown, "may be revoked: the list in %s decides nothing: %s", l.source, l.undecided)
		case w.now.Before(update.ThisUpdate):
			why = fmt.Sprintf("the list in %s is of %s, which is to come", l.source, stamp(update.ThisUpdate))
		case update.NextUpdate.IsZero():
			why = fmt.Sprintf("the list in %s does not say until when it counts (nextUpdate)", l.source)
		case w.now.After(update.NextUpdate):
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
	return w.failure(position, CheckRevocationUnknown, "may be revoked: %s", why)
}

// signedList checks that a list is by the issuer of a certificate: signed with
// the key that signed the certificate, or with another of the same CA, as after
// a change of keys.
func (w *search) signedList(l *list, issuer *certificate) error {
	err := l.signedBy(issuer)
	if err == nil {
		return nil
	}
	for _, other := range w.set.bySubject[issuer.subject] {
		if other != issuer && w.ofSameCA(other) && l.signedBy(other) == nil {
			return nil
		}
	}
	return err
}

// ofSameCA reports whether a listed certificate of an issuer's name is vouched
// for by the path: it is on it, or was signed by one that is and not revoked.
func (w *search) ofSameCA(other *certificate) bool {
	above := w.path[1:]
	if slices.Contains(above, other) {
		return true
	}
	if w.at.Before(other.NotBefore) || w.at.After(other.NotAfter) || len(other.unknown) > 0 {
		return false
	}
	for _, c := range above {
		if c.subject != other.issuer || w.signed(other, c) != nil {
			continue
		}
		return !slices.ContainsFunc(w.set.lists, func(l *list) bool {
			_, named := l.revoked[serialKey(other.parsed.SerialNumber)]
			return named && l.issuer == other.issuer && (l.signedBy(c) == nil || l.signedBy(other) == nil)
		})
	}
	return false
}

// signedBy checks the list's signature by a listed certificate, once.
func (l *list) signedBy(c *certificate) error {
	if c.parsed.KeyUsage != 0 && c.parsed.KeyUsage&x509.KeyUsageCRLSign == 0 {
		return errors.New("its issuer's key is not for signing lists (keyUsage without cRLSign)")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	err, known := l.signers[c]
	if !known {
		err = c.verify(l.algorithm, l.parsed.SignatureAlgorithm, l.parsed.RawTBSRevocationList, l.parsed.Signature)
		if err != nil && !errors.Is(err, errWeak) {
			err = errors.New("its signature is not by the key of its issuer")
		}
		if l.signers == nil {
			l.signers = make(map[*certificate]error)
		}
		l.signers[c] = err
	}
	return err
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
