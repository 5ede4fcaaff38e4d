package sched

import (
	"math"
	"time"
)

// A Quota is the statement of a host about the starts that follow the request that told it.
// Without Reset it says nothing.
type Quota struct {
	Left  int           // starts that the host still takes
	Size  int           // of a whole quota; 0 is not known
	Reset time.Duration // until it is whole again
}

// usedUp reports whether the quota allows no start.
func (q Quota) usedUp() bool { return q.Reset > 0 && q.Left == 0 }

// An allowance counts the starts that a host still takes by its own account. While any are left
// it holds nothing back; with none left the host waits for the reset, and then gets a whole
// quota as a first guess. While that lasts, no more start than were guessed until an answer tells.
//
// A request in flight counts against the quota until it is answered, as nobody knows which of
// two requests the server counted first. For the same reason answers contradict each other, and are
// taken in rounds: a request that started after the first answer of a round has certainly been
// counted after that answer, and begins the next round. Within a round the least counts.
//
// The nil allowance, of a host that has told no quota, allows everything.
type allowance struct {
	size    int           // of a whole quota
	least   int           // the least that an answer of this round has told
	recent  int           // the least of those after the first of the round
	round   int           // the starts before this round
	known   int           // of the starts, up to which the server is known to have counted all
	counted int           // of them, in flight
	latest  time.Time     // the last start
	period  time.Duration // the longest time to a reset that was told
	renewed time.Time     // the last reset that has come; zero: there was none
	whole   time.Time     // when a bucket that was full at renewed is full again after the starts since
	advice  bool          // the reset is too far away to wait for
	renewal               // that is to come

	// A whole quota is a bad guess if others use the quota too. After a refusal of a start that
	// the quota should have allowed, the first guess is one start.
	doubted  bool
	late     bool // a reset that was early came too early once
	byStarts bool // the last reset that has come was
	refuted  bool // and such a one came too early once
	excused  int  // refusals since the reset
	trusting bool // no refusal before the reset
}

// A renewal is a reset as it was told.
type renewal struct {
	reset    time.Time // zero: none was told, and least is a guess
	early    bool      // it was counted from the start of the request that told it
	ofStarts bool      // it is by the times of all starts, see restored
	told     int       // the starts when it was told
	flying   int       // of them, in flight
}

// hearQuota takes note of the end of a request.
func (h *Host) hearQuota(now time.Time, t Task, o Outcome) {
	if h.allowance == nil {
		if o.Quota.Reset == 0 {
			return
		}
		h.allowance = &allowance{latest: now, recent: math.MaxInt}
	}
	if forget := h.allowance.finish(now, t, o, h.started, h.inFlight); forget {
		h.allowance = nil
	}
}

// left returns the starts that are left with so many requests in flight.
func (a *allowance) left(inFlight int) int { return max(0, a.least-(inFlight-a.counted)) }

// A request that hangs does not count against the quota for ever: the server has counted it
// after so many times the usual time of a request, and a second.
const hanging = 4

// opens returns the first instant at which a start is allowed; zero is now. taken is the usual
// time of a request.
func (a *allowance) opens(inFlight int, taken time.Duration) time.Time {
	if a == nil || a.advice || a.reset.IsZero() || a.left(inFlight) > 0 {
		return time.Time{}
	}
	if counted := a.latest.Add(max(hanging*taken, time.Second)); a.least > 0 && counted.Before(a.reset) {
		return counted
	}
	return a.reset
}

// room reports whether a start need not wait for an answer.
func (a *allowance) room(inFlight int) bool {
	return a == nil || !a.reset.IsZero() || a.left(inFlight) > 0
}

// renew begins a new quota when the reset has come. Requests in flight that started after the answer that
// told it count against the new one: a bucket is only whole by then if none has come since.
func (a *allowance) renew(now time.Time, started int) {
	if a.reset.IsZero() || now.Before(a.reset) {
		return
	}
	a.least, a.recent, a.round = a.size, math.MaxInt, started
	if a.doubted {
		a.least = 1
	}
	a.count(a.told, a.flying)
	a.renewed, a.whole = a.reset, a.reset
	a.byStarts, a.ofStarts = a.ofStarts, false
	a.reset, a.advice = time.Time{}, false
	a.trusting, a.excused = !a.doubted, 0
}

// count says that the server has counted so many starts, of which some are in flight.
func (a *allowance) count(starts, inFlight int) { a.known, a.counted = starts, inFlight }

// start counts a start, before which there were so many. It reports whether the quota allowed
// it, as far as that is known.
func (a *allowance) start(now time.Time, started, inFlight int) (allowed bool) {
	if a == nil {
		return false
	}
	a.renew(now, started)
	if !a.advice && a.left(inFlight) == 0 {
		a.count(started, inFlight) // they have hung for long enough
	}
	a.latest = now
	a.whole = later(a.whole, now).Add(a.period / time.Duration(a.size))
	return a.left(inFlight) > 0
}

// finish takes note of the end of a request, after so many starts. inFlight is without it. It
// reports whether the quota is to be forgotten.
func (a *allowance) finish(now time.Time, t Task, o Outcome, started, inFlight int) (forget bool) {
	a.renew(now, started)
	if t.number <= a.known {
		a.counted--
	}
	if t.number <= a.told {
		a.flying--
	}
	guessing := a.size > 0 && a.reset.IsZero()
	switch {
	case guessing && t.number <= a.known: // for the quota before
	case guessing && t.number <= a.round:
		// It started before the reset, and who knows which quota it counts for. If it is the last that
		// could tell, it is believed.
		if a.least = max(0, a.least-1); inFlight == 0 && !a.room(0) && o.Quota.Reset > 0 {
			a.round = t.number - 1
			a.tell(now, t, o.Quota, started, inFlight)
		}
	case o.Quota.Reset > 0:
		a.tell(now, t, o.Quota, started, inFlight)
	case guessing && o.Verdict == Accepted:
		return true // the host does not tell any more
	default:
		a.least = max(0, a.least-1) // the server may have counted it
	}
	return inFlight == 0 && !a.room(0) // nothing is in flight that could tell
}

// brief is the longest time to a reset that is counted from about the start of the request. Most
// servers tell it in whole seconds, and as of the arrival of the request. Where it is long it does
// not matter that the answer takes its time; where it is brief much of it would be lost.
const brief = 2 * time.Second

// restored returns when the quota is whole again by the times of its starts: a bucket fills from the
// first of them on, and a window that others use too ends a period after the last.
func (a *allowance) restored() time.Time { return later(a.whole, a.renewed.Add(a.period)) }

// foretold returns the reset that a quota tells.
func (a *allowance) foretold(now time.Time, t Task, q Quota) (r renewal) {
	r.reset, r.early = now.Add(q.Reset), q.Reset <= brief && !a.late
	if !r.early {
		return r
	}
	took := now.Sub(t.Started)
	underway := min(max(took/10, 5*time.Millisecond), took)
	r.reset = t.Started.Add(underway + q.Reset)
	// In whole seconds it is told as of the last start, and up to a second too late. With
	// something left, answers out of order would have it come too early.
	if q.Left == 0 && q.Reset%time.Second == 0 && !a.renewed.IsZero() && !a.refuted {
		restored := a.restored().Add(underway)
		if before := r.reset.Sub(restored); before > 0 && before < time.Second {
			r.reset, r.ofStarts = restored, true
		}
	}
	r.reset = later(r.reset, now.Add(1))
	return r
}

// tell takes note of a quota.
func (a *allowance) tell(now time.Time, t Task, q Quota, started, inFlight int) {
	a.period = max(a.period, q.Reset)
	next := a.foretold(now, t, q)
	next.told, next.flying = started, inFlight
	if a.byStarts && a.reset.IsZero() && t.number > a.round {
		// It was not whole, if less is left than without the starts since.
		a.refuted = a.refuted || q.Left+1 < a.size-(started-a.round)
	}
	switch {
	case t.number > a.round:
		// An answer of the round before can have overtaken this one, and be about later.
		a.least, a.recent, a.round = min(q.Left, a.recent), math.MaxInt, started
		a.renewal, a.advice = next, false
	case q.Left < a.least || q.Left == a.least && next.reset.Before(a.reset):
		a.least, a.renewal = q.Left, next
		a.recent = min(a.recent, q.Left)
	default:
		a.recent = min(a.recent, q.Left)
	}
	if q.Size > 0 {
		a.size = max(q.Size, q.Left)
	} else {
		a.size = max(a.size, q.Left+1)
	}
}

// excuse reports whether a refusal is explained by a quota that is used up: nothing is to be
// learnt from it then. The quota may not have been known when the request started, or others
// use it too, or the request has overtaken others. But it must not happen often.
func (a *allowance) excuse(q Quota, allowed bool) bool {
	switch {
	case !q.usedUp():
		return false
	case !allowed || a == nil:
		return true
	}
	switch {
	case a.byStarts:
		a.refuted = true
	case a.early:
		a.late = true
	default:
		a.doubted = true
	}
	a.excused++
	return a.trusting || a.excused <= 2
}

// limit returns the starts per second that the quota allows in the long run; 0 is not known.
func (a *allowance) limit() float64 {
	if a == nil || a.advice {
		return 0
	}
	return float64(a.size) / a.period.Seconds()
}

// matters reports whether forgetting the quota could have more started than are left.
func (a *allowance) matters(now time.Time, slots int) bool {
	return a != nil && (a.size <= slots || a.reset.After(now))
}
