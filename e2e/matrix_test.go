//go:build e2e

package e2e_test

import (
	"bytes"
	"crypto/md5"
	"crypto/sha512"
	"encoding/base64"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// keys are what the openssl command makes: the option of `openssl genpkey`
// that says which.
var keys = []struct {
	name    string
	keyType string // as img_signature_key_type has it
	genpkey string
}{
	{"rsa1024", "RSA-PSS", "-algorithm RSA -pkeyopt rsa_keygen_bits:1024"},
	{"rsa2048", "RSA-PSS", "-algorithm RSA -pkeyopt rsa_keygen_bits:2048"},
	{"rsa3072", "RSA-PSS", "-algorithm RSA -pkeyopt rsa_keygen_bits:3072"},
	{"rsa4096", "RSA-PSS", "-algorithm RSA -pkeyopt rsa_keygen_bits:4096"},
	{"dsa1024", "DSA", "-paramfile dsa1024.parameters"},
	{"dsa2048", "DSA", "-paramfile dsa2048.parameters"},
	{"dsa3072", "DSA", "-paramfile dsa3072.parameters"},
	{"p384", "ECC_SECP384R1", "-algorithm EC -pkeyopt ec_paramgen_curve:P-384"},
	{"p521", "ECC_SECP521R1", "-algorithm EC -pkeyopt ec_paramgen_curve:P-521"},
	{"k409", "ECC_SECT409K1", "-algorithm EC -pkeyopt ec_paramgen_curve:sect409k1 -pkeyopt ec_param_enc:named_curve"},
	{"b409", "ECC_SECT409R1", "-algorithm EC -pkeyopt ec_paramgen_curve:sect409r1 -pkeyopt ec_param_enc:named_curve"},
	{"k571", "ECC_SECT571K1", "-algorithm EC -pkeyopt ec_paramgen_curve:sect571k1 -pkeyopt ec_param_enc:named_curve"},
	{"b571", "ECC_SECT571R1", "-algorithm EC -pkeyopt ec_paramgen_curve:sect571r1 -pkeyopt ec_param_enc:named_curve"},
}

var hashes = []string{"SHA-224", "SHA-256", "SHA-384", "SHA-512"}

// salts are the lengths that RSA-PSS is signed with: none, the one that newer
// openssl commands take by themselves, and the one that older Glances demand.
var salts = []string{"0", "digest", "max"}

// TestEveryKeyAndHashIsVerifiedAsOpenSSLSignsThem plays every key type and size
// with every hash and salt, signed by the openssl command, against a Glance
// that verifies once more by itself: whoever of the two were stricter or more
// lenient would show. The two servers take turns: they differ in framing, which
// other scenarios are about, and not in what they verify.
func TestEveryKeyAndHashIsVerifiedAsOpenSSLSignsThem(t *testing.T) {
	data := pixels(t, 40000) // more than is held back, so that Glance is reached
	folder := makeSignatures(t, data)
	certificates := storeCertificates(t, folder)
	var matrices []*matrix
	for _, glance := range servers {
		p := startProxy(t, glance, policy)
		matrices = append(matrices, &matrix{login(t, "demo", p.url), login(t, "admin", glance.url()), folder, data, certificates})
	}
	for k, key := range keys {
		for h, hash := range hashes {
			turn := (k + h) % len(servers)
			t.Run(strings.Join([]string{key.name, hash, servers[turn].name}, " "), func(t *testing.T) {
				m := matrices[turn].in(t)
				variants := []string{""}
				if key.keyType == "RSA-PSS" {
					variants = salts
				}
				for _, salt := range variants {
					if key.name == "rsa1024" && hash == "SHA-512" && salt == "digest" {
						continue // 1024 bits have room for a salt of 62 bytes, not for one of 64
					}
					m.wantTaken(key.name, key.keyType, hash, salt)
				}
				signature := m.signature(key.name, hash, variants[len(variants)-1])
				wrongHash := hashes[(h+1)%len(hashes)]
				flipped := bytes.Clone(data)
				flipped[h*len(data)/len(hashes)] ^= 0x10
				m.wantRefused("a bit is flipped", flipped, key.name, key.keyType, hash, signature)
				m.wantRefused("the last byte is missing", data[:len(data)-1], key.name, key.keyType, hash, signature)
				m.wantRefused("the key is another one of the kind", data, key.name+"-stranger", key.keyType, hash, signature)
				m.wantRefused("the hash is said to be "+wrongHash, data, key.name, key.keyType, wrongHash, signature)
			})
		}
	}
}

// matrix is a user of the proxy, with an administrator who looks behind it.
type matrix struct {
	c, admin     *client
	folder       string
	data         []byte
	certificates map[string]string // key → certificate's ID at Barbican
}

// storeCertificates stores the certificate of each key at Barbican, once.
func storeCertificates(t *testing.T, folder string) map[string]string {
	t.Helper()
	m := &matrix{c: login(t, "demo", openstack.Regions["RegionOne"]), folder: folder}
	stored := map[string]string{}
	for _, key := range keys {
		for _, name := range []string{key.name, key.name + "-stranger"} {
			stored[name] = m.c.secret(m.file(name + ".certificate"))
		}
	}
	return stored
}

func (m *matrix) in(t *testing.T) *matrix {
	other := *m
	other.c, other.admin = m.c.in(t), m.admin.in(t)
	return &other
}

func (m *matrix) file(name string) []byte {
	m.c.t.Helper()
	text, err := os.ReadFile(filepath.Join(m.folder, name))
	if err != nil {
		m.c.t.Fatal(err)
	}
	return text
}

func (m *matrix) signature(key, hash, salt string) string {
	m.c.t.Helper()
	return base64.StdEncoding.EncodeToString(m.file(strings.Join([]string{key, hash, salt, "signature"}, ".")))
}

func (m *matrix) upload(data []byte, key, keyType, hash, signature string) (string, answer) {
	m.c.t.Helper()
	id := m.c.create(map[string]string{
		"img_signature":                  signature,
		"img_signature_hash_method":      hash,
		"img_signature_key_type":         keyType,
		"img_signature_certificate_uuid": m.certificates[key],
	}).id()
	return id, m.c.upload(id, data)
}

func (m *matrix) wantTaken(key, keyType, hash, salt string) {
	m.c.t.Helper()
	id, a := m.upload(m.data, key, keyType, hash, m.signature(key, hash, salt))
	if a.status != http.StatusNoContent {
		m.c.t.Errorf("salt %q: upload answered %v, want 204", salt, a)
		return
	}
	is := m.admin.show(id)
	md5sum, sha512sum := fmt.Sprintf("%x", md5.Sum(m.data)), fmt.Sprintf("%x", sha512.Sum512(m.data))
	if is.status() != "active" || is.text("checksum") != md5sum || is.text("os_hash_value") != sha512sum {
		m.c.t.Errorf("salt %q: Glance has an image that is %s with the checksum %s and the hash %s, want active, %s, %s",
			salt, is.status(), is.text("checksum"), is.text("os_hash_value"), md5sum, sha512sum)
	}
}

func (m *matrix) wantRefused(what string, data []byte, key, keyType, hash, signature string) {
	m.c.t.Helper()
	id, a := m.upload(data, key, keyType, hash, signature)
	if a.status != http.StatusBadRequest || !strings.Contains(string(a.body), "signature_mismatch") {
		m.c.t.Errorf("%s: upload answered %v, want 400 with signature_mismatch", what, a)
	}
	if m.admin.exists(id) {
		m.c.t.Errorf("%s: Glance still has the image: %v", what, m.admin.show(id))
	}
}

// makeSignatures has the openssl command make every key, a certificate for
// each, and every signature over data, and returns the folder with the files.
func makeSignatures(t *testing.T, data []byte) string {
	t.Helper()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "image"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	script := []string{"set -e", "cd " + folder}
	for _, bits := range []string{"1024", "2048", "3072"} {
		script = append(script, fmt.Sprintf("openssl dsaparam -quiet -out dsa%s.parameters %s", bits, bits))
	}
	for _, key := range keys {
		script = append(script, "(") // the keys are made side by side
		for _, name := range []string{key.name, key.name + "-stranger"} {
			script = append(script, fmt.Sprintf("openssl genpkey -quiet %s -out %s.key", key.genpkey, name),
				fmt.Sprintf("openssl req -x509 -new -sha256 -key %s.key -days 1 -subj /CN=%s -out %s.certificate", name, name, name))
		}
		for _, hash := range hashes {
			sign := fmt.Sprintf("openssl dgst -%s -sign %s.key", strings.ToLower(strings.ReplaceAll(hash, "-", "")), key.name)
			if key.keyType != "RSA-PSS" {
				script = append(script, fmt.Sprintf("%s -out %s.%s..signature image", sign, key.name, hash))
				continue
			}
			for _, salt := range salts {
				if key.name == "rsa1024" && hash == "SHA-512" && salt == "digest" {
					continue
				}
				script = append(script, fmt.Sprintf("%s -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:%s -out %s.%s.%s.signature image",
					sign, salt, key.name, hash, salt))
			}
		}
		script = append(script, ") & jobs+=($!)")
	}
	script = append(script, `for job in "${jobs[@]}"; do wait "$job"; done`)
	mustRun(login(t, "demo", openstack.Regions["RegionOne"]), "bash", "-c", strings.Join(script, "\n"))
	return folder
}
