// Package clients tests fetch with the libraries that Go programs use around a client: tracing,
// metrics, tokens, doubles, caches, breakers, proxies, guards, jars and parsers. Each test states
// what a user sees who puts the two together in the plainest way.
//
// It is a module of its own, so that its requirements are not those of fetch.
package clients

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/batchhttp/fetch"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A server counts the connections to it, and the requests.
type server struct {
	*httptest.Server
	mu       sync.Mutex
	conns    int
	requests []*http.Request
}

func newServer(t testing.TB, handler http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.requests = append(s.requests, r)
		s.mu.Unlock()
		handler(w, r)
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.mu.Lock()
			s.conns++
			s.mu.Unlock()
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// seen returns the requests so far.
func (s *server) seen() []*http.Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.requests
}

// opened returns how many connections were made.
func (s *server) opened() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.conns
}

func hello(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello") }

// numbered returns n URLs.
func numbered(base string, n int) []string {
	urls := make([]string, n)
	for i := range urls {
		urls[i] = fmt.Sprint(base, "/", i)
	}
	return urls
}

// get fetches the URLs and checks that there is a sound Result for each.
func get(t *testing.T, urls []string, opts ...fetch.Option) []fetch.Result {
	t.Helper()
	results := fetch.FetchAll(t.Context(), urls, opts...)
	if len(results) != len(urls) {
		t.Fatalf("%d results for %d URLs", len(results), len(urls))
	}
	for i, r := range results {
		if r.Index != i || r.URL != urls[i] || r.OK() && r.Err != nil {
			t.Errorf("result %d: %+v", i, r)
		}
	}
	return results
}

func getOne(t *testing.T, url string, opts ...fetch.Option) fetch.Result {
	t.Helper()
	return get(t, []string{url}, opts...)[0]
}

// mustBeFine fails the test unless all results have the body.
func mustBeFine(t *testing.T, results []fetch.Result, body string) {
	t.Helper()
	for _, r := range results {
		if !r.OK() || string(r.Body) != body {
			t.Errorf("%s: %d, %q, %v", r.URL, r.StatusCode, r.Body, r.Err)
		}
	}
}
