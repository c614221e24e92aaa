package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy"
)

// canonical are the request lines that Glance may ever see. It says what
// routes.go says, in another way.
var canonical = func() *regexp.Regexp {
	const (
		id      = `[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`
		name    = `(?:[A-Za-z0-9._~$&+=:@-]|%(?:[2-6][0-9A-F]|7[0-9A-E]|[89A-F][0-9A-F]))+`
		image   = `/images/` + id
		members = image + `/members/` + name
		space   = `/metadefs/namespaces`
		many    = space + `/` + name + `/(?:properties|objects|tags)`
		one     = many + `/` + name
	)
	lines := []string{
		`(?:GET|HEAD|OPTIONS) (?:/|/versions)`, `(?:GET|OPTIONS) /versions/`, `(?:GET|HEAD|OPTIONS) /healthcheck(?:\?detailed(?:=[^&]*)?(?:&detailed(?:=[^&]*)?)*)?`,
	}
	for _, row := range []struct{ methods, path string }{
		{`GET`, `/?`}, {`GET|POST`, `/images`}, {`GET|PATCH|DELETE`, image}, {`GET|PUT`, image + `/file`}, {`PUT`, image + `/stage`},
		{`POST`, image + `/import`}, {`GET|POST`, image + `/locations`}, {`POST`, image + `/actions/(?:de|re)activate`},
		{`PUT|DELETE`, image + `/tags/` + name}, {`GET`, image + `/tasks`}, {`GET|POST`, image + `/members`}, {`GET|PUT|DELETE`, members},
		{`DELETE`, `/stores/` + name + `/` + id}, {`GET|POST`, `/tasks`}, {`GET|DELETE`, `/tasks/` + name},
		{`GET`, `/info/(?:import|stores|stores/detail|usage)`}, {`GET`, `/schemas/(?:metadefs/)?` + name},
		{`GET|DELETE`, `/(?:cache|cached_images|queued_images)`}, {`PUT|DELETE`, `/(?:cache|queued_images)/` + id}, {`DELETE`, `/cached_images/` + id},
		{`GET`, `/metadefs/resource_types`}, {`GET|POST`, space}, {`GET|PUT|DELETE`, space + `/` + name}, {`GET|POST`, space + `/` + name + `/resource_types`},
		{`DELETE`, space + `/` + name + `/resource_types/` + name}, {`GET|POST|DELETE`, many}, {`GET|PUT|DELETE`, one}, {`POST`, space + `/` + name + `/tags/` + name},
	} {
		lines = append(lines, `(?:`+row.methods+`|OPTIONS) /v2(?:\.[0-9]{1,2})?`+row.path)
	}
	query := `GET /v2(?:\.[0-9]{1,2})?(?:/images|/tasks|/metadefs/[^?]*)\?[^# ]*`
	return regexp.MustCompile(`\A(?:` + strings.Join(append(lines, query), `|`) + `)\z`)
}()

var dotSegment = regexp.MustCompile(`/\.\.?(?:[/?]|\z)`)

// lines is a Glance behind a pipe that keeps the request lines it is sent, to
// the byte.
type lines struct {
	mu      sync.Mutex // guards written
	written []string
}

func (l *lines) dial(context.Context) (net.Conn, error) {
	near, far := net.Pipe()
	go func() { // ends with the connection
		defer far.Close()
		in := bufio.NewReader(far)
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		l.mu.Lock()
		l.written = append(l.written, strings.TrimSuffix(line, " HTTP/1.1\r\n"))
		l.mu.Unlock()
		r, err := http.ReadRequest(bufio.NewReader(io.MultiReader(strings.NewReader(line), in)))
		if err != nil {
			return
		}
		io.Copy(io.Discard, r.Body)
		body := `{"id": "` + imageA + `", "owner": "b", "status": "queued"}`
		if r.Method == "HEAD" {
			body = ""
		}
		fmt.Fprintf(far, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
	}()
	return near, nil
}

// take returns what was sent since it was last asked.
func (l *lines) take() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.written
	l.written = nil
	return taken
}

// nowhere is a writer of answers that nobody reads.
type nowhere struct {
	header http.Header
	status int
}

func (w *nowhere) Header() http.Header { return w.header }
func (w *nowhere) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}
func (w *nowhere) Write(p []byte) (int, error) { w.WriteHeader(200); return len(p), nil }

// newSilentProxy is a proxy before whatever dial leads to.
func newSilentProxy(t testing.TB, dial func(context.Context) (net.Conn, error)) *proxy.Proxy {
	t.Helper()
	rules, err := policy.Load(strings.NewReader(testPolicy))
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }}
	t.Cleanup(transport.CloseIdleConnections)
	return proxy.New(proxy.Config{
		Glance: &url.URL{Scheme: "http", Host: "glance.example"}, Policies: rules, Dial: dial,
		Transport:    transport,
		Certificates: &fakeBarbican{}, Identities: &fakeKeystone{}, SettleTimeout: time.Second, LingerTimeout: time.Second, MaxBody: 1 << 20,
		Log: zerolog.Nop(),
	})
}

// FuzzGate sends any request line and any header. Whatever of it reaches
// Glance has a canonical request line.
func FuzzGate(f *testing.F) {
	image := "/v2/images/" + imageA
	f.Add("PUT", image+"/file", "Content-Type: application/octet-stream")
	f.Add("GET", "//v2.3///images?tag=a&tag=b;c", "Accept: */*")
	f.Add("GET", image+"/tags/..%2ffile?_method=PUT", "X_Auth_Token: x")
	f.Add("OPTIONS", "http://h/%762/images/%2e%2e/x", "Origin: x")
	f.Add("POST", image+"/tags/a#b\"%23", "Connection: x-auth-token")
	f.Add("DELETE", image+"/tags/%252e", "Content-Length: 3")
	f.Add("HEAD", "/healthcheck?detailed", "X-Forwarded-Proto: https")
	glance := &lines{}
	p := newSilentProxy(f, glance.dial)
	f.Fuzz(func(t *testing.T, method, target, header string) {
		text := method + " " + target + " HTTP/1.1\r\nHost: h\r\nX-Auth-Token: token-b\r\n" + header + "\r\n\r\n"
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(text)))
		if err != nil {
			return // net/http's server answers that
		}
		w := &nowhere{header: http.Header{}}
		p.ServeHTTP(w, r)
		written := glance.take()
		for _, line := range written {
			if path, _, _ := strings.Cut(line, "?"); !canonical.MatchString(line) || strings.Contains(path, "%2F") || dotSegment.MatchString(path) {
				t.Errorf("%q reaches Glance as %q", method+" "+target, line)
			}
			if query := line[strings.Index(line+"?", "?"):]; query != "" {
				values, err := url.ParseQuery(query[1:])
				if err != nil || values.Has("_method") {
					t.Errorf("%q reaches Glance with the query %q", method+" "+target, query)
				}
			}
		}
		if len(written) == 0 && w.status < 400 {
			t.Errorf("%q is answered %d without Glance", method+" "+target, w.status)
		}
	})
}
