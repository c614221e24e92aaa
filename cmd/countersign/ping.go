package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func newPing() *cobra.Command {
	var admin, ca string
	cmd := &cobra.Command{
		Use:   "ping URL",
		Short: "Ask whether Countersign is at a URL, and serves",
		Long: `Ask what answers at URL, without a credential: it has to be Countersign, with a
Glance behind it that asks for one. With --admin the admin listener is asked too
whether it is ready, and why not.

The exit code is 0 if it serves, 1 if it does not, and 2 if it could not be asked.`,
		Example: `  countersign ping https://images.example
  countersign ping http://127.0.0.1:9292 --admin http://127.0.0.1:9293`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			client, err := newPingClient(ca)
			if err != nil {
				return err
			}
			if err := ping(cmd.Context(), client, args[0]); err != nil {
				return &verdict{fmt.Errorf("%s: %w", printable(args[0]), err)}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: Countersign serves, in front of a Glance that asks for tokens\n", printable(args[0]))
			if admin == "" {
				return nil
			}
			if err := askReady(cmd.Context(), client, admin); err != nil {
				return &verdict{fmt.Errorf("%s: %w", printable(admin), err)}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: ready\n", printable(admin))
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&admin, "admin", "", "`URL` of the admin listener")
	flags.StringVar(&ca, "ca-file", "", "PEM `file` with who may have issued its certificate, or with the certificate (default: the system's)")
	for _, err := range []error{
		cmd.RegisterFlagCompletionFunc("admin", cobra.NoFileCompletions),
		cmd.MarkFlagFilename("ca-file", "pem", "crt"),
	} {
		if err != nil {
			panic("ping: " + err.Error()) // a flag above is misspelt
		}
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	return cmd
}

// newPingClient trusts the certificates in a file, and follows nobody elsewhere.
func newPingClient(ca string) (*http.Client, error) {
	var roots *x509.CertPool
	if ca != "" {
		text, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		roots = x509.NewCertPool()
		if !roots.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--ca-file %s has no certificate in PEM", ca)
		}
	}
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// ping is nil if Countersign is at a URL and Glance behind it wants a token.
func ping(ctx context.Context, client *http.Client, address string) error {
	if err := answersAsCountersign(ctx, client, address); err != nil {
		return err
	}
	base, err := versioned(address)
	if err != nil {
		return err
	}
	switch status, _, err := getBody(ctx, client, base+"/images"); {
	case err != nil:
		return err
	case status != http.StatusUnauthorized:
		return fmt.Errorf("it answers %d to a listing without a token; expected 401", status)
	}
	return nil
}

// askReady is nil if /readyz says so, and names what is wrong otherwise.
func askReady(ctx context.Context, client *http.Client, address string) error {
	status, body, err := getBody(ctx, client, strings.TrimRight(address, "/")+"/readyz")
	if err != nil {
		return err
	}
	var said readiness
	if json.Unmarshal(body, &said) != nil {
		return fmt.Errorf("what answers %d to /readyz there is not Countersign", status)
	}
	if status == http.StatusOK && said.Ready {
		return nil
	}
	text := "it is not ready"
	for _, name := range slices.Sorted(maps.Keys(said.Checks)) {
		if why := said.Checks[name]; why != "ok" {
			text += fmt.Sprintf("; %s: %s", name, printable(why))
		}
	}
	return errors.New(text)
}
