package proxy_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/proxy"
)

// bodies is a Glance that keeps bodies and shows an image of project b.
type bodies struct {
	mu      sync.Mutex // guards arrived
	arrived []byte
}

func (b *bodies) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == "GET" {
		io.WriteString(w, `{"id": "`+imageA+`", "owner": "b", "status": "queued"}`)
		return
	}
	body, _ := io.ReadAll(r.Body)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.arrived = append([]byte{}, body...)
}

// take returns the last body, nil if none arrived since it was last asked.
func (b *bodies) take() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	arrived := b.arrived
	b.arrived = nil
	return arrived
}

func TestBodiesReadInOneWayOnly(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	allow := func(body string) {
		t.Helper()
		status, answer := s.do("POST", "/v2/images", tokenB, strings.NewReader(body), "Content-Type", "application/json")
		if got := rec.take(); status != 200 || len(got) != 1 || got[0].body != body {
			t.Errorf("POST %.80q arrives as %.200v (%d %s), want the same bytes", body, got, status, answer)
		}
	}
	deny := func(body string) {
		t.Helper()
		status, answer := s.do("POST", "/v2/images", tokenB, strings.NewReader(body), "Content-Type", "application/json")
		if got := rec.take(); status != 400 || reason(answer) != "body_invalid" || len(got) != 0 {
			t.Errorf("POST %.80q arrives as %.200v (%d %s), want body_invalid", body, got, status, answer)
		}
	}
	allow("")
	allow(" \r\n\t")
	allow("{}")
	allow(" {\"name\" : \"x\"}\n")
	allow(`{"min_ram": 100000000000000000000000000000000000001, "x": -0.0e-0, "y": 1E+2}`)
	allow(`{"name": "\ud83d\ude00 \\ud800 \u0000 \/ \u2028"}`)
	allow("{\"name\": \"\U0001f600 \ufffd \u007f\"}")
	allow(`{"a": {"a": {"a": [{"a": 1}, {"a": 1}]}}}`)
	allow(`{"a": 1, "A": 2}`)
	allow("null")
	allow(`"\\"`)
	allow(strings.Repeat("[", 32) + strings.Repeat("]", 32))

	deny(`{"a": 1, "a": 1}`)
	deny(`{"a": 1, "\u0061": 2}`)
	deny(`{"x": [{"y": {"a": 1, "b": 2, "a": 3}}]}`)
	deny(`{"": 1, "": 2}`)
	deny(`{} {}`)
	deny(`{}x`)
	deny(`{},`)
	deny("{}\x00")
	deny(`[1,]`)
	deny(`{"a": 1,}`)
	deny(`[1 2]`)
	deny(`[1}`)
	deny(`{"a": 1]`)
	deny(`{"a" 1}`)
	deny(`{a: 1}`)
	deny(`{'a': 1}`)
	deny(`{1: 1}`)
	deny(`[`)
	deny(`{"a":`)
	deny(`"a`)
	deny(`{"a": NaN}`)
	deny(`[Infinity]`)
	deny(`[-Infinity]`)
	deny(`[01]`)
	deny(`[+1]`)
	deny(`[.5]`)
	deny(`[1.]`)
	deny(`[0x1]`)
	deny(`[True]`)
	deny("/**/{}")
	deny("\ufeff{}")
	deny("{\"a\": \"\xff\"}")
	deny("{\"a\": \"\xed\xa0\x80\"}")
	deny("{\"a\": \"\xc0\xaf\"}")
	deny("{\"a\": \"\x01\"}")
	deny("{\"a\": \"\n\"}")
	deny("\xff\xfe{\x00}\x00")
	deny(`{"a": "\x41"}`)
	deny("\u00a0{}")
	for _, half := range []string{`\ud800`, `\uDBFF`, `\udc00`, `\uDFFF`, `\ude00\ud83d`, `\ud83d\ud83d`, `\ud83dx`, `\ud83d\\ude00`, `\\\ud800`, `\ud83d\ude00\ud83d`, `\ud83d\n`, `\ud83d\u0041`} {
		deny(`{"a": "` + half + `"}`)
		deny(`{"` + half + `": 1}`)
	}
	deny(`{"\ud800": 1, "\ud801": 2}`)
	deny(strings.Repeat("[", 34) + strings.Repeat("]", 34))
	deny(strings.Repeat(`{"a":`, 34) + "1" + strings.Repeat("}", 34))
	deny(strings.Repeat("[", 1<<19))
}

// A body of many members must not take longer than its length says.
func TestManyMembersAreReadInGoodTime(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	var body strings.Builder
	body.WriteString(`{"a":1`)
	for i := 0; body.Len() < 1<<20-32; i++ {
		body.WriteString(`,"` + encode36(i) + `":1`)
	}
	body.WriteString(`}`)
	started := time.Now()
	status, answer := s.do("POST", "/v2/images", tokenB, strings.NewReader(body.String()), "Content-Type", "application/json")
	if took := time.Since(started); took > 5*time.Second {
		t.Errorf("a body of %d bytes took %v, want a moment", body.Len(), took)
	}
	if got := rec.take(); status != 200 || len(got) != 1 || got[0].body != body.String() {
		t.Errorf("POST of many members = %d %s, want it to pass", status, answer)
	}
}

func encode36(i int) string { // no two are the same, none is "a"
	const digits = "0123456789abcdefghijklmnopqrstuvwxyz"
	text := "_"
	for ; i > 0; i /= 36 {
		text += digits[i%36 : i%36+1]
	}
	return text
}

func TestBodiesHaveALimit(t *testing.T) {
	s := newStage(t, func(c *proxy.Config) { c.MaxBody = 100 })
	rec := record200(s)
	id := s.image("b", nil)
	for _, request := range [][3]string{{"POST", "/v2/images", "application/json"}, {"PATCH", "/v2/images/" + id, patch21}, {"POST", "/v2/tasks", "application/json"}} {
		for _, body := range []io.Reader{strings.NewReader("[" + strings.Repeat(" ", 99) + "]"), struct{ io.Reader }{strings.NewReader(strings.Repeat(" ", 101))}} {
			status, answer := s.do(request[0], request[1], tokenB, body, "Content-Type", request[2])
			if got := rec.take(); status != 413 || reason(answer) != "body_too_large" || len(got) != 0 {
				t.Errorf("%s %s of 101 bytes = %d %s, want 413", request[0], request[1], status, answer)
			}
		}
		status, answer := s.do(request[0], request[1], tokenB, strings.NewReader("["+strings.Repeat(" ", 98)+"]"), "Content-Type", request[2])
		if got := rec.take(); request[1] != "/v2/tasks" && (status != 200 || len(got) != 1) {
			t.Errorf("%s %s of 100 bytes = %d %s, want it to pass", request[0], request[1], status, answer)
		}
	}
}

func newSilentProxyTo(t testing.TB, glance *httptest.Server) *proxy.Proxy {
	t.Helper()
	return newSilentProxy(t, func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", glance.Listener.Addr().String())
	})
}

// FuzzStrictJSON sends any value through a patch, which is written anew. What
// arrives means what was sent.
func FuzzStrictJSON(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2.50,-0,1e400,true,null,"\u2028<&>\ud83d\ude00"]}`, `"\\\"\/\b\f\n\r\t"`, `{"a":1,"a":2}`, `"\ud800"`, `[[[]]]`, "\"\xff\""} {
		f.Add([]byte(seed))
	}
	sink := &bodies{}
	glance := httptest.NewServer(sink)
	f.Cleanup(glance.Close)
	p := newSilentProxyTo(f, glance)
	f.Fuzz(func(t *testing.T, value []byte) {
		body := bytes.Join([][]byte{[]byte(`[{"op":"add","path":"/x","value":`), value, []byte(`}]`)}, nil)
		r := httptest.NewRequest("PATCH", "/v2/images/"+imageA, bytes.NewReader(body))
		r.Header.Set("Content-Type", patch21)
		r.Header.Set("X-Auth-Token", tokenB)
		w := &nowhere{header: http.Header{}}
		p.ServeHTTP(w, r)
		arrived := sink.take()
		if arrived == nil {
			if w.status < 400 {
				t.Errorf("%q is answered %d without Glance", body, w.status)
			}
			return
		}
		var sent, got any
		if err := numbers(body, &sent); err != nil {
			t.Fatalf("%q arrives, and is no JSON: %v", body, err)
		}
		if err := numbers(arrived, &got); err != nil {
			t.Fatalf("%q arrives as %q, which is no JSON: %v", body, arrived, err)
		}
		list, _ := sent.([]any)
		if len(list) == 1 && !reflect.DeepEqual(sent, got) && len(list[0].(map[string]any)) == 3 {
			t.Errorf("%q arrives as %q", body, arrived)
		}
		again, _ := json.Marshal(got)
		if !json.Valid(again) || members(arrived) != members(again) {
			t.Errorf("%q arrives as %q, which has members twice", body, arrived)
		}
	})
}

// members counts the colons outside strings: one a member.
func members(data []byte) int {
	n, inside := 0, false
	for i := 0; i < len(data); i++ {
		switch {
		case data[i] == '"':
			inside = !inside
		case inside && data[i] == '\\':
			i++
		case !inside && data[i] == ':':
			n++
		}
	}
	return n
}
