package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy"
	"github.com/countersign/countersign/proxy/receipt"
)

// imported sends an import and returns what arrived at Glance.
func (s *stage) imported(rec *recorder, id, token, body string, header ...string) (code int, answer string, arrived []arrival) {
	s.t.Helper()
	code, answer = s.do("POST", "/v2/images/"+id+"/import", token, strings.NewReader(body), append([]string{"Content-Type", "application/json"}, header...)...)
	return code, answer, rec.take()
}

// direct is a policy under which staged data is imported.
func direct(t *testing.T) func(*proxy.Config) {
	t.Helper()
	rules, err := policy.Load(strings.NewReader(`
rules:
  - name: enforced
    projects: [{id: a}]
    mode: enforce
    signers: any
    import: direct
  - name: refusing
    projects: [{id: k}]
    mode: enforce
    signers: any
  - name: off
    projects: [{id: c}]
    mode: off
  - projects: all
    mode: audit
`))
	if err != nil {
		t.Fatal(err)
	}
	return func(c *proxy.Config) { c.Policies = rules }
}

// staged makes an image as staging leaves it: no hash of Glance's yet.
func (s *stage) staged(owner string, properties map[string]string, changes ...func(*receipt.Receipt)) string {
	s.t.Helper()
	id := s.verified(owner, nil, append([]func(*receipt.Receipt){func(r *receipt.Receipt) {
		r.Kind, r.Digests["SHA-512"] = receipt.Stage, r.HashValue
		r.HashAlgo, r.HashValue = "", ""
	}}, changes...)...)
	s.glance.mu.Lock()
	defer s.glance.mu.Unlock()
	img := s.glance.images[id]
	img["status"], img["os_hash_algo"], img["os_hash_value"] = "uploading", nil, nil
	for name, value := range properties {
		img[name] = value
	}
	return id
}

func TestStagedDataIsImportedWithAReceipt(t *testing.T) {
	s := newStage(t, direct(t))
	rec := record200(s)
	const body = `{"method":{"name":"glance-direct"}}`
	unverified := s.image("a", map[string]string{"status": "active"})
	larger := s.staged("a", nil)
	s.glance.set(s.glance.images[larger], "size", len(verifiedData)+1)
	for name, test := range map[string]struct{ id, reason string }{
		"staged and verified":              {s.staged("a", nil), ""},
		"staged, not verified":             {s.image("a", map[string]string{"status": "uploading"}), "receipt_missing"},
		"more is staged than was verified": {larger, "receipt_invalid"},
		"with the receipt of another":      {s.staged("a", nil, func(r *receipt.Receipt) { r.Image = imageA }), "receipt_invalid"},
		"with an upload's receipt": {s.staged("a", nil, func(r *receipt.Receipt) {
			r.Kind, r.HashAlgo, r.HashValue = receipt.Upload, "sha512", r.Digests["SHA-512"]
		}), "receipt_invalid"},
		"queued":                                {s.image("a", nil), "door_closed"},
		"active":                                {s.verified("a", nil), "door_closed"},
		"boots otherwise":                       {s.staged("a", map[string]string{"block_device_mapping": "[{}]"}), "receipt_invalid"},
		"with a kernel that nobody verified":    {s.staged("a", map[string]string{"kernel_id": unverified}), "receipt_missing"},
		"where the rule does not import at all": {s.staged("k", nil), "door_closed"},
	} {
		token := "token-" + s.glance.images[test.id].text("owner")
		code, answer, got := s.imported(rec, test.id, token, body)
		if test.reason == "" && (code != 200 || len(got) != 1 || got[0].body != body) {
			t.Errorf("%s: import = %d %s, and arrives as %v, want it to pass", name, code, answer, got)
		}
		if test.reason != "" && (code != 403 || reason(answer) != test.reason || len(got) != 0) {
			t.Errorf("%s: import = %d %s, and arrives %d times, want %s", name, code, answer, len(got), test.reason)
		}
	}
}

func TestCopyImageWantsAReceipt(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	const body = `{"method":{"name":"copy-image"},"all_stores":true,"all_stores_must_succeed":false}`
	for name, test := range map[string]struct{ id, reason string }{
		"verified":               {s.verified("a", nil), ""},
		"active without receipt": {s.image("a", map[string]string{"status": "active"}), "receipt_missing"},
	} {
		code, answer, got := s.imported(rec, test.id, tokenA, body)
		if (code == 200) != (test.reason == "") || reason(answer) != test.reason || (len(got) == 1) != (test.reason == "") {
			t.Errorf("%s: copy-image = %d %s, want %q", name, code, answer, test.reason)
		}
	}
}

func TestImportsArriveAsTheyWereUnderstood(t *testing.T) {
	s := newStage(t, direct(t))
	rec := record200(s)
	id := s.staged("a", nil)
	allow := func(sent, want string) {
		t.Helper()
		code, answer, got := s.imported(rec, id, tokenA, sent, "X-Image-Meta-Store", "fast", "X-Image-Meta-Size", "7", "X-Openstack-Image-Size", "7", "X-Other", "x")
		if code != 200 || len(got) != 1 || got[0].body != want {
			t.Errorf("import %s = %d %s, and arrives as %v, want %s", sent, code, answer, got, want)
			return
		}
		if header := got[0].header; header.Get("X-Image-Meta-Store") != "fast" || header.Get("X-Image-Meta-Size") != "" || header.Get("X-Openstack-Image-Size") != "" ||
			header.Get("X-Other") != "" || header.Get("X-Auth-Token") != tokenA {
			t.Errorf("import %s arrives with the headers %v", sent, header)
		}
	}
	deny := func(sent string) {
		t.Helper()
		if code, answer, got := s.imported(rec, id, tokenA, sent); code != 400 || reason(answer) != "body_invalid" || len(got) != 0 {
			t.Errorf("import %s = %d %s, and arrives %d times, want 400 body_invalid", sent, code, answer, len(got))
		}
	}
	allow(` {"method": {"name": "glance-direct"}, "stores": ["fast", "slow"]} `, `{"method":{"name":"glance-direct"},"stores":["fast","slow"]}`)
	allow(`{"all_stores":true,"all_stores_must_succeed":false,"m\u0065thod":{"name":"glance-direct"}}`, `{"all_stores":true,"all_stores_must_succeed":false,"method":{"name":"glance-direct"}}`)
	deny(``)
	deny(`[]`)
	deny(`{}`)
	deny(`{"method":"glance-direct"}`)
	deny(`{"method":{}}`)
	deny(`{"method":{"name":["glance-direct"]}}`)
	deny(`{"method":{"name":"Glance-Direct"}}`)
	deny(`{"method":{"name":"glance-direct "}}`)
	deny(`{"method":{"name":"glance-direct","uri":"http://elsewhere.example/"}}`)
	deny(`{"method":{"name":"glance-direct","name":"web-download"}}`)
	deny(`{"method":{"name":"glance-direct"},"method":{"name":"web-download","uri":"http://elsewhere.example/"}}`)
	deny(`{"method":{"name":"glance-direct"},"x":1}`)
	deny(`{"method":{"name":"glance-direct"},"stores":"fast"}`)
	deny(`{"method":{"name":"glance-direct"},"stores":[1]}`)
	deny(`{"method":{"name":"glance-direct"},"all_stores":"true"}`)
	deny(`{"method":{"name":"glance-direct"},"all_stores_must_succeed":1}`)
	deny(`{"method":{"name":"web-download","uri":["x"]}}`)
	deny(`{"method":{"name":"copy-image","glance_region":"x"}}`)
}

func TestImportsElsewhereAreLeftAlone(t *testing.T) {
	s := newStage(t, direct(t))
	rec := record200(s)
	for _, owner := range []string{"b", "c"} {
		id := s.image(owner, nil)
		for _, body := range []string{`{"method":{"name":"web-download","uri":"x"}}`, `{"method":{"name":"x"},"x":[1]}`, ` {"method":{"name":"glance-direct"}}`, ``} {
			code, answer, got := s.imported(rec, id, "token-"+owner, body, "X-Other", "x")
			if code != 200 || len(got) != 1 || got[0].body != body || got[0].header.Get("X-Other") != "x" {
				t.Errorf("import %s of %s = %d %s, and arrives as %v, want it to pass as it is", body, owner, code, answer, got)
			}
		}
		code, answer, got := s.imported(rec, id, "token-"+owner, `{"method":{"name":"a"},"method":{"name":"b"}}`)
		if code != 400 || reason(answer) != "body_invalid" || len(got) != 0 {
			t.Errorf("import with a member twice of %s = %d %s, want 400 body_invalid", owner, code, answer)
		}
	}
	if log := s.log.String(); !strings.Contains(log, fmt.Sprintf("would be refused: an import by %s", "web-download")) {
		t.Errorf("the log of an audited import does not say what would be refused: %s", log)
	}
}
