package fetch

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"sync"
	"time"

	"github.com/batchhttp/fetch/internal/sched"
)

// A batch is one call: a lane of the scheduler, and the way from tasks to results.
type batch struct {
	engine   *engine
	caller   context.Context
	ctx      context.Context // of the caller, ended by stop too
	cancel   context.CancelCauseFunc
	lane     *sched.Lane
	started  time.Time
	deadline time.Time       // of caller, which is not to be asked under the lock
	results  []Result        // of a list; nil for a stream
	lazy     bool            // of a list of URLs: jobs are made when they get a slot
	leaders  map[int]*Result // of a list, under WithDedup: of URLs that equal an earlier one
	stream   *stream         // nil for a list
	// cancelled returns the error of the URLs that the end of ctx leaves undone.
	cancelled func() error

	unwatch  func() bool    // from the caller's context
	watching sync.WaitGroup // what still reacts to contexts

	// Guarded by engine.mu:
	jobs     map[int]*job     // that wait: of a list of URLs only those that have had a slot before
	left     int              // accepted and without result
	open     bool             // whether more may be accepted
	down     map[string]error // of hosts that are given up, by key
	inFlight int              // with a slot, or being ended
	stopped  bool             // nothing more starts
	dropped  bool             // what had not started is out of the scheduler
	settled  chan struct{}
	panicked *panicError
}

// newBatch returns a batch that is to be started.
func (e *engine) newBatch(ctx context.Context) *batch {
	b := &batch{engine: e, caller: ctx, settled: make(chan struct{}), open: true, jobs: map[int]*job{}}
	b.ctx, b.cancel = context.WithCancelCause(ctx)
	b.cancelled = sync.OnceValue(func() error {
		if ctx.Err() != nil {
			return cancellationOf(ctx)
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

// dropHosts is the number of hosts whose tasks are dropped under one lock.
const dropHosts = 128

// stop ends what is in flight and lets nothing more start.
func (b *batch) stop() {
	e := b.engine
	b.cancel(nil)
	e.mu.Lock()
	defer e.mu.Unlock()
	if b.stopped {
		return
	}
	b.stopped = true
	b.dropLocked()
	b.dropped = true
	b.settleLocked()
	e.kickLocked(time.Now())
}

// dropLocked takes what has not started out of the scheduler. Now and then it lets go of
// the lock, for which another batch may be waiting.
func (b *batch) dropLocked() {
	for b.lane.Drop(time.Now(), dropHosts) {
		b.engine.mu.Unlock()
		b.engine.mu.Lock()
	}
}

// abort stops the batch and has a panic raised again on the caller's goroutine.
func (b *batch) abort(p *panicError) {
	b.engine.mu.Lock()
	if b.panicked == nil {
		b.panicked = p
	}
	b.engine.mu.Unlock()
	b.stop()
}

// close waits until nothing of the batch runs, and stops it if need be. What has not
// got a result then is cancelled.
func (b *batch) close() {
	e := b.engine
	e.mu.Lock()
	b.open = false
	b.settleLocked()
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
	jobs := b.jobs
	b.jobs = nil
	// A task that was cancelled in its back-off is in the scheduler until it is due.
	b.dropLocked()
	e.mu.Unlock()
	b.cancelJobs(maps.Values(jobs))
	b.watching.Wait()
	if panicked := cmp.Or(b.panicked, e.leave()); panicked != nil {
		panic(panicked)
	}
}

// cancelJobs ends jobs that a stop has left waiting.
func (b *batch) cancelJobs(jobs iter.Seq[*job]) {
	now := time.Now()
	for j := range jobs {
		j.result.Waited += now.Sub(j.since)
		j.fail(b.cancelled())
		b.end(j)
	}
}

// settleLocked notices when the batch has nothing left to do.
func (b *batch) settleLocked() {
	if b.stream != nil {
		wake(b.stream.more)
	}
	if b.inFlight > 0 || !b.dropped && (b.open || b.left > 0) {
		return
	}
	select {
	case <-b.settled:
	default:
		close(b.settled)
	}
}

// takeLocked returns the job of a task; a new one is made of spare.
func (b *batch) takeLocked(id int, now time.Time, spare *job) *job {
	j := b.jobs[id]
	if j == nil {
		j = spare
		*j = job{batch: b, id: id, result: &b.results[id], since: b.started}
	} else {
		delete(b.jobs, id)
	}
	j.result.Waited += now.Sub(j.since)
	return j
}

// queue queues a new job, whose host is kept, or ends it.
func (b *batch) queue(j *job) {
	e := b.engine
	e.mu.Lock()
	now := time.Now()
	err := b.queueLocked(now, j)
	e.releaseHostLocked(now, j.key)
	e.kickLocked(now)
	e.mu.Unlock()
	if err != nil {
		j.fail(err)
		b.finish(j)
	}
}

// queueLocked queues a job that is kept, or returns why it ends instead.
func (b *batch) queueLocked(now time.Time, j *job) error {
	if b.stopped { // close cancels it
		b.jobs[j.id] = j
		b.settleLocked()
		return nil
	}
	if j.expired != nil && *j.expired != nil {
		return *j.expired
	}
	if err := b.refusalLocked(now, j.key); err != nil {
		return err
	}
	b.jobs[j.id] = j
	j.era = b.lane.Era()
	switch {
	case j.result.Attempts == 0:
		b.lane.Push(now, j.key, j.id)
	case j.lesson.backoff > 0:
		b.lane.Delay(now, j.key, j.id, j.id, j.due)
	case j.lesson.outcome.Verdict == sched.Throttled && !b.awaits(j.id):
		// Not always the same URL is to be the one that probes a host.
		b.lane.Back(now, j.key, j.id)
	default:
		b.lane.Return(now, j.key, j.id, j.id)
	}
	return nil
}

// awaits reports whether nothing but the given task may start.
func (b *batch) awaits(id int) bool {
	return b.stream != nil && b.stream.held && b.stream.next == id
}

// keepHost is engine.keepHost for new inputs. It may run on the caller's goroutine,
// which a runtime.Goexit of the function given must not end, and a panic must not
// get ahead of the inputs that are still to be dealt with.
func (b *batch) keepHost(key string) error {
	if b.engine.config.hostLimits == nil {
		return nil
	}
	err := error(&failure{nil, errExited})
	panicked, _ := contain(func() { err = b.engine.keepHost(key) })
	if panicked != nil {
		b.abort(panicked)
		return &failure{nil, errPanicked}
	}
	return err
}

// finish hands in a job without a slot that has its result.
func (b *batch) finish(j *job) {
	b.end(j)
	b.engine.mu.Lock()
	defer b.engine.mu.Unlock()
	b.finishLocked(j)
	b.engine.kickLocked(time.Now())
}

// end ends a job where no worker stands ready to catch a panic of a request body.
func (b *batch) end(j *job) {
	defer func() {
		if value := recover(); value != nil {
			b.abort(asPanic(value))
		}
	}()
	if j.next != nil { // an attempt that ends between two of its requests
		j.lesson = lesson{}
		j.record()
	}
	j.end()
}

func (b *batch) finishLocked(j *job) {
	b.left--
	if b.stream != nil {
		b.stream.deliverLocked(j)
	}
	b.settleLocked()
}

// watch ends a job that waits when the context of its request ends. One that
// is in flight has that context.
func (b *batch) watch(j *job) {
	ctx := j.request.Context()
	if ctx.Done() == nil {
		return
	}
	id, expired := j.id, new(error) // j may be reused
	j.expired = expired
	b.watching.Add(1)
	stop := context.AfterFunc(ctx, func() {
		defer b.watching.Done()
		b.expire(ctx, id, expired)
	})
	j.unsubscribe = func() bool {
		stopped := stop()
		if stopped {
			b.watching.Done()
		}
		return stopped
	}
}

// expire ends a job that waits. One that does not finds the error when it is queued again.
func (b *batch) expire(ctx context.Context, id int, expired *error) {
	e, err := b.engine, cancellationOf(ctx)
	e.mu.Lock()
	j := b.jobs[id]
	now := time.Now()
	if j == nil || b.stopped || !b.lane.Cancel(now, j.key, id, j.era, j.due.After(now)) {
		// It is in flight, or not queued yet, or not any more.
		*expired = err
		e.mu.Unlock()
		return
	}
	delete(b.jobs, id)
	j.result.Waited += now.Sub(j.since)
	e.mu.Unlock()
	j.unsubscribe = nil
	j.fail(err)
	b.finish(j)
}
