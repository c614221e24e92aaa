package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"github.com/rs/zerolog"
)

// serveAdmin runs serve until the test ends, and returns where its admin
// listener is reached on loopback, and its log.
func serveAdmin(t *testing.T, variables map[string]string) (url string, log *bufio.Scanner) {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	cfg := settings(t, variables)
	go func() { // ends with ctx
		ended <- serve(ctx, cfg, zerolog.New(write))
		write.Close()
	}()
	t.Cleanup(func() {
		stop()
		go io.Copy(io.Discard, read) // ends when serve has closed its end
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	log = bufio.NewScanner(read)
	_, port, err := net.SplitHostPort(events(t, log, "serving /livez, /readyz and /metrics")["admin"].(string))
	if err != nil {
		t.Fatal(err)
	}
	return "http://127.0.0.1:" + port, log
}

func TestAdminShowsItselfToOperators(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("let-me-see\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name, listen, tokenFile, authorization string
		shown                                  bool
	}{
		{"on loopback", "127.0.0.1:0", "", "", true},
		{"elsewhere", ":0", "", "", false},
		{"elsewhere, with no token to be right", ":0", "", "Bearer ", false},
		{"elsewhere, open", ":0", "none", "", true},
		{"on loopback, with a token", "127.0.0.1:0", file, "", false},
		{"elsewhere, without the token", ":0", file, "", false},
		{"elsewhere, with a wrong one", ":0", file, "Bearer let-me-se", false},
		{"elsewhere, with an empty one", ":0", file, "Bearer ", false},
		{"elsewhere, in another scheme", ":0", file, "Basic let-me-see", false},
		{"elsewhere, with the token", ":0", file, "Bearer let-me-see", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			variables := map[string]string{"COUNTERSIGN_ADMIN_LISTEN": test.listen}
			if test.tokenFile != "" {
				variables["COUNTERSIGN_ADMIN_TOKEN_FILE"] = test.tokenFile
			}
			url, _ := serveAdmin(t, variables)
			want := http.StatusUnauthorized
			if test.shown {
				want = http.StatusOK
			}
			if got, _ := ask(t, url+"/metrics", test.authorization); got != want {
				t.Errorf("/metrics = %d, want %d", got, want)
			}
			status, body := ask(t, url+"/readyz", test.authorization)
			var ready readiness
			if err := json.Unmarshal(body, &ready); err != nil || status != http.StatusOK || !ready.Ready {
				t.Errorf("/readyz = %d, %s; want 200 and ready: nothing is enforced", status, body)
			}
			if shown := len(ready.Details) > 0; shown != test.shown {
				t.Errorf("/readyz tells %s; want details: %v", body, test.shown)
			}
			if got, _ := ask(t, url+"/livez", ""); got != http.StatusOK {
				t.Errorf("/livez = %d, want 200 for everybody", got)
			}
		})
	}
}

// A token that is replaced counts at once, and one that is taken away lets
// nobody in.
func TestAdminTokenIsReadAnew(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	write := func(token string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("first")
	url, _ := serveAdmin(t, map[string]string{"COUNTERSIGN_ADMIN_TOKEN_FILE": file})
	want := func(authorization string, status int) {
		t.Helper()
		if got, _ := ask(t, url+"/metrics", authorization); got != status {
			t.Errorf("/metrics with %q = %d, want %d", authorization, got, status)
		}
	}
	want("Bearer first", http.StatusOK)
	write("second")
	want("Bearer first", http.StatusUnauthorized)
	want("Bearer second", http.StatusOK)
	write("")
	want("Bearer ", http.StatusUnauthorized)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	want("Bearer second", http.StatusUnauthorized)
	want("Bearer ", http.StatusUnauthorized)
}

func ask(t *testing.T, url, authorization string) (status int, body []byte) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err = io.ReadAll(response.Body); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, body
}
