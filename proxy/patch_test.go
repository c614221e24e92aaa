package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy"
)

func TestPatchOfGuardedProperties(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	shut := func(owner, status, path string, value any) {
		t.Helper()
		for _, body := range spelledPatches(path, value) {
			id := s.image(owner, map[string]string{"status": status})
			code, answer, got := s.patched(rec, id, "token-"+owner, body[0], body[1])
			// A signature alone could be another one over the same data, if there were a receipt.
			if code != 403 || reason(answer) != "door_closed" && reason(answer) != "receipt_missing" || got != "nothing" {
				t.Errorf("PATCH %s of a %s image of %s = %d %s, and arrives as %s, want 403 door_closed", body[1], status, owner, code, answer, got)
			}
		}
	}
	open := func(owner, status, path string, value any) {
		t.Helper()
		for _, body := range spelledPatches(path, value) {
			id := s.image(owner, map[string]string{"status": status})
			if owner == "a" && status == "active" {
				id = s.verified(owner, nil)
			}
			if code, answer, got := s.patched(rec, id, "token-"+owner, body[0], body[1]); code != 200 || got == "nothing" {
				t.Errorf("PATCH %s of a %s image of %s = %d %s, and arrives as %s, want it to pass", body[1], status, owner, code, answer, got)
			}
		}
	}
	four := []string{"img_signature", "img_signature_hash_method", "img_signature_key_type", "img_signature_certificate_uuid"}
	spelled := func(name string) []string {
		return []string{"/" + name, "//" + name, "/ " + name, "/" + name + "\\t", "/\\u00a0" + name + "\\u3000", "/\\u0085" + name, "/" + strings.ToUpper(name),
			"/I" + name[1:], "/" + strings.ReplaceAll(name, "s", "\u017f"), "/\\u0069" + name[1:], "/" + name + "/x", "/" + name + "/~1"}
	}
	for _, name := range four {
		for _, path := range spelled(name) {
			shut("a", "active", path, "x")
			open("a", "queued", path, "x")
			open("b", "active", path, "x")
			open("c", "active", path, "x")
		}
	}
	for _, status := range []string{"saving", "uploading", "importing", "deactivated", "killed", "pending_delete"} {
		shut("a", status, "/img_signature", "x")
	}
	// Countersign's own word is nobody else's, at any time.
	for _, path := range []string{"/countersign_receipt", "/ countersign_receipt", "/COUNTERSIGN_receipt", "/counter\u017fign_receipt", "/co\u00fcntersign\uff3freceipt", "/countersign_certificate_uuid", "/countersign_x", "/countersign_"} {
		for _, status := range []string{"queued", "active"} {
			shut("a", status, path, "x")
			open("b", status, path, "x")
			open("c", status, path, "x")
		}
	}
	// What is booted is fixed once there is data, and disks that are booted in
	// its place are never named.
	for _, path := range []string{"/block_device_mapping", "/Block_Device_Mapping", "/img_block_device_mapping"} {
		shut("a", "active", path, "x")
		open("b", "active", path, "x")
		open("c", "queued", path, "x")
	}
	for _, path := range []string{"/bdm_v2", "/img_bdm_v2", "/os_command_line", "/kernel_id", "/ramdisk_id", "/KERNEL_ID", "/base_image_ref", "/stage2_id", "/squashfs_id", "/ks_template"} {
		shut("a", "active", path, "x")
		open("b", "active", path, "x")
		open("c", "active", path, "x")
	}
	for _, path := range []string{"/bdm_v2", "/os_command_line"} {
		open("a", "queued", path, "x")
	}
	for _, path := range []string{"/locations", "/locations/0", "/locations/-", "// locations /-", "/Locations", "/location", "/direct_url", "/\\u006cocations"} {
		shut("a", "queued", path, []any{})
		shut("a", "active", path, []any{})
		open("b", "queued", path, []any{})
		open("c", "queued", path, []any{})
	}
	for _, path := range []string{"/name", "/os_distro", "/x_img_signature", "/img_signature2", "/img-signature", "/img~1signature", "/tags", "/x/img_signature", "/protected", "/visibility", "/mappings", "/root_device_name", "/hw_disk_bus", "/countersign", "/countersigned_by"} {
		open("a", "active", path, "x")
	}
}

// Nova boots from what these properties name.
func TestWhatIsBootedWithAQueuedImageIsAcceptable(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	ofB := s.verified("b", map[string]string{"visibility": "public"})
	hidden := s.verified("b", nil)
	for name, test := range map[string]struct{ path, op, value, reason string }{
		"a verified kernel":              {"/kernel_id", "add", s.verified("a", nil), ""},
		"a verified ramdisk":             {"/ramdisk_id", "replace", s.verified("a", nil), ""},
		"another project's, but vouched": {"/kernel_id", "add", ofB, ""},
		"none":                           {"/kernel_id", "add", "", ""},
		"none any more":                  {"/kernel_id", "remove", "x", ""},
		"one that nobody verified":       {"/kernel_id", "add", s.image("a", map[string]string{"status": "active"}), "receipt_missing"},
		"one that has no data":           {"/ramdisk_id", "add", s.image("a", nil), "door_closed"},
		"one that was taken out of use":  {"/kernel_id", "add", s.verified("a", map[string]string{"status": "deactivated"}), "door_closed"},
		"one that is not there":          {"/kernel_id", "add", imageA, "door_closed"},
		"one that is hidden":             {"/kernel_id", "add", hidden, "door_closed"},
		"one by another spelling":        {"/kernel_id", "add", strings.ToUpper(ofB), "image_id_invalid"},
		"an address":                     {"/ks_template", "add", "http://elsewhere.example/", "image_id_invalid"},
		"a volume":                       {"/block_device_mapping", "add", "[{}]", "door_closed"},
		"a volume no more":               {"/block_device_mapping", "remove", "x", ""},
		"no volume":                      {"/block_device_mapping", "replace", "[]", ""},
	} {
		id := s.image("a", nil)
		body := fmt.Sprintf(`[{"op":%q,"path":%q,"value":%q}]`, test.op, test.path, test.value)
		code, answer, got := s.patched(rec, id, tokenA, patch21, body)
		if test.reason == "" && (code != 200 || got == "nothing") {
			t.Errorf("%s: PATCH %s = %d %s, want it to pass", name, body, code, answer)
		}
		if test.reason != "" && (reason(answer) != test.reason || got != "nothing") {
			t.Errorf("%s: PATCH %s = %d %s, and arrives as %s, want %s", name, body, code, answer, got, test.reason)
		}
	}
}

// spelledPatches are one change in both media types, alone and hidden behind
// another one.
func spelledPatches(path string, value any) [][2]string {
	text := fmt.Sprintf("%q", value)
	if _, list := value.([]any); list {
		text = `[{"url":"http://elsewhere.example/","metadata":{}}]`
	} else if value == nil {
		text = "null"
	}
	var bodies [][2]string
	for _, op := range []string{"add", "replace", "remove"} {
		bodies = append(bodies,
			[2]string{patch21, `[{"op":"` + op + `","path":"` + path + `","value":` + text + `}]`},
			[2]string{patch21, `[{"op":"add","path":"/x","value":"y"},{"value":` + text + `,"path":"` + path + `","op":"` + op + `"}]`},
			[2]string{patch20, `[{"` + op + `":"` + path + `","value":` + text + `}]`})
	}
	return bodies
}

// With /image_id Glance writes the image's record over that of another image.
func TestAttributesOfGlancesOwnAreNoProperties(t *testing.T) {
	enforcing := newStage(t)
	rec := record200(enforcing)
	for _, owner := range []string{"a", "b", "c"} {
		id := enforcing.image(owner, nil)
		for _, path := range []string{"/image_id", "/ image_id", "/extra_properties", "/IMAGE_ID"} {
			for _, body := range spelledPatches(path, imageA) {
				code, answer, got := enforcing.patched(rec, id, "token-"+owner, body[0], body[1])
				if code != 403 || reason(answer) != "door_closed" || got != "nothing" {
					t.Errorf("PATCH %s of an image of %s = %d %s, and arrives as %s, want 403 door_closed", body[1], owner, code, answer, got)
				}
			}
		}
	}
	lenient := newStage(t, func(c *proxy.Config) { c.Policies = policy.Default() })
	rec = record200(lenient)
	id := lenient.image("a", nil)
	if code, answer, got := lenient.patched(rec, id, tokenA, patch21, `[{"op":"add","path":"/image_id","value":"x"}]`); code != 200 || got == "nothing" {
		t.Errorf("PATCH of image_id where nothing is enforced = %d %s, want it to pass", code, answer)
	}
}

func TestPatchOfAnImageThatCannotBeSeen(t *testing.T) {
	s := newStage(t)
	rec := record200(s)
	id := s.image("a", nil)
	code, answer, got := s.patched(rec, id, tokenB, patch21, `[{"op":"add","path":"/img_signature","value":"x"}]`)
	if code != 404 || !strings.Contains(answer, "No image found") || got != "nothing" {
		t.Errorf("PATCH of another project's image = %d %s, want Glance's own 404", code, answer)
	}
}
