package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/config"
	"github.com/countersign/countersign/signature"
)

func newSign() *cobra.Command {
	var s signing
	cmd := &cobra.Command{
		Use:   "sign FILE",
		Short: "Sign an image and print its signature properties",
		Long: `Sign an image with a private key and print the properties that Glance, Nova and
Countersign verify it with. FILE is what is uploaded, byte for byte; "-" is
standard input.

The key's type decides how: RSA keys sign with RSA-PSS and the longest salt, which
every release of Glance and Nova accepts; DSA keys, and elliptic curve keys on
P-384, P-521 and the four SECT curves, sign in DER. A key must not be encrypted.

The certificate belongs into the key manager, where verifiers fetch it: Barbican,
unless COUNTERSIGN_KEY_MANAGER says vault or file, as it does to the proxy.
--store-certificate puts it there, into Barbican with the credential that the
openstack client uses too (OS_*, or OS_CLOUD for clouds.yaml), into the others with
COUNTERSIGN_VAULT_* or COUNTERSIGN_KEY_DIRECTORY, and prints its UUID among the
properties. Store a certificate once, and name it by --certificate-uuid from then
on. Without either the UUID is missing from the output, and must be set as well:
an image with three properties of the four is not a signed image.`,
		Example: `  # Store the certificate, sign and upload
  openstack image create --disk-format raw --container-format bare --file disk.raw \
    $(countersign sign disk.raw --key key.pem --store-certificate certificate.pem) disk

  # Sign with a certificate that is stored already
  countersign sign disk.raw --key key.pem \
    --certificate-uuid 8f41c1d6-6d2b-4a0f-9a1e-0c3d5f7b9e21 --format json > disk.json

  # Sign what another program makes
  qemu-img dd -O raw if=disk.qcow2 of=/dev/stdout | countersign sign - --key key.pem --hash SHA-512`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return withCure(s.run(cmd, args[0]))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&s.keyFile, "key", "", "private `key` in PEM or DER: PKCS#8, PKCS#1, SEC 1 or OpenSSL's DSA form (required)")
	flags.StringVar(&s.hash, "hash", string(signature.SHA256), "hash `method`: "+alternatives(signature.HashMethods))
	flags.StringVar(&s.certificateID, "certificate-uuid", "", "`UUID` of the certificate in the key manager")
	flags.StringVar(&s.certificateFile, "store-certificate", "", "X.509 certificate `file` to store in the key manager")
	flags.StringVar(&s.certificateName, "certificate-name", "", "`name` for the certificate in Barbican or Vault (default: its subject)")
	flags.StringVar(&s.format, "format", string(formatArgs), "args for openstack image create, json, or shell for variables")
	for _, err := range []error{
		cmd.MarkFlagRequired("key"),
		cmd.MarkFlagFilename("key", "pem", "key", "der"),
		cmd.MarkFlagFilename("store-certificate", "pem", "crt", "cer", "der"),
		cmd.RegisterFlagCompletionFunc("hash", cobra.FixedCompletions(completions(signature.HashMethods), cobra.ShellCompDirectiveNoFileComp)),
		cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(completions(formats), cobra.ShellCompDirectiveNoFileComp)),
		cmd.RegisterFlagCompletionFunc("certificate-uuid", cobra.NoFileCompletions),
		cmd.RegisterFlagCompletionFunc("certificate-name", cobra.NoFileCompletions),
	} {
		if err != nil {
			panic("sign: " + err.Error()) // a flag above is misspelt
		}
	}
	cmd.MarkFlagsMutuallyExclusive("certificate-uuid", "store-certificate")
	return cmd
}

// completions are what the shell offers for a flag.
func completions[T ~string](words []T) []cobra.Completion {
	var list []cobra.Completion
	for _, word := range words {
		list = append(list, cobra.Completion(word))
	}
	return list
}

// signing is one run of sign.
type signing struct {
	// What the flags say.
	keyFile, hash, format            string
	certificateFile, certificateName string
	certificateID                    string

	key         any
	certificate *signature.Certificate // nil without certificateFile
}

// toCome stands for the UUID that a certificate does not have yet.
const toCome = "00000000-0000-0000-0000-000000000000"

// run does everything that can fail early before it reads the image, and
// stores the certificate last, so that a failure leaves nothing behind.
func (s *signing) run(cmd *cobra.Command, name string) error {
	if err := s.checkFlags(cmd); err != nil {
		return err
	}
	data, err := os.ReadFile(s.keyFile)
	if err != nil {
		return err
	}
	if s.key, err = signature.ParsePrivateKey(data); err != nil {
		return fmt.Errorf("%s: %w", s.keyFile, err)
	}
	if err := s.openCertificate(cmd, time.Now()); err != nil {
		return err
	}
	if err := s.rehearse(); err != nil {
		return err
	}
	// Everything the network is needed for is tried first, and done last.
	var keys certificateStore
	if s.certificate != nil {
		if keys, err = openKeyManager(cmd.Context()); err != nil {
			return err
		}
	}

	properties, err := s.signFile(cmd, name)
	if err != nil {
		return err
	}
	if s.certificate != nil {
		id, err := keys.store(cmd.Context(), s.certificate, s.certificateName)
		if err != nil {
			return err
		}
		properties[signature.PropertyCertificate] = id
		fmt.Fprintf(cmd.ErrOrStderr(), "%s has %s (SHA-256 %s) until %s as %s\n",
			keys.name(), subject(s.certificate), s.certificate.Fingerprint(), s.certificate.NotAfter.UTC().Format(time.DateOnly), id)
	}
	if s.certificate == nil && s.certificateID == "" {
		delete(properties, signature.PropertyCertificate)
		fmt.Fprintf(cmd.ErrOrStderr(), "%s is not among the properties and must be set as well: the certificate's UUID in the key manager\n", signature.PropertyCertificate)
	}
	return format(s.format).write(cmd.OutOrStdout(), properties)
}

// checkFlags refuses what cobra lets pass, such as a variable of the shell that
// was empty.
func (s *signing) checkFlags(cmd *cobra.Command) error {
	if !slices.Contains(formats, format(s.format)) {
		return fmt.Errorf("--format %q is not known; write %s", s.format, alternatives(formats))
	}
	if cmd.Flags().Changed("certificate-uuid") && s.certificateID == "" {
		return errors.New("--certificate-uuid is empty; give the certificate's UUID in the key manager, or leave the flag out")
	}
	if cmd.Flags().Changed("store-certificate") && s.certificateFile == "" {
		return errors.New("--store-certificate is empty; give the certificate's file, or leave the flag out")
	}
	if s.certificateName != "" && s.certificateFile == "" {
		return errors.New("--certificate-name names what --store-certificate stores, which is not given")
	}
	return nil
}

// expiresSoon is when a warning is due.
const expiresSoon = 30 * 24 * time.Hour

func (s *signing) openCertificate(cmd *cobra.Command, now time.Time) error {
	if s.certificateFile == "" {
		return nil
	}
	data, err := os.ReadFile(s.certificateFile)
	if err != nil {
		return err
	}
	if s.certificate, err = signature.ParseCertificate(data); err != nil {
		return fmt.Errorf("%s: %w", s.certificateFile, err)
	}
	if err := s.certificate.CheckDates(now); err != nil {
		return fmt.Errorf("%s: %w", s.certificateFile, err)
	}
	if left := s.certificate.NotAfter.Sub(now); left < expiresSoon {
		fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s expires at %s, in %d days; after that the image can no longer be uploaded or started\n",
			s.certificateFile, s.certificate.NotAfter.UTC().Format(time.RFC3339), int(left.Hours()/24))
	}
	return nil
}

// rehearse signs nothing at all and judges that, so that a wrong flag, or a
// certificate of another key, shows before gigabytes have been read.
func (s *signing) rehearse() error {
	properties, err := s.sign(bytes.NewReader(nil))
	if err != nil {
		return err
	}
	spec, err := signature.Parse(properties)
	if err != nil {
		return err
	}
	if s.certificateID != "" {
		s.certificateID = spec.CertificateID // as Barbican writes it, however it was typed
		if config.Environ()[config.Prefix+"KEY_MANAGER"] == config.Vault {
			s.certificateID = bareID(s.certificateID)
		}
	}
	if s.certificate == nil {
		return nil
	}
	err = judge(properties, s.certificate, bytes.NewReader(nil))
	var refused *signature.PropertyError
	if !errors.As(err, &refused) {
		return err
	}
	switch refused.Code {
	default:
		return fmt.Errorf("%s is not the certificate of %s: its public key is another", s.certificateFile, s.keyFile)
	case signature.CodeKeyUnsupported, signature.CodeKeyTooSmall:
		return fmt.Errorf("%s: %w", s.certificateFile, err)
	}
}

// signFile signs the image and, where a certificate is given and the image can
// be read twice, verifies it as a cloud would. That finds a file that changed
// in the meantime.
func (s *signing) signFile(cmd *cobra.Command, name string) (map[string]string, error) {
	img, err := openImage(cmd, name)
	if err != nil {
		return nil, err
	}
	defer img.Close()
	img.show("signing")
	defer img.hide()
	properties, err := s.sign(img)
	if err != nil || s.certificate == nil || !img.repeatable() {
		return properties, err
	}
	img.hide()
	img.show("verifying")
	if err := img.rewind(); err != nil {
		return nil, err
	}
	err = judge(properties, s.certificate, img)
	if errors.Is(err, signature.ErrMismatch) {
		return nil, fmt.Errorf("%s has changed while it was signed; sign it again when it is complete", img.name)
	}
	return properties, err
}

// sign returns all four properties, the last one perhaps toCome.
func (s *signing) sign(image io.Reader) (map[string]string, error) {
	raw, keyType, err := signature.Sign(s.key, signature.HashMethod(s.hash), image)
	if err != nil {
		return nil, err
	}
	properties := map[string]string{
		signature.PropertySignature:   base64.StdEncoding.EncodeToString(raw),
		signature.PropertyHashMethod:  s.hash,
		signature.PropertyKeyType:     string(keyType),
		signature.PropertyCertificate: toCome,
	}
	if s.certificateID != "" {
		properties[signature.PropertyCertificate] = s.certificateID
	}
	return properties, nil
}

// judge does with the properties and the image what a verifier will do.
func judge(properties map[string]string, certificate *signature.Certificate, image io.Reader) error {
	spec, err := signature.Parse(properties)
	if err != nil {
		return err
	}
	verifier, err := signature.NewVerifier(spec, certificate.PublicKey)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, signature.NewReader(image, verifier))
	return err
}
