package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/countersign/countersign/config"
	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy/keystone"
)

// policyFile is the policy in force. It is swapped whole: a request sees the
// old one or the new one. Whoever opens it owns the goroutine that watches.
type policyFile struct {
	current atomic.Pointer[policy.Policy]
	path    string
	names   projectNames
	anchors anchorSource // nil: no key manager
	log     zerolog.Logger

	// Owned by the watching goroutine after open:
	seen     [sha256.Size]byte
	found    os.FileInfo       // of the file that held that, if this tells it from any other
	read     time.Time         // when it was read through
	material [sha256.Size]byte // of what trust sets name outside of the file
	on       []*policy.Rule    // break-glass rules that were on when last looked at

	failed atomic.Pointer[error]
	loads  atomic.Int64
	fails  atomic.Int64

	inForce atomic.Pointer[generation]
}

// generation is a policy that came into force.
type generation struct {
	sum   string // SHA-256 of the file, in hex
	since time.Time
}

// projectNames turns a project's name into its id.
type projectNames interface {
	ProjectID(ctx context.Context, name, domain string) (string, error)
}

// openPolicy reads the policy, and goes on looking at the file until ctx ends:
// a ConfigMap's symbolic links are swapped, so the content is compared and not
// the time. A file that is set but cannot be read, or is wrong, is an error now;
// later the last good one stays in force.
//
// The same goes for what trust sets name: files are looked at as often, and
// anchors, which may be nil, tell when theirs change. Of that nothing is an
// error: a set without its certificates vouches for nobody.
func openPolicy(ctx context.Context, cfg config.Config, names projectNames, anchors anchorSource, log zerolog.Logger) (*policyFile, error) {
	f := &policyFile{path: cfg.PolicyFile, names: names, anchors: anchors, log: log}
	if f.path == "" {
		f.current.Store(policy.Default())
		log.Warn().Msg("no policy is set (COUNTERSIGN_POLICY_FILE): every upload is audited, none is refused")
		return f, nil
	}
	data, err := os.ReadFile(f.path)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if err := f.load(ctx, data); err != nil {
		return nil, fmt.Errorf("policy %s: %w", f.path, err)
	}
	go f.watch(ctx, cfg.PolicyInterval, cfg.ProjectRefresh)
	return f, nil
}

// For implements proxy.Policies.
func (f *policyFile) For(s policy.Subject) (*policy.Rule, error) { return f.current.Load().For(s) }

// Enforcing implements proxy.Policies.
func (f *policyFile) Enforcing() bool { return f.current.Load().Enforcing() }

// LooksAtVisibility implements proxy.Policies.
func (f *policyFile) LooksAtVisibility() bool { return f.current.Load().LooksAtVisibility() }

// GuardsDownloads implements proxy.Policies.
func (f *policyFile) GuardsDownloads() policy.Mode { return f.current.Load().GuardsDownloads() }

func (f *policyFile) load(ctx context.Context, data []byte) error {
	f.seen = sha256.Sum256(data)
	p, err := policy.Load(bytes.NewReader(data))
	if err != nil {
		return err
	}
	if f.anchors != nil {
		fetching, done := context.WithTimeout(ctx, anchorsAtOnce)
		f.anchors.Load(fetching, p.Needs().Certificates)
		done()
	}
	f.current.Store(f.resolve(ctx, f.equip(p, f.gather(p))))
	f.loads.Add(1)
	f.failed.Store(nil)
	f.inForce.Store(&generation{hex.EncodeToString(f.seen[:]), time.Now()})
	f.log.Info().Str("file", f.path).Int("rules", p.Len()).Hex("sha256", f.seen[:]).Msg("policy in force")
	f.breakGlass(true)
	f.expiring()
	return nil
}

// breakGlass tells of the break-glass rules that are on, and once of each that
// ended, or was taken away, since the last time.
func (f *policyFile) breakGlass(again bool) {
	var on []*policy.Rule
	now := time.Now()
	for _, r := range f.current.Load().BreakGlass() {
		named := func(other *policy.Rule) bool { return other.Name == r.Name }
		switch {
		case !r.Over(now):
			on = append(on, r)
			if again {
				f.log.Error().Str("rule", r.Name).Str("mode", string(r.Mode)).Time("until", r.Until).Str("owner", r.Sponsor).Str("cause", r.Reason).
					Msg("a break-glass rule is on: it loosens what the rules after it demand")
			}
		case again && !slices.ContainsFunc(f.on, named):
			f.log.Warn().Str("rule", r.Name).Time("until", r.Until).Msg("a break-glass rule of the policy is over and matches nobody: remove it")
		}
	}
	for _, r := range f.on {
		if !slices.ContainsFunc(on, func(other *policy.Rule) bool { return other.Name == r.Name }) {
			f.log.Error().Str("rule", r.Name).Time("until", r.Until).Str("owner", r.Sponsor).
				Msg("a break-glass rule has ended: the rules after it count again")
		}
	}
	f.on = on
}

// watch ends with ctx.
func (f *policyFile) watch(ctx context.Context, interval, refresh time.Duration) {
	look, names := time.NewTicker(interval), time.NewTicker(refresh)
	defer look.Stop()
	defer names.Stop()
	unknown := time.NewTicker(unknownRetry) // names that Keystone could not be asked about keep uploads out
	defer unknown.Stop()
	remind := time.NewTicker(breakGlassReminder)
	defer remind.Stop()
	expiry := time.NewTicker(expiryReminder)
	defer expiry.Stop()
	var changes <-chan struct{}
	if f.anchors != nil {
		changes = f.anchors.Changes()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
			f.look(ctx)
			f.refresh()
			f.breakGlass(false)
		case <-changes:
			f.refresh()
		case <-expiry.C:
			f.expiring()
		case <-remind.C:
			f.breakGlass(true)
		case <-names.C:
			f.current.Store(f.resolve(ctx, f.current.Load()))
		case <-unknown.C:
			if p := f.current.Load(); p.Undecided() {
				f.current.Store(f.resolve(ctx, p))
			}
		}
	}
}

const (
	unknownRetry  = 5 * time.Second
	resolveAtOnce = 10 * time.Second

	// breakGlassReminder is how often the log tells of a break-glass rule.
	breakGlassReminder = 5 * time.Minute
)

const (
	// settled is how long a file must have been left alone for its times to tell that
	// it was not written since: they are no finer than two seconds on some disks.
	settled = 3 * time.Second
	// readAgain is how often it is read although they say so, in case they lie.
	readAgain = time.Minute
)

// look reads a changed policy. One that was not is not even read, as that costs what
// a large one has in memory and hashing, every two seconds.
func (f *policyFile) look(ctx context.Context) {
	now := time.Now()
	if info, err := statOpened(f.path); err == nil && f.found != nil && unchanged(f.found, info) && now.Sub(f.read) < readAgain {
		return
	}
	f.found = nil
	info, sum, err := sumOf(f.path)
	var data []byte
	if err == nil && sum != f.seen {
		data, err = os.ReadFile(f.path)
	}
	switch {
	case err != nil:
		f.seen = [sha256.Size]byte{} // so that what is there next counts, were it the same
		f.keep(err)
	case data != nil:
		if err := f.load(ctx, data); err != nil {
			f.keep(err)
		}
	default:
		f.read = now
		if at, known := changed(info); known && now.Sub(at) >= settled {
			f.found = info
		}
	}
}

// statOpened looks at a file as who opens it sees it: network file systems ask their
// server then.
func statOpened(path string) (os.FileInfo, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return file.Stat()
}

// sumOf reads a file through, and holds little of it. What it tells of the file is
// from before that.
func sumOf(path string) (info os.FileInfo, sum [sha256.Size]byte, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, sum, err
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		return nil, sum, err
	}
	hash := sha256.New()
	if _, err = io.CopyBuffer(hash, struct{ io.Reader }{file}, make([]byte, 32<<10)); err != nil {
		return nil, sum, err
	}
	hash.Sum(sum[:0])
	return info, sum, nil
}

// unchanged reports whether a file is the very one that before tells of, and not
// written since.
func unchanged(before, now os.FileInfo) bool {
	then, _ := changed(before)
	at, known := changed(now)
	return known && at.Equal(then) && os.SameFile(before, now) && before.Size() == now.Size() && before.ModTime().Equal(now.ModTime())
}

// keep goes on with the last good policy, loudly.
func (f *policyFile) keep(err error) {
	if before := f.failed.Swap(&err); before == nil || (*before).Error() != err.Error() {
		f.fails.Add(1)
		f.log.Error().Err(err).Str("file", f.path).Msg("the policy file is wrong: the last good policy stays in force")
	}
}

// problem is why the policy in force is not the one in the file, or nil.
func (f *policyFile) problem() error {
	if failed := f.failed.Load(); failed != nil {
		return *failed
	}
	return nil
}

// measure registers what operators watch.
func (f *policyFile) measure(registry prometheus.Registerer) {
	registry.MustRegister(
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "countersign_policy_loads_total", Help: "Policies that came into force since the start."},
			func() float64 { return float64(f.loads.Load()) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "countersign_policy_failures_total", Help: "Policies that were wrong, so that the one before stayed in force."},
			func() float64 { return float64(f.fails.Load()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "countersign_policy_current", Help: "1 if the policy in force is the one in the file."},
			func() float64 {
				if f.problem() != nil {
					return 0
				}
				return 1
			}),
		breakGlassGauge{f}, policyInForce{f}, anchorExpiry{f})
}

// breakGlassGauge tells of each break-glass rule in the policy whether it is on.
type breakGlassGauge struct{ file *policyFile }

var breakGlassDesc = prometheus.NewDesc("countersign_break_glass",
	"1 while a break-glass rule of the policy is on, 0 once it is over, by the rule's name.", []string{"rule"}, nil)

// Describe implements prometheus.Collector.
func (g breakGlassGauge) Describe(to chan<- *prometheus.Desc) { to <- breakGlassDesc }

// Collect implements prometheus.Collector.
func (g breakGlassGauge) Collect(to chan<- prometheus.Metric) {
	now := time.Now()
	for _, r := range g.file.current.Load().BreakGlass() {
		on := 1.0
		if r.Over(now) {
			on = 0
		}
		to <- prometheus.MustNewConstMetric(breakGlassDesc, prometheus.GaugeValue, on, r.Name)
	}
}

// policyInForce tells which policy that is, so that replicas can be compared.
type policyInForce struct{ file *policyFile }

var (
	policyInfo = prometheus.NewDesc("countersign_policy_info",
		"1, with the SHA-256 of the policy file in force; absent for the built-in policy.", []string{"sha256"}, nil)
	policyLoaded = prometheus.NewDesc("countersign_policy_loaded_timestamp_seconds",
		"When the policy in force was read, as Unix time; absent for the built-in policy.", nil, nil)
)

// Describe implements prometheus.Collector.
func (p policyInForce) Describe(c chan<- *prometheus.Desc) {
	c <- policyInfo
	c <- policyLoaded
}

// Collect implements prometheus.Collector.
func (p policyInForce) Collect(c chan<- prometheus.Metric) {
	if now := p.file.inForce.Load(); now != nil {
		c <- prometheus.MustNewConstMetric(policyInfo, prometheus.GaugeValue, 1, now.sum)
		c <- prometheus.MustNewConstMetric(policyLoaded, prometheus.GaugeValue, float64(now.since.UnixMilli())/1000)
	}
}

// resolve asks Keystone which projects the policy's names mean. What it cannot
// answer keeps what is known from before: a project does not change its id.
func (f *policyFile) resolve(ctx context.Context, p *policy.Policy) *policy.Policy {
	ctx, cancel := context.WithTimeout(ctx, resolveAtOnce)
	defer cancel()
	ids := map[policy.Project]policy.Resolution{}
	for _, project := range p.Names() {
		id, err := f.names.ProjectID(ctx, project.Name, project.Domain)
		switch {
		case err == nil:
			ids[project] = policy.Resolution{State: policy.Found, ID: id}
		case errors.Is(err, keystone.ErrNoProject):
			ids[project] = policy.Resolution{State: policy.Absent}
		default:
			ids[project] = f.known(project)
			f.log.Error().Err(err).Str("project", project.Name).Str("domain", project.Domain).
				Msg("Keystone cannot be asked for a project of the policy; list it by id to be independent of that")
		}
	}
	resolved := p.Resolve(ids)
	for _, warning := range resolved.Warnings() {
		f.log.Warn().Str("file", f.path).Msg("policy: " + warning)
	}
	return resolved
}

// known is the id that was found before. That there was none is not kept: a
// project of the name may have been created since.
func (f *policyFile) known(project policy.Project) policy.Resolution {
	if p := f.current.Load(); p != nil {
		if before := p.Resolution(project); before.State == policy.Found {
			return before
		}
	}
	return policy.Resolution{}
}
