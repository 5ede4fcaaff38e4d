package limits_test

import (
	"context"
	"net"
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

func TestHostWithARateDoesNotHoldUpAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := fetchtest.NewEndTimes()
		urls := slices.Concat(fetchtest.HostURLs(20, "limited"), fetchtest.HostURLs(20, "free"))
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(4),
			fetch.WithHostLimits(func(host string) fetch.HostLimits {
				if host == "limited" {
					return fetch.HostLimits{Rate: 1, Burst: 1}
				}
				return fetch.HostLimits{}
			}),
			fetchtest.Over(ends.Over(fetchtest.AnswerByHost(map[string]time.Duration{"limited": 5 * time.Millisecond, "free": 5 * time.Millisecond}))))
		fetchtest.MustAllBeFine(t, urls, results)
		if got := ends.Of("free"); got > 60*time.Millisecond {
			t.Errorf("the free host was done after %v, want 50 ms at the most", got)
		}
		if got := ends.Of("limited"); got < 19*time.Second || got > 19*time.Second+6*time.Millisecond {
			t.Errorf("the limited host was done after %v, want 19.005 s", got)
		}
	})
}

// Under the defaults: half the slots wait for the dead host, the others do the work.
func TestBlackHoledHostDoesNotHoldUpOthers(t *testing.T) {
	for name, others := range map[string][]string{
		"one other host":  {"fine"},
		"100 other hosts": slices.Collect(fetchtest.NumberedHosts(100)),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ends := fetchtest.NewEndTimes()
				urls := slices.Concat(fetchtest.HostURLs(200, "dead"), fetchtest.HostURLs(1000/len(others), others...))
				results := fetch.FetchAll(t.Context(), urls, fetchtest.Over(ends.Over(func(req *http.Request) (*http.Response, error) {
					if req.URL.Host == "dead" {
						if err := fetchtest.SleepCtx(req.Context(), 10*time.Second); err != nil {
							return nil, err
						}
						return nil, &net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded}
					}
					return fetchtest.AnswerAfter(50 * time.Millisecond)(req)
				})))
				fetchtest.CheckResults(t, urls, results)
				for _, r := range results {
					if dead := strings.HasPrefix(r.URL, "http://dead/"); dead == r.OK() {
						t.Fatalf("%s: error %v", r.URL, r.Err)
					}
				}
				for _, host := range others {
					if got := ends.Of(host); got > 1800*time.Millisecond {
						t.Fatalf("%s was done after %v, want 1.6 s", host, got)
					}
				}
				// 32 URLs at once for 1.6 s, then 64.
				if got := time.Since(ends.Start); got > 42*time.Second {
					t.Errorf("the batch took %v, want 40 s", got)
				}
			})
		})
	}
}

func TestHostAloneGetsAllSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		// The other host is done at once, and from then on this one is alone.
		urls := append(fetchtest.HostURLs(1, "other"), fetchtest.HostURLs(128, "alone")...)
		fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetchtest.Over(fetchtest.AnswerByHost(map[string]time.Duration{"alone": time.Second}))))
		fetchtest.CheckTook(t, "128 requests of 1 s in 64 slots", time.Since(start), 2*time.Second)
	})
}

func TestSmallBatchBesideAHugeOneIsServedAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		opts  []fetch.Option
		hosts []string // of the huge batch
		small string   // host of the small one
		want  time.Duration
	}{
		"on another host": {hosts: slices.Collect(fetchtest.NumberedHosts(6)), small: "small", want: 400 * time.Millisecond},
		"on the same host": {
			hosts: slices.Collect(fetchtest.NumberedHosts(1)), small: "host0", want: 400 * time.Millisecond,
		},
		"beside hosts with limits": {
			opts:  []fetch.Option{fetch.WithHostConcurrency(2)},
			hosts: slices.Collect(fetchtest.NumberedHosts(6)), small: "small", want: 700 * time.Millisecond,
		},
		"beside hosts with rates": {
			opts:  []fetch.Option{fetch.WithHostRate(20, 1)},
			hosts: slices.Collect(fetchtest.NumberedHosts(6)), small: "small", want: 1200 * time.Millisecond,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := fetchtest.NewFetcher(t, append(c.opts, fetch.WithConcurrency(10), fetchtest.Over(fetchtest.AnswerAfter(100*time.Millisecond)))...)
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() {
					huge := fetchtest.HostURLs(4800/len(c.hosts), c.hosts...)
					fetchtest.CheckResults(t, huge, f.FetchAll(ctx, huge))
				})
				time.Sleep(5050 * time.Millisecond)

				start := time.Now()
				fetchtest.MustFetch(t, f, fetchtest.Numbered("http://"+c.small+"/small", 10)...)
				if took := time.Since(start); took > c.want {
					t.Errorf("the small batch took %v, want at most %v", took, c.want)
				}
				cancel()
				wg.Wait()
			})
		})
	}
}

func TestHostThatDecidesTheEndIsServedFirst(t *testing.T) {
	for name, c := range map[string]struct {
		short []string
		slots int
	}{
		"among two others":  {[]string{"a", "b"}, 2},
		"among eight":       {slices.Collect(fetchtest.NumberedHosts(8)), 3},
		"among two hundred": {slices.Collect(fetchtest.NumberedHosts(200)), 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const each = 10 * time.Millisecond
				// As many URLs of the long host, listed last, as one slot can do
				// while the other slots do the rest.
				rest := fetchtest.HostURLs(20, c.short...)
				urls := append(rest, fetchtest.HostURLs(len(rest)/(c.slots-1), "long")...)
				bound := time.Duration(len(urls)/c.slots) * each
				start := time.Now()
				results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(c.slots), fetch.WithHostConcurrency(1), fetchtest.Over(fetchtest.AnswerAfter(each)))
				fetchtest.MustAllBeFine(t, urls, results)
				if took := time.Since(start); took > bound*11/10 {
					t.Errorf("took %v, want about %v", took, bound)
				}
			})
		})
	}
}
