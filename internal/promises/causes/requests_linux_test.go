package causes_test

import (
	"crypto/tls"
	"errors"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// A request that net/http does not send is no fault of the server, and has the sentinel of
// one that is found bad before it takes a slot. The own client takes a process that trusts the server.
func TestARequestThatHTTP2DoesNotHaveIsInvalid(t *testing.T) {
	if !fetchtest.InChild(t, nil, fetchtest.OwnTLSVariable+"="+t.TempDir()) {
		return
	}
	var sent atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { sent.Add(1) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{Certificates: []tls.Certificate{fetchtest.Certificates().Good}}
	server.StartTLS()
	defer server.Close()
	transport := &http.Transport{ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	clients := map[string]*http.Client{
		"own":      nil,
		"injected": fetchtest.NewClient(transport),
		"wrapped":  fetchtest.NewClient(fetchtest.RoundTripFunc(transport.RoundTrip)),
	}
	bad := fetchtest.Canary
	for _, test := range []struct {
		name   string
		change func(*http.Request)
		fine   bool
	}{
		{"Connection", header("Connection", bad), false},
		{"Connection, a list", header("Connection", "close, "+bad), false},
		{"Connection, twice", header("Connection", "close", bad), false},
		{"Upgrade", header("Upgrade", bad), false},
		{"Transfer-Encoding", header("Transfer-Encoding", bad), false},
		{"a request target of another host", func(req *http.Request) { req.URL.Opaque = "//other.example/?" + bad }, false},
		{"a trailer that is none", func(req *http.Request) { req.Trailer = http.Header{"Content-Length": {bad}} }, false},
		{"a trailer with a line end", func(req *http.Request) { req.Trailer = http.Header{"X": {"\n" + bad}} }, false},
		{"Connection: close", header("Connection", "close"), true},
		{"Connection: keep-alive", header("Connection", "Keep-Alive"), true},
		{"Keep-Alive", header("Keep-Alive", bad), true},
		{"Proxy-Connection", header("Proxy-Connection", bad), true},
		{"Transfer-Encoding: chunked", header("Transfer-Encoding", "chunked"), true},
		{"TE: trailers", header("TE", "trailers"), true},
	} {
		for name, client := range clients {
			for _, method := range []string{"GET", "POST"} {
				for _, late := range []bool{false, true} {
					opts := []fetch.Option{fetch.WithClient(client), fetch.WithRetries(2), fetchtest.WithoutBackOff, fetch.WithMaxHostFailures(1)}
					req := fetchtest.NewRequest(t, method, server.URL, strings.NewReader("body"))
					if late {
						opts = append(opts, fetch.WithRequestFunc(func(req *http.Request) error {
							test.change(req)
							return nil
						}))
					} else {
						test.change(req)
					}
					sent.Store(0)
					r := fetchtest.SendOne(t, req, opts...)
					if test.fine {
						if !r.OK() || r.Proto != "HTTP/2.0" {
							t.Errorf("%s, %s, %s, late %v: %d over %s, %v", test.name, name, method, late, r.StatusCode, r.Proto, r.Err)
						}
						continue
					}
					if !errors.Is(r.Err, fetch.ErrInvalidURL) || r.Attempts > 1 || sent.Load() != 0 || strings.Contains(r.Err.Error(), bad) {
						t.Errorf("%s, %s, %s, late %v: %d attempts, %d sent, %v", test.name, name, method, late, r.Attempts, sent.Load(), r.Err)
					}
					for _, sentinel := range fetchtest.Sentinels {
						if sentinel != fetch.ErrInvalidURL && errors.Is(r.Err, sentinel) {
							t.Errorf("%s: %v is %v", test.name, r.Err, sentinel)
						}
					}
				}
			}
		}
	}
}

func header(key string, values ...string) func(*http.Request) {
	return func(req *http.Request) { req.Header[http.CanonicalHeaderKey(key)] = values }
}
