package policy

import (
	"errors"
	"fmt"

	"github.com/countersign/countersign/signature"
)

// Action is what is done with an upload before its first byte is read.
type Action int

const (
	Refuse Action = iota // the zero value, so that nothing passes by omission
	Verify               // the bytes are checked against the Spec
	Pass                 // the bytes are passed on unchecked
)

// String is the action's name, for logs.
func (a Action) String() string {
	switch a {
	default:
		return "refuse"
	case Verify:
		return "verify"
	case Pass:
		return "pass"
	}
}

// Decision is an action and the reason for it.
type Decision struct {
	Action Action
	// Reason is why it is refused, a *Refusal or *signature.PropertyError;
	// for Pass in audit mode, why it would have been. Nil for Verify.
	Reason error
}

// Decide judges what signature.Parse said about an image's properties. The
// certificate is judged later, by CheckCertificate.
func (r *Rule) Decide(spec signature.Spec, err error) Decision {
	if r.Mode == Off {
		return Decision{Action: Pass}
	}
	if errors.Is(err, signature.ErrUnsigned) {
		err = &Refusal{
			Code:     CodeSignatureRequired,
			Property: signature.PropertySignature,
			Problem:  fmt.Sprintf("is not set, and rule %q demands a signed image", r.Name),
			Cure:     "sign the image and set the four img_signature properties before uploading it",
		}
	}
	if err == nil {
		err = r.CheckSpec(spec)
	}
	if err == nil {
		return Decision{Action: Verify}
	}
	return Decision{Action: r.Failed(), Reason: err}
}

// Failed is what becomes of an upload that does not satisfy the rule: Pass in
// audit mode or when off, else Refuse.
func (r *Rule) Failed() Action {
	switch r.Mode {
	default:
		return Refuse
	case Off, Audit:
		return Pass
	}
}
