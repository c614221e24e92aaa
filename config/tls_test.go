package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/config"
)

// certify makes a certificate for 127.0.0.1 that its own key signs.
func certify(t testing.TB, name string) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: name},
		DNSNames:              []string{"localhost"},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().Add(time.Hour),
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

// overwrite replaces a file and moves its time, as a renewal an hour later.
func overwrite(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, time.Time{}, info.ModTime().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
}

func TestServerTLS(t *testing.T) {
	first, firstKey := certify(t, "first")
	certFile, keyFile := write(t, "tls.crt", first), write(t, "tls.key", firstKey)
	c, err := config.Load(environ(map[string]string{"COUNTERSIGN_TLS_CERT_FILE": certFile, "COUNTERSIGN_TLS_KEY_FILE": keyFile}))
	if err != nil {
		t.Fatal(err)
	}
	if c.ServerTLS == nil || c.ServerTLS.MinVersion != tls.VersionTLS12 {
		t.Fatalf("ServerTLS = %+v", c.ServerTLS)
	}
	served := func() string {
		t.Helper()
		pair, err := c.ServerTLS.GetCertificate(&tls.ClientHelloInfo{})
		if err != nil {
			t.Fatal(err)
		}
		leaf, err := x509.ParseCertificate(pair.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		return leaf.Subject.CommonName
	}
	if got := served(); got != "first" {
		t.Errorf("serves %q, want first", got)
	}
	expiries := c.CertificateExpiries()
	if left := time.Until(expiries["server"]()); len(expiries) != 1 || left <= 0 || left > time.Hour {
		t.Errorf("CertificateExpiries has %d entries, and the server's expires in %v; want 1, within the hour", len(expiries), left)
	}

	// While only one of two files is renewed, the old pair serves on.
	second, secondKey := certify(t, "second")
	overwrite(t, certFile, second)
	if got := served(); got != "first" {
		t.Errorf("serves %q with half a renewal, want first", got)
	}
	overwrite(t, keyFile, secondKey)
	if got := served(); got != "second" {
		t.Errorf("serves %q after the renewal, want second", got)
	}
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	if got := served(); got != "second" {
		t.Errorf("serves %q without its key file, want second", got)
	}
}

// The configuration made for Glance speaks to a server that wants to see our
// certificate and has one the system does not know.
func TestGlanceTLS(t *testing.T) {
	serverCert, serverKey := certify(t, "glance")
	clientCert, clientKey := certify(t, "countersign")
	pair, err := tls.X509KeyPair([]byte(serverCert), []byte(serverKey))
	if err != nil {
		t.Fatal(err)
	}
	clients := x509.NewCertPool()
	clients.AppendCertsFromPEM([]byte(clientCert))
	glance := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, r.TLS.PeerCertificates[0].Subject.CommonName)
	}))
	glance.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: clients}
	glance.StartTLS()
	t.Cleanup(glance.Close)

	c, err := config.Load(environ(map[string]string{
		"COUNTERSIGN_GLANCE_URL":              glance.URL,
		"COUNTERSIGN_GLANCE_CA_FILE":          write(t, "ca.pem", serverCert),
		"COUNTERSIGN_GLANCE_CLIENT_CERT_FILE": write(t, "client.crt", clientCert),
		"COUNTERSIGN_GLANCE_CLIENT_KEY_FILE":  write(t, "client.key", clientKey),
	}))
	if err != nil {
		t.Fatal(err)
	}
	ours := c.GlanceTLS.Clone()
	ours.ServerName = "localhost" // the certificate is not for the address
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: ours}}
	t.Cleanup(client.CloseIdleConnections)
	response, err := client.Get(c.GlanceURL.String())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got, err := io.ReadAll(response.Body); err != nil || string(got) != "countersign" {
		t.Errorf("Glance saw %q, %v, want countersign", got, err)
	}
}

func TestServiceTLS(t *testing.T) {
	ca, _ := certify(t, "ca")
	cert, key := certify(t, "service")
	clouds := write(t, "clouds.yaml", cloudsYAML)
	files := map[string]string{"OS_CACERT": write(t, "ca.pem", ca), "OS_CERT": write(t, "tls.crt", cert), "OS_KEY": write(t, "tls.key", key)}
	for name, env := range map[string]map[string]string{
		"variables":   user(files),
		"clouds.yaml": environ(map[string]string{"OS_CLOUD": "gate", "OS_CLIENT_CONFIG_FILE": clouds, "OS_CACERT": files["OS_CACERT"], "OS_CERT": files["OS_CERT"], "OS_KEY": files["OS_KEY"]}),
	} {
		c, err := config.Load(env)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		s := c.Service.TLS
		if s.RootCAs == nil || len(s.Certificates) == 0 && s.GetClientCertificate == nil || s.MinVersion != tls.VersionTLS12 {
			t.Errorf("%s: TLS = %+v, want roots and a certificate", name, s)
		}
	}
}

func TestWrongTLS(t *testing.T) {
	cert, key := certify(t, "one")
	_, otherKey := certify(t, "other")
	certFile, keyFile, otherFile := write(t, "tls.crt", cert), write(t, "tls.key", key), write(t, "other.key", otherKey)
	const https = "https://glance:9292"
	for _, test := range []struct {
		name     string
		env      map[string]string
		variable string
		want     string
	}{
		{"another's key", map[string]string{"COUNTERSIGN_TLS_CERT_FILE": certFile, "COUNTERSIGN_TLS_KEY_FILE": otherFile}, "COUNTERSIGN_TLS_CERT_FILE", "private key does not match"},
		{"swapped", map[string]string{"COUNTERSIGN_TLS_CERT_FILE": keyFile, "COUNTERSIGN_TLS_KEY_FILE": certFile}, "COUNTERSIGN_TLS_CERT_FILE", "does not serve"},
		{"no such key", map[string]string{"COUNTERSIGN_TLS_CERT_FILE": certFile, "COUNTERSIGN_TLS_KEY_FILE": "/nonexistent"}, "COUNTERSIGN_TLS_KEY_FILE", "no such file"},
		{"no CA in the file", map[string]string{"COUNTERSIGN_GLANCE_URL": https, "COUNTERSIGN_GLANCE_CA_FILE": keyFile}, "COUNTERSIGN_GLANCE_CA_FILE", "holds no certificate"},
		{"no such CA", map[string]string{"COUNTERSIGN_GLANCE_URL": https, "COUNTERSIGN_GLANCE_CA_FILE": "/nonexistent"}, "COUNTERSIGN_GLANCE_CA_FILE", "no such file"},
		{"half a client", map[string]string{"COUNTERSIGN_GLANCE_URL": https, "COUNTERSIGN_GLANCE_CLIENT_CERT_FILE": certFile}, "COUNTERSIGN_GLANCE_CLIENT_KEY_FILE", "both or none"},
		{"a CA for no webhook", map[string]string{"COUNTERSIGN_AUDIT_CA_FILE": certFile}, "COUNTERSIGN_AUDIT_CA_FILE", "AUDIT_URL is not"},
		{"a CA for a webhook over plain HTTP", map[string]string{"COUNTERSIGN_AUDIT_URL": "http://siem", "COUNTERSIGN_AUDIT_CA_FILE": certFile}, "COUNTERSIGN_AUDIT_URL", "expected https://"},
		{"no CA for the webhook in the file", map[string]string{"COUNTERSIGN_AUDIT_URL": "https://siem", "COUNTERSIGN_AUDIT_CA_FILE": keyFile}, "COUNTERSIGN_AUDIT_CA_FILE", "holds no certificate"},
		{"a CA for plain HTTP", map[string]string{"COUNTERSIGN_GLANCE_CA_FILE": certFile}, "COUNTERSIGN_GLANCE_URL", "expected https://"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := problems(t, environ(test.env))
			if len(got) != 1 || got[0].Variable != test.variable || !strings.Contains(got[0].Text, test.want) {
				t.Errorf("problems %+v, want %s: …%s…", got, test.variable, test.want)
			}
			if strings.Contains(got[0].Text, "tls: ") {
				t.Errorf("%q speaks of packages", got[0].Text)
			}
		})
	}
}

// An issuer that is replaced on disk counts for the next connection; half a
// file does not take the last good one away.
func TestGlanceCAIsReadAgain(t *testing.T) {
	first, _ := certify(t, "first")
	second, _ := certify(t, "second")
	file := write(t, "ca.pem", first)
	c, err := config.Load(environ(map[string]string{"COUNTERSIGN_GLANCE_URL": "https://glance:9292", "COUNTERSIGN_GLANCE_CA_FILE": file}))
	if err != nil {
		t.Fatal(err)
	}
	trusted := func(certificate string) bool {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM([]byte(certificate))
		return c.GlanceTLSNow().RootCAs.Equal(pool)
	}
	if !trusted(first) {
		t.Error("the issuer on disk is not trusted at first")
	}
	replace := func(text string, age time.Duration) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, time.Time{}, time.Now().Add(age)); err != nil {
			t.Fatal(err)
		}
	}
	replace(second[:40], time.Second)
	if !trusted(first) {
		t.Error("half a file takes the last good issuer away")
	}
	replace(second, 2*time.Second)
	if !trusted(second) {
		t.Error("the issuer that is on disk now is not trusted")
	}
}
