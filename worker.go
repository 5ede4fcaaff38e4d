package fetch

import (
	"context"
	"net/http"
	"time"

	"github.com/batchhttp/fetch/internal/sched"
)

// A worker runs one request after the other.
type worker struct {
	engine *engine
	run    *run

	batch    *batch // whose context ctx comes from
	ctx      context.Context
	cancel   context.CancelCauseFunc
	template *http.Request // a GET with ctx
	request  *http.Request // to be used again; nil: none
	job      *job          // at hand
	task     sched.Task    // of job
	spare    *job          // to be used for the next URL

	// Guarded by engine.mu:
	deadline   time.Time // zero: not among the deadlines
	prev, next *worker
}

// loop takes requests until none can start. A panic, or Goexit, of a stranger's code
// ends it with the job still at hand.
func (w *worker) loop() {
	defer w.abandon()
	e := w.engine
	e.mu.Lock()
	now := time.Now()
	for e.run == w.run {
		task, ok := e.sched.Pop(now)
		e.kickLocked(now)
		if !ok {
			break
		}
		w.takeLocked(task, now)
		e.mu.Unlock()
		w.send(w.job)
		w.review()
		now = w.settle()
	}
	e.workers--
	e.kickLocked(now) // a worker of an earlier run leaves room for one of this
	e.mu.Unlock()
	if w.cancel != nil {
		w.cancel(nil)
	}
}

// takeLocked makes a task the job at hand.
func (w *worker) takeLocked(task sched.Task, now time.Time) {
	e, b := w.engine, task.Lane().Owner.(*batch)
	if w.spare == nil {
		w.spare = new(job)
	}
	w.prepare(b)
	w.task = task
	w.job = b.takeLocked(task.ID, now, w.spare)
	b.inFlight++
	w.job.lesson = lesson{}
	if w.job.next == nil {
		w.job.begin()
	}
	if w.job.remaining > 0 {
		w.deadline = now.Add(w.job.remaining)
		e.deadlines.add(w)
		e.armLocked(now, e.deadlines.first.deadline)
	}
}

// prepare makes the worker's context one of the batch, and one that has not
// ended. It stays for as long as it can: a new one for each request is a cost that shows.
func (w *worker) prepare(b *batch) {
	if w.batch == b && w.ctx.Err() == nil {
		return
	}
	if w.cancel != nil {
		w.cancel(nil)
	}
	w.batch = b
	w.ctx, w.cancel = sendContext(b.ctx)
	w.template = (&http.Request{
		Method: http.MethodGet, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.engine.header, Host: w.engine.host,
	}).WithContext(w.ctx)
}

// settle gives the slot back and hands on the job. It returns with mu held.
func (w *worker) settle() time.Time {
	e, j, task := w.engine, w.job, w.task
	again := j.next != nil || j.lesson.again
	if !again {
		j.end()
	}
	e.mu.Lock()
	now := time.Now()
	w.job = nil
	evictions := w.releaseLocked(now, j, task)
	if j.next == nil {
		j.record()
	}
	if again {
		evictions = append(evictions, w.passOnLocked(now, j)...)
	} else {
		j.batch.finishLocked(j)
		w.spare = j
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

// passOnLocked queues a job again, unless its host takes no more.
func (w *worker) passOnLocked(now time.Time, j *job) []eviction {
	b := j.batch
	if j == w.spare {
		w.spare = nil
	}
	j.since = now
	err := b.queueLocked(now, j)
	w.engine.releaseHostLocked(now, j.key)
	if err == nil {
		return nil
	}
	return b.evictLocked(j, err)
}

// releaseLocked gives the slot back, and returns the tasks that end because of what
// the request has told about its host.
func (w *worker) releaseLocked(now time.Time, j *job, task sched.Task) []eviction {
	w.engine.deadlines.remove(w)
	took := now.Sub(task.Started)
	j.result.Took += took
	j.took += took
	if j.remaining > 0 {
		// What is left of the timeout is for the redirects; nothing left is a timeout at once.
		j.remaining = max(j.remaining-took, time.Nanosecond)
	}
	j.batch.inFlight--
	return w.learnLocked(now, j, task)
}

// abandon is what is left to do when a stranger's code has ended the worker.
func (w *worker) abandon() {
	j := w.job
	if j == nil {
		return
	}
	err := errExited
	if value := recover(); value != nil {
		err = errPanicked
		// Before the batch can settle: nobody would raise it then.
		j.batch.abort(asPanic(value))
	}
	j.next = nil
	j.fail(&failure{nil, err})
	contain(j.end) // a second panic, or Goexit, of a Close says nothing new
	e := w.engine
	e.mu.Lock()
	now := time.Now()
	w.job = nil
	j.lesson.again, j.lesson.down = false, false // what it has told about its host holds
	evictions := w.releaseLocked(now, j, w.task)
	j.record()
	j.batch.finishLocked(j)
	e.workers--
	e.kickLocked(now)
	e.mu.Unlock()
	for _, v := range evictions {
		v.finish()
	}
	if w.cancel != nil {
		w.cancel(nil)
	}
}

// deadlines is a list of the workers whose attempts have a timeout, the next to
// expire first. All have the same timeout, so that a new one nearly always goes to the end.
type deadlines struct {
	first, last *worker
}

func (d *deadlines) add(w *worker) {
	after := d.last
	for after != nil && after.deadline.After(w.deadline) {
		after = after.prev
	}
	w.prev = after
	if after != nil {
		w.next, after.next = after.next, w
	} else {
		w.next, d.first = d.first, w
	}
	if w.next != nil {
		w.next.prev = w
	} else {
		d.last = w
	}
}

func (d *deadlines) remove(w *worker) {
	if w.deadline.IsZero() {
		return
	}
	w.deadline = time.Time{}
	if w.prev != nil {
		w.prev.next = w.next
	} else {
		d.first = w.next
	}
	if w.next != nil {
		w.next.prev = w.prev
	} else {
		d.last = w.prev
	}
	w.prev, w.next = nil, nil
}

// expire ends the attempts whose time is over.
func (d *deadlines) expire(now time.Time) {
	for w := d.first; w != nil && !w.deadline.After(now); w = d.first {
		d.remove(w)
		w.cancel(errAttemptTimeout)
	}
}
