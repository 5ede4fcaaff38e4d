package sched

import (
	"math"
	"time"
)

// A pacing is the memory behind the pace of a host that has refused requests. The pace
// keeps to a ceiling, the rate that the host is thought to accept. When patience ends the pace
// creeps beyond the ceiling. Without a ceiling, or with an old one, it grows fast.
type pacing struct {
	next     time.Time // the next start that the pace allows
	ceiling  float64   // 0 is not known
	refused  float64   // the pace that the last incident was about; 0 is none
	raised   time.Time // when the pace was raised last
	before   float64   // the pace until then
	steps    int       // beyond the ceiling
	patience int       // see waited
}

func newPacing() pacing { return pacing{patience: somePatience} }

const (
	minPace = 1.0 / 60 // starts a second, so that no pace holds a host back for hours
	growth  = 1.5      // of a pace that grows fast
	creep   = 0.02     // more with each step
	margin  = 0.97     // of the rate that a host may accept: next to the brink chance decides
)

// interval returns the time from one start to the next.
func interval(pace float64) time.Duration {
	return time.Duration(float64(time.Second) / pace)
}

// perSecond returns the pace of n starts in the given time.
func perSecond(n int, d time.Duration) float64 {
	return float64(n) / max(d, time.Millisecond).Seconds()
}

// spend takes note of a start. Timers are late by a little, and the pace makes up for
// 2 ms of delay, but not for a time without tasks.
func (t *throttle) spend(now time.Time) {
	if t.pace == 0 {
		return
	}
	if now.Sub(t.pacing.next) > 2*time.Millisecond {
		t.pacing.next = now
	}
	t.pacing.next = t.pacing.next.Add(interval(t.pace))
}

// holdBack keeps the probe back until the host may have room for two: a pause can be
// shorter than that. Else the last URLs of a batch would use up their attempts as probes.
func (t *throttle) holdBack(now time.Time) {
	if t.pace > 0 {
		t.pacing.next = later(t.pacing.next, now.Add(2*interval(t.pace)))
	}
}

// lower takes note of the pace that was refused, which is the one before if it was
// raised when the request was on its way.
func (t *throttle) lower(now, started time.Time) {
	p := &t.pacing
	switch {
	case t.pace > 1.6*p.ceiling:
		p.patience = somePatience // the ceiling was far from the truth
	case t.waited(now, p.patience):
		p.patience = min(mostPatience, 2*p.patience)
	}
	switch {
	case t.pace == 0:
		p.refused = perSecond(t.accepted, now.Sub(t.since))
	case started.After(p.raised):
		p.refused = t.pace
	default:
		p.refused = p.before
	}
}

// learn sets the pace by the requests that the host has accepted from the last pause to this
// one: between the rate accepted and the rate refused, or, if no refused rate is known, at
// four requests a pause, from which the pace will grow.
func (t *throttle) learn() {
	p := &t.pacing
	switch {
	case t.accepted == 0:
	case p.refused > 0:
		least := min(max(t.rate(), p.refused/4), p.refused)
		p.ceiling = max(margin*math.Sqrt(least*p.refused), minPace)
		t.pace = p.ceiling
	case t.pace == 0:
		t.pace = max(t.rate(), perSecond(4, t.paused), minPace)
	}
	p.raised, p.before, p.refused, p.steps = t.until, t.pace, 0, 0
}

// rate returns how many requests a second the host has accepted. A host with a token bucket
// has no token left at an incident, but nobody knows whether tokens pile up during a
// pause. So the pause counts, unless it was short.
func (t *throttle) rate() float64 {
	passed := t.until.Sub(t.since)
	if active := passed - t.paused; active/2 > t.paused {
		passed = active
	}
	return perSecond(t.accepted, passed)
}

// raise raises the pace, at most once in the time of a request, and when one that started
// since the last time has been accepted.
func (t *throttle) raise(now time.Time, h *Host, started time.Time) {
	p := &t.pacing
	if started.Before(p.raised) || now.Sub(p.raised) < h.taken {
		return
	}
	by := growth
	switch {
	case p.ceiling == 0:
	case t.waited(now, obsolete*p.patience):
	case perSecond(t.accepted, now.Sub(t.incident)) > 1.05*p.ceiling:
		// No savings explain this, as there were none at the incident: the quota has been raised.
	case t.waited(now, p.patience) && t.pace < 1.5*p.ceiling:
		p.steps++
		by = 1 + creep*float64(p.steps)
	default:
		return
	}
	p.raised, p.before = now, t.pace
	t.pace *= by
	p.next = p.next.Add(interval(t.pace) - interval(p.before))
	if t.pace > perSecond(4*h.most(), h.taken) {
		// The time that requests take holds them back more than the pace does.
		t.pace, p.next = 0, time.Time{}
	}
}
