package signature_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/countersign/countersign/signature"
)

// checkRefusal holds an error to be a whole *PropertyError of the given code
// that says what it should.
func checkRefusal(t testing.TB, err error, code signature.Code, property, says string) {
	t.Helper()
	var refusal *signature.PropertyError
	if !errors.As(err, &refusal) {
		t.Errorf("error = %v, want a *PropertyError", err)
		return
	}
	if refusal.Code != code || refusal.Property != property {
		t.Errorf("error = %s of %s (%v), want %s of %s", refusal.Code, refusal.Property, err, code, property)
	}
	if !strings.Contains(err.Error()+"; "+refusal.Cure, says) {
		t.Errorf("error = %q, cure = %q, want it to say %q", err, refusal.Cure, says)
	}
	if refusal.Cure == "" || !strings.HasPrefix(err.Error(), property+": ") {
		t.Errorf("error = %q, cure = %q: want the property's name in front, and a cure", err, refusal.Cure)
	}
	if mismatch := code == signature.CodeSignatureMismatch; errors.Is(err, signature.ErrMismatch) != mismatch {
		t.Errorf("errors.Is(%v, ErrMismatch) = %v, want %v", err, !mismatch, mismatch)
	}
}
