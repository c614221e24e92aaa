package main

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/countersign/countersign/config"
	"github.com/countersign/countersign/proxy"
	"github.com/countersign/countersign/proxy/downstream"
	"github.com/countersign/countersign/proxy/keystone"
	"github.com/countersign/countersign/proxy/upstream"
)

func newServe() *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Run the proxy",
		Long: `Run the proxy. It is configured by environment variables; the README has the
table. COUNTERSIGN_GLANCE_URL is the only one that is required, and OS_* (or
OS_CLOUD) name the service credential, without which nothing can be enforced.

On SIGTERM it stops accepting, lets running uploads finish for
COUNTERSIGN_SHUTDOWN_TIMEOUT and cuts the rest: an upload that is cut leaves its
image queued. A second SIGTERM ends it at once. "countersign config" shows what it
would run with.`,
		Example: `  COUNTERSIGN_GLANCE_URL=http://glance.internal:9292 \
  COUNTERSIGN_POLICY_FILE=/etc/countersign/policy.yaml \
  OS_CLOUD=countersign countersign serve`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := config.Load(config.Environ())
			if err != nil {
				return err
			}
			return serve(cmd.Context(), cfg, newLog(cfg))
		},
	}
}

// newLog returns the log of the whole process: one JSON object a line, on
// stderr.
func newLog(cfg config.Config) zerolog.Logger {
	zerolog.TimeFieldFormat = time.RFC3339Nano
	level, _ := zerolog.ParseLevel(cfg.LogLevel) // config has checked it
	log := zerolog.New(os.Stderr)
	if cfg.LogFormat == "console" {
		log = zerolog.New(zerolog.ConsoleWriter{Out: os.Stderr, TimeFormat: time.TimeOnly})
	}
	return log.Level(level).With().Timestamp().Logger()
}

// serve runs the proxy until ctx ends, and then as long as running uploads may
// take to finish.
func serve(ctx context.Context, cfg config.Config, log zerolog.Logger) error {
	background, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()

	audit, err := openAudit(cfg, log)
	if err != nil {
		return err
	}
	defer audit.close()
	registry := newRegistry()
	audit.measure(registry)
	metrics := proxy.NewMetrics(registry)
	identities := newKeystone(cfg, metrics)
	keys := newCertificates(cfg, identities)
	keys.metrics = metrics
	policies, err := openPolicy(background, cfg, identities, keys.anchors, log)
	if err != nil {
		return err
	}
	receipts, err := openReceiptKeys(background, cfg, log)
	if err != nil {
		return err
	}
	policies.measure(registry)
	keys.measure(registry)
	go tendMemory(background)    // ends with background
	go keys.run(background, log) // likewise
	measureTLS(registry, &cfg)
	receipts.measure(registry)
	stopping := new(atomic.Bool)
	dialer := glanceDialer{&cfg}
	handler := proxy.New(proxy.Config{
		Glance:         cfg.GlanceURL,
		Transport:      newTransport(dialer),
		Dial:           dialer.dial,
		Policies:       policies,
		Certificates:   keys,
		Identities:     identities,
		Receipts:       receipts,
		GlanceVerifies: cfg.GlanceVerifies,
		PropertyQuota:  cfg.GlancePropertyQuota,

		AuthURL:       cfg.Service.AuthOptions.IdentityEndpoint,
		PublicURL:     cfg.PublicURL,
		ExtraGET:      cfg.ExtraGetRoutes,
		SettleTimeout: cfg.SettleTimeout,
		StallTimeout:  cfg.StallTimeout,
		LingerTimeout: cfg.LingerTimeout,
		MaxBody:       int64(cfg.MaxBody),
		Unfit:         func() string { return unfit(cfg, stopping.Load()) },
		Audit:         audit,
		Observer:      observer(),
		Metrics:       metrics,
		Log:           log,
	})
	// Bound first: who sees the admin listener answer may use this one.
	listener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return err
	}
	probing, probed := context.WithTimeout(background, firstProbe)
	_ = handler.Probe(probing) // Watch says what is wrong
	probed()
	go handler.Watch(background, cfg.ProbeInterval) // ends with background
	if cfg.ScanInterval > 0 {
		go handler.WatchImages(background, cfg.ScanInterval, cfg.ScanConcurrency) // likewise
	}
	admin := &admin{policies: policies, proxy: handler, identities: identities, metrics: metrics, registry: registry, keys: keys, receipts: receipts, stopping: stopping,
		tokenFile: cfg.AdminTokenFile}
	adminDone, err := admin.serve(background, cfg, log)
	if err != nil {
		listener.Close()
		return err
	}
	defer adminDone()
	defer stop()
	server := newServer(cfg, handler, log)

	log.Info().Str("listen", listener.Addr().String()).Str("glance", cfg.GlanceURL.String()).Bool("tls", cfg.ServerTLS != nil).
		Str("service_credential", cfg.Service.String()).Str("version", version).Msg("serving")
	err = identities.Status(background)
	metrics.ServiceCredential(err == nil)
	if !cfg.Service.Configured {
		log.Error().Msg("no service credential is configured (OS_*): uploads that the policy enforces will be answered 503")
	} else if err != nil {
		log.Error().Err(err).Msg("the service credential does not work: uploads that the policy enforces are answered 503 until it does")
	}
	if err := receipts.problem(); err != nil && policies.Enforcing() {
		log.Warn().Err(err).Msg("receipts are not written")
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }() // ends when the server is shut down or closed
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	stopping.Store(true)
	return shutDown(background, cfg, server, handler, log)
}

// server is what serves clients.
type server interface {
	Serve(net.Listener) error
	Shutdown(context.Context) error
	Close() error
}

// How long clients may take, and how much they may say before they are known.
const (
	headTimeout = 30 * time.Second
	idleTimeout = 2 * time.Minute
	maxHeader   = 64 << 10 // bytes
)

// newServer serves plain connections by what we have of our own, and through TLS by
// net/http's server.
func newServer(cfg config.Config, handler http.Handler, log zerolog.Logger) server {
	if cfg.ServerTLS == nil {
		return plainServer{&downstream.Server{Handler: handler, ReadHeaderTimeout: headTimeout, IdleTimeout: idleTimeout,
			MaxHeaderBytes: maxHeader, Log: newServerLog(log).Printf}}
	}
	server := &http.Server{
		Handler:           handler,
		TLSConfig:         cfg.ServerTLS,
		ReadHeaderTimeout: headTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		Protocols:         new(http.Protocols),
		ErrorLog:          newServerLog(log),
	}
	server.Protocols.SetHTTP1(true) // what Glance's clients speak; framing is understood in one dialect only
	return secureServer{server}
}

// plainServer has the kernel move what may be moved.
type plainServer struct{ *downstream.Server }

func (s plainServer) Serve(l net.Listener) error {
	return s.Server.Serve(upstream.Listener{Listener: l})
}

type secureServer struct{ *http.Server }

func (s secureServer) Serve(l net.Listener) error { return s.ServeTLS(l, "", "") }

// observer is the name of this host, or of the pod.
func observer() string {
	name, err := os.Hostname()
	if err != nil {
		return "countersign"
	}
	return name
}

// unfit tells load balancers why they shall send nobody, in the words of
// oslo.middleware's healthcheck where it has some.
func unfit(cfg config.Config, stopping bool) string {
	if stopping {
		return "SHUTTING DOWN"
	}
	if cfg.HealthcheckDisableFile != "" {
		if _, err := os.Stat(cfg.HealthcheckDisableFile); err == nil {
			return "DISABLED BY FILE"
		}
	}
	return ""
}

// firstProbe is how long a start waits for Glance, so that the first upload is
// not answered 503 for want of a probe.
const firstProbe = 2 * time.Second

// shutDown stops accepting, waits for running uploads and cuts those that take
// too long, unfinished: Glance puts their images back to queued.
func shutDown(ctx context.Context, cfg config.Config, server server, handler *proxy.Proxy, log zerolog.Logger) error {
	log.Info().Dur("delay", cfg.ShutdownDelay).Dur("timeout", cfg.ShutdownTimeout).Msg("shutting down")
	time.Sleep(cfg.ShutdownDelay) // goes on serving
	patience, done := context.WithTimeout(ctx, cfg.ShutdownTimeout)
	defer done()
	err := server.Shutdown(patience)
	if errors.Is(err, context.DeadlineExceeded) {
		log.Warn().Msg("uploads are still running: they are cut, their images stay queued")
		err = server.Close()
	}
	wait, waited := context.WithTimeout(ctx, cfg.SettleTimeout)
	defer waited()
	if handler.Wait(wait) != nil {
		log.Error().Msg("cleaning up after cut uploads took too long")
	}
	log.Info().Msg("stopped")
	return err
}

// glanceDialer opens connections to Glance.
type glanceDialer struct{ cfg *config.Config }

const dialTimeout = 10 * time.Second

func (d glanceDialer) plain(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext(ctx, network, address)
	if err == nil {
		upstream.Unpace(conn)
	}
	return conn, err
}

func (d glanceDialer) secure(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return (&tls.Dialer{Config: d.cfg.GlanceTLSNow()}).DialContext(ctx, network, address)
}

// dial opens the kind of connection that Glance's URL says.
func (d glanceDialer) dial(ctx context.Context) (net.Conn, error) {
	glance := d.cfg.GlanceURL
	port := glance.Port()
	switch {
	case glance.Scheme == "https" && port == "":
		port = "443"
	case port == "":
		port = "80"
	}
	address := net.JoinHostPort(glance.Hostname(), port)
	if glance.Scheme == "https" {
		return d.secure(ctx, "tcp", address)
	}
	return d.plain(ctx, "tcp", address)
}

// newTransport carries what is not image data: through plain connections of our
// own, or through TLS as net/http does it.
func newTransport(dialer glanceDialer) http.RoundTripper {
	if dialer.cfg.GlanceURL.Scheme == "http" {
		return &upstream.Client{Dial: dialer.dial}
	}
	return &http.Transport{
		Proxy:                 nil, // nothing may stand between
		DialTLSContext:        dialer.secure,
		DisableCompression:    true, // bodies pass as they are
		MaxIdleConnsPerHost:   1024,
		IdleConnTimeout:       30 * time.Second,
		WriteBufferSize:       64 << 10,
		ReadBufferSize:        64 << 10,
		ResponseHeaderTimeout: 0, // a listing may take as long as the database does
	}
}

// newKeystone returns a client that works once Keystone does.
func newKeystone(cfg config.Config, metrics *proxy.Metrics) *keystone.Client {
	client := newClient(cfg)
	client.Transport = metrics.Upstream(proxy.ServiceKeystone, client.Transport)
	return keystone.New(keystone.Config{
		AuthOptions:  cfg.Service.AuthOptions,
		EndpointOpts: cfg.Service.EndpointOpts,
		HTTPClient:   client,
	})
}

// newClient speaks to Keystone and what its catalog names.
func newClient(cfg config.Config) *http.Client {
	return &http.Client{Transport: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second}).DialContext,
		TLSClientConfig:     cfg.Service.TLS,
		TLSHandshakeTimeout: 5 * time.Second,
		MaxIdleConnsPerHost: 32,
		IdleConnTimeout:     30 * time.Second,
	}}
}
