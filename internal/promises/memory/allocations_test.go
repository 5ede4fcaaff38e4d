package memory_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// cheap answers every request at as little cost as a RoundTripper can: a
// response and a reader for its body.
func cheap(body string) fetchtest.RoundTripFunc {
	header := http.Header{"Content-Type": {"text/plain"}}
	return func(req *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
			Header: header, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body)),
		}, nil
	}
}

// The library itself allocates for a URL the request, its URL, its header (a map and its
// content), which an injected client might change, and the body. cheap allocates the
// response, a reader and its NopCloser.
func TestARequestCostsAFixedNumberOfAllocations(t *testing.T) {
	if fetchtest.RaceEnabled {
		t.Skip("the race detector allocates too")
	}
	const n, ours, theirs = 2000, 5, 3
	f := fetchtest.NewFetcher(t, fetchtest.Over(cheap("hello")), fetch.WithConcurrency(4))
	urls := fetchtest.Numbered("http://a.example", n)
	each := testing.AllocsPerRun(5, func() {
		if results := f.FetchAll(t.Context(), urls); results[n-1].Err != nil {
			t.Fatal(results[n-1].Err)
		}
	}) / n
	fetchtest.CheckResults(t, urls, f.FetchAll(t.Context(), urls))
	t.Logf("%.2f allocations for each URL, of which %d are the transport's", each, theirs)
	if each > ours+theirs+0.5 { // the call itself allocates a little
		t.Errorf("%.2f allocations for each URL, want at most %d", each, ours+theirs)
	}
}
