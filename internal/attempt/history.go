package attempt

import (
	"time"

	"github.com/batchhttp/fetch/internal/job"
)

// A Past is an attempt that has ended.
type Past struct {
	StatusCode int
	Err        error
	Started    time.Time
	Took       time.Duration
	RetryAfter time.Duration
}

// A history has the attempts of an exchange that were followed by another.
type history struct {
	attempts []Past
	took     time.Duration // all of them
}

// record adds an attempt that has ended, unless it is there.
func (h *history) record(o *Outcome, tally job.Tally) {
	if len(h.attempts) == tally.Attempts {
		return
	}
	h.attempts = append(h.attempts, Past{
		StatusCode: o.StatusCode, Err: o.Cause(), Started: tally.Began,
		Took: tally.Took - h.took, RetryAfter: o.RetryAfter,
	})
	h.took = tally.Took
}

// all returns the attempts of an exchange with the given last outcome; nil if there were
// fewer than two.
func (h *history) all(last *Outcome, tally job.Tally) []Past {
	if tally.Attempts < 2 {
		return nil
	}
	h.record(last, tally)
	return h.attempts
}
