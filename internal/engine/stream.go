package engine

import (
	"context"
	"iter"
	"runtime"
	"slices"
	"time"

	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/job"
)

// StreamConfig says how a stream reads and yields.
type StreamConfig struct {
	Lookahead int  // inputs read ahead of the results yielded, at the most
	InOrder   bool // whether results are yielded in the order of the inputs
	Dedup     bool // whether equal inputs within the lookahead are run once
	// Unread takes the results that the loop has left unread, on its goroutine; nil: nobody does.
	// It may be code of the caller's.
	Unread func(Finished)
}

// A Finished job is one that has its outcome.
type Finished struct {
	Index int
	Job   job.Job   // as it was given
	Ran   job.Job   // the one that was run: Job, or the first that it equals
	Tally job.Tally // of Ran

	size   int // of the outcome in memory
	failed bool
}

// RunStream runs the jobs of inputs and yields them as they end. The caller may use a job
// again that was yielded, unless equal ones are run once.
func (e *Engine) RunStream(ctx context.Context, inputs iter.Seq[job.Job], c StreamConfig, yield func(Finished) bool) {
	s := &stream{batch: e.newBatch(ctx), pulled: make(chan struct{}), results: newResults(c, e.config.Limits.Slots)}
	s.batch.sink, s.batch.onEndLocked = s, s.deliverLocked
	s.batch.start()
	s.batch.expect()
	defer s.finish()
	go s.pull(inputs)
	for {
		finished := s.collect()
		if len(finished) == 0 {
			return
		}
		for i, f := range finished {
			finished[i] = Finished{} // a result that was yielded is the caller's alone
			s.unread = finished[i+1:]
			if !yield(f) {
				return
			}
			s.release(f)
		}
	}
}

// A stream is a batch that takes its inputs from an iterator and yields its results.
// The input is read on a goroutine of its own, the puller; results are yielded on the caller's.
type stream struct {
	batch       *batch
	results     *results
	unread      []Finished    // of those that the loop has taken from results
	pulled      chan struct{} // closed when the puller has ended
	inputExited bool          // by Goexit; set before that
}

// finish waits until nothing of the stream runs, however the loop over it was left.
func (s *stream) finish() {
	if !s.ended() {
		s.batch.stop()
	}
	<-s.pulled
	s.batch.close()
	s.leaveUnread()
	s.batch.raise()
	if s.inputExited {
		// As if the iterator had run where it was handed over.
		runtime.Goexit()
	}
}

// leaveUnread hands over the results that were not yielded.
func (s *stream) leaveUnread() {
	unread := s.results.config.Unread
	if unread == nil {
		return
	}
	for _, f := range slices.Concat(s.unread, s.results.rest()) {
		s.batch.containExit(func() { unread(f) })
	}
}

// ended reports whether all inputs there are have their results.
func (s *stream) ended() bool {
	select {
	case <-s.pulled:
	default:
		return false
	}
	s.batch.engine.mu.Lock()
	defer s.batch.engine.mu.Unlock()
	return s.batch.left == 0
}

// pull reads the input until it ends or the stream stops.
func (s *stream) pull(inputs iter.Seq[job.Job]) {
	s.inputExited = true
	defer func() {
		if value := recover(); value != nil {
			s.inputExited = false
			s.batch.abort(fault.AsPanic(value))
		}
		if s.inputExited {
			s.batch.stop()
		}
		s.batch.closeInput()
		close(s.pulled)
		s.results.wake()
	}()
	if s.batch.ctx.Err() == nil {
		for j := range inputs {
			s.accept(j)
			if !s.results.waitRoom(s.batch.ctx) {
				break
			}
		}
	}
	s.inputExited = false
}

func (s *stream) accept(j job.Job) {
	id, result, rank := s.results.read(j)
	switch rank {
	case first:
		s.batch.accept(newEntry(id, j, time.Now()))
	case finishedBefore:
		s.batch.engine.count(1, outcome{failed: result.failed})
	}
}

// collect waits for results and returns them in the order to be yielded; none when
// there are no more to come.
func (s *stream) collect() []Finished {
	for {
		ended := s.ended() // looked at first, as the last result comes before its end
		if finished := s.results.take(); len(finished) > 0 || ended {
			return finished
		}
		<-s.results.more
	}
}

// release is called when the loop is done with a result.
func (s *stream) release(f Finished) {
	if !s.results.yielded(f) {
		return
	}
	e := s.batch.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	s.holdLocked(now)
	e.kickLocked(now)
}

// holdLocked holds the lane while unread bodies take too much memory. Under InOrder the input
// that is waited for may start all the same.
func (s *stream) holdLocked(now time.Time) {
	b := s.batch
	if b.phase >= stopping {
		return
	}
	switch hold, exempt := s.results.hold(); hold {
	case holdLane:
		if en := b.waiting[exempt]; en != nil && en.tally.Attempts > 0 {
			b.lane.Promote(now, en.key, exempt)
		}
		b.lane.Hold(now, exempt)
	case unholdLane:
		b.lane.Unhold(now)
	}
}

func (s *stream) done(en *entry) { en.size = en.job.Size() }

func (s *stream) awaits(id int) bool { return s.results.awaits(id) }

// deliverLocked makes a result ready to be yielded: after its request was learnt from,
// as the loop may send the next one at once.
func (s *stream) deliverLocked(now time.Time, en *entry) {
	f := Finished{Index: en.id, Job: en.job, Ran: en.job, Tally: en.tally, size: en.size, failed: en.outcome.failed}
	s.batch.engine.counts.add(s.results.add(f)-1, outcome{failed: f.failed})
	s.holdLocked(now)
	if s.batch.left == 0 {
		s.results.wake()
	}
}

// Every input of a stream has an entry from the start.

func (s *stream) refuse(int, error, job.Tally) { panic("a stream refuses no input") }
func (s *stream) entry(int) *entry             { panic("an input of a stream has no entry") }
