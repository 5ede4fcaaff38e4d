package engine

import (
	"cmp"
	"time"

	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/job"
	"github.com/batchhttp/fetch/internal/retry"
	"github.com/batchhttp/fetch/internal/sched"
)

// A hostMemory is the engine's part of the memory of a host. It is guarded by
// Engine.mu.
type hostMemory struct {
	budget   retry.Budget
	failures int // to connect, in a row
	doubtful int // refusals in a row that were doubtful
	// closed is the end of a pause longer than MaxPause.
	closed time.Time
}

// Matters reports whether the host would gain something if the memory were forgotten.
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

// hosts has the knowledge about hosts that the scheduler does not have.
type hosts struct {
	engine *Engine
}

// asks reports whether keep may run code of the caller's.
func (h hosts) asks() bool {
	c := &h.engine.config
	return c.HostLimits != nil || c.HostGroup != nil
}

// keep returns the key of a host, and keeps it in the scheduler until the push that follows. The
// group of the host, and the limits of an unknown host, are asked for without the lock.
func (h hosts) keep(host string) (key string, err error) {
	e := h.engine
	key = host
	if e.config.HostGroup != nil {
		key = cmp.Or(e.config.HostGroup(host), host)
	}
	if e.config.HostLimits == nil {
		return key, nil
	}
	e.mu.Lock()
	known := e.sched.Keep(key)
	e.mu.Unlock()
	if known {
		return key, nil
	}
	limits, err := e.config.HostLimits(key)
	if err != nil {
		return key, err
	}
	e.mu.Lock()
	e.sched.Introduce(key, limits)
	e.mu.Unlock()
	return key, nil
}

// releaseLocked undoes keep, after the push.
func (h hosts) releaseLocked(now time.Time, key string) {
	if h.engine.config.HostLimits != nil {
		h.engine.sched.Release(now, key)
	}
}

// learnLocked passes the report of a request on to the scheduler and to the memory of the
// host. It returns the tasks that end because of it.
func (h hosts) learnLocked(now time.Time, task sched.Task, en *entry) []eviction {
	host, r, c := task.Host(), &en.report, &h.engine.config
	if c.Budgets || c.MaxHostFailures > 0 || host.Memory != nil {
		memoryOf(host).note(en.tally.Attempts, r)
	}
	if r.Answer == job.Throttled && r.Doubtful && !memoryOf(host).believes() {
		r.Answer = job.Neutral
	}
	if left, reset := host.Quota(now); r.Answer == job.Throttled && r.Pause == 0 && left == 0 && !reset.IsZero() {
		r.Pause = reset.Sub(now) // the host has told it earlier
	}
	h.engine.sched.Done(now, task, outcomeOf(r))
	h.reviewQuotaLocked(now, host)
	switch {
	case r.Answer == job.Throttled:
		return h.pausedLocked(now, host, r.Pause)
	case r.Down != nil && c.MaxHostFailures > 0 && memoryOf(host).failures >= c.MaxHostFailures:
		b := task.Lane().Owner.(*batch)
		b.down.add(host.Key(), fault.New(fault.ErrHostDown, r.Down))
		return b.evictHostLocked(now, host.Key(), b.down[host.Key()])
	}
	return nil
}

// reviewQuotaLocked overrules the quota of a host if the reset is too far away, be it for one of
// the batches that wait for the host only: a quota is advice, until the host refuses.
func (h hosts) reviewQuotaLocked(now time.Time, host *sched.Host) {
	left, reset := host.Quota(now)
	if reset.IsZero() {
		return
	}
	fits := reset.Sub(now) <= h.engine.config.MaxPause
	if left == 0 {
		for lane := range host.Lanes() {
			fits = fits && lane.Owner.(*batch).fits(reset)
		}
	}
	host.Overrule(now, !fits)
}

// pausedLocked ends the jobs that wait for a host if its pause is too long for them, or if it
// has refused everything for too long.
func (h hosts) pausedLocked(now time.Time, host *sched.Host, pause time.Duration) (out []eviction) {
	until := host.PausedUntil()
	err := &fault.HostPaused{Host: host.Key(), Until: until}
	tooLong := pause > h.engine.config.MaxPause
	if tooLong {
		memoryOf(host).closed = until
	}
	for lane := range host.Lanes() {
		b := lane.Owner.(*batch)
		if tooLong || !b.fits(until) || b.givesUpLocked(now, host) {
			out = append(out, b.evictHostLocked(now, host.Key(), err)...)
		}
	}
	return out
}

// pauseLocked returns the pause of a host that is too long to be waited for until the
// deadline of a batch, or at all; nil if there is none.
func (h hosts) pauseLocked(now time.Time, key string, b *batch) *fault.HostPaused {
	host := h.engine.sched.Host(key)
	if host == nil {
		return nil
	}
	until, closed := host.PausedUntil(), false
	if m, ok := host.Memory.(*hostMemory); ok {
		closed = m.closed.Sub(now) > h.engine.config.MaxPause
	}
	if closed || until.After(now) && !b.fits(until) {
		return &fault.HostPaused{Host: key, Until: until}
	}
	if _, reset := host.Quota(now); !reset.IsZero() && !b.fits(reset) {
		host.Overrule(now, true)
	}
	return nil
}

// outcomeOf returns a report as the scheduler understands it.
func outcomeOf(r *job.Report) sched.Outcome {
	o := sched.Outcome{Quota: sched.Quota(r.Quota), Answered: r.Answer != job.None}
	switch r.Answer {
	case job.Accepted:
		o.Verdict = sched.Accepted
	case job.Throttled:
		o.Verdict, o.Pause = sched.Throttled, r.Pause
	}
	return o
}

// downHosts has the errors of the hosts that a batch has given up, by key.
type downHosts map[string]error

// maxDown is how many hosts a batch remembers as given up.
const maxDown = 65_536

func (d *downHosts) add(key string, err error) {
	if *d == nil {
		*d = downHosts{}
	}
	if len(*d) >= maxDown {
		for forgotten := range *d { // any: it is only tried again
			delete(*d, forgotten)
			break
		}
	}
	(*d)[key] = err
}
