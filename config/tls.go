package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"strings"
	"sync"
	"time"
)

func (c *Config) checkTLS(faults *Error) {
	c.expiries = map[string]func() time.Time{}
	if pair := loadPair(Prefix+"TLS_CERT_FILE", c.TLSCertFile, Prefix+"TLS_KEY_FILE", c.TLSKeyFile, faults); pair != nil {
		c.ServerTLS = &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return pair.current(), nil },
		}
		c.expiries["server"] = pair.expires
	}

	glance := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.GlanceCAFile != "" {
		glance.RootCAs = loadRoots(Prefix+"GLANCE_CA_FILE", c.GlanceCAFile, faults)
		c.glanceRoots = &roots{file: c.GlanceCAFile, pool: glance.RootCAs, read: modified(c.GlanceCAFile)}
	}
	if pair := loadPair(Prefix+"GLANCE_CLIENT_CERT_FILE", c.GlanceClientCertFile, Prefix+"GLANCE_CLIENT_KEY_FILE", c.GlanceClientKeyFile, faults); pair != nil {
		glance.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.current(), nil }
		c.expiries["glance_client"] = pair.expires
	}
	if c.GlanceURL == nil {
		return
	}
	if c.GlanceURL.Scheme == "https" {
		c.GlanceTLS = glance
		return
	}
	// Files for TLS say that TLS was meant: plain http must not win silently.
	if c.GlanceCAFile != "" || c.GlanceClientCertFile != "" {
		faults.add(Prefix+"GLANCE_URL", "begins with http://, but files for TLS to Glance are named; expected https://, or none of GLANCE_CA_FILE and GLANCE_CLIENT_*")
	}
}

// GlanceTLSNow is GlanceTLS with the issuers that are on disk now, for one
// connection. Nil if GlanceURL is http.
func (c *Config) GlanceTLSNow() *tls.Config {
	if c.GlanceTLS == nil || c.glanceRoots == nil {
		return c.GlanceTLS
	}
	now := c.GlanceTLS.Clone()
	now.RootCAs = c.glanceRoots.current()
	return now
}

// AuditTLSNow is for one connection to the audit trail's webhook, with the
// issuers that are on disk now.
func (c *Config) AuditTLSNow() *tls.Config {
	now := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.auditRoots != nil {
		now.RootCAs = c.auditRoots.current()
	}
	return now
}

// CertificateExpiries tell when the certificates on disk expire: "server" is
// the one served, "glance_client" the one shown to Glance. Those that are not
// configured are not in it.
func (c *Config) CertificateExpiries() map[string]func() time.Time { return c.expiries }

// roots are the issuers in a file, read again when it has changed.
type roots struct {
	file string

	mu   sync.Mutex // guards what follows
	read time.Time
	pool *x509.CertPool
}

// current is what is on disk, or the last good one while it is half written.
func (r *roots) current() *x509.CertPool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now := modified(r.file); now != r.read {
		var faults Error
		if pool := loadRoots("", r.file, &faults); len(faults.Problems) == 0 {
			r.pool, r.read = pool, now
		}
	}
	return r.pool
}

// modified is when a file was last changed; zero if that cannot be told.
func modified(file string) time.Time {
	info, err := os.Stat(file)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

func loadRoots(variable, file string, faults *Error) *x509.CertPool {
	data, err := os.ReadFile(file)
	if err != nil {
		faults.add(variable, "cannot be read: %v", err)
		return nil
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(data) {
		faults.add(variable, "%s holds no certificate; expected PEM", file)
	}
	return pool
}

// keyPair is a certificate and key on disk, read again when either file has
// changed, so that a renewed one serves without a restart.
type keyPair struct {
	certFile, keyFile string

	mu   sync.Mutex // guards what follows
	read [2]time.Time
	pair *tls.Certificate
}

// loadPair returns nil if neither file is named, or after adding to faults.
func loadPair(certVariable, certFile, keyVariable, keyFile string, faults *Error) *keyPair {
	switch {
	case certFile == "" && keyFile == "":
		return nil
	case certFile == "":
		faults.add(certVariable, "is not set, but %s is; expected both or none", keyVariable)
		return nil
	case keyFile == "":
		faults.add(keyVariable, "is not set, but %s is; expected both or none", certVariable)
		return nil
	}
	p := &keyPair{certFile: certFile, keyFile: keyFile}
	for variable, file := range map[string]string{certVariable: certFile, keyVariable: keyFile} {
		if err := readable(file); err != nil {
			faults.add(variable, "cannot be read: %v", err)
			p = nil
		}
	}
	if p == nil {
		return nil
	}
	if err := p.reload(); err != nil {
		faults.add(certVariable, "does not serve with %s: %v", keyVariable, err)
		return nil
	}
	return p
}

// current is the pair on disk, or the last good one while a renewal is half
// written.
func (p *keyPair) current() *tls.Certificate {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.changed() != p.read {
		_ = p.reload() // the pair at hand goes on serving; it is tried again at the next handshake
	}
	return p.pair
}

func (p *keyPair) expires() time.Time { return p.current().Leaf.NotAfter }

func (p *keyPair) changed() [2]time.Time {
	return [2]time.Time{modified(p.certFile), modified(p.keyFile)}
}

// reload is called with mu held, or before anybody else knows p.
func (p *keyPair) reload() error {
	// The times are taken first: a file that changes in between is read again.
	times := p.changed()
	pair, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
	if err != nil {
		return plain(err)
	}
	p.pair, p.read = &pair, times
	return nil
}

// plain drops what crypto/tls puts before its messages.
func plain(err error) error {
	if path := (*os.PathError)(nil); errors.As(err, &path) {
		return path
	}
	return errors.New(strings.TrimPrefix(err.Error(), "tls: "))
}
