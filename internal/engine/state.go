package engine

import (
	"time"

	"github.com/batchhttp/fetch/internal/sched"
)

// A HostState is what is known of a host, to be kept elsewhere.
type HostState struct {
	sched.State
	Failures int // to connect, in a row
}

// HostState returns what is known of a host.
func (e *Engine) HostState(key string) HostState {
	e.mu.Lock()
	defer e.mu.Unlock()
	host := e.sched.Host(key)
	if host == nil {
		return HostState{}
	}
	s := HostState{State: host.State(time.Now())}
	if m, ok := host.Memory.(*hostMemory); ok {
		s.Failures = m.failures
	}
	return s
}

// SetHostState replaces what is known of a host.
func (e *Engine) SetHostState(key string, s HostState) error {
	limits := e.config.Limits.Host
	if e.config.HostLimits != nil {
		var err error
		if limits, err = e.config.HostLimits(key); err != nil {
			return err
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	e.sched.Introduce(key, limits)
	e.sched.Resume(now, key, s.State)
	m := memoryOf(e.sched.Host(key))
	m.failures, m.closed = s.Failures, time.Time{}
	if s.Until.Sub(now) > e.config.MaxPause {
		m.closed = s.Until
	}
	e.hosts.reviewQuotaLocked(now, e.sched.Host(key))
	e.sched.Release(now, key)
	e.kickLocked(now)
	return nil
}
