package retries_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// Whatever happens to a URL, its time is either waiting or an attempt.
func TestWaitedAndTookAreAllTheTimeThereIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		urls := fetchtest.HostURLs(60, "a.example", "b.example", "c.example")
		rt := fetchtest.Varied(fetchtest.Flaky(0.5, fetchtest.InTurn(fetchtest.Always(500), fetchtest.Always(429, "Retry-After", "1"), fetchtest.Failing(fetchtest.ErrReset), fetchtest.Always(429), fetchtest.Cut("half")), fetchtest.AtOnce))
		start := time.Now()
		seen := 0
		for r := range fetch.Stream(t.Context(), slices.Values(urls), fetch.WithRetries(4), fetch.WithConcurrency(8), fetch.WithHostConcurrency(5), fetchtest.Over(rt)) {
			fetchtest.CheckResult(t, r.Index, urls[r.Index], r)
			seen++
			fetchtest.CheckTook(t, r.URL, r.Waited+r.Took, time.Since(start))
			var took time.Duration
			for _, a := range r.History {
				took += a.Took
			}
			if r.Attempts > 1 && took != r.Took {
				t.Errorf("%s: took %v, its attempts %v", r.URL, r.Took, took)
			}
		}
		if seen != len(urls) {
			t.Errorf("%d results for %d URLs", seen, len(urls))
		}
	})
}

func TestTheLastAnswerIsTheResultWhenRetriesAreUsedUp(t *testing.T) {
	for _, status := range []int{500, 503, 429} {
		for name, opts := range map[string][]fetch.Option{
			"by default":        nil,
			"WithStatusErrors":  {fetch.WithStatusErrors()},
			"WithRetryIf":       {fetch.WithRetryIf(func(r fetch.Result) bool { return !r.OK() })},
			"both":              {fetch.WithStatusErrors(), fetch.WithRetryIf(func(r fetch.Result) bool { return !r.OK() })},
			"WithMaxRetryAfter": {fetch.WithMaxRetryAfter(0)},
			"WithBackoff":       {fetch.WithBackoff(time.Second, time.Second)},
		} {
			t.Run(fmt.Sprint(status, " ", name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var n atomic.Int32
					r := fetchtest.GetOne(t, "http://a.example/", append(opts, fetch.WithRetries(2), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
						n := n.Add(1)
						return fetchtest.Respond(req, status, fmt.Sprintf("answer %d of a few", n), "Retry-After", "1", "X-Number", fmt.Sprint(n)), nil
					}))...)
					if r.Attempts != 3 || n.Load() != 3 {
						t.Errorf("%d attempts, %d requests, want 3", r.Attempts, n.Load())
					}
					if r.StatusCode != status || string(r.Body) != "answer 3 of a few" || r.Header.Get("X-Number") != "3" {
						t.Errorf("got %d %q %v", r.StatusCode, r.Body, r.Header)
					}
					refused, _ := errors.AsType[*fetch.StatusError](r.Err)
					if wanted := name == "WithStatusErrors" || name == "both"; wanted != (refused != nil) || !wanted && r.Err != nil {
						t.Errorf("error %v", r.Err)
					}
					for i, a := range r.History {
						if a.StatusCode != status || a.Err != nil {
							t.Errorf("attempt %d: %+v", i+1, a)
						}
					}
				})
			})
		}
	}
}

func TestTheLastErrorIsTheResultWhenRetriesAreUsedUp(t *testing.T) {
	r := fetchtest.GetOne(t, "http://a.example/", fetch.WithRetries(2), fetchtest.WithoutBackOff, fetchtest.Over(fetchtest.InTurn(fetchtest.Always(500), fetchtest.Cut("the first half"), fetchtest.Failing(fetchtest.ErrRefused))))
	if !errors.Is(r.Err, syscall.ECONNREFUSED) || r.Attempts != 3 {
		t.Errorf("%d attempts, error %v", r.Attempts, r.Err)
	}
	if r.StatusCode != 0 || r.Header != nil || r.Body != nil {
		t.Errorf("the last attempt got no answer, the Result has %d %v %q", r.StatusCode, r.Header, r.Body)
	}
	if text := r.Err.Error(); !strings.Contains(text, "(attempt 3 of 3)") {
		t.Errorf("the error is %q", text)
	}
	h := r.History
	if h[0].StatusCode != 500 || h[0].Err != nil || h[1].StatusCode != 200 || !errors.Is(h[1].Err, fetch.ErrTruncated) || !errors.Is(h[2].Err, syscall.ECONNREFUSED) {
		t.Errorf("history %+v", h)
	}
}

func TestTheMostRetriesThereAre(t *testing.T) {
	for name, step := range map[string]fetchtest.RoundTripFunc{"connection refused": fetchtest.Failing(fetchtest.ErrRefused), "cut body": fetchtest.Cut("x"), "status 500": fetchtest.Always(500)} {
		steps := slices.Repeat([]fetchtest.RoundTripFunc{step}, 5)
		r := fetchtest.GetOne(t, "http://a.example/", fetch.WithRetries(math.MaxInt), fetch.WithMaxHostFailures(math.MaxInt), fetchtest.WithoutBackOff, fetchtest.Over(fetchtest.InTurn(append(steps, fetchtest.AtOnce)...)))
		if !r.OK() || r.Attempts != 6 {
			t.Errorf("%s: %d attempts, %v", name, r.Attempts, r.Err)
		}
	}
}

func TestACancelKeepsTheHistory(t *testing.T) {
	for name, last := range map[string]fetchtest.RoundTripFunc{
		"in a pause":    fetchtest.Taking(time.Second, fetchtest.Always(429, "Retry-After", "50")),
		"in an attempt": fetchtest.Hanging,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(10*time.Second, cancel)
				urls := []string{"http://a.example/"}
				results := fetch.FetchAll(ctx, urls, fetch.WithRetries(9), fetchtest.WithoutBackOff,
					fetchtest.Over(fetchtest.InTurn(fetchtest.Taking(time.Second, fetchtest.Failing(fetchtest.ErrReset)), fetchtest.Taking(time.Second, fetchtest.Always(500)), last)))
				fetchtest.CheckResults(t, urls, results)
				r := results[0]
				fetchtest.CheckCancelled(t, ctx, r)
				fetchtest.CheckTook(t, "all", r.Waited+r.Took, 10*time.Second)
				if r.Attempts != 3 || !errors.Is(r.History[0].Err, syscall.ECONNRESET) || r.History[1].StatusCode != 500 {
					t.Fatalf("%d attempts, history %+v", r.Attempts, r.History)
				}
				h, status := r.History[2], 429
				if name == "in an attempt" {
					status = 0
					if !errors.Is(h.Err, context.Canceled) {
						t.Errorf("the attempt that was cut off: %+v", h)
					}
				}
				if h.StatusCode != status || r.StatusCode != status || h.RetryAfter != 50*time.Second*time.Duration(status/429) {
					t.Errorf("status %d, the last attempt %+v", r.StatusCode, h)
				}
			})
		})
	}
}
