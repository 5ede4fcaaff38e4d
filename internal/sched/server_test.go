package sched

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// A server is a model of a host that throttles. Times count from the start of the run.
type server interface {
	// take reports whether the server takes a request that reaches it now, and if
	// not, after what time it asks to come back; 0 is that it does not say.
	take(now time.Duration) (ok bool, retryAfter time.Duration)
	// leave tells the server that a request which it took has been answered.
	leave()
	// bound is the least time in which it can serve n requests.
	bound(n int) time.Duration
}

// says is the Retry-After of a server that knows how long the wait will be: whole
// seconds, rounded up, and none if it does not tell.
func says(tells bool, wait time.Duration) time.Duration {
	if !tells {
		return 0
	}
	return max(1, time.Duration(math.Ceil(wait.Seconds()))) * time.Second
}

// A tokenServer is a token bucket whose rate can change.
type tokenServer struct {
	rates []rateFrom // by time; the first is from 0 on
	burst float64
	tells bool
	// others take so many tokens a second, at random.
	others float64
	rand   *rand.Rand

	tokens float64
	last   time.Duration
	next   time.Duration // when the others take one
}

type rateFrom struct {
	from time.Duration
	rate float64
}

func tokens(rate float64, burst int, tells bool) *tokenServer {
	return &tokenServer{rates: []rateFrom{{0, rate}}, burst: float64(burst), tokens: float64(burst), tells: tells}
}

func (s *tokenServer) rate(at time.Duration) (rate float64, until time.Duration) {
	until = math.MaxInt64
	for _, r := range s.rates {
		if r.from > at {
			return rate, r.from
		}
		rate = r.rate
	}
	return rate, until
}

func (s *tokenServer) refill(now time.Duration) {
	for s.last < now {
		rate, until := s.rate(s.last)
		until = min(until, now)
		s.tokens = min(s.burst, s.tokens+rate*(until-s.last).Seconds())
		s.last = until
	}
}

func (s *tokenServer) take(now time.Duration) (bool, time.Duration) {
	for s.others > 0 && s.next <= now {
		s.refill(s.next)
		if s.tokens >= 1 {
			s.tokens--
		}
		s.next += time.Duration(s.rand.ExpFloat64() / s.others * float64(time.Second))
	}
	s.refill(now)
	const hair = 1e-6 // what 1 ns leaves missing
	if s.tokens >= 1-hair {
		s.tokens--
		return true, 0
	}
	rate, _ := s.rate(now)
	return false, says(s.tells, time.Duration((1-s.tokens)/rate*float64(time.Second)))
}

func (s *tokenServer) leave() {}

func (s *tokenServer) bound(n int) time.Duration {
	left := float64(n) - s.burst
	var at time.Duration
	for left > 0 {
		rate, until := s.rate(at)
		rate -= s.others
		need := time.Duration(left / rate * float64(time.Second))
		if need <= until-at {
			return at + need
		}
		left -= rate * (until - at).Seconds()
		at = until
	}
	return at
}

// A windowServer takes so many requests in each window of time.
type windowServer struct {
	limit  int
	window time.Duration
	tells  bool

	begun time.Duration
	taken int
}

func (s *windowServer) take(now time.Duration) (bool, time.Duration) {
	if begun := now.Truncate(s.window); begun != s.begun {
		s.begun, s.taken = begun, 0
	}
	if s.taken < s.limit {
		s.taken++
		return true, 0
	}
	return false, says(s.tells, s.begun+s.window-now)
}

func (s *windowServer) leave() {}

func (s *windowServer) bound(n int) time.Duration {
	return time.Duration((n-1)/s.limit) * s.window
}

// A crowdServer works on so many requests at once.
type crowdServer struct {
	limit int
	takes time.Duration // of one request, on average
	tells bool
	busy  int
}

func (s *crowdServer) take(time.Duration) (bool, time.Duration) {
	if s.busy < s.limit {
		s.busy++
		return true, 0
	}
	return false, says(s.tells, 0)
}

func (s *crowdServer) leave() { s.busy-- }

func (s *crowdServer) bound(n int) time.Duration {
	return time.Duration(n) * s.takes / time.Duration(s.limit)
}

// An outage takes nothing for a while.
type outage struct {
	from, to  time.Duration
	tells     bool
	remaining bool // tells how long the outage will last, else always a second
}

func (s *outage) take(now time.Duration) (bool, time.Duration) {
	if now < s.from || now >= s.to {
		return true, 0
	}
	if s.remaining {
		return false, says(s.tells, s.to-now)
	}
	return false, says(s.tells, 0)
}

func (s *outage) leave() {}

func (s *outage) bound(int) time.Duration { return s.to - s.from }

// A latency is the time that requests are on their way to the server, and from there on.
type latency struct {
	name           string
	there, back    func(r *rand.Rand) time.Duration
	mean, meanBack time.Duration
}

func steady(d time.Duration) func(*rand.Rand) time.Duration {
	return func(*rand.Rand) time.Duration { return d }
}

func upTo(d time.Duration) func(*rand.Rand) time.Duration {
	return func(r *rand.Rand) time.Duration { return 1 + time.Duration(r.Int64N(int64(d))) }
}

var (
	even    = latency{"50 ms", steady(5 * time.Millisecond), steady(45 * time.Millisecond), 50 * time.Millisecond, 45 * time.Millisecond}
	answers = latency{"answers in up to 0.5 s", steady(5 * time.Millisecond), upTo(495 * time.Millisecond), 252 * time.Millisecond, 247 * time.Millisecond}
	ways    = latency{"0–0.25 s each way", upTo(250 * time.Millisecond), upTo(250 * time.Millisecond), 250 * time.Millisecond, 125 * time.Millisecond}
)

// A crawl is a run of n URLs of one host.
type crawl struct {
	server   server
	latency  latency
	slots    int
	urls     int
	attempts int
	seed     uint64
	config   Config

	trace func(now time.Duration, what string, h *Host)
}

type crawled struct {
	took     time.Duration
	requests int
	refused  int
	lost     int
	accepted []time.Duration
}

type crawlEvent struct {
	task Task
	ok   bool
	took bool
	wait time.Duration
}

func (c crawl) run(t testing.TB) (done crawled) {
	t.Helper()
	r := rand.New(rand.NewPCG(c.seed, 1))
	config := c.config
	config.Slots = c.slots
	if config.PauseMax == 0 {
		config.PauseBase, config.PauseMax = 200*time.Millisecond, 10*time.Second
	}
	s := New(start, config)
	l := s.NewLane(nil)
	attempts := make([]int, c.urls)
	for id := range c.urls {
		l.Push(start, "host", id)
	}
	var events heap[int64, *crawlEvent]
	var now time.Duration
	var until time.Duration
	at := func() time.Time { return start.Add(now) }
	for steps := 0; ; steps++ {
		if steps > 100*c.urls+100_000 {
			t.Fatal("it does not end")
		}
		for {
			task, ok := s.Pop(at())
			if !ok {
				break
			}
			if now < until {
				t.Fatalf("a start at %v, before the pause ends at %v", now, until)
			}
			attempts[task.ID]++
			done.requests++
			events.put(int64(now+c.latency.there(r)), &item[*crawlEvent]{value: &crawlEvent{task: task}})
			if c.trace != nil {
				c.trace(now, "start", task.Host())
			}
		}
		next, ok := s.Next(at())
		if ok && !next.After(at()) {
			t.Fatalf("time stands still at %v", now)
		}
		nextAt := next.Sub(start)
		if events.len() > 0 {
			k, _ := events.min()
			if !ok || time.Duration(k) <= nextAt {
				ok = true
				nextAt = time.Duration(k)
			}
		}
		if !ok {
			break
		}
		now = nextAt
		for events.len() > 0 {
			k, e := events.min()
			if time.Duration(k) > now {
				break
			}
			events.remove(events.entries[0].item)
			if !e.took {
				e.took = true
				e.ok, e.wait = c.server.take(now)
				events.put(int64(now+c.latency.back(r)), &item[*crawlEvent]{value: e})
				continue
			}
			h := e.task.Host()
			if e.ok {
				c.server.leave()
				s.Done(at(), e.task, Outcome{Verdict: Accepted})
				done.took = now
				done.accepted = append(done.accepted, now)
				if c.trace != nil {
					c.trace(now, "accepted", h)
				}
				continue
			}
			done.refused++
			until = max(until, now+e.wait)
			s.Done(at(), e.task, Outcome{Throttled, e.wait})
			if attempts[e.task.ID] < c.attempts {
				l.Back(at(), "host", e.task.ID)
			} else {
				done.lost++
				done.took = now
			}
			if c.trace != nil {
				c.trace(now, "refused", h)
			}
		}
	}
	return done
}
