package fetch

import (
	"iter"
	"time"

	"github.com/batchhttp/fetch/internal/sched"
)

// An eviction has tasks that end without having been tried, or tried again. Until
// it is finished they count as in flight.
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
	b.inFlight += tasks.Count
	return []eviction{{b, tasks.IDs(), err}}
}

// evictLocked does it with a job that is not in the scheduler.
func (b *batch) evictLocked(j *job, err error) []eviction {
	b.jobs[j.id] = j
	j.era = neverQueued
	b.inFlight++
	return []eviction{{b, func(yield func(int) bool) { yield(j.id) }, err}}
}

// evictPausedLocked ends the URLs that wait for a host whose pause is too
// long for them, or that has refused everything for too long.
func (e *engine) evictPausedLocked(now time.Time, h *sched.Host, l *lesson) (out []eviction) {
	until := h.PausedUntil()
	err := &HostPausedError{Host: h.Key(), Until: until}
	tooLong := l.pause > e.config.maxRetryAfter
	if tooLong {
		memoryOf(h).closed = until
	}
	for lane := range h.Lanes() {
		b := lane.Owner.(*batch)
		if tooLong || !b.fits(until) || b.givesUpLocked(now, h) {
			out = append(out, b.evictHostLocked(now, h.Key(), err)...)
		}
	}
	return out
}

// maxDown is how many hosts a batch remembers as given up.
const maxDown = 65_536

// evictDownLocked ends the batch's URLs of a host that cannot be connected to.
func (b *batch) evictDownLocked(now time.Time, h *sched.Host, last error) []eviction {
	err := &failure{ErrHostDown, lastCause(last)}
	if b.down == nil {
		b.down = map[string]error{}
	}
	if len(b.down) >= maxDown {
		for key := range b.down { // any: it is only tried again
			delete(b.down, key)
			break
		}
	}
	b.down[h.Key()] = err
	return b.evictHostLocked(now, h.Key(), err)
}

// lastCause returns the cause of an *Error, which has no prefix and no URL.
func lastCause(err error) error {
	if e, ok := err.(*Error); ok {
		return e.Err
	}
	return err
}

// refusalLocked returns the error of a URL that need not be queued, as its host is
// down or paused for too long, or nil.
func (b *batch) refusalLocked(now time.Time, key string) error {
	if err := b.down[key]; err != nil {
		return err
	}
	h := b.engine.sched.Host(key)
	if h == nil {
		return nil
	}
	until, closed := h.PausedUntil(), false
	if m, ok := h.Memory.(*hostMemory); ok {
		closed = m.closed.Sub(now) > b.engine.config.maxRetryAfter
	}
	if closed || until.After(now) && !b.fits(until) {
		return &HostPausedError{Host: key, Until: until}
	}
	return nil
}

// finish ends the tasks. It is called without the engine's lock.
func (v eviction) finish() {
	for id := range v.ids {
		v.batch.finishEvicted(id, v.err)
	}
}

func (b *batch) finishEvicted(id int, err error) {
	b.engine.mu.Lock()
	now := time.Now()
	j := b.jobs[id]
	delete(b.jobs, id)
	b.engine.mu.Unlock()
	if j == nil && b.lazy {
		j = &job{batch: b, id: id, result: &b.results[id], since: b.started}
	}
	if j != nil { // its own context has not ended it
		j.result.Waited += now.Sub(j.since)
		j.fail(err)
		b.finish(j)
	}
	b.engine.mu.Lock()
	defer b.engine.mu.Unlock()
	b.inFlight--
	b.settleLocked()
}

// givesUpLocked reports whether the host has refused everything for as long as the
// engine has patience, since the start of the batch at the earliest.
func (b *batch) givesUpLocked(now time.Time, h *sched.Host) bool {
	refusing := h.Refusing()
	if refusing.IsZero() {
		return false
	}
	if refusing.Before(b.started) {
		refusing = b.started
	}
	return now.Sub(refusing) >= b.engine.config.patience()
}
