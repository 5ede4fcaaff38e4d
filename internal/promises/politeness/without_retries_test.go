package politeness_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestWithoutRetriesOnlyTheRefusedURLEndsWithItsRefusal(t *testing.T) {
	for _, status := range []int{429, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const ms = time.Millisecond
				sent := fetchtest.NewTimeline()
				var n atomic.Int32
				urls := fetchtest.Numbered("http://a.example", 10)
				results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1), fetchtest.Over(sent.Over(func(req *http.Request) (*http.Response, error) {
					if n.Add(1) == 1 {
						return fetchtest.Taking(10*ms, fetchtest.Always(status, "Retry-After", "2"))(req)
					}
					return fetchtest.AnswerAfter(10 * ms)(req)
				})))
				fetchtest.MustAllBeFine(t, urls, results)
				if r := results[0]; r.StatusCode != status || string(r.Body) != fmt.Sprint("body of ", status) || r.Header.Get("Retry-After") != "2" || r.Attempts != 1 {
					t.Errorf("the refused one: %d %q %v", r.StatusCode, r.Body, r.Header)
				}
				for _, r := range results[1:] {
					if !r.OK() || r.Attempts != 1 || r.Waited < 2010*ms {
						t.Errorf("%s: %d after %v", r.URL, r.StatusCode, r.Waited)
					}
				}
				if at := sent.OfHost("a.example"); len(at) != 10 || at[1] != 2010*ms {
					t.Errorf("requests at %v", at)
				}
			})
		})
	}
}

func TestWithMaxRetryAfter0IgnoresRetryAfter(t *testing.T) {
	const ms = time.Millisecond
	t.Run("without retries nothing waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			urls := fetchtest.Numbered("http://a.example", 100)
			results := fetch.FetchAll(t.Context(), urls, fetch.WithMaxRetryAfter(0), fetch.WithConcurrency(10), fetchtest.Over(fetchtest.Taking(ms, fetchtest.Always(429, "Retry-After", "100000"))))
			fetchtest.MustAllBeFine(t, urls, results)
			fetchtest.CheckTook(t, "100 URLs, 10 at once,", time.Since(start), 10*ms)
		})
	})
	t.Run("a 429 is followed by a back-off", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := fetchtest.GetOne(t, "http://a.example/", fetch.WithMaxRetryAfter(0), fetch.WithRetries(1), fetch.WithBackoff(ms, ms),
				fetchtest.Over(fetchtest.InTurn(fetchtest.Always(429, "Retry-After", "100000"), fetchtest.AtOnce)))
			if !r.OK() || r.Waited > ms {
				t.Errorf("%d, waited %v", r.StatusCode, r.Waited)
			}
		})
	})
	t.Run("a 503 is a failure like any other", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			urls := fetchtest.Numbered("http://a.example", 100)
			results := fetch.FetchAll(t.Context(), urls, fetch.WithMaxRetryAfter(0), fetchtest.Over(fetchtest.Taking(ms, fetchtest.Always(503, "Retry-After", "100000"))))
			fetchtest.MustAllBeFine(t, urls, results)
			fetchtest.CheckTook(t, "100 URLs, 64 at once,", time.Since(start), 2*ms)
		})
	})
}

func TestA429WithoutRetryAfterPausesNothingWithoutRetries(t *testing.T) {
	for _, value := range []string{"", "0", "-1", "soon", "Sun, 06 Nov 1994 08:49:37 GMT"} {
		t.Run(value, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const ms = time.Millisecond
				var flight fetchtest.InFlight
				start := time.Now()
				urls := fetchtest.Numbered("http://a.example", 100)
				results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(10), fetchtest.Over(flight.Over(fetchtest.Taking(ms, func(req *http.Request) (*http.Response, error) {
					resp := fetchtest.Respond(req, 429, "no")
					if value != "" {
						resp.Header.Set("Retry-After", value)
					}
					return resp, nil
				}))))
				fetchtest.MustAllBeFine(t, urls, results)
				fetchtest.CheckTook(t, "100 URLs, 10 at once,", time.Since(start), 10*ms)
				if flight.Total() != 100 {
					t.Errorf("%d requests", flight.Total())
				}
			})
		})
	}
}
