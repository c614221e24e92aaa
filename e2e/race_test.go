//go:build e2e

package e2e_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"testing"
	"time"
)

// TestWhatIsActiveIsWhatWasVerified: the record that counts for Glance is
// loaded after the proxy has looked at it, and whoever changes it in between
// must not have a success for it.
func TestWhatIsActiveIsWhatWasVerified(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "demo", p.url)
		straight := c.at(glance.url())
		data := pixels(t, 200_000)
		s := newSigner(t, time.Hour)
		certificate := c.secret(s.certificate)
		verified := s.properties(data, certificate)
		other := s.properties([]byte("something else"), certificate)

		// A change to what counts: other signatures, fewer, or none.
		changes := []struct {
			name       string
			operations []map[string]any
		}{
			{"another signature", []map[string]any{replacement("img_signature", other["img_signature"])}},
			{"one property fewer", []map[string]any{removal("img_signature_key_type")}},
			{"no signature", []map[string]any{removal("img_signature"), removal("img_signature_hash_method"),
				removal("img_signature_key_type"), removal("img_signature_certificate_uuid")}},
		}
		wantHonest := func(t *testing.T, id string, a answer, answered bool) {
			t.Helper()
			straight := straight.in(t)
			if !answered || a.status != http.StatusNoContent {
				eventually(t, "what was refused is no longer saving", func() bool {
					return !straight.exists(id) || straight.show(id).status() != "saving"
				})
				if straight.exists(id) && straight.show(id).status() == "active" {
					t.Errorf("the upload answered %v, and the image is active: %v", a, straight.show(id))
				}
				return
			}
			is := straight.show(id)
			if is.status() != "active" {
				t.Errorf("the upload answered 204, and the image is %s", is.status())
			}
			for property, want := range verified {
				if is.text(property) != want {
					t.Errorf("the upload answered 204, and %s is %q, not what was verified", property, is.text(property))
				}
			}
		}

		for _, change := range changes {
			t.Run("admitted, then "+change.name, func(t *testing.T) {
				c := c.in(t)
				id := c.create(verified).id()
				up := c.beginAdmitted(id, len(data))
				if a := c.patch(id, change.operations...); a.status != http.StatusOK {
					t.Fatalf("PATCH of a queued image answered %v, want 200", a)
				}
				up.send(data)
				a, err := up.outcome()
				if err == nil && a.status/100 == 2 {
					t.Errorf("the upload answered %v, want a refusal", a)
				}
				wantHonest(t, id, a, err == nil)
			})
			t.Run("on its way, then "+change.name, func(t *testing.T) {
				c := c.in(t)
				id := c.create(verified).id()
				up := c.begin(id, len(data))
				up.send(data[:len(data)/2])
				straight.in(t).reaches(id, "saving")
				wantRefusal(t, c.patch(id, change.operations...), http.StatusForbidden, "door_closed")
				// Nor does it help to ask Glance without us.
				straight.in(t).patch(id, change.operations...)
				up.send(data[len(data)/2:])
				a, err := up.outcome()
				wantHonest(t, id, a, err == nil)
			})
		}
		t.Run("many times, at any moment", func(t *testing.T) {
			for attempt := range 12 {
				c := c.in(t)
				change := changes[attempt%len(changes)]
				id := c.create(verified).id()
				up := c.beginAdmitted(id, len(data))
				tried := make(chan struct{})
				go func() { // ends when the PATCH is answered, which is waited for
					defer close(tried)
					time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
					attemptPatch(c, id, change.operations)
				}()
				const slices = 5
				for i := range slices {
					up.send(data[i*len(data)/slices : (i+1)*len(data)/slices])
					time.Sleep(time.Duration(rand.IntN(30)) * time.Millisecond)
				}
				a, err := up.outcome()
				<-tried
				wantHonest(t, id, a, err == nil)
			}
		})
	})
}

func replacement(property string, value any) map[string]any {
	return map[string]any{"op": "replace", "path": "/" + property, "value": value}
}

func removal(property string) map[string]any {
	return map[string]any{"op": "remove", "path": "/" + property}
}

// attemptPatch patches, and takes any answer.
func attemptPatch(c *client, id string, operations []map[string]any) {
	request, err := http.NewRequest("PATCH", c.image(id), encode(c.t, operations))
	if err != nil {
		c.t.Error(err)
		return
	}
	request.Header.Set("X-Auth-Token", c.token)
	request.Header.Set("Content-Type", "application/openstack-images-v2.1-json-patch")
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}).Do(request)
	if err != nil {
		c.t.Errorf("PATCH: %v", err)
		return
	}
	response.Body.Close()
}

func TestAnImageThatIsDeletedWhileItIsUploadedIsGone(t *testing.T) {
	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "demo", p.url)
		data := pixels(t, size)
		id := createSigned(c, data).id()
		up := c.begin(id, len(data))
		up.send(data[:size/2])
		c.at(glance.url()).reaches(id, "saving")
		if a := c.send("DELETE", c.image(id), "", nil); a.status != http.StatusNoContent {
			t.Fatalf("DELETE answered %v, want 204", a)
		}
		up.send(data[size/2:])
		if a := up.answer(); a.status != http.StatusGone && a.status != http.StatusConflict {
			t.Errorf("the upload answered %v, want Glance's 410 or our 409", a)
		}
		if c.at(glance.url()).exists(id) {
			t.Errorf("the image is there again: %v", c.at(glance.url()).show(id))
		}
	})
}

// TestACutUploadLeavesNothingBehind: wherever a client leaves, its image is
// queued for another try, and the proxy holds no connection for it any more.
func TestACutUploadLeavesNothingBehind(t *testing.T) {
	cuts := []struct {
		name string
		at   int
	}{
		{"after the head", 0},
		{"after the first byte", 1},
		{"in the middle", size / 2},
		{"in what is held back", size - 100},
		{"before the last byte", size - 1},
	}
	ways := []struct {
		name string
		cut  func(*byHand)
	}{{"FIN", (*byHand).leave}, {"RST", (*byHand).reset}}
	framings := []struct {
		name   string
		length int
	}{{"length", size}, {"chunked", -1}}

	underBothServers(t, func(t *testing.T, glance server) {
		p := startProxy(t, glance, policy)
		c := login(t, "demo", p.url)
		straight := c.at(glance.url())
		data := pixels(t, size)
		s := newSigner(t, time.Hour)
		properties := s.properties(data, c.secret(s.certificate))
		if a := c.upload(c.create(properties).id(), data); a.status != http.StatusNoContent {
			t.Fatalf("a whole upload answered %v, want 204", a)
		}
		idle := p.connections(t)
		var cut []string
		for _, place := range cuts {
			for _, way := range ways {
				for _, framing := range framings {
					id := c.create(properties).id()
					cut = append(cut, id)
					up := c.begin(id, framing.length)
					up.send(data[:place.at])
					if place.at > size/4 {
						straight.reaches(id, "saving")
					}
					way.cut(up)
					eventually(t, fmt.Sprintf("the image is queued again after a cut %s by %s, %s", place.name, way.name, framing.name),
						func() bool { return straight.show(id).status() == "queued" })
				}
			}
		}
		// Two more may be kept open to Glance and Keystone, for other requests.
		eventually(t, "the connections of cut uploads are closed", func() bool { return p.connections(t) <= idle+2 })
		for i, id := range cut {
			if i%5 != 0 { // some of each kind
				continue
			}
			if a := c.upload(id, data); a.status != http.StatusNoContent {
				t.Errorf("another upload into an image whose first was cut answered %v, want 204", a)
			}
		}
	})
}

// connections counts the open files of the proxy.
func (p *proxy) connections(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}
