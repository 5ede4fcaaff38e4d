package engine

import (
	"errors"
	"time"

	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/sched"
)

var errLimiterExited = fault.New(nil, errors.New("WithLimiter: runtime.Goexit was called"))

// permits gets permits from the Limiter, one at a time.
type permits struct {
	engine *Engine
	asking bool // guarded by Engine.mu
}

// askLocked asks for a permit, on a goroutine of its own.
func (p *permits) askLocked() {
	if p.asking {
		return
	}
	p.asking = true
	r := p.engine.run
	r.group.Go(func() error {
		p.ask(r)
		return nil
	})
}

// ask waits for a permit. The permit belongs to the job that can start first when it comes, as does
// an error or a panic.
func (p *permits) ask(r *run) {
	err := errLimiterExited
	var panicked *fault.Panic
	defer func() {
		if value := recover(); value != nil {
			panicked, err = fault.AsPanic(value), fault.Panicked
		}
		p.answer(r, err, panicked)
	}()
	if err = p.engine.config.Limiter.Wait(r.ctx); err != nil {
		err = fault.New(nil, err)
	}
}

// answer takes the outcome of Wait: a permit, or the error of the job that could start.
func (p *permits) answer(r *run, err error, panicked *fault.Panic) {
	e := p.engine
	e.mu.Lock()
	p.asking = false
	now := time.Now()
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
		e.kickLocked(now) // a later run too, that had to wait for the end of this Wait
		e.mu.Unlock()
		return
	}
	b := task.Lane().Owner.(*batch)
	en := b.takeLocked(task.ID)
	b.busy++
	if panicked == nil { // otherwise the batch stops first: its others are not to ask again
		e.kickLocked(now)
	}
	e.mu.Unlock()
	if panicked != nil {
		b.abort(panicked) // before the batch can settle: nobody would raise it then
	}
	b.end(en, err)
}
