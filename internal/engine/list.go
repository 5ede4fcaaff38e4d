package engine

import (
	"context"
	"time"

	"github.com/batchhttp/fetch/internal/job"
)

// A List has the inputs of a call that knows them all, and takes their results. Each input
// gets exactly one of Done, Refuse, Rest and Copy, on any goroutine, but never one at the same
// time as another of the same input. All but Done may run code of the caller's.
type List interface {
	// Input returns the key of the host of input i, or why it cannot be fetched, and its own
	// context, or nil.
	Input(i int) (key string, ctx context.Context, err error)
	// Distinct returns a text that equal inputs have in common. It is only called if the
	// call is to run equal inputs once.
	Distinct(i int) string
	// Job makes the job of input i.
	Job(i int) job.Job
	// Done takes the outcome of a job that has ended.
	Done(i int, j job.Job, tally job.Tally)
	// Refuse takes the error of an input for which no job was made.
	Refuse(i int, err error, tally job.Tally)
	// Rest gives err to all inputs that have no result.
	Rest(err error, tally job.Tally)
	// Copy gives input i the result of the input that it equals, and reports whether that has
	// failed. ok is false if there is none: Rest comes later.
	Copy(i, first int) (failed, ok bool)
}

// RunList runs the jobs of a list of n inputs and returns when all have their results. With
// dedup, equal inputs are run once.
func (e *Engine) RunList(ctx context.Context, n int, inputs List, dedup bool) {
	l := &list{batch: e.newBatch(ctx), inputs: inputs, n: n}
	l.batch.sink = l
	if dedup {
		l.firsts = firsts{}
	}
	l.batch.start()
	defer l.complete()
	for l.pushed < n && l.batch.ctx.Err() == nil {
		l.push(min(pushChunk, n-l.pushed))
	}
	l.batch.closeInput()
	<-l.batch.settled
}

// RefuseList gives err to all inputs of a list of n, instead of running it.
func (e *Engine) RefuseList(n int, inputs List, err error) {
	defer e.refused(n)
	inputs.Rest(err, job.Tally{Queued: time.Now()})
}

// A list is a batch with all its inputs at hand. Most get their jobs only with their slots.
type list struct {
	batch  *batch
	inputs List
	n      int

	// Used by the goroutine of the call only:
	pushed int
	firsts firsts // nil: equal inputs are not looked for
	copies []equal
}

// An equal input gets the result of the first of its kind.
type equal struct{ index, first int }

// pushChunk is how many inputs are queued under one lock.
const pushChunk = 256

// A candidate is an input that is to be queued.
type candidate struct {
	id    int
	key   string
	entry *entry // nil: made later
	err   error  // why it is not queued
}

// push queues the next few inputs.
func (l *list) push(few int) {
	var buffer [pushChunk]candidate
	candidates := buffer[:0]
	for i := l.pushed; i < l.pushed+few; i++ {
		if !l.isCopy(i) {
			candidates = append(candidates, l.candidate(i))
		}
	}
	l.pushed += few
	l.queue(candidates)
	for _, c := range candidates {
		if c.err != nil {
			l.end(c)
		}
	}
}

// end ends an input that was not queued.
func (l *list) end(c candidate) {
	if c.entry != nil {
		l.batch.end(c.entry, c.err)
	} else {
		l.batch.refuse(c.id, c.err)
	}
}

func (l *list) isCopy(i int) bool {
	if l.firsts == nil {
		return false
	}
	first, ok := l.firsts.add(l.inputs.Distinct(i), i)
	if ok {
		l.copies = append(l.copies, equal{i, first})
	}
	return ok
}

func (l *list) candidate(i int) candidate {
	c := candidate{id: i}
	var ctx context.Context
	if c.key, ctx, c.err = l.inputs.Input(i); c.err == nil && l.batch.engine.hosts.asks() {
		c.key, c.err = l.batch.keepInput(c.key)
	}
	if ctx != nil && ctx.Done() != nil && c.err == nil {
		c.entry = newEntry(i, l.inputs.Job(i), l.batch.started)
		c.entry.key = c.key
		l.batch.watch(c.entry)
	}
	return c
}

// queue queues the candidates, and gives an error to each that ends instead.
func (l *list) queue(candidates []candidate) {
	b := l.batch
	b.engine.mu.Lock()
	defer b.engine.mu.Unlock()
	now := time.Now()
	b.left += len(candidates)
	b.lane.Expect(now, l.pushed < l.n)
	for i := range candidates {
		c := &candidates[i]
		if c.err == nil {
			c.err = b.queueNewLocked(now, c)
			b.engine.hosts.releaseLocked(now, c.key)
		}
		if c.err != nil {
			b.busy++
		}
	}
	b.engine.kickLocked(now)
}

// complete waits for the end of the batch, and sees to it that every input has its result.
func (l *list) complete() {
	b := l.batch
	b.close()
	copied := l.copy()
	if l.pushed < l.n || b.phase == stopped {
		b.contain(func() { l.inputs.Rest(b.cancelled(), b.tally()) })
	}
	b.engine.refused(l.n - b.done - copied)
	b.raise()
}

// copy gives the equal inputs their results, where there is one, and returns how many got one.
func (l *list) copy() (copied int) {
	for _, c := range l.copies {
		failed, ok := false, false
		l.batch.contain(func() { failed, ok = l.inputs.Copy(c.index, c.first) })
		if ok {
			copied++
			l.batch.engine.count(1, outcome{failed: failed})
		}
	}
	return copied
}

func (l *list) entry(id int) *entry {
	return newEntry(id, l.inputs.Job(id), l.batch.started)
}

func (l *list) done(en *entry) { l.inputs.Done(en.id, en.job, en.tally) }

func (l *list) refuse(id int, err error, tally job.Tally) { l.inputs.Refuse(id, err, tally) }

func (l *list) awaits(int) bool { return false }
