//go:build e2e

package kubernetes_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestChart is one story: each part begins where the one before has ended.
func TestChart(t *testing.T) {
	must(t, "kubectl", "create", "namespace", namespace)
	must(t, "kubectl", "label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted", "pod-security.kubernetes.io/warn=restricted")
	kubectl(t, "create", "secret", "generic", "countersign-keystone-user", "--from-literal=OS_AUTH_URL="+keystone,
		"--from-literal=OS_USERNAME=countersign", "--from-literal=OS_PASSWORD=stack", "--from-literal=OS_USER_DOMAIN_NAME=Default",
		"--from-literal=OS_PROJECT_NAME=service", "--from-literal=OS_PROJECT_DOMAIN_NAME=Default", "--from-literal=OS_REGION_NAME=RegionOne")
	before := objects(t)
	for _, part := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"a policy with a mistake is not installed", mistakenInstall},
		{"two replicas in a restricted namespace", install},
		{"helm test", helmTest},
		{"the catalog leads to the Service", func(t *testing.T) { catalogLeadsTo(t, address) }},
		{"a signed upload and a tampered one", uploads},
		{"another policy counts without a restart", anotherPolicy},
		{"a policy with a mistake is neither upgraded to nor taken over", mistakenUpgrade},
		{"a rolling upgrade loses nothing", rollingUpgrade},
		{"and so does the way back", rollback},
		{"an uninstall leaves nothing", func(t *testing.T) { uninstall(t, before) }},
	} {
		if !t.Run(part.name, part.run) {
			t.Logf("%s%s", kubectl(t, "get", "pods,jobs"), kubectl(t, "get", "events", "--field-selector=type=Warning"))
			return
		}
	}
}

// mistake is the sentence that `countersign policy check` says of a policy.
func mistake(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "policy.yaml")
	write(t, file, text)
	said, err := command(binaryPath, "policy", "check", file)
	if err == nil {
		t.Fatal("policy check finds no mistake")
	}
	return strings.TrimSpace(strings.TrimPrefix(said, filepath.Dir(file)+"/")) // policy.yaml:12: mode …
}

// mistakes are policies with one of each kind: no YAML, no such member, no such
// value, a value that cannot be, a member missing, one that contradicts another.
func mistakes() map[string]string {
	good := fmt.Sprintf(policy, "audit")
	return map[string]string{
		"no YAML":       "rules: [",
		"no member":     strings.Replace(good, "unowned: true", "unowed: true", 1),
		"no value":      fmt.Sprintf(policy, "enforces"),
		"impossible":    strings.Replace(good, "signers: any", "signers: any\n    min_rsa_bits: 12", 1),
		"missing":       strings.Replace(good, "    signers: any\n", "", 1),
		"contradiction": strings.Replace(good, "      - name: demo\n        domain: Default", "      - name: demo", 1),
	}
}

func mistakenInstall(t *testing.T) {
	for name, text := range mistakes() {
		want := mistake(t, text)
		said, err := upgrade(t, "one", text)
		if err == nil || !strings.Contains(said, want) {
			t.Errorf("%s: helm install: %v\n%s\nwant the sentence of policy check:\n%s", name, err, said, want)
		}
		if left := kubectl(t, "get", "deployments,pods,jobs", "--output=name"); left != "" {
			t.Errorf("%s: it leaves %s", name, left)
		}
		if _, err := helm("uninstall", release, "--ignore-not-found"); err != nil {
			t.Fatal(err)
		}
	}
}

func install(t *testing.T) {
	begin := time.Now()
	said, err := upgrade(t, "one", fmt.Sprintf(policy, "audit"))
	if err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	t.Logf("helm install --wait took %v", time.Since(begin).Round(time.Second))
	if strings.Contains(said, "PodSecurity") || strings.Contains(said, "Warning:") {
		t.Errorf("the cluster warns:\n%s", said)
	}
	if n := strings.Count(pods(t), "\n"); n != 2 {
		t.Errorf("%d pods serve, want 2", n)
	}
	if said := must(t, "helm", "--namespace", namespace, "get", "manifest", release); said != "" {
		file := filepath.Join(t.TempDir(), "manifest.yaml")
		write(t, file, said)
		kubectl(t, "apply", "--dry-run=server", "--validate=strict", "--filename", file) // which misspelt names do not survive
	}
}

func helmTest(t *testing.T) {
	said, err := helm("test", release, "--logs")
	if err != nil || !strings.Contains(said, "Countersign serves") || !strings.Contains(said, "ready") {
		t.Errorf("%v\n%s", err, said)
	}
}

// catalogLeadsTo asks the stack's Keystone.
func catalogLeadsTo(t *testing.T, want string) {
	t.Helper()
	admin := login(t, "admin")
	request, err := http.NewRequest("GET", keystone+"/endpoints?region_id=RegionOne", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Auth-Token", admin.token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || strings.Count(string(body), fmt.Sprintf("%q", want)) < 3 {
		t.Errorf("the catalog does not lead to %s: %v\n%s", want, err, body)
	}
}

func uploads(t *testing.T) {
	demo := login(t, "demo").newSigner(t.TempDir())
	file := filepath.Join(t.TempDir(), "disk.raw")
	data := strings.Repeat("countersign ", 100_000)
	write(t, file, data)
	properties := demo.sign(file)

	good := demo.create(properties)
	if status, answer := demo.upload(good, strings.NewReader(data), int64(len(data))); status != http.StatusNoContent {
		t.Errorf("a signed upload: %d %s", status, answer)
	}
	if image := demo.image(good); image["status"] != "active" {
		t.Errorf("a signed image is %v", image)
	}
	wrong := demo.create(properties)
	status, answer := demo.upload(wrong, strings.NewReader(strings.ToUpper(data)), int64(len(data)))
	if status != http.StatusBadRequest || !strings.Contains(string(answer), "signature_mismatch") {
		t.Errorf("a tampered upload: %d %s", status, answer)
	}
	unsigned := demo.create(nil)
	status, answer = demo.upload(unsigned, strings.NewReader(data), int64(len(data)))
	if status != http.StatusForbidden || !strings.Contains(string(answer), "signature_required") {
		t.Errorf("an unsigned upload: %d %s", status, answer)
	}
}

// anotherPolicy is about a ConfigMap alone: the pods stay the ones they were.
func anotherPolicy(t *testing.T) {
	alt := login(t, "alt")
	try := func() int {
		id := alt.create(nil)
		status, _ := alt.upload(id, strings.NewReader("data"), 4)
		return status
	}
	if status := try(); status != http.StatusNoContent {
		t.Fatalf("while alt is audited an unsigned upload is answered %d", status)
	}
	were := pods(t)
	if said, err := upgrade(t, "one", fmt.Sprintf(policy, "enforce")); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	streak := 0 // either pod may answer
	took := eventually(t, "alt has to sign", 3*time.Minute, func() bool {
		if try() != http.StatusForbidden {
			streak = 0
		} else {
			streak++
		}
		return streak == 8
	})
	t.Logf("the policy counted in both pods after %v", took.Round(time.Second))
	if are := pods(t); are != were {
		t.Errorf("the pods are\n%sand were\n%s", are, were)
	}
}

func mistakenUpgrade(t *testing.T) {
	were := pods(t)
	for name, text := range mistakes() {
		want := mistake(t, text)
		if said, err := upgrade(t, "two", text); err == nil || !strings.Contains(said, want) {
			t.Errorf("%s: helm upgrade: %v\n%s\nwant the sentence of policy check:\n%s", name, err, said, want)
		}
		// Past Helm: whoever may write the ConfigMap is told in the log.
		patch := fmt.Sprintf(`{"data": {"policy.yaml": %q}}`, text)
		kubectl(t, "patch", "configmap", release+"-policy", "--type=merge", "--patch", patch)
		_, sentence, _ := strings.Cut(want, ": ") // the log says which file by its path
		var log string
		eventually(t, name+": the log says so", 3*time.Minute, func() bool {
			log = kubectl(t, "logs", "--selector=app.kubernetes.io/component=proxy", "--tail=-1", "--since=4m")
			return strings.Contains(unquoted(log), sentence)
		})
	}
	demo := login(t, "demo")
	if status, answer := demo.upload(demo.create(nil), strings.NewReader("data"), 4); status != http.StatusForbidden {
		t.Errorf("the last good policy is not in force: %d %s", status, answer)
	}
	if are := pods(t); are != were {
		t.Errorf("the pods are\n%sand were\n%s", are, were)
	}
}

// unquoted is a log without JSON's backslashes.
func unquoted(log string) string { return strings.ReplaceAll(log, `\"`, `"`) }

// traffic asks for small things without a pause, until it is told to stop.
type traffic struct {
	stop   chan struct{}
	done   sync.WaitGroup
	asked  atomic.Int64
	mu     sync.Mutex
	failed []string
}

func begin(u user) *traffic {
	tr := &traffic{stop: make(chan struct{})}
	for worker := range 4 {
		client := &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: worker%2 == 0}}
		tr.done.Go(func() { // ends when stop is closed
			for {
				select {
				case <-tr.stop:
					return
				case <-time.After(100 * time.Millisecond):
					tr.ask(u, client)
				}
			}
		})
	}
	return tr
}

func (tr *traffic) ask(u user, client *http.Client) {
	tr.asked.Add(1)
	request, err := http.NewRequest("GET", address+"/v2/images?limit=1", nil)
	if err == nil {
		request.Header.Set("X-Auth-Token", u.token)
		var response *http.Response
		if response, err = client.Do(request); err == nil {
			_, err = io.Copy(io.Discard, response.Body)
			response.Body.Close()
			if err == nil && response.StatusCode != http.StatusOK {
				err = fmt.Errorf("%s", response.Status)
			}
		}
	}
	if err != nil {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		tr.failed = append(tr.failed, time.Now().Format(time.TimeOnly)+" "+err.Error())
	}
}

// end says what was lost.
func (tr *traffic) end(t *testing.T) {
	t.Helper()
	close(tr.stop)
	tr.done.Wait()
	t.Logf("%d small requests, %d lost", tr.asked.Load(), len(tr.failed))
	if len(tr.failed) > 0 || tr.asked.Load() < 50 {
		t.Errorf("of %d small requests were lost:\n%s", tr.asked.Load(), strings.Join(tr.failed, "\n"))
	}
}

const gibibytes2 = 2 << 30

// slowly is a body that does not come to its end before it may.
type slowly struct {
	io.Reader
	read  atomic.Int64
	until chan struct{} // closed: no longer held back
}

func (s *slowly) Read(p []byte) (int, error) {
	select {
	case <-s.until:
	default:
		if s.read.Load() > gibibytes2*7/8 {
			<-s.until
		}
		time.Sleep(2 * time.Millisecond) // some 16 MiB a second
		p = p[:min(len(p), 32<<10)]
	}
	n, err := s.Reader.Read(p)
	s.read.Add(int64(n))
	return n, err
}

// rollingUpgrade replaces every pod below an upload of 2 GiB.
func rollingUpgrade(t *testing.T) {
	if said, err := upgrade(t, "one", fmt.Sprintf(policy, "audit")); err != nil { // a good one again
		t.Fatalf("%v\n%s", err, said)
	}
	demo := login(t, "demo").newSigner(t.TempDir())
	file := filepath.Join(t.TempDir(), "large.raw")
	large, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer large.Close()
	for at := int64(0); at < gibibytes2; at += 1 << 20 { // no mebibyte is like another
		if _, err := large.WriteAt(binary.BigEndian.AppendUint64(nil, uint64(at+1)), at); err != nil {
			t.Fatal(err)
		}
	}
	if err := large.Truncate(gibibytes2); err != nil {
		t.Fatal(err)
	}
	properties := demo.sign(file)
	id := demo.create(maps.Clone(properties))

	body := &slowly{Reader: large, until: make(chan struct{})}
	uploaded := make(chan string, 1)
	go func() { // ends with the upload
		status, answer, err := demo.send("PUT", "/v2/images/"+id+"/file", "application/octet-stream", body, gibibytes2)
		uploaded <- fmt.Sprint(status, " ", string(answer), " ", err)
	}()
	tr := begin(login(t, "demo"))
	eventually(t, "the upload is under way", time.Minute, func() bool { return body.read.Load() > 64<<20 })
	were := pods(t)
	start := time.Now()
	if said, err := upgrade(t, "two", fmt.Sprintf(policy, "audit")); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	t.Logf("helm upgrade --wait took %v; %d MiB were sent by then", time.Since(start).Round(time.Second), body.read.Load()>>20)
	select {
	case answer := <-uploaded:
		t.Fatalf("the upload ended before the upgrade did: %s", answer)
	default:
	}
	running := kubectl(t, "get", "pods", "--selector=app.kubernetes.io/component=proxy", "--output=wide")
	if !strings.Contains(running, "Terminating") {
		t.Errorf("the pod with the upload is not waiting for it:\n%s", running)
	}
	time.Sleep(15 * time.Second) // the delay in which an ended pod goes on is over: what is new goes to the new ones
	close(body.until)
	if answer := <-uploaded; !strings.HasPrefix(answer, "204 ") {
		t.Errorf("the upload of 2 GiB was answered %s", answer)
	}
	tr.end(t)
	if image := demo.image(id); image["status"] != "active" || image["size"] != float64(gibibytes2) {
		t.Errorf("the image of 2 GiB is %v", image)
	}
	eventually(t, "the old pods have gone", 2*time.Minute, func() bool { return strings.Count(pods(t), "\n") == 2 })
	for line := range strings.Lines(were) {
		if strings.Contains(pods(t), line) {
			t.Errorf("a pod was not replaced: %s", line)
		}
	}
	serves(t, "two")
	demo.send("DELETE", "/v2/images/"+id, "", nil, 0)
}

// serves looks which version the pods say they are.
func serves(t *testing.T, version string) {
	t.Helper()
	log := kubectl(t, "logs", "--selector=app.kubernetes.io/component=proxy", "--tail=-1")
	if n := strings.Count(log, `"version":"`+version+`"`); n != 2 {
		t.Errorf("%d pods are version %s, want 2", n, version)
	}
}

func rollback(t *testing.T) {
	key := kubectl(t, "get", "secret", release+"-receipt", "--output=jsonpath={.data}")
	tr := begin(login(t, "demo"))
	if said, err := helm("rollback", release, "--wait", "--timeout", "5m"); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	time.Sleep(15 * time.Second)
	tr.end(t)
	eventually(t, "the old pods have gone", 2*time.Minute, func() bool { return strings.Count(pods(t), "\n") == 2 })
	serves(t, "one")
	if now := kubectl(t, "get", "secret", release+"-receipt", "--output=jsonpath={.data}"); now != key {
		t.Error("the receipts' key is another one now")
	}
}

// objects are all that there are in the namespace, but for those that say what
// happened.
func objects(t *testing.T) string {
	t.Helper()
	kinds := strings.Fields(must(t, "kubectl", "api-resources", "--namespaced", "--verbs=list", "--output=name"))
	var asked []string
	for _, kind := range kinds {
		if !strings.HasPrefix(kind, "events") {
			asked = append(asked, kind)
		}
	}
	return kubectl(t, "get", strings.Join(asked, ","), "--output=name", "--ignore-not-found")
}

func uninstall(t *testing.T, before string) {
	if said, err := helm("uninstall", release, "--wait", "--timeout", "5m"); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	catalogLeadsTo(t, glance)
	var now string
	took := eventually(t, "nothing is left", 2*time.Minute, func() bool {
		now = objects(t)
		return now == before || len(now) < len(before)
	})
	t.Logf("nothing but what was there before is left after %v", took.Round(time.Second))
	if now != before {
		t.Errorf("there is now\n%s\nand was\n%s", now, before)
	}
}
