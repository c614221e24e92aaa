package receipt_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"maps"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/proxy/receipt"
)

func pair(t testing.TB) (private, public []byte) {
	t.Helper()
	private, public, err := receipt.Generate()
	if err != nil {
		t.Fatal(err)
	}
	return private, public
}

func parseKeys(t testing.TB, pems ...[]byte) *receipt.Keys {
	t.Helper()
	keys, err := receipt.ParseKeys(pems...)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// example is a receipt with every member that an upload has.
func example() receipt.Receipt {
	return receipt.Receipt{
		Image:     "e1f0a7a4-54a1-4b0c-8a36-7f9d2c1f6f5e",
		Owner:     "3f0c2b6d9a8e4c1f8b7a6d5e4c3b2a19",
		Size:      1 << 40,
		Digests:   map[string]string{"SHA-256": strings.Repeat("ab", 32), "SHA-512": strings.Repeat("cd", 64)},
		HashAlgo:  "sha512",
		HashValue: strings.Repeat("cd", 64),
		Properties: map[string]string{
			"img_signature":                  "c2lnbmF0dXJl",
			"img_signature_hash_method":      "SHA-256",
			"img_signature_key_type":         "RSA-PSS",
			"img_signature_certificate_uuid": "cd7cc675-e573-419c-8fff-33a72734a243",
		},
		Certificate: []byte{0x30, 0x03, 0x02, 0x01, 0x05},
		Rule:        "production",
		Mode:        "enforce",
		Kind:        receipt.Upload,
		IssuedAt:    time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC),
	}
}

// subject is the image that the example is for.
func subject() receipt.Subject {
	r := example()
	return receipt.Subject{
		Image: r.Image, Owner: r.Owner, Size: r.Size,
		HashAlgo: r.HashAlgo, HashValue: r.HashValue, Properties: r.Properties,
	}
}

func TestDescribes(t *testing.T) {
	staged := func(r *receipt.Receipt) { r.Kind, r.HashAlgo, r.HashValue = receipt.Stage, "", "" }
	for _, c := range []struct {
		name   string
		change func(*receipt.Receipt, *receipt.Subject)
		want   string // the member that differs
	}{
		{"as it was", func(*receipt.Receipt, *receipt.Subject) {}, ""},
		{"another property", func(_ *receipt.Receipt, s *receipt.Subject) { s.Properties["os_distro"] = "debian" }, ""},
		{"another image", func(_ *receipt.Receipt, s *receipt.Subject) { s.Image = "f" + s.Image[1:] }, "image"},
		{"another owner", func(_ *receipt.Receipt, s *receipt.Subject) { s.Owner = "0" + s.Owner[1:] }, "owner"},
		{"no owner any more", func(_ *receipt.Receipt, s *receipt.Subject) { s.Owner = "" }, "owner"},
		{"one byte more", func(_ *receipt.Receipt, s *receipt.Subject) { s.Size++ }, "size"},
		{"another hash method", func(_ *receipt.Receipt, s *receipt.Subject) { s.HashAlgo = "sha256" }, "os_hash_algo"},
		{"another hash", func(_ *receipt.Receipt, s *receipt.Subject) { s.HashValue = strings.Repeat("ce", 64) }, "os_hash_value"},
		{"no hash any more", func(_ *receipt.Receipt, s *receipt.Subject) { s.HashAlgo, s.HashValue = "", "" }, "os_hash_algo"},
		{"another signature", func(_ *receipt.Receipt, s *receipt.Subject) { s.Properties["img_signature"] += "A" }, "img_signature"},
		{"a property less", func(_ *receipt.Receipt, s *receipt.Subject) { delete(s.Properties, "img_signature_key_type") }, "img_signature_key_type"},
		{"no property any more", func(_ *receipt.Receipt, s *receipt.Subject) { s.Properties = nil }, "img_signature"},
		{"a property that was not there", func(r *receipt.Receipt, _ *receipt.Subject) { delete(r.Properties, "img_signature_hash_method") }, "img_signature_hash_method"},
		{"staged, and not hashed yet", func(r *receipt.Receipt, s *receipt.Subject) { staged(r); s.HashAlgo, s.HashValue = "", "" }, ""},
		{"staged, and Glance's hash is ours", func(r *receipt.Receipt, _ *receipt.Subject) { staged(r) }, ""},
		{"staged, and Glance's hash is ours by another method", func(r *receipt.Receipt, s *receipt.Subject) {
			staged(r)
			s.HashAlgo, s.HashValue = "sha256", strings.Repeat("ab", 32)
		}, ""},
		{"staged, and Glance stored something else", func(r *receipt.Receipt, s *receipt.Subject) { staged(r); s.HashValue = strings.Repeat("ce", 64) }, "os_hash_value"},
		{"staged, and Glance hashed by a method that we did not use", func(r *receipt.Receipt, s *receipt.Subject) { staged(r); s.HashAlgo = "sha384" }, "os_hash_algo"},
		{"staged, and Glance hashed by a method that we do not know", func(r *receipt.Receipt, s *receipt.Subject) { staged(r); s.HashAlgo = "blake2b" }, "os_hash_algo"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, s := example(), subject()
			s.Properties = maps.Clone(s.Properties)
			c.change(&r, &s)
			err := r.Describes(s)
			if c.want == "" {
				if err != nil {
					t.Errorf("Describes = %v, want nil", err)
				}
				return
			}
			var mismatch *receipt.MismatchError
			if !errors.As(err, &mismatch) || mismatch.Member != c.want {
				t.Fatalf("Describes = %v, want a mismatch of %s", err, c.want)
			}
			if text := err.Error(); !strings.Contains(text, c.want) || strings.Contains(text, "c2lnbmF0dXJl") {
				t.Errorf("the error is %q, which should name %s and no signature", text, c.want)
			}
		})
	}
}

func TestRoundTrip(t *testing.T) {
	private, public := pair(t)
	keys := parseKeys(t, private)
	exempt := receipt.Receipt{Image: "i", Kind: receipt.Exempt, Service: "nova", IssuedAt: example().IssuedAt}
	for _, want := range []receipt.Receipt{example(), exempt} {
		text, err := keys.Sign(want)
		if err != nil {
			t.Fatal(err)
		}
		got, err := parseKeys(t, public).Open(text)
		if err != nil || !reflect.DeepEqual(*got, want) {
			t.Errorf("Open(Sign(%+v)) = %+v, %v", want, got, err)
		}
		peeked, id, err := receipt.Peek(text)
		if err != nil || !reflect.DeepEqual(*peeked, want) || id != keys.SigningID() {
			t.Errorf("Peek(Sign(%+v)) = %+v, %q, %v", want, peeked, id, err)
		}
	}
}

// TestMoment: a receipt's date is kept to the second, in UTC.
func TestMoment(t *testing.T) {
	private, _ := pair(t)
	keys := parseKeys(t, private)
	r := example()
	r.IssuedAt = time.Date(2026, 7, 1, 14, 0, 0, 999, time.FixedZone("CEST", 7200))
	text, err := keys.Sign(r)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := keys.Open(text); err != nil || got.IssuedAt != example().IssuedAt {
		t.Errorf("Open = %v, %v, want %v", got, err, example().IssuedAt)
	}
}

// TestRotation: the first private key signs, and every key verifies.
func TestRotation(t *testing.T) {
	older, olderPublic := pair(t)
	newer, newerPublic := pair(t)
	before, err := parseKeys(t, older).Sign(example())
	if err != nil {
		t.Fatal(err)
	}
	during := parseKeys(t, olderPublic, newer, older)
	after, err := during.Sign(example())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := during.SigningID(), parseKeys(t, newerPublic).IDs()[0]; got != want {
		t.Errorf("SigningID() = %q, want that of the first private key, %q", got, want)
	}
	if got := during.IDs(); len(got) != 2 {
		t.Errorf("IDs() = %q, want each key once", got)
	}
	for name, text := range map[string]string{"older": before, "newer": after} {
		if _, err := during.Open(text); err != nil {
			t.Errorf("Open of the %s receipt: %v", name, err)
		}
	}
	if _, err := parseKeys(t, older, olderPublic).Open(after); !errors.Is(err, receipt.ErrUnknownKey) {
		t.Errorf("Open with the older key alone = %v, want ErrUnknownKey", err)
	}
	if _, err := parseKeys(t, newerPublic).Sign(example()); !errors.Is(err, receipt.ErrNoPrivateKey) {
		t.Errorf("Sign with a public key = %v, want ErrNoPrivateKey", err)
	}
}

// TestNoKeys: a nil *Keys does nothing wrong.
func TestNoKeys(t *testing.T) {
	var none *receipt.Keys
	private, _ := pair(t)
	text, err := parseKeys(t, private).Sign(example())
	if err != nil {
		t.Fatal(err)
	}
	if none.CanSign() || none.SigningID() != "" || none.IDs() != nil {
		t.Errorf("nil Keys: CanSign %v, SigningID %q, IDs %q", none.CanSign(), none.SigningID(), none.IDs())
	}
	if _, err := none.Sign(example()); !errors.Is(err, receipt.ErrNoPrivateKey) {
		t.Errorf("nil Keys: Sign = %v", err)
	}
	if _, err := none.Open(text); !errors.Is(err, receipt.ErrUnknownKey) {
		t.Errorf("nil Keys: Open = %v", err)
	}
}

// TestIncomplete: neither is half a receipt signed, nor believed if it is.
func TestIncomplete(t *testing.T) {
	private, _ := pair(t)
	keys := parseKeys(t, private)
	for name, change := range map[string]func(*receipt.Receipt){
		"image":           func(r *receipt.Receipt) { r.Image = "" },
		"size":            func(r *receipt.Receipt) { r.Size = -1 },
		"date":            func(r *receipt.Receipt) { r.IssuedAt = time.Time{} },
		"os_hash_value":   func(r *receipt.Receipt) { r.HashValue = "" },
		"os_hash_algo":    func(r *receipt.Receipt) { r.HashAlgo = "" },
		"kind":            func(r *receipt.Receipt) { r.Kind = "guess" },
		"no kind":         func(r *receipt.Receipt) { r.Kind = "" },
		"digests":         func(r *receipt.Receipt) { r.Digests = nil },
		"properties":      func(r *receipt.Receipt) { r.Properties = nil },
		"certificate":     func(r *receipt.Receipt) { r.Certificate = nil },
		"exempt for whom": func(r *receipt.Receipt) { r.Kind = receipt.Exempt },
		"too long":        func(r *receipt.Receipt) { r.Certificate = make([]byte, receipt.MaxSize) },
	} {
		r := example()
		change(&r)
		if text, err := keys.Sign(r); err == nil {
			t.Errorf("%s: Sign = %q, want an error", name, text)
		}
	}
	if _, err := keys.Open(sign(t, private, `{"image":"i","kind":"upload","size":1}`)); !errors.Is(err, receipt.ErrInvalid) {
		t.Errorf("Open of half a receipt = %v, want ErrInvalid", err)
	}
}

// rawKey is the key in a PEM text of Generate's.
func rawKey(t testing.TB, private []byte) ed25519.PrivateKey {
	t.Helper()
	block, _ := pem.Decode(private)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(ed25519.PrivateKey)
}

func b64(data string) string { return base64.RawURLEncoding.EncodeToString([]byte(data)) }

// signWith makes a compact JWS by hand, with any header.
func signWith(t testing.TB, private []byte, header, payload string) string {
	t.Helper()
	input := b64(header) + "." + b64(payload)
	return input + "." + b64(string(ed25519.Sign(rawKey(t, private), []byte(input))))
}

func sign(t testing.TB, private []byte, payload string) string {
	t.Helper()
	id := parseKeys(t, private).SigningID()
	return signWith(t, private, `{"alg":"EdDSA","kid":"`+id+`","typ":"countersign-receipt+jws"}`, payload)
}

// payload is the JSON of the example.
func payload(t testing.TB, private []byte) string {
	t.Helper()
	text, err := parseKeys(t, private).Sign(example())
	if err != nil {
		t.Fatal(err)
	}
	data, err := base64.RawURLEncoding.DecodeString(strings.Split(text, ".")[1])
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// TestForgeries are texts that are not to be believed, though some of them are
// signed with the right key.
func TestForgeries(t *testing.T) {
	private, public := pair(t)
	strange, _ := pair(t)
	keys := parseKeys(t, private)
	good := payload(t, private)
	text := sign(t, private, good)
	if _, err := keys.Open(text); err != nil {
		t.Fatalf("Open of a receipt signed by hand: %v", err)
	}
	parts := strings.Split(text, ".")
	id := keys.SigningID()
	header := func(members string) string { return `{"kid":"` + id + `",` + members + `}` }
	const typ = `"typ":"countersign-receipt+jws"`
	for name, forged := range map[string]string{
		"nothing":                       "",
		"a word":                        "receipt",
		"two parts":                     parts[0] + "." + parts[1],
		"four parts":                    text + "." + parts[2],
		"no signature":                  parts[0] + "." + parts[1] + ".",
		"detached":                      parts[0] + ".." + parts[2],
		"another payload":               parts[0] + "." + b64(strings.Replace(good, "production", "elsewhere", 1)) + "." + parts[2],
		"another's signature":           parts[0] + "." + parts[1] + "." + strings.Split(signWith(t, strange, header(`"alg":"EdDSA",`+typ), good), ".")[2],
		"another's key under our id":    signWith(t, strange, header(`"alg":"EdDSA",`+typ), good),
		"no algorithm":                  signWith(t, private, header(typ), good),
		"alg none":                      b64(header(`"alg":"none",`+typ)) + "." + b64(good) + ".",
		"alg HS256 with the public key": signWith(t, private, header(`"alg":"HS256",`+typ), good),
		"alg eddsa":                     signWith(t, private, header(`"alg":"eddsa",`+typ), good),
		"alg RS256":                     signWith(t, private, header(`"alg":"RS256",`+typ), good),
		"alg twice":                     signWith(t, private, header(`"alg":"none","alg":"EdDSA",`+typ), good),
		"critical extension":            signWith(t, private, header(`"alg":"EdDSA","crit":["x"],"x":1,`+typ), good),
		"b64 false":                     signWith(t, private, header(`"alg":"EdDSA","crit":["b64"],"b64":false,`+typ), good),
		"embedded key":                  signWith(t, strange, header(`"alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":"`+b64(string(rawKey(t, strange).Public().(ed25519.PublicKey)))+`"},`+typ), good),
		"no type":                       signWith(t, private, `{"alg":"EdDSA","kid":"`+id+`"}`, good),
		"a JWT":                         signWith(t, private, header(`"alg":"EdDSA","typ":"JWT"`), good),
		"nonce":                         signWith(t, private, header(`"alg":"EdDSA","nonce":"AAAA",`+typ), good),
		"a member twice":                sign(t, private, strings.Replace(good, `{`, `{"image":"other",`, 1)),
		"a digest twice":                sign(t, private, strings.Replace(good, `"digests":{`, `"digests":{"SHA-256":"00",`, 1)),
		"two texts":                     sign(t, private, good+good),
		"null":                          sign(t, private, `null`),
		"a list":                        sign(t, private, `[`+good+`]`),
		"not JSON":                      sign(t, private, `image`),
		"a newline":                     text + "\n",
		"a newline inside":              parts[0] + ".\n" + parts[1] + "." + parts[2],
		"padding":                       text + "==",
		"another last letter":           text[:len(text)-1] + another(text[len(text)-1]),
		"too long":                      sign(t, private, strings.Replace(good, `{`, `{"more":"`+strings.Repeat("x", receipt.MaxSize)+`",`, 1)),
		"JSON serialization":            `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
	} {
		got, err := keys.Open(forged)
		if !errors.Is(err, receipt.ErrInvalid) {
			t.Errorf("%s: Open = %+v, %v, want ErrInvalid", name, got, err)
		}
	}
	for name, unknown := range map[string]string{
		"another's":           sign(t, strange, good),
		"no kid":              signWith(t, private, `{"alg":"EdDSA",`+typ+`}`, good),
		"a very long kid":     signWith(t, private, `{"alg":"EdDSA","kid":"`+strings.Repeat("k", 9000)+`",`+typ+`}`, good),
		"the kid of a stroll": signWith(t, private, `{"alg":"EdDSA","kid":"../../key",`+typ+`}`, good),
	} {
		got, err := parseKeys(t, public).Open(unknown)
		if !errors.Is(err, receipt.ErrUnknownKey) {
			t.Errorf("%s: Open = %+v, %v, want ErrUnknownKey", name, got, err)
		} else if len(err.Error()) > 300 {
			t.Errorf("%s: the error has %d bytes", name, len(err.Error()))
		}
	}
}

// another returns the letter that differs in the lowest bit: a signature's last
// letter has bits that stand for nothing.
func another(letter byte) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, letter)^1:][:1]
}

// FuzzPeek: what can be read at all has one form, which says the same.
func FuzzPeek(f *testing.F) {
	private, _ := pair(f)
	keys := parseKeys(f, private)
	text, err := keys.Sign(example())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(sign(f, private, `{"image":"i","kind":"exempt","size":0,"service":"s","issued_at":"2026-07-01T12:00:00Z"}`))
	f.Add("..")
	f.Fuzz(func(t *testing.T, text string) {
		r, _, err := receipt.Peek(text)
		if err != nil {
			if !errors.Is(err, receipt.ErrInvalid) {
				t.Errorf("Peek(%q) = %v, want ErrInvalid", text, err)
			}
			return
		}
		signed, err := keys.Sign(*r)
		if err != nil {
			return // longer than it may be, once it is written anew
		}
		again, err := keys.Open(signed)
		if err != nil {
			t.Fatalf("Open(Sign(%+v)): %v", *r, err)
		}
		again.IssuedAt, r.IssuedAt = time.Time{}, time.Time{} // its zone and fractions are not kept
		if len(r.Digests) == 0 {
			r.Digests = nil
		}
		if len(r.Properties) == 0 {
			r.Properties = nil
		}
		if len(r.Certificate) == 0 {
			r.Certificate = nil
		}
		if !reflect.DeepEqual(again, r) {
			t.Errorf("Open(Sign(%+v)) = %+v", r, again)
		}
	})
}
