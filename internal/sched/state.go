package sched

import "time"

// A State is what refusals have taught about a host, to be kept elsewhere. The zero State is that
// of a host that has refused nothing.
type State struct {
	Until    time.Time // the end of the pause
	Refusing time.Time // the first refusal since the last acceptance
	Pace     float64   // starts per second; 0 is no pace
	Window   int       // requests in flight that it is known to accept; 0 is not known
	Spent    time.Time // when the bucket of its rate was empty, if nothing has been taken since
}

// State returns what refusals have taught about the host.
func (h *Host) State(now time.Time) State {
	t := &h.throttle
	s := State{Until: t.until, Refusing: t.refusing, Pace: t.pace, Spent: h.bucket.spent(now)}
	if t.lesson != nil {
		s.Window = t.window.good
	}
	return s
}

// Resume has a host that is kept go on from a State, as it would after a refusal at the given
// time: with a probe, and then at the pace.
func (s *Scheduler) Resume(now time.Time, key string, state State) {
	h := s.hosts[key]
	h.throttle = throttle{}
	h.bucket.empty(state.Spent)
	if state.Until.After(now) || state.Pace > 0 {
		h.throttle.resume(now, state, h.inFlight)
	}
	h.settle(now)
}

func (t *throttle) resume(now time.Time, s State, inFlight int) {
	t.until, t.refusing, t.pace = later(s.Until, now), s.Refusing, s.Pace
	t.lesson = &lesson{incident: now, refusals: 1, window: newWindow(2 * s.Window), pacing: newPacing()}
	t.stale = inFlight
	t.window.size = 1
	t.pacing.ceiling = s.Pace
}
