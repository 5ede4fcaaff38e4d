package fetch

import (
	"time"

	"github.com/batchhttp/fetch/internal/retry"
	"github.com/batchhttp/fetch/internal/sched"
)

// A hostMemory is what the engine remembers of a host. It is guarded by engine.mu.
type hostMemory struct {
	budget   retry.Budget
	failures int // to connect, in a row
	refusals int // 503s in a row that asked for too long a pause
	// closed is the end of a pause longer than WithMaxRetryAfter.
	closed time.Time
}

// Matters reports whether forgetting it would give the host something that it has not earned.
func (m *hostMemory) Matters(now time.Time) bool {
	return !m.budget.Unspent() || m.failures > 0 || m.refusals > 0 || m.closed.After(now)
}

func memoryOf(h *sched.Host) *hostMemory {
	m, ok := h.Memory.(*hostMemory)
	if !ok {
		m = &hostMemory{}
		h.Memory = m
	}
	return m
}

// note counts an attempt's end.
func (m *hostMemory) note(r *Result, l *lesson) {
	if r.Attempts == 1 {
		m.budget.First()
	}
	switch {
	case l.down:
		m.failures++
	case l.answer:
		m.failures = 0
	}
	if l.outcome.Verdict == sched.Accepted {
		m.refusals = 0
		if r.Err == nil && !retry.Status(r.StatusCode) {
			m.budget.Success()
		}
	}
}
