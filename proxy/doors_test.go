package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy"
)

// doorRequests bring data into an image, or back, without showing it to us.
func doorRequests(id string) [][3]string {
	return [][3]string{
		{"POST", "/v2/images/" + id + "/import", `{"method":{"name":"glance-direct"}}`},
		{"POST", "/v2/images/" + id + "/import", `{"method":{"name":"web-download","uri":"http://elsewhere.example/"}}`},
		{"POST", "/v2/images/" + id + "/import", ``},
		{"POST", "/v2/images/" + id + "/locations", `{"url":"http://elsewhere.example/"}`},
		{"POST", "/v2/images/" + id + "/actions/reactivate", ``},
		{"POST", "/v2.17/images/" + id + "/locations", `{"url":"http://elsewhere.example/"}`},
		{"POST", "//v2//images/" + id + "/%69mport", `{}`},
	}
}

func TestDoorsAreShutWhereEnforced(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	for _, status := range []string{"queued", "active", "deactivated", "uploading"} {
		for owner, open := range map[string]bool{"a": false, "b": true, "c": true} {
			id := s.image(owner, map[string]string{"status": status})
			for _, request := range doorRequests(id) {
				code, answer := s.do(request[0], request[1], "token-"+owner, strings.NewReader(request[2]), "Content-Type", "application/octet-stream")
				got := rec.take()
				if open && (code != 200 || len(got) != 1 || got[0].body != request[2]) {
					t.Errorf("%s %s of project %s = %d %s, and arrives as %v, want it to pass", request[0], request[1], owner, code, answer, got)
				}
				if !open && (code != 403 || reason(answer) != "door_closed" || len(got) != 0) {
					t.Errorf("%s %s of project %s = %d %s, and arrives %d times, want 403 door_closed", request[0], request[1], owner, code, answer, len(got))
				}
			}
		}
	}
}

// What counts is whose image it is, not whose token.
func TestDoorsAreTheOwnersNotTheCallers(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	id := s.image("a", map[string]string{"visibility": "public"})
	for _, request := range doorRequests(id) {
		for _, token := range []string{tokenB, tokenC, service} {
			code, answer := s.do(request[0], request[1], token, strings.NewReader(request[2]), "Content-Type", "application/octet-stream")
			if got := rec.take(); code != 403 || reason(answer) != "door_closed" || len(got) != 0 {
				t.Errorf("%s %s with %s = %d %s, want 403 door_closed", request[0], request[1], token, code, answer)
			}
		}
	}
}

func TestGuardedRoutesWantAToken(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	id := s.image("b", nil)
	requests := append(doorRequests(id), [3]string{"PUT", "/v2/images/" + id + "/file", "data"}, [3]string{"PATCH", "/v2/images/" + id, "[]"},
		[3]string{"POST", "/v2/tasks", "{}"})
	for _, request := range requests {
		for _, header := range [][]string{nil, {"X-Auth-Token", ""}, {"X-Storage-Token", tokenB}, {"X_Auth_Token", tokenB}, {"X-Service-Token", service}} {
			code, answer := s.do(request[0], request[1], "", strings.NewReader(request[2]), header...)
			if got := rec.take(); code != 401 || reason(answer) != "token_missing" || len(got) != 0 {
				t.Errorf("%s %s with %q = %d %s, want 401 token_missing", request[0], request[1], header, code, answer)
			}
		}
	}
	if n := s.glance.called("GET"); n != 0 {
		t.Errorf("Glance was asked %d times for requests without a token, want 0", n)
	}
}

func TestPatchOfGuardedProperties(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	shut := func(owner, status, path string, value any) {
		t.Helper()
		for _, body := range spelledPatches(path, value) {
			id := s.image(owner, map[string]string{"status": status})
			code, answer, got := s.patched(rec, id, "token-"+owner, body[0], body[1])
			if code != 403 || reason(answer) != "door_closed" || got != "nothing" {
				t.Errorf("PATCH %s of a %s image of %s = %d %s, and arrives as %s, want 403 door_closed", body[1], status, owner, code, answer, got)
			}
		}
	}
	open := func(owner, status, path string, value any) {
		t.Helper()
		for _, body := range spelledPatches(path, value) {
			id := s.image(owner, map[string]string{"status": status})
			if code, answer, got := s.patched(rec, id, "token-"+owner, body[0], body[1]); code != 200 || got == "nothing" {
				t.Errorf("PATCH %s of a %s image of %s = %d %s, and arrives as %s, want it to pass", body[1], status, owner, code, answer, got)
			}
		}
	}
	four := []string{"img_signature", "img_signature_hash_method", "img_signature_key_type", "img_signature_certificate_uuid"}
	spelled := func(name string) []string {
		return []string{"/" + name, "//" + name, "/ " + name, "/" + name + "\\t", "/\\u00a0" + name + "\\u3000", "/\\u0085" + name, "/" + strings.ToUpper(name),
			"/I" + name[1:], "/" + strings.ReplaceAll(name, "s", "\u017f"), "/\\u0069" + name[1:], "/" + name + "/x", "/" + name + "/~1"}
	}
	for _, name := range four {
		for _, path := range spelled(name) {
			shut("a", "active", path, "x")
			open("a", "queued", path, "x")
			open("b", "active", path, "x")
			open("c", "active", path, "x")
		}
	}
	for _, status := range []string{"saving", "uploading", "importing", "deactivated", "killed", "pending_delete"} {
		shut("a", status, "/img_signature", "x")
	}
	for _, path := range []string{"/locations", "/locations/0", "/locations/-", "// locations /-", "/Locations", "/location", "/direct_url", "/\\u006cocations"} {
		shut("a", "queued", path, []any{})
		shut("a", "active", path, []any{})
		open("b", "queued", path, []any{})
		open("c", "queued", path, []any{})
	}
	for _, path := range []string{"/name", "/os_distro", "/x_img_signature", "/img_signature2", "/img-signature", "/img~1signature", "/tags", "/x/img_signature", "/protected", "/visibility"} {
		open("a", "active", path, "x")
	}
}

// spelledPatches are one change in both media types, alone and hidden behind
// another one.
func spelledPatches(path string, value any) [][2]string {
	text := fmt.Sprintf("%q", value)
	if _, list := value.([]any); list {
		text = `[{"url":"http://elsewhere.example/","metadata":{}}]`
	} else if value == nil {
		text = "null"
	}
	var bodies [][2]string
	for _, op := range []string{"add", "replace", "remove"} {
		bodies = append(bodies,
			[2]string{patch21, `[{"op":"` + op + `","path":"` + path + `","value":` + text + `}]`},
			[2]string{patch21, `[{"op":"add","path":"/x","value":"y"},{"value":` + text + `,"path":"` + path + `","op":"` + op + `"}]`},
			[2]string{patch20, `[{"` + op + `":"` + path + `","value":` + text + `}]`})
	}
	return bodies
}

// Glance lets a member give an image away with "add", though not with
// "replace": an unverified one would turn up in a project that takes none.
func TestNobodyGivesAnImageToAnEnforcedProject(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	for _, owner := range []string{"b", "c", "a"} {
		for _, status := range []string{"active", "queued"} {
			id := s.image(owner, map[string]string{"status": status})
			for _, to := range []any{"a", "k", "A", " a", "a "} {
				for _, path := range []string{"/owner", "/ owner ", "//owner", "/own\\u0065r", "/OWNER"} {
					for _, body := range spelledPatches(path, to) {
						code, answer, got := s.patched(rec, id, "token-"+owner, body[0], body[1])
						if code != 403 || reason(answer) != "door_closed" || got != "nothing" {
							t.Errorf("PATCH %s of an image of %s = %d %s, and arrives as %s, want 403 door_closed", body[1], owner, code, answer, got)
						}
					}
				}
			}
			for _, to := range []any{"b", "c", "elsewhere"} {
				for _, body := range spelledPatches("/owner", to) {
					if code, answer, got := s.patched(rec, id, "token-"+owner, body[0], body[1]); code != 200 || got == "nothing" {
						t.Errorf("PATCH %s of an image of %s = %d %s, want it to pass", body[1], owner, code, answer)
					}
				}
			}
			// No rule of the test's policy is about images without owner.
			for _, body := range spelledPatches("/owner", nil) {
				if code, answer, got := s.patched(rec, id, "token-"+owner, body[0], body[1]); code != 403 || got != "nothing" {
					t.Errorf("PATCH %s of an image of %s = %d %s, want 403", body[1], owner, code, answer)
				}
			}
		}
	}
}

// With /image_id Glance writes the image's record over that of another image.
func TestAttributesOfGlancesOwnAreNoProperties(t *testing.T) {
	enforcing := newStage(t)
	rec := record200(enforcing)
	for _, owner := range []string{"a", "b", "c"} {
		id := enforcing.image(owner, nil)
		for _, path := range []string{"/image_id", "/ image_id", "/extra_properties", "/IMAGE_ID"} {
			for _, body := range spelledPatches(path, imageA) {
				code, answer, got := enforcing.patched(rec, id, "token-"+owner, body[0], body[1])
				if code != 403 || reason(answer) != "door_closed" || got != "nothing" {
					t.Errorf("PATCH %s of an image of %s = %d %s, and arrives as %s, want 403 door_closed", body[1], owner, code, answer, got)
				}
			}
		}
	}
	lenient := newStage(t, func(c *proxy.Config) { c.Policies = policy.Default() })
	rec = record200(lenient)
	id := lenient.image("a", nil)
	if code, answer, got := lenient.patched(rec, id, tokenA, patch21, `[{"op":"add","path":"/image_id","value":"x"}]`); code != 200 || got == "nothing" {
		t.Errorf("PATCH of image_id where nothing is enforced = %d %s, want it to pass", code, answer)
	}
}

func TestPatchOfAnImageThatCannotBeSeen(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	id := s.image("a", nil)
	code, answer, got := s.patched(rec, id, tokenB, patch21, `[{"op":"add","path":"/img_signature","value":"x"}]`)
	if code != 404 || !strings.Contains(answer, "No image found") || got != "nothing" {
		t.Errorf("PATCH of another project's image = %d %s, want Glance's own 404", code, answer)
	}
}

func TestTasksAreShutWhereEnforced(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	ofA, ofB := s.image("a", map[string]string{"visibility": "public"}), s.image("b", nil)
	shut := func(token, body string) {
		t.Helper()
		code, answer := s.do("POST", "/v2/tasks", token, strings.NewReader(body), "Content-Type", "application/json")
		if got := rec.take(); code != 403 || reason(answer) != "door_closed" || len(got) != 0 {
			t.Errorf("POST %s with %s = %d %s, want 403 door_closed", body, token, code, answer)
		}
	}
	open := func(token, body string) {
		t.Helper()
		code, answer := s.do("POST", "/v2/tasks", token, strings.NewReader(body), "Content-Type", "application/json")
		if got := rec.take(); code != 200 || len(got) != 1 || got[0].body != body {
			t.Errorf("POST %s with %s = %d %s, want it to pass", body, token, code, answer)
		}
	}
	deny := func(status int, token, body string) {
		t.Helper()
		code, answer := s.do("POST", "/v2/tasks", token, strings.NewReader(body), "Content-Type", "application/json")
		if got := rec.take(); code != status || len(got) != 0 {
			t.Errorf("POST %s with %s = %d %s, and arrives %d times, want %d and nothing", body, token, code, answer, len(got), status)
		}
	}
	shut(tokenA, `{"type":"import","input":{}}`)
	shut(tokenA, ``)
	shut(tokenA, `[]`)
	shut(tokenA, `{"type":"import","input":{"image_properties":{"owner":"b"}}}`)
	open(tokenB, `{"type":"import","input":{"image_properties":{"owner":"c"}}}`)
	open(tokenC, `{"type":"import","input":{}}`)
	open(tokenC, ``)
	shut(tokenC, `{"type":"import","input":{"image_properties":{"owner":"a"}}}`)
	shut(tokenB, `{"type":"import","input":{"image_properties":{"owner":"A "}}}`)
	shut(tokenB, `{"type":"import","input":{"input":{},"image_properties":{"owner":"a"}}}`)
	shut(tokenB, `{"type":"import","input":{"owner":"a"}}`)
	shut(tokenB, `{"owner":"a"}`)
	shut(tokenB, `{"input":[{"image_properties":{"owner":"a"}}]}`)
	for _, kind := range []string{"api_image_import", "location_import", "import", "x"} {
		shut(tokenB, `{"type":"`+kind+`","input":{"image_id":"`+ofA+`","loc_url":"http://elsewhere.example/"}}`)
		open(tokenB, `{"type":"`+kind+`","input":{"image_id":"`+ofB+`","loc_url":"http://elsewhere.example/"}}`)
	}
	open(tokenB, `{"type":"import","input":{"image_id":null}}`)
	deny(400, tokenB, `{"input":{"image_id":"`+strings.ToUpper(ofA)+`"}}`)
	deny(400, tokenB, `{"input":{"image_id":1}}`)
	deny(400, tokenB, `{"input":{"image_id":"`+ofB+`","x":{"image_id":"`+ofA+`"}}}`)
	deny(404, tokenB, `{"input":{"image_id":"`+imageA+`"}}`)
	deny(400, tokenB, `{"type":"import","type":"x"}`)
	deny(401, "other", `{"type":"import","input":{}}`)

	s.keystone.down = true
	deny(503, tokenB, `{"type":"import","input":{}}`)
	deny(503, tokenA, `{"type":"import","input":{}}`)
}

func TestTasksPassWhereNothingIsEnforced(t *testing.T) {
	s := newStage(t, func(c *proxy.Config) { c.Policies = policy.Default() })
	s.keystone.down = true
	rec := record200(s)
	code, answer := s.do("POST", "/v2/tasks", tokenA, strings.NewReader(`{"type":"import"}`), "Content-Type", "application/json")
	if got := rec.take(); code != http.StatusOK || len(got) != 1 {
		t.Errorf("POST of a task where nothing is enforced = %d %s, want it to pass", code, answer)
	}
}

func TestImageIDsHaveOneSpelling(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	for body, want := range map[string]int{
		`{"id":"` + imageA + `"}`:                                 200,
		`{"name":"x"}`:                                            200,
		`{"id":"` + strings.ToUpper(imageA) + `"}`:                400,
		`{"id":"` + strings.ReplaceAll(imageA, "-", "") + `"}`:    400,
		`{"id":" ` + imageA + `"}`:                                400,
		`{"id":"` + imageA + `\n"}`:                               400,
		`{"id":null}`:                                             400,
		`{"id":1}`:                                                400,
		`{"\u0069d":"` + strings.ToUpper(imageA) + `"}`:           400,
		`{"id":"` + imageA + `","id":"` + imageA[1:] + `a` + `"}`: 400,
	} {
		code, answer := s.do("POST", "/v2/images", tokenA, strings.NewReader(body), "Content-Type", "application/json")
		if got := rec.take(); code != want || (code == 200) != (len(got) == 1 && got[0].body == body) {
			t.Errorf("POST %s = %d %s, and arrives as %v, want %d", body, code, answer, got, want)
		}
	}
}
