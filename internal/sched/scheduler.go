// Package sched decides which request may start now. It is a data structure: it has no
// goroutine, no lock and no clock. Times come in as values, and must not go backwards.
//
// Tasks wait in queues, one for each lane (batch) and host. A queue is ready in its lane
// if its host can start a request, and otherwise parked at its host.
// Every operation is logarithmic in the number of hosts and lanes.
package sched

import (
	"cmp"
	"container/list"
	"iter"
	"slices"
	"time"

	"golang.org/x/time/rate"
)

// Limits are the limits of a host. Zero fields are no limits.
type Limits struct {
	Concurrency int
	Rate        rate.Limit
	Burst       int
}

// Config has the limits of all hosts together. Slots must be at least 1.
type Config struct {
	Slots   int
	Rate    rate.Limit // 0 is no limit
	Burst   int
	Permits bool // whether each start takes a permit, see Permit
	// HostPermits tells that each start takes a permit of its host, see Ask.
	HostPermits bool
	// PauseBase and PauseMax are the first and the longest pause of a host that throttles
	// without saying for how long. A PauseMax of 0 is none.
	PauseBase, PauseMax time.Duration
	// InitialWindow is how many requests a host has in flight before anything is known of it, if
	// it could have far more; 0 is no such limit.
	InitialWindow int
	// Host has the limits of hosts that are not introduced.
	Host Limits
}

// A Scheduler is not safe for concurrent use. Make one with New.
type Scheduler struct {
	config   Config
	slots    int
	share    int // slots of a host without a limit while others can start
	epoch    time.Time
	inFlight int
	bucket   *bucket
	permits  int

	hosts      map[string]*Host
	lanes      heap[uint64, *Lane] // that have a ready queue, by virtual time
	virtual    uint64              // that of the lane served last
	opening    heap[int64, *Host]  // that only wait for an instant
	open       heap[uint64, *Host] // that admit a request and have parked queues, by their first
	made       uint64              // lanes so far
	delayed    heap[int64, *queue] // that have delayed tasks, by the first
	slowStarts []*Host             // that are in their slow start: at most slots / InitialWindow
	granted    []*Host             // that have a permit of their own: a handful
	full       []*Host             // that have at least their share, half the slots: a handful

	firsts  firstMean
	usual   usual
	outlook outlook
	// expected has the hosts with requests in flight that are not silent, by the time when they
	// will be; hushed has those that are.
	expected heap[int64, *Host]
	hushed   []*Host
	idle     list.List // of *Host that matter although nothing is queued, the longest idle first
}

// New returns an empty Scheduler.
func New(now time.Time, config Config) *Scheduler {
	return &Scheduler{
		config: config,
		slots:  config.Slots,
		share:  max(1, config.Slots/2),
		epoch:  now,
		bucket: newBucket(config.Rate, config.Burst),
		hosts:  map[string]*Host{},
	}
}

// firstMean is the running mean of the hosts' first samples. Old samples fade.
type firstMean struct {
	mean float64 // seconds
	n    int
}

func (m *firstMean) add(d time.Duration) {
	m.n++
	m.mean += (d.Seconds() - m.mean) * max(1.0/50, 1/float64(m.n))
}

// NewLane adds a lane. It costs nothing when it has no tasks.
func (s *Scheduler) NewLane(owner any) *Lane {
	s.made++
	l := &Lane{Owner: owner, sched: s, number: s.made, queues: map[string]*queue{}, exploring: true}
	l.turn.value = l
	return l
}

// Keep reports whether the host is known, and if so keeps it until Release,
// with its limits, although nothing is queued for it.
func (s *Scheduler) Keep(key string) bool {
	if s.hosts[key] == nil {
		return false
	}
	s.wake(key).queues++
	return true
}

// Introduce makes a host known that has limits of its own, unless it is, and keeps it
// as Keep does.
func (s *Scheduler) Introduce(key string, limits Limits) {
	if s.hosts[key] == nil {
		s.addHost(key, limits)
	}
	s.Keep(key)
}

// Release ends Keep.
func (s *Scheduler) Release(now time.Time, key string) {
	h := s.hosts[key]
	h.queues--
	s.rest(h, now)
}

// Host returns the host with the given key, or nil if it has no state.
func (s *Scheduler) Host(key string) *Host { return s.hosts[key] }

// wake returns a host that has something to do.
func (s *Scheduler) wake(key string) *Host {
	h := s.hosts[key]
	if h == nil {
		h = s.addHost(key, s.config.Host)
	}
	if h.idle != nil {
		s.idle.Remove(h.idle)
		h.idle = nil
	}
	return h
}

func (s *Scheduler) addHost(key string, limits Limits) *Host {
	h := &Host{
		sched:  s,
		key:    key,
		limit:  limits.Concurrency,
		bucket: newBucket(limits.Rate, limits.Burst),
	}
	h.opening.value, h.open.value, h.expected.value = h, h, h
	h.standing = unheard
	s.hosts[key] = h
	return h
}

// Idle state is kept for so long, and of so many hosts, at most. A bucket that is not
// full after that is kept on: forgetting it would break a promise.
const (
	maxIdle      = 10 * time.Minute
	maxIdleHosts = 65_536
)

// rest forgets a host for which nothing is queued or in flight, or keeps it
// among the idle ones while its state matters.
func (s *Scheduler) rest(h *Host, now time.Time) {
	if h.queues > 0 {
		return
	}
	s.dropPermit(h)
	if !h.matters(now) {
		delete(s.hosts, h.key)
	} else {
		h.rested = now
		h.idle = s.idle.PushBack(h)
	}
	for s.idle.Len() > 0 {
		oldest := s.idle.Front().Value.(*Host)
		expired := now.Sub(oldest.rested) > maxIdle
		if !expired && s.idle.Len() <= maxIdleHosts {
			return
		}
		if expired && !oldest.bucket.full(now) && s.idle.Len() <= maxIdleHosts {
			oldest.rested = now
			s.idle.MoveToBack(oldest.idle)
			return
		}
		s.idle.Remove(oldest.idle)
		delete(s.hosts, oldest.key)
	}
}

// A Task is a request that has a slot.
type Task struct {
	ID      int
	Started time.Time
	queue   *queue
	number  int  // of the host's starts
	allowed bool // by the quota that the host has told
	head    bool // of its lane, when nothing was known of it yet
}

// Lane returns the lane that the task was pushed to.
func (t Task) Lane() *Lane { return t.queue.lane }

// Host returns the host that the task is for.
func (t Task) Host() *Host { return t.queue.host }

// Pop gives a slot to the task that is to start now, if there is one.
func (s *Scheduler) Pop(now time.Time) (Task, bool) {
	if s.config.Permits && s.permits == 0 {
		return Task{}, false
	}
	q := s.startable(now)
	if q == nil {
		return Task{}, false
	}
	return s.start(q, now), true
}

// Reject takes out the task that is to start now without giving it a slot.
func (s *Scheduler) Reject(now time.Time) (Task, bool) {
	q := s.next(now)
	if q == nil {
		return Task{}, false
	}
	return q.reject(now), true
}

// Startable reports whether Pop would give a task, were there a permit.
func (s *Scheduler) Startable(now time.Time) bool {
	return s.startable(now) != nil
}

// startable returns the queue whose first task is to start now, or nil.
func (s *Scheduler) startable(now time.Time) *queue {
	if s.config.HostPermits {
		return s.nextGranted(now)
	}
	return s.next(now)
}

// Permit allows one more start; see Config.Permits.
func (s *Scheduler) Permit() { s.permits++ }

// Permits returns the number of permits that are left.
func (s *Scheduler) Permits() int { return s.permits }

// InFlight returns the number of tasks that have a slot.
func (s *Scheduler) InFlight() int { return s.inFlight }

func (s *Scheduler) start(q *queue, now time.Time) Task {
	l, h := q.lane, q.host
	s.virtual = max(s.virtual, l.served)
	l.served = s.virtual + 1
	l.place()
	s.inFlight++
	s.bucket.take(now)
	if s.config.Permits {
		s.permits--
	}
	s.dropPermit(h)
	head := l.startHead(q)
	id := q.pop()
	q.inFlight++
	allowed := h.start(now)
	if h.silent {
		l.doubt(1)
	}
	q.settle(now)
	h.settle(now)
	return Task{ID: id, Started: now, queue: q, number: h.started, allowed: allowed, head: head}
}

// Done takes the slot of a task back.
func (s *Scheduler) Done(now time.Time, t Task, o Outcome) {
	q, h := t.queue, t.queue.host
	s.inFlight--
	q.inFlight--
	if h.silent {
		q.lane.doubt(-1)
	}
	if t.head {
		q.lane.finishHead(o.answered())
	}
	h.finish(now, t, o)
	q.settle(now)
	h.settle(now)
}

// next returns the queue whose turn it is to start its first task, or to get a permit for that;
// nil if there is none.
func (s *Scheduler) next(now time.Time) *queue {
	s.advance(now)
	if s.inFlight >= s.slots || s.bucket.opens(now).After(now) {
		return nil
	}
	for s.unpark(now) {
		_, l := s.lanes.min()
		q := l.pick()
		switch {
		case l.withholds(q):
			// A few thousand such steps at most, once for each time that the lane is held.
			q.unready()
			l.shelf.put(q.oldest(), &q.shelved)
			q.host.settle(now)
		case !q.host.admits(now):
			q.unready()
			q.host.park(q)
			q.host.settle(now)
		default:
			return q
		}
	}
	return s.overShare(now)
}

// unpark makes queues of open hosts ready if their lanes come before every lane that has
// a ready one, and reports whether any lane has one. The others can stay parked: if another
// lane took their host before their turn, they would have to be parked again.
func (s *Scheduler) unpark(now time.Time) bool {
	for s.open.len() > 0 {
		turn, h := s.open.min()
		if s.lanes.len() > 0 && turn > s.lanes.entries[0].key {
			break
		}
		if q := h.firstParked(); q.lane.next() == turn {
			h.parked.remove(&q.parked)
			q.makeReady()
		}
		h.settle(now)
	}
	return s.lanes.len() > 0
}

// last yields the hosts that start nothing while others can.
func (s *Scheduler) last() iter.Seq[*Host] {
	return func(yield func(*Host) bool) {
		for _, h := range s.full {
			if !yield(h) {
				return
			}
		}
		for _, h := range s.hushed {
			if !h.atShare() && !yield(h) { // else it is full
				return
			}
		}
	}
}

// overShare returns a queue of a host that has its share already, or is silent. It is
// asked only when no other host can start a request.
func (s *Scheduler) overShare(now time.Time) *queue {
	if s.slowStartsWait(now) {
		return nil // the slots will soon be wanted
	}
	var best *queue
	for h := range s.last() {
		if !h.room() || h.hasAsked() || h.opens(now).After(now) {
			continue
		}
		if q := h.firstStartable(now); q != nil && (best == nil || q.isBetterThan(best)) {
			best = q
		}
	}
	return best
}

// isBetterThan reports whether q comes before other where overShare can choose.
func (q *queue) isBetterThan(other *queue) bool {
	return cmp.Or(
		cmp.Compare(q.suspicion(), other.suspicion()),
		cmp.Compare(q.lane.served, other.lane.served),
		cmp.Compare(q.host.inFlight, other.host.inFlight),
	) < 0
}

// suspicion is the greater the less likely the host is to answer.
func (q *queue) suspicion() (n int) {
	if q.host.silent {
		n += 2
	}
	if q.host.standing != answering && q.lane.doubts() {
		n++
	}
	return n
}

// advance lets time pass for hosts and delayed tasks.
func (s *Scheduler) advance(now time.Time) {
	s.notice(now)
	for s.delayed.len() > 0 {
		at, q := s.delayed.min()
		if at > s.nanos(now) {
			break
		}
		q.release(now)
	}
	for s.opening.len() > 0 {
		at, h := s.opening.min()
		if at > s.nanos(now) {
			break
		}
		h.settle(now)
	}
}

// Next returns the first instant at which Pop may give a task that it does not give
// now, if there is a task that only waits for time.
func (s *Scheduler) Next(now time.Time) (at time.Time, ok bool) {
	if s.inFlight >= s.slots {
		return at, false
	}
	consider := func(t time.Time) {
		if !ok || t.Before(at) {
			at, ok = t, true
		}
	}
	if s.opening.len() > 0 {
		nanos, _ := s.opening.min()
		consider(s.epoch.Add(time.Duration(nanos)))
	}
	if s.delayed.len() > 0 {
		nanos, _ := s.delayed.min()
		consider(s.epoch.Add(time.Duration(nanos)))
	}
	if open := s.bucket.opens(now); open.After(now) && (s.lanes.len() > 0 || s.open.len() > 0 || len(s.full)+len(s.hushed) > 0) {
		consider(open)
	}
	return at, ok
}

func (s *Scheduler) removeFull(h *Host) {
	s.full = without(s.full, h)
}

// without returns hosts without one of them, in the same array.
func without(hosts []*Host, h *Host) []*Host {
	i := slices.Index(hosts, h)
	return slices.Delete(hosts, i, i+1)
}

func (s *Scheduler) nanos(t time.Time) int64 { return int64(t.Sub(s.epoch)) }
