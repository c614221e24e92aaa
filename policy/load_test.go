package policy_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/signature"
)

func TestLoadEverything(t *testing.T) {
	c, text := certify(t, curveKey(t))
	p := load(t, `
rules:
  - name: production
    projects:
      - id: 3f0c2b6d-9a8e-4c1f-8b7a-6d5e4c3b2a19
      - id: 12345678901234567890123456789012
      - name: prod
        domain: Default
    mode: enforce
    signers:
      - certificate: CD7CC675E573419C8FFF33A72734A243
      - pem: |
`+indent(text)+`
    key_types: [RSA-PSS, ECC_SECP384R1]
    hash_methods: [SHA-256, SHA-512]
    min_rsa_bits: 3072
    on_failure: keep
    visibility: [public, shared]
    import: direct
    downloads: verify
    ranges: true
    services:
      users:
        - id: 3f0c2b6d9a8e4c1f8b7a6d5e4c3b2a19
        - {name: cinder, domain: Default}
      mode: exempt
    unverified: deactivate
  - name: maintenance
    projects: all
    mode: audit
    until: 2020-01-02T04:04:05+01:00
    owner: Jane Doe, phone 1234
    reason: the key manager is moved
  - projects: all
    unowned: true
    mode: off
`)
	rules := p.Rules()
	if len(rules) != 3 {
		t.Fatalf("%d rules, want 3", len(rules))
	}
	want := policy.Rule{
		Name: "production",
		Line: 3,
		Projects: []policy.Entry{
			{ID: acme, Line: 5},
			{ID: "12345678901234567890123456789012", Line: 6},
			{Project: policy.Project{Name: "prod", Domain: "Default"}, Line: 7},
		},
		Mode:        policy.Enforce,
		Signers:     []policy.Signer{{CertificateID: pinned}, {Fingerprint: c.Fingerprint()}},
		KeyTypes:    []signature.KeyType{"RSA-PSS", "ECC_SECP384R1"},
		HashMethods: []signature.HashMethod{"SHA-256", "SHA-512"},
		MinRSABits:  3072,
		OnFailure:   policy.Keep,
		Expired:     policy.ExpiredRefuse,
		Visibility:  []policy.Visibility{policy.Public, policy.Shared},
		Import:      policy.ImportDirect,
		Downloads:   policy.DownloadsVerify,
		Ranges:      true,
		Services: policy.Services{
			Users: []policy.User{{ID: acme}, {Name: "cinder", Domain: "Default"}},
			Mode:  policy.ServicesExempt,
		},
		Unverified: policy.UnverifiedDeactivate,
	}
	if got := fmt.Sprintf("%+v", *rules[0]); got != fmt.Sprintf("%+v", want) {
		t.Errorf("first rule is\n%s, want\n%+v", got, want)
	}
	want = policy.Rule{
		Name:        "rule 3",
		Line:        rules[2].Line,
		All:         true,
		Unowned:     true,
		Mode:        policy.Off,
		AnySigner:   true,
		KeyTypes:    signature.KeyTypes,
		HashMethods: signature.HashMethods,
		MinRSABits:  1024,
		OnFailure:   policy.Delete,
		Expired:     policy.ExpiredRefuse,
		Import:      policy.ImportRefuse,
		Downloads:   policy.DownloadsAny,
		Services:    policy.Services{Mode: policy.ServicesEnforce},
		Unverified:  policy.UnverifiedReport,
	}
	if got, want := rules[1], time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC); !got.Until.Equal(want) ||
		got.Sponsor != "Jane Doe, phone 1234" || got.Reason != "the key manager is moved" || !got.BreakGlass() {
		t.Errorf("second rule is %+v, want one until %v", *got, want)
	}
	if got := fmt.Sprintf("%+v", *rules[2]); got != fmt.Sprintf("%+v", want) {
		t.Errorf("last rule is\n%s, want\n%+v", got, want)
	}
}

// An anchor saves writing a list of signers twice.
func TestLoadAnchors(t *testing.T) {
	p := load(t, `
rules:
  - {projects: [id: a], mode: enforce, signers: &ours [certificate: cd7cc675-e573-419c-8fff-33a72734a243]}
  - {projects: all, mode: enforce, signers: *ours}
`)
	for _, r := range p.Rules() {
		if !slices.Equal(r.Signers, []policy.Signer{{CertificateID: pinned}}) || r.AnySigner {
			t.Errorf("%s trusts %v (any: %v), want %s", r.Name, r.Signers, r.AnySigner, pinned)
		}
	}
}

// Every mistake is named with its line and its field, and nothing else is.
func TestMistakes(t *testing.T) {
	_, text := certify(t, curveKey(t))
	_, second := certify(t, curveKey(t))
	const rest = "- {projects: all, mode: audit}\n"
	for _, test := range []struct {
		name, text string
		want       []string // beginnings of the sentences
	}{
		{"nothing", "", []string{"line 1: rules is missing"}},
		{"a comment", "# to do\n", []string{"line 1: rules is missing"}},
		{"null", "~", []string{"line 1: policy is not a set of fields"}},
		{"a word", "\n\naudit\n", []string{"line 3: policy is not a set of fields"}},
		{"no rules", "\nrule: []\n", []string{`line 2: policy has no field "rule"; write deny, rules or trust`, "line 2: rules is missing"}},
		{"empty rules", "rules: []", []string{"line 1: rules lists nothing"}},
		{"rules null", "rules:", []string{"line 1: rules is not a list"}},
		{"a version", "version: 1\nrules:\n" + rest, []string{`line 1: policy has no field "version"`}},
		{"rules twice", "rules:\n" + rest + "rules:\n" + rest, []string{"line 3: rules is given in line 1 already"}},
		{"not YAML", "rules:\n- projects: [\n", []string{"line 2: policy is not YAML"}},
		{"a tab", "rules:\n\t- projects: all\n", []string{"line 2: policy is not YAML"}},
		{"no such anchor", "rules: *ours\n", []string{"line 1: policy is not YAML"}},
		{"two documents", "rules:\n" + rest + "---\nrules:\n", []string{"line 3: policy goes on with a second document"}},
		{"a broken second document", "rules:\n" + rest + "---\n[", []string{"line 4: policy is not YAML"}},
		{"a merge key", "rules:\n- {<<: {mode: off}, projects: all, mode: audit}", []string{`line 2: rule has no field "<<"`}},
		{"an odd key", "rules:\n- {[a]: b, projects: all, mode: audit}", []string{`line 2: rule has no field "?"`}},
		{"a rule that is a word", "rules:\n- audit\n" + rest, []string{"line 2: rule is not a set of fields"}},
		{"a list that holds itself", "rules: &a [*a]", []string{"line 1: rule is not a set of fields", "line 1: rules ends without"}},

		{"unknown field", "rules:\n- projects: all\n  mode: audit\n  signer: any\n", []string{`line 4: rule has no field "signer"; write downloads, expired, hash_methods, `}},
		{"field twice", "rules:\n- projects: all\n  mode: audit\n  mode: off\n", []string{"line 4: mode is given in line 3 already"}},
		{"name empty", "rules:\n- {name: , projects: all, mode: audit}", []string{"line 2: name is empty"}},
		{"name a list", "rules:\n- {name: [a], projects: all, mode: audit}", []string{"line 2: name is not a single value"}},
		{"name of two lines", "rules:\n- {name: \"a\\nb\", projects: all, mode: audit}", []string{"line 2: name is not fit for logs"}},
		{"name too long", "rules:\n- {name: " + strings.Repeat("n", 65) + ", projects: all, mode: audit}", []string{"line 2: name is not fit for logs"}},
		{"name of another", "rules:\n- {name: a, projects: [id: b], mode: audit}\n- {name: a, projects: all, mode: audit}", []string{`line 3: name "a" is also the name of the rule in line 2`}},
		{"name of an unnamed one", "rules:\n- {name: rule 2, projects: [id: b], mode: audit}\n" + rest, []string{`line 3: name "rule 2" is also the name of the rule in line 2`}},

		{"mode missing", "rules:\n- projects: all\n", []string{"line 2: mode is missing; write off, audit or enforce"}},
		{"mode unknown", "rules:\n- projects: all\n  mode: Enforce\n", []string{`line 3: mode "Enforce" is not known; write off, audit or enforce`}},
		{"mode null", "rules:\n- projects: all\n  mode:\n", []string{"line 3: mode is empty"}},
		{"on_failure unknown", "rules:\n- projects: all\n  mode: audit\n  on_failure: drop", []string{`line 4: on_failure "drop" is not known; write delete or keep`}},

		{"for nobody", "rules:\n- mode: audit\n" + rest, []string{"line 2: projects is missing"}},
		{"for nobody either", "rules:\n- mode: audit\n  unowned: false\n" + rest, []string{"line 2: unowned is not true and `projects` is missing"}},
		{"unowned unclear", "rules:\n- mode: audit\n  unowned: yes\n" + rest, []string{"line 3: unowned is neither true nor false"}},
		{"unowned twice", "rules:\n- {unowned: true, mode: audit}\n- {projects: all, unowned: true, mode: audit}", []string{"line 3: unowned is true in the rule in line 2 already"}},
		{"projects every", "rules:\n- projects: every\n  mode: audit\n" + rest, []string{"line 2: projects is not a list of projects, or the word all"}},
		{"projects empty", "rules:\n- projects: []\n  mode: audit\n" + rest, []string{"line 2: projects lists nothing"}},
		{"project a word", "rules:\n- projects: [abc]\n  mode: audit\n" + rest, []string{"line 2: projects is not a set of fields; write `field: value` lines with domain, id or name"}},
		{"project with neither", "rules:\n- projects: [{domain: d}]\n  mode: audit\n" + rest, []string{"line 2: projects has an entry without id"}},
		{"project with both", "rules:\n- projects:\n  - id: abc\n    name: d\n  mode: audit\n" + rest, []string{"line 3: projects has an entry with an id and a name"}},
		{"project without domain", "rules:\n- projects:\n  - name: prod\n  mode: audit\n" + rest, []string{"line 3: domain is missing"}},
		{"project id unsafe", "rules:\n- projects:\n  - id: a/b\n  mode: audit\n" + rest, []string{`line 3: id "a/b" is no project id`}},
		{"project id too long", "rules:\n- projects:\n  - id: " + strings.Repeat("a", 65) + "\n  mode: audit\n" + rest, []string{"line 3: id "}},
		{"project id twice", "rules:\n- projects:\n  - id: " + acme + "\n  mode: audit\n- projects:\n  - id: 3F0C2B6D-9A8E-4C1F-8B7A-6D5E4C3B2A19\n  mode: off\n" + rest, []string{"line 6: projects has project " + acme + ", which line 3 has already"}},
		{"project name twice", "rules:\n- projects:\n  - {name: a, domain: b}\n  - {name: b, domain: b}\n  - {domain: b, name: a}\n  mode: audit\n" + rest, []string{`line 5: projects has project "a" in domain "b", which line 3 has already`}},

		{"nothing for everybody", "rules:\n- {projects: [id: a], mode: audit}\n- {projects: [id: b], mode: audit}\n", []string{"line 3: rules ends without a rule for everybody else"}},
		{"after everybody", "rules:\n" + rest + "- {projects: [id: a], mode: audit}\n- {unowned: true, mode: audit}\n", []string{"line 3: rules has a rule after the one for all projects in line 2", "line 4: rules has a rule after the one for all projects in line 2"}},
		{"everybody three times", "rules:\n" + rest + rest + rest, []string{"line 3: rules has a rule after the one for all projects in line 2", "line 4: rules has a rule after the one for all projects in line 2"}},

		{"enforce without signers", "rules:\n- projects: all\n  mode: enforce\n", []string{"line 2: signers is missing, which mode enforce does not allow"}},
		{"signers empty", "rules:\n- projects: all\n  mode: enforce\n  signers: []\n", []string{"line 4: signers lists nothing"}},
		{"signers all", "rules:\n- projects: all\n  mode: enforce\n  signers: all\n", []string{"line 4: signers is not a list of certificates, or the word any"}},
		{"signer any in a list", "rules:\n- projects: all\n  mode: enforce\n  signers: [any]\n", []string{"line 4: signers is not a set of fields"}},
		{"signer empty", "rules:\n- projects: all\n  mode: enforce\n  signers: [{}]\n", []string{"line 4: signers has an entry that is not one certificate"}},
		{"signer with both", "rules:\n- projects: all\n  mode: enforce\n  signers:\n  - certificate: " + pinned + "\n    pem: |\n" + indent(text), []string{"line 5: signers has an entry that is not one certificate"}},
		{"signer twice", "rules:\n- projects: all\n  mode: enforce\n  signers:\n  - certificate: " + pinned + "\n  - certificate: CD7CC675e573419c8fff33a72734a243\n", []string{"line 6: signers has the certificate of line 5 again"}},
		{"signer not a UUID", "rules:\n- projects: all\n  mode: enforce\n  signers:\n  - certificate: https://barbican/v1/secrets/" + pinned, []string{`line 5: certificate "https://barbican/v1/secrets/` + pinned + `" is not a UUID`}},
		{"signer a short id", "rules:\n- projects: all\n  mode: enforce\n  signers:\n  - certificate: abc", []string{`line 5: certificate "abc" is not a UUID`}},
		{"pem not PEM", "rules:\n- projects: all\n  mode: enforce\n  signers:\n  - pem: server.crt", []string{"line 5: pem is not a certificate"}},
		{"pem a key", "rules:\n- projects: all\n  mode: enforce\n  signers:\n  - pem: |\n" + indent("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"), []string{"line 5: pem is not a certificate"}},
		{"pem broken", "rules:\n- projects: all\n  mode: enforce\n  signers:\n  - pem: |\n" + indent("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"), []string{"line 5: pem "}},
		{"pem a chain", "rules:\n- projects: all\n  mode: enforce\n  signers:\n  - pem: |\n" + indent(text+second), []string{"line 5: pem holds more than one block"}},

		{"key type unknown", "rules:\n- projects: all\n  mode: audit\n  key_types:\n  - RSA-PSS\n  - RSA\n", []string{`line 6: key_types "RSA" is not known; write RSA-PSS, `}},
		{"key types a word", "rules:\n- projects: all\n  mode: audit\n  key_types: RSA-PSS\n", []string{"line 4: key_types is not a list"}},
		{"key types empty", "rules:\n- projects: all\n  mode: audit\n  key_types: []\n", []string{"line 4: key_types lists nothing"}},
		{"hash method unknown", "rules:\n- projects: all\n  mode: audit\n  hash_methods: [sha-256, SHA-256, SHA-256, ~]\n", []string{`line 4: hash_methods "sha-256" is not known; write SHA-224, SHA-256, SHA-384 or SHA-512`, "line 4: hash_methods has SHA-256 twice", "line 4: hash_methods is empty"}},
		{"bits too few", "rules:\n- {projects: all, mode: audit, min_rsa_bits: 1023}", []string{"line 2: min_rsa_bits is 1023, and keys that short are never accepted; write 1024 or more"}},
		{"bits too many", "rules:\n- {projects: all, mode: audit, min_rsa_bits: 16385}", []string{"line 2: min_rsa_bits is 16385"}},
		{"bits no number", "rules:\n- {projects: all, mode: audit, min_rsa_bits: 2k}", []string{"line 2: min_rsa_bits is not a whole number"}},
		{"bits a list", "rules:\n- {projects: all, mode: audit, min_rsa_bits: [2048]}", []string{"line 2: min_rsa_bits is not a whole number"}},

		{"visibility unknown", "rules:\n- {projects: [id: a], mode: audit, visibility: [hidden]}\n" + rest, []string{`line 2: visibility "hidden" is not known; write public, community, shared or private`}},
		{"visibility a word", "rules:\n- {projects: [id: a], mode: audit, visibility: public}\n" + rest, []string{"line 2: visibility is not a list"}},
		{"visibility covered", "rules:\n- {projects: [id: a], visibility: [public, shared], mode: audit}\n- {projects: [id: a], visibility: [shared], mode: off}\n" + rest, []string{"line 3: projects has project a, which line 2 has already"}},
		{"visibility covered by name", "rules:\n- {projects: [{name: a, domain: d}], visibility: [public, shared], mode: audit}\n- {projects: [{name: a, domain: d}], visibility: [shared], mode: off}\n" + rest, []string{`line 3: projects has project "a" in domain "d", which line 2 has already`}},
		{"twice in one rule that has visibility", "rules:\n- projects:\n  - id: a\n  - id: a\n  visibility: [public]\n  mode: audit\n" + rest, []string{"line 4: projects has project a, which line 3 has already"}},
		{"visibility after all", "rules:\n- {projects: all, visibility: [public, shared], mode: audit}\n- {projects: [id: a], visibility: [shared], mode: off}\n" + rest, []string{"line 3: rules has a rule after the one for all projects in line 2"}},
		{"everybody of some visibility only", "rules:\n- {projects: all, visibility: [public, shared, community, private], mode: audit}\n", []string{"line 2: rules ends without a rule for everybody else"}},
		{"unowned covered", "rules:\n- {unowned: true, visibility: [public], mode: audit}\n- {unowned: true, visibility: [public], mode: off}\n" + rest, []string{"line 3: unowned is true in the rule in line 2 already"}},

		{"import unknown", "rules:\n- {projects: all, mode: audit, import: yes}", []string{`line 2: import "yes" is not known; write refuse or direct`}},
		{"downloads unknown", "rules:\n- {projects: all, mode: audit, downloads: none}", []string{`line 2: downloads "none" is not known; write any, receipt or verify`}},
		{"downloads of off", "rules:\n- {projects: all, mode: off, downloads: receipt}", []string{"line 2: downloads is receipt in a rule with mode off"}},
		{"ranges of nothing", "rules:\n- {projects: all, mode: audit, downloads: receipt, ranges: true}", []string{"line 2: ranges is true, and parts are refused with `downloads: verify` only"}},
		{"ranges unclear", "rules:\n- {projects: all, mode: audit, downloads: verify, ranges: maybe}", []string{"line 2: ranges is neither true nor false; write `ranges: true`"}},
		{"unverified unknown", "rules:\n- {projects: all, mode: audit, unverified: keep}", []string{`line 2: unverified "keep" is not known; write report, deactivate or delete`}},
		{"services a list", "rules:\n- {projects: all, mode: audit, services: [nova]}", []string{"line 2: services is not a set of fields; write `field: value` lines with mode or users"}},
		{"services without users", "rules:\n- {projects: all, mode: audit, services: {mode: exempt}}", []string{"line 2: users is missing"}},
		{"services mode", "rules:\n- {projects: all, mode: audit, services: {mode: audit, users: [id: a]}}", []string{`line 2: mode "audit" is not known; write exempt or enforce`}},
		{"services user with both", "rules:\n- {projects: all, mode: audit, services: {users: [{id: a, name: nova}]}}", []string{"line 2: users has an entry with an id and a name"}},
		{"services user with neither", "rules:\n- {projects: all, mode: audit, services: {users: [{domain: d}]}}", []string{"line 2: users has an entry without id"}},
		{"services user without domain", "rules:\n- {projects: all, mode: audit, services: {users: [{name: nova}]}}", []string{"line 2: domain is missing; a user's name"}},
		{"services user twice", "rules:\n- {projects: all, mode: audit, services: {users: [{id: A}, {id: A}]}}", []string{"line 2: users has a user twice"}},
		{"services user id", "rules:\n- {projects: all, mode: audit, services: {users: [{id: a b}]}}", []string{`line 2: id "a b" is no user id`}},

		{"break-glass by halves", "rules:\n- projects: [id: a]\n  mode: audit\n  until: 2026-07-02T00:00:00Z\n" + rest, []string{"line 4: owner is missing; a break-glass rule has", "line 4: reason is missing"}},
		{"break-glass without an end", "rules:\n- projects: [id: a]\n  mode: audit\n  owner: me\n  reason: so\n" + rest, []string{"line 5: until is missing"}},
		{"break-glass enforces", "rules:\n- projects: [id: a]\n  mode: enforce\n  signers: any\n  until: 2026-07-02T00:00:00Z\n  owner: me\n  reason: so\n" + rest, []string{"line 3: mode is enforce in a break-glass rule"}},
		{"break-glass for too long", "rules:\n- projects: [id: a]\n  mode: audit\n  until: 2026-07-31T12:00:01Z\n  owner: me\n  reason: so\n" + rest, []string{"line 4: until is more than 30 days ahead"}},
		{"break-glass without a zone", "rules:\n- projects: [id: a]\n  mode: audit\n  until: 2026-07-02T00:00:00\n  owner: me\n  reason: so\n" + rest, []string{`line 4: until "2026-07-02T00:00:00" is no time in RFC 3339`}},
		{"break-glass for everybody last", "rules:\n- projects: all\n  mode: audit\n  until: 2026-07-02T00:00:00Z\n  owner: me\n  reason: so\n", []string{"line 2: rules ends without a rule for everybody else"}},
		{"break-glass after everybody", "rules:\n" + rest + "- projects: all\n  mode: off\n  until: 2026-07-02T00:00:00Z\n  owner: me\n  reason: so\n", []string{"line 3: rules has a rule after the one for all projects in line 2"}},
		{"break-glass twice in itself", "rules:\n- projects:\n  - id: a\n  - id: a\n  mode: audit\n  until: 2026-07-02T00:00:00Z\n  owner: me\n  reason: so\n" + rest, []string{"line 4: projects has project a, which line 3 has already"}},
		{"break-glass reason of two lines", "rules:\n- projects: [id: a]\n  mode: audit\n  until: 2026-07-02T00:00:00Z\n  owner: me\n  reason: \"a\\nb\"\n" + rest, []string{"line 6: reason is not fit for logs; use at most 256 bytes"}},

		{"trust is a list", "trust: [a]\nrules:\n" + rest, []string{"line 1: trust has no sets"}},
		{"trust without certificates", "trust:\n  corp:\n    mode: root\nrules:\n" + rest, []string{`line 2: trust has a set "corp" without certificates`}},
		{"trust with an unknown field", "trust:\n  corp:\n    file: [a]\n    files: [a]\nrules:\n" + rest, []string{`line 3: trust has no field "file"`}},
		{"trust of two sets of a name", "trust:\n  corp: {files: [a]}\n  corp: {files: [b]}\nrules:\n" + rest, []string{`line 3: trust has the set "corp" twice`}},
		{"trust of an unknown mode", "trust:\n  corp: {files: [a], mode: leaf}\nrules:\n" + rest, []string{`line 2: mode "leaf" is not known; write root or anchor`}},
		{"trust by no UUID", "trust:\n  corp: {certificates: \"cd7cc675-e573-419c-8fff-33a72734a243,x\"}\nrules:\n" + rest, []string{`line 2: certificates "x" is not a UUID`}},
		{"trust in no PEM", "trust:\n  corp: {pem: hello}\nrules:\n" + rest, []string{"line 2: pem has no PEM block"}},
		{"trust ends before it begins", "trust:\n  corp: {files: [a], not_before: 2026-02-01T00:00:00Z, not_after: 2026-01-01T00:00:00Z}\nrules:\n" + rest, []string{"line 2: not_after comes before not_before"}},
		{"trust by a wrong pattern", "trust:\n  corp: {files: [a], subjects: [Builder]}\nrules:\n" + rest, []string{`line 2: subjects "Builder" is not of the form`}},
		{"trust for an unknown purpose", "trust:\n  corp: {files: [a], extended_key_usage: [images]}\nrules:\n" + rest, []string{`line 2: extended_key_usage "images" is not known`}},
		{"trust for an unknown usage", "trust:\n  corp: {files: [a], key_usage: [sign]}\nrules:\n" + rest, []string{`line 2: key_usage "sign" is not known`}},
		{"a file twice", "trust:\n  corp: {files: [a, a]}\nrules:\n" + rest, []string{"line 2: files has a twice"}},
		{"a set that is not there", "trust:\n  corp: {files: [a]}\nrules:\n- projects: all\n  mode: enforce\n  signers:\n  - trust: corb\n", []string{`line 7: trust "corb" is no set`}},
		{"expired of no sort", "rules:\n- projects: all\n  mode: audit\n  expired: accept\n", []string{`line 4: expired "accept" is not known`}},
		{"deny by another hash", "deny:\n  images: [\"MD5:d41d8cd98f00b204e9800998ecf8427e\"]\nrules:\n" + rest, []string{`line 2: images "MD5:d41d8cd98f00b204e9800998ecf8427e" is no digest`}},
		{"deny by a short digest", "deny:\n  images: [\"SHA-256:d41d\"]\nrules:\n" + rest, []string{`line 2: images "SHA-256:d41d" is no digest`}},
		{"deny by a SHA-1 fingerprint", "deny:\n  certificates: [\"DA:39:A3:EE:5E:6B:4B:0D:32:55:BF:EF:95:60:18:90:AF:D8:07:09\"]\nrules:\n" + rest, []string{`line 2: certificates "DA:39`}},

		{"many at once, in the order of the lines", "rules:\n- projects: [id: a]\n  mode: enforced\n  signers: none\n- unowned: 1\n  hash_methods: [MD5]\n", []string{
			`line 3: mode "enforced" is not known`,
			"line 4: signers is not a list",
			"line 5: mode is missing",
			"line 5: rules ends without a rule for everybody else",
			"line 5: unowned is neither true nor false",
			`line 6: hash_methods "MD5" is not known`,
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, err := policy.LoadAt(strings.NewReader(test.text), func() time.Time { return time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC) })
			var mistakes *policy.Error
			if !errors.As(err, &mistakes) || p != nil {
				t.Fatalf("Load = %v, %v, want an *Error", p, err)
			}
			got := strings.Split(err.Error(), "\n")
			slices.Sort(test.want)
			sorted := slices.Clone(got)
			slices.Sort(sorted)
			same := slices.EqualFunc(sorted, test.want, strings.HasPrefix)
			if !same {
				t.Errorf("Load says\n%s\nwant\n%s", err, strings.Join(test.want, "\n"))
			}
			for i, m := range mistakes.Problems {
				if m.Line < 1 || i > 0 && m.Line < mistakes.Problems[i-1].Line {
					t.Errorf("line %d is out of order", m.Line)
				}
				if !strings.Contains(m.Text, "; ") {
					t.Errorf("%q names no cure", m)
				}
			}
		})
	}
}

func TestLoadReadError(t *testing.T) {
	broken := errors.New("disk on fire")
	if _, err := policy.Load(iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("Load = %v, want the reader's error", err)
	}
}

func TestLoadTooLarge(t *testing.T) {
	endless := strings.NewReader(strings.Repeat("#", 64<<20+1))
	_, err := policy.Load(endless)
	if err == nil || !strings.HasPrefix(err.Error(), "line 1: policy is larger than 64 MiB") {
		t.Errorf("Load = %v, want a limit", err)
	}
}

// Whatever loads has a rule for everybody, and every rule can be enforced.
func FuzzLoad(f *testing.F) {
	_, text := certify(f, curveKey(f))
	f.Add(mixed)
	f.Add("rules:\n- {projects: all, unowned: true, mode: enforce, signers: any}")
	f.Add("rules:\n- {projects: [{id: a}, {name: b, domain: d}], visibility: [public, shared], mode: enforce, signers: any, downloads: verify, ranges: true}\n- {projects: [id: a], mode: off, until: 2020-01-02T03:04:05Z, owner: o, reason: r}\n- {projects: [id: a], mode: audit, services: {users: [id: u], mode: exempt}}\n- {projects: all, mode: off}")
	f.Add("rules:\n- projects: all\n  mode: enforce\n  signers:\n  - pem: |\n" + indent(text))
	f.Add("rules: &a\n- *a\n- {projects: [&b {id: c}, *b], mode: off, <<: *b}")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := policy.Load(strings.NewReader(text))
		if err != nil {
			var mistakes *policy.Error
			if !errors.As(err, &mistakes) || len(mistakes.Problems) == 0 {
				t.Fatalf("Load = %v, want an *Error that lists something", err)
			}
			return
		}
		rules := p.Rules()
		if last := rules[len(rules)-1]; !last.All {
			t.Fatalf("last rule is %+v, want one for all", last)
		}
		ids := make(map[policy.Project]policy.Resolution)
		for _, name := range p.Names() {
			if name.Name == "" || name.Domain == "" {
				t.Fatalf("Names() has %v", name)
			}
			ids[name] = policy.Resolution{State: policy.Absent}
		}
		if r, err := p.Resolve(ids).For(policy.Subject{Owner: "nobody-listed-this-one"}); err != nil && !strings.Contains(text, "nobody") {
			t.Fatalf("For = %v, %v with nothing unknown", r, err)
		}
		for _, r := range rules {
			switch r.Mode {
			default:
				t.Fatalf("rule %+v has no mode", r)
			case policy.Off, policy.Audit, policy.Enforce:
			}
			if r.AnySigner != (len(r.Signers) == 0) || len(r.KeyTypes) == 0 || len(r.HashMethods) == 0 || r.MinRSABits < 1024 {
				t.Fatalf("rule %+v cannot be enforced", r)
			}
			for _, e := range r.Projects {
				reached := e.ID == "" || r.BreakGlass() // which may be over, or come after another one
				for _, v := range policy.Visibilities {
					got, err := p.For(policy.Subject{Owner: e.ID, Visibility: v})
					reached = reached || err != nil || got.Name == r.Name || got.BreakGlass()
				}
				if !reached {
					t.Fatalf("no image of %q is under %+v", e.ID, r)
				}
			}
		}
	})
}
