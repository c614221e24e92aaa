package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/google/uuid"
	"github.com/gophercloud/gophercloud/v2"
	"github.com/spf13/cobra"
)

// glance is an image service, or the proxy before it, as the person who runs
// the command may use it.
type glance struct {
	provider *gophercloud.ProviderClient
	base     string // …/v2
}

// openGlance finds the image service at the URL given, or in the catalog where
// there is none.
func (s *session) openGlance(endpoint string) (*glance, error) {
	if endpoint == "" {
		found, err := s.endpoint("image", "image service (Glance)")
		if err != nil {
			return nil, err
		}
		endpoint = found
	}
	base, err := versioned(endpoint)
	if err != nil {
		return nil, err
	}
	return &glance{s.provider, base}, nil
}

// endsInVersion is how catalogs write the version, where they do.
var endsInVersion = regexp.MustCompile(`/v2(\.[0-9]+)?$`)

// versioned is an endpoint with its version, written once.
func versioned(endpoint string) (string, error) {
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", errors.New("the image service's endpoint is not a URL like https://host:port/prefix")
	}
	return endsInVersion.ReplaceAllString(strings.TrimRight(u.String(), "/"), "") + "/v2", nil
}

// glanceImage is what Glance says of an image.
type glanceImage struct {
	ID     string  `json:"id"`
	Name   *string `json:"name"` // nil: it has none
	Owner  *string `json:"owner"`
	Status string  `json:"status"`
	Size   *int64  `json:"size"` // nil: not known yet

	properties map[string]string // of the signature, those that are there
}

// String is how the image is called in a sentence.
func (i glanceImage) String() string {
	if i.Name == nil || *i.Name == "" {
		return "image " + i.ID
	}
	return fmt.Sprintf("image %s (%s)", i.ID, printable(*i.Name))
}

// isImageID reports whether the text may be an image's id: a UUID as Glance
// writes it.
func isImageID(text string) bool { return len(text) == 36 && uuid.Validate(text) == nil }

// find returns the image with the id, or else the one image with the name.
func (g *glance) find(ctx context.Context, reference string) (glanceImage, error) {
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	if isImageID(reference) {
		img, err := g.show(ctx, reference)
		if !gophercloud.ResponseCodeIs(err, http.StatusNotFound) {
			return img, g.explain("reading the image", err)
		}
	}
	data, err := g.read(ctx, "/images?"+url.Values{"name": {reference}, "limit": {"1000"}}.Encode())
	if err != nil {
		return glanceImage{}, g.explain("looking for the image's name", err)
	}
	var list struct {
		Images *[]glanceImage `json:"images"`
		Next   string         `json:"next"`
	}
	if json.Unmarshal(data, &list) != nil || list.Images == nil {
		return glanceImage{}, errors.New("looking for the image's name: the answer is no list of images")
	}
	var ids []string
	for _, img := range *list.Images { // a database may take other names for the same, and Glance takes in:… for a list
		if img.Name != nil && *img.Name == reference {
			ids = append(ids, img.ID)
		}
	}
	switch {
	case list.Next != "":
		return glanceImage{}, fmt.Errorf("there are too many images that may be called %q; name one by its id", reference)
	case len(ids) == 0:
		return glanceImage{}, fmt.Errorf("you can see no image %q at %s", reference, g.base)
	case len(ids) > 1:
		return glanceImage{}, fmt.Errorf("there are %d images called %q; name one by its id:\n%s", len(ids), reference, strings.Join(ids, "\n"))
	}
	img, err := g.show(ctx, ids[0]) // all that is said of an image shall come from one answer
	return img, g.explain("reading the image", err)
}

// show reads an image by its id.
func (g *glance) show(ctx context.Context, id string) (glanceImage, error) {
	if !isImageID(id) {
		return glanceImage{}, errors.New("its id is no UUID")
	}
	data, err := g.read(ctx, "/images/"+id)
	if err != nil {
		return glanceImage{}, err
	}
	var img glanceImage
	if err := json.Unmarshal(data, &img); err != nil || !strings.EqualFold(img.ID, id) || img.Status == "" {
		return glanceImage{}, errors.New("the answer does not describe the image")
	}
	if img.properties, err = readProperties(data); err != nil {
		return glanceImage{}, fmt.Errorf("the answer %w", err)
	}
	return img, nil
}

// maxDescription bounds, in bytes, what is read of an answer that is not image
// data: a thousand images, each with many properties.
const maxDescription = 64 << 20

func (g *glance) read(ctx context.Context, path string) ([]byte, error) {
	response, err := g.provider.Request(ctx, http.MethodGet, g.base+path, &gophercloud.RequestOpts{
		OkCodes: []int{http.StatusOK}, KeepResponseBody: true,
	})
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, maxDescription+1))
	if err == nil && len(data) > maxDescription {
		err = fmt.Errorf("an answer is longer than %d bytes", maxDescription)
	}
	return data, err
}

// explain tells what was being done.
func (g *glance) explain(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s at %s: %w", doing, g.base, answer(err))
}

// open begins to download the image's data, however long that takes.
func (g *glance) open(cmd *cobra.Command, img glanceImage) (*image, error) {
	if img.Status != "active" && img.Status != "deactivated" { // which administrators may read
		return nil, fmt.Errorf("%s is %s: it has no data to verify", img, img.Status)
	}
	response, err := g.provider.Request(cmd.Context(), http.MethodGet, g.base+"/images/"+img.ID+"/file", &gophercloud.RequestOpts{
		OkCodes:          []int{http.StatusOK},
		KeepResponseBody: true,
		MoreHeaders: map[string]string{
			"Accept":          "application/octet-stream",
			"Accept-Encoding": "identity", // else net/http might undo a compression that the image itself has
		},
	})
	if err != nil {
		return nil, g.explain("downloading the image", err)
	}
	data := &image{ctx: cmd.Context(), source: response.Body, name: img.String(), size: -1, errors: cmd.ErrOrStderr()}
	if img.Size != nil {
		data.size = *img.Size
	}
	return data, nil
}
