package certcache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// maxFile bounds a certificate's file. A certificate with its chain takes a few kB.
const maxFile = 64 << 10

// A Directory is the Source of sites that have no key manager: a folder of files UUID.pem, each an X.509 certificate in
// PEM or DER. It asks nobody who may read what: whoever may upload may name any certificate in it.
//
// Files are opened anew for each certificate, so that what was added, changed or removed is seen, and so is a directory
// that was replaced as a whole. Symbolic links are followed as long as they stay inside, as a mounted ConfigMap's do.
type Directory struct{ path string }

// NewDirectory returns a Directory. It does not look into it.
func NewDirectory(path string) *Directory { return &Directory{path} }

// Certificate reads the file of that ID. A file that is not there is ErrNotFound; a directory that is not there, or a file
// that this process may not read, is an *UnavailableError.
func (d *Directory) Certificate(ctx context.Context, ref Ref) (Certificate, error) {
	if !canonical(ref.ID) {
		return Certificate{}, errID()
	}
	if err := ctx.Err(); err != nil {
		return Certificate{}, &UnavailableError{Err: err}
	}
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return Certificate{}, &UnavailableError{Err: err}
	}
	defer root.Close()
	// Not blocking: opening a named pipe would wait for somebody to write into it.
	file, err := root.OpenFile(ref.ID+".pem", os.O_RDONLY|syscall.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return Certificate{}, ErrNotFound
	case err != nil:
		return Certificate{}, &UnavailableError{Err: err}
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return Certificate{}, &UnavailableError{Err: err}
	case !info.Mode().IsRegular():
		return Certificate{}, &NotCertificateError{Problem: "it is no regular file"}
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1)) // the file may grow while it is read
	switch {
	case err != nil:
		return Certificate{}, &UnavailableError{Err: err}
	case len(data) == 0:
		return Certificate{}, &NotCertificateError{Problem: "its file is empty"}
	case len(data) > maxFile:
		return Certificate{}, &NotCertificateError{Problem: fmt.Sprintf("its file is larger than %d bytes", maxFile)}
	}
	return Certificate{Data: data}, nil
}

// Store writes the file of that ID, which must not be there yet.
func (d *Directory) Store(id string, data []byte) error {
	if !canonical(id) {
		return errID()
	}
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return err
	}
	defer root.Close()
	file, err := root.OpenFile(id+".pem", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	_, err = file.Write(data)
	if err = errors.Join(err, file.Close()); err != nil {
		return errors.Join(err, root.Remove(id+".pem"))
	}
	return nil
}
