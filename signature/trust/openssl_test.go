package trust_test

import (
	"archive/zip"
	"encoding/asn1"
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

// opensslReasons are tests of OpenSSL that end otherwise here, by their titles,
// and why.
var opensslReasons = []struct {
	titles []string
	reason string
}{
	{[]string{"Name Constraints CNs not permitted", "Name Constraints CN hostname not permitted", "Name Constraints CN BMPSTRING hostname not permitted"},
		"accepted: a common name is no host name; RFC 5280 does not compare it with constraints of hosts"},
	{[]string{"fail client purpose intermediate trusted"},
		"accepted: of two CAs of one name and key, both listed, the one that fits counts"},
	{[]string{"accept critical OCSP No Check"}, "refused: a critical extension that has no use here"},
	{[]string{"accept non-ca with pathlen:0 by default"}, "refused: the signer lacks the extended key usage that the set demands, which OpenSSL takes for any"},
	{[]string{"accept trusted self-signed EE cert with key usage keyCertSign also when strict"}, "refused: no CA; accepted by mode anchor"},
	{[]string{"accept X25519 EE cert issued by trusted Ed25519 self-signed CA cert", "accept last-resort direct leaf match Ed25519-signed self-issued cert"},
		"refused: the key is for agreeing on keys and signs nothing"},
}

// TestOpenSSLChains judges the certificates of OpenSSL's own test_verify (from
// Debian's source package, 3.0.20). openssl.tsv has a line for each test:
// verdict, purpose, whether a chain may end below its root, signer, trusted and
// further certificates, title. Tests of what only OpenSSL has are left out:
// auxiliary trust, proxy certificates, security levels, depths by option.
func TestOpenSSLChains(t *testing.T) {
	archive, err := zip.OpenReader(filepath.Join("testdata", "openssl.zip"))
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	read := func(name string) []byte {
		f, err := archive.Open(name + ".pem")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		return must(io.ReadAll(f))
	}
	purposes := map[string][]asn1.ObjectIdentifier{"-": nil, "sslserver": {serverAuth}, "sslclient": {{1, 3, 6, 1, 5, 5, 7, 3, 2}}}
	at := time.Date(2022, 6, 1, 0, 0, 0, 0, time.UTC)
	judged := 0
	for _, line := range strings.Split(strings.TrimSpace(string(file(t, "openssl.tsv"))), "\n") {
		fields := strings.Split(line, "\t")
		verdict, partial, names, title := fields[0], fields[2] == "partial", strings.Fields(fields[4]), fields[6]
		config := trust.Config{ExtendedKeyUsage: purposes[fields[1]], MinRSABits: 1024}
		if partial {
			config.Mode = trust.Anchor // nothing but what is trusted may be listed
		} else {
			names = append(names, strings.Fields(fields[5])...)
		}
		for _, name := range names {
			if name != "-" {
				config.Certificates = append(config.Certificates, trust.Entry{Source: name, Data: read(name)})
			}
		}
		got, why := "refused", error(nil)
		c, err := signature.ParseCertificate(read(fields[3]))
		if err != nil {
			why = err
		} else if why = set(t, config).Verify(c, at, at).Err(); why == nil {
			got = "accepted"
		}
		judged++
		excepted := false
		for _, r := range opensslReasons {
			excepted = excepted || slices.Contains(r.titles, title)
		}
		if excepted != (got != verdict) {
			t.Errorf("%s (%s): %s (%v), and OpenSSL says %s; exception: %v", title, fields[3], got, why, verdict, excepted)
		}
	}
	if judged < 74 {
		t.Errorf("only %d tests were judged", judged)
	}
}

// TestOpenSSLInDocuments holds the manual's table to the reasons.
func TestOpenSSLInDocuments(t *testing.T) {
	var want strings.Builder
	want.WriteString("| OpenSSL's test | here |\n|---|---|\n")
	for _, r := range opensslReasons {
		fmt.Fprintf(&want, "| %s | %s |\n", strings.Join(r.titles, "; "), r.reason)
	}
	manual, err := os.ReadFile("../../docs/trust.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(manual), "<!-- openssl: held by TestOpenSSLInDocuments in signature/trust -->\n"+want.String()+"<!-- /openssl -->") {
		t.Errorf("docs/trust.md should have:\n\n%s", want.String())
	}
}
