package main

import (
	"bytes"
	"context"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"github.com/countersign/countersign/config"
	"github.com/countersign/countersign/proxy"
)

// admin answers what operators and their machines ask, on a listener of its
// own: /livez, /readyz and /metrics. It shows no secret, but it shows rules'
// and neighbours' names, so it listens on loopback, or asks for a token, unless
// told otherwise.
type admin struct {
	policies   *policyFile
	proxy      *proxy.Proxy
	identities interface{ Status(context.Context) error }
	metrics    *proxy.Metrics
	registry   *prometheus.Registry
	keys       *certificates
	receipts   *receiptKeys
	tokenFile  string // or config.None; empty: as the listener's address says
	stopping   *atomic.Bool
}

// newRegistry has the metrics of the process itself.
func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	measureBuild(registry)
	return registry
}

func measureBuild(registry prometheus.Registerer) {
	built := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "countersign_build_info", Help: "1, with the version that runs."},
		[]string{"version", "go"})
	built.WithLabelValues(version, runtime.Version()).Set(1)
	registry.MustRegister(built)
}

// readyTimeout bounds one answer of /readyz.
const readyTimeout = 3 * time.Second

// readiness is the body of /readyz: what was looked at, and "ok" or why not.
type readiness struct {
	Ready bool `json:"ready"`

	// Checks decide about Ready.
	Checks map[string]string `json:"checks,omitempty"`

	// Details do not: what is wrong here costs some uploads an answer of 503,
	// and nothing else.
	Details map[string]string `json:"details,omitempty"`
}

func (a *admin) ready(ctx context.Context) readiness {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	r := readiness{Ready: true, Checks: map[string]string{}, Details: map[string]string{}}
	check := func(name string, err error, decides bool) {
		text := "ok"
		if err != nil {
			text = err.Error()
			r.Ready = r.Ready && !decides
		}
		if decides {
			r.Checks[name] = text
		} else {
			r.Details[name] = text
		}
	}
	credential := a.tryCredential(ctx)
	// Where nothing is enforced, nothing waits for these.
	enforcing := a.policies.Enforcing()
	check("service_credential", credential, enforcing)
	check("glance", a.proxy.Trusted(), enforcing)
	check("policy", a.policies.problem(), false)
	check("key_manager", a.keys.problem(), false)
	check("receipt_keys", a.receipts.problem(), false)
	if a.stopping.Load() {
		r.Ready, r.Checks["shutdown"] = false, "in progress"
	}
	return r
}

// tryCredential asks Keystone only when there is no token that still counts.
func (a *admin) tryCredential(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	err := a.identities.Status(ctx)
	a.metrics.ServiceCredential(err == nil)
	return err
}

// handler answers on a listener that is on loopback, or not.
func (a *admin) handler(loopback bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		answer := a.ready(r.Context())
		w.Header().Set("Content-Type", "application/json")
		if !answer.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		if a.admits(r, loopback) != nil {
			answer.Checks, answer.Details = nil, nil
		}
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		encoder.Encode(answer)
	})
	shown := promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		if err := a.admits(r, loopback); err != nil {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, err.Error(), http.StatusUnauthorized)
			return
		}
		a.tryCredential(r.Context())
		shown.ServeHTTP(w, r)
	})
	return mux
}

// admits is nil if whoever asks may see more than whether we are alive and
// ready. The token is read each time, so that a new one counts at once.
func (a *admin) admits(r *http.Request, loopback bool) error {
	switch {
	case a.tokenFile == config.None, a.tokenFile == "" && loopback:
		return nil
	case a.tokenFile == "":
		return errors.New("set COUNTERSIGN_ADMIN_TOKEN_FILE, or have COUNTERSIGN_ADMIN_LISTEN on loopback")
	}
	data, err := os.ReadFile(a.tokenFile)
	want := bytes.TrimRight(data, "\r\n")
	if err != nil || len(want) == 0 {
		return errors.New("the file with the token cannot be read")
	}
	got, isBearer := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !isBearer || subtle.ConstantTimeCompare([]byte(got), want) != 1 {
		return errors.New("this wants the token of COUNTERSIGN_ADMIN_TOKEN_FILE as Authorization: Bearer")
	}
	return nil
}

// serve listens until ctx ends; the returned func waits for that.
func (a *admin) serve(ctx context.Context, cfg config.Config, log zerolog.Logger) (wait func(), err error) {
	if cfg.AdminListen == config.Off {
		return func() {}, nil
	}
	listener, err := net.Listen("tcp", cfg.AdminListen)
	if err != nil {
		return nil, err
	}
	at, isTCP := listener.Addr().(*net.TCPAddr)
	loopback := isTCP && at.IP.IsLoopback()
	server := &http.Server{Handler: a.handler(loopback), ReadTimeout: 10 * time.Second, ErrorLog: newServerLog(log)}
	done := make(chan struct{})
	go func() { // ends with ctx
		defer close(done)
		server.Serve(listener)
	}()
	context.AfterFunc(ctx, func() { server.Close() })
	if !loopback && a.tokenFile == "" {
		log.Warn().Msg("the admin listener is not on loopback and no token is set: /metrics is closed (COUNTERSIGN_ADMIN_TOKEN_FILE)")
	}
	log.Info().Str("admin", listener.Addr().String()).Msg("serving /livez, /readyz and /metrics")
	return func() { <-done }, nil
}
