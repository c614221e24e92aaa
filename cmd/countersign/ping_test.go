package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

// TestPing: what serves is told from what does not, and from what is something
// else; and why it does not.
func TestPing(t *testing.T) {
	var listing int
	glance := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v2/images" {
			w.WriteHeader(listing)
		}
	}))
	defer glance.Close()
	read, write, err := os.Pipe() // which has room, so that nobody waits for the reader
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	defer write.Close()
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	listing = http.StatusUnauthorized
	cfg := settings(t, map[string]string{"COUNTERSIGN_GLANCE_URL": glance.URL})
	go func() { ended <- serve(ctx, cfg, zerolog.New(write)) }() // ends with ctx
	log := bufio.NewScanner(read)
	admin := "http://" + events(t, log, "serving /livez, /readyz and /metrics")["admin"].(string)
	address := "http://" + events(t, log, "serving")["listen"].(string)

	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"both", []string{address, "--admin", admin}, 0, "ready"},
		{"with a version", []string{address + "/v2/"}, 0, "Countersign serves"},
		{"Glance itself", []string{glance.URL}, 1, "not Countersign"},
		{"the admin listener", []string{admin}, 1, "not Countersign"},
		{"the wrong admin listener", []string{address, "--admin", glance.URL}, 1, "not Countersign"},
		{"nobody", []string{"http://127.0.0.1:1"}, 1, "nothing answers there"},
		{"no CA", []string{address, "--ca-file", "/nowhere"}, 2, "no such file"},
	} {
		if code, said := pinged(t, c.args...); code != c.code || !strings.Contains(said, c.says) {
			t.Errorf("%s: ping exits %d, want %d, and says %q, want it to contain %q", c.name, code, c.code, said, c.says)
		}
	}
	listing = http.StatusOK
	if code, said := pinged(t, address); code != 1 || !strings.Contains(said, "answers 200 to a listing without a token") {
		t.Errorf("a Glance that asks nobody for a token: ping exits %d and says %q", code, said)
	}
	stop()
	<-ended
}

// pinged runs countersign ping; the code is 0 for yes, 1 for no and 2 for all
// else.
func pinged(t *testing.T, args ...string) (code int, said string) {
	t.Helper()
	root := newRoot()
	var output bytes.Buffer
	root.SetOut(&output)
	root.SetErr(&output)
	root.SetArgs(append([]string{"ping"}, args...))
	err := root.ExecuteContext(t.Context())
	var no *verdict
	switch {
	case err == nil:
		return 0, output.String()
	case errors.As(err, &no):
		return 1, err.Error()
	default:
		return 2, err.Error()
	}
}
