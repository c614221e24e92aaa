package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/proxy"
)

const imageA = "0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d"

// arrival is a request as it came to Glance.
type arrival struct {
	method, target, host string
	header               http.Header
	body                 string
	length               int64
	coding               []string
	trailer              http.Header
}

// recorder stands in for Glance: it takes everything and keeps it. The proxy's
// own looks at images go to the fake.
type recorder struct {
	mu       sync.Mutex // guards arrivals
	arrivals []arrival
}

func record200(s *stage) *recorder {
	rec := &recorder{}
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("User-Agent") == "countersign" && r.Method == "GET" {
			return false
		}
		body, _ := io.ReadAll(r.Body)
		rec.mu.Lock()
		defer rec.mu.Unlock()
		rec.arrivals = append(rec.arrivals, arrival{r.Method, r.RequestURI, r.Host, r.Header.Clone(), string(body),
			r.ContentLength, r.TransferEncoding, r.Trailer.Clone()})
		return true
	}
	return rec
}

// take returns what arrived since it was last asked.
func (rec *recorder) take() []arrival {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	taken := rec.arrivals
	rec.arrivals = nil
	return taken
}

// raw sends bytes as they are and returns the answer, nil if there was none.
func (s *stage) raw(text string) (*http.Response, string) {
	s.t.Helper()
	connection, err := net.Dial("tcp", s.server.Listener.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(connection, text); err != nil {
		s.t.Fatal(err)
	}
	method, _, _ := strings.Cut(text, " ")
	res, err := http.ReadResponse(bufio.NewReader(connection), &http.Request{Method: method})
	if err != nil {
		return nil, ""
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res, string(body)
}

// line sends a request without a body, spelled as given, with more headers if
// there are any.
func (s *stage) line(method, target string, header ...string) (*http.Response, string) {
	s.t.Helper()
	text := method + " " + target + " HTTP/1.1\r\nHost: glance.example\r\nConnection: close\r\nX-Auth-Token: token-b\r\n"
	for _, h := range header {
		text += h + "\r\n"
	}
	return s.raw(text + "\r\n")
}

func TestPathsArriveCanonicalOrNotAtAll(t *testing.T) {
	s := newStage(t)
	s.glance.put(record{"id": imageA, "owner": "b", "status": "queued"})
	rec := record200(s)
	allow := func(method, sent, want string) {
		t.Helper()
		res, body := s.line(method, sent, "Content-Length: 0")
		got := rec.take()
		if res == nil || res.StatusCode != 200 || len(got) != 1 || got[0].method != method || got[0].target != want {
			t.Errorf("%s %s arrives as %v (%s), want %s", method, sent, got, body, want)
		}
	}
	deny := func(status int, method, sent string) {
		t.Helper()
		res, _ := s.line(method, sent, "Content-Length: 0")
		if got := rec.take(); len(got) != 0 {
			t.Errorf("%s %s arrives as %s %s, want nothing to arrive", method, sent, got[0].method, got[0].target)
		}
		if res == nil || res.StatusCode != status {
			t.Errorf("%s %s = %v, want %d", method, sent, res, status)
		}
	}
	image := "/v2/images/" + imageA
	hex := func(s string) string { // every octet encoded, needlessly
		var out strings.Builder
		for _, c := range []byte(s) {
			fmt.Fprintf(&out, "%%%02x", c)
		}
		return out.String()
	}

	// As the API reference spells it.
	for _, path := range []string{"/", "/versions", "/versions/", "/healthcheck", "/v2", "/v2/", "/v2/images", image, image + "/file",
		"/v2.0/images", "/v2.17/images", image + "/members/0dbf2815", "/v2/schemas/image", "/v2/schemas/metadefs/tag", "/v2/info/import",
		"/v2/metadefs/namespaces/OS::Compute::Libvirt/objects", "/v2/tasks/" + imageA} {
		allow("GET", path, path)
	}
	allow("HEAD", "/healthcheck", "/healthcheck")
	allow("HEAD", "/", "/")
	allow("PUT", image+"/file", image+"/file")
	allow("PUT", "/v2.9/images/"+imageA+"/file", "/v2.9/images/"+imageA+"/file")
	allow("POST", image+"/actions/reactivate", image+"/actions/reactivate")
	allow("DELETE", "/v2/stores/fast/"+imageA, "/v2/stores/fast/"+imageA)

	// Spelled as real clients do by mistake.
	allow("PUT", "//v2//images/"+imageA+"///file", image+"/file")
	allow("GET", "///", "/")
	allow("GET", "//versions//", "/versions/")
	allow("PUT", "/%762/im%61ges/"+imageA+"/f%69le", image+"/file")
	allow("PUT", "/"+hex("v2")+"/"+hex("images")+"/"+hex(imageA)+"/"+hex("file"), image+"/file")
	allow("PUT", "http://elsewhere.example"+image+"/file", image+"/file")
	allow("PUT", "HTTP://elsewhere.example/"+image+"/file", image+"/file")
	allow("PUT", image+"/file?", image+"/file")
	allow("PUT", image+"/file?&&", image+"/file")

	// Names of people's own stay what they are, once encoded.
	allow("PUT", image+"/tags/a%20b", image+"/tags/a%20b")
	allow("PUT", image+"/tags/%e2%98%83", image+"/tags/%E2%98%83")
	allow("PUT", image+"/tags/\u2603", image+"/tags/%E2%98%83")
	allow("PUT", image+"/tags/a;b,c", image+"/tags/a%3Bb%2Cc")
	allow("PUT", image+"/tags/%23", image+"/tags/%23")
	allow("PUT", image+"/tags/%3f_method=PUT", image+"/tags/%3F_method=PUT")
	allow("PUT", image+"/tags/%252e%252e%252ffile", image+"/tags/%252e%252e%252ffile")
	allow("PUT", image+"/tags/...", image+"/tags/...")
	allow("PUT", image+"/tags/%5c", image+"/tags/%5C")
	allow("PUT", image+"/tags/\"<>\\^`{|}", image+"/tags/%22%3C%3E%5C%5E%60%7B%7C%7D")

	// Dot segments, raw and encoded.
	for _, dots := range []string{"/.", "/..", "/%2e", "/%2E%2e", "/.%2e", "/%2e."} {
		deny(404, "PUT", image+dots+"/file")
		deny(404, "PUT", image+"/tags"+dots+"/file")
		deny(404, "PUT", image+"/tags"+dots)
		deny(404, "GET", dots+"/v2/images")
	}
	deny(404, "PUT", "/v2/images/"+imageA+"/tags/x/../../file")

	// What WSGI servers and Routes would decode, drop or cut.
	for _, path := range []string{image + "%2ffile", image + "%2Ffile", image + "/tags%2fx", "/v2%2fimages", image + "/tags%2fx\"",
		image + "/file%0a", image + "/file%0d", image + "/file%00", image + "/file%7f", image + "/tags/x%0a", image + "/tags/%00",
		image + "/file%20", image + "/%20file", "/v2%20/images/" + imageA + "/file", image + "/file%c2%a0",
		image + "/file#", image + "/file#x", image + "/tags/x#y", "/v2#/images", image + "/file%23",
		image + "/file;", image + "/file;x=y", "/v2;/images/" + imageA + "/file", image + "/file%3b",
		image + "/file%3f", image + "/file%3f_method=PUT",
		image + "/file%c0%af", image + "/tags/%c0%ae", image + "/tags/%ff", image + "/tags/\xff", image + "/tags/%ed%a0%80", image + "/tags/%f8%88%80%80%80",
		image + "/file/", "/v2/images/", image + "/", image + "/tags/", image + "/file//",
		image + "\\file", image + "%5cfile", image + "/file.json", image + "/file:", image + "/FILE", image + "/File",
		"/v2/Images/" + imageA + "/file", "/V2/images/" + imageA + "/file", "/image" + image + "/file"} {
		deny(404, "PUT", path)
	}
	for _, id := range []string{strings.ToUpper(imageA), "0A1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d", strings.ReplaceAll(imageA, "-", ""), "{" + imageA + "}",
		"%7b" + imageA + "%7d", "urn:uuid:" + imageA, imageA + "%20", "%20" + imageA, imageA[1:], imageA + "0", "x", imageA + "%00", imageA + "%0a",
		"\uff10" + imageA[1:]} {
		deny(404, "PUT", "/v2/images/"+id+"/file")
		deny(404, "GET", "/v2/images/"+id)
		deny(404, "PUT", "/v2/cache/"+id)
	}
	for _, version := range []string{"v1", "v1.0", "v1.1", "v3", "v2.", "v2.100", "v2.x", "v2.-1", "v2.1.1", "2", "v02", "v2_0", "V2", "v", "v2.%d9%a1"} {
		deny(404, "GET", "/"+version+"/images")
		deny(404, "PUT", "/"+version+"/images/"+imageA+"/file")
	}
	deny(404, "PUT", "/v2/images/"+imageA+"/unknown")
	deny(404, "GET", "/v2/images/detail")
	deny(404, "PUT", "http://elsewhere.example")
	deny(404, "GET", "*")
	deny(404, "PUT", "*")

	// Incomplete encodings do not come past net/http, with a plain 400.
	for _, path := range []string{image + "/file%", image + "/file%2", image + "/file%zz", "v2/images/" + imageA + "/file", image + "/\x01", image + "/\x7f"} {
		deny(400, "PUT", path)
	}

	// Methods.
	for _, method := range []string{"put", "Put", "PUTT", "POST", "PATCH", "DELETE", "HEAD", "TRACE", "COPY", "BREW", "_method", "X"} {
		deny(405, method, image+"/file")
	}
	deny(405, "HEAD", "/v2/images")
	deny(405, "PUT", "/v2/images")
	deny(404, "CONNECT", image+"/file")
	deny(404, "CONNECT", "glance.example:9292")
	deny(400, "PUT\t", image+"/file")
}

func TestServerWideOptionsDoNotReachGlance(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	s.line("OPTIONS", "*")
	if got := rec.take(); len(got) != 0 {
		t.Errorf("OPTIONS * arrives as %v, want nothing to arrive", got)
	}
}

func TestPreflightPasses(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	for _, path := range []string{"/", "/versions", "/v2/images", "/v2/images/" + imageA, "/v2/images/" + imageA + "/file", "/v2/images/" + imageA + "/stage"} {
		res, _ := s.line("OPTIONS", path, "Origin: https://horizon.example", "Access-Control-Request-Method: PUT")
		got := rec.take()
		if res == nil || res.StatusCode != 200 || len(got) != 1 || got[0].method != "OPTIONS" || got[0].target != path ||
			got[0].header.Get("Access-Control-Request-Method") != "PUT" || got[0].header.Get("Origin") != "https://horizon.example" {
			t.Errorf("OPTIONS %s arrives as %v, want it as it is", path, got)
		}
	}
	for _, path := range []string{"/v2/images/x/y/z", "/v2/images?_method=PUT", "/v2/images?x=y"} {
		s.line("OPTIONS", path)
		if got := rec.take(); len(got) != 0 {
			t.Errorf("OPTIONS %s arrives as %v, want nothing to arrive", path, got)
		}
	}
}

func TestWrongMethodTellsTheRightOnes(t *testing.T) {
	s := newStage(t)
	for path, want := range map[string]string{
		"/v2/images": "GET, POST", "/v2/images/" + imageA: "GET, PATCH, DELETE", "/v2/images/" + imageA + "/file": "PUT, GET",
		"/v2/images/" + imageA + "/stage": "PUT", "/v2/images/" + imageA + "/import": "POST",
	} {
		res, body := s.line("BREW", path)
		if res == nil || res.StatusCode != 405 || res.Header.Get("Allow") != want {
			t.Errorf("BREW %s = %v %s, want 405 with Allow: %s", path, res, body, want)
		}
	}
}

func TestExtraRoutesAreForReadingOnly(t *testing.T) {
	s := newStage(t, func(c *proxy.Config) { c.ExtraGET = []string{"/v2/vendor/{name}", "/v2/images/{id}/vendor"} })
	rec := record200(s)
	for _, path := range []string{"/v2/vendor/x", "/v2.3/vendor/x?y=z", "/v2/images/" + imageA + "/vendor"} {
		s.line("GET", path)
		if got := rec.take(); len(got) != 1 || got[0].target != path {
			t.Errorf("GET %s arrives as %v, want it as it is", path, got)
		}
	}
	for _, request := range [][2]string{{"PUT", "/v2/vendor/x"}, {"POST", "/v2/vendor/x"}, {"GET", "/v2/vendor/x/y"}, {"GET", "/v2/vendor/"},
		{"GET", "/v2/vendor/x?_method=PUT"}, {"GET", "/v2/images/X/vendor"}} {
		s.line(request[0], request[1])
		if got := rec.take(); len(got) != 0 {
			t.Errorf("%s %s arrives as %v, want nothing to arrive", request[0], request[1], got)
		}
	}
}

func TestQueriesArriveWithTheSameMeaningOrNotAtAll(t *testing.T) {
	s := newStage(t)
	s.glance.put(record{"id": imageA, "owner": "b", "status": "queued"})
	rec := record200(s)
	type pair struct{ key, value string }
	allow := func(query string, want ...pair) {
		t.Helper()
		res, body := s.line("GET", "/v2/images?"+query)
		got := rec.take()
		if res == nil || len(got) != 1 {
			t.Errorf("?%s arrives as %v (%s), want %v", query, got, body, want)
			return
		}
		_, raw, _ := strings.Cut(got[0].target, "?")
		var pairs []pair
		for part := range strings.SplitSeq(raw, "&") {
			if part == "" {
				continue
			}
			key, value, _ := strings.Cut(part, "=")
			key, err1 := url.QueryUnescape(key)
			value, err2 := url.QueryUnescape(value)
			if err1 != nil || err2 != nil {
				t.Errorf("?%s arrives as ?%s, which does not decode", query, raw)
			}
			pairs = append(pairs, pair{key, value})
		}
		if !slices.Equal(pairs, want) {
			t.Errorf("?%s arrives as ?%s, that is %q, want %q", query, raw, pairs, want)
		}
	}
	deny := func(method, target string) {
		t.Helper()
		res, _ := s.line(method, target)
		if got := rec.take(); len(got) != 0 {
			t.Errorf("%s %s arrives as %s, want nothing to arrive", method, target, got[0].target)
		}
		if res == nil || res.StatusCode != 400 {
			t.Errorf("%s %s = %v, want 400", method, target, res)
		}
	}
	allow("")
	allow("&&")
	allow("limit=25", pair{"limit", "25"})
	allow("tag=a&tag=b", pair{"tag", "a"}, pair{"tag", "b"})
	allow("sort_key=name&sort_dir=asc&sort_key=size&sort_dir=desc", pair{"sort_key", "name"}, pair{"sort_dir", "asc"}, pair{"sort_key", "size"}, pair{"sort_dir", "desc"})
	allow("sort=name:asc,size", pair{"sort", "name:asc,size"})
	allow("name=in:%22a,b%22,c", pair{"name", `in:"a,b",c`})
	allow(`name=in:"a,b"`, pair{"name", `in:"a,b"`})
	allow("name=a+b%2Bc%20d", pair{"name", "a b+c d"})
	allow("name=%e2%98%83", pair{"name", "\u2603"})
	allow("name=\u2603", pair{"name", "\u2603"})
	allow("a=1;b=2", pair{"a", "1;b=2"})
	allow("a;_method=PUT", pair{"a;_method", "PUT"})
	allow("a=b%26_method%3DPUT", pair{"a", "b&_method=PUT"})
	allow("name", pair{"name", ""})
	allow("name=", pair{"name", ""})
	allow("name=a=b", pair{"name", "a=b"})
	allow("img_signature_hash_method=SHA-256", pair{"img_signature_hash_method", "SHA-256"})
	allow("x_method=PUT", pair{"x_method", "PUT"})
	allow("name=_method", pair{"name", "_method"})
	allow("created_at=gte:2016-01-01T00:00:00Z", pair{"created_at", "gte:2016-01-01T00:00:00Z"})
	allow("name=a#b", pair{"name", "a#b"})

	for _, query := range []string{"_method=PUT", "_method", "_method=", "_METHOD=PUT", "_Method=put", "%5fmethod=PUT", "_%6dethod=PUT", "a=b&_method=PUT",
		"_method=GET&_method=PUT", "&_method=PUT", "%20_method=PUT", "+_method+=PUT", "_method%20=PUT", "%C2%A0_method=PUT", "\u2003_method=PUT",
		"a=%", "a=%zz", "%=b", "a=%ff", "%ff=b", "a=%00", "_method%00=PUT", "a=%0a", "a=%7f", "_meth%ffod=PUT", "a=%ed%a0%80", "a=%c0%af"} {
		deny("GET", "/v2/images?"+query)
		deny("PUT", "/v2/images/"+imageA+"/file?"+query)
	}
	for _, query := range []string{"x=y", "limit=1", "=", "=x", "%20=", "detailed=1"} {
		deny("PUT", "/v2/images/"+imageA+"/file?"+query)
		deny("POST", "/v2/images/"+imageA+"/import?"+query)
		deny("POST", "/v2/images?"+query)
	}
	if res, _ := s.line("GET", "/healthcheck?detailed=True"); res == nil || res.StatusCode != 200 {
		t.Errorf("GET /healthcheck?detailed=True = %v, want 200", res)
	}
}

func TestIdentityHeadersAreNotBelieved(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	for _, name := range []string{"X-Storage-Token", "x-storage-token", "X_Auth_Token", "X-Auth_Token", "x_auth-token", "X-Identity-Status", "x_identity_status",
		"X-Roles", "X-ROLES", "X-Role", "X-User-Id", "X-User", "X-User-Name", "X-User-Domain-Id", "X-Tenant", "X-Tenant-Id", "X-Tenant-Name",
		"X-Project-Id", "X-Project-Domain-Name", "X-Domain-Id", "X-Domain-Name", "X-Service-Roles", "X-Service-Catalog", "X-Service-Identity-Status",
		"X-Service-User-Id", "X-Service-Token-X", "X-Is-Admin-Project", "x-is-admin-project", "X_Is_Admin_Project", "OpenStack-System-Scope",
		"openstack-system-scope", "OPENSTACK_SYSTEM_SCOPE", "Content_Type", "Content_Length", "Transfer_Encoding"} {
		s.line("GET", "/v2/images", name+": spoofed")
		got := rec.take()
		if len(got) != 1 {
			t.Errorf("%s: %d requests arrive, want 1", name, len(got))
			continue
		}
		for arrived, values := range got[0].header {
			if slices.Contains(values, "spoofed") {
				t.Errorf("%s arrives as %s", name, arrived)
			}
		}
		if token := got[0].header["X-Auth-Token"]; !slices.Equal(token, []string{tokenB}) {
			t.Errorf("with %s the token arrives as %q, want %q", name, token, tokenB)
		}
	}
	s.line("GET", "/v2/images", "X-Service-Token: service", "X-Openstack-Nova-Api-Version: 2.1", "X-Image-Meta-Store: fast")
	got := rec.take()
	for name, want := range map[string]string{"X-Service-Token": "service", "X-Openstack-Nova-Api-Version": "2.1", "X-Image-Meta-Store": "fast"} {
		if len(got) != 1 || got[0].header.Get(name) != want {
			t.Errorf("%s does not arrive as %q: %v", name, want, got)
		}
	}
}

// What a client's Connection header names ends at us. The decision must be
// made about the request without it.
func TestHopByHopHeadersEndHere(t *testing.T) {
	s := newStage(t)
	s.glance.put(record{"id": imageA, "owner": "a", "status": "queued"})
	rec := record200(s)
	res, _ := s.raw("PUT /v2/images/" + imageA + "/stage HTTP/1.1\r\nHost: h\r\nConnection: close, x-auth-token\r\nX-Auth-Token: token-a\r\nContent-Length: 0\r\n\r\n")
	if got := rec.take(); res == nil || res.StatusCode != 401 || len(got) != 0 {
		t.Errorf("a token that is for the connection alone = %v, want 401", res)
	}
	s.line("GET", "/v2/images", "Connection: X-Openstack-Request-Id, x-forwarded-for, X-Mine", "Connection: Upgrade,HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ",
		"X-Openstack-Request-Id: req-mine", "X-Mine: x", "X-Forwarded-For: 192.0.2.1", "Keep-Alive: timeout=5", "Proxy-Authorization: Basic x", "Proxy-Connection: close", "TE: trailers", "Trailer: X-Late", "Expect: 100-continue")
	got := rec.take()
	if len(got) != 1 {
		t.Fatalf("%d requests arrive, want 1", len(got))
	}
	for _, name := range []string{"Connection", "Upgrade", "Http2-Settings", "X-Mine", "Keep-Alive", "Proxy-Authorization", "Proxy-Connection", "Trailer", "Expect", "Transfer-Encoding", "X-Forwarded-For"} {
		if values := got[0].header[name]; len(values) > 0 && !(name == "Connection" && values[0] == "close") {
			t.Errorf("%s arrives as %q, want it to end here", name, values)
		}
	}
	if id := got[0].header.Get("X-Openstack-Request-Id"); id != "req-mine" {
		t.Errorf("the request id arrives as %q, want req-mine", id)
	}
}

func TestWhatLinksAreBuiltFromPasses(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	s.line("GET", "/v2/images", "X-Forwarded-For: 192.0.2.1, 192.0.2.2", "X-Forwarded-Proto: https", "X-Forwarded-Host: public.example", "X-Forwarded-Prefix: /image",
		"Forwarded: for=192.0.2.1;proto=https")
	got := rec.take()
	if len(got) != 1 || got[0].host != "glance.example" {
		t.Fatalf("arrives as %v, want one with Host: glance.example", got)
	}
	for name, want := range map[string]string{"X-Forwarded-For": "192.0.2.1, 192.0.2.2", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "public.example",
		"X-Forwarded-Prefix": "/image", "Forwarded": "for=192.0.2.1;proto=https"} {
		if values := got[0].header[name]; !slices.Equal(values, []string{want}) {
			t.Errorf("%s arrives as %q, want %q", name, values, want)
		}
	}
	if _, there := got[0].header["User-Agent"]; there {
		t.Errorf("a User-Agent arrives that nobody sent: %q", got[0].header["User-Agent"])
	}
	s.line("GET", "/v2/images")
	if got := rec.take(); len(got) != 1 || got[0].header.Get("X-Forwarded-For") != "" || got[0].header.Get("X-Forwarded-Proto") != "" {
		t.Errorf("arrives as %v, want no X-Forwarded-* that nobody sent", got)
	}
}

func TestHeadersWithTwoMeaningsAreRefused(t *testing.T) {
	s := newStage(t)
	s.glance.put(record{"id": imageA, "owner": "b", "status": "queued"})
	rec := record200(s)
	deny := func(status int, header ...string) {
		t.Helper()
		for _, request := range [][2]string{{"POST", "/v2/images/" + imageA + "/members"}, {"PUT", "/v2/images/" + imageA + "/file"}, {"GET", "/v2/images"}} {
			res, _ := s.line(request[0], request[1], append(slices.Clone(header), "Content-Length: 0")...)
			if got := rec.take(); len(got) != 0 || res == nil || res.StatusCode != status {
				t.Errorf("%s %s with %q = %v, and arrives %d times, want %d and nothing", request[0], request[1], header, res, len(got), status)
			}
		}
	}
	deny(400, "X-Auth-Token: token-a")
	deny(400, "x-auth-token: token-b")
	deny(400, "X-Service-Token: a", "X-Service-Token: b")
	deny(400, "Content-Type: application/json", "content-type: application/octet-stream")
	deny(400, "Accept: application/vnd.openstack.images-v2")
	deny(400, "Accept: application/vnd.openstack.images-v2.9")
	deny(400, "Accept: Application/VND.OpenStack.Images-v2")
	deny(400, "Accept: text/html", "Accept: application/vnd.openstack.images-v2")
	deny(400, "Accept: */*;q=0.1, application/vnd.openstack.images-v2")
	deny(415, "Content-Type: application/x-www-form-urlencoded")
	deny(415, "Content-Type: APPLICATION/X-WWW-Form-Urlencoded; charset=utf-8")
	deny(415, "Content-Type: application/x-www-form-urlencoded;;;")
	deny(415, "Content-Type: application/x-www-form-urlencoded, application/json")
	deny(415, "Content-Type:   multipart/form-data; boundary=x")
	deny(415, "Content-Type: Multipart/Mixed")
}

// The client's framing is read once and written anew; what two readers could
// read in two ways comes to nothing.
func TestFramingIsWrittenAnew(t *testing.T) {
	s := newStage(t)
	s.glance.put(record{"id": imageA, "owner": "b", "status": "queued"})
	rec := record200(s)
	head := "POST /v2/images/" + imageA + "/members HTTP/1.1\r\nHost: h\r\nX-Auth-Token: token-b\r\nConnection: close\r\nContent-Type: application/json\r\n"
	allow := func(name, text, want string) {
		t.Helper()
		s.raw(head + text)
		got := rec.take()
		if len(got) != 1 || got[0].body != want || len(got[0].trailer) != 0 {
			t.Errorf("%s: arrives as %v, want one with the body %q and no trailer", name, got, want)
			return
		}
		if both := got[0].length >= 0 && len(got[0].coding) > 0; both || len(got[0].header["Content-Length"]) > 1 {
			t.Errorf("%s: arrives with length %d and coding %q, want one of them", name, got[0].length, got[0].coding)
		}
	}
	deny := func(name, text string) {
		t.Helper()
		res, _ := s.raw(head + text)
		if got := rec.take(); len(got) != 0 {
			t.Errorf("%s: arrives as %v, want nothing to arrive", name, got)
		}
		if res == nil || res.StatusCode < 400 {
			t.Errorf("%s = %v, want a refusal", name, res)
		}
	}
	allow("length", "Content-Length: 2\r\n\r\n{}", "{}")
	allow("chunked", "Transfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "{}")
	allow("upper-case chunked", "Transfer-Encoding: CHUNKED\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "{}")
	allow("chunk extensions and trailers", "Transfer-Encoding: chunked\r\nTrailer: X-Roles\r\n\r\n2;x=\"y\"\r\n{}\r\n0;z\r\nX-Roles: admin\r\n\r\n", "{}")
	allow("two equal lengths", "Content-Length: 2\r\nContent-Length: 2\r\n\r\n{}", "{}")
	allow("more than the length", "Content-Length: 2\r\n\r\n{}PUT /v2/images/x HTTP/1.1\r\n\r\n", "{}")
	allow("length and chunked: chunked, as RFC 9112 has it", "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "{}")
	deny("two codings", "Transfer-Encoding: gzip, chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
	deny("two coding headers", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
	deny("identity", "Transfer-Encoding: identity\r\nContent-Length: 2\r\n\r\n{}")
	deny("unknown coding", "Transfer-Encoding: x\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
	deny("chunked with a tab", "Transfer-Encoding: chunked\v\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
	deny("lengths that differ", "Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}")
	deny("no length", "Content-Length: abc\r\n\r\n{}")
	deny("negative length", "Content-Length: -1\r\n\r\n{}")
	deny("signed length", "Content-Length: +2\r\n\r\n{}")
	deny("hexadecimal length", "Content-Length: 0x2\r\n\r\n{}")
	deny("list of lengths", "Content-Length: 2, 2\r\n\r\n{}")
	deny("blank before the colon", "Content-Length : 2\r\n\r\n{}")
	deny("unknown expectation", "Expect: a-miracle\r\nContent-Length: 2\r\n\r\n{}")

	// GET and DELETE bring no body along, whatever they say.
	for _, method := range []string{"GET", "DELETE"} {
		s.raw(method + " /v2/images/" + imageA + " HTTP/1.1\r\nHost: h\r\nX-Auth-Token: token-b\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
		if got := rec.take(); len(got) != 1 || got[0].body != "" || len(got[0].coding) != 0 {
			t.Errorf("%s with a body arrives as %v, want it without", method, got)
		}
	}
}

func TestOneAnswerForEachRequestOnAConnection(t *testing.T) {
	s := newStage(t)
	s.glance.put(record{"id": imageA, "owner": "b", "status": "queued"})
	rec := record200(s)
	s.raw("POST /v2/images/" + imageA + "/members HTTP/1.1\r\nHost: h\r\nX-Auth-Token: token-b\r\nContent-Length: 44\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" +
		"PUT /v2/images/x/file HTTP/1.1\r\nHost: h\r\n\r\n")
	for _, got := range rec.take() {
		if got.method == "PUT" {
			t.Errorf("a request in another's body arrives: %v", got)
		}
	}
}
