package fetchtest

import (
	"net/http"
	"sync"
	"time"
)

// An EndTimes remembers when the last request of each host ended, since it was made.
type EndTimes struct {
	Start time.Time
	mu    sync.Mutex
	last  map[string]time.Duration
}

// NewEndTimes returns one that starts now.
func NewEndTimes() *EndTimes {
	return &EndTimes{Start: time.Now(), last: map[string]time.Duration{}}
}

// Over remembers the ends of requests over rt.
func (e *EndTimes) Over(rt RoundTripFunc) RoundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		resp, err := rt(req)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.last[req.URL.Host] = time.Since(e.Start)
		return resp, err
	}
}

// Of returns when the host was done.
func (e *EndTimes) Of(host string) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last[host]
}

// A Timeline remembers when requests were sent, since it was made.
type Timeline struct {
	Start time.Time
	mu    sync.Mutex
	sent  []sending
}

type sending struct {
	host, url string
	at        time.Duration
}

// NewTimeline returns one that starts now.
func NewTimeline() *Timeline { return &Timeline{Start: time.Now()} }

// Over remembers the requests that are sent over rt.
func (l *Timeline) Over(rt RoundTripFunc) RoundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		l.mu.Lock()
		l.sent = append(l.sent, sending{req.URL.Host, req.URL.String(), time.Since(l.Start)})
		l.mu.Unlock()
		return rt(req)
	}
}

func (l *Timeline) of(match func(sending) bool) []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var times []time.Duration
	for _, s := range l.sent {
		if match(s) {
			times = append(times, s.at)
		}
	}
	return times
}

// OfHost returns when requests were sent to a host, in that order.
func (l *Timeline) OfHost(host string) []time.Duration {
	return l.of(func(s sending) bool { return s.host == host })
}

// OfURL returns when a URL was requested.
func (l *Timeline) OfURL(rawURL string) []time.Duration {
	return l.of(func(s sending) bool { return s.url == rawURL })
}

// Len returns how many requests were sent.
func (l *Timeline) Len() int { return len(l.of(func(sending) bool { return true })) }

// Between returns how many requests a host was sent after from and before to.
func (l *Timeline) Between(host string, from, to time.Duration) int {
	return len(l.of(func(s sending) bool { return s.host == host && s.at > from && s.at < to }))
}
