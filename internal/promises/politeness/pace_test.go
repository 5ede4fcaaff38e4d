package politeness_test

import (
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestAQuotaThatNobodyHasToldIsFound(t *testing.T) {
	for _, retryAfter := range []int{0, 1} {
		for _, concurrency := range []int{5, 20, 50, 200} {
			t.Run(fmt.Sprintf("%d at once, Retry-After %d", concurrency, retryAfter), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					q := newQuota(10, 10, retryAfter)
					urls := fetchtest.Numbered("http://a.example", 500)
					results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(concurrency), fetch.WithRetries(4), fetchtest.Over(q.serve))
					took := time.Since(q.start)
					fetchtest.MustAllBeFine(t, urls, results)
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

// The first wave was 32 requests, of which the host refused all; since then it accepts everything.
func TestAfterAnIncidentTheWindowOpensFromOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const wave, latency = 32, 100 * time.Millisecond
		sent := fetchtest.NewTimeline()
		var n atomic.Int32
		urls := fetchtest.Numbered("http://a.example", 300)
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(wave), fetch.WithRetries(1), fetchtest.Over(sent.Over(fetchtest.Taking(latency, func(req *http.Request) (*http.Response, error) {
			if n.Add(1) <= wave {
				return fetchtest.Respond(req, 429, "no", "Retry-After", "1"), nil
			}
			return fetchtest.Respond(req, 200, "ok"), nil
		}))))
		fetchtest.MustAllBeFine(t, urls, results)
		probe := time.Second + latency
		for round, most := range []int{1, 2, 4, 8} {
			from := probe + time.Duration(round)*latency - time.Nanosecond
			if n := sent.Between("a.example", from, from+latency); n > most {
				t.Errorf("%d requests in round %d after the pause, want at most %d", n, round, most)
			}
		}
		// 300 requests in a window of up to 32 take 10 rounds.
		if took := time.Since(sent.Start); took > 4*time.Second {
			t.Errorf("took %v", took)
		}
	})
}

func TestThePaceIsKeptBetweenCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQuota(10, 10, 1)
		f := fetchtest.NewFetcher(t, fetch.WithConcurrency(40), fetch.WithRetries(4), fetchtest.Over(q.serve))
		for call := range 4 {
			before := q.refused
			fetchtest.MustFetch(t, f, fetchtest.Numbered(fmt.Sprintf("http://a.example/%d", call), 100)...)
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
				urls := fetchtest.Numbered("http://a.example", 1500)
				results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(50), fetch.WithRetries(9), fetchtest.Over(q.serve))
				fetchtest.MustAllBeFine(t, urls, results)
				// About a hundred requests to find it, and then nearly the whole quota.
				q.checkUsed(t, len(urls), 500*time.Second/100, (20+1300/100)*time.Second)
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
				urls := fetchtest.Numbered("http://a.example", 2000)
				results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(20), fetch.WithRetries(20), fetchtest.Over(q.serve))
				fetchtest.MustAllBeFine(t, urls, results)
				q.checkUsed(t, len(urls), 500*time.Second/50, (60+1950/50)*time.Second)
			})
		})
	}
}

func TestWithoutRetriesAPaceIsKeptAllTheSame(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const slots = 20
		q := newQuota(10, 10, 1)
		urls := fetchtest.Numbered("http://a.example", 300)
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(slots), fetchtest.Over(q.serve))
		fetchtest.MustAllBeFine(t, urls, results)
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
