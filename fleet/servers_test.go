package fleet_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// hosts are servers on loopback, each a host of its own, that count.
type hosts struct {
	names   []string // host:port, as URLs have it
	handler func(host string, w http.ResponseWriter, r *http.Request)

	mu       sync.Mutex
	inFlight map[string]int
	most     map[string]int
	began    map[string]int         // by URL
	ended    map[string]int         // by URL, answered in full
	times    map[string][]time.Time // of arrivals, by host
}

func newHosts(t testing.TB, n int, handler func(host string, w http.ResponseWriter, r *http.Request)) *hosts {
	t.Helper()
	h := &hosts{
		handler:  handler,
		inFlight: map[string]int{}, most: map[string]int{}, began: map[string]int{}, ended: map[string]int{},
		times: map[string][]time.Time{},
	}
	server := &http.Server{Handler: h}
	for range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		h.names = append(h.names, listener.Addr().String())
		go server.Serve(listener)
	}
	t.Cleanup(func() { server.Close() })
	return h
}

func (h *hosts) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	u := "http://" + r.Host + r.URL.RequestURI()
	h.mu.Lock()
	h.inFlight[r.Host]++
	h.most[r.Host] = max(h.most[r.Host], h.inFlight[r.Host])
	h.began[u]++
	h.times[r.Host] = append(h.times[r.Host], time.Now())
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.inFlight[r.Host]--
		if r.Context().Err() == nil {
			h.ended[u]++
		}
	}()
	if h.handler != nil {
		h.handler(r.Host, w, r)
	} else {
		fmt.Fprint(w, "ok")
	}
}

// urls returns n URLs of each host, of all hosts in turn.
func (h *hosts) urls(n int) []string {
	var urls []string
	for i := range n {
		for _, name := range h.names {
			urls = append(urls, fmt.Sprintf("http://%s/%d", name, i))
		}
	}
	return urls
}

// checkLimit checks that no host had more than n requests in flight.
func (h *hosts) checkLimit(t testing.TB, n int) {
	t.Helper()
	h.mu.Lock()
	defer h.mu.Unlock()
	for host, most := range h.most {
		if most > n {
			t.Errorf("%s: %d requests in flight, and %d is the limit", host, most, n)
		}
	}
}

// counts returns how many requests came, and how many URLs came more than once.
func (h *hosts) counts() (requests, repeated int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, n := range h.began {
		requests += n
		repeated += n - 1
	}
	return requests, repeated
}

// arrivals returns when requests came to a host.
func (h *hosts) arrivals(host string) []time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]time.Time(nil), h.times[host]...)
}

// ledger counts what handlers got.
type ledger struct {
	mu   sync.Mutex
	seen map[string]int
}

func newLedger() *ledger { return &ledger{seen: map[string]int{}} }

func (l *ledger) add(u string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen[u]++
}

func (l *ledger) distinct() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.seen)
}

// check checks that all URLs were handled, and returns how many were again.
func (l *ledger) check(t testing.TB, urls []string) (again int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	var lost []string
	for _, u := range urls {
		if l.seen[u] == 0 {
			lost = append(lost, u)
		}
		again += max(0, l.seen[u]-1)
	}
	if len(lost) > 0 {
		t.Errorf("%d of %d URLs were lost: %s …", len(lost), len(urls), strings.Join(lost[:min(3, len(lost))], " "))
	}
	return again
}

// waitFor waits until f is true.
func waitFor(t testing.TB, most time.Duration, what string, f func() bool) time.Duration {
	t.Helper()
	start := time.Now()
	for !f() {
		if time.Since(start) > most {
			t.Fatalf("%s: not within %v", what, most)
		}
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(start)
}
