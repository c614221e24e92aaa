package receipt

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/json" // the same member twice is an error, and names have one spelling
)

// mediaType is the typ of the header (RFC 7515, section 4.1.9). A receipt whose
// members mean something else will have another.
const mediaType = "countersign-receipt+jws"

var (
	// ErrUnknownKey is in the error of Open for a receipt that none of the
	// keys can have signed.
	ErrUnknownKey = errors.New("the receipt was signed with a key that is not known here")
	// ErrInvalid is in the error of Open and Peek for a text that is no
	// receipt, and in that of Open for one whose signature is wrong.
	ErrInvalid = errors.New("not a valid receipt")
)

// Sign returns the text of a receipt. It returns ErrNoPrivateKey if there is
// nothing to sign with, and refuses a receipt that lacks what its kind must
// have, or would be longer than MaxSize.
func (k *Keys) Sign(r Receipt) (string, error) {
	if !k.CanSign() {
		return "", ErrNoPrivateKey
	}
	r.IssuedAt = r.IssuedAt.UTC().Truncate(time.Second)
	if err := r.check(); err != nil {
		return "", fmt.Errorf("receipt for image %s: %w", r.Image, err)
	}
	payload, err := json.Marshal(r)
	if err != nil {
		return "", err
	}
	key := jose.JSONWebKey{Key: k.signer, KeyID: k.SigningID()}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.EdDSA, Key: key},
		(&jose.SignerOptions{}).WithType(mediaType))
	if err != nil {
		return "", err
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", err
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		return "", err
	}
	if len(text) > MaxSize {
		return "", fmt.Errorf("receipt for image %s: it would be %d bytes long, and an image property holds %d", r.Image, len(text), MaxSize)
	}
	return text, nil
}

// Open returns the receipt that a text is, once its signature has been
// verified with one of the keys. The error is ErrUnknownKey or ErrInvalid,
// wrapped.
func (k *Keys) Open(text string) (*Receipt, error) {
	signed, keyID, err := parse(text)
	if err != nil {
		return nil, err
	}
	var public any
	if k != nil && k.public[keyID] != nil {
		public = k.public[keyID]
	}
	if public == nil {
		return nil, fmt.Errorf("%w: %.64q", ErrUnknownKey, keyID)
	}
	payload, err := signed.Verify(public)
	if err != nil {
		return nil, fmt.Errorf("%w: its own signature is wrong", ErrInvalid)
	}
	return decode(payload)
}

// Peek reads a receipt and the id of its key without verifying anything: for
// showing to people, who are to be told so.
func Peek(text string) (r *Receipt, keyID string, err error) {
	signed, keyID, err := parse(text)
	if err != nil {
		return nil, "", err
	}
	r, err = decode(signed.UnsafePayloadWithoutVerification())
	return r, keyID, err
}

func parse(text string) (*jose.JSONWebSignature, string, error) {
	if len(text) > MaxSize {
		return nil, "", fmt.Errorf("%w: it is longer than %d bytes", ErrInvalid, MaxSize)
	}
	for part := range strings.SplitSeq(text, ".") {
		decoded, err := base64.RawURLEncoding.DecodeString(part)
		if err != nil || base64.RawURLEncoding.EncodeToString(decoded) != part {
			return nil, "", fmt.Errorf("%w: a part of it is not base64url", ErrInvalid)
		}
	}
	signed, err := jose.ParseSignedCompact(text, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return nil, "", fmt.Errorf("%w: %.160s", ErrInvalid, err)
	}
	header := signed.Signatures[0].Protected
	switch {
	case header.JSONWebKey != nil, header.Nonce != "", len(header.ExtraHeaders) != 1:
		return nil, "", fmt.Errorf("%w: its header has other parameters than alg, kid and typ", ErrInvalid)
	case header.ExtraHeaders[jose.HeaderType] != mediaType:
		return nil, "", fmt.Errorf("%w: its header has not the typ %s", ErrInvalid, mediaType)
	}
	return signed, header.KeyID, nil
}

func decode(payload []byte) (*Receipt, error) {
	r := new(Receipt)
	if err := json.Unmarshal(payload, r); err != nil {
		return nil, fmt.Errorf("%w: %.160s", ErrInvalid, err)
	}
	if err := r.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return r, nil
}
