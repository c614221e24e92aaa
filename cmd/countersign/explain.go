package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/countersign/countersign/config"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy/keystone"
	"github.com/countersign/countersign/signature"
)

func newPolicyExplain() *cobra.Command {
	var q question
	cmd := &cobra.Command{
		Use:   "explain [FILE] {--project ID|NAME | --unowned}",
		Short: "Tell which rule an image is under, and what that decides",
		Long: `Tell which rule of a policy an image is under, why that one and none before it,
and what it demands. With the properties of an image, tell what becomes of an
upload into it: pass (unchecked), verify (admitted, and checked while it streams)
or refuse, with the reason and the cure.

FILE is the policy; "-" is standard input. Without it the policy is the one that
COUNTERSIGN_POLICY_FILE names, or the built-in one.

--project is the owner's id; with --domain it is a name. Names, those in the policy
too, are looked up in Keystone with the credential that the openstack client uses
(OS_*, or OS_CLOUD for clouds.yaml). Without one, or without the right to list
projects, what depends on a name stays undecided; your own project needs no right.

A rule that enforces also judges the certificate; give it with --certificate: its
file, or its UUID in the key manager, from where it and the trust sets' certificates
are then fetched with the same credential. If trust sets are asked, every chain that
was tried is drawn, with the check that failed. The signature itself is not
verified: see countersign verify.

The exit code is 0 if an upload would be admitted, 1 if it would be refused, and 2
if that is undecided or, in mode enforce, was not asked with --property or
--properties.`,
		Example: `  # Which rule, and what does it demand?
  countersign policy explain policy.yaml --project 3f0c2b6d9a8e4c1f8b7a6d5e4c3b2a19

  # Why is this image refused?
  openstack image show -f json disk > disk.json
  countersign policy explain policy.yaml --project prod --domain Default \
    --properties disk.json --certificate certificate.pem

  # Why is this signer not trusted?
  countersign policy explain policy.yaml --project prod --domain Default --certificate certificate.pem

  # Would an unsigned image pass?
  countersign policy explain policy.yaml --project prod --domain Default --property os_type=linux`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
			return []cobra.Completion{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(cmd *cobra.Command, args []string) error { return q.run(cmd, args) },
	}
	flags := cmd.Flags()
	flags.StringVar(&q.project, "project", "", "the project that owns the image, by `id`, or by name with --domain")
	flags.StringVar(&q.domain, "domain", "", "the `domain` of the project's name")
	flags.BoolVar(&q.unowned, "unowned", false, "the image has no owner")
	flags.StringVar(&q.visibility, "visibility", "", "the image's `visibility`: "+alternatives(policy.Visibilities)+"; a shared image without members is private")
	q.given.register(cmd)
	flags.StringVar(&q.certificateFile, "certificate", "", "the signer's X.509 certificate: a `file` in PEM or DER, or its UUID in the key manager")
	flags.StringVar(&q.format, "format", explainFormats[0], "text or json")
	for _, err := range []error{
		cmd.MarkFlagFilename("certificate", "pem", "crt", "cer", "der"),
		cmd.RegisterFlagCompletionFunc("project", cobra.NoFileCompletions),
		cmd.RegisterFlagCompletionFunc("domain", cobra.NoFileCompletions),
		cmd.RegisterFlagCompletionFunc("visibility", cobra.FixedCompletions(visibilities(), cobra.ShellCompDirectiveNoFileComp)),
		cmd.RegisterFlagCompletionFunc("format", cobra.FixedCompletions(explainFormats, cobra.ShellCompDirectiveNoFileComp)),
	} {
		if err != nil {
			panic("explain: " + err.Error()) // a flag above is misspelt
		}
	}
	return cmd
}

func visibilities() []cobra.Completion {
	var words []cobra.Completion
	for _, v := range policy.Visibilities {
		words = append(words, string(v))
	}
	return words
}

var explainFormats = []string{"text", "json"}

// question is one run of policy explain.
type question struct {
	// What the flags say.
	project, domain string
	unowned         bool
	visibility      string
	given           givenProperties
	certificateFile string
	format          string

	certificate   []byte // nil without certificateFile
	certificateID string // if it is the key manager's
	missing       map[string]error
}

func (q *question) run(cmd *cobra.Command, args []string) error {
	if err := q.check(cmd); err != nil {
		return err
	}
	file := config.Environ()[config.Prefix+"POLICY_FILE"]
	if len(args) > 0 {
		file = args[0]
	}
	if file == "-" && q.given.file == "-" {
		return errors.New("the policy and the properties cannot both be standard input")
	}
	x := &explanation{Policy: file}
	p := policy.Default()
	if file == "" {
		x.Policy = "built-in policy"
	} else {
		var err error
		if p, err = loadPolicy(cmd, file); err != nil {
			return err
		}
	}
	properties, err := q.given.read(cmd)
	if err != nil {
		return err
	}
	if err := q.fetch(cmd.Context(), &p, folderOf(file)); err != nil {
		return err
	}
	if p.LooksAtVisibility() {
		x.Visibility = policy.Visibility(q.visibility)
		if x.Visibility == "" {
			return fmt.Errorf("rules of this policy depend on the image's visibility; give it with --visibility: %s", alternatives(policy.Visibilities))
		}
	}
	who, err := q.owner(p)
	if err != nil {
		return err
	}
	p, err = who.resolve(cmd.Context(), p)
	if err != nil {
		return err
	}
	x.Owner = who
	rule := x.choose(p)
	if rule != nil {
		x.Rule = newDemands(rule)
		now := time.Now()
		x.Decision, x.Undecided = q.decide(rule, properties, now)
		x.Chains = q.chains(rule, now)
	}
	if q.format == "json" {
		text, err := json.MarshalIndent(x, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s\n", text)
		if err != nil {
			return err
		}
	} else if err := x.write(cmd.OutOrStdout()); err != nil {
		return err
	}
	switch {
	case x.Undecided != "":
		return errors.New(x.Undecided)
	case !x.Decision.Admitted:
		return &verdict{fmt.Errorf("the upload would be refused: %s", x.Decision.Code)}
	}
	return nil
}

func (q *question) check(cmd *cobra.Command) error {
	switch {
	case !slices.Contains(explainFormats, q.format):
		return fmt.Errorf("--format %q is not known; write %s", q.format, alternatives(explainFormats))
	case q.unowned && cmd.Flags().Changed("project"):
		return errors.New("--project and --unowned contradict each other; give one of them")
	case !q.unowned && q.project == "":
		return errors.New("whose image it is is missing; give --project, with --domain if it is a name, or --unowned")
	case q.unowned && q.domain != "":
		return errors.New("--domain is for the project's name, which is not given")
	case q.visibility != "" && !slices.Contains(policy.Visibilities, policy.Visibility(q.visibility)):
		return fmt.Errorf("--visibility %q is not known; write %s", q.visibility, alternatives(policy.Visibilities))
	}
	return nil
}

// fetch reads the certificate, and gives the policy what its trust sets name:
// files from folder, and certificates from the key manager if one is asked
// anyway.
func (q *question) fetch(ctx context.Context, p **policy.Policy, folder string) error {
	var anchor func(string) ([]byte, error)
	id, err := uuid.Parse(q.certificateFile)
	_, noFile := os.Stat(q.certificateFile)
	switch {
	case q.certificateFile == "":
	case err == nil && noFile != nil:
		s, err := openSession(ctx)
		if err != nil {
			return err
		}
		q.certificateID = id.String()
		if q.certificate, err = s.certificate(ctx, q.certificateID); err != nil {
			return err
		}
		anchor = func(id string) ([]byte, error) { return s.certificate(ctx, id) }
	default:
		if q.certificate, err = os.ReadFile(q.certificateFile); err != nil {
			return err
		}
	}
	m := newMaterial((*p).Needs(), folder, anchor)
	*p = (*p).With(m.Material)
	q.missing = m.missing
	return nil
}

// chain is what a trust set of the rule says of the certificate.
type chain struct {
	Set      string   `json:"trust_set"`
	Accepted bool     `json:"accepted"`
	Missing  []string `json:"not_loaded,omitempty"`
	Tree     []string `json:"tree"` // lines to be shown one below the other
}

// chains asks every trust set of the rule about the certificate.
func (q *question) chains(r *policy.Rule, now time.Time) []chain {
	if q.certificate == nil || r.Mode == policy.Off {
		return nil
	}
	certificate, err := signature.ParseCertificate(q.certificate)
	if err != nil {
		return nil // said by the decision
	}
	var list []chain
	for _, attempt := range r.Attempts(certificate, policy.Moment{Now: now}) {
		c := chain{Set: attempt.Set}
		for _, name := range attempt.Missing {
			c.Missing = append(c.Missing, fmt.Sprintf("%s: %v", name, q.missing[name]))
		}
		if attempt.Report != nil {
			c.Accepted = attempt.Report.Err() == nil
			c.Tree = strings.Split(strings.TrimSuffix(attempt.Report.Draw(), "\n"), "\n")
		}
		list = append(list, c)
	}
	return list
}

// owner is whose image is asked about.
func (q *question) owner(p *policy.Policy) (*owner, error) {
	switch {
	case q.unowned:
		return &owner{Unowned: true}, nil
	case q.domain != "":
		return &owner{Name: q.project, Domain: q.domain}, nil
	}
	id := plainID(q.project)
	listed := func(r *policy.Rule) bool {
		return slices.ContainsFunc(r.Projects, func(e policy.Entry) bool { return e.ID == id })
	}
	if len(id) != 32 || uuid.Validate(id) != nil {
		if !slices.ContainsFunc(p.Rules(), listed) {
			return nil, fmt.Errorf("--project %q is not the id of a project; if it is a name, give its domain with --domain", q.project)
		}
	}
	return &owner{ID: id}, nil
}

// plainID is how the policy compares ids: a UUID has no dashes, and its letters
// are small.
func plainID(id string) string {
	if len(id) != 32 && len(id) != 36 {
		return id
	}
	parsed, err := uuid.Parse(id)
	if err != nil {
		return id
	}
	return strings.ReplaceAll(parsed.String(), "-", "")
}

// owner is a project, or nobody.
type owner struct {
	ID      string `json:"project_id,omitempty"` // empty if it could not be found out
	Name    string `json:"project,omitempty"`    // empty if asked by id
	Domain  string `json:"domain,omitempty"`
	Unowned bool   `json:"unowned,omitempty"`

	trouble string // why Keystone could not be asked for a name
}

func (o *owner) String() string {
	named := policy.Project{Name: o.Name, Domain: o.Domain}.String()
	switch {
	default:
		return "project " + o.ID
	case o.Unowned:
		return "an image without owner"
	case o.ID == "":
		return "project " + named
	case o.Name != "":
		return "project " + named + ", which is " + o.ID
	}
}

// resolveTimeout bounds all questions to Keystone about names.
const resolveTimeout = 30 * time.Second

// resolve looks the owner's name and those of the policy up. What Keystone does
// not tell stays unknown.
func (o *owner) resolve(ctx context.Context, p *policy.Policy) (*policy.Policy, error) {
	asked := policy.Project{Name: o.Name, Domain: o.Domain}
	if o.Unowned || o.Name == "" && len(p.Names()) == 0 {
		return p, nil
	}
	credential, err := config.Client(config.Environ())
	if err != nil {
		o.trouble = "there is no usable credential: " + strings.ReplaceAll(err.Error(), "\n", "; ")
		return p, nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	names := projectsOf{newKeystone(config.Config{Service: credential}, nil)}
	ids := map[policy.Project]policy.Resolution{}
	if o.Name != "" {
		id, err := names.id(ctx, asked)
		switch {
		case err == nil:
			o.ID = plainID(id)
			ids[asked] = policy.Resolution{State: policy.Found, ID: id}
		case errors.Is(err, keystone.ErrNoProject):
			return nil, fmt.Errorf("there is no project %s, Keystone says", asked)
		default:
			o.trouble = err.Error()
		}
	}
	for _, project := range p.Names() {
		if project == asked {
			continue
		}
		id, err := names.id(ctx, project)
		switch {
		case err == nil:
			ids[project] = policy.Resolution{State: policy.Found, ID: id}
		case errors.Is(err, keystone.ErrNoProject), o.Name != "" && project.Name != o.Name: // a project has one name
			ids[project] = policy.Resolution{State: policy.Absent}
		default:
			o.trouble = err.Error()
		}
	}
	return p.Resolve(ids), nil
}

// projectsOf asks Keystone for projects with the credential of the person who
// runs the command.
type projectsOf struct{ keystone *keystone.Client }

// id returns a project's id. Everybody knows that of their own.
func (n projectsOf) id(ctx context.Context, project policy.Project) (string, error) {
	if token, err := n.keystone.Token(ctx); err == nil {
		own, err := n.keystone.Validate(ctx, token)
		if err == nil && own.ProjectID != "" && own.ProjectName == project.Name && own.ProjectDomain == project.Domain {
			return own.ProjectID, nil
		}
	}
	return n.keystone.ProjectID(ctx, project.Name, project.Domain)
}

// explanation is what policy explain says.
type explanation struct {
	Policy string `json:"policy"`
	Owner  *owner `json:"owner"`
	// Visibility is empty where no rule depends on it.
	Visibility policy.Visibility `json:"visibility,omitempty"`
	Considered []considered      `json:"considered"` // in the order of the file, up to the rule that applies
	Rule       *demands          `json:"rule"`       // null if undecided, or if there is none
	Decision   *decision         `json:"decision"`   // null if undecided, or not asked
	Undecided  string            `json:"undecided,omitempty"`
	Chains     []chain           `json:"chains,omitempty"` // of the certificate, by the rule's trust sets
}

// considered is a rule that was looked at.
type considered struct {
	Rule    string  `json:"rule"`
	Line    int     `json:"line"`
	Applies applies `json:"applies"`
	Why     string  `json:"why"`
}

// applies says whether a rule is for an owner.
type applies string

const (
	maybe applies = "undecided" // it depends on a name that Keystone was not asked for
	no    applies = "no"
	yes   applies = "yes"
)

// choose finds the rule, and says of each before it why it is not for the owner.
// It returns nil where there is none to judge by.
func (x *explanation) choose(p *policy.Policy) *policy.Rule {
	var rule *policy.Rule
	var open, strict bool
	now := time.Now()
	for _, r := range p.Rules() {
		applies, why := x.Owner.under(p, r)
		if !r.Sees(x.Visibility) {
			applies, why = no, "it is for images that are "+alternatives(r.Visibility)
		}
		if r.Over(now) {
			applies, why = no, "it ended at "+r.Until.Format(time.RFC3339)
		}
		x.Considered = append(x.Considered, considered{r.Name, r.Line, applies, why})
		if applies == maybe {
			open, strict = true, strict || r.Mode == policy.Enforce
		}
		if applies == yes {
			rule = r
			break
		}
	}
	if x.Owner.ID != "" || x.Owner.Unowned { // the proxy's own answer
		var err error
		rule, err = p.For(policy.Subject{Owner: x.Owner.ID, Visibility: x.Visibility})
		var refused *policy.Refusal
		if errors.As(err, &refused) && refused.Code != policy.CodePolicyUndecided {
			x.Decision = newDecision(policy.Decision{Action: policy.Refuse, Reason: err})
			return nil
		}
		open, strict = err != nil, err != nil
	}
	// As in the proxy, between rules that refuse nothing there is nothing to decide.
	if strict || open && rule.Mode == policy.Enforce {
		x.Undecided = "which rule applies is undecided"
		if x.Owner.trouble != "" {
			x.Undecided += ": " + x.Owner.trouble
		}
		return nil
	}
	return rule
}

// under says whether a rule is for the owner, and why.
func (o *owner) under(p *policy.Policy, r *policy.Rule) (applies, string) {
	if o.Unowned {
		if r.Unowned {
			return yes, "it is for images without owner"
		}
		return no, "it is not for images without owner"
	}
	open := ""
	for _, e := range r.Projects {
		resolution := p.Resolution(e.Project)
		same := e.Project == policy.Project{Name: o.Name, Domain: o.Domain}
		switch {
		case e.ID != "" && e.ID == o.ID:
			return yes, fmt.Sprintf("line %d lists the project's id", e.Line)
		case e.ID == "" && same:
			return yes, fmt.Sprintf("line %d lists %s", e.Line, e.Project)
		case e.ID == "" && resolution.State == policy.Found && plainID(resolution.ID) == o.ID:
			return yes, fmt.Sprintf("line %d lists %s, which is this project", e.Line, e.Project)
		case open != "":
		case e.ID != "" && o.ID == "":
			open = fmt.Sprintf("line %d lists an id, and the project's is not known", e.Line)
		case e.ID == "" && o.ID == "" && e.Project.Name == o.Name && resolution.State != policy.Absent:
			open = fmt.Sprintf("line %d lists %s, which may be the same domain by its id", e.Line, e.Project)
		case e.ID == "" && o.ID != "" && resolution.State == policy.Unknown:
			open = fmt.Sprintf("line %d lists %s, and which project that is is not known", e.Line, e.Project)
		}
	}
	switch {
	default:
		return no, "it does not list the project"
	case r.All:
		return yes, "it is for all projects that no rule before it is for"
	case open != "":
		return maybe, open
	case len(r.Projects) == 0:
		return no, "it is for images without owner alone"
	}
}

// demands are a rule as it is shown.
type demands struct {
	Name        string                 `json:"name"`
	Line        int                    `json:"line"`
	Mode        policy.Mode            `json:"mode"`
	AnySigner   bool                   `json:"any_signer"`
	Signers     []string               `json:"signers"` // UUIDs in the key manager, "SHA-256 " and a fingerprint, or "trust " and a set
	KeyTypes    []signature.KeyType    `json:"key_types"`
	HashMethods []signature.HashMethod `json:"hash_methods"`
	MinRSABits  int                    `json:"min_rsa_bits"`
	OnFailure   policy.OnFailure       `json:"on_failure"`
	Expired     policy.Expired         `json:"expired"`
	Visibility  []policy.Visibility    `json:"visibility,omitempty"` // every one if empty
	Import      policy.ImportMode      `json:"import"`
	Downloads   policy.Downloads       `json:"downloads"`
	Ranges      bool                   `json:"ranges"`
	Services    *serviceUsers          `json:"services,omitempty"`
	Unverified  policy.Unverified      `json:"unverified"`
	BreakGlass  *breakGlass            `json:"break_glass,omitempty"`
}

// serviceUsers are who uploads on behalf of users.
type serviceUsers struct {
	Users []string           `json:"users"` // ids, or names in their domains
	Mode  policy.ServiceMode `json:"mode"`
}

// breakGlass is a rule that ends by itself.
type breakGlass struct {
	Until  time.Time `json:"until"`
	Owner  string    `json:"owner"`
	Reason string    `json:"reason"`
}

func newDemands(r *policy.Rule) *demands {
	d := &demands{Name: r.Name, Line: r.Line, Mode: r.Mode, AnySigner: r.AnySigner, Signers: []string{},
		KeyTypes: r.KeyTypes, HashMethods: r.HashMethods, MinRSABits: r.MinRSABits, OnFailure: r.OnFailure, Expired: r.Expired,
		Visibility: r.Visibility, Import: r.Import, Downloads: r.Downloads, Ranges: r.Ranges, Unverified: r.Unverified}
	if r.BreakGlass() {
		d.BreakGlass = &breakGlass{r.Until, r.Sponsor, r.Reason}
	}
	if len(r.Services.Users) > 0 {
		d.Services = &serviceUsers{Mode: r.Services.Mode}
		for _, u := range r.Services.Users {
			d.Services.Users = append(d.Services.Users, userName(u))
		}
	}
	for _, s := range r.Signers {
		switch {
		case s.CertificateID != "":
			d.Signers = append(d.Signers, s.CertificateID)
		case s.Trust != "":
			d.Signers = append(d.Signers, "trust "+s.Trust)
		default:
			d.Signers = append(d.Signers, "SHA-256 "+s.Fingerprint)
		}
	}
	return d
}

// decision is what becomes of an upload, and why. In audit mode the reason is
// why it would be refused if the rule enforced.
type decision struct {
	Action   string `json:"action"` // pass, verify or refuse
	Admitted bool   `json:"admitted"`
	Code     string `json:"code,omitempty"`
	Property string `json:"property,omitempty"`
	Problem  string `json:"problem,omitempty"` // continues the property's name to a sentence
	Cure     string `json:"cure,omitempty"`
}

func newDecision(d policy.Decision) *decision {
	shown := &decision{Action: d.Action.String(), Admitted: d.Action != policy.Refuse}
	var ruled *policy.Refusal
	var property *signature.PropertyError
	switch {
	case errors.As(d.Reason, &ruled):
		shown.Code, shown.Property, shown.Problem, shown.Cure = string(ruled.Code), ruled.Property, ruled.Problem, ruled.Cure
	case errors.As(d.Reason, &property):
		shown.Code, shown.Property, shown.Problem, shown.Cure = string(property.Code), property.Property, property.Problem, property.Cure
	case d.Reason != nil:
		shown.Problem = d.Reason.Error()
	}
	return shown
}

// decide goes the proxy's way as far as there is something to judge. Where that
// is not far enough it returns why, and no decision.
func (q *question) decide(r *policy.Rule, properties map[string]string, now time.Time) (*decision, string) {
	if r.Mode != policy.Enforce && q.given.none() {
		return newDecision(policy.Decision{Action: policy.Pass}), ""
	}
	if q.given.none() {
		if err := q.distrust(r, now); err != nil {
			return newDecision(policy.Decision{Action: r.Failed(), Reason: err}), ""
		}
		return nil, "what is decided depends on the image's properties; give them with --properties or --property"
	}
	spec, err := signature.Parse(properties)
	d := r.Decide(spec, err)
	if d.Action != policy.Verify {
		return newDecision(d), ""
	}
	if q.certificate == nil {
		// Where ids alone are trusted the certificate itself does not matter.
		if err := r.CheckID(spec.CertificateID); err != nil {
			return newDecision(policy.Decision{Action: r.Failed(), Reason: err}), ""
		}
		if r.Failed() == policy.Refuse {
			return nil, fmt.Sprintf("what is decided depends on the certificate %s; give its file with --certificate", spec.CertificateID)
		}
		return newDecision(d), ""
	}
	if err := q.judge(r, spec, now); err != nil {
		return newDecision(policy.Decision{Action: r.Failed(), Reason: err}), ""
	}
	return newDecision(d), ""
}

func (q *question) judge(r *policy.Rule, spec signature.Spec, now time.Time) error {
	certificate, err := signature.ParseCertificate(q.certificate)
	if err != nil {
		return err
	}
	if err := r.CheckCertificate(spec.CertificateID, certificate, policy.Moment{Now: now}); err != nil {
		return err
	}
	_, err = signature.NewVerifier(spec, certificate.PublicKey)
	return err
}

// distrust is why the rule would refuse the certificate whatever it signed; nil
// if there is none to judge.
func (q *question) distrust(r *policy.Rule, now time.Time) error {
	if q.certificate == nil {
		return nil
	}
	certificate, err := signature.ParseCertificate(q.certificate)
	if err != nil {
		return err
	}
	if q.certificateID == "" && slices.ContainsFunc(r.Signers, func(s policy.Signer) bool { return s.CertificateID != "" }) {
		return nil // it may be the one that is listed by its id
	}
	return r.CheckCertificate(q.certificateID, certificate, policy.Moment{Now: now})
}

// write is the explanation for people.
func (x *explanation) write(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%s, %s\n\n", x.Policy, printable(x.Owner.String()))
	fmt.Fprintln(table, "LINE\tRULE\tAPPLIES\tWHY")
	for _, c := range x.Considered {
		fmt.Fprintf(table, "%d\t%s\t%s\t%s\n", c.Line, c.Rule, c.Applies, printable(c.Why))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if r := x.Rule; r != nil {
		fmt.Fprintf(table, "\nmode\t%s\n", modeMeans(r.Mode))
		if r.Mode != policy.Off {
			signers := strings.Join(r.Signers, "\n\t")
			if r.AnySigner {
				signers = "any"
			}
			fmt.Fprintf(table, "signers\t%s\n", signers)
			fmt.Fprintf(table, "key types\t%s\n", some(r.KeyTypes, len(signature.KeyTypes)))
			fmt.Fprintf(table, "hash methods\t%s\n", some(r.HashMethods, len(signature.HashMethods)))
			fmt.Fprintf(table, "RSA keys\tof %d bits or more\n", r.MinRSABits)
			fmt.Fprintf(table, "on failure\t%s\n", r.OnFailure)
			fmt.Fprintf(table, "expired\t%s\n", r.Expired)
			fmt.Fprintf(table, "import\t%s\n", r.Import)
			fmt.Fprintf(table, "downloads\t%s\n", r.Downloads)
			if r.Ranges {
				fmt.Fprintf(table, "ranges\tare handed out where a receipt vouches\n")
			}
			if r.Services != nil {
				fmt.Fprintf(table, "services\t%s: %s\n", r.Services.Mode, printable(strings.Join(r.Services.Users, "\n\t")))
			}
			fmt.Fprintf(table, "unverified\t%s\n", r.Unverified)
		}
		if b := r.BreakGlass; b != nil {
			fmt.Fprintf(table, "break-glass\tuntil %s\n\t%s: %s\n", b.Until.Format(time.RFC3339), b.Owner, b.Reason)
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	for _, c := range x.Chains {
		fmt.Fprintf(w, "\ntrust set %s:\n", c.Set)
		for _, missing := range c.Missing {
			fmt.Fprintf(w, "not loaded: %s\n", printable(missing))
		}
		for _, line := range c.Tree {
			fmt.Fprintln(w, printable(line))
		}
	}
	if d := x.Decision; d != nil {
		_, err := fmt.Fprintf(w, "\n%s\n", d)
		return err
	}
	return nil
}

func modeMeans(m policy.Mode) string {
	switch m {
	default:
		return string(m)
	case policy.Off:
		return "off: nothing is looked at"
	case policy.Audit:
		return "audit: what does not satisfy the rule is logged, and passes"
	case policy.Enforce:
		return "enforce: what does not satisfy the rule is refused"
	}
}

// String is the decision in sentences.
func (d *decision) String() string {
	var b strings.Builder
	switch {
	default:
		b.WriteString("refuse: nothing is uploaded")
	case d.Action == "verify":
		b.WriteString("verify: the upload is admitted, and its signature verified while it streams")
	case d.Action == "pass" && d.Code != "":
		b.WriteString("pass: the upload is admitted; if the rule enforced, it would be refused")
	case d.Action == "pass":
		b.WriteString("pass: the upload is admitted")
	}
	if d.Code != "" {
		fmt.Fprintf(&b, " (%s)", d.Code)
	}
	if d.Problem != "" {
		fmt.Fprintf(&b, "\n%s: %s\n  %s", d.Property, printable(d.Problem), d.Cure)
	}
	return b.String()
}
