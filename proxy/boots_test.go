package proxy_test

import (
	"testing"

	"github.com/countersign/countersign/proxy/receipt"
)

// What is uploaded is verified, but Nova would boot something else.
func TestWhatBootsOtherwiseIsNotUploaded(t *testing.T) {
	s := newStage(t)
	data := random(t, 1000)
	unverified := s.image("a", map[string]string{"status": "active"})
	for _, test := range []struct{ property, value, reason string }{
		{"block_device_mapping", `[{"source_type": "volume", "volume_id": "x", "boot_index": 0}]`, "door_closed"},
		{"Block_Device_Mapping", "x", "door_closed"},
		{"block_device_mapping", "[]", ""},
		{"bdm_v2", "True", ""},
		{"kernel_id", unverified, "receipt_missing"},
		{"ramdisk_id", unverified, "receipt_missing"},
		{"base_image_ref", unverified, "receipt_missing"},
		{"kernel_id", "x", "image_id_invalid"},
		{"kernel_id", "", ""},
		{"kernel_id", s.verified("a", nil), ""},
	} {
		properties := signed(t, data)
		properties[test.property] = test.value
		id := s.image("a", properties)
		code, answer := s.upload(id, tokenA, data, false)
		if (code == 204) != (test.reason == "") || reason(answer) != test.reason {
			t.Errorf("upload into an image with %s %q = %d %s, want %q", test.property, test.value, code, answer, test.reason)
		}
	}
}

// A PATCH comes between the proxy's look and Glance's.
func TestWhatIsBootedChangesDuringTheUpload(t *testing.T) {
	for property, value := range map[string]string{"block_device_mapping": "[{}]", "kernel_id": imageA, "os_command_line": "root=live:http://elsewhere.example/"} {
		s := newStage(t)
		data := random(t, 1000)
		id := s.image("a", signed(t, data))
		s.glance.after = func(img record) { img[property] = value }
		code, answer := s.upload(id, tokenA, data, false)
		if got := s.glance.status(id); code != 409 || reason(answer) != "changed_during_upload" || got != "gone" {
			t.Errorf("upload = %d %s, and the image is %s, want 409 changed_during_upload and gone, with %s", code, answer, got, property)
		}
	}
}

// An image comes under a stricter rule while its data is on its way.
func TestTheRuleChangesDuringTheUpload(t *testing.T) {
	for visibility, want := range map[string]int{"public": 409, "community": 204} {
		s := newStage(t, visibilities(t))
		data := random(t, 1000)
		properties := signed(t, data)
		properties["visibility"] = "private"
		id := s.image("s", properties)
		s.glance.after = func(img record) { img["visibility"] = visibility }
		code, answer := s.upload(id, "token-s", data, false)
		if code != want {
			t.Errorf("upload into an image that becomes %s = %d %s, want %d", visibility, code, answer, want)
		}
		if want == 204 {
			if r := s.receipt(id); r.Kind != receipt.Upload {
				t.Errorf("the receipt is of kind %q", r.Kind)
			}
		} else if got := s.glance.status(id); got != "gone" {
			t.Errorf("the image that became %s is %s, want gone", visibility, got)
		}
	}
}
