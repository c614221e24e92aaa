package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"github.com/countersign/countersign/policy"
	"github.com/countersign/countersign/proxy"
	"github.com/countersign/countersign/proxy/upstream"
)

// BenchmarkGetImage is the request that most others are like. Client and Glance
// allocate nothing, so that what is allocated is the proxy's and net/http's: a
// number that is the same on a busy machine.
func BenchmarkGetImage(b *testing.B) {
	const image = "/v2/images/cd7cc675-e573-419c-8fff-33a72734a243"
	glance := newCanned(b, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Openstack-Request-Id: req-1\r\nContent-Length: 1400\r\n\r\n"+
		strings.Repeat("x", 1400))
	rules, err := policy.Load(strings.NewReader(testPolicy))
	if err != nil {
		b.Fatal(err)
	}
	log, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer log.Close()
	transport := &upstream.Client{Dial: func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", glance)
	}}
	defer transport.CloseIdleConnections()
	server := serveProxy(b, proxy.New(proxy.Config{
		Glance: &url.URL{Scheme: "http", Host: glance}, Transport: transport, Policies: rules, Identities: &fakeKeystone{},
		Metrics: proxy.NewMetrics(prometheus.NewRegistry()), Log: zerolog.New(log).With().Timestamp().Logger(),
	}))

	conn, err := net.Dial("tcp", server.Listener.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	request := fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: glance\r\nX-Auth-Token: %s\r\nAccept: application/json\r\nUser-Agent: bench\r\n\r\n", image, tokenC)
	in := bufio.NewReader(conn)
	b.ReportAllocs()
	for b.Loop() {
		conn.Write(request)
		if line, err := in.ReadSlice('\n'); err != nil || string(line) != "HTTP/1.1 200 OK\r\n" || !skipHead(in) {
			b.Fatalf("answer %q, %v", line, err)
		}
		if _, err := in.Discard(1400); err != nil {
			b.Fatal(err)
		}
	}
}

// newCanned is a server that has one answer to every request without a body. It
// returns its address.
func newCanned(t testing.TB, answer string) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	said := []byte(answer)
	go func() { // ends with the listener
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { // ends with the connection
				defer conn.Close()
				for in := bufio.NewReader(conn); skipHead(in); {
					conn.Write(said)
				}
			}()
		}
	}()
	return listener.Addr().String()
}

// skipHead reads to the empty line.
func skipHead(in *bufio.Reader) bool {
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return false
		}
		if len(line) <= 2 {
			return true
		}
	}
}
