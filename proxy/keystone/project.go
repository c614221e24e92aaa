package keystone

import (
	"context"
	"errors"
	"fmt"
	"net/url"
)

// defaultDomain is the ID of the domain that Keystone's bootstrap makes.
const defaultDomain = "default"

// named is what both lists consist of.
type named struct {
	ID       string `json:"id"`
	Name     string `json:"name"`
	DomainID string `json:"domain_id"`
}

// ProjectID returns the ID of the project with that name in a domain given by its name or ID; no domain means the one
// with the ID default. Names match exactly, letter case included. ErrNoProject is Keystone's word that there is none;
// every other error, a 403 included, leaves it open.
func (c *Client) ProjectID(ctx context.Context, name, domain string) (string, error) {
	if name == "" {
		return "", fmt.Errorf("%w: the name is empty", ErrNoProject)
	}
	domainID, err := c.domainID(ctx, domain)
	if err != nil {
		return "", err
	}
	var list struct {
		Projects *[]named `json:"projects"`
		page
	}
	query := url.Values{"name": {name}, "domain_id": {domainID}}
	s, err := c.get(ctx, "list projects", "projects?"+query.Encode(), nil, &list)
	if err != nil {
		return "", err
	}
	if list.Projects == nil {
		return "", errors.New("keystone: list projects: its answer holds no list")
	}
	for _, p := range *list.Projects {
		if p.Name == name && p.DomainID == domainID && p.ID != "" {
			return p.ID, nil
		}
	}
	if list.partial() || s.domain != "" && s.domain != domainID {
		// A credential of one domain is shown an empty list for every other.
		return "", fmt.Errorf("keystone: list projects: the service credential does not see all of domain %q", domainID)
	}
	return "", fmt.Errorf("%w: %q in domain %q", ErrNoProject, name, domainID)
}

// domainID returns the ID of the domain with that name, or else that ID.
func (c *Client) domainID(ctx context.Context, domain string) (string, error) {
	if domain == "" || domain == defaultDomain {
		return defaultDomain, nil
	}
	var list struct {
		Domains *[]named `json:"domains"`
		page
	}
	s, err := c.get(ctx, "list domains", "domains?"+url.Values{"name": {domain}}.Encode(), nil, &list)
	if err != nil {
		return "", err
	}
	if list.Domains == nil {
		return "", errors.New("keystone: list domains: its answer holds no list")
	}
	for _, d := range *list.Domains {
		if d.Name == domain && d.ID != "" {
			return d.ID, nil
		}
	}
	if list.partial() || s.domain != "" {
		return "", fmt.Errorf("keystone: list domains: the service credential does not see all of them")
	}

	var one struct {
		Domain named `json:"domain"`
	}
	_, err = c.get(ctx, "read a domain", "domains/"+url.PathEscape(domain), nil, &one)
	switch {
	case errors.Is(err, errNotFound):
		return "", fmt.Errorf("%w: no domain %q", ErrNoProject, domain)
	case err != nil:
		return "", err
	case one.Domain.ID != domain:
		return "", errors.New("keystone: read a domain: its answer is about another one")
	}
	return domain, nil
}

// page is how Keystone says that a list is not all there is.
type page struct {
	Truncated bool `json:"truncated"`
	Links     struct {
		Next *string `json:"next"`
	} `json:"links"`
}

func (p page) partial() bool { return p.Truncated || p.Links.Next != nil }
