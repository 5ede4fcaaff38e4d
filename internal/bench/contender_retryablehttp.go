package main

import (
	"context"
	"net/http"

	"github.com/hashicorp/go-retryablehttp"
)

func getWithRetryable(ctx context.Context, urls []string, concurrency int) ([][]byte, error) {
	client := retryablehttp.NewClient()
	client.Logger = nil // it logs every request otherwise
	client.HTTPClient = tunedClient(concurrency)
	return group(urls, concurrency, func(url string) ([]byte, error) {
		request, err := retryablehttp.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return nil, err
		}
		return readAll(client.Do(request))
	})
}
