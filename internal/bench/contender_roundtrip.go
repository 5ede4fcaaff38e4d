package main

import (
	"context"
	"net/http"
	"net/url"
	"runtime"
)

// getWithRoundTrip is the least that net/http can be used with, which nobody should: it has
// no timeouts, redirects or errors of its own. It keeps what fetch.Result keeps,
// and so shows what is left for fetch itself to save.
func getWithRoundTrip(ctx context.Context, urls []string, concurrency int) ([][]byte, error) {
	type answer struct {
		url    string
		status int
		header http.Header
		body   []byte
	}
	transport := tunedTransport(concurrency)
	template := (&http.Request{Method: http.MethodGet, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}}).WithContext(ctx)
	answers := make([]answer, len(urls))
	defer runtime.KeepAlive(answers)
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
		answers[i] = answer{raw, response.StatusCode, response.Header, body}
		return body, err
	})
}
