package main

import (
	"context"
	"io"
	"net/http"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// getWithWorkerLoop is what a careful author writes for one program, without
// retries, limits or redirect rules: the least that a library can be compared with.
func getWithWorkerLoop(ctx context.Context, urls []string, concurrency int) ([][]byte, error) {
	client := &http.Client{Transport: tunedTransport(concurrency)}
	return workers(urls, concurrency, func(_ int, url string) ([]byte, error) {
		attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
		defer cancel()
		request, err := http.NewRequestWithContext(attempt, http.MethodGet, url, nil)
		if err != nil {
			return nil, err
		}
		return readPresized(client.Do(request))
	})
}

// workers calls get for every URL, on as many goroutines as may be in flight.
func workers(urls []string, concurrency int, get func(i int, url string) ([]byte, error)) ([][]byte, error) {
	bodies := make([][]byte, len(urls))
	var g errgroup.Group
	var next atomic.Int64
	for range concurrency {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(urls) {
					return nil
				}
				body, err := get(i, urls[i])
				if err != nil {
					return err
				}
				bodies[i] = body
			}
		})
	}
	return bodies, g.Wait()
}

// readPresized is readAll with one allocation where the length is known.
func readPresized(response *http.Response, err error) ([]byte, error) {
	if err != nil || response.ContentLength < 0 {
		return readAll(response, err)
	}
	defer response.Body.Close()
	if err := wantOK(response.StatusCode); err != nil {
		return nil, err
	}
	body := make([]byte, response.ContentLength)
	_, err = io.ReadFull(response.Body, body)
	return body, err
}
