package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/proxy/receipt"
)

func newReceiptVerify() *cobra.Command {
	var source receiptSource
	var keyFiles []string
	var format string
	cmd := &cobra.Command{
		Use:   "verify {FILE | IMAGE} --key FILE",
		Short: "Verify that a receipt is genuine, and for the image as it is now",
		Long: `Verify that the receipt which an image carries was signed with one of the keys given,
and that it is for this image: its id, owner, size, data (by Glance's os_hash_value)
and signature properties are those that Countersign verified. No data is downloaded.

FILE is an image as "openstack image show -f json" prints it; "-" is standard input.
IMAGE is the UUID of an image in a cloud for which there is no file of that name, or
the UUID or name that --image gives; it is read with the credential that the openstack
client uses too.

What today's policy says about the signer is not asked: read who signed.

The exit code is 0 if the receipt is valid, 1 if it is not or there is none, and 2 if
that could not be found out.`,
		Example: `  countersign receipt verify --image disk --key receipts.pub

  # Without a cloud, with the keys of this year and the last
  openstack image show -f json disk > disk.json
  countersign receipt verify disk.json --key receipts-2026.pub --key receipts-2025.pub`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			keys, err := readReceiptKeys(keyFiles)
			if err != nil {
				return err
			}
			data, err := source.read(cmd, args)
			if err != nil {
				return err
			}
			img, err := describeImage(data)
			if err != nil {
				return fmt.Errorf("what was read %w", err)
			}
			r, err := verifyReceipt(keys, img)
			if err != nil {
				return &verdict{err}
			}
			if format == "text" {
				fmt.Fprintf(cmd.OutOrStdout(), "The receipt of image %s is valid.\n", img.subject.Image)
			}
			_, keyID, err := receipt.Peek(img.receipt)
			if err != nil {
				return err
			}
			return showReceipt(cmd.OutOrStdout(), r, keyID, format)
		},
	}
	source.register(cmd)
	registerReceiptFormat(cmd, &format)
	cmd.Flags().StringArrayVar(&keyFiles, "key", nil, "`file` with a public key of receipts, or several; may be repeated (required)")
	for _, err := range []error{
		cmd.MarkFlagRequired("key"),
		cmd.MarkFlagFilename("key", "pem", "pub"),
	} {
		if err != nil {
			panic("receipt verify: " + err.Error()) // a flag above is misspelt
		}
	}
	return cmd
}

func readReceiptKeys(files []string) (*receipt.Keys, error) {
	var texts [][]byte
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		if _, err := receipt.ParseKeys(text); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		texts = append(texts, text)
	}
	return receipt.ParseKeys(texts...)
}

// verifyReceipt says in one sentence what does not hold.
func verifyReceipt(keys *receipt.Keys, img describedImage) (*receipt.Receipt, error) {
	if img.receipt == "" {
		return nil, noReceipt(img)
	}
	r, err := keys.Open(img.receipt)
	switch {
	case errors.Is(err, receipt.ErrUnknownKey):
		_, keyID, _ := receipt.Peek(img.receipt)
		return nil, fmt.Errorf("the receipt of image %s was signed with the key %.64q, which is not among those given", img.subject.Image, keyID)
	case err != nil:
		return nil, fmt.Errorf("image %s: %w", img.subject.Image, err)
	}
	if err := r.Describes(img.subject); err != nil {
		return nil, fmt.Errorf("the receipt is genuine, and not for image %s as it is now: %w", img.subject.Image, err)
	}
	return r, nil
}
