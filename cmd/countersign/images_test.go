package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strconv"

	"github.com/rogpeppe/go-internal/testscript"
)

// The projects of the cloud. Only a user who is no guest may ask for them.
const (
	demoProject  = "3f0c2b6d9a8e4c1f8b7a6d5e4c3b2a19"
	otherProject = "b1b2b3b4b5b6b7b8b9b0a1a2a3a4a5a6"
)

// projects answers by name. There are two; whoever has no role to list them is
// told so.
func (c *cloud) projects(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Auth-Token") != "token-of-demo" {
		w.WriteHeader(http.StatusForbidden)
		return
	}
	list := []map[string]string{}
	for name, id := range map[string]string{"demo": demoProject, "other": otherProject} {
		if r.URL.Query().Get("name") == name && r.URL.Query().Get("domain_id") == "default" {
			list = append(list, map[string]string{"id": id, "name": name, "domain_id": "default"})
		}
	}
	_ = json.NewEncoder(w).Encode(map[string]any{"projects": list, "links": map[string]any{"next": nil}})
}

// imageRecord is an image as the image service has it.
type imageRecord struct {
	members map[string]any // as the API shows them
	data    []byte
}

// imageService serves images by id, by name, by status, and their data. It compresses what
// a client says it can expand.
func (c *cloud) imageService() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/images", func(w http.ResponseWriter, r *http.Request) {
		list := []any{}
		for _, img := range c.visible(r) {
			if query := r.URL.Query(); query.Has("status") {
				if img.members["status"] != query.Get("status") || query.Get("os_hidden") == "true" {
					continue
				}
				list = append(list, img.members)
			} else if name := query.Get("name"); img.members["name"] == name || name == "in:disk" {
				list = append(list, img.members)
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"images": list})
	})
	mux.HandleFunc("GET /v2/images/{id}", func(w http.ResponseWriter, r *http.Request) {
		if img := c.image(r); img != nil {
			_ = json.NewEncoder(w).Encode(img.members)
			return
		}
		http.NotFound(w, r)
	})
	mux.HandleFunc("GET /v2/images/{id}/file", func(w http.ResponseWriter, r *http.Request) {
		img := c.image(r)
		switch {
		case img == nil:
			http.NotFound(w, r)
		case img.members["status"] == "deactivated":
			w.WriteHeader(http.StatusForbidden)
		case r.Header.Get("Accept-Encoding") != "identity":
			w.WriteHeader(http.StatusNotAcceptable)
		default:
			w.WriteHeader(http.StatusOK)
			w.(http.Flusher).Flush() // so that the data ends where the connection does not say
			w.Write(img.data)
		}
	})
	return mux
}

// visible are the images that whoever asks may see.
func (c *cloud) visible(r *http.Request) []imageRecord {
	c.mu.Lock()
	defer c.mu.Unlock()
	if token := r.Header.Get("X-Auth-Token"); token != "token-of-demo" && token != "token-of-guest" {
		return nil
	}
	return c.images
}

func (c *cloud) image(r *http.Request) *imageRecord {
	for _, img := range c.visible(r) {
		if img.members["id"] == r.PathValue("id") {
			return &img
		}
	}
	return nil
}

// glanceHas ID NAME STATUS PROPERTIES DATA [SIZE] is a command of the scripts:
// from now on the cloud has that image, with the properties of a JSON file and
// the data of another, and says that it has that many bytes.
func glanceHas(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 5 {
		ts.Fatalf("usage: glance id name status properties data [size]")
	}
	img := imageRecord{members: map[string]any{}, data: []byte(ts.ReadFile(args[4]))}
	properties, err := os.ReadFile(ts.MkAbs(args[3]))
	ts.Check(err)
	ts.Check(json.Unmarshal(properties, &img.members))
	img.members["id"], img.members["name"], img.members["status"] = args[0], args[1], args[2]
	img.members["owner"], img.members["size"] = demoProject, len(img.data)
	if len(args) > 5 {
		size, err := strconv.Atoi(args[5])
		ts.Check(err)
		img.members["size"] = size
	}
	c := ts.Value("cloud").(*cloud)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.images = append(c.images, img)
	fmt.Fprintf(ts.Stdout(), "%s\n", args[0])
}
