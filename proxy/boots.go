package proxy

import (
	"context"
	"errors"
	"strings"

	"github.com/countersign/countersign/policy"
)

// A signature is over an image's data. But Nova, and Ironic, boot from what some
// of the image's properties say, whatever its data is. Countersign knows three
// kinds; databases compare names without regard to case, so it does, too.

// replacing are the properties that name disks to boot from in place of the
// image's data (nova.compute.api, _get_image_defined_bdms): a volume, a volume's
// snapshot, another image. Nova itself sets them, on the snapshot of a server
// that boots from a volume. The properties mappings and root_device_name, which
// Nova reads beside them, name empty disks and device names: no data comes of them.
var replacing = []string{"block_device_mapping", "img_block_device_mapping"}

// describing are the properties that say how replacing is to be read, or with
// which command line a kernel starts: a signed kernel takes its root from
// wherever that says. Like the rest they are fixed once an image has left queued.
var describing = []string{"bdm_v2", "img_bdm_v2", "os_command_line"}

// referring are the properties that name another image to boot with this one, or
// in its place: the kernel and the ramdisk of Nova and Ironic, what Ironic's
// anaconda deployment fetches, and what Nova boots to rescue a server
// (image_base_image_ref).
var referring = []string{"kernel_id", "ramdisk_id", "base_image_ref", "stage2_id", "squashfs_id", "ks_template"}

func among(name string, names []string) bool {
	for _, other := range names {
		if strings.EqualFold(name, other) {
			return true
		}
	}
	return false
}

// isBooted reports whether a property is among those by which it is decided what
// is booted.
func isBooted(name string) bool {
	return among(name, replacing) || among(name, describing) || among(name, referring)
}

// bootsOtherwise returns the property, if there is one, that makes Nova boot from
// something else than the image's data.
func bootsOtherwise(img Image) (property string) {
	for name, value := range img.Properties {
		if among(name, replacing) && !nothing(value) {
			return name
		}
	}
	return ""
}

// nothing reports whether the value of a property names nothing at all.
func nothing(value string) bool {
	value = strings.TrimSpace(value)
	return value == "" || value == "[]"
}

// booted are those of an image's properties by which it is decided what is
// booted. If one of them changes while data arrives, what was admitted is another
// image.
func (i Image) booted() map[string]string {
	found := map[string]string{}
	for name, value := range i.Properties {
		if isBooted(name) {
			found[name] = value
		}
	}
	return found
}

// boots decides whether an image may come into use, or into another rule's
// reach, as far as its properties say what is booted: nothing in place of its
// data, and beside it only images that satisfy the same rule.
func (p *Proxy) boots(ctx context.Context, img Image, rule *policy.Rule, who credentials) error {
	if property := bootsOtherwise(img); property != "" {
		return refusal(codeDoorClosed, property, "makes servers boot from something else than the data that is verified",
			"remove the property")
	}
	for name, value := range img.Properties {
		if among(name, referring) {
			if err := p.bootable(ctx, name, value, rule, who); err != nil {
				return err
			}
		}
	}
	return nil
}

// bootable decides whether another image may be booted with one that is under
// rule: the same rule has to be satisfied by that one's receipt, whosever it is.
func (p *Proxy) bootable(ctx context.Context, property, id string, rule *policy.Rule, who credentials) error {
	if nothing(id) {
		return nil
	}
	if !canonicalID.MatchString(id) {
		return refusal(codeImageIDInvalid, property, "names what is booted, and is not a UUID in lower case with dashes", "name an image by its id")
	}
	img, err := p.glance.image(ctx, id, who, nil)
	var answer *answerError
	switch {
	case errors.As(err, &answer) && answer.status < 500:
		return refusal(codeDoorClosed, property, "names an image that you cannot see", "name one that you can")
	case err != nil:
		return noGlance(err)
	case img.Status != statusActive:
		return refusal(codeDoorClosed, property, "names an image that is "+img.Status, "name one that is active")
	}
	if _, err := p.vouched(ctx, img, rule, false); err != nil {
		f := asRefusal(err)
		return &Refusal{Code: f.Code, Property: property, Problem: "names image " + id + ", which is not acceptable here: its " + f.Property + " " + f.Problem,
			Cure: f.Cure, Err: f.Err}
	}
	return nil
}
