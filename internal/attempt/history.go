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

// record adds the attempt that has ended.
func (x *Exchange) record() {
	x.history.attempts = append(x.history.attempts, Past{
		StatusCode: x.StatusCode, Err: x.Cause(), RetryAfter: x.wait.asked,
	})
}

// time gives the last attempt its time.
func (h *history) time(tally job.Tally) {
	if n := len(h.attempts); n > 0 {
		h.attempts[n-1].Took = tally.Took - h.timed
		h.timed = tally.Took
	}
}

// History returns all attempts of an exchange that has ended; nil if there was one or none.
// Of one that runs it returns those before the attempt at hand.
func (x *Exchange) History(tally job.Tally) []Past {
	if x.turn != nil {
		return x.history.attempts
	}
	if tally.Attempts < 2 {
		return nil
	}
	if len(x.history.attempts) < tally.Attempts {
		x.record()
	}
	x.history.time(tally)
	return x.history.attempts
}
