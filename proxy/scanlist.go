package proxy

import (
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
)

// pageSize is how many images Glance is asked for at a time. It may give fewer.
const pageSize = 100

// eachPage lists the images of all projects, a page at a time. What need not be
// looked at is dropped while a page is read, so that it does not matter how large
// the images' properties are.
func (s *scanning) eachPage(ctx context.Context, hidden string, hand func([]Image) error) error {
	var page []string // ids of the last page, in order
	for {
		var wanted []Image
		next, more, err := s.nextPage(ctx, hidden, page, func(img Image) {
			if s.wanted(ctx, img) {
				wanted = append(wanted, Image{ID: img.ID, Owner: img.Owner, Visibility: img.Visibility, Size: img.Size,
					Properties: map[string]string{"name": img.Properties["name"]}})
			}
		})
		if err != nil {
			return fmt.Errorf("listing images: %w", err)
		}
		if err := hand(wanted); err != nil {
			return err
		}
		if !more || len(next) == 0 {
			return nil
		}
		page = next
	}
}

// nextPage reads what comes behind the last image of a page. If that one has been
// deleted since, Glance knows no such place, and the one before it has to do:
// some images are then seen twice.
func (s *scanning) nextPage(ctx context.Context, hidden string, page []string, each func(Image)) (ids []string, more bool, err error) {
	// From the oldest on: what is created meanwhile comes last.
	query := url.Values{"limit": {strconv.Itoa(pageSize)}, "visibility": {"all"}, "os_hidden": {hidden},
		"sort_key": {"created_at"}, "sort_dir": {"asc"}}
	if s.SignedBy == "" {
		query.Set("status", statusActive)
	}
	markers := slices.Clone(page)
	slices.Reverse(markers)
	if len(markers) == 0 {
		markers = []string{""}
	}
	for _, marker := range markers {
		if marker != "" {
			query.Set("marker", marker)
		}
		own, err := s.own(ctx)
		if err != nil {
			return nil, false, err
		}
		ids, more, err = s.proxy.glance.list(ctx, query, own, each)
		if marker == "" || !isStatus(err, http.StatusBadRequest) && !isStatus(err, http.StatusNotFound) {
			return ids, more, err
		}
	}
	return nil, false, errors.New("all images of a page were deleted while it was looked at; run the scan again")
}

// list reads one page of images as it arrives, and keeps none of them.
func (g *glance) list(ctx context.Context, query url.Values, who credentials, each func(Image)) (ids []string, more bool, err error) {
	res, err := g.stream(ctx, "/v2/images", query, who)
	if err != nil {
		return nil, false, err
	}
	defer res.Body.Close()
	d := json.NewDecoder(res.Body)
	if token, err := d.Token(); err != nil || token != json.Delim('{') {
		return nil, false, noGlance(errors.New("the list of images is no JSON object"))
	}
	listed := false
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, false, noGlance(err)
		}
		if name != "images" {
			var value any
			if err := d.Decode(&value); err != nil {
				return nil, false, noGlance(err)
			}
			more = more || name == "next" && value != nil
			continue
		}
		listed = true
		if token, err := d.Token(); err != nil || token != json.Delim('[') {
			return nil, false, noGlance(errors.New("the list of images is no list"))
		}
		for d.More() {
			var text json.RawMessage
			if err := d.Decode(&text); err != nil {
				return nil, false, noGlance(err)
			}
			img, err := parseImage(text)
			if err != nil {
				return nil, false, noGlance(err)
			}
			ids = append(ids, img.ID)
			each(img)
		}
		if _, err := d.Token(); err != nil {
			return nil, false, noGlance(err)
		}
	}
	if _, err := d.Token(); err != nil || !listed {
		return nil, false, noGlance(errors.New("the list of images is cut off"))
	}
	return ids, more, nil
}

// stream makes a GET whose answer is read as it arrives. The error is an
// *answerError where there was an answer other than 200.
func (g *glance) stream(ctx context.Context, path string, query url.Values, who credentials) (*http.Response, error) {
	target := *g.base
	target.Path, target.RawQuery = strings.TrimRight(target.Path, "/")+path, query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Auth-Token", who.token)
	req.Header.Set("User-Agent", "countersign")
	req.Header.Set("Accept-Encoding", "identity") // nobody on the way shall pack what is to be hashed
	res, err := g.transport.RoundTrip(req)
	if err != nil {
		return nil, noGlance(fmt.Errorf("GET %s: %w", path, err))
	}
	if res.StatusCode != http.StatusOK {
		defer res.Body.Close()
		body, _ := io.ReadAll(io.LimitReader(res.Body, maxAnswer)) // whatever there is of it
		return nil, &answerError{res.StatusCode, res.Header, body}
	}
	return res, nil
}
