package receipt

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"

	"github.com/go-jose/go-jose/v4"
)

// ErrNoPrivateKey is returned by Sign where all keys are public ones.
var ErrNoPrivateKey = errors.New("no private receipt key is configured")

// Keys are the keys that receipts are signed and verified with. They never
// change. A nil *Keys has none: it signs nothing and opens nothing. Safe for
// concurrent use.
type Keys struct {
	signer ed25519.PrivateKey           // the first private key, or nil
	ids    []string                     // in the order given; the signer's is not always the first
	public map[string]ed25519.PublicKey // by id
}

// ParseKeys reads Ed25519 keys in PEM: PRIVATE KEY (PKCS #8, RFC 5958) and
// PUBLIC KEY (RFC 8410). A text may hold several. The first private key signs;
// all verify. It refuses texts without a key, other blocks and other kinds of
// key. No part of a key gets into an error.
func ParseKeys(pems ...[]byte) (*Keys, error) {
	keys := &Keys{public: make(map[string]ed25519.PublicKey)}
	for _, text := range pems {
		if err := keys.parse(text); err != nil {
			return nil, err
		}
	}
	if len(keys.ids) == 0 {
		return nil, errors.New("there is no receipt key")
	}
	return keys, nil
}

func (k *Keys) parse(text []byte) error {
	blocks := bytes.Count(text, []byte("-----BEGIN "))
	if blocks == 0 {
		return errors.New("not a key in PEM")
	}
	for ; blocks > 0; blocks-- {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			return errors.New("a PEM block is damaged")
		}
		if err := k.add(block); err != nil {
			return err
		}
	}
	return nil
}

func (k *Keys) add(block *pem.Block) error {
	switch block.Type {
	default:
		return errors.New("a PEM block is neither PRIVATE KEY nor PUBLIC KEY")
	case "ENCRYPTED PRIVATE KEY":
		return errors.New("the private key is encrypted: write it out with `openssl pkcs8 -nocrypt`, and let file permissions guard it")
	case "PRIVATE KEY":
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return errors.New("a private key is not readable as PKCS #8")
		}
		private, ok := parsed.(ed25519.PrivateKey)
		if !ok {
			return errors.New("a private key is not an Ed25519 key")
		}
		if k.signer == nil {
			k.signer = private
		}
		k.addPublic(private.Public().(ed25519.PublicKey))
	case "PUBLIC KEY":
		parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return errors.New("a public key is not readable")
		}
		public, ok := parsed.(ed25519.PublicKey)
		if !ok {
			return errors.New("a public key is not an Ed25519 key")
		}
		k.addPublic(public)
	}
	return nil
}

func (k *Keys) addPublic(key ed25519.PublicKey) {
	id := keyID(key)
	if k.public[id] == nil {
		k.ids = append(k.ids, id)
		k.public[id] = key
	}
}

// keyID is the thumbprint of RFC 7638.
func keyID(key ed25519.PublicKey) string {
	sum, err := (&jose.JSONWebKey{Key: key}).Thumbprint(crypto.SHA256)
	if err != nil {
		panic("receipt: thumbprint of an Ed25519 key: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(sum)
}

// CanSign reports whether there is a private key.
func (k *Keys) CanSign() bool { return k != nil && k.signer != nil }

// SigningID is the id of the key that signs, or "" if there is none.
func (k *Keys) SigningID() string {
	if !k.CanSign() {
		return ""
	}
	return keyID(k.signer.Public().(ed25519.PublicKey))
}

// IDs are the ids of all keys, in the order given.
func (k *Keys) IDs() []string {
	if k == nil {
		return nil
	}
	return append([]string(nil), k.ids...)
}

// Generate makes a pair of keys: PKCS #8 and SubjectPublicKeyInfo, in PEM.
func Generate() (privatePEM, publicPEM []byte, err error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	privateDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	publicDER, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: privateDER}),
		pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER}), nil
}
