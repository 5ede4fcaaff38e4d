package fleet

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	mathrand "math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/fleet/internal/store"
)

// A Delivery is a request that is done.
type Delivery struct {
	Request Request // as it was added, but that the method GET is ""
	// Host is that which the last request went to. It is empty if its URL has none, or one of more than
	// 512 bytes: then no refusal is waited for.
	Host       string
	Deliveries int // before this one, without success
	// Result is that of the request. Its URL is that of Request, and its Index says nothing.
	Result fetch.Result
}

// A Handler takes what is done. It is called from several goroutines at once, while the request counts
// against the limits of nothing any more. The request is done once it returns nil. An error
// leaves it to be done again, after a second and longer each time. ctx ends when the
// worker has lost the host: what the handler does then is done again by another.
type Handler func(ctx context.Context, d Delivery) error

// Run works until ctx is done: it takes hosts from the backlog, fetches their URLs with the options of
// package fetch, and gives each Result to the handler. Then it finishes what is in flight and
// hands its hosts over, and returns nil. It returns an error when the connection to the broker is closed for
// good, as the broker does that takes what comes over it for broken. Options that need all URLs of a batch
// have no meaning here: WithDedup, WithInOrder and WithLookahead. WithHostGroup groups only hosts that one
// worker has at the time: what it promises of a group does not hold over the fleet.
//
// A process may run several workers, but one is faster.
func (f *Fleet) Run(ctx context.Context, handler Handler, opts ...fetch.Option) error {
	if handler == nil {
		return errors.New("fleet: nil Handler")
	}
	for joined := false; ; joined = true {
		w := &worker{fleet: f, handler: handler, id: rand.Text(), runs: map[string]*run{}, suspects: make(chan struct{}, 1)}
		fetcher, err := fetch.New(append(slices.Clone(opts), w.options()...)...)
		if err != nil {
			return fmt.Errorf("fleet: %w", err)
		}
		w.fetcher = fetcher
		err = w.work(ctx)
		fetcher.Close()
		closed := f.store.Closed()
		switch {
		case ctx.Err() != nil && errors.Is(err, errFenced):
			return nil // its hosts are taken over
		case ctx.Err() == nil && closed != nil:
			return fmt.Errorf("fleet: the connection to the broker was closed for good: %w", closed)
		case errors.Is(err, errFenced):
		case joined && err != nil: // a broker that refuses, for want of room, may not do so for ever
			sleep(ctx, time.Second)
		default:
			return err
		}
	}
}

// errFenced ends a worker that could not renew its lease. Its name is dead from then on.
var errFenced = errors.New("the lease of the worker is over")

// A worker lives from one lease to its end. Another of the same process has another name, so
// that the dead stay dead.
type worker struct {
	fleet   *Fleet
	handler Handler
	id      string
	fetcher *fetch.Fetcher
	journal *journal

	// ctx ends when the worker must not call any host any more.
	ctx  context.Context
	stop context.CancelCauseFunc

	mu       sync.Mutex      // guards the fields below
	runs     map[string]*run // nil: being acquired
	stopping bool
	most     int // hosts to have, so that others get theirs
	running  sync.WaitGroup

	done, failed, again, dropped atomic.Int64
	peers                        atomic.Int64 // workers that live, with this one
	started                      time.Time
	legacies                     legacies
	suspects                     chan struct{} // a lock: one of them runs at a time, see run.try
	reference                    reference
}

// options are those that the worker needs.
func (w *worker) options() []fetch.Option {
	return []fetch.Option{
		fetch.WithLookahead(2 * maxWindow), fetch.WithHostRedirects(), fetch.WithHooks(fetch.Hooks{Paused: w.paused}),
		fetch.WithMaxRedirects(max(0, w.fleet.config.MaxRedirects)),
	}
}

// work runs the worker until ctx is done, or the lease is over.
func (w *worker) work(ctx context.Context) error {
	w.ctx, w.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	defer w.stop(nil)
	w.started, w.most = time.Now(), w.fleet.config.Hosts
	w.journal = newJournal(w.fleet.store, w.id)
	var parts sync.WaitGroup
	defer parts.Wait()
	lease := newLease(w)
	defer lease.end()
	if err := lease.renew(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("fleet: %w", err)
	}
	defer w.stop(nil)
	w.balance(ctx, lease.renewed)
	parts.Go(func() { lease.keep(w.ctx) })
	parts.Go(func() { w.journal.run(w.ctx) })
	intake, endIntake := context.WithCancel(w.ctx)
	var taking sync.WaitGroup
	taking.Go(func() { w.take(intake) })
	taking.Go(func() { w.sweep(intake) })
	select {
	case <-ctx.Done():
	case <-w.ctx.Done():
	}
	endIntake()
	taking.Wait()
	w.handOverAll()
	w.running.Wait()
	if w.ctx.Err() != nil {
		return context.Cause(w.ctx)
	}
	w.stop(nil)
	parts.Wait()
	return w.leave(context.WithoutCancel(ctx), lease)
}

// leave takes the worker out of the fleet, when it owns nothing any more.
func (w *worker) leave(ctx context.Context, lease *lease) error {
	ctx, cancel := context.WithTimeout(ctx, w.fleet.config.Lease)
	defer cancel()
	_, err := w.fleet.store.Expire(ctx, lease.seq)
	if err = errors.Join(err, w.fleet.store.DropJournal(ctx, w.id)); err != nil {
		return fmt.Errorf("fleet: leaving: %w", err)
	}
	return nil
}

// tokenWait is how long one call waits for tokens.
const tokenWait = 500 * time.Millisecond

// maxTokens is how many tokens one call asks for: few, so that workers that start together get
// about as many.
const maxTokens = 16

// take takes hosts until ctx is done.
func (w *worker) take(ctx context.Context) {
	var acquiring sync.WaitGroup
	defer acquiring.Wait()
	for ctx.Err() == nil {
		room := w.room()
		if room <= 0 {
			sleep(ctx, 20*time.Millisecond)
			continue
		}
		err := w.fleet.store.Tokens(ctx, min(room, maxTokens), tokenWait, func(t store.Token) {
			acquiring.Go(func() { w.acquire(ctx, t) })
		})
		if err != nil {
			sleep(ctx, 100*time.Millisecond)
		}
		acquiring.Wait() // so that room counts them
	}
}

func (w *worker) room() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.most - len(w.runs)
}

// acquire makes the worker the owner of a token's host, if nobody else is.
func (w *worker) acquire(ctx context.Context, t store.Token) {
	if w.adopt(t) {
		return
	}
	defer w.acquired(t.Host)
	after, err := w.own(ctx, t)
	switch {
	case errors.Is(err, store.ErrConflict):
		t.Return(100 * time.Millisecond)
	case err != nil:
		t.Return(time.Second)
	case after > 0:
		t.Return(after)
	}
}

// adopt takes a token over of a host that the worker has or is about to have: the broker may hand one
// out again. If it returns false, the host is to be acquired.
func (w *worker) adopt(t store.Token) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	r, known := w.runs[t.Host]
	if r != nil {
		r.setToken(t)
	}
	if !known {
		w.runs[t.Host] = nil
	}
	return known
}

// acquired ends what adopt began.
func (w *worker) acquired(host string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.runs[host] == nil {
		delete(w.runs, host)
	}
}

// own tries to become the owner of a host. It returns after which time to try again if it cannot be
// owned now.
func (w *worker) own(ctx context.Context, t store.Token) (after time.Duration, err error) {
	s := w.fleet.store
	data, seq, err := s.Record(ctx, t.Host)
	if err != nil {
		return 0, err
	}
	rec, err := readRecord(data)
	if err != nil {
		return 0, err
	}
	if rec.Owner != "" && rec.Owner != w.id { // its own, if an answer of the broker's was lost
		// If it lives, the broker has lost count of what it handed out, or it is about to be dead.
		if after, err = w.untilDead(ctx, rec.Owner); err != nil || after > 0 {
			return after, err
		}
		if err := w.bury(ctx, t.Host, &rec); err != nil {
			return 0, err
		}
	}
	now := time.Now()
	if until := rec.closedUntil(); until.Sub(now) > shortPause {
		return until.Sub(now), nil
	}
	rec.Owner, rec.Since = w.id, now
	r := newRun(w, t, rec)
	if err := r.load(ctx, seq > 0); err != nil {
		return 0, err
	}
	if seq, err = s.PutRecord(ctx, t.Host, r.encode(), seq, 0); err != nil {
		return 0, err
	}
	r.recordSeq = seq
	w.mu.Lock()
	defer w.mu.Unlock()
	w.runs[t.Host] = r
	w.running.Go(r.work)
	if w.stopping {
		r.handOver()
	}
	return 0, nil
}

// shortPause is how long a pause may be for a worker to take the host, rather than leave it to the queue.
const shortPause = 100 * time.Millisecond

// bury takes over what the dead owner of a host has done.
func (w *worker) bury(ctx context.Context, host string, rec *record) error {
	left, err := w.legacies.read(ctx, w.fleet.store, rec.Owner)
	if err != nil {
		return err
	}
	if rec.Progress == nil {
		rec.Progress = map[uint64]bits{}
	}
	rec.buried(left[host])
	for seq, page := range left[host] {
		if page.left > 0 {
			rec.Progress[seq] = rec.Progress[seq].union(page.done)
			continue
		}
		if err := w.fleet.store.DeletePage(ctx, seq); err != nil {
			return err
		}
		delete(rec.Progress, seq)
	}
	rec.State.Spent = time.Now() // it may have used up all that the rate allows
	return nil
}

// legacies has those of dead workers, as several of their hosts come to one worker.
type legacies struct {
	mu    sync.Mutex
	known map[string]legacy
}

func (d *legacies) read(ctx context.Context, s *store.Store, id string) (legacy, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if left, ok := d.known[id]; ok {
		return left, nil
	}
	entries, err := s.Journal(ctx, id)
	if err != nil {
		return nil, err
	}
	left := legacy{}
	for _, entry := range entries {
		left.read(entry)
	}
	if d.known == nil || len(d.known) >= 16 {
		d.known = map[string]legacy{}
	}
	d.known[id] = left
	return left, nil
}

// release takes a run off the list, when the record of its host says that nobody owns it.
func (w *worker) release(r *run) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.runs[r.host] == r {
		delete(w.runs, r.host)
	}
}

// paused notes a pause of a host at once, in case that the worker dies in it. The Fetcher is not kept from
// obeying it meanwhile.
func (w *worker) paused(host string, until time.Time) {
	w.mu.Lock()
	r := w.runs[host]
	w.mu.Unlock()
	if r != nil {
		r.background.Go(func() { r.notePause(until) })
	}
}

func (w *worker) handOverAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopping = true
	for r := range w.owned() {
		r.handOver()
	}
}

// owned yields the runs of hosts that have been acquired. It is called with mu held.
func (w *worker) owned() iter.Seq[*run] {
	return func(yield func(*run) bool) {
		for _, r := range w.runs {
			if r != nil && !yield(r) {
				return
			}
		}
	}
}

// handOverOldest hands n hosts over, those first that the worker has had longest, but for those that
// it has had for less than the given time. With queueUp they go behind those that wait for a worker.
func (w *worker) handOverOldest(n int, least time.Duration, queueUp bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var runs []*run
	for r := range w.owned() {
		if time.Since(r.started) >= least {
			runs = append(runs, r)
		}
	}
	slices.SortFunc(runs, func(a, b *run) int { return a.started.Compare(b.started) })
	for _, r := range runs[:min(n, len(runs))] {
		r.queueUp.Store(queueUp)
		r.handOver()
	}
}

// sweep gives tokens to hosts that lost theirs with a producer, at the start and now and then. One of the
// fleet is enough, and it takes no more than a hundredth of its time.
func (w *worker) sweep(ctx context.Context) {
	for first := true; ctx.Err() == nil; first = false {
		began := time.Now()
		if first || mathrand.Int64N(max(1, w.peers.Load())) == 0 {
			w.sweepOnce(ctx)
		}
		sleep(ctx, max(6*w.fleet.config.Lease, 100*time.Since(began)))
	}
}

func (w *worker) sweepOnce(ctx context.Context) {
	hosts, err := w.fleet.store.Orphans(ctx)
	if err != nil {
		return // the next one may have more luck
	}
	for _, host := range hosts {
		w.fleet.store.AddToken(ctx, host)
	}
}

// sleep waits for d, or until ctx is done.
func sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// backoff is how long the nth try in a row is put off.
func backoff(first, most time.Duration, n int) time.Duration {
	d := first
	for ; n > 1 && d < most; n-- {
		d *= 2
	}
	return cmp.Or(min(d, most), first)
}
