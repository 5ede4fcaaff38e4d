package engine

import (
	"time"

	"github.com/batchhttp/fetch/internal/sched"
)

// Stats are the sums over all that an Engine does.
type Stats struct {
	Queued, BackingOff, InFlight, PausedHosts int
	Done, Failed, Attempts, Bytes             int64
	Left                                      time.Duration
}

// HostStats are those of one host.
type HostStats = sched.Prospect

// counts are the sums since the start. They are guarded by Engine.mu.
type counts struct{ done, failed, attempts, bytes int64 }

// An outcome is what a job that has ended adds to the counts.
type outcome struct {
	bytes  int64
	failed bool
}

// add counts n inputs with an outcome.
func (c *counts) add(n int, o outcome) {
	c.done += int64(n)
	c.bytes += int64(n) * o.bytes
	if o.failed {
		c.failed += int64(n)
	}
}

// count counts n inputs that did not run themselves.
func (e *Engine) count(n int, o outcome) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.counts.add(n, o)
}

// refused counts n inputs that got nothing but an error.
func (e *Engine) refused(n int) { e.count(n, outcome{failed: true}) }

// Stats returns the sums as they are at one instant.
func (e *Engine) Stats() Stats {
	e.mu.Lock()
	defer e.mu.Unlock()
	now, c, s := time.Now(), e.counts, e.sched
	return Stats{
		Queued: s.Queued(), BackingOff: s.Delayed(), InFlight: s.InFlight(), PausedHosts: s.PausedHosts(now),
		Done: c.done, Failed: c.failed, Attempts: c.attempts, Bytes: c.bytes,
		Left: s.Left(now),
	}
}

// Hosts returns the hosts with something to do, in no particular order. It holds the lock while it
// looks at all.
func (e *Engine) Hosts() []HostStats {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sched.Prospects(time.Now())
}
