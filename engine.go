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
