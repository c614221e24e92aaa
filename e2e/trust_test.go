//go:build e2e

package e2e_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certify makes a certificate for a new key by another signer, or by itself
// where by is nil. It is a CA's unless it is a signer of images.
func certify(t *testing.T, by *signer, name string, isCA bool) *signer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{Organization: []string{"Acme"}, CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(24 * time.Hour),
		BasicConstraintsValid: true,
		IsCA:                  isCA,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	if isCA {
		template.KeyUsage, template.ExtKeyUsage = x509.KeyUsageCertSign|x509.KeyUsageCRLSign, nil
	}
	parent, issuerKey := template, key
	if by != nil {
		parent, issuerKey = by.parsed(t), by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), issuerKey)
	if err != nil {
		t.Fatal(err)
	}
	return &signer{t, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

func (s *signer) parsed(t *testing.T) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(s.certificate)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// revocations is a list of today by s, which names some.
func (s *signer) revocations(t *testing.T, revoked ...*signer) []byte {
	t.Helper()
	list := &x509.RevocationList{Number: big.NewInt(time.Now().UnixNano()), ThisUpdate: time.Now().Add(-time.Minute), NextUpdate: time.Now().Add(time.Hour)}
	for _, one := range revoked {
		list.RevokedCertificateEntries = append(list.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: one.parsed(t).SerialNumber, RevocationTime: list.ThisUpdate})
	}
	der, err := x509.CreateRevocationList(rand.Reader, list, s.parsed(t), s.key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "X509 CRL", Bytes: der})
}

// put writes a file in one step, as a ConfigMap changes.
func put(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path+".new", data, 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

// uploads makes an image that s signs, and uploads its data.
func uploads(c *client, s *signer, data []byte) (id string, a answer) {
	c.t.Helper()
	id = c.create(s.properties(data, c.secret(s.certificate))).id()
	return id, c.upload(id, data)
}

// untouched fails the test when it is read: a refusal comes before the data.
type untouched struct{ t *testing.T }

func (u untouched) Read([]byte) (int, error) {
	u.t.Error("the data was read before the refusal")
	return 0, io.EOF
}

// A rule trusts a root: whoever it vouches for over two intermediates signs
// images, and nobody else does. When an intermediate is revoked while the proxy
// runs, it is over.
func TestAChainIsTrustedUntilItIsRevoked(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		root := certify(t, nil, "Root", true)
		a := certify(t, root, "First Intermediate", true)
		b := certify(t, a, "Second Intermediate", true)
		builder := certify(t, b, "Builder", false)
		folder := t.TempDir()
		put(t, filepath.Join(folder, "certificates", "root.pem"), root.certificate)
		put(t, filepath.Join(folder, "certificates", "intermediates.pem"), append(bytes.Clone(a.certificate), b.certificate...))
		lists := filepath.Join(folder, "lists")
		for name, s := range map[string]*signer{"root": root, "a": a, "b": b} {
			put(t, filepath.Join(lists, name+".pem"), s.revocations(t))
		}
		p := startProxy(t, glance, fmt.Sprintf(`
trust:
  corporate:
    files: [%s]
    crls: [%s]
    subjects: ["O=Acme,CN=*"]
    extended_key_usage: [codeSigning]
rules:
  - name: guarded
    projects: [{name: demo, domain: Default}]
    mode: enforce
    signers: [trust: corporate]
  - {projects: all, mode: audit}
`, filepath.Join(folder, "certificates"), lists))
		c := login(t, "demo", p.url)
		data := pixels(t, size)

		id, answered := uploads(c, builder, data)
		if answered.status != http.StatusNoContent {
			t.Fatalf("upload answered %v, want 204", answered)
		}
		wantStatus(t, c.at(glance.url()), id, "active")

		// The same names by somebody else.
		self := certify(t, certify(t, nil, "Second Intermediate", true), "Builder", false)
		id = c.create(self.properties(data, c.secret(self.certificate))).id()
		request, err := http.NewRequest("PUT", p.url+"/v2/images/"+id+"/file", untouched{t})
		if err != nil {
			t.Fatal(err)
		}
		request.ContentLength = int64(len(data))
		request.Header = http.Header{"X-Auth-Token": {c.token}, "Content-Type": {"application/octet-stream"}, "Expect": {"100-continue"}}
		client := &http.Client{Transport: &http.Transport{ExpectContinueTimeout: time.Minute}}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(response.Body)
		response.Body.Close()
		wantRefusal(t, answer{status: response.StatusCode, body: body}, http.StatusForbidden, "signer_not_trusted")
		if !strings.Contains(string(body), "its key did not sign the certificate below it") {
			t.Errorf("the refusal does not say which check failed: %s", body)
		}
		wantStatus(t, c, id, "queued")

		put(t, filepath.Join(lists, "a.pem"), a.revocations(t, b))
		eventually(t, "the intermediate is refused", func() bool {
			_, answered = uploads(c, builder, data)
			return answered.status != http.StatusNoContent
		})
		wantRefusal(t, answered, http.StatusForbidden, "certificate_revoked")
		if err := os.Remove(filepath.Join(lists, "a.pem")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "what cannot be told is refused", func() bool {
			_, answered = uploads(c, builder, data)
			return strings.Contains(string(answered.body), "revocation_unknown")
		})
		put(t, filepath.Join(lists, "a.pem"), a.revocations(t))
		eventually(t, "it is trusted again", func() bool {
			_, answered = uploads(c, builder, data)
			return answered.status == http.StatusNoContent
		})
	})
}

// A second root counts for the project whose rule trusts it, and for no other.
// It is in the key manager, where the service credential finds it.
func TestASecondRootForOneProject(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		root, second := certify(t, nil, "Root", true), certify(t, nil, "Second Root", true)
		builder, other := certify(t, root, "Builder", false), certify(t, second, "Builder", false)
		file := filepath.Join(t.TempDir(), "root.pem")
		put(t, file, root.certificate)
		id := login(t, "countersign", glance.url()).secret(second.certificate)
		p := startProxy(t, glance, fmt.Sprintf(`
trust:
  everybody: {files: [%s]}
  partner: {certificates: "%s"}
rules:
  - name: partner
    projects: [{name: audited, domain: Default}]
    mode: enforce
    signers: [trust: everybody, trust: partner]
  - {name: rest, projects: all, mode: enforce, signers: [trust: everybody]}
`, file, id))
		data := pixels(t, size)
		for _, test := range []struct {
			user   string
			signer *signer
			status int
		}{
			{"auditor", builder, http.StatusNoContent},
			{"auditor", other, http.StatusNoContent},
			{"demo", builder, http.StatusNoContent},
			{"demo", other, http.StatusForbidden},
		} {
			c := login(t, test.user, p.url)
			id, answered := uploads(c, test.signer, data)
			if test.status == http.StatusForbidden {
				wantRefusal(t, answered, test.status, "signer_not_trusted")
				wantStatus(t, c, id, "queued")
			} else if answered.status != test.status {
				t.Errorf("%s: upload answered %v, want %d", test.user, answered, test.status)
			}
		}
	})
}
