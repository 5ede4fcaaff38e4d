package engine

import (
	"time"

	"github.com/batchhttp/fetch/internal/fault"
)

// deadlines is a list of the workers whose attempts have a timeout, the next to
// expire first. All have the same timeout, so that a new one nearly always goes to the end.
// It is guarded by Engine.mu.
type deadlines struct {
	first, last *worker
}

// A deadline is a worker's place among the deadlines. It is guarded by Engine.mu.
type deadline struct {
	at         time.Time // zero: the worker is not among them
	prev, next *worker
}

func (d *deadlines) add(w *worker, at time.Time) {
	w.deadline.at = at
	after := d.last
	for after != nil && after.deadline.at.After(at) {
		after = after.deadline.prev
	}
	w.deadline.prev = after
	if after != nil {
		w.deadline.next, after.deadline.next = after.deadline.next, w
	} else {
		w.deadline.next, d.first = d.first, w
	}
	if next := w.deadline.next; next != nil {
		next.deadline.prev = w
	} else {
		d.last = w
	}
}

func (d *deadlines) remove(w *worker) {
	if w.deadline.at.IsZero() {
		return
	}
	prev, next := w.deadline.prev, w.deadline.next
	w.deadline = deadline{}
	if prev != nil {
		prev.deadline.next = next
	} else {
		d.first = next
	}
	if next != nil {
		next.deadline.prev = prev
	} else {
		d.last = prev
	}
}

// next returns the first deadline, if there is one.
func (d *deadlines) next() (at time.Time, ok bool) {
	if d.first == nil {
		return at, false
	}
	return d.first.deadline.at, true
}

// expire ends the attempts whose time is over.
func (d *deadlines) expire(now time.Time) {
	for w := d.first; w != nil && !w.deadline.at.After(now); w = d.first {
		d.remove(w)
		w.cancel(fault.AttemptTimeout)
	}
}
