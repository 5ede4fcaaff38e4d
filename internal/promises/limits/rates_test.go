package limits_test

import (
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
	"golang.org/x/time/rate"
)

func TestRatesHoldInEveryWindow(t *testing.T) {
	const hop = "http://b/hop"
	for name, c := range map[string]struct {
		opt  fetch.Option
		logs func(all, a, b *fetchtest.StartLog) []*fetchtest.StartLog // the logs that the limit is for
		took time.Duration                                             // 60 URLs: 20 of a, of b, and of a that lead to b
	}{
		"of all hosts": {
			opt:  fetch.WithRate(10, 5),
			logs: func(all, a, b *fetchtest.StartLog) []*fetchtest.StartLog { return []*fetchtest.StartLog{all} },
			took: (80 - 5) * 100 * time.Millisecond,
		},
		"of each host": {
			opt:  fetch.WithHostRate(10, 5),
			logs: func(all, a, b *fetchtest.StartLog) []*fetchtest.StartLog { return []*fetchtest.StartLog{a, b} },
			took: (40 - 5) * 100 * time.Millisecond,
		},
		"of one host": {
			opt: fetch.WithHostLimits(func(host string) fetch.HostLimits {
				if host == "b" {
					return fetch.HostLimits{Rate: 10, Burst: 5}
				}
				return fetch.HostLimits{}
			}),
			logs: func(all, a, b *fetchtest.StartLog) []*fetchtest.StartLog { return []*fetchtest.StartLog{b} },
			took: (40 - 5) * 100 * time.Millisecond,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var all, a, b fetchtest.StartLog
				transport := fetchtest.Over(func(req *http.Request) (*http.Response, error) {
					all.Add()
					if req.URL.Host == "a" {
						a.Add()
					} else {
						b.Add()
					}
					if strings.HasPrefix(req.URL.Path, "/to-b") {
						return fetchtest.Respond(req, 302, "", "Location", hop), nil
					}
					return fetchtest.Respond(req, 200, "ok"), nil
				})
				urls := slices.Concat(fetchtest.HostURLs(20, "a", "b"), fetchtest.Numbered("http://a/to-b", 20))
				start := time.Now()
				results := fetch.FetchAll(t.Context(), urls, c.opt, transport)
				took := time.Since(start)
				fetchtest.MustAllBeFine(t, urls, results)
				for _, log := range c.logs(&all, &a, &b) {
					log.Check(t, 10, 5)
				}
				if all.Len() != 80 {
					t.Errorf("%d requests were sent, want 80", all.Len())
				}
				// A start may be rounded up by 1 ns, and each by that.
				if took < c.took || took > c.took+time.Microsecond {
					t.Errorf("took %v, want %v", took, c.took)
				}
			})
		})
	}
}

func TestRateThatIsInfiniteIsNoLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		urls := fetchtest.HostURLs(500, "a")
		start := time.Now()
		results := fetch.FetchAll(t.Context(), urls, fetch.WithRate(rate.Inf, 1), fetch.WithHostRate(rate.Limit(math.Inf(1)), 1),
			fetch.WithConcurrency(500), fetchtest.Over(fetchtest.AnswerAfter(time.Second)))
		fetchtest.MustAllBeFine(t, urls, results)
		fetchtest.CheckTook(t, "the batch", time.Since(start), time.Second)
	})
}

// A burst is not given a second time to a host that was idle between two calls.
func TestRateIsKeptBetweenCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log fetchtest.StartLog
		f := fetchtest.NewFetcher(t, fetch.WithHostRate(10, 5), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			log.Add()
			return fetchtest.Respond(req, 200, "ok"), nil
		}))
		for _, pause := range []time.Duration{0, 100 * time.Millisecond, 250 * time.Millisecond, time.Hour} {
			time.Sleep(pause)
			fetchtest.MustFetch(t, f, fetchtest.HostURLs(8, "a")...)
		}
		log.Check(t, 10, 5)
	})
}

func TestHostRateWithoutBurstIsABurstOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log fetchtest.StartLog
		urls := fetchtest.HostURLs(5, "a")
		results := fetch.FetchAll(t.Context(), urls,
			fetch.WithHostLimits(func(string) fetch.HostLimits { return fetch.HostLimits{Rate: 2} }),
			fetchtest.Over(func(req *http.Request) (*http.Response, error) {
				log.Add()
				return fetchtest.Respond(req, 200, "ok"), nil
			}))
		fetchtest.MustAllBeFine(t, urls, results)
		log.Check(t, 2, 1)
	})
}
