//go:build linux

package compat

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/go-redis/redis_rate/v10"
	"github.com/redis/go-redis/v9"

	"github.com/batchhttp/fetch"
)

// A fleetLimiter is a limit for each host that all machines share which use the same Redis.
type fleetLimiter struct {
	limiter *redis_rate.Limiter
	limit   redis_rate.Limit
}

func (l *fleetLimiter) Wait(ctx context.Context) error { return l.WaitHost(ctx, "") }

func (l *fleetLimiter) WaitHost(ctx context.Context, host string) error {
	for {
		answer, err := l.limiter.Allow(ctx, "host:"+host, l.limit)
		if err != nil || answer.Allowed > 0 {
			return err
		}
		select {
		case <-time.After(answer.RetryAfter):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// newFleetLimiter returns a limiter with a Redis that is some time away.
func newFleetLimiter(t *testing.T, away time.Duration, limit redis_rate.Limit) *fleetLimiter {
	t.Helper()
	server := startRedis(t)
	client := redis.NewClient(&redis.Options{
		Addr: server, PoolSize: 16, MaxIdleConns: 16,
		Dialer: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			return &farConn{Conn: conn, away: away}, err
		},
	})
	t.Cleanup(func() { client.Close() })
	return &fleetLimiter{redis_rate.NewLimiter(client), limit}
}

// startRedis returns the address of a Redis that ends with the test: the real one where it is
// installed, or else one in Go, which takes half a millisecond of a core for each permit.
func startRedis(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		t.Log("redis-server is not installed: miniredis stands in for it")
		return miniredis.RunT(t).Addr()
	}
	dir := t.TempDir()
	return startProcess(t, dir, func(addr string) *exec.Cmd {
		host, port, err := net.SplitHostPort(addr)
		if err != nil {
			t.Fatal(err)
		}
		return exec.Command(path, "--bind", host, "--port", port, "--save", "", "--appendonly", "no", "--dir", dir)
	}).addr
}

// A farConn gives out an answer when a round trip has passed since the question, the work of
// the server included.
type farConn struct {
	net.Conn
	away time.Duration
	sent time.Time
}

func (c *farConn) Write(b []byte) (int, error) {
	c.sent = time.Now()
	return c.Conn.Write(b)
}

// Read sleeps on its thread: the timers of the runtime are late by up to a millisecond, which
// at 5 ms is a sixth of the permits. A signal can end a sleep early.
func (c *farConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	for due := c.sent.Add(c.away); time.Now().Before(due); {
		rest := syscall.NsecToTimespec(int64(time.Until(due)))
		syscall.Nanosleep(&rest, nil)
	}
	return n, err
}

// startsByHost is a transport that counts.
type startsByHost struct {
	mu    sync.Mutex
	count map[string]int
}

func (s *startsByHost) RoundTrip(req *http.Request) (*http.Response, error) {
	s.mu.Lock()
	if s.count == nil {
		s.count = map[string]int{}
	}
	s.count[req.URL.Host]++
	s.mu.Unlock()
	return &http.Response{StatusCode: 200, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody, Request: req}, nil
}

func urlsOf(n, hosts int) (urls []string) {
	for i := range n {
		for h := range hosts {
			urls = append(urls, fmt.Sprintf("http://host%d/%d", h, i))
		}
	}
	return urls
}

// The permits of eight hosts at a time, each 5 ms away, are 1,600 a second at the most; one
// at a time, 200. A busy machine has less, and so has a loop by hand.
func TestRedisLimiterForEachHost(t *testing.T) {
	// A thread that sleeps may hold a place among those that run Go: there is one for each.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(16))
	limiter := newFleetLimiter(t, 5*time.Millisecond, redis_rate.PerSecond(100_000))
	permitsByHand(t, limiter, 80) // makes the connections
	urls := urlsOf(50, 20)
	for range 10 {
		byHand := permitsByHand(t, limiter, len(urls))
		starts := startsOf(t, limiter, urls)
		t.Logf("%.0f starts a second; a loop on eight goroutines gets %.0f permits", starts, byHand)
		if starts >= wantedStarts(byHand) {
			return
		}
	}
	t.Error("too few starts in each round")
}

// wantedStarts returns 1,500 starts a second where the loop by hand shows that they are
// possible, and else nine tenths of what it gets.
func wantedStarts(byHand float64) float64 {
	if byHand >= 1500 {
		return 1500
	}
	return 0.9 * byHand
}

// startsOf returns how many starts a second the URLs get.
func startsOf(t *testing.T, limiter *fleetLimiter, urls []string) float64 {
	t.Helper()
	var starts startsByHost
	start := time.Now()
	get(t, urls, fetch.WithClient(&http.Client{Transport: &starts}), fetch.WithLimiter(limiter))
	took := time.Since(start)
	for host, n := range starts.count {
		if n != 50 {
			t.Errorf("%d requests to %s", n, host)
		}
	}
	return float64(len(urls)) / took.Seconds()
}

// permitsByHand returns how many permits a second eight goroutines get.
func permitsByHand(t *testing.T, limiter *fleetLimiter, n int) float64 {
	t.Helper()
	start := time.Now()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for range n / 8 {
				if err := limiter.WaitHost(t.Context(), fmt.Sprint("by hand ", i)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	return float64(n) / time.Since(start).Seconds()
}

// Two Fetchers share 20 starts a second to each of two hosts.
func TestRedisLimiterIsSharedByFetchers(t *testing.T) {
	limiter := newFleetLimiter(t, 0, redis_rate.Limit{Rate: 20, Burst: 1, Period: time.Second})
	var starts startsByHost
	urls := urlsOf(10, 2)
	start := time.Now()
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			get(t, urls, fetch.WithClient(&http.Client{Transport: &starts}), fetch.WithLimiter(limiter))
		})
	}
	wg.Wait()
	if took := time.Since(start); took < 950*time.Millisecond || starts.count["host0"] != 20 || starts.count["host1"] != 20 {
		t.Errorf("%v in %v", starts.count, took)
	}
}
