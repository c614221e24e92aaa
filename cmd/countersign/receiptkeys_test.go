package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/countersign/countersign/config"
	"github.com/countersign/countersign/proxy/receipt"
)

// receiptPair is a new pair of receipt keys, with their id.
func receiptPair(t *testing.T) (private, public, id string) {
	t.Helper()
	privatePEM, publicPEM, err := receipt.Generate()
	if err != nil {
		t.Fatal(err)
	}
	keys, err := receipt.ParseKeys(publicPEM)
	if err != nil {
		t.Fatal(err)
	}
	return string(privatePEM), string(publicPEM), keys.IDs()[0]
}

// New receipt keys count when all files are good; until then the last good ones
// do.
func TestReceiptKeysReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		older, olderPublic, olderID := receiptPair(t)
		newer, _, newerID := receiptPair(t)
		folder := t.TempDir()
		first, second := filepath.Join(folder, "first.pem"), filepath.Join(folder, "second.pem")
		save(t, first, older)
		save(t, second, olderPublic)
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		var log bytes.Buffer
		k, err := openReceiptKeys(ctx, config.Config{ReceiptKeyFiles: []string{first, second}, PolicyInterval: time.Second}, zerolog.New(&log))
		if err != nil {
			t.Fatal(err)
		}
		for _, step := range []struct {
			name          string
			first, second string // "": the file is taken away
			signing       string
			ids           int
			problem       string // in what is wrong; "": nothing is
		}{
			{"as it was", older, olderPublic, olderID, 1, ""},
			{"rotated", newer, older, newerID, 2, ""},
			{"broken", newer[:50], olderPublic, newerID, 2, first + ": a PEM block is damaged"},
			{"still broken", newer[:50], older, newerID, 2, first + ": a PEM block is damaged"},
			{"gone", newer, "", newerID, 2, second},
			{"back as it was", newer, older, newerID, 2, ""},
			{"none that signs", olderPublic, olderPublic, "", 1, "all of them are public"},
			{"at the end", newer, olderPublic, newerID, 2, ""},
		} {
			for path, text := range map[string]string{first: step.first, second: step.second} {
				if text == "" {
					if err := os.Remove(path); err != nil {
						t.Fatal(err)
					}
				} else {
					save(t, path, text)
				}
			}
			wait(time.Second)
			if keys := k.Keys(); keys.SigningID() != step.signing || len(keys.IDs()) != step.ids {
				t.Errorf("%s: keys %q, of which %q signs; want %d, and %q", step.name, keys.IDs(), keys.SigningID(), step.ids, step.signing)
			}
			err := k.problem()
			if (err == nil) != (step.problem == "") || err != nil && !strings.Contains(err.Error(), step.problem) {
				t.Errorf("%s: problem = %v, want %q", step.name, err, step.problem)
			}
		}
		if n := strings.Count(log.String(), "the last good keys stay in force"); n != 2 {
			t.Errorf("the log has %d complaints, want one for each of the 2 mistakes:\n%s", n, &log)
		}
		if secret := strings.Split(newer, "\n")[1]; strings.Contains(log.String(), secret) {
			t.Error("the log holds a key")
		}
	})
}

// Without keys there are none, which is told; wrong ones are an error at once.
func TestReceiptKeysAtStart(t *testing.T) {
	private, _, _ := receiptPair(t)
	wrong := filepath.Join(t.TempDir(), "wrong.pem")
	good := filepath.Join(t.TempDir(), "good.pem")
	save(t, wrong, "key\n")
	save(t, good, private)
	if k, err := openReceiptKeys(t.Context(), config.Config{ReceiptKeyFiles: []string{good, wrong}, PolicyInterval: time.Hour}, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), wrong) {
		t.Errorf("openReceiptKeys = %v, %v, want an error about %s", k, err, wrong)
	}
	for _, tt := range []struct {
		files   []string
		signing float64
		problem bool
	}{
		{nil, 0, true},
		{[]string{good}, 1, false},
	} {
		k, err := openReceiptKeys(t.Context(), config.Config{ReceiptKeyFiles: tt.files, PolicyInterval: time.Hour}, zerolog.Nop())
		if err != nil {
			t.Fatal(err)
		}
		if (k.Keys() == nil) != (tt.files == nil) || (k.problem() != nil) != tt.problem {
			t.Errorf("%q: Keys = %v, problem = %v", tt.files, k.Keys(), k.problem())
		}
		registry := prometheus.NewRegistry()
		k.measure(registry)
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			want := 1.0
			if family.GetName() == "countersign_receipt_signing" {
				want = tt.signing
			}
			if got := family.GetMetric()[0].GetGauge().GetValue(); got != want {
				t.Errorf("%q: %s = %v, want %v", tt.files, family.GetName(), got, want)
			}
		}
	}
}
