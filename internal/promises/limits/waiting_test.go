package limits_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestWaitingInAQueueIsNotChargedToTheTimeout(t *testing.T) {
	for name, c := range map[string]struct {
		limit fetch.Option
		every time.Duration // between starts
	}{
		"of a slot":         {fetch.WithConcurrency(1), 200 * time.Millisecond},
		"of its host":       {fetch.WithHostConcurrency(1), 200 * time.Millisecond},
		"of a rate":         {fetch.WithRate(1, 1), time.Second},
		"of a host rate":    {fetch.WithHostRate(1, 1), time.Second},
		"of the limiter":    {fetch.WithLimiter(everySecond()), time.Second},
		"of WithHostLimits": {fetch.WithHostLimits(func(string) fetch.HostLimits { return fetch.HostLimits{Rate: 1} }), time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				urls := fetchtest.HostURLs(50, "host")
				results := fetch.FetchAll(t.Context(), urls, c.limit,
					fetch.WithTimeout(500*time.Millisecond), fetchtest.Over(fetchtest.AnswerAfter(200*time.Millisecond)))
				took := time.Since(start)
				fetchtest.MustAllBeFine(t, urls, results)
				near := func(got, want time.Duration) bool { return got >= want && got < want+time.Microsecond }
				for i, r := range results {
					if want := time.Duration(i) * c.every; !near(r.Waited, want) || r.Took != 200*time.Millisecond {
						t.Errorf("result %d: Waited %v, Took %v, want %v and 200 ms", i, r.Waited, r.Took, want)
					}
				}
				if want := 49*c.every + 200*time.Millisecond; !near(took, want) {
					t.Errorf("the batch took %v, want %v", took, want)
				}
			})
		})
	}
}

// everySecond is a Limiter whose first permit is free and whose others take a second each.
func everySecond() fetch.Limiter {
	var next time.Time
	return fetchtest.LimiterFunc(func(ctx context.Context) error {
		defer func() { next = time.Now().Add(time.Second) }()
		return fetchtest.SleepCtx(ctx, time.Until(next))
	})
}

func TestWaitedAndTookAddUpOverRedirects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The request to b waits for the one that is in flight there.
		transport := fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			switch req.URL.String() {
			case "http://b/busy":
				return fetchtest.AnswerAfter(time.Second)(req)
			case "http://a/":
				if err := fetchtest.SleepCtx(req.Context(), 100*time.Millisecond); err != nil {
					return nil, err
				}
				return fetchtest.Respond(req, 302, "", "Location", "http://b/target"), nil
			}
			return fetchtest.AnswerAfter(30 * time.Millisecond)(req)
		})
		urls := []string{"http://b/busy", "http://a/"}
		results := fetch.FetchAll(t.Context(), urls, fetch.WithHostConcurrency(1), fetch.WithTimeout(1100*time.Millisecond), transport)
		fetchtest.MustAllBeFine(t, urls, results)
		r := results[1]
		fetchtest.CheckTook(t, "the hops", r.Took, 130*time.Millisecond)
		fetchtest.CheckTook(t, "the queue of b", r.Waited, 900*time.Millisecond)
		if r.Redirects != 1 || r.FinalURL != "http://b/target" || r.Attempts != 1 {
			t.Errorf("%+v", r)
		}
	})
}
