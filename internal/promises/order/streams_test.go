package order_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
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

// endless yields http://a.example/0, /1 and so on, and counts what it has yielded.
func endless(pulled *atomic.Int64) iter.Seq[string] {
	return func(yield func(string) bool) {
		for {
			if !yield(fmt.Sprintf("http://a.example/%d", pulled.Add(1)-1)) {
				return
			}
		}
	}
}

func TestEachResultIsYieldedOnceItIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		urls := []string{"http://a.example/300", "http://b.example/100", "http://c.example/200"}
		start := time.Now()
		for r := range fetch.Stream(t.Context(), slices.Values(urls), fetchtest.Over(fetchtest.AnswerByPath)) {
			fetchtest.CheckTook(t, r.URL, time.Since(start), r.Took)
		}
	})
}

func TestStreamOfAnEmptyInputIsEmpty(t *testing.T) {
	for range fetch.Stream(t.Context(), slices.Values([]string(nil))) {
		t.Error("a result of nothing")
	}
	for range fetchtest.NewFetcher(t).DoStream(t.Context(), slices.Values([]*http.Request(nil))) {
		t.Error("a result of nothing")
	}
}

func TestStreamStartsNothingBeforeItIsRangedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pulled atomic.Int64
		var counter fetchtest.InFlight
		stream := fetch.Stream(t.Context(), endless(&pulled), fetchtest.Over(counter.Over(fetchtest.AnswerAfter(0))))
		time.Sleep(time.Hour)
		if pulled.Load() != 0 || counter.Total() != 0 {
			t.Errorf("%d inputs read, %d requests sent", pulled.Load(), counter.Total())
		}
		for range stream {
			break
		}
		if counter.Total() == 0 {
			t.Error("nothing was sent")
		}
	})
}

func TestEachRangeIsARunOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		urls := fetchtest.Numbered("http://a.example", 10)
		var counter fetchtest.InFlight
		rt := counter.Over(fetchtest.AnswerAfter(time.Millisecond))
		for name, stream := range map[string]iter.Seq[fetch.Result]{
			"of the package": fetch.Stream(t.Context(), slices.Values(urls), fetchtest.Over(rt)),
			"of a Fetcher":   fetchtest.NewFetcher(t, fetchtest.Over(rt)).Stream(t.Context(), slices.Values(urls)),
		} {
			before := counter.Total()
			for range stream {
				break
			}
			fetchtest.Collect(t, urls, stream)
			fetchtest.Collect(t, urls, stream)
			// Two at once.
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() { fetchtest.Collect(t, urls, stream) })
			}
			wg.Wait()
			if n := counter.Total() - before; n < 41 {
				t.Errorf("%s: %d requests for four whole runs", name, n)
			}
		}
	})
}

func TestAStreamWhoseContextEndsGivesAResultForEachURLRead(t *testing.T) {
	for _, opts := range [][]fetch.Option{nil, {fetch.WithInOrder()}, {fetch.WithLookahead(5)}} {
		t.Run(fmt.Sprintf("%d options", len(opts)), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cause := errors.New("enough")
				ctx, cancel := context.WithCancelCause(t.Context())
				start := time.Now()
				var pulled, atEnd atomic.Int64
				time.AfterFunc(95*time.Millisecond, func() {
					atEnd.Store(pulled.Load())
					cancel(cause)
				})
				seen := map[int]bool{}
				good := 0
				for r := range fetch.Stream(ctx, endless(&pulled), append(opts, fetchtest.Over(fetchtest.AnswerAfter(10*time.Millisecond)), fetch.WithConcurrency(4))...) {
					fetchtest.CheckResult(t, r.Index, fmt.Sprintf("http://a.example/%d", r.Index), r)
					if seen[r.Index] {
						t.Errorf("two results of %d", r.Index)
					}
					seen[r.Index] = true
					if r.Err == nil {
						good++
					} else if !errors.Is(r.Err, context.Canceled) || !errors.Is(r.Err, cause) || errors.Is(r.Err, fetch.ErrTimeout) {
						t.Errorf("error is %v", r.Err)
					}
				}
				if n := int(pulled.Load()); len(seen) != n || pulled.Load() != atEnd.Load() {
					t.Errorf("%d results for %d URLs, %d of them read before the end", len(seen), n, atEnd.Load())
				}
				if good != 36 {
					t.Errorf("%d URLs were fetched", good)
				}
				fetchtest.CheckTook(t, "the stream", time.Since(start), 95*time.Millisecond)
			})
		})
	}
	t.Run("before the range", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 200 { // so that the race detector sees the cancel and the start meet
			var pulled atomic.Int64
			results := 0
			for range fetch.Stream(ctx, endless(&pulled), fetchtest.Over(fetchtest.AnswerAfter(0))) {
				results++
			}
			if pulled.Load() != 0 || results != 0 {
				t.Fatalf("%d URLs were read, %d results", pulled.Load(), results)
			}
		}
	})
	t.Run("as the range starts", func(t *testing.T) {
		for range 200 {
			ctx, cancel := context.WithCancel(t.Context())
			go cancel()
			var pulled atomic.Int64
			results := 0
			for r := range fetch.Stream(ctx, endless(&pulled), fetchtest.Over(fetchtest.AnswerAfter(0)), fetch.WithLookahead(20)) {
				if results++; r.Err != nil && !errors.Is(r.Err, context.Canceled) {
					t.Errorf("got %v", r.Err)
				}
			}
			if n := pulled.Load(); n != int64(results) {
				t.Fatalf("%d URLs were read, %d results", n, results)
			}
		}
	})
	t.Run("by the loop body", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var pulled atomic.Int64
			n := 0
			for range fetch.Stream(ctx, endless(&pulled), fetchtest.Over(fetchtest.AnswerAfter(time.Millisecond))) {
				if n++; n == 10 {
					cancel()
				}
			}
			if int64(n) != pulled.Load() {
				t.Errorf("%d results for %d URLs", n, pulled.Load())
			}
		})
	})
}

func TestALoopBodyMayCallTheSameFetcher(t *testing.T) {
	for _, opts := range [][]fetch.Option{
		{fetch.WithLookahead(1)},
		{fetch.WithLookahead(1), fetch.WithInOrder()},
		{fetch.WithLookahead(1), fetch.WithDedup(), fetch.WithHostConcurrency(1), fetch.WithTimeout(2 * time.Second)},
	} {
		t.Run(fmt.Sprintf("%d options", len(opts)), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var counter fetchtest.InFlight
				f := fetchtest.NewFetcher(t, append(opts, fetchtest.Over(counter.Over(fetchtest.AnswerAfter(time.Second))), fetch.WithConcurrency(1))...)
				urls := fetchtest.Numbered("http://a.example", 4)
				n := 0
				for r := range f.Stream(t.Context(), slices.Values(urls)) {
					fetchtest.CheckResult(t, r.Index, urls[r.Index], r)
					inner := fetchtest.Numbered("http://a.example/inner", 2)
					results := f.FetchAll(t.Context(), inner)
					fetchtest.CheckResults(t, inner, results)
					for range f.Stream(t.Context(), slices.Values(inner)) {
						for _, r := range f.FetchAll(t.Context(), inner[:1]) {
							if r.Err != nil {
								t.Error(r.Err)
							}
						}
						n++
					}
				}
				if n != 8 || counter.Most() != 1 {
					t.Errorf("%d nested results, %d requests at once", n, counter.Most())
				}
			})
		})
	}
}

func TestAnInputIteratorMayCallTheSameFetcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fetchtest.NewFetcher(t, fetchtest.Over(fetchtest.AnswerAfter(time.Second)), fetch.WithConcurrency(1), fetch.WithLookahead(1))
		input := func(yield func(string) bool) {
			for i := range 3 {
				r := f.FetchAll(t.Context(), []string{fmt.Sprintf("http://index.example/%d", i)})[0]
				if r.Err != nil || !yield("http://a.example/"+string(r.Body)) {
					return
				}
			}
		}
		n := 0
		for r := range f.Stream(t.Context(), input) {
			if n++; r.Err != nil || r.URL != "http://a.example/ok" {
				t.Errorf("%s: %v", r.URL, r.Err)
			}
		}
		if n != 3 {
			t.Errorf("%d results", n)
		}
	})
}

func TestDoStreamSendsTheRequestsAsTheyComeIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log fetchtest.Recorder
		f := fetchtest.NewFetcher(t, fetchtest.Over(log.Over(fetchtest.AnswerAfter(time.Second))), fetch.WithConcurrency(2))
		n := 0
		for r := range f.DoStream(t.Context(), func(yield func(*http.Request) bool) {
			for i := range 6 {
				if !yield(fetchtest.NewRequest(t, "POST", "http://a.example/", strings.NewReader(fmt.Sprint(i)))) {
					return
				}
			}
		}) {
			fetchtest.CheckResult(t, r.Index, "http://a.example/", r)
			if n++; r.Err != nil {
				t.Error(r.Err)
			}
		}
		var bodies []string
		for _, s := range log.Take() {
			bodies = append(bodies, s.Method+s.Body)
		}
		slices.Sort(bodies)
		if want := "POST0 POST1 POST2 POST3 POST4 POST5"; n != 6 || strings.Join(bodies, " ") != want {
			t.Errorf("%d results; sent %v", n, bodies)
		}
	})
}
