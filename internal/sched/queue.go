package sched

import "time"

// A queue has one lane's tasks of one host. With anything queued it is in
// exactly one place: ready in its lane, parked at its host, or on its lane's shelf.
type queue struct {
	lane *Lane
	host *Host

	fresh    []int            // pushed, in the order of their IDs from head on
	head     int              // of fresh
	returned heap[int, int]   // that came back, by their place in the order
	gone     map[int]struct{} // cancelled, but still in fresh, returned or later
	era      int              // of the lane when the queue was made or last evicted
	queued   int              // without the cancelled, as the other counts
	delayed  int
	inFlight int

	ready    item[*queue] // in lane.ready, by standing
	standing standing     // of the host when it became ready
	critical item[*queue] // in lane.known or lane.unknown
	measured bool         // whether critical is in lane.known
	parked   item[*queue] // in host.parked
	shelved  item[*queue] // in lane.shelf

	later heap[int64, delayedTask]
	due   item[*queue] // in sched.delayed, by the first of later

	// The queues of a host are a list.
	previous, next *queue

	counted tally // in the prospects of its host

	work    float64 // its part of lane.work, in slot seconds
	unknown int     // its part of lane.unknownTasks
}

func newQueue(l *Lane, h *Host) *queue {
	q := &queue{lane: l, host: h, era: l.era}
	q.ready.value, q.critical.value, q.parked.value, q.shelved.value, q.due.value = q, q, q, q, q
	h.join(q)
	return q
}

// left is the number of tasks that are not done.
func (q *queue) left() int { return q.queued + q.delayed + q.inFlight }

func (q *queue) push(id int) {
	q.fresh = append(q.fresh, id)
	q.queued++
}

// put queues a task that has been queued before, at its place in the order.
func (q *queue) put(id, place int) {
	q.returned.put(place, &item[int]{value: id})
	q.queued++
}

type delayedTask struct{ id, place int }

// delay queues a task as put does, when due has come.
func (q *queue) delay(id, place int, due int64) {
	q.later.put(due, &item[delayedTask]{value: delayedTask{id, place}})
	q.delayed++
	q.host.prospects.lastDue = later(q.host.prospects.lastDue, q.lane.sched.epoch.Add(time.Duration(due)))
	q.settleDue()
}

func (q *queue) settleDue() {
	if q.later.len() == 0 {
		q.lane.sched.delayed.remove(&q.due)
		return
	}
	at, _ := q.later.min()
	q.lane.sched.delayed.put(at, &q.due)
}

// release queues the delayed tasks that are due.
func (q *queue) release(now time.Time) {
	for q.later.len() > 0 {
		if at, _ := q.later.min(); at > q.lane.sched.nanos(now) {
			break
		}
		_, t := q.later.pop()
		if !q.forget(t.id) {
			q.delayed--
			q.put(t.id, t.place)
		}
	}
	q.settleDue()
	q.settle(now)
}

// oldest returns the place of the first task. The queue must not be empty.
func (q *queue) oldest() int {
	if q.returnedFirst() {
		place, _ := q.returned.min()
		return place
	}
	return q.fresh[q.head]
}

// pop takes the first task out. The queue must not be empty.
func (q *queue) pop() int {
	q.queued--
	id := q.take()
	q.trim()
	return id
}

// take takes out the task that oldest names.
func (q *queue) take() int {
	if q.returnedFirst() {
		_, id := q.returned.pop()
		return id
	}
	id := q.fresh[q.head]
	q.head++
	switch {
	case q.head == len(q.fresh):
		q.fresh, q.head = q.fresh[:0], 0
	case q.head >= 32 && q.head > len(q.fresh)/2:
		q.fresh = append(q.fresh[:0], q.fresh[q.head:]...)
		q.head = 0
	}
	return id
}

func (q *queue) cancel(id int, delayed bool) {
	if q.gone == nil {
		q.gone = map[int]struct{}{}
	}
	q.gone[id] = struct{}{}
	if delayed {
		q.delayed--
		return
	}
	q.queued--
	q.trim()
}

// trim takes out cancelled tasks that have come to the front.
func (q *queue) trim() {
	for len(q.gone) > 0 && (q.head < len(q.fresh) || q.returned.len() > 0) {
		id := q.first()
		if !q.forget(id) {
			return
		}
		q.take()
	}
}

// first returns the ID of the task that oldest names.
func (q *queue) first() int {
	if q.returnedFirst() {
		_, id := q.returned.min()
		return id
	}
	return q.fresh[q.head]
}

// returnedFirst reports whether a task that came back is before the fresh ones.
func (q *queue) returnedFirst() bool {
	if q.returned.len() == 0 {
		return false
	}
	place, _ := q.returned.min()
	return q.head == len(q.fresh) || place < q.fresh[q.head]
}

// forget reports whether the task was cancelled, and is told so once.
func (q *queue) forget(id int) bool {
	_, ok := q.gone[id]
	delete(q.gone, id)
	return ok
}

// clear empties the queue but for its tasks in flight.
func (q *queue) clear() {
	q.fresh, q.head, q.returned, q.gone = nil, 0, heap[int, int]{}, nil
	q.later = heap[int64, delayedTask]{}
	q.queued, q.delayed = 0, 0
	q.settleDue()
}

// evict empties the queue but for its tasks in flight, and hands over the others.
func (q *queue) evict() Evicted {
	e := Evicted{
		Count: q.queued + q.delayed, fresh: q.fresh[q.head:],
		returned: q.returned.entries, later: q.later.entries, gone: q.gone,
	}
	q.clear()
	return e
}

// promote moves a task that came back to the front.
func (q *queue) promote(id int) {
	for _, e := range q.returned.entries {
		if e.item.value == id {
			q.returned.put(id, e.item)
			return
		}
	}
}

// settle puts the queue where it belongs after anything about it has changed.
func (q *queue) settle(now time.Time) {
	q.estimate()
	q.count()
	switch {
	case q.queued == 0:
		q.detach(now)
	case q.ready.queued() && q.host.admits(now):
		q.rank()
	case q.ready.queued():
		q.unready()
		q.host.park(q)
		q.host.settle(now)
	case q.parked.queued():
	case q.shelved.queued():
		q.lane.shelf.put(q.oldest(), &q.shelved)
		q.lane.unshelve(now)
	case q.host.admits(now):
		q.makeReady()
	default:
		q.host.park(q)
		q.host.settle(now)
	}
	if q.host.slowStart {
		q.host.settle(now) // it goes by the tasks that are left
	}
	if q.left() == 0 && q.later.len() == 0 {
		q.lane.drop(q, now)
	}
}

// detach takes an empty queue out of wherever it is.
func (q *queue) detach(now time.Time) {
	q.unready()
	q.host.parked.remove(&q.parked)
	q.lane.shelf.remove(&q.shelved)
	q.host.settle(now)
}

func (q *queue) makeReady() {
	q.rank()
	q.lane.enter()
}

// rank brings the queue's keys in the lane's heaps up to date.
func (q *queue) rank() {
	l := q.lane
	if q.ready.queued() && q.standing != q.host.standing {
		l.ready[q.standing].remove(&q.ready)
	}
	q.standing = q.host.standing
	l.ready[q.standing].put(q.oldest(), &q.ready)
	l.place()
	if !q.host.bounded() {
		q.unrank()
		return
	}
	measured := q.host.timed > 0 || q.host.paced()
	if q.measured != measured {
		q.unrank()
		q.measured = measured
	}
	switch {
	case measured:
		// The fewer samples there are, the slower the host may be in truth.
		doubt := 1 + 4/float64(max(1, q.host.timed))
		l.known.put(-q.host.lowerBound(q.left(), q.host.taken)*doubt, &q.critical)
	case q.host.inFlight == 0:
		l.unknown.put(-q.host.lowerBound(q.left(), time.Second), &q.critical)
	default:
		// The first request of a host tells how long its requests take: wait for it.
		q.unrank()
	}
}

func (q *queue) unrank() {
	if q.measured {
		q.lane.known.remove(&q.critical)
	} else {
		q.lane.unknown.remove(&q.critical)
	}
}

// unready takes the queue out of its lane's heaps, if it is in.
func (q *queue) unready() {
	if !q.ready.queued() {
		return
	}
	q.unrank()
	q.lane.ready[q.standing].remove(&q.ready)
	q.lane.leave()
}

// estimate keeps the lane's sums of work up to date.
func (q *queue) estimate() {
	work, unknown := 0.0, q.left()
	if q.host.timed > 0 {
		work, unknown = float64(q.left())*q.host.taken.Seconds(), 0
	}
	q.lane.work += work - q.work
	q.lane.unknownTasks += unknown - q.unknown
	q.work, q.unknown = work, unknown
}
