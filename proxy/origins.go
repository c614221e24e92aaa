package proxy

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/hashicorp/golang-lru/v2/expirable"
)

// origins knows the CORS headers that Glance answers to a browser's Origin. A
// refusal must carry them, too, or the page (Horizon) is shown a network error
// in place of the reason. They are asked of Glance itself, whose configuration
// decides.
type origins struct {
	glance *glance
	known  *expirable.LRU[string, http.Header]
}

const (
	originsKept  = 256
	originsAge   = time.Minute
	originsLimit = 5 * time.Second
)

func newOrigins(g *glance) *origins {
	return &origins{glance: g, known: expirable.NewLRU[string, http.Header](originsKept, nil, originsAge)}
}

// allow adds to header what Glance would have sent to origin. Where Glance
// cannot be asked it adds nothing: the refusal stands anyhow.
func (o *origins) allow(ctx context.Context, header http.Header, origin string) {
	if header.Get("Access-Control-Allow-Origin") != "" || len(origin) > 1024 {
		return
	}
	found, ok := o.known.Get(origin)
	if !ok {
		ctx, cancel := context.WithTimeout(ctx, originsLimit)
		defer cancel()
		var err error
		if found, err = o.ask(ctx, origin); err != nil {
			return
		}
		o.known.Add(origin, found)
	}
	for name, values := range found {
		header[name] = values
	}
}

func (o *origins) ask(ctx context.Context, origin string) (http.Header, error) {
	target := *o.glance.base
	target.Path = strings.TrimRight(target.Path, "/") + "/versions"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Origin", origin)
	res, err := o.glance.transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	res.Body.Close()
	found := http.Header{}
	for name, values := range res.Header {
		if strings.HasPrefix(name, "Access-Control-") || name == "Vary" {
			found[name] = values
		}
	}
	return found, nil
}
