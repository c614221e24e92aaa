//go:build e2e

package e2e_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path"
	"strings"
	"testing"
	"time"
)

// client speaks to one image endpoint as one user, over plain HTTP, so that a
// scenario sees exactly what was sent and answered.
type client struct {
	t      *testing.T
	user   user
	token  string
	images string // endpoint, without a version

	// service, if set, goes along in X-Service-Token, as a service's does that
	// acts for the user.
	service string
}

// answer is a response whose body has been read.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) String() string { return fmt.Sprintf("%d %s", a.status, a.body) }

// image is Glance's record of an image.
type image map[string]any

func (i image) id() string     { return i.text("id") }
func (i image) status() string { return i.text("status") }

// text is a property, "" if the image has none of that name.
func (i image) text(property string) string {
	value, _ := i[property].(string)
	return value
}

// login gives a client for the image endpoint at url.
func login(t *testing.T, name, url string) *client {
	t.Helper()
	u, ok := openstack.Users[name]
	if !ok {
		t.Fatalf("the stack has no user %q", name)
	}
	c := &client{t: t, user: u, images: url}
	domain := map[string]string{"name": u.Domain}
	a := c.send("POST", openstack.Keystone+"/auth/tokens", "application/json", encode(t, map[string]any{"auth": map[string]any{
		"identity": map[string]any{"methods": []string{"password"}, "password": map[string]any{
			"user": map[string]any{"name": u.Name, "domain": domain, "password": u.Password}}},
		"scope": map[string]any{"project": map[string]any{"name": u.Project, "domain": domain}},
	}}))
	if a.status != http.StatusCreated {
		t.Fatalf("login of %s: %v", name, a)
	}
	c.token = a.header.Get("X-Subject-Token")
	return c
}

// at is the same user with the same token at another image endpoint.
func (c *client) at(url string) *client {
	other := *c
	other.images = url
	return &other
}

// patience is more than any answer of a busy stack takes.
const patience = 2 * time.Minute

// send fails the test if no answer comes. A body of unknown length, such as a
// pipe, goes out chunked.
func (c *client) send(method, url, contentType string, body io.Reader) answer {
	c.t.Helper()
	request, err := http.NewRequestWithContext(c.t.Context(), method, url, body)
	if err != nil {
		c.t.Fatal(err)
	}
	if c.token != "" {
		request.Header.Set("X-Auth-Token", c.token)
	}
	if c.service != "" {
		request.Header.Set("X-Service-Token", c.service)
	}
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	// A connection of its own: what one request does to it harms no other.
	transport := &http.Transport{DisableKeepAlives: true}
	response, err := (&http.Client{Transport: transport, Timeout: patience}).Do(request)
	if err != nil {
		c.t.Fatalf("%s %s: %v", method, url, err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatalf("%s %s: answer %d: %v", method, url, response.StatusCode, err)
	}
	return answer{response.StatusCode, response.Header, text}
}

// image is the URL of an image, or of something below it.
func (c *client) image(id string, below ...string) string {
	return c.images + path.Join(append([]string{"/v2/images", id}, below...)...)
}

// create makes a queued image, and removes it when the test ends: straight at
// Glance, because the proxy has ended by then.
func (c *client) create(properties map[string]string) image {
	c.t.Helper()
	record := map[string]string{"name": c.t.Name(), "container_format": "bare", "disk_format": "raw"}
	maps.Copy(record, properties)
	a := c.send("POST", c.images+"/v2/images", "application/json", encode(c.t, record))
	if a.status != http.StatusCreated {
		c.t.Fatalf("create image: %v", a)
	}
	made := c.decode(a)
	c.t.Cleanup(func() {
		straight := *c
		straight.images = openstack.Regions["RegionOne"]
		straight.remove(made.id())
	})
	return made
}

// remove deletes without asking whether there is anything to delete, after
// the test's own context has ended.
func (c *client) remove(id string) {
	request, err := http.NewRequest("DELETE", c.image(id), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	request.Header.Set("X-Auth-Token", c.token)
	if response, err := http.DefaultClient.Do(request); err == nil {
		response.Body.Close()
	}
}

// upload sends data with a Content-Length, as openstacksdk does.
func (c *client) upload(id string, data []byte) answer {
	c.t.Helper()
	return c.send("PUT", c.image(id, "file"), "application/octet-stream", bytes.NewReader(data))
}

// uploadChunked sends data in chunks, as glanceclient does.
func (c *client) uploadChunked(id string, data []byte) answer {
	c.t.Helper()
	return c.send("PUT", c.image(id, "file"), "application/octet-stream", io.MultiReader(bytes.NewReader(data)))
}

// download is GET of the image's data.
func (c *client) download(id string) answer {
	c.t.Helper()
	return c.send("GET", c.image(id, "file"), "", nil)
}

// patch applies JSON patch operations to an image.
func (c *client) patch(id string, operations ...map[string]any) answer {
	c.t.Helper()
	return c.send("PATCH", c.image(id), "application/openstack-images-v2.1-json-patch", encode(c.t, operations))
}

// show is Glance's record of the image, which must be there.
func (c *client) show(id string) image {
	c.t.Helper()
	a := c.send("GET", c.image(id), "", nil)
	if a.status != http.StatusOK {
		c.t.Fatalf("show image: %v", a)
	}
	return c.decode(a)
}

// exists says whether Glance has a record of the image.
func (c *client) exists(id string) bool {
	c.t.Helper()
	switch a := c.send("GET", c.image(id), "", nil); a.status {
	case http.StatusOK:
		return true
	case http.StatusNotFound:
		return false
	default:
		c.t.Fatalf("show image: %v", a)
		return false
	}
}

// secret stores a certificate at Barbican as its documentation says, and
// returns the ID that goes into img_signature_certificate_uuid.
func (c *client) secret(certificate []byte) string {
	c.t.Helper()
	a := c.send("POST", openstack.Barbican+"/v1/secrets", "application/json", encode(c.t, map[string]string{
		"name":                     c.t.Name(),
		"secret_type":              "certificate",
		"payload":                  base64.StdEncoding.EncodeToString(certificate),
		"payload_content_type":     "application/octet-stream",
		"payload_content_encoding": "base64",
	}))
	if a.status != http.StatusCreated {
		c.t.Fatalf("store secret: %v", a)
	}
	return path.Base(c.decode(a)["secret_ref"].(string))
}

func (c *client) decode(a answer) image {
	c.t.Helper()
	var record image
	if err := json.Unmarshal(a.body, &record); err != nil {
		c.t.Fatalf("answer %v: %v", a, err)
	}
	return record
}

// decodeInto reads the body of a good answer.
func decodeInto(t *testing.T, a answer, target any) {
	t.Helper()
	if err := json.Unmarshal(a.body, target); err != nil || a.status != http.StatusOK {
		t.Fatalf("answer %v: %v", a, err)
	}
}

func encode(t *testing.T, value any) io.Reader {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReader(string(text))
}
