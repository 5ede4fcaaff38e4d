package fetch_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
)

// A quota is a host that takes so many requests a second, a burst of them at once, and
// answers 429 to the others. It notices when it is sent something in a pause that it has asked for.
type quota struct {
	retryAfter int // seconds; 0 is no such field

	mu        sync.Mutex
	perSecond float64
	burst     float64
	tokens    float64
	filled    time.Time
	outage    func() bool // while it takes nothing

	taken   []time.Duration // when requests were accepted, since the start
	refused int
	start   time.Time
	asked   time.Time // the end of the pause
	since   time.Time // when that was asked for last
	early   int       // requests sent in a pause
}

func newQuota(perSecond, burst float64, retryAfter int) *quota {
	now := time.Now()
	return &quota{perSecond: perSecond, burst: burst, tokens: burst, retryAfter: retryAfter, filled: now, start: now}
}

// set changes the quota.
func (q *quota) set(perSecond, burst float64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fill()
	q.perSecond, q.burst, q.tokens = perSecond, burst, min(q.tokens, burst)
}

func (q *quota) fill() {
	now := time.Now()
	q.tokens = min(q.burst, q.tokens+q.perSecond*now.Sub(q.filled).Seconds())
	q.filled = now
}

func (q *quota) take() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fill()
	now := time.Now()
	// An answer of this very instant may not have been read yet.
	if now.After(q.since) && now.Before(q.asked) {
		q.early++
	}
	// Tokens are floats: a client on the exact pace must not be refused for the last digit.
	if q.tokens < 1-1e-6 || q.outage != nil && q.outage() {
		return false
	}
	q.tokens--
	q.taken = append(q.taken, now.Sub(q.start))
	return true
}

// serve takes a request or not when it comes, and says so 20 to 80 ms later.
func (q *quota) serve(req *http.Request) (*http.Response, error) {
	if q.take() {
		return varied(atOnce)(req)
	}
	return varied(q.refuse)(req)
}

func (q *quota) refuse(req *http.Request) (*http.Response, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.refused++
	if q.retryAfter == 0 {
		return respond(req, 429, "too many"), nil
	}
	q.since = time.Now()
	if asked := q.since.Add(time.Duration(q.retryAfter) * time.Second); asked.After(q.asked) {
		q.asked = asked
	}
	return respond(req, 429, "too many", "Retry-After", strconv.Itoa(q.retryAfter)), nil
}

// took returns the time between two acceptances, counted from 0.
func (q *quota) took(from, to int) time.Duration { return q.taken[to] - q.taken[from] }

// byHost sends each request to the transport of its host.
func byHost(hosts map[string]roundTripFunc) roundTripFunc {
	return func(req *http.Request) (*http.Response, error) { return hosts[req.URL.Host](req) }
}

// checkPaused checks the error of a URL that ends for the pause of its host, which ends at one of the instants.
func checkPaused(t testing.TB, r fetch.Result, host string, until ...time.Time) {
	t.Helper()
	paused, _ := errors.AsType[*fetch.HostPausedError](r.Err)
	if paused == nil || !errors.Is(r.Err, fetch.ErrHostPaused) {
		t.Errorf("%s: %d, error %v, want a HostPausedError", r.URL, r.StatusCode, r.Err)
		return
	}
	if !strings.Contains(r.Err.Error(), "paused until "+paused.Until.UTC().Format(time.RFC3339)) {
		t.Errorf("%s: the error does not name the instant: %v", r.URL, r.Err)
	}
	if paused.Host != host || !slices.ContainsFunc(until, paused.Until.Equal) {
		t.Errorf("%s: host %s paused until %v, want %s until %v", r.URL, paused.Host, paused.Until, host, until)
	}
}

func TestAPausedHostHoldsUpNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight inFlight
		sent, ends := newTimeline(), newEndTimes()
		var first time.Duration // the first answer
		inFlightThen := 0
		var once sync.Once
		bad := taking(10*time.Millisecond, func(req *http.Request) (*http.Response, error) {
			once.Do(func() { first, inFlightThen = time.Since(sent.start), flight.currentOf("bad") })
			if left := 10*time.Second - time.Since(sent.start); left > 0 {
				return respond(req, 503, "later", "Retry-After", fmt.Sprint(math.Ceil(left.Seconds()))), nil
			}
			return respond(req, 200, "ok"), nil
		})
		urls := slices.Concat(numbered("http://bad", 64), numbered("http://good", 1000))
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(32), fetch.WithRetries(2),
			over(flight.over(sent.over(ends.over(byHost(map[string]roundTripFunc{"bad": bad, "good": answerAfter(50 * time.Millisecond)}))))))
		mustAllBeFine(t, urls, results)
		for _, r := range results {
			if !r.OK() {
				t.Errorf("%s: %d", r.URL, r.StatusCode)
			}
		}
		if took := ends.of("good"); took > 1700*time.Millisecond {
			t.Errorf("the good ones took %v", took)
		}
		if n := sent.between("bad", -1, 10*time.Second); n > inFlightThen || inFlightThen > 16 {
			t.Errorf("%d requests to the bad host before its instant, and %d in flight at its first answer", n, inFlightThen)
		}
		if n := sent.between("bad", first, 10*time.Second+first); n != 0 {
			t.Errorf("%d requests in the pause", n)
		}
		if n := sent.between("bad", 0, 10*time.Second+first+time.Millisecond); n != 1 {
			t.Errorf("%d requests when the pause was over, want one to probe", n)
		}
		if took := ends.of("bad"); took > 12*time.Second {
			t.Errorf("the bad ones took %v", took)
		}
	})
}

func TestAQuotaThatNobodyHasToldIsFound(t *testing.T) {
	for _, retryAfter := range []int{0, 1} {
		for _, concurrency := range []int{5, 20, 50, 200} {
			t.Run(fmt.Sprintf("%d at once, Retry-After %d", concurrency, retryAfter), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					q := newQuota(10, 10, retryAfter)
					urls := numbered("http://a.example", 500)
					results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(concurrency), fetch.WithRetries(4), over(q.serve))
					took := time.Since(q.start)
					mustAllBeFine(t, urls, results)
					for _, r := range results {
						if !r.OK() {
							t.Errorf("%s: %d after %d attempts", r.URL, r.StatusCode, r.Attempts)
						}
					}
					if q.refused > concurrency+40 {
						t.Errorf("%d were refused, want at most %d", q.refused, concurrency+40)
					}
					if limit := 49 * time.Second * 11 / 10; took > limit {
						t.Errorf("took %v, want at most %v", took, limit)
					}
					if q.early > 0 {
						t.Errorf("%d were sent in a pause", q.early)
					}
				})
			})
		}
	}
}

// The host answers the requests of one wave one after the other, and each answer is a 429.
func TestManyRefusalsAtOnceAreOneIncident(t *testing.T) {
	for name, header := range map[string][]string{"no Retry-After": nil, "Retry-After": {"Retry-After", "1"}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const wave, ms = 50, time.Millisecond
				sent := newTimeline()
				var n atomic.Int32
				urls := numbered("http://a.example", 100)
				results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(wave), fetch.WithRetries(3), fetch.WithBackoff(time.Second, 10*time.Second),
					over(sent.over(func(req *http.Request) (*http.Response, error) {
						if n := n.Add(1); n <= wave {
							return taking(time.Duration(100+n)*ms, always(429, header...))(req)
						}
						return answerAfter(100 * ms)(req)
					})))
				mustAllBeFine(t, urls, results)
				at := sent.ofHost("a.example")
				if len(at) != 150 {
					t.Fatalf("%d requests, want 150", len(at))
				}
				// One incident is a pause of a second, whatever comes after it in the same wave; 50 would be 10 s.
				probe := at[wave]
				if probe < 1101*ms || probe > 1150*ms {
					t.Errorf("the probe was sent after %v", probe)
				}
				if header != nil && probe != 1150*ms {
					t.Errorf("the probe was sent after %v, when the last answer had asked for %v", probe, 1150*ms)
				}
				if at[wave+1] < probe+100*ms {
					t.Errorf("another request %v after the probe, which had no answer yet", at[wave+1]-probe)
				}
			})
		})
	}
}

// The first wave was 32 requests, of which the host refused all; since then it accepts everything.
func TestAfterAnIncidentTheWindowOpensFromOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const wave, latency = 32, 100 * time.Millisecond
		sent := newTimeline()
		var n atomic.Int32
		urls := numbered("http://a.example", 300)
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(wave), fetch.WithRetries(1), over(sent.over(taking(latency, func(req *http.Request) (*http.Response, error) {
			if n.Add(1) <= wave {
				return respond(req, 429, "no", "Retry-After", "1"), nil
			}
			return respond(req, 200, "ok"), nil
		}))))
		mustAllBeFine(t, urls, results)
		probe := time.Second + latency
		for round, most := range []int{1, 2, 4, 8} {
			from := probe + time.Duration(round)*latency - time.Nanosecond
			if n := sent.between("a.example", from, from+latency); n > most {
				t.Errorf("%d requests in round %d after the pause, want at most %d", n, round, most)
			}
		}
		// 300 requests in a window of up to 32 take 10 rounds.
		if took := time.Since(sent.start); took > 4*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestTheLongestOfSeveralPausesHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Four in flight: a long pause, a short one, none, and one that is taken, which come in this order.
		first := map[string]roundTripFunc{
			"/0": taking(1*time.Second, always(429, "Retry-After", "20")),
			"/1": taking(2*time.Second, always(429, "Retry-After", "1")),
			"/2": taking(3*time.Second, always(429)),
			"/3": taking(4*time.Second, atOnce),
		}
		sent := newTimeline()
		urls := numbered("http://a.example", 20)
		var n atomic.Int32
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(4), fetch.WithRetries(2), over(sent.over(func(req *http.Request) (*http.Response, error) {
			if n.Add(1) <= 4 {
				return first[req.URL.Path](req)
			}
			return respond(req, 200, "ok"), nil
		})))
		mustAllBeFine(t, urls, results)
		if at := sent.ofHost("a.example"); len(at) != 23 || at[4] != 21*time.Second {
			t.Errorf("requests at %v, want the fifth at 21 s", at)
		}
	})
}

func TestARefusedURLGoesToTheBackOfItsHostsQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent recorder
		urls := numbered("http://a.example", 5)
		var n atomic.Int32
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1), fetch.WithRetries(1), over(sent.over(func(req *http.Request) (*http.Response, error) {
			if n.Add(1) == 1 {
				return respond(req, 429, "no", "Retry-After", "1"), nil
			}
			return respond(req, 200, "ok"), nil
		})))
		mustAllBeFine(t, urls, results)
		var order []string
		for _, s := range sent.take() {
			order = append(order, s.url)
		}
		if want := slices.Concat(urls, urls[:1]); !slices.Equal(order, want) {
			t.Errorf("sent %v", order)
		}
	})
}

// Without Retry-After, too: the pause governs those.
func TestRefusalsAreNotChargedToTheBudget(t *testing.T) {
	for name, step := range map[string]roundTripFunc{
		"429": always(429), "429 with Retry-After": always(429, "Retry-After", "1"), "503 with Retry-After": always(503, "Retry-After", "1"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				steps := slices.Repeat([]roundTripFunc{step}, 40)
				r := getOne(t, "http://a.example/", fetch.WithRetries(50), fetch.WithBackoff(time.Second, time.Second), over(inTurn(append(steps, atOnce)...)))
				if !r.OK() || r.Attempts != 41 {
					t.Errorf("%d after %d attempts", r.StatusCode, r.Attempts)
				}
			})
		})
	}
}

// One that says nothing about whether the host accepts requests again must not leave it closed.
func TestAProbeThatFailsIsFollowedByAnother(t *testing.T) {
	for name, probe := range map[string]roundTripFunc{
		"connection reset": failing(errReset), "timeout": hanging, "cut body": cut("x"), "503": always(503), "404": always(404),
	} {
		for _, retries := range []int{0, 2} {
			t.Run(fmt.Sprint(name, ", ", retries, " retries"), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					sent := newTimeline()
					urls := numbered("http://a.example", 20)
					var n atomic.Int32
					results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(4), fetch.WithRetries(retries), fetch.WithTimeout(time.Second), over(sent.over(func(req *http.Request) (*http.Response, error) {
						switch n := n.Add(1); {
						case n <= 4:
							return taking(10*time.Millisecond, always(429, "Retry-After", "1"))(req)
						case n <= 6:
							return probe(req)
						}
						return answerAfter(10 * time.Millisecond)(req)
					})))
					checkResults(t, urls, results)
					if took := time.Since(sent.start); took > 10*time.Second {
						t.Errorf("took %v", took)
					}
					lost := 0
					for _, r := range results {
						if !r.OK() {
							lost++
						}
					}
					if most := 6; retries == 0 && lost > most || retries > 0 && lost > 0 && name != "404" {
						t.Errorf("%d are lost", lost)
					}
				})
			})
		}
	}
}

func TestAProbeThatIsCancelledIsFollowedByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var probed atomic.Bool
		f := newFetcher(t, fetch.WithConcurrency(2), over(func(req *http.Request) (*http.Response, error) {
			switch {
			case time.Since(start) < time.Second: // the first, and the second too if it left before that was answered
				return respond(req, 429, "no", "Retry-After", "2"), nil
			case probed.CompareAndSwap(false, true):
				return answerAfter(time.Hour)(req)
			}
			return answerAfter(10 * time.Millisecond)(req)
		}))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var calls sync.WaitGroup
		calls.Go(func() {
			urls := numbered("http://a.example/cancelled", 3)
			results := f.FetchAll(ctx, urls)
			checkResults(t, urls, results)
			if results[0].StatusCode != 429 {
				t.Errorf("the first: %d, %v", results[0].StatusCode, results[0].Err)
			}
			if results[1].StatusCode != 429 {
				checkCancelled(t, ctx, results[1])
			}
			checkCancelled(t, ctx, results[2])
		})
		time.Sleep(3 * time.Second)
		calls.Go(func() {
			urls := numbered("http://a.example/other", 3)
			mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
			if took := time.Since(start); took < 5*time.Second || took > 6*time.Second {
				t.Errorf("took %v", took)
			}
		})
		time.Sleep(2 * time.Second)
		cancel() // the probe, which is three seconds old
		calls.Wait()
	})
}

func TestPausesWithoutRetryAfterDouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := newTimeline()
		r := getOne(t, "http://a.example/", fetch.WithRetries(6), fetch.WithBackoff(100*time.Millisecond, time.Second), over(sent.over(always(429))))
		if r.StatusCode != 429 || r.Attempts != 7 || r.Err != nil {
			t.Errorf("%d attempts, %d, %v", r.Attempts, r.StatusCode, r.Err)
		}
		at := sent.ofHost("a.example")
		for i, tenths := range []time.Duration{1, 2, 4, 8, 10, 10} {
			checkTook(t, fmt.Sprintf("pause %d", i), at[i+1]-at[i], tenths*100*time.Millisecond)
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
					q, ends := newQuota(10, 10, c.retryAfter), newEndTimes()
					checkResults(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(32), fetch.WithRetries(c.retries),
						over(ends.over(byHost(map[string]roundTripFunc{"busy": q.serve, "good": answerAfter(50 * time.Millisecond)})))))
					return ends.of("good")
				}
				good := numbered("http://good", 2000)
				alone := run(good)
				beside := run(slices.Concat(numbered("http://busy", 200), good))
				if beside > alone*105/100 {
					t.Errorf("%v beside a host that refuses, %v alone", beside, alone)
				}
			})
		})
	}
}

func TestThePaceIsKeptBetweenCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuota(10, 10, 1)
		f := newFetcher(t, fetch.WithConcurrency(40), fetch.WithRetries(4), over(q.serve))
		for call := range 4 {
			before := q.refused
			urls := numbered(fmt.Sprintf("http://a.example/%d", call), 100)
			mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
			// What the first call has learnt, the others need not find out with a wave of 40.
			if n := q.refused - before; call > 0 && n > 10 {
				t.Errorf("%d were refused in call %d", n, call)
			}
		}
		if took := time.Since(q.start); len(q.taken) != 400 || took > 39*time.Second*11/10 {
			t.Errorf("%d were accepted in %v", len(q.taken), took)
		}
	})
}

func TestThePaceIsFoundAgainWhenTheQuotaIsRaised(t *testing.T) {
	for _, retryAfter := range []int{0, 1} {
		t.Run(fmt.Sprint("Retry-After ", retryAfter), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQuota(10, 10, retryAfter)
				const before = 200 // 20 s
				time.AfterFunc(before/10*time.Second, func() { q.set(100, 100) })
				urls := numbered("http://a.example", 1500)
				results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(50), fetch.WithRetries(9), over(q.serve))
				took := time.Since(q.start)
				mustAllBeFine(t, urls, results)
				if len(q.taken) != len(urls) {
					t.Fatalf("%d of %d were accepted", len(q.taken), len(urls))
				}
				// About a hundred requests to find it, and then nearly the whole quota.
				if last := q.took(1000, 1499).Seconds(); last > 1.5*500/100 {
					t.Errorf("the last 500 took %.1f s", last)
				}
				if bound := (20 + 1300/100) * time.Second; took > bound*3/2 {
					t.Errorf("took %v, the quota allows %v", took, bound)
				}
			})
		})
	}
}

func TestThePaceIsFoundAgainAfterAnOutage(t *testing.T) {
	for _, retryAfter := range []int{0, 1} {
		t.Run(fmt.Sprint("Retry-After ", retryAfter), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				q := newQuota(50, 50, retryAfter)
				q.outage = func() bool {
					t := time.Since(q.start)
					return t > 5*time.Second && t < 65*time.Second // one bad minute
				}
				urls := numbered("http://a.example", 2000)
				results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(20), fetch.WithRetries(20), over(q.serve))
				took := time.Since(q.start)
				mustAllBeFine(t, urls, results)
				if len(q.taken) != len(urls) {
					t.Fatalf("%d of %d were accepted", len(q.taken), len(urls))
				}
				if last := q.took(1500, 1999).Seconds(); last > 1.5*500/50 {
					t.Errorf("the last 500 took %.1f s", last)
				}
				if bound := (60 + 1950/50) * time.Second; took > bound*3/2 {
					t.Errorf("took %v, the quota allows %v", took, bound)
				}
			})
		})
	}
}

func TestWithoutRetriesOnlyTheRefusedURLEndsWithItsRefusal(t *testing.T) {
	for _, status := range []int{429, 503} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const ms = time.Millisecond
				sent := newTimeline()
				var n atomic.Int32
				urls := numbered("http://a.example", 10)
				results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1), over(sent.over(func(req *http.Request) (*http.Response, error) {
					if n.Add(1) == 1 {
						return taking(10*ms, always(status, "Retry-After", "2"))(req)
					}
					return answerAfter(10 * ms)(req)
				})))
				mustAllBeFine(t, urls, results)
				if r := results[0]; r.StatusCode != status || string(r.Body) != fmt.Sprint("body of ", status) || r.Header.Get("Retry-After") != "2" || r.Attempts != 1 {
					t.Errorf("the refused one: %d %q %v", r.StatusCode, r.Body, r.Header)
				}
				for _, r := range results[1:] {
					if !r.OK() || r.Attempts != 1 || r.Waited < 2010*ms {
						t.Errorf("%s: %d after %v", r.URL, r.StatusCode, r.Waited)
					}
				}
				if at := sent.ofHost("a.example"); len(at) != 10 || at[1] != 2010*ms {
					t.Errorf("requests at %v", at)
				}
			})
		})
	}
}

func TestWithoutRetriesAPaceIsKeptAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slots = 20
		q := newQuota(10, 10, 1)
		urls := numbered("http://a.example", 300)
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(slots), over(q.serve))
		mustAllBeFine(t, urls, results)
		refused := 0
		for _, r := range results {
			if r.StatusCode == 429 {
				refused++
			}
			if r.Attempts != 1 {
				t.Errorf("%s: %d attempts", r.URL, r.Attempts)
			}
		}
		if refused != q.refused || refused > slots+40 || len(q.taken) != 300-refused {
			t.Errorf("%d of 300 were refused", refused)
		}
		if q.early > 0 {
			t.Errorf("%d were sent in a pause", q.early)
		}
	})
}

func TestWithMaxRetryAfter0IgnoresRetryAfter(t *testing.T) {
	const ms = time.Millisecond
	t.Run("without retries nothing waits", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			urls := numbered("http://a.example", 100)
			results := fetch.FetchAll(t.Context(), urls, fetch.WithMaxRetryAfter(0), fetch.WithConcurrency(10), over(taking(ms, always(429, "Retry-After", "100000"))))
			mustAllBeFine(t, urls, results)
			checkTook(t, "100 URLs, 10 at once,", time.Since(start), 10*ms)
		})
	})
	t.Run("a 429 is followed by a back-off", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := getOne(t, "http://a.example/", fetch.WithMaxRetryAfter(0), fetch.WithRetries(1), fetch.WithBackoff(ms, ms),
				over(inTurn(always(429, "Retry-After", "100000"), atOnce)))
			if !r.OK() || r.Waited > ms {
				t.Errorf("%d, waited %v", r.StatusCode, r.Waited)
			}
		})
	})
	t.Run("a 503 is a failure like any other", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			urls := numbered("http://a.example", 100)
			results := fetch.FetchAll(t.Context(), urls, fetch.WithMaxRetryAfter(0), over(taking(ms, always(503, "Retry-After", "100000"))))
			mustAllBeFine(t, urls, results)
			checkTook(t, "100 URLs, 64 at once,", time.Since(start), 2*ms)
		})
	})
}

func TestA429WithoutRetryAfterPausesNothingWithoutRetries(t *testing.T) {
	for _, value := range []string{"", "0", "-1", "soon", "Sun, 06 Nov 1994 08:49:37 GMT"} {
		t.Run(value, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const ms = time.Millisecond
				var flight inFlight
				start := time.Now()
				urls := numbered("http://a.example", 100)
				results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(10), over(flight.over(taking(ms, func(req *http.Request) (*http.Response, error) {
					resp := respond(req, 429, "no")
					if value != "" {
						resp.Header.Set("Retry-After", value)
					}
					return resp, nil
				}))))
				mustAllBeFine(t, urls, results)
				checkTook(t, "100 URLs, 10 at once,", time.Since(start), 10*ms)
				if flight.total() != 100 {
					t.Errorf("%d requests", flight.total())
				}
			})
		})
	}
}

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
				sent, ends := newTimeline(), newEndTimes()
				rt := over(sent.over(ends.over(byHost(map[string]roundTripFunc{
					"busy": taking(10*time.Millisecond, always(c.status, c.retryAfter...)),
					"good": answerAfter(50 * time.Millisecond),
				}))))
				urls := slices.Concat(numbered("http://busy", 1000), numbered("http://good", 1000))
				results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(slots), fetch.WithRetries(c.retries), rt)
				took := time.Since(sent.start)
				checkResults(t, urls, results)
				// 2 × WithMaxRetryAfter, and the pause in which that falls.
				if took < 2*time.Minute || took > 2*time.Minute+11*time.Second {
					t.Errorf("given up after %v", took)
				}
				if n := len(sent.ofHost("busy")); n > 36 {
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
				if took, alone := ends.of("good"), time.Duration(1000/slots)*50*time.Millisecond; took > alone*105/100 {
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
		urls := numbered("http://a.example", 5)
		start := time.Now()
		results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(100), fetch.WithConcurrency(2), over(taking(10*time.Millisecond, func(req *http.Request) (*http.Response, error) {
			mu.Lock()
			defer mu.Unlock()
			if time.Now().Before(next) {
				return respond(req, 429, "no", "Retry-After", "10"), nil
			}
			next = time.Now().Add(100 * time.Second)
			return respond(req, 200, "ok"), nil
		})))
		mustAllBeFine(t, urls, results)
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
		f := newFetcher(t, fetch.WithRetries(20), fetch.WithConcurrency(2), over(q.serve))
		urls := numbered("http://a.example", 20)
		results := f.FetchAll(t.Context(), urls)
		checkResults(t, urls, results)
		if !errors.Is(results[19].Err, fetch.ErrHostPaused) {
			t.Errorf("the last: %v", results[19].Err)
		}
		results = f.FetchAll(t.Context(), urls)
		mustAllBeFine(t, urls, results)
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
					sent := newTimeline()
					var mu sync.Mutex
					var asked []time.Time
					busy := taking(latency, func(req *http.Request) (*http.Response, error) {
						mu.Lock()
						defer mu.Unlock()
						asked = append(asked, time.Now().Add(c.ask))
						return respond(req, c.status, "come back later", "Retry-After", fmt.Sprint(c.ask.Seconds())), nil
					})
					urls := slices.Concat(numbered("http://busy", 50), numbered("http://good", 50))
					results := fetch.FetchAll(ctx, urls, append(c.opts, fetch.WithConcurrency(c.slots), fetch.WithHostConcurrency(c.slots), fetch.WithRetries(retries),
						over(sent.over(byHost(map[string]roundTripFunc{"busy": busy, "good": answerAfter(latency)}))))...)
					if took := time.Since(sent.start); took > 60*latency {
						t.Errorf("took %v", took)
					}
					checkResults(t, urls, results)
					n := len(sent.ofHost("busy"))
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
		urls := numbered("http://a.example", 60)
		results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(2), fetch.WithConcurrency(1), over(func(req *http.Request) (*http.Response, error) {
			if n.Add(1)%3 == 0 {
				return respond(req, 200, "ok"), nil
			}
			return respond(req, 503, "later", "Retry-After", "3600"), nil
		}))
		mustAllBeFine(t, urls, results)
		for i, r := range results {
			if want := []int{503, 503, 200}[i%3]; r.StatusCode != want || r.Attempts != 1 {
				t.Errorf("%s: %d attempts, %d, want %d", r.URL, r.Attempts, r.StatusCode, want)
			}
		}
	})
}

func TestAPauseHoldsForLaterCallsToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := newTimeline()
		until := sent.start.Add(100 * time.Second)
		f := newFetcher(t, over(sent.over(inTurn(always(429, "Retry-After", "100"), atOnce))))
		urls := []string{"http://a.example/"}
		results := f.FetchAll(t.Context(), urls)
		checkResults(t, urls, results)
		if r := results[0]; r.StatusCode != 429 || r.Err != nil {
			t.Errorf("the first call: %d, %v", r.StatusCode, r.Err)
		}
		for _, at := range []time.Duration{0, time.Second, 39 * time.Second} {
			time.Sleep(at - time.Since(sent.start))
			start := time.Now()
			results = f.FetchAll(t.Context(), urls)
			checkResults(t, urls, results)
			checkPaused(t, results[0], "a.example", until)
			checkTook(t, fmt.Sprintf("the call after %v", at), time.Since(start), 0)
		}
		// Now the rest of it can be waited for, but by no call that has less time.
		time.Sleep(time.Until(until.Add(-50 * time.Second)))
		ctx, cancel := context.WithTimeout(t.Context(), 49*time.Second)
		defer cancel()
		results = f.FetchAll(ctx, urls)
		checkResults(t, urls, results)
		checkPaused(t, results[0], "a.example", until)
		results = f.FetchAll(t.Context(), urls)
		mustAllBeFine(t, urls, results)
		if at := sent.ofHost("a.example"); len(at) != 2 || at[1] != 100*time.Second {
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
				refuse := always(429, c.header...)
				r := getOne(t, "http://a.example/", append([]fetch.Option{fetch.WithRetries(5)}, append(c.opts, over(inTurn(refuse, refuse, refuse, atOnce)))...)...)
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
				sent := newTimeline()
				var n atomic.Int32
				f := newFetcher(t, fetch.WithConcurrency(slots), over(sent.over(func(req *http.Request) (*http.Response, error) {
					if n.Add(1) == 1 {
						return taking(10*ms, always(429, "Retry-After", "5"))(req)
					}
					return answerAfter(20 * ms)(req)
				})))
				urls := numbered("http://a.example", 3)
				mustAllBeFine(t, urls[:2], f.FetchAll(t.Context(), urls[:2]))
				mustAllBeFine(t, urls[2:], f.FetchAll(t.Context(), urls[2:]))
				if at := sent.ofHost("a.example"); len(at) != 3 || at[2] != 5010*ms {
					t.Errorf("requests at %v", at)
				}
			})
		})
	}
}

// However low WithMaxRetryAfter is, more than that is not waited for.
func TestAPauseOverALowWithMaxRetryAfterIsNotWaitedForLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := newTimeline()
		f := newFetcher(t, fetch.WithMaxRetryAfter(time.Second), over(sent.over(always(429, "Retry-After", "5"))))
		urls := numbered("http://a.example", 3)
		results := f.FetchAll(t.Context(), urls[:1])
		checkResults(t, urls[:1], results)
		results = f.FetchAll(t.Context(), urls)
		checkResults(t, urls, results)
		for _, r := range results {
			checkPaused(t, r, "a.example", sent.start.Add(5*time.Second))
		}
		checkTook(t, "the second call", time.Since(sent.start), 0)
	})
}

func TestAPauseHoldsForWhatAStreamReadsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := newTimeline()
		until := sent.start.Add(100 * time.Second)
		urls := numbered("http://a.example", 5)
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
		}, fetch.WithRetries(2), over(sent.over(func(req *http.Request) (*http.Response, error) {
			if time.Now().Before(until) {
				return respond(req, 429, "no", "Retry-After", "100"), nil
			}
			return respond(req, 200, "ok"), nil
		}))) {
			checkResult(t, r.Index, urls[r.Index], r)
			results = append(results, r)
		}
		if len(results) != 5 || results[0].StatusCode != 429 || !results[4].OK() {
			t.Fatalf("%d results: %+v", len(results), results)
		}
		for _, r := range results[1:4] {
			checkPaused(t, r, "a.example", until)
		}
		if at := sent.ofHost("a.example"); !slices.Equal(at, []time.Duration{0, 100 * time.Second}) {
			t.Errorf("requests at %v", at)
		}
	})
}

func TestTheCallsOfAFetcherShareAPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := newTimeline()
		q := newQuota(10, 1, 20)
		f := newFetcher(t, fetch.WithRetries(5), fetch.WithConcurrency(4), over(sent.over(q.serve)))
		run := func(ctx context.Context, path string) ([]string, []fetch.Result) {
			urls := numbered("http://a.example/"+path, 10)
			return urls, f.FetchAll(ctx, urls)
		}
		var calls sync.WaitGroup
		for i := range 3 {
			calls.Go(func() {
				time.Sleep(time.Duration(i) * time.Second) // the others come in the pause
				urls, results := run(t.Context(), fmt.Sprint("call", i))
				mustAllBeFine(t, urls, results)
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
			checkTook(t, "a call that cannot wait so long", time.Since(start), 0)
			checkResults(t, urls, results)
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
		sent := newTimeline()
		var n atomic.Int32
		urls := []string{"http://a.example/", "https://A.Example./", "http://a.example:80/", "https://user:word@a.example:443/", "http://a.example:8080/"}
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1), over(sent.over(func(req *http.Request) (*http.Response, error) {
			if n.Add(1) == 1 {
				return respond(req, 429, "no", "Retry-After", "5"), nil
			}
			return respond(req, 200, "ok"), nil
		})))
		mustAllBeFine(t, urls, results)
		for i, want := range []time.Duration{0, 5 * time.Second, 5 * time.Second, 5 * time.Second, 0} {
			checkTook(t, urls[i], results[i].Waited, want)
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
				sent := newTimeline()
				urls := []string{"http://busy/", "http://door/"}
				results := fetch.FetchAll(t.Context(), urls, over(sent.over(byHost(map[string]roundTripFunc{
					"busy": inTurn(always(429, "Retry-After", c.ask), atOnce),
					"door": taking(time.Second, always(302, "Location", "http://busy/")),
				}))))
				checkResults(t, urls, results)
				at := sent.ofHost("busy")
				if !c.fits {
					checkPaused(t, results[1], "busy", sent.start.Add(5000*time.Second))
					if r := results[1]; r.StatusCode != 302 || r.FinalURL != "http://door/" || len(at) != 1 {
						t.Errorf("%d from %q, requests at %v", r.StatusCode, r.FinalURL, at)
					}
					return
				}
				if r := results[1]; !r.OK() || r.Redirects != 1 || r.Attempts != 1 || len(at) != 2 || at[1] != 5*time.Second {
					t.Errorf("%d after %d redirects and %d attempts, requests at %v", r.StatusCode, r.Redirects, r.Attempts, at)
				}
				checkTook(t, "the redirect", results[1].Waited, 4*time.Second)
			})
		})
	}
}

// A pause is that of the host, but each attempt begins at the door.
func TestARefusalBehindARedirectIsRetriedFromTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := newTimeline()
		urls := numbered("http://door", 3)
		results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(2), over(sent.over(byHost(map[string]roundTripFunc{
			"busy": taking(time.Second, func(req *http.Request) (*http.Response, error) {
				if time.Since(sent.start) < 10*time.Second {
					return respond(req, 429, "no", "Retry-After", "10"), nil
				}
				return respond(req, 200, "ok"), nil
			}),
			"door": func(req *http.Request) (*http.Response, error) {
				return respond(req, 302, "", "Location", "http://busy"+req.URL.Path), nil
			},
		}))))
		mustAllBeFine(t, urls, results)
		for _, r := range results {
			if !r.OK() || r.Attempts != 2 || r.Redirects != 1 {
				t.Errorf("%s: %d after %d attempts, %d redirects", r.URL, r.StatusCode, r.Attempts, r.Redirects)
			}
		}
		if doors := len(sent.ofHost("door")); doors != 6 {
			t.Errorf("%d requests at the door, want 6", doors)
		}
		if at := sent.ofHost("busy"); len(at) != 6 || at[3] != 11*time.Second {
			t.Errorf("requests at %v, want the fourth at 11 s", at)
		}
	})
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
				sent := newTimeline()
				urls := numbered("http://a.example", 3)
				var reqs []*http.Request
				for _, rawURL := range urls {
					reqs = append(reqs, newRequest(t, c.method, rawURL, strings.NewReader("payload")))
				}
				var n atomic.Int32
				results := newFetcher(t, fetch.WithRetries(5), fetch.WithConcurrency(1), fetch.WithRetryIf(c.retryIf), over(sent.over(taking(time.Second, func(req *http.Request) (*http.Response, error) {
					if n.Add(1) == 1 {
						return respond(req, 429, "no", "Retry-After", "7"), nil
					}
					return respond(req, 200, "ok"), nil
				})))).DoAll(t.Context(), reqs)
				mustAllBeFine(t, urls, results)
				if results[0].StatusCode != 429 || !results[1].OK() || !results[2].OK() {
					t.Errorf("%d, %d, %d", results[0].StatusCode, results[1].StatusCode, results[2].StatusCode)
				}
				if at := sent.ofHost("a.example"); len(at) != 3 || at[1] != 8*time.Second {
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
				sent := newTimeline()
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				urls := numbered("http://a.example", 4)
				reqs := []*http.Request{
					newRequest(t, "GET", urls[0], nil).WithContext(ctx),
					newRequest(t, "GET", urls[1], nil),
					newRequest(t, "GET", urls[2], nil).WithContext(ctx),
					newRequest(t, "GET", urls[3], nil),
				}
				var n atomic.Int32
				results := newFetcher(t, fetch.WithRetries(5), fetch.WithConcurrency(1), over(sent.over(taking(time.Second, func(req *http.Request) (*http.Response, error) {
					if n.Add(1) == 1 {
						return respond(req, status, "no", "Retry-After", "10"), nil
					}
					return respond(req, 200, "ok"), nil
				})))).DoAll(t.Context(), reqs)
				checkResults(t, urls, results)
				if r := results[0]; r.StatusCode != status || r.Err != nil || r.Attempts != 1 || string(r.Body) != "no" {
					t.Errorf("the one that was refused: %d %q, %v", r.StatusCode, r.Body, r.Err)
				}
				if r := results[2]; r.Err == nil || r.Attempts != 0 || r.Waited > 5*time.Second {
					t.Errorf("the one that has no time either: waited %v, %v", r.Waited, r.Err)
				}
				if !results[1].OK() || !results[3].OK() {
					t.Errorf("the others: %v, %v", results[1].Err, results[3].Err)
				}
				if at := sent.ofHost("a.example"); len(at) != 3 || at[1] != 11*time.Second {
					t.Errorf("requests at %v", at)
				}
			})
		})
	}
}

// In a bubble it is midnight of 1 January 2000, UTC.
var hostileRetryAfters = map[string]struct {
	values []string
	asks   time.Duration // 0: nothing
}{
	"none":                  {nil, 0},
	"empty":                 {[]string{""}, 0},
	"blank":                 {[]string{" \t"}, 0},
	"zero":                  {[]string{"0"}, 0},
	"zeros":                 {[]string{"0000000000000000000000"}, 0},
	"negative":              {[]string{"-1"}, 0},
	"very negative":         {[]string{"-9223372036854775808"}, 0},
	"signed":                {[]string{"+5"}, 0},
	"fractional":            {[]string{"0.5"}, 0},
	"with an exponent":      {[]string{"1e3"}, 0},
	"hexadecimal":           {[]string{"0x10"}, 0},
	"with a unit":           {[]string{"5 seconds"}, 0},
	"a list":                {[]string{"5, 6"}, 0},
	"wide digits":           {[]string{"５"}, 0},
	"junk":                  {[]string{"soon"}, 0},
	"control characters":    {[]string{"5\x00\r\n"}, 0},
	"not a number":          {[]string{"NaN"}, 0},
	"long junk":             {[]string{strings.Repeat("x", 100_000)}, 0},
	"largest int64":         {[]string{"9223372036854775807"}, math.MaxInt64},
	"largest int64, plus 1": {[]string{"9223372036854775808"}, math.MaxInt64},
	"largest uint64 plus 1": {[]string{"18446744073709551616"}, math.MaxInt64},
	"wraps as nanoseconds":  {[]string{"9223372037"}, math.MaxInt64},
	"wraps to little":       {[]string{"18446744074"}, math.MaxInt64},
	"10¹² s":                {[]string{"1000000000000"}, math.MaxInt64},
	"infinite digits":       {[]string{strings.Repeat("9", 10_000)}, math.MaxInt64},
	"leading zeros":         {[]string{strings.Repeat("0", 10_000) + "5"}, 5 * time.Second},
	"past date, RFC 1123":   {[]string{"Sun, 06 Nov 1994 08:49:37 GMT"}, 0},
	"past date, RFC 850":    {[]string{"Sunday, 06-Nov-94 08:49:37 GMT"}, 0},
	"past date, ANSI C":     {[]string{"Sun Nov  6 08:49:37 1994"}, 0},
	"year 0":                {[]string{"Sat, 01 Jan 0000 00:00:00 GMT"}, 0},
	"present":               {[]string{"Sat, 01 Jan 2000 00:00:00 GMT"}, 0},
	"far date, RFC 1123":    {[]string{"Fri, 31 Dec 9999 23:59:59 GMT"}, math.MaxInt64},
	"far date, RFC 850":     {[]string{"Monday, 31-Dec-68 23:59:59 GMT"}, math.MaxInt64},
	"far date, ANSI C":      {[]string{"Fri Dec 31 23:59:59 9999"}, math.MaxInt64},
	"no such date":          {[]string{"Fri, 31 Feb 2001 25:61:61 GMT"}, 0},
	"near date, RFC 1123":   {[]string{"Sat, 01 Jan 2000 00:00:05 GMT"}, 5 * time.Second},
	"near date, RFC 850":    {[]string{"Saturday, 01-Jan-00 00:00:05 GMT"}, 5 * time.Second},
	"near date, ANSI C":     {[]string{"Sat Jan  1 00:00:05 2000"}, 5 * time.Second},
	"twice the same":        {[]string{"5", "5"}, 5 * time.Second},
	"twice, different":      {[]string{"1", "5"}, 5 * time.Second},
	"twice, one is junk":    {[]string{"junk", "5"}, 5 * time.Second},
	"twice, one is huge":    {[]string{"0", "99999999999999999999"}, math.MaxInt64},
	"twice junk":            {[]string{"-1", "soon"}, 0},
}

func TestHostileRetryAfterValues(t *testing.T) {
	const slots, latency, base = 4, 10 * time.Millisecond, 200 * time.Millisecond
	for name, c := range hostileRetryAfters {
		for _, status := range []int{429, 503} {
			for _, retries := range []int{0, 3} {
				t.Run(fmt.Sprintf("%s, %d, %d retries", name, status, retries), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						sent := newTimeline()
						urls := numbered("http://a.example", 20)
						results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(slots), fetch.WithRetries(retries),
							over(sent.over(taking(latency, func(req *http.Request) (*http.Response, error) {
								resp := respond(req, status, "no")
								if c.values != nil {
									resp.Header["Retry-After"] = c.values
								}
								return resp, nil
							}))))
						took := time.Since(sent.start)
						checkResults(t, urls, results)
						for _, r := range results {
							if n := len(sent.ofURL(r.URL)); n > 1+retries || n != r.Attempts {
								t.Errorf("%s: %d requests, %d attempts", r.URL, n, r.Attempts)
							}
						}
						// What can last longest are pauses of up to 10 s until the host is given up.
						if took > 2*time.Minute+11*time.Second {
							t.Errorf("took %v", took)
						}
						requests, later := sent.len(), func(d time.Duration) int { return sent.between("a.example", latency, latency+d) }
						switch {
						case c.asks == math.MaxInt64:
							// For a 503 three distinct URLs, and what was started before the third came.
							if most := slots + (status/503)*(slots-1); requests > most {
								t.Errorf("%d requests, want at most %d", requests, most)
							}
							if took > 3*latency {
								t.Errorf("took %v", took)
							}
							if paused, _ := errors.AsType[*fetch.HostPausedError](results[19].Err); paused == nil || !paused.Until.After(time.Now().Add(24*time.Hour)) {
								t.Errorf("the last: %v", results[19].Err)
							}
						case c.asks > 0:
							// It may have been a date.
							if n := later(c.asks - latency); n != 0 || requests > 24 && retries == 0 {
								t.Errorf("%d requests, %d of them in the first pause", requests, n)
							}
						case status == 429 && retries > 0:
							if n := later(base); n != 0 {
								t.Errorf("%d requests in the first pause", n)
							}
							if n := later(10 * time.Second); n > 8 {
								t.Errorf("%d requests in the first ten seconds", n)
							}
						case retries == 0:
							if requests != 20 {
								t.Errorf("%d requests, want 20", requests)
							}
							checkTook(t, "20 URLs, 4 at once,", took, 5*latency)
						}
					})
				})
			}
		}
	}
}

// Twice in a row, and then the host has recovered.
func TestAURLThatIsRefusedTwiceIsFetchedAtLast(t *testing.T) {
	for name, c := range hostileRetryAfters {
		if c.asks == math.MaxInt64 {
			continue
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				refuse := func(req *http.Request) (*http.Response, error) {
					resp := respond(req, 429, "no")
					resp.Header["Retry-After"] = c.values
					return resp, nil
				}
				r := getOne(t, "http://a.example/", fetch.WithRetries(2), over(inTurn(refuse, refuse, atOnce)))
				if !r.OK() || r.Attempts != 3 || r.Waited < 600*time.Millisecond && c.asks == 0 || r.Waited < c.asks || r.Waited > 2*c.asks+time.Second {
					t.Errorf("%d after %d attempts and %v", r.StatusCode, r.Attempts, r.Waited)
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
							sent := newTimeline()
							// Without retries the second URL waits, otherwise the first, a lone one.
							urls := numbered("http://a.example", 2-retries)
							var n atomic.Int32
							results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(retries), fetch.WithConcurrency(1), over(sent.over(taking(latency, func(req *http.Request) (*http.Response, error) {
								if n.Add(1) == 1 {
									return respond(req, status, "no", header()...), nil
								}
								return respond(req, 200, "ok"), nil
							}))))
							mustAllBeFine(t, urls, results)
							at := sent.ofHost("a.example")
							if len(at) != 2 {
								t.Fatalf("requests at %v", at)
							}
							checkTook(t, "the pause", at[1]-latency, pause)
							r := results[len(results)-1]
							checkTook(t, "the wait", r.Waited, pause+latency*time.Duration(1-retries))
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

func TestAShortOutageLosesNothing(t *testing.T) {
	const outage = 5 * time.Second
	for name, c := range map[string]struct {
		slots int
		ask   func(left time.Duration) int
	}{
		"the host knows when it is over": {100, func(left time.Duration) int { return int(math.Ceil(left.Seconds())) }},
		"the host says a second":         {64, func(time.Duration) int { return 1 }},
		"the host says two":              {5, func(time.Duration) int { return 2 }},
	} {
		for _, status := range []int{429, 503} {
			t.Run(fmt.Sprint(name, ", ", status), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					sent := newTimeline()
					urls := numbered("http://a.example", 100)
					results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(2), fetch.WithConcurrency(c.slots),
						over(sent.over(taking(20*time.Millisecond, func(req *http.Request) (*http.Response, error) {
							if left := outage - time.Since(sent.start); left > 0 {
								return respond(req, status, "later", "Retry-After", fmt.Sprint(c.ask(left))), nil
							}
							return respond(req, 200, "ok"), nil
						}))))
					mustAllBeFine(t, urls, results)
					for _, r := range results {
						if !r.OK() {
							t.Errorf("%s: %d after %d attempts", r.URL, r.StatusCode, r.Attempts)
						}
					}
					if n := sent.len(); n > 200 {
						t.Errorf("%d requests for 100 URLs", n)
					}
					if took := time.Since(sent.start); took > 3*outage {
						t.Errorf("took %v", took)
					}
				})
			})
		}
	}
}

// Everything but the first URL is held back for the memory that results take which wait for it, and it has
// gone to the back of its host's queue, behind URLs that are held back.
func TestAnOrderedStreamOfLargeBodiesWaitsForARefusedURL(t *testing.T) {
	const size, large = 1 << 20, 72 // 64 MiB stop it
	for name, step := range map[string]roundTripFunc{
		"refused before the others are there": always(429, "Retry-After", "5"),
		"refused after that":                  taking(time.Second, always(429, "Retry-After", "5")),
		"in back-off after that":              taking(time.Second, always(500)),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				page := strings.Repeat("x", size)
				rt := inTurn(step, step, answerAfter(10*time.Millisecond))
				urls := slices.Concat([]string{"http://busy/first"}, numbered("http://large", large), numbered("http://busy", 20))
				results := collect(t, urls, fetch.Stream(t.Context(), slices.Values(urls), fetch.WithInOrder(), fetch.WithRetries(4), fetch.WithConcurrency(4),
					over(func(req *http.Request) (*http.Response, error) {
						switch {
						case req.URL.Path == "/first":
							return rt(req)
						case req.URL.Host == "large":
							return respond(req, 200, page), nil
						}
						return answerAfter(10 * time.Millisecond)(req)
					})))
				for i, r := range results {
					if r.Index != i || !r.OK() {
						t.Errorf("result %d is %d: %d, %v", i, r.Index, r.StatusCode, r.Err)
					}
				}
			})
		})
	}
}

func TestACancelEndsAPauseAtOnce(t *testing.T) {
	for _, retries := range []int{0, 3} {
		t.Run(fmt.Sprint(retries, " retries"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancelCause(t.Context())
				time.AfterFunc(5*time.Second, func() { cancel(errLeft) })
				sent := newTimeline()
				urls := numbered("http://a.example", 20)
				results := fetch.FetchAll(ctx, urls, fetch.WithConcurrency(2), fetch.WithRetries(retries), over(sent.over(taking(time.Second, always(429, "Retry-After", "50")))))
				checkTook(t, "the batch", time.Since(sent.start), 5*time.Second)
				checkResults(t, urls, results)
				if n := sent.len(); n != 2 {
					t.Errorf("%d requests", n)
				}
				for _, r := range results[2:] {
					checkCancelled(t, ctx, r)
					checkTook(t, r.URL, r.Waited, 5*time.Second)
				}
				for _, r := range results[:2] {
					if r.StatusCode != 429 || r.Took != time.Second || r.Attempts != 1 {
						t.Errorf("%s: %d, took %v", r.URL, r.StatusCode, r.Took)
					}
					if retries > 0 {
						checkCancelled(t, ctx, r)
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
		urls := slices.Concat(hostURLs(20, slices.Collect(numberedHosts(10))...), numbered("http://good", 100))
		ends := newEndTimes()
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(slots), fetch.WithRetries(1), over(ends.over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host != "good" && time.Since(ends.start) < 30*time.Second {
				return respond(req, 429, "no", "Retry-After", "30"), nil
			}
			return answerAfter(100 * time.Millisecond)(req)
		})))
		mustAllBeFine(t, urls, results)
		checkTook(t, "100 URLs of 100 ms, 4 at once,", ends.of("good"), 2500*time.Millisecond)
		slices.SortFunc(results, func(a, b fetch.Result) int { return cmp.Compare(a.Waited, b.Waited) })
		if last := results[len(results)-1]; !last.OK() || last.Waited < 30*time.Second || last.Waited > 40*time.Second {
			t.Errorf("the one that waited longest: %v, %d", last.Waited, last.StatusCode)
		}
	})
}

// BodyFunc and a pause: what is refused is none of its business, what ends with a refusal is.
func TestBodyFuncGetsTheRefusalThatAURLEndsWith(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var got []string
		urls := numbered("http://a.example", 2)
		var n atomic.Int32
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1), over(func(req *http.Request) (*http.Response, error) {
			if n.Add(1) == 1 {
				return respond(req, 429, "too many", "Retry-After", "1"), nil
			}
			return respond(req, 200, "ok"), nil
		}), fetch.WithBodyFunc(func(_ context.Context, r fetch.Result, body io.Reader) error {
			text, err := io.ReadAll(body)
			got = append(got, fmt.Sprintf("%d %s", r.StatusCode, text))
			return err
		}))
		mustAllBeFine(t, urls, results)
		if want := []string{"429 too many", "200 ok"}; !slices.Equal(got, want) {
			t.Errorf("got %q", got)
		}
	})
}

func TestAServerIsObeyedOverRealConnections(t *testing.T) {
	var mu sync.Mutex
	var refused time.Time // the last refusal
	early, requests := 0, 0
	start := time.Now()
	server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		requests++
		// What is on its way when the first refusal is sent comes at most a moment after that.
		if since := time.Since(refused); since > 500*time.Millisecond && since < time.Second {
			early++
		}
		if time.Since(start) > 500*time.Millisecond {
			io.WriteString(w, "ok")
			return
		}
		refused = time.Now()
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		io.WriteString(w, "too many")
	})
	urls := numbered(server.URL, 40)
	results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(8), fetch.WithRetries(3))
	mustAllBeFine(t, urls, results)
	for _, r := range results {
		if !r.OK() {
			t.Errorf("%s: %d after %d attempts", r.URL, r.StatusCode, r.Attempts)
		}
	}
	if early > 0 || requests > 48 {
		t.Errorf("%d requests, %d of them in the pause", requests, early)
	}
}

// leftAfter returns a context that is cancelled after d.
func leftAfter(ctx context.Context, d time.Duration) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	time.AfterFunc(d, func() { cancel(errLeft) })
	return ctx
}

// Whatever hosts and options come together: each URL has its Result, no host is sent
// anything in a pause that it has asked for, and all numbers are true.
func TestNoMixtureOfTroubleBreaksAPromise(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				roll := func(what string, n int) int { return int(dice(seed, what, 0) * float64(n)) }
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
				var flight inFlight
				transport := over(flight.over(func(req *http.Request) (*http.Response, error) {
					host, now := req.URL.Host, time.Now()
					mu.Lock()
					attempts[req.URL.String()]++
					n := attempts[req.URL.String()]
					if now.After(pausedSince[host]) && now.Before(pausedUntil[host]) {
						t.Errorf("%s is sent a request %v before its pause ends", host, pausedUntil[host].Sub(now))
					}
					mu.Unlock()
					if err := sleepCtx(req.Context(), time.Millisecond+time.Duration(dice(seed, "takes"+req.URL.String(), n)*float64(100*time.Millisecond))); err != nil {
						return nil, err
					}
					trouble := 20
					if host == "host0" {
						trouble = 8 // of which 8 and more are none
					}
					switch int(dice(seed, req.URL.String(), n) * float64(trouble)) {
					case 0, 1:
						seconds := 1 + int(dice(seed, "seconds"+req.URL.String(), n)*5)
						mu.Lock()
						defer mu.Unlock()
						pausedSince[host] = time.Now()
						if until := pausedSince[host].Add(time.Duration(seconds) * time.Second); until.After(pausedUntil[host]) {
							pausedUntil[host] = until
						}
						return respond(req, []int{429, 503}[n%2], "later", "Retry-After", fmt.Sprint(seconds)), nil
					case 2:
						return respond(req, 429, "later"), nil
					case 3:
						return respond(req, 500, "sorry"), nil
					case 4:
						return nil, []error{errRefused, errReset}[n%2]
					case 5:
						return hanging(req)
					case 6:
						return cut("half of it")(req)
					case 7:
						return respond(req, 302, "", "Location", fmt.Sprintf("http://host%d/moved%s", n%5, strings.TrimPrefix(req.URL.Path, "/moved"))), nil
					}
					return respond(req, 200, "ok"), nil
				}))
				f := newFetcher(t, append(opts, transport)...)
				urls := hostURLs(25, slices.Collect(numberedHosts(5))...)
				ctx := t.Context()
				some := func(what string) time.Duration { return time.Duration(dice(seed, what, 0) * float64(20*time.Second)) }
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
					results = collect(t, urls, f.Stream(t.Context(), slices.Values(urls))) // a cancelled one does not read them all
					slices.SortFunc(results, func(a, b fetch.Result) int { return cmp.Compare(a.Index, b.Index) })
				case 2:
					var reqs []*http.Request
					for i, rawURL := range urls {
						own := ctx
						if i%10 == 0 {
							own, cancelled = leftAfter(ctx, some(rawURL)), true
						}
						reqs = append(reqs, newRequest(t, "PUT", rawURL, strings.NewReader("payload")).WithContext(own))
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
				checkResults(t, urls, results)
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
				if flight.total() < sum && !cancelled || flight.current() != 0 || flight.most() > slots {
					t.Errorf("%d attempts, %d requests, %d at once, %d left", sum, flight.total(), flight.most(), flight.current())
				}
				for host := range numberedHosts(5) {
					if hostSlots > 0 && flight.mostOf(host) > hostSlots {
						t.Errorf("%d at once to %s", flight.mostOf(host), host)
					}
				}
			})
		})
	}
}
