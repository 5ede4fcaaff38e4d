package panics_test

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// That is what t.FailNow does.
func TestGoexitInOthersCodeIsAnErrorOfThatURL(t *testing.T) {
	for name, options := range explosives {
		if name == "Limiter" {
			continue // below: it is not the code of one URL
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := fetchtest.NewFetcher(t, append(options(runtime.Goexit, fetchtest.AnswerAfter(time.Hour)), fetch.WithTimeout(time.Minute), fetch.WithConcurrency(1))...)
				var results []fetch.Result
				start := time.Now()
				value, ended := fetchtest.Recovered(func() { results = f.FetchAll(t.Context(), bombURLs) })
				if value != nil || !ended {
					t.Fatalf("FetchAll panicked with %v, or never returned", value)
				}
				// Five run into their timeout one after another: the slot was not lost.
				fetchtest.CheckTook(t, "the batch", time.Since(start), 5*time.Minute)
				fetchtest.CheckResults(t, bombURLs, results)
				for i, r := range results {
					if r.Err == nil || errors.Is(r.Err, fetch.ErrTimeout) != (i != 3) {
						t.Errorf("%s: %v", r.URL, r.Err)
					}
				}
			})
		})
	}
}

func TestGoexitInTheLimiterIsAnErrorOfOneURL(t *testing.T) {
	calls := 0
	urls := fetchtest.HostURLs(5, "a")
	results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1), fetchtest.Over(fetchtest.AnswerAfter(0)),
		fetch.WithLimiter(fetchtest.LimiterFunc(func(context.Context) error {
			if calls++; calls == 2 {
				runtime.Goexit()
			}
			return nil
		})))
	fetchtest.CheckResults(t, urls, results)
	for i, r := range results {
		if (r.Err != nil) != (i == 1) {
			t.Errorf("result %d: %v", i, r.Err)
		}
	}
}

func TestARetryIfThatExitsEndsItsURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		urls := fetchtest.HostURLs(3, "exits", "good")
		results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(2), fetchtest.WithoutBackOff, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "good" {
				return fetchtest.Respond(req, 200, "ok"), nil
			}
			return fetchtest.Respond(req, 503, "sorry"), nil
		}), fetch.WithRetryIf(func(r fetch.Result) bool {
			if r.StatusCode == 503 {
				runtime.Goexit()
			}
			return false
		}))
		fetchtest.CheckResults(t, urls, results)
		for _, r := range results {
			if good := strings.HasPrefix(r.URL, "http://good"); good != (r.Err == nil) {
				t.Errorf("%s: %v", r.URL, r.Err)
			}
		}
	})
}
