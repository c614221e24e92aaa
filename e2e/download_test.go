//go:build e2e

package e2e_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// handing guards what goes out of the project demo, and what goes in to it: what
// alt fetches of demo's, and what demo fetches of alt's.
func handing(downloads string) string {
	return `
rules:
  - name: guarded
    projects: [{name: demo, domain: Default}]
    mode: enforce
    signers: any
    downloads: ` + downloads + `
  - projects: all
    unowned: true
    mode: "off"
`
}

// uploaded makes an active image with data, past the proxy if it is not signed.
func uploaded(t *testing.T, c *client, glance server, data []byte, isSigned bool) string {
	t.Helper()
	var id string
	if isSigned {
		id = createSigned(c, data).id()
	} else {
		c = c.at(glance.url())
		id = c.create(nil).id()
	}
	if a := c.upload(id, data); a.status != 204 {
		t.Fatalf("upload answered %v, want 204", a)
	}
	return id
}

func TestADownloadNeedsAReceipt(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		data := pixels(t, size)
		for _, downloads := range []string{"receipt", "verify"} {
			t.Run(downloads, func(t *testing.T) {
				p := startProxy(t, glance, handing(downloads))
				demo, alt, admin := login(t, "demo", p.url), login(t, "alt", p.url), login(t, "admin", p.url)
				verified := uploaded(t, demo, glance, data, true)
				if a := demo.download(verified); a.status != 200 || string(a.body) != string(data) {
					t.Errorf("download of a verified image answered %d with %d bytes, want 200 with %d", a.status, len(a.body), len(data))
				}
				old := uploaded(t, demo, glance, data, false)
				for name, c := range map[string]*client{"its owner": demo, "an administrator": admin} {
					if a := c.download(old); a.status != 403 || !strings.Contains(string(a.body), "receipt_missing") {
						t.Errorf("download of an image from before, by %s, answered %v, want 403 receipt_missing", name, a)
					}
				}

				// What alt has is alt's to boot, and not demo's.
				foreign := uploaded(t, alt, glance, data, false)
				if a := admin.patch(foreign, map[string]any{"op": "replace", "path": "/visibility", "value": "public"}); a.status != 200 {
					t.Fatalf("publishing answered %v, want 200", a)
				}
				if a := alt.download(foreign); a.status != 200 || string(a.body) != string(data) {
					t.Errorf("download by an unguarded project answered %d, want 200 and the data", a.status)
				}
				if a := demo.download(foreign); a.status != 403 || !strings.Contains(string(a.body), "receipt_missing") {
					t.Errorf("download by a guarded project answered %v, want 403 receipt_missing", a)
				}

				// What has no data, and what is not there, is Glance's to tell.
				if a := demo.download(demo.create(nil).id()); a.status != 204 {
					t.Errorf("download of a queued image answered %v, want 204", a)
				}
				if a := alt.download(verified); a.status != 404 {
					t.Errorf("download of another project's image answered %v, want 404", a)
				}
			})
		}
	})
}

// TestADownloadOfChangedDataBreaksOff changes a byte in Glance's storage, where
// nobody sees it.
func TestADownloadOfChangedDataBreaksOff(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, handing("verify"))
		c := login(t, "demo", p.url)
		data := pixels(t, size)
		id := uploaded(t, c, glance, data, true)
		other := append([]byte{}, data...)
		other[100] ^= 1
		if err := os.WriteFile(stored(t, id), other, 0o600); err != nil {
			t.Fatal(err)
		}
		if a := c.at(glance.url()).download(id); a.status != 200 || string(a.body) != string(other) {
			t.Fatalf("Glance itself answers %d with %d bytes, want the changed data", a.status, len(a.body))
		}
		request, err := http.NewRequestWithContext(t.Context(), "GET", c.image(id, "file"), nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Auth-Token", c.token)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		got, err := io.ReadAll(response.Body)
		if response.StatusCode != 200 || !errors.Is(err, io.ErrUnexpectedEOF) || len(got) > len(data)-16<<10 {
			t.Errorf("download answered %d with %d of %d bytes, %v, want a body that lacks its last 16 KiB", response.StatusCode, len(got), len(data), err)
		}
		event := p.awaitEvent(t, map[string]string{"level": "error", "route": "/v2/images/{id}/file"})
		if text := fmt.Sprint(event["cadf"]); !strings.Contains(text, "reasonCode:download_mismatch") {
			t.Errorf("the log says %s, want download_mismatch", text)
		}
	})
}

// stored is the file in which Glance keeps an image's data.
func stored(t *testing.T, id string) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(stackFolder(t), openstack.Database, "images", "*", id))
	if err != nil || len(found) != 1 {
		t.Fatalf("image %s is in the files %v, %v, want one", id, found, err)
	}
	return found[0]
}

func TestAPartOfAnImageIsRefused(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		data := pixels(t, size)
		part := func(c *client, id, header, value string) (status int, body []byte) {
			request, err := http.NewRequestWithContext(t.Context(), "GET", c.image(id, "file"), nil)
			if err != nil {
				t.Fatal(err)
			}
			request.Header.Set("X-Auth-Token", c.token)
			request.Header.Set(header, value)
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			if body, err = io.ReadAll(response.Body); err != nil {
				t.Fatal(err)
			}
			return response.StatusCode, body
		}
		ranges := map[string]string{"Range": "bytes=10-19", "Content-Range": "bytes 10-19/*"}

		strict := startProxy(t, glance, handing("verify"))
		demo := login(t, "demo", strict.url)
		id := uploaded(t, demo, glance, data, true)
		for header, value := range ranges {
			if status, body := part(demo.at(glance.url()), id, header, value); status != 206 || string(body) != string(data[10:20]) {
				t.Errorf("Glance itself answers %s with %d %.100q, want 206 and ten bytes", header, status, body)
			}
			if status, body := part(demo, id, header, value); status != 403 || !strings.Contains(string(body), "range_refused") {
				t.Errorf("%s answered %d %.300s, want 403 range_refused", header, status, body)
			}
		}

		lenient := startProxy(t, glance, handing("verify\n    ranges: true"))
		old := uploaded(t, demo, glance, data, false)
		for header, value := range ranges {
			if status, body := part(demo.at(lenient.url), id, header, value); status != 206 || string(body) != string(data[10:20]) {
				t.Errorf("%s of a verified image answered %d %.100q, want 206 and ten bytes", header, status, body)
			}
			if status, body := part(demo.at(lenient.url), old, header, value); status != 403 || !strings.Contains(string(body), "receipt_missing") {
				t.Errorf("%s of an image from before answered %d %.300s, want 403 receipt_missing", header, status, body)
			}
		}
	})
}

// TestWhereAnImageIsStoredIsNotTold looks at every answer that shows an image, of
// a Glance that tells.
func TestWhereAnImageIsStoredIsNotTold(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		glance = anotherGlance(t, glance, telling...)
		p := startProxy(t, glance, handing("receipt"))
		demo, alt := login(t, "demo", p.url), login(t, "alt", p.url)
		id := uploaded(t, demo, glance, pixels(t, size), true)
		unguarded := uploaded(t, alt, glance, pixels(t, size), false)
		file := "file://" // where this stack's stores are
		for _, member := range []string{"direct_url", "locations"} {
			if place := fmt.Sprint(demo.at(glance.url()).show(id)[member]); !strings.Contains(place, file) {
				t.Fatalf("Glance itself says of an image: %s %s", member, place)
			}
		}

		service := *demo
		service.service = login(t, "glance", p.url).token
		pretender := *demo
		pretender.service = demo.token
		answers := func(c *client, id string) map[string]answer {
			return map[string]answer{
				"GET image": c.send("GET", c.image(id), "", nil),
				"GET list":  c.send("GET", c.images+"/v2/images?limit=1000", "", nil),
				"PATCH":     c.patch(id, map[string]any{"op": "add", "path": "/os_distro", "value": "x"}),
				"locations": c.send("GET", c.image(id, "locations"), "", nil),
			}
		}
		for _, test := range []struct {
			name   string
			c      *client
			id     string
			hidden bool
		}{
			{"its owner", demo, id, true},
			{"who puts a user's token in place of a service's", &pretender, id, true},
			{"a service", &service, id, false},
			{"an unguarded project", alt, unguarded, false},
		} {
			for name, a := range answers(test.c, test.id) {
				told := strings.Contains(string(a.body), file)
				switch {
				case name == "locations" && test.hidden:
					if a.status != 403 || !strings.Contains(string(a.body), "door_closed") {
						t.Errorf("%s: %s answered %v, want 403 door_closed", test.name, name, a)
					}
				case name == "locations":
					if straight := test.c.at(glance.url()); a.status != straight.send("GET", straight.image(test.id, "locations"), "", nil).status {
						t.Errorf("%s: %s answered %v, want Glance's own answer", test.name, name, a)
					}
				case a.status != 200 || told == test.hidden:
					t.Errorf("%s: %s answered %d, and tells where the data is: %v", test.name, name, a.status, told)
				case test.hidden && !strings.Contains(string(a.body), `"/v2/images/`+test.id+`/file"`):
					t.Errorf("%s: %s lacks more than that: %s", test.name, name, a.body)
				}
			}
		}
	})
}
