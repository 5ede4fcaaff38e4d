package sched

import "time"

// An outlook has sums over all that is to be done. A change costs next to nothing: the hosts that
// have changed are looked at when somebody asks.
type outlook struct {
	queued, delayed int
	changed         []*Host // since somebody asked, that have something to do

	// Of those that have been looked at:
	work    float64 // slot seconds left of the hosts that have been timed
	unknown float64 // tasks left of the others
	// busy has the hosts that may be done later than the slots alone need, and ends when each is,
	// as far as was known when anything about it changed: that holds while the host is served as
	// fast as it allows.
	busy   []*Host
	ends   []int64
	paused heap[int64, *Host] // with something to do, by the end of the pause
}

// prospects are what a host adds to the outlook.
type prospects struct {
	queued, delayed int
	changed         int       // the place in outlook.changed, plus one
	lastDue         time.Time // of the delayed
	work, unknown   float64
	busy            int // the place in outlook.busy, plus one
	paused          item[*Host]

	// The mean time of a request, over more of them than Host.taken: that follows a host that
	// changes, and is off by chance. Refusals do not count, since they are quick.
	mean  float64 // seconds
	timed int
}

// sample takes note of a request that took d.
func (p *prospects) sample(d time.Duration, o Outcome) {
	if o.Verdict != Throttled {
		p.timed++
		p.mean += (d.Seconds() - p.mean) * max(1.0/100, 1/float64(p.timed))
	}
}

// A tally is what a queue adds to that of its host.
type tally struct{ queued, delayed int }

// count takes note that anything about the queue has changed.
func (q *queue) count() {
	o, h := &q.lane.sched.outlook, q.host
	queued, delayed := q.queued-q.counted.queued, q.delayed-q.counted.delayed
	q.counted = tally{q.queued, q.delayed}
	o.queued += queued
	o.delayed += delayed
	p := &h.prospects
	p.queued += queued
	p.delayed += delayed
	switch {
	case p.queued+p.delayed+h.inFlight == 0:
		h.fade() // it may be forgotten
	case p.changed == 0:
		o.changed = append(o.changed, h)
		p.changed = len(o.changed)
	}
}

// fade takes a host with nothing to do out of the outlook.
func (h *Host) fade() {
	o, p := &h.sched.outlook, &h.prospects
	if i := p.changed - 1; i >= 0 {
		last := len(o.changed) - 1
		o.changed[i] = o.changed[last]
		o.changed[i].prospects.changed = i + 1
		o.changed[last] = nil
		o.changed = o.changed[:last]
		p.changed = 0
	}
	p.lastDue = time.Time{}
	o.work -= p.work
	o.unknown -= p.unknown
	p.work, p.unknown = 0, 0
	o.paused.remove(&p.paused)
	o.remove(h)
}

// look looks at the hosts that have changed.
func (o *outlook) look(now time.Time) {
	for i, h := range o.changed {
		h.prospects.changed = 0
		o.changed[i] = nil
		h.foresee(now)
	}
	o.changed = o.changed[:0]
}

// foresee brings the host's part of the outlook up to date.
func (h *Host) foresee(now time.Time) {
	o, p := &h.sched.outlook, &h.prospects
	if p.delayed == 0 {
		p.lastDue = time.Time{}
	}
	// Those in flight are half done, on average.
	tasks := float64(p.queued+p.delayed) + float64(h.inFlight)/2
	work, unknown := 0.0, tasks
	if p.timed > 0 {
		work, unknown = tasks*p.mean, 0
	}
	o.work += work - p.work
	o.unknown += unknown - p.unknown
	p.work, p.unknown = work, unknown
	until := h.closedUntil()
	isPaused := until.After(now)
	if isPaused {
		p.paused.value = h
		o.paused.put(h.sched.nanos(until), &p.paused)
	} else {
		o.paused.remove(&p.paused)
	}
	if isPaused || p.delayed > 0 || h.bounded() {
		o.put(h, h.sched.nanos(now.Add(h.left(now))))
	} else {
		o.remove(h)
	}
}

func (o *outlook) put(h *Host, end int64) {
	if h.prospects.busy == 0 {
		o.busy, o.ends = append(o.busy, h), append(o.ends, 0)
		h.prospects.busy = len(o.busy)
	}
	o.ends[h.prospects.busy-1] = end
}

func (o *outlook) remove(h *Host) {
	i, last := h.prospects.busy-1, len(o.busy)-1
	if i < 0 {
		return
	}
	o.busy[i], o.ends[i] = o.busy[last], o.ends[last]
	o.busy[i].prospects.busy = i + 1
	h.prospects.busy = 0
	o.busy[last] = nil
	o.busy, o.ends = o.busy[:last], o.ends[:last]
}

// left returns how long the host alone needs at the least for what it has to do.
func (h *Host) left(now time.Time) time.Duration {
	p := &h.prospects
	starts := p.queued + p.delayed
	each := h.each()
	all := (float64(starts) + float64(h.inFlight)/2) * each / float64(h.crowd())
	if starts == 0 {
		return seconds(all)
	}
	open := later(now, h.throttle.opens())
	last := h.bucket.wait(open, starts)
	last = max(last, h.throttle.foreseen().paced(float64(starts-1), each), h.allowance.wait(now, starts, h.inFlight))
	left := open.Sub(now) + seconds(max(all, last+each))
	if p.lastDue.After(now) {
		left = max(left, p.lastDue.Sub(now)+seconds(each))
	}
	return left
}

// each returns the seconds that a request of the host takes, or is likely to.
func (h *Host) each() float64 {
	if h.prospects.timed > 0 {
		return h.prospects.mean
	}
	return h.sched.firsts.mean
}

// crowd returns how many of the host's requests can be in flight, as far as is known.
func (h *Host) crowd() int {
	most := h.most()
	if t := &h.throttle; t.lesson != nil && t.window.size > 0 {
		most = min(most, max(t.window.size, t.window.good))
	}
	return most
}

// foreseen returns the throttle as it will be after the pause, if there is one.
func (t *throttle) foreseen() *throttle {
	if t.lesson == nil || t.probed {
		return t
	}
	after := t.clone()
	after.probe()
	return &after
}

// clone returns a throttle that can be changed in place of t, to see what comes of it.
func (t *throttle) clone() throttle {
	clone := *t
	if t.lesson != nil {
		lesson := *t.lesson
		clone.lesson = &lesson
	}
	return clone
}

// paced returns the seconds from one start to the nth after it, by the pace. One with a ceiling
// stays near to it. One without grows fast: from the first acceptance on, unless the
// window keeps the host to one at a time, which it does for a while.
func (t *throttle) paced(n, each float64) float64 {
	if t.pace == 0 || n <= 0 {
		return 0
	}
	if t.pacing.ceiling > 0 {
		return n / t.pace
	}
	crawl := min(n, t.crawl())
	return crawl/t.pace + grown(n-crawl, t.pace, each)
}

// grown returns the seconds for n starts of a pace that grows with each acceptance of a request
// that started after it last grew; see raise.
func grown(n, pace, each float64) (took float64) {
	for range 100 {
		round := 1/pace + each
		if starts := round * pace; starts < n {
			took += round
			n -= starts
			pace *= growth
			continue
		}
		break
	}
	return took + n/pace
}

// crawl returns about how many starts are to come before the window lets the pace grow; see
// window.accept and waited.
func (t *throttle) crawl() float64 {
	if t.window.good > 1 {
		return 0
	}
	accepted := max(7, t.pace*min(t.paused, 10*time.Second).Seconds()) * float64(t.window.patience)
	return max(0, accepted-float64(t.accepted))
}

// Foretell returns the end of the pause of the host as the outcome of a task in flight will have it.
func (h *Host) Foretell(now time.Time, t Task, o Outcome) time.Time {
	after := Host{sched: h.sched, throttle: h.throttle.clone(), inFlight: h.inFlight - 1}
	if h.allowance != nil {
		allowance := *h.allowance
		after.allowance = &allowance
	}
	after.throttle.finish(now, &after, t, o)
	return after.throttle.until
}

// closedUntil returns the end of the pause, or of the quota that is used up, if that is later; zero
// is that neither is known.
func (h *Host) closedUntil() time.Time {
	until := h.throttle.until
	if a := h.allowance; a != nil && !a.advice && a.left(h.inFlight) == 0 {
		until = later(until, a.reset)
	}
	return until
}

// wait returns the seconds to the nth start, by the quota: so many now, and a whole one with each
// reset.
func (a *allowance) wait(now time.Time, n, inFlight int) float64 {
	if a == nil || a.advice || n <= a.left(inFlight) {
		return 0
	}
	n -= a.left(inFlight)
	resets := float64((n - 1) / a.size)
	return max(0, a.reset.Sub(now).Seconds()) + resets*a.period.Seconds()
}

// wait returns the seconds from an instant to that of the nth token.
func (b *bucket) wait(from time.Time, n int) float64 {
	if b == nil {
		return 0
	}
	return min(max(0, float64(n)-b.limiter.TokensAt(from))/b.limit(), farAway.Seconds())
}

func seconds(s float64) time.Duration {
	return time.Duration(min(s, farAway.Seconds()) * float64(time.Second))
}

// Queued returns how many tasks wait for a slot or for their host, as are the methods below.
func (s *Scheduler) Queued() int { return s.outlook.queued }

// Delayed returns how many tasks wait for an instant of their own.
func (s *Scheduler) Delayed() int { return s.outlook.delayed }

// PausedHosts returns how many hosts with something to do are paused.
func (s *Scheduler) PausedHosts(now time.Time) int {
	o := &s.outlook
	o.look(now)
	for o.paused.len() > 0 {
		until, h := o.paused.min()
		if until > s.nanos(now) {
			break
		}
		o.paused.remove(&h.prospects.paused)
	}
	return o.paused.len()
}

// Left returns how long all tasks need at the least, as far as is known: as long as the slots need
// for all of them, or the slowest host for its own.
func (s *Scheduler) Left(now time.Time) time.Duration {
	o := &s.outlook
	o.look(now)
	common := (o.work + o.unknown*s.firsts.mean) / float64(s.slots)
	if n := o.queued + o.delayed; n > 0 {
		common = max(common, s.bucket.wait(now, n))
	}
	return max(seconds(common), o.last(now))
}

// last returns how long the host needs that is done last. Of those that are no longer what they
// were the latest are brought up to date.
func (o *outlook) last(now time.Time) time.Duration {
	const looks = 8
	var left time.Duration
	for range looks {
		latest := o.latest()
		if latest < 0 {
			return 0
		}
		h := o.busy[latest]
		left = h.left(now)
		end := h.sched.nanos(now.Add(left))
		if o.ends[latest] <= end {
			break
		}
		o.ends[latest] = end
	}
	return left
}

// latest returns the place of the host that ends last, or -1.
func (o *outlook) latest() int {
	latest := -1
	for i, end := range o.ends {
		if latest < 0 || end > o.ends[latest] {
			latest = i
		}
	}
	return latest
}

// A Prospect is what a host has to do.
type Prospect struct {
	Host                      string
	Queued, Delayed, InFlight int
	PausedUntil               time.Time // zero: it is not paused
	Pace                      float64   // starts per second; 0 is none
	Took                      time.Duration
	Left                      time.Duration
}

// Prospects returns those of the hosts with something to do, in no particular order. It looks at
// all hosts there are.
func (s *Scheduler) Prospects(now time.Time) []Prospect {
	all := make([]Prospect, 0, min(len(s.hosts), s.outlook.queued+s.outlook.delayed+s.inFlight))
	for _, h := range s.hosts {
		if h.prospects.queued+h.prospects.delayed+h.inFlight > 0 {
			all = append(all, h.prospect(now))
		}
	}
	return all
}

func (h *Host) prospect(now time.Time) Prospect {
	p := Prospect{
		Host: h.key, Queued: h.prospects.queued, Delayed: h.prospects.delayed, InFlight: h.inFlight,
		Pace: h.throttle.pace, Took: h.taken, Left: h.left(now),
	}
	if until := h.closedUntil(); until.After(now) {
		p.PausedUntil = until
	}
	return p
}
