package fetch

import (
	"cmp"
	"context"
	"iter"
	"maps"
	"math"
	"net/http"
	"runtime"
	"slices"
	"time"
)

// unreadBytes is how much the bodies of results that were not yielded yet may hold
// before nothing more starts.
const unreadBytes = 64 << 20

// A stream is a batch whose inputs come from an iterator and whose results are yielded.
// The input is read on a goroutine of its own, the puller; results are yielded on the caller's.
type stream struct {
	*batch
	lookahead int
	inOrder   bool
	pulled    chan struct{} // closed when the puller has ended

	// Guarded by engine.mu:
	read, yielded int
	unread        []Result       // to be yielded, in order of completion
	early         map[int]Result // that wait for their turn, under WithInOrder
	next          int            // whose turn it is then
	bytes         int            // of all bodies not yet yielded
	held          bool           // the lane, for bytes
	pulling       bool           // the puller waits for room
	inputExited   bool           // by Goexit
	more, room    chan struct{}  // wake the consumer and the puller

	leads    map[string]*lead // under WithDedup, by distinct URL, until the first is yielded
	distinct map[int]string   // the keys of leads, by index
}

// A lead is the first of several equal URLs.
type lead struct {
	result    Result
	done      bool
	followers []Result // of which Index and URL are known
}

// An input is a URL, or a request.
type input struct {
	url       string
	request   *http.Request
	isRequest bool
}

// A streamJob is a job with a place for its result.
type streamJob struct {
	job    job
	result Result
}

// streamInputs yields the results of the inputs.
func (e *engine) streamInputs(ctx context.Context, inputs iter.Seq[input], yield func(Result) bool) {
	s := &stream{
		batch:     e.newBatch(ctx),
		lookahead: e.config.lookahead,
		inOrder:   e.config.inOrder,
		pulled:    make(chan struct{}),
		more:      make(chan struct{}, 1),
		room:      make(chan struct{}, 1),
		early:     map[int]Result{},
		leads:     map[string]*lead{},
		distinct:  map[int]string{},
	}
	s.batch.stream = s
	s.start()
	defer s.finish()
	go s.pull(inputs)
	for {
		results := s.collect()
		if len(results) == 0 {
			return
		}
		for i, r := range results {
			results[i] = Result{} // what was yielded is the caller's alone
			if !yield(r) {
				return
			}
			s.release(r)
		}
	}
}

// finish waits until nothing of the stream runs, however the loop over it was left.
func (s *stream) finish() {
	e := s.engine
	e.mu.Lock()
	complete := !s.open && s.left == 0
	e.mu.Unlock()
	if !complete {
		s.stop()
	}
	<-s.pulled
	s.close()
	if s.inputExited {
		// As if the iterator had run where it was handed over.
		runtime.Goexit()
	}
}

// pull reads the input until it ends or the stream stops.
func (s *stream) pull(inputs iter.Seq[input]) {
	exited := true
	defer func() {
		if value := recover(); value != nil {
			exited = false
			s.abort(asPanic(value))
		}
		if exited {
			s.stop()
		}
		s.engine.mu.Lock()
		s.open = false
		s.inputExited = exited
		s.settleLocked()
		s.engine.mu.Unlock()
		close(s.pulled)
		wake(s.more)
	}()
	if s.ctx.Err() == nil {
		for in := range inputs {
			if !s.accept(in) {
				break
			}
		}
	}
	exited = false
}

// accept takes an input and waits until the next may be read. It reports
// whether it may.
func (s *stream) accept(in input) bool {
	s.engine.mu.Lock()
	id := s.read
	s.read++
	s.left++
	s.engine.mu.Unlock()
	own := &streamJob{result: Result{Index: id, URL: in.url}}
	own.job = job{batch: s.batch, id: id, result: &own.result, since: time.Now()}
	j := &own.job
	switch {
	case in.isRequest:
		j.accept(in.request)
	case !s.follows(j):
		s.acceptURL(j)
	}
	return s.waitRoom()
}

// acceptURL queues a job for a URL, or fails it.
func (s *stream) acceptURL(j *job) {
	key, err := hostOf(j.result.URL)
	if err == nil {
		err = s.keepHost(key)
	}
	if err != nil {
		*j.result = failed(*j.result, err)
		s.batch.finish(j)
		return
	}
	j.key = key
	s.queue(j)
}

// follows reports whether an equal URL is fetched already, or has been, and is
// not yielded yet: then its result is the job's too.
func (s *stream) follows(j *job) bool {
	if !s.engine.config.dedup {
		return false
	}
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	key := distinctKey(j.result.URL)
	first := s.leads[key]
	switch {
	case first == nil:
		s.leads[key] = &lead{}
		s.distinct[j.id] = key
		return false
	case first.done:
		s.left--
		s.placeLocked(sameResult(first.result, *j.result))
		wake(s.more)
	default:
		first.followers = append(first.followers, *j.result)
	}
	return true
}

// sameResult returns the result of a URL for another that equals it.
func sameResult(r, other Result) Result {
	r.Index, r.URL = other.Index, other.URL
	return r
}

// waitRoom waits until one more input may be read, and reports whether that ever is.
func (s *stream) waitRoom() bool {
	e := s.engine
	for s.ctx.Err() == nil {
		e.mu.Lock()
		s.pulling = s.read-s.yielded >= s.lookahead
		pulling := s.pulling
		e.mu.Unlock()
		if !pulling {
			return true
		}
		select {
		case <-s.room:
		case <-s.ctx.Done():
		}
	}
	return false
}

// collect waits for results and returns them in the order to be yielded; none when
// there are no more to come.
func (s *stream) collect() []Result {
	e := s.engine
	for {
		e.mu.Lock()
		results := s.unread
		s.unread = nil
		var rest map[int]*job
		if s.dropped && len(s.jobs) > 0 {
			rest, s.jobs = s.jobs, map[int]*job{}
		}
		ended := !s.open && s.left == 0
		e.mu.Unlock()
		s.cancelRest(rest)
		switch {
		case len(results) > 0:
			return results
		case len(rest) > 0:
		case ended:
			return nil
		default:
			<-s.more
		}
	}
}

// cancelRest gives each job that a stop has left without a result its
// error, in input order.
func (s *stream) cancelRest(jobs map[int]*job) {
	if len(jobs) == 0 {
		return
	}
	rest := slices.SortedFunc(maps.Values(jobs), func(a, b *job) int { return cmp.Compare(a.id, b.id) })
	s.batch.cancelJobs(slices.Values(rest))
	s.engine.mu.Lock()
	defer s.engine.mu.Unlock()
	for _, j := range rest {
		s.finishLocked(j)
	}
}

// deliverLocked makes a result ready to be yielded, and those that equal it.
func (s *stream) deliverLocked(j *job) {
	r := *j.result
	s.placeLocked(r)
	if first := s.leads[s.distinct[j.id]]; first != nil {
		for _, follower := range first.followers {
			s.left--
			s.placeLocked(sameResult(r, follower))
		}
		first.result, first.done, first.followers = r, true, nil
	}
	s.holdLocked(time.Now())
}

// placeLocked puts a result among the unread when it is its turn.
func (s *stream) placeLocked(r Result) {
	s.bytes += len(r.Body)
	if !s.inOrder {
		s.unread = append(s.unread, r)
		return
	}
	s.early[r.Index] = r
	for {
		r, ok := s.early[s.next]
		if !ok {
			return
		}
		delete(s.early, s.next)
		s.next++
		s.unread = append(s.unread, r)
	}
}

// holdLocked holds the lane while unread bodies take too much memory, all but the
// one that is waited for under WithInOrder.
func (s *stream) holdLocked(now time.Time) {
	limit := unreadBytes
	if s.held {
		limit /= 2 // once for many results, as holding a lane costs more than one result
	}
	switch {
	case s.stopped:
	case s.bytes > limit:
		s.held = true
		exempt := math.MinInt
		if s.inOrder {
			exempt = s.next
			if j := s.jobs[exempt]; j != nil && j.result.Attempts > 0 {
				s.lane.Promote(now, j.key, exempt)
			}
		}
		s.lane.Hold(now, exempt)
	case s.held:
		s.held = false
		s.lane.Unhold(now)
	}
}

// release is called when the loop is done with a result.
func (s *stream) release(r Result) {
	e := s.engine
	e.mu.Lock()
	defer e.mu.Unlock()
	s.yielded++
	s.bytes -= len(r.Body)
	if key, ok := s.distinct[r.Index]; ok {
		delete(s.distinct, r.Index)
		delete(s.leads, key)
	}
	if s.held {
		now := time.Now()
		s.holdLocked(now)
		e.kickLocked(now)
	}
	// Waking the puller for each free place would cost a switch of goroutines for each URL.
	room := s.lookahead - (s.read - s.yielded)
	if s.pulling && (room >= max(1, s.lookahead/8) || len(s.jobs) == 0) {
		s.pulling = false
		wake(s.room)
	}
}

// wake sends to c, which has room for one, unless a wake-up waits there already.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
