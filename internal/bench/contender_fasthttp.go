package main

import (
	"context"

	"github.com/valyala/fasthttp"
)

func getWithFasthttp(_ context.Context, urls []string, concurrency int) ([][]byte, error) {
	client := &fasthttp.Client{MaxConnsPerHost: concurrency, ReadTimeout: attemptTimeout, WriteTimeout: attemptTimeout}
	return workers(urls, concurrency, func(_ int, url string) ([]byte, error) {
		request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
		defer fasthttp.ReleaseRequest(request)
		defer fasthttp.ReleaseResponse(response)
		request.SetRequestURI(url)
		request.Header.SetBytesV("Accept-Encoding", []byte("gzip"))
		if err := client.Do(request, response); err != nil {
			return nil, err
		}
		if err := wantOK(response.StatusCode()); err != nil {
			return nil, err
		}
		if len(response.Header.ContentEncoding()) > 0 {
			return response.BodyUncompressed()
		}
		return append([]byte(nil), response.Body()...), nil // the response is used again
	})
}
