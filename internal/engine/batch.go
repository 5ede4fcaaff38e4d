package engine

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/job"
	"github.com/batchhttp/fetch/internal/sched"
)

// A batch is one call: a lane of the scheduler, and the way from tasks to results.
type batch struct {
	engine   *Engine
	sink     sink
	caller   context.Context
	ctx      context.Context // of the caller, ended by stop too
	cancel   context.CancelCauseFunc
	lane     *sched.Lane
	started  time.Time
	deadline time.Time // of caller, which is not to be asked under the lock
	// onEndLocked is called when a job has ended and its request has been learnt from; nil:
	// there is nothing to do.
	onEndLocked func(now time.Time, en *entry)
	// cancelled returns the error of the jobs that the end of ctx leaves undone.
	cancelled func() error

	unwatch  func() bool    // the caller's context
	watching sync.WaitGroup // the functions that still react to contexts

	// Guarded by Engine.mu:
	phase    phase
	waiting  map[int]*entry // entries without a slot; a list makes most of its only for a slot
	left     int            // accepted and without result
	done     int            // with their results
	busy     int            // with a slot, or being ended
	down     downHosts
	panicked *fault.Panic

	settled chan struct{} // closed when nothing is left to do
}

// The phases of a batch come in this order; some may be left out.
type phase uint8

const (
	open     phase = iota // it takes inputs
	closed                // it has all its inputs
	stopping              // nothing more starts
	stopped               // and the waiting tasks are out of the scheduler, and ended
)

// A sink takes the results of a batch: a list or a stream.
type sink interface {
	// done takes the outcome of an entry, whose job has ended. It is called without the lock,
	// before anybody can see that it has.
	done(en *entry)
	// refuse ends an input that has no entry yet. It is called without the lock.
	refuse(id int, err error, tally job.Tally)
	// entry makes the entry of an input that was queued without one.
	entry(id int) *entry
	// awaits reports whether the batch can only go on with the given input. It is called
	// with the lock.
	awaits(id int) bool
}

// newBatch returns a batch that is to be started.
func (e *Engine) newBatch(ctx context.Context) *batch {
	b := &batch{engine: e, caller: ctx, settled: make(chan struct{}), waiting: map[int]*entry{}}
	b.ctx, b.cancel = context.WithCancelCause(ctx)
	b.cancelled = sync.OnceValue(func() error {
		if ctx.Err() != nil {
			return fault.Cancellation(ctx)
		}
		return context.Canceled
	})
	b.started = time.Now()
	b.deadline, _ = ctx.Deadline()
	return b
}

// start enters the batch into the engine. close must follow.
func (b *batch) start() {
	b.engine.mu.Lock()
	b.engine.enterLocked()
	b.lane = b.engine.sched.NewLane(b)
	b.engine.mu.Unlock()
	b.watching.Add(1)
	b.unwatch = context.AfterFunc(b.caller, func() {
		defer b.watching.Done()
		b.stop()
	})
}

// expect says that more inputs come.
func (b *batch) expect() {
	b.engine.mu.Lock()
	defer b.engine.mu.Unlock()
	b.lane.Expect(b.started, true)
}

// closeInput says that no more inputs come.
func (b *batch) closeInput() {
	b.engine.mu.Lock()
	defer b.engine.mu.Unlock()
	b.phase = max(b.phase, closed)
	now := time.Now()
	b.lane.Expect(now, false)
	b.noteEndLocked()
	b.engine.kickLocked(now)
}

// stop ends the jobs in flight, lets nothing more start, and ends the jobs that wait. The inputs
// of a list that have no entry are left to close.
func (b *batch) stop() {
	e := b.engine
	b.cancel(nil)
	b.cancelled() // asks the caller's context, which must not happen under the lock
	e.mu.Lock()
	if b.phase >= stopping {
		e.mu.Unlock()
		return
	}
	b.phase = stopping
	b.dropLocked()
	b.phase = stopped
	rest := b.waiting
	b.waiting = map[int]*entry{}
	b.busy += len(rest)
	b.noteEndLocked()
	e.kickLocked(time.Now())
	e.mu.Unlock()
	for _, id := range slices.Sorted(maps.Keys(rest)) {
		b.end(rest[id], b.cancelled())
	}
}

// dropHosts is the number of hosts whose tasks are dropped under one lock.
const dropHosts = 128

// dropLocked takes the tasks that have not started out of the scheduler. Now and then it lets
// go of the lock, for which another batch may be waiting.
func (b *batch) dropLocked() {
	for b.lane.Drop(time.Now(), dropHosts) {
		b.engine.mu.Unlock()
		b.engine.mu.Lock()
	}
}

// abort stops the batch and has a panic raised again on the caller's goroutine.
func (b *batch) abort(p *fault.Panic) {
	b.engine.mu.Lock()
	if b.panicked == nil {
		b.panicked = p
	}
	b.engine.mu.Unlock()
	b.stop()
}

// close waits until nothing of the batch runs, and stops it if it is not complete.
func (b *batch) close() {
	e := b.engine
	e.mu.Lock()
	b.phase = max(b.phase, closed)
	b.noteEndLocked()
	complete := b.left == 0
	e.mu.Unlock()
	if !complete {
		b.stop()
	}
	<-b.settled
	if b.unwatch() {
		b.watching.Done()
	}
	b.cancel(nil)
	e.mu.Lock()
	// A task that was cancelled in its back-off is in the scheduler until it is due.
	b.dropLocked()
	e.mu.Unlock()
	b.watching.Wait()
}

// raise repeats the panic of the batch, if there was one. It comes after close.
func (b *batch) raise() {
	if panicked := cmp.Or(b.panicked, b.engine.leave()); panicked != nil {
		panic(panicked)
	}
}

// noteEndLocked notices when the batch has nothing left to do.
func (b *batch) noteEndLocked() {
	if b.busy > 0 || b.phase != stopped && (b.phase != closed || b.left > 0) {
		return
	}
	select {
	case <-b.settled:
	default:
		close(b.settled)
	}
}

// accept queues a new entry, or ends it.
func (b *batch) accept(en *entry) {
	var err error
	if en.key, err = en.job.Host(); err == nil && b.engine.hosts.asks() {
		en.key, err = b.keepInput(en.key)
	}
	if err == nil {
		b.watch(en)
	}
	e := b.engine
	e.mu.Lock()
	now := time.Now()
	b.left++
	if err == nil {
		err = b.queueLocked(now, en)
		e.hosts.releaseLocked(now, en.key)
	}
	if err != nil {
		b.busy++
	}
	e.kickLocked(now)
	e.mu.Unlock()
	if err != nil {
		b.end(en, err)
	}
}

// queueLocked queues an entry whose host is kept, or returns why it ends instead.
func (b *batch) queueLocked(now time.Time, en *entry) error {
	switch {
	case b.phase >= stopping:
		return b.cancelled()
	case en.expired != nil && *en.expired != nil:
		return *en.expired
	}
	if err := b.refusalLocked(now, en.key); err != nil {
		return err
	}
	b.waiting[en.id] = en
	en.era = b.lane.Era()
	switch {
	case en.tally.Attempts == 0:
		b.lane.Push(now, en.key, en.id)
	case en.report.After > 0:
		b.lane.Delay(now, en.key, en.id, en.id, en.due)
	case en.report.Answer == job.Throttled && !b.sink.awaits(en.id):
		// Another job is to probe the host next time.
		b.lane.Back(now, en.key, en.id)
	default:
		b.lane.Return(now, en.key, en.id, en.id)
	}
	return nil
}

// takeLocked returns the entry of a task that has left the scheduler.
func (b *batch) takeLocked(id int) *entry {
	en := b.waiting[id]
	if en == nil {
		return b.sink.entry(id)
	}
	delete(b.waiting, id)
	return en
}

// neverQueued is before any era.
const neverQueued = -1

// queueAgainLocked queues an entry that has given its slot back, and whose host is kept. It
// returns it as an eviction if the host takes no more.
func (b *batch) queueAgainLocked(now time.Time, en *entry) []eviction {
	en.since = now
	en.due = now.Add(en.report.After)
	err := b.queueLocked(now, en)
	b.engine.hosts.releaseLocked(now, en.key)
	if err == nil {
		b.busy--
		b.noteEndLocked()
		return nil
	}
	b.waiting[en.id] = en
	en.era = neverQueued
	return []eviction{{b, func(yield func(int) bool) { yield(en.id) }, err}}
}

// queueNewLocked queues an input that may have no entry yet, or returns why it ends instead.
func (b *batch) queueNewLocked(now time.Time, c *candidate) error {
	if c.entry != nil {
		return b.queueLocked(now, c.entry)
	}
	if b.phase >= stopping {
		return b.cancelled()
	}
	if err := b.refusalLocked(now, c.key); err != nil {
		return err
	}
	b.lane.Push(now, c.key, c.id)
	return nil
}

// refusalLocked returns the error of a job that need not be queued, as its host is
// down or paused for too long, or nil.
func (b *batch) refusalLocked(now time.Time, key string) error {
	if err := b.down[key]; err != nil {
		return err
	}
	if paused := b.engine.hosts.pauseLocked(now, key, b); paused != nil {
		return paused
	}
	return nil
}

// keepInput is hosts.keep for the host of a new input. It may run on the caller's goroutine,
// which a runtime.Goexit of the caller's function must not end, and a panic must not get
// ahead of the inputs that are still to be taken.
func (b *batch) keepInput(host string) (key string, err error) {
	err = fault.Exited
	panicked, _ := fault.Contain(func() { key, err = b.engine.hosts.keep(host) })
	if panicked != nil {
		b.abort(panicked)
		return "", fault.Panicked
	}
	return key, err
}

// fits reports whether t is before the deadline of the batch.
func (b *batch) fits(t time.Time) bool {
	return b.deadline.IsZero() || t.Before(b.deadline)
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
	return now.Sub(refusing) >= b.engine.config.Patience
}

// An input that ends without a slot has left the scheduler under the lock, and counts as busy
// from then on. Its job ends, and its result is handed in, without the lock. It counts as ended
// after that.

// end ends an entry that has no slot.
func (b *batch) end(en *entry, err error) {
	en.tally.Waited += time.Since(en.since)
	b.contain(func() { en.end(err) })
	b.tellEnd(en)
	en.finish(b)
	b.ended(en)
}

// tellEnd tells the job of an entry without a slot that it has ended, and before that of an attempt
// that ends between two hops.
func (b *batch) tellEnd(en *entry) {
	if !b.engine.config.Told {
		return
	}
	if en.report.Next == job.Hop {
		b.containExit(func() { en.job.Attempted(en.tally, time.Time{}) })
	}
	b.containExit(func() { en.job.Ended(en.tally) })
}

// refuse ends an input that has no entry.
func (b *batch) refuse(id int, err error) {
	tally := b.tally()
	b.contain(func() { b.sink.refuse(id, err, tally) })
	b.ended(nil)
}

// tally returns that of an input that has waited since the batch started.
func (b *batch) tally() job.Tally {
	return job.Tally{Queued: b.started, Waited: time.Since(b.started)}
}

// ended counts an input that has its result. A refused one has no entry.
func (b *batch) ended(en *entry) {
	b.engine.mu.Lock()
	defer b.engine.mu.Unlock()
	now := time.Now()
	b.endedLocked(now, en)
	b.engine.kickLocked(now)
}

func (b *batch) endedLocked(now time.Time, en *entry) {
	b.left--
	b.busy--
	b.done++
	o := outcome{failed: true} // of one that was refused
	if en != nil {
		o = en.outcome
	}
	b.engine.counts.add(1, o)
	if b.onEndLocked != nil {
		b.onEndLocked(now, en)
	}
	b.noteEndLocked()
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
}

// watch ends an entry that waits when the context of its job ends. An entry in flight has that
// context itself.
func (b *batch) watch(en *entry) {
	ctx := en.job.Context()
	if ctx == nil || ctx.Done() == nil {
		return
	}
	id, expired := en.id, new(error) // the entry may be used for another job
	en.expired = expired
	if ctx.Err() != nil { // found at once, so that the entry takes no slot and no permit
		*expired = fault.Cancellation(ctx)
		return
	}
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

// expire ends an entry that waits. Another entry finds the error when it is queued again.
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
}

// contain runs code of the caller's, and keeps its panic for the end of the batch.
func (b *batch) contain(f func()) {
	if panicked := fault.Catch(f); panicked != nil {
		b.abort(panicked)
	}
}

// containExit is contain for code that may call runtime.Goexit, on a goroutine that is to go on.
func (b *batch) containExit(f func()) {
	if panicked, _ := fault.Contain(f); panicked != nil {
		b.abort(panicked)
	}
}
