package politeness_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// One that says nothing about whether the host accepts requests again must not leave it closed.
func TestAProbeThatFailsIsFollowedByAnother(t *testing.T) {
	for name, probe := range map[string]fetchtest.RoundTripFunc{
		"connection reset": fetchtest.Failing(fetchtest.ErrReset), "timeout": fetchtest.Hanging, "cut body": fetchtest.Cut("x"), "503": fetchtest.Always(503), "404": fetchtest.Always(404),
	} {
		for _, retries := range []int{0, 2} {
			t.Run(fmt.Sprint(name, ", ", retries, " retries"), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					sent := fetchtest.NewTimeline()
					urls := fetchtest.Numbered("http://a.example", 20)
					var n atomic.Int32
					results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(4), fetch.WithRetries(retries), fetch.WithTimeout(time.Second), fetchtest.Over(sent.Over(func(req *http.Request) (*http.Response, error) {
						switch n := n.Add(1); {
						case n <= 4:
							return fetchtest.Taking(10*time.Millisecond, fetchtest.Always(429, "Retry-After", "1"))(req)
						case n <= 6:
							return probe(req)
						}
						return fetchtest.AnswerAfter(10 * time.Millisecond)(req)
					})))
					fetchtest.CheckResults(t, urls, results)
					if took := time.Since(sent.Start); took > 10*time.Second {
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
		f := fetchtest.NewFetcher(t, fetch.WithConcurrency(2), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			switch {
			case time.Since(start) < time.Second: // the first, and the second too if it left before that was answered
				return fetchtest.Respond(req, 429, "no", "Retry-After", "2"), nil
			case probed.CompareAndSwap(false, true):
				return fetchtest.AnswerAfter(time.Hour)(req)
			}
			return fetchtest.AnswerAfter(10 * time.Millisecond)(req)
		}))
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var calls sync.WaitGroup
		calls.Go(func() {
			urls := fetchtest.Numbered("http://a.example/cancelled", 3)
			results := f.FetchAll(ctx, urls)
			fetchtest.CheckResults(t, urls, results)
			if results[0].StatusCode != 429 {
				t.Errorf("the first: %d, %v", results[0].StatusCode, results[0].Err)
			}
			if results[1].StatusCode != 429 {
				fetchtest.CheckCancelled(t, ctx, results[1])
			}
			fetchtest.CheckCancelled(t, ctx, results[2])
		})
		time.Sleep(3 * time.Second)
		calls.Go(func() {
			fetchtest.MustFetch(t, f, fetchtest.Numbered("http://a.example/other", 3)...)
			if took := time.Since(start); took < 5*time.Second || took > 6*time.Second {
				t.Errorf("took %v", took)
			}
		})
		time.Sleep(2 * time.Second)
		cancel() // the probe, which is three seconds old
		calls.Wait()
	})
}
