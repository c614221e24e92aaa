package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/signature"
)

func newVerify() *cobra.Command {
	var v verification
	cmd := &cobra.Command{
		Use:   "verify {FILE | IMAGE}",
		Short: "Verify an image's signature, from a file or in a cloud",
		Long: `Verify an image's signature as the proxy does.

From a file, without a cloud: FILE is the image's data, or "-" for standard input;
the certificate is in the file that --certificate names, and the signature
properties are given by --properties, --property or both. All four are demanded, as
in a cloud; img_signature_certificate_uuid must be a UUID, but is not looked up.

In a cloud: IMAGE is an image's UUID for which there is no file of that name, or the
UUID or name that --image gives. Properties and data are read from Glance and the
certificate from Barbican, with the credential that the openstack client uses too
(OS_*, or OS_CLOUD for clouds.yaml); or from Vault or a directory, if
COUNTERSIGN_KEY_MANAGER and its companions say so, as they do to the proxy.
--certificate takes it from a file instead.
--image-endpoint asks another Glance than the catalog's, or the proxy.

What a policy says about signers is not asked: read who signed.

The exit code is 0 if the signature is valid, 1 if it is not, and 2 if that could
not be found out.`,
		Example: `  # An image in a cloud, by id or by name
  countersign verify cd7cc675-e573-419c-8fff-33a72734a243
  countersign verify --image disk

  # A file, with the properties and the certificate of its image in Glance
  openstack image save --file disk.raw disk
  openstack image show -f json disk > disk.json
  countersign verify disk.raw --properties disk.json --certificate certificate.pem

  # What was just signed
  countersign verify disk.raw --certificate certificate.pem $(countersign sign disk.raw \
    --key key.pem --certificate-uuid 8f41c1d6-6d2b-4a0f-9a1e-0c3d5f7b9e21)

  # Would it have been accepted in January?
  countersign verify disk.raw --properties disk.json --certificate certificate.pem --at 2026-01-31`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			err := withCure(v.run(cmd, args))
			var refused *signature.PropertyError
			if errors.As(err, &refused) || errors.Is(err, signature.ErrUnsigned) {
				return &verdict{err}
			}
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&v.certificateFile, "certificate", "", "the signer's X.509 certificate, a `file` in PEM or DER (required for FILE)")
	v.given.register(cmd)
	flags.StringVar(&v.image, "image", "", "the `UUID or name` of an image in a cloud")
	flags.StringVar(&v.imageEndpoint, "image-endpoint", "", "`URL` of Glance or the proxy (default: the catalog's)")
	flags.StringVar(&v.at, "at", "", "the `time` to judge the certificate's dates at: RFC 3339, or a date, which begins at 00:00 UTC (default: now)")
	for _, err := range []error{
		cmd.MarkFlagFilename("certificate", "pem", "crt", "cer", "der"),
		cmd.RegisterFlagCompletionFunc("image", cobra.NoFileCompletions),
		cmd.RegisterFlagCompletionFunc("image-endpoint", cobra.NoFileCompletions),
		cmd.RegisterFlagCompletionFunc("at", cobra.NoFileCompletions),
	} {
		if err != nil {
			panic("verify: " + err.Error()) // a flag above is misspelt
		}
	}
	return cmd
}

// verification is one run of verify; its fields are what the flags say.
type verification struct {
	certificateFile      string
	given                givenProperties
	image, imageEndpoint string
	at                   string
}

func (v *verification) run(cmd *cobra.Command, args []string) error {
	at, err := v.time()
	if err != nil {
		return err
	}
	reference, inCloud, err := v.subject(cmd, args)
	switch {
	case err != nil:
		return err
	case inCloud:
		return v.inCloud(cmd, reference, at)
	default:
		return v.fromFile(cmd, reference, at)
	}
}

// subject returns what is to be verified, and whether it is in a cloud. What
// the flags say must be what that wants.
func (v *verification) subject(cmd *cobra.Command, args []string) (reference string, inCloud bool, err error) {
	image := cmd.Flags().Changed("image")
	switch {
	case image && len(args) > 0:
		return "", false, fmt.Errorf("%q and --image are two things to verify; give one of them", args[0])
	case image && v.image == "":
		return "", false, errors.New("--image is empty; give an image's UUID or name")
	case image:
		reference, inCloud = v.image, true
	case len(args) == 0:
		return "", false, errors.New("there is nothing to verify; give a file, or an image by its UUID or with --image")
	default:
		reference = args[0]
		_, err := os.Lstat(reference)
		inCloud = isImageID(reference) && errors.Is(err, fs.ErrNotExist)
	}
	switch {
	case inCloud && !v.given.none():
		return "", false, errors.New("an image in a cloud has its own properties; leave out --property and --properties, or give its data as a file")
	case inCloud:
		return reference, true, nil
	case v.imageEndpoint != "":
		return "", false, fmt.Errorf("--image-endpoint is for images in a cloud, and %q is taken for a file; name an image by its UUID or with --image", reference)
	case v.certificateFile == "":
		return "", false, errors.New("--certificate is missing: a file is verified with the certificate from another")
	case v.given.none():
		return "", false, errors.New("--properties or --property is missing: a file has no properties of its own")
	case reference == "-" && v.given.file == "-":
		return "", false, errors.New("the image and its properties cannot both be standard input")
	}
	return reference, false, nil
}

func (v *verification) fromFile(cmd *cobra.Command, name string, at time.Time) error {
	data, err := os.ReadFile(v.certificateFile)
	if err != nil {
		return err
	}
	properties, err := v.given.read(cmd)
	if err != nil {
		return err
	}
	img, err := openImage(cmd, name)
	if err != nil {
		return err
	}
	defer img.Close()
	return verify(cmd.OutOrStdout(), at, properties,
		func(signature.Spec) ([]byte, error) { return data, nil },
		func() (*image, error) { return img, nil })
}

func (v *verification) inCloud(cmd *cobra.Command, reference string, at time.Time) error {
	ctx := cmd.Context()
	var data []byte
	if v.certificateFile != "" {
		var err error
		if data, err = os.ReadFile(v.certificateFile); err != nil {
			return err
		}
	}
	session, err := openSession(ctx)
	if err != nil {
		return err
	}
	images, err := session.openGlance(v.imageEndpoint)
	if err != nil {
		return err
	}
	found, err := images.find(ctx, reference)
	if err != nil {
		return err
	}
	return verify(cmd.OutOrStdout(), at, found.properties,
		func(spec signature.Spec) ([]byte, error) {
			if v.certificateFile != "" {
				return data, nil
			}
			return session.certificate(ctx, spec.CertificateID)
		},
		func() (*image, error) { return images.open(cmd, found) })
}

// verify reads the certificate, and then the image, when all that comes before
// it is in order, and reports what it found.
func verify(out io.Writer, at time.Time, properties map[string]string,
	readCertificate func(signature.Spec) ([]byte, error), open func() (*image, error),
) error {
	spec, err := signature.Parse(properties)
	if err != nil {
		return err
	}
	data, err := readCertificate(spec)
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
	img, err := open()
	if err != nil {
		return err
	}
	defer img.Close()
	img.show("verifying")
	_, err = io.Copy(io.Discard, signature.NewReader(img, verifier))
	img.hide()
	if errors.Is(err, signature.ErrMismatch) && verifier.Size() < img.size {
		return fmt.Errorf("%s has %d bytes, and only %d could be read", img.name, img.size, verifier.Size())
	}
	if err != nil {
		return err
	}
	return report(out, img.name, spec, certificate, verifier)
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
