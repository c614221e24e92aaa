// Package chart_test holds the Helm chart to what it promises, without a
// cluster: with Helm's own engine, and with the schemas of the API that its
// objects are for.
package chart_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"helm.sh/helm/v3/pkg/releaseutil"
	"sigs.k8s.io/yaml"
)

const (
	top    = "../../.."
	folder = top + "/charts/countersign"
)

// kubernetes is the version that the chart is tested against.
var kubernetes = chartutil.KubeVersion{Version: "v1.36.3", Major: "1", Minor: "36"}

// object is one rendered object.
type object map[string]any

func (o object) kind() string { return fmt.Sprint(o["kind"]) }
func (o object) name() string { return fmt.Sprint(o.at("metadata.name")) }

// at follows a path such as spec.template.spec.containers.0.env; nil where it
// leads nowhere. A name with dots in it cannot be asked for.
func (o object) at(path string) any {
	var here any = map[string]any(o)
	for step := range strings.SplitSeq(path, ".") {
		switch value := here.(type) {
		case map[string]any:
			here = value[step]
		case []any:
			i, err := strconv.Atoi(step)
			if err != nil || i >= len(value) {
				return nil
			}
			here = value[i]
		default:
			return nil
		}
	}
	return here
}

// annotation is one of the object's own.
func (o object) annotation(name string) string {
	annotations, _ := o.at("metadata.annotations").(map[string]any)
	text, _ := annotations[name].(string)
	return text
}

// pods are the pod templates in it.
func (o object) pods() []object {
	switch {
	case o.kind() == "Pod":
		return []object{o}
	case o.at("spec.template.spec") != nil:
		return []object{o["spec"].(map[string]any)["template"].(map[string]any)}
	}
	return nil
}

func load(t *testing.T) *chart.Chart {
	t.Helper()
	c, err := loader.Load(folder)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// merged are values from YAML texts, later ones first, as with several -f.
func merged(t *testing.T, texts ...string) map[string]any {
	t.Helper()
	all := map[string]any{}
	for _, text := range texts {
		values := map[string]any{}
		if err := yaml.Unmarshal([]byte(text), &values); err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		all = chartutil.MergeTables(values, all)
	}
	return all
}

// release is how a chart is rendered.
type release struct {
	name    string // default: cs
	apis    []string
	cluster engine.ClientProvider // nil: nothing is there
}

// try renders the chart as `helm install` would.
func (r release) try(t *testing.T, values ...string) ([]object, string, error) {
	t.Helper()
	c := load(t)
	caps := chartutil.DefaultCapabilities.Copy()
	caps.KubeVersion = kubernetes
	caps.APIVersions = append(caps.APIVersions, r.apis...)
	if r.name == "" {
		r.name = "cs"
	}
	options := chartutil.ReleaseOptions{Name: r.name, Namespace: "openstack", Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(c, merged(t, values...), options, caps)
	if err != nil {
		return nil, "", err
	}
	var files map[string]string
	if r.cluster != nil {
		files, err = engine.RenderWithClientProvider(c, all, r.cluster)
	} else {
		files, err = engine.Render(c, all)
	}
	if err != nil {
		return nil, "", err
	}
	var objects []object
	var notes string
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if strings.HasSuffix(name, "NOTES.txt") {
			notes = files[name]
			continue
		}
		documents := releaseutil.SplitManifests(files[name])
		for _, key := range slices.Sorted(maps.Keys(documents)) {
			o := object{}
			if err := yaml.UnmarshalStrict([]byte(documents[key]), &o); err != nil {
				t.Fatalf("%s: %v in\n%s", name, err, documents[key])
			}
			if len(o) > 0 {
				objects = append(objects, o)
			}
		}
	}
	return objects, notes, nil
}

func (r release) render(t *testing.T, values ...string) []object {
	t.Helper()
	objects, _, err := r.try(t, values...)
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// find is the only object of a kind whose name ends so.
func find(t *testing.T, objects []object, kind, suffix string) object {
	t.Helper()
	var found []object
	for _, o := range objects {
		if o.kind() == kind && strings.HasSuffix(o.name(), suffix) {
			found = append(found, o)
		}
	}
	if len(found) != 1 {
		t.Fatalf("there are %d of kind %s whose name ends in %q, want 1", len(found), kind, suffix)
	}
	return found[0]
}

func count(objects []object, kind string) int {
	n := 0
	for _, o := range objects {
		if o.kind() == kind {
			n++
		}
	}
	return n
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// valueFiles are the ready ones, for the tests and for the guides.
func valueFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(folder + "/ci/*-values.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("there are %d value files, %v", len(files), err)
	}
	return files
}

// TestLint is `helm lint --strict` with each of the value files.
func TestLint(t *testing.T) {
	for _, file := range valueFiles(t) {
		result := lint.AllWithKubeVersion(folder, merged(t, read(t, file)), "openstack", &kubernetes)
		for _, message := range result.Messages {
			if message.Severity > support.InfoSev {
				t.Errorf("%s: %v", file, message)
			}
		}
	}
}

// TestSchema: what each value file makes is what the API takes, and a name that
// the API does not know is found.
func TestSchema(t *testing.T) {
	api := openAPI(t)
	for _, file := range valueFiles(t) {
		t.Run(filepath.Base(file), func(t *testing.T) {
			for _, o := range (release{}).render(t, read(t, file)) {
				if err := api.validate(o); err != nil {
					t.Errorf("%s %s: %v", o.kind(), o.name(), err)
				}
			}
		})
	}
	for _, wrong := range []string{
		"{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {prots: []}}",
		"{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {replicas: '2', selector: {}, template: {}}}",
		"{apiVersion: v2, kind: Service, metadata: {name: a}}",
		"{apiVersion: monitoring.coreos.com/v1, kind: PrometheusRule, metadata: {name: a}, spec: {group: []}}",
		"{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: a}, spec: {rules: [{timeouts: {requests: 0s}}]}}",
	} {
		o := object{}
		if err := yaml.Unmarshal([]byte(wrong), &o); err != nil {
			t.Fatal(err)
		}
		if api.validate(o) == nil {
			t.Errorf("the schemas take %s", wrong)
		}
	}
}
