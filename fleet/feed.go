package fleet

import (
	"errors"
	"maps"
	"net/http"
	"time"
)

// A reader reads the pages of a host, one after the other. It belongs to the goroutine that feeds.
type reader struct {
	run    *run
	after  uint64    // the number of the last page that was read
	tasks  []*task   // read and not fed yet
	looked time.Time // when the last was found; zero: there are more
	off    []*task   // read and not to be done yet, the first few
	// due is the earliest instant of these, and late of others that are not to be done yet; zero: none.
	due, late time.Time
	// ended tells that there is nothing else to do.
	ended bool
	// unread has what is done of pages that the run has not come to.
	unread map[uint64]bits
}

const (
	readPages = 4           // at once
	lookAgain = time.Second // for new pages, while something is in flight
	lookBack  = 100 * time.Millisecond
)

// feed yields what is to be sent. It ends when there is nothing, and nothing in flight.
func (r *run) feed(yield func(*http.Request) bool) {
	for {
		full, out := r.room()
		if full || r.worker.journal.behind() {
			if !r.pause() {
				return
			}
			continue
		}
		t, err := r.reader.next(out == 0)
		switch {
		case err != nil:
			return
		case t == nil && out == 0:
			r.reader.ended = true
			return
		case t == nil:
			if !r.pause() {
				return
			}
			continue
		}
		if !r.send(t, yield) {
			return
		}
	}
}

// room reports whether there is none for another task, and how many are out.
func (r *run) room() (full bool, out int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.out) >= r.window, len(r.out)
}

// pause waits until there is news, and reports whether the feed is to go on.
func (r *run) pause() bool {
	timer := time.NewTimer(lookBack)
	defer timer.Stop()
	select {
	case <-r.ending:
		return false
	case <-r.worker.ctx.Done():
		return false
	case <-r.wake:
	case <-timer.C:
	}
	return true
}

// send feeds a task, unless it can be finished without.
func (r *run) send(t *task, yield func(*http.Request) bool) bool {
	if r.isEnding() {
		return false
	}
	if !r.try(t) {
		return !r.isEnding()
	}
	req, err := t.http()
	if err != nil {
		// The same error as in any batch, for the price of a batch.
		res := r.worker.fetcher.FetchAll(r.worker.ctx, []string{t.URL})[0]
		r.unfed++
		res.Index = -r.unfed
		r.goesOut(t, res.Index)
		r.background.Go(func() { r.take(res) })
		return true
	}
	r.goesOut(t, r.fed)
	r.fed++
	return yield(req)
}

// goesOut notes that a task is on its way to the handler.
func (r *run) goesOut(t *task, index int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.out[index] = t
}

func (r *run) isEnding() bool {
	select {
	case <-r.ending:
		return true
	default:
		return false
	}
}

// try reports whether a task may be tried. One that owners have died of often enough is put with the
// poison. One that they may have died of waits for the suspects of the worker's other hosts: of two that run
// when it dies nobody knows which it was.
func (r *run) try(t *task) bool {
	if !r.isCareful() {
		return true
	}
	r.recordMu.Lock()
	trial := r.rec.trialOf(t.page.seq, t.index)
	deaths := r.rec.Deaths
	r.recordMu.Unlock()
	most := r.worker.fleet.config.MaxDeliveries
	// Deaths of which nothing is known count, but never so much that two more are enough: others may
	// be to blame for these.
	if unexplained := max(0, min(deaths, most-3)); unexplained+trial.Fatal >= most {
		r.background.Go(func() { r.poison(t, errDeadly) })
		return false
	}
	if trial.Fatal > 0 && !r.lockSuspect(t) {
		return false
	}
	r.recordMu.Lock()
	defer r.recordMu.Unlock()
	r.rec.Trial = trial
	r.fenceUnless(r.writeLocked(r.worker.ctx))
	return true
}

func (r *run) isCareful() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.careful > 0
}

// lockSuspect waits until no other suspect of the worker runs. It reports false if the run ends, and the
// task stays undone.
func (r *run) lockSuspect(t *task) bool {
	select {
	case r.worker.suspects <- struct{}{}:
		t.locked = true
	case <-r.ending:
	case <-r.worker.ctx.Done():
	}
	return t.locked
}

// unlockSuspect lets the next suspect run, when it is written down that the worker did not die of the one at
// hand.
func (w *worker) unlockSuspect() {
	w.journal.flush(w.ctx)
	<-w.suspects
}

var errDeadly = errors.New("workers have died of it")

// next returns the next task; nil if there is none now. idle tells that nothing is in flight.
func (r *reader) next(idle bool) (*task, error) {
	for {
		if !r.due.IsZero() && !r.due.After(time.Now()) {
			r.tasks, r.off, r.due = append(r.off, r.tasks...), nil, time.Time{}
		}
		if len(r.tasks) > 0 {
			t := r.tasks[0]
			r.tasks = r.tasks[1:]
			if r.wanted(t) {
				return t, nil
			}
			continue
		}
		if !r.looked.IsZero() && (idle || time.Since(r.looked) < lookAgain) {
			return nil, nil
		}
		if err := r.read(); err != nil {
			return nil, err
		}
	}
}

// wanted reports whether a task is to be done now. A URL that was seen is done.
func (r *reader) wanted(t *task) bool {
	now := time.Now()
	if t.NotBefore.After(now) {
		r.putOff(t)
		return false
	}
	if r.run.seen == nil || !t.once() {
		return true
	}
	print := fingerprintOf(t.URL)
	if !r.run.seen.add(print, now) {
		r.run.worker.dropped.Add(1)
		r.run.background.Go(func() { r.run.done(t) })
		return false
	}
	t.page.prints = append(t.page.prints, print)
	return true
}

// maxOff is how many tasks that are put off are kept, as they have bodies. The others are read again by
// the next run.
const maxOff = 32

func (r *reader) putOff(t *task) {
	if len(r.off) >= maxOff {
		r.late = earlier(r.late, t.NotBefore)
		return
	}
	r.off = append(r.off, t)
	r.due = earlier(r.due, t.NotBefore)
}

// earlier returns the earlier of two instants, of which zero is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// read reads the next pages.
func (r *reader) read() error {
	run := r.run
	w := run.worker
	pages, more, err := w.fleet.store.Pages(w.ctx, run.host, r.after, readPages)
	if err != nil {
		return err
	}
	r.looked = time.Time{}
	if !more {
		r.looked = time.Now()
	}
	for _, p := range pages {
		r.after = p.Seq
		all, err := readPage(p.Data)
		if err != nil {
			run.discard(p, err)
			continue
		}
		r.open(&page{seq: p.Seq, host: run.host, done: newBits(len(all))}, all)
	}
	return nil
}

// open queues the tasks of a page that are not done.
func (r *reader) open(p *page, all []stored) {
	copy(p.done, r.unread[p.seq])
	delete(r.unread, p.seq)
	var tasks []*task
	for i, s := range all {
		if !p.done.has(i) {
			tasks = append(tasks, &task{stored: s, page: p, index: i})
		} else if r.run.seen != nil && s.once() {
			print := fingerprintOf(s.URL)
			r.run.seen.add(print, time.Now())
			p.prints = append(p.prints, print)
		}
	}
	p.left = len(tasks)
	r.run.mu.Lock()
	r.run.pages[p.seq] = p
	r.run.mu.Unlock()
	if len(tasks) == 0 {
		r.run.background.Go(func() { r.run.delete(p) })
		return
	}
	r.tasks = append(r.tasks, tasks...)
}

// ahead returns what is done of pages that the run has not come to. Those before have been read, unless
// they are gone; and so are all when the end was reached.
func (r *reader) ahead() map[uint64]bits {
	ahead := maps.Clone(r.unread)
	maps.DeleteFunc(ahead, func(seq uint64, _ bits) bool { return seq <= r.after || !r.looked.IsZero() })
	return ahead
}
