package sched

import "time"

// Slow start. Nothing is known of a host before its first answer, and what is in flight by then
// can be far more than its quota. So a host that could get a crowd of requests at once begins with
// Config.InitialWindow, and gets the others when one of these has ended, well or badly. Unlike that of TCP
// the window does not double from then on: what the host tells is heard by now. This costs the time of an
// answer, which must be little beside what is left to do.
const (
	// DefaultInitialWindow is as many as TCP begins with (RFC 6928).
	DefaultInitialWindow = 10
	// A crowd is more than 4 windows, which are 40 requests: of fewer few can be refused.
	crowd = 4
	// More than 12 windows of tasks must be left, two rounds of 64 slots, and more than there are slots.
	enough = 12
	// longestSlowStart counts from the first start. A host that takes longer to answer is slow anyway.
	longestSlowStart = time.Second
)

// Expect says whether more tasks are to be pushed, nobody knows how many.
func (l *Lane) Expect(now time.Time, more bool) {
	l.growing = more
	for _, h := range l.sched.slowStarts {
		h.settle(now)
	}
}

// beginSlowStart begins the slow start of a host that has its initial window in flight, if
// nothing is known of it.
func (h *Host) beginSlowStart() {
	s := h.sched
	window := s.config.InitialWindow
	if window > 0 && h.inFlight == window && h.timed == 0 && h.most() > crowd*window && h.bucket == nil && h.allowance == nil {
		h.slowStart = true
		s.slowStarts = append(s.slowStarts, h)
	}
}

// endSlowStart ends the slow start of the host, if it is in one.
func (h *Host) endSlowStart() {
	if h.slowStart {
		h.slowStart = false
		h.sched.slowStarts = without(h.sched.slowStarts, h)
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

// awaitsEnough reports whether there is enough to do for the host, or may be.
func (h *Host) awaitsEnough() bool {
	s := h.sched
	if h.prospects.queued+h.prospects.delayed > max(enough*s.config.InitialWindow, s.slots) {
		return true
	}
	for q := h.first; q != nil; q = q.next { // no more than these tasks, and those in flight
		if q.lane.growing {
			return true
		}
	}
	return false
}

// familiar reports whether the host has been called so often that it should need no slow start
// when it is called again.
func (h *Host) familiar() bool {
	window := h.sched.config.InitialWindow
	return window > 0 && h.timed > 0 && h.started > enough*window
}

// slowStartsWait reports whether a host waits for the end of its slow start to start something.
func (s *Scheduler) slowStartsWait() bool {
	for _, h := range s.slowStarts {
		if h.opening.queued() {
			return true
		}
	}
	return false
}
