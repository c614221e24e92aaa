package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const chartFiles = top + "/charts/countersign/files"

// alert is one of Prometheus' rules.
type alert struct {
	Alert       string
	Expr        string
	Labels      map[string]string
	Annotations map[string]string
}

func alerts(t *testing.T) []alert {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(chartFiles, "alerts.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct{ Groups []struct{ Rules []alert } }
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	var list []alert
	for _, group := range file.Groups {
		list = append(list, group.Rules...)
	}
	if len(list) < 10 {
		t.Fatalf("there are %d alerts: the test looks for the wrong thing", len(list))
	}
	return list
}

var (
	selector = regexp.MustCompile(`(countersign_[a-z_]+)(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`(\w+)\s*[=!][=~]?\s*"`)
	grouping = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
)

// wantMetrics demands that a query asks for metrics that are there, and for
// labels that they have.
func wantMetrics(t *testing.T, all map[string]metric, where, query string) {
	t.Helper()
	known := []string{"job", "instance", "namespace", "pod"} // whoever asks, Prometheus adds these
	scraped := len(known)
	for _, found := range selector.FindAllStringSubmatch(query, -1) {
		base := found[1]
		var bucket []string
		for _, suffix := range []string{"_bucket", "_sum", "_count"} {
			if m := all[strings.TrimSuffix(base, suffix)]; m.kind == "histogram" {
				base = strings.TrimSuffix(base, suffix)
				bucket = []string{"le"}
			}
		}
		if all[base].kind == "" {
			t.Errorf("%s asks for %s, which is no metric", where, found[1])
			continue
		}
		labels := append(bucket, strings.Split(strings.ReplaceAll(all[base].labels, "`", ""), ", ")...)
		for _, label := range matcher.FindAllStringSubmatch(found[2], -1) {
			if !slices.Contains(labels, label[1]) && !slices.Contains(known[:scraped], label[1]) {
				t.Errorf("%s asks %s for the label %s, which it does not have", where, found[1], label[1])
			}
		}
		known = append(known, labels...)
	}
	for _, label := range grouped(query) {
		if !slices.Contains(known, label) {
			t.Errorf("%s groups by %s, which is a label of nothing that it asks for", where, label)
		}
	}
}

// grouped are the labels that a query groups by.
func grouped(query string) []string {
	var labels []string
	for _, group := range grouping.FindAllStringSubmatch(query, -1) {
		for label := range strings.SplitSeq(group[1], ",") {
			labels = append(labels, strings.TrimSpace(label))
		}
	}
	return labels
}

// TestAlerts: each alert asks for metrics that are there, says what is wrong, is
// tested with promtool both ways, and has a paragraph in the runbook that it
// leads to.
func TestAlerts(t *testing.T) {
	all := metrics(t)
	tests, err := os.ReadFile(top + "/e2e/alerts/tests.yaml")
	if err != nil {
		t.Fatal(err)
	}
	runbook := documents(t)["docs/runbook.md"]
	var names []string
	for _, a := range alerts(t) {
		names = append(names, a.Alert)
		wantMetrics(t, all, a.Alert, a.Expr)
		if a.Annotations["summary"] == "" || a.Annotations["description"] == "" || a.Labels["severity"] != "critical" && a.Labels["severity"] != "warning" {
			t.Errorf("%s has no summary, description or severity", a.Alert)
		}
		_, anchor, _ := strings.Cut(a.Annotations["runbook_url"], "/docs/runbook.md#")
		if anchor != strings.ToLower(a.Alert) {
			t.Errorf("%s leads to %q", a.Alert, a.Annotations["runbook_url"])
		}
		fires := regexp.MustCompile(`alertname: ` + a.Alert + `\n\s+exp_alerts:\n\s+- exp_labels`)
		quiet := regexp.MustCompile(`alertname: ` + a.Alert + `, exp_alerts: \[\]`)
		if !fires.Match(tests) || !quiet.Match(tests) {
			t.Errorf("e2e/alerts/tests.yaml does not show when %s fires, and when not", a.Alert)
		}
	}
	for _, heading := range regexp.MustCompile(`(?m)^### (\w+)\n\n\S`).FindAllStringSubmatch(runbook, -1) {
		if at := slices.Index(names, heading[1]); at >= 0 {
			names = slices.Delete(names, at, at+1)
			continue
		}
		t.Errorf("docs/runbook.md explains %s, which is no alert, or twice", heading[1])
	}
	if len(names) > 0 {
		t.Errorf("docs/runbook.md does not explain %v", names)
	}
}

// TestDashboard: it is JSON, every panel asks for metrics that are there, and a
// legend names labels that the answer has. That each query is one is promtool's
// to say (e2e/alerts).
func TestDashboard(t *testing.T) {
	all := metrics(t)
	text, err := os.ReadFile(filepath.Join(chartFiles, "dashboard.json"))
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		UID         string
		Annotations struct{ List []struct{ Expr string } }
		Templating  struct{ List []struct{ Definition string } }
		Panels      []struct {
			ID      int
			Title   string
			Type    string
			Targets []struct{ Expr, LegendFormat string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	if dashboard.UID != "countersign" || len(dashboard.Panels) < 10 {
		t.Fatalf("the dashboard %q has %d panels: the test looks for the wrong thing", dashboard.UID, len(dashboard.Panels))
	}
	for _, annotation := range dashboard.Annotations.List {
		wantMetrics(t, all, "an annotation", annotation.Expr)
	}
	for _, variable := range dashboard.Templating.List {
		wantMetrics(t, all, "a variable", variable.Definition)
	}
	ids := map[int]bool{}
	for _, panel := range dashboard.Panels {
		if ids[panel.ID] || panel.Type != "row" && len(panel.Targets) == 0 {
			t.Errorf("the panel %q has no query, or an id that another has", panel.Title)
		}
		ids[panel.ID] = true
		for _, target := range panel.Targets {
			if !strings.Contains(target.Expr, "countersign_") {
				t.Errorf("the panel %q asks for %q", panel.Title, target.Expr)
			}
			wantMetrics(t, all, "the panel "+panel.Title, target.Expr)
			for _, label := range regexp.MustCompile(`\{\{\s*(\w+)\s*\}\}`).FindAllStringSubmatch(target.LegendFormat, -1) {
				if !slices.Contains(grouped(target.Expr), label[1]) {
					t.Errorf("the panel %q names its lines by %s, which %s does not keep", panel.Title, label[1], target.Expr)
				}
			}
		}
	}
}

// TestQueriesInDocuments: every query that a document shows asks for metrics
// that are there.
func TestQueriesInDocuments(t *testing.T) {
	all := metrics(t)
	for name, text := range documents(t) {
		for _, block := range fenced(text, "") {
			if strings.Contains(block, "countersign_") && strings.ContainsAny(block, "({") {
				wantMetrics(t, all, name, block)
			}
		}
	}
}
