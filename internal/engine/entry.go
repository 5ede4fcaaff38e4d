package engine

import (
	"sync"
	"time"

	"github.com/batchhttp/fetch/internal/job"
	"github.com/batchhttp/fetch/internal/sched"
)

// An entry is a job's place in its batch. It belongs to the worker that runs the job,
// otherwise to the batch, under Engine.mu.
type entry struct {
	id     int
	job    job.Job
	tally  job.Tally
	report job.Report // of the last request

	key       string    // of the host that it waits for
	era       int       // of the lane when it was queued
	since     time.Time // when it began to wait
	due       time.Time // when its back-off is over
	remaining time.Duration

	unwatch func() bool // the job's own context; nil: it is not watched
	expired *error      // set when that ends while the entry does not wait
}

var entries = sync.Pool{New: func() any { return new(entry) }}

// newEntry returns an entry that waits since the given time.
func newEntry(id int, j job.Job, since time.Time) *entry {
	en := entries.Get().(*entry)
	*en = entry{id: id, job: j, since: since}
	return en
}

// recycle takes back an entry that nobody refers to any more.
func recycle(en *entry) {
	en.job = nil
	entries.Put(en)
}

// begin counts a request that starts. timeout is that of an attempt.
func (en *entry) begin(now time.Time, timeout time.Duration) {
	en.tally.Waited += now.Sub(en.since)
	if en.report.Next != job.Hop {
		en.tally.Attempts++
		en.remaining = timeout
	}
	en.report = job.Report{}
}

// took counts the time of a request. What is left of the timeout is for the hops that follow;
// nothing left is a timeout at once.
func (en *entry) took(d time.Duration) {
	en.tally.Took += d
	if en.remaining > 0 {
		en.remaining = max(en.remaining-d, time.Nanosecond)
	}
}

// end ends the job of an entry that nobody else can reach any more. It runs code of the
// caller's.
func (en *entry) end(err error) {
	if en.unwatch != nil { // first: a body may panic, and close waits for the watchers
		en.unwatch()
		en.unwatch = nil
	}
	en.job.End(err)
}

// outcomeOf returns a report as the scheduler understands it.
func outcomeOf(r *job.Report) sched.Outcome {
	switch r.Answer {
	case job.Accepted:
		return sched.Outcome{Verdict: sched.Accepted}
	case job.Throttled:
		return sched.Outcome{Verdict: sched.Throttled, Pause: r.Pause}
	}
	return sched.Outcome{Verdict: sched.Neutral}
}
