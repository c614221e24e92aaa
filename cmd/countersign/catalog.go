package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/endpoints"
	"github.com/gophercloud/gophercloud/v2/openstack/identity/v3/services"
)

// catalog is Keystone's list of endpoints, as an administrator may change it.
type catalog struct {
	keystone *gophercloud.ServiceClient
	region   string // the environment's; may be empty
}

// openCatalog authenticates with the environment's credential.
func openCatalog(ctx context.Context) (*catalog, error) {
	s, err := openSession(ctx)
	if err != nil {
		return nil, err
	}
	// Without options it is where the token came from, in whatever region.
	keystone, err := openstack.NewIdentityV3(s.provider, gophercloud.EndpointOpts{})
	if err != nil {
		return nil, fmt.Errorf("keystone: %w", err)
	}
	return &catalog{keystone, s.endpoints.Region}, nil
}

// endpoint is a row of the catalog.
type endpoint struct {
	ID, Interface, Region, URL string
	Enabled                    bool
	Description                string
}

// imageEndpoints lists those of all services of type image.
func (c *catalog) imageEndpoints(ctx context.Context) ([]endpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	page, err := services.List(c.keystone, services.ListOpts{ServiceType: "image"}).AllPages(ctx)
	if err != nil {
		return nil, asAdministrator("reading Keystone's services", err)
	}
	images, err := services.ExtractServices(page)
	if err != nil {
		return nil, errors.New("reading Keystone's services: the answer is no list of services")
	}
	var list []endpoint
	for _, service := range images {
		page, err := endpoints.List(c.keystone, endpoints.ListOpts{ServiceID: service.ID}).AllPages(ctx)
		if err != nil {
			return nil, asAdministrator("reading Keystone's endpoints", err)
		}
		found, err := endpoints.ExtractEndpoints(page)
		if err != nil {
			return nil, errors.New("reading Keystone's endpoints: the answer is no list of endpoints")
		}
		for _, e := range found {
			list = append(list, endpoint{e.ID, string(e.Availability), cmp.Or(e.RegionID, e.Region), e.URL, e.Enabled, e.Description})
		}
	}
	slices.SortFunc(list, func(a, b endpoint) int {
		return cmp.Or(cmp.Compare(a.Region, b.Region), slices.Index(interfaces, a.Interface)-slices.Index(interfaces, b.Interface), cmp.Compare(a.ID, b.ID))
	})
	return list, nil
}

func asAdministrator(doing string, err error) error {
	if gophercloud.ResponseCodeIs(err, http.StatusForbidden) {
		return fmt.Errorf("%s: it takes the role admin, which this credential does not have (403)", doing)
	}
	return fmt.Errorf("%s: %w", doing, answer(err))
}

// locating is what changes of an endpoint. gophercloud's own type cannot empty
// a description.
type locating struct {
	URL         string `json:"url"`
	Description string `json:"description"`
}

// ToEndpointUpdateMap implements endpoints.UpdateOptsBuilder.
func (l locating) ToEndpointUpdateMap() (map[string]any, error) {
	return gophercloud.BuildRequestBody(l, "endpoint")
}

func (c *catalog) change(ctx context.Context, e endpoint, to, description string) error {
	ctx, cancel := context.WithTimeout(ctx, sessionTimeout)
	defer cancel()
	_, err := endpoints.Update(ctx, c.keystone, e.ID, locating{to, description}).Extract()
	if err != nil {
		return asAdministrator("changing the endpoint", err)
	}
	return nil
}

// moving is what the description of an endpoint says that was moved.
type moving struct {
	from, to    string
	description string // what it said before
}

// A description is all that Keystone keeps for others: since 2025.1 it takes an
// attribute of another name, and then answers 400 to whoever lists endpoints.
var movedDescription = regexp.MustCompile(`^(?s:(.*); )?moved by countersign from (\S+) to (\S+)$`)

func (e endpoint) moved() (moving, bool) {
	found := movedDescription.FindStringSubmatch(e.Description)
	if found == nil {
		return moving{description: e.Description}, false
	}
	return moving{from: found[2], to: found[3], description: found[1]}, true
}

// describeMove is the description after the endpoint has been moved. The URL
// that was there before the first move is the one to keep.
func (e endpoint) describeMove(to string) string {
	moved, ok := e.moved()
	from := e.URL
	if ok && sameURL(e.URL, moved.to) {
		from = moved.from
	}
	if sameURL(from, to) {
		return moved.description
	}
	text := fmt.Sprintf("moved by countersign from %s to %s", from, to)
	if moved.description != "" {
		text = moved.description + "; " + text
	}
	return text
}

func sameURL(a, b string) bool { return strings.TrimRight(a, "/") == strings.TrimRight(b, "/") }

// askTimeout bounds one question to what may be Countersign.
const askTimeout = 10 * time.Second

// answersAsCountersign is nil if Countersign is at a URL, and Glance behind it.
func answersAsCountersign(ctx context.Context, client *http.Client, endpoint string) error {
	base, err := versioned(endpoint)
	if err != nil {
		return errors.New("it is no http or https URL")
	}
	// Glance has no such path, and does not give a reason.
	status, body, err := getBody(ctx, client, base+"/countersign")
	if err != nil {
		return err
	}
	var refused struct{ Reason string }
	if json.Unmarshal(body, &refused) != nil || status != http.StatusNotFound || refused.Reason != "not_found" {
		return errNotCountersign
	}
	switch status, _, err := getBody(ctx, client, strings.TrimSuffix(base, "/v2")+"/healthcheck"); {
	case err != nil:
		return err
	case status != http.StatusOK:
		return fmt.Errorf("it is Countersign, and says that it cannot serve: %d to /healthcheck", status)
	}
	return nil
}

var errNotCountersign = errors.New("what answers there is not Countersign")

// getBody is for a client that follows nobody elsewhere.
func getBody(ctx context.Context, client *http.Client, address string) (status int, body []byte, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Accept", "application/json")
	response, err := client.Do(request)
	if err != nil {
		var wrapped *url.Error // which would say the address once more
		if errors.As(err, &wrapped) {
			err = wrapped.Err
		}
		return 0, nil, fmt.Errorf("nothing answers there: %w", err)
	}
	defer response.Body.Close()
	body, err = io.ReadAll(io.LimitReader(response.Body, 1<<20))
	return response.StatusCode, body, err
}

// whatAnswers is answersAsCountersign in a word or two.
func (c *catalog) whatAnswers(ctx context.Context, endpoint string) string {
	switch err := answersAsCountersign(ctx, &c.keystone.HTTPClient, endpoint); {
	case err == nil:
		return "Countersign"
	case errors.Is(err, errNotCountersign):
		return "not Countersign"
	default:
		return printable(err.Error())
	}
}
