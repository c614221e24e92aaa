package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy"
)

// Where data is stored is told to nobody who could fetch it there past the rules,
// save to services that Keystone calls so.
func TestHide(t *testing.T) {
	const place = `, "direct_url": "rbd://x", "locations": [{"url": "rbd://x", "metadata": {}}]`
	image := func(owner, visibility, place string) string {
		return fmt.Sprintf(`{"name": "x", "visibility": %q, "status": "queued", "owner": %q%s, "id": "8f2b8c0e-0000-4000-8000-000000000001"}`, visibility, owner, place)
	}
	const guarded, open = "r", "b"
	for _, test := range []struct {
		name              string
		token, owner, see string // see: the image's visibility
		header            []string
		hidden            bool
	}{
		{"own, not guarded", tokenB, open, "private", nil, false},
		{"of a guarded project", "token-r", guarded, "private", nil, true},
		{"of a guarded project, shown to others", tokenB, guarded, "public", nil, true},
		{"of others, shown to a guarded project", "token-r", open, "public", nil, true},
		{"audited", "token-x", "x", "private", nil, false},
		{"shared, where members are guarded", tokenC, "s", "shared", nil, true},
		{"shared, where those without members are guarded", tokenC, "t", "shared", nil, true},
		{"private, where members are guarded", tokenC, "s", "private", nil, false},
		{"to a service", "token-r", guarded, "private", []string{"X-Service-Token", "token-nova"}, false},
		{"to a member's own token as a service's", "token-r", guarded, "private", []string{"X-Service-Token", "token-r"}, true},
		{"to a service that Keystone does not know", "token-r", guarded, "private", []string{"X-Service-Token", "garbage"}, true},
		{"an owner in upper case is the same one", tokenB, "ABCDEFABCDEFABCDEFABCDEFABCDEFAB", "private", nil, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newHidingStage(t)
			one, without := image(test.owner, test.see, place), image(test.owner, test.see, "")
			want := one
			if test.hidden {
				want = without
			}
			const id = "8f2b8c0e-0000-4000-8000-000000000001"
			for _, route := range []struct {
				method, path, body string
				list               bool
			}{
				{"GET", "/v2/images/" + id, "", false},
				{"GET", "/v2/images", "", true},
				{"GET", "/v2/images?name=x", "", true},
				{"POST", "/v2/images", `{"name": "x"}`, false},
				{"PATCH", "/v2/images/" + id, `[{"op": "add", "path": "/os_type", "value": "x"}]`, false},
			} {
				header := append([]string{}, test.header...)
				if route.method == "PATCH" {
					header = append(header, "Content-Type", "application/openstack-images-v2.1-json-patch")
				}
				answer, want := one, want
				if route.list {
					const format = `{"images": [%s, %s], "first": "/v2/images"}`
					other := image("b", "private", "")
					answer, want = fmt.Sprintf(format, one, other), fmt.Sprintf(format, want, other)
				}
				s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
					if strings.HasSuffix(r.URL.Path, "/members") {
						io.WriteString(w, `{"members": [{}]}`)
						return true
					}
					w.Header().Set("Content-Type", "application/json")
					if r.Method == "POST" {
						w.WriteHeader(http.StatusCreated)
					}
					if route.list {
						w.(http.Flusher).Flush() // an answer whose length is not told
					}
					io.WriteString(w, answer)
					return true
				}
				status, got := s.do(route.method, route.path, test.token, strings.NewReader(route.body), header...)
				if status/100 != 2 || got != want {
					t.Errorf("%s %s = %d %s, want %s", route.method, route.path, status, got, want)
				}
			}
			s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, "/locations") {
					io.WriteString(w, `[{"url": "rbd://x"}]`)
				} else {
					io.WriteString(w, one)
				}
				return true
			}
			status, got := s.do("GET", "/v2/images/"+id+"/locations", test.token, nil, test.header...)
			if refused := status == http.StatusForbidden && reason(got) == "door_closed"; refused != test.hidden || strings.Contains(got, "rbd") == test.hidden {
				t.Errorf("GET locations = %d %s, want refused %v", status, got, test.hidden)
			}
		})
	}
}

func newHidingStage(t testing.TB) *stage {
	t.Helper()
	rules, err := policy.Load(strings.NewReader(`
rules:
  - {name: receipt, projects: [{id: r}, {id: abcdefabcdefabcdefabcdefabcdefab}], mode: enforce, signers: any, downloads: receipt}
  - {name: lent, projects: [id: s], visibility: [shared], mode: enforce, signers: any, downloads: receipt}
  - {name: own, projects: [id: t], visibility: [private], mode: enforce, signers: any, downloads: receipt}
  - {name: audited, projects: [id: x], mode: audit, downloads: verify}
  - {name: rest, projects: all, mode: off}
`))
	if err != nil {
		t.Fatal(err)
	}
	return newStage(t, func(c *proxy.Config) { c.Policies = rules })
}

// Whose token it is has to be known; until then everything is hidden, and still
// served.
func TestHideWithoutKeystone(t *testing.T) {
	s := newHidingStage(t)
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		io.WriteString(w, `{"owner": "b", "visibility": "private", "direct_url": "rbd://x", "id": "x", "status": "active"}`)
		return true
	}
	s.keystone.down = true
	status, got := s.do("GET", "/v2/images/8f2b8c0e-0000-4000-8000-000000000001", tokenB, nil)
	if want := `{"owner": "b", "visibility": "private", "id": "x", "status": "active"}`; status != 200 || got != want {
		t.Errorf("GET = %d %s, want %s", status, got, want)
	}
}

// What cannot be read is not handed on.
func TestHideEncoded(t *testing.T) {
	s := newHidingStage(t)
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
		w.Header().Set("Content-Encoding", "gzip")
		io.WriteString(w, "\x1f\x8b")
		return true
	}
	if status, got := s.do("GET", "/v2/images", tokenB, nil); status != http.StatusBadGateway || reason(got) != "glance_unavailable" {
		t.Errorf("GET = %d %q, want 502 glance_unavailable", status, got)
	}
}

// Where no rule enforces anything of downloads, answers are left alone.
func TestHideNothing(t *testing.T) {
	s := newStage(t)
	const text = `{"direct_url": "rbd://x"}`
	s.glance.before = func(w http.ResponseWriter, r *http.Request) bool { io.WriteString(w, text); return true }
	s.keystone.down = true
	if status, got := s.do("GET", "/v2/images/8f2b8c0e-0000-4000-8000-000000000001", tokenA, nil); status != 200 || got != text {
		t.Errorf("GET = %d %s, want it as it is", status, got)
	}
}
