package proxy_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/countersign/countersign/proxy/receipt"
)

// Nova and Cinder, where they share Glance's storage, give an image a location
// in place of data.
func TestAListedServiceGivesALocation(t *testing.T) {
	const location = `{"url":"rbd://pool/image/snap"}`
	patch := `[{"op":"add","path":"/locations/-","value":{"url":"rbd://pool/image/snap","metadata":{}}}]`
	requests := []struct{ method, path, contentType, body string }{
		{"POST", "/locations", "application/json", location},
		{"PATCH", "", patch21, patch},
	}
	for _, request := range requests {
		for _, test := range []struct {
			name, token string
			properties  map[string]string
			passes      bool
		}{
			{"a listed service", "token-nova", nil, true},
			{"a listed service, to an image that boots from a volume", "token-nova", map[string]string{"block_device_mapping": "[{}]"}, true},
			{"no service", "", nil, false},
			{"the user's own token", tokenA, nil, false},
			{"a service that is not listed", "token-cinder", nil, false},
			{"a listed service, to a signed image", "token-nova", signed(t, verifiedData), false},
			{"a listed service, to an image with data", "token-nova", map[string]string{"status": "active"}, false},
		} {
			s := exemptingStage(t)
			id := s.image("a", test.properties)
			taken := 0
			s.glance.before = func(_ http.ResponseWriter, r *http.Request) bool {
				if r.Method == request.method && r.Header.Get("User-Agent") != "countersign" {
					taken++
					s.glance.mu.Lock()
					defer s.glance.mu.Unlock()
					img := s.glance.images[id]
					img["status"], img["size"] = "active", 7
					if request.method == "POST" { // after a PATCH Glance never reads the data
						img["os_hash_algo"], img["os_hash_value"] = "sha512", strings.Repeat("0", 128)
					}
				}
				return false
			}
			begun := time.Now()
			code, answer := s.do(request.method, "/v2/images/"+id+request.path, tokenA, strings.NewReader(request.body), "Content-Type", request.contentType, "X-Service-Token", test.token)
			if !test.passes {
				if code != 403 || reason(answer) != "door_closed" || taken != 0 {
					t.Errorf("%s by %s = %d %s, want 403 door_closed", request.method, test.name, code, answer)
				}
				continue
			}
			if code/100 != 2 || taken != 1 {
				t.Errorf("%s by %s = %d %s, want it to pass", request.method, test.name, code, answer)
				continue
			}
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("%s by %s took %v: what was waited for?", request.method, test.name, took)
			}
			algo := map[string]string{"POST": "sha512"}[request.method]
			if r := s.receipt(id); r.Kind != receipt.Exempt || r.Service != "user-nova" || r.Size != 7 || r.HashAlgo != algo {
				t.Errorf("%s by %s leaves a receipt of kind %q, service %q, over %d bytes, with %q", request.method, test.name, r.Kind, r.Service, r.Size, r.HashAlgo)
			}
		}
	}
}
