package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/proxy/receipt"
	"github.com/countersign/countersign/signature"
)

func newReceipt() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "receipt",
		Short: "Make the keys of receipts, read and verify receipts",
		Long: `A receipt says what Countersign verified: which bytes, for which image, with which
certificate, under which rule. It is kept with the image, in the property
countersign_receipt, and is a JWS signed with Ed25519: whoever has the public key can
check it, with "countersign receipt verify" or with any JOSE library.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newReceiptKeygen(), newReceiptShow(), newReceiptVerify())
	return cmd
}

// receiptSource is where a receipt, or the image that carries it, is read from.
type receiptSource struct {
	image, imageEndpoint string
}

func (s *receiptSource) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&s.image, "image", "", "the `UUID or name` of an image in a cloud")
	flags.StringVar(&s.imageEndpoint, "image-endpoint", "", "`URL` of Glance or the proxy (default: the catalog's)")
	for _, err := range []error{
		cmd.RegisterFlagCompletionFunc("image", cobra.NoFileCompletions),
		cmd.RegisterFlagCompletionFunc("image-endpoint", cobra.NoFileCompletions),
	} {
		if err != nil {
			panic("receipt: " + err.Error()) // a flag above is misspelt
		}
	}
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return []cobra.Completion{"json", "jws"}, cobra.ShellCompDirectiveFilterFileExt
	}
}

// read returns what there is: an image as JSON, or whatever else a file holds.
func (s *receiptSource) read(cmd *cobra.Command, args []string) ([]byte, error) {
	image := cmd.Flags().Changed("image")
	reference, inCloud := s.image, true
	switch {
	case image && len(args) > 0:
		return nil, fmt.Errorf("%q and --image are two things to read; give one of them", args[0])
	case image && s.image == "":
		return nil, errors.New("--image is empty; give an image's UUID or name")
	case !image && len(args) == 0:
		return nil, errors.New(`there is nothing to read; give a file, "-" for standard input, or an image by its UUID or with --image`)
	case !image:
		reference = args[0]
		_, err := os.Lstat(reference)
		inCloud = isImageID(reference) && errors.Is(err, fs.ErrNotExist)
	}
	switch {
	case inCloud:
		return s.fromCloud(cmd, reference)
	case s.imageEndpoint != "":
		return nil, fmt.Errorf("--image-endpoint is for images in a cloud, and %q is taken for a file; name an image by its UUID or with --image", reference)
	}
	return readFile(cmd, reference)
}

func (s *receiptSource) fromCloud(cmd *cobra.Command, reference string) ([]byte, error) {
	session, err := openSession(cmd.Context())
	if err != nil {
		return nil, err
	}
	images, err := session.openGlance(s.imageEndpoint)
	if err != nil {
		return nil, err
	}
	found, err := images.find(cmd.Context(), reference)
	if err != nil {
		return nil, err
	}
	data, err := images.read(cmd.Context(), "/images/"+found.ID)
	return data, images.explain("reading the image", err)
}

// A describedImage is an image with its receipt, as JSON describes it.
type describedImage struct {
	subject receipt.Subject
	receipt string // "": it carries none
}

// describeImage reads an image as openstack image show -f json prints it, or as
// Glance's API answers: what the former has among "properties" are members of
// the image in the latter. What is there twice, or of another type, is an error.
func describeImage(data []byte) (describedImage, error) {
	var img describedImage
	members, err := objectMembers(data)
	if err != nil {
		return img, err
	}
	if img.subject.Properties, err = readProperties(data); err != nil {
		return img, err
	}
	into := map[string]any{
		"id": &img.subject.Image, "owner": &img.subject.Owner, "size": &img.subject.Size,
		"os_hash_algo": &img.subject.HashAlgo, "os_hash_value": &img.subject.HashValue,
		receipt.Property: &img.receipt,
	}
	for _, m := range members {
		if m.name == "properties" && m.value[0] == '{' {
			inner, err := objectMembers(m.value)
			if err != nil {
				return img, err
			}
			members = append(members, inner...)
		}
	}
	seen := map[string]bool{}
	for _, m := range members {
		target := into[m.name]
		switch {
		case target == nil:
			continue
		case seen[m.name]:
			return img, fmt.Errorf("has %s twice", m.name)
		case json.Unmarshal(m.value, target) != nil:
			return img, fmt.Errorf("has %s with a value that is none", m.name)
		}
		seen[m.name] = true
	}
	if !isImageID(img.subject.Image) {
		return img, errors.New("describes no image: there is no id that is a UUID")
	}
	return img, nil
}

// receiptIn is the receipt that the data is, or that the image which it
// describes carries.
func receiptIn(data []byte) (string, error) {
	data = bytes.TrimSpace(data)
	if len(data) == 0 || data[0] != '{' {
		return string(data), nil
	}
	img, err := describeImage(data)
	switch {
	case err != nil:
		return "", fmt.Errorf("what was read %w", err)
	case img.receipt == "":
		return "", &verdict{noReceipt(img)}
	}
	return img.receipt, nil
}

func noReceipt(img describedImage) error {
	return fmt.Errorf("image %s carries no receipt: it has no property %s", img.subject.Image, receipt.Property)
}

// certificateOf is the signer's certificate in a receipt; nil if there is none,
// or it cannot be read.
func certificateOf(r *receipt.Receipt) *signature.Certificate {
	certificate, err := signature.ParseCertificate(r.Certificate)
	if err != nil {
		return nil
	}
	return certificate
}

// sortedMethods are the hash methods of a receipt's digests.
func sortedMethods(r *receipt.Receipt) []string {
	var methods []string
	for method := range r.Digests {
		methods = append(methods, method)
	}
	slices.Sort(methods)
	return methods
}
