package politeness_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestAHostThatOnlyRefusesIsGivenUp(t *testing.T) {
	for name, c := range map[string]struct {
		status     int
		retryAfter []string
		retries    int
	}{
		"429 with Retry-After":                  {429, []string{"Retry-After", "10"}, 4},
		"503 with Retry-After":                  {503, []string{"Retry-After", "10"}, 4},
		"429 with Retry-After, without retries": {429, []string{"Retry-After", "10"}, 0},
		"429":                                   {429, nil, 4},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const slots = 8
				sent, ends := fetchtest.NewTimeline(), fetchtest.NewEndTimes()
				rt := fetchtest.Over(sent.Over(ends.Over(fetchtest.ByHost(map[string]fetchtest.RoundTripFunc{
					"busy": fetchtest.Taking(10*time.Millisecond, fetchtest.Always(c.status, c.retryAfter...)),
					"good": fetchtest.AnswerAfter(50 * time.Millisecond),
				}))))
				urls := slices.Concat(fetchtest.Numbered("http://busy", 1000), fetchtest.Numbered("http://good", 1000))
				results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(slots), fetch.WithRetries(c.retries), rt)
				took := time.Since(sent.Start)
				fetchtest.CheckResults(t, urls, results)
				// 2 × WithMaxRetryAfter, and the pause in which that falls.
				if took < 2*time.Minute || took > 2*time.Minute+11*time.Second {
					t.Errorf("given up after %v", took)
				}
				if n := len(sent.OfHost("busy")); n > 36 {
					t.Errorf("%d requests to a host that only refuses", n)
				}
				refused := 0
				for _, r := range results[:1000] {
					if r.Attempts > 0 {
						refused++
						if r.StatusCode != c.status || r.Header == nil || r.Err != nil && !errors.Is(r.Err, fetch.ErrHostPaused) {
							t.Errorf("%s: %d attempts, %d, %v", r.URL, r.Attempts, r.StatusCode, r.Err)
						}
					} else if !errors.Is(r.Err, fetch.ErrHostPaused) {
						t.Errorf("%s: %v", r.URL, r.Err)
					}
					if r.Attempts > c.retries+1 {
						t.Errorf("%s: %d attempts", r.URL, r.Attempts)
					}
				}
				if refused < slots/2 || refused > 36 {
					t.Errorf("%d URLs were refused", refused)
				}
				for _, r := range results[1000:] {
					if !r.OK() {
						t.Errorf("%s: %d, %v", r.URL, r.StatusCode, r.Err)
					}
				}
				if took, alone := ends.Of("good"), time.Duration(1000/slots)*50*time.Millisecond; took > alone*105/100 {
					t.Errorf("the other host took %v, alone it takes %v", took, alone)
				}
			})
		})
	}
}

func TestAHostThatAcceptsNowAndThenIsNotGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		next := time.Now().Add(100 * time.Second)
		urls := fetchtest.Numbered("http://a.example", 5)
		start := time.Now()
		results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(100), fetch.WithConcurrency(2), fetchtest.Over(fetchtest.Taking(10*time.Millisecond, func(req *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			if time.Now().Before(next) {
				return fetchtest.Respond(req, 429, "no", "Retry-After", "10"), nil
			}
			next = time.Now().Add(100 * time.Second)
			return fetchtest.Respond(req, 200, "ok"), nil
		})))
		fetchtest.MustAllBeFine(t, urls, results)
		if took := time.Since(start); took < 500*time.Second || took > 1000*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

// The 20 URLs of the next call have a right to their own 2 × WithMaxRetryAfter, but
// to nothing that is earlier than asked.
func TestAHostThatWasGivenUpIsObeyedByTheNextCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuota(1, 1, 10)
		q.outage = func() bool { return time.Since(q.start) < 200*time.Second }
		f := fetchtest.NewFetcher(t, fetch.WithRetries(20), fetch.WithConcurrency(2), fetchtest.Over(q.serve))
		urls := fetchtest.Numbered("http://a.example", 20)
		results := f.FetchAll(t.Context(), urls)
		fetchtest.CheckResults(t, urls, results)
		if !errors.Is(results[19].Err, fetch.ErrHostPaused) {
			t.Errorf("the last: %v", results[19].Err)
		}
		results = f.FetchAll(t.Context(), urls)
		fetchtest.MustAllBeFine(t, urls, results)
		if q.early > 0 || len(q.taken) != 20 {
			t.Errorf("%d were accepted, %d sent in a pause", len(q.taken), q.early)
		}
	})
}

func TestAPauseThatCannotFitEndsTheHostsURLsAtOnce(t *testing.T) {
	const latency = 10 * time.Millisecond
	for name, c := range map[string]struct {
		status   int
		ask      time.Duration
		deadline time.Duration
		opts     []fetch.Option
		slots    int
		requests int // to the host that asks
	}{
		"over WithMaxRetryAfter":               {429, 61 * time.Second, 0, nil, 1, 1},
		"over a WithMaxRetryAfter that is low": {429, 30 * time.Second, 0, []fetch.Option{fetch.WithMaxRetryAfter(29 * time.Second)}, 1, 1},
		"past the deadline":                    {429, 30 * time.Second, 25 * time.Second, nil, 1, 1},
		"whatever RetryIf says":                {429, time.Hour, 0, []fetch.Option{fetch.WithRetryIf(func(r fetch.Result) bool { return r.StatusCode == 429 })}, 1, 1},
		"with several in flight":               {429, time.Hour, 0, nil, 8, 8},
		"503 over WithMaxRetryAfter":           {503, time.Hour, 0, nil, 1, 3},
		"503 past the deadline":                {503, 30 * time.Second, 25 * time.Second, nil, 1, 3},
		"503 with several in flight":           {503, time.Hour, 0, nil, 8, 10},
	} {
		for _, retries := range []int{0, 3} {
			t.Run(fmt.Sprint(name, ", ", retries, " retries"), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					ctx := t.Context()
					if c.deadline > 0 {
						var cancel func()
						ctx, cancel = context.WithTimeout(ctx, c.deadline)
						defer cancel()
					}
					sent := fetchtest.NewTimeline()
					var mu sync.Mutex
					var asked []time.Time
					busy := fetchtest.Taking(latency, func(req *http.Request) (*http.Response, error) {
						mu.Lock()
						defer mu.Unlock()
						asked = append(asked, time.Now().Add(c.ask))
						return fetchtest.Respond(req, c.status, "come back later", "Retry-After", fmt.Sprint(c.ask.Seconds())), nil
					})
					urls := slices.Concat(fetchtest.Numbered("http://busy", 50), fetchtest.Numbered("http://good", 50))
					results := fetch.FetchAll(ctx, urls, append(c.opts, fetch.WithConcurrency(c.slots), fetch.WithHostConcurrency(c.slots), fetch.WithRetries(retries),
						fetchtest.Over(sent.Over(fetchtest.ByHost(map[string]fetchtest.RoundTripFunc{"busy": busy, "good": fetchtest.AnswerAfter(latency)}))))...)
					if took := time.Since(sent.Start); took > 60*latency {
						t.Errorf("took %v", took)
					}
					fetchtest.CheckResults(t, urls, results)
					n := len(sent.OfHost("busy"))
					if n > c.requests || n < min(c.requests, 3) && c.status == 503 {
						t.Errorf("%d requests to the host that asks for a pause, want %d", n, c.requests)
					}
					for _, r := range results[:50] {
						if r.Attempts == 0 {
							checkPaused(t, r, "busy", asked...)
							continue
						}
						n--
						if r.Err != nil || r.StatusCode != c.status || string(r.Body) != "come back later" || r.Attempts != 1 {
							t.Errorf("%s: %d attempts, %d %q, %v", r.URL, r.Attempts, r.StatusCode, r.Body, r.Err)
						}
					}
					if n != 0 {
						t.Errorf("%d requests too many for the URLs that have an answer", n)
					}
					for _, r := range results[50:] {
						if !r.OK() {
							t.Errorf("%s: %d, %v", r.URL, r.StatusCode, r.Err)
						}
					}
				})
			})
		}
	}
}

// A 503 may be that of its URL only, unless it comes to three in a row.
func TestTwo503sThatAskForTooMuchAreForgiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int32
		urls := fetchtest.Numbered("http://a.example", 60)
		results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(2), fetch.WithConcurrency(1), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			if n.Add(1)%3 == 0 {
				return fetchtest.Respond(req, 200, "ok"), nil
			}
			return fetchtest.Respond(req, 503, "later", "Retry-After", "3600"), nil
		}))
		fetchtest.MustAllBeFine(t, urls, results)
		for i, r := range results {
			if want := []int{503, 503, 200}[i%3]; r.StatusCode != want || r.Attempts != 1 {
				t.Errorf("%s: %d attempts, %d, want %d", r.URL, r.Attempts, r.StatusCode, want)
			}
		}
	})
}
