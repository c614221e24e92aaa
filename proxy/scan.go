package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy/receipt"
	"github.com/countersign/countersign/signature"
)

// A Scan looks at images that are there already: those from before the first
// day, those that came round the proxy, and those whose upload was interrupted
// before it was settled.
//
// It lists the images of all projects, with the service credential, and leaves
// alone what carries a valid receipt. The data of the others is read back from
// Glance and verified as an upload's would be, and the image gets a receipt; or
// it is reported, and the rule's `unverified:` says what becomes of it:
//
//	listed ── receipt valid today ──────────────────────▶ vouched
//	   │
//	   ├─ no rule, no certificate, no data, changing ───▶ undecided: never touched
//	   ├─ unsigned; signature, signer or date is wrong ─▶ refused: report, deactivate or delete
//	   └─ verifies ── one PATCH, looked at until it stays ▶ verified
//
// Where a scan ends, the next one goes on: what has a receipt costs it nothing.
// Several at a time do no harm.
type Scan struct {
	// Audited looks also at images under rules that audit. These are never
	// changed: what would become of them is reported.
	Audited bool

	// Projects and Images are ids; empty: all. An image that is named is looked
	// at even if it is deactivated.
	Projects, Images []string

	// SignedBy is the SHA-256 of a certificate, in lower-case hexadecimal. If it
	// is set, the scan finds the images that this certificate signed, as their
	// receipts say, whatever rule they are under, and verifies nothing.
	// Deactivate takes them out of use.
	SignedBy   string
	Deactivate bool

	// DryRun changes nothing: findings say what would be done.
	DryRun bool

	// Concurrency is how many images are read at a time; at least 1.
	Concurrency int

	// Report takes each finding, one at a time. Read counts, in bytes, the image
	// data that is read; it is called from several goroutines, and may be nil.
	Report func(Finding)
	Read   func(n int)
}

// Verdict is what a scan finds out about an image.
type Verdict string

const (
	Vouched   Verdict = "vouched"   // carries a receipt that is valid today
	Verified  Verdict = "verified"  // its data was read back and verified
	Refused   Verdict = "refused"   // would be refused today
	Undecided Verdict = "undecided" // nobody can tell
	Signed    Verdict = "signed"    // by the certificate that was asked for
)

// Action is what a scan did with an image.
type Action string

const (
	None        Action = ""
	Certified   Action = "receipt"  // the receipt was written
	Repaired    Action = "repaired" // a property that an upload had set aside was put back
	Deactivated Action = "deactivated"
	Deleted     Action = "deleted"
	Failed      Action = "failed" // it could not be done; Note says why
)

// A Finding is what a scan found out about one image.
type Finding struct {
	ID, Name, Owner string
	Visibility      policy.Visibility
	Size            int64        // in bytes
	Rule            *policy.Rule // nil if none was found
	Verdict         Verdict
	Reason          *Refusal // of Refused and Undecided
	Signer          string   // SHA-256 of the signer's certificate, if it is known
	Action          Action   // with DryRun: what would be done
	Note            string   // why nothing was done, or it failed
}

// ErrNotAdministrator means that the service credential does not see the images
// of all projects.
var ErrNotAdministrator = errors.New("the service credential has not the role admin, without which Glance does not show it the images of other projects")

// Run looks at every image once. The error says why it could not look at all of
// them; what becomes of a single image is its Finding's to say.
func (s Scan) Run(ctx context.Context, p *Proxy) error {
	own, err := p.Identities.Token(ctx)
	if err != nil {
		return err
	}
	who, err := p.Identities.Validate(ctx, own)
	if err != nil {
		return err
	}
	if !slices.Contains(who.Roles, "admin") {
		return ErrNotAdministrator
	}
	run := &scanning{Scan: s, proxy: p}
	work := make(chan Image)
	var workers sync.WaitGroup
	for range max(1, s.Concurrency) {
		workers.Go(func() { // ends when work is closed
			for img := range work {
				if ctx.Err() == nil {
					run.look(ctx, img)
				}
			}
		})
	}
	err = run.list(ctx, work)
	close(work)
	workers.Wait()
	if err == nil {
		err = ctx.Err()
	}
	return err
}

// scanning is one run of a Scan.
type scanning struct {
	Scan
	proxy *Proxy
	mu    sync.Mutex // held while Report runs
}

func (s *scanning) report(f Finding) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Report(f)
}

// list hands the images that have to be looked at to the workers, and reports
// those that are known to be good at once.
func (s *scanning) list(ctx context.Context, work chan<- Image) error {
	hand := func(img Image) error {
		select {
		case work <- img:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var missed []error // one image that is gone keeps nobody from the others
	for _, id := range s.Images {
		own, err := s.own(ctx)
		if err != nil {
			return err
		}
		img, err := s.proxy.glance.image(ctx, id, own, nil)
		if err != nil {
			missed = append(missed, fmt.Errorf("image %s: %w", id, err))
			continue
		}
		if err := hand(img); err != nil {
			return err
		}
	}
	if len(s.Images) > 0 {
		return errors.Join(missed...)
	}
	// Glance leaves hidden images out of a list, unless they are asked for.
	for _, hidden := range []string{"false", "true"} {
		if err := s.eachPage(ctx, hidden, func(page []Image) error {
			for _, img := range page {
				if err := hand(img); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

// own is the service credential. It is asked for anew for each call, as a scan
// may outlive a token.
func (s *scanning) own(ctx context.Context) (credentials, error) {
	token, err := s.proxy.Identities.Token(ctx)
	if err != nil {
		return credentials{}, noServiceCredential(err)
	}
	return credentials{token: token}, nil
}

// wanted reports whether a listed image has to be looked at. It reports the
// finding about one that need not.
func (s *scanning) wanted(ctx context.Context, img Image) bool {
	if len(s.Projects) > 0 && !slices.Contains(s.Projects, img.Owner) {
		return false
	}
	if s.SignedBy != "" {
		return s.signedBy(img)
	}
	if img.Status != statusActive {
		return false
	}
	own, err := s.own(ctx)
	if err != nil {
		return true // which look reports
	}
	rule, err := s.proxy.ruleOf(ctx, img, own)
	if err != nil {
		return true
	}
	if !s.concerns(rule) {
		return false
	}
	f, valid := s.known(ctx, img, rule)
	if !valid || putBack(img) != nil {
		return true
	}
	s.report(f)
	return false
}

// concerns reports whether the scan is for images under the rule.
func (s *scanning) concerns(rule *policy.Rule) bool {
	return rule.Mode == policy.Enforce || rule.Mode == policy.Audit && s.Audited
}

// known is the finding about an image that carries a valid receipt, and whether
// it does.
func (s *scanning) known(ctx context.Context, img Image, rule *policy.Rule) (Finding, bool) {
	f := findingOf(img, rule)
	r, err := s.proxy.vouched(ctx, img, rule, true)
	if err != nil {
		return f, false
	}
	f.Verdict, f.Signer = Vouched, fingerprint(r.Certificate)
	return f, true
}

func findingOf(img Image, rule *policy.Rule) Finding {
	return Finding{ID: img.ID, Name: img.Properties["name"], Owner: img.Owner, Visibility: img.Visibility, Size: img.Size, Rule: rule}
}

// fingerprint is the SHA-256 of a certificate, or "" if it is none.
func fingerprint(der []byte) string {
	certificate, err := signature.ParseCertificate(der)
	if err != nil {
		return ""
	}
	return certificate.Fingerprint()
}

// signedBy reports whether a genuine receipt of the image's own says that the
// certificate signed it.
func (s *scanning) signedBy(img Image) bool {
	r, err := s.proxy.keys().Open(img.Properties[receipt.Property])
	return err == nil && r.Describes(img.as()) == nil && strings.EqualFold(fingerprint(r.Certificate), s.SignedBy)
}

// look examines one image and reports what it found. What it decides by is read
// anew: an image may have waited its turn for hours.
func (s *scanning) look(ctx context.Context, listed Image) {
	p := s.proxy
	f := findingOf(listed, nil)
	undecided := func(err error) {
		f.Verdict, f.Reason = Undecided, asRefusal(err)
		s.report(f)
	}
	own, err := s.own(ctx)
	if err != nil {
		undecided(err)
		return
	}
	img, err := p.glance.image(ctx, listed.ID, own, nil)
	switch {
	case isStatus(err, http.StatusNotFound):
		return // deleted since
	case err != nil:
		undecided(noGlance(err))
		return
	}
	rule, err := p.ruleOf(ctx, img, own)
	f = findingOf(img, rule)
	if s.SignedBy != "" {
		if s.signedBy(img) {
			f.Verdict, f.Signer = Signed, s.SignedBy
			if s.Deactivate && img.Status == statusActive {
				s.do(&f, Deactivated, func() error { return s.deactivate(ctx, img.ID) })
			}
			s.report(f)
		}
		return
	}
	if err != nil {
		undecided(err)
		return
	}
	if !s.concerns(rule) || img.Status != statusActive && !slices.Contains(s.Images, img.ID) {
		return
	}
	if found, valid := s.known(ctx, img, rule); valid {
		if putBack(img) != nil && rule.Mode == policy.Enforce {
			s.do(&found, Repaired, func() error { return s.settle(ctx, img, rule, "") })
		}
		s.report(found)
		return
	}
	verified, signer, err := s.verify(ctx, img, rule)
	f.Signer = signer
	switch {
	case ctx.Err() != nil:
		return // interrupted: nothing was found out
	case err != nil:
		s.refuse(ctx, &f, img, err)
	default:
		f.Verdict = Verified
		s.certify(ctx, &f, img, verified)
	}
	s.report(f)
}

// refuse enters why an image would be refused. Where that is for want of
// something (what an upload is told with 5xx, and could be otherwise at the next
// try) nothing is done to the image.
func (s *scanning) refuse(ctx context.Context, f *Finding, img Image, err error) {
	f.Reason = asRefusal(err)
	var unknown *unknownError
	if errors.As(err, &unknown) || f.Reason.status() >= http.StatusInternalServerError {
		f.Verdict = Undecided
		return
	}
	f.Verdict = Refused
	s.dispose(ctx, f, img)
}

// do carries out what a finding asks for, if it may.
func (s *scanning) do(f *Finding, action Action, doing func() error) {
	f.Action = action
	if s.DryRun {
		return
	}
	if err := doing(); err != nil {
		f.Action, f.Note = Failed, err.Error()
	}
}
