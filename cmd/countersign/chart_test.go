package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/countersign/countersign/config"
)

// TestChartSettings: the chart's value `settings` takes every setting that is
// read, and no other: none that is secret, and none that the chart writes itself.
func TestChartSettings(t *testing.T) {
	folder := filepath.Join(top, "charts", "countersign")
	text, err := os.ReadFile(filepath.Join(folder, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Properties struct {
			Settings struct{ Properties map[string]any }
		}
	}
	if err := json.Unmarshal(text, &schema); err != nil {
		t.Fatal(err)
	}
	helpers, err := os.ReadFile(filepath.Join(folder, "templates", "_helpers.tpl"))
	if err != nil {
		t.Fatal(err)
	}
	_, own, _ := strings.Cut(string(helpers), `{{- define "countersign.ownSettings" -}}`)
	own, _, _ = strings.Cut(own, "{{- end }}")
	written := map[string]bool{}
	for _, name := range strings.Fields(own) {
		written[name] = true
	}
	taken := schema.Properties.Settings.Properties
	for _, s := range config.Table() {
		_, ok := taken[s.Name]
		switch {
		case s.Secret || written[s.Name]:
			if ok {
				t.Errorf("values.schema.json of the chart takes settings.%s, which is a secret or written by the chart itself", s.Name)
			}
		case !ok:
			t.Errorf("values.schema.json of the chart lacks the setting; add to settings.properties:\n        %q: {},", s.Name)
		}
		delete(taken, s.Name)
		delete(written, s.Name)
	}
	for name := range taken {
		t.Errorf("values.schema.json of the chart takes settings.%s, which nothing reads", name)
	}
	for name := range written {
		t.Errorf("the chart writes %s, which nothing reads", name)
	}
}
