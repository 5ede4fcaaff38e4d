package order_test

import (
	"fmt"
	"io"
	"iter"
	"net/http"
	"runtime"
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

// lingering is a transport that takes an hour, and a moment to end when it is told to.
func lingering(counter *fetchtest.InFlight) fetchtest.RoundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		defer counter.Enter(req.URL.Host)()
		if req.URL.Path == "/0" {
			return fetchtest.Respond(req, 200, "first"), nil
		}
		err := fetchtest.SleepCtx(req.Context(), time.Hour)
		time.Sleep(5 * time.Millisecond)
		return nil, err
	}
}

func TestLeavingTheLoopCancelsAndWaits(t *testing.T) {
	for name, leave := range map[string]func(stream iter.Seq[fetch.Result]){
		"break": func(stream iter.Seq[fetch.Result]) {
			for range stream {
				break
			}
		},
		"return": func(stream iter.Seq[fetch.Result]) {
			func() fetch.Result {
				for r := range stream {
					return r
				}
				return fetch.Result{}
			}()
		},
		"panic": func(stream iter.Seq[fetch.Result]) {
			defer func() {
				if v := recover(); v != "mine" {
					panic(v)
				}
			}()
			for range stream {
				panic("mine")
			}
		},
		"Goexit": func(stream iter.Seq[fetch.Result]) {
			done := make(chan struct{})
			go func() {
				defer close(done)
				for range stream {
					runtime.Goexit()
				}
			}()
			<-done
		},
		"Pull and stop": func(stream iter.Seq[fetch.Result]) {
			next, stop := iter.Pull(stream)
			next()
			stop()
		},
	} {
		for _, opts := range [][]fetch.Option{nil, {fetch.WithInOrder()}, {fetch.WithHostRate(1, 3)}, {fetch.WithHostConcurrency(2)}} {
			t.Run(fmt.Sprintf("%s, %d options", name, len(opts)), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var counter fetchtest.InFlight
					var pulled atomic.Int64
					start := time.Now()
					leave(fetch.Stream(t.Context(), endless(&pulled), append(opts, fetchtest.Over(lingering(&counter)))...))
					if n := counter.Current(); n != 0 {
						t.Errorf("%d requests are still in flight", n)
					}
					if took := time.Since(start); took > 10*time.Millisecond {
						t.Errorf("leaving took %v", took)
					}
					sent, read := counter.Total(), pulled.Load()
					time.Sleep(2 * time.Hour)
					if counter.Total() != sent || pulled.Load() != read {
						t.Error("the run has gone on")
					}
				})
			})
		}
	}
}

func TestLeavingTheLoopOfOneStreamLeavesOthersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fetchtest.NewFetcher(t, fetchtest.Over(fetchtest.AnswerAfter(time.Second)), fetch.WithConcurrency(2))
		urls := fetchtest.Numbered("http://a.example", 6)
		var wg sync.WaitGroup
		wg.Go(func() {
			for _, r := range fetchtest.Collect(t, urls, f.Stream(t.Context(), slices.Values(urls))) {
				if r.Err != nil {
					t.Errorf("%s: %v", r.URL, r.Err)
				}
			}
		})
		wg.Go(func() {
			var pulled atomic.Int64
			for range f.Stream(t.Context(), endless(&pulled)) {
				break
			}
		})
		wg.Wait()
	})
}

func TestBodiesOfRequestsAreClosedWhenTheLoopIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var given, closed atomic.Int32
		for range fetchtest.NewFetcher(t, fetchtest.Over(fetchtest.AnswerAfter(time.Second)), fetch.WithConcurrency(2), fetch.WithLookahead(20)).
			DoStream(t.Context(), func(yield func(*http.Request) bool) {
				for {
					req := fetchtest.NewRequest(t, "POST", "http://a.example/", nil)
					given.Add(1)
					var once sync.Once
					req.Body = &fetchtest.HookedBody{ReadCloser: io.NopCloser(strings.NewReader("x")), OnClose: func() { once.Do(func() { closed.Add(1) }) }}
					if !yield(req) {
						return
					}
				}
			}) {
			break
		}
		if given.Load() == 0 || closed.Load() != given.Load() {
			t.Errorf("%d bodies, %d closed", given.Load(), closed.Load())
		}
	})
}
