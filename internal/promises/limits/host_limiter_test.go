package limits_test

import (
	"context"
	"errors"
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

// A hostCounter counts by host.
type hostCounter struct {
	mu    sync.Mutex
	total map[string]int
	now   map[string]int
	most  int // at once, of all hosts
}

func (c *hostCounter) add(host string, n int) (now int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total == nil {
		c.total, c.now = map[string]int{}, map[string]int{}
	}
	c.total[host] += max(n, 0)
	c.now[host] += n
	sum := 0
	for _, n := range c.now {
		sum += n
	}
	c.most = max(c.most, sum)
	return c.now[host]
}

// manyHosts returns n URLs of each of some hosts, in turn.
func manyHosts(n, hosts int) []string {
	return fetchtest.HostURLs(n, slices.Collect(fetchtest.NumberedHosts(hosts))...)
}

func TestHostLimiterGivesOnePermitForEachRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight fetchtest.InFlight
		var waits hostCounter
		limiter := fetchtest.HostLimiterFunc(func(ctx context.Context, host string) error {
			if n := waits.add(host, 1); n > 1 {
				t.Errorf("WaitHost is called for %s while %d calls for it run", host, n)
			}
			defer waits.add(host, -1)
			if _, ok := ctx.Deadline(); ok {
				t.Error("the context of WaitHost has a deadline")
			}
			return fetchtest.SleepCtx(ctx, 7*time.Millisecond)
		})
		var sent hostCounter
		transport := flight.Over(fetchtest.Taking(50*time.Millisecond, func(req *http.Request) (*http.Response, error) {
			sent.add(req.URL.Host, 1)
			if req.URL.Host == "a" {
				return fetchtest.Respond(req, 302, "", "Location", "http://c:8080/"), nil
			}
			return fetchtest.AtOnce(req)
		}))
		urls := fetchtest.HostURLs(20, "a", "b")
		fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithLimiter(limiter), fetch.WithConcurrency(3), fetchtest.Over(transport)))
		for _, host := range []string{"a", "b", "c:8080"} {
			if waits.total[host] != 20 || sent.total[host] != 20 {
				t.Errorf("%d permits for %d requests to %s; want 20", waits.total[host], sent.total[host], host)
			}
		}
		if flight.Most() != 3 {
			t.Errorf("%d in flight at once", flight.Most())
		}
	})
}

func TestHostLimiterIsAskedForEightHostsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var waits hostCounter
		limiter := fetchtest.HostLimiterFunc(func(ctx context.Context, host string) error {
			waits.add(host, 1)
			defer waits.add(host, -1)
			return fetchtest.SleepCtx(ctx, time.Second)
		})
		start := time.Now()
		urls := manyHosts(1, 24)
		fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithLimiter(limiter), fetchtest.Over(fetchtest.AtOnce)))
		if waits.most != 8 {
			t.Errorf("%d calls at once, want 8", waits.most)
		}
		fetchtest.CheckTook(t, "24 permits, 8 at once,", time.Since(start), 3*time.Second)
	})
}

// The limiter is 5 ms away. One after the other its permits allow 200 starts a second.
func TestFarHostLimiterIsFastEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limiter := fetchtest.HostLimiterFunc(func(ctx context.Context, _ string) error { return fetchtest.SleepCtx(ctx, 5*time.Millisecond) })
		start := time.Now()
		urls := manyHosts(100, 30)
		fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithLimiter(limiter), fetchtest.Over(fetchtest.AnswerAfter(10*time.Millisecond))))
		rate := float64(len(urls)) / time.Since(start).Seconds()
		t.Logf("%.0f starts a second", rate)
		if rate < 1500 {
			t.Errorf("%.0f starts a second, want 1500", rate)
		}
	})
}

// Nor does it hold a slot.
func TestASlowPermitHoldsUpNoOtherHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight fetchtest.InFlight
		limiter := fetchtest.HostLimiterFunc(func(ctx context.Context, host string) error {
			if host == "slow" {
				return fetchtest.SleepCtx(ctx, time.Minute)
			}
			return nil
		})
		start := time.Now()
		urls := append(fetchtest.HostURLs(3, "slow"), fetchtest.HostURLs(50, "a", "b")...)
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(2), fetch.WithLimiter(limiter), fetchtest.Over(flight.Over(fetchtest.AnswerAfter(10*time.Millisecond))))
		fetchtest.MustAllBeFine(t, urls, results)
		for _, r := range results[3:] {
			if r.Waited > 500*time.Millisecond {
				t.Errorf("%s waited %v", r.URL, r.Waited)
			}
		}
		if took := time.Since(start); took < 3*time.Minute || took > 3*time.Minute+time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestErrorOfTheHostLimiterEndsAURLOfThatHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noPermit := errors.New("no permit")
		var calls atomic.Int32
		urls := fetchtest.HostURLs(5, "a", "b", "c")
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1), fetchtest.Over(fetchtest.AnswerAfter(time.Second)),
			fetch.WithLimiter(fetchtest.HostLimiterFunc(func(_ context.Context, host string) error {
				if host == "b" && calls.Add(1) != 2 {
					return noPermit
				}
				return nil
			})))
		fetchtest.CheckResults(t, urls, results)
		failed := 0
		for _, r := range results {
			if got := errors.Is(r.Err, noPermit); got && !strings.HasPrefix(r.URL, "http://b/") || !got && !r.OK() {
				t.Errorf("%s: %d, %v", r.URL, r.StatusCode, r.Err)
			} else if got {
				failed++
				if r.Attempts != 0 {
					t.Errorf("%s: %d attempts", r.URL, r.Attempts)
				}
			}
		}
		if failed != 4 {
			t.Errorf("%d URLs failed, want 4", failed)
		}
	})
}

func TestCancelEndsTheWaitForPermits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		f := fetchtest.NewFetcher(t, fetchtest.Over(fetchtest.AtOnce), fetch.WithLimiter(fetchtest.HostLimiterFunc(func(ctx context.Context, host string) error {
			if time.Since(start) < 5*time.Second {
				return fetchtest.UntilDone(ctx)
			}
			return nil
		})))
		urls := manyHosts(1, 20)
		results := f.FetchAll(ctx, urls)
		fetchtest.CheckResults(t, urls, results)
		for _, r := range results {
			fetchtest.CheckCancelled(t, ctx, r)
		}
		fetchtest.CheckTook(t, "the batch", time.Since(start), time.Second)
		// The hosts can be asked for again.
		time.Sleep(10 * time.Second)
		fetchtest.MustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
	})
}

// A group has one limit in the fleet as well.
func TestTheHostLimiterIsToldGroups(t *testing.T) {
	urls := fetchtest.HostURLs(3, "www.site", "cdn1.site")
	fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetchtest.Over(fetchtest.AtOnce), fetch.WithHostGroup(bySite),
		fetch.WithLimiter(fetchtest.HostLimiterFunc(func(_ context.Context, host string) error {
			if host != "site" {
				return errors.New("not the group")
			}
			return nil
		}))))
}
