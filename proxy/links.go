package proxy

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// maxLinks bounds, in bytes, a discovery document whose links are changed.
const maxLinks = 1 << 20

// relink makes the links of an answer point at the proxy: the Location of what
// was created or moved, and the hrefs in the version documents, which Glance
// builds from its own idea of where it is. All else stays as it is, to the byte.
func (p *Proxy) relink(res *http.Response) {
	if location := res.Header.Get("Location"); location != "" {
		res.Header.Set("Location", p.ours(res.Request, location))
	}
	switch template := eventOf(res.Request.Context()).route; template {
	default:
		return
	case "/", "/versions", "/versions/", "/v2", "/v2/":
	}
	if res.Request.Method == http.MethodHead {
		return // there is no body
	}
	if res.Header.Get("Content-Type") != "application/json" || res.Header.Get("Content-Encoding") != "" {
		return
	}
	document, err := io.ReadAll(io.LimitReader(res.Body, maxLinks))
	rest := res.Body
	if err != nil || len(document) == maxLinks {
		res.Body = struct { // too long or broken: as it is
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(document), rest), rest}
		return
	}
	rest.Close()
	for _, href := range hrefs(document) {
		document = bytes.ReplaceAll(document, []byte(`"`+href+`"`), []byte(`"`+p.ours(res.Request, href)+`"`))
	}
	res.Body = io.NopCloser(bytes.NewReader(document))
	res.ContentLength = int64(len(document))
	if res.Header.Get("Content-Length") != "" {
		res.Header.Set("Content-Length", strconv.Itoa(len(document)))
	}
}

// hrefs lists the links of a version document.
func hrefs(document []byte) []string {
	var versions struct {
		Versions []struct {
			Links []struct {
				Href string `json:"href"`
			} `json:"links"`
		} `json:"versions"`
	}
	if json.Unmarshal(document, &versions) != nil {
		return nil
	}
	seen := map[string]bool{}
	var found []string
	for _, version := range versions.Versions {
		for _, link := range version.Links {
			if link.Href != "" && !seen[link.Href] {
				seen[link.Href] = true
				found = append(found, link.Href)
			}
		}
	}
	return found
}

// ours is the address under which a client reaches through the proxy what
// Glance calls link.
func (p *Proxy) ours(sent *http.Request, link string) string {
	u, err := url.Parse(link)
	if err != nil || u.Host == "" {
		return link
	}
	if prefix := strings.TrimRight(p.Glance.Path, "/"); prefix != "" {
		if rest, ok := strings.CutPrefix(u.Path, prefix); ok && (rest == "" || rest[0] == '/') {
			u.Path, u.RawPath = rest, ""
		}
	}
	if p.PublicURL != nil {
		u.Scheme, u.Host = p.PublicURL.Scheme, p.PublicURL.Host
		u.Path, u.RawPath = strings.TrimRight(p.PublicURL.Path, "/")+u.Path, ""
		return u.String()
	}
	u.Host = sent.Host
	if proto := sent.Header.Get("X-Forwarded-Proto"); proto == "http" || proto == "https" {
		u.Scheme = proto
	}
	return u.String()
}
