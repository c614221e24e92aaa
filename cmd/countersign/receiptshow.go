package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/proxy/receipt"
	"github.com/countersign/countersign/signature"
)

func newReceiptShow() *cobra.Command {
	var source receiptSource
	var format string
	cmd := &cobra.Command{
		Use:   "show {FILE | IMAGE}",
		Short: "Show what a receipt says",
		Long: `Show what a receipt says, without verifying it: no key is needed.

FILE holds a receipt, or an image as "openstack image show -f json" prints it; "-" is
standard input. IMAGE is the UUID of an image in a cloud for which there is no file of
that name, or the UUID or name that --image gives; it is read with the credential
that the openstack client uses too.

The exit code is 0 if there is a receipt, 1 if there is none that could be read, and 2
if that could not be found out.`,
		Example: `  countersign receipt show --image disk
  openstack image show -f json disk | countersign receipt show -

  # As JSON, for programs
  countersign receipt show --image disk --format json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := source.read(cmd, args)
			if err != nil {
				return err
			}
			text, err := receiptIn(data)
			if err != nil {
				return err
			}
			r, keyID, err := receipt.Peek(text)
			if err != nil {
				return &verdict{err}
			}
			return showReceipt(cmd.OutOrStdout(), r, keyID, format)
		},
	}
	source.register(cmd)
	registerReceiptFormat(cmd, &format)
	return cmd
}

func registerReceiptFormat(cmd *cobra.Command, format *string) {
	cmd.Flags().StringVar(format, "format", "text", "`form` of the output: text or json")
	if err := cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions([]cobra.Completion{"text", "json"}, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic("receipt: " + err.Error()) // the flag above is misspelt
	}
}

// showReceipt writes a receipt for people or for programs.
func showReceipt(out io.Writer, r *receipt.Receipt, keyID, format string) error {
	switch format {
	default:
		return fmt.Errorf("--format %q is not known; write text or json", format)
	case "json":
		text, err := json.MarshalIndent(struct {
			KeyID string `json:"kid"`
			*receipt.Receipt
		}{keyID, r}, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(out, "%s\n", text)
		return err
	case "text":
	}
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			fmt.Fprintf(table, "%s\t%s\n", name, printable(value))
		}
	}
	row("image", r.Image)
	row("owner", r.Owner)
	row("what", what(r))
	row("when", r.IssuedAt.UTC().Format(time.RFC3339))
	if r.Rule != "" {
		row("rule", fmt.Sprintf("%s (%s)", r.Rule, r.Mode))
	}
	if c := certificateOf(r); c != nil {
		row("signer", subject(c))
		row("certificate", fmt.Sprintf("SHA-256 %s, valid until %s", c.Fingerprint(), c.NotAfter.UTC().Format(time.RFC3339)))
	} else if len(r.Certificate) > 0 {
		row("certificate", "is not readable")
	}
	row("key type", r.Properties[signature.PropertyKeyType])
	row("size", fmt.Sprintf("%d bytes", r.Size))
	for _, method := range sortedMethods(r) {
		row(method, r.Digests[method])
	}
	if r.HashAlgo != "" {
		row("os_hash", r.HashAlgo+" "+r.HashValue)
	}
	row("receipt key", keyID)
	return table.Flush()
}

// what says in words what kind of receipt it is.
func what(r *receipt.Receipt) string {
	switch r.Kind {
	default:
		return fmt.Sprintf("%q", r.Kind)
	case receipt.Upload:
		return "verified while it was uploaded"
	case receipt.Stage:
		return "verified while it was staged"
	case receipt.Scan:
		return "verified by reading it back"
	case receipt.Rotation:
		return "its signature was replaced, and the new one verified over the digest known before"
	case receipt.Exempt:
		return fmt.Sprintf("NOT verified: written by the service %s, which the rule exempts", r.Service)
	}
}
