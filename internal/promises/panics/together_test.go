package panics_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// blowUpAround runs a batch that ends badly beside one that must not notice.
func blowUpAround(t *testing.T, bad func(f *fetch.Fetcher)) {
	const slots = 4
	var flight fetchtest.InFlight
	f := fetchtest.NewFetcher(t, fetchtest.Over(flight.Over(fetchtest.AnswerAfter(time.Second))), fetch.WithConcurrency(slots), fetch.WithLookahead(10))
	var other sync.WaitGroup
	other.Go(func() {
		fetchtest.MustFetch(t, f, fetchtest.Numbered("http://other", 20)...)
	})
	start := time.Now()
	bad(f)
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
	if n := flight.CurrentOf("bomb"); n != 0 {
		t.Errorf("%d requests are in flight", n)
	}
	other.Wait()
	checkUsable(t, f, slots)
}

// Two at once: both stop the batch, one comes out, and nothing hangs.
func TestBlastsOfSeveralURLsAtOnce(t *testing.T) {
	for how, b := range blasts {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				blowUpAround(t, func(f *fetch.Fetcher) {
					var results []fetch.Result
					var reqs []*http.Request
					for i := range 12 {
						req := posting(t, newBombBody(nil, b.blow), nil)
						req.URL.Path = fmt.Sprintf("/bomb/%d", i)
						reqs = append(reqs, req)
					}
					value, ended := fetchtest.Recovered(func() { results = f.DoAll(t.Context(), reqs) })
					b.checkOut(t, value, ended)
					for i, req := range reqs {
						if !req.Body.(*bombBody).closed.Load() {
							t.Errorf("body %d is open", i)
						}
					}
					if b.isPanic() {
						return
					}
					fetchtest.CheckResults(t, urlsOf(reqs), results)
					for _, r := range results {
						if r.Err == nil {
							t.Errorf("%s has no error", r.URL)
						}
					}
				})
			})
		})
	}
}

// A Limiter is still asked when no URL wants a permit any more. Its panic has a caller all the same.
func TestBlastsOfALimiterThatIsCancelled(t *testing.T) {
	for how, b := range blasts {
		for call, run := range calls {
			t.Run(how+", "+call, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					calm := false
					f := fetchtest.NewFetcher(t, fetchtest.Over(fetchtest.AnswerAfter(0)), fetch.WithLimiter(fetchtest.LimiterFunc(func(ctx context.Context) error {
						if calm {
							return nil
						}
						<-ctx.Done()
						b.blow()
						return nil
					})))
					ctx, cancel := context.WithCancel(t.Context())
					time.AfterFunc(time.Second, cancel)
					reqs := crewOf(t, place{}, call, nil)
					start := time.Now()
					value, ended := fetchtest.Recovered(func() { run(f, ctx, reqs) })
					b.checkOut(t, value, ended)
					fetchtest.CheckTook(t, "the batch", time.Since(start), time.Second)
					checkClosed(t, call, reqs)
					calm = true
					fetchtest.MustFetch(t, f, "http://a/")
				})
			})
		}
	}
}

// A response body that blows up in Close after its Read has: Go itself lets the later panic
// take the place of the earlier, and of a Goexit.
func TestABlastAfterABlastComesOut(t *testing.T) {
	for how, b := range blasts {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := fetchtest.NewFetcher(t, fetch.WithConcurrency(1), fetchtest.Over(bombed(fetchtest.AnswerAfter(0), func(req *http.Request) (*http.Response, error) {
					resp := fetchtest.Respond(req, 200, "ok")
					resp.Body = closeBomb(readBomb(nil, b.blow), func() { panic("second") })
					return resp, nil
				})))
				value, _ := fetchtest.Recovered(func() { f.FetchAll(t.Context(), bombURLs) })
				if !strings.Contains(fmt.Sprint(value), "second") {
					t.Errorf("%v came out", value)
				}
				fetchtest.MustFetch(t, f, "http://a/")
			})
		})
	}
}
