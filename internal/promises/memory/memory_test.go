package memory_test

import (
	"context"
	"fmt"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// shared is a response without anything that would count as memory of the library.
func shared() fetchtest.RoundTripFunc {
	header := http.Header{}
	return func(req *http.Request) (*http.Response, error) {
		return &http.Response{StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
			Header: header, Body: http.NoBody, Request: req}, nil
	}
}

func TestAMillionURLsStreamInBoundedMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	total, hosts := 1_000_000, 50_000
	if fetchtest.RaceEnabled {
		total, hosts = 60_000, 3_000
	}
	const concurrency = 64
	for _, opts := range [][]fetch.Option{nil, {fetch.WithInOrder(), fetch.WithHostConcurrency(2)}} {
		if opts != nil {
			total /= 10
		}
		before := runtime.NumGoroutine()
		fetchtest.LiveHeap()
		var heap, inUse uint64
		goroutines, n := 0, 0
		for r := range fetch.Stream(t.Context(), func(yield func(string) bool) {
			for i := range total {
				if !yield(fmt.Sprintf("http://host%d.example/%d", i*7%hosts, i)) {
					return
				}
			}
		}, append(opts, fetchtest.Over(shared()), fetch.WithConcurrency(concurrency))...) {
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			n++
			if n%(total/50) == 0 {
				var stats runtime.MemStats
				runtime.ReadMemStats(&stats)
				heap, inUse = max(heap, stats.HeapAlloc), max(inUse, stats.HeapInuse)
				goroutines = max(goroutines, fetchtest.GoroutinesSince(before, concurrency+4))
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
	if fetchtest.RaceEnabled {
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
	before := fetchtest.LiveHeap()
	results := fetch.FetchAll(t.Context(), urls, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		if requests.Add(1)%int64(n/8) == 1 {
			gate.Lock()
			most = max(most, fetchtest.LiveHeap())
			gate.Unlock()
		}
		gate.RLock()
		defer gate.RUnlock()
		return answer(req)
	}))
	end := fetchtest.LiveHeap()
	fetchtest.CheckResults(t, urls, results)
	each, kept := (max(end, most)-before)/uint64(n), (end-before)/uint64(n)
	t.Logf("%d URLs on %d hosts: %d bytes for each URL, %d of them in the end", n, hosts, each, kept)
	if each > 512 {
		t.Error("more than 512 bytes for each URL")
	}
}

// Contexts of requests that end in flight leave nothing behind in a long stream.
func TestContextsThatEndInFlightTakeNoMemory(t *testing.T) {
	if fetchtest.RaceEnabled {
		t.Skip("the race detector takes memory too")
	}
	if testing.Short() {
		t.Skip("takes long")
	}
	const n = 100_000
	f := fetchtest.NewFetcher(t, fetch.WithConcurrency(8), fetch.WithLookahead(100), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		return nil, req.Context().Err()
	}))
	var read int
	var early uint64
	for r := range f.DoStream(t.Context(), func(yield func(*http.Request) bool) {
		for range n {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(20*time.Microsecond, cancel)
			if !yield(fetchtest.NewRequest(t, "GET", "http://a.example/", nil).WithContext(ctx)) {
				return
			}
		}
	}) {
		if r.Err == nil {
			t.Fatal("no error")
		}
		switch read++; read {
		case n / 10:
			early = fetchtest.LiveHeap()
		case n - 100:
			if grown := float64(fetchtest.LiveHeap()) - float64(early); grown > 8*n {
				t.Errorf("%.0f bytes for each request", grown/n)
			}
		}
	}
}
