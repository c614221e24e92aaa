package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/signature"
)

func newVerify() *cobra.Command {
	var v verification
	cmd := &cobra.Command{
		Use:   "verify FILE",
		Short: "Verify an image's signature without a cloud",
		Long: `Verify an image's signature as the proxy does, but with a certificate from a file
and without a cloud. FILE is the image's data; "-" is standard input.

All four signature properties are demanded, as in a cloud;
img_signature_certificate_uuid must be a UUID, but is not looked up. What a policy
says about signers is not asked: read who signed.

The exit code is 0 if the signature is valid, 1 if it is not, and 2 if that could
not be found out.`,
		Example: `  # An image in Glance, and the certificate it names
  openstack image save --file disk.raw disk
  openstack image show -f json disk > disk.json
  countersign verify disk.raw --properties disk.json --certificate certificate.pem

  # What was just signed
  countersign verify disk.raw --certificate certificate.pem $(countersign sign disk.raw \
    --key key.pem --certificate-uuid 8f41c1d6-6d2b-4a0f-9a1e-0c3d5f7b9e21)

  # Would it have been accepted in January?
  countersign verify disk.raw --properties disk.json --certificate certificate.pem --at 2026-01-31`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := withCure(v.run(cmd, args[0]))
			var refused *signature.PropertyError
			if errors.As(err, &refused) || errors.Is(err, signature.ErrUnsigned) {
				return &verdict{err}
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&v.certificateFile, "certificate", "", "the signer's X.509 certificate, a `file` in PEM or DER (required)")
	flags.StringArrayVar(&v.given, "property", nil, "a `property` of the image, name=value; may be repeated")
	flags.StringVar(&v.propertiesFile, "properties", "", `JSON `+"`file`"+` with the image's properties, as "openstack image show -f json" prints it; "-" is standard input`)
	flags.StringVar(&v.at, "at", "", "the `time` to judge the certificate's dates at: RFC 3339, or a date, which begins at 00:00 UTC (default: now)")
	for _, err := range []error{
		cmd.MarkFlagRequired("certificate"),
		cmd.MarkFlagFilename("certificate", "pem", "crt", "cer", "der"),
		cmd.MarkFlagFilename("properties", "json"),
		cmd.RegisterFlagCompletionFunc("property", completeProperty),
		cmd.RegisterFlagCompletionFunc("at", cobra.NoFileCompletions),
	} {
		if err != nil {
			panic("verify: " + err.Error()) // a flag above is misspelt
		}
	}
	cmd.MarkFlagsOneRequired("property", "properties")
	return cmd
}

// completeProperty offers names, and values where there are few.
func completeProperty(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	list := []cobra.Completion{signature.PropertySignature + "=", signature.PropertyCertificate + "="}
	for _, method := range signature.HashMethods {
		list = append(list, signature.PropertyHashMethod+"="+string(method))
	}
	for _, keyType := range signature.KeyTypes {
		if keyType.Supported() {
			list = append(list, signature.PropertyKeyType+"="+string(keyType))
		}
	}
	return list, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// verification is one run of verify; its fields are what the flags say.
type verification struct {
	certificateFile string
	given           []string
	propertiesFile  string
	at              string
}

func (v *verification) run(cmd *cobra.Command, name string) error {
	at, err := v.time()
	if err != nil {
		return err
	}
	if name == "-" && v.propertiesFile == "-" {
		return errors.New("the image and its properties cannot both be standard input")
	}
	data, err := os.ReadFile(v.certificateFile)
	if err != nil {
		return err
	}
	properties, err := v.properties(cmd)
	if err != nil {
		return err
	}
	img, err := openImage(cmd, name)
	if err != nil {
		return err
	}
	defer img.Close()

	spec, err := signature.Parse(properties)
	if err != nil {
		return err
	}
	certificate, err := signature.ParseCertificate(data)
	if err != nil {
		return err
	}
	if err := certificate.CheckDates(at); err != nil {
		return err
	}
	verifier, err := signature.NewVerifier(spec, certificate.PublicKey)
	if err != nil {
		return err
	}
	img.show("verifying")
	_, err = io.Copy(io.Discard, signature.NewReader(img, verifier))
	img.hide()
	if err != nil {
		return err
	}
	return report(cmd.OutOrStdout(), img.name, spec, certificate, verifier)
}

func (v *verification) time() (time.Time, error) {
	if v.at == "" {
		return time.Now(), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, v.at); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("--at %q is not a time; write for instance 2026-01-31T12:00:00Z or 2026-01-31", v.at)
}

// properties puts file and flags together. They may complete, not contradict,
// each other.
func (v *verification) properties(cmd *cobra.Command) (map[string]string, error) {
	all := make(map[string]string)
	if v.propertiesFile != "" {
		data, err := readFile(cmd, v.propertiesFile)
		if err != nil {
			return nil, err
		}
		found, err := readProperties(data)
		if err != nil {
			return nil, fmt.Errorf("%s %w", v.propertiesFile, err)
		}
		maps.Copy(all, found)
	}
	for _, property := range v.given {
		name, value, hasValue := strings.Cut(property, "=")
		if !hasValue || name == "" {
			return nil, fmt.Errorf("--property %q is not name=value", property)
		}
		if before, twice := all[name]; twice && before != value {
			return nil, fmt.Errorf("property %s is given twice, with different values", name)
		}
		all[name] = value
	}
	return all, nil
}

// readFile is os.ReadFile for which "-" is standard input.
func readFile(cmd *cobra.Command, name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(cmd.InOrStdin())
	}
	return os.ReadFile(name)
}

func report(w io.Writer, name string, spec signature.Spec, certificate *signature.Certificate, verifier *signature.Verifier) error {
	caveat := ""
	if verifier.Caveat() != "" {
		caveat = "\nBut: " + verifier.Caveat() + "."
	}
	_, err := fmt.Fprintf(w, `%s is signed by %s.
certificate  SHA-256 %s, valid until %s
key type     %s
hash         %s %x
size         %d bytes%s
`,
		name, subject(certificate),
		certificate.Fingerprint(), certificate.NotAfter.UTC().Format(time.RFC3339),
		spec.KeyType,
		spec.HashMethod, verifier.Digest(),
		verifier.Size(), caveat)
	return err
}
