package proxy_test

import (
	"strings"
	"testing"
)

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

// Nova copies the properties of an image to the next, and Countersign's are not
// about that one.
func TestImagesBeginWithoutCountersignsProperties(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	for _, test := range []struct{ token, sent, want string }{
		{tokenA, `{"name": "x", "countersign_receipt": "copied", "size": 12345678901234567890, "countersign_certificate_uuid": null}`, `{"name":"x","size":12345678901234567890}`},
		{tokenA, `{"COUNTERSIGN_x": "copied"}`, `{}`},
		{tokenA, `{"cöuntersign_receipt": "", "Ｃountersign＿x": "", "countersign\u200b_x": "", "ñcountersign": ""}`, `{"ñcountersign":""}`},
		{tokenA, `{"name": "x"}`, `{"name": "x"}`},
		{tokenA, `{"countersign_receipt": "copied", "owner": "b"}`, `{"countersign_receipt": "copied", "owner": "b"}`},
		{tokenB, `{"countersign_receipt": "copied", "owner": "A "}`, `{"owner":"A "}`},
		{tokenB, `{"countersign_receipt": "copied"}`, `{"countersign_receipt": "copied"}`},
		{tokenC, `{"countersign_receipt": "copied"}`, `{"countersign_receipt": "copied"}`},
	} {
		code, answer := s.do("POST", "/v2/images", test.token, strings.NewReader(test.sent), "Content-Type", "application/json")
		if got := rec.take(); code != 200 || len(got) != 1 || got[0].body != test.want {
			t.Errorf("POST %s with %s = %d %s, and arrives as %v, want %s", test.sent, test.token, code, answer, got, test.want)
		}
	}
}
