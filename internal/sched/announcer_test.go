package sched

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/batchhttp/fetch/internal/quota"
)

// A quotaServer is a server that knows how much of its quota is left.
type quotaServer interface {
	server
	quota(now time.Duration) (left, size int, reset time.Duration)
}

func (s *tokenServer) quota(now time.Duration) (left, size int, reset time.Duration) {
	rate, _ := s.rate(now)
	return int(s.burst - s.spent + 1e-6), int(s.burst), time.Duration(s.spent / rate * float64(time.Second))
}

func (s *windowServer) quota(now time.Duration) (left, size int, reset time.Duration) {
	return s.limit - s.taken, s.limit, s.begun + s.window - now
}

// A style is a way to tell a quota in a header.
type style func(h http.Header, now time.Time, left, size int, reset time.Duration)

func whole(d time.Duration) int { return int(math.Ceil(d.Seconds())) }

// Styles of headers. Only the first tells the size by a policy, and the second none.
var (
	draft10 style = func(h http.Header, _ time.Time, left, size int, reset time.Duration) {
		h.Set("RateLimit", fmt.Sprintf(`"default";r=%d;t=%d`, left, whole(reset)))
		h.Set("RateLimit-Policy", fmt.Sprintf(`"default";q=%d;w=60`, size))
	}
	noSize style = func(h http.Header, _ time.Time, left, _ int, reset time.Duration) {
		h.Set("RateLimit", fmt.Sprintf(`"default";r=%d;t=%d`, left, whole(reset)))
	}
	threeFields style = func(h http.Header, _ time.Time, left, size int, reset time.Duration) {
		setFields(h, "RateLimit-", left, size, whole(reset))
	}
	xSeconds style = func(h http.Header, _ time.Time, left, size int, reset time.Duration) {
		setFields(h, "X-RateLimit-", left, size, whole(reset))
	}
	xEpoch style = func(h http.Header, now time.Time, left, size int, reset time.Duration) {
		setFields(h, "X-RateLimit-", left, size, now.Add(reset).Unix())
	}
	xMillis style = func(h http.Header, now time.Time, left, size int, reset time.Duration) {
		setFields(h, "X-Rate-Limit-", left, size, now.Add(reset).UnixMilli())
	}
	always0 style = func(h http.Header, _ time.Time, _, size int, _ time.Duration) {
		setFields(h, "X-RateLimit-", 0, size, 1)
	}
	always1000 style = func(h http.Header, _ time.Time, _, size int, _ time.Duration) {
		setFields(h, "X-RateLimit-", 1000, size, 60)
	}
	pastReset style = func(h http.Header, now time.Time, left, size int, _ time.Duration) {
		setFields(h, "X-RateLimit-", left, size, now.Unix()-100)
	}
)

func setFields(h http.Header, prefix string, left, size int, reset any) {
	h.Set(prefix+"Limit", fmt.Sprint(size))
	h.Set(prefix+"Remaining", fmt.Sprint(left))
	h.Set(prefix+"Reset", fmt.Sprint(reset))
}

// An announcer is a server that tells its quota with every answer.
type announcer struct {
	quotaServer
	style style
}

// announce returns the header of an answer that is made now.
func (a announcer) announce(now time.Duration) http.Header {
	at := start.Add(now)
	h := http.Header{"Date": {at.UTC().Format(http.TimeFormat)}}
	left, size, reset := a.quota(now)
	a.style(h, at, left, size, reset)
	return h
}

// heard returns the quota that a client reads in a header; none if there is none.
func heard(h http.Header, now time.Time) Quota {
	q, ok := quota.Read(h, now)
	if !ok {
		return Quota{}
	}
	return Quota(q)
}

// A hubServer has a quota for a window, of which some is spent, and besides takes only so many
// at a time, of which its headers know nothing.
type hubServer struct {
	*windowServer
	crowd int
	takes time.Duration // on average
	busy  int
}

func (s *hubServer) take(now time.Duration) (bool, time.Duration) {
	if s.busy >= s.crowd {
		return false, 0
	}
	ok, _ := s.windowServer.take(now)
	if ok {
		s.busy++
	}
	return ok, 0
}

func (s *hubServer) leave() { s.busy-- }

// bound is until the reset, if not all fit before that, and on for the rest.
func (s *hubServer) bound(n int, slots time.Duration) time.Duration {
	each := max(slots/time.Duration(n), s.takes/time.Duration(s.crowd))
	return max(time.Duration(n)*each, s.window-s.phase+time.Duration(n-1500)*each)
}

// A sharedServer is a windowServer with other clients, that take their share at random times.
type sharedServer struct {
	*windowServer
	others float64 // a second
	rand   func() float64
	next   time.Duration
}

func (s *sharedServer) take(now time.Duration) (bool, time.Duration) {
	for s.next <= now {
		s.windowServer.take(s.next)
		s.next += time.Duration(s.rand() / s.others * float64(time.Second))
	}
	return s.windowServer.take(now)
}

// A slidingServer takes so many requests in any window of time, and tells when the last that it took
// will have left it.
type slidingServer struct {
	limit  int
	window time.Duration
	tells  bool
	log    []time.Duration // of those taken
}

func (s *slidingServer) forget(now time.Duration) {
	for len(s.log) > 0 && s.log[0]+s.window <= now {
		s.log = s.log[1:]
	}
}

func (s *slidingServer) take(now time.Duration) (bool, time.Duration) {
	if s.forget(now); len(s.log) == s.limit {
		return false, retryAfter(s.tells, s.log[0]+s.window-now)
	}
	s.log = append(s.log, now)
	return true, 0
}

func (s *slidingServer) leave() {}

func (s *slidingServer) bound(n int, slots time.Duration) time.Duration {
	return max(slots, time.Duration((n-1)/s.limit)*s.window)
}

func (s *slidingServer) quota(now time.Duration) (left, size int, reset time.Duration) {
	if s.forget(now); len(s.log) > 0 {
		reset = s.log[len(s.log)-1] + s.window - now
	}
	return s.limit - len(s.log), s.limit, reset
}

// tellingKinds are the kinds of servers that tell their quota.
func tellingKinds() (kinds []kind) {
	add := func(name string, urls int, open func(l latency, tells bool, seed uint64) server) {
		kinds = append(kinds, kind{name, urls, open})
	}
	for name, style := range map[string]style{"RateLimit": draft10, "RateLimit without policy": noSize} {
		add("10/s burst 10, "+name, 500, func(_ latency, tells bool, _ uint64) server {
			return announcer{newTokenServer(tells, 10, rateFrom{0, 10}), style}
		})
	}
	add("100/s burst 100, RateLimit", 2000, func(_ latency, tells bool, _ uint64) server {
		return announcer{newTokenServer(tells, 100, rateFrom{0, 100}), draft10}
	})
	add("10 in each second, RateLimit", 500, func(_ latency, tells bool, _ uint64) server {
		return announcer{&slidingServer{limit: 10, window: time.Second, tells: tells}, draft10}
	})
	for name, style := range map[string]style{
		"RateLimit-Reset": threeFields, "X-RateLimit-Reset, seconds": xSeconds, "X-RateLimit-Reset, epoch": xEpoch,
		"X-Rate-Limit-Reset, epoch in ms": xMillis, "always 0 left": always0, "always 1000 left": always1000, "reset in the past": pastReset,
	} {
		add("60 a minute, "+name, 240, func(_ latency, tells bool, _ uint64) server {
			return announcer{&windowServer{limit: 60, window: time.Minute, tells: tells}, style}
		})
	}
	add("60 a minute, others take 18, told", 240, func(_ latency, tells bool, seed uint64) server {
		random := rand.New(rand.NewPCG(seed, 9))
		return announcer{&sharedServer{windowServer: &windowServer{limit: 60, window: time.Minute, tells: tells}, others: 0.3, rand: random.ExpFloat64}, xSeconds}
	})
	add("as GitHub: 1500 of 5000 an hour left, 20 in flight", 2000, func(l latency, _ bool, _ uint64) server {
		_, back := l.mean()
		window := &windowServer{limit: 5000, window: time.Hour, phase: time.Hour - 50*time.Second}
		window.begun, window.taken = -window.phase, 3500
		return announcer{&hubServer{windowServer: window, crowd: 20, takes: back}, xEpoch}
	})
	slices.SortFunc(kinds, func(a, b kind) int { return strings.Compare(a.name, b.name) })
	return kinds
}
