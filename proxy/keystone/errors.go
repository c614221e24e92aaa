package keystone

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/gophercloud/gophercloud/v2"
)

// maxAnswer bounds what Keystone may answer: the catalog of a large cloud takes a few hundred kB.
const maxAnswer = 4 << 20

// judge turns gophercloud's errors, which quote URLs and bodies, into ours, which do not.
func judge(what string, err error) error {
	var (
		status gophercloud.ErrUnexpectedResponseCode
		verify *tls.CertificateVerificationError
		dial   *net.OpError
		large  *http.MaxBytesError
	)
	if errors.As(err, &status) {
		switch status.Actual {
		default:
			return fmt.Errorf("keystone: %s: it answered %d", what, status.Actual)
		case http.StatusUnauthorized:
			return fmt.Errorf("keystone: %s: it refuses the service credential (401)", what)
		case http.StatusForbidden:
			return fmt.Errorf("keystone: %s: the service credential's roles do not allow it (403)", what)
		case http.StatusNotFound:
			if genuine(status) {
				return fmt.Errorf("keystone: %s: %w", what, errNotFound)
			}
			return fmt.Errorf("keystone: %s: a 404 that is not Keystone's: is its URL right", what)
		}
	}
	switch {
	default:
		return fmt.Errorf("keystone: %s: its answer is not readable", what)
	case errors.As(err, &large):
		return fmt.Errorf("keystone: %s: answer larger than %d bytes", what, large.Limit)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("keystone: %s: %w", what, context.DeadlineExceeded)
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("keystone: %s: %w", what, context.Canceled)
	case errors.As(err, &verify):
		return fmt.Errorf("keystone: %s: %w", what, verify)
	case errors.As(err, &dial):
		return fmt.Errorf("keystone: %s: %w", what, dial)
	}
}

// genuine reports whether an error was written by Keystone, and not by a server in its place: a wrong path or a gateway's
// page must not be taken for 'there is none'.
func genuine(status gophercloud.ErrUnexpectedResponseCode) bool {
	var body struct {
		Error struct {
			Code int `json:"code"`
		} `json:"error"`
	}
	return json.Unmarshal(status.Body, &body) == nil && body.Error.Code == status.Actual
}

var (
	// errNotFound means that Keystone knows no such thing.
	errNotFound = errors.New("not found")
	// errRefused means that Keystone answered 401 to a service token that it had issued just before.
	errRefused = errors.New("it does not accept the service token it has issued")
)

// bounded is a transport that ends an answer beyond maxAnswer with an error, whoever reads it.
type bounded struct{ next http.RoundTripper }

func (t bounded) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	return resp, nil
}
