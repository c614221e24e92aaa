package certcache_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/countersign/countersign/certcache"
)

// folder returns a directory that holds the certificate text under uuid.
func folder(t *testing.T, text []byte) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "certificates")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, uuid+".pem"), text)
	return dir
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestDirectory(t *testing.T) {
	first, second := []byte("first"), []byte("second")
	dir := folder(t, first)
	src := certcache.NewDirectory(dir)
	read := func(id string) (string, error) {
		c, err := src.Certificate(t.Context(), certcache.Ref{Owner: ownerA, ID: id})
		return string(c.Data), err
	}
	if got, err := read(uuid); err != nil || got != "first" {
		t.Errorf("Certificate = %q, %v, want first", got, err)
	}
	if _, err := read(missing); class(err) != "not found" {
		t.Errorf("of an id without a file: %v, want not found", err)
	}

	write(t, filepath.Join(dir, uuid+".pem"), second)
	if got, err := read(uuid); err != nil || got != "second" {
		t.Errorf("after a change: Certificate = %q, %v, want second", got, err)
	}
	write(t, filepath.Join(dir, missing+".pem"), first)
	if got, err := read(missing); err != nil || got != "first" {
		t.Errorf("after it was added: Certificate = %q, %v, want first", got, err)
	}
	if err := os.Remove(filepath.Join(dir, uuid+".pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := read(uuid); class(err) != "not found" {
		t.Errorf("after it was removed: %v, want not found", err)
	}

	// The directory as a whole: gone, then another in its place.
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	if _, err := read(missing); class(err) != "unavailable" {
		t.Errorf("without the directory: %v, want unavailable", err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, uuid+".pem"), second)
	if got, err := read(uuid); err != nil || got != "second" {
		t.Errorf("in the new directory: Certificate = %q, %v, want second", got, err)
	}
}

func TestDirectoryRefusals(t *testing.T) {
	name := uuid + ".pem"
	for _, tt := range []struct {
		name string
		make func(dir string) error // puts something in the place of the file
		want string
		says string
	}{
		{"of 64 KiB", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte("x"), 64<<10), 0o644)
		}, "ok", ""},
		{"larger", func(dir string) error {
			return os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte("x"), 64<<10+1), 0o644)
		}, "not a certificate", "larger than 65536"},
		{"empty", func(dir string) error { return os.WriteFile(filepath.Join(dir, name), nil, 0o644) }, "not a certificate", "empty"},
		{"a directory", func(dir string) error { return os.Mkdir(filepath.Join(dir, name), 0o755) }, "not a certificate", "regular"},
		{"a named pipe", func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, name), 0o644) }, "not a certificate", "regular"},
		{"a link to another file in it", func(dir string) error {
			if err := os.WriteFile(filepath.Join(dir, "other"), []byte("x"), 0o644); err != nil {
				return err
			}
			return os.Symlink("other", filepath.Join(dir, name))
		}, "ok", ""},
		// As Kubernetes mounts a ConfigMap.
		{"a link through a linked directory in it", func(dir string) error {
			if err := os.Mkdir(filepath.Join(dir, "..2026_11_22"), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, "..2026_11_22", name), []byte("x"), 0o644); err != nil {
				return err
			}
			if err := os.Symlink("..2026_11_22", filepath.Join(dir, "..data")); err != nil {
				return err
			}
			return os.Symlink(filepath.Join("..data", name), filepath.Join(dir, name))
		}, "ok", ""},
		{"a relative link out of it", func(dir string) error { return os.Symlink("../outside.pem", filepath.Join(dir, name)) }, "unavailable", "escapes"},
		{"an absolute link out of it", func(dir string) error {
			return os.Symlink(filepath.Join(filepath.Dir(dir), "outside.pem"), filepath.Join(dir, name))
		}, "unavailable", "escapes"},
		{"an absolute link into it", func(dir string) error {
			if err := os.WriteFile(filepath.Join(dir, "other"), []byte("x"), 0o644); err != nil {
				return err
			}
			return os.Symlink(filepath.Join(dir, "other"), filepath.Join(dir, name))
		}, "unavailable", "escapes"},
		{"a link out of it through a directory", func(dir string) error {
			if err := os.Symlink("..", filepath.Join(dir, "up")); err != nil {
				return err
			}
			return os.Symlink("up/outside.pem", filepath.Join(dir, name))
		}, "unavailable", "escapes"},
		{"a link to itself", func(dir string) error { return os.Symlink(name, filepath.Join(dir, name)) }, "unavailable", ""},
		{"a link to nothing", func(dir string) error { return os.Symlink("nothing", filepath.Join(dir, name)) }, "not found", ""},
	} {
		dir := folder(t, nil)
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "..", "outside.pem"), []byte("not to be read"))
		if err := tt.make(dir); err != nil {
			t.Fatal(err)
		}
		c, err := certcache.NewDirectory(dir).Certificate(t.Context(), certcache.Ref{ID: uuid})
		if got := class(err); got != tt.want || bytes.Contains(c.Data, []byte("not to be read")) {
			t.Errorf("%s: Certificate = %q, %s (%v), want %s", tt.name, c.Data, got, err, tt.want)
		}
		if err != nil && !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: the error %q does not say %q", tt.name, err, tt.says)
		}
	}
}

// The path to the directory itself may be a link: that is the operator's choice.
func TestDirectoryIsALink(t *testing.T) {
	dir := folder(t, []byte("x"))
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if _, err := certcache.NewDirectory(link).Certificate(t.Context(), certcache.Ref{ID: uuid}); err != nil {
		t.Errorf("Certificate = %v", err)
	}
}

func TestDirectoryCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := certcache.NewDirectory(folder(t, []byte("x"))).Certificate(ctx, certcache.Ref{ID: uuid})
	if class(err) != "unavailable" || !errors.Is(err, context.Canceled) {
		t.Errorf("Certificate = %v, want unavailable, cancelled", err)
	}
}

func TestDirectoryStore(t *testing.T) {
	dir := folder(t, []byte("first"))
	d := certcache.NewDirectory(dir)
	if err := d.Store(missing, []byte("second")); err != nil {
		t.Fatal(err)
	}
	if c, err := d.Certificate(t.Context(), certcache.Ref{ID: missing}); err != nil || string(c.Data) != "second" {
		t.Errorf("stored and read: %q, %v", c.Data, err)
	}
	if err := d.Store(uuid, []byte("second")); !errors.Is(err, os.ErrExist) {
		t.Errorf("Store over another's file = %v", err)
	}
	if err := d.Store("../"+uuid[3:], []byte("x")); class(err) != "not a certificate" {
		t.Errorf("Store under a path = %v", err)
	}
	if c, _ := d.Certificate(t.Context(), certcache.Ref{ID: uuid}); string(c.Data) != "first" {
		t.Errorf("the other's file is now %q", c.Data)
	}
}
