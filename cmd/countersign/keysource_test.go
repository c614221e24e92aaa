package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/countersign/countersign/certcache/vaulttest"
	"github.com/countersign/countersign/proxy"
	"github.com/countersign/countersign/signature"
)

const (
	signerID   = "0d5b6c1e-4a52-4e0b-9f6e-2f5a3c1d7e90"
	signerBare = "0d5b6c1e4a524e0b9f6e2f5a3c1d7e90"
)

// certificateUntil is a certificate in PEM that signs itself.
func certificateUntil(t *testing.T, notAfter time.Time) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "signer"}, NotBefore: notAfter.Add(-365 * 24 * time.Hour), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func put(t *testing.T, directory, id string, data []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(directory, id+".pem"), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

// standIn serves a Vault that takes the role builder, and returns the settings
// for it.
func standIn(t *testing.T) (*vaulttest.Server, map[string]string) {
	t.Helper()
	vault := vaulttest.New()
	vault.AppRole("approle", "builder", "s3cret-id", -1)
	server := httptest.NewServer(vault)
	t.Cleanup(server.Close)
	secretID := filepath.Join(t.TempDir(), "secret-id")
	if err := os.WriteFile(secretID, []byte("s3cret-id\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return vault, map[string]string{
		"COUNTERSIGN_KEY_MANAGER": "vault", "COUNTERSIGN_VAULT_ADDR": server.URL, "COUNTERSIGN_VAULT_AUTH": "approle",
		"COUNTERSIGN_VAULT_ROLE_ID": "builder", "COUNTERSIGN_VAULT_SECRET_ID_FILE": secretID,
	}
}

func castellan(data []byte) string {
	return fmt.Sprintf(`{"type": "certificate", "value": "%x", "name": "signer", "created": 1795372800}`, data)
}

// Each key manager's certificate arrives, and each refusal names it and a cure
// that is possible there. Whose token it is does not matter to Vault or files.
func TestKeyManagers(t *testing.T) {
	good := certificateUntil(t, time.Now().Add(365*24*time.Hour))
	directory := t.TempDir()
	vault, ofVault := standIn(t)
	ofFile := map[string]string{"COUNTERSIGN_KEY_MANAGER": "file", "COUNTERSIGN_KEY_DIRECTORY": directory}
	for _, tt := range []struct {
		name     string
		settings map[string]string
		prepare  func()
		code     string // "": the certificate
		says     string
		cure     string
	}{
		{"file", ofFile, func() { put(t, directory, signerID, good) }, "", "", ""},
		{"file, none", ofFile, func() {
			if err := os.Remove(filepath.Join(directory, signerID+".pem")); err != nil {
				t.Fatal(err)
			}
		}, proxy.CodeCertificateNotFound, "no such certificate on file", "put on file"},
		{"file, garbage", ofFile, func() { put(t, directory, signerID, []byte("garbage")) }, proxy.CodeCertificateUnreadable, "", ""},
		{"file, empty", ofFile, func() { put(t, directory, signerID, nil) }, proxy.CodeCertificateUnreadable, "empty", "in its place"},
		{"Vault", ofVault, func() { vault.Put("secret/"+signerBare, castellan(good)) }, "", "", ""},
		{"Vault, another type", ofVault, func() { vault.Put("secret/"+signerBare, `{"type": "opaque", "value": "00"}`) }, proxy.CodeCertificateUnreadable, "opaque", "castellan"},
		{"Vault, none", ofVault, func() { vault.Delete("secret/" + signerBare) }, proxy.CodeCertificateNotFound, "Vault does not have", "Vault"},
		{"Vault, sealed", ofVault, func() { vault.Seal(true) }, proxy.CodeKeyManagerUnavailable, "does not answer", "later"},
	} {
		tt.prepare()
		keys := newCertificates(settings(t, tt.settings), nil)
		data, err := keys.Certificate(t.Context(), "owner", signerID, "token of the caller")
		var refused *proxy.Refusal
		var property *signature.PropertyError
		switch {
		case err == nil:
			if tt.code != "" || !bytes.Equal(data, good) {
				t.Errorf("%s: Certificate = %q, want code %q", tt.name, data, tt.code)
			}
		case errors.As(err, &property):
			if string(property.Code) != tt.code {
				t.Errorf("%s: %v, want code %q", tt.name, err, tt.code)
			}
		case !errors.As(err, &refused), refused.Code != tt.code, !strings.Contains(refused.Problem, tt.says), !strings.Contains(refused.Cure, tt.cure), strings.Contains(refused.Cure, "openstack"):
			t.Errorf("%s: Certificate = %#v, want code %q that says %q and %q", tt.name, err, tt.code, tt.says, tt.cure)
		}
		if away := tt.code == proxy.CodeKeyManagerUnavailable; (keys.problem() != nil) != away {
			t.Errorf("%s: problem = %v", tt.name, keys.problem())
		}
	}
}

// running runs what the key manager wants done until the test ends, and returns
// its log.
func running(t *testing.T, keys *certificates) *bufio.Scanner {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { // ends with ctx
		defer close(done)
		keys.run(ctx, zerolog.New(write))
		write.Close()
	}()
	t.Cleanup(func() { cancel(); <-done; read.Close() })
	return bufio.NewScanner(read)
}

// A Vault that is sealed when the proxy starts is told of at once, and so is that
// it came back.
func TestVaultThatIsAwayAtStart(t *testing.T) {
	vault, variables := standIn(t)
	vault.Seal(true)
	keys := newCertificates(settings(t, variables), nil)
	log := running(t, keys)
	got := events(t, log, "logging in to the key manager failed")
	if !strings.Contains(fmt.Sprint(got["error"]), "sealed") || got["key_manager"] != "Vault" {
		t.Errorf("the log says %v", got)
	}
	if err := keys.problem(); err == nil || !strings.Contains(err.Error(), "sealed") || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("problem = %v", err)
	}
}

// What a login brought is logged when it is new.
func TestLogins(t *testing.T) {
	keys := newCertificates(settings(t, nil), nil)
	var log bytes.Buffer
	sealed := errors.New("sealed")
	for _, tt := range []struct {
		err  error
		want string
	}{{nil, ""}, {sealed, "failed"}, {sealed, ""}, {errors.New("403"), "failed"}, {nil, "logged in"}, {nil, ""}} {
		log.Reset()
		keys.loggedIn(tt.err, zerolog.New(&log))
		if got := log.String(); !strings.Contains(got, tt.want) || (got == "") != (tt.want == "") {
			t.Errorf("after %v the log says %q, want %q", tt.err, got, tt.want)
		}
		if got := keys.problem(); !errors.Is(got, tt.err) {
			t.Errorf("after %v: problem = %v", tt.err, got)
		}
	}
}

// A directory that vanished is told of at start.
func TestDirectoryThatIsAwayAtStart(t *testing.T) {
	directory := filepath.Join(t.TempDir(), "certificates")
	if err := os.Mkdir(directory, 0o755); err != nil {
		t.Fatal(err)
	}
	keys := newCertificates(settings(t, map[string]string{"COUNTERSIGN_KEY_MANAGER": "file", "COUNTERSIGN_KEY_DIRECTORY": directory}), nil)
	if err := os.Remove(directory); err != nil {
		t.Fatal(err)
	}
	got := events(t, running(t, keys), "the key manager does not answer: uploads that the policy enforces are answered 503 until it does")
	if !strings.Contains(fmt.Sprint(got["error"]), "no such file") || keys.problem() == nil {
		t.Errorf("the log says %v, and problem is %v", got, keys.problem())
	}
}

// sharedLog is a log that is read while it is written.
type sharedLog struct {
	mu   sync.Mutex // guards what follows
	text bytes.Buffer
}

func (l *sharedLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// String returns what was written, since the last take if there was one.
func (l *sharedLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// take returns what was written since the last call.
func (l *sharedLog) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

// Certificates that expire within 30 days are told of once a day, whoever named
// them, and counted.
func TestExpiryWarnings(t *testing.T) {
	directory := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ids := map[string]string{} // use → id
		for i, use := range []string{useSigner, useAnchor, "late"} {
			id := fmt.Sprintf("%d%s", i, signerID[1:])
			ids[use] = id
			notAfter := time.Now().Add(30*24*time.Hour + time.Hour)
			if use == "late" {
				notAfter = time.Now().Add(90 * 24 * time.Hour)
			}
			put(t, directory, id, certificateUntil(t, notAfter))
		}
		cfg := settings(t, map[string]string{"COUNTERSIGN_KEY_MANAGER": "file", "COUNTERSIGN_KEY_DIRECTORY": directory})
		keys := newCertificates(cfg, nil)
		for _, owner := range []string{"one", "other"} {
			for _, use := range []string{useSigner, "late"} {
				if _, err := keys.Certificate(t.Context(), owner, ids[use], ""); err != nil {
					t.Fatal(err)
				}
			}
		}
		keys.anchors.Load(t.Context(), []string{ids[useAnchor]})
		var log sharedLog
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); keys.run(ctx, zerolog.New(&log)) }()
		said := func() []string {
			synctest.Wait()
			var list []string
			for line := range strings.Lines(log.take()) {
				var event struct {
					ID, Use string
					Days    int
				}
				line = strings.Replace(line, "certificate_id", "id", 1)
				if err := json.Unmarshal([]byte(line), &event); err != nil {
					t.Fatal(err)
				}
				list = append(list, fmt.Sprintf("%s %d", event.Use, event.Days))
				if event.ID != ids[event.Use] {
					t.Errorf("the log says %s", line)
				}
			}
			return list
		}
		time.Sleep(50 * time.Minute)
		if got := said(); got != nil {
			t.Errorf("before 30 days are left the log says %q", got)
		}
		time.Sleep(2 * time.Hour)
		if got := fmt.Sprint(said()); got != "[signer 29 anchor 29]" {
			t.Errorf("when 30 days are left the log says %s", got)
		}
		time.Sleep(20 * time.Hour)
		if got := said(); got != nil {
			t.Errorf("on the same day the log says %q", got)
		}
		time.Sleep(5 * time.Hour)
		if got := fmt.Sprint(said()); got != "[signer 28 anchor 28]" {
			t.Errorf("on the next day the log says %s", got)
		}
		time.Sleep(29 * 24 * time.Hour)
		if got := said(); len(got) == 0 || got[len(got)-1] != "anchor -1" || strings.Contains(fmt.Sprint(got), "signer -1") {
			t.Errorf("until both have expired the log says %q", got)
		}
		cancel()
		<-done
	})
}
