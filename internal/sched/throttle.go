package sched

import "time"

// An Outcome is the message of a finished request about its host.
type Outcome struct {
	Verdict Verdict
	// Pause is how long a throttling host asked to wait; 0 is that it did not say.
	Pause time.Duration
	Quota Quota
	// Answered tells that a Neutral request was answered all the same.
	Answered bool
}

func (o Outcome) answered() bool { return o.Answered || o.Verdict != Neutral }

// A Verdict is one of Neutral, Accepted and Throttled.
type Verdict uint8

const (
	Neutral   Verdict = iota // says nothing: an error, for example
	Accepted                 // the host took the request
	Throttled                // the host asks for fewer requests
)

// A throttle keeps a host from being asked for more than it accepts. A refusal pauses
// the host; then a single request probes it; then a window on the requests in flight
// and a pace for their starts hold back the rest. It takes both. Without the window, all
// tasks that have waited for the end of the pause start at once, and a server that counts
// the requests it is working on refuses most of them. Without the pace, the host refuses
// again as soon as the window is open.
//
// The zero throttle allows everything, and costs next to nothing until the first refusal.
type throttle struct {
	until    time.Time // the end of the pause
	refusing time.Time // the first refusal since the last acceptance; zero: none
	pace     float64   // starts per second; 0 is no pace
	since    time.Time // the end of the last pause or, if there was none, the first start
	accepted int       // since then
	*lesson            // nil: the host has refused nothing, or not for long
}

// A lesson is the knowledge about a host that its refusals have brought.
type lesson struct {
	incident time.Time // the last; refusals of requests that started before belong to it
	refusals int       // incidents since the last acceptance
	probed   bool      // the pause after the incident has ended, and the probe started
	paused   time.Duration
	stale    int // in flight from before the incident: if they hang, the probe must not wait for them
	window   window
	pacing   pacing
}

// room reports whether the window allows one more request, where so many are in flight.
func (t *throttle) room(inFlight int) bool {
	return t.lesson == nil || t.window.room(inFlight-t.stale)
}

// opens returns the first instant at which a start is allowed; zero is now.
func (t *throttle) opens() time.Time {
	if t.lesson == nil {
		return t.until
	}
	return later(t.until, t.pacing.next)
}

// start takes note of a start that brings the requests in flight to the given number.
func (t *throttle) start(now time.Time, inFlight int) {
	if t.since.IsZero() {
		t.since = now
	}
	if t.lesson == nil {
		return
	}
	if !t.probed {
		t.probe()
	}
	t.window.start(now, inFlight)
	t.spend(now)
}

// probe ends the pause. Only now is anything learnt from the incident, since acceptances
// of the wave that met the refusal can have come after it.
func (t *throttle) probe() {
	t.probed = true
	t.paused = t.until.Sub(t.incident)
	t.learn()
	t.window.reset()
	t.since, t.accepted = t.until, 0
}

// finish takes note of the outcome of a request.
func (t *throttle) finish(now time.Time, h *Host, task Task, o Outcome) {
	started := task.Started
	if t.lesson != nil && t.stale > 0 && !started.After(t.incident) {
		t.stale--
	}
	switch o.Verdict {
	case Accepted:
		t.refusing = time.Time{}
		t.accepted++
		if t.lesson != nil && started.After(t.incident) {
			t.relax(now, h, started)
		}
	case Throttled:
		t.refuse(now, h, task, o)
	}
}

// relax takes note of an acceptance since the incident.
func (t *throttle) relax(now time.Time, h *Host, started time.Time) {
	t.refusals = 0
	full := t.window.full(h.inFlight + 1 - t.stale)
	t.window.accept(started, full, t.waited(now, t.window.patience))
	if t.pace > 0 {
		t.window.open()
	}
	if t.window.size >= h.most() {
		t.window.size = 0
	}
	if t.pace > 0 && !full {
		t.raise(now, h, started)
	}
	if t.pace == 0 && t.waited(now, obsolete*max(t.window.patience, t.pacing.patience)) {
		t.lesson, t.until = nil, time.Time{}
	}
}

// Patience is the time, in lengths of the last pause, before the host is asked for more than
// it is known to accept. It doubles when the host refuses the attempt. More patience would
// make for fewer refusals, but a quota that was raised would be found too late.
const (
	leastPatience = 1
	somePatience  = 2
	mostPatience  = 8
	obsolete      = 4 // times the patience without an incident, and the lesson no longer holds
)

// waited reports whether n times the length of the last pause has passed since then
// without an incident, and a few acceptances each time: pauses can be very short. They can
// be very long, too, and a host that is well again is not held back for hours.
func (t *throttle) waited(now time.Time, n int) bool {
	return t.accepted >= 7*n && now.Sub(t.since) >= time.Duration(n)*min(t.paused, 10*time.Second)
}

// refuse takes note of a refusal. Refusals of requests that were in flight together are
// one incident, as they say the same thing. A refusal that a quota explains is none.
func (t *throttle) refuse(now time.Time, h *Host, task Task, o Outcome) {
	config, started, pause := &h.sched.config, task.Started, o.Pause
	if pause == 0 && config.PauseMax == 0 {
		return
	}
	if t.refusing.IsZero() {
		t.refusing = now
	}
	if h.allowance.excuse(o.Quota, task.allowed) {
		t.until = later(t.until, now.Add(pause))
		return
	}
	if t.lesson == nil {
		t.lesson = &lesson{window: newWindow(h.inFlight + 1), pacing: newPacing()}
	}
	if t.incident.IsZero() || started.After(t.incident) {
		t.blame(now, started)
		t.incident, t.stale, t.probed = now, h.inFlight, false
		if pause == 0 {
			pause = doubled(max(config.PauseBase, time.Millisecond), config.PauseMax, t.refusals)
		}
		t.refusals++
	}
	t.until = later(t.until, now.Add(pause))
}

// blame closes the window but for a probe, and works out whether it was the window or
// the pace that was too much. The refusal of a probe tells neither: halving the pace each time
// would leave next to nothing of it by the end of an outage.
func (t *throttle) blame(now, started time.Time) {
	if t.refusals == 0 && !t.incident.IsZero() {
		alone := t.window.shrink(started, t.waited(now, t.window.patience))
		if !alone {
			t.lower(now, started)
		}
	}
	t.window.size = 1
	t.holdBack(now)
}

// doubled returns base·2ⁿ, at most limit.
func doubled(base, limit time.Duration, n int) time.Duration {
	for ; n > 0; n-- {
		if base > limit/2 {
			return limit
		}
		base *= 2
	}
	return min(base, limit)
}

// matters reports whether anything has been learnt that may still hold.
func (t *throttle) matters() bool { return t.lesson != nil }
