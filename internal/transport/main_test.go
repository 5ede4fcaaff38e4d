package transport_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"

	"github.com/batchhttp/fetch/internal/promises/fetchtest"
	"github.com/batchhttp/fetch/internal/transport"
)

// TestMain has the process trust the servers of the tests.
func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "certificates")
	if err != nil {
		panic(err)
	}
	os.Setenv(fetchtest.OwnTLSVariable, dir)
	fetchtest.Certificates()
	if _, err := x509.SystemCertPool(); err != nil { // reads them, once for the process
		panic(err)
	}
	os.RemoveAll(dir) // Main does not return
	fetchtest.Main(m)
}

// newClient returns a client that must have nothing open at the end of the test.
func newClient(t testing.TB, concurrency int) *transport.Client {
	c := transport.New(transport.Config{Concurrency: concurrency})
	t.Cleanup(func() { closeClient(t, c) })
	return c
}

// closeClient closes a client, and checks that it has given everything up.
func closeClient(t testing.TB, c *transport.Client) {
	t.Helper()
	c.Close()
	for range 1000 {
		origins, idle, open := c.Counts()
		if origins == 0 && idle == 0 && open == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	origins, idle, open := c.Counts()
	t.Errorf("%d origins, %d idle connections and %d open ones are left", origins, idle, open)
}

// A wire is the way of requests to a server.
type wire string

const (
	plain wire = "plain"
	http1 wire = "HTTP/1 over TLS"
	http2 wire = "HTTP/2"
)

var wires = []wire{plain, http1, http2}

// serve starts a server.
func (w wire) serve(t testing.TB, handler http.HandlerFunc, change ...func(*http.Server)) (base string, conns *fetchtest.ConnCounter) {
	server := httptest.NewUnstartedServer(handler)
	conns = fetchtest.CountConns(server.Config)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.EnableHTTP2 = w == http2
	server.TLS = &tls.Config{Certificates: []tls.Certificate{fetchtest.Certificates().Good}}
	for _, f := range change {
		f(server.Config)
	}
	if w == plain {
		server.Start()
	} else {
		server.StartTLS()
	}
	t.Cleanup(server.Close)
	return server.URL, conns
}

// An answer is what became of a request.
type answer struct {
	status  int
	body    string
	trailer http.Header
	close   bool
	err     error // of the request or the body
}

// send sends a request, and reads the answer.
func send(ctx context.Context, c *transport.Client, method, url string, change ...func(*http.Request)) (a answer) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		panic(err)
	}
	for _, f := range change {
		f(req)
	}
	resp, err := c.RoundTrip(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, string(body), resp.Trailer, resp.Close, err}
}

func get(t testing.TB, c *transport.Client, url string) answer {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	return send(ctx, c, "GET", url)
}

// mustGet gets a URL, whose body must be as wanted.
func mustGet(t testing.TB, c *transport.Client, url, want string) {
	t.Helper()
	if a := get(t, c, url); a.err != nil || a.body != want {
		t.Errorf("%s: got %d, %.100q, %v; want %.100q", url, a.status, a.body, a.err, want)
	}
}
