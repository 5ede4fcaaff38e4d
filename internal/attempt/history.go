package attempt

import (
	"time"

	"github.com/batchhttp/fetch/internal/job"
)

// A Past is an attempt that has ended.
type Past struct {
	StatusCode int
	Err        error
	Took       time.Duration
	RetryAfter time.Duration
}

// A history has the attempts of an exchange that were followed by another. The time of the
// last is only known later, from the tally.
type history struct {
	attempts []Past
	timed    time.Duration // the sum of all times but the last
}

// record adds an attempt that has ended.
func (h *history) record(o *Outcome) {
	h.attempts = append(h.attempts, Past{StatusCode: o.StatusCode, Err: o.Cause(), RetryAfter: o.RetryAfter})
}

// time gives the last attempt its time.
func (h *history) time(tally job.Tally) {
	if n := len(h.attempts); n > 0 {
		h.attempts[n-1].Took = tally.Took - h.timed
		h.timed = tally.Took
	}
}

// all returns the attempts of an exchange with the given last outcome; nil if there were
// fewer than two.
func (h *history) all(last *Outcome, tally job.Tally) []Past {
	if tally.Attempts < 2 {
		return nil
	}
	if len(h.attempts) < tally.Attempts {
		h.record(last)
	}
	h.time(tally)
	return h.attempts
}
