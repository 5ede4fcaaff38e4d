package retries_test

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestTheBackOffIsRandomWithinItsBounds(t *testing.T) {
	for name, c := range map[string]struct {
		opt       []fetch.Option
		base, max time.Duration
	}{
		"by default":         {nil, 200 * time.Millisecond, 10 * time.Second},
		"with a low maximum": {[]fetch.Option{fetch.WithBackoff(100*time.Millisecond, 300*time.Millisecond)}, 100 * time.Millisecond, 300 * time.Millisecond},
		"with base 0":        {[]fetch.Option{fetch.WithBackoff(0, time.Second)}, 0, time.Second},
		"that is long":       {[]fetch.Option{fetch.WithBackoff(1000*time.Hour, 1<<63-1)}, 1000 * time.Hour, 1<<63 - 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const retries = 6
				urls := fetchtest.HostURLs(1, slices.Collect(fetchtest.NumberedHosts(64))...)
				sent := fetchtest.NewTimeline()
				results := fetch.FetchAll(t.Context(), urls, append(c.opt, fetch.WithRetries(retries), fetchtest.Over(sent.Over(fetchtest.Taking(time.Millisecond, fetchtest.Always(500)))))...)
				fetchtest.CheckResults(t, urls, results)
				var gaps [retries][]time.Duration
				for _, rawURL := range urls {
					at := sent.OfURL(rawURL)
					if len(at) != retries+1 {
						t.Fatalf("%s was requested %d times", rawURL, len(at))
					}
					for n := range retries {
						gaps[n] = append(gaps[n], at[n+1]-at[n]-time.Millisecond)
					}
				}
				ceiling := c.base
				for n, gaps := range gaps {
					least, most := slices.Min(gaps), slices.Max(gaps)
					if least < 0 || most > ceiling {
						t.Errorf("back-off %d is from %v to %v, more than %v", n, least, most, ceiling)
					}
					// 64 of them reach into both ends of the range but for one run in a million.
					if least > ceiling/5 || most < ceiling-ceiling/5 {
						t.Errorf("back-off %d is only from %v to %v, not up to %v", n, least, most, ceiling)
					}
					if ceiling > c.max/2 {
						ceiling = c.max
					} else {
						ceiling *= 2
					}
				}
			})
		})
	}
}

func TestALoneURLInBackOffWakesOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := fetchtest.NewTimeline()
		const rawURL = "http://a.example/"
		r := fetchtest.GetOne(t, rawURL, fetch.WithRetries(1), fetch.WithBackoff(time.Hour, time.Hour), fetchtest.Over(sent.Over(fetchtest.InTurn(fetchtest.Taking(time.Second, fetchtest.Always(500)), fetchtest.AnswerAfter(time.Second)))))
		at := sent.OfURL(rawURL)
		if len(at) != 2 || !r.OK() {
			t.Fatalf("requests at %v, %v", at, r.Err)
		}
		fetchtest.CheckTook(t, "the back-off", at[1]-time.Second, r.Waited)
		fetchtest.CheckTook(t, "the batch", time.Since(sent.Start), r.Waited+2*time.Second)
		if r.Waited > time.Hour {
			t.Errorf("waited %v", r.Waited)
		}
	})
}

func TestAURLInBackOffHoldsNoSlotAndNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const waiting, slots = 1000, 4
		var failed atomic.Int32
		before := runtime.NumGoroutine()
		rt := func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "good" {
				if n := failed.Load(); n < waiting-slots {
					t.Errorf("a good URL started when only %d had failed", n)
				}
				if n := runtime.NumGoroutine() - before; n > slots+4 {
					t.Errorf("%d goroutines for %d slots", n, slots)
				}
				return fetchtest.AnswerAfter(10 * time.Millisecond)(req)
			}
			if failed.Add(1) > waiting {
				return fetchtest.Respond(req, 200, "ok"), nil
			}
			return fetchtest.Respond(req, 500, "sorry"), nil
		}
		urls := slices.Concat(fetchtest.HostURLs(1, slices.Collect(fetchtest.NumberedHosts(waiting))...), fetchtest.Numbered("http://good", 400))
		start := time.Now()
		var last time.Duration
		for r := range fetch.Stream(t.Context(), slices.Values(urls), fetch.WithRetries(1), fetch.WithConcurrency(slots),
			fetch.WithBackoff(1000*time.Hour, 1000*time.Hour), fetchtest.Over(rt)) {
			fetchtest.CheckResult(t, r.Index, urls[r.Index], r)
			if r.Index >= waiting {
				last = time.Since(start)
			}
		}
		fetchtest.CheckTook(t, "400 URLs, 4 at once, beside 1000 that wait,", last, time.Second)
	})
}

func TestABackOffThatCannotFitEndsAtOnce(t *testing.T) {
	for name, step := range map[string]fetchtest.RoundTripFunc{"status 500": fetchtest.Always(500), "connection reset": fetchtest.Failing(fetchtest.ErrReset)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				urls := []string{"http://a.example/"}
				start := time.Now()
				results := fetch.FetchAll(ctx, urls, fetch.WithRetries(9), fetch.WithBackoff(1e6*time.Hour, 1e6*time.Hour), fetchtest.Over(step))
				fetchtest.CheckTook(t, "the batch", time.Since(start), 0)
				fetchtest.CheckResults(t, urls, results)
				r := results[0]
				if r.Attempts != 1 || errors.Is(r.Err, context.DeadlineExceeded) {
					t.Errorf("%d attempts, %d, %v", r.Attempts, r.StatusCode, r.Err)
				}
				if name == "status 500" && (r.StatusCode != 500 || string(r.Body) != "body of 500") {
					t.Errorf("got %d %q", r.StatusCode, r.Body)
				}
			})
		})
	}
}

func TestACancelEndsABackOffAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(5*time.Second, func() { cancel(fetchtest.ErrLeft) })
		// The last refused URL waits for its back-off, the other for the pause of its host.
		urls := []string{"http://a.example/", "http://b.example/"}
		steps := fetchtest.InTurn(fetchtest.Taking(time.Second, fetchtest.Failing(fetchtest.ErrReset)), fetchtest.Taking(time.Second, fetchtest.Always(429, "Retry-After", "1")), fetchtest.Taking(time.Second, fetchtest.Always(429, "Retry-After", "50")))
		start := time.Now()
		results := fetch.FetchAll(ctx, urls, fetch.WithRetries(9), fetch.WithBackoff(1e6*time.Hour, 1e6*time.Hour), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "a.example" {
				return fetchtest.Taking(time.Second, fetchtest.Always(500))(req)
			}
			return steps(req)
		}))
		fetchtest.CheckTook(t, "the batch", time.Since(start), 5*time.Second)
		fetchtest.CheckResults(t, urls, results)
		for _, r := range results {
			fetchtest.CheckCancelled(t, ctx, r)
			fetchtest.CheckTook(t, r.URL, r.Waited+r.Took, 5*time.Second)
		}
		if r := results[0]; r.Attempts != 1 || r.StatusCode != 500 || r.Took != time.Second {
			t.Errorf("in back-off: %d attempts, %d, took %v", r.Attempts, r.StatusCode, r.Took)
		}
	})
}

func TestTheEndOfARequestsOwnContextEndsItsBackOffOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(2*time.Second, func() { cancel(fetchtest.ErrLeft) })
		reqs := []*http.Request{
			fetchtest.NewRequest(t, "GET", "http://a.example/0", nil).WithContext(ctx),
			fetchtest.NewRequest(t, "GET", "http://a.example/1", nil),
		}
		urls := fetchtest.Numbered("http://a.example", 2)
		results := fetchtest.NewFetcher(t, fetch.WithRetries(1), fetchtest.Over(fetchtest.Taking(time.Millisecond, fetchtest.InTurn(fetchtest.Always(429, "Retry-After", "5"), fetchtest.AtOnce)))).DoAll(t.Context(), reqs)
		fetchtest.CheckResults(t, urls, results)
		fetchtest.CheckCancelled(t, ctx, results[0])
		fetchtest.CheckTook(t, "the cancelled one", results[0].Waited+results[0].Took, 2*time.Second)
		if r := results[1]; !r.OK() || r.Waited < 5*time.Second || r.Waited > 6*time.Second {
			t.Errorf("the other: waited %v, %v", r.Waited, r.Err)
		}
	})
}

func TestLeavingTheLoopEndsBackOffs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		urls := slices.Concat(fetchtest.Numbered("http://dead", 5), []string{"http://good/"})
		start := time.Now()
		for r := range fetch.Stream(t.Context(), slices.Values(urls), fetch.WithRetries(1), fetch.WithBackoff(1e6*time.Hour, 1e6*time.Hour), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "good" {
				return fetchtest.AnswerAfter(time.Second)(req)
			}
			return nil, fetchtest.ErrRefused
		})) {
			fetchtest.CheckResult(t, 5, "http://good/", r)
			break
		}
		fetchtest.CheckTook(t, "the loop", time.Since(start), time.Second)
	})
}
