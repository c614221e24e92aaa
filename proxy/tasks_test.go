package proxy_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy"
)

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
