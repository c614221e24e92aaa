package chart_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/fake"
)

// least is what has to be set.
const least = "{glance: {url: 'http://glance:9292'}, openstack: {secret: credential}}"

// environment are the variables of the first container.
func environment(t *testing.T, pod object) map[string]string {
	t.Helper()
	list, _ := pod.at("spec.containers.0.env").([]any)
	variables := map[string]string{}
	for _, entry := range list {
		variable := object(entry.(map[string]any))
		name := fmt.Sprint(variable["name"])
		if _, twice := variables[name]; twice {
			t.Errorf("the pod has %s twice", name)
		}
		variables[name] = fmt.Sprint(variable["value"])
	}
	return variables
}

func deployed(t *testing.T, values ...string) object {
	t.Helper()
	return find(t, release{}.render(t, append([]string{least}, values...)...), "Deployment", "").pods()[0]
}

// TestRefused: what is misspelt, or cannot be meant, stops Helm with a sentence.
func TestRefused(t *testing.T) {
	for _, c := range []struct{ values, want string }{
		{"{}", "glance.url is not set"},
		{"{replica: 3}", "additional properties 'replica' not allowed"},
		{"{glance: {uri: x}}", "additional properties 'uri' not allowed"},
		{"{service: {externalIP: x}}", "additional properties 'externalIP' not allowed"},
		{least + "\n", ""},
		{"{glance: {url: 'glance:9292'}}", "does not match pattern"},
		{"{replicas: two}", "got string, want integer"},
		{"{settings: {COUNTERSIGN_LOG_LEVLE: debug}}", "additional properties 'COUNTERSIGN_LOG_LEVLE' not allowed"},
		{"{settings: {OS_PASSWORD: secret}}", "additional properties 'OS_PASSWORD' not allowed"},
		{"{settings: {COUNTERSIGN_POLICY_FILE: /policy}}", "additional properties 'COUNTERSIGN_POLICY_FILE' not allowed"},
		{"{glance: {url: 'http://g'}, policy: {text: 'rules: []', existingConfigMap: p}}", "expected one of them"},
		{"{glance: {url: 'http://g'}, openstack: {secret: a, cloudsSecret: b}}", "expected one of them"},
		{"{glance: {url: 'http://g', caBundle: {configMap: a, secret: b}}}", "glance/caBundle"},
		{"{glance: {url: 'http://g', caBundle: {key: ca.crt}}}", "glance/caBundle"},
		{"{glance: {url: 'http://g'}, tls: {certManager: {enabled: true}}}", "tls.certManager.issuerRef.name is not set"},
		{"{glance: {url: 'http://g'}, tls: {secret: a, certManager: {enabled: true, issuerRef: {name: b}}}}", "expected one of them"},
		{"{glance: {url: 'http://g'}, httpRoute: {enabled: true}}", "httpRoute.parentRefs is empty"},
		{"{glance: {url: 'http://g'}, glanceLockdown: {enabled: true}}", "glanceLockdown.podLabels is empty"},
		{"{glance: {url: 'http://g'}, endpoint: {enabled: true}}", `endpoint.catalogManagedBy is ""`},
		{"{glance: {url: 'http://g'}, endpoint: {enabled: true, catalogManagedBy: openstack-helm}}", "would move the endpoint back"},
		{"{glance: {url: 'http://g'}, endpoint: {enabled: true, catalogManagedBy: nobody}}", "neither endpoint.secret nor openstack.secret"},
	} {
		_, _, err := release{}.try(t, c.values)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s is refused: %v", c.values, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want an error with %q", c.values, err, c.want)
		}
	}
}

// TestEndpointGuard: what would undo the Job is looked for in the cluster, too.
func TestEndpointGuard(t *testing.T) {
	wanted := "{endpoint: {enabled: true, catalogManagedBy: nobody}}"
	if _, _, err := (release{}).try(t, least, wanted); err != nil {
		t.Errorf("with nobody else there: %v", err)
	}
	if _, _, err := (release{apis: []string{"core.openstack.org/v1beta1"}}).try(t, least, wanted); err == nil {
		t.Error("beside openstack-k8s-operators the endpoint is moved")
	}
	job := thing("batch/v1", "Job", "glance-ks-endpoints", nil)
	if _, _, err := (release{cluster: cluster{job}}).try(t, least, wanted); err == nil || !strings.Contains(err.Error(), "openstack-helm") {
		t.Errorf("beside openstack-helm: %v, want a refusal", err)
	}
}

// TestPods holds every pod to the Pod Security Standard "restricted", and to
// what the product needs of one.
func TestPods(t *testing.T) {
	count := 0
	for _, file := range valueFiles(t) {
		for _, o := range (release{}).render(t, read(t, file)) {
			for _, pod := range o.pods() {
				count++
				for path, want := range map[string]any{
					"spec.securityContext.runAsNonRoot":                          true,
					"spec.securityContext.seccompProfile.type":                   "RuntimeDefault",
					"spec.containers.0.securityContext.allowPrivilegeEscalation": false,
					"spec.containers.0.securityContext.readOnlyRootFilesystem":   true,
					"spec.containers.0.securityContext.capabilities.drop.0":      "ALL",
					"spec.automountServiceAccountToken":                          false,
					"spec.enableServiceLinks":                                    false,
					"spec.hostNetwork":                                           nil,
					"spec.containers.0.securityContext.capabilities.add":         nil,
					"spec.containers.0.volumeMounts.0.subPath":                   nil, // would never change
					"spec.containers.1.securityContext.allowPrivilegeEscalation": nil,
					"spec.containers.0.securityContext.runAsUser":                nil,
					"spec.containers.0.securityContext.privileged":               nil,
				} {
					if got := pod.at(path); got != want {
						t.Errorf("%s: %s %s: %s is %v, want %v", file, o.kind(), o.name(), path, got, want)
					}
				}
				if o.kind() == "Deployment" {
					continue
				}
				selector := find(t, release{}.render(t, read(t, file)), "Deployment", "").at("spec.selector.matchLabels").(map[string]any)
				labels, _ := pod.at("metadata.labels").(map[string]any)
				if within(selector, labels) {
					t.Errorf("%s: the Service would send clients to %s %s", file, o.kind(), o.name())
				}
			}
		}
	}
	if count < 10 {
		t.Errorf("there are %d pods", count)
	}
}

func within(some, all map[string]any) bool {
	for name, value := range some {
		if all[name] != value {
			return false
		}
	}
	return true
}

// TestShutdown: a pod is not killed while the process may still clean up.
func TestShutdown(t *testing.T) {
	pod := deployed(t, "{shutdown: {delay: 7, timeout: 100, cleanup: 30}}")
	variables := environment(t, pod)
	if got := pod.at("spec.terminationGracePeriodSeconds"); got != float64(137) {
		t.Errorf("the grace period is %v, want 137", got)
	}
	if variables["COUNTERSIGN_SHUTDOWN_DELAY"] != "7s" || variables["COUNTERSIGN_SHUTDOWN_TIMEOUT"] != "100s" {
		t.Errorf("the process is told %v", variables)
	}
	for probe, want := range map[string]string{"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"} {
		if got := pod.at("spec.containers.0." + probe + "Probe.httpGet.path"); got != want {
			t.Errorf("the %s probe asks %v, want %s: what is not ready is not to be killed", probe, got, want)
		}
	}
}

// TestEnvironment: a value of the chart is the setting that it names.
func TestEnvironment(t *testing.T) {
	for _, c := range []struct {
		values, name, want string
	}{
		{"{}", "COUNTERSIGN_GLANCE_URL", "http://glance:9292"},
		{"{}", "COUNTERSIGN_ADMIN_TOKEN_FILE", "/etc/countersign/admin/token"},
		{"{admin: {open: true}}", "COUNTERSIGN_ADMIN_TOKEN_FILE", "none"},
		{"{admin: {port: 9000}}", "COUNTERSIGN_ADMIN_LISTEN", ":9000"},
		{"{}", "COUNTERSIGN_POLICY_FILE", ""},
		{"{policy: {text: 'rules: []'}}", "COUNTERSIGN_POLICY_FILE", "/etc/countersign/policy/policy.yaml"},
		{"{policy: {existingConfigMap: p, key: images.yaml}}", "COUNTERSIGN_POLICY_FILE", "/etc/countersign/policy/images.yaml"},
		{"{}", "COUNTERSIGN_RECEIPT_KEY_FILES", "/etc/countersign/receipt/receipt-key.pem"},
		{"{receipts: {keys: [b.pem, a.pem]}}", "COUNTERSIGN_RECEIPT_KEY_FILES", "/etc/countersign/receipt/b.pem,/etc/countersign/receipt/a.pem"},
		{"{receipts: {enabled: false}}", "COUNTERSIGN_RECEIPT_KEY_FILES", ""},
		{"{tls: {secret: t}}", "COUNTERSIGN_TLS_CERT_FILE", "/etc/countersign/tls/tls.crt"},
		{"{glance: {caBundle: {secret: t, key: k}}}", "COUNTERSIGN_GLANCE_CA_FILE", "/etc/countersign/glance-ca/ca.crt"},
		{"{glance: {clientCertificateSecret: t}}", "COUNTERSIGN_GLANCE_CLIENT_KEY_FILE", "/etc/countersign/glance-client/tls.key"},
		{"{openstack: {secret: '', cloudsSecret: c, cloud: prod}}", "OS_CLOUD", "prod"},
		{"{openstack: {caBundle: {configMap: c}}}", "OS_CACERT", "/etc/countersign/openstack-ca/ca.crt"},
		{"{settings: {COUNTERSIGN_CERTIFICATE_CACHE_SIZE: 12}}", "COUNTERSIGN_CERTIFICATE_CACHE_SIZE", "12"},
		{"{settings: {COUNTERSIGN_MAX_BODY: 2MiB}}", "COUNTERSIGN_MAX_BODY", "2MiB"},
		{"{resources: {limits: {memory: 1Gi}}}", "GOMEMLIMIT", "966367641"},
		{"{goMemLimit: 0}", "GOMEMLIMIT", ""},
	} {
		if got := environment(t, deployed(t, c.values))[c.name]; got != c.want {
			t.Errorf("%s: %s = %q, want %q", c.values, c.name, got, c.want)
		}
	}
}

// TestPolicy: what is checked before an installation is what is installed, to
// the byte, and a policy that changes restarts nobody.
func TestPolicy(t *testing.T) {
	text := "# {{ not a template }}\nrules:\n  - name: \"a\"\n"
	values := fmt.Sprintf("{policy: {text: %q}}", text)
	objects := release{}.render(t, least, values)
	for _, suffix := range []string{"-policy", "-policy-check"} {
		data := find(t, objects, "ConfigMap", suffix)["data"].(map[string]any)
		if data["policy.yaml"] != text {
			t.Errorf("…%s holds %q, want %q", suffix, data["policy.yaml"], text)
		}
	}
	job := find(t, objects, "Job", "-policy-check")
	if hook := job.annotation("helm.sh/hook"); hook != "pre-install,pre-upgrade,pre-rollback" {
		t.Errorf("the check runs at %s", hook)
	}
	if policy := job.annotation("helm.sh/hook-output-log-policy"); policy != "hook-failed" {
		t.Errorf("what the check says is shown at %q", policy)
	}
	if a, b := fmt.Sprint(deployed(t, values)), fmt.Sprint(deployed(t, "{policy: {text: 'another'}}")); a != b {
		t.Error("another policy makes other pods")
	}
	objects = release{}.render(t, least, "{policy: {existingConfigMap: theirs}}")
	if n := count(objects, "ConfigMap"); n != 0 {
		t.Errorf("beside a ConfigMap of somebody else's there are %d", n)
	}
	if got := find(t, objects, "Job", "-policy-check").at("spec.template.spec.volumes.0.configMap.name"); got != "theirs" {
		t.Errorf("the check reads %v", got)
	}
	if n := count(release{}.render(t, least), "Job"); n != 0 {
		t.Errorf("without a policy there are %d Jobs", n)
	}
}

// TestSecrets: keys are made once, and are what Countersign takes.
func TestSecrets(t *testing.T) {
	made := find(t, release{}.render(t, least), "Secret", "-receipt")
	text, err := base64.StdEncoding.DecodeString(fmt.Sprint(made["data"].(map[string]any)["receipt-key.pem"]))
	block, _ := pem.Decode(text)
	if err != nil || block == nil || block.Type != "PRIVATE KEY" {
		t.Fatalf("the key is %q, %v", text, err)
	}
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err != nil {
		t.Error(err)
	} else if _, ok := key.(ed25519.PrivateKey); !ok {
		t.Errorf("the key is a %T", key)
	}

	there := map[string]any{"receipt-key.pem": "a2VwdA==", "former.pem": "dG9v"}
	kept := find(t, release{cluster: cluster{thing("v1", "Secret", "cs-countersign-receipt", there)}}.render(t, least), "Secret", "-receipt")
	if fmt.Sprint(kept["data"]) != fmt.Sprint(there) {
		t.Errorf("an upgrade makes %v of %v", kept["data"], there)
	}
	for _, values := range []string{"{receipts: {existingSecret: a}, admin: {existingSecret: b}}", "{receipts: {enabled: false}, admin: {open: true}}"} {
		if n := count(release{}.render(t, least, values), "Secret"); n != 0 {
			t.Errorf("%s: the chart makes %d Secrets", values, n)
		}
	}
}

// TestNetworkPolicies: everybody may be a client, nobody reads metrics unless
// told, and Glance is left to Countersign.
func TestNetworkPolicies(t *testing.T) {
	objects := release{}.render(t, least, "{tests: {enabled: false}}")
	own := find(t, objects, "NetworkPolicy", "cs-countersign")
	if got := own.at("spec.ingress.0.ports.0.port"); got != "image" || own.at("spec.ingress.0.from") != nil || own.at("spec.ingress.1") != nil {
		t.Errorf("it admits %v", own.at("spec.ingress"))
	}
	if types := fmt.Sprint(own.at("spec.policyTypes")); types != "[Ingress]" {
		t.Errorf("it is for %s", types)
	}
	// The pod of `helm test` asks both ports.
	objects = release{}.render(t, least)
	var test object
	for _, o := range objects {
		if o.annotation("helm.sh/hook") == "test" {
			test = o
		}
	}
	admitted, _ := find(t, objects, "NetworkPolicy", "cs-countersign").at("spec.ingress.1.from.0.podSelector.matchLabels").(map[string]any)
	if labels, _ := test.at("metadata.labels").(map[string]any); len(admitted) == 0 || !within(admitted, labels) {
		t.Errorf("admitted to the admin port is %v, and the test's pod is %v", admitted, labels)
	}
	objects = release{}.render(t, least, "{glanceLockdown: {enabled: true, namespace: images, podLabels: {application: glance}}, networkPolicy: {egress: []}}")
	lock := find(t, objects, "NetworkPolicy", "-glance")
	if lock.at("metadata.namespace") != "images" || fmt.Sprint(lock.at("spec.podSelector.matchLabels")) != "map[application:glance]" {
		t.Errorf("the lock-down is for %v in %v", lock.at("spec.podSelector"), lock.at("metadata.namespace"))
	}
	selector := find(t, objects, "Deployment", "").at("spec.selector.matchLabels")
	if fmt.Sprint(lock.at("spec.ingress.0.from.0.podSelector.matchLabels")) != fmt.Sprint(selector) || lock.at("spec.ingress.1") != nil {
		t.Errorf("the lock-down admits %v, want %v alone", lock.at("spec.ingress"), selector)
	}
	if types := fmt.Sprint(find(t, objects, "NetworkPolicy", "cs-countersign").at("spec.policyTypes")); types != "[Ingress Egress]" {
		t.Errorf("an empty list of ways out makes a policy for %s", types)
	}
}

// TestScaling: an autoscaler and a number of replicas do not fight.
func TestScaling(t *testing.T) {
	objects := release{}.render(t, least, "{autoscaling: {enabled: true}}")
	if replicas := find(t, objects, "Deployment", "").at("spec.replicas"); replicas != nil {
		t.Errorf("beside an autoscaler the Deployment says %v replicas", replicas)
	}
	if count(objects, "HorizontalPodAutoscaler") != 1 || count(release{}.render(t, least), "HorizontalPodAutoscaler") != 0 {
		t.Error("there is an autoscaler unless it is asked for, or none although")
	}
}

// TestEndpointJobs: the catalog is moved once Countersign serves, and put back
// before it goes.
func TestEndpointJobs(t *testing.T) {
	objects := release{}.render(t, least, "{tls: {secret: t}, endpoint: {enabled: true, catalogManagedBy: nobody, region: R, interfaces: [public]}}")
	set, restore := find(t, objects, "Job", "-endpoint-set"), find(t, objects, "Job", "-endpoint-restore")
	if got := fmt.Sprint(set.at("spec.template.spec.containers.0.args")); got != "[endpoint set https://cs-countersign.openstack.svc:9292 --region=R --interface=public]" {
		t.Errorf("the move is %s", got)
	}
	if got := fmt.Sprint(restore.at("spec.template.spec.containers.0.args")); got != "[endpoint restore --region=R --interface=public]" {
		t.Errorf("the way back is %s", got)
	}
	if !strings.Contains(set.annotation("helm.sh/hook"), "post-install") || restore.annotation("helm.sh/hook") != "pre-delete" {
		t.Errorf("they run at %s and %s", set.annotation("helm.sh/hook"), restore.annotation("helm.sh/hook"))
	}
}

// TestRoutes: neither route limits how long an upload takes, or how large it is.
func TestRoutes(t *testing.T) {
	route := find(t, release{}.render(t, least, "{httpRoute: {enabled: true, parentRefs: [{name: g}]}}"), "HTTPRoute", "")
	if got := fmt.Sprint(route.at("spec.rules.0.timeouts")); got != "map[backendRequest:0s request:0s]" {
		t.Errorf("the route's timeouts are %s", got)
	}
	ingress := find(t, release{}.render(t, least, "{ingress: {enabled: true, preset: nginx, annotations: {nginx.ingress.kubernetes.io/proxy-read-timeout: '60'}}}"), "Ingress", "")
	for name, want := range map[string]string{"proxy-body-size": "0", "proxy-request-buffering": "off", "proxy-read-timeout": "60"} {
		if got := ingress.annotation("nginx.ingress.kubernetes.io/" + name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
}

// TestNotes: whoever has installed it is told what is missing, and nothing that
// is not.
func TestNotes(t *testing.T) {
	for _, c := range []struct {
		values, want string
		not          bool
	}{
		{"{}", "No policy is set: every upload is audited", false},
		{"{policy: {text: 'mode: audit'}}", "nothing is refused", false},
		{"{policy: {text: '  - mode: enforce'}}", "nothing is refused", true},
		{"{}", "Glance can still be reached past Countersign", false},
		{"{glanceLockdown: {enabled: true, podLabels: {a: b}}}", "Glance can still be reached", true},
		{"{openstack: {secret: ''}}", "there is no service credential", false},
		{"{}", "there is no service credential", true},
		{"{}", "countersign endpoint set http://cs-countersign.openstack.svc:9292", false},
		{"{endpoint: {enabled: true, catalogManagedBy: nobody}}", "goes back when the release is uninstalled", false},
		{"{}", "Keep a copy", false},
		{"{receipts: {existingSecret: s}}", "Keep a copy", true},
	} {
		_, notes, err := release{}.try(t, least, c.values)
		if err != nil || strings.Contains(notes, c.want) == c.not {
			t.Errorf("%s: the notes say, %v\n%s\nwant %q in it: %v", c.values, err, notes, c.want, !c.not)
		}
	}
}

// TestLabels: no pod of ours is taken for one of Glance's by openstack-helm's
// Service.
func TestLabels(t *testing.T) {
	labels, _ := deployed(t).at("metadata.labels").(map[string]any)
	for _, name := range []string{"application", "component", "release_group"} {
		if _, ok := labels[name]; ok {
			t.Errorf("the pods have the label %s", name)
		}
	}
}

// cluster is one that holds some objects, for `lookup`.
type cluster []*unstructured.Unstructured

func thing(version, kind, name string, data map[string]any) *unstructured.Unstructured {
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": version, "kind": kind,
		"metadata": map[string]any{"name": name, "namespace": "openstack"}}}
	if data != nil {
		o.Object["data"] = data
	}
	return o
}

func (c cluster) GetClientFor(version, kind string) (dynamic.NamespaceableResourceInterface, bool, error) {
	group, err := schema.ParseGroupVersion(version)
	if err != nil {
		return nil, false, err
	}
	resource := group.WithResource(strings.ToLower(kind) + "s")
	scheme := runtime.NewScheme()
	scheme.AddKnownTypeWithName(group.WithKind(kind+"List"), &unstructured.UnstructuredList{})
	var held []runtime.Object
	for _, o := range c {
		if o.GetKind() == kind {
			held = append(held, o)
		}
	}
	return fake.NewSimpleDynamicClient(scheme, slices.Clone(held)...).Resource(resource), true, nil
}
