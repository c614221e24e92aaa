package proxy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/countersign/countersign/policy"
)

// concealer passes an answer with images on, byte for byte, but for the members
// direct_url and locations of the images that are secret. It reads a single
// image, or a list of images:
//
//	{"images": [ {image}, {image} ], "first": …}
//
// However long the answer is, it holds one member of one image at a time. Whether
// an image is secret is known when its owner and its visibility have gone by,
// which Glance writes first; a direct_url or locations that comes before them is
// held back until the end of the image. An image that lacks one is secret.
//
// Only brackets, quotes and separators are looked at: what Glance writes is JSON.
type concealer struct {
	io.Closer
	src    *bufio.Reader
	secret func(owner string, visibility policy.Visibility) bool
	list   bool

	out []byte // to be handed on
	err error  // sticky, once out is empty

	open  []byte // the brackets that are open around images, two at most
	depth int    // how many there really are
	image *concealed
}

// concealed is what is known of the image that is being read.
type concealed struct {
	owner, visibility *string // nil: not seen
	held              [][]byte
	begun             bool // a member was written
}

// maxMember bounds, in bytes, a member of an image. Glance's longest is a
// property, whose value takes 64 KiB in its database.
const maxMember = 4 << 20

func newConcealer(src io.ReadCloser, list bool, secret func(string, policy.Visibility) bool) *concealer {
	return &concealer{Closer: src, src: bufio.NewReaderSize(src, 32<<10), secret: secret, list: list}
}

// Read implements io.Reader.
func (c *concealer) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(c.out) == 0 {
		if c.err != nil {
			return 0, c.err
		}
		if c.image != nil {
			c.err = c.member()
		} else {
			c.err = c.around()
		}
		if c.err == io.EOF && (c.depth > 0 || c.image != nil) {
			c.err = io.ErrUnexpectedEOF
		}
	}
	n := copy(p, c.out)
	c.out = c.out[n:]
	return n, nil
}

// around reads on to the next image.
func (c *concealer) around() error {
	c.out = make([]byte, 0, 512)
	var q quotes
	for len(c.out) < cap(c.out) || q.open {
		b, err := c.src.ReadByte()
		if err != nil {
			return err
		}
		if c.out = append(c.out, b); len(c.out) > maxMember {
			return errMember
		}
		switch {
		case q.within(b):
		case b == '{' && (!c.list && c.depth == 0 || c.list && c.depth == 2 && string(c.open) == "{["):
			c.image = new(concealed)
			return nil
		case b == '{' || b == '[':
			if c.depth++; c.depth <= 2 {
				c.open = append(c.open, b)
			}
		case b == '}' || b == ']':
			if c.depth--; c.depth < 0 {
				return errUnbalanced
			}
			c.open = c.open[:min(len(c.open), c.depth)]
		}
	}
	return nil
}

// member reads one member of an image, or what is left behind the last one.
func (c *concealer) member() error {
	c.out = nil
	// What stands before the key: blanks, and a comma if it is not the first.
	gap, last, err := c.until(nil, `"}`)
	if err != nil {
		return err
	}
	if last == '}' {
		if !c.image.secret(c.secret) {
			for _, member := range c.image.held {
				c.write([]byte(", "), member)
			}
		}
		c.out = append(append(c.out, gap...), '}')
		c.image = nil
		return nil
	}
	member, _, err := c.until([]byte{'"'}, ":")
	if err != nil {
		return err
	}
	key := len(member)
	var name string
	json.Unmarshal(member, &name) // what is no text is no name of ours
	if member, _, err = c.until(member, ",}"); err != nil {
		return err
	}
	value := bytes.TrimPrefix(member[key:], []byte{':'})
	switch name {
	case "owner":
		c.image.owner = text(value)
	case "visibility":
		c.image.visibility = text(value)
	case "direct_url", "locations":
		if c.image.owner == nil || c.image.visibility == nil {
			c.image.held = append(c.image.held, bytes.TrimSpace(member))
			return nil
		}
		if c.image.secret(c.secret) {
			return nil
		}
	}
	c.write(gap, member)
	return nil
}

func (i *concealed) secret(judge func(string, policy.Visibility) bool) bool {
	return i.owner == nil || i.visibility == nil || judge(*i.owner, policy.Visibility(*i.visibility))
}

// write adds a member, with the gap that stood before it.
func (c *concealer) write(gap, member []byte) {
	if !c.image.begun {
		gap = bytes.ReplaceAll(gap, []byte{','}, nil)
	} else if !bytes.Contains(gap, []byte{','}) {
		gap = append([]byte{','}, gap...)
	}
	c.image.begun = true
	c.out = append(append(c.out, gap...), member...)
}

// until appends to data all that comes before one of the bytes in ends that
// stands outside of brackets and quotes. That byte is read on only where it is a
// closing bracket, or the quote of a key.
func (c *concealer) until(data []byte, ends string) (read []byte, end byte, err error) {
	var q quotes
	depth := 0
	if len(data) > 0 {
		q.open = data[0] == '"' && ends == ":"
	}
	for {
		b, err := c.src.ReadByte()
		switch {
		case err != nil:
			return nil, 0, err
		case len(data) > maxMember:
			return nil, 0, errMember
		case !q.open && depth == 0 && bytes.IndexByte([]byte(ends), b) >= 0:
			if b != '"' && (b != '}' || ends != `"}`) {
				c.src.UnreadByte() // cannot fail: it was just read
			}
			return data, b, nil
		case q.within(b):
		case b == '{' || b == '[':
			depth++
		case b == '}' || b == ']':
			if depth--; depth < 0 {
				return nil, 0, errUnbalanced
			}
		}
		data = append(data, b)
	}
}

// quotes follows texts in quotes.
type quotes struct{ open, escape bool }

// within reports whether a byte belongs to such a text.
func (q *quotes) within(b byte) bool {
	switch {
	case q.escape:
		q.escape = false
	case q.open && b == '\\':
		q.escape = true
	case b == '"':
		q.open = !q.open
	case !q.open:
		return false
	}
	return true
}

// text is a value that is a text, or nil. Null counts as an empty one.
func text(value []byte) *string {
	var s *string
	switch err := json.Unmarshal(value, &s); {
	case err != nil:
		return nil
	case s == nil:
		return new(string)
	}
	return s
}

var (
	errMember     = fmt.Errorf("an image as Glance shows it: a member of more than %d bytes", maxMember)
	errUnbalanced = fmt.Errorf("images as Glance shows them: brackets that do not match")
)
