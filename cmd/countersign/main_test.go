package main

import (
	"bytes"
	"maps"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"

	"github.com/countersign/countersign/certcache/vaulttest"
	"github.com/countersign/countersign/signature"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"countersign": main,
		"keys":        keys,
		"vouch":       vouch,
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			cloud := newCloud()
			env.Defer(cloud.server.Close)
			env.Setenv("CLOUD", cloud.server.URL)
			env.Values["cloud"] = cloud
			vault := vaulttest.New()
			vault.AppRole("approle", "builder", "s3cret-id", -1)
			server := httptest.NewServer(vault)
			env.Defer(server.Close)
			env.Setenv("VAULT", server.URL)
			env.Setenv("GORACE", "atexit_sleep_ms=0") // or each of many commands ends with a second's sleep
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"barbican": barbican,
			"glance":   glanceHas,
			"exits":    exits,
		},
	})
}

// Every command teaches: what it is for, in which words, and an example that
// begins with its name.
func TestHelp(t *testing.T) {
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		if cmd.Short == "" || cmd.Long == "" {
			t.Errorf("%s has no help", cmd.CommandPath())
		}
		if cmd.Runnable() && !cmd.HasSubCommands() && !strings.Contains(cmd.Example, cmd.CommandPath()) {
			t.Errorf("%s has no example of itself", cmd.CommandPath())
		}
		for _, sub := range cmd.Commands() {
			look(sub)
		}
	}
	look(newRoot())
}

// Every flag completes to something: words, files, or nothing at all rather than
// the names of whatever files lie about.
func TestCompletion(t *testing.T) {
	count := 0
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		for _, found := range regexp.MustCompile(`(?m)^ .*?--([a-z-]+)`).FindAllStringSubmatch(cmd.LocalFlags().FlagUsages(), -1) {
			flag := cmd.Flag(found[1])
			if flag.Value.Type() == "bool" {
				continue
			}
			count++
			_, words := cmd.GetFlagCompletionFunc(flag.Name)
			_, files := flag.Annotations[cobra.BashCompFilenameExt]
			if !words && !files {
				t.Errorf("%s --%s completes to any file", cmd.CommandPath(), flag.Name)
			}
		}
		for _, sub := range cmd.Commands() {
			look(sub)
		}
	}
	look(newRoot())
	if count < 10 {
		t.Errorf("there are %d flags: the test looks for the wrong thing", count)
	}
}

func FuzzReadProperties(f *testing.F) {
	f.Add([]byte(`{"img_signature": "AA==", "img_signature_key_type": "DSA", "size": 5}`))
	f.Add([]byte(`{"properties": {"img_signature": "AA=="}, "img_signature_hash_method": "SHA-256"}`))
	f.Add([]byte(`{"properties": "os_type='linux'", "img_signature": null}`))
	f.Add([]byte(`{"img_signature": "a", "img_signature": "b"}`))
	f.Add([]byte(`{} {}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, data []byte) {
		read, err := readProperties(data)
		if err != nil {
			return
		}
		for name := range read {
			if !slices.Contains(signature.Properties, name) {
				t.Errorf("readProperties(%q) found %q, which is no signature property", data, name)
			}
		}
		var written bytes.Buffer
		if err := formatJSON.write(&written, read); err != nil {
			t.Fatal(err)
		}
		again, err := readProperties(written.Bytes())
		if err != nil || !maps.Equal(again, read) {
			t.Errorf("readProperties(%q) = %q, %v; what was written was %q", written.Bytes(), again, err, read)
		}
	})
}
