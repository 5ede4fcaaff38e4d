package engine

import (
	"context"
	"time"

	"github.com/batchhttp/fetch/internal/job"
)

// A List has the inputs of a call that knows them all, and takes their results. Each input
// gets exactly one of Done, Refuse, Rest and Copy, on any goroutine, but never one at the same
// time as another of the same input.
type List interface {
	Len() int
	// Host returns the key of the host of input i, or why it cannot be fetched.
	Host(i int) (key string, err error)
	// Context returns the context of input i's own, or nil.
	Context(i int) context.Context
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
	// Copy gives input i the result of the input that it equals.
	Copy(i, first int)
}

// RunList runs the jobs of a list and returns when all have their results. With dedup, equal
// inputs are run once.
func (e *Engine) RunList(ctx context.Context, inputs List, dedup bool) {
	l := &list{inputs: inputs}
	l.batch = e.newBatch(ctx)
	l.batch.sink = l
	if dedup {
		l.firsts = firsts{}
	}
	l.batch.start()
	defer l.complete()
	for first := 0; first < inputs.Len() && l.batch.ctx.Err() == nil; first += pushChunk {
		l.push(first, min(first+pushChunk, inputs.Len()))
	}
	l.batch.closeInput()
	<-l.batch.settled
}

// A list is a batch with all its inputs at hand. Most get their jobs only with their slots.
type list struct {
	batch  *batch
	inputs List

	// Of the goroutine of the call:
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

// push queues the inputs from first to end.
func (l *list) push(first, end int) {
	var candidates [pushChunk]candidate
	n := 0
	for i := first; i < end; i++ {
		if l.isCopy(i) {
			continue
		}
		candidates[n] = l.candidate(i)
		n++
	}
	l.queue(candidates[:n])
	for _, c := range candidates[:n] {
		switch {
		case c.err == nil:
		case c.entry != nil:
			l.batch.end(c.entry, c.err)
			l.batch.ended(1)
		default:
			l.batch.refuse(c.id, c.err)
			l.batch.ended(1)
		}
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
	c.key, c.err = l.batch.keepInput(l.inputs.Host(i))
	if ctx := l.inputs.Context(i); ctx != nil && ctx.Done() != nil && c.err == nil {
		c.entry = newEntry(i, l.inputs.Job(i), l.batch.started)
		c.entry.key = c.key
		l.batch.watch(c.entry)
	}
	return c
}

// queue queues the candidates, and gives an error to those that end instead.
func (l *list) queue(candidates []candidate) {
	b := l.batch
	b.engine.mu.Lock()
	defer b.engine.mu.Unlock()
	now := time.Now()
	b.left += len(candidates)
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
	b.contain(func() { l.inputs.Rest(b.cancelled(), job.Tally{Waited: time.Since(b.started)}) })
	for _, c := range l.copies {
		l.inputs.Copy(c.index, c.first)
	}
	b.raise()
}

func (l *list) entry(id int) *entry {
	return newEntry(id, l.inputs.Job(id), l.batch.started)
}

func (l *list) done(en *entry) { l.inputs.Done(en.id, en.job, en.tally) }

func (l *list) refuse(id int, err error, tally job.Tally) { l.inputs.Refuse(id, err, tally) }

func (l *list) awaits(int) bool { return false }

func (l *list) endedLocked(time.Time) {}
