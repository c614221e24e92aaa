package proxy_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/countersign/countersign/proxy"
	"github.com/countersign/countersign/signature"
)

const aside = "countersign_certificate_uuid"

func withoutGlance(c *proxy.Config) { c.GlanceVerifies = false }

// state is which of the two properties an image has.
func (s *stage) state(id string) (certificate, setAside bool) {
	s.glance.mu.Lock()
	defer s.glance.mu.Unlock()
	_, certificate = s.glance.images[id][signature.PropertyCertificate]
	_, setAside = s.glance.images[id][aside]
	return certificate, setAside
}

func TestGlanceSeesNoSignatureWhileItShallNotVerify(t *testing.T) {
	for _, way := range []string{"file", "stage"} {
		s := newStage(t, withoutGlance)
		data := random(t, 100_000)
		id := s.image("a", signed(t, data))
		seen := 0
		s.glance.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.Method == "PUT" {
				seen++
				if certificate, setAside := s.state(id); certificate || !setAside {
					t.Errorf("%s: while the data arrives Glance has the certificate's id: %v, and it is aside: %v", way, certificate, setAside)
				}
			}
			return false
		}
		if status, body := s.do("PUT", "/v2/images/"+id+"/"+way, tokenA, strings.NewReader(string(data))); status != 204 {
			t.Fatalf("%s: upload = %d %s, want 204", way, status, body)
		}
		if seen != 1 {
			t.Errorf("%s: Glance saw %d uploads, want 1", way, seen)
		}
		s.receipt(id)
		// Staged data Glance would verify when it is imported.
		if certificate, setAside := s.state(id); certificate != (way == "file") || setAside != (way == "stage") {
			t.Errorf("%s: afterwards Glance has the certificate's id: %v, and it is aside: %v", way, certificate, setAside)
		}
	}
}

func TestWhatWasSetAsideComesBackAfterAFailure(t *testing.T) {
	data := random(t, 100_000)
	for _, test := range []struct {
		name   string
		sent   []byte
		answer int // Glance's, 0 for the fake's own
		want   int
	}{
		{"wrong data, kept", flipped(data, 7), 0, 400},
		{"Glance refuses", data, 413, 413},
	} {
		s := newStage(t, withoutGlance)
		id := s.image("k", signed(t, data))
		s.glance.before = func(w http.ResponseWriter, r *http.Request) bool {
			if r.Method == "PUT" && test.answer != 0 {
				http.Error(w, "no", test.answer)
				return true
			}
			return false
		}
		if status, body := s.upload(id, "token-k", test.sent, false); status != test.want {
			t.Errorf("%s: upload = %d %s, want %d", test.name, status, body, test.want)
		}
		if certificate, setAside := s.state(id); !certificate || setAside {
			t.Errorf("%s: afterwards Glance has the certificate's id: %v, and it is aside: %v", test.name, certificate, setAside)
		}
	}
}

// Two uploads are admitted while the image is queued, and one sets aside what the
// other has put back.
func TestWhatWasSetAsideTooLateComesBack(t *testing.T) {
	s := newStage(t, withoutGlance)
	data := random(t, 100_000)
	id := s.image("a", signed(t, data))
	first := true
	s.glance.before = func(_ http.ResponseWriter, r *http.Request) bool {
		if first && r.Method == "PATCH" {
			first = false
			if status, body := s.upload(id, tokenA, data, false); status != 204 {
				t.Errorf("the other upload = %d %s, want 204", status, body)
			}
		}
		return false
	}
	if status, body := s.upload(id, tokenA, data, false); status != 409 {
		t.Errorf("upload = %d %s, want 409", status, body)
	}
	if certificate, setAside := s.state(id); !certificate || setAside {
		t.Errorf("afterwards Glance has the certificate's id: %v, and it is aside: %v", certificate, setAside)
	}
	s.receipt(id)
}

// The other sets it aside before this one has seen that its receipt stays.
func TestWhatIsSetAsideWhileAnUploadSettlesComesBack(t *testing.T) {
	s := newStage(t, withoutGlance)
	data := random(t, 100_000)
	id := s.image("a", signed(t, data))
	first := true
	s.glance.before = func(_ http.ResponseWriter, r *http.Request) bool {
		s.glance.mu.Lock()
		defer s.glance.mu.Unlock()
		img := s.glance.images[id]
		if first && r.Method == "GET" && img["countersign_receipt"] != nil {
			first = false
			img[aside] = img[signature.PropertyCertificate]
			delete(img, signature.PropertyCertificate)
		}
		return false
	}
	if status, body := s.upload(id, tokenA, data, false); status != 204 || first {
		t.Errorf("upload = %d %s, want 204", status, body)
	}
	if certificate, setAside := s.state(id); !certificate || setAside {
		t.Errorf("afterwards Glance has the certificate's id: %v, and it is aside: %v", certificate, setAside)
	}
}

// A crash may leave an image in the middle; the next upload goes on from there,
// also with a Countersign that lets Glance verify.
func TestAnUploadGoesOnFromEitherState(t *testing.T) {
	data := random(t, 1000)
	for name, change := range map[string]func(*proxy.Config){"as before": withoutGlance, "Glance verifies now": func(*proxy.Config) {}} {
		s := newStage(t, change)
		properties := signed(t, data)
		properties[aside] = properties[signature.PropertyCertificate]
		delete(properties, signature.PropertyCertificate)
		id := s.image("a", properties)
		if status, body := s.upload(id, tokenA, data, false); status != 204 {
			t.Errorf("%s: upload = %d %s, want 204", name, status, body)
		}
		if certificate, setAside := s.state(id); !certificate || setAside {
			t.Errorf("%s: afterwards Glance has the certificate's id: %v, and it is aside: %v", name, certificate, setAside)
		}
		s.receipt(id)
	}
}

func TestNothingIsSetAsideInAuditedProjects(t *testing.T) {
	s := newStage(t, withoutGlance)
	data := random(t, 1000)
	id := s.image("b", signed(t, data))
	if status, body := s.upload(id, tokenB, data, false); status != 204 || s.glance.called("PATCH") != 0 {
		t.Errorf("upload = %d %s after %d PATCHes, want 204 after none", status, body, s.glance.called("PATCH"))
	}
}
