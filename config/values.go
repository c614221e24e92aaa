package config

import (
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// parsers replace env's own, whose errors repeat the value and do not say
// what is expected.
var parsers = map[reflect.Type]env.ParserFunc{
	reflect.TypeFor[url.URL]():       func(s string) (any, error) { return parseURL(s) },
	reflect.TypeFor[time.Duration](): func(s string) (any, error) { return parseDuration(s) },
	reflect.TypeFor[int]():           func(s string) (any, error) { return parseInt(s) },
	reflect.TypeFor[bool]():          func(s string) (any, error) { return parseBool(s) },
}

// parseURL takes an absolute http or https URL. The errors never repeat the
// value: what is refused may hold a password.
func parseURL(s string) (url.URL, error) {
	u, err := url.Parse(strings.TrimSpace(s))
	switch {
	case err != nil:
		return url.URL{}, errors.New("is not a URL; expected something like https://host:port/prefix")
	case u.Scheme != "http" && u.Scheme != "https":
		return url.URL{}, errors.New("does not begin with http:// or https://")
	case u.Hostname() == "":
		return url.URL{}, errors.New("names no host; expected something like https://host:port/prefix")
	case u.User != nil:
		return url.URL{}, errors.New("holds a user name; leave it out, credentials have variables of their own")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "" || strings.HasSuffix(s, "#"):
		return url.URL{}, errors.New("holds a query or a fragment; leave it out")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return url.URL{}, errors.New("names a port that is none; expected 1 to 65535")
		}
	}
	// A path that reads differently when cleaned or decoded would be one
	// thing here and another at the server.
	u.Path = strings.TrimRight(u.Path, "/")
	if u.RawPath != "" || strings.Contains(u.Path+"/", "/../") || strings.Contains(u.Path+"/", "/./") || strings.Contains(u.Path, "//") {
		return url.URL{}, errors.New("has a path with '..', '.', '//' or an encoded slash; write it plainly")
	}
	return *u, nil
}

func parseDuration(s string) (time.Duration, error) {
	d, err := time.ParseDuration(strings.TrimSpace(s))
	if err != nil {
		return 0, fmt.Errorf("%q is not a duration; expected a number with a unit, such as 500ms, 30s, 10m or 1h", s)
	}
	return d, nil
}

func parseInt(s string) (int, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number", s)
	}
	return int(n), nil
}

func parseBool(s string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(s)) {
	default:
		return false, fmt.Errorf("%q is neither yes nor no", s)
	case "yes", "true":
		return true, nil
	case "no", "false":
		return false, nil
	}
}

// Bytes is a size, written as a number of bytes or with KiB or MiB.
type Bytes int64

// UnmarshalText reads what String writes, and plain numbers.
func (b *Bytes) UnmarshalText(text []byte) error {
	s := strings.TrimSpace(string(text))
	unit := int64(1)
	for suffix, size := range map[string]int64{"KiB": 1 << 10, "MiB": 1 << 20} {
		if digits, found := strings.CutSuffix(s, suffix); found {
			s, unit = strings.TrimSpace(digits), size
		}
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 0 {
		return fmt.Errorf("%q is not a size; expected bytes, or a number with KiB or MiB, such as 512KiB", text)
	}
	*b = Bytes(n * unit)
	return nil
}

// String uses the largest unit that divides the size.
func (b Bytes) String() string {
	switch {
	case b != 0 && b%(1<<20) == 0:
		return fmt.Sprintf("%dMiB", b>>20)
	case b != 0 && b%(1<<10) == 0:
		return fmt.Sprintf("%dKiB", b>>10)
	}
	return strconv.FormatInt(int64(b), 10)
}
