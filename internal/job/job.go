// Package job is the door between the engine, which runs jobs without knowledge of HTTP,
// and the attempts that they are. Both sides import it, and neither imports the other.
package job

import (
	"context"
	"time"
)

// A Job is one URL of a batch. It belongs to one goroutine at a time, and none of its methods
// is called under the engine's lock.
type Job interface {
	// Host returns the key of the host that the next request goes to, or why there cannot be
	// one.
	Host() (key string, err error)
	// Context returns the job's own context, or nil. Its end ends the job, wherever that is.
	Context() context.Context
	// Distinct returns a text that equal jobs have in common; "" if the job equals no other.
	Distinct() string
	// End closes what is still open: no request follows. It is called once, or again if the
	// first call panicked. err says why the job was not run, or not again; nil leaves it
	// with the outcome of its last run.
	End(err error)
	// Size returns the bytes that the job's outcome keeps in memory, once it has ended.
	Size() int
	// Result returns the bytes of the body that the job has got, whoever took them, and whether it
	// has failed, once it has ended.
	Result() (bytes int64, failed bool)
	// Attempted is called when an attempt is over, after End if it was the last. again is the
	// earliest instant at which another begins; zero: none does. It runs code of the caller's.
	Attempted(t Tally, again time.Time)
	// Ended is called once, after the last End, if the engine's Config says so. It runs code of the
	// caller's.
	Ended(t Tally)
}

// A Runner makes the requests of one worker, one after the other.
type Runner interface {
	// Run makes the next request of j. It fills r as it goes, since the code of the caller's
	// that runs in it can end the goroutine.
	Run(t Turn, j Job, r *Report)
}

// A Turn is the time in which a job holds a slot.
type Turn struct {
	// Context ends with the batch and with the timeout of the attempt.
	Context context.Context
	// Cancel ends Context, and may do so after the turn. The next turn has another.
	Cancel context.CancelCauseFunc
	// Tally has the counts so far, with the attempt that this turn belongs to.
	Tally Tally
	// Deadline is that of the batch; zero is none.
	Deadline time.Time
	Slot
}

// Fits reports whether an instant is before the deadline of the batch.
func (t *Turn) Fits(at time.Time) bool { return t.Deadline.IsZero() || at.Before(t.Deadline) }

// A Slot answers for the engine during a turn. Its methods are for the goroutine of
// Runner.Run.
type Slot interface {
	// Cancelled returns the error of the batch if that has ended, or nil.
	Cancelled() error
	// Pay takes a retry from the budget of the host, and reports whether there was one.
	Pay() bool
	// GivenUp reports whether the host has refused everything for too long.
	GivenUp() bool
}

// A Tally has the counts and times of the engine for a job.
type Tally struct {
	Attempts int           // begun
	Queued   time.Time     // when the job was accepted
	Started  time.Time     // when its first attempt began; zero: it has not
	Began    time.Time     // when its last attempt began; zero: none has
	Waited   time.Duration // without a slot
	Took     time.Duration // in slots
}

// A Report has the lessons of a request about its host, and the next step of its job.
type Report struct {
	Answer Answer
	// Pause is how long a host that throttles asked to wait; 0 is that it did not say.
	Pause time.Duration
	// Quota is the host's statement about the requests that follow.
	Quota Quota
	// Doubtful tells that one such answer does not speak for the host, but several in a row
	// do.
	Doubtful bool
	Well     bool  // the answer earns the host a retry
	Down     error // why the host could not be connected to, or nil

	Next  Next
	After time.Duration // before the job is to run again, be it for a hop or another attempt
}

// A Quota says how many requests a host still takes until it is whole again. Without Reset it
// says nothing.
type Quota struct {
	Left  int
	Size  int // of a whole quota; 0 is not known
	Reset time.Duration
}

// An Answer is the message of a response about the host of the request.
type Answer uint8

const (
	None      Answer = iota // no answer came
	Neutral                 // it says nothing about others
	Accepted                // the host took the request
	Throttled               // the host asks for fewer requests
)

// Next is the step after a request.
type Next uint8

const (
	Done  Next = iota // nothing: the job is at its end
	Hop               // a redirect, of the same attempt
	Again             // another attempt
)
