package politeness_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// A tellingHost has a quota and tells it with every answer.
type tellingHost struct {
	rate   float64       // tokens a second; 0: the quota is of fixed windows
	window time.Duration // of the quota, if it is
	size   int
	tell   func(h http.Header, left, size int, reset time.Duration)
	status int // of a refusal
	there  time.Duration
	back   time.Duration

	mu      sync.Mutex
	start   time.Time
	last    time.Time
	spent   float64
	refused int
	served  int
}

func newTellingHost(h *tellingHost) *tellingHost {
	h.start = time.Now()
	h.last = h.start
	if h.status == 0 {
		h.status = 429
	}
	return h
}

// take counts a request, and returns the quota after it.
func (h *tellingHost) take() (ok bool, left int, reset time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	if h.rate > 0 {
		h.spent = max(0, h.spent-h.rate*now.Sub(h.last).Seconds())
	} else if begun := now.Sub(h.start).Truncate(h.window); h.last.Sub(h.start) < begun {
		h.spent = 0
	}
	h.last = now
	if ok = h.spent <= float64(h.size)-1+1e-6; ok {
		h.spent++
		h.served++
	} else {
		h.refused++
	}
	if h.rate > 0 {
		reset = time.Duration(h.spent / h.rate * float64(time.Second))
	} else {
		reset = h.window - now.Sub(h.start)%h.window
	}
	return ok, int(float64(h.size) - h.spent + 1e-6), reset
}

// serve takes a request when it comes.
func (h *tellingHost) serve(req *http.Request) (*http.Response, error) {
	dice := func(d time.Duration, salt int) time.Duration {
		return time.Duration(fetchtest.Dice(uint64(salt), req.URL.String(), 0) * float64(d))
	}
	if err := fetchtest.SleepCtx(req.Context(), dice(h.there, 1)); err != nil {
		return nil, err
	}
	ok, left, reset := h.take()
	resp := fetchtest.Respond(req, 200, "ok")
	if !ok {
		resp = fetchtest.Respond(req, h.status, "no")
	}
	resp.Header.Set("Date", time.Now().UTC().Format(http.TimeFormat))
	h.tell(resp.Header, left, h.size, reset)
	if err := fetchtest.SleepCtx(req.Context(), max(h.back/2, dice(h.back, 2))); err != nil {
		return nil, err
	}
	return resp, nil
}

// check checks that the host has served so many requests since start, and refused no more than some, within a
// multiple of the bound.
func (h *tellingHost) check(t *testing.T, start time.Time, served, refused int, bound time.Duration, multiple float64) {
	t.Helper()
	took := time.Since(start)
	ratio := took.Seconds() / bound.Seconds()
	t.Logf("%d refused, %.3f of the bound", h.refused, ratio)
	if h.served != served || h.refused > refused || ratio > multiple {
		t.Errorf("%d served, %d refused, in %v: want %d, at most %d, and %v", h.served, h.refused, took, served, refused, time.Duration(multiple*float64(bound)))
	}
}

func whole(d time.Duration) string { return strconv.Itoa(int(math.Ceil(d.Seconds()))) }

func tellRateLimit(h http.Header, left, size int, reset time.Duration) {
	h.Set("RateLimit", fmt.Sprintf(`"default";r=%d;t=%s`, left, whole(reset)))
	h.Set("RateLimit-Policy", fmt.Sprintf(`"default";q=%d`, size))
}

// tellFields returns a way to tell quotas in three fields.
func tellFields(prefix string, reset func(d time.Duration) string) func(h http.Header, left, size int, reset time.Duration) {
	return func(h http.Header, left, size int, d time.Duration) {
		h.Set(prefix+"Limit", strconv.Itoa(size))
		h.Set(prefix+"Remaining", strconv.Itoa(left))
		h.Set(prefix+"Reset", reset(d))
	}
}

func epoch(d time.Duration) string { return strconv.FormatInt(time.Now().Add(d).Unix(), 10) }
func millis(d time.Duration) string {
	return strconv.FormatInt(time.Now().Add(d).UnixMilli(), 10)
}

// The host has a bucket of ten, filled with ten a second: 490 more URLs need 49 s.
func TestAQuotaThatIsToldIsObeyed(t *testing.T) {
	const ms = time.Millisecond
	for _, slots := range []int{5, 50, 200} {
		for name, c := range map[string]struct {
			known       bool
			there, back time.Duration
			most        int
		}{
			"counts starts":                     {true, 0, 5 * ms, 0},
			"counts starts, far away":           {true, 0, 50 * ms, 0},
			"counts arrivals":                   {true, 5 * ms, 5 * ms, 3},
			"counts starts, not known before":   {false, 0, 5 * ms, 0},
			"not known before, far away":        {false, 0, 50 * ms, 0},
			"counts arrivals, not known before": {false, 5 * ms, 5 * ms, 3},
			"answers later than the reset":      {false, 0, 2000 * ms, 10},
		} {
			t.Run(fmt.Sprintf("%d slots, %s", slots, name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					host := newTellingHost(&tellingHost{rate: 10, size: 10, tell: tellRateLimit, there: c.there, back: c.back})
					f := fetchtest.NewFetcher(t, fetch.WithConcurrency(slots), fetch.WithRetries(2), fetchtest.Over(host.serve))
					if c.known {
						fetchtest.MustFetch(t, f, "http://a.example/first")
						time.Sleep(time.Second)
					}
					urls := fetchtest.Numbered("http://a.example", 500)
					start := time.Now()
					fetchtest.MustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
					bound, multiple := 49*time.Second, 1.02
					if c.back > time.Second {
						bound, multiple = 205*time.Second, 1 // as five slots need
					}
					served := 500
					if c.known {
						served++
					}
					host.check(t, start, served, c.most, bound, multiple)
				})
			})
		}
	}
}

// The host takes 60 requests in each minute, so that 240 need three minutes and a little.
func TestAQuotaOfAMinuteIsObeyed(t *testing.T) {
	for name, tell := range map[string]func(h http.Header, left, size int, reset time.Duration){
		"RateLimit":                       tellRateLimit,
		"X-RateLimit-Reset, rounded up":   tellFields("X-RateLimit-", func(d time.Duration) string { return epoch(d + time.Second - 1) }),
		"RateLimit-Reset":                 tellFields("RateLimit-", whole),
		"X-RateLimit-Reset, seconds":      tellFields("X-RateLimit-", whole),
		"X-RateLimit-Reset, epoch":        tellFields("X-RateLimit-", epoch),
		"X-Rate-Limit-Reset, epoch in ms": tellFields("X-Rate-Limit-", millis),
	} {
		for _, slots := range []int{5, 50, 64, 200} {
			t.Run(fmt.Sprintf("%s, %d slots", name, slots), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					host := newTellingHost(&tellingHost{window: time.Minute, size: 60, tell: tell, there: 20 * time.Millisecond, back: 50 * time.Millisecond})
					urls := fetchtest.Numbered("http://a.example", 240)
					start := time.Now()
					fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(slots), fetch.WithRetries(2), fetchtest.Over(host.serve)))
					host.check(t, start, 240, 2, 3*time.Minute, 1.05)
				})
			})
		}
	}
}

// A bucket of 60 that is filled with one a second is whole a second after a first request, but not if
// others have come since.
func TestAResetThatComesMeanwhileIsNotOfWhatIsInFlight(t *testing.T) {
	for _, slots := range []int{64, 200} {
		t.Run(fmt.Sprint(slots), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				host := newTellingHost(&tellingHost{rate: 1, size: 60, tell: tellRateLimit, back: time.Second})
				f := fetchtest.NewFetcher(t, fetch.WithConcurrency(slots), fetch.WithRetries(2), fetchtest.Over(host.serve))
				fetchtest.MustFetch(t, f, "http://a.example/first")
				urls := fetchtest.Numbered("http://a.example", 230)
				start := time.Now()
				fetchtest.MustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
				host.check(t, start, 231, 0, 3*time.Minute, 1.05)
			})
		})
	}
}

func TestARefusalForAQuotaWaitsForItsReset(t *testing.T) {
	for _, status := range []int{403, 420, 429} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const reset = 2 * time.Second
				sent := fetchtest.NewTimeline()
				urls := fetchtest.Numbered("http://a.example", 100)
				at := strconv.FormatInt(time.Now().Add(reset).Unix(), 10)
				results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(2), fetchtest.Over(sent.Over(fetchtest.Taking(50*time.Millisecond, func(req *http.Request) (*http.Response, error) {
					if time.Since(sent.Start) < reset {
						return fetchtest.Respond(req, status, "", "X-RateLimit-Limit", "5000", "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", at, "Date", "Sat, 01 Jan 2000 00:00:00 GMT"), nil
					}
					return fetchtest.AtOnce(req)
				}))))
				fetchtest.MustAllBeFine(t, urls, results)
				for _, r := range results {
					if !r.OK() {
						t.Errorf("%s ends with %d", r.URL, r.StatusCode)
					}
				}
				// By then it had not been told, and until then nothing more is sent.
				if n := sent.Between("a.example", 0, reset); n != 0 || sent.Len() != 164 {
					t.Errorf("%d requests before the reset, besides those in flight; %d in all", n, sent.Len())
				}
				// At full speed: no probe.
				if at := sent.OfHost("a.example"); at[64] > reset+60*time.Millisecond || at[127] != at[64] {
					t.Errorf("after the reset the requests are sent at %v", at[64:128])
				}
			})
		})
	}
}

// Until the host refuses, a reset that is too far away is no more than advice.
func TestAResetThatIsTooFarAwayPausesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		reset    time.Duration
		deadline time.Duration
		refuses  int      // from this request on
		header   []string // of the refusal
	}{
		"longer than WithMaxRetryAfter, and the refusal tells it": {2 * time.Hour, 0, 30, []string{"X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "7200"}},
		"longer than WithMaxRetryAfter, and the refusal does not": {2 * time.Hour, 0, 30, nil},
		"past the deadline": {40 * time.Second, 30 * time.Second, 30, nil},
		"never refused":     {2 * time.Hour, 0, math.MaxInt, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if c.deadline > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, c.deadline)
					defer cancel()
				}
				var n atomic.Int32
				start := time.Now()
				urls := fetchtest.Numbered("http://a.example", 100)
				results := fetch.FetchAll(ctx, urls, fetch.WithConcurrency(4), fetch.WithRetries(2), fetchtest.Over(fetchtest.Taking(10*time.Millisecond, func(req *http.Request) (*http.Response, error) {
					if int(n.Add(1)) > c.refuses {
						return fetchtest.Respond(req, 429, "", c.header...), nil
					}
					reset := strconv.Itoa(int((c.reset - time.Since(start)).Seconds()))
					return fetchtest.Respond(req, 200, "ok", "X-RateLimit-Limit", "5000", "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", reset), nil
				})))
				fetchtest.CheckResults(t, urls, results)
				if took := time.Since(start); took > 300*time.Millisecond {
					t.Errorf("took %v", took)
				}
				done := 0
				for _, r := range results {
					switch paused, _ := errors.AsType[*fetch.HostPausedError](r.Err); {
					case r.OK():
						done++
					case r.StatusCode == 429 && c.header != nil && r.Err == nil: // it got the message itself
					case paused == nil || paused.Until.Sub(start.Add(c.reset)).Abs() > time.Second:
						t.Errorf("%s: %d, %v", r.URL, r.StatusCode, r.Err)
					}
				}
				if done != min(c.refuses, 100) {
					t.Errorf("%d are done", done)
				}
			})
		})
	}
}

// A batch with a deadline does not wait for a quota that another batch was told of.
func TestABatchThatCannotWaitForAResetGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tell := fetchtest.Always(200, "X-RateLimit-Limit", "9", "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "30")
		f := fetchtest.NewFetcher(t, fetchtest.Over(tell))
		fetchtest.MustFetch(t, f, "http://a.example/")
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		urls := fetchtest.Numbered("http://a.example", 5)
		fetchtest.MustAllBeFine(t, urls, f.FetchAll(ctx, urls))
		fetchtest.CheckTook(t, "with a deadline, the batch", time.Since(start), 0)
		fetchtest.MustFetch(t, f, "http://a.example/")
		fetchtest.CheckTook(t, "without one, the next", time.Since(start), 30*time.Second)
	})
}

func TestWithMaxRetryAfter0HearsNoQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		urls := fetchtest.Numbered("http://a.example", 1000)
		results := fetch.FetchAll(t.Context(), urls, fetch.WithMaxRetryAfter(0), fetch.WithConcurrency(10),
			fetchtest.Over(fetchtest.Taking(time.Millisecond, fetchtest.Always(200, "RateLimit", `"a";r=0;t=30`))))
		fetchtest.MustAllBeFine(t, urls, results)
		fetchtest.CheckTook(t, "1000 URLs, 10 at once,", time.Since(start), 100*time.Millisecond)
	})
}

// What is left is less when others use it, and that is obeyed.
func TestSeveralFetchersShareAQuota(t *testing.T) {
	for name, c := range map[string]struct {
		host    *tellingHost
		slots   int
		refused int
		most    time.Duration
	}{
		// 300 need five windows.
		"60 in 20 s":  {&tellingHost{window: 20 * time.Second, size: 60, tell: tellFields("X-RateLimit-", whole)}, 8, 90, 130 * time.Second},
		"10 a second": {&tellingHost{rate: 10, size: 10, tell: tellRateLimit}, 5, 90, 40 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c.host.there, c.host.back = 10*time.Millisecond, 50*time.Millisecond
				host := newTellingHost(c.host)
				start := time.Now()
				var wg sync.WaitGroup
				for i := range 3 {
					wg.Go(func() {
						urls := fetchtest.Numbered(fmt.Sprintf("http://a.example/%d", i), 100)
						fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(c.slots), fetch.WithRetries(5), fetchtest.Over(host.serve)))
					})
				}
				wg.Wait()
				host.check(t, start, 300, c.refused, c.most, 1)
			})
		})
	}
}

// The headers lie, and the quota is found out as if there were none.
func TestHeadersThatLieLoseNothing(t *testing.T) {
	for name, tell := range map[string]func(h http.Header, left, size int, reset time.Duration){
		"always 0 left": func(h http.Header, _, size int, _ time.Duration) {
			tellFields("X-RateLimit-", whole)(h, 0, size, time.Second)
		},
		"always 1000 left": func(h http.Header, _, size int, d time.Duration) { tellFields("X-RateLimit-", whole)(h, 1000, size, d) },
		"reset in the past": func(h http.Header, left, size int, _ time.Duration) {
			tellFields("X-RateLimit-", epoch)(h, left, size, -time.Minute)
		},
		"too much left, in a window too long": func(h http.Header, _, size int, _ time.Duration) {
			tellFields("X-RateLimit-", whole)(h, math.MaxInt64, size, 1000*time.Hour)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				host := newTellingHost(&tellingHost{rate: 10, size: 10, tell: tell, there: 20 * time.Millisecond, back: 50 * time.Millisecond})
				urls := fetchtest.Numbered("http://a.example", 200)
				start := time.Now()
				fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(20), fetch.WithRetries(5), fetchtest.Over(host.serve)))
				host.check(t, start, 200, math.MaxInt, 19*time.Second, 1.5)
			})
		})
	}
}

func TestAHostWithAQuotaSlowsNoOther(t *testing.T) {
	for name, tell := range map[string]func(h http.Header, left, size int, reset time.Duration){
		"honest": tellRateLimit,
		"lying": func(h http.Header, _, size int, _ time.Duration) {
			tellFields("X-RateLimit-", whole)(h, 0, size, time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				others := fetchtest.Numbered("http://b.example", 2000)
				took := func(beside []string) time.Duration {
					host := newTellingHost(&tellingHost{rate: 10, size: 10, tell: tell, back: 50 * time.Millisecond})
					ends := fetchtest.NewEndTimes()
					urls := slices.Concat(beside, others)
					results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(20), fetch.WithRetries(5), fetchtest.Over(ends.Over(fetchtest.ByHost(map[string]fetchtest.RoundTripFunc{
						"a.example": host.serve, "b.example": fetchtest.AnswerAfter(50 * time.Millisecond),
					}))))
					fetchtest.MustAllBeFine(t, urls, results)
					return ends.Of("b.example")
				}
				alone, beside := took(nil), took(fetchtest.Numbered("http://a.example", 100))
				t.Logf("alone %v, beside %v", alone, beside)
				if beside > alone*105/100 {
					t.Errorf("alone it takes %v, beside a host with a quota %v", alone, beside)
				}
			})
		})
	}
}

// On sockets, with the own client: 100 a second, in a window that the server counts.
func TestAQuotaThatIsToldIsObeyedOnSockets(t *testing.T) {
	host := newTellingHost(&tellingHost{rate: 100, size: 100, tell: tellRateLimit})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ok, left, reset := host.take()
		tellRateLimit(w.Header(), left, host.size, reset)
		if !ok {
			w.WriteHeader(429)
		}
	}))
	defer server.Close()
	f := fetchtest.NewFetcher(t, fetch.WithConcurrency(32), fetch.WithRetries(2))
	fetchtest.MustFetch(t, f, server.URL+"/first")
	time.Sleep(20 * time.Millisecond)
	urls := fetchtest.Numbered(server.URL, 300)
	start := time.Now()
	fetchtest.MustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
	took := time.Since(start)
	t.Logf("%d refused, %v", host.refused, took)
	if host.refused > 3 || took > 4*time.Second {
		t.Errorf("%d refused, in %v", host.refused, took)
	}
}
