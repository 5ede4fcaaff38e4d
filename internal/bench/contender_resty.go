package main

import (
	"context"

	"resty.dev/v3"
)

func getWithResty(ctx context.Context, urls []string, concurrency int) ([][]byte, error) {
	client := resty.New().SetTransport(tunedTransport(concurrency)).SetTimeout(attemptTimeout)
	defer client.Close()
	return group(urls, concurrency, func(url string) ([]byte, error) {
		response, err := client.R().SetContext(ctx).Get(url)
		if err != nil {
			return nil, err
		}
		return response.Bytes(), wantOK(response.StatusCode())
	})
}
