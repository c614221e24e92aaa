package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

func newEndpoint() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "endpoint",
		Short: "Move the catalog's image endpoint to Countersign and back",
		Long: `Clients find the image service in Keystone's catalog. Where its endpoints name
Countersign, everybody who asks the catalog goes through it: nobody's
configuration has to change. See where they lead with "show", move them with
"set", and put them back with "restore".

Keystone is asked with the credential that the openstack client uses too (OS_*, or
OS_CLOUD for clouds.yaml); it takes the role admin. A client sees a move with its
next token. The former URL is kept in the endpoint's description, in Keystone, so
that any administrator can put it back from anywhere.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newEndpointShow(), newEndpointSet(), newEndpointRestore())
	return cmd
}

// interfaces are the kinds of endpoint that Keystone knows.
var interfaces = []string{"public", "internal", "admin"}

// relocation is one run of set or restore; show looks without changing.
type relocation struct {
	region     string
	interfaces []string
	dryRun     bool
	force      bool
	out        io.Writer
}

func (m *relocation) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&m.region, "region", "", "`region` of the endpoints (default: OS_REGION_NAME, or the only one there is)")
	flags.StringSliceVar(&m.interfaces, "interface", nil, "`kind` of endpoint: public, internal or admin; may be repeated (default: all)")
	for _, err := range []error{
		cmd.RegisterFlagCompletionFunc("region", cobra.NoFileCompletions),
		cmd.RegisterFlagCompletionFunc("interface", cobra.FixedCompletions(completions(interfaces), cobra.ShellCompDirectiveNoFileComp)),
	} {
		if err != nil {
			panic("endpoint: " + err.Error()) // a flag above is misspelt
		}
	}
	cmd.ValidArgsFunction = cobra.NoFileCompletions
}

func newEndpointShow() *cobra.Command {
	var m relocation
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show where the catalog's image endpoints lead",
		Long: `List the image endpoints of Keystone's catalog: what answers at each, and where it
was before "countersign endpoint set". Without a region, all are shown.

The exit code is 0 if they could be read, whatever they say, and 2 if not.`,
		Example: `  countersign endpoint show
  countersign endpoint show --region RegionOne --interface public`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return m.show(cmd) },
	}
	m.flags(cmd)
	return cmd
}

func newEndpointSet() *cobra.Command {
	var m relocation
	cmd := &cobra.Command{
		Use:   "set URL",
		Short: "Move the catalog's image endpoints to Countersign",
		Long: `Make the image endpoints of a region lead to URL, all three interfaces unless
--interface names some: one that still names Glance is a way past Countersign.
Where the interfaces have different addresses, run it once for each.

URL is asked first. If it does not answer as Countersign does, with a Glance behind
it, nothing is changed; --force moves all the same. Endpoints that lead there
already are left alone, so that it does no harm to run this twice.

The exit code is 0 if the endpoints lead to URL, 1 if URL is not Countersign, and 2
if they could not be moved.`,
		Example: `  # See what would happen, do it, and look
  countersign endpoint set https://images.example --dry-run
  countersign endpoint set https://images.example
  countersign endpoint show

  # An address of its own for what runs inside
  countersign endpoint set http://countersign.internal:9292 --interface internal --interface admin`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return m.set(cmd, args[0]) },
	}
	m.flags(cmd)
	m.dangerous(cmd, "move to a URL that does not answer as Countersign")
	return cmd
}

func newEndpointRestore() *cobra.Command {
	var m relocation
	cmd := &cobra.Command{
		Use:   "restore",
		Short: "Put the catalog's image endpoints back",
		Long: `Put the image endpoints of a region back to where they were before "countersign
endpoint set". Endpoints that were never moved are left alone, so that it does no
harm to run this twice.

An endpoint that somebody has moved elsewhere since is not touched: then nothing is
changed at all, and --force puts it back all the same.

The exit code is 0 if the endpoints are where they were, 1 if one has been moved
elsewhere since, and 2 if they could not be put back.`,
		Example: `  countersign endpoint restore --dry-run
  countersign endpoint restore`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return m.restore(cmd) },
	}
	m.flags(cmd)
	m.dangerous(cmd, "put back what somebody has moved elsewhere since")
	return cmd
}

func (m *relocation) dangerous(cmd *cobra.Command, force string) {
	cmd.Flags().BoolVar(&m.dryRun, "dry-run", false, "show what would be changed, and change nothing")
	cmd.Flags().BoolVar(&m.force, "force", false, force)
}

// open finds the endpoints that are asked for. Several regions are a question
// back, unless every one is wanted.
func (m *relocation) open(cmd *cobra.Command, everyRegion bool) (*catalog, []endpoint, error) {
	m.out = cmd.OutOrStdout()
	for _, name := range m.interfaces {
		if !slices.Contains(interfaces, name) {
			return nil, nil, fmt.Errorf("--interface %q is not known; write %s", name, alternatives(interfaces))
		}
	}
	c, err := openCatalog(cmd.Context())
	if err != nil {
		return nil, nil, err
	}
	all, err := c.imageEndpoints(cmd.Context())
	if err != nil {
		return nil, nil, err
	}
	region := m.region
	if region == "" && !everyRegion {
		region = c.region
	}
	var found []endpoint
	regions := map[string]bool{}
	for _, e := range all {
		regions[e.Region] = true
		if (region == "" || e.Region == region) && (len(m.interfaces) == 0 || slices.Contains(m.interfaces, e.Interface)) {
			found = append(found, e)
		}
	}
	switch names := strings.Join(sorted(regions), ", "); {
	case len(all) == 0:
		return nil, nil, errors.New("the catalog has no endpoint of a service of type image")
	case region == "" && !everyRegion && len(regions) > 1:
		return nil, nil, fmt.Errorf("there are image endpoints in several regions; name one with --region: %s", names)
	case len(found) == 0:
		return nil, nil, fmt.Errorf("there is no such image endpoint in region %q; there are some in %s", region, names)
	}
	return c, found, nil
}

func sorted(set map[string]bool) []string {
	var names []string
	for name := range set {
		names = append(names, printable(name))
	}
	slices.Sort(names)
	return names
}

func (m *relocation) show(cmd *cobra.Command) error {
	c, endpoints, err := m.open(cmd, true)
	if err != nil {
		return err
	}
	table := tabwriter.NewWriter(m.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "REGION\tINTERFACE\tURL\tWHAT ANSWERS\tBEFORE")
	known := map[string]string{} // URL → what answers there
	for _, e := range endpoints {
		if _, ok := known[e.URL]; !ok {
			known[e.URL] = c.whatAnswers(cmd.Context(), e.URL)
		}
		before := "-"
		if moved, ok := e.moved(); ok {
			before = moved.from
		}
		state := known[e.URL]
		if !e.Enabled {
			state += " (endpoint is disabled)"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", printable(e.Region), e.Interface, printable(e.URL), state, printable(before))
	}
	return table.Flush()
}

func (m *relocation) set(cmd *cobra.Command, to string) error {
	to = strings.TrimRight(to, "/")
	if _, err := versioned(to); err != nil {
		return fmt.Errorf("%q is not a URL like https://images.example", to)
	}
	c, endpoints, err := m.open(cmd, false)
	if err != nil {
		return err
	}
	if err := answersAsCountersign(cmd.Context(), &c.keystone.HTTPClient, to); err != nil && !m.force {
		return &verdict{fmt.Errorf("%s: %w; nothing is changed (--force moves the endpoints all the same)", to, err)}
	}
	for _, e := range endpoints {
		if sameURL(e.URL, to) {
			m.say(e, "leads to "+e.URL+" already")
			continue
		}
		if err := m.move(cmd.Context(), c, e, to, e.describeMove(to)); err != nil {
			return err
		}
	}
	return nil
}

func (m *relocation) restore(cmd *cobra.Command) error {
	c, endpoints, err := m.open(cmd, false)
	if err != nil {
		return err
	}
	for _, e := range endpoints {
		moved, ok := e.moved()
		if ok && !sameURL(e.URL, moved.to) && !sameURL(e.URL, moved.from) && !m.force {
			return &verdict{fmt.Errorf("%s %s: was moved to %s, and somebody has moved it to %s since; nothing is changed (--force puts it back to %s all the same)",
				e.Region, e.Interface, moved.to, e.URL, moved.from)}
		}
	}
	for _, e := range endpoints {
		moved, ok := e.moved()
		if !ok {
			m.say(e, "was not moved by countersign, and stays at "+e.URL)
			continue
		}
		if err := m.move(cmd.Context(), c, e, moved.from, moved.description); err != nil {
			return err
		}
	}
	return nil
}

// move changes one endpoint, or says that it would.
func (m *relocation) move(ctx context.Context, c *catalog, e endpoint, to, description string) error {
	if m.dryRun {
		m.say(e, fmt.Sprintf("would go from %s to %s", e.URL, to))
		return nil
	}
	if err := c.change(ctx, e, to, description); err != nil {
		return fmt.Errorf("%s %s: %w; what is listed above has been moved", e.Region, e.Interface, err)
	}
	m.say(e, fmt.Sprintf("went from %s to %s", e.URL, to))
	return nil
}

func (m *relocation) say(e endpoint, what string) {
	fmt.Fprintln(m.out, printable(fmt.Sprintf("%s %s: %s", e.Region, e.Interface, what)))
}
