package sched

import (
	"slices"
	"time"
)

// Slow start. Nothing is known of a host before its first answer, and what is in flight by then
// can be far more than its quota. So a host that could get a crowd of requests at once begins with
// Config.InitialWindow, and gets the others when one of these has ended, or when that takes too
// long. It costs about the time of one answer, which must be little beside what is left to do.
const (
	// A crowd is more than so many windows: of fewer requests few can be refused.
	crowd = 4
	// More than so many windows of tasks must be left, and more than there are slots.
	enough = 12

	longestSlowStart = time.Second
)

// Unknown is the number of tasks to come where nobody can tell.
const Unknown = 1 << 30

// Expect says how many tasks are still to be pushed.
func (l *Lane) Expect(now time.Time, n int) {
	l.coming = n
	for _, h := range l.sched.slowStarts {
		h.settle(now)
	}
}

// beginSlowStart begins the slow start of a host that has its initial window in flight, if
// nothing is known of it.
func (h *Host) beginSlowStart() {
	s := h.sched
	window := s.config.InitialWindow
	if window > 0 && h.inFlight == window && h.timed == 0 && h.most() > crowd*window &&
		h.bucket == nil && h.allowance == nil && h.throttle.lesson == nil {
		h.slowStart = true
		s.slowStarts = append(s.slowStarts, h)
	}
}

// endSlowStart ends the slow start of the host, if it is in one.
func (h *Host) endSlowStart() {
	if h.slowStart {
		h.slowStart = false
		s := h.sched
		i := slices.Index(s.slowStarts, h)
		s.slowStarts = slices.Delete(s.slowStarts, i, i+1)
	}
}

// slowStartEnds returns the instant at which slow start ends if nothing is heard by then; zero is
// that it does not hold the host back.
func (h *Host) slowStartEnds() time.Time {
	if !h.slowStart || !h.awaitsEnough() {
		return time.Time{}
	}
	return h.since.Add(longestSlowStart)
}

// awaitsEnough reports whether there is enough to do for the host, or may be. It looks at no
// more queues than that, as each has a task.
func (h *Host) awaitsEnough() bool {
	s := h.sched
	least := max(enough*s.config.InitialWindow, s.slots)
	n := h.prospects.queued + h.prospects.delayed
	for q := h.first; q != nil && n <= least; q = q.next {
		n += q.lane.coming
	}
	return n > least
}

// slowStartsWait reports whether a host waits for the end of its slow start to start something.
func (s *Scheduler) slowStartsWait() bool {
	return slices.ContainsFunc(s.slowStarts, func(h *Host) bool { return h.opening.queued() })
}
