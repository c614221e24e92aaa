package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// small is GET of an image, which is most of what passes.
func (b *bench) small() error {
	id := b.sink.active("off", 1)
	path := "/v2/images/" + id
	b.sink.mu.Lock()
	img := b.sink.images[id]
	b.sink.mu.Unlock()
	length := int64(len(b.sink.show(img)))
	straight := &peer{name: direct, address: b.sink.address()}
	const second = 700 * time.Millisecond
	for _, p := range b.proxies { // warm
		if _, err := p.getAll(path, 32, length, second/4); err != nil {
			return err
		}
	}
	return b.eachRound(0.4, func(int) error {
		found, err := straight.getAll(path, 1, length, second)
		if err != nil {
			return err
		}
		b.note(s("p50 1", direct), float64(found.p50.Nanoseconds())/1e3)
		for _, clients := range []int{1, 32} {
			for _, p := range b.proxies {
				cpu := p.cpu()
				found, err := p.getAll(path, clients, length, second)
				if err != nil {
					b.fail("%v", err)
					continue
				}
				each := float64((p.cpu() - cpu).Microseconds()) / float64(found.requests)
				b.note(s(fmt.Sprintf("get %d", clients), p.name), each)
				b.note(s(fmt.Sprintf("get rate %d", clients), p.name), float64(found.requests)/found.wall.Seconds())
				b.note(s(fmt.Sprintf("p50 %d", clients), p.name), float64(found.p50.Nanoseconds())/1e3)
			}
		}
		return nil
	})
}

// little is an image small enough to be sent in one piece.
type little struct {
	data       []byte
	properties map[string]string
	sha512     []byte
}

func (b *bench) little(size int) (little, error) {
	l := little{data: make([]byte, size)}
	if _, err := b.data.plain.ReadAt(l.data, 0); err != nil {
		return l, err
	}
	digest, other := sha256.Sum256(l.data), sha512.Sum512(l.data)
	var err error
	l.properties, err = sign(b.key, "SHA-256", digest[:])
	l.sha512 = other[:]
	return l, err
}

// put uploads it over a kept connection; certificate may name another id of the
// same certificate.
func (b *bench) put(s *session, l little, certificate string) error {
	properties := l.properties
	if certificate != "" {
		properties = map[string]string{}
		for name, value := range l.properties {
			properties[name] = value
		}
		properties["img_signature_certificate_uuid"] = certificate
	}
	id := b.sink.create("signed", properties, l.sha512)
	status, _, err := s.ask(append([]byte(uploadHead(id, "token-signed", int64(len(l.data)), byLength)), l.data...))
	if err != nil || status != http.StatusNoContent {
		return fmt.Errorf("small upload answered %d, %v", status, err)
	}
	if state, n := b.sink.state(id); state != "active" || n != int64(len(l.data)) {
		return fmt.Errorf("small upload: the image is %s with %d bytes", state, n)
	}
	b.sink.mu.Lock()
	delete(b.sink.images, id)
	b.sink.mu.Unlock()
	return nil
}

// scale is what many rules and many certificates cost a request, and what a
// small signed upload does.
func (b *bench) scale() error {
	few, err := b.countersign("countersign-few", policy(10))
	if err != nil {
		return err
	}
	defer few.stop()
	rules, err := b.countersign("countersign-rules", policy(100_000))
	if err != nil {
		return err
	}
	defer rules.stop()
	const many = 10_000
	certificates, err := b.countersign("countersign-certificates", policy(10), fmt.Sprintf("COUNTERSIGN_CERTIFICATE_CACHE_SIZE=%d", 2*many))
	if err != nil {
		return err
	}
	defer certificates.stop()
	image, err := b.little(1024)
	if err != nil {
		return err
	}
	certificate := func(i int) string { return fmt.Sprintf("cd7cc675-e573-419c-8fff-%012x", i) }
	usual := func(int) string { return "" }
	for _, p := range []*peer{few, rules, certificates} {
		if err := b.putAll(p, image, 200, usual); err != nil {
			return err
		}
	}
	if err := b.putAll(certificates, image, many, certificate); err != nil {
		return err
	}
	const each = 400
	next := 0
	err = b.eachRound(0.5, func(int) error {
		next += each
		scattered := func(i int) string { return certificate((next + i) * 7919 % many) } // prime to many: far from the last
		for _, one := range []struct {
			series      string
			peer        *peer
			certificate func(int) string
		}{{"rules, 10", few, usual}, {"rules, 100 000", rules, usual}, {"certificates, 10 000", certificates, scattered}} {
			cpu := one.peer.cpu()
			if err := b.putAll(one.peer, image, each, one.certificate); err != nil {
				return err
			}
			b.note(one.series, float64((one.peer.cpu()-cpu).Microseconds())/each)
		}
		return nil
	})
	if err != nil {
		return err
	}
	s, err := few.session()
	if err != nil {
		return err
	}
	defer s.conn.Close()
	return b.littleUploads(few, s)
}

// putAll uploads an image so many times, over a few connections at once.
func (b *bench) putAll(p *peer, image little, times int, certificate func(i int) string) error {
	const clients = 16
	failed := make(chan error, clients)
	for client := range clients {
		go func() { // ends with its share
			s, err := p.session()
			if err == nil {
				defer s.conn.Close()
			}
			for i := client; i < times && err == nil; i += clients {
				err = b.put(s, image, certificate(i))
			}
			failed <- err
		}()
	}
	var err error
	for range clients {
		if one := <-failed; one != nil {
			err = one
		}
	}
	return err
}

// littleUploads is warm signed uploads of 64 KiB.
func (b *bench) littleUploads(p *peer, s *session) error {
	image, err := b.little(64 << 10)
	if err != nil {
		return err
	}
	const each = 100
	b.sink.counted()
	for round := range 3 {
		cpu := p.cpu()
		var walls []float64
		for range each {
			begin := time.Now()
			if err := b.put(s, image, ""); err != nil {
				return err
			}
			walls = append(walls, float64(time.Since(begin).Microseconds()))
		}
		b.note("signed 64 KiB", float64((p.cpu()-cpu).Microseconds())/each)
		b.note("signed 64 KiB, wall", median(walls))
		counts, _ := b.sink.counted()
		total, words := upstreamRequests(counts, each)
		b.note("upstream requests", total)
		if round == 0 {
			fmt.Fprintln(os.Stderr, "  a signed upload asks Glance:"+words)
		}
	}
	return nil
}

// refusals is how long, and how much, a refusal takes.
func (b *bench) refusals() error {
	p := b.self()
	image, err := b.little(mib)
	if err != nil {
		return err
	}
	b.sink.counted()
	const tries = 15
	for range tries {
		if err := b.wrongSignature(p, image); err != nil {
			b.fail("wrong signature: %v", err)
		}
	}
	if counts, _ := b.sink.counted(); counts["DELETE"] != tries {
		b.fail("%d wrong signatures were followed by %d DELETEs", tries, counts["DELETE"])
	}

	// One that lingers for nobody, so that what it reads is read before the answer.
	hasty, err := b.countersign("countersign-hasty", policy(10), "COUNTERSIGN_LINGER_TIMEOUT=1ns")
	if err != nil {
		return err
	}
	defer hasty.stop()
	for range 3 {
		n, err := b.refused(hasty, "Expect: 100-continue\r\n")
		if err != nil {
			b.fail("refused with Expect: %v", err)
		}
		b.note("refused, Expect", n)
		if n, err = b.refused(hasty, ""); err != nil {
			b.fail("refused: %v", err)
		}
		b.note("refused", n)
	}
	return nil
}

// wrongSignature sends all but a byte, then that, and waits for the answer.
func (b *bench) wrongSignature(p *peer, image little) error {
	id := b.sink.create("signed", image.properties, nil)
	s, err := p.session()
	if err != nil {
		return err
	}
	defer s.conn.Close()
	last := len(image.data) - 1
	if _, err := io.WriteString(s.conn, uploadHead(id, "token-signed", int64(len(image.data)), byLength)); err != nil {
		return err
	}
	if _, err := s.conn.Write(image.data[:last]); err != nil {
		return err
	}
	time.Sleep(20 * time.Millisecond) // until all of it has gone on
	begin := time.Now()
	if _, err := s.conn.Write([]byte{image.data[last] ^ 1}); err != nil {
		return err
	}
	status, _, err := s.answer()
	took := time.Since(begin)
	state, _ := b.sink.state(id)
	if err != nil || status != http.StatusBadRequest || state != "gone" {
		return fmt.Errorf("answered %d, %v, and the image is %s", status, err, state)
	}
	b.note("wrong signature", float64(took.Microseconds())/1e3)
	return nil
}

// refused sends an upload that has no signature, and tells how many bytes of its
// body were read before the answer was sent.
func (b *bench) refused(p *peer, line string) (float64, error) {
	id := b.sink.create("signed", nil, nil)
	conn, err := p.dial()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	head := uploadHead(id, "token-signed", gib, byLength, line)
	read := bytesRead(p.pids)
	if _, err := io.WriteString(conn, head); err != nil {
		return 0, err
	}
	if line == "" { // who waits for 100 Continue sends nothing before it
		go sendFile(conn, b.data.plain, block, gib) // ends with the connection
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	text, _ := io.ReadAll(answer.Body)
	if answer.StatusCode/100 != 4 || !strings.Contains(string(text), "signature_required") {
		return 0, fmt.Errorf("answered %d %s", answer.StatusCode, text)
	}
	if line != "" {
		return 0, nil // 100 Continue would have come first
	}
	// Glance's word about the image, and the head, were read as well.
	return float64(max(0, bytesRead(p.pids)-read-int64(len(head))-4<<10)), nil
}

// memory is what slow uploads and idle clients hold.
func (b *bench) memory() error {
	for _, project := range []string{"off", "signed"} {
		what := map[string]string{"off": "unsigned", "signed": "signed"}[project]
		for range 3 {
			p, err := b.countersign("countersign-memory", policy(10))
			if err != nil {
				return err
			}
			base, err := b.settled(p)
			if err == nil {
				b.note("slow "+what+", fresh", b.slow(p, project, base))
				b.fast(p, project)
				b.note("slow "+what+", after fast", b.slow(p, project, base))
			}
			p.stop()
			if err != nil {
				return err
			}
		}
	}
	for _, p := range b.proxies {
		if err := b.idle(p); err != nil {
			b.fail("idle clients of %s: %v", p.name, err)
		}
	}
	return nil
}

// settled is what a proxy holds after a first few requests, in KiB.
func (b *bench) settled(p *peer) (int64, error) {
	for _, project := range []string{"off", "signed"} {
		id := b.sink.create("off", nil, nil)
		if project == "signed" {
			var err error
			if id, err = b.signedImage(b.sink, "SHA-256", mib); err != nil {
				return 0, err
			}
		}
		b.uploaded(p, b.sink, id, project, mib, byLength)
	}
	return status(p.pids, "RssAnon"), nil
}

// slow has 200 clients send 64 KiB a second each, and returns what each holds.
func (b *bench) slow(p *peer, project string, base int64) float64 {
	const clients, pieces = 200, 10
	size := int64(64 * mib)
	piece := make([]byte, 64<<10/pieces)
	ctx, stop := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for range clients {
		id := b.sink.create("off", nil, nil)
		if project == "signed" {
			id, _ = b.signedImage(b.sink, "SHA-256", size)
		}
		all.Go(func() {
			conn, err := p.dial()
			if err != nil {
				return
			}
			defer conn.Close()
			io.WriteString(conn, uploadHead(id, "token-"+project, size, byLength))
			for tick := time.NewTicker(time.Second / pieces); ctx.Err() == nil; <-tick.C {
				conn.Write(piece)
			}
		})
	}
	for range 200 { // until all are under way
		if b.sink.saving() == clients {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(2 * time.Second)
	held := status(p.pids, "RssAnon")
	if got := b.sink.saving(); got != clients {
		b.fail("%d slow uploads of %d are under way", got, clients)
	}
	stop()
	all.Wait()
	for b.sink.saving() > 0 {
		time.Sleep(20 * time.Millisecond)
	}
	return float64(held-base) / clients
}

// saving is how many uploads are under way.
func (s *sink) saving() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, img := range s.images {
		if img.status == "saving" {
			n++
		}
	}
	return n
}

// fast sends 32 images at once.
func (b *bench) fast(p *peer, project string) {
	const clients, size = 32, 64 * mib
	var all sync.WaitGroup
	for range clients {
		id := b.sink.create("off", nil, nil)
		if project == "signed" {
			id, _ = b.signedImage(b.sink, "SHA-256", size)
		}
		all.Go(func() { b.uploaded(p, b.sink, id, project, size, byLength) })
	}
	all.Wait()
}

// idle has 2000 clients ask once and stay.
func (b *bench) idle(p *peer) error {
	const clients = 2000
	if p.name == own { // that which has served so far has memory to spare
		fresh, err := b.countersign("countersign-idle", policy(10))
		if err != nil {
			return err
		}
		defer fresh.stop()
		if _, err := b.settled(fresh); err != nil {
			return err
		}
		fresh.name, p = own, fresh
	}
	request := getRequest("/v2/images/" + b.sink.active("off", 1))
	before := status(p.pids, "RssAnon")
	var sessions []*session
	defer func() {
		for _, s := range sessions {
			s.conn.Close()
		}
	}()
	for range clients {
		s, err := p.session()
		if err != nil {
			return err
		}
		sessions = append(sessions, s)
		if code, _, err := s.ask(request); err != nil || code != http.StatusOK {
			return fmt.Errorf("answered %d, %v", code, err)
		}
	}
	b.note(s("idle", p.name), float64(atRest(p)-before)/clients)
	return nil
}

// atRest is what a proxy holds, in KiB, once it gives nothing back any more: some do
// so a while after the last request, and clients are idle only then.
func atRest(p *peer) int64 {
	least, begun := status(p.pids, "RssAnon"), time.Now()
	for since := begun; time.Since(since) < 2*time.Second && time.Since(begun) < 10*time.Second; {
		time.Sleep(50 * time.Millisecond) // and looked at again
		if now := status(p.pids, "RssAnon"); now < least-least/100 {
			least, since = now, time.Now()
		}
	}
	return least
}

// peak is the most memory that is held in an upload, by its size. How large the
// large one is depends on the time that is left.
func (b *bench) peak() error {
	p, err := b.countersign("countersign-peak", policy(10))
	if err != nil {
		return err
	}
	defer p.stop()
	begin := time.Now()
	for range 3 {
		id, err := b.signedImage(b.sink, "SHA-256", gib)
		if err != nil {
			return err
		}
		b.uploaded(p, b.sink, id, "signed", gib, byLength)
	}
	each := time.Since(begin) / 3
	first := status(p.pids, "VmHWM")
	size := b.large
	if size == 0 {
		for size = 64; size > 8 && each*time.Duration(size) > time.Until(b.end); size /= 2 {
		}
	}
	fmt.Fprintf(os.Stderr, "  the large upload has %d GiB\n", size)
	digest := largeDigest(b.data, size) // which also stands for what Glance computes: any will do
	properties, err := sign(b.key, "SHA-256", digest)
	if err != nil {
		return err
	}
	b.uploaded(p, b.sink, b.sink.create("signed", properties, digest), "signed", size*gib, byLength)
	b.note("large", float64(size))
	b.note("peak, 1 GiB", float64(first))
	b.note("peak, large", float64(status(p.pids, "VmHWM")))
	fmt.Fprintf(os.Stderr, "  at most %d KiB of memory after three of 1 GiB, %d after it\n", first, status(p.pids, "VmHWM"))
	return nil
}
