package fleet

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/batchhttp/fetch/fleet/internal/store"
	"github.com/batchhttp/fetch/internal/redirect"
)

// A run is the time in which a worker owns a host. It reads the host's pages, feeds their requests to
// the Fetcher, and gives what is done to the handler.
type run struct {
	worker  *worker
	host    string
	started time.Time
	token   atomic.Pointer[store.Token]
	seen    *seenSet // nil: no URL is dropped
	reader  reader   // for the goroutine that feeds, and for giveBack, after it

	end     sync.Once
	ending  chan struct{} // closed when nothing more is to be fed
	handOff atomic.Bool   // to another worker, although there is more to do
	queueUp atomic.Bool   // and behind the hosts that wait for a worker
	wake    chan struct{} // has a value when the feed is to look again

	// background has what goes on beside the feed: handlers, and pages that are deleted.
	background sync.WaitGroup

	// recordMu guards rec and recordSeq. It is held while the record is written, so that nobody may
	// take it who holds another lock.
	recordMu  sync.Mutex
	rec       record
	recordSeq uint64

	fed, unfed int // tasks that went to the Fetcher, and past it; for the goroutine that feeds

	mu      sync.Mutex    // guards the fields below
	out     map[int]*task // not handled yet, by their index in the Fetcher; below zero if they went past it
	window  int           // how many these may be
	careful int           // tasks that are still to run alone, see trial
	pages   map[uint64]*page
}

// A page is one that was read.
type page struct {
	seq    uint64
	host   string
	prints []fingerprint // of the URLs that are fetched once

	// Guarded by the journal.
	done bits
	left int
}

// A task is a request of a page.
type task struct {
	stored
	page   *page
	index  int
	locked bool // it holds worker.suspects
	leg    redirect.Leg
}

// http returns the request for a Fetcher, which tells by the leg where it leads to.
func (t *task) http() (*http.Request, error) {
	req, err := t.stored.http()
	if err != nil {
		return nil, err
	}
	t.leg = redirect.Leg{Left: t.Hop != nil, Hops: t.hops()}
	return req.WithContext(redirect.WithLeg(req.Context(), &t.leg)), nil
}

const (
	firstWindow = 8
	maxWindow   = 256
	alone       = 64 // requests that run alone when owners have died
)

func newRun(w *worker, t store.Token, rec record) *run {
	r := &run{
		worker: w, host: t.Host, started: time.Now(), rec: rec,
		ending: make(chan struct{}), wake: make(chan struct{}, 1),
		out: map[int]*task{}, window: firstWindow, pages: map[uint64]*page{},
	}
	r.setToken(t)
	r.reader = reader{run: r, unread: map[uint64]bits{}}
	maps.Copy(r.reader.unread, rec.Progress)
	if w.fleet.config.Dedup > 0 {
		r.seen = newSeenSet(w.fleet.config.Dedup, r.started, r.waiting)
	}
	if rec.Deaths >= 2 || len(rec.Suspects) > 0 {
		r.careful, r.window = alone, 1
	}
	return r
}

// load gets what the run must know before it starts. known tells that the host has a record.
func (r *run) load(ctx context.Context, known bool) error {
	w := r.worker
	if known {
		if err := w.fetcher.SetHostState(r.host, r.rec.State); err != nil {
			return err
		}
	}
	if r.seen == nil || !known || r.rec.Deaths == 0 && time.Now().After(r.rec.SeenUntil) {
		return nil
	}
	texts, err := w.fleet.store.Seen(ctx, r.host)
	for _, text := range texts {
		r.seen.read(text, r.started)
	}
	return err
}

// waiting yields the fingerprints of the pages that are not done. It is for the goroutine that feeds, which
// adds them.
func (r *run) waiting(yield func(fingerprint) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pages {
		for _, f := range p.prints {
			if !yield(f) {
				return
			}
		}
	}
}

// work does all there is to do for the host, and gives it back.
func (r *run) work() {
	w := r.worker
	for res := range w.fetcher.DoStream(w.ctx, r.feed) {
		r.background.Go(func() { r.take(res) })
	}
	r.background.Wait()
	defer w.release(r)
	if w.ctx.Err() == nil {
		r.giveBack()
	}
}

// handOver ends the run although there is more to do.
func (r *run) handOver() {
	r.handOff.Store(true)
	r.feedNoMore()
}

func (r *run) feedNoMore() { r.end.Do(func() { close(r.ending) }) }

func (r *run) setToken(t store.Token) { r.token.Store(&t) }

func (r *run) keepToken() { r.token.Load().Keep() }

// encode returns the record as it is stored. What is done of pages is left out where they are too many for a
// message: rather is it done again than the host left without a record.
func (r *run) encode() []byte {
	data := r.rec.encode()
	if len(data) > store.MaxData {
		r.rec.Progress = nil
		data = r.rec.encode()
	}
	return data
}

// writeLocked stores the record, with recordMu held.
func (r *run) writeLocked(ctx context.Context) error {
	s, text := r.worker.fleet.store, r.encode()
	life := r.rec.life(time.Now())
	for {
		seq, err := s.PutRecord(ctx, r.host, text, r.recordSeq, life)
		if err == nil {
			r.recordSeq = seq
			return nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return err
		}
		// It is there already if an answer was lost. Nobody else writes while the worker lives.
		data, seq, err := s.Record(ctx, r.host)
		if err != nil {
			return err
		}
		if there, err := readRecord(data); err != nil || there.Owner != r.worker.id {
			return errors.Join(err, errFenced)
		}
		r.recordSeq = seq
	}
}

// notePause writes a pause down at once.
func (r *run) notePause(until time.Time) {
	r.recordMu.Lock()
	defer r.recordMu.Unlock()
	if until.After(r.rec.State.PausedUntil) {
		r.rec.State.PausedUntil = until
		r.fenceUnless(r.writeLocked(r.worker.ctx))
	}
}

// fenceUnless ends the worker on an error that says that it is not the owner any more.
func (r *run) fenceUnless(err error) {
	if errors.Is(err, errFenced) {
		r.worker.stop(errFenced)
	}
}

// rest ends the run until the host is to be tried again, and reports whether it does: not if the host has
// been given up often enough. until is told how often in a row.
func (r *run) rest(until func(rounds int) time.Time) bool {
	r.recordMu.Lock()
	defer r.recordMu.Unlock()
	resting := r.rec.Rest.After(r.started)
	if !resting && r.rec.Rounds >= r.worker.fleet.config.MaxDeliveries {
		return false
	}
	if !resting {
		r.rec.Rounds++
	}
	if at := until(r.rec.Rounds); at.After(r.rec.Rest) {
		r.rec.Rest = at
	}
	r.feedNoMore()
	return true
}

// accepted ends the count of rounds in which the host was given up.
func (r *run) accepted() {
	r.recordMu.Lock()
	defer r.recordMu.Unlock()
	r.rec.Rounds = 0
}

// giveBack gives the host back, when nothing of it is in flight: to whoever comes, to the queue until an
// instant, or to nobody when nothing is left.
func (r *run) giveBack() {
	w := r.worker
	r.recordMu.Lock()
	defer r.recordMu.Unlock()
	left := r.settleLocked()
	if err := r.writeLocked(w.ctx); err != nil {
		r.fenceUnless(err)
		return // the token comes back by itself
	}
	w.release(r) // before the token comes to this very worker again
	token := r.token.Load()
	now := time.Now()
	switch until := r.closedUntil(now); {
	case until.After(now):
		token.Return(until.Sub(now))
	case r.queueUp.Load():
		r.finish(*token) // a token that is returned comes before those that wait
	case left || r.handOff.Load():
		token.Return(0)
	default:
		r.finish(*token)
	}
}

// closedUntil returns the instant until which the host needs no worker.
func (r *run) closedUntil(now time.Time) time.Time {
	if !r.reader.ended {
		return r.rec.closedUntil() // there may be more to do
	}
	due := earlier(r.reader.due, r.reader.late)
	if most := now.Add(maxPutOff); due.After(most) {
		due = most
	}
	return later(r.rec.closedUntil(), due)
}

// maxPutOff is for how long requests that are put off close their host. They say nothing of it, and what is
// added meanwhile does not wake a worker up, as the host has a token.
const maxPutOff = time.Minute

// settleLocked makes the record that of a host without an owner, and reports whether a page that was
// read is not done.
func (r *run) settleLocked() (left bool) {
	w := r.worker
	r.rec.Owner, r.rec.Since = "", time.Time{}
	r.rec.State = w.fetcher.HostState(r.host)
	r.rec.Progress = r.reader.ahead()
	r.mu.Lock()
	defer r.mu.Unlock()
	for seq, p := range r.pages {
		done, missing := w.journal.close(p)
		if done.count() > 0 {
			r.rec.Progress[seq] = done
		}
		left = left || missing > 0
	}
	var untried []trial
	for _, t := range r.rec.Suspects {
		_, read := r.pages[t.Page]
		if read && !r.rec.Progress[t.Page].has(t.Index) || t.Page > r.reader.after {
			untried = append(untried, t)
		}
	}
	r.rec.acquit(untried)
	return left
}

// finish takes the token out of the queue, and then looks once more: a page that came meanwhile
// had its token refused.
func (r *run) finish(token store.Token) {
	w := r.worker
	if err := token.Finish(w.ctx); err != nil {
		return
	}
	if has, err := w.fleet.store.HasPages(w.ctx, r.host); err == nil && has {
		w.fleet.store.AddToken(w.ctx, r.host)
	}
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
