package sched

import "iter"

// Evicted has the tasks of a host that were evicted. The scheduler knows nothing of them
// any more, so that they can be looked at without its owner's lock.
type Evicted struct {
	Count int

	fresh    []int
	returned []entry[int, int]
	later    []entry[int64, delayedTask]
	gone     map[int]struct{}
}

// IDs yields the IDs of the tasks, each once, in no particular order.
func (e Evicted) IDs() iter.Seq[int] {
	return func(yield func(int) bool) {
		for id := range e.all {
			if _, cancelled := e.gone[id]; !cancelled && !yield(id) {
				return
			}
		}
	}
}

// all yields the cancelled tasks too.
func (e Evicted) all(yield func(int) bool) {
	for _, id := range e.fresh {
		if !yield(id) {
			return
		}
	}
	for _, r := range e.returned {
		if !yield(r.item.value) {
			return
		}
	}
	for _, l := range e.later {
		if !yield(l.item.value.id) {
			return
		}
	}
}
