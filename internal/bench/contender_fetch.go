package main

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/batchhttp/fetch"
)

func getWithFetch(ctx context.Context, urls []string, concurrency int) ([][]byte, error) {
	return bodiesOf(fetch.FetchAll(ctx, urls, fetch.WithConcurrency(concurrency)))
}

// getWithFetchOptions turns on retries and every limit, none of which ever
// binds: what is left is what it costs to watch them.
func getWithFetchOptions(ctx context.Context, urls []string, concurrency int) ([][]byte, error) {
	const rate, burst = 1e9, 1_000_000
	return bodiesOf(fetch.FetchAll(ctx, urls,
		fetch.WithConcurrency(concurrency),
		fetch.WithHostConcurrency(concurrency),
		fetch.WithRate(rate, burst),
		fetch.WithHostRate(rate, burst),
		fetch.WithTimeout(time.Minute),
		fetch.WithRetries(2),
		fetch.WithMaxHostFailures(10),
		fetch.WithPublicOnly(netip.MustParsePrefix("127.0.0.0/8")),
		fetch.WithMaxBody(1<<20),
		fetch.WithMaxRedirects(3),
		fetch.WithHeader("X-Bench", "1"),
		fetch.WithStatusErrors(),
		fetch.WithDedup(),
	))
}

// getWithFetchNetHTTP shows what fetch's own connections are worth.
func getWithFetchNetHTTP(ctx context.Context, urls []string, concurrency int) ([][]byte, error) {
	client := &http.Client{Transport: tunedTransport(concurrency)}
	return bodiesOf(fetch.FetchAll(ctx, urls, fetch.WithConcurrency(concurrency), fetch.WithClient(client)))
}

func bodiesOf(results []fetch.Result) ([][]byte, error) {
	bodies := make([][]byte, len(results))
	for i, r := range results {
		bodies[i] = r.Body
	}
	return bodies, fetch.JoinErrors(results)
}
