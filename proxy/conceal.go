package proxy

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

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

	out     []byte // to be handed on from next
	next    int
	err     error  // sticky, once all of out is gone
	scratch []byte // for the member that is being read

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
	for c.next == len(c.out) {
		if c.err != nil {
			return 0, c.err
		}
		c.out, c.next = c.out[:0], 0
		for len(c.out) < len(p) && c.err == nil {
			if c.image != nil {
				c.err = c.member()
			} else {
				c.err = c.around()
			}
		}
		if c.err == io.EOF && (c.depth > 0 || c.image != nil) {
			c.err = io.ErrUnexpectedEOF
		}
	}
	n := copy(p, c.out[c.next:])
	c.next += n
	return n, nil
}

// around reads on to the next image.
func (c *concealer) around() error {
	const atOnce = 512
	var q quotes
	for read := 0; read < atOnce || q.open; read++ {
		b, err := c.src.ReadByte()
		if err != nil {
			return err
		}
		if c.out = append(c.out, b); read > maxMember {
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
	// What stands before the key: blanks, and a comma if it is not the first.
	gap, last, err := c.until(c.scratch[:0], `"}`)
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
	begin := len(gap)
	member, _, err := c.until(append(gap, '"'), ":")
	if err != nil {
		return err
	}
	colon := len(member)
	if member, _, err = c.until(member, ",}"); err != nil {
		return err
	}
	c.scratch = member
	name, value := nameOf(member[begin:colon]), bytes.TrimPrefix(member[colon:], []byte{':'})
	gap, member = member[:begin], member[begin:]
	switch name {
	case "owner":
		c.image.owner = text(value)
	case "visibility":
		c.image.visibility = text(value)
	case "direct_url", "locations":
		if c.image.owner == nil || c.image.visibility == nil {
			c.image.held = append(c.image.held, bytes.Clone(bytes.TrimSpace(member)))
			return nil
		}
		if c.image.secret(c.secret) {
			return nil
		}
	}
	c.write(gap, member)
	return nil
}

// nameOf is a member's name if it is one of those that matter, or else anything.
func nameOf(key []byte) (name string) {
	key = bytes.TrimSpace(key)
	if bytes.IndexByte(key, '\\') < 0 {
		switch string(key) {
		case `"owner"`, `"visibility"`, `"direct_url"`, `"locations"`:
			return string(key[1 : len(key)-1])
		}
		return ""
	}
	json.Unmarshal(key, &name) // what is no text is no name
	return name
}

func (i *concealed) secret(judge func(string, policy.Visibility) bool) bool {
	return i.owner == nil || i.visibility == nil || judge(*i.owner, policy.Visibility(*i.visibility))
}

// write adds a member, with the gap that stood before it.
func (c *concealer) write(gap, member []byte) {
	comma := bytes.IndexByte(gap, ',') >= 0
	switch {
	case !c.image.begun && comma:
		gap = bytes.ReplaceAll(gap, []byte{','}, nil)
	case c.image.begun && !comma:
		c.out = append(c.out, ',')
	}
	c.image.begun = true
	c.out = append(append(c.out, gap...), member...)
}

// until appends to data all that comes before one of the bytes in ends that
// stands outside of brackets and quotes. That byte is read on only where it is a
// closing bracket, or the quote of a key.
func (c *concealer) until(data []byte, ends string) (read []byte, end byte, err error) {
	q := quotes{open: ends == ":"} // the key's first quote is there already
	depth, limit := 0, len(data)+maxMember
	for {
		b, err := c.src.ReadByte()
		switch {
		case err != nil:
			return nil, 0, err
		case len(data) > limit:
			return nil, 0, errMember
		case !q.open && depth == 0 && strings.IndexByte(ends, b) >= 0:
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
