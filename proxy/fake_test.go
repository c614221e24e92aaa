package proxy_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/rs/zerolog"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy"
	"github.com/countersign/countersign/proxy/downstream"
	"github.com/countersign/countersign/proxy/keystone"
	"github.com/countersign/countersign/proxy/receipt"
	"github.com/countersign/countersign/proxy/upstream"
	"github.com/countersign/countersign/signature"
)

// Tokens of the fakes: the project a token belongs to is what follows "token-".
const (
	tokenA  = "token-a" // project a is enforced
	tokenB  = "token-b" // project b is audited
	tokenC  = "token-c" // project c is off
	service = "token-service"
)

const testPolicy = `
rules:
  - name: enforced
    projects: [{id: a}]
    mode: enforce
    signers: any
  - name: kept
    projects: [{id: k}]
    mode: enforce
    signers: any
    on_failure: keep
  - name: off
    projects: [{id: c}]
    mode: off
  - projects: all
    mode: audit
`

// record is an image of the fake Glance.
type record map[string]any

func (r record) text(name string) string { s, _ := r[name].(string); return s }

// fakeGlance is a small working Glance. Like the real one it takes a body as
// what it is said to be, puts an image back to queued when a body breaks off,
// and lets nobody delete what is not theirs.
type fakeGlance struct {
	*httptest.Server

	// before, if set, may answer a request in place of the fake; it returns
	// whether it did.
	before func(w http.ResponseWriter, r *http.Request) bool
	// after, if set, runs when an upload has made an image active, and before
	// the answer.
	after func(image record)

	mu     sync.Mutex // guards what follows
	images map[string]record
	calls  []string          // method and path, in order
	data   map[string][]byte // what was stored
	broken []string          // images whose upload broke off
	begun  int               // uploads that reached us
}

func newFakeGlance(t testing.TB) *fakeGlance {
	g := &fakeGlance{images: map[string]record{}, data: map[string][]byte{}}
	g.Server = httptest.NewServer(http.HandlerFunc(g.serve))
	t.Cleanup(g.Close)
	return g
}

func (g *fakeGlance) serve(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.calls = append(g.calls, r.Method+" "+r.URL.Path)
	g.mu.Unlock()
	w.Header().Set("X-Openstack-Request-Id", r.Header.Get("X-Openstack-Request-Id"))
	if g.before != nil && g.before(w, r) {
		return
	}
	project := strings.TrimPrefix(r.Header.Get("X-Auth-Token"), "token-")
	segments := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	switch {
	case len(segments) == 1:
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"versions": [{"links": [{"rel": "self", "href": "http://%s/v2/"}]}]}`, r.Host)
	case project == "":
		http.Error(w, "no token", http.StatusUnauthorized)
	case r.Method == "POST" && len(segments) == 2:
		g.create(w, r, project)
	case len(segments) >= 3:
		g.image(w, r, project, segments[2], strings.Join(segments[3:], "/"))
	default:
		g.list(w, r, project)
	}
}

func (g *fakeGlance) create(w http.ResponseWriter, r *http.Request, project string) {
	img := record{}
	json.NewDecoder(r.Body).Decode(&img)
	if img["id"] == nil {
		img["id"] = uuid.NewString()
	}
	if img["owner"] == nil {
		img["owner"] = project
	}
	img["status"], img["size"] = "queued", nil
	g.put(img)
	w.Header().Set("Location", g.URL+"/v2/images/"+img.text("id"))
	w.WriteHeader(http.StatusCreated)
	json.NewEncoder(w).Encode(img)
}

func (g *fakeGlance) image(w http.ResponseWriter, r *http.Request, project, id, rest string) {
	g.mu.Lock()
	img := g.images[id]
	var own, visible bool
	if img != nil {
		own = img.text("owner") == project || project == "service"
		visible = own || img["visibility"] == "public"
	}
	g.mu.Unlock()
	switch {
	case !visible:
		http.Error(w, "No image found with ID "+id, http.StatusNotFound)
	case r.Method == "GET" && rest == "":
		g.mu.Lock()
		text, _ := json.Marshal(img)
		g.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		w.Write(text)
	case r.Method == "GET" && rest == "file":
		g.download(w, r, id)
	case !own:
		http.Error(w, "You are not permitted", http.StatusForbidden)
	case r.Method == "PUT" && rest == "file":
		g.upload(w, r, img, "saving", "active")
	case r.Method == "PUT" && rest == "stage":
		g.upload(w, r, img, "uploading", "uploading")
	case r.Method == "DELETE" && rest == "":
		g.mu.Lock()
		defer g.mu.Unlock()
		if img["protected"] == true {
			http.Error(w, "protected", http.StatusForbidden)
			return
		}
		delete(g.images, id)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == "PATCH":
		g.patch(w, r, img)
	case r.Method == "POST" && rest == "actions/deactivate":
		g.set(img, "status", "deactivated")
		w.WriteHeader(http.StatusNoContent)
	default:
		w.WriteHeader(http.StatusAccepted)
	}
}

func (g *fakeGlance) upload(w http.ResponseWriter, r *http.Request, img record, during, after string) {
	g.mu.Lock()
	g.begun++
	if img["status"] != "queued" {
		g.mu.Unlock()
		http.Error(w, "wrong status", http.StatusConflict)
		return
	}
	img["status"] = during
	g.mu.Unlock()
	data, err := io.ReadAll(r.Body)
	g.mu.Lock()
	defer g.mu.Unlock()
	if err != nil {
		img["status"] = "queued"
		g.broken = append(g.broken, img.text("id"))
		g.data[img.text("id")] = data
		panic(http.ErrAbortHandler)
	}
	sum := sha512.Sum512(data)
	img["status"], img["size"] = after, len(data)
	if after == "active" {
		img["os_hash_algo"], img["os_hash_value"] = "sha512", hex.EncodeToString(sum[:])
	}
	g.data[img.text("id")] = data
	if g.after != nil {
		g.after(img)
	}
	w.WriteHeader(http.StatusNoContent)
}

func (g *fakeGlance) download(w http.ResponseWriter, r *http.Request, id string) {
	data := g.stored(id)
	if len(data) == 0 {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	if part := r.Header.Get("Content-Range"); part != "" { // which is a Range to Glance
		r.Header.Set("Range", strings.Replace(strings.TrimSuffix(part, "/*"), " ", "=", 1))
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

func (g *fakeGlance) patch(w http.ResponseWriter, r *http.Request, img record) {
	var changes []struct {
		Op, Path string
		Value    any
	}
	json.NewDecoder(r.Body).Decode(&changes)
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, change := range changes {
		name := strings.TrimPrefix(change.Path, "/")
		_, present := img[name]
		switch {
		case change.Op == "remove":
			delete(img, name)
		case present == (change.Op == "add"):
			http.Error(w, name+" is there, or is not", http.StatusConflict)
			return
		default:
			img[name] = change.Value
		}
	}
	json.NewEncoder(w).Encode(img)
}

func (g *fakeGlance) put(img record) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.images[img.text("id")] = img
}

func (g *fakeGlance) set(img record, name string, value any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	img[name] = value
}

func (g *fakeGlance) unset(img record, name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(img, name)
}

// status is an image's status, or "gone".
func (g *fakeGlance) status(id string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if img := g.images[id]; img != nil {
		return img.text("status")
	}
	return "gone"
}

func (g *fakeGlance) stored(id string) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.data[id]
}

// forget forgets which calls there were.
func (g *fakeGlance) forget() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.calls = nil
}

// called counts the calls of a method, and of a path if one is given.
func (g *fakeGlance) called(method string, path ...string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, call := range g.calls {
		m, p, _ := strings.Cut(call, " ")
		if m == method && (len(path) == 0 || p == path[0]) {
			n++
		}
	}
	return n
}

// fakeKeystone knows every token that begins as ours do.
type fakeKeystone struct {
	down   bool
	member bool // the service credential is no administrator's
}

func (k *fakeKeystone) Validate(_ context.Context, token string) (keystone.Identity, error) {
	project, ok := strings.CutPrefix(token, "token-")
	switch {
	case k.down:
		return keystone.Identity{}, fmt.Errorf("connection refused")
	case !ok:
		return keystone.Identity{}, keystone.ErrInvalidToken
	}
	who := keystone.Identity{UserID: "user-" + project, UserName: project, UserDomain: "Default", ProjectID: project}
	if project == "nova" || project == "cinder" || project == "service" {
		who.Roles = []string{"service"}
	}
	if project == "service" && !k.member {
		who.Roles = append(who.Roles, "admin")
	}
	return who, nil
}

func (k *fakeKeystone) Token(context.Context) (string, error) {
	if k.down {
		return "", fmt.Errorf("connection refused")
	}
	return service, nil
}

// fakeBarbican has certificates under their ids.
type fakeBarbican struct {
	mu           sync.Mutex // guards what follows
	certificates map[string][]byte
	fail         error
	asked        int
	owners       []string // for whom, in turn
}

func (b *fakeBarbican) Certificate(_ context.Context, owner, id, token string) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked++
	b.owners = append(b.owners, owner)
	if b.fail != nil {
		return nil, b.fail
	}
	if data, ok := b.certificates[id]; ok {
		return data, nil
	}
	return nil, &proxy.Refusal{Code: proxy.CodeCertificateNotFound, Property: signature.PropertyCertificate, Problem: "is unknown"}
}

// stage is a proxy between fakes.
type stage struct {
	t        testing.TB
	glance   *fakeGlance
	keystone *fakeKeystone
	barbican *fakeBarbican
	proxy    *proxy.Proxy
	server   *standing
	log      *safeBuffer
}

// fakeKeys are the receipt keys of a stage.
type fakeKeys struct{ keys *receipt.Keys }

func (k fakeKeys) Keys() *receipt.Keys { return k.keys }

var receiptKeys = sync.OnceValue(func() *receipt.Keys {
	private, _, err := receipt.Generate()
	if err != nil {
		panic(err)
	}
	keys, err := receipt.ParseKeys(private)
	if err != nil {
		panic(err)
	}
	return keys
})

// receipt opens the receipt that an image carries.
func (s *stage) receipt(id string) *receipt.Receipt {
	s.t.Helper()
	s.glance.mu.Lock()
	text := s.glance.images[id].text(receipt.Property)
	s.glance.mu.Unlock()
	r, err := receiptKeys().Open(text)
	if err != nil {
		s.t.Fatalf("the receipt of image %s: %v", id, err)
	}
	return r
}

func newStage(t testing.TB, change ...func(*proxy.Config)) *stage {
	t.Helper()
	rules, err := policy.Load(strings.NewReader(testPolicy))
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{t: t, glance: newFakeGlance(t), keystone: &fakeKeystone{}, log: &safeBuffer{},
		barbican: &fakeBarbican{certificates: map[string][]byte{certificateID: certificatePEM()}}}
	base, _ := url.Parse(s.glance.URL)
	transport := &upstream.Client{}
	t.Cleanup(transport.CloseIdleConnections)
	c := proxy.Config{
		Glance: base, Transport: transport, Policies: rules, Certificates: s.barbican, Identities: s.keystone,
		Receipts: fakeKeys{receiptKeys()}, PropertyQuota: 128, GlanceVerifies: true,
		AuthURL: "http://keystone.example/v3", SettleTimeout: 5 * time.Second, LingerTimeout: 2 * time.Second, MaxBody: 1 << 20,
		Log: zerolog.New(s.log),
	}
	for _, f := range change {
		f(&c)
	}
	c.Dial = func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", c.Glance.Host)
	}
	transport.Dial = c.Dial
	s.proxy = proxy.New(c)
	if err := s.proxy.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.proxy.ProbeReceipts(t.Context()); err != nil && c.Glance.Path == "" { // the fake has no prefix
		t.Fatal(err)
	}
	s.glance.forget()
	s.server = serveProxy(t, s.proxy)
	return s
}

// standing is a server before which clients stand as before the real one, over
// plain connections.
type standing struct {
	URL      string
	Listener net.Listener
	Config   *downstream.Server
}

func serveProxy(t testing.TB, handler http.Handler) *standing {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &standing{"http://" + listener.Addr().String(), upstream.Listener{Listener: listener}, &downstream.Server{Handler: handler, Log: log.Printf}}
	go s.Config.Serve(s.Listener) // ends with Close
	t.Cleanup(s.Close)
	return s
}

// Close returns when all requests have been answered.
func (s *standing) Close() {
	http.DefaultClient.CloseIdleConnections()
	patience, done := context.WithTimeout(context.Background(), 10*time.Second)
	defer done()
	if s.Config.Shutdown(patience) != nil {
		panic("a request is not answered")
	}
}

// image makes a queued image of a project with the given properties.
func (s *stage) image(owner string, properties map[string]string) string {
	img := record{"id": uuid.NewString(), "owner": owner, "status": "queued", "size": nil}
	for name, value := range properties {
		img[name] = value
	}
	s.glance.put(img)
	return img.text("id")
}

// do sends a request to the proxy and returns its status and body.
func (s *stage) do(method, path, token string, body io.Reader, header ...string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequest(method, s.server.URL+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("X-Auth-Token", token)
	}
	req.Header.Set("Accept", "application/json")
	if method == "PUT" {
		req.Header.Set("Content-Type", "application/octet-stream")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return res.StatusCode, string(text)
}

// upload puts data into an image, with a length or chunked.
func (s *stage) upload(id, token string, data []byte, chunked bool) (int, string) {
	s.t.Helper()
	var body io.Reader = bytes.NewReader(data)
	if chunked {
		body = struct{ io.Reader }{body}
	}
	return s.do("PUT", "/v2/images/"+id+"/file", token, body)
}

// reason is the code of a refusal's JSON body.
func reason(body string) string {
	var answer struct{ Reason string }
	json.Unmarshal([]byte(body), &answer)
	return answer.Reason
}

// certificateID is where the fake Barbican has the signer's certificate.
const certificateID = "cd7cc675-e573-419c-8fff-33a72734a243"

var signer = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

var certificatePEM = sync.OnceValue(func() []byte { return newCertificate(time.Now().Add(-time.Hour), time.Now().Add(time.Hour)) })

func newCertificate(notBefore, notAfter time.Time) []byte {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "signer"}, NotBefore: notBefore, NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, signer().Public(), signer())
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// signed returns the four properties that are right for data.
func signed(t testing.TB, data []byte) map[string]string {
	t.Helper()
	sig, keyType, err := signature.Sign(signer(), "SHA-256", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		signature.PropertySignature:   base64.StdEncoding.EncodeToString(sig),
		signature.PropertyHashMethod:  "SHA-256",
		signature.PropertyKeyType:     string(keyType),
		signature.PropertyCertificate: certificateID,
	}
}

func random(t *testing.T, n int) []byte {
	t.Helper()
	data := make([]byte, n)
	rand.Read(data)
	return data
}

// flipped returns data with one bit changed.
func flipped(data []byte, at int) []byte {
	other := bytes.Clone(data)
	other[at] ^= 1
	return other
}

type safeBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *safeBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *safeBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
