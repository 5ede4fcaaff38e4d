package politeness_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestAPausedHostHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight fetchtest.InFlight
		sent, ends := fetchtest.NewTimeline(), fetchtest.NewEndTimes()
		var first time.Duration // the first answer
		inFlightThen := 0
		var once sync.Once
		bad := fetchtest.Taking(10*time.Millisecond, func(req *http.Request) (*http.Response, error) {
			once.Do(func() { first, inFlightThen = time.Since(sent.Start), flight.CurrentOf("bad") })
			if left := 10*time.Second - time.Since(sent.Start); left > 0 {
				return fetchtest.Respond(req, 503, "later", "Retry-After", fmt.Sprint(math.Ceil(left.Seconds()))), nil
			}
			return fetchtest.Respond(req, 200, "ok"), nil
		})
		urls := slices.Concat(fetchtest.Numbered("http://bad", 64), fetchtest.Numbered("http://good", 1000))
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(32), fetch.WithRetries(2),
			fetchtest.Over(flight.Over(sent.Over(ends.Over(fetchtest.ByHost(map[string]fetchtest.RoundTripFunc{"bad": bad, "good": fetchtest.AnswerAfter(50 * time.Millisecond)}))))))
		fetchtest.MustAllBeFine(t, urls, results)
		for _, r := range results {
			if !r.OK() {
				t.Errorf("%s: %d", r.URL, r.StatusCode)
			}
		}
		if took := ends.Of("good"); took > 1700*time.Millisecond {
			t.Errorf("the good ones took %v", took)
		}
		if n := sent.Between("bad", -1, 10*time.Second); n > inFlightThen || inFlightThen > 16 {
			t.Errorf("%d requests to the bad host before its instant, and %d in flight at its first answer", n, inFlightThen)
		}
		if n := sent.Between("bad", first, 10*time.Second+first); n != 0 {
			t.Errorf("%d requests in the pause", n)
		}
		if n := sent.Between("bad", 0, 10*time.Second+first+time.Millisecond); n != 1 {
			t.Errorf("%d requests when the pause was over, want one to probe", n)
		}
		if took := ends.Of("bad"); took > 12*time.Second {
			t.Errorf("the bad ones took %v", took)
		}
	})
}

func TestTheLongestOfSeveralPausesHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Four in flight: a long pause, a short one, none, and one that is taken, which come in this order.
		first := map[string]fetchtest.RoundTripFunc{
			"/0": fetchtest.Taking(1*time.Second, fetchtest.Always(429, "Retry-After", "20")),
			"/1": fetchtest.Taking(2*time.Second, fetchtest.Always(429, "Retry-After", "1")),
			"/2": fetchtest.Taking(3*time.Second, fetchtest.Always(429)),
			"/3": fetchtest.Taking(4*time.Second, fetchtest.AtOnce),
		}
		sent := fetchtest.NewTimeline()
		urls := fetchtest.Numbered("http://a.example", 20)
		var n atomic.Int32
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(4), fetch.WithRetries(2), fetchtest.Over(sent.Over(func(req *http.Request) (*http.Response, error) {
			if n.Add(1) <= 4 {
				return first[req.URL.Path](req)
			}
			return fetchtest.Respond(req, 200, "ok"), nil
		})))
		fetchtest.MustAllBeFine(t, urls, results)
		if at := sent.OfHost("a.example"); len(at) != 23 || at[4] != 21*time.Second {
			t.Errorf("requests at %v, want the fifth at 21 s", at)
		}
	})
}

func TestPausesWithoutRetryAfterDouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := fetchtest.NewTimeline()
		r := fetchtest.GetOne(t, "http://a.example/", fetch.WithRetries(6), fetch.WithBackoff(100*time.Millisecond, time.Second), fetchtest.Over(sent.Over(fetchtest.Always(429))))
		if r.StatusCode != 429 || r.Attempts != 7 || r.Err != nil {
			t.Errorf("%d attempts, %d, %v", r.Attempts, r.StatusCode, r.Err)
		}
		at := sent.OfHost("a.example")
		for i, tenths := range []time.Duration{1, 2, 4, 8, 10, 10} {
			fetchtest.CheckTook(t, fmt.Sprintf("pause %d", i), at[i+1]-at[i], tenths*100*time.Millisecond)
		}
	})
}

func TestARefusingHostTakesNothingFromAnother(t *testing.T) {
	for name, c := range map[string]struct{ retries, retryAfter int }{
		"no Retry-After": {4, 0}, "Retry-After": {4, 1}, "without retries": {0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				run := func(urls []string) time.Duration {
					q, ends := newQuota(10, 10, c.retryAfter), fetchtest.NewEndTimes()
					fetchtest.CheckResults(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(32), fetch.WithRetries(c.retries),
						fetchtest.Over(ends.Over(fetchtest.ByHost(map[string]fetchtest.RoundTripFunc{"busy": q.serve, "good": fetchtest.AnswerAfter(50 * time.Millisecond)})))))
					return ends.Of("good")
				}
				good := fetchtest.Numbered("http://good", 2000)
				alone := run(good)
				beside := run(slices.Concat(fetchtest.Numbered("http://busy", 200), good))
				if beside > alone*105/100 {
					t.Errorf("%v beside a host that refuses, %v alone", beside, alone)
				}
			})
		})
	}
}

func TestAPauseHoldsForLaterCallsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := fetchtest.NewTimeline()
		until := sent.Start.Add(100 * time.Second)
		f := fetchtest.NewFetcher(t, fetchtest.Over(sent.Over(fetchtest.InTurn(fetchtest.Always(429, "Retry-After", "100"), fetchtest.AtOnce))))
		urls := []string{"http://a.example/"}
		results := f.FetchAll(t.Context(), urls)
		fetchtest.CheckResults(t, urls, results)
		if r := results[0]; r.StatusCode != 429 || r.Err != nil {
			t.Errorf("the first call: %d, %v", r.StatusCode, r.Err)
		}
		for _, at := range []time.Duration{0, time.Second, 39 * time.Second} {
			time.Sleep(at - time.Since(sent.Start))
			start := time.Now()
			results = f.FetchAll(t.Context(), urls)
			fetchtest.CheckResults(t, urls, results)
			checkPaused(t, results[0], "a.example", until)
			fetchtest.CheckTook(t, fmt.Sprintf("the call after %v", at), time.Since(start), 0)
		}
		// Now the rest of it can be waited for, but by no call that has less time.
		time.Sleep(time.Until(until.Add(-50 * time.Second)))
		ctx, cancel := context.WithTimeout(t.Context(), 49*time.Second)
		defer cancel()
		results = f.FetchAll(ctx, urls)
		fetchtest.CheckResults(t, urls, results)
		checkPaused(t, results[0], "a.example", until)
		results = f.FetchAll(t.Context(), urls)
		fetchtest.MustAllBeFine(t, urls, results)
		if at := sent.OfHost("a.example"); len(at) != 2 || at[1] != 100*time.Second {
			t.Errorf("requests at %v", at)
		}
	})
}

// However long WithMaxRetryAfter and WithBackoff are, no sum or product of theirs wraps.
func TestTheLongestPatienceThereIs(t *testing.T) {
	for name, c := range map[string]struct {
		opts   []fetch.Option
		header []string
	}{
		"WithMaxRetryAfter": {[]fetch.Option{fetch.WithMaxRetryAfter(math.MaxInt64)}, []string{"Retry-After", "1000000"}},
		"WithBackoff":       {[]fetch.Option{fetch.WithBackoff(time.Hour, math.MaxInt64), fetch.WithMaxRetryAfter(0)}, nil},
		"WithMaxRetryAfter, WithBackoff, no pause":   {[]fetch.Option{fetch.WithMaxRetryAfter(math.MaxInt64), fetch.WithBackoff(math.MaxInt64, math.MaxInt64)}, []string{"Retry-After", "1"}},
		"WithMaxRetryAfter, and nothing that it was": {[]fetch.Option{fetch.WithMaxRetryAfter(math.MaxInt64)}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				refuse := fetchtest.Always(429, c.header...)
				r := fetchtest.GetOne(t, "http://a.example/", append([]fetch.Option{fetch.WithRetries(5)}, append(c.opts, fetchtest.Over(fetchtest.InTurn(refuse, refuse, refuse, fetchtest.AtOnce)))...)...)
				if !r.OK() || r.Attempts != 4 {
					t.Errorf("%d after %d attempts, %v", r.StatusCode, r.Attempts, r.Err)
				}
			})
		})
	}
}

// That the other request of the same wave was accepted does not end the pause, even if nothing is queued then.
func TestAPauseOutlivesWhatWasInFlight(t *testing.T) {
	for _, slots := range []int{2, 64} {
		t.Run(fmt.Sprint(slots, " slots"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const ms = time.Millisecond
				sent := fetchtest.NewTimeline()
				var n atomic.Int32
				f := fetchtest.NewFetcher(t, fetch.WithConcurrency(slots), fetchtest.Over(sent.Over(func(req *http.Request) (*http.Response, error) {
					if n.Add(1) == 1 {
						return fetchtest.Taking(10*ms, fetchtest.Always(429, "Retry-After", "5"))(req)
					}
					return fetchtest.AnswerAfter(20 * ms)(req)
				})))
				urls := fetchtest.Numbered("http://a.example", 3)
				fetchtest.MustAllBeFine(t, urls[:2], f.FetchAll(t.Context(), urls[:2]))
				fetchtest.MustAllBeFine(t, urls[2:], f.FetchAll(t.Context(), urls[2:]))
				if at := sent.OfHost("a.example"); len(at) != 3 || at[2] != 5010*ms {
					t.Errorf("requests at %v", at)
				}
			})
		})
	}
}

// However low WithMaxRetryAfter is, more than that is not waited for.
func TestAPauseOverALowWithMaxRetryAfterIsNotWaitedForLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := fetchtest.NewTimeline()
		f := fetchtest.NewFetcher(t, fetch.WithMaxRetryAfter(time.Second), fetchtest.Over(sent.Over(fetchtest.Always(429, "Retry-After", "5"))))
		urls := fetchtest.Numbered("http://a.example", 3)
		results := f.FetchAll(t.Context(), urls[:1])
		fetchtest.CheckResults(t, urls[:1], results)
		results = f.FetchAll(t.Context(), urls)
		fetchtest.CheckResults(t, urls, results)
		for _, r := range results {
			checkPaused(t, r, "a.example", sent.Start.Add(5*time.Second))
		}
		fetchtest.CheckTook(t, "the second call", time.Since(sent.Start), 0)
	})
}

func TestAPauseHoldsForWhatAStreamReadsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := fetchtest.NewTimeline()
		until := sent.Start.Add(100 * time.Second)
		urls := fetchtest.Numbered("http://a.example", 5)
		var results []fetch.Result
		for r := range fetch.Stream(t.Context(), func(yield func(string) bool) {
			for i, rawURL := range urls {
				if i == 4 {
					time.Sleep(time.Until(until))
				}
				if !yield(rawURL) {
					return
				}
				time.Sleep(time.Second)
			}
		}, fetch.WithRetries(2), fetchtest.Over(sent.Over(func(req *http.Request) (*http.Response, error) {
			if time.Now().Before(until) {
				return fetchtest.Respond(req, 429, "no", "Retry-After", "100"), nil
			}
			return fetchtest.Respond(req, 200, "ok"), nil
		}))) {
			fetchtest.CheckResult(t, r.Index, urls[r.Index], r)
			results = append(results, r)
		}
		if len(results) != 5 || results[0].StatusCode != 429 || !results[4].OK() {
			t.Fatalf("%d results: %+v", len(results), results)
		}
		for _, r := range results[1:4] {
			checkPaused(t, r, "a.example", until)
		}
		if at := sent.OfHost("a.example"); !slices.Equal(at, []time.Duration{0, 100 * time.Second}) {
			t.Errorf("requests at %v", at)
		}
	})
}

func TestTheCallsOfAFetcherShareAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := fetchtest.NewTimeline()
		q := newQuota(10, 1, 20)
		f := fetchtest.NewFetcher(t, fetch.WithRetries(5), fetch.WithConcurrency(4), fetchtest.Over(sent.Over(q.serve)))
		run := func(ctx context.Context, path string) ([]string, []fetch.Result) {
			urls := fetchtest.Numbered("http://a.example/"+path, 10)
			return urls, f.FetchAll(ctx, urls)
		}
		var calls sync.WaitGroup
		for i := range 3 {
			calls.Go(func() {
				time.Sleep(time.Duration(i) * time.Second) // the others come in the pause
				urls, results := run(t.Context(), fmt.Sprint("call", i))
				fetchtest.MustAllBeFine(t, urls, results)
				for _, r := range results {
					if !r.OK() {
						t.Errorf("%s: %d", r.URL, r.StatusCode)
					}
				}
			})
		}
		calls.Go(func() {
			time.Sleep(3 * time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			start := time.Now()
			urls, results := run(ctx, "hasty")
			fetchtest.CheckTook(t, "a call that cannot wait so long", time.Since(start), 0)
			fetchtest.CheckResults(t, urls, results)
			for _, r := range results {
				if !errors.Is(r.Err, fetch.ErrHostPaused) {
					t.Errorf("%s: %v", r.URL, r.Err)
				}
			}
		})
		calls.Wait()
		if q.early > 0 || len(q.taken) != 30 {
			t.Errorf("%d were accepted, %d sent in a pause", len(q.taken), q.early)
		}
	})
}

func TestAllSpellingsOfAHostShareItsPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := fetchtest.NewTimeline()
		var n atomic.Int32
		urls := []string{"http://a.example/", "https://A.Example./", "http://a.example:80/", "https://user:word@a.example:443/", "http://a.example:8080/"}
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1), fetchtest.Over(sent.Over(func(req *http.Request) (*http.Response, error) {
			if n.Add(1) == 1 {
				return fetchtest.Respond(req, 429, "no", "Retry-After", "5"), nil
			}
			return fetchtest.Respond(req, 200, "ok"), nil
		})))
		fetchtest.MustAllBeFine(t, urls, results)
		for i, want := range []time.Duration{0, 5 * time.Second, 5 * time.Second, 5 * time.Second, 0} {
			fetchtest.CheckTook(t, urls[i], results[i].Waited, want)
		}
	})
}

func TestTheHostOfARedirectIsObeyedToo(t *testing.T) {
	for name, c := range map[string]struct {
		ask  string
		fits bool
	}{"a pause that fits": {"5", true}, "one that does not": {"5000", false}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sent := fetchtest.NewTimeline()
				urls := []string{"http://busy/", "http://door/"}
				results := fetch.FetchAll(t.Context(), urls, fetchtest.Over(sent.Over(fetchtest.ByHost(map[string]fetchtest.RoundTripFunc{
					"busy": fetchtest.InTurn(fetchtest.Always(429, "Retry-After", c.ask), fetchtest.AtOnce),
					"door": fetchtest.Taking(time.Second, fetchtest.Always(302, "Location", "http://busy/")),
				}))))
				fetchtest.CheckResults(t, urls, results)
				at := sent.OfHost("busy")
				if !c.fits {
					checkPaused(t, results[1], "busy", sent.Start.Add(5000*time.Second))
					if r := results[1]; r.StatusCode != 302 || r.FinalURL != "http://door/" || len(at) != 1 {
						t.Errorf("%d from %q, requests at %v", r.StatusCode, r.FinalURL, at)
					}
					return
				}
				if r := results[1]; !r.OK() || r.Redirects != 1 || r.Attempts != 1 || len(at) != 2 || at[1] != 5*time.Second {
					t.Errorf("%d after %d redirects and %d attempts, requests at %v", r.StatusCode, r.Redirects, r.Attempts, at)
				}
				fetchtest.CheckTook(t, "the redirect", results[1].Waited, 4*time.Second)
			})
		})
	}
}

// Their 429 is final, but it is a message about the host all the same.
func TestARequestThatIsNotRetriedPausesItsHost(t *testing.T) {
	for name, c := range map[string]struct {
		method  string
		retryIf func(fetch.Result) bool
	}{
		"as it is a POST":      {"POST", nil},
		"as RetryIf says so":   {"GET", func(fetch.Result) bool { return false }},
		"but it has a payload": {"PUT", func(fetch.Result) bool { return false }},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sent := fetchtest.NewTimeline()
				urls := fetchtest.Numbered("http://a.example", 3)
				var reqs []*http.Request
				for _, rawURL := range urls {
					reqs = append(reqs, fetchtest.NewRequest(t, c.method, rawURL, strings.NewReader("payload")))
				}
				var n atomic.Int32
				results := fetchtest.NewFetcher(t, fetch.WithRetries(5), fetch.WithConcurrency(1), fetch.WithRetryIf(c.retryIf), fetchtest.Over(sent.Over(fetchtest.Taking(time.Second, func(req *http.Request) (*http.Response, error) {
					if n.Add(1) == 1 {
						return fetchtest.Respond(req, 429, "no", "Retry-After", "7"), nil
					}
					return fetchtest.Respond(req, 200, "ok"), nil
				})))).DoAll(t.Context(), reqs)
				fetchtest.MustAllBeFine(t, urls, results)
				if results[0].StatusCode != 429 || !results[1].OK() || !results[2].OK() {
					t.Errorf("%d, %d, %d", results[0].StatusCode, results[1].StatusCode, results[2].StatusCode)
				}
				if at := sent.OfHost("a.example"); len(at) != 3 || at[1] != 8*time.Second {
					t.Errorf("requests at %v", at)
				}
			})
		})
	}
}

// A request's own deadline is one that a wait must fit in, and nobody else's.
func TestAPauseThatDoesNotFitOneRequestIsWaitedForByTheOthers(t *testing.T) {
	for _, status := range []int{429, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sent := fetchtest.NewTimeline()
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				urls := fetchtest.Numbered("http://a.example", 4)
				reqs := []*http.Request{
					fetchtest.NewRequest(t, "GET", urls[0], nil).WithContext(ctx),
					fetchtest.NewRequest(t, "GET", urls[1], nil),
					fetchtest.NewRequest(t, "GET", urls[2], nil).WithContext(ctx),
					fetchtest.NewRequest(t, "GET", urls[3], nil),
				}
				var n atomic.Int32
				results := fetchtest.NewFetcher(t, fetch.WithRetries(5), fetch.WithConcurrency(1), fetchtest.Over(sent.Over(fetchtest.Taking(time.Second, func(req *http.Request) (*http.Response, error) {
					if n.Add(1) == 1 {
						return fetchtest.Respond(req, status, "no", "Retry-After", "10"), nil
					}
					return fetchtest.Respond(req, 200, "ok"), nil
				})))).DoAll(t.Context(), reqs)
				fetchtest.CheckResults(t, urls, results)
				if r := results[0]; r.StatusCode != status || r.Err != nil || r.Attempts != 1 || string(r.Body) != "no" {
					t.Errorf("the one that was refused: %d %q, %v", r.StatusCode, r.Body, r.Err)
				}
				if r := results[2]; r.Err == nil || r.Attempts != 0 || r.Waited > 5*time.Second {
					t.Errorf("the one that has no time either: waited %v, %v", r.Waited, r.Err)
				}
				if !results[1].OK() || !results[3].OK() {
					t.Errorf("the others: %v, %v", results[1].Err, results[3].Err)
				}
				if at := sent.OfHost("a.example"); len(at) != 3 || at[1] != 11*time.Second {
					t.Errorf("requests at %v", at)
				}
			})
		})
	}
}

func TestPausesEndOnTime(t *testing.T) {
	const latency = 10 * time.Millisecond
	for _, pause := range []time.Duration{time.Second, 30 * time.Second, 60 * time.Second} {
		for name, header := range map[string]func() []string{
			"digits": func() []string { return []string{"Retry-After", fmt.Sprint(pause.Seconds())} },
			// The host's clock is an hour ahead.
			"date": func() []string {
				ahead := time.Now().UTC().Add(time.Hour)
				return []string{"Retry-After", ahead.Add(pause).Format(http.TimeFormat), "Date", ahead.Format(http.TimeFormat)}
			},
			"date of RFC 850": func() []string {
				ahead := time.Now().UTC().Add(time.Hour)
				return []string{"Retry-After", ahead.Add(pause).Format("Monday, 02-Jan-06 15:04:05 GMT"), "Date", ahead.Format(http.TimeFormat)}
			},
			"date of ANSI C": func() []string {
				ahead := time.Now().UTC().Add(time.Hour)
				return []string{"Retry-After", ahead.Add(pause).Format(time.ANSIC), "Date", ahead.Format(http.TimeFormat)}
			},
		} {
			for _, status := range []int{429, 503} {
				for _, retries := range []int{0, 1} {
					t.Run(fmt.Sprint(pause, " ", name, " ", status, ", ", retries, " retries"), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							sent := fetchtest.NewTimeline()
							// Without retries the second URL waits, otherwise the first, a lone one.
							urls := fetchtest.Numbered("http://a.example", 2-retries)
							var n atomic.Int32
							results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(retries), fetch.WithConcurrency(1), fetchtest.Over(sent.Over(fetchtest.Taking(latency, func(req *http.Request) (*http.Response, error) {
								if n.Add(1) == 1 {
									return fetchtest.Respond(req, status, "no", header()...), nil
								}
								return fetchtest.Respond(req, 200, "ok"), nil
							}))))
							fetchtest.MustAllBeFine(t, urls, results)
							at := sent.OfHost("a.example")
							if len(at) != 2 {
								t.Fatalf("requests at %v", at)
							}
							fetchtest.CheckTook(t, "the pause", at[1]-latency, pause)
							r := results[len(results)-1]
							fetchtest.CheckTook(t, "the wait", r.Waited, pause+latency*time.Duration(1-retries))
							if !r.OK() || retries == 1 && r.History[0].RetryAfter != pause {
								t.Errorf("%d, history %+v", r.StatusCode, r.History)
							}
						})
					})
				}
			}
		}
	}
}

func TestACancelEndsAPauseAtOnce(t *testing.T) {
	for _, retries := range []int{0, 3} {
		t.Run(fmt.Sprint(retries, " retries"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(5*time.Second, func() { cancel(fetchtest.ErrLeft) })
				sent := fetchtest.NewTimeline()
				urls := fetchtest.Numbered("http://a.example", 20)
				results := fetch.FetchAll(ctx, urls, fetch.WithConcurrency(2), fetch.WithRetries(retries), fetchtest.Over(sent.Over(fetchtest.Taking(time.Second, fetchtest.Always(429, "Retry-After", "50")))))
				fetchtest.CheckTook(t, "the batch", time.Since(sent.Start), 5*time.Second)
				fetchtest.CheckResults(t, urls, results)
				if n := sent.Len(); n != 2 {
					t.Errorf("%d requests", n)
				}
				for _, r := range results[2:] {
					fetchtest.CheckCancelled(t, ctx, r)
					fetchtest.CheckTook(t, r.URL, r.Waited, 5*time.Second)
				}
				for _, r := range results[:2] {
					if r.StatusCode != 429 || r.Took != time.Second || r.Attempts != 1 {
						t.Errorf("%s: %d, took %v", r.URL, r.StatusCode, r.Took)
					}
					if retries > 0 {
						fetchtest.CheckCancelled(t, ctx, r)
					} else if r.Err != nil {
						t.Errorf("%s: %v", r.URL, r.Err)
					}
				}
			})
		})
	}
}

func TestAPausedHostHoldsNoSlotAndNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// All slots' worth of hosts are paused, and one is not.
		const slots = 4
		urls := slices.Concat(fetchtest.HostURLs(20, slices.Collect(fetchtest.NumberedHosts(10))...), fetchtest.Numbered("http://good", 100))
		ends := fetchtest.NewEndTimes()
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(slots), fetch.WithRetries(1), fetchtest.Over(ends.Over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host != "good" && time.Since(ends.Start) < 30*time.Second {
				return fetchtest.Respond(req, 429, "no", "Retry-After", "30"), nil
			}
			return fetchtest.AnswerAfter(100 * time.Millisecond)(req)
		})))
		fetchtest.MustAllBeFine(t, urls, results)
		fetchtest.CheckTook(t, "100 URLs of 100 ms, 4 at once,", ends.Of("good"), 2500*time.Millisecond)
		slices.SortFunc(results, func(a, b fetch.Result) int { return cmp.Compare(a.Waited, b.Waited) })
		if last := results[len(results)-1]; !last.OK() || last.Waited < 30*time.Second || last.Waited > 40*time.Second {
			t.Errorf("the one that waited longest: %v, %d", last.Waited, last.StatusCode)
		}
	})
}
