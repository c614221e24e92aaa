package policy

// order judges the rules together: names, reachability, the rule for all.
//
// A rule is out of reach if an earlier one takes every image that it is for: so
// only rules that do not end stand in the way, and only of visibilities that
// they have themselves.
func (l *loader) order(rules []*Rule) {
	labels := make(map[string]*Rule)
	ids, names := make(map[string]taken), make(map[Project]taken)
	var all, unowned taken
	everybody := false
	for _, r := range rules {
		if first := labels[r.Name]; first != nil {
			l.wrong(r.Line, "name", "%q is also the name of the rule in line %d; give one of them another", r.Name, first.Line)
		}
		labels[r.Name] = r

		if line, taken := all.by(r); taken {
			l.wrong(r.Line, "rules", "has a rule after the one for all projects in line %d, so it would never apply; move it up", line)
		}
		if r.All {
			all = all.add(r, r.Line)
			everybody = everybody || len(r.Visibility) == 0 && !r.BreakGlass()
		}
		if line, taken := unowned.by(r); r.Unowned && taken {
			l.wrong(r.Line, "unowned", "is true in the rule in line %d already, so here it would never apply; remove one of them", line)
		}
		if r.Unowned {
			unowned = unowned.add(r, r.Line)
		}
		for _, e := range r.Projects {
			before := ids[e.ID]
			if e.ID == "" {
				before = names[e.Project]
			}
			line, twice := before.by(r)
			switch {
			case twice && e.ID == "":
				l.wrong(e.Line, "projects", "has project %s, which line %d has already; remove one of them", e.Project, line)
			case twice:
				l.wrong(e.Line, "projects", "has project %s, which line %d has already; remove one of them", e.ID, line)
			case e.ID == "":
				names[e.Project] = before.add(r, e.Line)
			default:
				ids[e.ID] = before.add(r, e.Line)
			}
		}
	}
	if !everybody && len(rules) > 0 {
		last := rules[len(rules)-1]
		l.wrong(last.Line, "rules", "ends without a rule for everybody else; add a last rule with `projects: all` and the mode it shall have, and without visibility or until")
	}
}

// taken lists who has taken the images of somebody so far.
type taken []struct {
	rule *Rule
	line int
}

// add notes that a rule's line takes those that it is for.
func (t taken) add(r *Rule, line int) taken {
	return append(t, struct {
		rule *Rule
		line int
	}{r, line})
}

// by returns the first line that leaves nothing for r: one of an earlier rule,
// or of r itself.
func (t taken) by(r *Rule) (line int, taken bool) {
	for _, before := range t {
		lasting := !before.rule.BreakGlass() && setOf(before.rule.Visibility).includes(setOf(r.Visibility))
		if before.rule == r || lasting {
			return before.line, true
		}
	}
	return 0, false
}
