package main

import (
	"context"
	"net/http"
	"net/url"
	"runtime"
)

// getWithRoundTrip uses the least of net/http that fetches a URL: no client, and so no
// timeouts, redirects or cookies. Nobody should write it. It keeps of each response what
// fetch.Result keeps, and so shows what is left for fetch itself to save.
func getWithRoundTrip(ctx context.Context, urls []string, concurrency int) ([][]byte, error) {
	type kept struct {
		url    string
		status int
		header http.Header
		body   []byte
	}
	transport := tunedTransport(concurrency)
	template := (&http.Request{Method: http.MethodGet, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}}).WithContext(ctx)
	all := make([]kept, len(urls))
	defer runtime.KeepAlive(all)
	return workers(urls, concurrency, func(i int, raw string) ([]byte, error) {
		parsed, err := url.Parse(raw)
		if err != nil {
			return nil, err
		}
		request := *template
		request.URL = parsed
		response, err := transport.RoundTrip(&request)
		if err != nil {
			return nil, err
		}
		body, err := readPresized(response, nil)
		all[i] = kept{raw, response.StatusCode, response.Header, body}
		return body, err
	})
}
