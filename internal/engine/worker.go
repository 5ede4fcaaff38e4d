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
	stage  stage // of the entry

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
	w.stage = running
	w.entry = b.takeLocked(task.ID)
	if w.entry.begin(now, e.config.Timeout) {
		e.counts.attempts++
	}
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
	again := w.step()
	e.mu.Lock()
	evictions, now := w.releaseLocked()
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

// A stage is how far the worker has come with an entry whose job may end. The code of the
// caller's that it runs on the way can end the goroutine.
type stage uint8

const (
	running   stage = iota
	counted         // the time of the request is
	attempted       // the job was told that its attempt is over
	ended           // and that it has ended
)

// step takes the job's next step, and reports whether there is one: the host of another request
// is kept then. Otherwise the result is handed in.
func (w *worker) step() (again bool) {
	en := w.entry
	switch en.report.Next {
	case job.Done:
		en.end(nil)
	case job.Hop:
		again = w.keepNext()
	}
	w.count()
	if again {
		return true
	}
	w.tell(w.againAt())
	if en.report.Next == job.Again && w.keepNext() {
		return true
	}
	w.tellEnd()
	en.finish(w.batch)
	return false
}

// keepNext keeps the host of the next request, or ends the entry.
func (w *worker) keepNext() bool {
	en := w.entry
	host, err := en.job.Host()
	if err == nil {
		en.key, err = w.engine.hosts.keep(host)
	}
	if err != nil {
		en.end(err)
	}
	return err == nil
}

// count counts the time of the request.
func (w *worker) count() {
	if w.stage == running {
		w.stage = counted
		w.entry.took(time.Since(w.task.Started))
	}
}

// tell tells the job, in the slot, that an attempt is over.
func (w *worker) tell(again time.Time) {
	if w.stage == counted {
		w.stage = attempted
		w.entry.job.Attempted(w.entry.tally, again)
	}
}

// tellEnd tells the job that it has ended.
func (w *worker) tellEnd() {
	if w.stage < ended && w.engine.config.Told {
		w.stage = ended
		w.entry.job.Ended(w.entry.tally)
	}
}

// againAt returns the earliest instant of the next attempt; zero: there is none.
func (w *worker) againAt() time.Time {
	e, r := w.engine, &w.entry.report
	if r.Next != job.Again {
		return time.Time{}
	}
	now := time.Now()
	at := now.Add(max(r.After, r.Pause))
	if r.Answer != job.Throttled || r.Doubtful || !e.config.Told {
		return at
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if until := w.task.Host().Foretell(now, w.task, outcomeOf(r)); until.After(at) {
		at = until
	}
	return at
}

// releaseLocked gives the slot back, and returns the tasks that end because of the things
// that the request has told about its host. It lets go of the lock to tell of a pause.
func (w *worker) releaseLocked() ([]eviction, time.Time) {
	e, en, host, now := w.engine, w.entry, w.task.Host(), time.Now()
	before := host.PausedUntil()
	w.entry = nil
	e.deadlines.remove(w)
	evictions := e.hosts.learnLocked(now, w.task, en)
	if until := host.PausedUntil(); e.config.Paused != nil && until.After(before) {
		now = w.tellPauseLocked(now, host.Key(), until)
	}
	return evictions, now
}

// tellPauseLocked tells of a pause, without the lock. The batch cannot settle meanwhile, as the
// entry that was at hand is still busy.
func (w *worker) tellPauseLocked(now time.Time, host string, until time.Time) time.Time {
	e := w.engine
	e.kickLocked(now)
	e.mu.Unlock()
	w.batch.containExit(func() { e.config.Paused(host, until) })
	e.mu.Lock()
	return time.Now()
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
	w.count()
	b.containExit(func() { w.tell(time.Time{}) })
	b.containExit(w.tellEnd)
	en.finish(b)
	e := w.engine
	e.mu.Lock()
	evictions, now := w.releaseLocked()
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
	size      int           // of the outcome in memory, in a stream
	outcome   outcome       // set when the job has ended

	unwatch func() bool // the job's own context; nil: it is not watched
	expired *error      // set when the context ends while the entry does not wait
}

// entries has entries that nobody refers to any more.
var entries = sync.Pool{New: func() any { return new(entry) }}

// newEntry returns an entry that waits since the given time.
func newEntry(id int, j job.Job, since time.Time) *entry {
	en := entries.Get().(*entry)
	*en = entry{id: id, job: j, tally: job.Tally{Queued: since}, since: since}
	return en
}

// begin counts a request that starts, and reports whether an attempt does. timeout is that of an
// attempt.
func (en *entry) begin(now time.Time, timeout time.Duration) (attempt bool) {
	en.tally.Waited += now.Sub(en.since)
	attempt = en.report.Next != job.Hop
	if attempt {
		en.tally.Attempts++
		en.tally.Began = now
		if en.tally.Attempts == 1 {
			en.tally.Started = now
		}
		en.remaining = timeout
	}
	en.report = job.Report{}
	return attempt
}

// took counts the time of a request. The rest of the timeout is for the hops that follow;
// no rest is a timeout at once.
func (en *entry) took(d time.Duration) {
	en.tally.Took += d
	if en.remaining > 0 {
		en.remaining = max(en.remaining-d, time.Nanosecond)
	}
}

// finish hands the outcome of an entry to the sink of its batch, which may be the last to know the
// job.
func (en *entry) finish(b *batch) {
	en.outcome.bytes, en.outcome.failed = en.job.Result()
	b.sink.done(en)
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
