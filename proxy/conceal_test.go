package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/countersign/countersign/policy"
)

// secretInG says that project g's images are secret, and public ones.
func secretInG(owner string, v policy.Visibility) bool { return owner == "g" || v == policy.Public }

func conceal(src io.Reader, list bool) io.Reader {
	return newConcealer(io.NopCloser(src), list, secretInG)
}

const (
	openImage   = `{"owner_specified.x": "a \"} , {", "name": null, "visibility": "private", "size": 1, "owner": "o", "direct_url": "rbd://x", "locations": [{"url": "rbd://x", "metadata": {"a": [1, {}]}}], "tags": ["t"], "self": "/v2"}`
	secretImage = `{"name": "\\", "visibility": "private", "owner": "g", "direct_url": "rbd://x", "locations": [{"url": "rbd://x", "metadata": {"a": "]}"}}], "tags": [], "self": "/v2"}`
	leftOfIt    = `{"name": "\\", "visibility": "private", "owner": "g", "tags": [], "self": "/v2"}`
)

func TestConceal(t *testing.T) {
	for _, test := range []struct {
		name     string
		list     bool
		in, want string
	}{
		{"nobody's business", false, openImage, openImage},
		{"secret", false, secretImage, leftOfIt},
		{"blanks", false, " {\n  \"owner\" : \"g\" ,\n  \"visibility\" : \"private\" ,\n  \"direct_url\" : \"x\" ,\n  \"z\" : 1\n}\n ", " {\n  \"owner\" : \"g\" ,\n  \"visibility\" : \"private\" ,\n  \"z\" : 1\n}\n "},
		{"at the end", false, `{"owner": "g", "visibility": "x", "locations": []}`, `{"owner": "g", "visibility": "x"}`},
		{"public", false, `{"owner": "o", "visibility": "public", "locations": []}`, `{"owner": "o", "visibility": "public"}`},
		{"at first, secret", false, `{"direct_url": "x", "owner": "g", "visibility": "private"}`, `{ "owner": "g", "visibility": "private"}`},
		{"at first, not secret", false, `{"direct_url": "x", "owner": "o", "visibility": "private"}`, `{ "owner": "o", "visibility": "private", "direct_url": "x"}`},
		{"alone", false, `{"direct_url": "x"}`, `{}`},
		{"no owner, and no word of it", false, `{"visibility": "private", "direct_url": "x"}`, `{"visibility": "private"}`},
		{"no owner", false, `{"visibility": "private", "owner": null, "direct_url": "x"}`, `{"visibility": "private", "owner": null, "direct_url": "x"}`},
		{"an owner that is no text", false, `{"visibility": "private", "owner": ["o"], "direct_url": "x"}`, `{"visibility": "private", "owner": ["o"]}`},
		{"a name with escapes", false, `{"owner": "g", "visibility": "private", "direct\u005furl": "x", "a": 1}`, `{"owner": "g", "visibility": "private", "a": 1}`},
		{"an owner with escapes", false, `{"owner": "\u0067", "visibility": "private", "direct_url": "x", "a": 1}`, `{"owner": "\u0067", "visibility": "private", "a": 1}`},
		{"a property of the same name further in", false, `{"owner": "g", "visibility": "private", "a": {"direct_url": "x"}}`, `{"owner": "g", "visibility": "private", "a": {"direct_url": "x"}}`},
		{"twice", false, `{"owner": "g", "visibility": "private", "direct_url": "x", "direct_url": "y"}`, `{"owner": "g", "visibility": "private"}`},
		{"empty", false, `{}`, `{}`},
		{"nothing", false, ``, ``},
		{"a text", false, `"direct_url"`, `"direct_url"`},
		{"no JSON", false, `<html>{}</html>`, `<html>{}</html>`},

		{"empty list", true, `{"images": [], "schema": "x"}`, `{"images": [], "schema": "x"}`},
		{"list", true, `{"images": [` + openImage + `, ` + secretImage + `,` + openImage + `], "first": "/v2/images?owner=g", "x": {"direct_url": "x"}}`,
			`{"images": [` + openImage + `, ` + leftOfIt + `,` + openImage + `], "first": "/v2/images?owner=g", "x": {"direct_url": "x"}}`},
		{"list after other things", true, `{"a": {"b": [{"c": 1}]}, "s": "[{", "images": [` + secretImage + `]}`, `{"a": {"b": [{"c": 1}]}, "s": "[{", "images": [` + leftOfIt + `]}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if err := iotest.TestReader(conceal(strings.NewReader(test.in), test.list), []byte(test.want)); err != nil {
				t.Error(err)
			}
			for _, slow := range []func(io.Reader) io.Reader{iotest.OneByteReader, iotest.DataErrReader, iotest.HalfReader} {
				got, err := io.ReadAll(conceal(slow(strings.NewReader(test.in)), test.list))
				if err != nil || string(got) != test.want {
					t.Errorf("got %s, %v, want %s", got, err, test.want)
				}
			}
		})
	}
}

// What breaks off, does not match, or does not fit, is an error, and not an end.
func TestConcealBroken(t *testing.T) {
	for length := range len(secretImage) - 1 {
		if _, err := io.ReadAll(conceal(strings.NewReader(secretImage[:length+1]), false)); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q: %v, want an unexpected end", secretImage[:length+1], err)
		}
	}
	wrong := errors.New("cable cut")
	if _, err := io.ReadAll(conceal(io.MultiReader(strings.NewReader(`{"images": [{"a"`), iotest.ErrReader(wrong)), true)); !errors.Is(err, wrong) {
		t.Errorf("a source that fails: %v, want its error", err)
	}
	long := `"` + strings.Repeat("x", maxMember) + `"`
	for _, text := range []string{`{"a": 1}}`, `{"a": ]}`, `{"a": ` + long + `}`, `{` + long + `: 1}`} {
		if _, err := io.ReadAll(conceal(strings.NewReader(text), false)); err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%.20s: %v, want an error about it", text, err)
		}
	}
}

// A long list takes the same memory as a short one.
func TestConcealMemory(t *testing.T) {
	const images = 20_000
	list := io.MultiReader(strings.NewReader(`{"images": [`), io.LimitReader(&repeated{text: secretImage + ", "}, int64(len(secretImage)+2)*images), strings.NewReader(openImage+`]}`))
	c := newConcealer(io.NopCloser(list), true, secretInG)
	largest := 0
	buffer := make([]byte, 512)
	for {
		_, err := c.Read(buffer)
		largest = max(largest, cap(c.out))
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if largest > 4096 || len(c.scratch) > 4096 {
		t.Errorf("%d bytes were held at once", largest)
	}
}

type repeated struct {
	text string
	at   int
}

func (r *repeated) Read(p []byte) (int, error) {
	n := copy(p, r.text[r.at:])
	r.at = (r.at + n) % len(r.text)
	return n, nil
}

// Whatever Glance may write comes out the same but for the two members.
func FuzzConceal(f *testing.F) {
	f.Add(openImage, false)
	f.Add(secretImage, false)
	f.Add(`{"images": [`+openImage+`, `+secretImage+`]}`, true)
	f.Add(`{"direct_url": "x", "owner": "o", "visibility": "private"}`, false)
	f.Add(`{"images": [[{}], {"locations":[]}, 1, "a"]}`, true)
	f.Fuzz(func(t *testing.T, text string, list bool) {
		got, err := io.ReadAll(conceal(strings.NewReader(text), list))
		if !json.Valid([]byte(text)) {
			return // must end, and does
		}
		if err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if !json.Valid(got) {
			t.Fatalf("%s becomes %s", text, got)
		}
		if hasTwice(text) {
			return // which of two members counts depends on the reader
		}
		var before, after any
		decode(t, []byte(text), &before)
		decode(t, got, &after)
		images := []any{before}
		if list {
			images = nil
			if top, ok := before.(map[string]any); ok {
				for _, value := range top {
					if array, ok := value.([]any); ok {
						images = append(images, array...)
					}
				}
			}
		}
		for _, one := range images {
			img, ok := one.(map[string]any)
			if !ok {
				continue
			}
			text := func(name string) (string, bool) {
				value, there := img[name]
				s, isText := value.(string)
				return s, there && (isText || value == nil)
			}
			owner, ok1 := text("owner")
			v, ok2 := text("visibility")
			if !ok1 || !ok2 || secretInG(owner, policy.Visibility(v)) {
				delete(img, "direct_url")
				delete(img, "locations")
			}
		}
		if !reflect.DeepEqual(before, after) {
			t.Fatalf("%s becomes %s", text, got)
		}
	})
}

func hasTwice(text string) bool {
	_, err := parseStrict([]byte(text))
	return err != nil
}

func decode(t *testing.T, data []byte, into any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", data, err))
	}
}

func BenchmarkConceal(b *testing.B) {
	list := `{"images": [` + strings.Repeat(secretImage+", ", 999) + openImage + `]}`
	b.SetBytes(int64(len(list)))
	for b.Loop() {
		if _, err := io.Copy(io.Discard, conceal(strings.NewReader(list), true)); err != nil {
			b.Fatal(err)
		}
	}
}
