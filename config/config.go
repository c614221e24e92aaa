// Package config turns the environment into one Config, checked once at
// start.
//
// It promises that a Config it returns is usable: files were readable and
// parsed, URLs are absolute, numbers lie in their limits. It trusts the
// environment and the files named there. It refuses what it cannot read with
// certainty: every wrong value is named at once, and so is a COUNTERSIGN_
// variable nobody knows, because a misspelt one would silently weaken what
// the operator meant to demand.
//
//	cfg, err := config.Load(config.Environ())
//
// No other package reads the environment.
package config

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"os"
	"reflect"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// Prefix begins the name of every setting that is Countersign's own.
const Prefix = "COUNTERSIGN_"

// Off is the value that switches a listener off.
const Off = "off"

// None is the value that says that no token is wanted.
const None = "none"

// Config is everything the environment decides. Durations are written as Go
// writes them (90s, 10m). The help tags make the table in the README.
type Config struct {
	// Listen is host:port; an empty host means every address.
	Listen string `env:"LISTEN" envDefault:":9292" help:"Address and port to serve on."`

	// AdminListen is Off for no such listener. See AdminTokenFile.
	AdminListen string `env:"ADMIN_LISTEN" envDefault:"127.0.0.1:9293" help:"Address and port of /livez, /readyz and /metrics, or off."`
	// AdminTokenFile is None for an open listener. Empty: open on loopback,
	// closed but for whether it is alive and ready elsewhere.
	AdminTokenFile string `env:"ADMIN_TOKEN_FILE" help:"File with the bearer token that /metrics and the details of /readyz want, read at each request; or none: nobody is asked. Default: nobody is asked on a loopback address; on any other /metrics is closed, and /readyz tells no details."`

	// TLSCertFile and TLSKeyFile are PEM; both or none. Without them we
	// serve plain HTTP, for a load balancer or mesh in front.
	TLSCertFile string `env:"TLS_CERT_FILE" help:"PEM certificate (with its chain) to serve HTTPS with. Read again when it changes. Without it: plain HTTP."`
	TLSKeyFile  string `env:"TLS_KEY_FILE" help:"PEM private key for the certificate served."`
	// ServerTLS comes from the two files; nil means plain HTTP.
	ServerTLS *tls.Config `env:"-"`

	// GlanceURL never ends in a slash; its path is the prefix Glance is
	// mounted under.
	GlanceURL *url.URL `env:"GLANCE_URL" help:"Glance as the proxy reaches it, such as http://glance-api:9292. Required. Nobody else may reach it."`

	// GlanceCAFile replaces the system's roots for the connection to Glance.
	GlanceCAFile string `env:"GLANCE_CA_FILE" help:"PEM certificates that may have issued Glance's certificate. Read again when it changes. Default: the system's."`

	// GlanceClientCertFile and GlanceClientKeyFile are PEM; both or none.
	GlanceClientCertFile string `env:"GLANCE_CLIENT_CERT_FILE" help:"PEM certificate shown to Glance. Read again when it changes."`
	GlanceClientKeyFile  string `env:"GLANCE_CLIENT_KEY_FILE" help:"PEM private key for the certificate shown to Glance."`
	// GlanceTLS comes from the three files; nil if GlanceURL is http.
	GlanceTLS   *tls.Config `env:"-"`
	glanceRoots *roots      // nil for the system's

	// GlanceVerifies is false where Glance cannot verify behind us.
	GlanceVerifies bool `env:"GLANCE_VERIFIES" envDefault:"yes" help:"Whether Glance may verify what is uploaded once more, as it does by itself. no: one signature property is set aside while the data is on its way. For a Glance without a working key manager, or with an old cryptography library."`
	// GlancePropertyQuota is negative for any number.
	GlancePropertyQuota int `env:"GLANCE_PROPERTY_QUOTA" envDefault:"128" help:"How many properties Glance lets an image have (its image_property_quota); -1 for any number. An upload into an image that has no room for its receipt is refused."`

	// HealthcheckDisableFile need not exist, and as a rule does not.
	HealthcheckDisableFile string `env:"HEALTHCHECK_DISABLE_FILE" help:"While this file exists, /healthcheck answers 503 (DISABLED BY FILE), so that load balancers send nobody; requests that come are served."`

	// PublicURL is nil if links follow the request's host.
	PublicURL *url.URL `env:"PUBLIC_URL" help:"What links in / and /versions shall begin with. Default: the host the request asked for."`

	// ExtraGetRoutes are path templates; every one begins with /v2/ and a
	// literal segment.
	ExtraGetRoutes []string `env:"EXTRA_GET_ROUTES" help:"Further paths to pass on for GET, comma-separated, such as /v2/vendor/{name}. Letters, digits, '.', '_', '-' and {name} for a segment."`

	// PolicyFile is empty for the embedded policy, which only watches.
	PolicyFile string `env:"POLICY_FILE" help:"The policy, YAML. Default: a built-in policy that refuses nothing and logs (audit)."`
	// PolicyInterval is how often PolicyFile and ReceiptKeyFiles are looked at.
	PolicyInterval time.Duration `env:"POLICY_INTERVAL" envDefault:"2s" help:"How often the policy file and the receipt keys are looked at for changes."`
	// ProjectRefresh is how often project names are turned into ids again.
	ProjectRefresh time.Duration `env:"PROJECT_REFRESH" envDefault:"5m" help:"How often project names in the policy are looked up in Keystone again."`

	// ReceiptKeyFiles are PEM, each with one or more Ed25519 keys. Empty: no
	// receipts are written, and none is valid.
	ReceiptKeyFiles []string `env:"RECEIPT_KEY_FILES" help:"Files with the Ed25519 keys of receipts, comma-separated: the first private key signs, all verify. Looked at as often as the policy. Make one with countersign receipt keygen. Without: no receipts, and whatever wants one is refused."`

	// ScanInterval is zero for never.
	ScanInterval time.Duration `env:"SCAN_INTERVAL" envDefault:"0s" help:"How often serve scans the images that are there already, as countersign scan does. 0s: never."`
	// ScanConcurrency bounds what a scan reads at a time, here and in the command.
	ScanConcurrency int `env:"SCAN_CONCURRENCY" envDefault:"2" help:"How many images a scan reads back at a time."`

	// ShutdownDelay is spent serving with /readyz at 503.
	ShutdownDelay time.Duration `env:"SHUTDOWN_DELAY" envDefault:"0s" help:"How long to go on serving after SIGTERM with /readyz at 503, so that load balancers notice."`
	// ShutdownTimeout begins after ShutdownDelay.
	ShutdownTimeout time.Duration `env:"SHUTDOWN_TIMEOUT" envDefault:"10m" help:"How long running uploads may take to finish after that."`

	// ProbeInterval is how often Glance must show that it checks tokens.
	ProbeInterval time.Duration `env:"PROBE_INTERVAL" envDefault:"2m" help:"How often Glance is probed: it must refuse a request without a token whose headers claim an identity. Until it does, enforced uploads are answered 503."`

	// KeyManager is Barbican, Vault or File.
	KeyManager string `env:"KEY_MANAGER" envDefault:"barbican" help:"Where the signers' certificates are: barbican, vault (as castellan writes it) or file (a directory)."`
	// BarbicanURL is nil if the catalog decides.
	BarbicanURL *url.URL `env:"BARBICAN_URL" help:"Barbican. Default: from the service credential's catalog."`
	// KeyDirectory is set if KeyManager is File.
	KeyDirectory string `env:"KEY_DIRECTORY" help:"With KEY_MANAGER=file: the directory, with a file UUID.pem for each certificate. Looked at for each certificate, so that changes count within seconds."`
	// VaultAddr is set if KeyManager is Vault. It never ends in a slash.
	VaultAddr *url.URL `env:"VAULT_ADDR" help:"With KEY_MANAGER=vault, as all of VAULT_: where Vault is, such as https://vault.internal:8200."`
	// VaultMount, VaultKVPath and VaultAuthPath have no slash at either end.
	VaultMount     string `env:"VAULT_MOUNT" envDefault:"secret" help:"Where the key-value secrets engine is mounted (castellan's kv_mountpoint)."`
	VaultKVVersion int    `env:"VAULT_KV_VERSION" envDefault:"2" help:"The engine's version, 1 or 2 (castellan's kv_version)."`
	VaultKVPath    string `env:"VAULT_KV_PATH" help:"Path below the mount (castellan's kv_path)."`
	VaultNamespace string `env:"VAULT_NAMESPACE" help:"Namespace in Vault Enterprise or HCP Vault."`
	VaultCAFile    string `env:"VAULT_CA_FILE" help:"PEM certificates that may have issued Vault's certificate. Read again when it changes. Default: the system's."`
	vaultRoots     *roots // nil for the system's
	// VaultAuth is one of the constants.
	VaultAuth     string `env:"VAULT_AUTH" help:"How to log in to Vault: token, approle, kubernetes or jwt."`
	VaultAuthPath string `env:"VAULT_AUTH_PATH" help:"Where the auth method is mounted. Default: the method's name."`
	// The files are read anew for each login, the token's for each certificate.
	VaultTokenFile    string `env:"VAULT_TOKEN_FILE" help:"For token: file with the token. Whoever writes it renews it, such as Vault Agent."`
	VaultRoleID       string `env:"VAULT_ROLE_ID" help:"For approle: the role's id."`
	VaultSecretIDFile string `env:"VAULT_SECRET_ID_FILE" help:"For approle: file with the secret id, unless the role demands none."`
	VaultRole         string `env:"VAULT_ROLE" help:"For kubernetes and jwt: the role's name."`
	VaultJWTFile      string `env:"VAULT_JWT_FILE" help:"For jwt and kubernetes: file with the JSON Web Token. Default for kubernetes: the service account's."`
	// CertificateTimeout bounds one fetch. It stays below 10 s, the silence
	// after which a Glance served by uWSGI gives up an upload.
	CertificateTimeout time.Duration `env:"CERTIFICATE_TIMEOUT" envDefault:"8s" help:"How long fetching a certificate may take; less than 10s."`
	// CertificateCacheSize counts certificates, a few KiB each.
	CertificateCacheSize int `env:"CERTIFICATE_CACHE_SIZE" envDefault:"4096" help:"How many certificates are kept in memory."`
	// CertificateMaxAge bounds how long a withdrawn certificate still serves.
	CertificateMaxAge time.Duration `env:"CERTIFICATE_MAX_AGE" envDefault:"1h" help:"How long a certificate is kept; a withdrawn one serves this long at most."`
	// CertificateNegativeAge may be 0: then nothing negative is remembered.
	CertificateNegativeAge time.Duration `env:"CERTIFICATE_NEGATIVE_AGE" envDefault:"10s" help:"How long the answer 'there is no such certificate' is kept."`

	// AnchorInterval is how often the certificates that the policy names are
	// fetched again.
	AnchorInterval time.Duration `env:"ANCHOR_INTERVAL" envDefault:"5m" help:"How often certificates that the policy names by id are fetched again; one that was withdrawn serves this long at most."`
	// AnchorMaxAge bounds how long they serve without being confirmed.
	AnchorMaxAge time.Duration `env:"ANCHOR_MAX_AGE" envDefault:"24h" help:"How long these serve while the key manager cannot be asked. After that the rules that need them answer 503."`

	// SettleTimeout bounds the re-reading after an upload.
	SettleTimeout time.Duration `env:"SETTLE_TIMEOUT" envDefault:"2m" help:"How long an uploaded image is re-read until it is stable."`
	// StallTimeout is also what Glance under eventlet allows by default.
	StallTimeout time.Duration `env:"STALL_TIMEOUT" envDefault:"15m" help:"How long in mid-upload a client may send nothing, or Glance take nothing, before the upload is cut."`
	// LingerTimeout bounds how long a refused body is read and thrown away.
	LingerTimeout time.Duration `env:"LINGER_TIMEOUT" envDefault:"30s" help:"How long a refused client may go on sending, so that it can read the answer."`
	// MaxBody limits JSON bodies, not image data.
	MaxBody Bytes `env:"MAX_BODY" envDefault:"1MiB" help:"Largest JSON body taken, in bytes, KiB or MiB."`

	// AuditFile and AuditURL take the audit trail, either or both.
	AuditFile string   `env:"AUDIT_FILE" help:"File that the audit trail is appended to, one CADF event (JSON) a line. It may be moved away at any time: the next event begins a new one."`
	AuditURL  *url.URL `env:"AUDIT_URL" help:"Webhook that each event of the audit trail is sent to, by POST."`
	// AuditCAFile and AuditTokenFile are for AuditURL.
	AuditCAFile    string `env:"AUDIT_CA_FILE" help:"PEM certificates that may have issued the webhook's certificate. Read again when it changes. Default: the system's."`
	auditRoots     *roots // nil for the system's
	AuditTokenFile string `env:"AUDIT_TOKEN_FILE" help:"File with the bearer token that the webhook wants, read for each event."`

	// LogLevel is debug, info, warn or error.
	LogLevel string `env:"LOG_LEVEL" envDefault:"info" help:"debug, info, warn or error."`
	// LogFormat is json or console.
	LogFormat string `env:"LOG_FORMAT" envDefault:"json" help:"json, or console for people."`

	// Service is the credential of our own, from OS_*.
	Service Service `env:"-"`

	// expiries is what CertificateExpiries returns.
	expiries map[string]func() time.Time

	// shown is what Masked prints: each setting in order, secrets masked.
	shown []shownSetting
}

// Environ is the environment of this process, for Load.
func Environ() map[string]string {
	environ := make(map[string]string)
	for _, pair := range os.Environ() {
		name, value, _ := strings.Cut(pair, "=")
		environ[name] = value
	}
	return environ
}

// Load reads COUNTERSIGN_ and OS_ variables from environ and the files they
// name. The error is an *Error that lists everything that is wrong.
func Load(environ map[string]string) (Config, error) {
	var cfg Config
	var faults Error
	if environ == nil {
		environ = map[string]string{} // nil would make env read the process's own
	}
	checkNames(environ, &faults)
	cfg.shown = parse(&cfg, Prefix, environ, &faults)
	var os openstack
	cfg.shown = append(cfg.shown, parse(&os, osPrefix, environ, &faults)...)

	cfg.check(&faults)
	cfg.Service = os.service(environ, &faults)
	if len(faults.Problems) > 0 {
		return Config{}, &faults
	}
	return cfg, nil
}

// parse fills the struct at target and returns what may be shown of it.
func parse(target any, prefix string, environ map[string]string, faults *Error) []shownSetting {
	variables := make(map[string]string) // field name → variable, because env's errors name fields
	secret := make(map[string]bool)
	for _, s := range settings(reflect.TypeOf(target).Elem(), prefix) {
		variables[s.field] = s.Name
		secret[s.Name] = s.Secret
	}
	var shown []shownSetting
	err := env.ParseWithOptions(target, env.Options{
		Environment: environ,
		Prefix:      prefix,
		FuncMap:     parsers,
		OnSet: func(name string, value any, isDefault bool) {
			text := fmt.Sprint(value)
			if secret[name] && text != "" {
				text = mask
			}
			shown = append(shown, shownSetting{name, text, isDefault})
		},
	})
	var all env.AggregateError
	if errors.As(err, &all) {
		for _, err := range all.Errors {
			var wrong env.ParseError
			if !errors.As(err, &wrong) {
				// A tag of ours is wrong, not the operator's value.
				panic("config: " + err.Error())
			}
			faults.add(variables[wrong.Name], "%v", wrong.Err)
		}
	}
	return shown
}
