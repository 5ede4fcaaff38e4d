package engine

import (
	"context"
	"iter"
	"time"

	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/job"
)

// An input that ends without a slot has left the scheduler under the lock, and counts as busy
// from then on. Its job ends, and its result is handed in, without the lock; only then it
// counts as ended.

// end ends an entry that has no slot.
func (b *batch) end(en *entry, err error) {
	en.tally.Waited += time.Since(en.since)
	b.contain(func() { en.end(err) })
	b.sink.done(en)
}

// refuse ends an input that has no entry.
func (b *batch) refuse(id int, err error) {
	tally := job.Tally{Waited: time.Since(b.started)}
	b.contain(func() { b.sink.refuse(id, err, tally) })
}

// ended counts inputs that have their results.
func (b *batch) ended(n int) {
	b.engine.mu.Lock()
	defer b.engine.mu.Unlock()
	now := time.Now()
	b.endedLocked(now, n)
	b.engine.kickLocked(now)
}

func (b *batch) endedLocked(now time.Time, n int) {
	b.left -= n
	b.busy -= n
	b.sink.endedLocked(now)
	b.noteEndLocked()
}

// An eviction has tasks of a batch that end without having been tried, or tried again.
// Until it is finished they count as busy.
type eviction struct {
	batch *batch
	ids   iter.Seq[int]
	err   error
}

// evictHostLocked takes the batch's tasks of a host out of the scheduler.
func (b *batch) evictHostLocked(now time.Time, key string, err error) []eviction {
	tasks := b.lane.Evict(now, key)
	if tasks.Count == 0 {
		return nil
	}
	b.busy += tasks.Count
	return []eviction{{b, tasks.IDs(), err}}
}

// finish ends the tasks. It is called without the lock.
func (v eviction) finish() {
	for id := range v.ids {
		v.batch.finish(id, v.err)
	}
}

// finish ends an input that has left the scheduler.
func (b *batch) finish(id int, err error) {
	b.engine.mu.Lock()
	en := b.waiting[id]
	delete(b.waiting, id)
	taken := en == nil && b.phase == stopped // by stop, or left to the end of the list
	if taken {
		b.busy--
		b.noteEndLocked()
	}
	b.engine.mu.Unlock()
	switch {
	case taken:
		return
	case en != nil:
		b.end(en, err)
	default:
		b.refuse(id, err)
	}
	b.ended(1)
}

// watch ends an entry that waits when the context of its job ends. One that
// is in flight has that context.
func (b *batch) watch(en *entry) {
	ctx := en.job.Context()
	if ctx == nil || ctx.Done() == nil {
		return
	}
	id, expired := en.id, new(error) // the entry may be used for another job
	en.expired = expired
	b.watching.Add(1)
	stop := context.AfterFunc(ctx, func() {
		defer b.watching.Done()
		b.expire(ctx, id, expired)
	})
	en.unwatch = func() bool {
		stopped := stop()
		if stopped {
			b.watching.Done()
		}
		return stopped
	}
}

// expire ends an entry that waits. One that does not finds the error when it is queued again.
func (b *batch) expire(ctx context.Context, id int, expired *error) {
	e, err := b.engine, fault.Cancellation(ctx)
	e.mu.Lock()
	en := b.waiting[id]
	now := time.Now()
	if en == nil || b.phase >= stopping || !b.lane.Cancel(now, en.key, id, en.era, en.due.After(now)) {
		// It is in flight, or not queued yet, or not any more.
		*expired = err
		e.mu.Unlock()
		return
	}
	delete(b.waiting, id)
	b.busy++
	e.mu.Unlock()
	en.unwatch = nil
	b.end(en, err)
	b.ended(1)
}

// contain runs code of the caller's whose panic is raised at the end of the batch.
func (b *batch) contain(f func()) {
	if panicked := fault.Catch(f); panicked != nil {
		b.abort(panicked)
	}
}
