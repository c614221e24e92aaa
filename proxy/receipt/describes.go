package receipt

import (
	"fmt"
	"slices"
	"strings"

	"github.com/countersign/countersign/signature"
)

// A Subject is an image as it is now.
type Subject struct {
	Image, Owner string
	Size         int64             // in bytes
	HashAlgo     string            // os_hash_algo, empty if there is none
	HashValue    string            // os_hash_value, likewise
	Properties   map[string]string // the four signature properties, as far as set; others are passed over
}

// A MismatchError says that a receipt is not for the image as it is now.
type MismatchError struct {
	// Member is what differs: image, owner, size, os_hash_algo, os_hash_value,
	// or the name of a signature property.
	Member string
	// Receipt and Image are the two values; both are empty for a signature
	// property.
	Receipt, Image string
}

func (e *MismatchError) Error() string {
	switch {
	case e.Receipt == "" && e.Image == "":
		return fmt.Sprintf("%s differs from what the receipt vouches for", e.Member)
	case e.Image == "":
		return fmt.Sprintf("the receipt is for %s %.160q, and the image has none", e.Member, e.Receipt)
	case e.Receipt == "":
		return fmt.Sprintf("the receipt is for no %s, and the image has %.160q", e.Member, e.Image)
	}
	return fmt.Sprintf("the receipt is for %s %.160q, and the image has %.160q", e.Member, e.Receipt, e.Image)
}

// Describes returns nil if r is a receipt for s, and otherwise a
// *MismatchError naming the first member that differs. A receipt that was
// copied from another image, or outlived a change, is none.
//
// Where the receipt has no hash of Glance's, but the image has, Glance's is
// compared with the digest that Countersign computed by the same method; if it
// computed none, nothing ties the receipt to the data, and that is a mismatch.
func (r *Receipt) Describes(s Subject) error {
	for _, m := range []MismatchError{
		{"image", r.Image, s.Image},
		{"owner", r.Owner, s.Owner},
		{"size", fmt.Sprint(r.Size), fmt.Sprint(s.Size)},
	} {
		if m.Receipt != m.Image {
			return &m
		}
	}
	if err := r.describesData(s); err != nil {
		return err
	}
	for _, name := range signature.Properties {
		was, had := r.Properties[name]
		is, has := s.Properties[name]
		if had != has || was != is {
			return &MismatchError{Member: name}
		}
	}
	return nil
}

func (r *Receipt) describesData(s Subject) error {
	algo, value := r.HashAlgo, r.HashValue
	if algo == "" && s.HashAlgo != "" {
		if value = r.digest(s.HashAlgo); value != "" {
			algo = s.HashAlgo
		}
	}
	switch {
	case algo != s.HashAlgo:
		return &MismatchError{"os_hash_algo", algo, s.HashAlgo}
	case value != s.HashValue:
		return &MismatchError{"os_hash_value", value, s.HashValue}
	}
	return nil
}

// digest is the digest by a hash that Glance names as Python's hashlib does:
// sha512. It is empty if there is none.
func (r *Receipt) digest(algo string) string {
	method := slices.IndexFunc(signature.HashMethods, func(m signature.HashMethod) bool {
		return strings.ReplaceAll(strings.ToLower(string(m)), "-", "") == algo
	})
	if method < 0 {
		return ""
	}
	return r.Digests[string(signature.HashMethods[method])]
}
