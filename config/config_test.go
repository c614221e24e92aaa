package config_test

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/config"
)

// environ is the least that loads, with more on top.
func environ(more map[string]string) map[string]string {
	e := map[string]string{"COUNTERSIGN_GLANCE_URL": "http://glance-api:9292", "PATH": "/bin", "HOME": "/nonexistent"}
	maps.Copy(e, more)
	return e
}

// write makes a file and returns its name.
func write(t testing.TB, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// problems loads what must not load, and lists what is said about it.
func problems(t testing.TB, env map[string]string) []config.Problem {
	t.Helper()
	_, err := config.Load(env)
	var all *config.Error
	if !errors.As(err, &all) || len(all.Problems) == 0 {
		t.Fatalf("Load(%v) = %v, want an *Error", env, err)
	}
	for _, p := range all.Problems {
		if !strings.Contains(err.Error(), p.Variable+": "+p.Text) {
			t.Errorf("Error() = %q misses %+v", err, p)
		}
	}
	return all.Problems
}

func TestDefaults(t *testing.T) {
	c, err := config.Load(environ(nil))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name      string
		got, want any
	}{
		{"Listen", c.Listen, ":9292"},
		{"ServerTLS", c.ServerTLS == nil, true},
		{"GlanceURL", c.GlanceURL.String(), "http://glance-api:9292"},
		{"GlanceTLS", c.GlanceTLS == nil, true},
		{"PublicURL", c.PublicURL == nil, true},
		{"ExtraGetRoutes", len(c.ExtraGetRoutes), 0},
		{"PolicyFile", c.PolicyFile, ""},
		{"PolicyInterval", c.PolicyInterval, 2 * time.Second},
		{"ProjectRefresh", c.ProjectRefresh, 5 * time.Minute},
		{"ShutdownDelay", c.ShutdownDelay, time.Duration(0)},
		{"ShutdownTimeout", c.ShutdownTimeout, 10 * time.Minute},
		{"BarbicanURL", c.BarbicanURL == nil, true},
		{"CertificateTimeout", c.CertificateTimeout, 8 * time.Second},
		{"CertificateCacheSize", c.CertificateCacheSize, 4096},
		{"CertificateMaxAge", c.CertificateMaxAge, time.Hour},
		{"CertificateNegativeAge", c.CertificateNegativeAge, 10 * time.Second},
		{"SettleTimeout", c.SettleTimeout, 2 * time.Minute},
		{"LingerTimeout", c.LingerTimeout, 30 * time.Second},
		{"MaxBody", c.MaxBody, config.Bytes(1 << 20)},
		{"LogLevel", c.LogLevel, "info"},
		{"LogFormat", c.LogFormat, "json"},
		{"Service.Configured", c.Service.Configured, false},
	} {
		if test.got != test.want {
			t.Errorf("%s = %v, want %v", test.name, test.got, test.want)
		}
	}
}

func TestValues(t *testing.T) {
	policy := write(t, "policy.yaml", "")
	c, err := config.Load(environ(map[string]string{
		"COUNTERSIGN_LISTEN":                   "[::1]:0",
		"COUNTERSIGN_GLANCE_URL":               " https://glance.example:443/image/ ",
		"COUNTERSIGN_PUBLIC_URL":               "https://images.example/",
		"COUNTERSIGN_EXTRA_GET_ROUTES":         "/v2/vendor/{name}, /v2/x-y_z.1/{a}/{b}",
		"COUNTERSIGN_POLICY_FILE":              policy,
		"COUNTERSIGN_RECEIPT_KEY_FILES":        policy + ", " + policy,
		"COUNTERSIGN_BARBICAN_URL":             "http://[fd00::1]:9311",
		"COUNTERSIGN_CERTIFICATE_TIMEOUT":      "9999ms",
		"COUNTERSIGN_CERTIFICATE_CACHE_SIZE":   "1",
		"COUNTERSIGN_CERTIFICATE_NEGATIVE_AGE": "0",
		"COUNTERSIGN_MAX_BODY":                 "512 KiB",
		"COUNTERSIGN_LOG_LEVEL":                "debug",
		"COUNTERSIGN_LOG_FORMAT":               "console",
	}))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, got, want string }{
		{"Listen", c.Listen, "[::1]:0"},
		{"GlanceURL", c.GlanceURL.String(), "https://glance.example:443/image"},
		{"PublicURL", c.PublicURL.String(), "https://images.example"},
		{"ExtraGetRoutes", strings.Join(c.ExtraGetRoutes, " "), "/v2/vendor/{name} /v2/x-y_z.1/{a}/{b}"},
		{"PolicyFile", c.PolicyFile, policy},
		{"ReceiptKeyFiles", strings.Join(c.ReceiptKeyFiles, " "), policy + " " + policy},
		{"BarbicanURL", c.BarbicanURL.String(), "http://[fd00::1]:9311"},
		{"CertificateTimeout", c.CertificateTimeout.String(), "9.999s"},
		{"CertificateNegativeAge", c.CertificateNegativeAge.String(), "0s"},
		{"MaxBody", c.MaxBody.String(), "512KiB"},
	} {
		if test.got != test.want {
			t.Errorf("%s = %q, want %q", test.name, test.got, test.want)
		}
	}
	if c.GlanceTLS == nil || c.GlanceTLS.InsecureSkipVerify || c.GlanceTLS.RootCAs != nil {
		t.Errorf("GlanceTLS = %+v, want the system's roots", c.GlanceTLS)
	}
}

// Each wrong value by itself: the variable blamed, and a piece of the reason.
func TestWrongValues(t *testing.T) {
	const p = "COUNTERSIGN_"
	for _, test := range []struct{ variable, value, want string }{
		{"LISTEN", "9292", "expected host:port"},
		{"LISTEN", ":http", "expected host:port"},
		{"LISTEN", ":65536", "expected host:port"},
		{"GLANCE_URL", "", "set to nothing"},
		{"GLANCE_URL", "glance:9292", "http:// or https://"},
		{"GLANCE_URL", "//glance:9292", "http:// or https://"},
		{"GLANCE_URL", "ftp://glance", "http:// or https://"},
		{"GLANCE_URL", "http://", "names no host"},
		{"GLANCE_URL", "http://:9292", "names no host"},
		{"GLANCE_URL", "http://glance:0", "port"},
		{"GLANCE_URL", "http://glance:99999", "port"},
		{"GLANCE_URL", "http://glance:x", "is not a URL"},
		{"GLANCE_URL", "http://glance/?", "query"},
		{"GLANCE_URL", "http://glance/?a=b", "query"},
		{"GLANCE_URL", "http://glance/#", "fragment"},
		{"GLANCE_URL", "http://glance/#a", "fragment"},
		{"GLANCE_URL", "http://user@glance", "user name"},
		{"GLANCE_URL", "http://glance/a/../b", "write it plainly"},
		{"GLANCE_URL", "http://glance/a/..", "write it plainly"},
		{"GLANCE_URL", "http://glance/./b", "write it plainly"},
		{"GLANCE_URL", "http://glance//b", "write it plainly"},
		{"GLANCE_URL", "http://glance/a%2fb", "write it plainly"},
		{"PUBLIC_URL", "images.example", "http:// or https://"},
		{"BARBICAN_URL", "barbican:9311", "http:// or https://"},
		{"EXTRA_GET_ROUTES", "/v1/vendor", "does not begin with /v2/"},
		{"EXTRA_GET_ROUTES", "/v2/", "fixed word"},
		{"EXTRA_GET_ROUTES", "/v2/{any}", "fixed word"},
		{"EXTRA_GET_ROUTES", "/v2/a/", "neither letters"},
		{"EXTRA_GET_ROUTES", "/v2/a//b", "neither letters"},
		{"EXTRA_GET_ROUTES", "/v2/a/b%2f", "neither letters"},
		{"EXTRA_GET_ROUTES", "/v2/a/{n:.*}", "neither letters"},
		{"EXTRA_GET_ROUTES", "/v2/a/x{n}", "neither letters"},
		{"EXTRA_GET_ROUTES", "/v2/a/../b", `segment ".."`},
		{"EXTRA_GET_ROUTES", "/v2/./b", `segment "."`},
		{"EXTRA_GET_ROUTES", "/v2/a/{n}/{n}", "twice"},
		{"EXTRA_GET_ROUTES", "/v2/a,/v2/a", "listed twice"},
		{"EXTRA_GET_ROUTES", "/v2/a,", "does not begin with /v2/"},
		{"POLICY_FILE", "/nonexistent/policy.yaml", "no such file"},
		{"POLICY_FILE", "/", "is a directory"},
		{"POLICY_FILE", "", "set to nothing"},
		{"RECEIPT_KEY_FILES", "/nonexistent/receipt.pem", "no such file"},
		{"RECEIPT_KEY_FILES", "/dev/null,", "cannot be read"},
		{"RECEIPT_KEY_FILES", "/", "is a directory"},
		{"ADMIN_TOKEN_FILE", "/nonexistent/token", "cannot be read"},
		{"ADMIN_TOKEN_FILE", "/dev/null", "is empty"},
		{"SCAN_INTERVAL", "59s", "at least 1m"},
		{"SCAN_INTERVAL", "-1h", "at least 1m"},
		{"SCAN_CONCURRENCY", "0", "expected 1 to 64"},
		{"SCAN_CONCURRENCY", "65", "expected 1 to 64"},
		{"AUDIT_TOKEN_FILE", "/etc/hostname", "AUDIT_URL is not"},
		{"AUDIT_URL", "siem.example", "http:// or https://"},
		{"POLICY_INTERVAL", "2", "with a unit"},
		{"POLICY_INTERVAL", "0s", "at least 100ms"},
		{"PROJECT_REFRESH", "-5m", "at least 1s"},
		{"SHUTDOWN_TIMEOUT", "-1s", "at least 0s"},
		{"SHUTDOWN_DELAY", "soon", "is not a duration"},
		{"CERTIFICATE_TIMEOUT", "10s", "less than 10s"},
		{"CERTIFICATE_TIMEOUT", "0s", "at least 100ms"},
		{"CERTIFICATE_CACHE_SIZE", "0", "expected 1 to"},
		{"CERTIFICATE_CACHE_SIZE", "many", "whole number"},
		{"CERTIFICATE_MAX_AGE", "0s", "at least 1s"},
		{"CERTIFICATE_NEGATIVE_AGE", "-1s", "at least 0s"},
		{"SETTLE_TIMEOUT", "0s", "at least 1s"},
		{"LINGER_TIMEOUT", "2h", "less than 1h"},
		{"MAX_BODY", "1MB", "is not a size"},
		{"MAX_BODY", "-1", "is not a size"},
		{"MAX_BODY", "1", "expected 64KiB to 64MiB"},
		{"MAX_BODY", "99999999999999999999MiB", "is not a size"},
		{"LOG_LEVEL", "INFO", "expected debug, info, warn or error"},
		{"LOG_FORMAT", "text", "expected json or console"},
		{"TLS_CERT_FILE", "/nonexistent", "COUNTERSIGN_TLS_KEY_FILE: is not set"},
		{"TLS_KEY_FILE", "/nonexistent", "COUNTERSIGN_TLS_CERT_FILE: is not set"},
	} {
		_, err := config.Load(environ(map[string]string{p + test.variable: test.value}))
		var all *config.Error
		if !errors.As(err, &all) || len(all.Problems) != 1 {
			t.Errorf("%s=%q: %v, want one problem", test.variable, test.value, err)
			continue
		}
		if !strings.Contains(err.Error(), p+test.variable) || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s=%q: %v, want %q in it", test.variable, test.value, err, test.want)
		}
	}
}

func TestAllAtOnce(t *testing.T) {
	got := problems(t, map[string]string{
		"COUNTERSIGN_LISTEN":              "here",
		"COUNTERSIGN_LOG_LEVEL":           "loud",
		"COUNTERSIGN_MAX_BODY":            "lots",
		"COUNTERSIGN_POLICY_INTERVAL":     "often",
		"COUNTERSIGN_CERTIFICATE_TIMEOUT": "1m",
		"COUNTERSIGN_POLICYFILE":          "/etc/policy.yaml",
		"OS_INTERFACE":                    "intern",
		"OS_USERNAME":                     "glance",
	})
	var names []string
	for _, p := range got {
		names = append(names, p.Variable)
	}
	slices.Sort(names)
	want := []string{
		"COUNTERSIGN_CERTIFICATE_TIMEOUT", "COUNTERSIGN_GLANCE_URL", "COUNTERSIGN_LISTEN", "COUNTERSIGN_LOG_LEVEL",
		"COUNTERSIGN_MAX_BODY", "COUNTERSIGN_POLICYFILE", "COUNTERSIGN_POLICY_INTERVAL",
		"OS_AUTH_URL", "OS_INTERFACE", "OS_PASSWORD", "OS_PROJECT_NAME", "OS_USER_DOMAIN_NAME",
	}
	if !slices.Equal(names, want) {
		t.Errorf("blamed %q, want %q", names, want)
	}
}

func TestMisspelt(t *testing.T) {
	for name, near := range map[string]string{
		"COUNTERSIGN_POLICYFILE":      "COUNTERSIGN_POLICY_FILE",
		"COUNTERSIGN_POLICY_FIEL":     "COUNTERSIGN_POLICY_FILE",
		"COUNTERSIGN_GLANCE_CAFILE":   "COUNTERSIGN_GLANCE_CA_FILE",
		"COUNTERSIGN_LISTEN_":         "COUNTERSIGN_LISTEN",
		"COUNTERSIGN_MAX_BODY_SIZE":   "COUNTERSIGN_MAX_BODY",
		"COUNTERSIGN_":                "COUNTERSIGN_LISTEN",
		"COUNTERSIGN_PORT":            "COUNTERSIGN_LISTEN", // no Service's, for there is no host beside it
		"COUNTERSIGN_SERVICE_TIMEOUT": "COUNTERSIGN_SETTLE_TIMEOUT",
	} {
		got := problems(t, environ(map[string]string{name: "x"}))
		if len(got) != 1 || got[0].Variable != name || (name != "COUNTERSIGN_" && name != "COUNTERSIGN_PORT" && !strings.HasSuffix(got[0].Text, near+"?")) {
			t.Errorf("%s: %+v, want it unknown and %s suggested", name, got, near)
		}
	}
}

// Kubernetes puts every Service of the namespace into the environment; one
// that is called countersign must not keep the pod from starting.
func TestServiceLinks(t *testing.T) {
	links := make(map[string]string)
	for _, service := range []string{"COUNTERSIGN", "COUNTERSIGN_METRICS"} {
		for name, value := range map[string]string{
			"_SERVICE_HOST":        "10.0.0.1",
			"_SERVICE_PORT":        "9292",
			"_SERVICE_PORT_HTTP":   "9292",
			"_PORT":                "tcp://10.0.0.1:9292",
			"_PORT_9292_TCP":       "tcp://10.0.0.1:9292",
			"_PORT_9292_TCP_PROTO": "tcp",
			"_PORT_9292_TCP_PORT":  "9292",
			"_PORT_9292_TCP_ADDR":  "10.0.0.1",
		} {
			links[service+name] = value
		}
	}
	if _, err := config.Load(environ(links)); err != nil {
		t.Errorf("Load: %v, want a Service's variables passed over", err)
	}
	for _, half := range []string{"_SERVICE_HOST", "_SERVICE_PORT"} {
		if got := problems(t, environ(map[string]string{"COUNTERSIGN" + half: "1"})); len(got) != 1 {
			t.Errorf("problems %+v, want COUNTERSIGN%s unknown: no Service has it alone", got, half)
		}
	}
	links["COUNTERSIGN_POLICYFILE"] = "x"
	if got := problems(t, environ(links)); len(got) != 1 {
		t.Errorf("problems %+v, want the one misspelt variable", got)
	}
}

// The process's environment is read by Environ alone.
func TestEnviron(t *testing.T) {
	t.Setenv("COUNTERSIGN_LISTEN", "a=b:1")
	t.Setenv("OS_CLOUD", "somewhere")
	if got := config.Environ()["COUNTERSIGN_LISTEN"]; got != "a=b:1" {
		t.Errorf("Environ() has %q, want a=b:1", got)
	}
	c, err := config.Load(environ(nil))
	if err != nil || c.Listen != ":9292" || c.Service.Configured {
		t.Errorf("Load = %v, %v, want nothing of the process's own environment", c, err)
	}
	if got := problems(t, nil); len(got) != 1 || got[0].Variable != "COUNTERSIGN_GLANCE_URL" {
		t.Errorf("Load(nil) finds %+v, want GLANCE_URL missing", got)
	}
}

func TestTable(t *testing.T) {
	seen := make(map[string]bool)
	var secrets []string
	for _, s := range config.Table() {
		if seen[s.Name] {
			t.Errorf("%s is listed twice", s.Name)
		}
		seen[s.Name] = true
		if !strings.HasSuffix(s.Help, ".") {
			t.Errorf("%s: help is %q, want a sentence", s.Name, s.Help)
		}
		if !strings.HasPrefix(s.Name, config.Prefix) && !strings.HasPrefix(s.Name, "OS_") {
			t.Errorf("%s has another prefix", s.Name)
		}
		if s.Secret {
			secrets = append(secrets, s.Name)
		}
	}
	for _, name := range []string{"COUNTERSIGN_LISTEN", "COUNTERSIGN_GLANCE_URL", "OS_CLOUD", "OS_AUTH_URL"} {
		if !seen[name] {
			t.Errorf("%s is missing", name)
		}
	}
	if want := []string{"OS_PASSWORD", "OS_APPLICATION_CREDENTIAL_SECRET"}; !slices.Equal(secrets, want) {
		t.Errorf("secrets are %q, want %q", secrets, want)
	}
}

// Everything in the table can be set, and its default is what an unset
// variable means.
func TestTableHolds(t *testing.T) {
	env := environ(nil)
	for _, s := range config.Table() {
		if s.Default != "" {
			env[s.Name] = s.Default
		}
	}
	written, err := config.Load(env)
	if err != nil {
		t.Fatal(err)
	}
	unset, err := config.Load(environ(nil))
	if err != nil {
		t.Fatal(err)
	}
	if written.String() != unset.String() {
		t.Errorf("defaults written out:\n%s\nunset:\n%s", written, unset)
	}
}

func TestBytes(t *testing.T) {
	for _, test := range []struct {
		text, want string
		bytes      config.Bytes
	}{
		{"0", "0", 0},
		{"1000", "1000", 1000},
		{"1024", "1KiB", 1 << 10},
		{"1025", "1025", 1025},
		{"1 MiB", "1MiB", 1 << 20},
		{"1536KiB", "1536KiB", 1536 << 10},
		{"64MiB", "64MiB", 64 << 20},
	} {
		var b config.Bytes
		if err := b.UnmarshalText([]byte(test.text)); err != nil || b != test.bytes || b.String() != test.want {
			t.Errorf("%q is %d bytes, %v, written %q; want %d, %q", test.text, b, err, b.String(), test.bytes, test.want)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("http://glance:9292/image", "/v2/vendor/{name},/v2/b", "1MiB", "30s")
	f.Add("https://[::1]/%2e%2e/", "/v2/{a}", "1 KiB", "-1h")
	f.Fuzz(func(t *testing.T, glance, routes, size, wait string) {
		c, err := config.Load(map[string]string{
			"COUNTERSIGN_GLANCE_URL":       glance,
			"COUNTERSIGN_EXTRA_GET_ROUTES": routes,
			"COUNTERSIGN_MAX_BODY":         size,
			"COUNTERSIGN_LINGER_TIMEOUT":   wait,
		})
		if err != nil {
			var all *config.Error
			if !errors.As(err, &all) {
				t.Fatalf("Load = %v, want an *Error", err)
			}
			return
		}
		again := map[string]string{
			"COUNTERSIGN_GLANCE_URL":       c.GlanceURL.String(),
			"COUNTERSIGN_EXTRA_GET_ROUTES": strings.Join(c.ExtraGetRoutes, ","),
			"COUNTERSIGN_MAX_BODY":         c.MaxBody.String(),
			"COUNTERSIGN_LINGER_TIMEOUT":   fmt.Sprint(c.LingerTimeout),
		}
		b, err := config.Load(again)
		if err != nil || b.GlanceURL.String() != c.GlanceURL.String() || !slices.Equal(b.ExtraGetRoutes, c.ExtraGetRoutes) ||
			b.MaxBody != c.MaxBody || b.LingerTimeout != c.LingerTimeout {
			t.Fatalf("Load(%v) = %v, %v, want what it was written from", again, b, err)
		}
		if u := c.GlanceURL; u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(u.Path, "/") {
			t.Fatalf("GlanceURL = %+v", u)
		}
	})
}
