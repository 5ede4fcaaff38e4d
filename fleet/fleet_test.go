package fleet_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/fleet"
)

// open opens a fleet with a broker of its own.
func open(t testing.TB, change func(*fleet.Config)) *fleet.Fleet {
	t.Helper()
	c := fleet.Config{Dir: t.TempDir(), Lease: time.Second}
	if change != nil {
		change(&c)
	}
	f, err := fleet.Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// start runs a worker until stop is called, or the test ends.
func start(t testing.TB, f *fleet.Fleet, handler fleet.Handler, opts ...fetch.Option) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		if err := f.Run(ctx, handler, opts...); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
	})
	t.Cleanup(stop)
	return stop
}

func add(t testing.TB, f *fleet.Fleet, urls []string) {
	t.Helper()
	n, err := f.Add(t.Context(), slices.Values(urls))
	if err != nil || n != len(urls) {
		t.Fatalf("Add: %d of %d, %v", n, len(urls), err)
	}
}

// backlog returns how many requests are left.
func backlog(t testing.TB, f *fleet.Fleet) int {
	t.Helper()
	s, err := f.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.Requests
}

func waitUntilDone(t testing.TB, f *fleet.Fleet, most time.Duration) time.Duration {
	t.Helper()
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		s, err := f.Status(t.Context())
		switch {
		case err != nil:
			t.Fatal(err)
		case s.Requests == 0:
			return time.Since(start)
		case time.Since(start) > most:
			t.Fatalf("the backlog is not done within %v: %d, workers %+v, hosts %+v", most, s.Requests, s.Workers, s.Hosts[:min(3, len(s.Hosts))])
		}
	}
}

func TestEveryURLIsHandledOnceWithinTheLimitOfItsHost(t *testing.T) {
	f := open(t, nil)
	h := newHosts(t, 20, nil)
	urls := h.urls(100)
	add(t, f, urls)
	l := newLedger()
	handler := func(_ context.Context, d fleet.Delivery) error {
		if d.Result.Err != nil || string(d.Result.Body) != "ok" || d.Result.URL != d.Request.URL {
			t.Errorf("%s: %q, %v", d.Request.URL, d.Result.Body, d.Result.Err)
		}
		l.add(d.Request.URL)
		return nil
	}
	for range 3 {
		start(t, f, handler, fetch.WithHostConcurrency(2))
	}
	waitUntilDone(t, f, 20*time.Second)
	again := l.check(t, urls)
	requests, repeated := h.counts()
	if again > 0 || repeated > 0 || requests != len(urls) {
		t.Errorf("%d handled again, %d requests, %d repeated", again, requests, repeated)
	}
	h.checkLimit(t, 2)
}
