package signature_test

//lint:file-ignore SA1019 DSA keys are made here.

import (
	"bufio"
	"crypto/dsa"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/signature"
)

// A vector is one case of NIST's files of signatures to verify: the values
// that stand above its Result, or above those of its section.
type vector map[string]string

// vectors calls run with each case, and holds its error to the Result. Most
// cases have something changed: message, key, or signature.
func vectors(t *testing.T, name string, run func(v vector) error, verified, refused int) {
	t.Helper()
	file, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	values := make(vector)
	yes, no := 0, 0
	for lines := bufio.NewScanner(file); lines.Scan(); {
		line := lines.Text()
		if section, ok := strings.CutPrefix(line, "["); ok {
			values["section"] = strings.TrimSuffix(section, "]")
			continue
		}
		key, value, _ := strings.Cut(line, " = ")
		values[key] = value
		if key != "Result" {
			continue
		}
		err := run(values)
		if want := strings.HasPrefix(value, "P"); (err == nil) != want {
			t.Errorf("%s, %s, message %.16s…: %v, want %s", name, values["section"], values["Msg"], err, value)
		}
		if err == nil {
			yes++
		} else {
			no++
		}
	}
	if yes != verified || no != refused {
		t.Errorf("%s: %d vectors verified and %d were refused, want %d and %d", name, yes, no, verified, refused)
	}
}

func (v vector) number(name string) *big.Int {
	n, ok := new(big.Int).SetString(v[name], 16)
	if !ok {
		panic(name + " = " + v[name] + " is no number")
	}
	return n
}

func (v vector) message() string { return string(must(hex.DecodeString(v["Msg"]))) }

// pair is the DER of R and S, whatever they are.
func (v vector) pair() []byte {
	return must(asn1.Marshal([]*big.Int{v.number("R"), v.number("S")}))
}

// hashMethod is the last part of the section's name, as in "P-384,SHA-256".
func (v vector) hashMethod() signature.HashMethod {
	section := v["section"]
	return signature.HashMethod(strings.TrimSpace(section[strings.LastIndex(section, ",")+1:]))
}

func TestDSAVectors(t *testing.T) {
	vectors(t, "DSA.SigVer.rsp", func(v vector) error {
		key := &dsa.PublicKey{Parameters: dsa.Parameters{P: v.number("P"), Q: v.number("Q"), G: v.number("G")}, Y: v.number("Y")}
		spec := signature.Spec{Signature: v.pair(), HashMethod: v.hashMethod(), KeyType: signature.DSA}
		return verify(t, spec, key, v.message())
	}, 112, 128)
}

func TestECDSAVectors(t *testing.T) {
	vectors(t, "ECDSA.SigVer.rsp", func(v vector) error {
		curve, keyType := elliptic.P384(), signature.SECP384R1
		if strings.HasPrefix(v["section"], "P-521,") {
			curve, keyType = elliptic.P521(), signature.SECP521R1
		}
		key := &ecdsa.PublicKey{Curve: curve, X: v.number("Qx"), Y: v.number("Qy")}
		spec := signature.Spec{Signature: v.pair(), HashMethod: v.hashMethod(), KeyType: keyType}
		return verify(t, spec, key, v.message())
	}, 24, 96)
}

func TestPSSVectors(t *testing.T) {
	vectors(t, "RSA.SigVerPSS.rsp", func(v vector) error {
		key := &rsa.PublicKey{N: v.number("n"), E: int(v.number("e").Int64())}
		spec := signature.Spec{
			Signature:  must(hex.DecodeString(v["S"])),
			HashMethod: signature.HashMethod(strings.Replace(v["SHAAlg"], "SHA", "SHA-", 1)),
			KeyType:    signature.RSAPSS,
		}
		return verify(t, spec, key, v.message())
	}, 60, 300)
}
