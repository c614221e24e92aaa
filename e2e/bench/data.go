package main

import (
	"bufio"
	"crypto"
	cryptorand "crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

const (
	mib = 1 << 20
	gib = 1 << 30

	// block is what the data files hold, sent again and again: more than the
	// caches of most processors.
	block = 256 * mib
	// chunk is how long a client's chunks are. It divides block.
	chunk = 64 << 10
)

// data is the image data: one block in a file, and the same in chunked framing,
// in memory where the machine has a file system for that.
type data struct {
	plain, chunked *os.File
	framed         int64                // length of chunked
	digests        map[int64]digestPair // by the image's size
}

type digestPair struct{ sha256, sha512 []byte }

func newData(folder string) (*data, error) {
	if _, err := os.Stat("/dev/shm"); err == nil {
		shared, err := os.MkdirTemp("/dev/shm", "countersign-bench")
		if err != nil {
			return nil, err
		}
		defer os.RemoveAll(shared) // the open files stay
		folder = shared
	}
	d := &data{digests: map[int64]digestPair{}}
	var err error
	if d.plain, err = os.Create(filepath.Join(folder, "plain")); err != nil {
		return nil, err
	}
	if d.chunked, err = os.Create(filepath.Join(folder, "chunked")); err != nil {
		return nil, err
	}
	plain, chunked := bufio.NewWriterSize(d.plain, mib), bufio.NewWriterSize(d.chunked, mib)
	source := rand.NewChaCha8([32]byte{1})
	piece := make([]byte, chunk)
	for range block / chunk {
		source.Read(piece)
		plain.Write(piece)
		n, _ := fmt.Fprintf(chunked, "%x\r\n%s\r\n", chunk, piece)
		d.framed += int64(n)
	}
	if err := plain.Flush(); err != nil {
		return nil, err
	}
	return d, chunked.Flush()
}

// reader reads an image of some size: the block, repeated.
func (d *data) reader(size int64) io.Reader {
	var parts []io.Reader
	for left := size; left > 0; left -= block {
		parts = append(parts, io.NewSectionReader(d.plain, 0, min(left, block)))
	}
	return io.MultiReader(parts...)
}

// digest is computed once for a size.
func (d *data) digest(size int64) digestPair {
	if pair, ok := d.digests[size]; ok {
		return pair
	}
	h256, h512 := sha256.New(), sha512.New()
	io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(h256, h512)}, d.reader(size), make([]byte, mib))
	d.digests[size] = digestPair{h256.Sum(nil), h512.Sum(nil)}
	return d.digests[size]
}

// sha256Of is digest without SHA-512, for what is too long to hash twice.
func (d *data) sha256Of(size int64) []byte {
	if pair, ok := d.digests[size]; ok {
		return pair.sha256
	}
	h := sha256.New()
	io.CopyBuffer(struct{ io.Writer }{h}, d.reader(size), make([]byte, mib))
	d.digests[size] = digestPair{sha256: h.Sum(nil)}
	return h.Sum(nil)
}

// certificateID is where the key manager has the signer's certificate. So it
// has it under every other id.
const certificateID = "cd7cc675-e573-419c-8fff-33a72734a243"

// sign returns the four properties for a digest.
func sign(key *rsa.PrivateKey, method string, digest []byte) (map[string]string, error) {
	kind := map[string]crypto.Hash{"SHA-256": crypto.SHA256, "SHA-512": crypto.SHA512}[method]
	longest := key.Size() - 2 - kind.Size()
	signature, err := rsa.SignPSS(cryptorand.Reader, key, kind, digest, &rsa.PSSOptions{SaltLength: longest})
	if err != nil {
		return nil, err
	}
	return map[string]string{
		"img_signature":                  base64.StdEncoding.EncodeToString(signature),
		"img_signature_hash_method":      method,
		"img_signature_key_type":         "RSA-PSS",
		"img_signature_certificate_uuid": certificateID,
	}, nil
}

// rawHash is what it costs a thread to hash so many bytes, and nothing else.
func rawHash(h hash.Hash, size int64) time.Duration {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	buffer := make([]byte, mib)
	rand.NewChaCha8([32]byte{2}).Read(buffer)
	before := ownCPU()
	for range size / mib {
		h.Write(buffer)
	}
	_ = hex.EncodeToString(h.Sum(nil))
	return ownCPU() - before
}
