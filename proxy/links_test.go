package proxy_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/countersign/countersign/proxy"
)

const versions = `{"versions": [{"id": "v2.17", "status": "CURRENT", "links": [{"rel": "self", "href": "%[1]s/v2/"}]},
 {"id": "v2.16",  "links": [{"rel": "self", "href": "%[1]s/v2/"}, {"rel": "x", "href": ""}, {"rel": "help", "href": "/relative"}]}]}`

func TestLinksPointAtTheProxy(t *testing.T) {
	address := func(text string) *url.URL {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	for _, c := range []struct {
		name    string
		prefix  string // of Glance
		public  *url.URL
		header  []string
		glances string // what Glance writes
		want    string
	}{
		{"Glance goes by Host", "", nil, nil, "http://glance.example", "http://glance.example"},
		{"Glance has its own idea", "", nil, nil, "http://internal:9292", "http://glance.example"},
		{"under a prefix", "/image", nil, nil, "http://internal:9292/image", "http://glance.example"},
		{"under a prefix with a slash", "/image/", nil, nil, "http://internal:9292/image", "http://glance.example"},
		{"under a prefix that Glance does not know", "/image", nil, nil, "http://internal:9292", "http://glance.example"},
		{"a prefix that only begins so", "/image", nil, nil, "http://internal:9292/imagery", "http://glance.example/imagery"},
		{"a public address", "/image", address("https://public.example:9292/glance/"), nil, "http://internal:9292/image", "https://public.example:9292/glance"},
		{"TLS ended before us", "", nil, []string{"X-Forwarded-Proto: https"}, "http://internal:9292", "https://glance.example"},
		{"a scheme that is none", "", nil, []string{"X-Forwarded-Proto: javascript"}, "http://internal:9292", "http://glance.example"},
	} {
		s := newStage(t, func(config *proxy.Config) {
			config.Glance = address(config.Glance.String() + c.prefix)
			config.PublicURL = c.public
		})
		var asked string
		s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
			asked = r.RequestURI
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Location", c.glances+"/v2/tasks/x?y=z")
			w.WriteHeader(http.StatusMultipleChoices)
			fmt.Fprintf(w, versions, c.glances)
			return true
		}
		for _, path := range []string{"/", "/versions", "/versions/", "/v2/"} {
			res, body := s.line("GET", path, c.header...)
			if want := strings.TrimRight(c.prefix, "/") + path; asked != want {
				t.Errorf("%s: GET %s asks Glance for %s, want %s", c.name, path, asked, want)
			}
			if want := fmt.Sprintf(versions, c.want); body != want || res.StatusCode != 300 {
				t.Errorf("%s: GET %s = %d %s, want %s", c.name, path, res.StatusCode, body, want)
			}
			if got := res.Header.Get("Content-Length"); got != strconv.Itoa(len(body)) {
				t.Errorf("%s: GET %s has Content-Length %s, want %d", c.name, path, got, len(body))
			}
			if got, want := res.Header.Get("Location"), c.want+"/v2/tasks/x?y=z"; got != want {
				t.Errorf("%s: Location is %s, want %s", c.name, got, want)
			}
		}
		if _, body := s.line("GET", "/v2/images", c.header...); body != fmt.Sprintf(versions, c.glances) {
			t.Errorf("%s: the body of another answer is %s, want it as it was", c.name, body)
		}
		if res, body := s.line("HEAD", "/versions", c.header...); res.StatusCode != 300 || body != "" {
			t.Errorf("%s: HEAD /versions = %v %s, want Glance's status and no body", c.name, res, body)
		}
	}
}

func TestLinksThroughTLS(t *testing.T) {
	s := newStage(t)
	var proto string
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		proto = r.Header.Get("X-Forwarded-Proto")
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, versions, "http://internal:9292")
		return true
	}
	server := httptest.NewTLSServer(s.proxy)
	defer server.Close()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	res, err := client.Get(server.URL + "/versions")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	if want := fmt.Sprintf(versions, server.URL); string(body) != want || proto != "https" {
		t.Errorf("through TLS the links are %s and X-Forwarded-Proto %q, want %s and https", body, proto, want)
	}
}

// Only what is surely a version document is touched.
func TestOtherDocumentsStayAsTheyAre(t *testing.T) {
	s := newStage(t)
	for name, c := range map[string]struct{ mediaType, encoding, body string }{
		"text":           {"text/html", "", fmt.Sprintf(versions, "http://internal:9292")},
		"compressed":     {"application/json", "gzip", fmt.Sprintf(versions, "http://internal:9292")},
		"broken":         {"application/json", "", fmt.Sprintf(versions, "http://internal:9292")[:50]},
		"another object": {"application/json", "", `{"versions": {"links": "http://internal:9292"}}`},
		"a list":         {"application/json", "", `["http://internal:9292"]`},
		"empty":          {"application/json", "", ``},
		"long":           {"application/json", "", fmt.Sprintf(versions, "http://internal:9292") + strings.Repeat(" ", 1<<20)},
	} {
		s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Content-Type", c.mediaType)
			if c.encoding != "" {
				w.Header().Set("Content-Encoding", c.encoding)
			}
			io.WriteString(w, c.body)
			return true
		}
		if res, body := s.line("GET", "/versions"); body != c.body {
			t.Errorf("%s: %d bytes became %d: %.200s", name, len(c.body), len(body), body)
		} else if res.StatusCode != 200 {
			t.Errorf("%s: the status is %d, want 200", name, res.StatusCode)
		}
	}
	for _, location := range []string{"/v2/tasks/x", "", "http://", "::", "//internal:9292/x", "http://internal:9292/a%2Fb"} {
		s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
			w.Header().Set("Location", location)
			return true
		}
		res, _ := s.line("GET", "/v2/images")
		want := strings.ReplaceAll(location, "internal:9292", "glance.example")
		if got := res.Header.Get("Location"); got != want {
			t.Errorf("Location: %q becomes %q, want %q", location, got, want)
		}
	}
}
