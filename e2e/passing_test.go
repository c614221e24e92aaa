//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// framing are the headers in which an answer may differ on its way: they are
// about the connection, which is ours and not Glance's. Under uWSGI Glance
// tells the end of a body by closing; we tell its length or send it chunked.
// The request id and the date are each answer's own, and the reason phrase
// behind the status, which HTTP/1.1 lets anybody choose, is Go's.
var framing = []string{"Connection", "Content-Length", "Transfer-Encoding", "Keep-Alive", "Date", "X-Openstack-Request-Id"}

// request is one of a recorded set. In its path and body {image}, {owner} and
// {namespace} stand for what the play was given.
type request struct {
	method, path string
	header       map[string]string
	body         string
}

func get(path string) request { return request{method: "GET", path: path} }

// with adds a header.
func (r request) with(name, value string) request {
	r.header = maps.Clone(r.header)
	if r.header == nil {
		r.header = map[string]string{}
	}
	r.header[name] = value
	return r
}

func sending(method, path, contentType, body string) request {
	return request{method: method, path: path, body: body}.with("Content-Type", contentType)
}

const (
	jsonType  = "application/json"
	patchType = "application/openstack-images-v2.1-json-patch"
	dataType  = "application/octet-stream"
	nowhere   = "/v2/images/00000000-0000-4000-8000-000000000000"
)

// recorded is what clients ask, from discovery to the deletion of what was made.
var recorded = []request{
	get("/"), get("/versions"), get("/versions/"), get("/v2"), get("/v2/"), get("/healthcheck"),
	get("/v2/schemas/image"), get("/v2/schemas/images"), get("/v2/schemas/member"), get("/v2/schemas/metadefs/namespace"),
	get("/v2/info/import"), get("/v2/info/stores"), get("/v2/info/usage"), get("/v2/info/stores/detail"),
	get("/v2/images/{image}"),
	get("/v2/images?name={name}"),
	get("/v2/images?limit=1&sort_key=name&sort_dir=asc&sort_key=id&name={name}"),
	get("/v2//images/{image}"),
	get("/v2/images?sort_key=nonsense"),
	get(nowhere).with("Accept", "application/json"),
	get(nowhere).with("Accept", "text/html"),
	get(nowhere).with("Accept", "text/plain"),
	get("/v2/images").with("X-Auth-Token", "nobody"),
	sending("POST", "/v2/images", jsonType, `{"name": 7}`),
	sending("POST", "/v2/images", jsonType, `{"disk_format": "floppy", "container_format": "bare"}`).with("Accept", "application/json"),
	sending("PATCH", "/v2/images/{image}", patchType, `[{"op": "add", "path": "/colour", "value": "blue"}, {"op": "replace", "path": "/min_disk", "value": 3}]`),
	sending("PATCH", "/v2/images/{image}", "application/openstack-images-v2.0-json-patch", `[{"replace": "/colour", "value": "gr\u00fcn"}]`),
	sending("PATCH", "/v2/images/{image}", patchType, `[{"op": "remove", "path": "/nothing"}]`),
	sending("PATCH", "/v2/images/{image}", patchType, `[{"op": "replace", "path": "/status", "value": "active"}]`),
	{method: "PUT", path: "/v2/images/{image}/tags/one"},
	{method: "PUT", path: "/v2/images/{image}/tags/zw%C3%B6lf"},
	{method: "DELETE", path: "/v2/images/{image}/tags/one"},
	{method: "DELETE", path: "/v2/images/{image}/tags/one"},
	sending("POST", "/v2/images/{image}/members", jsonType, `{"member": "somebody"}`),
	get("/v2/images/{image}/members"),
	get("/v2/images/{image}/members/somebody"),
	sending("PUT", "/v2/images/{image}/members/somebody", jsonType, `{"status": "accepted"}`),
	{method: "DELETE", path: "/v2/images/{image}/members/somebody"},
	get("/v2/images/{image}/file"),
	sending("PUT", "/v2/images/{image}/file", dataType, "0123456789"),
	get("/v2/images/{image}"),
	get("/v2/images/{image}/file"),
	get("/v2/images/{image}/file").with("Range", "bytes=2-5"),
	get("/v2/images/{image}/file").with("Range", "bytes=-3"),
	get("/v2/images/{image}/file").with("Range", "bytes=100-"),
	get("/v2/images/{image}/file").with("Range", "bytes=0-1,4-5"),
	get("/v2/images/{image}/locations"),
	get("/v2/images/{image}/tasks"),
	get("/v2/tasks"), get("/v2/tasks/00000000-0000-4000-8000-000000000000"),
	sending("POST", "/v2/tasks", jsonType, `{"type": "import", "input": {}}`),
	get("/v2/cache"), get("/v2/cached_images"), get("/v2/queued_images"),
	{method: "PUT", path: "/v2/cache/{image}"},
	{method: "POST", path: "/v2/images/{image}/actions/deactivate"},
	get("/v2/images/{image}/file"),
	{method: "POST", path: "/v2/images/{image}/actions/reactivate"},
	get("/v2/images/{image}/file"),
	{method: "DELETE", path: "/v2/stores/fast/{image}"},
	{method: "OPTIONS", path: "/v2/images"},
	request{method: "OPTIONS", path: "/v2/images"}.with("Origin", "http://horizon.example").with("Access-Control-Request-Method", "GET"),
	get("/v2/metadefs/namespaces?limit=3&sort_key=namespace"),
	get("/v2/metadefs/resource_types"),
	get("/v2/metadefs/namespaces/OS::Compute::Watchdog"),
	sending("POST", "/v2/metadefs/namespaces", jsonType, `{"namespace": "{namespace}"}`),
	{method: "DELETE", path: "/v2/images/{image}"},
	{method: "DELETE", path: "/v2/images/{image}"},
	get("/v2/images/{image}"),
}

// administered is what wants an administrator.
var administered = []request{
	sending("POST", "/v2/metadefs/namespaces", jsonType, `{"namespace": "{namespace}", "description": "e2e", "visibility": "private"}`),
	sending("POST", "/v2/metadefs/namespaces/{namespace}/properties", jsonType, `{"name": "p", "title": "P", "type": "string"}`),
	get("/v2/metadefs/namespaces/{namespace}/properties/p"),
	sending("POST", "/v2/metadefs/namespaces/{namespace}/objects", jsonType, `{"name": "o"}`),
	{method: "POST", path: "/v2/metadefs/namespaces/{namespace}/tags/t"},
	get("/v2/metadefs/namespaces/{namespace}/tags"),
	sending("POST", "/v2/metadefs/namespaces/{namespace}/resource_types", jsonType, `{"name": "OS::Glance::Image"}`),
	get("/v2/metadefs/namespaces/{namespace}"),
	{method: "DELETE", path: "/v2/metadefs/namespaces/{namespace}/resource_types/OS::Glance::Image"},
	{method: "DELETE", path: "/v2/metadefs/namespaces/{namespace}"},
	get("/v2/cache"), get("/v2/tasks?limit=1&type=nothing"), get("/v2/info/stores/detail"),
}

// TestWhatPassesIsWhatItWas plays the recorded requests of an unenforced
// project straight and through the proxy, each with an image of its own, and
// compares the answers.
func TestWhatPassesIsWhatItWas(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		for _, set := range []struct {
			user     string
			requests []request
		}{{"off", recorded}, {"admin", administered}} {
			straight := login(t, set.user, glance.url())
			without := playback(t, straight, set.requests)
			with := playback(t, straight.at(p.url), set.requests)
			for i, r := range set.requests {
				if with[i] != without[i] {
					t.Errorf("%s %s %v %s\nthrough the proxy is answered\n%s\nand straight\n%s", r.method, r.path, r.header, r.body, with[i], without[i])
				}
			}
		}
	})
}

// playback sends the requests one after the other and returns what was
// answered, with what is each play's own replaced.
func playback(t *testing.T, c *client, requests []request) []string {
	t.Helper()
	name := fmt.Sprintf("passing-%d", time.Now().UnixNano())
	id := c.create(map[string]string{"name": name}).id()
	fill := strings.NewReplacer("{image}", id, "{name}", name, "{namespace}", "E2E::"+name)
	plain := strings.NewReplacer(id, "{image}", name, "{name}", c.images, "http://{glance}", strings.Replace(c.images, "http:", "https:", 1), "https://{glance}")
	var answers []string
	for _, r := range requests {
		answers = append(answers, plain.Replace(ask(t, c, r.method, fill.Replace(r.path), r.header, fill.Replace(r.body))))
	}
	return answers
}

var (
	dates = regexp.MustCompile(`\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?`)
	ids   = regexp.MustCompile(`req-[0-9a-f-]{36}`)
)

// ask is a request and its answer as a text: status, headers in order, body.
func ask(t *testing.T, c *client, method, path string, header map[string]string, body string) string {
	t.Helper()
	request, err := http.NewRequest(method, c.images+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-Auth-Token", c.token)
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := (&http.Transport{DisableKeepAlives: true, DisableCompression: true}).RoundTrip(request)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	var out strings.Builder
	fmt.Fprintln(&out, response.StatusCode)
	for _, name := range slices.Sorted(maps.Keys(response.Header)) {
		if !slices.Contains(framing, name) {
			fmt.Fprintf(&out, "%s: %s\n", name, strings.Join(response.Header[name], ", "))
		}
	}
	fmt.Fprintf(&out, "\n%s", text)
	return ids.ReplaceAllString(dates.ReplaceAllString(out.String(), "{date}"), "{request}")
}

// TestAnUnenforcedProjectImports: staging and glance-direct work from end to
// end where no rule enforces.
func TestAnUnenforcedProjectImports(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "off", p.url)
		data := pixels(t, size)
		id := c.create(nil).id()
		if a := c.send("PUT", c.image(id, "stage"), dataType, bytes.NewReader(data)); a.status != http.StatusNoContent {
			t.Fatalf("stage answered %v, want 204", a)
		}
		a := c.send("POST", c.image(id, "import"), jsonType, encode(t, map[string]any{"method": map[string]string{"name": "glance-direct"}}))
		if a.status != http.StatusAccepted {
			t.Fatalf("import answered %v, want 202", a)
		}
		c.at(glance.url()).reaches(id, "active")
		if a := c.download(id); !bytes.Equal(a.body, data) {
			t.Errorf("download answered %d with %d bytes, want the %d that were staged", a.status, len(a.body), len(data))
		}
	})
}

// TestLinksPointAtTheProxy: whoever discovers the Image API through the proxy
// is not led around it.
func TestLinksPointAtTheProxy(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		mounted := mount(t, glance, "/image")
		for _, here := range []struct {
			name, glance string
			environment  []string
			want         string // "" is the proxy's own address
		}{
			{"plainly", glance.url(), nil, ""},
			{"under a prefix", mounted, nil, ""},
			{"under a public name", mounted, []string{"COUNTERSIGN_PUBLIC_URL=https://cloud.example/image"}, "https://cloud.example/image"},
		} {
			t.Run(here.name, func(t *testing.T) {
				p := startProxy(t, glance, policy, append([]string{"COUNTERSIGN_GLANCE_URL=" + here.glance}, here.environment...)...)
				want := here.want
				if want == "" {
					want = p.url
				}
				c := login(t, "demo", p.url)
				for _, path := range []string{"/", "/versions"} {
					a := c.send("GET", p.url+path, "", nil)
					links := regexp.MustCompile(`"href": *"([^"]*)"`).FindAllSubmatch(a.body, -1)
					if len(links) == 0 {
						t.Errorf("GET %s answered %v, want links", path, a)
					}
					for _, link := range links {
						if got := string(link[1]); got != want+"/v2/" {
							t.Errorf("GET %s has a link to %s, want %s/v2/", path, got, want)
						}
					}
				}
				data := pixels(t, size)
				id := createSigned(c, data).id()
				if a := c.upload(id, data); a.status != http.StatusNoContent {
					t.Errorf("upload answered %v, want 204", a)
				}
				wantStatus(t, c.at(glance.url()), id, "active")
				wantRefusal(t, c.upload(id, data), http.StatusConflict, "image_not_queued")
			})
		}
	})
}

// mount serves a Glance under a path, as a web server in front of it would.
func mount(t *testing.T, glance server, prefix string) string {
	t.Helper()
	target, err := url.Parse(glance.url())
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.StripPrefix(prefix, &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host
		},
	})}
	go server.Serve(listener) // ends with the test
	t.Cleanup(func() { server.Shutdown(context.Background()) })
	return "http://" + listener.Addr().String() + prefix
}
