package policy

// Code names the reason of a refusal for programs; it does not change between
// releases.
type Code string

const (
	// CodeSignerNotTrusted: the certificate is not among the rule's signers.
	CodeSignerNotTrusted Code = "signer_not_trusted"
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

// Error is one sentence: the property and the problem.
func (r *Refusal) Error() string { return r.Property + ": " + r.Problem }
