package main

import (
	"context"

	"github.com/sourcegraph/conc/pool"
)

func getWithConc(ctx context.Context, urls []string, concurrency int) ([][]byte, error) {
	client := tunedClient(concurrency)
	bodies := make([][]byte, len(urls))
	p := pool.New().WithMaxGoroutines(concurrency).WithErrors()
	for i, url := range urls {
		p.Go(func() (err error) {
			bodies[i], err = clientGet(ctx, client, url)
			return err
		})
	}
	return bodies, p.Wait()
}
