package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"
)

// cloud is the real OpenStack of e2e/stack, as one of its users sees it.
type cloud struct {
	token   string
	glance  *url.URL
	keys    string // Barbican
	service map[string]string
}

// glance compares the wall time of an upload into a real Glance, straight and
// through Countersign.
func (b *bench) glance() error {
	c, err := openCloud()
	if err != nil {
		for _, series := range []string{"glance, through", "glance, straight"} {
			b.absent[series] = "no OpenStack runs here (make stack)"
		}
		fmt.Fprintln(os.Stderr, "there is no OpenStack here: its row is left out:", err)
		return nil
	}
	var secret struct {
		Ref string `json:"secret_ref"`
	}
	certificate, err := os.ReadFile(b.tlsFiles[0])
	if err != nil {
		return err
	}
	if err := c.call(http.MethodPost, c.keys+"/v1/secrets", map[string]string{"name": "bench", "secret_type": "certificate",
		"payload_content_type": "application/octet-stream", "payload_content_encoding": "base64",
		"payload": base64.StdEncoding.EncodeToString(certificate)}, &secret); err != nil {
		return err
	}
	defer c.call(http.MethodDelete, secret.Ref, nil, nil)
	properties, err := sign(b.key, "SHA-256", b.data.digest(gib).sha256)
	if err != nil {
		return err
	}
	properties["img_signature_certificate_uuid"] = secret.Ref[strings.LastIndexByte(secret.Ref, '/')+1:]
	environment := []string{"COUNTERSIGN_GLANCE_URL=" + c.glance.String()}
	for name, value := range c.service {
		environment = append(environment, name+"="+value)
	}
	p, err := b.countersign("countersign-glance", "rules:\n  - {projects: all, unowned: true, mode: enforce, signers: any}\n", environment...)
	if err != nil {
		return err
	}
	defer p.stop()
	for range 3 {
		for _, way := range []*peer{{name: "glance, straight", address: c.glance.Host}, {name: "glance, through", address: p.address}} {
			took, err := c.upload(b, way, properties)
			if err != nil {
				return fmt.Errorf("%s: %w", way.name, err)
			}
			b.note(way.name, took.Seconds())
		}
	}
	return nil
}

// upload creates an image, sends its data some way, and deletes it.
func (c *cloud) upload(b *bench, way *peer, properties map[string]string) (time.Duration, error) {
	wanted := map[string]any{"name": "bench", "disk_format": "raw", "container_format": "bare"}
	for name, value := range properties {
		wanted[name] = value
	}
	var image struct{ ID, Status string }
	if err := c.call(http.MethodPost, c.glance.String()+"/v2/images", wanted, &image); err != nil {
		return 0, err
	}
	at := c.glance.String() + "/v2/images/" + image.ID
	defer c.call(http.MethodDelete, at, nil, nil)
	begin := time.Now()
	status, err := way.upload(b.data, image.ID, c.token, gib, byLength)
	took := time.Since(begin)
	if err != nil || status != http.StatusNoContent {
		return 0, fmt.Errorf("answered %d, %v", status, err)
	}
	if err := c.call(http.MethodGet, at, nil, &image); err != nil || image.Status != "active" {
		return 0, fmt.Errorf("the image is %q, %v", image.Status, err)
	}
	return took, nil
}

// client knows no proxy.
var client = &http.Client{Transport: &http.Transport{}}

// openCloud authenticates as the stack's user demo.
func openCloud() (*cloud, error) {
	demo, err := stackEnvironment("demo")
	if err != nil {
		return nil, err
	}
	c := &cloud{}
	if c.service, err = stackEnvironment("countersign"); err != nil {
		return nil, err
	}
	domain := map[string]string{"name": demo["OS_USER_DOMAIN_NAME"]}
	ask, _ := json.Marshal(map[string]any{"auth": map[string]any{
		"identity": map[string]any{"methods": []string{"password"}, "password": map[string]any{
			"user": map[string]any{"name": demo["OS_USERNAME"], "password": demo["OS_PASSWORD"], "domain": domain}}},
		"scope": map[string]any{"project": map[string]any{"name": demo["OS_PROJECT_NAME"], "domain": domain}}}})
	answer, err := client.Post(demo["OS_AUTH_URL"]+"/auth/tokens", "application/json", bytes.NewReader(ask))
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	var shown struct {
		Token struct {
			Catalog []struct {
				Type      string
				Endpoints []struct{ Interface, Region, URL string }
			}
		}
	}
	if err := json.NewDecoder(answer.Body).Decode(&shown); err != nil || answer.StatusCode != http.StatusCreated {
		return nil, fmt.Errorf("the answer of Keystone: %d, %v", answer.StatusCode, err)
	}
	c.token = answer.Header.Get("X-Subject-Token")
	for _, service := range shown.Token.Catalog {
		for _, e := range service.Endpoints {
			switch {
			case e.Interface != "public":
			case service.Type == "image" && e.Region == demo["OS_REGION_NAME"]:
				if c.glance, err = url.Parse(e.URL); err != nil {
					return nil, err
				}
			case service.Type == "key-manager":
				c.keys = e.URL
			}
		}
	}
	if c.glance == nil || c.keys == "" {
		return nil, fmt.Errorf("the catalog has no Glance in %s, or no Barbican", demo["OS_REGION_NAME"])
	}
	return c, nil
}

// stackEnvironment is what `stack env USER` exports.
func stackEnvironment(user string) (map[string]string, error) {
	text, err := exec.Command("e2e/stack/stack", "env", user).Output()
	if err != nil {
		return nil, err
	}
	found := map[string]string{}
	for _, pair := range strings.Fields(string(text)) {
		if name, value, ok := strings.Cut(pair, "="); ok && name != "OS_IDENTITY_API_VERSION" && name != "OS_IMAGE_API_VERSION" {
			found[name] = value
		}
	}
	return found, nil
}

// call makes a request with the user's token, and reads its answer into what is
// wanted, if anything is.
func (c *cloud) call(method, address string, body, into any) error {
	var text []byte
	if body != nil {
		text, _ = json.Marshal(body)
	}
	req, err := http.NewRequest(method, address, bytes.NewReader(text))
	if err != nil {
		return err
	}
	req.Header.Set("X-Auth-Token", c.token)
	req.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(req)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode/100 != 2 {
		words, _ := io.ReadAll(io.LimitReader(answer.Body, 1000))
		return fmt.Errorf("%s %s answered %d %s", method, address, answer.StatusCode, words)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(answer.Body).Decode(into)
}
