package proxy_test

import (
	"io"
	"net/http"
	"testing"

	"github.com/countersign/countersign/proxy"
)

func TestHealthcheck(t *testing.T) {
	unfit := ""
	s := newStage(t, func(c *proxy.Config) { c.Unfit = func() string { return unfit } })
	ask := func(method, accept string) (int, string, string) {
		t.Helper()
		request, err := http.NewRequest(method, s.server.URL+"/healthcheck?detailed", nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Accept", accept)
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, response.Header.Get("Content-Type"), string(body)
	}

	// Fit: it is Glance that answers.
	if status, _, _ := ask("GET", "text/plain"); status != http.StatusOK || s.glance.called("GET", "/healthcheck") != 1 {
		t.Errorf("healthcheck = %d and Glance was asked %d times, want 200 and once", status, s.glance.called("GET", "/healthcheck"))
	}

	// To be drained: it is us, in each shape, and Glance is not asked.
	unfit = "DISABLED BY FILE"
	s.glance.forget()
	for _, want := range []struct{ method, accept, mediaType, body string }{
		{"GET", "text/plain", "text/plain; charset=UTF-8", "DISABLED BY FILE"},
		{"GET", "", "text/plain; charset=UTF-8", "DISABLED BY FILE"},
		{"GET", "*/*", "text/plain; charset=UTF-8", "DISABLED BY FILE"},
		{"GET", "image/png", "text/plain; charset=UTF-8", "DISABLED BY FILE"},
		{"GET", "application/json", "application/json", "{\n    \"detailed\": false,\n    \"reasons\": [\n        \"DISABLED BY FILE\"\n    ]\n}"},
		{"GET", "text/html", "text/html; charset=UTF-8", "<HTML>\n<HEAD><TITLE>Healthcheck Status</TITLE></HEAD>\n<BODY>DISABLED BY FILE</BODY>\n</HTML>\n"},
		{"HEAD", "application/json", "text/plain; charset=UTF-8", ""},
	} {
		status, mediaType, body := ask(want.method, want.accept)
		if status != http.StatusServiceUnavailable || mediaType != want.mediaType || body != want.body {
			t.Errorf("%s for %q = %d %s %q, want 503 %s %q", want.method, want.accept, status, mediaType, body, want.mediaType, want.body)
		}
	}
	if n := s.glance.called("GET") + s.glance.called("HEAD"); n != 0 {
		t.Errorf("Glance was asked %d times, want none", n)
	}
	if status, _ := s.do("GET", "/v2/images", tokenA, nil); status != http.StatusOK {
		t.Errorf("a list = %d, want 200: who comes all the same is served", status)
	}

	// Glance is away: that is no answer to send anybody here for.
	unfit = ""
	s.glance.Close()
	if status, _, _ := ask("GET", "text/plain"); status < 500 {
		t.Errorf("healthcheck without a Glance = %d, want 5xx", status)
	}
}
