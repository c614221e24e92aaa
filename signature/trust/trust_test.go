package trust_test

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/signature"
	"github.com/countersign/countersign/signature/trust"
)

// TestModes: what root and anchor let a chain end in.
func TestModes(t *testing.T) {
	root := issue(nil, authority("Root"))
	middle := issue(root, authority("Middle"))
	leaf := issue(middle, signer("Leaf"))
	alone := issue(nil, signer("Alone"))
	aloneCA := issue(nil, plan{name: "Alone CA", extensions: []pkix.Extension{ca(-1), usage(digitalSignature, keyCertSign)}})
	stranger := issue(issue(nil, authority("Root")), signer("Leaf"))

	for _, test := range []struct {
		what         string
		signer       *forge
		listed       []*forge
		root, anchor trust.Check
	}{
		{"all listed", leaf, []*forge{root, middle}, "", ""},
		{"root alone", leaf, []*forge{root}, trust.CheckNoIssuer, trust.CheckNoIssuer},
		{"intermediate alone", leaf, []*forge{middle}, trust.CheckNoIssuer, ""},
		{"the signer alone", leaf, []*forge{leaf}, trust.CheckNoIssuer, ""},
		{"nothing", leaf, nil, trust.CheckNoIssuer, trust.CheckNoIssuer},
		{"self-made, not listed", alone, []*forge{root, middle}, trust.CheckNoIssuer, trust.CheckNoIssuer},
		{"self-made, listed", alone, []*forge{alone}, trust.CheckAnchor, ""},
		{"self-made CA, listed", aloneCA, []*forge{aloneCA}, "", ""},
		{"by a namesake of the root", stranger, []*forge{root, middle}, trust.CheckSignature, trust.CheckSignature},
		{"by one that is no CA", issue(alone, signer("Below")), []*forge{alone}, trust.CheckCA, trust.CheckCA},
	} {
		for mode, want := range map[trust.Mode]trust.Check{trust.Root: test.root, trust.Anchor: test.anchor} {
			s := set(t, trust.Config{Mode: mode, Certificates: list(test.listed...)})
			report := s.Verify(test.signer.certificate(t), now, now)
			expect(t, fmt.Sprintf("%s, mode %s", test.what, mode), report, want)
			if err := report.Err(); err != nil && !errors.Is(err, trust.ErrUntrusted) {
				t.Errorf("%s: %v is no ErrUntrusted", test.what, err)
			}
		}
	}
}

// defects are ways to spoil one certificate of a sound chain, and the check
// that names each.
var defects = []struct {
	name  string
	want  trust.Check
	where func(position, length int) bool // nil: anywhere
	spoil func(p *plan)
}{
	{"signature", trust.CheckSignature, notRoot, func(p *plan) { p.spoil = true }},
	{"sha1", trust.CheckAlgorithm, notRoot, func(p *plan) { p.algorithm = &sha1WithECDSA }},
	{"expired", trust.CheckExpired, nil, func(p *plan) { p.notAfter = now.Add(-time.Second) }},
	{"not yet valid", trust.CheckNotYetValid, nil, func(p *plan) { p.notBefore = now.Add(time.Second) }},
	{"unknown critical extension", trust.CheckCriticalExtension, nil, func(p *plan) {
		p.extensions = append(slices.Clone(p.extensions), extension(true, "x", 1, 2, 3, 4))
	}},
	{"issuer's name", trust.CheckNoIssuer, notRoot, func(p *plan) { p.issuer = cn("Somebody Else") }},
	{"no CA", trust.CheckCA, notSigner, func(p *plan) { p.extensions = []pkix.Extension{noCA(), usage(keyCertSign)} }},
	{"no basicConstraints", trust.CheckCA, notSigner, func(p *plan) { p.extensions = []pkix.Extension{usage(keyCertSign)} }},
	{"no keyCertSign", trust.CheckKeyUsage, notSigner, func(p *plan) { p.extensions = []pkix.Extension{ca(-1), usage(cRLSign)} }},
	{"path length", trust.CheckPathLength, func(position, _ int) bool { return position > 1 }, func(p *plan) {
		p.extensions = []pkix.Extension{ca(0), usage(keyCertSign)}
	}},
	{"name constraint", trust.CheckNameConstraints, notSigner, func(p *plan) {
		p.extensions = append(slices.Clone(p.extensions), permit(directory(cn("Nobody"))))
	}},
	{"short key", trust.CheckKeySize, nil, func(p *plan) { p.key = rsa1024() }},
	{"key for encryption", trust.CheckKeyUsage, func(position, _ int) bool { return position == 0 }, func(p *plan) {
		p.extensions = []pkix.Extension{noCA(), usage(keyEncipherment)}
	}},
	{"TLS server", trust.CheckExtendedKeyUsage, nil, func(p *plan) {
		p.extensions = append(slices.Clone(p.extensions[:2]), purposes(serverAuth))
	}},
}

func notRoot(position, length int) bool   { return position < length-1 }
func notSigner(position, _ int) bool      { return position > 0 }
func directory(name []byte) asn1.RawValue { return tagged(4, true, name) }

func tagged(tag int, compound bool, content []byte) asn1.RawValue {
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: compound, Bytes: content}
}

type subtree struct{ Base asn1.RawValue }

func permit(bases ...asn1.RawValue) pkix.Extension {
	return extension(true, struct {
		Permitted []subtree `asn1:"tag:0"`
	}{subtrees(bases)}, 2, 5, 29, 30)
}

func exclude(bases ...asn1.RawValue) pkix.Extension {
	return extension(true, struct {
		Excluded []subtree `asn1:"tag:1"`
	}{subtrees(bases)}, 2, 5, 29, 30)
}

func subtrees(bases []asn1.RawValue) []subtree {
	var trees []subtree
	for _, base := range bases {
		trees = append(trees, subtree{base})
	}
	return trees
}

// TestOneDefect: a chain of any length with exactly one defect is refused with
// that defect and that certificate named; without it, it is accepted.
func TestOneDefect(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 8 {
		length := 2 + round%4
		plans := make([]plan, length)
		for i := range plans {
			plans[i] = authority(fmt.Sprintf("CA %d", i))
			if i == 0 {
				plans[i] = signer("Signer")
				plans[i].extensions = append(plans[i].extensions, purposes(codeSigning))
			}
			switch key := random.IntN(10); {
			case key == 0:
				plans[i].key = rsa2048()
			case key == 1 && i < 2: // one key, and so one name, a chain
				plans[i].key = dsa2048()
			}
		}
		if round == 0 {
			plans[length-1].key = sect409()
		}
		for d := -1; d < len(defects); d++ {
			if d < 0 {
				verifyChain(t, plans, "none", "", -1)
				continue
			}
			for position := range length {
				if where := defects[d].where; where != nil && !where(position, length) {
					continue
				}
				spoiled := slices.Clone(plans)
				defects[d].spoil(&spoiled[position])
				if defects[d].name == "sha1" && position+1 < length {
					spoiled[position+1].key = nil // P-256
				}
				at := position
				verifyChain(t, spoiled, defects[d].name, defects[d].want, at)
			}
		}
	}
}

// verifyChain makes a chain, the signer first in plans, and wants the check to
// fail at a position.
func verifyChain(t *testing.T, plans []plan, what string, want trust.Check, at int) {
	t.Helper()
	var issuer *forge
	var chain []*forge
	for i := len(plans) - 1; i >= 0; i-- {
		issuer = issue(issuer, plans[i])
		chain = append([]*forge{issuer}, chain...)
	}
	s := set(t, trust.Config{
		Certificates:     list(chain[1:]...),
		ExtendedKeyUsage: []asn1.ObjectIdentifier{codeSigning},
	})
	report := s.Verify(chain[0].certificate(t), now, now)
	what = fmt.Sprintf("%s at %d of %d", what, at, len(plans))
	expect(t, what, report, want)
	if want == "" {
		if len(report.Path) != len(plans) {
			t.Errorf("%s: a path of %d", what, len(report.Path))
		}
		return
	}
	switch want {
	case trust.CheckSignature: // said of the issuer that did not sign
		at++
	case trust.CheckNameConstraints: // said of who has the name
		at = 0
	}
	if report.Failure.Position != at || report.Failure.Fingerprint != chain[at].certificate(t).Fingerprint() {
		t.Errorf("%s: named %v, want it to name certificate %d", what, report.Failure, at)
	}
}

// TestKeysOfEveryKind: each of them signs a certificate and is signed.
func TestKeysOfEveryKind(t *testing.T) {
	keys := map[string]any{"RSA": rsa2048(), "DSA": dsa2048(), "SECT409R1": sect409(), "SECT571K1": sect571(), "P-256": nil,
		"P-521": must(signature.GenerateKey(signature.SECP521R1, 0))}
	for name, key := range keys {
		plan := authority(name)
		plan.key = key
		root := issue(nil, plan)
		middle := issue(root, authority("Middle"))
		leafPlan := signer("Leaf")
		leafPlan.key = key
		leaf := issue(middle, leafPlan)
		s := set(t, trust.Config{Certificates: list(root, middle)})
		if problems := s.Problems(); problems != nil {
			t.Errorf("%s: %v", name, problems)
		}
		expect(t, name, s.Verify(leaf.certificate(t), now, now), "")
		wrong := authority(name)
		wrong.key, wrong.spoil = key, true
		wrong.name = "Middle"
		bad := issue(root, wrong)
		badLeaf := issue(bad, signer("Leaf"))
		s = set(t, trust.Config{Certificates: list(root, bad)})
		expect(t, name+", spoiled", s.Verify(badLeaf.certificate(t), now, now), trust.CheckSignature)
	}
}

// TestSelfIssued: a CA's certificate for its own new key does not count
// against a path's length.
func TestSelfIssued(t *testing.T) {
	short := authority("Root")
	short.extensions = []pkix.Extension{ca(0), usage(keyCertSign)}
	root := issue(nil, short)
	rollover := issue(root, authority("Root"))
	s := set(t, trust.Config{Certificates: list(root, rollover)})
	expect(t, "below the new key", s.Verify(issue(rollover, signer("Leaf")).certificate(t), now, now), "")
	other := issue(root, authority("Other"))
	s = set(t, trust.Config{Certificates: list(root, other)})
	expect(t, "below another CA", s.Verify(issue(other, signer("Leaf")).certificate(t), now, now), trust.CheckPathLength)
}

// TestNames: names that RFC 5280 takes for equal are.
func TestNames(t *testing.T) {
	named := func(tag int, value string) []byte {
		attribute := must(asn1.Marshal(struct {
			ID    asn1.ObjectIdentifier
			Value asn1.RawValue
		}{asn1.ObjectIdentifier{2, 5, 4, 3}, asn1.RawValue{Tag: tag, Bytes: []byte(value)}}))
		relative := must(asn1.Marshal(asn1.RawValue{Tag: asn1.TagSet, IsCompound: true, Bytes: attribute}))
		return must(asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: relative}))
	}
	plan := authority("")
	plan.subject = named(asn1.TagPrintableString, "Image  Signing CA")
	root := issue(nil, plan)
	s := set(t, trust.Config{Certificates: list(root)})
	for _, test := range []struct {
		tag  int
		name string
		want trust.Check
	}{
		{asn1.TagPrintableString, "Image  Signing CA", ""},
		{asn1.TagUTF8String, "Image  Signing CA", ""},
		{asn1.TagUTF8String, "image signing ca", ""},
		{asn1.TagUTF8String, " IMAGE Signing CA ", ""},
		{asn1.TagBMPString, "\x00I\x00m\x00a\x00g\x00e\x00 \x00S\x00i\x00g\x00n\x00i\x00n\x00g\x00 \x00C\x00A", ""},
		{asn1.TagUTF8String, "ImageSigning CA", trust.CheckNoIssuer},
		{asn1.TagUTF8String, "Image Signing CA 2", trust.CheckNoIssuer},
	} {
		leaf := signer("Leaf")
		leaf.issuer = named(test.tag, test.name)
		expect(t, test.name, s.Verify(issue(root, leaf).certificate(t), now, now), test.want)
	}
}

// TestDemands: what a set asks of a signer.
func TestDemands(t *testing.T) {
	root := issue(nil, authority("Root"))
	subject := must(asn1.Marshal(pkix.Name{Organization: []string{"Acme"}, CommonName: "Image Builder 7"}.ToRDNSequence()))
	p := signer("")
	p.subject, p.key = subject, must(signature.GenerateKey(signature.SECP384R1, 0))
	p.extensions = append(p.extensions, purposes(codeSigning))
	leaf := issue(root, p)
	pattern := func(texts ...string) (list []trust.Pattern) {
		for _, text := range texts {
			list = append(list, must(trust.ParsePattern(text)))
		}
		return list
	}
	for _, test := range []struct {
		what   string
		config trust.Config
		want   trust.Check
	}{
		{"nothing", trust.Config{}, ""},
		{"subject", trust.Config{Subjects: pattern("CN=image builder *,O=Acme")}, ""},
		{"one of two subjects", trust.Config{Subjects: pattern("O=Other", "CN=*")}, ""},
		{"other subject", trust.Config{Subjects: pattern("CN=image builder *,O=Other")}, trust.CheckSubject},
		{"a subject within a value", trust.Config{Subjects: pattern("CN=*,OU=Acme")}, trust.CheckSubject},
		{"key type", trust.Config{KeyTypes: []signature.KeyType{signature.DSA, signature.SECP384R1}}, ""},
		{"other key type", trust.Config{KeyTypes: []signature.KeyType{signature.DSA, signature.SECP521R1}}, trust.CheckKeyType},
		{"purpose", trust.Config{ExtendedKeyUsage: []asn1.ObjectIdentifier{codeSigning}}, ""},
		{"other purpose", trust.Config{ExtendedKeyUsage: []asn1.ObjectIdentifier{codeSigning, serverAuth}}, trust.CheckExtendedKeyUsage},
		{"key usage", trust.Config{KeyUsage: []trust.KeyUsage{"digitalSignature"}}, ""},
		{"other key usage", trust.Config{KeyUsage: []trust.KeyUsage{"digitalSignature", "contentCommitment"}}, trust.CheckKeyUsage},
		{"another denied", trust.Config{Denied: []string{strings.Repeat("00", 32)}}, ""},
		{"signer denied", trust.Config{Denied: []string{leaf.certificate(t).Fingerprint()}}, trust.CheckDenied},
		{"root denied", trust.Config{Denied: []string{root.certificate(t).Fingerprint()}}, trust.CheckDenied},
		{"endorsed", trust.Config{NotBefore: now, NotAfter: now}, ""},
		{"endorsed later", trust.Config{NotBefore: now.Add(1)}, trust.CheckEndorsement},
		{"endorsed before", trust.Config{NotAfter: now.Add(-1)}, trust.CheckEndorsement},
	} {
		test.config.Certificates = list(root)
		expect(t, test.what, set(t, test.config).Verify(leaf.certificate(t), now, now), test.want)
	}

	// Dates are judged as of then.
	then := now.Add(-time.Hour)
	p.notAfter = now.Add(-time.Minute)
	expired := issue(root, p)
	s := set(t, trust.Config{Certificates: list(root)})
	expect(t, "expired", s.Verify(expired.certificate(t), now, now), trust.CheckExpired)
	expect(t, "expired since", s.Verify(expired.certificate(t), now, then), "")
}

// TestShortKeys: the least length is the set's to say.
func TestShortKeys(t *testing.T) {
	p := authority("Root")
	p.key = rsa1024()
	root := issue(nil, p)
	leaf := issue(root, signer("Leaf")).certificate(t)
	expect(t, "by default", set(t, trust.Config{Certificates: list(root)}).Verify(leaf, now, now), trust.CheckKeySize)
	expect(t, "1024", set(t, trust.Config{Certificates: list(root), MinRSABits: 1024}).Verify(leaf, now, now), "")
}

// TestRevocation: lists that name a certificate, that are stale, missing, by
// somebody else, or of a kind that decides nothing.
func TestRevocation(t *testing.T) {
	root := issue(nil, authority("Root"))
	middle := issue(root, authority("Middle"))
	leaf := issue(middle, signer("Leaf"))
	imposter := issue(nil, authority("Root"))
	day := 24 * time.Hour
	fresh := func(by *forge, revoked ...*forge) []byte {
		return revocations(by, now.Add(-time.Hour), now.Add(day), nil, revoked...)
	}
	with := func(e pkix.Extension) []byte {
		return revocations(root, now.Add(-time.Hour), now.Add(day), []pkix.Extension{e})
	}
	byRoot, byMiddle := fresh(root), fresh(middle)
	scope := func(tag int) pkix.Extension {
		return extension(true, []asn1.RawValue{tagged(tag, false, []byte{0xff})}, 2, 5, 29, 28)
	}
	for _, test := range []struct {
		what  string
		lists [][]byte
		want  trust.Check
	}{
		{"no lists", nil, ""},
		{"two empty lists", [][]byte{byRoot, byMiddle}, ""},
		{"signer revoked", [][]byte{byRoot, fresh(middle, leaf)}, trust.CheckRevoked},
		{"intermediate revoked", [][]byte{fresh(root, middle), byMiddle}, trust.CheckRevoked},
		{"another revoked", [][]byte{byRoot, fresh(middle, root)}, ""},
		{"revoked by the wrong issuer", [][]byte{fresh(root, leaf), byMiddle}, ""},
		{"one list missing", [][]byte{byMiddle}, trust.CheckRevocationUnknown},
		{"other list missing", [][]byte{byRoot}, trust.CheckRevocationUnknown},
		{"stale", [][]byte{byRoot, revocations(middle, now.Add(-day), now.Add(-1*time.Second), nil)}, trust.CheckRevocationUnknown},
		{"to come", [][]byte{byRoot, revocations(middle, now.Add(time.Second), now.Add(day), nil)}, trust.CheckRevocationUnknown},
		{"stale and fresh", [][]byte{byRoot, byMiddle, revocations(middle, now.Add(-day), now.Add(-1*time.Second), nil)}, ""},
		{"revoked by the stale one", [][]byte{byRoot, byMiddle, revocations(middle, now.Add(-day), now.Add(-1*time.Second), nil, leaf)}, trust.CheckRevoked},
		{"without end", [][]byte{byRoot, revocations(middle, now.Add(-day), time.Time{}, nil)}, trust.CheckRevocationUnknown},
		{"by a namesake", [][]byte{fresh(imposter), byMiddle}, trust.CheckRevocationUnknown},
		{"by a namesake beside the right one", [][]byte{fresh(imposter, middle), byRoot, byMiddle}, ""},
		{"unreadable", [][]byte{byRoot[:40], byMiddle}, trust.CheckRevocationUnknown},
		{"unreadable beside all that is needed", [][]byte{byRoot, byMiddle, byRoot[:40]}, trust.CheckRevocationUnknown},
		{"indirect beside all that is needed", [][]byte{byRoot, byMiddle, with(scope(4))}, trust.CheckRevocationUnknown},
		{"delta beside all that is needed", [][]byte{byRoot, byMiddle, with(extension(true, 1, 2, 5, 29, 27))}, trust.CheckRevocationUnknown},
		{"delta", [][]byte{with(extension(true, 1, 2, 5, 29, 27)), byMiddle}, trust.CheckRevocationUnknown},
		{"indirect", [][]byte{with(scope(4)), byMiddle}, trust.CheckRevocationUnknown},
		{"for users only", [][]byte{with(scope(1)), byMiddle}, trust.CheckRevocationUnknown},
		{"for CAs only", [][]byte{with(scope(2)), byMiddle}, ""},
		{"for attribute certificates", [][]byte{with(scope(5)), byMiddle}, trust.CheckRevocationUnknown},
		{"unknown critical extension", [][]byte{with(extension(true, 1, 1, 2, 3)), byMiddle}, trust.CheckRevocationUnknown},
		{"unknown extension", [][]byte{with(extension(false, 1, 1, 2, 3)), byMiddle}, ""},
	} {
		config := trust.Config{Certificates: list(root, middle)}
		for _, l := range test.lists {
			config.CRLs = append(config.CRLs, trust.Entry{Source: "some.crl", Data: l})
		}
		expect(t, test.what, set(t, config).Verify(leaf.certificate(t), now, now), test.want)
	}

	// A CA whose key is not for lists.
	p := authority("Middle")
	p.extensions = []pkix.Extension{ca(-1), usage(keyCertSign)}
	middle = issue(root, p)
	leaf = issue(middle, signer("Leaf"))
	config := trust.Config{Certificates: list(root, middle), CRLs: []trust.Entry{{Source: "a", Data: byRoot}, {Source: "b", Data: fresh(middle)}}}
	expect(t, "no cRLSign", set(t, config).Verify(leaf.certificate(t), now, now), trust.CheckRevocationUnknown)
}

// TestNameConstraints of the kinds that image signers' certificates have.
func TestNameConstraints(t *testing.T) {
	acme := must(asn1.Marshal(pkix.Name{Organization: []string{"Acme"}}.ToRDNSequence()))
	inside := must(asn1.Marshal(pkix.RDNSequence{
		{{Type: []int{2, 5, 4, 10}, Value: "ACME"}}, {{Type: []int{2, 5, 4, 3}, Value: "Builder"}}}))
	names := func(values ...asn1.RawValue) pkix.Extension { return extension(false, values, 2, 5, 29, 17) }
	text := func(tag int, value string) asn1.RawValue { return tagged(tag, false, []byte(value)) }
	const mail, host, uri = 1, 2, 6
	for _, test := range []struct {
		what    string
		limit   pkix.Extension
		subject []byte
		names   []asn1.RawValue
		want    trust.Check
	}{
		{"within", permit(directory(acme)), inside, nil, ""},
		{"outside", permit(directory(acme)), cn("Builder"), nil, trust.CheckNameConstraints},
		{"excluded", exclude(directory(acme)), inside, nil, trust.CheckNameConstraints},
		{"not excluded", exclude(directory(acme)), cn("Builder"), nil, ""},
		{"host within", permit(text(host, "example.com")), cn("x"), []asn1.RawValue{text(host, "a.EXAMPLE.com")}, ""},
		{"host outside", permit(text(host, "example.com")), cn("x"), []asn1.RawValue{text(host, "badexample.com")}, trust.CheckNameConstraints},
		{"second host outside", permit(text(host, "example.com")), cn("x"), []asn1.RawValue{text(host, "example.com"), text(host, "example.org")}, trust.CheckNameConstraints},
		{"other kind of name", permit(text(host, "example.com")), cn("x"), []asn1.RawValue{text(mail, "a@example.org")}, ""},
		{"mailbox", permit(text(mail, "a@example.com")), cn("x"), []asn1.RawValue{text(mail, "a@example.com")}, ""},
		{"other mailbox", permit(text(mail, "a@example.com")), cn("x"), []asn1.RawValue{text(mail, "b@example.com")}, trust.CheckNameConstraints},
		{"mail host", permit(text(mail, "example.com")), cn("x"), []asn1.RawValue{text(mail, "b@example.com")}, ""},
		{"host below mail host", permit(text(mail, "example.com")), cn("x"), []asn1.RawValue{text(mail, "b@a.example.com")}, trust.CheckNameConstraints},
		{"URI", permit(text(uri, ".example.com")), cn("x"), []asn1.RawValue{text(uri, "https://u@a.example.com:1/x")}, ""},
		{"URI outside", permit(text(uri, ".example.com")), cn("x"), []asn1.RawValue{text(uri, "https://evil.org/.example.com")}, trust.CheckNameConstraints},
		{"URI without host", exclude(text(uri, ".example.com")), cn("x"), []asn1.RawValue{text(uri, "urn:x")}, trust.CheckNameConstraints},
		{"address", permit(text(7, "\x0a\x00\x00\x00\xff\x00\x00\x00")), cn("x"), []asn1.RawValue{text(7, "\x0a\x01\x02\x03")}, ""},
		{"address outside", permit(text(7, "\x0a\x00\x00\x00\xff\x00\x00\x00")), cn("x"), []asn1.RawValue{text(7, "\x0b\x01\x02\x03")}, trust.CheckNameConstraints},
		{"address excluded", exclude(text(7, "\x0a\x00\x00\x00\xff\x00\x00\x00")), cn("x"), []asn1.RawValue{text(7, "\x0a\x01\x02\x03")}, trust.CheckNameConstraints},
		{"a kind not known", permit(text(8, "\x01\x02")), cn("x"), []asn1.RawValue{text(8, "\x01\x02")}, trust.CheckNameConstraints},
		{"a kind not known that is not there", permit(text(8, "\x01\x02")), cn("x"), nil, ""},
	} {
		p := authority("Root")
		p.extensions = append(p.extensions, test.limit)
		root := issue(nil, p)
		leaf := signer("")
		leaf.subject = test.subject
		if test.names != nil {
			leaf.extensions = append(leaf.extensions, names(test.names...))
		}
		s := set(t, trust.Config{Certificates: list(root)})
		if problems := s.Problems(); problems != nil {
			t.Errorf("%s: %v", test.what, problems)
		}
		expect(t, test.what, s.Verify(issue(root, leaf).certificate(t), now, now), test.want)
	}
}

// TestHostileLists: whatever is listed, there is an answer at once.
func TestHostileLists(t *testing.T) {
	// Two CAs that certify each other, alone and beside a real root.
	root := issue(nil, authority("Root"))
	a := issue(nil, authority("A"))
	b := issue(nil, authority("B"))
	aByB, bByA := authority("A"), authority("B")
	aByB.key, bByA.key = a.key, b.key
	crossed := []*forge{issue(b, aByB), issue(a, bByA)}
	leaf := issue(a, signer("Leaf"))
	answer(t, "cross-certified", leaf, crossed, trust.CheckLoop)
	aByRoot := authority("A")
	aByRoot.key = a.key
	answer(t, "cross-certified, and by a root", leaf, append(crossed, issue(root, aByRoot), root), "")

	// A hundred of one name, the right one last, none of them helpful with
	// key identifiers.
	var lookalikes []*forge
	for range 100 {
		lookalikes = append(lookalikes, issue(nil, authority("Root")))
	}
	answer(t, "look-alikes without the right one", issue(root, signer("Leaf")), lookalikes, trust.CheckSignature)
	answer(t, "look-alikes and the right one", issue(root, signer("Leaf")), append(lookalikes, root), "")

	// Twelve CAs that all certify one another: more simple paths than anybody
	// can walk, and no root.
	var everybody []*forge
	for i := range 12 {
		everybody = append(everybody, issue(nil, authority(fmt.Sprint("CA ", i))))
	}
	var mesh []*forge
	for i, one := range everybody {
		for j, by := range everybody {
			if i != j {
				p := authority(fmt.Sprint("CA ", i))
				p.key = one.key
				mesh = append(mesh, issue(by, p))
			}
		}
	}
	answer(t, "all by all", issue(everybody[0], signer("Leaf")), mesh, trust.CheckLimit)
	answer(t, "all by all, and a root", issue(everybody[0], signer("Leaf")), append(mesh, everybody[7]), "")

	// One that cannot be read does not stop the others.
	s := set(t, trust.Config{Certificates: append([]trust.Entry{
		{Source: "nothing", Data: nil},
		{Source: "text", Data: []byte("hello")},
		{Source: "cut", Data: root.der[:100]},
		{Source: "damaged", Data: []byte(strings.Replace(string(root.pem()), "A", "*", 3))},
	}, list(root)...)})
	if got := len(s.Problems()); got != 4 {
		t.Errorf("%d problems, want 4: %v", got, s.Problems())
	}
	expect(t, "beside unreadable ones", s.Verify(issue(root, signer("Leaf")).certificate(t), now, now), "")
}

func answer(t *testing.T, what string, leaf *forge, listed []*forge, want trust.Check) {
	t.Helper()
	s := set(t, trust.Config{Certificates: list(listed...)})
	for range 8 { // the set remembers signatures, so that a later search gets further
		start := time.Now()
		report := s.Verify(leaf.certificate(t), now, now)
		took := time.Since(start)
		if took > time.Second { // it is milliseconds; the machine may be busy
			t.Errorf("%s: an answer after %v", what, took)
		}
		if report.Err() == nil && want != "" || report.Err() != nil && report.Failure.Check != want {
			t.Errorf("%s: %v, want %q", what, report.Err(), want)
		}
	}
}

func TestPatterns(t *testing.T) {
	for _, text := range []string{"", "CN", "CN=", "=x", "XX=y", "CN=a,,O=b", "CN=a,", "1=x", "2.999999999999.3=x", "CN=*********"} {
		if _, err := trust.ParsePattern(text); err == nil {
			t.Errorf("ParsePattern(%q) is accepted", text)
		}
	}
	root := issue(nil, authority("Root"))
	p := signer("")
	p.subject = must(asn1.Marshal(pkix.RDNSequence{
		{{Type: []int{2, 5, 4, 10}, Value: "Acme, Inc."}},
		{{Type: []int{2, 5, 4, 3}, Value: "a*b = builder,O=Evil"}, {Type: []int{1, 2, 3, 4}, Value: "odd"}}}))
	leaf := issue(root, p).certificate(t)
	for text, want := range map[string]bool{
		`O=Acme\, Inc.`:           true,
		`O=acme\,  inc.`:          false, // blanks of a pattern are taken as they are
		`O=Acme`:                  false,
		`O=Evil`:                  false,
		`CN=a\*b = *`:             true,
		`CN=*builder*`:            true,
		`CN=*b*b*`:                true,
		`CN=*b*b*b*`:              false,
		`CN=builder*`:             false,
		`1.2.3.4=odd`:             true,
		` 1.2.3.4 = o*d ,CN = a*`: true,
		`1.2.3.4=even,CN=a*`:      false,
	} {
		s := set(t, trust.Config{Certificates: list(root), Subjects: []trust.Pattern{must(trust.ParsePattern(text))}})
		if got := s.Verify(leaf, now, now).Err() == nil; got != want {
			t.Errorf("pattern %q matches: %v, want %v", text, got, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := trust.New(trust.Config{Mode: "leaf"}); err == nil {
		t.Error("an unknown mode is accepted")
	}
	if _, err := trust.New(trust.Config{KeyUsage: []trust.KeyUsage{"signing"}}); err == nil {
		t.Error("an unknown key usage is accepted")
	}
	if _, ok := trust.ParseExtendedKeyUsage("imageSigning"); ok {
		t.Error("an unknown purpose is accepted")
	}
}

func TestDraw(t *testing.T) {
	root := issue(nil, authority("Root"))
	other := issue(nil, authority("Root"))
	leaf := issue(root, signer("Leaf"))
	s := set(t, trust.Config{Certificates: []trust.Entry{other.entry("other.pem"), root.entry("root.pem")}})
	short := func(f *forge) string { return f.certificate(t).Fingerprint()[:16] }
	want := `"CN=Leaf" (SHA-256 ` + short(leaf) + `…)
├─ issued by "CN=Root" (SHA-256 ` + short(other) + `…) from other.pem
│  └─ signature: has the issuer's name, but its key did not sign the certificate below it
└─ issued by "CN=Root" (SHA-256 ` + short(root) + `…) from root.pem
   └─ accepted: the chain ends here
`
	if got := s.Verify(leaf.certificate(t), now, now).Draw(); got != want {
		t.Errorf("Draw() =\n%s\nwant\n%s", got, want)
	}
}

// FuzzVerify: whatever a certificate and the list hold, there is an answer, and
// no stranger is accepted.
func FuzzVerify(f *testing.F) {
	root := issue(nil, authority("Root"))
	leaf := issue(root, signer("Leaf"))
	f.Add(leaf.der, root.der, revocations(root, now, now.Add(time.Hour), nil, leaf))
	p := authority("S")
	p.key = sect409()
	p.extensions = append(p.extensions, permit(directory(cn("x"))))
	sect := issue(nil, p)
	f.Add(issue(sect, signer("Leaf")).der, sect.der, []byte{})
	mine := set(f, trust.Config{Certificates: list(root)})
	f.Fuzz(func(t *testing.T, signerDER, listed, crl []byte) {
		c, err := signature.ParseCertificate(signerDER)
		if err != nil {
			return
		}
		for _, mode := range trust.Modes {
			s, err := trust.New(trust.Config{Mode: mode, Certificates: []trust.Entry{{Data: listed}, root.entry("root")}, CRLs: []trust.Entry{{Data: crl}}})
			if err != nil {
				t.Fatal(err)
			}
			report := s.Verify(c, now, now)
			if (report.Err() == nil) != (len(report.Path) > 0) || report.Draw() == "" {
				t.Errorf("a report that contradicts itself: %+v", report)
			}
		}
		if mine.Verify(c, now, now).Err() == nil && c.Fingerprint() != root.certificate(t).Fingerprint() && !slices.Equal(c.Raw, leaf.der) {
			// The signature can be written in other ways, the content cannot.
			if new(big.Int).SetBytes(fieldsOf(c.Raw)[1].Bytes).Cmp(new(big.Int).SetBytes(fieldsOf(leaf.der)[1].Bytes)) != 0 {
				t.Errorf("a stranger is accepted: %x", c.Raw)
			}
		}
	})
}
