//go:build linux

// Command bench measures what Countersign costs beside other proxies.
//
// It starts a stand-in for Glance, one for Keystone and Barbican, and before
// them nginx (as it comes, and with buffers of 256 KiB), haproxy, Go's own
// ReverseProxy, and the released binary with a policy, a service credential, its
// cache, metrics and log. Each is given the same work in turn, round by round, so
// that a machine which is slower for a while is so for all of them. What counts
// is processor time of all a proxy's threads, and of that the ratio within one
// round; a wall time on a shared machine is a rumour.
//
//	make bench
//
// The exit code is not 0 if a ratio is beyond what it must be by more than 15 %,
// or if anything went wrong: a status, a count of bytes, a count of DELETEs. A
// peer that cannot be had is named, and so are the rows that want it.
package main

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"flag"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// bench is one run.
type bench struct {
	binary   string
	folder   string // for configurations and logs
	rounds   int
	size     int64     // of an image, in bytes
	large    int64     // of the large upload, in GiB; zero: what there is time for
	until    time.Time // when rounds beyond the third are given up
	end      time.Time // when all should be over
	programs programs
	data     *data
	sink     *sink
	tlsSink  *sink
	standIns *standIns
	key      *rsa.PrivateKey
	tlsFiles [2]string // certificate and key of both TLS sides
	receipts []string  // environment that makes the binary write receipts

	proxies []*peer
	series  map[string][]float64 // figures, round by round
	absent  map[string]string    // why a series is not there

	mu    sync.Mutex // guards wrong
	wrong []string
}

// note adds a round's figure.
func (b *bench) note(series string, value float64) {
	b.series[series] = append(b.series[series], value)
}

// fail notes what must not be.
func (b *bench) fail(format string, arguments ...any) {
	problem := fmt.Sprintf(format, arguments...)
	fmt.Fprintln(os.Stderr, "  WRONG:", problem)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.wrong = append(b.wrong, problem)
}

func main() {
	b := &bench{series: map[string][]float64{}, absent: map[string]string{}}
	var size, large int64
	var budget time.Duration
	var out, before, docs, proxy, only string
	flag.StringVar(&b.binary, "binary", "bin/countersign", "the released binary")
	flag.IntVar(&b.rounds, "rounds", 7, "rounds; after the third, no more are begun than the time allows")
	flag.Int64Var(&size, "size", 1024, "size of an image in MiB, a multiple of 256")
	flag.Int64Var(&large, "large", 0, "size of the large upload in GiB; 0: 64, or a half, a quarter, an eighth of it, as there is time")
	flag.DurationVar(&budget, "time", 10*time.Minute, "how long it may take, about")
	flag.StringVar(&out, "out", "bin/bench", "folder for results.json and the logs")
	flag.StringVar(&before, "before", "", "results.json of an earlier run, to be shown beside")
	flag.StringVar(&docs, "docs", "", "folder whose performance.md and plots are to be brought up to date")
	flag.StringVar(&only, "only", "", "regular expression of the sections to run: bulk small memory refusals scale tls peak glance")
	flag.StringVar(&proxy, "reverse-proxy", "", "for the bench itself: be Go's ReverseProxy, LISTEN,UPSTREAM")
	flag.Parse()
	if proxy != "" {
		fmt.Fprintln(os.Stderr, serveReverseProxy(proxy))
		os.Exit(1)
	}
	b.size, b.large = size*mib, large
	b.until, b.end = time.Now().Add(budget*6/10), time.Now().Add(budget)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code, err := b.run(ctx, out, before, docs, only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		code = 2
	}
	os.Exit(code)
}

// run returns the exit code.
func (b *bench) run(ctx context.Context, out, before, docs, only string) (int, error) {
	choice, err := regexp.Compile(only)
	if err != nil {
		return 2, err
	}
	machine := thisMachine()
	fmt.Fprintln(os.Stderr, machine)
	if err := b.prepare(out); err != nil {
		return 2, err
	}
	if err := b.startProxies(&machine); err != nil {
		b.stopProxies()
		return 2, err
	}
	defer b.stopProxies()
	for _, section := range []struct {
		name string
		run  func() error
	}{
		{"bulk", b.bulk}, {"small", b.small}, {"refusals", b.refusals}, {"memory", b.memory}, {"scale", b.scale},
		{"tls", b.throughTLS}, {"glance", b.glance}, {"peak", b.peak},
	} {
		if !choice.MatchString(section.name) {
			continue
		}
		if ctx.Err() != nil {
			return 2, ctx.Err()
		}
		begin := time.Now()
		if err := section.run(); err != nil {
			b.fail("%s: %v", section.name, err)
		}
		fmt.Fprintf(os.Stderr, "%s: %.0f s, load %s\n", section.name, time.Since(begin).Seconds(), loadAverage())
	}
	machine.Load[1] = loadAverage()
	result := Result{Machine: machine, Figures: b.compute(rows()), Records: b.compute(records(b.names())), Wrong: b.wrong}
	return result.report(out, before, docs)
}

func (b *bench) names() []string {
	names := []string{}
	for _, p := range b.proxies {
		names = append(names, p.name)
	}
	return names
}

// rounds calls for each round, and gives up after the third when the time is up.
func (b *bench) eachRound(share float64, round func(int) error) error {
	end := time.Now().Add(time.Duration(share * float64(time.Until(b.until))))
	for i := range b.rounds {
		if i >= 3 && time.Now().After(end) {
			fmt.Fprintf(os.Stderr, "  %d rounds of %d: the time is up\n", i, b.rounds)
			break
		}
		if err := round(i); err != nil {
			return err
		}
	}
	return nil
}

// prepare makes what the proxies stand between.
func (b *bench) prepare(out string) error {
	folder, err := filepath.Abs(out)
	if err != nil {
		return err
	}
	if b.binary, err = filepath.Abs(b.binary); err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	if b.folder, err = os.MkdirTemp(folder, "run"); err != nil {
		return err
	}
	if b.data, err = newData(b.folder); err != nil {
		return err
	}
	if b.key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		return err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bench"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, b.key.Public(), b.key)
	if err != nil {
		return err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(b.key)
	if err != nil {
		return err
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})
	b.tlsFiles = [2]string{filepath.Join(b.folder, "certificate.pem"), filepath.Join(b.folder, "key.pem")}
	if err := os.WriteFile(b.tlsFiles[0], certificate, 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(b.tlsFiles[1], key, 0o600); err != nil {
		return err
	}
	pair, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		return err
	}
	if b.sink, err = newSink(b.data, nil); err != nil {
		return err
	}
	if b.tlsSink, err = newSink(b.data, &tls.Config{Certificates: []tls.Certificate{pair}}); err != nil {
		return err
	}
	if b.standIns, err = newStandIns(certificate); err != nil {
		return err
	}
	return b.prepareReceipts()
}

// prepareReceipts gives the binary a key for receipts, if it knows of any.
func (b *bench) prepareReceipts() error {
	const variable = "COUNTERSIGN_RECEIPT_KEY_FILES"
	help, err := exec.Command(b.binary, "config", "--help").CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", b.binary, err, help)
	}
	file := filepath.Join(b.folder, "receipt.pem")
	if err := writeReceiptKey(file); err != nil {
		return err
	}
	check := exec.Command(b.binary, "config")
	check.Env = []string{variable + "=" + file, "COUNTERSIGN_GLANCE_URL=http://127.0.0.1"}
	if text, err := check.CombinedOutput(); err == nil && strings.Contains(string(text), variable) {
		b.receipts = []string{variable + "=" + file}
	}
	return nil
}

// policy has a few rules before those that are used, as policies do.
func policy(rules int) string {
	var text strings.Builder
	text.WriteString("rules:\n")
	for i := range rules - 2 {
		fmt.Fprintf(&text, "  - {name: rule %d, projects: [{id: %032x}], mode: enforce, signers: any}\n", i, i+1)
	}
	text.WriteString("  - {name: signed, projects: [{id: signed}], mode: enforce, signers: any}\n")
	text.WriteString("  - {name: the others, projects: all, unowned: true, mode: \"off\"}\n")
	return text.String()
}

// startProxies starts those that there are, Countersign last.
func (b *bench) startProxies(machine *Machine) error {
	var err error
	if b.programs, err = findPrograms("e2e/bench/peers"); err != nil {
		return err
	}
	upstream := b.sink.address()
	add := func(p *peer, err error) error {
		if err == nil {
			b.proxies = append(b.proxies, p)
		}
		return err
	}
	named := func(name string) func(*peer, error) (*peer, error) {
		return func(p *peer, err error) (*peer, error) {
			if p != nil {
				p.name = name
			}
			return p, err
		}
	}
	if b.programs["nginx"] != "" {
		machine.Versions["nginx"] = b.programs.version("nginx", "-v")
		if err := add(named(stock)(b.programs.nginx("nginx-stock", b.folder, upstream, ""))); err != nil {
			return err
		}
		if err := add(named(tuned)(b.programs.nginx("nginx-tuned", b.folder, upstream, nginxTuning))); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(os.Stderr, "there is no nginx here: its rows are left out")
	}
	if b.programs["haproxy"] != "" {
		machine.Versions["haproxy"] = b.programs.version("haproxy", "-v")
		if err := add(b.programs.haproxy(b.folder, upstream)); err != nil {
			return err
		}
	} else {
		fmt.Fprintln(os.Stderr, "there is no haproxy here: its rows are left out")
	}
	if err := add(reverseProxy(b.folder, upstream)); err != nil {
		return err
	}
	text, _ := exec.Command(b.binary, "version").Output()
	machine.Versions["countersign"] = strings.TrimSpace(string(text))
	return add(b.countersign(own, policy(10)))
}

func (b *bench) stopProxies() {
	for _, p := range b.proxies {
		p.stop()
	}
}

// self is Countersign among the proxies.
func (b *bench) self() *peer { return b.proxies[len(b.proxies)-1] }
