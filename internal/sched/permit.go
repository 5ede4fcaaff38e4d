package sched

import "time"

// With Config.HostPermits a host whose turn it is gets a permit first: the owner of the
// scheduler asks for one, without a slot, and answers when it has it. Then the host starts a
// request as soon as a slot is free. Turns are those of the requests themselves, so that permits
// are asked for in the order of service.

// hasAsked reports whether a permit has been asked for the next start of the host.
func (h *Host) hasAsked() bool { return h.asked || h.permit }

// Ask returns the host that could start a request next but for a permit. The host is not returned
// again before Answer and a start, and kept until Answer.
func (s *Scheduler) Ask(now time.Time) (key string, ok bool) {
	q := s.next(now)
	if q == nil {
		return "", false
	}
	h := q.host
	h.asked = true
	h.queues++
	for q := h.first; q != nil; q = q.next {
		if q.ready.queued() {
			q.settle(now) // parks it: nextGranted is to find it
		}
	}
	h.settle(now)
	return h.key, true
}

// Answer ends Ask, with a permit or without.
func (s *Scheduler) Answer(now time.Time, key string, permit bool) {
	h := s.hosts[key]
	h.asked = false
	if permit {
		h.permit = true
		s.granted = append(s.granted, h)
	}
	h.settle(now)
	s.Release(now, key)
}

// nextGranted returns the queue whose first task is to start now with the permit of its host, or
// nil.
func (s *Scheduler) nextGranted(now time.Time) (best *queue) {
	s.advance(now)
	if s.inFlight >= s.slots || s.bucket.opens(now).After(now) {
		return nil
	}
	for _, h := range s.granted {
		if !h.room() || h.opens(now).After(now) {
			continue
		}
		q := h.firstStartable(now)
		if q != nil && (best == nil || q.lane.served < best.lane.served ||
			q.lane.served == best.lane.served && q.oldest() < best.oldest()) {
			best = q
		}
	}
	return best
}

// dropPermit takes the permit of a host that starts a request, or has nothing to start.
func (s *Scheduler) dropPermit(h *Host) {
	if h.permit {
		h.permit = false
		s.granted = without(s.granted, h)
	}
}

// RejectOf takes out the task of a host that would start first with a permit, without giving it
// a slot.
func (s *Scheduler) RejectOf(now time.Time, key string) (Task, bool) {
	s.advance(now)
	q := s.hosts[key].firstStartable(now)
	if q == nil {
		return Task{}, false
	}
	return q.reject(now), true
}

// reject takes the first task out.
func (q *queue) reject(now time.Time) Task {
	t := Task{ID: q.pop(), Started: now, queue: q}
	q.settle(now)
	return t
}
