package proxy

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy/receipt"
	"github.com/countersign/countersign/signature"
)

// unknownError is the reason why nobody can tell whether an image verifies.
// Nothing is done to such an image.
type unknownError struct{ err error }

func (e *unknownError) Error() string { return e.err.Error() }
func (e *unknownError) Unwrap() error { return e.err }

// verify judges an image as an upload would be, over its data as Glance hands it
// out. It returns the receipt that the image has earned, and the SHA-256 of the
// signer's certificate as soon as that is known. An *unknownError means that it
// could not be decided; every other error is a verdict.
func (s *scanning) verify(ctx context.Context, img Image, rule *policy.Rule) (r receipt.Receipt, signer string, err error) {
	p := s.proxy
	spec, err := signature.Parse(img.signed())
	if decision := rule.Decide(spec, err); decision.Reason != nil {
		return r, "", decision.Reason
	}
	data, err := s.certificate(ctx, img, spec)
	if err != nil {
		return r, "", err
	}
	certificate, err := signature.ParseCertificate(data)
	if err != nil {
		return r, "", err
	}
	signer = certificate.Fingerprint()
	if err := rule.CheckCertificate(spec.CertificateID, certificate, policy.Moment{Now: p.Now()}); err != nil {
		return r, signer, err
	}
	if err := deniedHash(rule, img.HashAlgo, img.HashValue); err != nil {
		return r, signer, err // spares reading it
	}
	verifier, err := signature.NewVerifier(spec, certificate.PublicKey)
	if err != nil {
		return r, signer, err
	}
	verifier.Deny(rule.DenyMethods(), rule.CheckDigest)
	digests, err := s.read(ctx, img, verifier)
	if err != nil {
		return r, signer, &unknownError{err}
	}
	err = verifier.Verify()
	digests[spec.HashMethod] = verifier.Digest()
	for method, digest := range digests {
		// What Glance hands out and what it hashed when it was stored differ:
		// that is the store's fault, and says nothing about the signature.
		if hashlib(method) == img.HashAlgo && hex.EncodeToString(digest) != img.HashValue {
			return r, signer, &unknownError{refusal(codeDataUnreadable, "os_hash_value", "is not that of the data which Glance hands out", "look at the store; the image may be damaged")}
		}
	}
	if err != nil {
		return r, signer, err
	}
	r = receipt.Receipt{
		Image: img.ID, Owner: img.Owner, Size: img.Size, Digests: map[string]string{},
		HashAlgo: img.HashAlgo, HashValue: img.HashValue, Properties: img.signed(), Certificate: certificate.Raw,
		Rule: rule.Name, Mode: string(rule.Mode), Kind: receipt.Scan, IssuedAt: p.Now(),
	}
	for method, digest := range digests {
		r.Digests[string(method)] = hex.EncodeToString(digest)
	}
	return r, signer, nil
}

// hashlib is a hash method as os_hash_algo has it: sha512.
func hashlib(method signature.HashMethod) string {
	return strings.ToLower(strings.ReplaceAll(string(method), "-", ""))
}

// certificate is the signer's certificate: from a receipt that the image's
// project was given before, or else from the key manager.
func (s *scanning) certificate(ctx context.Context, img Image, spec signature.Spec) ([]byte, error) {
	p := s.proxy
	if r, err := p.keys().Open(img.Properties[receipt.Property]); err == nil && r.Owner == img.Owner && len(r.Certificate) > 0 &&
		r.Properties[signature.PropertyCertificate] == img.signed()[signature.PropertyCertificate] {
		return r.Certificate, nil
	}
	own, err := s.own(ctx)
	if err != nil {
		return nil, &unknownError{err}
	}
	data, err := p.Certificates.Certificate(ctx, scanOwner+img.Owner, spec.CertificateID, own.token)
	var property *signature.PropertyError
	switch refused := asRefusal(err); {
	case err == nil:
		return data, nil
	case errors.As(err, &property), refused.Code == CodeCertificateUnreadable:
		return nil, err
	case refused.Code == CodeCertificateForbidden:
		return nil, &unknownError{&Refusal{Code: refused.Code, Property: refused.Property,
			Problem: fmt.Sprintf("names certificate %s, which the key manager does not let the service credential read", spec.CertificateID),
			Cure:    "give the service user access to it (openstack acl user add), or upload the image again", Err: refused.Err}}
	}
	return nil, &unknownError{err}
}

// scanOwner keeps apart in the cache what was fetched with the service
// credential: an entry serves uploads into a project's images, and its callers
// may not be allowed to read what we are.
const scanOwner = "scan of "

// read hashes an image's data as Glance hands it out. The verifier sees it; so do
// the hash that Glance has used, and SHA-512, if those are others.
func (s *scanning) read(ctx context.Context, img Image, verifier *signature.Verifier) (map[signature.HashMethod][]byte, error) {
	p := s.proxy
	own, err := s.own(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	sums := map[signature.HashMethod]hash.Hash{}
	into := []io.Writer{verifier}
	for _, method := range signature.HashMethods {
		if method == signature.SHA512 || hashlib(method) == img.HashAlgo {
			sums[method] = method.Hash().New()
			into = append(into, sums[method])
		}
	}
	var n int64
	res, err := p.glance.stream(ctx, "/v2/images/"+img.ID+"/file", nil, own)
	switch {
	case isStatus(err, http.StatusNoContent): // there is none
	case err != nil:
		return nil, unreadable(err)
	default:
		defer res.Body.Close()
		body := &patient{Reader: res.Body, limit: p.StallTimeout, give: cancel, count: s.Read}
		// One byte too many is enough to know that it is not the image's data.
		if n, err = io.Copy(io.MultiWriter(into...), io.LimitReader(body, img.Size+1)); err != nil {
			return nil, unreadable(err)
		}
	}
	if n != img.Size {
		return nil, unreadable(fmt.Errorf("the image has %d bytes, and %d could be read", img.Size, n))
	}
	digests := map[signature.HashMethod][]byte{}
	for method, sum := range sums {
		digests[method] = sum.Sum(nil)
	}
	return digests, nil
}

func unreadable(err error) error {
	return &Refusal{Code: codeDataUnreadable, Problem: "the image's data cannot be read back from Glance", Cure: "see whether the image can be downloaded, and scan again", Err: err}
}

// patient is a body that gives up once nothing has come for the limit.
type patient struct {
	io.Reader
	limit time.Duration // zero: never
	give  func()        // ends the request
	count func(n int)   // may be nil
}

func (b *patient) Read(p []byte) (int, error) {
	if b.limit > 0 {
		defer time.AfterFunc(b.limit, b.give).Stop()
	}
	n, err := b.Reader.Read(p)
	if b.count != nil && n > 0 {
		b.count(n)
	}
	return n, err
}
