package keystone_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/countersign/countersign/proxy/keystone"
)

func TestProjectID(t *testing.T) {
	const none, unknown = "none", "unknown"
	for _, tt := range []struct {
		name, domain string
		scope        string // of the service credential, if it is a domain
		want         string // an ID, none, or unknown
	}{
		{"demo", "", "", "p1"},
		{"demo", "default", "", "p1"},
		{"demo", "Default", "", "p1"},
		{"demo", "second", "", "p2"},
		{"demo", "d2", "", "p2"},
		{"Only", "second", "", "p3"},
		{"only", "second", "", none},
		{"demo", "SECOND", "", none},
		{"Only", "default", "", none},
		{"nosuch", "default", "", none},
		{"", "default", "", none},
		{"demo", "nosuch", "", none},
		{"demo", "../projects", "", none},
		{"demo&domain_id=d2", "default", "", none},
		// A credential of one domain sees that domain only: an empty list of another's projects says nothing.
		{"demo", "default", "default", "p1"},
		{"nosuch", "default", "default", none},
		{"demo", "second", "default", unknown},
		{"nosuch", "default", "d2", unknown},
	} {
		f := newFake(t)
		f.scope = tt.scope
		got, err := f.client().ProjectID(t.Context(), tt.name, tt.domain)
		switch {
		case err == nil:
		case errors.Is(err, keystone.ErrNoProject):
			got += none
		default:
			got += unknown
		}
		if got != tt.want {
			t.Errorf("ProjectID(%q, %q) with scope %q = %s (%v), want %s", tt.name, tt.domain, tt.scope, got, err, tt.want)
		}
		discreet(t, err)
	}
}

// Whatever goes wrong on the way leaves open whether there is such a project.
func TestProjectIDUnknown(t *testing.T) {
	project := object{"id": "p1", "name": "demo", "domain_id": "d2"}
	for name, tt := range map[string]struct {
		path   string
		answer http.HandlerFunc
	}{
		"domains 403":   {"/v3/domains", func(w http.ResponseWriter, r *http.Request) { fail(w, 403, "") }},
		"domains 500":   {"/v3/domains", func(w http.ResponseWriter, r *http.Request) { fail(w, 500, "") }},
		"domains 404":   {"/v3/domains", func(w http.ResponseWriter, r *http.Request) { fail(w, 404, "") }},
		"domains html":  {"/v3/domains", func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("<html>")) }},
		"domains empty": {"/v3/domains", func(w http.ResponseWriter, r *http.Request) { write(w, 200, object{}) }},
		"domains cut off": {"/v3/domains", func(w http.ResponseWriter, r *http.Request) {
			write(w, 200, object{"domains": []object{}, "truncated": true})
		}},
		"domain 403":      {"/v3/domains/third", func(w http.ResponseWriter, r *http.Request) { fail(w, 403, "") }},
		"a gateway's 404": {"/v3/domains/third", func(w http.ResponseWriter, r *http.Request) { http.NotFound(w, r) }},
		"another domain": {"/v3/domains/third", func(w http.ResponseWriter, r *http.Request) {
			write(w, 200, object{"domain": object{"id": "d2"}})
		}},
		"projects 403":  {"/v3/projects", func(w http.ResponseWriter, r *http.Request) { fail(w, 403, "") }},
		"projects 401":  {"/v3/projects", func(w http.ResponseWriter, r *http.Request) { fail(w, 401, "") }},
		"projects 404":  {"/v3/projects", func(w http.ResponseWriter, r *http.Request) { fail(w, 404, "") }},
		"projects 503":  {"/v3/projects", func(w http.ResponseWriter, r *http.Request) { fail(w, 503, "") }},
		"projects {}":   {"/v3/projects", func(w http.ResponseWriter, r *http.Request) { write(w, 200, object{}) }},
		"projects null": {"/v3/projects", func(w http.ResponseWriter, r *http.Request) { write(w, 200, object{"projects": nil}) }},
		"a next page": {"/v3/projects", func(w http.ResponseWriter, r *http.Request) {
			write(w, 200, object{"projects": []object{project}, "links": object{"next": "/v3/projects?marker=x"}})
		}},
	} {
		f := newFake(t)
		domain := "Default"
		if strings.HasSuffix(tt.path, "/third") {
			domain = "third"
		}
		f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != tt.path {
				return false
			}
			tt.answer(w, r)
			return true
		})
		got, err := f.client().ProjectID(t.Context(), "demo", domain)
		if got != "" || err == nil || errors.Is(err, keystone.ErrNoProject) {
			t.Errorf("%s: ProjectID = %q, %v, want an error that leaves it open", name, got, err)
		}
		discreet(t, err)
	}
	// A project of that name elsewhere is not the one.
	f := newFake(t)
	f.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v3/projects" {
			return false
		}
		write(w, 200, object{"projects": []object{project}})
		return true
	})
	if got, err := f.client().ProjectID(t.Context(), "demo", ""); !errors.Is(err, keystone.ErrNoProject) {
		t.Errorf("ProjectID = %q, %v, want ErrNoProject", got, err)
	}
}

func TestProjectIDWithoutRoles(t *testing.T) {
	f := newFake(t)
	f.lister = false
	_, err := f.client().ProjectID(t.Context(), "demo", "")
	if err == nil || errors.Is(err, keystone.ErrNoProject) || !strings.Contains(err.Error(), "403") {
		t.Errorf("ProjectID = %v, want that the roles do not allow it", err)
	}
}
