package fetchtest

import (
	"net/http"
	"sync"
	"testing"
	"time"
)

// An InFlight counts requests that are in flight at once, in total and by
// host, and remembers the most there were.
type InFlight struct {
	mu         sync.Mutex
	now, max   int
	hosts      map[string]int
	maxOfHosts map[string]int
	requests   int
}

// Enter counts a request until leave is called. Calls of leave after the first do nothing.
func (f *InFlight) Enter(host string) (leave func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hosts == nil {
		f.hosts, f.maxOfHosts = map[string]int{}, map[string]int{}
	}
	f.requests++
	f.now++
	f.max = max(f.max, f.now)
	f.hosts[host]++
	f.maxOfHosts[host] = max(f.maxOfHosts[host], f.hosts[host])
	return sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.now--
		f.hosts[host]--
	})
}

// Over counts the requests of a transport, each until it fails or its body is closed.
func (f *InFlight) Over(rt RoundTripFunc) RoundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		leave := f.Enter(req.URL.Host)
		answered := false // not so after a panic either
		defer func() {
			if !answered {
				leave()
			}
		}()
		resp, err := rt(req)
		if err != nil {
			return nil, err
		}
		answered = true
		resp.Body = &HookedBody{ReadCloser: resp.Body, OnClose: leave}
		return resp, nil
	}
}

// Most returns how many there were at once.
func (f *InFlight) Most() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.max
}

// MostOf returns how many there were to a host at once.
func (f *InFlight) MostOf(host string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.maxOfHosts[host]
}

// Total returns how many there were in all.
func (f *InFlight) Total() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

// Current returns how many there are.
func (f *InFlight) Current() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

// CurrentOf returns how many there are to a host.
func (f *InFlight) CurrentOf(host string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hosts[host]
}

// CurrentBut returns how many there are to other hosts. Two counts, one
// after the other, would not do: what they count changes in between.
func (f *InFlight) CurrentBut(host string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now - f.hosts[host]
}

// A StartLog holds the times at which requests started.
type StartLog struct {
	mu    sync.Mutex
	times []time.Time
}

// Add adds a start, now.
func (l *StartLog) Add() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.times = append(l.times, time.Now())
}

// Len returns how many starts there were.
func (l *StartLog) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.times)
}

// Check fails the test when some window of time, of whatever length T, has
// more than burst + perSecond·T starts.
func (l *StartLog) Check(t testing.TB, perSecond float64, burst int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, from := range l.times {
		for j := i; j < len(l.times); j++ {
			window := l.times[j].Sub(from).Seconds()
			// 1e-6 is for the rounding of floats.
			if starts := j - i + 1; float64(starts) > float64(burst)+perSecond*window+1e-6 {
				t.Fatalf("%d starts in %.6f s: more than %d + %v/s allow", starts, window, burst, perSecond)
			}
		}
	}
}
