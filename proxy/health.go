package proxy

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
)

// healthPath is where Glance answers load balancers (oslo.middleware's
// healthcheck).
const healthPath = "/healthcheck"

// health answers GET and HEAD /healthcheck. A load balancer wants to know
// whether a request that it sends here will be served, and that takes both of
// us: while we are to be drained we say so, as Glance would; else Glance's own
// answer passes, or the refusal that it does not answer. What costs enforced
// uploads a 503 and nothing else (see /readyz) is not asked about: it is the
// same on every replica, and would take the others' requests down as well.
func (p *Proxy) health(w http.ResponseWriter, r *http.Request) {
	reason := ""
	if p.Unfit != nil {
		reason = p.Unfit()
	}
	if reason == "" {
		p.pass(w, r)
		return
	}
	eventOf(r.Context()).status = http.StatusServiceUnavailable
	mediaType, body := "text/plain; charset=UTF-8", []byte(nil)
	if r.Method != http.MethodHead {
		mediaType, body = healthBody(r.Header.Get("Accept"), reason)
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusServiceUnavailable)
	w.Write(body)
}

// healthBody is one reason in the shapes that oslo.middleware gives it.
func healthBody(accept, reason string) (mediaType string, body []byte) {
	switch preferred(accept, "text/plain", "text/html", "application/json") {
	default:
		return "text/plain; charset=UTF-8", []byte(reason)
	case "text/html":
		return "text/html; charset=UTF-8", fmt.Appendf(nil,
			"<HTML>\n<HEAD><TITLE>Healthcheck Status</TITLE></HEAD>\n<BODY>%s</BODY>\n</HTML>\n", escapeHTML.Replace(reason))
	case "application/json":
		body, _ := json.MarshalIndent(struct { // strings cannot fail
			Detailed bool     `json:"detailed"`
			Reasons  []string `json:"reasons"`
		}{false, []string{reason}}, "", "    ")
		return "application/json", body
	}
}
