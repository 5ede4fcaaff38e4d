package limits_test

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
	"golang.org/x/time/rate"
)

func TestLimiterGivesOnePermitForEachRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight fetchtest.InFlight
		var permits, waiting atomic.Int32
		limiter := fetchtest.LimiterFunc(func(ctx context.Context) error {
			if waiting.Add(1) > 1 {
				t.Error("Wait is called while another call of it runs")
			}
			defer waiting.Add(-1)
			if _, ok := ctx.Deadline(); ok {
				t.Error("the context of Wait has a deadline")
			}
			if n := flight.Current(); n >= 3 {
				t.Errorf("Wait is called while %d are in flight, and nothing could start", n)
			}
			permits.Add(1)
			return fetchtest.SleepCtx(ctx, 7*time.Millisecond)
		})
		transport := flight.Over(func(req *http.Request) (*http.Response, error) {
			if err := fetchtest.SleepCtx(req.Context(), 50*time.Millisecond); err != nil {
				return nil, err
			}
			if req.URL.Host == "a" {
				return fetchtest.Respond(req, 302, "", "Location", "http://c/"), nil
			}
			return fetchtest.Respond(req, 200, "ok"), nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		urls := fetchtest.HostURLs(20, "a", "b")
		fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(ctx, urls, fetch.WithLimiter(limiter), fetch.WithConcurrency(3), fetchtest.Over(transport)))
		if permits.Load() != 60 || flight.Total() != 60 || flight.Most() != 3 {
			t.Errorf("%d permits for %d requests, %d at once; want 60, 60, 3", permits.Load(), flight.Total(), flight.Most())
		}
	})
}

func TestRateLimiterCanBeShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log fetchtest.StartLog
		limiter := rate.NewLimiter(10, 1)
		transport := fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			log.Add()
			return fetchtest.Respond(req, 200, "ok"), nil
		})
		urls := fetchtest.HostURLs(10, "a")
		start := time.Now()
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithLimiter(limiter), transport))
			})
		}
		wg.Wait()
		if took := time.Since(start); took < 1899*time.Millisecond || took > 1901*time.Millisecond {
			t.Errorf("20 requests, 10 a second, took %v", took)
		}
		if log.Len() != 20 {
			t.Errorf("%d were sent, want 20", log.Len())
		}
	})
}

func TestErrorOfTheLimiterEndsTheOldestURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noPermit := errors.New("no permit")
		calls := 0
		urls := fetchtest.HostURLs(6, "a")
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1), fetchtest.Over(fetchtest.AnswerAfter(time.Second)),
			fetch.WithLimiter(fetchtest.LimiterFunc(func(context.Context) error {
				if calls++; calls == 3 {
					return noPermit
				}
				return nil
			})))
		fetchtest.CheckResults(t, urls, results)
		for i, r := range results {
			if want := i == 2; errors.Is(r.Err, noPermit) != want || r.OK() == want {
				t.Errorf("result %d: error %v", i, r.Err)
			}
		}
	})
}

func TestLimiterThatOnlyFailsEndsEveryURL(t *testing.T) {
	noPermit := errors.New("no permit")
	urls := fetchtest.HostURLs(50, "a", "b")
	results := fetch.FetchAll(t.Context(), urls, fetchtest.Over(fetchtest.AnswerAfter(0)),
		fetch.WithLimiter(fetchtest.LimiterFunc(func(context.Context) error { return noPermit })))
	fetchtest.CheckResults(t, urls, results)
	for _, r := range results {
		if !errors.Is(r.Err, noPermit) || r.Attempts != 0 {
			t.Errorf("%s: %d attempts, error %v", r.URL, r.Attempts, r.Err)
		}
	}
}
