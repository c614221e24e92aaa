package proxy_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy"
	"github.com/countersign/countersign/proxy/receipt"
)

// writers are requests that save an image's record whole.
func writers(id string) [][3]string {
	return [][3]string{
		{"PATCH", "/v2/images/" + id, `[{"op":"replace","path":"/name","value":"other"}]`},
		{"PUT", "/v2/images/" + id + "/tags/x", ""},
		{"DELETE", "/v2/images/" + id + "/tags/x", ""},
	}
}

func TestRecordsAreSavedOnlyWhereThatUndoesNothing(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	queued := s.image("a", nil)
	forBut := func(change func(*receipt.Receipt)) string { return s.verified("a", nil, change) }
	for name, test := range map[string]struct{ id, reason string }{
		"queued":                        {queued, ""},
		"verified":                      {s.verified("a", nil), ""},
		"verified, deactivated":         {s.verified("a", map[string]string{"status": "deactivated"}), ""},
		"active without receipt":        {s.image("a", map[string]string{"status": "active"}), "receipt_missing"},
		"deactivated without receipt":   {s.image("a", map[string]string{"status": "deactivated"}), "receipt_missing"},
		"saving":                        {s.image("a", map[string]string{"status": "saving"}), "door_closed"},
		"saving with a receipt":         {s.verified("a", map[string]string{"status": "saving"}), "door_closed"},
		"uploading":                     {s.image("a", map[string]string{"status": "uploading"}), "door_closed"},
		"importing":                     {s.image("a", map[string]string{"status": "importing"}), "door_closed"},
		"with another's receipt":        {forBut(func(r *receipt.Receipt) { r.Image = queued }), "receipt_invalid"},
		"receipt over other data":       {forBut(func(r *receipt.Receipt) { r.HashValue = strings.Repeat("0", 128) }), "receipt_invalid"},
		"receipt over another size":     {forBut(func(r *receipt.Receipt) { r.Size++ }), "receipt_invalid"},
		"receipt for another owner":     {forBut(func(r *receipt.Receipt) { r.Owner = "b" }), "receipt_invalid"},
		"other signature than verified": {s.verified("a", map[string]string{"img_signature": "AAAA"}), "receipt_invalid"},
		"forged":                        {s.verified("a", map[string]string{receipt.Property: "e30.e30.e30"}), "receipt_invalid"},
		"boots from a volume":           {s.verified("a", map[string]string{"block_device_mapping": `[{"volume_id": "x"}]`}), "receipt_invalid"},
		"by a service not exempt":       {forBut(byNova), "receipt_invalid receipt_exempt"},
		"of an audited project":         {s.image("b", map[string]string{"status": "active"}), ""},
		"of a project without a rule":   {s.image("c", map[string]string{"status": "saving"}), ""},
	} {
		for _, request := range writers(test.id) {
			token := "token-" + s.glance.images[test.id].text("owner")
			code, answer := s.do(request[0], request[1], token, strings.NewReader(request[2]), "Content-Type", patch21)
			got := rec.take()
			if test.reason == "" && (code != 200 || len(got) != 1) {
				t.Errorf("%s: %s %s = %d %s, want it to pass", name, request[0], request[1], code, answer)
			}
			if test.reason != "" && (code != 403 || !strings.Contains(test.reason, reason(answer)) || len(got) != 0) {
				t.Errorf("%s: %s %s = %d %s, and arrives %d times, want %s", name, request[0], request[1], code, answer, len(got), test.reason)
			}
		}
	}
}

// Whoever wants to delete a protected image that nobody vouches for deactivates
// it first: a deactivated one can only be saved as that.
func TestProtectionOfAnUnverifiedImageIsLiftedOnceItIsDeactivated(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	lift := `[{"op":"replace","path":"/protected","value":false}]`
	for _, test := range []struct{ status, body, reason string }{
		{"deactivated", lift, ""},
		{"active", lift, "receipt_missing"},
		{"importing", lift, "door_closed"},
		{"deactivated", `[{"op":"replace","path":"/protected","value":false},{"op":"replace","path":"/name","value":"x"}]`, "receipt_missing"},
		{"deactivated", `[{"op":"replace","path":"/protected/x","value":false},{"op":"add","path":"/countersign_receipt","value":"x"}]`, "door_closed"},
	} {
		id := s.image("a", map[string]string{"status": test.status})
		code, answer, got := s.patched(rec, id, tokenA, patch21, test.body)
		if (code == 200) != (test.reason == "") || reason(answer) != test.reason || (got == "nothing") != (test.reason != "") {
			t.Errorf("PATCH %s of a %s image = %d %s, want %q", test.body, test.status, code, answer, test.reason)
		}
	}
	id := s.image("a", map[string]string{"status": "active", "protected": "x"})
	if code, answer := s.do("POST", "/v2/images/"+id+"/actions/deactivate", tokenA, nil); code != 200 {
		t.Errorf("deactivate = %d %s, want it to pass", code, answer)
	}
	if code, answer := s.do("DELETE", "/v2/images/"+id, tokenA, nil); code != 200 {
		t.Errorf("DELETE = %d %s, want it to pass", code, answer)
	}
}

func TestWithoutReceiptKeysNothingIsVouchedFor(t *testing.T) {
	s := newStage(t, func(c *proxy.Config) { c.Receipts = nil })
	rec := record200(s)
	id := s.verified("a", nil)
	for _, request := range append(writers(id), [3]string{"POST", "/v2/images/" + id + "/actions/reactivate"}, [3]string{"POST", "/v2/images/" + id + "/members", "{}"}) {
		code, answer := s.do(request[0], request[1], tokenA, strings.NewReader(request[2]), "Content-Type", patch21)
		if got := rec.take(); code != 403 || reason(answer) != "receipt_missing" || len(got) != 0 {
			t.Errorf("%s %s = %d %s, want 403 receipt_missing", request[0], request[1], code, answer)
		}
	}
}

// A PATCH that was allowed because the image was queued may reach Glance when an
// upload has come, been settled, and gone.
func TestAPatchThatComesAfterTheUploadIsLookedAtAgain(t *testing.T) {
	s := newStage(t)
	uploaded := random(t, 1000)
	for _, test := range []struct {
		name, patch string
		becomes     string // of the image
		status      int
	}{
		{"other signature", `[{"op":"replace","path":"/img_signature","value":"AAAA"}]`, "deactivated", 409},
		{"harmless property", `[{"op":"add","path":"/os_command_line","value":"quiet"}]`, "active", 200},
	} {
		id := s.image("a", signed(t, uploaded))
		var held atomic.Bool
		s.glance.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == "PATCH" && r.Header.Get("User-Agent") != "countersign" && held.CompareAndSwap(false, true) {
				if code, answer := s.upload(id, tokenA, uploaded, false); code != 204 {
					t.Errorf("%s: upload = %d %s, want 204", test.name, code, answer)
				}
			}
			return false
		}
		code, answer := s.do("PATCH", "/v2/images/"+id, tokenA, strings.NewReader(test.patch), "Content-Type", patch21)
		if got := s.glance.status(id); code != test.status || got != test.becomes {
			t.Errorf("%s: PATCH = %d %s, and the image becomes %s, want %d and %s", test.name, code, answer, got, test.status, test.becomes)
		}
		if !held.Load() {
			t.Errorf("%s: the upload did not come in between", test.name)
		}
	}
}

func TestOffProjectsAreWrittenToWhereNothingEnforces(t *testing.T) {
	s := newStage(t, func(c *proxy.Config) { c.Policies = policy.Default() })
	rec := record200(s)
	id := s.image("a", map[string]string{"status": "saving"})
	s.glance.forget()
	for _, request := range writers(id) {
		if code, answer := s.do(request[0], request[1], tokenA, strings.NewReader(request[2]), "Content-Type", patch21); code != 200 {
			t.Errorf("%s %s = %d %s, want it to pass", request[0], request[1], code, answer)
		}
	}
	if got := fmt.Sprint(len(rec.take())); got != "3" || s.glance.called("GET") != 0 {
		t.Errorf("%s requests arrive, and Glance is asked %d times, want 3 and 0", got, s.glance.called("GET"))
	}
}
