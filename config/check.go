package config

import (
	"fmt"
	"net"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// uwsgiSilence is how long a Glance served by uWSGI waits for the next byte
// (its socket-timeout).
const uwsgiSilence = 10 * time.Second

// MaxScanConcurrency is how many images a scan may read at a time.
const MaxScanConcurrency = 64

// check says everything about the values that one value cannot say of itself
// and opens every file, so that a start that succeeds serves.
func (c *Config) check(faults *Error) {
	c.checkListen(faults)
	if c.GlanceURL == nil {
		faults.add(Prefix+"GLANCE_URL", "is not set; expected where Glance is, such as http://glance-api:9292")
	}

	for _, d := range []struct {
		name       string
		value      time.Duration
		least, end time.Duration // least <= value < end
	}{
		{"POLICY_INTERVAL", c.PolicyInterval, 100 * time.Millisecond, 24 * time.Hour},
		{"PROBE_INTERVAL", c.ProbeInterval, time.Second, time.Hour},
		{"PROJECT_REFRESH", c.ProjectRefresh, time.Second, 24 * time.Hour},
		{"SHUTDOWN_DELAY", c.ShutdownDelay, 0, 24 * time.Hour},
		{"SHUTDOWN_TIMEOUT", c.ShutdownTimeout, 0, 7 * 24 * time.Hour},
		{"CERTIFICATE_TIMEOUT", c.CertificateTimeout, 100 * time.Millisecond, uwsgiSilence},
		{"CERTIFICATE_MAX_AGE", c.CertificateMaxAge, time.Second, 7 * 24 * time.Hour},
		{"CERTIFICATE_NEGATIVE_AGE", c.CertificateNegativeAge, 0, time.Hour},
		{"ANCHOR_INTERVAL", c.AnchorInterval, time.Second, 24 * time.Hour},
		{"ANCHOR_MAX_AGE", c.AnchorMaxAge, time.Minute, 30 * 24 * time.Hour},
		{"SETTLE_TIMEOUT", c.SettleTimeout, time.Second, time.Hour},
		{"STALL_TIMEOUT", c.StallTimeout, time.Second, 24 * time.Hour},
		{"LINGER_TIMEOUT", c.LingerTimeout, 0, time.Hour},
	} {
		if d.value < d.least || d.value >= d.end {
			faults.add(Prefix+d.name, "is %v; expected at least %v and less than %v", d.value, d.least, d.end)
		}
	}
	if c.CertificateCacheSize < 1 || c.CertificateCacheSize > 1_000_000 {
		faults.add(Prefix+"CERTIFICATE_CACHE_SIZE", "is %d; expected 1 to 1000000", c.CertificateCacheSize)
	}
	if c.ScanInterval != 0 && c.ScanInterval < time.Minute || c.ScanInterval < 0 {
		faults.add(Prefix+"SCAN_INTERVAL", "is %v; expected 0s, for never, or at least 1m", c.ScanInterval)
	}
	if c.ScanConcurrency < 1 || c.ScanConcurrency > MaxScanConcurrency {
		faults.add(Prefix+"SCAN_CONCURRENCY", "is %d; expected 1 to %d", c.ScanConcurrency, MaxScanConcurrency)
	}
	if c.MaxBody < 64<<10 || c.MaxBody > 64<<20 {
		faults.add(Prefix+"MAX_BODY", "is %v; expected 64KiB to 64MiB", c.MaxBody)
	}
	oneOf(Prefix+"LOG_LEVEL", c.LogLevel, faults, "debug", "info", "warn", "error")
	oneOf(Prefix+"LOG_FORMAT", c.LogFormat, faults, "json", "console")

	seen := make(map[string]bool)
	for i, route := range c.ExtraGetRoutes {
		route = strings.TrimSpace(route)
		c.ExtraGetRoutes[i] = route
		if err := checkRoute(route); err != nil {
			faults.add(Prefix+"EXTRA_GET_ROUTES", "%q %v", route, err)
		} else if seen[route] {
			faults.add(Prefix+"EXTRA_GET_ROUTES", "%q is listed twice", route)
		}
		seen[route] = true
	}

	if c.PolicyFile != "" {
		if err := readable(c.PolicyFile); err != nil {
			faults.add(Prefix+"POLICY_FILE", "cannot be read: %v", err)
		}
	}
	for i, file := range c.ReceiptKeyFiles {
		c.ReceiptKeyFiles[i] = strings.TrimSpace(file)
		if err := readable(c.ReceiptKeyFiles[i]); err != nil {
			faults.add(Prefix+"RECEIPT_KEY_FILES", "cannot be read: %v", err)
		}
	}
	if c.AdminTokenFile != "" && c.AdminTokenFile != None {
		secretOf(Prefix+"ADMIN_TOKEN", "", c.AdminTokenFile, faults)
	}
	c.checkAudit(faults)
	c.checkTLS(faults)
	c.checkKeyManager(faults)
}

// checkAudit wants nothing of a webhook that there is not.
func (c *Config) checkAudit(faults *Error) {
	switch {
	case c.AuditTokenFile == "":
	case c.AuditURL == nil:
		faults.add(Prefix+"AUDIT_TOKEN_FILE", "is set, but AUDIT_URL is not; expected both")
	default:
		secretOf(Prefix+"AUDIT_TOKEN", "", c.AuditTokenFile, faults)
	}
	if c.AuditCAFile == "" {
		return
	}
	c.auditRoots = &roots{file: c.AuditCAFile, pool: loadRoots(Prefix+"AUDIT_CA_FILE", c.AuditCAFile, faults), read: modified(c.AuditCAFile)}
	switch {
	case c.AuditURL == nil:
		faults.add(Prefix+"AUDIT_CA_FILE", "is set, but AUDIT_URL is not; expected both")
	case c.AuditURL.Scheme != "https":
		faults.add(Prefix+"AUDIT_URL", "begins with http://, but a file for TLS is named; expected https://, or no AUDIT_CA_FILE")
	}
}

func (c *Config) checkListen(faults *Error) {
	for variable, address := range map[string]string{"LISTEN": c.Listen, "ADMIN_LISTEN": c.AdminListen} {
		if variable == "ADMIN_LISTEN" && address == Off {
			continue
		}
		_, port, err := net.SplitHostPort(address)
		if err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
		if err != nil {
			faults.add(Prefix+variable, "%q is not an address to listen on; expected host:port or :port, such as :9292", address)
		}
	}
}

func oneOf(variable, value string, faults *Error, allowed ...string) {
	if !slices.Contains(allowed, value) {
		faults.add(variable, "%q is not known; expected %s", value, alternatives(allowed))
	}
}

// alternatives is "a, b or c".
func alternatives(words []string) string {
	last := len(words) - 1
	if last < 1 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

func readable(name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err == nil && info.IsDir() {
		return fmt.Errorf("%s is a directory", name)
	}
	return err
}

var (
	literal  = regexp.MustCompile(`^[0-9A-Za-z._-]+$`)
	variable = regexp.MustCompile(`^\{[A-Za-z][0-9A-Za-z_]*\}$`)
)

// checkRoute wants a literal first segment after /v2/: a variable there would
// also match every route the proxy judges itself.
func checkRoute(route string) error {
	rest, found := strings.CutPrefix(route, "/v2/")
	if !found {
		return fmt.Errorf("does not begin with /v2/")
	}
	names := make(map[string]bool)
	for i, segment := range strings.Split(rest, "/") {
		switch {
		case segment == "." || segment == "..":
			return fmt.Errorf("has the segment %q", segment)
		case literal.MatchString(segment):
		case i == 0:
			return fmt.Errorf("has no fixed word after /v2/; expected something like /v2/vendor/{name}")
		case !variable.MatchString(segment):
			return fmt.Errorf("has a segment that is neither letters, digits, '.', '_', '-' nor a {name}")
		case names[segment]:
			return fmt.Errorf("has %s twice", segment)
		default:
			names[segment] = true
		}
	}
	return nil
}
