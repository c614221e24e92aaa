package main

import (
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"maps"
	"net/http"
	"sync"
	"time"
)

// uploaded sends an image through a proxy and checks what arrived.
func (b *bench) uploaded(p *peer, to *sink, id, project string, size int64, chunked bool) {
	status, err := p.upload(b.data, id, "token-"+project, size, chunked)
	if err != nil || status != http.StatusNoContent {
		b.fail("upload through %s answered %d, %v", p.name, status, err)
		return
	}
	if state, got := to.state(id); state != "active" || got != size {
		b.fail("upload through %s: the image is %s with %d bytes, want active with %d", p.name, state, got, size)
	}
}

// timed returns the processor time that a proxy takes for something, in seconds
// per GiB of size, and its rate in MB/s.
func timed(p *peer, size int64, work func()) (perGiB, rate float64) {
	cpu, begin := p.cpu(), time.Now()
	work()
	wall := time.Since(begin)
	return (p.cpu() - cpu).Seconds() / (float64(size) / gib), float64(size) / 1e6 / wall.Seconds()
}

// signedImage makes an image that takes the data of a size.
func (b *bench) signedImage(to *sink, method string, size int64) (string, error) {
	digests := b.data.digest(size)
	digest := digests.sha256
	if method == "SHA-512" {
		digest = digests.sha512
	}
	properties, err := sign(b.key, method, digest)
	if err != nil {
		return "", err
	}
	return to.create("signed", properties, digests.sha512), nil
}

// bulk is image data: up with a length, up in chunks, down; signed; raw hashes.
func (b *bench) bulk() error {
	file := b.sink.active("off", b.size)
	b.sink.counted()
	var broken int
	err := b.eachRound(0.55, func(round int) error {
		for _, p := range b.proxies {
			cpu, rate := timed(p, b.size, func() { b.uploaded(p, b.sink, b.sink.create("off", nil, nil), "off", b.size, byLength) })
			b.note(s("upload", p.name), cpu)
			b.note(s("upload rate", p.name), rate)
		}
		if err := b.signedRound(); err != nil {
			return err
		}
		for _, p := range b.proxies {
			cpu, _ := timed(p, b.size, func() { b.uploaded(p, b.sink, b.sink.create("off", nil, nil), "off", b.size, byChunked) })
			b.note(s("chunked", p.name), cpu)
		}
		for _, p := range b.proxies {
			cpu, rate := timed(p, b.size, func() {
				if n, err := p.download(file); n != b.size || err != nil {
					b.fail("download through %s: %d bytes, %v; want %d", p.name, n, err, b.size)
				}
			})
			b.note(s("download", p.name), cpu)
			b.note(s("download rate", p.name), rate)
		}
		counts, _ := b.sink.counted()
		broken += counts["broken"] + counts["DELETE"]
		return nil
	})
	if broken > 0 {
		b.fail("%d uploads broke off, or images were deleted, where none should", broken)
	}
	for _, p := range b.proxies {
		b.note(s("memory", p.name), float64(status(p.pids, "RssAnon"))/1024)
	}
	return err
}

// besideUploads does something while the tuned nginx passes uploads on: processors
// share what they work with, and a hash takes longer where the others are busy, as
// they are in an upload.
func (b *bench) besideUploads(do func()) {
	done := make(chan struct{})
	var uploads sync.WaitGroup
	for _, p := range b.proxies {
		if p.name != tuned {
			continue
		}
		uploads.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					b.uploaded(p, b.sink, b.sink.create("off", nil, nil), "off", b.size/4, byLength)
				}
			}
		})
	}
	do()
	close(done)
	uploads.Wait()
}

// signedRound is the part of a round that only Countersign can do.
func (b *bench) signedRound() error {
	p := b.self()
	hashes := map[string]func() hash.Hash{"SHA-256": sha256.New, "SHA-512": sha512.New}
	for _, method := range []string{"SHA-256", "SHA-512"} {
		id, err := b.signedImage(b.sink, method, b.size)
		if err != nil {
			return err
		}
		var raw time.Duration // half of it before, half after: machines change within seconds
		b.besideUploads(func() { raw = rawHash(hashes[method](), b.size/2) })
		cpu, rate := timed(p, b.size, func() { b.uploaded(p, b.sink, id, "signed", b.size, byLength) })
		b.besideUploads(func() { raw += rawHash(hashes[method](), b.size/2) })
		b.note(s("signed "+method, own), cpu)
		b.note(s("signed "+method+" rate", own), rate)
		b.note("raw "+method, raw.Seconds()/(float64(b.size)/gib))
	}

	// The same images: what an upload costs however small its image is shall not count
	// for the number of them.
	const many = 32
	for _, together := range []bool{false, true} {
		var ids [many]string
		for i := range ids {
			var err error
			if ids[i], err = b.signedImage(b.sink, "SHA-256", b.size/many); err != nil {
				return err
			}
		}
		series := "signed, 32 one by one"
		cpu, _ := timed(p, b.size, func() {
			var all sync.WaitGroup
			for _, id := range ids {
				all.Go(func() { b.uploaded(p, b.sink, id, "signed", b.size/many, byLength) })
				if !together {
					all.Wait()
				}
			}
			all.Wait()
		})
		if together {
			series = "signed, 32 at once"
		}
		b.note(series, cpu)
	}
	return nil
}

// throughTLS is the same with TLS on either side.
func (b *bench) throughTLS() error {
	client, err := b.countersign("countersign-tls-client", policy(10), "COUNTERSIGN_TLS_CERT_FILE="+b.tlsFiles[0], "COUNTERSIGN_TLS_KEY_FILE="+b.tlsFiles[1])
	if err != nil {
		return err
	}
	defer client.stop()
	client.tls = true
	glance, err := b.countersign("countersign-tls-glance", policy(10), "COUNTERSIGN_GLANCE_URL=https://"+b.tlsSink.address(), "COUNTERSIGN_GLANCE_CA_FILE="+b.tlsFiles[0])
	if err != nil {
		return err
	}
	defer glance.stop()
	size := min(b.size, gib/2)
	for range 3 {
		for _, side := range []struct {
			name string
			peer *peer
			sink *sink
		}{{"TLS client", client, b.sink}, {"TLS Glance", glance, b.tlsSink}} {
			id, err := b.signedImage(side.sink, "SHA-256", size)
			if err != nil {
				return err
			}
			cpu, _ := timed(side.peer, size, func() { b.uploaded(side.peer, side.sink, id, "signed", size, byLength) })
			b.note("signed, "+side.name, cpu)
			file := side.sink.active("off", size)
			cpu, _ = timed(side.peer, size, func() {
				if n, err := side.peer.download(file); n != size || err != nil {
					b.fail("download with %s: %d bytes, %v; want %d", side.name, n, err, size)
				}
			})
			b.note("download, "+side.name, cpu)
		}
	}
	return nil
}

// upstreamRequests is what one signed upload asks of Glance, in words.
func upstreamRequests(counts map[string]int, uploads int) (total float64, words string) {
	for what, n := range maps.All(counts) {
		total += float64(n) / float64(uploads)
		words += fmt.Sprintf(" %s ×%.1f", what, float64(n)/float64(uploads))
	}
	return total, words
}
