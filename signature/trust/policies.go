package trust

import "crypto/x509"

// checkPolicies decides on certificate policies (RFC 5280, section 6.1, and RFC
// 9618), where a CA demands one for those below it or maps them. No policy is
// demanded by the set itself, so that without such a CA there is nothing to
// decide. crypto/x509 does it, and so decides on the chains whose signatures it
// can check; others are refused.
func (w *search) checkPolicies() string {
	demanded := false
	for _, c := range w.path {
		parsed := c.parsed
		demanded = demanded || parsed.RequireExplicitPolicy > 0 || parsed.RequireExplicitPolicyZero || len(parsed.PolicyMappings) > 0
	}
	if !demanded || len(w.path) == 1 {
		return ""
	}
	options := x509.VerifyOptions{
		Roots:         x509.NewCertPool(),
		Intermediates: x509.NewCertPool(),
		CurrentTime:   w.at,
		KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	var signer *x509.Certificate
	for position, c := range w.path {
		one := *c.parsed
		one.PublicKey = c.PublicKey
		// What these say was checked, and for more kinds of names.
		one.UnhandledCriticalExtensions = nil
		one.PermittedDNSDomains, one.ExcludedDNSDomains = nil, nil
		one.PermittedEmailAddresses, one.ExcludedEmailAddresses = nil, nil
		one.PermittedURIDomains, one.ExcludedURIDomains = nil, nil
		one.PermittedIPRanges, one.ExcludedIPRanges = nil, nil
		one.MaxPathLen = -1
		if position < len(w.path)-1 {
			one.RawIssuer = w.path[position+1].parsed.RawSubject
		}
		switch {
		case position == 0:
			signer = &one
		case position == len(w.path)-1:
			options.Roots.AddCert(&one)
		default:
			options.Intermediates.AddCert(&one)
		}
	}
	if _, err := signer.Verify(options); err != nil {
		return "has a chain whose certificate policies are not those that its CAs demand, or cannot be told: " + err.Error()
	}
	return ""
}
