package engine

import "iter"

// An eviction has tasks of a batch that end without having been tried, or tried again.
// Until it is finished they count as busy.
type eviction struct {
	batch *batch
	ids   iter.Seq[int]
	err   error
}

// finish ends the tasks. It is called without the lock.
func (v eviction) finish() {
	for id := range v.ids {
		v.batch.finish(id, v.err)
	}
}
