package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"log"
	"math/big"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// keys KIND NAME [DURATION] is a command of the scripts: it writes a new key to
// NAME.pem and its certificate, valid from an hour ago for DURATION from now, to
// NAME.crt.
func keys() {
	kind, name, valid := os.Args[1], os.Args[2], 365*24*time.Hour
	if len(os.Args) > 3 {
		valid = must(time.ParseDuration(os.Args[3]))
	}
	var key crypto.Signer
	switch kind {
	default:
		log.Fatalf("keys: no kind %q", kind)
	case "rsa":
		key = must(rsa.GenerateKey(rand.Reader, 2048))
	case "p256":
		key = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	case "p384":
		key = must(ecdsa.GenerateKey(elliptic.P384(), rand.Reader))
	case "p521":
		key = must(ecdsa.GenerateKey(elliptic.P521(), rand.Reader))
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name + " \x1b[31msigner"}, // which no terminal shall obey
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(valid),
	}
	write(name+".pem", "PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key)))
	write(name+".crt", "CERTIFICATE", must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)))
}

func write(name, label string, der []byte) {
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}), 0o600); err != nil {
		log.Fatal(err)
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}

// exits CODE COMMAND… runs a command that must exit so. Of exec a script learns
// only whether the code is 0.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code command…")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	got := 0
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
