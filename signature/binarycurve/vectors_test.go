package binarycurve_test

import (
	"bufio"
	"bytes"
	"crypto"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/hex"
	"math/big"
	"os"
	"strings"
	"testing"

	"github.com/countersign/countersign/signature/binarycurve"
)

// TestVectors runs NIST's vectors of signatures to verify, most of which are
// wrong: the message, a number of the signature or the key was changed.
func TestVectors(t *testing.T) {
	file, err := os.Open("testdata/SigVer.rsp")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	curves := map[string]*binarycurve.Curve{
		"K-409": binarycurve.SECT409K1(), "B-409": binarycurve.SECT409R1(),
		"K-571": binarycurve.SECT571K1(), "B-571": binarycurve.SECT571R1(),
	}
	hashes := map[string]crypto.Hash{
		"SHA-224": crypto.SHA224, "SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512,
	}
	var curve *binarycurve.Curve
	var hash crypto.Hash
	values := make(map[string]string)
	verified, refused := 0, 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		line := lines.Text()
		if section, ok := strings.CutPrefix(line, "["); ok {
			curveName, hashName, _ := strings.Cut(strings.TrimSuffix(section, "]"), ",")
			curve, hash = curves[curveName], hashes[hashName]
			continue
		}
		name, value, _ := strings.Cut(line, " = ")
		values[name] = value
		if name != "Result" {
			continue
		}
		got, want := verifyVector(t, curve, hash, values), strings.HasPrefix(value, "P")
		if got != want {
			t.Errorf("%s, %s, message %.16s…: verified = %v, want %s", curve.Name(), hash, values["Msg"], got, value)
		}
		if got {
			verified++
		} else {
			refused++
		}
	}
	if verified != 48 || refused != 192 {
		t.Errorf("%d vectors verified and %d were refused", verified, refused)
	}
}

func verifyVector(t *testing.T, curve *binarycurve.Curve, hash crypto.Hash, values map[string]string) bool {
	t.Helper()
	number := func(name string) *big.Int {
		n, ok := new(big.Int).SetString(values[name], 16)
		if !ok {
			t.Fatalf("%s = %q is no number", name, values[name])
		}
		return n
	}
	size := (curve.BitSize() + 7) / 8
	point := bytes.Join([][]byte{{4}, number("Qx").FillBytes(make([]byte, size)), number("Qy").FillBytes(make([]byte, size))}, nil)
	key, err := binarycurve.ParsePoint(curve, point)
	if err != nil {
		return false
	}
	message, err := hex.DecodeString(values["Msg"])
	if err != nil {
		t.Fatal(err)
	}
	digest := hash.New()
	digest.Write(message)
	return binarycurve.Verify(key, digest.Sum(nil), number("R"), number("S"))
}
