package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rs/zerolog"

	"github.com/countersign/countersign/config"
	"github.com/countersign/countersign/proxy"
	"github.com/countersign/countersign/signature"
)

// settings are what config makes of the variables; there is a Glance, and both
// listeners are on loopback, unless they say otherwise.
func settings(t *testing.T, variables map[string]string) config.Config {
	t.Helper()
	environ := map[string]string{
		"COUNTERSIGN_GLANCE_URL":   "http://127.0.0.1:9",
		"COUNTERSIGN_LISTEN":       "127.0.0.1:0",
		"COUNTERSIGN_ADMIN_LISTEN": "127.0.0.1:0",
	}
	for name, value := range variables {
		environ[name] = value
	}
	cfg, err := config.Load(environ)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// slowGlance is a Glance whose list of images begins, and ends when it is let.
// Without a token there is none.
type slowGlance struct {
	*httptest.Server
	asked chan struct{} // one for each list that was begun
	let   chan struct{} // closed: lists end
}

func newSlowGlance(t *testing.T) *slowGlance {
	t.Helper()
	g := &slowGlance{asked: make(chan struct{}, 10), let: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/images", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Auth-Token") == "" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, `{"images": [`)
		w.(http.Flusher).Flush()
		g.asked <- struct{}{}
		select {
		case <-g.let:
			fmt.Fprint(w, `]}`)
		case <-r.Context().Done():
		}
	})
	g.Server = httptest.NewServer(mux)
	t.Cleanup(g.Close)
	return g
}

// events reads a log until an event with the message, and returns that.
func events(t *testing.T, log *bufio.Scanner, message string) map[string]any {
	t.Helper()
	for log.Scan() {
		var event map[string]any
		if err := json.Unmarshal(log.Bytes(), &event); err != nil {
			t.Fatalf("the log has the line %q: %v", log.Text(), err)
		}
		if event["message"] == message {
			return event
		}
	}
	t.Fatalf("the log ended without %q", message)
	return nil
}

// begin runs serve until ctx ends, and asks it for a list that does not end. It
// returns the log, the answer so far, and what serve will return.
func begin(t *testing.T, ctx context.Context, glance *slowGlance, variables map[string]string) (*bufio.Scanner, *http.Response, <-chan error) {
	t.Helper()
	variables["COUNTERSIGN_GLANCE_URL"] = glance.URL
	read, write, err := os.Pipe() // which has room, so that nobody waits for the reader
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { read.Close() })
	log, ended := bufio.NewScanner(read), make(chan error, 1)
	cfg := settings(t, variables)
	go func() { // ends with ctx
		ended <- serve(ctx, cfg, zerolog.New(write))
		write.Close()
	}()
	return log, list(t, glance, log), ended
}

// list asks whoever writes the log for a list that does not end, and returns
// the answer so far.
func list(t *testing.T, glance *slowGlance, log *bufio.Scanner) *http.Response {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+events(t, log, "serving")["listen"].(string)+"/v2/images", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Auth-Token", "token")
	response, err := http.DefaultTransport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	<-glance.asked
	return response
}

// What is running when serve is told to stop comes to its end; then it stops.
func TestServeShutsDownGracefully(t *testing.T) {
	glance := newSlowGlance(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	log, response, ended := begin(t, ctx, glance, map[string]string{})
	stop()
	events(t, log, "shutting down")
	select {
	case err := <-ended:
		t.Fatalf("serve = %v while a request was running", err)
	default:
	}
	close(glance.let)
	body, err := io.ReadAll(response.Body)
	if err != nil || string(body) != `{"images": []}` {
		t.Errorf("the answer is %q, %v, want all of it", body, err)
	}
	if err := <-ended; err != nil {
		t.Errorf("serve = %v, want nil", err)
	}
	if conn, err := net.Dial("tcp", response.Request.URL.Host); err == nil {
		conn.Close()
		t.Error("somebody still listens after serve has returned")
	}
}

// What runs for longer than COUNTERSIGN_SHUTDOWN_TIMEOUT is cut.
func TestServeCutsWhatTakesTooLong(t *testing.T) {
	glance := newSlowGlance(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	log, response, ended := begin(t, ctx, glance, map[string]string{"COUNTERSIGN_SHUTDOWN_TIMEOUT": "0s"})
	stop()
	events(t, log, "uploads are still running: they are cut, their images stay queued")
	if body, err := io.ReadAll(response.Body); err == nil {
		t.Errorf("the answer %q ended as if it were whole", body)
	}
	if err := <-ended; err != nil {
		t.Errorf("serve = %v, want nil", err)
	}
}

// A second signal ends the process at once, whatever is running.
func TestServeSecondSignal(t *testing.T) {
	glance := newSlowGlance(t)
	command := exec.Command("countersign", "serve") // TestMain puts it there
	command.Env = append(os.Environ(), "COUNTERSIGN_GLANCE_URL="+glance.URL, "COUNTERSIGN_LISTEN=127.0.0.1:0", "COUNTERSIGN_ADMIN_LISTEN=127.0.0.1:0",
		"COUNTERSIGN_SHUTDOWN_TIMEOUT=5s") // for the day it does not end at once
	stderr, err := command.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	defer command.Process.Kill()
	log := bufio.NewScanner(stderr)
	list(t, glance, log)
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	events(t, log, "shutting down")
	if err := command.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	err = command.Wait()
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("after a second signal Wait = %v, want the signal itself", err)
	}
}

// What would keep serve from doing what it was told is an error at once, and
// leaves nobody listening.
func TestServeRefusesToStart(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	wrong := filepath.Join(t.TempDir(), "policy.yaml")
	save(t, wrong, "rules: [{projects: all, mode: strict}]\n")
	for _, tt := range []struct {
		name, variable, value, want string
	}{
		{"a wrong policy", "COUNTERSIGN_POLICY_FILE", wrong, `line 1: mode "strict" is not known`},
		{"a port that is taken", "COUNTERSIGN_LISTEN", taken.Addr().String(), "address already in use"},
		{"an admin port that is taken", "COUNTERSIGN_ADMIN_LISTEN", taken.Addr().String(), "address already in use"},
	} {
		variables := map[string]string{"COUNTERSIGN_LISTEN": free.Addr().String(), tt.variable: tt.value}
		err := serve(t.Context(), settings(t, variables), zerolog.Nop())
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: serve = %v, want an error with %q", tt.name, err, tt.want)
		}
		if conn, err := net.Dial("tcp", free.Addr().String()); err == nil {
			conn.Close()
			t.Errorf("%s: somebody listens after serve has returned", tt.name)
		}
	}
}

// Glance is dialled as its URL says, over TLS with the issuers that were given.
func TestGlanceDialer(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	defer secure.Close()
	issuer := filepath.Join(t.TempDir(), "ca.pem")
	save(t, issuer, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw})))
	ended, end := context.WithCancel(t.Context())
	end()
	for _, tt := range []struct {
		name      string
		ctx       context.Context
		variables map[string]string
		tls       bool
		want      string // in the error; "": none
	}{
		{"http", t.Context(), map[string]string{"COUNTERSIGN_GLANCE_URL": plain.URL + "/image"}, false, ""},
		{"https", t.Context(), map[string]string{"COUNTERSIGN_GLANCE_URL": secure.URL, "COUNTERSIGN_GLANCE_CA_FILE": issuer}, true, ""},
		{"an issuer that is not trusted", t.Context(), map[string]string{"COUNTERSIGN_GLANCE_URL": secure.URL}, true, "unknown authority"},
		{"another name", t.Context(), map[string]string{
			"COUNTERSIGN_GLANCE_URL": strings.Replace(secure.URL, "127.0.0.1", "localhost", 1), "COUNTERSIGN_GLANCE_CA_FILE": issuer}, true, "localhost"},
		{"http's own port", ended, map[string]string{"COUNTERSIGN_GLANCE_URL": "http://127.0.0.1"}, false, "127.0.0.1:80: operation was canceled"},
		{"https's own port", ended, map[string]string{"COUNTERSIGN_GLANCE_URL": "https://[::1]/image"}, true, "[::1]:443: operation was canceled"},
	} {
		cfg := settings(t, tt.variables)
		conn, err := glanceDialer{&cfg}.dial(tt.ctx)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: dial = %v, want an error with %q", tt.name, err, tt.want)
		}
		if err != nil {
			continue
		}
		defer conn.Close()
		if _, isTLS := conn.(*tls.Conn); isTLS != tt.tls {
			t.Errorf("%s: dial = %T, want TLS: %v", tt.name, conn, tt.tls)
		}
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: glance\r\nConnection: close\r\n\r\n")
		if line, err := bufio.NewReader(conn).ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 404") {
			t.Errorf("%s: Glance answers %q, %v", tt.name, line, err)
		}
	}
}

// Each thing that a key manager may say of a certificate has a code, and a
// sentence about the property, without the token.
func TestCertificates(t *testing.T) {
	const id, token = "8f41c1d6-6d2b-4a0f-9a1e-0c3d5f7b9e21", "token-of-the-caller"
	certificate := filepath.Join(t.TempDir(), "rsa")
	if out, err := exec.Command("keys", "p384", certificate).CombinedOutput(); err != nil { // TestMain puts it there
		t.Fatalf("keys: %v\n%s", err, out)
	}
	good, err := os.ReadFile(certificate + ".crt")
	if err != nil {
		t.Fatal(err)
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Error(w, r.Header.Get("X-Auth-Token"), code) }
	}
	secret := func(kind, payload string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/payload") {
				fmt.Fprint(w, payload)
				return
			}
			fmt.Fprintf(w, `{"secret_type": %q, "status": "ACTIVE", "content_types": {"default": "application/octet-stream"}}`, kind)
		}
	}
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		want   string // a code; "": the certificate
		retry  bool
	}{
		{"a certificate", secret("certificate", string(good)), "", false},
		{"404", status(404), proxy.CodeCertificateNotFound, false},
		{"403", status(403), proxy.CodeCertificateForbidden, false},
		{"401", status(401), proxy.CodeKeyManagerUnauthorized, false},
		{"500", status(500), proxy.CodeKeyManagerUnavailable, true},
		{"no JSON", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, proxy.CodeKeyManagerUnavailable, true},
		{"a passphrase", secret("passphrase", "hunter2"), proxy.CodeCertificateUnreadable, false},
		{"garbage", secret("certificate", "garbage"), proxy.CodeCertificateUnreadable, false},
		{"nobody there", nil, proxy.CodeKeyManagerUnavailable, true},
	} {
		server := httptest.NewServer(tt.answer)
		if tt.answer == nil {
			server.Close()
		}
		cfg := settings(t, map[string]string{"COUNTERSIGN_BARBICAN_URL": server.URL})
		data, err := newCertificates(cfg, nil).Certificate(t.Context(), "owner", id, token)
		server.Close()

		var refused *proxy.Refusal
		var property *signature.PropertyError
		got, about, sentence, retry := "", "", "", ""
		switch {
		case errors.As(err, &refused):
			got, about, sentence, retry = refused.Code, refused.Property, refused.Error()+fmt.Sprint(refused.Err), refused.Header.Get("Retry-After")
		case errors.As(err, &property):
			got, about, sentence = string(property.Code), property.Property, property.Problem+property.Cure
		}
		if got != tt.want || (err == nil) != (tt.want == "") || (retry != "") != tt.retry {
			t.Errorf("%s: Certificate = %v with code %q and Retry-After %q, want code %q", tt.name, err, got, retry, tt.want)
		}
		if err == nil && string(data) != string(good) {
			t.Errorf("%s: Certificate = %q, want what was stored", tt.name, data)
		}
		if err != nil && (about != signature.PropertyCertificate || strings.Contains(sentence, token) || strings.Contains(sentence, "hunter2")) {
			t.Errorf("%s: the refusal is about %q and says %q", tt.name, about, sentence)
		}
	}
}
