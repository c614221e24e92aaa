package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
)

// readJSON reads a body of JSON, at most MaxBody bytes.
func (p *Proxy) readJSON(r *http.Request) (data []byte, parsed any, err error) {
	data, err = io.ReadAll(io.LimitReader(bodyOf(r), p.MaxBody+1))
	switch {
	case err != nil:
		return nil, nil, &Refusal{Code: codeUploadIncomplete, Problem: "the body ended before it was complete", Cure: "send it again", Err: err}
	case int64(len(data)) > p.MaxBody:
		return nil, nil, refusal(codeBodyTooLarge, "", fmt.Sprintf("the body has more than %d bytes", p.MaxBody), "send less; an operator can raise COUNTERSIGN_MAX_BODY")
	case len(bytes.TrimSpace(data)) == 0:
		return data, nil, nil // Glance has its own words for that
	}
	parsed, err = parseStrict(data)
	if err != nil {
		return nil, nil, refusal(codeBodyInvalid, "", "the body is not JSON that every parser reads alike: "+err.Error(), "send UTF-8 JSON with each member once")
	}
	return data, parsed, nil
}

// setBody replaces the body of a request that was read.
func setBody(r *http.Request, data []byte) {
	r.Body = io.NopCloser(bytes.NewReader(data))
	r.ContentLength = int64(len(data))
	r.TransferEncoding = nil
}
