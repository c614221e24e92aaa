package main

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// collector is a webhook that takes events.
type collector struct {
	*httptest.Server
	token string

	mu     sync.Mutex // guards what follows
	status int        // answered in place of taking an event; 0: 204
	events []string
	asked  chan struct{} // one for each request, as long as there is room
}

func newCollector(t *testing.T) *collector {
	t.Helper()
	c := &collector{asked: make(chan struct{}, 100)}
	c.Server = httptest.NewServer(http.HandlerFunc(c.take))
	t.Cleanup(c.Close)
	return c
}

func (c *collector) take(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err != nil || r.Method != http.MethodPost || r.Header.Get("Content-Type") != "application/json":
		w.WriteHeader(http.StatusBadRequest)
	case c.status != 0:
		w.WriteHeader(c.status)
	case r.Header.Get("Authorization") != c.token:
		w.WriteHeader(http.StatusUnauthorized)
	default:
		c.events = append(c.events, string(body))
		w.WriteHeader(http.StatusNoContent)
	}
	select {
	case c.asked <- struct{}{}:
	default:
	}
}

func (c *collector) answer(status int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.status = status
}

func (c *collector) taken() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.events, " ")
}

// trail is an audit trail with quick retries.
func trail(t *testing.T, variables map[string]string) *auditTrail {
	t.Helper()
	before := auditBackoff
	auditBackoff = [2]time.Duration{time.Millisecond, time.Millisecond}
	t.Cleanup(func() { auditBackoff = before })
	a, err := openAudit(settings(t, variables), zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func (a *auditTrail) counts() string {
	var list []string
	for _, s := range a.sinks {
		list = append(list, fmt.Sprintf("%s %d written %d lost", s.name, s.written.Load(), s.lost.Load()))
	}
	return strings.Join(list, ", ")
}

// await fails the test if a condition does not come true.
func await(t *testing.T, holds func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for !holds() {
		select {
		case <-deadline:
			t.Fatal("waited in vain")
		case <-time.After(time.Millisecond):
		}
	}
}

func TestAuditWebhook(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("siem\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c := newCollector(t)
	c.token = "Bearer siem"
	a := trail(t, map[string]string{"COUNTERSIGN_AUDIT_URL": c.URL, "COUNTERSIGN_AUDIT_TOKEN_FILE": token})

	// One that fails is asked until it takes the event; none is passed over.
	for _, status := range []int{500, 503, 429, 401} {
		c.answer(status)
		a.Record([]byte(fmt.Sprint(status)))
		<-c.asked
		<-c.asked
		c.answer(0)
		await(t, func() bool { return strings.HasSuffix(c.taken(), fmt.Sprint(status)) })
	}
	// One that refuses an event for good does not keep the others back.
	c.answer(400)
	a.Record([]byte("bad"))
	await(t, func() bool { return a.sinks[0].lost.Load() == 1 })
	c.answer(0)
	a.Record([]byte("good"))
	a.close()
	if got, want := c.taken(), "500 503 429 401 good"; got != want {
		t.Errorf("the webhook has %q, want %q", got, want)
	}
	if got, want := a.counts(), "webhook 5 written 1 lost"; got != want {
		t.Errorf("counted: %s, want %s", got, want)
	}
}

// The webhook's certificate is by an issuer in the file, and the file is looked
// at for each connection: an event waits while it holds another's.
func TestAuditWebhookOfAPrivateCA(t *testing.T) {
	c := &collector{asked: make(chan struct{}, 100)}
	c.Server = httptest.NewUnstartedServer(http.HandlerFunc(c.take))
	c.Config.ErrorLog = log.New(io.Discard, "", 0) // of clients that do not trust it, which is meant
	c.StartTLS()
	t.Cleanup(c.Close)
	ours := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate().Raw})
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, []byte(newCA(t, nil, "another", true, time.Hour).pem()), 0o600); err != nil {
		t.Fatal(err)
	}

	for name, variables := range map[string]map[string]string{
		"the system's issuers": {"COUNTERSIGN_AUDIT_URL": c.URL},
		"another issuer":       {"COUNTERSIGN_AUDIT_URL": c.URL, "COUNTERSIGN_AUDIT_CA_FILE": file},
	} {
		hook := trail(t, variables)
		err := hook.sinks[0].write(t.Context(), []byte("{}"))
		var unknown x509.UnknownAuthorityError
		if !errors.As(err, &unknown) {
			t.Errorf("with %s the webhook is told, and the error is %v", name, err)
		}
		hook.close()
	}

	a := trail(t, map[string]string{"COUNTERSIGN_AUDIT_URL": c.URL, "COUNTERSIGN_AUDIT_CA_FILE": file})
	a.Record([]byte("waits"))
	if err := os.WriteFile(file, ours, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(file, time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	await(t, func() bool { return c.taken() == "waits" })
	a.close()
	if got, want := a.counts(), "webhook 1 written 0 lost"; got != want {
		t.Errorf("counted: %s, want %s", got, want)
	}
}

// A webhook that does not answer holds nobody up: what there is no room for is
// lost, and counted, and so is what cannot be handed over in the end.
func TestAuditWebhookThatHangs(t *testing.T) {
	hang := make(chan struct{})
	asked := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	defer server.Close()
	defer close(hang)
	a := trail(t, map[string]string{"COUNTERSIGN_AUDIT_URL": server.URL})
	a.Record([]byte("first"))
	<-asked // the queue is empty, and its first event on the way
	begun := time.Now()
	for range auditQueue + 7 {
		a.Record([]byte("{}"))
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("recording took %v while the webhook hung", took)
	}
	if got, want := a.counts(), "webhook 0 written 7 lost"; got != want {
		t.Errorf("counted: %s, want %s", got, want)
	}
	a.sinks[0].cancel() // as when patience ends
	a.close()
	if got, want := a.counts(), fmt.Sprintf("webhook 0 written %d lost", 1+auditQueue+7); got != want {
		t.Errorf("counted in the end: %s, want %s", got, want)
	}
}

func TestAuditFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	a := trail(t, map[string]string{"COUNTERSIGN_AUDIT_FILE": path})
	record := func(event string) {
		t.Helper()
		before := a.sinks[0].written.Load()
		a.Record([]byte(event))
		await(t, func() bool { return a.sinks[0].written.Load() > before })
	}
	record("one")
	record("two")
	if err := os.Rename(path, path+".1"); err != nil { // as logrotate does
		t.Fatal(err)
	}
	record("three")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	record("four")
	a.close()
	for name, want := range map[string]string{path + ".1": "one\ntwo\n", path: "four\n"} {
		got, err := os.ReadFile(name)
		if err != nil || string(got) != want {
			t.Errorf("%s has %q, %v, want %q", filepath.Base(name), got, err, want)
		}
	}

	// What is there already stays.
	a = trail(t, map[string]string{"COUNTERSIGN_AUDIT_FILE": path})
	a.Record([]byte("five"))
	a.close()
	if got, err := os.ReadFile(path); err != nil || string(got) != "four\nfive\n" {
		t.Errorf("after a restart the file has %q, %v", got, err)
	}
}

// A line that could be written in part only stands alone.
func TestAuditFileIsFull(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.log")
	f := &auditFile{path: path}
	if err := f.reopen(); err != nil {
		t.Fatal(err)
	}
	if err := f.write(t.Context(), []byte("one")); err != nil {
		t.Fatal(err)
	}
	if _, err := f.file.WriteString("tw"); err != nil {
		t.Fatal(err)
	}
	f.torn = true
	if err := f.write(t.Context(), []byte("two")); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, []byte("one\ntw\ntwo\n")) {
		t.Errorf("the file has %q, %v", got, err)
	}
	f.file.Close()
	if err := f.write(t.Context(), []byte("three")); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write to a closed file = %v, want %v", err, os.ErrClosed)
	}
}

func TestAuditFileThatCannotBeOpened(t *testing.T) {
	if _, err := openAudit(settings(t, map[string]string{"COUNTERSIGN_AUDIT_FILE": "/nonexistent/audit.log"}), zerolog.Nop()); err == nil {
		t.Error("openAudit of a file in no folder = nil")
	}
}
