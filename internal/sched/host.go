package sched

import (
	"container/list"
	"iter"
	"time"
)

// A Host is the state of one host that all lanes share: its limits, its requests in
// flight, and the time of its next start.
type Host struct {
	// Memory is for the owner of the scheduler. The host is kept while it matters.
	Memory Memory

	sched    *Scheduler
	key      string
	limit    int // requests in flight; 0 is none but the share
	bucket   *bucket
	inFlight int

	first  *queue // of all lanes
	queues int    // in that list, and one for each Keep without Release
	// parked has the queues that wait for this host, by their lane's virtual
	// time when they were parked, which is never later than the present one.
	parked   heap[uint64, *queue]
	opening  item[*Host] // in sched.opening
	open     item[*Host] // in sched.open
	expected item[*Host] // in sched.expected
	standing standing
	silent   bool          // it is in sched.hushed
	since    time.Time     // the last answer, or the first start since nothing was in flight
	asked    bool          // for a permit
	permit   bool          // it has one; it is in sched.granted
	idle     *list.Element // in sched.idle
	rested   time.Time     // when it became idle

	slowStart bool      // it is in sched.slowStarts
	grower    *Lane     // that has pushed the last task while it was growing; nil when the host is known
	grown     time.Time // when it did

	throttle  throttle
	allowance *allowance // nil: the host has told no quota
	started   int        // requests so far

	prospects prospects

	taken time.Duration // moving average of the time a request holds its slot
	timed int           // samples in it
}

// A Memory can tell whether it would be missed.
type Memory interface {
	Matters(now time.Time) bool
}

// Key returns the host's key.
func (h *Host) Key() string { return h.key }

// PausedUntil returns the instant before which the host is not to be called; zero if
// there is none.
func (h *Host) PausedUntil() time.Time { return h.throttle.until }

// Quota returns the starts that are left of the quota that the host has told, and its reset,
// which is zero if none is known or it has come.
func (h *Host) Quota(now time.Time) (left int, reset time.Time) {
	if h.allowance == nil || !h.allowance.reset.After(now) {
		return 0, time.Time{}
	}
	return h.allowance.left(h.inFlight), h.allowance.reset
}

// Overrule says whether requests may start although nothing is left of the host's quota.
func (h *Host) Overrule(now time.Time, may bool) {
	if h.allowance != nil && h.allowance.advice != may {
		h.allowance.advice = may
		h.rerank(now)
	}
}

// Refusing returns when the host first throttled a request since it last accepted one;
// zero if it did not.
func (h *Host) Refusing() time.Time { return h.throttle.refusing }

// Lanes yields the lanes that have tasks of the host.
func (h *Host) Lanes() iter.Seq[*Lane] {
	return func(yield func(*Lane) bool) {
		for q := h.first; q != nil; {
			next := q.next // the lane may evict this one
			if !yield(q.lane) {
				return
			}
			q = next
		}
	}
}

func (h *Host) join(q *queue) {
	q.next = h.first
	if h.first != nil {
		h.first.previous = q
	}
	h.first = q
	h.queues++
}

func (h *Host) part(q *queue) {
	if q.previous != nil {
		q.previous.next = q.next
	} else {
		h.first = q.next
	}
	if q.next != nil {
		q.next.previous = q.previous
	}
	q.previous, q.next = nil, nil
	h.queues--
}

// room reports whether limits allow one more in flight.
func (h *Host) room() bool {
	return (h.limit == 0 || h.inFlight < h.limit) && h.throttle.room(h.inFlight) && h.allowance.room(h.inFlight)
}

// atShare reports whether the host, which has no limit of its own, has its
// share of the slots, and gets more only when no other host can start.
func (h *Host) atShare() bool {
	return h.limit == 0 && h.inFlight >= h.sched.share
}

// opens returns the first instant, now or later, at which time allows a start.
func (h *Host) opens(now time.Time) time.Time {
	at := later(h.bucket.opens(now), h.throttle.opens())
	if h.allowance == nil && !h.slowStart {
		return at // the common case, in the hot path
	}
	return later(at, later(h.allowance.opens(h.inFlight, h.taken), h.slowStartOpens()))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// admits reports whether a request can start now without more than the share.
func (h *Host) admits(now time.Time) bool {
	return h.room() && !h.hasAsked() && !h.silent && !h.atShare() && !h.opens(now).After(now)
}

// bounded reports whether the host can be done later than the slots alone would
// have it, so that it can be critical.
func (h *Host) bounded() bool {
	return h.limit > 0 && h.limit < h.sched.slots || h.paced()
}

// paced reports whether the starts per second are limited.
func (h *Host) paced() bool {
	return h.bucket != nil || h.throttle.pace > 0 || h.allowance.limit() > 0
}

// lowerBound returns the least time in seconds in which n requests can be done, when
// each takes t.
func (h *Host) lowerBound(n int, t time.Duration) float64 {
	slots := h.sched.slots
	if h.limit > 0 {
		slots = min(slots, h.limit)
	}
	bound := float64(n) * t.Seconds() / float64(slots)
	if limit := h.bucket.limit(); limit > 0 {
		bound = max(bound, float64(n-1)/limit)
	}
	if pace := h.throttle.pace; pace > 0 {
		bound = max(bound, float64(n-1)/pace)
	}
	if limit, more := h.allowance.limit(), n-1; limit > 0 && more > h.allowance.left(h.inFlight) {
		bound = max(bound, float64(more-h.allowance.left(h.inFlight))/limit)
	}
	return bound
}

// sample takes note of a request that took d.
func (h *Host) sample(d time.Duration) {
	if h.timed == 0 {
		h.taken = d
		h.sched.firsts.add(d)
	} else {
		h.taken += time.Duration(float64(d-h.taken) * max(0.1, 1/float64(1+h.timed)))
	}
	h.timed++
}

// settle keeps the host, while queues are parked at it, among the scheduler's open
// hosts if it admits a request, and among the opening ones if only time keeps it from
// that.
func (h *Host) settle(now time.Time) {
	s := h.sched
	if h.parked.len() == 0 || !h.room() {
		s.opening.remove(&h.opening)
		s.open.remove(&h.open)
		return
	}
	if at := h.opens(now); at.After(now) {
		s.open.remove(&h.open)
		s.opening.put(s.nanos(at), &h.opening)
		return
	}
	s.opening.remove(&h.opening)
	if h.hasAsked() || h.silent || h.atShare() {
		// nextGranted or overShare look for it.
		s.open.remove(&h.open)
		return
	}
	first, _ := h.parked.min()
	s.open.put(first, &h.open)
}

// firstStartable returns the parked queue to be served first, or nil. Queues of lanes that are
// held go to their shelves.
func (h *Host) firstStartable(now time.Time) *queue {
	for h.parked.len() > 0 {
		q := h.firstParked()
		if !q.lane.withholds(q) {
			return q
		}
		h.parked.remove(&q.parked)
		q.lane.shelf.put(q.oldest(), &q.shelved)
		h.settle(now)
	}
	return nil
}

// firstParked returns the parked queue whose lane has been served least,
// bringing keys up to date that stand in the way.
func (h *Host) firstParked() *queue {
	for {
		turn, q := h.parked.min()
		if q.lane.next() == turn {
			return q
		}
		h.parked.put(q.lane.next(), &q.parked)
	}
}

func (h *Host) park(q *queue) {
	h.parked.put(q.lane.next(), &q.parked)
}

// start counts a request as started, and reports whether a quota that the host has told
// allows it.
func (h *Host) start(now time.Time) (allowed bool) {
	allowed = h.allowance.start(now, h.started, h.inFlight)
	h.started++
	if h.inFlight++; h.inFlight == 1 {
		h.await(now)
	}
	h.beginSlowStart()
	h.bucket.take(now)
	h.throttle.start(now, h.inFlight)
	if h.limit == 0 && h.inFlight == h.sched.share {
		h.sched.full = append(h.sched.full, h)
	}
	return allowed
}

// finish counts a request as ended.
func (h *Host) finish(now time.Time, t Task, o Outcome) {
	if h.limit == 0 && h.inFlight == h.sched.share {
		h.sched.removeFull(h)
	}
	h.inFlight--
	h.endSlowStart()
	took := now.Sub(t.Started)
	h.sample(took)
	h.prospects.sample(took, o)
	h.hearQuota(now, t, o)
	h.throttle.finish(now, h, t, o)
	h.hear(now, took, o.answered())
}

// matters reports whether forgetting the host would change what may start.
func (h *Host) matters(now time.Time) bool {
	return !h.bucket.full(now) || h.throttle.matters() || h.throttle.until.After(now) ||
		h.allowance.matters(now, h.sched.slots) || h.familiar() || h.Memory != nil && h.Memory.Matters(now)
}

// most is the number of requests in flight that limits and slots allow.
func (h *Host) most() int {
	if h.limit > 0 {
		return min(h.sched.slots, h.limit)
	}
	return h.sched.slots
}
