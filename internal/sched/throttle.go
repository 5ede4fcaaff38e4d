package sched

import "time"

// An Outcome says what a finished request tells about its host.
type Outcome struct {
	Verdict Verdict
	// Pause is how long a throttling host asked to wait; 0 is not at all.
	Pause time.Duration
}

// A Verdict is one of Neutral, Accepted and Throttled.
type Verdict uint8

const (
	Neutral   Verdict = iota // says nothing: an error, for example
	Accepted                 // the host took the request
	Throttled                // the host asks for fewer requests
)

// A throttle is what a host has taught about the requests that it accepts: a
// pause, a window on the requests in flight, and a pace for their starts. The
// zero throttle has been taught nothing and allows everything.
type throttle struct {
	until     time.Time // the end of the pause
	refusing  time.Time // the first refusal since the last acceptance; zero: none
	incident  time.Time // of the last: refusals of requests that started before belong to it
	incidents int       // since the last acceptance
	unlearned bool      // the last incident: its pause has not ended

	window    float64 // requests in flight; 0 is no window
	threshold float64 // up to which the window grows fast

	pace float64   // starts per second; 0 is no pace
	next time.Time // start by the pace

	accepted int       // since the last learning, or ever
	since    time.Time // the last learning, or the first start
	grown    int       // acceptances since the last learning
	hold     int       // of these, how many must come before the pace is probed upwards
	holdTill time.Time
	recent   []int64 // when the last acceptances came, a ring, nanoseconds
	count    int     // all acceptances
}

const recentAcceptances = 64

// room reports whether the window allows one more in flight.
func (t *throttle) room(inFlight int) bool {
	return t.window == 0 || float64(inFlight+1) <= max(1, t.window)
}

// opens returns the first instant at which a start is allowed; zero is now.
func (t *throttle) opens() time.Time { return later(t.until, t.next) }

// start takes note of a start.
func (t *throttle) start(now time.Time) {
	if t.since.IsZero() {
		t.since = now
	}
	if t.unlearned {
		t.learn(now)
	}
	if t.pace > 0 {
		// Timers are late by a little; the pace makes up for 2 ms of it.
		t.next = later(t.next, now.Add(-2*time.Millisecond)).Add(time.Duration(float64(time.Second) / t.pace))
	}
}

// finish takes note of the outcome of a request that started at the given time.
func (t *throttle) finish(now time.Time, h *Host, started time.Time, o Outcome) {
	switch o.Verdict {
	case Accepted:
		t.accept(now, h)
	case Throttled:
		t.refuse(now, h, started, o.Pause)
	}
}

// refuse takes note of a refusal. Refusals of requests that were in flight together are
// one incident: they say the same thing.
func (t *throttle) refuse(now time.Time, h *Host, started time.Time, pause time.Duration) {
	config := h.sched.config
	if pause == 0 && config.PauseMax == 0 {
		return
	}
	if t.refusing.IsZero() {
		t.refusing = now
	}
	first := t.incident.IsZero() || started.After(t.incident)
	if first {
		t.incident = now
		t.incidents++
		t.unlearned = true
		if t.window == 0 {
			t.window = float64(h.inFlight + 1)
		}
		t.threshold = max(1, t.window/2)
		t.window = 1
	}
	if pause == 0 && first {
		pause = doubled(config.PauseBase, config.PauseMax, t.incidents-1)
	}
	t.until = later(t.until, now.Add(pause))
}

// doubled returns base·2ⁿ, at most limit.
func doubled(base, limit time.Duration, n int) time.Duration {
	for ; n > 0 && base < limit; n-- {
		base *= 2
	}
	return min(base, limit)
}

func (t *throttle) accept(now time.Time, h *Host) {
	t.refusing, t.incidents = time.Time{}, 0
	t.accepted++
	t.remember(h.sched.nanos(now))
	if t.window > 0 {
		t.open(h)
	}
	if t.pace > 0 {
		t.probe(now, h)
	}
}

func (t *throttle) remember(nanos int64) {
	if len(t.recent) < recentAcceptances {
		t.recent = append(t.recent, nanos)
	} else {
		t.recent[t.count%recentAcceptances] = nanos
	}
	t.count++
}

// open widens the window: slow start below the threshold, then by one a round.
func (t *throttle) open(h *Host) {
	if t.window < t.threshold {
		t.window++
	} else {
		t.window += 1 / t.window
	}
	limit := h.sched.slots
	if h.limit > 0 {
		limit = min(limit, h.limit)
	}
	if t.window >= float64(limit) {
		t.window = 0
	}
}

// learn works out the pace when a pause has ended: not earlier, since acceptances of
// the wave that met the refusal may still be on their way.
func (t *throttle) learn(now time.Time) {
	t.unlearned = false
	passed := now.Sub(t.since).Seconds()
	if passed > 0 && t.accepted > 0 {
		t.setPace(t.estimate(now, passed))
	} else if t.accepted == 0 && t.pace > 0 && t.grown >= 0 {
		t.setPace(t.pace / 2)
		t.grown = -1
	}
	t.hold = min(t.accepted, 30)
	t.holdTill = now.Add(min(2*time.Second, 4*t.until.Sub(t.incident)))
	t.accepted, t.grown, t.since = 0, 0, now
	t.next = now
}

func (t *throttle) setPace(pace float64) {
	if t.accepted < 5 && t.pace > 0 {
		pace = max(pace, t.pace/2)
	}
	t.pace = pace
}

// estimate returns the rate that the host has accepted, pauses included.
func (t *throttle) estimate(now time.Time, passed float64) float64 {
	return float64(t.accepted) / passed
}

// probe raises the pace, the more the longer it has been accepted, until it binds no more.
func (t *throttle) probe(now time.Time, h *Host) {
	t.grown++
	if now.Before(t.holdTill) {
		t.hold = max(t.hold, t.grown)
	}
	if t.grown <= t.hold {
		return
	}
	t.pace *= 1 + min(0.05, 0.002*float64(t.grown-t.hold))
	if t.pace > 4*float64(h.sched.slots)/h.taken.Seconds() {
		t.pace, t.next = 0, time.Time{}
	}
}

// matters reports whether anything has been learnt that still holds.
func (t *throttle) matters() bool {
	return t.window > 0 || t.pace > 0 || !t.refusing.IsZero()
}
