package politeness_test

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// leftAfter returns a context that is cancelled after d.
func leftAfter(ctx context.Context, d time.Duration) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	time.AfterFunc(d, func() { cancel(fetchtest.ErrLeft) })
	return ctx
}

// Whatever hosts and options come together: each URL has its Result, no host is sent
// anything in a pause that it has asked for, and all numbers are true.
func TestNoMixtureOfTroubleBreaksAPromise(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				roll := func(what string, n int) int { return int(fetchtest.Dice(seed, what, 0) * float64(n)) }
				retries, slots, hostSlots := roll("retries", 6), 1+roll("slots", 8), roll("host slots", 4)
				opts := []fetch.Option{
					fetch.WithRetries(retries), fetch.WithConcurrency(slots), fetch.WithHostConcurrency(hostSlots),
					fetch.WithTimeout(time.Second), fetch.WithMaxHostFailures(roll("failures", 3) * 5), fetch.WithLookahead(1 + roll("lookahead", 30)),
				}
				for name, opt := range map[string]fetch.Option{
					"statuses": fetch.WithStatusErrors(), "order": fetch.WithInOrder(), "dedup": fetch.WithDedup(), "rate": fetch.WithHostRate(50, 5),
					"function": fetch.WithBodyFunc(func(_ context.Context, _ fetch.Result, body io.Reader) error {
						_, err := io.Copy(io.Discard, body)
						return err
					}),
					"again": fetch.WithRetryIf(func(r fetch.Result) bool { return r.Err != nil || r.StatusCode >= 400 }),
				} {
					if roll(name, 3) == 0 {
						opts = append(opts, opt)
					}
				}

				var mu sync.Mutex
				attempts, pausedSince, pausedUntil := map[string]int{}, map[string]time.Time{}, map[string]time.Time{}
				var flight fetchtest.InFlight
				transport := fetchtest.Over(flight.Over(func(req *http.Request) (*http.Response, error) {
					host, now := req.URL.Host, time.Now()
					mu.Lock()
					attempts[req.URL.String()]++
					n := attempts[req.URL.String()]
					if now.After(pausedSince[host]) && now.Before(pausedUntil[host]) {
						t.Errorf("%s is sent a request %v before its pause ends", host, pausedUntil[host].Sub(now))
					}
					mu.Unlock()
					if err := fetchtest.SleepCtx(req.Context(), time.Millisecond+time.Duration(fetchtest.Dice(seed, "takes"+req.URL.String(), n)*float64(100*time.Millisecond))); err != nil {
						return nil, err
					}
					trouble := 20
					if host == "host0" {
						trouble = 8 // of which 8 and more are none
					}
					switch int(fetchtest.Dice(seed, req.URL.String(), n) * float64(trouble)) {
					case 0, 1:
						seconds := 1 + int(fetchtest.Dice(seed, "seconds"+req.URL.String(), n)*5)
						mu.Lock()
						defer mu.Unlock()
						pausedSince[host] = time.Now()
						if until := pausedSince[host].Add(time.Duration(seconds) * time.Second); until.After(pausedUntil[host]) {
							pausedUntil[host] = until
						}
						return fetchtest.Respond(req, []int{429, 503}[n%2], "later", "Retry-After", fmt.Sprint(seconds)), nil
					case 2:
						return fetchtest.Respond(req, 429, "later"), nil
					case 3:
						return fetchtest.Respond(req, 500, "sorry"), nil
					case 4:
						return nil, []error{fetchtest.ErrRefused, fetchtest.ErrReset}[n%2]
					case 5:
						return fetchtest.Hanging(req)
					case 6:
						return fetchtest.Cut("half of it")(req)
					case 7:
						return fetchtest.Respond(req, 302, "", "Location", fmt.Sprintf("http://host%d/moved%s", n%5, strings.TrimPrefix(req.URL.Path, "/moved"))), nil
					}
					return fetchtest.Respond(req, 200, "ok"), nil
				}))
				f := fetchtest.NewFetcher(t, append(opts, transport)...)
				urls := fetchtest.HostURLs(25, slices.Collect(fetchtest.NumberedHosts(5))...)
				ctx := t.Context()
				some := func(what string) time.Duration {
					return time.Duration(fetchtest.Dice(seed, what, 0) * float64(20*time.Second))
				}
				cancelled := roll("cancel", 4) == 0
				if cancelled {
					ctx = leftAfter(ctx, some("when"))
				}
				start := time.Now()
				var results []fetch.Result
				switch roll("call", 4) {
				case 0:
					results = f.FetchAll(ctx, urls)
				case 1:
					results = fetchtest.Collect(t, urls, f.Stream(t.Context(), slices.Values(urls))) // a cancelled one does not read them all
					slices.SortFunc(results, func(a, b fetch.Result) int { return cmp.Compare(a.Index, b.Index) })
				case 2:
					var reqs []*http.Request
					for i, rawURL := range urls {
						own := ctx
						if i%10 == 0 {
							own, cancelled = leftAfter(ctx, some(rawURL)), true
						}
						reqs = append(reqs, fetchtest.NewRequest(t, "PUT", rawURL, strings.NewReader("payload")).WithContext(own))
					}
					results = f.DoAll(ctx, reqs)
				case 3: // two calls at the same time
					half := len(urls) / 2
					var first []fetch.Result
					var call sync.WaitGroup
					call.Go(func() { first = f.FetchAll(ctx, urls[:half]) })
					time.Sleep(some("second") / 10)
					results = f.FetchAll(t.Context(), urls[half:])
					call.Wait()
					for i := range results {
						results[i].Index += half
					}
					results = append(first, results...)
				}
				took := time.Since(start)
				fetchtest.CheckResults(t, urls, results)
				sum := 0
				for _, r := range results {
					sum += r.Attempts
					if r.Attempts > 1+retries || r.Waited+r.Took > took {
						t.Errorf("%s: %d attempts, waited %v, took %v of %v", r.URL, r.Attempts, r.Waited, r.Took, took)
					}
					var inAttempts time.Duration
					for _, a := range r.History {
						inAttempts += a.Took
					}
					if r.Attempts > 1 && inAttempts != r.Took {
						t.Errorf("%s: took %v, its attempts %v", r.URL, r.Took, inAttempts)
					}
				}
				// An attempt that is cancelled as it starts sends nothing.
				if flight.Total() < sum && !cancelled || flight.Current() != 0 || flight.Most() > slots {
					t.Errorf("%d attempts, %d requests, %d at once, %d left", sum, flight.Total(), flight.Most(), flight.Current())
				}
				for host := range fetchtest.NumberedHosts(5) {
					if hostSlots > 0 && flight.MostOf(host) > hostSlots {
						t.Errorf("%d at once to %s", flight.MostOf(host), host)
					}
				}
			})
		})
	}
}
