package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/countersign/countersign/config"
)

// auditTrail hands each event to the sinks that are configured. Whoever opens it
// closes it, and so ends the goroutine of each sink.
type auditTrail struct{ sinks []*auditSink }

const (
	// auditQueue is how many events wait for a sink, a kilobyte each. What comes
	// on top is lost, and counted: an upload waits for nobody's audit.
	auditQueue = 10_000
	// auditFlush bounds how long the end waits for what is queued.
	auditFlush = 10 * time.Second
	// auditTimeout bounds one event's way to the webhook.
	auditTimeout = 10 * time.Second
)

// auditBackoff is the pause after a first failure; it doubles up to the second.
var auditBackoff = [2]time.Duration{time.Second, 30 * time.Second}

// openAudit opens the file, which has to be writable now. There may be no sink.
func openAudit(cfg config.Config, log zerolog.Logger) (*auditTrail, error) {
	trail := new(auditTrail)
	if cfg.AuditFile != "" {
		file := &auditFile{path: cfg.AuditFile}
		if err := file.reopen(); err != nil {
			return nil, fmt.Errorf("audit trail: %w", err)
		}
		trail.sinks = append(trail.sinks, newAuditSink("file", file.write, log))
	}
	if cfg.AuditURL != nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.TLSClientConfig = cfg.AuditTLSNow() // behind a forward proxy alone, where the issuers stay those of the start
		transport.DialTLSContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			ctx, cancel := context.WithTimeout(ctx, auditTimeout)
			defer cancel()
			return (&tls.Dialer{Config: cfg.AuditTLSNow()}).DialContext(ctx, network, address)
		}
		hook := &auditHook{url: cfg.AuditURL.String(), tokenFile: cfg.AuditTokenFile, client: &http.Client{
			Transport:     transport,
			Timeout:       auditTimeout,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}}
		trail.sinks = append(trail.sinks, newAuditSink("webhook", hook.post, log))
	}
	return trail, nil
}

// Record implements proxy.Audit.
func (a *auditTrail) Record(event []byte) {
	for _, sink := range a.sinks {
		sink.record(event)
	}
}

// close waits for what is queued, for auditFlush at most.
func (a *auditTrail) close() {
	patience, done := context.WithTimeout(context.Background(), auditFlush)
	defer done()
	for _, sink := range a.sinks {
		sink.close(patience)
	}
}

// measure registers what operators watch.
func (a *auditTrail) measure(registry prometheus.Registerer) {
	for _, sink := range a.sinks {
		for result, count := range map[string]*atomic.Int64{"written": &sink.written, "lost": &sink.lost} {
			registry.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "countersign_audit_events_total",
				Help:        "Events of the audit trail, by the sink (file or webhook) and what became of them: written or lost.",
				ConstLabels: prometheus.Labels{"sink": sink.name, "result": result}},
				func() float64 { return float64(count.Load()) }))
		}
		registry.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "countersign_audit_events_waiting",
			Help:        fmt.Sprintf("Events of the audit trail that wait for a sink; beyond %d they are lost.", auditQueue),
			ConstLabels: prometheus.Labels{"sink": sink.name}},
			func() float64 { return float64(len(sink.queue)) }))
	}
}

// auditSink takes events one after the other, tries each until it is written,
// refused for good, or the sink is closed.
type auditSink struct {
	name  string
	write func(ctx context.Context, event []byte) error
	log   zerolog.Logger

	queue         chan []byte
	closed        chan struct{}
	done          chan struct{}
	ctx           context.Context // ends when patience with what is queued does
	cancel        context.CancelFunc
	written, lost atomic.Int64
}

// refusedError is an answer that no further try would change.
type refusedError struct{ error }

func newAuditSink(name string, write func(context.Context, []byte) error, log zerolog.Logger) *auditSink {
	s := &auditSink{name: name, write: write, log: log.With().Str("sink", name).Logger(),
		queue: make(chan []byte, auditQueue), closed: make(chan struct{}), done: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	go s.run() // ends after close
	return s
}

func (s *auditSink) record(event []byte) {
	select {
	case s.queue <- event:
	default:
		if s.lost.Add(1) == 1 {
			s.log.Error().Msg("the audit trail loses events: its sink is too slow or away")
		}
	}
}

func (s *auditSink) run() {
	defer close(s.done)
	for {
		select {
		case event := <-s.queue:
			s.deliver(event)
			continue
		default:
		}
		select {
		case event := <-s.queue:
			s.deliver(event)
		case <-s.closed:
			if len(s.queue) == 0 {
				return
			}
		}
	}
}

func (s *auditSink) deliver(event []byte) {
	failing := false
	for pause := auditBackoff[0]; ; pause = min(2*pause, auditBackoff[1]) {
		err := s.ctx.Err()
		if err == nil {
			err = s.write(s.ctx, event)
		}
		var refused *refusedError
		switch {
		case err == nil:
			s.written.Add(1)
			if failing {
				s.log.Info().Msg("the audit trail is written again")
			}
			return
		case s.ctx.Err() != nil:
			s.lost.Add(1)
			return
		case errors.As(err, &refused):
			s.lost.Add(1)
			s.log.Error().Err(err).Msg("an event of the audit trail is lost")
			return
		case !failing:
			failing = true
			s.log.Error().Err(err).Msg("the audit trail cannot be written: events wait")
		}
		select {
		case <-s.ctx.Done():
		case <-time.After(pause):
		}
	}
}

// close lets what is queued be written until patience ends.
func (s *auditSink) close(patience context.Context) {
	defer s.cancel()
	defer context.AfterFunc(patience, s.cancel)()
	before := s.lost.Load()
	close(s.closed)
	<-s.done
	if lost := s.lost.Load() - before; lost > 0 {
		s.log.Error().Int64("events", lost).Msg("the audit trail has lost what was still to be written at the end")
	}
}

// auditFile appends lines to a file, which may be moved away at any time: the
// next line goes to a new one of the same name. Its sink's goroutine owns it.
type auditFile struct {
	path string
	file *os.File
	torn bool // the last line has no end
}

func (f *auditFile) reopen() error {
	file, err := os.OpenFile(f.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	if f.file != nil {
		f.file.Close() // nothing is buffered
	}
	f.file, f.torn = file, false
	return nil
}

func (f *auditFile) write(_ context.Context, event []byte) error {
	there, err := os.Stat(f.path)
	if err == nil {
		var ours os.FileInfo
		if ours, err = f.file.Stat(); err == nil && !os.SameFile(there, ours) {
			err = os.ErrNotExist
		}
	}
	if errors.Is(err, os.ErrNotExist) {
		err = f.reopen()
	}
	if err != nil {
		return err
	}
	line := append(bytes.Clone(event), '\n')
	if f.torn {
		line = append([]byte{'\n'}, line...)
	}
	n, err := f.file.Write(line)
	if n > 0 {
		f.torn = err != nil
	}
	return err
}

// auditHook posts each event to a URL.
type auditHook struct {
	url       string
	tokenFile string // may be empty; read each time, so that a new one counts at once
	client    *http.Client
}

func (h *auditHook) post(ctx context.Context, event []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, h.url, bytes.NewReader(event))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	if h.tokenFile != "" {
		token, err := os.ReadFile(h.tokenFile)
		if err != nil {
			return err
		}
		request.Header.Set("Authorization", "Bearer "+string(bytes.TrimRight(token, "\r\n")))
	}
	response, err := h.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	io.Copy(io.Discard, io.LimitReader(response.Body, 64<<10))
	switch status := response.StatusCode; {
	case status/100 == 2:
		return nil
	case status == http.StatusUnauthorized, status == http.StatusForbidden, status == http.StatusNotFound,
		status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		return fmt.Errorf("the webhook answers %d", status) // an operator can cure it
	default:
		return &refusedError{fmt.Errorf("the webhook answers %d", status)}
	}
}
