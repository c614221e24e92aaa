package main

import "encoding/hex"

// largeDigests are the SHA-256 of data that takes minutes to hash, by its size in
// GiB. One that is wrong is a signature that is: the upload is refused.
var largeDigests = map[int64]string{}

func largeDigest(d *data, size int64) []byte {
	if digest, err := hex.DecodeString(largeDigests[size]); err == nil && len(digest) > 0 {
		return digest
	}
	return d.sha256Of(size * gib)
}
