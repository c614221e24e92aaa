package proxy

import (
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// gate parses a request into parts and builds it anew from them, as it is
// dispatched and sent on: r is our own, and nothing of the client's line is left
// in it. Glance maps many spellings of a path, of a method and
// of an identity to the same thing; whoever looks at fewer of them is walked
// around. So nothing here imitates that: one canonical spelling is made of what
// real clients send (repeated slashes, needlessly encoded letters), and the
// rest is refused, and r is as it was. The error is a *Refusal.
func gate(r *http.Request) error {
	if r.Method == http.MethodConnect || r.URL.Opaque != "" {
		return refusal(codeNotFound, "", "a proxy of this kind opens no tunnels", "send the request to a path of the Image API")
	}
	raw := r.URL.RawPath // as it was sent, where Go would have spelled it in another way
	if raw == "" {
		raw = r.URL.EscapedPath()
	}
	path, err := canonicalPath(raw)
	if err != nil {
		return err
	}
	query, err := canonicalQuery(r.URL.RawQuery)
	if err != nil {
		return err
	}
	header, err := canonicalHeader(r.Header)
	if err != nil {
		return err
	}
	header[requestIDHeader] = []string{eventOf(r.Context()).requestID}
	r.Header = header
	r.URL = &url.URL{RawPath: path, RawQuery: query}
	r.URL.Path, _ = url.PathUnescape(path) // of our own making, always valid
	r.RequestURI = ""                      // the client's; nobody asks for it
	return nil
}

// canonicalPath decodes each segment once, as WSGI servers do, and encodes it
// anew. A trailing slash is kept: it means something to Glance.
func canonicalPath(sent string) (string, error) {
	unknown := func(problem string) error {
		return refusal(codeNotFound, "", problem, "spell the path as the Image API reference does")
	}
	if !strings.HasPrefix(sent, "/") {
		return "", unknown("the request target is not a path")
	}
	var out strings.Builder
	out.Grow(len(sent))
	for raw := range strings.SplitSeq(sent, "/") {
		if raw == "" {
			continue
		}
		segment, err := url.PathUnescape(raw)
		if err != nil {
			return "", unknown("the path has an incomplete percent-encoding")
		}
		switch {
		case segment == "." || segment == "..":
			return "", unknown("the path has a dot segment")
		case !utf8.ValidString(segment):
			return "", unknown("the path is not UTF-8")
		case strings.ContainsFunc(segment, func(c rune) bool { return c < ' ' || c == 0x7f || c == '/' }):
			return "", unknown("the path has an encoded slash or control character")
		case strings.Contains(raw, "#"):
			return "", unknown("the path has a fragment")
		}
		out.WriteByte('/')
		out.WriteString(url.PathEscape(segment))
	}
	if strings.HasSuffix(sent, "/") {
		out.WriteByte('/')
	}
	return out.String(), nil
}

// canonicalQuery decodes each pair once and encodes it anew, in its order:
// Glance gives repeated keys a meaning (sort_key, tag).
func canonicalQuery(raw string) (string, error) {
	var out strings.Builder
	for pair := range strings.SplitSeq(raw, "&") {
		if pair == "" {
			continue
		}
		rawKey, rawValue, hasValue := strings.Cut(pair, "=")
		key, err1 := url.QueryUnescape(rawKey)
		value, err2 := url.QueryUnescape(rawValue)
		if err1 != nil || err2 != nil || !utf8.ValidString(key) || !utf8.ValidString(value) ||
			strings.ContainsFunc(key+value, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			return "", refusal(codeQueryNotUnderstood, "", "the query has an encoding that is incomplete, no UTF-8, or a control character",
				"encode the query as RFC 3986 says")
		}
		// The library under Glance's router takes the method from here.
		if strings.EqualFold(strings.TrimSpace(key), "_method") {
			return "", refusal(codeQueryNotUnderstood, "", "a method in the query is not understood", "use the method itself")
		}
		if out.Len() > 0 {
			out.WriteByte('&')
		}
		out.WriteString(url.QueryEscape(key))
		if hasValue {
			out.WriteByte('=')
			out.WriteString(url.QueryEscape(value))
		}
	}
	return out.String(), nil
}

// identityPrefixes begin the names of headers by which keystonemiddleware tells
// a service who is calling. From outside they are lies.
var identityPrefixes = []string{
	"X-Identity-", "X-Project-", "X-Tenant", "X-User", "X-Role", "X-Domain", "X-Service-",
	"X-Is-Admin-Project", "Openstack-System-Scope", "X-Storage-Token",
}

// canonicalHeader copies the headers that may go on. A name with an underscore
// is the same to WSGI as one with a dash, so it is never let through. HTTP/1.1 is
// all that is spoken here, so nothing is upgraded.
func canonicalHeader(in http.Header) (http.Header, error) {
	out := make(http.Header, len(in)+1)
	for name, values := range in {
		if strings.Contains(name, "_") || isIdentity(name) || isHopByHop(name) {
			continue
		}
		out[name] = values
	}
	// What the client's connection alone was told is not there for Glance, so
	// it is not there for us.
	for _, value := range in["Connection"] {
		for name := range strings.SplitSeq(value, ",") {
			out.Del(strings.TrimSpace(name))
		}
	}
	for _, name := range []string{"X-Auth-Token", "X-Service-Token", "Content-Type"} {
		// WSGI joins what is repeated, and then means neither of the two.
		if len(out[name]) > 1 {
			return nil, refusal(codeHeaderNotUnderstood, "", fmt.Sprintf("the header %s is there more than once", name), "send it once")
		}
	}
	for _, accept := range out["Accept"] {
		if strings.Contains(strings.ToLower(accept), "application/vnd.openstack.images-") {
			return nil, refusal(codeHeaderNotUnderstood, "", "a version in the Accept header is not understood",
				"put the version into the path: /v2/images")
		}
	}
	contentType := out.Get("Content-Type")
	if mediaType, _, _ := mime.ParseMediaType(contentType); isForm(mediaType) || isForm(contentType) {
		return nil, refusal(codeFormBody, "", "a form is not understood as a body",
			"send JSON with Content-Type: application/json, and image data with Content-Type: application/octet-stream")
	}
	out.Del("Expect") // answered by us, when the body is first wanted
	return out, nil
}

func isIdentity(name string) bool {
	if name == "X-Service-Token" {
		return false
	}
	for _, prefix := range identityPrefixes {
		if len(name) >= len(prefix) && strings.EqualFold(name[:len(prefix)], prefix) {
			return true
		}
	}
	return false
}

func isForm(mediaType string) bool {
	mediaType = strings.ToLower(strings.TrimSpace(mediaType))
	return strings.HasPrefix(mediaType, "application/x-www-form-urlencoded") || strings.HasPrefix(mediaType, "multipart/")
}
