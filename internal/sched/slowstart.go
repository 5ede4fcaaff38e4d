package sched

import "time"

// Slow start. Nothing is known of a host before its first answer, and what is in flight by then
// can be far more than its quota. So a host that could get a crowd of requests at once begins with
// Config.InitialWindow, and twice as many with each second that passes without an answer. It gets all
// when a request has ended, well or badly: what the host tells is heard by then. This costs the time
// of an answer, which must be little beside what is left to do.
const (
	// DefaultInitialWindow is as many as TCP begins with (RFC 6928).
	DefaultInitialWindow = 10
	// A crowd is more than 4 windows, which are 40 requests: of fewer few can be refused.
	crowd = 4
	// More than 12 windows of tasks must be left, two rounds of 64 slots, and more than there are slots.
	enough = 12
	// A host that takes longer than that to answer is slow anyway.
	doubling = time.Second
	// A host that grows may have enough soon, but not if nothing was pushed for so long.
	lull = 10 * time.Millisecond
)

// Expect says whether more tasks are to be pushed soon.
func (l *Lane) Expect(now time.Time, more bool) {
	if l.growing == more {
		return
	}
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
		if !h.silent {
			h.expect() // it may be quiet for longer, see patience
		}
	}
}

// endSlowStart ends the slow start of the host, if it is in one.
func (h *Host) endSlowStart() {
	h.grower = nil
	if h.slowStart {
		h.slowStart = false
		h.sched.slowStarts = without(h.sched.slowStarts, h)
	}
}

// slowStartOpens returns the first instant at which slow start allows a start, if nothing is heard by then.
func (h *Host) slowStartOpens() time.Time {
	if !h.slowStart {
		return time.Time{}
	}
	opens := h.since
	for window := h.sched.config.InitialWindow; window <= h.inFlight; window *= 2 {
		opens = opens.Add(doubling)
	}
	switch {
	case h.awaitsEnough():
		return opens
	case h.grower == nil || !h.grower.growing:
		return time.Time{}
	}
	return earlier(opens, h.grown.Add(lull))
}

// awaitsEnough reports whether there is enough to do for the host.
func (h *Host) awaitsEnough() bool {
	s := h.sched
	return h.prospects.queued+h.prospects.delayed > max(enough*s.config.InitialWindow, s.slots)
}

// familiar reports whether the host has been called so often that it should need no slow start
// when it is called again.
func (h *Host) familiar() bool {
	window := h.sched.config.InitialWindow
	return window > 0 && h.started > enough*window
}

// slowStartsWait reports whether a host with enough to do waits for its first answer, which should
// come soon.
func (s *Scheduler) slowStartsWait(now time.Time) bool {
	for _, h := range s.slowStarts {
		if h.opening.queued() && h.awaitsEnough() && now.Before(h.since.Add(doubling)) {
			return true
		}
	}
	return false
}
