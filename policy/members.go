package policy

import (
	"go.yaml.in/yaml/v3"

	"github.com/countersign/countersign/signature"
)

// Member is one line of the policy reference.
type Member struct {
	Name    string
	Type    string // what may be written
	Default string // what holds where it is left out; "required" where it may not be
	Meaning string // Markdown
}

// member is a Member and how it is read.
type member[T any] struct {
	Member
	read func(l *loader, n *yaml.Node, into *T)
}

// file is the whole document.
type file struct {
	rules *yaml.Node
	list  []*Rule
	sets  []*TrustSet
	deny  *Denials
}

var fileMembers = []member[file]{
	{Member{"rules", "list of rules", "required", "The first rule that an image matches applies. The last one has to be for all."},
		func(_ *loader, n *yaml.Node, f *file) { f.rules = n }},
	{Member{"trust", "names, each with a trust set", "none", "Certificates that vouch for signers by a chain: see below."},
		func(l *loader, n *yaml.Node, f *file) { f.sets = l.trustSets(n) }},
	{Member{"deny", "`certificates` and `images`", "none", "What no rule takes, whoever signed it. Rules with mode `off` look at nothing, and so not at this."},
		func(l *loader, n *yaml.Node, f *file) { f.deny = l.denials(n) }},
}

var ruleMembers = []member[Rule]{
	{Member{"name", "text", "`rule` and its number", "What logs and refusals call the rule. At most 64 bytes."},
		func(l *loader, n *yaml.Node, r *Rule) { r.Name = l.label(n, "name", 64, r.Name) }},

	// Whom it is for.
	{Member{"projects", "`all`, or list of projects", "none", "Whose images the rule is for. Either this or `unowned: true` has to be there."},
		func(l *loader, n *yaml.Node, r *Rule) { l.projects(n, r) }},
	{Member{"unowned", "`true` or `false`", "`false`", "Whether the rule is for images without an owner, too. Without such a rule uploads into them are refused."},
		// True where it is unclear: that spares the reader a second sentence about it.
		func(l *loader, n *yaml.Node, r *Rule) { r.Unowned = l.flag(n, "unowned", true) }},
	{Member{"visibility", "list of " + list(Visibilities), "every one", "The rule is for images of such a visibility only; others go on to the rules below. An image that is `shared` and has no members counts as `private`."},
		func(l *loader, n *yaml.Node, r *Rule) { r.Visibility = words(l, n, "visibility", Visibilities) }},

	// What it demands of a signature.
	{Member{"mode", list(modes), "required", "`off`: nothing is looked at. `audit`: what would be refused is logged, and passes. `enforce`: it is refused."},
		func(l *loader, n *yaml.Node, r *Rule) { r.Mode = word(l, n, "mode", modes) }},
	{Member{"signers", "`any`, or list of certificates and trust sets", "`any`; required with `mode: enforce`", "Whose signatures are taken. With `any` a signature says that the data is whole, and not whose it is: every user can make a key."},
		func(l *loader, n *yaml.Node, r *Rule) { l.signers(n, r) }},
	{Member{"expired", list(expireds), "`refuse`", "`accept_if_verified_before`: a certificate that has expired since a receipt says that the image was verified is taken for it. For new uploads it changes nothing."},
		func(l *loader, n *yaml.Node, r *Rule) { r.Expired = word(l, n, "expired", expireds) }},
	{Member{"key_types", "list of " + list(signature.KeyTypes), "all", "Which values of `img_signature_key_type` are taken."},
		func(l *loader, n *yaml.Node, r *Rule) { r.KeyTypes = words(l, n, "key_types", signature.KeyTypes) }},
	{Member{"hash_methods", "list of " + list(signature.HashMethods), "all", "Which values of `img_signature_hash_method` are taken."},
		func(l *loader, n *yaml.Node, r *Rule) {
			r.HashMethods = words(l, n, "hash_methods", signature.HashMethods)
		}},
	{Member{"min_rsa_bits", "number from 1024 to 16384", "`1024`", "The shortest RSA key that is taken, in bits."},
		func(l *loader, n *yaml.Node, r *Rule) { r.MinRSABits = l.bits(n) }},
	{Member{"on_failure", list(onFailures), "`delete`", "What becomes of the image after a wrong signature. `keep`: it stays `queued` for another try."},
		func(l *loader, n *yaml.Node, r *Rule) { r.OnFailure = word(l, n, "on_failure", onFailures) }},

	// What it demands besides.
	{Member{"import", list(imports), "`refuse`", "`direct`: importing staged data (glance-direct) is taken, if a receipt vouches for what was staged. Only where Glance runs no import plugins."},
		func(l *loader, n *yaml.Node, r *Rule) { r.Import = word(l, n, "import", imports) }},
	{Member{"downloads", list(downloads), "`any`", "What handing out data depends on: `receipt`: a valid receipt; `verify`: the bytes are checked again as they go out, too."},
		func(l *loader, n *yaml.Node, r *Rule) { r.Downloads = word(l, n, "downloads", downloads) }},
	{Member{"ranges", "`true` or `false`", "`false`", "With `downloads: verify`: whether a part of the data is handed out where a valid receipt vouches for the whole."},
		func(l *loader, n *yaml.Node, r *Rule) { r.Ranges = l.flag(n, "ranges", false) }},
	{Member{"services", "`users` and `mode`", "none", "Services that upload on behalf of users, unsigned, such as Nova's snapshots."},
		func(l *loader, n *yaml.Node, r *Rule) { l.services(n, r) }},
	{Member{"unverified", list(unverifieds), "`report`", "What a scan does with an active image that does not verify."},
		func(l *loader, n *yaml.Node, r *Rule) { r.Unverified = word(l, n, "unverified", unverifieds) }},

	// Break-glass.
	{Member{"until", "time in RFC 3339", "none", "The rule is a break-glass rule: it ends then, by itself, and matches nobody any more. At most 30 days ahead; with mode `off` or `audit` only."},
		func(l *loader, n *yaml.Node, r *Rule) { r.Until = l.time(n, "until") }},
	{Member{"owner", "text", "none; required with `until`", "Who answers for the break-glass rule. At most 128 bytes."},
		func(l *loader, n *yaml.Node, r *Rule) { r.Sponsor = l.label(n, "owner", 128, "") }},
	{Member{"reason", "text", "none; required with `until`", "Why the break-glass rule is there. At most 256 bytes."},
		func(l *loader, n *yaml.Node, r *Rule) { r.Reason = l.label(n, "reason", 256, "") }},
}

var projectMembers = []member[Entry]{
	{Member{"id", "project id", "none", "As `openstack project list` shows it. Needs no lookup: prefer it."},
		func(l *loader, n *yaml.Node, e *Entry) { e.ID = l.projectID(n) }},
	{Member{"name", "text", "none", "The project's name, instead of its id."},
		func(l *loader, n *yaml.Node, e *Entry) { e.Project.Name, _ = l.text(n, "name") }},
	{Member{"domain", "text", "required with `name`", "The name of the project's domain."},
		func(l *loader, n *yaml.Node, e *Entry) { e.Project.Domain, _ = l.text(n, "domain") }},
}

var signerMembers = []member[Signer]{
	{Member{"certificate", "UUID", "none", "The certificate of this id in the key manager. As good as the key manager's word."},
		func(l *loader, n *yaml.Node, s *Signer) { s.CertificateID = l.certificateID(n) }},
	{Member{"pem", "PEM block", "none", "This very certificate, wherever it is stored."},
		func(l *loader, n *yaml.Node, s *Signer) { s.Fingerprint = l.certificate(n) }},
	{Member{"trust", "name of a trust set", "none", "Whoever the set vouches for."},
		func(l *loader, n *yaml.Node, s *Signer) { s.Trust, _ = l.text(n, "trust") }},
}

var serviceMembers = []member[Services]{
	{Member{"users", "list of users", "required", "The services' users. They count as such only with an `X-Service-Token` of their own which Keystone knows, and which has the role `service`."},
		func(l *loader, n *yaml.Node, s *Services) { l.users(n, s) }},
	{Member{"mode", list(serviceModes), "`enforce`", "`exempt`: their data is taken unverified, and the receipt says so. `enforce`: they are held to the rule like everybody else."},
		func(l *loader, n *yaml.Node, s *Services) { s.Mode = word(l, n, "mode", serviceModes) }},
}

var userMembers = []member[User]{
	{Member{"id", "user id", "none", "As `openstack user list` shows it."},
		func(l *loader, n *yaml.Node, u *User) { u.ID = l.userID(n) }},
	{Member{"name", "text", "none", "The user's name, instead of the id."},
		func(l *loader, n *yaml.Node, u *User) { u.Name, _ = l.text(n, "name") }},
	{Member{"domain", "text", "required with `name`", "The name of the user's domain."},
		func(l *loader, n *yaml.Node, u *User) { u.Domain, _ = l.text(n, "domain") }},
}

// list is "`A`, `B` or `C`".
func list[T ~string](words []T) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = "`" + string(word) + "`"
	}
	return alternatives(quoted)
}
