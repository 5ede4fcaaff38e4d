package engine

import (
	"errors"
	"time"

	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/sched"
)

var errLimiterExited = fault.New(nil, errors.New("WithLimiter: runtime.Goexit was called"))

// permits gets permits from the caller's limiter: one at a time for whichever host, or one at a
// time for each of a few hosts.
type permits struct {
	engine *Engine
	asking int // guarded by Engine.mu
}

// maxAsking is for how many hosts permits are waited for at once.
const maxAsking = 8

// anyHost is no host's key, as it is empty.
const anyHost = ""

// askForAnyLocked asks for a permit that any host can use.
func (p *permits) askForAnyLocked() {
	if p.asking == 0 {
		p.askLocked(anyHost)
	}
}

// askForHostsLocked asks for permits for the hosts that could start a request with one.
func (p *permits) askForHostsLocked(now time.Time) {
	if p.engine.config.HostLimiter == nil {
		return
	}
	for p.asking < maxAsking {
		key, ok := p.engine.sched.Ask(now)
		if !ok {
			return
		}
		p.askLocked(key)
	}
}

// askLocked asks for a permit, on a goroutine of its own.
func (p *permits) askLocked(key string) {
	p.asking++
	r := p.engine.run
	r.group.Go(func() error { return p.ask(r, key) })
}

// ask waits for a permit. The permit belongs to the job that can start first when it comes, as does
// an error or a panic. It returns a panic that no job could be blamed for.
func (p *permits) ask(r *run, key string) (unblamed error) {
	err := errLimiterExited
	var panicked *fault.Panic
	defer func() {
		if value := recover(); value != nil {
			panicked, err = fault.AsPanic(value), fault.Panicked
		}
		if blamed := p.answer(r, key, err, panicked); !blamed && panicked != nil {
			unblamed = panicked
		}
	}()
	if key == anyHost {
		err = p.engine.config.Limiter.Wait(r.ctx)
	} else {
		err = p.engine.config.HostLimiter.WaitHost(r.ctx, key)
	}
	if err != nil {
		err = fault.New(nil, err)
	}
	return nil
}

// answer takes the outcome of a wait: a permit, or the error of the job that could start. It
// reports whether there is such a job.
func (p *permits) answer(r *run, key string, err error, panicked *fault.Panic) (blamed bool) {
	e := p.engine
	e.mu.Lock()
	p.asking--
	now := time.Now()
	task, blamed := p.settleLocked(now, key, err, e.run == r)
	if !blamed {
		e.kickLocked(now) // a later run too, that had to wait for the end of this wait
		e.mu.Unlock()
		return false
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
	return true
}

// settleLocked hands a permit to the scheduler, or takes out the task that is to blame for an
// error, if there is one and the run still goes on.
func (p *permits) settleLocked(now time.Time, key string, err error, running bool) (task sched.Task, blamed bool) {
	s := p.engine.sched
	if err != nil && running {
		if key == anyHost {
			task, blamed = s.Reject(now)
		} else {
			task, blamed = s.RejectOf(now, key)
		}
	}
	switch {
	case key != anyHost:
		s.Answer(now, key, err == nil)
	case err == nil:
		s.Permit()
	}
	return task, blamed
}
