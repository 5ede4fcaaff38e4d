package fetch_test

import (
	"context"
	"errors"
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

// slower is a transport that takes as many milliseconds as the path says.
func slower(req *http.Request) (*http.Response, error) {
	var ms int
	fmt.Sscanf(req.URL.Path, "/%d", &ms)
	return answerAfter(time.Duration(ms) * time.Millisecond)(req)
}

// collect ranges over a Stream to its end and checks that each URL has one Result.
func collect(t testing.TB, urls []string, stream iter.Seq[fetch.Result]) []fetch.Result {
	t.Helper()
	seen := make([]bool, len(urls))
	var results []fetch.Result
	for r := range stream {
		if r.Index < 0 || r.Index >= len(urls) || seen[r.Index] {
			t.Fatalf("a result with Index %d that is not wanted", r.Index)
		}
		seen[r.Index] = true
		checkResult(t, r.Index, urls[r.Index], r)
		results = append(results, r)
	}
	if len(results) != len(urls) {
		t.Fatalf("%d results for %d URLs", len(results), len(urls))
	}
	return results
}

func indices(results []fetch.Result) []int {
	var is []int
	for _, r := range results {
		is = append(is, r.Index)
	}
	return is
}

func TestStreamYieldsResultsAsTheyComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		urls := []string{"http://a.example/50", "http://b.example/20", "bad", "http://c.example/40", "http://d.example/10", "http://e.example/30"}
		for name, test := range map[string]struct {
			opts []fetch.Option
			want []int
		}{
			"in the order of completion": {nil, []int{2, 4, 1, 5, 3, 0}},
			"in the order of the input":  {[]fetch.Option{fetch.WithInOrder()}, []int{0, 1, 2, 3, 4, 5}},
			"one by one":                 {[]fetch.Option{fetch.WithLookahead(1)}, []int{0, 1, 2, 3, 4, 5}},
		} {
			start := time.Now()
			results := collect(t, urls, fetch.Stream(t.Context(), slices.Values(urls), append(test.opts, over(slower))...))
			if got := indices(results); !slices.Equal(got, test.want) {
				t.Errorf("%s: got %v, want %v", name, got, test.want)
			}
			if name != "one by one" {
				checkTook(t, name, time.Since(start), 50*time.Millisecond)
			}
		}
	})
}

func TestEachResultIsYieldedOnceItIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		urls := []string{"http://a.example/300", "http://b.example/100", "http://c.example/200"}
		start := time.Now()
		for r := range fetch.Stream(t.Context(), slices.Values(urls), over(slower)) {
			checkTook(t, r.URL, time.Since(start), r.Took)
		}
	})
}

func TestStreamOfAnEmptyInputIsEmpty(t *testing.T) {
	for range fetch.Stream(t.Context(), slices.Values([]string(nil))) {
		t.Error("a result of nothing")
	}
	for range newFetcher(t).DoStream(t.Context(), slices.Values([]*http.Request(nil))) {
		t.Error("a result of nothing")
	}
}

func TestStreamStartsNothingBeforeItIsRangedOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pulled atomic.Int64
		var counter inFlight
		stream := fetch.Stream(t.Context(), endless(&pulled), over(counter.over(answerAfter(0))))
		time.Sleep(time.Hour)
		if pulled.Load() != 0 || counter.total() != 0 {
			t.Errorf("%d inputs read, %d requests sent", pulled.Load(), counter.total())
		}
		for range stream {
			break
		}
		if counter.total() == 0 {
			t.Error("nothing was sent")
		}
	})
}

func TestEachRangeIsARunOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		urls := numbered("http://a.example", 10)
		var counter inFlight
		rt := counter.over(answerAfter(time.Millisecond))
		for name, stream := range map[string]iter.Seq[fetch.Result]{
			"of the package": fetch.Stream(t.Context(), slices.Values(urls), over(rt)),
			"of a Fetcher":   newFetcher(t, over(rt)).Stream(t.Context(), slices.Values(urls)),
		} {
			before := counter.total()
			for range stream {
				break
			}
			collect(t, urls, stream)
			collect(t, urls, stream)
			// Two at once.
			var wg sync.WaitGroup
			for range 2 {
				wg.Go(func() { collect(t, urls, stream) })
			}
			wg.Wait()
			if n := counter.total() - before; n < 41 {
				t.Errorf("%s: %d requests for four whole runs", name, n)
			}
		}
	})
}

// lingering is a transport that takes an hour, and a moment to end when it is told to.
func lingering(counter *inFlight) roundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		defer counter.enter(req.URL.Host)()
		if req.URL.Path == "/0" {
			return respond(req, 200, "first"), nil
		}
		err := sleepCtx(req.Context(), time.Hour)
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
					var counter inFlight
					var pulled atomic.Int64
					start := time.Now()
					leave(fetch.Stream(t.Context(), endless(&pulled), append(opts, over(lingering(&counter)))...))
					if n := counter.current(); n != 0 {
						t.Errorf("%d requests are still in flight", n)
					}
					if took := time.Since(start); took > 10*time.Millisecond {
						t.Errorf("leaving took %v", took)
					}
					sent, read := counter.total(), pulled.Load()
					time.Sleep(2 * time.Hour)
					if counter.total() != sent || pulled.Load() != read {
						t.Error("the run has gone on")
					}
				})
			})
		}
	}
}

func TestLeavingTheLoopOfOneStreamLeavesOthersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFetcher(t, over(answerAfter(time.Second)), fetch.WithConcurrency(2))
		urls := numbered("http://a.example", 6)
		var wg sync.WaitGroup
		wg.Go(func() {
			for _, r := range collect(t, urls, f.Stream(t.Context(), slices.Values(urls))) {
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
					for range fetch.Stream(t.Context(), input, append(opts, fetch.WithLookahead(n), over(slower))...) {
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
			for range fetch.Stream(t.Context(), endless(&pulled), over(slower)) {
				time.Sleep(time.Hour)
				break
			}
			if n := pulled.Load(); n != 10_000 && n != 10_001 {
				t.Errorf("%d inputs were read while one was yielded", n)
			}
		})
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
				for r := range fetch.Stream(ctx, endless(&pulled), append(opts, over(answerAfter(10*time.Millisecond)), fetch.WithConcurrency(4))...) {
					checkResult(t, r.Index, fmt.Sprintf("http://a.example/%d", r.Index), r)
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
				checkTook(t, "the stream", time.Since(start), 95*time.Millisecond)
			})
		})
	}
	t.Run("before the range", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 200 { // so that the race detector sees the cancel and the start meet
			var pulled atomic.Int64
			results := 0
			for range fetch.Stream(ctx, endless(&pulled), over(answerAfter(0))) {
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
			for r := range fetch.Stream(ctx, endless(&pulled), over(answerAfter(0)), fetch.WithLookahead(20)) {
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
			for range fetch.Stream(ctx, endless(&pulled), over(answerAfter(time.Millisecond))) {
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

func TestUnreadResultsHoldNoSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var counter inFlight
		f := newFetcher(t, over(counter.over(answerAfter(time.Second))), fetch.WithConcurrency(2), fetch.WithLookahead(50))
		var pulled atomic.Int64
		for range f.Stream(t.Context(), endless(&pulled)) {
			time.Sleep(time.Hour)
			if n := counter.total(); n < 50 {
				t.Errorf("%d requests were sent while the loop was busy", n)
			}
			// All slots are free for somebody else.
			start := time.Now()
			urls := numbered("http://b.example", 2)
			checkResults(t, urls, f.FetchAll(t.Context(), urls))
			checkTook(t, "another batch", time.Since(start), time.Second)
			break
		}
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
				var counter inFlight
				f := newFetcher(t, append(opts, over(counter.over(answerAfter(time.Second))), fetch.WithConcurrency(1))...)
				urls := numbered("http://a.example", 4)
				n := 0
				for r := range f.Stream(t.Context(), slices.Values(urls)) {
					checkResult(t, r.Index, urls[r.Index], r)
					inner := numbered("http://a.example/inner", 2)
					results := f.FetchAll(t.Context(), inner)
					checkResults(t, inner, results)
					for range f.Stream(t.Context(), slices.Values(inner)) {
						for _, r := range f.FetchAll(t.Context(), inner[:1]) {
							if r.Err != nil {
								t.Error(r.Err)
							}
						}
						n++
					}
				}
				if n != 8 || counter.most() != 1 {
					t.Errorf("%d nested results, %d requests at once", n, counter.most())
				}
			})
		})
	}
}

func TestAnInputIteratorMayCallTheSameFetcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFetcher(t, over(answerAfter(time.Second)), fetch.WithConcurrency(1), fetch.WithLookahead(1))
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

// unread is how many bytes of unread bodies stop further starts.
const unread = 64 << 20

func TestUnreadBodiesStopFurtherStarts(t *testing.T) {
	const size, slots = 1 << 20, 3
	large := func(req *http.Request) (*http.Response, error) {
		if err := sleepCtx(req.Context(), time.Second); err != nil {
			return nil, err
		}
		resp := respond(req, 200, "")
		resp.ContentLength = size
		resp.Body = io.NopCloser(io.LimitReader(readerFunc(func(p []byte) (int, error) { return len(p), nil }), size))
		return resp, nil
	}
	// The one yielded, those that fill the room, and those in flight when it is full.
	const most = 1 + unread/size + 1 + slots - 1
	t.Run("while the loop is busy", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var counter inFlight
			var pulled atomic.Int64
			n := 0
			for r := range fetch.Stream(t.Context(), endless(&pulled), over(counter.over(large)), fetch.WithConcurrency(slots)) {
				if r.Err != nil {
					t.Fatal(r.Err)
				}
				if n++; n == 1 || n == 3 {
					time.Sleep(time.Hour)
					if sent := counter.total(); sent > most+n-1 || sent < unread/size {
						t.Errorf("%d requests were sent while %d results were read", sent, n)
					}
				}
				if counter.total() > most+10 {
					break // it has gone on
				}
			}
		})
	})
	t.Run("while the first is slow, in order", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var counter inFlight
			rt := func(req *http.Request) (*http.Response, error) {
				switch req.URL.Path {
				case "/0":
					return answerAfter(time.Hour)(req)
				}
				return large(req)
			}
			n := 0
			var pulled atomic.Int64
			for r := range fetch.Stream(t.Context(), endless(&pulled), over(counter.over(rt)), fetch.WithConcurrency(slots),
				fetch.WithTimeout(0), fetch.WithInOrder()) {
				if r.Err != nil || r.Index != n {
					t.Fatal(r.Index, r.Err)
				}
				if n++; n == 1 {
					if sent := counter.total(); sent > most || sent < unread/size {
						t.Errorf("%d requests were sent while the first was slow", sent)
					}
				}
				if counter.total() > most+1 {
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
					if err := sleepCtx(req.Context(), time.Minute); err != nil {
						return nil, err
					}
					return respond(req, 302, "", "Location", "http://c.example/"), nil
				case req.URL.Host == "b.example":
					return large(req)
				}
				return answerAfter(time.Second)(req)
			}
			urls := []string{"http://a.example/0", "http://a.example/late", "http://a.example/moved"}
			urls = append(urls, numbered("http://b.example", unread/size+10)...)
			urls = append(urls, "http://a.example/last")
			start := time.Now()
			n := 0
			for r := range fetch.Stream(t.Context(), slices.Values(urls), over(rt), fetch.WithConcurrency(slots), fetch.WithTimeout(0), fetch.WithInOrder(),
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

func TestAPanicOfTheInputComesOutOfTheLoop(t *testing.T) {
	for name, read := range map[string]int{"at once": 0, "later": 5} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var counter inFlight
				f := newFetcher(t, over(lingering(&counter)))
				var got any
				func() {
					defer func() { got = recover() }()
					for range f.Stream(t.Context(), func(yield func(string) bool) {
						for i := range read {
							if !yield(fmt.Sprintf("http://a.example/%d", i)) {
								return
							}
						}
						panic("input broke")
					}) {
					}
				}()
				if !strings.Contains(fmt.Sprint(got), "input broke") {
					t.Errorf("recovered %v", got)
				}
				if n := counter.current(); n != 0 {
					t.Errorf("%d requests are still in flight", n)
				}
				// The Fetcher is none the worse for it.
				urls := []string{"http://a.example/0"}
				results := f.FetchAll(t.Context(), urls)
				checkResults(t, urls, results)
				if results[0].Err != nil {
					t.Error(results[0].Err)
				}
			})
		})
	}
}

// iter.Pull takes a Goexit of the input to the goroutine that ranges, and so may a Stream.
func TestAnInputThatExitsDoesNotHangTheLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var counter inFlight
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range fetch.Stream(t.Context(), func(yield func(string) bool) {
				yield("http://a.example/1")
				runtime.Goexit()
			}, over(lingering(&counter))) {
			}
		}()
		<-done
		if n := counter.current(); n != 0 {
			t.Errorf("%d requests are still in flight", n)
		}
	})
}

func TestDoStreamSendsTheRequestsAsTheyComeIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log recorder
		f := newFetcher(t, over(log.over(answerAfter(time.Second))), fetch.WithConcurrency(2))
		n := 0
		for r := range f.DoStream(t.Context(), func(yield func(*http.Request) bool) {
			for i := range 6 {
				if !yield(newRequest(t, "POST", "http://a.example/", strings.NewReader(fmt.Sprint(i)))) {
					return
				}
			}
		}) {
			checkResult(t, r.Index, "http://a.example/", r)
			if n++; r.Err != nil {
				t.Error(r.Err)
			}
		}
		var bodies []string
		for _, s := range log.take() {
			bodies = append(bodies, s.method+s.body)
		}
		slices.Sort(bodies)
		if want := "POST0 POST1 POST2 POST3 POST4 POST5"; n != 6 || strings.Join(bodies, " ") != want {
			t.Errorf("%d results; sent %v", n, bodies)
		}
	})
}

func TestBodiesOfRequestsAreClosedWhenTheLoopIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var given, closed atomic.Int32
		for range newFetcher(t, over(answerAfter(time.Second)), fetch.WithConcurrency(2), fetch.WithLookahead(20)).
			DoStream(t.Context(), func(yield func(*http.Request) bool) {
				for {
					req := newRequest(t, "POST", "http://a.example/", nil)
					given.Add(1)
					var once sync.Once
					req.Body = &hookedBody{io.NopCloser(strings.NewReader("x")), func() { once.Do(func() { closed.Add(1) }) }}
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

// shared is a response without anything that would count as memory of the library.
func shared() roundTripFunc {
	header := http.Header{}
	return func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: header, Body: http.NoBody, Request: req}, nil
	}
}

func liveHeap() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

func TestAMillionURLsStreamInBoundedMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	total, hosts := 1_000_000, 50_000
	if raceEnabled {
		total, hosts = 60_000, 3_000
	}
	const concurrency = 64
	for _, opts := range [][]fetch.Option{nil, {fetch.WithInOrder(), fetch.WithHostConcurrency(2)}} {
		if opts != nil {
			total /= 10
		}
		before := runtime.NumGoroutine()
		liveHeap()
		var heap, inUse uint64
		goroutines, n := 0, 0
		for r := range fetch.Stream(t.Context(), func(yield func(string) bool) {
			for i := range total {
				if !yield(fmt.Sprintf("http://host%d.example/%d", i*7%hosts, i)) {
					return
				}
			}
		}, append(opts, over(shared()), fetch.WithConcurrency(concurrency))...) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			n++
			if n%(total/50) == 0 {
				var stats runtime.MemStats
				runtime.ReadMemStats(&stats)
				heap, inUse = max(heap, stats.HeapAlloc), max(inUse, stats.HeapInuse)
				goroutines = max(goroutines, goroutinesSince(before, concurrency+4))
			}
		}
		if n != total {
			t.Errorf("%d results for %d URLs", n, total)
		}
		t.Logf("%d URLs on %d hosts: HeapAlloc up to %d MiB, HeapInuse %d MiB, %d goroutines", total, hosts, heap>>20, inUse>>20, goroutines)
		if heap > 64<<20 || inUse > 64<<20 {
			t.Error("more than 64 MiB")
		}
		if goroutines > concurrency+4 {
			t.Errorf("more than %d goroutines", concurrency+4)
		}
	}
}

func TestFetchAllNeedsLittleMemoryForAURL(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	n, hosts := 1_000_000, 50_000
	if raceEnabled {
		n, hosts = 50_000, 2_500
	}
	urls := make([]string, n)
	for i := range urls {
		urls[i] = fmt.Sprintf("http://host%d.example/%d", i*7%hosts, i)
	}
	var gate sync.RWMutex // closed while the heap is looked at, so that there is no fresh garbage
	var requests atomic.Int64
	var most uint64
	answer := shared()
	before := liveHeap()
	results := fetch.FetchAll(t.Context(), urls, over(func(req *http.Request) (*http.Response, error) {
		if requests.Add(1)%int64(n/8) == 1 {
			gate.Lock()
			most = max(most, liveHeap())
			gate.Unlock()
		}
		gate.RLock()
		defer gate.RUnlock()
		return answer(req)
	}))
	end := liveHeap()
	checkResults(t, urls, results)
	each, kept := (max(end, most)-before)/uint64(n), (end-before)/uint64(n)
	t.Logf("%d URLs on %d hosts: %d bytes for each URL, %d of them in the end", n, hosts, each, kept)
	if each > 512 {
		t.Error("more than 512 bytes for each URL")
	}
}
