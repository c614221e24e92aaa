package certcache

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// VaultConfig says where Vault is, where it keeps the certificates, and who we are there.
type VaultConfig struct {
	// Address is the base URL, without /v1. Required.
	Address *url.URL
	// Namespace is sent with every request unless it is empty (Vault Enterprise, HCP Vault).
	Namespace string
	// Mount is where the key-value secrets engine is mounted, such as secret. Required.
	Mount string
	// Version is the engine's: 1 or 2. Required.
	Version int
	// Path lies between the mount and the certificate's name, as castellan's kv_path does. It may be empty.
	Path string
	// Login says who we are. Required.
	Login VaultLogin
	// HTTPClient carries TLS settings and a timeout. Its CheckRedirect is not used: no redirect is followed, because
	// net/http would take the token along. Nil: http.DefaultTransport without a timeout but the caller's.
	HTTPClient *http.Client
	// Now is the clock that leases are counted by. Default time.Now.
	Now func() time.Time
}

// Vault is the Source of clouds whose services keep their secrets in HashiCorp Vault through castellan (its
// VaultKeyManager): a key-value engine in which each secret is a record, named by 32 hexadecimal digits:
//
//	{"type": "certificate", "value": "3082…", "name": …, "created": …}
//
// Value is what was stored, in hexadecimal: DER, or PEM. Vault is asked with a token of our own, and so does not decide
// which project may read what; see the package comment.
type Vault struct {
	cfg    VaultConfig
	client http.Client

	turn chan struct{} // holds one value: whoever takes it may log in or renew

	mu      sync.Mutex // guards what follows
	token   vaultToken
	refused error     // why the last login failed
	since   time.Time // when that was
}

// NewVault returns a Vault. It does not call it. It panics on a version that is neither 1 nor 2.
func NewVault(cfg VaultConfig) *Vault {
	if cfg.Version != 1 && cfg.Version != 2 {
		panic(fmt.Sprintf("certcache: there is no version %d of the key-value engine", cfg.Version))
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	v := &Vault{cfg: cfg, turn: make(chan struct{}, 1)}
	v.turn <- struct{}{}
	if cfg.HTTPClient != nil {
		v.client = *cfg.HTTPClient
	}
	if v.client.Transport == nil {
		v.client.Transport = http.DefaultTransport
	}
	v.client.Transport = bounded{v.client.Transport}
	v.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	v.client.Jar = nil
	return v
}

// Certificate reads the record of that name. When Vault does not accept the token it logs in again, once. That Vault does
// not let us read is nobody's fault who uploads, and so an *UnavailableError.
func (v *Vault) Certificate(ctx context.Context, ref Ref) (Certificate, error) {
	if !canonical(ref.ID) {
		return Certificate{}, errID()
	}
	status, body, err := v.ask(ctx, http.MethodGet, ref.ID, nil)
	if err != nil {
		return Certificate{}, &UnavailableError{Err: err}
	}
	return v.judge(status, body)
}

// Store writes the record of a certificate in DER as castellan does, under an ID that is not in use. Name is for people.
func (v *Vault) Store(ctx context.Context, id, name string, der []byte) error {
	if !canonical(id) {
		return errID()
	}
	var record any = map[string]any{
		"type": recordType, "value": hex.EncodeToString(der), "algorithm": nil, "bit_length": nil, "name": name, "created": v.cfg.Now().Unix(),
	}
	if v.cfg.Version == 2 {
		// The check-and-set of version 2: nothing that is there is overwritten.
		record = map[string]any{"data": record, "options": map[string]int{"cas": 0}}
	}
	status, _, err := v.ask(ctx, http.MethodPost, id, record)
	switch {
	case err != nil:
		return &UnavailableError{Err: err}
	case status != http.StatusOK && status != http.StatusNoContent:
		return &UnavailableError{Err: fmt.Errorf("write: it answered %d", status)}
	}
	return nil
}

// ask puts one question about the certificate of that ID, and puts it again with a new token if the one at hand is no
// longer accepted.
func (v *Vault) ask(ctx context.Context, method, id string, body any) (int, []byte, error) {
	path := []string{v.cfg.Mount}
	if v.cfg.Version == 2 {
		path = append(path, "data")
	}
	// castellan writes the UUID without its dashes.
	path = append(path, v.cfg.Path, strings.ReplaceAll(id, "-", ""))
	what := map[string]string{http.MethodGet: "read", http.MethodPost: "write"}[method]
	for again := false; ; again = true {
		token, err := v.current(ctx)
		if err != nil {
			return 0, nil, err
		}
		status, answer, err := v.do(ctx, what, method, token.text, body, path...)
		if err != nil {
			return 0, nil, err
		}
		if status != http.StatusForbidden {
			return status, answer, nil
		}
		if again || !v.discard(token) {
			return 0, nil, fmt.Errorf("%s: it does not permit this to the token it was asked with (403)", what)
		}
	}
}

// do sends one request and returns its answer, whatever that is.
func (v *Vault) do(ctx context.Context, what, method, token string, body any, path ...string) (int, []byte, error) {
	var payload io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return 0, nil, fmt.Errorf("%s: %w", what, err)
		}
		payload = bytes.NewReader(text)
	}
	// From its parts: nothing in a path becomes a query or a host.
	u := url.URL{Scheme: v.cfg.Address.Scheme, Host: v.cfg.Address.Host, Path: strings.TrimRight(v.cfg.Address.Path, "/") + "/v1"}
	for _, part := range path {
		if part = strings.Trim(part, "/"); part != "" {
			u.Path += "/" + part
		}
	}
	req, err := http.NewRequestWithContext(ctx, method, u.String(), payload)
	if err != nil {
		return 0, nil, errors.New(what + ": its address is no URL")
	}
	req.Header.Set("X-Vault-Request", "true") // Vault's proxies may demand it, against requests forged through browsers
	if token != "" {
		req.Header.Set("X-Vault-Token", token)
	}
	if v.cfg.Namespace != "" {
		req.Header.Set("X-Vault-Namespace", v.cfg.Namespace)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return 0, nil, cause(what, err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, nil, cause(what, err)
	}
	return resp.StatusCode, answer, nil
}

// recordType is what castellan calls an X.509 certificate.
const recordType = "certificate"

// judge reads the answer to a question for a record. Only what looks like Vault's own 'not found' is one: a balancer says
// 404 as well.
func (v *Vault) judge(status int, body []byte) (Certificate, error) {
	var answer struct {
		Data     json.RawMessage `json:"data"`
		Errors   *[]string       `json:"errors"`
		Warnings []string        `json:"warnings"`
	}
	readable := json.Unmarshal(body, &answer) == nil
	unavailable := func(format string, args ...any) (Certificate, error) {
		return Certificate{}, &UnavailableError{Err: fmt.Errorf("read: "+format, args...)}
	}
	switch {
	case status == http.StatusServiceUnavailable:
		return unavailable("it answered 503: it is sealed, or has no active node")
	case status == http.StatusNotFound && readable && answer.Errors != nil && len(*answer.Errors) > 0:
		return unavailable("it answered 404: no secrets engine is mounted at %q", v.cfg.Mount)
	case status == http.StatusNotFound && readable && len(answer.Warnings) > 0:
		return unavailable("it answered 404: the engine at %q is not of version %d", v.cfg.Mount, v.cfg.Version)
	case status == http.StatusNotFound && readable && (answer.Errors != nil || present(answer.Data)): // Data tells of a deleted version
		return Certificate{}, ErrNotFound
	case status != http.StatusOK:
		return unavailable("it answered %d", status)
	case !readable || !present(answer.Data):
		return unavailable("its answer is not readable")
	}
	var expires time.Time
	record := answer.Data
	if v.cfg.Version == 2 {
		var versioned struct {
			Data     json.RawMessage `json:"data"`
			Metadata struct {
				DeletionTime string `json:"deletion_time"`
			} `json:"metadata"`
		}
		if json.Unmarshal(record, &versioned) != nil || !present(versioned.Data) {
			return unavailable("its answer is none of version 2 of the key-value engine")
		}
		if at := versioned.Metadata.DeletionTime; at != "" {
			var err error
			if expires, err = time.Parse(time.RFC3339Nano, at); err != nil {
				return unavailable("its answer is not readable")
			}
		}
		record = versioned.Data
	}
	data, err := parseRecord(record)
	if err != nil {
		return Certificate{}, err
	}
	return Certificate{Data: data, Expires: expires}, nil
}

func present(value json.RawMessage) bool { return value != nil && string(value) != "null" }

// parseRecord takes what castellan's VaultKeyManager stores.
func parseRecord(text []byte) ([]byte, error) {
	var record struct {
		Type  string `json:"type"`
		Value string `json:"value"`
	}
	if json.Unmarshal(text, &record) != nil {
		return nil, &NotCertificateError{Problem: "its entry in Vault is not of castellan's form"}
	}
	if record.Type != recordType {
		return nil, &NotCertificateError{Problem: fmt.Sprintf("the entry in Vault is of type %.40q, not %q", record.Type, recordType)}
	}
	data, err := hex.DecodeString(record.Value)
	switch {
	case err != nil:
		return nil, &NotCertificateError{Problem: "the value of its entry in Vault is not hexadecimal"}
	case len(data) == 0:
		return nil, &NotCertificateError{Problem: "the value of its entry in Vault is empty"}
	}
	return data, nil
}
