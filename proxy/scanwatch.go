package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"math/big"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// ScanSummary counts what a scan found.
type ScanSummary struct {
	Images    int             // that were looked at
	Verdicts  map[Verdict]int // how many of them
	Actions   map[Action]int  // likewise, None included
	Refused   map[string]int  // by the reason's code
	Undecided map[string]int  // likewise
}

// Add counts a finding.
func (s *ScanSummary) Add(f Finding) {
	count := func(m *map[string]int, code string) {
		if *m == nil {
			*m = map[string]int{}
		}
		(*m)[code]++
	}
	if s.Verdicts == nil {
		s.Verdicts, s.Actions = map[Verdict]int{}, map[Action]int{}
	}
	s.Images++
	s.Verdicts[f.Verdict]++
	s.Actions[f.Action]++
	switch f.Verdict {
	case Refused:
		count(&s.Refused, f.Reason.Code)
	case Undecided:
		count(&s.Undecided, f.Reason.Code)
	}
}

// WatchImages scans again and again, with a pause between two scans that is the
// interval, a tenth more or less: replicas that start together shall not go on
// together. The first begins after a part of the interval. It returns when ctx
// ends.
func (p *Proxy) WatchImages(ctx context.Context, interval time.Duration, concurrency int) {
	for pause := random(interval / 10); ; pause = interval - interval/10 + random(interval/5) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		p.scanOnce(ctx, concurrency)
	}
}

// random is a duration from 0 to the limit.
func random(limit time.Duration) time.Duration {
	n, err := rand.Int(rand.Reader, big.NewInt(int64(limit)+1))
	if err != nil {
		return limit
	}
	return time.Duration(n.Int64())
}

func (p *Proxy) scanOnce(ctx context.Context, concurrency int) {
	begun := time.Now()
	var summary ScanSummary
	err := Scan{Concurrency: concurrency, Report: func(f Finding) {
		summary.Add(f)
		p.logFinding(f)
	}}.Run(ctx, p)
	if ctx.Err() != nil {
		return
	}
	line := p.Log.Info()
	var refused *Refusal
	switch {
	case errors.As(err, &refused) && refused.Err != nil:
		line = p.Log.Error().Err(refused.Err)
	case err != nil:
		line = p.Log.Error().Err(err)
	default:
		p.Metrics.scanned(summary)
	}
	line.Int("images", summary.Images).Int("vouched", summary.Verdicts[Vouched]).Int("verified", summary.Verdicts[Verified]).
		Int("refused", summary.Verdicts[Refused]).Int("undecided", summary.Verdicts[Undecided]).
		Int("receipts", summary.Actions[Certified]).Int("deactivated", summary.Actions[Deactivated]).Int("deleted", summary.Actions[Deleted]).
		Int("failed", summary.Actions[Failed]).Dur("ms", time.Since(begun)).Msg("scanned")
}

// logFinding writes one event about an image that is not as it should be, or was
// changed.
func (p *Proxy) logFinding(f Finding) {
	line := p.Log.Warn()
	switch {
	case f.Action == Failed:
		line = p.Log.Error()
	case f.Reason == nil && f.Action == None:
		return
	case f.Reason == nil:
		line = p.Log.Info()
	}
	line = line.Str("image", f.ID).Str("project", f.Owner).Str("verdict", string(f.Verdict)).Str("action", string(f.Action))
	if f.Rule != nil {
		line = line.Str("rule", f.Rule.Name)
	}
	if f.Signer != "" {
		line = line.Str("signer", f.Signer)
	}
	if f.Note != "" {
		line = line.Str("note", f.Note)
	}
	if f.Reason != nil {
		line = line.Str("reason", f.Reason.Code).AnErr("error", f.Reason.Err).Str("problem", f.Reason.Error())
	}
	line.Msg("scan: image " + string(f.Verdict))
}

// scanMetrics tell of the last scan that looked at all images.
type scanMetrics struct {
	images *prometheus.GaugeVec
	ended  prometheus.Gauge
}

func newScanMetrics(r prometheus.Registerer) scanMetrics {
	m := scanMetrics{
		images: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "countersign_scan_images",
			Help: "Images under rules that enforce which the last complete scan of serve's looked at, by what it found: vouched, verified, refused or undecided."},
			[]string{"verdict"}),
		ended: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "countersign_scan_completed_timestamp_seconds",
			Help: "When serve's last complete scan ended, as Unix time; 0 if none has."}),
	}
	r.MustRegister(m.images, m.ended)
	return m
}

// scanned takes what a complete scan found.
func (m *Metrics) scanned(s ScanSummary) {
	if m == nil {
		return
	}
	for _, verdict := range []Verdict{Vouched, Verified, Refused, Undecided} {
		m.scans.images.WithLabelValues(string(verdict)).Set(float64(s.Verdicts[verdict]))
	}
	m.scans.ended.SetToCurrentTime()
}
