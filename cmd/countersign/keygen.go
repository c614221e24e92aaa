package main

import (
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/signature"
)

func newKeygen() *cobra.Command {
	var k keygen
	cmd := &cobra.Command{
		Use:   "keygen",
		Short: "Make a private key and its certificate",
		Long: `Make a private key to sign images with, and a self-signed certificate for it, as
Countersign, Glance and Nova verify signatures with. Store the certificate in
Barbican with "countersign sign --store-certificate".

The key is written in PKCS#8 and is not encrypted; nobody but the owner of the file
may read it. No file is ever overwritten.

RSA-PSS is what every release of Glance and Nova verifies, and ECC_SECP384R1 and
ECC_SECP521R1 make shorter signatures. DSA and the four SECT curves are there for
clouds that ask for them: they are on their way out elsewhere.

A self-signed certificate is trusted for itself. Nova's own certificate validation
(enable_certificate_validation) wants one that a listed CA has issued instead.`,
		Example: `  # A key for a year
  countersign keygen --name "Build server" --key key.pem --certificate certificate.pem

  # On an elliptic curve, for three months
  countersign keygen --type ECC_SECP384R1 --name "Build server" --days 90 \
    --key key.pem --certificate certificate.pem`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withCure(k.run(cmd, time.Now()))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&k.keyType, "type", string(signature.RSAPSS), "key `type`: "+alternatives(signature.KeyTypes))
	flags.IntVar(&k.bits, "bits", 0, "`length` of an RSA key, from 2048 (default 3072), or of a DSA key, 2048 (default) or 3072")
	flags.StringVar(&k.name, "name", "", "common `name` of the signer, for the certificate (required)")
	flags.IntVar(&k.days, "days", 365, "`days` for which the certificate is valid, from now")
	flags.StringVar(&k.keyFile, "key", "", "`file` to write the private key to (required)")
	flags.StringVar(&k.certificateFile, "certificate", "", "`file` to write the certificate to (required)")
	for _, err := range []error{
		cmd.MarkFlagRequired("name"),
		cmd.MarkFlagRequired("key"),
		cmd.MarkFlagRequired("certificate"),
		cmd.MarkFlagFilename("key", "pem", "key"),
		cmd.MarkFlagFilename("certificate", "pem", "crt"),
		cmd.RegisterFlagCompletionFunc("type", cobra.FixedCompletions(completions(signature.KeyTypes), cobra.ShellCompDirectiveNoFileComp)),
		cmd.RegisterFlagCompletionFunc("bits", cobra.NoFileCompletions),
		cmd.RegisterFlagCompletionFunc("name", cobra.NoFileCompletions),
		cmd.RegisterFlagCompletionFunc("days", cobra.NoFileCompletions),
	} {
		if err != nil {
			panic("keygen: " + err.Error()) // a flag above is misspelt
		}
	}
	return cmd
}

// keygen is one run of keygen, as the flags say.
type keygen struct {
	keyType         string
	bits, days      int
	name            string
	keyFile         string
	certificateFile string
}

// maxDays are a hundred years.
const maxDays = 36525

func (k *keygen) run(cmd *cobra.Command, now time.Time) error {
	switch {
	case k.days < 1 || k.days > maxDays:
		return fmt.Errorf("--days %d is not from 1 to %d", k.days, maxDays)
	case cmd.Flags().Changed("bits") && k.bits <= 0:
		return fmt.Errorf("--bits %d is no length of a key", k.bits)
	case filepath.Clean(k.keyFile) == filepath.Clean(k.certificateFile):
		return errors.New("--key and --certificate are one file; name two")
	}
	// Found before a key is made, which may take its time, and again by create.
	for _, file := range []string{k.keyFile, k.certificateFile} {
		if _, err := os.Lstat(file); err == nil {
			return fmt.Errorf("%s is there already, and is not overwritten; name another file", file)
		}
	}

	key, err := signature.GenerateKey(signature.KeyType(k.keyType), k.bits)
	var unknown *signature.PropertyError
	if errors.As(err, &unknown) {
		return fmt.Errorf("--type %q is not known; write %s", k.keyType, alternatives(signature.KeyTypes))
	}
	if err != nil {
		return err
	}
	keyDER, err := signature.MarshalPrivateKey(key)
	if err != nil {
		return err
	}
	certificateDER, err := signature.SelfSigned(key, k.name, now, now.AddDate(0, 0, k.days))
	if err != nil {
		return err
	}
	certificate, err := signature.ParseCertificate(certificateDER)
	if err != nil {
		return err
	}
	if err := create(k.keyFile, 0o600, "PRIVATE KEY", keyDER); err != nil {
		return err
	}
	if err := create(k.certificateFile, 0o644, "CERTIFICATE", certificateDER); err != nil {
		return errors.Join(err, os.Remove(k.keyFile))
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is the private key, not encrypted.\n%s is the certificate of %s, valid until %s (SHA-256 %s).\n",
		k.keyFile, k.certificateFile, subject(certificate), certificate.NotAfter.UTC().Format(time.DateOnly), certificate.Fingerprint())
	return err
}

// create writes a PEM file that must not be there yet, and leaves nothing of
// one that cannot be written whole.
func create(name string, mode fs.FileMode, label string, der []byte) error {
	file, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already, and is not overwritten; name another file", name)
	}
	if err != nil {
		return err
	}
	if err := errors.Join(pem.Encode(file, &pem.Block{Type: label, Bytes: der}), file.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}
