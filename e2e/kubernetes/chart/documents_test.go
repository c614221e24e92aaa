package chart_test

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"
)

// TestREADME: the chart's README is what helm-docs makes of values.yaml.
func TestREADME(t *testing.T) {
	command := exec.Command("go", "tool", "helm-docs", "--chart-search-root", folder, "--dry-run", "--log-level", "warning")
	command.Stderr = os.Stderr
	want, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := read(t, folder+"/README.md"); got+"\n" != string(want) && got != string(want) {
		t.Error("charts/countersign/README.md is not what values.yaml says: make chart-docs")
	}
}

func parsed(t *testing.T, file string) object {
	t.Helper()
	o := object{}
	if err := yaml.UnmarshalStrict([]byte(read(t, file)), &o); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return o
}

// TestOpenStackHelm: what openstack-helm's charts are told is where the Service
// is, and it is not the Service that Countersign itself speaks to.
func TestOpenStackHelm(t *testing.T) {
	objects := release{name: "countersign"}.render(t, read(t, folder+"/ci/openstack-helm-values.yaml"))
	service := find(t, objects, "Service", "countersign")
	told := parsed(t, top+"/docs/kubernetes/openstack-helm.yaml")
	host := service.name() + ".openstack.svc.cluster.local"
	if got := told.at("endpoints.image.host_fqdn_override.default"); got != host {
		t.Errorf("they are told %v, want %s", got, host)
	}
	if got, want := told.at("endpoints.image.port.api.public"), service.at("spec.ports.0.port"); got != want {
		t.Errorf("they are told the port %v, want %v", got, want)
	}
	if told.at("endpoints.image.hosts") != nil {
		t.Error("endpoints.image.hosts would give Glance's Service another name")
	}
	if glance := environment(t, find(t, objects, "Deployment", "").pods()[0])["COUNTERSIGN_GLANCE_URL"]; glance != "http://glance-api.openstack.svc.cluster.local:9292" {
		t.Errorf("Glance is %s", glance)
	}
	if n := count(objects, "Job"); n != 0 {
		t.Errorf("there are %d Jobs, which its own would undo", n)
	}
}

// TestOpenStackOperators: the control plane is told the Service, by a name that
// is in its certificate, and the Route a port that it has.
func TestOpenStackOperators(t *testing.T) {
	objects := release{name: "countersign"}.render(t, read(t, folder+"/ci/openstack-k8s-operators-values.yaml"))
	service := find(t, objects, "Service", "countersign")
	told := parsed(t, top+"/docs/kubernetes/openstack-k8s-operators.yaml")
	host := service.name() + ".openstack.svc"
	if got, want := told.at("spec.glance.template.glanceAPIs.default.override.service.internal.endpointURL"), fmt.Sprintf("https://%s:%v", host, service.at("spec.ports.0.port")); got != want {
		t.Errorf("the catalog is told %v, want %s", got, want)
	}
	if names, _ := find(t, objects, "Certificate", "").at("spec.dnsNames").([]any); !slices.Contains(names, any(host)) {
		t.Errorf("the certificate is for %v", names)
	}
	route := "spec.glance.apiOverrides.default.route.spec."
	if got := told.at(route + "to.name"); got != service.name() {
		t.Errorf("the Route leads to %v", got)
	}
	if got := told.at(route + "port.targetPort"); got != service.at("spec.ports.0.name") {
		t.Errorf("the Route leads to port %v", got)
	}
}
