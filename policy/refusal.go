package policy

import "github.com/countersign/countersign/signature"

// Code names the reason of a refusal for programs; it does not change between
// releases.
type Code string

const (
	// CodeSignerNotTrusted: the certificate is not among the rule's signers.
	CodeSignerNotTrusted Code = "signer_not_trusted"
	// CodeCertificateDenied: the policy denies the certificate, or one of its
	// chain.
	CodeCertificateDenied Code = "certificate_denied"
	// CodeCertificateRevoked: its issuer has revoked the certificate, or one of
	// its chain.
	CodeCertificateRevoked Code = "certificate_revoked"
	// CodeRevocationUnknown: the issuer's revocation list is missing, stale or
	// of no use, so that it cannot be told.
	CodeRevocationUnknown Code = "revocation_unknown"
	// CodeAnchorsUnavailable: certificates of a trust set were never loaded,
	// and nothing else of the rule trusts the signer.
	CodeAnchorsUnavailable Code = "anchors_unavailable"
	// CodeImageDenied: the policy denies the image's data by its digest.
	CodeImageDenied Code = "image_denied"
	// CodeKeyTypeNotAllowed: the rule does not list the key type.
	CodeKeyTypeNotAllowed Code = "key_type_not_allowed"
	// CodeHashMethodNotAllowed: the rule does not list the hash method.
	CodeHashMethodNotAllowed Code = "hash_method_not_allowed"
	// CodeKeyTooSmall: the RSA key has fewer bits than the rule demands.
	CodeKeyTooSmall Code = "key_too_small"
	// CodeSignatureRequired: the image carries none of the four properties.
	CodeSignatureRequired Code = "signature_required"
	// CodeImageUnowned: the image has no owner, and no rule is for such.
	CodeImageUnowned Code = "image_unowned"
	// CodePolicyUndecided: which rule applies cannot be told at the moment.
	CodePolicyUndecided Code = "policy_undecided"
)

// Refusal is why a rule, or the lack of one, does not let an image pass.
type Refusal struct {
	Code     Code
	Property string // the image property it is about
	Problem  string // continues the property's name to a sentence, and names the rule
	Cure     string // what the caller can do about it
}

// Is makes a refusal of code image_denied a signature.ErrMismatch: data that is
// not to be had is treated like data that is not the signed one.
func (r *Refusal) Is(target error) bool {
	return target == signature.ErrMismatch && r.Code == CodeImageDenied
}

// Error is one sentence: the property and the problem.
func (r *Refusal) Error() string { return r.Property + ": " + r.Problem }
