package trust_test

import (
	"archive/zip"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/signature"
	"github.com/countersign/countersign/signature/trust"
)

// pkitsReasons are why tests of PKITS do not apply, or end otherwise here: the
// settings of column three in pkits.tsv, and tests by their number.
var pkitsReasons = []struct {
	tests  []string
	reason string
}{
	{[]string{"policies", "explicit", "nomapping", "noany"}, "start with settings about certificate policies that no trust set has"},
	{[]string{"4.1.4"}, "is signed with DSA and SHA-1, which proves nothing any more"},
	{[]string{"4.1.5"}, "a DSA key inherits its parameters from its issuer, which RFC 5280 allows no more for new keys and Go does not read"},
	{[]string{"4.14.4", "4.14.5", "4.14.7"}, "a distribution point is named relative to its issuer"},
	{[]string{"4.14.18", "4.14.19"}, "revocation lists for some reasons only"},
	{[]string{"4.14.22", "4.14.24", "4.14.25", "4.14.28", "4.14.29", "4.14.30", "4.14.33"}, "indirect revocation lists"},
	{[]string{"4.15.2", "4.15.5", "4.15.7", "4.15.8"}, "delta revocation lists"},
}

// pkitsChecks are the checks that a section of PKITS is about, so that what is
// invalid is refused for that and not by accident.
var pkitsChecks = map[string][]trust.Check{
	"4.1":  {trust.CheckSignature, trust.CheckAlgorithm},
	"4.2":  {trust.CheckNotYetValid, trust.CheckExpired},
	"4.3":  {trust.CheckNoIssuer},
	"4.4":  {trust.CheckRevoked, trust.CheckRevocationUnknown, trust.CheckUnreadable}, // 4.4.15 has a negative serial number
	"4.5":  {trust.CheckRevoked, trust.CheckCA},
	"4.6":  {trust.CheckCA, trust.CheckPathLength},
	"4.7":  {trust.CheckKeyUsage, trust.CheckRevocationUnknown},
	"4.8":  {trust.CheckPolicies},
	"4.9":  {trust.CheckPolicies},
	"4.10": {trust.CheckPolicies},
	"4.11": {trust.CheckPolicies},
	"4.12": {trust.CheckPolicies},
	"4.13": {trust.CheckNameConstraints},
	"4.14": {trust.CheckRevoked, trust.CheckRevocationUnknown, trust.CheckUnreadable}, // 4.14.6 names a point relatively
	"4.15": {trust.CheckRevoked, trust.CheckRevocationUnknown},
	"4.16": {trust.CheckCriticalExtension},
}

// TestPKITS is NIST's Public Key Interoperability Test Suite of 2011, from
// Debian's package python3-cryptography-vectors. pkits.tsv has a line for each
// test: name, verdict, settings, certificates from the anchor to the signer,
// revocation lists.
func TestPKITS(t *testing.T) {
	archive, err := zip.OpenReader(filepath.Join("testdata", "pkits.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	at := time.Date(2020, 6, 1, 0, 0, 0, 0, time.UTC)
	applied := 0
	for _, line := range strings.Split(strings.TrimSpace(string(file(t, "pkits.tsv"))), "\n") {
		fields := strings.Split(line, "\t")
		name, verdict, settings := fields[0], fields[1], fields[2]
		number, _, _ := strings.Cut(name, " ")
		if settings != "-" {
			continue // the first of pkitsReasons
		}
		excepted := false
		for _, r := range pkitsReasons {
			excepted = excepted || slices.Contains(r.tests, number)
		}
		certificates := pkitsEntries(t, archive, "certs/", ".crt", fields[3])
		last := len(certificates) - 1
		s := set(t, trust.Config{
			MinRSABits:   1024, // of the DSA tests
			Certificates: certificates[:last],
			CRLs:         pkitsEntries(t, archive, "crls/", ".crl", fields[4]),
		})
		got, check := "invalid", trust.CheckUnreadable
		if c, err := signature.ParseCertificate(certificates[last].Data); err == nil {
			report := s.Verify(c, at, at)
			if report.Err() == nil {
				got = "valid"
			} else {
				check = report.Failure.Check
			}
		}
		section := number[:strings.LastIndexByte(number, '.')]
		switch {
		case excepted && (verdict != "valid" || got != "invalid"):
			t.Errorf("%s: %s, and NIST says %s; it is said to be a valid one that is refused", name, got, verdict)
		case excepted:
		case got != verdict:
			t.Errorf("%s: %s, and NIST says %s", name, got, verdict)
		case got == "invalid" && !slices.Contains(pkitsChecks[section], check):
			t.Errorf("%s: refused for %s, want %v", name, check, pkitsChecks[section])
		default:
			applied++
		}
	}
	if applied < 196 {
		t.Errorf("only %d tests applied", applied)
	}
}

func pkitsEntries(t *testing.T, archive *zip.ReadCloser, folder, suffix, names string) []trust.Entry {
	t.Helper()
	var entries []trust.Entry
	for _, name := range strings.Fields(names) {
		if name == "-" {
			continue
		}
		f, err := archive.Open(folder + name + suffix)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		entries = append(entries, trust.Entry{Source: name, Data: data})
	}
	return entries
}

// TestPKITSInDocuments holds the manual's table to the reasons.
func TestPKITSInDocuments(t *testing.T) {
	var want strings.Builder
	want.WriteString("| tests | why they do not apply |\n|---|---|\n")
	for _, r := range pkitsReasons {
		tests := strings.Join(r.tests, ", ")
		if r.tests[0] == "policies" {
			tests = "the parts of 4.8 to 4.12 with settings"
		}
		fmt.Fprintf(&want, "| %s | %s |\n", tests, r.reason)
	}
	manual, err := os.ReadFile("../../docs/trust.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(manual), "<!-- pkits: held by TestPKITSInDocuments in signature/trust -->\n"+want.String()+"<!-- /pkits -->") {
		t.Errorf("docs/trust.md should have:\n\n%s", want.String())
	}
}
