package proxy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"unicode"
)

const (
	patch20 = "application/openstack-images-v2.0-json-patch"
	patch21 = "application/openstack-images-v2.1-json-patch"
)

// patched sends a PATCH and returns the answer and the body that arrived at
// Glance, or what else there was to say.
func (s *stage) patched(rec *recorder, id, token, mediaType, body string) (status int, answer, arrived string) {
	s.t.Helper()
	status, answer = s.do("PATCH", "/v2/images/"+id, token, strings.NewReader(body), "Content-Type", mediaType)
	got := rec.take()
	switch {
	case len(got) == 0:
		return status, answer, "nothing"
	case len(got) > 1 || got[0].method != "PATCH" || got[0].length != int64(len(got[0].body)):
		return status, answer, fmt.Sprintf("%v", got)
	}
	return status, answer, got[0].body
}

func TestPatchArrivesAsItWasUnderstood(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	id := s.image("b", nil)
	allow := func(mediaType, sent, want string) {
		t.Helper()
		if status, answer, got := s.patched(rec, id, tokenB, mediaType, sent); status != 200 || got != want {
			t.Errorf("PATCH %s arrives as %s (%d %s), want %s", sent, got, status, answer, want)
		}
	}
	deny := func(mediaType, sent string) {
		t.Helper()
		if status, answer, got := s.patched(rec, id, tokenB, mediaType, sent); status != 400 || reason(answer) != "body_invalid" || got != "nothing" {
			t.Errorf("PATCH %s arrives as %s (%d %s), want body_invalid", sent, got, status, answer)
		}
	}
	// path tells what a path becomes, in both media types.
	path := func(sent, want string) {
		t.Helper()
		text, _ := json.Marshal(sent)
		became, _ := json.Marshal(want)
		allow(patch21, `[{"op": "add", "path": `+string(text)+`, "value": "v"}]`, `[{"op":"add","path":`+string(became)+`,"value":"v"}]`)
		allow(patch20, `[{"add": `+string(text)+`, "value": "v"}]`, `[{"add":`+string(became)+`,"value":"v"}]`)
	}
	noPath := func(sent string) {
		t.Helper()
		text, _ := json.Marshal(sent)
		deny(patch21, `[{"op": "add", "path": `+string(text)+`, "value": "v"}]`)
		deny(patch20, `[{"add": `+string(text)+`, "value": "v"}]`)
	}
	path("/x", "/x")
	path("///x", "/x")
	path("/ x\t", "/x")
	path("/\u00a0x\u3000", "/x")
	path("/\u0085x\r\n", "/x")
	path("/~1", "/~1")
	path("/a~1b~0c", "/a~1b~0c")
	path("/~01", "/~01")
	path("/~1x", "/~1x")
	path("/a b", "/a b")
	path("/tags/0", "/tags/0")
	path("/ tags / - ", "/tags/-")
	path("/\u2603", "/\u2603")
	path("/hw:cpu", "/hw:cpu")
	path("/img_signature_hash_method", "/img_signature_hash_method")
	for _, bad := range []string{"", "x", "/", "//", "/ ", "/x/", "/x//y", "/x/ /y", "/~", "/x~2", "/x~", "/\x00x", "/x\x1f", "/\x1cx", "/x\u200b", "/\ufeffx", "/a\nb", "/a\u00a0b", "/\u180ex", "/x\u2028y", " /x", "/x\ue000"} {
		noPath(bad)
	}

	allow(patch21, "[]", "[]")
	allow(patch21, ` [ {"op":"remove","path":"/x","value":1,"from":"/y"} ] `, `[{"op":"remove","path":"/x"}]`)
	allow(patch21, `[{"value":null,"path":"/x","op":"replace"}]`, `[{"op":"replace","path":"/x","value":null}]`)
	allow(patch21, `[{"op":"add","path":"/x"}]`, `[{"op":"add","path":"/x"}]`)
	allow(patch21, `[{"op":"add","path":"/x","value":{"b":1,"a":[2,{}]}}]`, `[{"op":"add","path":"/x","value":{"b":1,"a":[2,{}]}}]`)
	allow(patch21, `[{"op":"add","path":"/min_ram","value":123456789012345678901234567890.10e+05}]`, `[{"op":"add","path":"/min_ram","value":123456789012345678901234567890.10e+05}]`)
	allow(patch20, `[{"remove":"/x","op":"add","path":"/y"}]`, `[{"remove":"/x"}]`)
	allow(patch21, `[{"op":"add","path":"\/\u0078","value":"\ud83d\ude00"}]`, "[{\"op\":\"add\",\"path\":\"/x\",\"value\":\"\U0001f600\"}]")
	allow(strings.ToUpper(patch21)+"; charset=utf-8", `[]`, `[]`)

	for _, bad := range []string{`{}`, `"x"`, `1`, `[1]`, `[[]]`, `[null]`, `[{}]`, `[{"op":"add"}]`, `[{"path":"/x"}]`, `[{"op":"add","path":1,"value":1}]`,
		`[{"op":"add","path":null}]`, `[{"op":null,"path":"/x"}]`, `[{"op":"ADD","path":"/x"}]`, `[{"op":"add ","path":"/x"}]`, `[{"op":"copy","path":"/x","from":"/y"}]`,
		`[{"op":"move","path":"/x","from":"/img_signature"}]`, `[{"op":"test","path":"/x","value":1}]`, `[{"OP":"add","path":"/x"}]`, `[{"add":"/x","value":1}]`} {
		deny(patch21, bad)
	}
	for _, bad := range []string{`[{"op":"add","path":"/x","value":1}]`, `[{"add":"/x","remove":"/y"}]`, `[{"add":"/x","replace":"/x","value":1}]`, `[{"add":1}]`, `[{"Add":"/x"}]`} {
		deny(patch20, bad)
	}
}

func TestPatchKnowsTwoMediaTypes(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	id := s.image("b", nil)
	for _, mediaType := range []string{"application/json", "application/json-patch+json", "", "text/plain", patch21 + "x", "application/openstack-images-v2.2-json-patch", "application/openstack-images-v2.1-json-patch,application/json"} {
		res, body := s.line("PATCH", "/v2/images/"+id, "Content-Type: "+mediaType, "Content-Length: 0")
		if got := rec.take(); len(got) != 0 || res.StatusCode != 415 || res.Header.Get("Accept-Patch") != patch20+", "+patch21 {
			t.Errorf("Content-Type %q = %v %s, and arrives as %v, want 415 with Accept-Patch", mediaType, res, body, got)
		}
	}
}

// reads is how Glance reads a patch (glance.api.v2.images,
// RequestDeserializer), written down from its source.
func reads(path string) ([]string, bool) {
	if !strings.HasPrefix(path, "/") {
		return nil, false
	}
	space := func(c rune) bool { return unicode.IsSpace(c) || c >= 0x1c && c <= 0x1f } // str.strip
	var segments []string
	for part := range strings.SplitSeq(strings.TrimLeft(path, "/"), "/") {
		part = strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~")
		segments = append(segments, strings.TrimFunc(part, space))
	}
	return segments, true
}

// FuzzPatch sends any body. What of it reaches Glance is a list of the same
// operations on the same properties, with pointers that read in one way only.
func FuzzPatch(f *testing.F) {
	for _, seed := range []string{`[{"op":"add","path":"/x","value":{"a":[1,null,true,"\u0000"]}}]`, `[{"op":"replace","path":"// img~01~1x /-","value":1e400}]`,
		`[{"op":"remove","path":"/a"},{"op":"add","path":"/b","value":-0.0}]`} {
		f.Add(false, []byte(seed))
	}
	f.Add(true, []byte(`[{"add":"/x","value":"\ud83d\ude00"},{"remove":"/y"}]`))
	sink := &bodies{}
	glance := httptest.NewServer(sink)
	f.Cleanup(glance.Close)
	p := newSilentProxyTo(f, glance)
	f.Fuzz(func(t *testing.T, draft bool, body []byte) {
		mediaType := patch21
		if draft {
			mediaType = patch20
		}
		r := httptest.NewRequest("PATCH", "/v2/images/"+imageA, bytes.NewReader(body))
		r.Header.Set("Content-Type", mediaType)
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
		var sent, got []map[string]any
		if len(bytes.TrimSpace(body)) == 0 || string(bytes.TrimSpace(body)) == "null" {
			return // Glance has its own words for that
		}
		if err := numbers(body, &sent); err != nil {
			t.Fatalf("%q arrives, and is no list of objects: %v", body, err)
		}
		if err := numbers(arrived, &got); err != nil || len(got) != len(sent) {
			t.Fatalf("%q arrives as %q: %v", body, arrived, err)
		}
		for i := range got {
			op, path := operation(got[i], draft)
			wantOp, wantPath := operation(sent[i], draft)
			segments, ok := reads(path)
			want, _ := reads(wantPath)
			if op != wantOp || !ok || !reflect.DeepEqual(segments, want) {
				t.Errorf("%v arrives as %v", sent[i], got[i])
			}
			if canonical := "/" + strings.Join(escaped(segments), "/"); path != canonical {
				t.Errorf("the path %q arrives as %q, want %q", wantPath, path, canonical)
			}
			if op != "remove" && !reflect.DeepEqual(got[i]["value"], sent[i]["value"]) {
				t.Errorf("the value %v arrives as %v", sent[i]["value"], got[i]["value"])
			}
		}
	})
}

func operation(change map[string]any, draft bool) (op, path string) {
	if !draft {
		op, _ = change["op"].(string)
		path, _ = change["path"].(string)
		return op, path
	}
	for _, name := range []string{"add", "remove", "replace"} {
		if value, ok := change[name]; ok {
			path, _ = value.(string)
			return name, path
		}
	}
	return "", ""
}

func escaped(segments []string) []string {
	out := make([]string, len(segments))
	for i, segment := range segments {
		out[i] = strings.ReplaceAll(strings.ReplaceAll(segment, "~", "~0"), "/", "~1")
	}
	return out
}

// numbers decodes with numbers as they are spelled.
func numbers(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("something follows")
	}
	return nil
}

// A PATCH in an audited project costs no look that could fail it.
func TestAuditedPatchIsLookedAtOnce(t *testing.T) {
	for _, test := range []struct {
		owner, token string
		looks        int
	}{
		{"b", tokenB, 1},
		{"a", tokenA, 3}, // an upload may end while Keystone is asked, and before Glance takes the PATCH
	} {
		s := newStage(t)
		id := s.image(test.owner, map[string]string{"img_signature": "x"})
		status, body := s.do("PATCH", "/v2/images/"+id, test.token, strings.NewReader(`[{"op": "replace", "path": "/img_signature", "value": "y"}]`),
			"Content-Type", "application/openstack-images-v2.1-json-patch")
		if status != 200 {
			t.Errorf("PATCH by %s = %d %s, want 200", test.owner, status, body)
		}
		if got := s.glance.called("GET", "/v2/images/"+id); got != test.looks {
			t.Errorf("PATCH by %s cost %d looks at the image, want %d", test.owner, got, test.looks)
		}
	}
}
