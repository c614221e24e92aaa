package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/signature"
)

func newPolicy() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Look at policies",
		Long:  "Look at the policies that say which projects must sign their images, and with what.",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newPolicyCheck(), newPolicyExplain())
	return cmd
}

func newPolicyCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Find the mistakes in a policy",
		Long: `Read a policy as the proxy would. If it is good, its rules are shown in the order
in which they are asked, and warnings about what may not be meant; if it is not,
every mistake is, each with its line. "-" is standard input.

The exit code is 0 if the proxy would take the policy, 1 if it would not, and 2 if
it could not be read.`,
		Example: `  countersign policy check policy.yaml

  # What a cluster has
  kubectl get configmap countersign -o jsonpath='{.data.policy\.yaml}' | countersign policy check -`,
		Args: cobra.ExactArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return []cobra.Completion{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			return checkPolicy(cmd, args[0])
		},
	}
}

func checkPolicy(cmd *cobra.Command, file string) error {
	p, err := loadPolicy(cmd, file)
	var mistakes *mistakesError
	switch {
	case errors.As(err, &mistakes):
		return &verdict{err}
	case err != nil:
		return err
	}
	m := newMaterial(p.Needs(), folderOf(file), nil)
	p = p.With(m.Material)
	if err := showRules(cmd.OutOrStdout(), p.Rules()); err != nil {
		return err
	}
	if err := showSets(cmd.OutOrStdout(), p.Sets()); err != nil {
		return err
	}
	for _, doubt := range append(doubts(p), setDoubts(p, m, time.Now())...) {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s:%d: warning: %s\n", file, doubt.line, doubt.text)
	}
	return nil
}

// loadPolicy reads a policy; the error may be a *mistakesError.
func loadPolicy(cmd *cobra.Command, file string) (*policy.Policy, error) {
	data, err := readFile(cmd, file)
	if err != nil {
		return nil, err
	}
	p, err := policy.Load(bytes.NewReader(data))
	var mistakes *policy.Error
	if errors.As(err, &mistakes) {
		return nil, &mistakesError{file, mistakes.Problems}
	}
	return p, err
}

// mistakesError is a policy.Error with the name of the file on each line.
type mistakesError struct {
	file     string
	problems []policy.Problem
}

func (e *mistakesError) Error() string {
	lines := make([]string, len(e.problems))
	for i, problem := range e.problems {
		lines[i] = fmt.Sprintf("%s:%d: %s %s", e.file, problem.Line, problem.Field, problem.Text)
	}
	return strings.Join(lines, "\n")
}

// showRules writes a table with a line for each rule.
func showRules(w io.Writer, rules []*policy.Rule) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "RULE\tPROJECTS\tMODE\tSIGNERS\tKEY TYPES\tHASH METHODS\tBESIDES")
	for _, r := range rules {
		if r.Mode == policy.Off { // it asks nothing of a signature
			fmt.Fprintf(table, "%s\t%s\t%s\t-\t-\t-\t%s\n", r.Name, projects(r), r.Mode, besides(r))
			continue
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, projects(r), r.Mode, signers(r),
			some(r.KeyTypes, len(signature.KeyTypes)), some(r.HashMethods, len(signature.HashMethods)), besides(r))
	}
	return table.Flush()
}

// folderOf is where relative paths in a policy begin.
func folderOf(file string) string {
	if file == "-" {
		return "."
	}
	return filepath.Dir(file)
}

// showSets writes a table with a line for each trust set, if there are any.
func showSets(w io.Writer, sets []policy.SetState) error {
	if len(sets) == 0 {
		return nil
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "\nTRUST SET\tMODE\tCERTIFICATES\tNOT LOADED")
	for _, s := range sets {
		fmt.Fprintf(table, "%s\t%s\t%d\t%d\n", s.Name, s.Mode, len(s.Certificates), len(s.Missing))
	}
	return table.Flush()
}

// setDoubts are about what trust sets name outside of the file, in the order of
// the file. Certificates in the key manager are the proxy's to fetch.
func setDoubts(p *policy.Policy, m *material, now time.Time) []doubt {
	var list []doubt
	for _, s := range p.Sets() {
		for _, name := range s.Missing {
			if !slices.Contains(p.Needs().Certificates, name) {
				list = append(list, doubt{s.Line, printable(fmt.Sprintf("trust set %q lacks %s, so that signers which nothing else trusts are answered 503: %v", s.Name, name, m.missing[name]))})
			}
		}
		for _, problem := range s.Problems {
			list = append(list, doubt{s.Line, printable(fmt.Sprintf("trust set %q: %s", s.Name, problem))})
		}
		for _, c := range s.Certificates {
			if c.NotAfter.Before(now.Add(anchorExpiresSoon)) {
				list = append(list, doubt{s.Line, printable(fmt.Sprintf("trust set %q has %s, which ends at %s; add its successor", s.Name, c.Subject, c.NotAfter.UTC().Format(time.RFC3339)))})
			}
		}
	}
	return list
}

// besides is what a rule says that most do not.
func besides(r *policy.Rule) string {
	var list []string
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	if len(r.Visibility) > 0 {
		add("only %s images", alternatives(r.Visibility))
	}
	if r.Expired != policy.ExpiredRefuse {
		add("expired %s", r.Expired)
	}
	if r.BreakGlass() {
		add("until %s by %s: %s", r.Until.Format(time.RFC3339), r.Sponsor, r.Reason)
	}
	if r.Import != policy.ImportRefuse {
		add("import %s", r.Import)
	}
	switch {
	case r.Ranges:
		add("downloads %s, with ranges", r.Downloads)
	case r.Downloads != policy.DownloadsAny:
		add("downloads %s", r.Downloads)
	}
	if len(r.Services.Users) > 0 {
		var users []string
		for _, u := range r.Services.Users {
			users = append(users, userName(u))
		}
		add("services %s: %s", r.Services.Mode, strings.Join(few(users), ", "))
	}
	if r.Unverified != policy.UnverifiedReport {
		add("unverified %s", r.Unverified)
	}
	if len(list) == 0 {
		return "-"
	}
	return printable(strings.Join(list, "; "))
}

// userName is a user's id, or the name in its domain.
func userName(u policy.User) string {
	if u.ID != "" {
		return u.ID
	}
	return fmt.Sprintf("%q in domain %q", u.Name, u.Domain)
}

func projects(r *policy.Rule) string {
	var list []string
	if r.All {
		list = append(list, "all")
	}
	for _, e := range r.Projects {
		if e.ID != "" {
			list = append(list, e.ID)
		} else {
			list = append(list, e.Project.String())
		}
	}
	list = few(list)
	if r.Unowned {
		list = append(list, "unowned")
	}
	return printable(strings.Join(list, ", "))
}

func signers(r *policy.Rule) string {
	if r.AnySigner {
		return "any"
	}
	var list []string
	for _, s := range r.Signers {
		switch {
		case s.CertificateID != "":
			list = append(list, s.CertificateID)
		case s.Trust != "":
			list = append(list, "trust "+s.Trust)
		default:
			list = append(list, "SHA-256 "+s.Fingerprint[:16]+"…")
		}
	}
	return strings.Join(few(list), ", ")
}

// few shortens a list that is too long for a table.
func few(list []string) []string {
	const shown = 2
	if len(list) <= shown+1 {
		return list
	}
	return append(slices.Clone(list[:shown]), fmt.Sprintf("and %d more", len(list)-shown))
}

// some is the words, or "all" if these are all there are.
func some[T ~string](words []T, all int) string {
	if len(words) == all {
		return "all"
	}
	return alternatives(words)
}

// doubt is about something that is allowed and perhaps not meant.
type doubt struct {
	line int
	text string
}

// doubts are in the order of the file.
func doubts(p *policy.Policy) []doubt {
	var list []doubt
	add := func(line int, format string, args ...any) {
		list = append(list, doubt{line, printable(fmt.Sprintf(format, args...))})
	}
	rules := p.Rules()
	if !p.Enforcing() {
		add(rules[0].Line, "no rule has mode enforce, so no image will be refused")
	}
	unowned := false
	now := time.Now()
	for _, r := range rules {
		switch {
		case r.Over(now):
			add(r.Line, "rule %q is a break-glass rule that ended at %s and matches nobody any more; remove it", r.Name, r.Until.Format(time.RFC3339))
		case r.BreakGlass():
			add(r.Line, "rule %q is a break-glass rule: until %s it loosens what the rules after it demand", r.Name, r.Until.Format(time.RFC3339))
		}
		unowned = unowned || r.Unowned && len(r.Visibility) == 0 && !r.BreakGlass()
		for _, e := range r.Projects {
			if e.ID == "" {
				add(e.Line, "project %s is given by name: while Keystone cannot be asked which one that is, uploads that this rule might be for are refused; list it by id", e.Project)
			}
		}
		if r.Mode != policy.Enforce {
			continue
		}
		if r.AnySigner {
			add(r.Line, "rule %q takes any signer, so a signature says that the data is whole and not whose it is; list the certificates that are trusted", r.Name)
		}
	}
	if !unowned {
		add(rules[len(rules)-1].Line, "no rule is for images without an owner, so uploads into them are refused; add `unowned: true` to one")
	}
	slices.SortStableFunc(list, func(a, b doubt) int { return a.line - b.line })
	return list
}
