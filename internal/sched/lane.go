package sched

import (
	"math"
	"time"
)

// A Lane has the tasks of one batch. Free slots go to lanes in turn; within a
// lane the oldest task goes first, but for critical, silent and some new hosts.
type Lane struct {
	// Owner is for the owner of the scheduler.
	Owner any

	sched *Scheduler
	// served is the lane's virtual time: the requests it has started. A lane that
	// had nothing to start for a while is served next, but keeps no further credit.
	served uint64
	number uint64      // tells lanes apart that were served equally
	turn   item[*Lane] // in sched.lanes, while a queue is ready

	queues map[string]*queue
	era    int                          // the evictions so far
	ready  [standings]heap[int, *queue] // by the oldest
	// known and unknown have the ready queues of hosts that can be critical, by
	// their own lower bound, negated: in seconds where it is known how long
	// requests take, else in requests.
	known, unknown heap[float64, *queue]
	work           float64 // slot seconds that are left, of the hosts that have been timed
	unknownTasks   int     // tasks left of the others

	silent    int  // slots that silent hosts hold
	exploring bool // no head has been answered
	heads     int  // in flight: oldest tasks of new hosts

	growing bool // more tasks are to be pushed soon

	last int // the greatest place so far

	closed bool // by Drop
	held   bool
	exempt int               // the place up to which tasks start although the lane is held
	shelf  heap[int, *queue] // queues that only wait for the end of held
}

// Push queues a task of the host with the given key, behind all others. IDs must ascend.
func (l *Lane) Push(now time.Time, key string, id int) {
	q := l.queue(key)
	q.push(id)
	if l.growing && q.host.timed == 0 {
		q.host.grower, q.host.grown = l, now
	}
	l.last = max(l.last, id)
	q.settle(now)
}

// Return queues a task again that was popped before, or one that follows from it, at
// the given place in the order, in which a task that was pushed has its ID.
func (l *Lane) Return(now time.Time, key string, id, place int) {
	q := l.queue(key)
	q.put(id, place)
	q.settle(now)
}

// Back queues a task again behind all others.
func (l *Lane) Back(now time.Time, key string, id int) {
	l.last++
	l.Return(now, key, id, l.last)
}

// Promote moves a task that Back has queued to its place in the order. It
// takes a time that grows with the tasks that have come back to the host.
func (l *Lane) Promote(now time.Time, key string, id int) {
	if q := l.queues[key]; q != nil {
		q.promote(id)
		q.settle(now)
	}
}

// Delay queues a task again, as Return does, when due has come.
func (l *Lane) Delay(now time.Time, key string, id, place int, due time.Time) {
	q := l.queue(key)
	q.delay(id, place, l.sched.nanos(due))
	q.settle(now)
}

// Era changes with every eviction. A caller of Cancel must know the era in which the task
// was queued: the scheduler would have to look at all tasks of the host to find it.
func (l *Lane) Era() int { return l.era }

// Cancel forgets a task that has not started, and reports whether it had not been
// evicted. era is that in which it was queued; delayed says whether it is due after
// now. It costs a little memory until the task's turn would have come.
func (l *Lane) Cancel(now time.Time, key string, id, era int, delayed bool) bool {
	q := l.queues[key]
	if q == nil || era < q.era {
		return false
	}
	q.release(now)
	q.cancel(id, delayed)
	q.settle(now)
	return true
}

// Evict forgets the tasks of a host that have not started, delayed ones
// included, and hands them over.
func (l *Lane) Evict(now time.Time, key string) Evicted {
	q := l.queues[key]
	if q == nil || q.queued+q.delayed == 0 {
		return Evicted{}
	}
	l.era++
	evicted := q.evict()
	q.era = l.era
	q.settle(now)
	return evicted
}

// Hold keeps the tasks of the lane with a place after exempt from starting, until
// Unhold. It is for an owner with too many unread results in memory.
func (l *Lane) Hold(now time.Time, exempt int) {
	l.held, l.exempt = true, exempt
	l.unshelve(now)
}

// Unhold ends Hold.
func (l *Lane) Unhold(now time.Time) {
	if l.held {
		l.Hold(now, math.MaxInt)
		l.held = false
	}
}

// withholds reports whether the queue's first task must not start.
func (l *Lane) withholds(q *queue) bool {
	return l.closed || l.held && q.oldest() > l.exempt
}

func (l *Lane) unshelve(now time.Time) {
	for l.shelf.len() > 0 {
		place, q := l.shelf.min()
		if place > l.exempt {
			return
		}
		l.shelf.remove(&q.shelved)
		q.settle(now)
	}
}

// Drop forgets the tasks of up to n hosts that have not started, and
// reports whether more are left. None starts any more, and none may be added.
// Between calls the scheduler can be used.
func (l *Lane) Drop(now time.Time, n int) (more bool) {
	l.closed = true
	l.sched.lanes.remove(&l.turn)
	for key, q := range l.queues {
		if n == 0 {
			return true
		}
		n--
		q.clear()
		// A task in flight comes back through Done, which finds the queue by itself.
		delete(l.queues, key)
		q.settle(now)
	}
	return false
}

func (l *Lane) queue(key string) *queue {
	q := l.queues[key]
	if q == nil {
		h := l.sched.wake(key)
		q = newQueue(l, h)
		l.queues[h.key] = q
	}
	return q
}

// drop forgets a queue that has nothing left.
func (l *Lane) drop(q *queue, now time.Time) {
	if l.queues[q.host.key] == q {
		delete(l.queues, q.host.key)
	}
	q.host.part(q)
	l.sched.rest(q.host, now)
}

// next is the lane's key among the lanes that wait for their turn. No two lanes have the
// same key, so that only the first of the lanes that wait for a host need be looked at.
func (l *Lane) next() uint64 { return l.served<<24 | l.number&(1<<24-1) }

// enter takes the lane into the turns when a queue of it has become ready.
func (l *Lane) enter() {
	if !l.turn.queued() && !l.closed {
		l.sched.lanes.put(l.turnKey(), &l.turn)
	}
}

func (l *Lane) leave() {
	if l.ready[answering].len()+l.ready[unheard].len()+l.ready[mute].len() == 0 {
		l.sched.lanes.remove(&l.turn)
	}
	l.place()
}

// place brings the lane's turn up to date.
func (l *Lane) place() {
	if l.turn.queued() {
		l.sched.lanes.put(l.turnKey(), &l.turn)
	}
}

// turnKey is the lane's key in sched.lanes. A lane in doubt without a host that answers comes
// after all others.
func (l *Lane) turnKey() uint64 {
	if l.doubts() && l.ready[answering].len() == 0 {
		return l.next() | 1<<63
	}
	return l.next()
}

// doubts reports whether silent hosts hold half the slots.
func (l *Lane) doubts() bool { return l.silent >= l.sched.share }

// doubt adds slots that silent hosts hold.
func (l *Lane) doubt(slots int) {
	l.silent += slots
	l.place()
}

// pick returns the queue that is to be served next: that of a critical host,
// or the one with the oldest task. The lane must have a ready queue.
func (l *Lane) pick() *queue {
	if q := l.critical(); q != nil && (!l.doubts() || q.standing == answering) {
		return q
	}
	known, fresh := &l.ready[answering], &l.ready[unheard]
	switch {
	case known.len() > 0 && (l.doubts() || fresh.len() == 0 || known.entries[0].key < fresh.entries[0].key):
		_, q := known.min()
		return q
	case fresh.len() > 0 && (l.doubts() || l.explores()):
		return newest(fresh)
	case fresh.len() > 0:
		_, q := fresh.min()
		return q
	}
	_, q := l.ready[mute].min()
	return q
}

// newest returns about the newest of some queues: the greatest of those at the end of their heap,
// where the great ones are. One whose host has something in flight comes last: that is not
// answered either.
func newest(queues *heap[int, *queue]) *queue {
	last := queues.entries[max(0, queues.len()-256):]
	best := last[0]
	for _, e := range last[1:] {
		waits, bestWaits := e.item.value.host.inFlight > 0, best.item.value.host.inFlight > 0
		if bestWaits && !waits || e.key > best.key && waits == bestWaits {
			best = e
		}
	}
	return best.item.value
}

// explores reports whether the next new host is not to be the oldest. Only broad lists have
// enough to choose from, of hosts with few tasks each: a host with many can decide when all is done.
func (l *Lane) explores() bool {
	hosts := l.ready[unheard].len()
	return l.exploring && l.heads >= l.sched.share && hosts >= l.sched.slots && l.unknownTasks <= 2*hosts+l.sched.slots
}

// startHead counts a start of the oldest task of a new host, and reports whether it is one.
func (l *Lane) startHead(q *queue) bool {
	if !l.exploring || q.host.standing != unheard || q.ready.index != 1 {
		return false
	}
	l.heads++
	return true
}

func (l *Lane) finishHead(answered bool) {
	l.heads--
	if answered {
		l.exploring = false
	}
}

// unknownFactor is by how much a host that has not been timed yet may be slower than
// the mean before its lower bound is too small. Too large a factor costs little: the
// first request of the host corrects it.
const unknownFactor = 12

// critical returns the queue with the largest lower bound, if that is at least
// half the time that the slots need for the whole lane. Half, since waiting until a host
// is the last one leaves no room for requests that take longer than they used to.
func (l *Lane) critical() *queue {
	if l.known.len() == 0 && l.unknown.len() == 0 {
		return nil
	}
	mean := l.sched.firsts.mean
	var longest float64
	var critical *queue
	if l.known.len() > 0 {
		bound, q := l.known.min()
		longest, critical = -bound, q
	}
	if l.unknown.len() > 0 {
		bound, q := l.unknown.min()
		if bound = -bound * mean * unknownFactor; bound > longest {
			longest, critical = bound, q
		}
	}
	common := (l.work + mean*float64(l.unknownTasks)) / float64(l.sched.slots)
	if longest == 0 || longest < common/2 {
		return nil
	}
	return critical
}
