package proxy_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/countersign/countersign/proxy"
)

// Which of its three shapes webob 1.8 chooses was seen by asking it.
func TestRefusalsHaveTheShapeGlanceWouldChoose(t *testing.T) {
	s := newStage(t)
	const html, jsn, plain = "text/html; charset=UTF-8", "application/json", "text/plain; charset=UTF-8"
	for _, c := range []struct{ accept, want string }{
		{`*/*`, html}, {`application/json`, jsn}, {`text/html`, html}, {`text/plain`, plain}, {`text/*`, html}, {`application/*`, jsn},
		{`application/json, text/html`, html}, {`text/html, application/json`, html}, {`application/json;q=0.9, text/html;q=0.8`, jsn},
		{`text/html;q=0.5, */*;q=0.1`, html}, {`application/json;q=0, */*`, html}, {`text/html;q=0, */*`, jsn}, {`*/*;q=0`, plain},
		{`text/html;level=1`, plain}, {`text/html;level=1, application/json;q=0.5`, jsn}, {`application/json;charset=utf-8`, plain},
		{`application/json; q=1.0`, jsn}, {`APPLICATION/JSON`, jsn}, {`Text/HTML;Q=0.2, application/json;q=0.1`, html},
		{`garbage`, html}, {`a/b/c`, html}, {`application/json,`, jsn}, {`application/json;q=2`, html}, {`application/json;q=x`, html},
		{`*`, html}, {`*/json`, plain}, {`application/json;q=0.000`, plain}, {`image/png`, plain},
		{`application/xml, application/json;q=0.5, */*;q=0.2`, jsn}, {`text/html;q=0.5, application/json;q=0.5`, html},
		{`text/html;q=0.5, application/json;q=0.6`, jsn}, {`application/json;q=0.0001`, html}, {`application/json;q=.5`, html},
		{`*/*;q=0.5, application/json;q=0`, html}, {`application/json;version=1;q=0.5, text/*;q=0.4`, html},
		{"image/png\r\nAccept: application/json", jsn}, // two headers are one list to WSGI
		{``, html}, // not as webob, which answers plain text: openstacksdk sends an empty one and prints nothing of a plain text
	} {
		res, _ := s.line("GET", "/unknown", "Accept: "+c.accept)
		if got := res.Header.Get("Content-Type"); got != c.want {
			t.Errorf("with Accept: %q a refusal is %s, want %s", c.accept, got, c.want)
		}
	}
	res, _ := s.line("GET", "/unknown")
	if got := res.Header.Get("Content-Type"); got != plain {
		t.Errorf("without Accept a refusal is %s, want %s", got, plain)
	}
}

func TestRefusalsSayTheSameInEveryShape(t *testing.T) {
	s := newStage(t)
	id := s.image("a", map[string]string{"status": "active"})
	refused := func(accept string) (*http.Response, string) {
		t.Helper()
		body := `[{"op":"remove","path":"/img_signature"}]`
		text := "PATCH /v2/images/" + id + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\nX-Auth-Token: token-a\r\nX-Openstack-Request-Id: req-mine\r\n" +
			"Content-Type: " + patch21 + "\r\nAccept: " + accept + "\r\nContent-Length: " + fmt.Sprint(len(body)) + "\r\n\r\n" + body
		res, answer := s.raw(text)
		if res.StatusCode != 403 || res.ContentLength != int64(len(answer)) {
			t.Errorf("a refusal for %s is %v with %d bytes, want 403 and their length", accept, res, len(answer))
		}
		return res, answer
	}
	const sentence = "img_signature is fixed once the image has left queued, and this one is active (door_closed). Cure: "
	_, plain := refused("text/plain")
	if !strings.HasPrefix(plain, "403 Forbidden\n\n"+sentence) || !strings.HasSuffix(plain, "\n\nreq-mine\n") {
		t.Errorf("as plain text: %q", plain)
	}
	_, html := refused("text/html")
	if !strings.Contains(html, "<title>403 Forbidden</title>") || !strings.Contains(html, "<h1>403 Forbidden</h1>\n  "+sentence) {
		t.Errorf("as HTML: %q", html)
	}
	_, text := refused("application/json")
	var answer map[string]string
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		t.Fatalf("as JSON: %q: %v", text, err)
	}
	for name, want := range map[string]string{"code": "403 Forbidden", "title": "Forbidden", "reason": "door_closed", "property": "img_signature", "request_id": "req-mine"} {
		if answer[name] != want {
			t.Errorf("as JSON %s is %q, want %q", name, answer[name], want)
		}
	}
	if !strings.HasPrefix(answer["message"], sentence) || !strings.HasSuffix(answer["message"], answer["cure"]+".") || answer["cure"] == "" {
		t.Errorf("as JSON message is %q and cure %q", answer["message"], answer["cure"])
	}
}

func TestRefusalsEchoNoMarkup(t *testing.T) {
	s := newStage(t)
	id := s.image("b", nil)
	_, answer := s.do("PATCH", "/v2/images/"+id, tokenB, strings.NewReader(`[{"op":"add","path":"<script>&"}]`), "Content-Type", patch21, "Accept", "text/html")
	if strings.Contains(answer, "<script>") || !strings.Contains(answer, "&lt;script&gt;&amp;") {
		t.Errorf("a refusal in HTML is %q, want what was sent escaped", answer)
	}
	long := strings.Repeat("x", 100_000)
	if _, answer := s.do("PATCH", "/v2/images/"+id, tokenB, strings.NewReader(`[{"`+long+`":1,"`+long+`":2}]`), "Content-Type", patch21); len(answer) > 2000 {
		t.Errorf("a refusal has %d bytes, want it not to echo what was sent", len(answer))
	}
}

func TestRequestIDs(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	own := regexp.MustCompile(`^req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)
	for id, adopted := range map[string]bool{
		"req-0a1b2c3d-4e5f-4a6b-8c7d-9e0f1a2b3c4d": true, "req-x": true, "": false, "x": false, "req-": false, "req-a b": false, "REQ-x": false,
		"req-<script>": false, "req-\u2603": false, "req-" + strings.Repeat("x", 60): true, "req-" + strings.Repeat("x", 61): false, // Glance refuses more than 64
		"req-x, req-y": false,
	} {
		for _, path := range []string{"/unknown", "/v2/images"} {
			res, _ := s.line("GET", path, "X-OpenStack-Request-ID: "+id)
			got := res.Header["X-Openstack-Request-Id"]
			if len(got) != 1 || adopted && got[0] != id || !adopted && !own.MatchString(got[0]) {
				t.Errorf("GET %s with the id %q is answered with %q, adopted want %v", path, id, got, adopted)
			}
			for _, arrived := range rec.take() {
				if values := arrived.header["X-Openstack-Request-Id"]; len(values) != 1 || values[0] != got[0] {
					t.Errorf("the id %q arrives as %q, want %q as in the answer", id, values, got[0])
				}
			}
		}
	}
}

func TestMissingTokenTellsWhereKeystoneIs(t *testing.T) {
	s := newStage(t)
	res, _ := s.raw("PUT /v2/images/" + imageA + "/file HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	if got := res.Header.Get("Www-Authenticate"); res.StatusCode != 401 || got != `Keystone uri="http://keystone.example/v3"` {
		t.Errorf("without a token = %d with WWW-Authenticate: %s", res.StatusCode, got)
	}
	silent := newStage(t, func(c *proxy.Config) { c.AuthURL = "" })
	if status, _ := silent.do("PUT", "/v2/images/"+imageA+"/file", "", nil); status != 401 {
		t.Errorf("without a token and an address = %d, want 401", status)
	}
	if res, _ := s.line("GET", "/unknown"); res.Header.Get("Www-Authenticate") != "" {
		t.Errorf("a 404 has WWW-Authenticate: %s, want none", res.Header.Get("Www-Authenticate"))
	}
}

// cors answers /versions as Glance's CORS middleware would for one origin.
func cors(s *stage, origin string) (asked func() int) {
	n := 0
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/versions" {
			return false
		}
		n++ // the fake is asked for one thing at a time
		if r.Header.Get("Origin") == origin {
			w.Header().Set("Access-Control-Allow-Origin", origin)
			w.Header().Set("Access-Control-Expose-Headers", "X-Openstack-Request-Id")
			w.Header().Set("Vary", "Origin")
		}
		w.Header().Set("X-Other", "x")
		io.WriteString(w, "{}")
		return true
	}
	return func() int { return n }
}

func TestRefusalsAreReadableForABrowserWhereGlancesAre(t *testing.T) {
	s := newStage(t)
	const horizon = "https://horizon.example"
	asked := cors(s, horizon)
	for range 3 {
		res, _ := s.line("GET", "/unknown", "Origin: "+horizon)
		for name, want := range map[string]string{"Access-Control-Allow-Origin": horizon, "Access-Control-Expose-Headers": "X-Openstack-Request-Id", "Vary": "Origin", "X-Other": ""} {
			if got := res.Header.Get(name); got != want {
				t.Errorf("a refusal has %s: %q, want %q", name, got, want)
			}
		}
	}
	if n := asked(); n != 1 {
		t.Errorf("Glance was asked %d times for one origin, want 1", n)
	}
	for _, origin := range []string{"https://evil.example", "null", "x", strings.Repeat("x", 2000)} {
		res, _ := s.line("GET", "/unknown", "Origin: "+origin)
		if got := res.Header.Get("Access-Control-Allow-Origin"); res.StatusCode != 404 || got != "" {
			t.Errorf("a refusal to %.30q = %d with Access-Control-Allow-Origin: %q, want none", origin, res.StatusCode, got)
		}
	}
	before := asked()
	if res, _ := s.line("GET", "/unknown"); res.Header.Get("Access-Control-Allow-Origin") != "" || asked() != before {
		t.Errorf("without an Origin Glance was asked, or the refusal has its headers")
	}
	s.glance.Close()
	if res, _ := s.line("GET", "/unknown", "Origin: https://other.example"); res == nil || res.StatusCode != 404 {
		t.Errorf("a refusal while Glance is down = %v, want 404", res)
	}
}
