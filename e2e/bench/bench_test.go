package main

import (
	"bufio"
	"bytes"
	"io"
	"math"
	"net"
	"os"
	"strings"
	"testing"
)

func TestFigures(t *testing.T) {
	b := &bench{series: map[string][]float64{"a": {1, 2, 9}, "b": {1, 1, 1}, "c": {1, 1}}, absent: map[string]string{"d": "there is none"}}
	for _, test := range []struct {
		row     row
		median  float64
		verdict string
	}{
		{ratio("a/b", 2, 1, []string{"a"}, "b"), 2, "must"},
		{ratio("a/(b+b)", 2, 1, []string{"a"}, "b", "b"), 1, "aim"},
		{ratio("a/c: as many rounds as both have", 1.4, 1, []string{"a"}, "c"), 1.5, "beyond the must, within tolerance"},
		{plain("a", "s", 1.7, 1, "a"), 2, "BEYOND THE MUST"},
		{exact(plain("a", "B", 1.9, 1, "a")), 2, "BEYOND THE MUST"},
		{exact(plain("b", "B", 0, 0, "b")), 1, "BEYOND THE MUST"},
		{more(plain("a", "s", 2.2, 3, "a")), 2, "beyond the must, within tolerance"},
		{more(plain("a", "s", 2.4, 3, "a")), 2, "BEYOND THE MUST"},
		{plain("on record", "s", 0, 0, "a"), 2, ""},
		{plain("d", "s", 1, 1, "d"), 0, "not measured: there is none"},
	} {
		f := b.compute([]row{test.row})[0]
		if math.Abs(f.Median-test.median) > 1e-9 || f.verdict() != test.verdict {
			t.Errorf("%s: median %v %q, want %v %q", f.Name, f.Median, f.verdict(), test.median, test.verdict)
		}
	}
}

// What the stand-in throws away is what was sent, to the byte, and what comes
// behind it is left.
func TestDrain(t *testing.T) {
	for _, test := range []struct {
		name, sent string
		length     int64 // -1: chunked
		want       int64
		whole      bool
	}{
		{"length", "hello", 5, 5, true},
		{"short", "hell", 5, 0, false},
		{"chunks", "5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n", -1, 6, true},
		{"no last chunk", "5\r\nhello\r\n", -1, 0, false},
		{"no chunk", "ZZ\r\n", -1, 0, false},
		{"a chunk that goes on", "5\r\nhello!\r\n0\r\n\r\n", -1, 0, false},
		{"long", strings.Repeat("x", 3*mib), 3 * mib, 3 * mib, true},
	} {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() { // ends when all is sent
			conn, err := net.Dial("tcp", listener.Addr().String())
			if err != nil {
				return
			}
			io.WriteString(conn, test.sent)
			if test.whole {
				io.WriteString(conn, "next")
			}
			conn.Close()
		}()
		conn, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		d := drain{bufio.NewReader(conn), conn, 0}
		d.in.Peek(1)
		if test.length >= 0 {
			err = d.skip(test.length)
		} else {
			err = d.chunks()
		}
		rest, _ := io.ReadAll(d.in)
		if (err == nil) != test.whole || test.whole && (d.skipped != test.want || string(rest) != "next") {
			t.Errorf("%s: %d bytes, %v, then %q; want %d, whole %v", test.name, d.skipped, err, rest, test.want, test.whole)
		}
		conn.Close()
		listener.Close()
	}
}

func TestSendFileAgainAndAgain(t *testing.T) {
	file, err := os.Create(t.TempDir() + "/data")
	if err != nil {
		t.Fatal(err)
	}
	file.WriteString("0123456789")
	here, there := net.Pipe()
	go func() {
		sendFile(here, file, 10, 25)
		here.Close()
	}()
	if got, _ := io.ReadAll(there); !bytes.Equal(got, []byte("0123456789012345678901234")) {
		t.Errorf("25 bytes of a file of 10 are %q", got)
	}
}
