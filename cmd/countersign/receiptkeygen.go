package main

import (
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/proxy/receipt"
)

func newReceiptKeygen() *cobra.Command {
	var privateFile, publicFile string
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make the pair of keys that receipts are signed and verified with",
		Long: `Make a pair of Ed25519 keys. The private key is for Countersign alone: every replica
gets it in COUNTERSIGN_RECEIPT_KEY_FILES. The public key is for whoever wants to verify
receipts. The private key is not encrypted; nobody but the owner of the file may read
it. No file is ever overwritten.

To change keys, make a new pair, and put the new private key first and the older public
key behind it in COUNTERSIGN_RECEIPT_KEY_FILES: new receipts are signed with the former,
those that are there still verify with the latter.`,
		Example: `  countersign receipt keygen --private receipts.pem --public receipts.pub`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return makeReceiptKeys(cmd, privateFile, publicFile)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&privateFile, "private", "", "`file` to write the private key to (required)")
	flags.StringVar(&publicFile, "public", "", "`file` to write the public key to (required)")
	for _, err := range []error{
		cmd.MarkFlagRequired("private"),
		cmd.MarkFlagRequired("public"),
		cmd.MarkFlagFilename("private", "pem", "key"),
		cmd.MarkFlagFilename("public", "pem", "pub"),
	} {
		if err != nil {
			panic("receipt keygen: " + err.Error()) // a flag above is misspelt
		}
	}
	return cmd
}

func makeReceiptKeys(cmd *cobra.Command, privateFile, publicFile string) error {
	if filepath.Clean(privateFile) == filepath.Clean(publicFile) {
		return errors.New("--private and --public are one file; name two")
	}
	private, public, err := receipt.Generate()
	if err != nil {
		return err
	}
	keys, err := receipt.ParseKeys(private)
	if err != nil {
		return err
	}
	privateBlock, _ := pem.Decode(private)
	publicBlock, _ := pem.Decode(public)
	if err := create(privateFile, 0o600, privateBlock.Type, privateBlock.Bytes); err != nil {
		return err
	}
	if err := create(publicFile, 0o644, publicBlock.Type, publicBlock.Bytes); err != nil {
		return errors.Join(err, os.Remove(privateFile))
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is the private key, not encrypted: for Countersign alone.\n%s is the public key; its id is %s.\n",
		privateFile, publicFile, keys.SigningID())
	return err
}
