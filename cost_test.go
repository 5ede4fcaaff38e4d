package fetch_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/batchhttp/fetch"
)

// cheap answers every request at as little cost as a RoundTripper can: a
// response and a reader for its body.
func cheap(body string) roundTripFunc {
	header := http.Header{"Content-Type": {"text/plain"}}
	return func(req *http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Request: req,
			Header: header, ContentLength: int64(len(body)), Body: io.NopCloser(strings.NewReader(body)),
		}, nil
	}
}

// What the library itself allocates for a URL: the request, its URL, its header (a map and what
// is in it), which an injected client might change, and the body. cheap allocates the
// response, a reader and its NopCloser.
func TestARequestCostsAFixedNumberOfAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates too")
	}
	const n, ours, theirs = 2000, 5, 3
	f := newFetcher(t, over(cheap("hello")), fetch.WithConcurrency(4))
	urls := numbered("http://a.example", n)
	each := testing.AllocsPerRun(5, func() {
		if results := f.FetchAll(t.Context(), urls); results[n-1].Err != nil {
			t.Fatal(results[n-1].Err)
		}
	}) / n
	checkResults(t, urls, f.FetchAll(t.Context(), urls))
	t.Logf("%.2f allocations for each URL, of which %d are the transport's", each, theirs)
	if each > ours+theirs+0.5 { // the call itself allocates a little
		t.Errorf("%.2f allocations for each URL, want at most %d", each, ours+theirs)
	}
}

// BenchmarkFetchAll measures the library without a network: what a URL costs
// in the engine and in building and reading. It does not measure net/http.
func BenchmarkFetchAll(b *testing.B) {
	for _, hosts := range []int{1, 1000} {
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) {
			const n = 10_000
			f := newFetcher(b, over(cheap("hello")))
			var urls []string
			for i := range n {
				urls = append(urls, fmt.Sprintf("http://h%d.example/%d", i%hosts, i))
			}
			b.ReportAllocs()
			for b.Loop() {
				f.FetchAll(b.Context(), urls)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/URL")
		})
	}
}

// BenchmarkStream measures the same through Stream.
func BenchmarkStream(b *testing.B) {
	const n = 10_000
	f := newFetcher(b, over(cheap("hello")))
	urls := numbered("http://a.example", n)
	b.ReportAllocs()
	for b.Loop() {
		for range f.Stream(b.Context(), slices.Values(urls)) {
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/URL")
}

// BenchmarkBody measures reading bodies, with a length and without.
func BenchmarkBody(b *testing.B) {
	for _, size := range []int{1 << 10, 100 << 10, 4 << 20} {
		for _, known := range []bool{true, false} {
			b.Run(fmt.Sprintf("size=%d/known=%v", size, known), func(b *testing.B) {
				body := bytes.Repeat([]byte("x"), size)
				f := newFetcher(b, fetch.WithConcurrency(1), over(func(req *http.Request) (*http.Response, error) {
					resp := respond(req, 200, "")
					resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), -1
					if known {
						resp.ContentLength = int64(size)
					}
					return resp, nil
				}))
				urls := numbered("http://a.example", 10)
				b.SetBytes(int64(10 * size))
				b.ReportAllocs()
				for b.Loop() {
					f.FetchAll(b.Context(), urls)
				}
			})
		}
	}
}
