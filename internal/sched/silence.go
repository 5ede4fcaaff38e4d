package sched

import (
	"slices"
	"time"
)

// The dead do not crowd out the living. A host is silent while a request to it has been in
// flight for much longer than answers usually take, and nothing was heard of it since. Silent
// hosts start nothing more while others can, or will after their slow start. A lane in which they
// hold half the slots is in doubt: while a host that has answered can start something, no new one
// may, as it could be dead too. So the dead and the new share half the slots.
//
// Before the first answer nothing is known of any host. Half of the first requests of a list
// with many new hosts go to its end, lest a row of dead ones at its front take all slots. A
// lane in doubt looks for living hosts there, too.
//
// The scheduler hears of an answer when its slot comes back. A host that sends long bodies can
// count as silent: it is only served after others then.

// A standing says whether requests to a host can be expected to be answered.
type standing uint8

const (
	answering standing = iota // it has answered
	unheard                   // it is new
	mute                      // the last request took long, and there was no answer
	standings = iota
)

// usual is the running mean of the time that answers take.
type usual struct {
	mean time.Duration
	n    int
}

func (u *usual) add(d time.Duration) {
	u.n++
	u.mean += time.Duration(float64(d-u.mean) * max(1.0/50, 1/float64(u.n)))
}

// slow is how many times the usual time an answer takes when it takes long. Hosts differ: with
// less, slow ones count as dead, and the last of a batch are found late.
const slow = 10

// longest is how long an answer takes when it takes long, and false if there was none yet.
func (u *usual) longest() (time.Duration, bool) { return slow * u.mean, u.n > 0 }

// patience is how long a request to the host may go unanswered before the host is silent.
func (h *Host) patience() (time.Duration, bool) {
	longest, ok := h.sched.usual.longest()
	if h.standing == answering {
		longest = max(longest, hanging*h.taken)
	}
	if h.slowStart {
		longest += 2 * doubling // until then it has few requests that could be answered
	}
	return longest, ok
}

// await counts the time from now on until the host answers.
func (h *Host) await(now time.Time) {
	h.since = now
	h.expect()
}

// expect keeps the host among those that answers are expected of.
func (h *Host) expect() {
	s := h.sched
	patience, known := h.patience()
	if !known {
		patience = farAway
	}
	s.expected.put(s.nanos(h.since)+int64(min(patience, farAway)), &h.expected)
}

// notice takes note of the hosts that have become silent.
func (s *Scheduler) notice(now time.Time) {
	for s.expected.len() > 0 {
		at, h := s.expected.min()
		if at >= s.nanos(now) {
			return
		}
		s.expected.remove(&h.expected)
		h.hush(now)
	}
}

// hush makes the host silent.
func (h *Host) hush(now time.Time) {
	h.silent = true
	h.sched.hushed = append(h.sched.hushed, h)
	for q := h.first; q != nil; q = q.next {
		q.lane.doubt(q.inFlight)
	}
	h.rerank(now)
}

// speak ends the silence of the host, if it is silent.
func (h *Host) speak(now time.Time) {
	if !h.silent {
		return
	}
	h.silent = false
	h.sched.hushed = without(h.sched.hushed, h)
	for q := h.first; q != nil; q = q.next {
		q.lane.doubt(-q.inFlight)
	}
}

// rerank puts the queues of the host where they belong after its standing has changed.
func (h *Host) rerank(now time.Time) {
	for q := h.first; q != nil; q = q.next {
		if q.ready.queued() {
			q.settle(now)
		}
	}
	h.settle(now)
}

// hear takes note of the end of a request that took so long, which may have been an answer.
func (h *Host) hear(now time.Time, took time.Duration, answered bool) {
	s, before := h.sched, h.standing
	longest, known := s.usual.longest()
	switch {
	case answered:
		h.standing = answering
		h.speak(now)
		s.usual.add(took)
		if !known {
			for _, e := range slices.Clone(s.expected.entries) {
				e.item.value.expect() // now it is known for how long
			}
		}
	case h.silent, known && took > longest:
		h.standing = mute
	}
	switch {
	case h.inFlight == 0:
		s.expected.remove(&h.expected)
		h.speak(now)
	case answered:
		h.await(now)
	}
	if h.standing != before {
		h.rerank(now)
	}
}
