// Package engine runs batches of jobs on workers. It decides with internal/sched which job
// may start, gives it a slot, ends it by its timeout or with its batch, and hands it back as a
// result of a list or a stream. It knows nothing of the jobs themselves: no URL, no HTTP.
//
// An Engine is safe for concurrent use. It owns all goroutines that it starts, and none is
// left when the last of the calls that run at the same time returns.
package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/job"
	"github.com/batchhttp/fetch/internal/sched"
)

// Config says how an Engine runs jobs.
type Config struct {
	Limits sched.Config
	// HostGroup returns the name of the group of a host, or "" if it is in none; nil: none is. The
	// hosts of a group are one to the engine, whose key is that name. It may be code of the
	// caller's.
	HostGroup func(host string) string
	// HostLimits returns the limits of a host; nil: Limits.Host holds for all. It may be code of
	// the caller's.
	HostLimits func(host string) (sched.Limits, error)
	// Limiter gives a permit for each start, or HostLimiter one for each start at a host; nil:
	// none is needed. They are code of the caller's.
	Limiter interface {
		Wait(ctx context.Context) error
	}
	HostLimiter interface {
		WaitHost(ctx context.Context, host string) error
	}
	Timeout         time.Duration // of an attempt; 0 is none
	Budgets         bool          // whether hosts have budgets of retries
	MaxHostFailures int           // to connect, in a row; 0 is no limit
	MaxPause        time.Duration // of a host that is still waited for
	Patience        time.Duration // with a host that refuses everything
	// Told tells that jobs have somebody to tell of their ends, so that Job.Ended is called.
	Told bool
	// Paused is told when the pause of a host grows; nil: nobody is. It is code of the caller's.
	Paused    func(host string, until time.Time)
	NewRunner func() job.Runner
}

// An Engine runs jobs on workers: goroutines that are started when a job can start, take
// one after the other, and end when nothing can start.
type Engine struct {
	config Config

	// mu guards the fields below, and the fields marked so in run, batch, stream, worker and
	// hostMemory. No code of the caller's runs under it, and nothing that takes longer with
	// the size of a batch.
	//
	// kickLocked follows, before the unlock, on each change that may let a job start. That
	// keeps the invariant: if a job can start, a worker is about to look, or all of them are
	// at work and will look.
	mu        sync.Mutex
	sched     *sched.Scheduler
	batches   int
	run       *run // while there are batches
	workers   int
	alarm     alarm
	deadlines deadlines
	permits   permits
	hosts     hosts
	counts    counts
}

// A run lasts from the first batch to the end of the last. Its group has every goroutine
// of the engine, so that the last batch can wait for them. Its error is the first panic of a
// Limiter that no job could be blamed for.
type run struct {
	group  errgroup.Group
	ctx    context.Context
	cancel context.CancelFunc
}

// New returns an Engine.
func New(c Config) *Engine {
	e := &Engine{config: c, sched: sched.New(time.Now(), c.Limits)}
	e.permits.engine, e.hosts.engine = e, e
	return e
}

// enterLocked starts a run with the first batch.
func (e *Engine) enterLocked() {
	if e.batches == 0 {
		r := &run{}
		r.ctx, r.cancel = context.WithCancel(context.Background())
		e.run = r
		e.alarm.ring = func() { e.ring(r) }
	}
	e.batches++
}

// leave ends the run with the last batch, and waits for its goroutines. It
// returns a panic that no batch has raised.
func (e *Engine) leave() *fault.Panic {
	e.mu.Lock()
	e.batches--
	r := e.run
	last := e.batches == 0
	if last {
		e.run = nil
		e.alarm.stop()
	}
	e.mu.Unlock()
	if !last {
		return nil
	}
	r.cancel()
	panicked, _ := errors.AsType[*fault.Panic](r.group.Wait())
	return panicked
}

// kickLocked starts a worker if a job can start, and sets the alarm for
// jobs that can start later. It is called after every change.
func (e *Engine) kickLocked(now time.Time) {
	if e.run == nil {
		return
	}
	e.permits.askForHostsLocked(now)
	startable := e.sched.InFlight() < e.config.Limits.Slots && e.sched.Startable(now)
	if at, ok := e.sched.Next(now); ok {
		e.alarm.set(now, at)
	}
	switch {
	case !startable:
	case e.config.Limiter != nil && e.sched.Permits() == 0:
		e.permits.askForAnyLocked()
	case e.workers < e.config.Limits.Slots:
		e.hireLocked()
	}
}

func (e *Engine) hireLocked() {
	e.workers++
	w := &worker{engine: e, run: e.run}
	e.run.group.Go(func() error {
		w.loop()
		return nil
	})
}

// ring is called when the alarm of run r goes off.
func (e *Engine) ring(r *run) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.run != r {
		return
	}
	now := time.Now()
	e.alarm.rung()
	e.deadlines.expire(now)
	if at, ok := e.deadlines.next(); ok {
		e.alarm.set(now, at)
	}
	e.kickLocked(now)
}

// An alarm has the engine look again at a given time, or earlier, which does no harm. It is
// guarded by Engine.mu.
type alarm struct {
	ring  func()
	timer *time.Timer
	at    time.Time // when it rings; zero: it is not set
}

// set makes the alarm ring at the given time, unless it rings earlier.
func (a *alarm) set(now, at time.Time) {
	if !a.at.IsZero() && !at.Before(a.at) {
		return
	}
	a.at = at
	if a.timer == nil {
		a.timer = time.AfterFunc(at.Sub(now), a.ring)
	} else {
		a.timer.Reset(at.Sub(now))
	}
}

// rung notes that the alarm has rung.
func (a *alarm) rung() { a.at = time.Time{} }

func (a *alarm) stop() {
	if a.timer != nil {
		a.timer.Stop()
	}
	*a = alarm{}
}
