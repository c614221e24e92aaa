package proxy

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/signature"
)

// Refusal is an answer that is not Glance's: what was asked for is not done.
type Refusal struct {
	Code     string // stable, for programs: see statuses
	Property string // the image property it is about, or empty
	Problem  string // a sentence without its full stop, which continues the property's name
	Cure     string // what to do about it; likewise

	// Header is added to the answer. It may be nil.
	Header http.Header

	// Err is the cause, for the log and never for the client. It may be nil.
	Err error
}

// Error is the sentence that clients see.
func (f *Refusal) Error() string {
	var s strings.Builder
	if f.Property != "" {
		s.WriteString(f.Property + " ")
	}
	s.WriteString(f.Problem)
	s.WriteString(" (" + f.Code + ").")
	if f.Cure != "" {
		s.WriteString(" Cure: " + f.Cure + ".")
	}
	return s.String()
}

// Unwrap returns the cause.
func (f *Refusal) Unwrap() error { return f.Err }

func refusal(code, property, problem, cure string) *Refusal {
	return &Refusal{Code: code, Property: property, Problem: problem, Cure: cure}
}

// The codes of refusals that neither a signature nor a policy rule decides.
const (
	codeInternal            = "internal_error"
	codeNotFound            = "not_found"
	codeMethodNotAllowed    = "method_not_allowed"
	codeQueryNotUnderstood  = "query_not_understood"
	codeHeaderNotUnderstood = "header_not_understood"
	codeFormBody            = "form_body"
	codeBodyInvalid         = "body_invalid"
	codeBodyTooLarge        = "body_too_large"
	codeMediaType           = "media_type_not_understood"
	codeImageIDInvalid      = "image_id_invalid"
	codeTokenMissing        = "token_missing"
	codeTokenInvalid        = "token_invalid"
	codeDoorClosed          = "door_closed"
	codeImageNotQueued      = "image_not_queued"
	codeUploadIncomplete    = "upload_incomplete"
	codeUpstreamUnavailable = "glance_unavailable"
	codeUpstreamBroke       = "glance_broke_off"
	codeUnverifiedSuccess   = "answered_before_verdict"
	codeChangedDuringUpload = "changed_during_upload"
	codeSettleFailed        = "settle_failed"
	codeServiceCredential   = "service_credential_unavailable"
	codeGlanceNotTrusted    = "glance_not_trusted"
	codeRangeRefused        = "range_refused"
	codeDownloadMismatch    = "download_mismatch"
	codeReceiptMissing      = "receipt_missing"
	codeReceiptInvalid      = "receipt_invalid"
	codeReceiptExempt       = "receipt_exempt"
	codeReceiptUnwritable   = "receipt_unwritable"
	codeTooManyProperties   = "too_many_properties"
	codeDataUnreadable      = "data_unreadable"

	// Codes of the key manager's answers, for cmd, which knows both.
	CodeCertificateNotFound    = "certificate_not_found"
	CodeCertificateForbidden   = "certificate_forbidden"
	CodeCertificateUnreadable  = string(signature.CodeCertificateUnreadable)
	CodeKeyManagerUnauthorized = "key_manager_unauthorized"
	CodeKeyManagerUnavailable  = "key_manager_unavailable"
)

// statuses is the one table from codes to HTTP statuses. 400 says that the
// evidence is malformed or wrong; 403 that it may be fine, but the rule wants
// other; 503 that it could not be decided now. What is not in it is 500.
var statuses = map[string]int{
	codeNotFound:            http.StatusNotFound,
	codeMethodNotAllowed:    http.StatusMethodNotAllowed,
	codeQueryNotUnderstood:  http.StatusBadRequest,
	codeHeaderNotUnderstood: http.StatusBadRequest,
	codeFormBody:            http.StatusUnsupportedMediaType,
	codeBodyInvalid:         http.StatusBadRequest,
	codeBodyTooLarge:        http.StatusRequestEntityTooLarge,
	codeMediaType:           http.StatusUnsupportedMediaType,
	codeImageIDInvalid:      http.StatusBadRequest,
	codeTokenMissing:        http.StatusUnauthorized,
	codeTokenInvalid:        http.StatusUnauthorized,
	codeDoorClosed:          http.StatusForbidden,
	codeImageNotQueued:      http.StatusConflict,
	codeUploadIncomplete:    http.StatusBadRequest,
	codeUpstreamUnavailable: http.StatusBadGateway,
	codeUpstreamBroke:       http.StatusBadGateway,
	codeUnverifiedSuccess:   http.StatusBadGateway,
	codeChangedDuringUpload: http.StatusConflict,
	codeSettleFailed:        http.StatusBadGateway,
	codeServiceCredential:   http.StatusServiceUnavailable,
	codeGlanceNotTrusted:    http.StatusServiceUnavailable,
	codeRangeRefused:        http.StatusForbidden,
	codeDownloadMismatch:    http.StatusBadGateway,
	codeReceiptMissing:      http.StatusForbidden,
	codeReceiptInvalid:      http.StatusForbidden,
	codeReceiptExempt:       http.StatusForbidden,
	codeReceiptUnwritable:   http.StatusServiceUnavailable,
	codeTooManyProperties:   http.StatusRequestEntityTooLarge,
	codeDataUnreadable:      http.StatusBadGateway,

	CodeCertificateNotFound:    http.StatusBadRequest,
	CodeCertificateForbidden:   http.StatusBadRequest,
	CodeKeyManagerUnauthorized: http.StatusUnauthorized,
	CodeKeyManagerUnavailable:  http.StatusServiceUnavailable,

	string(signature.CodePropertyMissing):        http.StatusBadRequest,
	string(signature.CodePropertyInvalid):        http.StatusBadRequest,
	string(signature.CodeCertificateUnreadable):  http.StatusBadRequest,
	string(signature.CodeCertificateExpired):     http.StatusBadRequest,
	string(signature.CodeCertificateNotYetValid): http.StatusBadRequest,
	string(signature.CodeKeyTypeMismatch):        http.StatusBadRequest,
	string(signature.CodeKeyUnsupported):         http.StatusBadRequest,
	string(signature.CodeSignatureMismatch):      http.StatusBadRequest,

	string(policy.CodeSignatureRequired):    http.StatusForbidden,
	string(policy.CodeSignerNotTrusted):     http.StatusForbidden,
	string(policy.CodeCertificateDenied):    http.StatusForbidden,
	string(policy.CodeCertificateRevoked):   http.StatusForbidden,
	string(policy.CodeRevocationUnknown):    http.StatusServiceUnavailable,
	string(policy.CodeAnchorsUnavailable):   http.StatusServiceUnavailable,
	string(policy.CodeImageDenied):          http.StatusForbidden,
	string(policy.CodeKeyTypeNotAllowed):    http.StatusForbidden,
	string(policy.CodeHashMethodNotAllowed): http.StatusForbidden,
	string(policy.CodeKeyTooSmall):          http.StatusForbidden,
	string(policy.CodeImageUnowned):         http.StatusForbidden,
	string(policy.CodePolicyUndecided):      http.StatusServiceUnavailable,
}

// asRefusal turns any error into the answer that a client gets. An error that
// nobody provided for is a refusal, too.
func asRefusal(err error) *Refusal {
	var refused *Refusal
	var property *signature.PropertyError
	var ruled *policy.Refusal
	switch {
	default:
		return &Refusal{Code: codeInternal, Problem: "something went wrong that Countersign does not know",
			Cure: "tell the operator the request id", Err: err}
	case errors.As(err, &refused):
		return refused
	case errors.As(err, &property):
		return refusal(string(property.Code), property.Property, property.Problem, property.Cure)
	case errors.As(err, &ruled):
		return refusal(string(ruled.Code), ruled.Property, ruled.Problem, ruled.Cure)
	}
}

// status is the HTTP status of a refusal.
func (f *Refusal) status() int {
	if status, ok := statuses[f.Code]; ok {
		return status
	}
	return http.StatusInternalServerError
}

// refuse answers with err, or with Glance's own answer where err is one.
func (p *Proxy) refuse(w http.ResponseWriter, r *http.Request, err error) {
	ev := eventOf(r.Context())
	header := w.Header()
	var refused *Refusal
	var answer *answerError
	if !errors.As(err, &refused) && errors.As(err, &answer) { // not where it is the cause of a refusal of ours
		ev.status, ev.upstream = answer.status, answer.status
		answer.write(w)
		return
	}
	if errors.Is(err, context.Canceled) {
		ev.status, ev.err = statusClientGone, err
		panic(http.ErrAbortHandler) // nobody reads an answer; the connection ends here
	}
	f := asRefusal(err)
	ev.refuse(f)
	for name, values := range f.Header {
		header[name] = values
	}
	if ev.status == http.StatusUnauthorized && p.AuthURL != "" {
		header.Set("Www-Authenticate", fmt.Sprintf("Keystone uri=%q", p.AuthURL))
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		p.origins.allow(r.Context(), header, origin)
	}
	values, sent := r.Header["Accept"]
	accept := strings.Join(values, ",")
	if sent && accept == "" {
		accept = "text/html" // openstacksdk's uploads send an empty one, and print nothing of a plain text
	}
	mediaType, body := f.body(accept, ev.requestID)
	header.Set("Content-Type", mediaType)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(ev.status)
	if r.Method != http.MethodHead {
		w.Write(body)
	}
}

// unreached is the error handler of the forwarding: what nobody has named is
// the connection to Glance.
func (p *Proxy) unreached(w http.ResponseWriter, r *http.Request, err error) {
	var f *Refusal
	var property *signature.PropertyError
	var ruled *policy.Refusal
	if !errors.As(err, &f) && !errors.As(err, &property) && !errors.As(err, &ruled) && !errors.Is(err, context.Canceled) {
		err = noGlance(err)
	}
	if errors.As(err, &f) && (f.Code == codeUpstreamUnavailable || f.Code == codeUpstreamBroke) {
		p.Metrics.UpstreamFailed(ServiceGlance)
	}
	p.refuse(w, r, err)
}

func noGlance(err error) error {
	return &Refusal{Code: codeUpstreamUnavailable, Problem: "Glance did not answer", Cure: "try again, or tell the operator the request id", Err: err}
}

// body renders a refusal in one of the three shapes in which Glance (webob)
// renders its own errors, chosen as webob does, so that clients print it as
// they print Glance's.
func (f *Refusal) body(accept, requestID string) (mediaType string, body []byte) {
	status := strconv.Itoa(f.status()) + " " + http.StatusText(f.status())
	switch preferred(accept, "text/html", "application/json") {
	default:
		return "text/plain; charset=UTF-8", fmt.Appendf(nil, "%s\n\n%s\n\n%s\n", status, f.Error(), requestID)
	case "text/html":
		return "text/html; charset=UTF-8", fmt.Appendf(nil,
			"<html>\n <head>\n  <title>%s</title>\n </head>\n <body>\n  <h1>%s</h1>\n  %s<br /><br />\n </body>\n</html>\n",
			status, status, escapeHTML.Replace(f.Error()))
	case "application/json":
		body, _ := json.Marshal(struct { // strings cannot fail
			Message   string `json:"message"`
			Code      string `json:"code"`
			Title     string `json:"title"`
			Reason    string `json:"reason"`
			Property  string `json:"property,omitempty"`
			Cure      string `json:"cure,omitempty"`
			RequestID string `json:"request_id"`
		}{f.Error(), status, http.StatusText(f.status()), f.Code, f.Property, f.Cure, requestID})
		return "application/json", body
	}
}

// escapeHTML leaves quotes alone: clients print the text as it is.
var escapeHTML = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;")
