package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy/receipt"
	"github.com/countersign/countersign/signature"
)

// Image is Glance's view of an image, read with somebody's token.
type Image struct {
	ID     string
	Owner  string // project id; empty for an image without owner
	Status string // queued, saving, active, …

	// Visibility as Glance shows it: shared does not say that there are members.
	Visibility policy.Visibility

	// Size is in bytes, -1 while Glance has none.
	Size int64

	// HashAlgo and HashValue are the digest that Glance computed of the data,
	// such as sha512 and hexadecimal digits. Empty while it has none.
	HashAlgo, HashValue string

	// Protected images refuse DELETE.
	Protected bool

	// Extra is how many properties the image has beyond Glance's own
	// attributes, as Glance counts them against image_property_quota.
	Extra int

	// Properties are all members whose value is a string, Glance's own and
	// the user's.
	Properties map[string]string
}

// signed returns the four signature properties, as far as they are there. One
// that was set aside (see aside.go) counts as there.
func (i Image) signed() map[string]string {
	four := make(map[string]string, len(signature.Properties))
	for _, name := range signature.Properties {
		if value, ok := i.Properties[name]; ok {
			four[name] = value
		}
	}
	if value, ok := i.Properties[propertyAside]; ok && four[signature.PropertyCertificate] == "" {
		four[signature.PropertyCertificate] = value
	}
	return four
}

// as is the image as a receipt describes it.
func (i Image) as() receipt.Subject {
	return receipt.Subject{Image: i.ID, Owner: i.Owner, Size: i.Size, HashAlgo: i.HashAlgo, HashValue: i.HashValue, Properties: i.signed()}
}

// attributes are Glance's own members of an image (glance.api.v2.images), which
// count against no quota. Those whose names begin with os_glance do not either.
var attributes = []string{"id", "name", "status", "visibility", "protected", "os_hidden", "owner", "tags",
	"container_format", "disk_format", "min_disk", "min_ram", "size", "virtual_size", "checksum", "os_hash_algo", "os_hash_value",
	"created_at", "updated_at", "self", "file", "schema", "direct_url", "locations", "stores"}

// The statuses that Countersign looks at (Glance's "Image Statuses").
const (
	statusQueued      = "queued"
	statusSaving      = "saving"
	statusUploading   = "uploading" // being staged, or staged
	statusImporting   = "importing"
	statusActive      = "active"
	statusDeactivated = "deactivated"
)

// credentials are what a call of ours to Glance is made with.
type credentials struct {
	token   string
	service string // goes along in X-Service-Token; may be empty
}

// glance makes the proxy's own calls to Glance.
type glance struct {
	base      *url.URL
	transport http.RoundTripper
}

// maxAnswer bounds, in bytes, what is read of an answer to a call of ours. An
// image has at most 128 properties by default, each a text.
const maxAnswer = 4 << 20

// answerError is an answer of Glance's that was not the one hoped for. It can
// be handed to the client as it is.
type answerError struct {
	status int
	header http.Header
	body   []byte
}

func (e *answerError) Error() string { return fmt.Sprintf("Glance answered %d", e.status) }

// write hands the answer on.
func (e *answerError) write(w http.ResponseWriter) {
	for _, name := range []string{"Content-Type", "Www-Authenticate", "Retry-After", "Vary",
		"Access-Control-Allow-Origin", "Access-Control-Allow-Credentials", "Access-Control-Expose-Headers"} {
		if values := e.header.Values(name); len(values) > 0 {
			w.Header()[name] = values
		}
	}
	// Told, so that a client sees the end of it while its body is still let run.
	w.Header().Set("Content-Length", strconv.Itoa(len(e.body)))
	w.WriteHeader(e.status)
	w.Write(e.body)
}

// call makes one request; header may be nil. The error is an *answerError where
// there was an answer other than 2xx, and a *Refusal where there was none.
func (g *glance) call(ctx context.Context, method, path string, who credentials, header http.Header, body []byte) ([]byte, error) {
	target := *g.base
	target.Path = strings.TrimRight(target.Path, "/") + path
	req, err := http.NewRequestWithContext(ctx, method, target.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if who.token != "" {
		req.Header.Set("X-Auth-Token", who.token)
	}
	if who.service != "" {
		req.Header.Set("X-Service-Token", who.service)
	}
	if id := eventOf(ctx).requestID; id != "" {
		req.Header.Set(requestIDHeader, id)
	}
	req.Header.Set("User-Agent", "countersign")
	res, err := g.transport.RoundTrip(req)
	if err != nil {
		return nil, noGlance(fmt.Errorf("%s %s: %w", method, path, err))
	}
	defer res.Body.Close()
	var text bytes.Buffer
	if length := res.ContentLength; length > 0 && length <= maxAnswer {
		text.Grow(int(length) + bytes.MinRead)
	}
	_, err = text.ReadFrom(io.LimitReader(res.Body, maxAnswer+1))
	answer := text.Bytes()
	switch {
	case err != nil:
		return nil, noGlance(fmt.Errorf("%s %s: %w", method, path, err))
	case len(answer) > maxAnswer:
		return nil, noGlance(fmt.Errorf("%s %s: an answer of more than %d bytes", method, path, maxAnswer))
	case res.StatusCode/100 != 2:
		return nil, &answerError{res.StatusCode, res.Header, answer}
	}
	return answer, nil
}

// image reads an image. Clients' Accept and Origin go along in header, so that
// an answer of Glance's that is handed on has the shape they asked for.
func (g *glance) image(ctx context.Context, id string, who credentials, header http.Header) (Image, error) {
	data, err := g.call(ctx, http.MethodGet, "/v2/images/"+id, who, header, nil)
	if err != nil {
		return Image{}, err
	}
	img, err := parseImage(data)
	if err == nil && img.ID != id {
		err = fmt.Errorf("asked for image %s, Glance showed another", id)
	}
	if err != nil {
		return Image{}, noGlance(err)
	}
	return img, nil
}

func parseImage(data []byte) (Image, error) {
	var members map[string]any
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	if err := decoder.Decode(&members); err != nil {
		return Image{}, fmt.Errorf("image as Glance shows it: %w", err)
	}
	if _, err := decoder.Token(); err != io.EOF {
		return Image{}, errors.New("image as Glance shows it: something follows it")
	}
	img := Image{Size: -1, Properties: make(map[string]string, len(members))}
	for name, value := range members {
		if text, is := value.(string); is {
			img.Properties[name] = text
		}
		if !slices.Contains(attributes, name) && !strings.HasPrefix(name, "os_glance") {
			img.Extra++
		}
	}
	switch size := members["size"].(type) {
	case nil:
	case json.Number:
		var err error
		if img.Size, err = size.Int64(); err != nil {
			return Image{}, fmt.Errorf("image as Glance shows it: its size: %w", err)
		}
	default:
		return Image{}, errors.New("image as Glance shows it: its size is no number")
	}
	switch protected := members["protected"].(type) {
	case nil:
	case bool:
		img.Protected = protected
	default:
		return Image{}, errors.New("image as Glance shows it: its protection is neither true nor false")
	}
	img.ID, img.Status, img.Owner = img.Properties["id"], img.Properties["status"], img.Properties["owner"]
	img.Visibility = policy.Visibility(img.Properties["visibility"])
	img.HashAlgo, img.HashValue = img.Properties["os_hash_algo"], img.Properties["os_hash_value"]
	if img.Status == "" {
		return Image{}, errors.New("image as Glance shows it: no status")
	}
	return img, nil
}

// delete removes an image.
func (g *glance) delete(ctx context.Context, id string, who credentials) error {
	_, err := g.call(ctx, http.MethodDelete, "/v2/images/"+id, who, nil, nil)
	return err
}

// unprotect lifts the protection of an image against DELETE.
func (g *glance) unprotect(ctx context.Context, id string, who credentials) error {
	return g.patch(ctx, id, who, object{{"op", "replace"}, {"path", "/protected"}, {"value", false}})
}

// patch changes an image's properties, all of them or none.
func (g *glance) patch(ctx context.Context, id string, who credentials, operations ...object) error {
	body, err := json.Marshal(operations)
	if err == nil {
		_, err = g.call(ctx, http.MethodPatch, "/v2/images/"+id, who, http.Header{"Content-Type": {patchType21}}, body)
	}
	return err
}

// deactivate takes an image out of use; its owner or an administrator can
// bring it back.
func (g *glance) deactivate(ctx context.Context, id string, who credentials) error {
	_, err := g.call(ctx, http.MethodPost, "/v2/images/"+id+"/actions/deactivate", who, nil, nil)
	return err
}
