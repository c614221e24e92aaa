// Package receipt writes down what was verified, where every replica can read
// it and nobody can forge it.
//
// A [Receipt] is the verdict on one image: which bytes, by which certificate,
// under which rule. Its text is a compact JWS (RFC 7515) signed with Ed25519
// (RFC 8037), and it is kept with the image, in the property named [Property].
//
// The package promises that [Keys.Open] returns nothing that a holder of one of
// the private keys has not signed, and that [Receipt.Describes] is nil only for
// the image, the owner, the size, the data and the signature properties that
// were verified. It trusts whoever holds a private key, and the caller to take
// the image as it is now from Glance. It does not say whether today's rule is
// satisfied: that is for whoever knows the rule.
//
// It refuses every algorithm but EdDSA, every header parameter but alg, kid and
// typ, JSON with the same member twice, base64url with a second reading, and
// whatever is longer than [MaxSize].
//
//	keys, err := receipt.ParseKeys(private, older)
//	...
//	text, err := keys.Sign(receipt.Receipt{Image: id, Owner: project, …})
//	...
//	r, err := keys.Open(text)
//	...
//	err = r.Describes(receipt.Subject{Image: id, Owner: project, …})
//
// The JWS has the header {"alg":"EdDSA","kid":…,"typ":"countersign-receipt+jws"}.
// The kid is the key's thumbprint: SHA-256 over its JWK (RFC 7638), in base64url.
// The payload is the Receipt as JSON, with the member names of its fields.
package receipt

import (
	"errors"
	"fmt"
	"time"
)

// Property is the image property that holds an image's receipt.
const Property = "countersign_receipt"

// MaxSize is the length in bytes of the longest receipt: what the column of
// Glance's table of properties holds (MariaDB's TEXT).
const MaxSize = 1<<16 - 1

// Kind says what was done when a receipt was written.
type Kind string

const (
	// Upload: the data was verified while it went to Glance.
	Upload Kind = "upload"
	// Stage: the data was verified while it was staged. Glance had not hashed
	// it yet.
	Stage Kind = "stage"
	// Scan: the data was read back from Glance and verified then.
	Scan Kind = "scan"
	// Rotation: the signature properties were replaced by others that verify
	// over the digest that an earlier receipt holds.
	Rotation Kind = "rotation"
	// Exempt: nothing was verified, since a service of the cloud, which the
	// rule exempts, wrote the image.
	Exempt Kind = "exempt"
)

// A Receipt is what was found out about one image.
type Receipt struct {
	Image string `json:"image"`           // the image's id
	Owner string `json:"owner,omitempty"` // the id of its project; empty for an image without owner
	Size  int64  `json:"size"`            // of the data, in bytes

	// Digests are those that Countersign computed over the data: hash method,
	// written as in img_signature_hash_method, to lower-case hexadecimal.
	Digests map[string]string `json:"digests,omitempty"`

	// HashAlgo and HashValue are Glance's os_hash_algo and os_hash_value after
	// the data was written. Both are empty where Glance had none, as for Stage.
	HashAlgo  string `json:"os_hash_algo,omitempty"`
	HashValue string `json:"os_hash_value,omitempty"`

	// Properties are the four signature properties that verified, as they were
	// written. Empty for an Exempt receipt of an image without any.
	Properties map[string]string `json:"properties,omitempty"`

	// Certificate is that of the signer, in DER; in JSON it is base64. Empty for
	// Exempt.
	Certificate []byte `json:"certificate,omitempty"`

	Rule string `json:"rule,omitempty"` // the name of the rule that applied
	Mode string `json:"mode,omitempty"` // its mode
	Kind Kind   `json:"kind"`           // what was done

	// For Exempt: the id, the name, and the domain's name of the service's user.
	Service       string `json:"service,omitempty"`
	ServiceName   string `json:"service_name,omitempty"`
	ServiceDomain string `json:"service_domain,omitempty"`

	IssuedAt time.Time `json:"issued_at"` // when it was signed, to the second
}

// check reports what a receipt lacks to be one, whoever signed it.
func (r *Receipt) check() error {
	switch {
	case r.Image == "":
		return errors.New("it names no image")
	case r.Size < 0:
		return fmt.Errorf("it has the size %d", r.Size)
	case r.IssuedAt.IsZero():
		return errors.New("it has no date")
	case (r.HashAlgo == "") != (r.HashValue == ""):
		return errors.New("it has one of os_hash_algo and os_hash_value without the other")
	}
	switch r.Kind {
	default:
		return fmt.Errorf("it is of the unknown kind %.64q", r.Kind)
	case Exempt:
		if r.Service == "" {
			return errors.New("it exempts an image and names no service")
		}
		return nil
	case Upload, Stage, Scan, Rotation:
	}
	switch {
	case len(r.Digests) == 0:
		return errors.New("it has no digest")
	case len(r.Properties) == 0:
		return errors.New("it has no signature properties")
	case len(r.Certificate) == 0:
		return errors.New("it has no certificate")
	}
	return nil
}
