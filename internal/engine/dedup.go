package engine

import "github.com/batchhttp/fetch/internal/job"

// firsts has the first of each kind of equal inputs, by the text that they have in common.
type firsts map[string]int

// add returns the first input that equals the given one, and ok if it is another input. The text
// "" equals none.
func (f firsts) add(distinct string, id int) (first int, ok bool) {
	if distinct == "" {
		return id, false
	}
	if first, ok = f[distinct]; !ok {
		f[distinct] = id
		first = id
	}
	return first, ok
}

// remove forgets an input, so that the next that equals it is a first.
func (f firsts) remove(distinct string, id int) {
	if first, ok := f[distinct]; ok && first == id {
		delete(f, distinct)
	}
}

// duplicates keeps the inputs of a stream that equal an input in flight, and the results of inputs
// that have run, until they are yielded.
type duplicates struct {
	firsts  firsts             // nil: equal inputs are not looked for
	results map[int]Finished   // of firsts that have ended
	waiting map[int][]Finished // for the result of a first, by its number
}

func newDuplicates() duplicates {
	return duplicates{firsts: firsts{}, results: map[int]Finished{}, waiting: map[int][]Finished{}}
}

// A rank tells the first of equal inputs from the others.
type rank uint8

const (
	first          rank = iota // it is to be run
	finishedBefore             // it has the result of one that has ended
	runningNow                 // it gets the result of one that runs
)

// add takes an input, and returns its result if that is known.
func (d *duplicates) add(id int, j job.Job) (Finished, rank) {
	if d.firsts == nil {
		return Finished{}, first
	}
	original, ok := d.firsts.add(j.Distinct(), id)
	if !ok {
		return Finished{}, first
	}
	own := Finished{Index: id, Job: j}
	if result, ok := d.results[original]; ok {
		return own.with(result), finishedBefore
	}
	d.waiting[original] = append(d.waiting[original], own)
	return own, runningNow
}

// finish takes a result, and returns the results of the inputs that waited for it.
func (d *duplicates) finish(f Finished) []Finished {
	if d.firsts == nil {
		return nil
	}
	d.results[f.Index] = f
	waiting := d.waiting[f.Index]
	delete(d.waiting, f.Index)
	for i := range waiting {
		waiting[i] = waiting[i].with(f)
	}
	return waiting
}

// forget is called when a result has been yielded.
func (d *duplicates) forget(f Finished) {
	if d.firsts == nil {
		return
	}
	d.firsts.remove(f.Job.Distinct(), f.Index)
	delete(d.results, f.Index)
}

// with returns f with the outcome of another.
func (f Finished) with(other Finished) Finished {
	f.Ran, f.Tally, f.size, f.failed = other.Ran, other.Tally, other.size, other.failed
	return f
}
