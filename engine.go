package fetch

import (
	"context"
	"net/http"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/batchhttp/fetch/internal/sched"
)

// An engine runs the requests of a Fetcher's batches on workers: goroutines that are
// started when a request can start, take one request after the other, and end when
// nothing can start.
type engine struct {
	config       *config
	own          *ownClient // nil with a client of the caller's that is not guarded
	header       http.Header
	host         string // of WithHeader("Host", …)
	sharesHeader bool   // whether nobody can change the header of a GET
	reuses       bool   // whether a GET that was answered can be used again
	decodesGzip  bool   // whether GETs ask for gzip themselves

	// mu guards what follows and what batches and streams say that it guards. Under it
	// no stranger's code runs, and nothing that takes longer with the size of a batch.
	//
	// Whoever changes what may start calls kickLocked before unlocking. That keeps
	// the invariant: if a request can start, a worker is about to look, or
	// all of them are at work and will look.
	mu      sync.Mutex
	sched   *sched.Scheduler
	batches int
	run     *run // while there are batches
	workers int

	timer     *time.Timer // of this run
	armed     time.Time   // when it fires; zero: not armed
	deadlines deadlines
	asking    bool // a permit
}

// A run lasts from the first batch to the end of the last. Its group has every goroutine
// of the engine, so that the last batch can wait for them.
type run struct {
	group  errgroup.Group
	ctx    context.Context
	cancel context.CancelFunc
	// panicked is the panic of a Limiter when no URL was there to blame; guarded by engine.mu.
	panicked *panicError
}

func newEngine(c *config) *engine {
	e := &engine{config: c, header: c.header.Clone()}
	e.host = e.header.Get("Host")
	e.header.Del("Host")
	if c.client == nil || c.guard != nil {
		e.own = newOwnClient(c)
	}
	if c.client == nil {
		e.sharesHeader = c.requestFunc == nil
		e.decodesGzip = c.requestFunc == nil && e.header.Get("Accept-Encoding") == "" && e.header.Get("Range") == ""
	}
	if e.decodesGzip {
		e.header.Set("Accept-Encoding", "gzip")
	}
	e.reuses = e.sharesHeader && c.bodyFunc == nil && sizeOf(e.header) < 1<<10
	limits := sched.Config{
		Slots:   c.concurrency,
		Rate:    c.rate,
		Burst:   c.burst,
		Permits: c.limiter != nil,
		Host:    c.defaultLimits(),
	}
	if c.retries > 0 {
		limits.PauseBase, limits.PauseMax = c.backoffBase, c.backoffMax
	}
	e.sched = sched.New(time.Now(), limits)
	return e
}

// sizeOf returns about what a header takes on the wire.
func sizeOf(h http.Header) (size int) {
	for key, values := range h {
		for _, value := range values {
			size += len(key) + len(value) + len(": \r\n")
		}
	}
	return size
}

func (e *engine) transport() http.RoundTripper {
	switch {
	case e.own != nil:
		return e.own
	case e.config.client.Transport != nil:
		return e.config.client.Transport
	}
	return http.DefaultTransport
}

func (e *engine) jar() http.CookieJar {
	if e.config.client == nil {
		return nil
	}
	return e.config.client.Jar
}

// closeIdle closes the idle connections of the own client.
func (e *engine) closeIdle() {
	if e.own != nil {
		e.own.transport.CloseIdleConnections()
	}
}

// shutdown closes all connections of the own client.
func (e *engine) shutdown() {
	if e.own != nil {
		e.own.close()
	}
}

// enterLocked starts a run with the first batch.
func (e *engine) enterLocked() {
	if e.batches == 0 {
		e.run = &run{}
		e.run.ctx, e.run.cancel = context.WithCancel(context.Background())
	}
	e.batches++
}

// leave ends the run with the last batch, and waits for its goroutines. It
// returns a panic that no batch has raised.
func (e *engine) leave() *panicError {
	e.mu.Lock()
	e.batches--
	r := e.run
	last := e.batches == 0
	if last {
		e.run = nil
		if e.timer != nil {
			e.timer.Stop()
			e.timer, e.armed = nil, time.Time{}
		}
	}
	e.mu.Unlock()
	if !last {
		return nil
	}
	r.cancel()
	r.group.Wait()
	return r.panicked
}

// kickLocked sees to it that what can start does start, and that the timer is set for
// what can start later. It is called after every change.
func (e *engine) kickLocked(now time.Time) {
	if e.run == nil {
		return
	}
	if e.sched.InFlight() < e.config.concurrency && e.sched.Startable(now) {
		switch {
		case e.config.limiter != nil && e.sched.Permits() == 0:
			e.askLocked()
		case e.workers < e.config.concurrency:
			e.startLocked()
		}
	}
	if at, ok := e.sched.Next(now); ok {
		e.armLocked(now, at)
	}
}

// armLocked sets the timer to fire at the given time, if it does not fire earlier.
// One that fires too early does no harm.
func (e *engine) armLocked(now, at time.Time) {
	if !e.armed.IsZero() && !at.Before(e.armed) {
		return
	}
	e.armed = at
	if e.timer == nil {
		r := e.run
		e.timer = time.AfterFunc(at.Sub(now), func() { e.tick(r) })
	} else {
		e.timer.Reset(at.Sub(now))
	}
}

// tick is what the timer of run r does.
func (e *engine) tick(r *run) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.run != r {
		return
	}
	now := time.Now()
	e.armed = time.Time{}
	e.deadlines.expire(now)
	if w := e.deadlines.first; w != nil {
		e.armLocked(now, w.deadline)
	}
	e.kickLocked(now)
}

// startLocked starts a worker.
func (e *engine) startLocked() {
	e.workers++
	w := &worker{engine: e, run: e.run}
	e.run.group.Go(func() error {
		w.loop()
		return nil
	})
}

// askLocked asks the Limiter for a permit, on a goroutine of its own.
func (e *engine) askLocked() {
	if e.asking {
		return
	}
	e.asking = true
	r := e.run
	r.group.Go(func() error {
		e.ask(r)
		return nil
	})
}

// ask waits for a permit. It belongs to whichever request can start then. An
// error, or a panic, is that of the request which can start.
func (e *engine) ask(r *run) {
	err := errLimiterExited
	var panicked *panicError
	defer func() {
		if value := recover(); value != nil {
			panicked, err = asPanic(value), errPanicked
		}
		e.answer(r, err, panicked)
	}()
	err = e.config.limiter.Wait(r.ctx)
}

// answer deals with what Wait has returned: a permit, or the error of the request that
// could start.
func (e *engine) answer(r *run, err error, panicked *panicError) {
	e.mu.Lock()
	now := time.Now()
	e.asking = false
	var task sched.Task
	blamed := false
	switch {
	case err == nil:
		e.sched.Permit()
	case e.run == r:
		task, blamed = e.sched.Reject(now)
	}
	if !blamed {
		if panicked != nil {
			r.panicked = panicked
		}
		e.kickLocked(now) // of a new run too, that had to wait for the end of this Wait
		e.mu.Unlock()
		return
	}
	j := task.Lane().Owner.(*batch).takeLocked(task.ID, now, new(job))
	j.batch.inFlight++
	e.mu.Unlock()
	b := j.batch
	j.fail(&failure{nil, err})
	b.finish(j)
	if panicked != nil {
		b.abort(panicked)
	}
	e.mu.Lock()
	b.inFlight--
	b.settleLocked()
	e.mu.Unlock()
}

// keepHost keeps the host with the given key in the scheduler until the push that
// follows. The limits of one that is not known are asked for, without the lock.
func (e *engine) keepHost(key string) error {
	if e.config.hostLimits == nil {
		return nil
	}
	e.mu.Lock()
	known := e.sched.Keep(key)
	e.mu.Unlock()
	if known {
		return nil
	}
	limits, err := e.config.limitsOf(key)
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.sched.Introduce(key, limits)
	e.mu.Unlock()
	return nil
}

// releaseHostLocked undoes keepHost, after the push.
func (e *engine) releaseHostLocked(now time.Time, key string) {
	if e.config.hostLimits != nil {
		e.sched.Release(now, key)
	}
}

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
	w.ctx, w.cancel = attemptContext(b.ctx)
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
