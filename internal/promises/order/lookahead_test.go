package order_test

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestTheInputIsReadAtMostTheLookaheadAhead(t *testing.T) {
	for _, n := range []int{1, 2, 7, 100} {
		for _, opts := range [][]fetch.Option{nil, {fetch.WithInOrder()}, {fetch.WithDedup()}} {
			t.Run(fmt.Sprintf("%d, %d options", n, len(opts)), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var pulled, yielded, most atomic.Int64
					input := func(yield func(string) bool) {
						for {
							// The one about to be handed over counts as read.
							p := pulled.Add(1)
							most.Store(max(most.Load(), p-yielded.Load()))
							if !yield(fmt.Sprintf("http://h%d.example/%d", p%3, p%13)) {
								return
							}
						}
					}
					for range fetch.Stream(t.Context(), input, append(opts, fetch.WithLookahead(n), fetchtest.Over(fetchtest.AnswerByPath))...) {
						y := yielded.Add(1)
						if y == 200 {
							break
						}
						if y%20 == 0 {
							time.Sleep(time.Second)
						}
					}
					if most.Load() > int64(n) {
						t.Errorf("%d inputs were read ahead", most.Load())
					}
					if most.Load() < int64(n) {
						t.Errorf("only %d inputs were read ahead", most.Load())
					}
				})
			})
		}
	}
	t.Run("by default", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var pulled atomic.Int64
			for range fetch.Stream(t.Context(), endless(&pulled), fetchtest.Over(fetchtest.AnswerByPath)) {
				time.Sleep(time.Hour)
				break
			}
			if n := pulled.Load(); n != 10_000 && n != 10_001 {
				t.Errorf("%d inputs were read while one was yielded", n)
			}
		})
	})
}

func TestUnreadResultsHoldNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var counter fetchtest.InFlight
		f := fetchtest.NewFetcher(t, fetchtest.Over(counter.Over(fetchtest.AnswerAfter(time.Second))), fetch.WithConcurrency(2), fetch.WithLookahead(50))
		var pulled atomic.Int64
		for range f.Stream(t.Context(), endless(&pulled)) {
			time.Sleep(time.Hour)
			if n := counter.Total(); n < 50 {
				t.Errorf("%d requests were sent while the loop was busy", n)
			}
			// All slots are free for somebody else.
			start := time.Now()
			urls := fetchtest.Numbered("http://b.example", 2)
			fetchtest.CheckResults(t, urls, f.FetchAll(t.Context(), urls))
			fetchtest.CheckTook(t, "another batch", time.Since(start), time.Second)
			break
		}
	})
}

// unread is how many bytes of unread bodies stop further starts.
const unread = 64 << 20

func TestUnreadBodiesStopFurtherStarts(t *testing.T) {
	const size, slots = 1 << 20, 3
	large := func(req *http.Request) (*http.Response, error) {
		if err := fetchtest.SleepCtx(req.Context(), time.Second); err != nil {
			return nil, err
		}
		resp := fetchtest.Respond(req, 200, "")
		resp.ContentLength = size
		resp.Body = io.NopCloser(io.LimitReader(fetchtest.ReaderFunc(func(p []byte) (int, error) { return len(p), nil }), size))
		return resp, nil
	}
	// One is yielded, some fill the room, and some are in flight when it is full.
	const most = 1 + unread/size + 1 + slots - 1
	t.Run("while the loop is busy", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var counter fetchtest.InFlight
			var pulled atomic.Int64
			n := 0
			for r := range fetch.Stream(t.Context(), endless(&pulled), fetchtest.Over(counter.Over(large)), fetch.WithConcurrency(slots)) {
				if r.Err != nil {
					t.Fatal(r.Err)
				}
				if n++; n == 1 || n == 3 {
					time.Sleep(time.Hour)
					if sent := counter.Total(); sent > most+n-1 || sent < unread/size {
						t.Errorf("%d requests were sent while %d results were read", sent, n)
					}
				}
				if counter.Total() > most+10 {
					break // it has gone on
				}
			}
		})
	})
	t.Run("while the first is slow, in order", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var counter fetchtest.InFlight
			rt := func(req *http.Request) (*http.Response, error) {
				switch req.URL.Path {
				case "/0":
					return fetchtest.AnswerAfter(time.Hour)(req)
				}
				return large(req)
			}
			n := 0
			var pulled atomic.Int64
			for r := range fetch.Stream(t.Context(), endless(&pulled), fetchtest.Over(counter.Over(rt)), fetch.WithConcurrency(slots),
				fetch.WithTimeout(0), fetch.WithInOrder()) {
				if r.Err != nil || r.Index != n {
					t.Fatal(r.Index, r.Err)
				}
				if n++; n == 1 {
					if sent := counter.Total(); sent > most || sent < unread/size {
						t.Errorf("%d requests were sent while the first was slow", sent)
					}
				}
				if counter.Total() > most+1 {
					break
				}
			}
		})
	})
	// Were the one that everybody waits for held back as well, all would wait for ever.
	t.Run("but not that which is to come next in order", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			rt := func(req *http.Request) (*http.Response, error) {
				switch {
				case req.URL.Path == "/moved":
					if err := fetchtest.SleepCtx(req.Context(), time.Minute); err != nil {
						return nil, err
					}
					return fetchtest.Respond(req, 302, "", "Location", "http://c.example/"), nil
				case req.URL.Host == "b.example":
					return large(req)
				}
				return fetchtest.AnswerAfter(time.Second)(req)
			}
			urls := []string{"http://a.example/0", "http://a.example/late", "http://a.example/moved"}
			urls = append(urls, fetchtest.Numbered("http://b.example", unread/size+10)...)
			urls = append(urls, "http://a.example/last")
			start := time.Now()
			n := 0
			for r := range fetch.Stream(t.Context(), slices.Values(urls), fetchtest.Over(rt), fetch.WithConcurrency(slots), fetch.WithTimeout(0), fetch.WithInOrder(),
				fetch.WithHostLimits(func(host string) fetch.HostLimits {
					if host == "a.example" {
						return fetch.HostLimits{Rate: 1. / 60}
					}
					return fetch.HostLimits{}
				})) {
				if r.Err != nil || r.Index != n {
					t.Fatal(r.Index, r.Err)
				}
				n++
			}
			if n != len(urls) {
				t.Errorf("%d results", n)
			}
			if took := time.Since(start); took > 10*time.Minute {
				t.Errorf("took %v", took)
			}
		})
	})
}
