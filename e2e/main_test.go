//go:build e2e

package e2e_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// binary is the countersign under test, built once.
var binary string

// receiptKey and receiptPublicKey are files with the pair by which the proxies
// under test write receipts.
var receiptKey, receiptPublicKey string

func TestMain(m *testing.M) {
	os.Exit(runAll(m))
}

func runAll(m *testing.M) int {
	var err error
	if openstack, err = findStack(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	folder, err := os.MkdirTemp("", "countersign-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(folder)
	binary = filepath.Join(folder, "countersign")
	// Built with the race detector: startProxy looks for its reports.
	build := exec.Command("go", "build", "-race", "-o", binary, "../cmd/countersign")
	build.Stdout, build.Stderr = os.Stderr, os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: building countersign:", err)
		return 1
	}
	receiptKey, receiptPublicKey = filepath.Join(folder, "receipts.pem"), filepath.Join(folder, "receipts.pub")
	keygen := exec.Command(binary, "receipt", "keygen", "--private", receiptKey, "--public", receiptPublicKey)
	keygen.Stdout, keygen.Stderr = os.Stderr, os.Stderr
	if err := keygen.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e: making receipt keys:", err)
		return 1
	}
	return m.Run()
}
