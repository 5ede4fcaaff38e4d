package engine

import (
	"time"

	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/job"
	"github.com/batchhttp/fetch/internal/retry"
	"github.com/batchhttp/fetch/internal/sched"
)

// A hostMemory is the engine's part of what is remembered of a host. It is guarded by
// Engine.mu.
type hostMemory struct {
	budget   retry.Budget
	failures int // to connect, in a row
	doubtful int // refusals in a row that were doubtful
	// closed is the end of a pause longer than MaxPause.
	closed time.Time
}

// Matters reports whether forgetting it would give the host something that it has not earned.
func (m *hostMemory) Matters(now time.Time) bool {
	return !m.budget.Unspent() || m.failures > 0 || m.doubtful > 0 || m.closed.After(now)
}

func memoryOf(h *sched.Host) *hostMemory {
	m, ok := h.Memory.(*hostMemory)
	if !ok {
		m = &hostMemory{}
		h.Memory = m
	}
	return m
}

// note takes note of a request of a job's nth attempt.
func (m *hostMemory) note(attempt int, r *job.Report) {
	if attempt == 1 {
		m.budget.First()
	}
	switch {
	case r.Down != nil:
		m.failures++
	case r.Answer != job.None:
		m.failures = 0
	}
	if r.Answer == job.Accepted {
		m.doubtful = 0
		if r.Well {
			m.budget.Success()
		}
	}
}

// believed is how many doubtful refusals in a row speak for the host.
const believed = 3

// believes counts a doubtful refusal, and reports whether it speaks for the host.
func (m *hostMemory) believes() bool {
	m.doubtful++
	return m.doubtful >= believed
}

// learnLocked passes on to the scheduler and to the host's memory what a request
// has told. It returns the tasks that end because of it.
func (e *Engine) learnLocked(now time.Time, task sched.Task, en *entry) []eviction {
	h, r, c := task.Host(), &en.report, &e.config
	if c.Budgets || c.MaxHostFailures > 0 || h.Memory != nil {
		memoryOf(h).note(en.tally.Attempts, r)
	}
	if r.Answer == job.Throttled && r.Doubtful && !memoryOf(h).believes() {
		r.Answer = job.Neutral
	}
	e.sched.Done(now, task, outcomeOf(r))
	switch {
	case r.Answer == job.Throttled:
		return e.evictPausedLocked(now, h, r.Pause)
	case r.Down != nil && c.MaxHostFailures > 0 && memoryOf(h).failures >= c.MaxHostFailures:
		return task.Lane().Owner.(*batch).evictDownLocked(now, h, r.Down)
	}
	return nil
}

// evictPausedLocked ends the jobs that wait for a host whose pause is too
// long for them, or that has refused everything for too long.
func (e *Engine) evictPausedLocked(now time.Time, h *sched.Host, pause time.Duration) (out []eviction) {
	until := h.PausedUntil()
	err := &fault.HostPaused{Host: h.Key(), Until: until}
	tooLong := pause > e.config.MaxPause
	if tooLong {
		memoryOf(h).closed = until
	}
	for lane := range h.Lanes() {
		b := lane.Owner.(*batch)
		if tooLong || !b.fits(until) || b.givesUpLocked(now, h) {
			out = append(out, b.evictHostLocked(now, h.Key(), err)...)
		}
	}
	return out
}

// maxDown is how many hosts a batch remembers as given up.
const maxDown = 65_536

// evictDownLocked ends the batch's jobs of a host that cannot be connected to.
func (b *batch) evictDownLocked(now time.Time, h *sched.Host, last error) []eviction {
	err := fault.New(fault.ErrHostDown, last)
	if b.down == nil {
		b.down = map[string]error{}
	}
	if len(b.down) >= maxDown {
		for key := range b.down { // any: it is only tried again
			delete(b.down, key)
			break
		}
	}
	b.down[h.Key()] = err
	return b.evictHostLocked(now, h.Key(), err)
}

// refusalLocked returns the error of a job that need not be queued, as its host is
// down or paused for too long, or nil.
func (b *batch) refusalLocked(now time.Time, key string) error {
	if err := b.down[key]; err != nil {
		return err
	}
	h := b.engine.sched.Host(key)
	if h == nil {
		return nil
	}
	until, closed := h.PausedUntil(), false
	if m, ok := h.Memory.(*hostMemory); ok {
		closed = m.closed.Sub(now) > b.engine.config.MaxPause
	}
	if closed || until.After(now) && !b.fits(until) {
		return &fault.HostPaused{Host: key, Until: until}
	}
	return nil
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

// fits reports whether t is before the deadline of the batch.
func (b *batch) fits(t time.Time) bool {
	return b.deadline.IsZero() || t.Before(b.deadline)
}

// keepInput is keepHost for the host of a new input, unless that has an error. It may run on
// the caller's goroutine, which a runtime.Goexit of the caller's function must not end, and a
// panic must not get ahead of the inputs that are still to be taken.
func (b *batch) keepInput(key string, err error) (string, error) {
	if err != nil || b.engine.config.HostLimits == nil {
		return key, err
	}
	return key, b.keepContained(key)
}

func (b *batch) keepContained(key string) error {
	err := fault.Exited
	panicked, _ := fault.Contain(func() { err = b.engine.keepHost(key) })
	if panicked != nil {
		b.abort(panicked)
		return fault.Panicked
	}
	return err
}

// keepHost keeps the host with the given key in the scheduler until the push that
// follows. The limits of one that is not known are asked for, without the lock.
func (e *Engine) keepHost(key string) error {
	if e.config.HostLimits == nil {
		return nil
	}
	e.mu.Lock()
	known := e.sched.Keep(key)
	e.mu.Unlock()
	if known {
		return nil
	}
	limits, err := e.config.HostLimits(key)
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.sched.Introduce(key, limits)
	e.mu.Unlock()
	return nil
}

// releaseHostLocked undoes keepHost, after the push.
func (e *Engine) releaseHostLocked(now time.Time, key string) {
	if e.config.HostLimits != nil {
		e.sched.Release(now, key)
	}
}
