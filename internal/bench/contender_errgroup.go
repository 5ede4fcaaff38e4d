package main

import (
	"context"
	"net/http"
)

func getWithErrgroup(ctx context.Context, urls []string, concurrency int) ([][]byte, error) {
	client := tunedClient(concurrency)
	return group(urls, concurrency, func(url string) ([]byte, error) { return clientGet(ctx, client, url) })
}

func getWithDefaultClient(ctx context.Context, urls []string, concurrency int) ([][]byte, error) {
	return group(urls, concurrency, func(url string) ([]byte, error) { return clientGet(ctx, http.DefaultClient, url) })
}

func clientGet(ctx context.Context, client *http.Client, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return readAll(client.Do(request))
}
