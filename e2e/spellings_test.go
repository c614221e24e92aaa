//go:build e2e

package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"
)

// spelling is a request by which somebody might bring an unsigned image in,
// or take away a signature, written out as it goes over the wire. In target and
// body, QUEUED, BACK and SIGNED stand for images: one without data, a deactivated
// one, an active one with four signature properties.
type spelling struct {
	method, target string
	body           string
	header         []string // more lines of the head; they replace the usual ones of the same name
}

const (
	spelledJSON  = "Content-Type: application/json"
	spelledPatch = "Content-Type: application/openstack-images-v2.1-json-patch"
	spelledDraft = "Content-Type: application/openstack-images-v2.0-json-patch"
	spelledForm  = "Content-Type: application/x-www-form-urlencoded"
	locationBody = `{"url": "http://127.0.0.1:1/image"}`
)

// spellings lists them. Some are the way that the documentation shows, some
// are ways that one of the servers or libraries under Glance takes for the same.
func spellings() []spelling {
	var list []spelling
	put := func(target string, header ...string) {
		list = append(list, spelling{"PUT", target, "unsigned", header})
	}
	add := func(method, target, body string, header ...string) {
		list = append(list, spelling{method, target, body, header})
	}
	// Paths of an upload and of staging.
	for _, door := range []string{"file", "stage"} {
		for _, path := range []string{
			"/v2/images/QUEUED/DOOR", "/v2.0/images/QUEUED/DOOR", "/v2.9/images/QUEUED/DOOR", "/v2.17/images/QUEUED/DOOR", "/v2.99/images/QUEUED/DOOR",
			"//v2/images/QUEUED/DOOR", "/v2//images/QUEUED/DOOR", "/v2/images//QUEUED/DOOR", "/v2/images/QUEUED//DOOR", "////v2////images////QUEUED////DOOR",
			"/v2/images/QUEUED/DOOR/", "/v2/images/QUEUED/DOOR%0a", "/v2/images/QUEUED/DOOR%0A", "/v2/images/QUEUED/DOOR%0d%0a", "/v2/images/QUEUED/DOOR%00", "/v2/images/QUEUED/DOOR%20",
			"/v2/./images/QUEUED/DOOR", "/v2/images/./QUEUED/DOOR", "/v2/images/QUEUED/./DOOR", "/./v2/images/QUEUED/DOOR", "/x/../v2/images/QUEUED/DOOR",
			"/v2/x/../images/QUEUED/DOOR", "/v2/images/x/../QUEUED/DOOR", "/v2/images/QUEUED/x/../DOOR", "/v2/images/QUEUED/tags/../DOOR",
			"/v2/images/QUEUED/tags/x/../../DOOR", "/v2/images/QUEUED/members/../DOOR", "/../v2/images/QUEUED/DOOR", "/v2/images/QUEUED/DOOR/.", "/v2/images/QUEUED/DOOR/x/..",
			"/v2/%2e/images/QUEUED/DOOR", "/v2/images/QUEUED/tags/%2e%2e/DOOR", "/v2/images/QUEUED/tags/..%2fDOOR", "/v2/images/QUEUED/tags/%2e%2e%2fDOOR", "/v2/images/QUEUED/tags/..%252fDOOR",
			"/v2/images/QUEUED%2fDOOR", "/v2%2fimages/QUEUED/DOOR", "%2fv2/images/QUEUED/DOOR", "/%2fv2/images/QUEUED/DOOR", "/v2%2fimages%2fQUEUED%2fDOOR", "/v2/images/QUEUED%5cDOOR",
			"/%76%32/images/QUEUED/DOOR", "/v2/%69mages/QUEUED/DOOR", "/v2/images/QUEUED/%66ile", "/v2/images/QUEUED/%73tage", "/v2/images%2FQUEUED/DOOR",
			"/v2/images/QUEUED/DOOR#", "/v2/images/QUEUED/DOOR#x", "/v2/images/QUEUED/DOOR%23", "/v2/images/QUEUED/tags/x#/../DOOR", "/v2/images/QUEUED/DOOR#?x=y",
			"/v2/images/QUEUED/DOOR?", "/v2/images/QUEUED/DOOR?x=y", "/v2/images/QUEUED/DOOR?_method=PUT", "/v2/images/QUEUED/DOOR%3f", "/v2/images/QUEUED/DOOR?#",
			"/v2/images/QUEUED/DOOR;", "/v2/images/QUEUED/DOOR;x=y", "/v2/images/QUEUED;/DOOR", "/v2;/images/QUEUED/DOOR", "/v2/images/QUEUED/DOOR%3b",
			"/v2/images/UPPER/DOOR", "/v2/images/BARE/DOOR", "/v2/images/%7bQUEUED%7d/DOOR", "/v2/images/QUEUED%00/DOOR", "/v2/images/QUEUED%20/DOOR", "/v2/images/QUEUED%0a/DOOR",
			"/V2/images/QUEUED/DOOR", "/v2/IMAGES/QUEUED/DOOR", "/v2/images/QUEUED/DOOR.json", "/v2/images/QUEUED/DOOR%c0%af", "/v2%0a/images/QUEUED/DOOR", "/v2%20/images/QUEUED/DOOR",
			"http://elsewhere.example/v2/images/QUEUED/DOOR", "http://elsewhere.example//v2/images/QUEUED/DOOR", "https://u:p@elsewhere.example:1/v2/images/QUEUED/DOOR", "/image/v2/images/QUEUED/DOOR",
			"/v1/images/QUEUED/DOOR", "/v3/images/QUEUED/DOOR", "/v2/images/QUEUED/DOOR\\", "v2/images/QUEUED/DOOR", "*", "/healthcheck/../v2/images/QUEUED/DOOR", "/versions/../v2/images/QUEUED/DOOR",
		} {
			put(strings.ReplaceAll(path, "DOOR", door))
		}
		target := "/v2/images/QUEUED/" + door
		// Other ways to say PUT, who is calling, and where the body ends.
		for _, method := range []string{"put", "Put", "POST", "PATCH", "GET", "DELETE", "OPTIONS", "BREW", "HEAD"} {
			add(method, target, "unsigned")
			for _, query := range []string{"_method=PUT", "_method=put", "x=y&_method=PUT", "_method=GET&_method=PUT", "%5fmethod=PUT", "x=_method&%5Fmethod=PUT"} {
				add(method, target+"?"+query, "unsigned")
			}
		}
		add("POST", "/v2/images/QUEUED/tags/_method?_method=PUT", "unsigned")
		add("GET", "/v2/images?_method=POST", `{"name": "`+spelled+`"}`, spelledJSON)
		add("POST", target, "_method=PUT", spelledForm)
		add("POST", target, "_method=PUT", "Content-Type: Application/X-WWW-Form-Urlencoded; charset=utf-8")
		add("POST", target, "--b\r\nContent-Disposition: form-data; name=\"_method\"\r\n\r\nPUT\r\n--b--\r\n", "Content-Type: multipart/form-data; boundary=b")
		put(target, "X-HTTP-Method-Override: PUT")
		put(target, "Content-Length: 0")
		put(target, "Transfer-Encoding: gzip, chunked")
		put(target, "Transfer-Encoding: chunked", "Content-Length: 5")
		put(target, "Content-Length: abc")
		put(target, "Content-Length: 3")
		put(target, "Content-Length: 8", "Content-Length: 8")
		put(target, "Expect: 100-continue")
		put(target, "Content-Type: application/octet-stream; charset=x")
		put(target, "Connection: close, X-Openstack-Request-Id")
		put(target, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ")
		put(target, "X-Storage-Token: TOKEN", "X-Auth-Token:")
		put(target, "X_Auth_Token: TOKEN", "X-Auth-Token:")
		put(target, "X-Auth-Token: TOKEN", "X-Auth-Token: TOKEN")
		put("/images/QUEUED/"+door, "Accept: application/vnd.openstack.images-v2")
		put("/images/QUEUED/"+door, "Accept: application/vnd.openstack.images-v2.9")
		put(target, "Accept: application/vnd.openstack.images-v2")
		put(target, "X-Service-Token: TOKEN", "X-Roles: admin,service", "X-Is-Admin-Project: True", "OpenStack-System-Scope: all")
	}
	// Imports, locations, reactivation.
	importBody := `{"method": {"name": "web-download", "uri": "http://127.0.0.1:1/image"}}`
	for _, target := range []string{"/v2/images/QUEUED/import", "//v2.13//images/QUEUED//%69mport", "/v2/images/QUEUED/import%0a", "/v2/images/QUEUED/x/../import", "/v2/images/QUEUED/import?_method=POST"} {
		add("POST", target, importBody, spelledJSON)
		add("POST", target, `{"method": {"name": "glance-direct"}}`, spelledJSON)
		add("POST", target, `{"method": {"name": "copy-image"}, "stores": ["fast"]}`, spelledJSON)
	}
	add("GET", "/v2/images/QUEUED/import?_method=POST", importBody, spelledJSON)
	for _, target := range []string{"/v2/images/QUEUED/locations", "/v2.17/images/QUEUED/locations", "//v2/images/QUEUED/%6cocations", "/v2/images/QUEUED/locations%0a", "/v2/images/QUEUED/./locations"} {
		add("POST", target, locationBody, spelledJSON)
	}
	add("GET", "/v2/images/QUEUED/locations?_method=POST", locationBody, spelledJSON)
	for _, target := range []string{"/v2/images/BACK/actions/reactivate", "//v2.3/images/BACK/actions/%72eactivate", "/v2/images/BACK/actions/reactivate%0a", "/v2/images/BACK/actions/deactivate/../reactivate",
		"/v2/images/BACK/actions/x/../reactivate", "/v2/images/BACK/actions/reactivate?x=y", "/v2/images/BACK/actions//reactivate"} {
		add("POST", target, "")
	}
	add("GET", "/v2/images/BACK/actions/reactivate?_method=POST", "")
	add("PUT", "/v2/images/BACK/tags/x/../../actions/reactivate?_method=POST", "")
	put("/v2/images/BACK/file")
	put("/v2/images/SIGNED/file")

	// Patches, by the property that they reach.
	location := `[{"url": "http://127.0.0.1:1/image", "metadata": {}}]`
	for _, path := range []string{"/locations", "// locations", "/locations\\t", "/\\u006cocations", "/\\u00a0locations", "/\\u001flocations", "/\\u0085locations"} {
		add("PATCH", "/v2/images/QUEUED", `[{"op": "replace", "path": "`+path+`", "value": `+location+`}]`, spelledPatch)
		add("PATCH", "/v2/images/QUEUED", `[{"replace": "`+path+`", "value": `+location+`}]`, spelledDraft)
		add("PATCH", "/v2/images/QUEUED", `[{"op": "add", "path": "`+path+`/-", "value": `+location[1:len(location)-1]+`}]`, spelledPatch)
	}
	for _, path := range []string{"/img_signature", "//img_signature", "/ img_signature", "/img_signature\\t\\n", "/\\u0069mg_signature", "/\\u00a0img_signature\\u3000", "/\\u001cimg_signature", "/\\u2003img_signature",
		"/img_signature_key_type", "/ img_signature_certificate_uuid", "/img_signature_hash_method "} {
		add("PATCH", "/v2/images/SIGNED", `[{"op": "remove", "path": "`+path+`"}]`, spelledPatch)
		add("PATCH", "/v2/images/SIGNED", `[{"op": "replace", "path": "`+path+`", "value": "forged"}]`, spelledPatch)
		add("PATCH", "/v2/images/SIGNED", `[{"op": "add", "path": "`+path+`", "value": "forged"}]`, spelledPatch)
		add("PATCH", "/v2/images/SIGNED", `[{"remove": "`+path+`"}]`, spelledDraft)
		add("PATCH", "/v2/images/SIGNED", `[{"replace": "`+path+`", "value": "forged"}]`, spelledDraft)
	}
	remove := `[{"op": "remove", "path": "/img_signature"}]`
	for _, target := range []string{"//v2.5//images/SIGNED", "/v2/images/SIGNED%0a", "/v2/./images/SIGNED", "/v2/images/SIGNED/x/..", "/v2/images/SIGNED?_method=PATCH", "/v2/images/SIGNED?x=y"} {
		add("PATCH", target, remove, spelledPatch)
		add("POST", target, remove, spelledPatch)
	}
	add("GET", "/v2/images/SIGNED?_method=PATCH", remove, spelledPatch)
	add("PATCH", "/v2/images/SIGNED", `[{"op": "add", "path": "/x", "value": "y", "path": "/img_signature"}]`, spelledPatch)
	add("PATCH", "/v2/images/SIGNED", `[{"op": "add", "op": "remove", "path": "/img_signature", "value": "x"}]`, spelledPatch)
	add("PATCH", "/v2/images/SIGNED", `[{"op": "remove", "path": "/name", "p\u0061th": "/img_signature"}]`, spelledPatch)
	add("PATCH", "/v2/images/SIGNED", remove, spelledPatch+"; charset=utf-16")
	add("PATCH", "/v2/images/SIGNED", remove, "Content-Type: application/json")
	add("PATCH", "/v2/images/SIGNED", "\ufeff"+remove, spelledPatch)
	add("PATCH", "/v2/images/SIGNED", `[{"op": "replace", "path": "/extra_properties", "value": ""}]`, spelledPatch)
	// The record of one image over that of another.
	for _, path := range []string{"/image_id", "/ image_id", "/image\\u005fid"} {
		add("PATCH", "/v2/images/QUEUED", `[{"op": "replace", "path": "`+path+`", "value": "SIGNED"}]`, spelledPatch)
		add("PATCH", "/v2/images/QUEUED", `[{"replace": "`+path+`", "value": "SIGNED"}]`, spelledDraft)
	}
	// Tasks, and images that say that they are active from the start.
	for _, kind := range []string{"import", "api_image_import", "location_import"} {
		add("POST", "/v2/tasks", `{"type": "`+kind+`", "input": {"image_id": "QUEUED", "loc_url": "http://127.0.0.1:1/image", "validation_data": {}, "import_from": "http://127.0.0.1:1/image", "import_from_format": "raw", "image_properties": {"name": "`+spelled+`"}}}`, spelledJSON)
	}
	for _, member := range []string{`"status": "active"`, `"locations": ` + location, `"size": 1`, `"id": "UPPER"`, `"file": "x"`} {
		add("POST", "/v2/images", `{"name": "`+spelled+`", `+member+`}`, spelledJSON)
	}
	return list
}

// targets are the images that spellings aim at.
type targets struct {
	owner   *client // at Glance itself
	witness *client // an administrator, at Glance itself
	ids     map[string]string
	before  map[string]image
}

func newTargets(owner, witness *client) *targets {
	owner.t.Helper()
	g := &targets{owner, witness, map[string]string{}, map[string]image{}}
	g.make("QUEUED", "BACK", "SIGNED")
	return g
}

func (g *targets) make(names ...string) {
	g.owner.t.Helper()
	for _, name := range names {
		made := g.owner.create(nil)
		if name != "QUEUED" {
			if a := g.owner.upload(made.id(), []byte("data")); a.status != http.StatusNoContent {
				g.owner.t.Fatalf("straight upload: %v", a)
			}
		}
		switch name {
		case "BACK":
			if a := g.owner.send("POST", g.owner.image(made.id(), "actions", "deactivate"), "", nil); a.status != http.StatusNoContent {
				g.owner.t.Fatalf("straight deactivate: %v", a)
			}
		case "SIGNED":
			var operations []map[string]any
			for _, property := range []string{"img_signature", "img_signature_hash_method", "img_signature_key_type", "img_signature_certificate_uuid"} {
				operations = append(operations, map[string]any{"op": "add", "path": "/" + property, "value": "as signed"})
			}
			if a := g.owner.patch(made.id(), operations...); a.status != http.StatusOK {
				g.owner.t.Fatalf("straight patch: %v", a)
			}
		}
		g.ids[name], g.before[name] = made.id(), g.witness.show(made.id())
	}
}

// fill puts the images' ids into a text.
func (g *targets) fill(text string) string {
	return strings.NewReplacer("QUEUED", g.ids["QUEUED"], "BACK", g.ids["BACK"], "SIGNED", g.ids["SIGNED"],
		"UPPER", strings.ToUpper(g.ids["QUEUED"]), "BARE", strings.ReplaceAll(g.ids["QUEUED"], "-", "")).Replace(text)
}

// changed lists the images that a spelling names and that are not what they
// were.
func (g *targets) changed(s spelling) (names []string) {
	g.owner.t.Helper()
	for _, name := range []string{"QUEUED", "BACK", "SIGNED"} {
		if !strings.Contains(s.target+s.body, name) && !(name == "QUEUED" && (strings.Contains(s.target, "UPPER") || strings.Contains(s.target, "BARE"))) {
			continue
		}
		a := g.witness.send("GET", g.witness.image(g.ids[name]), "", nil)
		if a.status != http.StatusOK || !reflect.DeepEqual(g.witness.decode(a), g.before[name]) {
			names = append(names, name)
		}
	}
	return names
}

// spelled is the name of images that a spelling would make.
const spelled = "spelled"

// made are the images that spellings have made, by their ids. They are
// removed when the test ends.
func (g *targets) made() []image {
	g.owner.t.Helper()
	a := g.witness.send("GET", g.witness.images+"/v2/images?limit=200&name="+spelled, "", nil)
	var page struct{ Images []image }
	if err := json.Unmarshal(a.body, &page); err != nil || a.status != http.StatusOK {
		g.owner.t.Fatalf("list of images: %v", a)
	}
	for _, img := range page.Images {
		g.owner.t.Cleanup(func() { g.witness.remove(img.id()) })
	}
	return page.Images
}

// fire sends a spelling and returns the answer's status, 0 if there is none.
func (g *targets) fire(s spelling, c *client) int {
	c.t.Helper()
	u, err := url.Parse(c.images)
	if err != nil {
		c.t.Fatal(err)
	}
	connection, err := net.Dial("tcp", u.Host)
	if err != nil {
		c.t.Fatal(err)
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(15 * time.Second))
	body := g.fill(s.body)
	usual := map[string]string{"Host": u.Host, "X-Auth-Token": c.token, "Connection": "close", "Content-Type": "application/octet-stream", "Content-Length": fmt.Sprint(len(body))}
	var head strings.Builder
	fmt.Fprintf(&head, "%s %s HTTP/1.1\r\n", s.method, g.fill(s.target))
	for _, line := range s.header {
		name, _, _ := strings.Cut(line, ":")
		delete(usual, name)
		if name == "Transfer-Encoding" {
			delete(usual, "Content-Length")
			body = fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(g.fill(s.body)), g.fill(s.body))
		}
		fmt.Fprintf(&head, "%s\r\n", strings.ReplaceAll(line, "TOKEN", c.token))
	}
	for name, value := range usual {
		fmt.Fprintf(&head, "%s: %s\r\n", name, value)
	}
	io.WriteString(connection, head.String()+"\r\n"+body) // a reset while writing is an answer, too
	answer, err := http.ReadResponse(bufio.NewReader(connection), &http.Request{Method: s.method})
	if err != nil {
		return 0
	}
	answer.Body.Close()
	return answer.StatusCode
}

const spellingsPolicy = `
rules:
  - name: signed only
    projects: [{name: demo, domain: Default}]
    mode: enforce
    signers: any
  - projects: all
    unowned: true
    mode: audit
`

// However a request is spelled: through the proxy it changes nothing.
func TestNoSpellingBringsAnUnsignedImageIn(t *testing.T) {
	list := spellings()
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, spellingsPolicy)
		attacker := login(t, "demo", p.url)
		g := newTargets(attacker.at(glance.url()), login(t, "admin", glance.url()))
		eventually(t, "the proxy knows which project demo is", func() bool {
			return attacker.upload(g.ids["QUEUED"], []byte("unsigned")).status == http.StatusForbidden
		})
		answers := map[int]int{}
		for _, s := range list {
			status := g.fire(s, attacker)
			answers[status]++
			if status/100 == 2 {
				t.Logf("%s %s %q %s = %d, and passes", s.method, s.target, s.header, s.body, status)
			}
			if names := g.changed(s); len(names) > 0 {
				t.Errorf("%s %s %q %s = %d, and changed %q", s.method, s.target, s.header, s.body, status, names)
				g.make(names...)
			}
		}
		for name, id := range g.ids { // what takes its time has had it
			if now := g.witness.show(id); !reflect.DeepEqual(now, g.before[name]) {
				t.Errorf("in the end %s is %v, was %v", name, now, g.before[name])
			}
		}
		for _, img := range g.made() {
			if img.status() != "queued" || img["size"] != nil {
				t.Errorf("a spelling made the image %v", img)
			}
		}
		t.Logf("%d spellings; answers by status: %v", len(list), answers)
	})
}

// The list has teeth: straight at Glance many of the same requests change an
// image, by other spellings than the one that the documentation shows.
func TestSpellingsWorkWithoutTheProxy(t *testing.T) {
	list := spellings()
	underBothServers(t, func(t *testing.T, glance server) {
		attacker := login(t, "demo", glance.url())
		g := newTargets(attacker, login(t, "admin", glance.url()))
		worked := 0
		for _, s := range list {
			status := g.fire(s, attacker)
			if names := g.changed(s); len(names) > 0 {
				worked++
				t.Logf("%s %s %q %.80s = %d changes %q", s.method, s.target, s.header, s.body, status, names)
				g.make(names...)
			}
		}
		g.made()
		if worked < 60 {
			t.Errorf("%d of %d spellings change an image, want at least 60", worked, len(list))
		}
		t.Logf("%d of %d spellings change an image", worked, len(list))
	})
}

// A member gives an image that became active where nothing is enforced to a
// project that takes verified ones only.
func TestNobodyGivesAnUnsignedImageToAnEnforcedProject(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, spellingsPolicy)
		giver, witness := login(t, "alt", p.url), login(t, "admin", glance.url())
		demo := openstack.Projects["demo"]
		for _, path := range []string{"/owner", "/ owner", "//owner", "/own\u0065r\u00a0"} {
			for _, to := range []string{demo, strings.ToUpper(demo), " " + demo} {
				made := giver.create(nil)
				if a := giver.upload(made.id(), []byte("unsigned")); a.status != http.StatusNoContent {
					t.Fatalf("upload into an audited project: %v", a)
				}
				for _, op := range []string{"add", "replace"} {
					a := giver.patch(made.id(), map[string]any{"op": op, "path": path, "value": to})
					if now := witness.show(made.id()); now.text("owner") != made.text("owner") {
						t.Errorf("%s %q %q = %v, and the image belongs to %s", op, path, to, a, now.text("owner"))
					}
					if a.status != http.StatusForbidden {
						t.Errorf("%s %q %q = %v, want 403", op, path, to, a)
					}
				}
			}
		}
	})
}
