package clients

import (
	"context"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/batchhttp/fetch"
	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"
	"github.com/schollz/progressbar/v3"
)

// A fleetLimiter is a Limiter that several machines share by redis_rate.
type fleetLimiter struct {
	limiter *redis_rate.Limiter
	limit   redis_rate.Limit
}

// Wait waits until redis_rate has a permit.
func (l fleetLimiter) Wait(ctx context.Context) error {
	for {
		answer, err := l.limiter.Allow(ctx, "fleet", l.limit)
		if err != nil || answer.Allowed > 0 {
			return err
		}
		select {
		case <-time.After(answer.RetryAfter):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Two Fetchers that share a limit in Redis keep to it together.
func TestRedisRate(t *testing.T) {
	server := miniredis.RunT(t)
	s := newServer(t, hello)
	start := time.Now()
	var fetchers sync.WaitGroup
	for range 2 {
		client := redis.NewClient(&redis.Options{Addr: server.Addr()})
		defer client.Close()
		limiter := fleetLimiter{redis_rate.NewLimiter(client), redis_rate.Limit{Rate: 100, Burst: 10, Period: time.Second}}
		fetchers.Go(func() {
			mustBeFine(t, fetch.FetchAll(t.Context(), numbered(s.URL, 30), fetch.WithLimiter(limiter)), "hello")
		})
	}
	fetchers.Wait()
	if took, least := time.Since(start), 490*time.Millisecond; took < least {
		t.Errorf("60 requests in %v, at 100 a second and 10 at once", took)
	}
}

// progressbar is driven by the hook of Done, from several goroutines.
func TestProgressbar(t *testing.T) {
	s := newServer(t, hello)
	urls := slices.Concat(numbered(s.URL, 100), []string{"not a URL"})
	bar := progressbar.NewOptions(len(urls), progressbar.OptionSetWriter(io.Discard))
	get(t, urls, fetch.WithHooks(fetch.Hooks{Done: func(fetch.Result) { bar.Add(1) }}))
	if state := bar.State(); state.CurrentNum != int64(len(urls)) || !bar.IsFinished() {
		t.Errorf("%d of %d", state.CurrentNum, len(urls))
	}
}
