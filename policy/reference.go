package policy

// Section is a table of the policy reference: the members of one thing in the
// file.
type Section struct {
	Name    string // the thing, as mistakes name it
	Members []Member
}

// Reference lists what may be written in a policy, out of the very tables that
// Load reads by.
func Reference() []Section {
	return []Section{
		section("policy", fileMembers),
		section("trust", setMembers),
		section("deny", denyMembers),
		section("rule", ruleMembers),
		section("projects", projectMembers),
		section("signers", signerMembers),
		section("services", serviceMembers),
		section("users", userMembers),
	}
}

func section[T any](name string, members []member[T]) Section {
	s := Section{Name: name}
	for _, m := range members {
		s.Members = append(s.Members, m.Member)
	}
	return s
}
