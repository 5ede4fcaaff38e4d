package main

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/batchhttp/fetch"
)

// The contenders here are fetch that is watched in each way.

// getWithFetchPolled asks for Stats ten times a second.
func getWithFetchPolled(ctx context.Context, urls []string, concurrency int) ([][]byte, error) {
	f, err := fetch.New(fetch.WithConcurrency(concurrency))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var polls sync.WaitGroup
	polls.Go(func() {
		tick := time.NewTicker(time.Second / 10)
		defer tick.Stop()
		for {
			f.Stats()
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
	bodies, err := bodiesOf(f.FetchAll(ctx, urls))
	cancel()
	polls.Wait()
	return bodies, err
}

// getWithFetchHooks sets all hooks, which count.
func getWithFetchHooks(ctx context.Context, urls []string, concurrency int) ([][]byte, error) {
	var attempts, done, paused atomic.Int64
	return bodiesOf(fetch.FetchAll(ctx, urls, fetch.WithConcurrency(concurrency), fetch.WithHooks(fetch.Hooks{
		Attempt: func(fetch.Result, time.Time) { attempts.Add(1) },
		Done:    func(fetch.Result) { done.Add(1) },
		Paused:  func(string, time.Time) { paused.Add(1) },
	})))
}

// getWithFetchWrapped has a RoundTripper around the own client that asks whose request it sees.
func getWithFetchWrapped(ctx context.Context, urls []string, concurrency int) ([][]byte, error) {
	var seen atomic.Int64
	return bodiesOf(fetch.FetchAll(ctx, urls, fetch.WithConcurrency(concurrency), fetch.WithTransport(func(next http.RoundTripper) http.RoundTripper {
		return informed{next, &seen}
	})))
}

type informed struct {
	next http.RoundTripper
	seen *atomic.Int64
}

func (i informed) RoundTrip(req *http.Request) (*http.Response, error) {
	if info, ok := fetch.InfoOf(req.Context()); ok {
		i.seen.Add(int64(info.Attempt))
	}
	return i.next.RoundTrip(req)
}
