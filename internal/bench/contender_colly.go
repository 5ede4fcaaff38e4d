package main

import (
	"context"
	"errors"
	"sync"

	"github.com/gocolly/colly/v2"
)

func getWithColly(ctx context.Context, urls []string, concurrency int) ([][]byte, error) {
	const indexKey = "index"
	collector := colly.NewCollector(colly.Async(true), colly.AllowURLRevisit(), colly.StdlibContext(ctx))
	collector.WithTransport(tunedTransport(concurrency))
	if err := collector.Limit(&colly.LimitRule{DomainGlob: "*", Parallelism: concurrency}); err != nil {
		return nil, err
	}
	bodies := make([][]byte, len(urls))
	var lock sync.Mutex
	var failures []error
	collector.OnResponse(func(r *colly.Response) {
		bodies[r.Ctx.GetAny(indexKey).(int)] = r.Body
	})
	collector.OnError(func(_ *colly.Response, err error) {
		lock.Lock()
		defer lock.Unlock()
		failures = append(failures, err)
	})
	for i, url := range urls {
		page := colly.NewContext()
		page.Put(indexKey, i)
		if err := collector.Request("GET", url, nil, page, nil); err != nil {
			return nil, err
		}
	}
	collector.Wait()
	return bodies, errors.Join(failures...)
}
