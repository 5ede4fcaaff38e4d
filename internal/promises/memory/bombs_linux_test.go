package memory_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// Case 54. Each body is 64 MiB when decoded, all together more than 6 GiB.
func TestGzipBombsStayWithinTheMemoryLimit(t *testing.T) {
	const urlVariable = "FETCH_TEST_URL"
	const memory, bodyLimit, slots = 128 << 20, 1 << 20, 16
	bomb := strings.Repeat(fetchtest.Zipped(make([]byte, 1<<20)), 64)
	var server *httptest.Server
	if os.Getenv(fetchtest.ChildVariable) == "" {
		server, _ = fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
			switch {
			case strings.HasSuffix(req.URL.Path, "3"):
				fetchtest.Zip(http.StatusNotFound, bomb)(w, req)
			case strings.HasSuffix(req.URL.Path, "7"):
				w.Header().Set("Location", "/8")
				fetchtest.Zip(http.StatusFound, bomb)(w, req)
			case strings.HasSuffix(req.URL.Path, "9"):
				fetchtest.Zip(http.StatusServiceUnavailable, bomb)(w, req)
			default:
				fetchtest.Zip(http.StatusOK, bomb)(w, req)
			}
		})
	} else {
		server = &httptest.Server{URL: os.Getenv(urlVariable)}
	}
	if !fetchtest.InChild(t, nil, urlVariable+"="+server.URL) {
		return
	}
	debug.SetMemoryLimit(memory)
	var most atomic.Uint64
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
				var stats runtime.MemStats
				runtime.ReadMemStats(&stats)
				most.Store(max(most.Load(), stats.HeapInuse))
			}
		}
	})
	urls := fetchtest.Numbered(server.URL, 100)
	results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(slots), fetch.WithMaxBody(bodyLimit), fetch.WithRetries(1), fetch.WithBackoff(0, 0))
	close(done)
	watching.Wait()
	fetchtest.CheckResults(t, urls, results)
	for _, r := range results {
		if !errors.Is(r.Err, fetch.ErrBodyTooLarge) {
			t.Errorf("%s: %d, %v", r.URL, r.StatusCode, r.Err)
		}
	}
	if most.Load() > memory {
		t.Errorf("the heap grew to %d MiB", most.Load()>>20)
	}
	// The race detector keeps as much again and more beside the heap.
	if resident := mostResident(t); resident > 2*memory && !fetchtest.RaceEnabled {
		t.Errorf("%d MiB were in use", resident>>20)
	}
}

// mostResident returns how much memory the process has had at most. Getrusage would count
// what the parent had before the child began.
func mostResident(t *testing.T) int {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kibibytes int
	if _, err := fmt.Sscanf(rest, "%d kB", &kibibytes); err != nil {
		t.Fatal(err)
	}
	return kibibytes << 10
}
