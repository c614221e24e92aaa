package trust_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/countersign/countersign/signature"
	"github.com/countersign/countersign/signature/trust"
)

func file(t testing.TB, name ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{"testdata"}, name...)...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestNova is the chain of four in Nova's document, as its commands make it:
// testdata/nova/make.sh. Its root is shorter than what a set takes by itself.
func TestNova(t *testing.T) {
	client, err := signature.ParseCertificate(file(t, "nova", "cert_client.pem"))
	if err != nil {
		t.Fatal(err)
	}
	ca, a, b := "cert_ca.pem", "cert_intermediate_a.pem", "cert_intermediate_b.pem"
	day := client.NotBefore.Add(time.Hour)
	for _, test := range []struct {
		what   string
		config trust.Config
		listed []string
		at     time.Time
		want   trust.Check
	}{
		{"as in the document", trust.Config{MinRSABits: 1024}, []string{ca, a, b}, day, ""},
		{"in another order", trust.Config{MinRSABits: 1024}, []string{b, ca, a}, day, ""},
		{"with today's key sizes", trust.Config{}, []string{ca, a, b}, day, trust.CheckKeySize},
		{"the root alone", trust.Config{MinRSABits: 1024}, []string{ca}, day, trust.CheckNoIssuer},
		{"without the root", trust.Config{MinRSABits: 1024}, []string{a, b}, day, trust.CheckNoIssuer},
		{"the last intermediate as an anchor", trust.Config{Mode: trust.Anchor}, []string{b}, day, ""},
		{"when the root has expired", trust.Config{MinRSABits: 1024}, []string{ca, a, b}, day.AddDate(0, 0, 31), trust.CheckExpired},
	} {
		for _, name := range test.listed {
			test.config.Certificates = append(test.config.Certificates, trust.Entry{Source: name, Data: file(t, "nova", name)})
		}
		expect(t, test.what, set(t, test.config).Verify(client, test.at, test.at), test.want)
	}
}
