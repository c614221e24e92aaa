package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/countersign/countersign/policy"
)

// anchorSource has the certificates that trust sets name by their id in the key
// manager, from memory.
type anchorSource interface {
	// Load wants these from now on, and no others, and fetches those that were
	// never asked for, until ctx ends.
	Load(ctx context.Context, ids []string)
	// Anchor returns one that is wanted, or why there is none.
	Anchor(id string) ([]byte, error)
	// Changes holds a value when an answer of Anchor has become another.
	Changes() <-chan struct{}
}

// The bounds of what a trust set reads from the disk.
const (
	maxAnchorFile  = 32 << 20 // bytes; large CAs have revocation lists of this size
	maxAnchorFiles = 1000     // in a folder
)

// material is what a policy needs from outside of its file, read anew.
type material struct {
	policy.Material
	missing map[string]error // path or id → why it is not there
	sum     [sha256.Size]byte
}

// newMaterial reads what is needed. Relative paths begin at folder; ids are
// missing where there is nobody to ask.
func newMaterial(needs policy.Needs, folder string, anchor func(id string) ([]byte, error)) *material {
	m := &material{missing: make(map[string]error)}
	m.Certificates, m.Files = make(map[string][]byte), make(map[string][][]byte)
	sum := sha256.New()
	for _, path := range needs.Files {
		full := path
		if !filepath.IsAbs(full) {
			full = filepath.Join(folder, full)
		}
		contents, err := readAnchors(full)
		if err != nil {
			m.missing[path] = err
		} else {
			m.Files[path] = contents
		}
		note(sum, path, err, contents...)
	}
	for _, id := range needs.Certificates {
		data, err := []byte(nil), errors.New("there is no key manager to ask")
		if anchor != nil {
			data, err = anchor(id)
		}
		if err != nil {
			m.missing[id] = err
		} else {
			m.Certificates[id] = data
		}
		note(sum, id, err, data)
	}
	sum.Sum(m.sum[:0])
	return m
}

// note adds a thing to the sum by which material is compared.
func note(sum hash.Hash, name string, err error, contents ...[]byte) {
	fmt.Fprintf(sum, "%q %t %d\n", name, err == nil, len(contents))
	for _, content := range contents {
		fmt.Fprintf(sum, "%x\n", sha256.Sum256(content))
	}
}

// readAnchors reads a file, or the files of a folder, without those whose names
// begin with a dot: a mounted ConfigMap has its machinery there.
func readAnchors(path string) ([][]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		data, err := readAnchor(path)
		return [][]byte{data}, err
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var contents [][]byte
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") {
			continue
		}
		full := filepath.Join(path, entry.Name())
		info, err := os.Stat(full)
		switch {
		case errors.Is(err, fs.ErrNotExist): // it went in this moment
			continue
		case err != nil:
			return nil, err
		case info.IsDir():
			continue
		case len(contents) == maxAnchorFiles:
			return nil, fmt.Errorf("%s has more than %d files", path, maxAnchorFiles)
		}
		data, err := readAnchor(full)
		if err != nil {
			return nil, err
		}
		contents = append(contents, data)
	}
	return contents, nil
}

func readAnchor(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxAnchorFile+1))
	if err == nil && len(data) > maxAnchorFile {
		err = fmt.Errorf("%s has more than %d MiB", path, maxAnchorFile>>20)
	}
	return data, err
}

// gather reads what a policy names outside of its file.
func (f *policyFile) gather(p *policy.Policy) *material {
	var anchor func(id string) ([]byte, error)
	if f.anchors != nil {
		anchor = f.anchors.Anchor
	}
	return newMaterial(p.Needs(), filepath.Dir(f.path), anchor)
}

// equip gives a policy what its trust sets name, as far as it is there.
func (f *policyFile) equip(p *policy.Policy, m *material) *policy.Policy {
	f.material = m.sum
	p = p.With(m.Material)
	for _, name := range slices.Sorted(maps.Keys(m.missing)) {
		f.log.Error().Err(m.missing[name]).Str("file", name).
			Msg("a trust set of the policy lacks what it lists: signers that nothing else trusts are answered 503")
	}
	for _, set := range p.Sets() {
		for _, problem := range set.Problems {
			f.log.Warn().Str("set", set.Name).Msg("trust set: " + problem.String())
		}
	}
	return p
}

// refresh equips the policy in force anew if what is outside of its file has
// changed.
func (f *policyFile) refresh() {
	p := f.current.Load()
	m := f.gather(p)
	if m.sum == f.material {
		return
	}
	f.current.Store(f.equip(p, m))
	f.log.Info().Str("file", f.path).Msg("trust sets read again")
	f.expiring()
}

const (
	expiryReminder    = 24 * time.Hour
	anchorExpiresSoon = 30 * 24 * time.Hour
	anchorsAtOnce     = 10 * time.Second
)

// expiring tells of the sets' certificates that expire soon, or have.
func (f *policyFile) expiring() {
	soon := time.Now().Add(anchorExpiresSoon)
	for _, set := range f.current.Load().Sets() {
		for _, c := range set.Certificates {
			if c.NotAfter.Before(soon) {
				f.log.Warn().Str("set", set.Name).Str("subject", c.Subject).Str("signer", c.Fingerprint()).Time("not_after", c.NotAfter).
					Msg("a certificate of a trust set expires within 30 days, or has: add its successor, and remove it")
			}
		}
	}
}

// anchorExpiry tells of each trust set when its first certificate expires.
type anchorExpiry struct{ file *policyFile }

var (
	anchorExpiryDesc = prometheus.NewDesc("countersign_anchor_expiry_timestamp_seconds",
		"When the first certificate of a trust set expires, as Unix time; absent while none of it is loaded.", []string{"set"}, nil)
	anchorMissingDesc = prometheus.NewDesc("countersign_trust_set_missing",
		"How many files and certificates that a trust set names are not loaded.", []string{"set"}, nil)
)

// Describe implements prometheus.Collector.
func (a anchorExpiry) Describe(to chan<- *prometheus.Desc) {
	to <- anchorExpiryDesc
	to <- anchorMissingDesc
}

// Collect implements prometheus.Collector.
func (a anchorExpiry) Collect(to chan<- prometheus.Metric) {
	for _, set := range a.file.current.Load().Sets() {
		to <- prometheus.MustNewConstMetric(anchorMissingDesc, prometheus.GaugeValue, float64(len(set.Missing)), set.Name)
		if len(set.Certificates) == 0 {
			continue
		}
		var ends []time.Time
		for _, c := range set.Certificates {
			ends = append(ends, c.NotAfter)
		}
		first := slices.MinFunc(ends, func(a, b time.Time) int { return cmp.Compare(a.Unix(), b.Unix()) })
		to <- prometheus.MustNewConstMetric(anchorExpiryDesc, prometheus.GaugeValue, float64(first.Unix()), set.Name)
	}
}
