//go:build e2e

package e2e_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestTheServedCertificateIsReplacedWithoutARestart writes another certificate
// over the first, as cert-manager or certbot does.
func TestTheServedCertificateIsReplacedWithoutARestart(t *testing.T) {
	folder := t.TempDir()
	first, second := newServerCertificate(t), newServerCertificate(t)
	first.write(t, folder)
	p := startProxy(t, servers[0], policy,
		"COUNTERSIGN_TLS_CERT_FILE="+filepath.Join(folder, "tls.crt"), "COUNTERSIGN_TLS_KEY_FILE="+filepath.Join(folder, "tls.key"))
	address := strings.TrimPrefix(p.url, "http://")
	if shown := shownBy(t, address, first.roots()); !shown.Equal(first.leaf) {
		t.Fatalf("the proxy shows the certificate %v, want %v", shown.SerialNumber, first.leaf.SerialNumber)
	}

	c := login(t, "demo", p.url)
	data := pixels(t, size)
	id := createSigned(c.at(servers[0].url()), data).id()
	request, err := http.NewRequest("PUT", "https://"+address+"/v2/images/"+id+"/file", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Auth-Token", c.token)
	request.Header.Set("Content-Type", dataType)
	response, err := (&http.Transport{TLSClientConfig: &tls.Config{RootCAs: first.roots()}, DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusNoContent {
		t.Errorf("an upload over TLS answered %s, want 204", response.Status)
	}
	wantStatus(t, c.at(servers[0].url()), id, "active")

	both := first.roots()
	both.AddCert(second.leaf)
	second.write(t, folder)
	eventually(t, "the proxy shows the new certificate", func() bool { return shownBy(t, address, both).Equal(second.leaf) })
}

// TestGlanceBehindTLSIsReached: Countersign trusts the Glance whose certificate
// the given authority has issued, and no other.
func TestGlanceBehindTLSIsReached(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		certificate := newServerCertificate(t)
		folder := t.TempDir()
		certificate.write(t, folder)
		behind := "COUNTERSIGN_GLANCE_URL=https://" + terminate(t, glance, certificate)
		p := startProxy(t, glance, policy, behind, "COUNTERSIGN_GLANCE_CA_FILE="+filepath.Join(folder, "tls.crt"))
		c := login(t, "demo", p.url)
		data := pixels(t, size)
		id := createSigned(c, data).id()
		if a := c.upload(id, data); a.status != http.StatusNoContent {
			t.Errorf("upload answered %v, want 204", a)
		}
		wantStatus(t, c.at(glance.url()), id, "active")
		id = createSigned(c, data).id()
		wantRefusal(t, c.uploadChunked(id, pixels(t, size)), http.StatusBadRequest, "signature_mismatch")
		if c.at(glance.url()).exists(id) {
			t.Errorf("the tampered image is still there: %v", c.at(glance.url()).show(id))
		}

		other := t.TempDir()
		newServerCertificate(t).write(t, other)
		p = launchProxy(t, glance, policy, behind, "COUNTERSIGN_GLANCE_CA_FILE="+filepath.Join(other, "tls.crt"))
		p.awaitEvent(t, map[string]string{"message": "serving"})
		wantRefusal(t, c.at(p.url).upload(id, data), http.StatusBadGateway, "glance_unavailable")
	})
}

// serverCertificate is for 127.0.0.1, signed by itself.
type serverCertificate struct {
	leaf      *x509.Certificate
	cert, key []byte // PEM
}

func newServerCertificate(t *testing.T) serverCertificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "e2e"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA:        true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return serverCertificate{leaf, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})}
}

func (s serverCertificate) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(s.leaf)
	return pool
}

// write puts the certificate into tls.crt and the key into tls.key.
func (s serverCertificate) write(t *testing.T, folder string) {
	t.Helper()
	for name, text := range map[string][]byte{"tls.crt": s.cert, "tls.key": s.key} {
		if err := os.WriteFile(filepath.Join(folder, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// shownBy is the certificate that a server shows in a new handshake.
func shownBy(t *testing.T, address string, roots *x509.CertPool) *x509.Certificate {
	t.Helper()
	conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// terminate stands in front of a Glance and speaks TLS for it. It carries bytes
// and knows no HTTP: what is cut on one side is cut on the other.
func terminate(t *testing.T, glance server, certificate serverCertificate) (address string) {
	t.Helper()
	pair, err := tls.X509KeyPair(certificate.cert, certificate.key)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() { // ends when the listener is closed
		for {
			in, err := listener.Accept()
			if err != nil {
				return
			}
			go carry(in, strings.TrimPrefix(glance.url(), "http://"))
		}
	}()
	return listener.Addr().String()
}

// carry ends when either side closes.
func carry(in net.Conn, to string) {
	defer in.Close()
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	go func() {
		io.Copy(out, in)
		out.Close()
	}()
	io.Copy(in, out)
}
