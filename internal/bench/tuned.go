package main

import (
	"fmt"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// attemptTimeout never strikes here, but everyone sets it who fetches from strangers.
const attemptTimeout = 30 * time.Second

// tunedTransport is what an expert gives to a client that fetches many URLs:
// all connections stay open between requests.
func tunedTransport(concurrency int) *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConns = 0 // no limit
	t.MaxIdleConnsPerHost = concurrency
	return t
}

func tunedClient(concurrency int) *http.Client {
	return &http.Client{Transport: tunedTransport(concurrency), Timeout: attemptTimeout}
}

// group calls get for every URL, each on a goroutine of its own, as most
// programs do that use an errgroup.
func group(urls []string, concurrency int, get func(url string) ([]byte, error)) ([][]byte, error) {
	bodies := make([][]byte, len(urls))
	var g errgroup.Group
	g.SetLimit(concurrency)
	for i, url := range urls {
		g.Go(func() (err error) {
			bodies[i], err = get(url)
			return err
		})
	}
	return bodies, g.Wait()
}

// readAll reads and closes the body of a response to the error that came with it.
func readAll(response *http.Response, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	if err := wantOK(response.StatusCode); err != nil {
		return nil, err
	}
	return io.ReadAll(response.Body)
}

func wantOK(status int) error {
	if status != http.StatusOK {
		return fmt.Errorf("status %d", status)
	}
	return nil
}
