package sched

import (
	"math"
	"time"
)

// A State is what a host has told and refusals have taught, to be kept elsewhere. The zero State is
// that of a host that has refused and told nothing.
type State struct {
	Until    time.Time // the end of the pause
	Refusing time.Time // the first refusal since the last acceptance
	Pace     float64   // starts per second; 0 is no pace
	Window   int       // requests in flight that it is known to accept; 0 is not known
	Spent    time.Time // when the bucket of its rate was empty, if nothing has been taken since

	Quota Quota     // without Reset
	Reset time.Time // of the quota; zero: none is known
}

// State returns what is known of the host.
func (h *Host) State(now time.Time) State {
	t := &h.throttle
	s := State{Until: t.until, Refusing: t.refusing, Pace: t.pace, Spent: h.bucket.spent(now)}
	if t.lesson != nil {
		s.Window = t.window.good
	}
	if left, reset := h.Quota(now); !reset.IsZero() {
		s.Quota, s.Reset = Quota{Left: left, Size: h.allowance.size}, reset
	}
	return s
}

// Resume has a host that is kept go on from a State, as it would after a refusal at the given
// time: with a probe, and then at the pace.
func (s *Scheduler) Resume(now time.Time, key string, state State) {
	h := s.hosts[key]
	h.throttle = throttle{}
	h.allowance = nil
	h.bucket.empty(state.Spent)
	if state.Reset.After(now) {
		h.allowance = resumed(now, state, h.started, h.inFlight)
	}
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

// resumed returns the allowance of a host whose quota is known from elsewhere. The requests in
// flight have been counted there.
func resumed(now time.Time, s State, started, inFlight int) *allowance {
	a := &allowance{
		least: s.Quota.Left, size: max(1, s.Quota.Size, s.Quota.Left), recent: math.MaxInt,
		round: started, latest: now, period: s.Reset.Sub(now),
		renewal: renewal{reset: s.Reset, told: started, flying: inFlight},
	}
	a.count(started, inFlight)
	return a
}
