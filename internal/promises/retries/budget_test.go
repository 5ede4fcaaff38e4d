package retries_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestADeadHostCostsLittleMoreThanOneAttemptForEachURL(t *testing.T) {
	for name, step := range map[string]fetchtest.RoundTripFunc{
		"connection refused": fetchtest.Failing(fetchtest.ErrRefused), "status 500": fetchtest.Always(500), "503 without Retry-After": fetchtest.Always(503), "cut bodies": fetchtest.Cut("x"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var flight fetchtest.InFlight
				urls := fetchtest.Numbered("http://dead", 5000)
				results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(5), fetchtest.Over(flight.Over(step)))
				fetchtest.CheckResults(t, urls, results)
				if n := flight.Total(); n > 5000*12/10+10 || n < 5000*12/10 {
					t.Errorf("%d attempts for 5,000 URLs, want what the budget allows: 6,010", n)
				}
			})
		})
	}
}

func TestTheErrorNamesTheExhaustedBudget(t *testing.T) {
	for name, c := range map[string]struct {
		step  fetchtest.RoundTripFunc
		cause error
	}{
		"connection refused": {fetchtest.Failing(fetchtest.ErrRefused), syscall.ECONNREFUSED},
		"cut body":           {fetchtest.Cut("x"), fetch.ErrTruncated},
		"status 500":         {fetchtest.Always(500), nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				urls := fetchtest.Numbered("http://dead", 100)
				results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(9), fetch.WithStatusErrors(), fetchtest.Over(c.step))
				fetchtest.CheckResults(t, urls, results)
				for _, r := range results {
					refused, _ := errors.AsType[*fetch.StatusError](r.Err)
					if c.cause != nil && !errors.Is(r.Err, c.cause) || c.cause == nil && (refused == nil || string(r.Body) != "body of 500") {
						t.Errorf("the cause is lost: %v, %q", r.Err, r.Body)
					}
					if r.Attempts < 10 && !strings.Contains(r.Err.Error(), "budget") {
						t.Errorf("given up after %d attempts, but the error is %v", r.Attempts, r.Err)
						return // they are all alike
					}
				}
			})
		})
	}
}

func TestAFlakyHostLosesNextToNothing(t *testing.T) {
	for name, step := range map[string]fetchtest.RoundTripFunc{"status 500": fetchtest.Always(500), "connection reset": fetchtest.Failing(fetchtest.ErrReset), "cut body": fetchtest.Cut("half of it")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				urls := fetchtest.Numbered("http://flaky", 500)
				results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(5), fetchtest.Over(fetchtest.Varied(fetchtest.Flaky(0.3, step, fetchtest.AtOnce))))
				fetchtest.CheckResults(t, urls, results)
				lost, early := 0, 0
				for _, r := range results {
					if !r.OK() {
						lost++
						if r.Attempts < 6 {
							early++
						}
					}
				}
				// 0.3⁶ · 500, a third of a URL, is what six attempts cannot mend.
				if lost > 3 || early > 2 {
					t.Errorf("%d of 500 are lost, %d of them to the budget", lost, early)
				}
			})
		})
	}
}

func TestTheBudgetRefillsAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outage, calm, again := fetchtest.Numbered("http://a.example/outage", 200), fetchtest.Numbered("http://a.example/calm", 100), fetchtest.Numbered("http://a.example/again", 60)
		mended := fetchtest.InTurn(fetchtest.Always(500), fetchtest.AtOnce)
		urls := slices.Concat(outage, calm, again)
		results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(3), fetch.WithConcurrency(10), fetchtest.Over(fetchtest.Taking(time.Second, func(req *http.Request) (*http.Response, error) {
			switch {
			case strings.Contains(req.URL.Path, "outage"):
				return nil, fetchtest.ErrRefused
			case strings.Contains(req.URL.Path, "again"):
				return mended(req)
			}
			return fetchtest.Respond(req, 200, "ok"), nil
		})))
		fetchtest.CheckResults(t, urls, results)
		for _, r := range results[200:] {
			if !r.OK() {
				t.Errorf("%s: %d attempts, %d, %v", r.URL, r.Attempts, r.StatusCode, r.Err)
			}
		}
	})
}

func TestTheBudgetIsKeptBetweenCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight fetchtest.InFlight
		f := fetchtest.NewFetcher(t, fetch.WithRetries(5), fetchtest.Over(flight.Over(fetchtest.Failing(fetchtest.ErrRefused))))
		for call := range 4 {
			urls := fetchtest.Numbered(fmt.Sprintf("http://dead/%d", call), 50)
			fetchtest.CheckResults(t, urls, f.FetchAll(t.Context(), urls))
		}
		if n := flight.Total(); n > 200*12/10+10 {
			t.Errorf("%d attempts for 200 URLs", n)
		}
	})
}

// One host's failures use up nothing of another's.
func TestTheBudgetIsThatOfOneHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mended := fetchtest.InTurn(fetchtest.Always(500), fetchtest.AtOnce)
		urls := slices.Concat(fetchtest.Numbered("http://dead", 300), fetchtest.HostURLs(1, slices.Collect(fetchtest.NumberedHosts(50))...))
		results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(5), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "dead" {
				return nil, fetchtest.ErrRefused
			}
			return mended(req)
		}))
		fetchtest.CheckResults(t, urls, results)
		for _, r := range results[300:] {
			if !r.OK() {
				t.Errorf("%s: %d attempts, %d, %v", r.URL, r.Attempts, r.StatusCode, r.Err)
			}
		}
	})
}
