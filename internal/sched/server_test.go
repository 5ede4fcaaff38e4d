package sched

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"testing"
	"time"
)

// A server is a model of a host that throttles. Times count from the start of a run.
type server interface {
	// take reports whether the server takes a request that reaches it now and, if
	// not, how long it asks to wait; 0 is that it does not say.
	take(now time.Duration) (ok bool, retryAfter time.Duration)
	// leave tells the server that a request which it took has been answered.
	leave()
	// bound is the least time in which it can take n requests, for which the slots need the
	// given time.
	bound(n int, slots time.Duration) time.Duration
}

// retryAfter is the answer of a server that may tell how long the wait will be: whole
// seconds, rounded up, and never none.
func retryAfter(tells bool, wait time.Duration) time.Duration {
	if !tells {
		return 0
	}
	return max(1, time.Duration(math.Ceil(wait.Seconds()))) * time.Second
}

// A tokenServer is a token bucket that is full at first.
type tokenServer struct {
	rates  []rateFrom // in the order of time, the first from 0 on
	burst  float64
	tells  bool
	others float64 // tokens that other clients take per second, at random
	rand   *rand.Rand

	spent float64 // tokens below burst
	last  time.Duration
	other time.Duration // when the others take the next
}

type rateFrom struct {
	from time.Duration
	rate float64
}

func newTokenServer(tells bool, burst float64, rates ...rateFrom) *tokenServer {
	return &tokenServer{rates: rates, burst: burst, tells: tells}
}

// rate returns the rate at an instant, and until when it holds.
func (s *tokenServer) rate(at time.Duration) (rate float64, until time.Duration) {
	for _, r := range s.rates {
		if r.from > at {
			return rate, r.from
		}
		rate = r.rate
	}
	return rate, math.MaxInt64
}

func (s *tokenServer) refill(now time.Duration) {
	for s.last < now {
		rate, until := s.rate(s.last)
		until = min(until, now)
		s.spent = max(0, s.spent-rate*(until-s.last).Seconds())
		s.last = until
	}
}

// spend takes a token. A millionth may be missing, by rounding to nanoseconds.
func (s *tokenServer) spend() bool {
	if s.burst-s.spent < 1-1e-6 {
		return false
	}
	s.spent++
	return true
}

func (s *tokenServer) take(now time.Duration) (bool, time.Duration) {
	for s.others > 0 && s.other <= now {
		s.refill(s.other)
		s.spend()
		s.other += time.Duration(s.rand.ExpFloat64() / s.others * float64(time.Second))
	}
	s.refill(now)
	if s.spend() {
		return true, 0
	}
	rate, _ := s.rate(now)
	missing := 1 - (s.burst - s.spent)
	return false, retryAfter(s.tells, time.Duration(missing/rate*float64(time.Second)))
}

func (s *tokenServer) leave() {}

// bound supposes that the others get all tokens that they ask for, as they do on average. From
// the instant when the slots no longer hold the list back, the bucket does.
func (s *tokenServer) bound(n int, slots time.Duration) time.Duration {
	bound := slots
	for _, r := range s.rates {
		begun := float64(n) * min(1, r.from.Seconds()/slots.Seconds())
		bound = max(bound, s.drained(r.from, float64(n)-begun-s.burst))
	}
	return bound
}

// drained returns when so many tokens have come since the given time.
func (s *tokenServer) drained(at time.Duration, tokens float64) time.Duration {
	for tokens > 0 {
		rate, until := s.rate(at)
		rate -= s.others
		need := time.Duration(tokens / rate * float64(time.Second))
		if need <= until-at {
			return at + need
		}
		tokens -= rate * (until - at).Seconds()
		at = until
	}
	return 0
}

// A windowServer takes so many requests in each window of time.
type windowServer struct {
	limit  int
	window time.Duration
	phase  time.Duration // of the first window that has passed at the start
	tells  bool

	begun time.Duration
	taken int
}

func (s *windowServer) take(now time.Duration) (bool, time.Duration) {
	if begun := (now + s.phase).Truncate(s.window) - s.phase; begun != s.begun {
		s.begun, s.taken = begun, 0
	}
	if s.taken < s.limit {
		s.taken++
		return true, 0
	}
	return false, retryAfter(s.tells, s.begun+s.window-now)
}

func (s *windowServer) leave() {}

func (s *windowServer) bound(n int, slots time.Duration) time.Duration {
	return max(slots, time.Duration((n-1)/s.limit)*s.window)
}

// A crowdServer works on so many requests at a time.
type crowdServer struct {
	limit int
	takes time.Duration // on average
	tells bool
	busy  int
}

func (s *crowdServer) take(time.Duration) (bool, time.Duration) {
	if s.busy < s.limit {
		s.busy++
		return true, 0
	}
	return false, retryAfter(s.tells, 0)
}

func (s *crowdServer) leave() { s.busy-- }

func (s *crowdServer) bound(n int, slots time.Duration) time.Duration {
	return max(slots, time.Duration(n)*s.takes/time.Duration(s.limit))
}

// An outageServer takes nothing for a while, and everything otherwise. It does not
// know how long the outage will last.
type outageServer struct {
	from, to time.Duration
	tells    bool
}

func (s *outageServer) take(now time.Duration) (bool, time.Duration) {
	if now < s.from || now >= s.to {
		return true, 0
	}
	return false, retryAfter(s.tells, 0)
}

func (s *outageServer) leave() {}

func (s *outageServer) bound(_ int, slots time.Duration) time.Duration {
	return slots + s.to - s.from
}

// A latency is the time that a request is on its way to the server, and from then on.
type latency struct {
	name        string
	there, back func(*rand.Rand) time.Duration
}

func evenly(d time.Duration) func(*rand.Rand) time.Duration {
	return func(*rand.Rand) time.Duration { return d }
}

func upTo(d time.Duration) func(*rand.Rand) time.Duration {
	return func(r *rand.Rand) time.Duration { return 1 + time.Duration(r.Int64N(int64(d))) }
}

// mean is the average time of a request, on its way there and back.
func (l latency) mean() (there, back time.Duration) {
	const n = 1000
	r := rand.New(rand.NewPCG(0, 0))
	for range n {
		there += l.there(r)
		back += l.back(r)
	}
	return there / n, back / n
}

var (
	steady = latency{"50 ms", evenly(5 * time.Millisecond), evenly(45 * time.Millisecond)}
	// The server is near, but takes its time.
	pensive = latency{"0-0.5 s to answer", evenly(5 * time.Millisecond), upTo(495 * time.Millisecond)}
	// Requests arrive in another order, and at another pace, than they started.
	erratic = latency{"0-0.25 s each way", upTo(250 * time.Millisecond), upTo(250 * time.Millisecond)}
)

// A site is a list of URLs of one host.
type site struct {
	server  server
	latency latency
	urls    int

	// The results:
	requests, refused, lost int
	starts, accepted        []time.Duration
	took                    time.Duration
	until                   time.Duration // that the server asked for
}

// A crawl fetches the URLs of its sites as the engine does: a refused URL goes to the back at once.
type crawl struct {
	sites    []*site
	slots    int
	attempts int
	seed     uint64
	config   Config
	watch    func(now time.Duration, h *Host) // may be nil
	warm     int                              // URLs of each site that are answered before the others are queued
}

// A trip is a request on its way.
type trip struct {
	task  Task
	site  *site
	there bool // it has reached the server
	ok    bool
	wait  time.Duration
	told  http.Header
}

// A crawler is a running crawl.
type crawler struct {
	crawl
	t     testing.TB
	s     *Scheduler
	lane  *Lane
	rand  *rand.Rand
	now   time.Duration
	trips heap[int64, *trip]
	tried []int   // by ID
	of    []*site // by ID
}

func (c crawl) run(t testing.TB) {
	t.Helper()
	config := c.config
	config.Slots = c.slots
	config.InitialWindow = DefaultInitialWindow
	if config.PauseMax == 0 {
		config.PauseBase, config.PauseMax = 200*time.Millisecond, 10*time.Second
	}
	r := &crawler{crawl: c, t: t, s: New(start, config), rand: rand.New(rand.NewPCG(c.seed, 1))}
	r.lane = r.s.NewLane(nil)
	r.push(func(s *site) int { return min(s.urls, c.warm) })
	r.play()
	r.push(func(s *site) int { return max(0, s.urls-c.warm) })
	r.play()
}

// push queues some URLs of each site.
func (c *crawler) push(urls func(s *site) int) {
	for i, site := range c.sites {
		for range urls(site) {
			c.lane.Push(c.at(), key(i), len(c.of))
			c.of = append(c.of, site)
		}
	}
	c.tried = append(c.tried, make([]int, len(c.of)-len(c.tried))...)
}

// play goes on until nothing is queued or in flight.
func (c *crawler) play() {
	for steps := 0; c.step(); steps++ {
		if steps > 1000*len(c.of)+100_000 {
			c.t.Fatal("it does not end")
		}
	}
}

func key(i int) string { return fmt.Sprint("host", i) }

// step starts all tasks that can start, and goes on to the next instant at which anything happens.
func (c *crawler) step() bool {
	for task, ok := c.s.Pop(c.at()); ok; task, ok = c.s.Pop(c.at()) {
		c.start(task)
	}
	at, ok := c.s.Next(c.at())
	if ok && !at.After(c.at()) {
		c.t.Fatalf("time stands still at %v", c.now)
	}
	if c.trips.len() > 0 {
		if arrival, _ := c.trips.min(); !ok || time.Duration(arrival) <= at.Sub(start) {
			c.arrive()
			return true
		}
	}
	if ok {
		c.now = at.Sub(start)
	}
	return ok
}

func (c *crawler) at() time.Time { return start.Add(c.now) }

func (c *crawler) start(task Task) {
	site := c.of[task.ID]
	if c.now < site.until {
		c.t.Fatalf("a start at %v, when the server has asked to wait until %v", c.now, site.until)
	}
	c.tried[task.ID]++
	site.requests++
	site.starts = append(site.starts, c.now)
	c.send(&trip{task: task, site: site}, site.latency.there)
}

func (c *crawler) send(tr *trip, takes func(*rand.Rand) time.Duration) {
	c.trips.put(int64(c.now+takes(c.rand)), &item[*trip]{value: tr})
}

// arrive has the first trip arrive: at the server or, with the answer, back here.
func (c *crawler) arrive() {
	at, tr := c.trips.min()
	c.now = time.Duration(at)
	c.trips.remove(c.trips.entries[0].item)
	site := tr.site
	if !tr.there {
		tr.there = true
		tr.ok, tr.wait = site.server.take(c.now)
		if a, ok := site.server.(announcer); ok {
			tr.told = a.announce(c.now)
		}
		c.send(tr, site.latency.back)
		return
	}
	site.took = c.now
	if tr.ok {
		site.server.leave()
		site.accepted = append(site.accepted, c.now)
		c.s.Done(c.at(), tr.task, Outcome{Verdict: Accepted, Quota: heard(tr.told, c.at())})
	} else {
		c.refuse(tr)
	}
	if c.watch != nil {
		c.watch(c.now, tr.task.Host())
	}
}

func (c *crawler) refuse(tr *trip) {
	site, id := tr.site, tr.task.ID
	site.refused++
	wait, told := tr.wait, heard(tr.told, c.at())
	if wait == 0 && told.Left == 0 {
		wait = told.Reset // as the attempt has it
	} else if told.Left == 0 && told.Reset > 0 {
		told.Reset = wait
	}
	site.until = max(site.until, c.now+wait)
	c.s.Done(c.at(), tr.task, Outcome{Verdict: Throttled, Pause: wait, Quota: told})
	if c.tried[id] < c.attempts {
		c.lane.Back(c.at(), tr.task.Host().Key(), id)
	} else {
		site.lost++
	}
}
