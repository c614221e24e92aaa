//go:build e2e

package e2e_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign/countersign/proxy/receipt"
)

// TestNoInterleavingBringsInWhatIsNotVerified lets several users of a project do
// at the same moment what may come between an upload's beginning and its end, at
// two replicas in front of two Glances that share a database. Whatever becomes
// active has data that one of the two signers signed. Then a scan that deletes
// what it refuses leaves all of that active, with a receipt that is true. So it is
// also where Glance verifies nothing behind Countersign. E2E_SEED plays the same
// requests again, if not in the same order.
func TestNoInterleavingBringsInWhatIsNotVerified(t *testing.T) {
	rounds := 30 // each way
	if full() {
		rounds = 500
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("E2E_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("E2E_SEED: %v", err)
		}
	}
	t.Logf("E2E_SEED=%d", seed)
	for _, verifies := range []string{"yes", "no"} {
		t.Run("Glance verifies, too: "+verifies, func(t *testing.T) { interleave(t, seed, rounds, "COUNTERSIGN_GLANCE_VERIFIES="+verifies) })
	}
}

func interleave(t *testing.T, seed uint64, rounds int, setting string) {
	const together = 4
	first, second := startProxy(t, servers[0], doorPolicy, setting), startProxy(t, servers[1], doorPolicy, setting)
	c := login(t, "demo", first.url)
	straight := c.at(servers[0].url())
	data := pixels(t, 60_000)
	now, later := newKnown(t, c), newKnown(t, c)
	keys := trustedKeys(t)

	var mu sync.Mutex // guards tally and active
	tally := map[string]int{}
	var active []*interleaving // their images stay until they were scanned
	defer func() {
		for _, play := range active {
			straight.remove(play.id)
		}
	}()
	round := make(chan int)
	var crowd sync.WaitGroup
	for range together {
		crowd.Add(1)
		go func() { // ends when the rounds have been handed out
			defer crowd.Done()
			for i := range round {
				play := &interleaving{chance: rand.New(rand.NewPCG(seed, uint64(i))), proxies: []string{first.url, second.url}, client: c, data: data, now: now, later: later}
				became, problem := play.run(t.Context(), straight, keys)
				mu.Lock()
				tally[became]++
				if strings.HasPrefix(became, "active") {
					active = append(active, play)
				} else {
					straight.remove(play.id)
				}
				mu.Unlock()
				if problem != "" {
					t.Errorf("round %d, after %s: %s", i, strings.Join(play.said, ", "), problem)
				}
			}
		}()
	}
	for i := range rounds {
		round <- i
	}
	close(round)
	crowd.Wait()
	t.Logf("%d rounds: %v", rounds, tally)
	if tally["active"] < rounds/20 {
		t.Errorf("%d of %d images became active: too few for anything to be shown", tally["active"], rounds)
	}

	var ids []string
	for _, play := range active {
		ids = append(ids, play.id)
	}
	rows, _ := scan(t, servers[0], strings.Replace(doorPolicy, "import: direct", "import: direct\n    unverified: delete", 1), 5*time.Second, images(ids...)...)
	for _, play := range active {
		status, body := play.ask(t.Context(), straight.images, "GET", "", "", nil)
		var is image
		if status != http.StatusOK || json.Unmarshal(body, &is) != nil || is.status() != "active" {
			t.Errorf("after %s: what verified is %d %s since the scan, which says %+v", strings.Join(play.said, ", "), status, body, rows[play.id])
			continue
		}
		if became, problem := play.judge(t.Context(), straight, is, keys); became != "active" || problem != "" {
			t.Errorf("after %s: the image is %s since the scan, which says %+v: %s", strings.Join(play.said, ", "), became, rows[play.id], problem)
		}
	}
}

// motion is how long an image is waited for that is on its way to somewhere.
const motion = 5 * time.Second

// known is a signer whose certificate is in Barbican under an id.
type known struct {
	*signer
	stored string
}

func newKnown(t *testing.T, c *client) known {
	t.Helper()
	k := known{signer: newSigner(t, time.Hour)}
	k.stored = c.secret(k.certificate)
	c.letRead(k.stored, "countersign") // so that a scan can, too
	return k
}

// interleaving is one image and those who are at it.
type interleaving struct {
	chance     *rand.Rand
	proxies    []string
	client     *client
	data       []byte
	now, later known

	id   string
	mu   sync.Mutex // guards said
	said []string   // what was done, and the answers
}

// run plays, waits until nothing moves any more, and tells what became of the
// image, and what is wrong with that.
func (i *interleaving) run(ctx context.Context, straight *client, keys *receipt.Keys) (became, problem string) {
	_, body := i.send(ctx, 0, "POST", "", "application/json", i.record())
	var made image
	if json.Unmarshal(body, &made) != nil || made.id() == "" {
		return "not made", fmt.Sprintf("POST answered %s", body)
	}
	i.id = made.id()

	acts := i.acts()
	begin := []string{"upload", "upload", "stage and import"}[i.chance.IntN(3)]
	var everybody sync.WaitGroup
	act := func(name string) {
		wait, where := time.Duration(i.chance.IntN(120))*time.Millisecond, i.chance.IntN(2)
		if name == begin {
			wait = time.Duration(i.chance.IntN(30)) * time.Millisecond
		}
		everybody.Add(1)
		go func() { // ends with its requests, which are waited for
			defer everybody.Done()
			time.Sleep(wait)
			acts[name](ctx, where)
		}()
	}
	act(begin)
	names := []string{"upload", "upload other data", "stage and import", "stage other data", "another signature", "no signature", "forged receipt", "rename", "tag",
		"boot from a volume", "rotate", "protect", "share", "show", "deactivate", "reactivate", "delete"}
	for range 2 + i.chance.IntN(4) {
		act(names[i.chance.IntN(len(names))])
	}
	everybody.Wait()

	begun := time.Now()
	for wait := time.Millisecond * 50; ; wait = min(2*wait, time.Second) {
		status, body := i.ask(ctx, straight.images, "GET", "", "", nil)
		var is image
		switch {
		case status == http.StatusNotFound:
			return "gone", ""
		case status == 0:
			return "unknown", string(body)
		case status != http.StatusOK || json.Unmarshal(body, &is) != nil:
			return "unknown", fmt.Sprintf("Glance answers %d %s", status, body)
		}
		switch is.status() {
		case "saving", "importing":
			if time.Since(begun) > motion {
				// Glance leaves an image so whose import failed, and one whose
				// record somebody saved as he had loaded it. Only DELETE helps.
				return "left " + is.status(), ""
			}
			time.Sleep(wait)
			continue
		case "active":
			return i.judge(ctx, straight, is, keys)
		}
		return is.status(), ""
	}
}

// judge asserts that an active image is what somebody signed.
func (i *interleaving) judge(ctx context.Context, straight *client, is image, keys *receipt.Keys) (became, problem string) {
	status, data := i.ask(ctx, straight.images, "GET", "/file", "", nil)
	switch status {
	case http.StatusNotFound, http.StatusForbidden, http.StatusNoContent:
		return "gone since", "" // deleted, or deactivated, after all
	}
	digest := sha256.Sum256(data)
	signature, _ := base64.StdEncoding.DecodeString(is.text("img_signature"))
	aside := is.text("countersign_certificate_uuid")
	verifies := false
	for _, s := range []known{i.now, i.later} {
		if cmp.Or(is.text("img_signature_certificate_uuid"), aside) == s.stored && is.text("img_signature_hash_method") == "SHA-256" && is.text("img_signature_key_type") == "RSA-PSS" {
			verifies = rsa.VerifyPSS(&s.key.PublicKey, crypto.SHA256, digest[:], signature, nil) == nil
		}
	}
	switch {
	case !verifies:
		return "active", fmt.Sprintf("the image is active with %d bytes that its properties do not verify: %v", len(data), is)
	case is.text("block_device_mapping") != "":
		return "active", fmt.Sprintf("the image boots from something else: %v", is)
	}
	r, err := keys.Open(is.text(receipt.Property))
	switch {
	case aside != "" && err == nil && r.Kind != receipt.Stage:
		return "active", fmt.Sprintf("a property was left aside: %v", is)
	case aside != "": // as staged data has it until a scan
		return "active with a property aside", ""
	}
	if err != nil || r.Describes(is.subject()) != nil {
		return "active without a receipt", "" // its data is right all the same; a scan gives it one
	}
	glances := sha512.Sum512(data)
	digests := map[string]string{"SHA-256": hex.EncodeToString(digest[:])}
	if r.Digests["SHA-512"] != "" { // staged
		digests["SHA-512"] = hex.EncodeToString(glances[:])
	}
	if r.Size != int64(len(data)) || !maps.Equal(r.Digests, digests) || is.text("os_hash_value") != hex.EncodeToString(glances[:]) {
		return "active", fmt.Sprintf("the receipt is about other data than the %d bytes that are there: %+v", len(data), r)
	}
	return "active", ""
}

// acts are what the users do. Their answers are noted, and nothing is made of
// them: whatever they are told, what counts is what becomes active.
func (i *interleaving) acts() map[string]func(ctx context.Context, where int) {
	other := bytes.Repeat([]byte("other"), len(i.data)/5)
	elsewhere := i.now.properties(other, i.now.stored)["img_signature"]
	anew := i.later.properties(i.data, i.later.stored)
	patch := func(operations ...map[string]any) func(context.Context, int) {
		text, _ := json.Marshal(operations)
		return func(ctx context.Context, where int) {
			i.send(ctx, where, "PATCH", "", "application/openstack-images-v2.1-json-patch", text)
		}
	}
	once := func(method, below, contentType, body string) func(context.Context, int) {
		return func(ctx context.Context, where int) { i.send(ctx, where, method, below, contentType, []byte(body)) }
	}
	const octets, direct = "application/octet-stream", `{"method": {"name": "glance-direct"}}`
	var rotation []map[string]any
	for name, value := range anew {
		rotation = append(rotation, replacement(name, value))
	}
	return map[string]func(context.Context, int){
		"upload":            once("PUT", "/file", octets, string(i.data)),
		"upload other data": once("PUT", "/file", octets, string(other)),
		"stage other data":  once("PUT", "/stage", octets, string(other)),
		"stage and import": func(ctx context.Context, where int) {
			i.send(ctx, where, "PUT", "/stage", octets, i.data)
			i.send(ctx, 1-where, "POST", "/import", "application/json", []byte(direct))
		},
		"another signature":  patch(replacement("img_signature", elsewhere)),
		"no signature":       patch(removal("img_signature")),
		"forged receipt":     patch(add("countersign_receipt", "forged")),
		"boot from a volume": patch(add("block_device_mapping", `[{"boot_index": 0}]`)),
		"rename":             patch(replacement("name", "other")),
		"protect":            patch(replacement("protected", false)),
		"show":               patch(replacement("visibility", "community")),
		"rotate":             patch(rotation...),
		"tag":                once("PUT", "/tags/x", "", ""),
		"share":              once("POST", "/members", "application/json", `{"member": "`+openstack.Projects["alt"]+`"}`),
		"deactivate":         once("POST", "/actions/deactivate", "", ""),
		"reactivate":         once("POST", "/actions/reactivate", "", ""),
		"delete":             once("DELETE", "", "", ""),
	}
}

func (i *interleaving) record() []byte {
	record := i.now.properties(i.data, i.now.stored)
	record["name"], record["container_format"], record["disk_format"] = "interleaving", "bare", "raw"
	text, _ := json.Marshal(record)
	return text
}

// send is a request to one of the proxies.
func (i *interleaving) send(ctx context.Context, where int, method, below, contentType string, body []byte) (int, []byte) {
	status, answer := i.ask(ctx, i.proxies[where], method, below, contentType, body)
	i.mu.Lock()
	defer i.mu.Unlock()
	i.said = append(i.said, fmt.Sprintf("%s %s %q = %d", method, below, body[:min(len(body), 60)], status))
	return status, answer
}

// ask returns status 0 where no answer comes.
func (i *interleaving) ask(ctx context.Context, endpoint, method, below, contentType string, body []byte) (int, []byte) {
	target := endpoint + "/v2/images"
	if i.id != "" {
		target += "/" + i.id + below
	}
	request, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return 0, []byte(err.Error())
	}
	request.Header.Set("X-Auth-Token", i.client.token)
	if contentType != "" {
		request.Header.Set("Content-Type", contentType)
	}
	response, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}).Do(request)
	if err != nil {
		return 0, []byte(err.Error())
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return 0, []byte(err.Error())
	}
	return response.StatusCode, answer
}

// trustedKeys are the public keys of the run's receipts.
func trustedKeys(t *testing.T) *receipt.Keys {
	t.Helper()
	text, err := os.ReadFile(receiptPublicKey)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := receipt.ParseKeys(text)
	if err != nil {
		t.Fatal(err)
	}
	return keys
}
