package main

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/config"
)

func newConfig() *cobra.Command {
	var format string
	var table bool
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show the settings that serve would run with",
		Long: `Show every setting as "countersign serve" would read it here, and whether it comes
from the environment or is the default. Files that settings name are read, as at a
start; nobody is called. Secrets are never shown.

--format env writes what is set as NAME=value lines, for a shell or an
EnvironmentFile of systemd; secrets become comments. --table shows instead what can
be set, and reads nothing.

The exit code is 0 if the settings are in order, and 2 if they are not: then
everything that is wrong is listed. What is in the policy is not judged: see
countersign policy check.`,
		Example: `  countersign config

  # Is this set of variables complete and right?
  env $(grep -v '^#' countersign.env) countersign config --format json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !slices.Contains(configFormats, format) {
				return fmt.Errorf("--format %q is not known; write %s", format, alternatives(configFormats))
			}
			if table {
				return showTable(cmd.OutOrStdout())
			}
			environ := config.Environ()
			cfg, err := config.Load(environ)
			if err != nil {
				return err
			}
			return showConfig(cmd.OutOrStdout(), format, effective(cfg, environ), cfg.Service)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&format, "format", configFormats[0], "text, json, or env for variables")
	flags.BoolVar(&table, "table", false, "show what can be set, with its default and meaning")
	if err := cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(configFormats, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic("config: " + err.Error()) // the flag above is misspelt
	}
	cmd.MarkFlagsMutuallyExclusive("format", "table")
	return cmd
}

var configFormats = []string{"text", "json", "env"}

// origin is where a setting's value comes from.
type origin string

const (
	unset           origin = "unset" // it has no default
	fromDefault     origin = "default"
	fromEnvironment origin = "environment"
)

// setting is a setting as it is in force.
type setting struct {
	Name   string `json:"name"`
	Value  string `json:"value"` // stars for a secret
	Origin origin `json:"origin"`
	Secret bool   `json:"secret,omitempty"`
}

// effective lists all settings in the order of the table.
func effective(cfg config.Config, environ map[string]string) []setting {
	masked := make(map[string]string)
	for _, line := range cfg.Masked() {
		name, value, _ := strings.Cut(line, "=")
		masked[name] = value
	}
	var list []setting
	for _, known := range config.Table() {
		s := setting{Name: known.Name, Value: masked[known.Name], Secret: known.Secret}
		switch {
		default:
			s.Origin = fromDefault
		case s.Value == "":
			s.Origin = unset
		case environ[known.Name] != "":
			s.Origin = fromEnvironment
		}
		list = append(list, s)
	}
	return list
}

func showConfig(w io.Writer, format string, settings []setting, service config.Service) error {
	switch format {
	default:
		return fmt.Errorf("format %q is not known", format)
	case "text":
		table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(table, "SETTING\tORIGIN\tVALUE")
		for _, s := range settings {
			value := printable(s.Value)
			if s.Origin == unset {
				value = "-"
			}
			fmt.Fprintf(table, "%s\t%s\t%s\n", s.Name, s.Origin, value)
		}
		if err := table.Flush(); err != nil {
			return err
		}
		_, err := fmt.Fprintf(w, "\nService credential: %s\n", printable(service.String()))
		return err
	case "json":
		text, err := json.MarshalIndent(struct {
			Settings []setting `json:"settings"`
			Service  string    `json:"service_credential"`
		}{settings, service.String()}, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\n", text)
		return err
	case "env":
		for _, s := range settings {
			line := s.Name + "=" + quoteForShell(s.Value)
			switch {
			case s.Origin == unset:
				continue
			case s.Secret:
				line = "# " + s.Name + " is set, and secret"
			}
			if _, err := fmt.Fprintln(w, line); err != nil {
				return err
			}
		}
		return nil
	}
}

// quoteForShell puts a value between quotes where a shell would read it
// otherwise. It reads what is between single ones as it is.
func quoteForShell(value string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=:,./@%"
	if value != "" && strings.Trim(value, plain) == "" {
		return value
	}
	return "'" + strings.ReplaceAll(value, "'", `'\''`) + "'"
}

// showTable writes what can be set.
func showTable(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "SETTING\tDEFAULT\tMEANING")
	for _, s := range config.Table() {
		value := s.Default
		if value == "" {
			value = "-"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", s.Name, value, s.Help)
	}
	return table.Flush()
}
