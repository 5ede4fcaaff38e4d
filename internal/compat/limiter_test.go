package compat

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
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
	server := miniredis.RunT(t)
	client := redis.NewClient(&redis.Options{
		Addr: server.Addr(), PoolSize: 16, MaxIdleConns: 16,
		Dialer: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, address)
			return farConn{conn, away}, err
		},
	})
	t.Cleanup(func() { client.Close() })
	return &fleetLimiter{redis_rate.NewLimiter(client), limit}
}

// A farConn takes some time for each message.
type farConn struct {
	net.Conn
	away time.Duration
}

func (c farConn) Write(b []byte) (int, error) {
	time.Sleep(c.away)
	return c.Conn.Write(b)
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
	limiter := newFleetLimiter(t, 5*time.Millisecond, redis_rate.PerSecond(100_000))
	urls := urlsOf(50, 20)
	var byHand, best float64
	for round := 0; round < 3 && best < 0.9*byHand || round == 0; round++ {
		byHand = max(byHand, permitsByHand(t, limiter, len(urls)))
		var starts startsByHost
		start := time.Now()
		get(t, urls, fetch.WithClient(&http.Client{Transport: &starts}), fetch.WithLimiter(limiter))
		best = max(best, float64(len(urls))/time.Since(start).Seconds())
		for host, n := range starts.count {
			if n != 50 {
				t.Errorf("%d requests to %s", n, host)
			}
		}
	}
	t.Logf("%.0f starts a second; a loop on eight goroutines gets %.0f permits", best, byHand)
	if best < 0.8*byHand {
		t.Errorf("%.0f starts a second; a loop on eight goroutines gets %.0f permits", best, byHand)
	}
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
