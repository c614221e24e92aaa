package proxy

import (
	"net/http"
	"strings"

	"github.com/gorilla/mux"

	"github.com/countersign/countersign/policy"
)

// door answers requests that bring data into an image, or bring it back into
// use, past PUT /file: stage, import, locations, reactivate. They pass where
// nothing is enforced.
func (p *Proxy) door(w http.ResponseWriter, r *http.Request) {
	template, _ := mux.CurrentRoute(r).GetPathTemplate()
	name := template[strings.LastIndexByte(template, '/')+1:]
	u, err := p.subject(r, "update/"+name)
	if err != nil {
		p.refuse(w, r, err)
		return
	}
	if u != nil {
		if err := p.closed(u, "", name+" would bring in, or back, data that nobody has verified"); err != nil {
			p.refuse(w, r, err)
			return
		}
	}
	p.pass(w, r)
}

// closed refuses what an enforcing rule keeps shut, and in an audited project
// notes that it would be.
func (p *Proxy) closed(u *uploading, property, problem string) error {
	shut := refusal(codeDoorClosed, property, problem, "upload the signed data with PUT /v2/images/"+u.image.ID+"/file, to a new image if this one has data")
	u.event.outcome, u.event.reason = "failure", shut
	if u.rule.Mode == policy.Audit {
		return nil
	}
	return shut
}
