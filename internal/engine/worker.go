package engine

import (
	"context"
	"sync"
	"time"

	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/job"
	"github.com/batchhttp/fetch/internal/sched"
)

// A worker runs one job after the other. It is the job.Slot of the job at hand.
type worker struct {
	engine *Engine
	run    *run
	runner job.Runner

	batch  *batch // of the entry at hand, or of the last
	ctx    context.Context
	cancel context.CancelCauseFunc
	entry  *entry // at hand; nil: none
	task   sched.Task

	deadline deadline
}

// loop runs jobs until none can start. A panic, or Goexit, of the caller's code
// ends it with the entry still at hand.
func (w *worker) loop() {
	defer w.abandon()
	e := w.engine
	w.runner = e.config.NewRunner()
	e.mu.Lock()
	now := time.Now()
	for e.run == w.run {
		task, ok := e.sched.Pop(now)
		if !ok {
			break
		}
		w.takeLocked(task, task.Lane().Owner.(*batch), now)
		e.kickLocked(now)
		e.mu.Unlock()
		w.runner.Run(w.turn(), w.entry.job, &w.entry.report)
		now = w.handBack()
	}
	w.retire(now)
}

// retire ends the worker, and unlocks mu.
func (w *worker) retire(now time.Time) {
	w.engine.workers--
	w.engine.kickLocked(now) // a worker of an earlier run leaves room for one of this
	w.engine.mu.Unlock()
	if w.cancel != nil {
		w.cancel(nil)
	}
}

// takeLocked makes a task of a batch the one at hand.
func (w *worker) takeLocked(task sched.Task, b *batch, now time.Time) {
	e := w.engine
	w.enter(b)
	w.task = task
	w.entry = b.takeLocked(task.ID)
	w.entry.begin(now, e.config.Timeout)
	b.busy++
	if w.entry.remaining > 0 {
		e.deadlines.add(w, now.Add(w.entry.remaining))
		first, _ := e.deadlines.next()
		e.alarm.set(now, first)
	}
}

func (w *worker) turn() job.Turn {
	return job.Turn{Context: w.ctx, Cancel: w.cancel, Tally: w.entry.tally, Deadline: w.batch.deadline, Slot: w}
}

// enter gives the worker a context of the batch that has not ended. The context stays for as long
// as it can: a new one for each request is a cost that shows.
func (w *worker) enter(b *batch) {
	if w.batch == b && w.ctx.Err() == nil {
		return
	}
	if w.cancel != nil {
		w.cancel(nil)
	}
	w.batch = b
	w.ctx, w.cancel = context.WithCancelCause(b.ctx)
}

// handBack hands on the entry at hand and gives the slot back. It returns with mu held.
func (w *worker) handBack() time.Time {
	e, b, en := w.engine, w.batch, w.entry
	again := en.report.Next != job.Done
	if again {
		if err := w.keepNext(); err != nil {
			again = false
			en.end(err)
		}
	} else {
		en.end(nil)
	}
	w.record(again)
	e.mu.Lock()
	now := time.Now()
	evictions := w.releaseLocked(now)
	if again {
		evictions = append(evictions, b.queueAgainLocked(now, en)...)
	} else {
		b.endedLocked(now, en)
		en.job = nil
		entries.Put(en)
	}
	if len(evictions) == 0 {
		return now
	}
	e.kickLocked(now)
	e.mu.Unlock()
	for _, v := range evictions {
		v.finish()
	}
	e.mu.Lock()
	return time.Now()
}

// keepNext keeps the host of the next request, or returns why there is no such request.
func (w *worker) keepNext() (err error) {
	en := w.entry
	if en.key, err = en.job.Host(); err == nil {
		en.key, err = w.engine.hosts.keep(en.key)
	}
	return err
}

// record counts the time of the request, and hands in the result after the last request.
func (w *worker) record(again bool) {
	w.entry.took(time.Since(w.task.Started))
	if !again {
		w.batch.sink.done(w.entry)
	}
}

// releaseLocked gives the slot back, and returns the tasks that end because of the report about
// their host.
func (w *worker) releaseLocked(now time.Time) []eviction {
	en := w.entry
	w.entry = nil
	w.engine.deadlines.remove(w)
	return w.engine.hosts.learnLocked(now, w.task, en)
}

// abandon ends a worker after the caller's code has ended its goroutine.
func (w *worker) abandon() {
	b, en := w.batch, w.entry
	if en == nil {
		return
	}
	err := fault.Exited
	if value := recover(); value != nil {
		err = fault.Panicked
		// Before the batch can settle: nobody would raise it then.
		b.abort(fault.AsPanic(value))
	}
	en.report.Down = nil                  // the rest of the report holds
	fault.Contain(func() { en.end(err) }) // a second panic, or Goexit, says nothing new
	w.record(false)
	e := w.engine
	e.mu.Lock()
	now := time.Now()
	evictions := w.releaseLocked(now)
	b.endedLocked(now, en)
	w.retire(now)
	for _, v := range evictions {
		v.finish()
	}
}

// Cancelled implements job.Slot, as do the methods below.
func (w *worker) Cancelled() error {
	if w.batch.ctx.Err() == nil {
		return nil
	}
	return w.batch.cancelled()
}

func (w *worker) Pay() bool {
	w.engine.mu.Lock()
	defer w.engine.mu.Unlock()
	return memoryOf(w.task.Host()).budget.Retry()
}

func (w *worker) GivenUp() bool {
	w.engine.mu.Lock()
	defer w.engine.mu.Unlock()
	return w.batch.givesUpLocked(time.Now(), w.task.Host())
}

// An entry is a job's place in its batch. It belongs to the worker that runs the job,
// otherwise to the batch, under Engine.mu.
type entry struct {
	id     int
	job    job.Job
	tally  job.Tally
	report job.Report // of the last request

	key       string        // of the host that it waits for
	era       int           // of the lane when it was queued
	since     time.Time     // when it began to wait
	due       time.Time     // when its back-off is over
	remaining time.Duration // of the timeout of the attempt
	size      int           // of the outcome, in a stream

	unwatch func() bool // the job's own context; nil: it is not watched
	expired *error      // set when the context ends while the entry does not wait
}

// entries has entries that nobody refers to any more.
var entries = sync.Pool{New: func() any { return new(entry) }}

// newEntry returns an entry that waits since the given time.
func newEntry(id int, j job.Job, since time.Time) *entry {
	en := entries.Get().(*entry)
	*en = entry{id: id, job: j, since: since}
	return en
}

// begin counts a request that starts. timeout is the timeout of an attempt.
func (en *entry) begin(now time.Time, timeout time.Duration) {
	en.tally.Waited += now.Sub(en.since)
	if en.report.Next != job.Hop {
		en.tally.Attempts++
		en.remaining = timeout
	}
	en.report = job.Report{}
}

// took counts the time of a request. The rest of the timeout is for the hops that follow;
// no rest is a timeout at once.
func (en *entry) took(d time.Duration) {
	en.tally.Took += d
	if en.remaining > 0 {
		en.remaining = max(en.remaining-d, time.Nanosecond)
	}
}

// end ends the job of an entry that nobody else can reach any more. It runs code of the
// caller's.
func (en *entry) end(err error) {
	if en.unwatch != nil { // first: a body may panic, and close waits for the watchers
		en.unwatch()
		en.unwatch = nil
	}
	en.job.End(err)
}
