package memory_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// BenchmarkFetchAll measures the library without a network: what a URL costs
// in the engine and in building and reading. It does not measure net/http.
func BenchmarkFetchAll(b *testing.B) {
	for _, hosts := range []int{1, 1000} {
		b.Run(fmt.Sprintf("hosts=%d", hosts), func(b *testing.B) {
			const n = 10_000
			f := fetchtest.NewFetcher(b, fetchtest.Over(cheap("hello")))
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
	f := fetchtest.NewFetcher(b, fetchtest.Over(cheap("hello")))
	urls := fetchtest.Numbered("http://a.example", n)
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
				f := fetchtest.NewFetcher(b, fetch.WithConcurrency(1), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
					resp := fetchtest.Respond(req, 200, "")
					resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), -1
					if known {
						resp.ContentLength = int64(size)
					}
					return resp, nil
				}))
				urls := fetchtest.Numbered("http://a.example", 10)
				b.SetBytes(int64(10 * size))
				b.ReportAllocs()
				for b.Loop() {
					f.FetchAll(b.Context(), urls)
				}
			})
		}
	}
}
