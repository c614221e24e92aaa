package proxy

import (
	"net/http"
	"slices"
	"strings"

	"github.com/gorilla/mux"
)

// A template's variables: {id} is an image, and only in the spelling in which
// every database holds it; {x} is any one segment.
var templateNames = strings.NewReplacer(
	"/v2", "/{version:v2(?:\\.[0-9]{1,2})?}",
	"{id}", "{image:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}}",
)

// Which query keys a route takes.
const (
	noQuery  = "-"
	anyQuery = "*" // lists: every property of an image can be a filter
)

// route is a row of the table: what may be asked, and who answers.
type route struct {
	method   string
	template string
	query    string // noQuery, anyQuery, or the keys, blank-separated
	handler  func(*Proxy, http.ResponseWriter, *http.Request)
}

var (
	pass   = (*Proxy).pass
	create = (*Proxy).create
	upload = (*Proxy).upload
	stage  = (*Proxy).stage
	patch  = (*Proxy).patch
	tag    = (*Proxy).tag
	share  = (*Proxy).share
	task   = (*Proxy).task
	health = (*Proxy).health
)

// table is the allow-list: every request that Countersign knows. Whatever is
// not in it gets 404 or 405 from us and never reaches Glance. It follows
// Glance's own routers (glance.api.v2.router, glance.api.middleware) up to
// version 2.17 of the Image API.
var table = []route{
	// What an image is, and the doors through which its data or meaning changes.
	// mux tries row by row: the first is what is asked for most.
	{"GET", "/v2/images/{id}", noQuery, pass},
	{"GET", "/v2/images", anyQuery, pass},
	{"POST", "/v2/images", noQuery, create},
	{"PATCH", "/v2/images/{id}", noQuery, patch},
	{"DELETE", "/v2/images/{id}", noQuery, pass},
	{"PUT", "/v2/images/{id}/file", noQuery, upload},
	{"GET", "/v2/images/{id}/file", noQuery, (*Proxy).download},
	{"PUT", "/v2/images/{id}/stage", noQuery, stage},
	{"POST", "/v2/images/{id}/import", noQuery, (*Proxy).importImage},
	{"POST", "/v2/images/{id}/locations", noQuery, (*Proxy).locate},
	{"GET", "/v2/images/{id}/locations", noQuery, (*Proxy).locations},
	{"POST", "/v2/images/{id}/actions/deactivate", noQuery, pass},
	{"POST", "/v2/images/{id}/actions/reactivate", noQuery, door("update/reactivate", (*Proxy).reactivate)},
	{"PUT", "/v2/images/{id}/tags/{tag}", noQuery, tag},
	{"DELETE", "/v2/images/{id}/tags/{tag}", noQuery, tag},
	{"GET", "/v2/images/{id}/tasks", noQuery, pass},
	{"GET", "/v2/images/{id}/members", noQuery, pass},
	{"POST", "/v2/images/{id}/members", noQuery, share},
	{"GET", "/v2/images/{id}/members/{member}", noQuery, pass},
	{"PUT", "/v2/images/{id}/members/{member}", noQuery, pass},
	{"DELETE", "/v2/images/{id}/members/{member}", noQuery, pass},
	{"DELETE", "/v2/stores/{store}/{id}", noQuery, pass},
	{"POST", "/v2/tasks", noQuery, task},
	{"GET", "/v2/tasks", anyQuery, pass},
	{"GET", "/v2/tasks/{task}", noQuery, pass},
	{"DELETE", "/v2/tasks/{task}", noQuery, pass},

	// Discovery.
	{"GET", "/", noQuery, pass},
	{"HEAD", "/", noQuery, pass},
	{"GET", "/versions", noQuery, pass},
	{"HEAD", "/versions", noQuery, pass},
	{"GET", "/versions/", noQuery, pass},
	{"GET", healthPath, "detailed", health},
	{"HEAD", healthPath, "detailed", health},
	{"GET", "/v2", noQuery, pass},
	{"GET", "/v2/", noQuery, pass},
	{"GET", "/v2/info/import", noQuery, pass},
	{"GET", "/v2/info/stores", noQuery, pass},
	{"GET", "/v2/info/stores/detail", noQuery, pass},
	{"GET", "/v2/info/usage", noQuery, pass},
	{"GET", "/v2/schemas/{schema}", noQuery, pass},
	{"GET", "/v2/schemas/metadefs/{schema}", noQuery, pass},

	// Cache administration.
	{"GET", "/v2/cache", noQuery, pass},
	{"DELETE", "/v2/cache", noQuery, pass},
	{"PUT", "/v2/cache/{id}", noQuery, pass},
	{"DELETE", "/v2/cache/{id}", noQuery, pass},
	{"GET", "/v2/cached_images", noQuery, pass},
	{"DELETE", "/v2/cached_images", noQuery, pass},
	{"DELETE", "/v2/cached_images/{id}", noQuery, pass},
	{"GET", "/v2/queued_images", noQuery, pass},
	{"DELETE", "/v2/queued_images", noQuery, pass},
	{"PUT", "/v2/queued_images/{id}", noQuery, pass},
	{"DELETE", "/v2/queued_images/{id}", noQuery, pass},

	// The metadata catalogue.
	{"GET", "/v2/metadefs/resource_types", anyQuery, pass},
	{"GET", "/v2/metadefs/namespaces", anyQuery, pass},
	{"POST", "/v2/metadefs/namespaces", noQuery, pass},
	{"GET", "/v2/metadefs/namespaces/{namespace}", anyQuery, pass},
	{"PUT", "/v2/metadefs/namespaces/{namespace}", noQuery, pass},
	{"DELETE", "/v2/metadefs/namespaces/{namespace}", noQuery, pass},
	{"GET", "/v2/metadefs/namespaces/{namespace}/resource_types", anyQuery, pass},
	{"POST", "/v2/metadefs/namespaces/{namespace}/resource_types", noQuery, pass},
	{"DELETE", "/v2/metadefs/namespaces/{namespace}/resource_types/{name}", noQuery, pass},
	{"GET", "/v2/metadefs/namespaces/{namespace}/properties", anyQuery, pass},
	{"POST", "/v2/metadefs/namespaces/{namespace}/properties", noQuery, pass},
	{"DELETE", "/v2/metadefs/namespaces/{namespace}/properties", noQuery, pass},
	{"GET", "/v2/metadefs/namespaces/{namespace}/properties/{name}", anyQuery, pass},
	{"PUT", "/v2/metadefs/namespaces/{namespace}/properties/{name}", noQuery, pass},
	{"DELETE", "/v2/metadefs/namespaces/{namespace}/properties/{name}", noQuery, pass},
	{"GET", "/v2/metadefs/namespaces/{namespace}/objects", anyQuery, pass},
	{"POST", "/v2/metadefs/namespaces/{namespace}/objects", noQuery, pass},
	{"DELETE", "/v2/metadefs/namespaces/{namespace}/objects", noQuery, pass},
	{"GET", "/v2/metadefs/namespaces/{namespace}/objects/{name}", anyQuery, pass},
	{"PUT", "/v2/metadefs/namespaces/{namespace}/objects/{name}", noQuery, pass},
	{"DELETE", "/v2/metadefs/namespaces/{namespace}/objects/{name}", noQuery, pass},
	{"GET", "/v2/metadefs/namespaces/{namespace}/tags", anyQuery, pass},
	{"POST", "/v2/metadefs/namespaces/{namespace}/tags", noQuery, pass},
	{"DELETE", "/v2/metadefs/namespaces/{namespace}/tags", noQuery, pass},
	{"GET", "/v2/metadefs/namespaces/{namespace}/tags/{name}", anyQuery, pass},
	{"POST", "/v2/metadefs/namespaces/{namespace}/tags/{name}", noQuery, pass},
	{"PUT", "/v2/metadefs/namespaces/{namespace}/tags/{name}", noQuery, pass},
	{"DELETE", "/v2/metadefs/namespaces/{namespace}/tags/{name}", noQuery, pass},
}

// routes builds the router from the table. SkipClean is right because gate has
// parsed the path already: mux must not think about it a second time.
func (p *Proxy) routes() *mux.Router {
	rows := slices.Clone(table)
	for _, template := range p.ExtraGET {
		rows = append(rows, route{"GET", template, anyQuery, pass})
	}
	router := mux.NewRouter().SkipClean(true)
	allowed := map[string][]string{}
	for _, row := range rows {
		template := templateNames.Replace(row.template)
		router.Path(template).Methods(row.method).Name(row.method + " " + row.template).
			Handler(p.serve(row))
		allowed[template] = append(allowed[template], row.method)
	}
	for template, methods := range allowed {
		// A browser asks before it sends; Glance's CORS middleware answers.
		router.Path(template).Methods(http.MethodOptions).Handler(p.serve(route{handler: pass, query: noQuery}))
		router.Path(template).Handler(p.wrongMethod(methods))
	}
	router.NotFoundHandler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.refuse(w, r, refusal(codeNotFound, "", "there is no such resource",
			"see the Image API reference; an operator can admit a vendor's GET routes with COUNTERSIGN_EXTRA_GET_ROUTES"))
	})
	return router
}

// dispatch hands a request to the row that mux finds for it. What mux would note
// in the context of two copies of the request is noted in its event.
func (p *Proxy) dispatch(w http.ResponseWriter, r *http.Request) {
	p.row(r).ServeHTTP(w, r)
}

func (p *Proxy) row(r *http.Request) http.Handler {
	var found mux.RouteMatch
	if !p.router.Match(r, &found) {
		found.Handler = p.router.NotFoundHandler
	}
	eventOf(r.Context()).imageID = found.Vars["image"]
	return found.Handler
}

// serve runs a row's handler if the query is one that the row takes.
func (p *Proxy) serve(row route) http.Handler {
	keys := strings.Fields(row.query)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		eventOf(r.Context()).route = row.template
		if row.query != anyQuery && !onlyKeys(r, keys) {
			p.refuse(w, r, errQueryNotUnderstood)
			return
		}
		row.handler(p, w, r)
	})
}

var errQueryNotUnderstood = refusal(codeQueryNotUnderstood, "", "this request takes no query parameter of that name",
	"leave the query parameter out")

// onlyKeys reports whether a request's query has no keys but these.
func onlyKeys(r *http.Request, keys []string) bool {
	if r.URL.RawQuery == "" {
		return true
	}
	for key := range r.URL.Query() {
		if !slices.Contains(keys, key) {
			return false
		}
	}
	return true
}

// wrongMethod answers requests to a path of the table with a method that is
// not.
func (p *Proxy) wrongMethod(methods []string) http.Handler {
	allow := strings.Join(methods, ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Allow", allow)
		p.refuse(w, r, refusal(codeMethodNotAllowed, "", "this resource does not take the method", "use one of "+allow))
	})
}

// imageID is the image that a request to a template with {id} is about.
func imageID(r *http.Request) string { return eventOf(r.Context()).imageID }
