package chart_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"
)

// Whose published schemas say what the chart's objects may hold. They are
// fetched once, as Go modules are.
var published = []struct{ module, files string }{
	{"k8s.io/kubernetes@v1.36.3", "api/openapi-spec/swagger.json"},
	{"sigs.k8s.io/gateway-api@v1.6.2", "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"},
	{"github.com/prometheus-operator/prometheus-operator@v0.85.0", "example/prometheus-operator-crd/monitoring.coreos.com_*.yaml"},
	{"github.com/cert-manager/cert-manager@v1.21.2", "deploy/crds/cert-manager.io_certificates.yaml"},
}

// api holds a schema for each apiVersion and kind.
type api map[string]*jsonschema.Schema

func (a api) validate(o object) error {
	schema := a[fmt.Sprint(o["apiVersion"], " ", o["kind"])]
	if schema == nil {
		return fmt.Errorf("the API has no %v %v", o["apiVersion"], o["kind"])
	}
	return schema.Validate(map[string]any(o))
}

func openAPI(t *testing.T) api {
	t.Helper()
	compiler := jsonschema.NewCompiler()
	addresses := map[string]string{} // apiVersion and kind → where its schema is
	for _, source := range published {
		for _, file := range download(t, source.module, source.files) {
			if filepath.Ext(file) == ".json" {
				addKinds(t, compiler, addresses, file)
			} else {
				addDefinition(t, compiler, addresses, file)
			}
		}
	}
	schemas := api{}
	for key, address := range addresses {
		schema, err := compiler.Compile(address)
		if err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		schemas[key] = schema
	}
	return schemas
}

// download returns files of a module.
func download(t *testing.T, module, pattern string) []string {
	t.Helper()
	command := exec.Command("go", "mod", "download", "-json", module)
	command.Stderr = os.Stderr
	output, err := command.Output()
	var answer struct{ Dir string }
	if err == nil {
		err = json.Unmarshal(output, &answer)
	}
	if err != nil {
		t.Fatalf("%s: %v: %s", module, err, output)
	}
	files, err := filepath.Glob(filepath.Join(answer.Dir, pattern))
	if err != nil || len(files) == 0 {
		t.Fatalf("%s has no %s: %v", module, pattern, err)
	}
	return files
}

// addKinds takes Kubernetes' own kinds, all in one document.
func addKinds(t *testing.T, compiler *jsonschema.Compiler, addresses map[string]string, file string) {
	t.Helper()
	var document struct {
		Definitions map[string]map[string]any `json:"definitions"`
	}
	if err := json.Unmarshal([]byte(read(t, file)), &document); err != nil {
		t.Fatal(err)
	}
	definitions := map[string]any{}
	for name, definition := range document.Definitions {
		definitions[name] = strict(definition)
		kinds, _ := definition["x-kubernetes-group-version-kind"].([]any)
		for _, kind := range kinds {
			of := kind.(map[string]any)
			version := strings.TrimPrefix(fmt.Sprint(of["group"], "/", of["version"]), "/")
			addresses[fmt.Sprint(version, " ", of["kind"])] = "file:///kubernetes.json#/definitions/" + name
		}
	}
	// Numbers may be written as such where the API calls them strings, and the other way round.
	for _, name := range []string{"api.resource.Quantity", "util.intstr.IntOrString"} {
		definitions["io.k8s.apimachinery.pkg."+name] = map[string]any{"type": []any{"string", "integer", "number"}}
	}
	if err := compiler.AddResource("file:///kubernetes.json", map[string]any{"definitions": definitions}); err != nil {
		t.Fatal(err)
	}
}

// addDefinition takes a kind that others add to the API.
func addDefinition(t *testing.T, compiler *jsonschema.Compiler, addresses map[string]string, file string) {
	t.Helper()
	for part := range strings.SplitSeq(read(t, file), "\n---\n") {
		var definition struct {
			Spec struct {
				Group    string
				Names    struct{ Kind string }
				Versions []struct {
					Name   string
					Schema struct {
						OpenAPIV3Schema map[string]any `json:"openAPIV3Schema"`
					}
				}
			}
		}
		if err := yaml.Unmarshal([]byte(part), &definition); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		for _, version := range definition.Spec.Versions {
			key := fmt.Sprintf("%s/%s %s", definition.Spec.Group, version.Name, definition.Spec.Names.Kind)
			address := "file:///" + strings.NewReplacer(" ", "/", ".", "-").Replace(key) + ".json"
			schema := strict(version.Schema.OpenAPIV3Schema)
			schema["properties"].(map[string]any)["metadata"] = map[string]any{"type": "object"}
			if err := compiler.AddResource(address, schema); err != nil {
				t.Fatal(err)
			}
			addresses[key] = address
		}
	}
}

// strict turns a schema of the API, which drops what it does not know, into one
// that refuses it.
func strict(schema map[string]any) map[string]any {
	made := maps.Clone(schema)
	if schema["x-kubernetes-int-or-string"] != nil {
		return map[string]any{"type": []any{"string", "integer"}}
	}
	for _, inner := range []string{"items", "additionalProperties"} {
		if one, ok := schema[inner].(map[string]any); ok {
			made[inner] = strict(one)
		}
	}
	properties, ok := schema["properties"].(map[string]any)
	if !ok {
		return made
	}
	all := make(map[string]any, len(properties))
	for name, property := range properties {
		all[name] = strict(property.(map[string]any))
	}
	made["properties"] = all
	if schema["x-kubernetes-preserve-unknown-fields"] == nil {
		made["additionalProperties"] = false
	}
	return made
}
