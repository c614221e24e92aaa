package policy

import (
	"encoding/binary"
	"strings"
	"time"
)

// packed are the rules of a policy in a few pieces, next to none of them pointers: each
// collection of garbage follows every pointer that there is, however seldom rules are
// asked for, and a policy may have some hundred thousand. What rules demand is there
// once for all that demand the same. It never changes.
type packed struct {
	text    string      // rules' names, each followed by the ids of its projects
	rules   []packedRow // and one more, where they end
	entries []packedEntry
	names   []Project // that entries have, each once, in the order of the file

	demands []Rule // those that differ, without name, line, projects and signers

	listed  string       // ids, fingerprints and names of trust sets
	lists   []packedList // of signers, those that differ, and one more
	signers []packedSigner

	sets   map[string]*anchors // by their names, once With has loaded them
	denied *Denials
}

// packedRow is one rule. What is its own ends where that of the next begins.
type packedRow struct {
	text, entries int // where they begin
	demands, list int32
	line          int32
	name          uint8 // its length
}

// packedEntry is one project of a rule.
type packedEntry struct {
	line int32
	name int32 // in names, if it is given by its name
	id   uint8 // otherwise, the length
}

// packedList is one list of signers.
type packedList struct {
	text, signers int // where they begin
}

// packedSigner is one of a list.
type packedSigner struct {
	is     signerKind
	length uint8
}

// signerKind tells which field of a Signer is set.
type signerKind uint8

const (
	signerID signerKind = iota
	signerFingerprint
	signerTrust
)

// pack packs rules as the loader reads them: texts have at most 64 bytes, and signers
// one field.
func pack(rules []*Rule) *packed {
	var p packed
	var text, listed strings.Builder
	demands, lists, names := make(map[string]int32), make(map[string]int32), make(map[Project]int32)
	var key []byte
	entries := 0
	for _, r := range rules {
		entries += len(r.Projects)
	}
	p.rules, p.entries = make([]packedRow, 0, len(rules)+1), make([]packedEntry, 0, entries)
	for _, r := range rules {
		row := packedRow{text: text.Len(), entries: len(p.entries), line: int32(r.Line), name: uint8(len(r.Name))}
		text.WriteString(r.Name)
		for _, e := range r.Projects {
			entry := packedEntry{line: int32(e.Line), id: uint8(len(e.ID))}
			if e.ID == "" {
				place, known := names[e.Project]
				if !known {
					place = int32(len(p.names))
					names[e.Project], p.names = place, append(p.names, e.Project)
				}
				entry.name = place
			}
			text.WriteString(e.ID)
			p.entries = append(p.entries, entry)
		}

		var known bool
		key = appendDemands(key[:0], r)
		if row.demands, known = demands[string(key)]; !known {
			row.demands = int32(len(p.demands))
			one := *r
			one.Name, one.Line, one.Projects, one.Signers = "", 0, nil, nil
			demands[string(key)], p.demands = row.demands, append(p.demands, one)
		}
		key = appendSigners(key[:0], r.Signers)
		if row.list, known = lists[string(key)]; !known {
			row.list = int32(len(p.lists))
			lists[string(key)], p.lists = row.list, append(p.lists, packedList{listed.Len(), len(p.signers)})
			for _, s := range r.Signers {
				one := packedSigner{signerID, uint8(len(s.CertificateID))}
				switch {
				case s.Fingerprint != "":
					one = packedSigner{signerFingerprint, uint8(len(s.Fingerprint))}
				case s.Trust != "":
					one = packedSigner{signerTrust, uint8(len(s.Trust))}
				}
				listed.WriteString(s.CertificateID + s.Fingerprint + s.Trust)
				p.signers = append(p.signers, one)
			}
		}
		p.rules = append(p.rules, row)
	}
	p.rules = append(p.rules, packedRow{text: text.Len(), entries: len(p.entries)})
	p.lists = append(p.lists, packedList{listed.Len(), len(p.signers)})
	p.text, p.listed = strings.Clone(text.String()), strings.Clone(listed.String()) // no longer than they are
	return &p
}

// appendDemands appends all of a rule but what packed keeps elsewhere, so that two are
// the same if and only if the rules demand the same.
func appendDemands(key []byte, r *Rule) []byte {
	for _, b := range []bool{r.All, r.Unowned, r.AnySigner, r.Ranges} {
		key = append(key, 0)
		if b {
			key[len(key)-1] = 1
		}
	}
	for _, text := range []string{string(r.Mode), string(r.OnFailure), string(r.Expired), string(r.Import), string(r.Downloads),
		string(r.Services.Mode), string(r.Unverified), r.Sponsor, r.Reason, r.Until.Format(time.RFC3339Nano)} {
		key = appendText(key, text)
	}
	key = binary.AppendVarint(key, int64(r.MinRSABits))
	key = appendTexts(key, r.Visibility)
	key = appendTexts(key, r.KeyTypes)
	key = appendTexts(key, r.HashMethods)
	key = binary.AppendUvarint(key, uint64(len(r.Services.Users)))
	for _, u := range r.Services.Users {
		key = appendTexts(key, []string{u.ID, u.Name, u.Domain})
	}
	return key
}

func appendSigners(key []byte, signers []Signer) []byte {
	for _, s := range signers {
		key = appendTexts(key, []string{s.CertificateID, s.Fingerprint, s.Trust})
	}
	return key
}

func appendText(key []byte, text string) []byte {
	return append(binary.AppendUvarint(key, uint64(len(text))), text...)
}

func appendTexts[T ~string](key []byte, texts []T) []byte {
	key = binary.AppendUvarint(key, uint64(len(texts)))
	for _, text := range texts {
		key = appendText(key, string(text))
	}
	return key
}

// len is how many rules there are.
func (p *packed) len() int { return len(p.rules) - 1 }

// demandsOf is what rule i demands. It has no name, line, projects or signers.
func (p *packed) demandsOf(i int) *Rule { return &p.demands[p.rules[i].demands] }

func (p *packed) name(i int) string {
	row := p.rules[i]
	return p.text[row.text : row.text+int(row.name)]
}

// projects calls for each project of a rule.
func (p *packed) projects(i int) func(yield func(Entry) bool) {
	return func(yield func(Entry) bool) {
		row := p.rules[i]
		at := row.text + int(row.name)
		for _, e := range p.entries[row.entries:p.rules[i+1].entries] {
			entry := Entry{ID: p.text[at : at+int(e.id)], Line: int(e.line)}
			if e.id == 0 {
				entry.Project = p.names[e.name]
			}
			if !yield(entry) {
				return
			}
			at += int(e.id)
		}
	}
}

// rule unpacks one, but for its projects. It holds nothing of p's texts, since it may
// be in use for much longer.
func (p *packed) rule(i int) Rule {
	row := p.rules[i]
	r := p.demands[row.demands]
	r.Name, r.Line, r.denied = strings.Clone(p.name(i)), int(row.line), p.denied
	list, next := p.lists[row.list], p.lists[row.list+1]
	text := strings.Clone(p.listed[list.text:next.text])
	for _, s := range p.signers[list.signers:next.signers] {
		var one Signer
		switch this := text[:s.length]; s.is {
		case signerID:
			one.CertificateID = this
		case signerFingerprint:
			one.Fingerprint = this
		case signerTrust:
			one.Trust = this
			if p.sets != nil {
				r.sets = append(r.sets, p.sets[this])
			}
		}
		r.Signers, text = append(r.Signers, one), text[s.length:]
	}
	return r
}
