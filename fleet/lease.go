package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/batchhttp/fetch/fleet/internal/store"
)

// A sign is a worker's sign of life.
type sign struct {
	at      time.Time // by the clock of the broker
	Started time.Time `json:"started"`
	Hosts   int       `json:"hosts"`
	Part    int       `json:"part"` // requests done of pages that are not
	Done    int64     `json:"done"`
	Failed  int64     `json:"failed"`
	Again   int64     `json:"again"`
	Dropped int64     `json:"dropped"`
	Rate    float64   `json:"rate"` // requests a second, of late
}

// A lease keeps a worker alive, and ends it in time when the broker does not hear of it.
type lease struct {
	worker  *worker
	seq     uint64    // of the last sign
	renewed time.Time // at the latest
	fence   *time.Timer
	last    time.Time // when the rate was worked out
	done    int64     // then
	rate    float64
}

func newLease(w *worker) *lease {
	l := &lease{worker: w, last: time.Now()}
	l.fence = time.AfterFunc(time.Hour, func() { w.stop(errFenced) })
	l.fence.Stop()
	return l
}

func (l *lease) end() { l.fence.Stop() }

// renew gives a sign of life. The broker counts the lease from its arrival, and the worker from
// before it was sent, and for a quarter less.
func (l *lease) renew(ctx context.Context) error {
	w, sent := l.worker, time.Now()
	w.mu.Lock()
	hosts := len(w.runs)
	w.mu.Unlock()
	if passed := sent.Sub(l.last); passed > 500*time.Millisecond {
		done := w.done.Load()
		l.rate += (float64(done-l.done)/passed.Seconds() - l.rate) * min(1, passed.Seconds()/5)
		l.last, l.done = sent, done
	}
	data, err := json.Marshal(sign{
		Started: w.started, Hosts: hosts, Part: w.journal.part(), Done: w.done.Load(), Failed: w.failed.Load(),
		Again: w.again.Load(), Dropped: w.dropped.Load(), Rate: l.rate,
	})
	if err != nil {
		return err
	}
	seq, err := w.fleet.store.Beat(ctx, w.id, data, l.seq)
	if err != nil {
		if errors.Is(err, store.ErrConflict) {
			w.stop(errFenced)
		}
		return err
	}
	l.seq, l.renewed = seq, time.Now()
	l.fence.Reset(w.fleet.config.Lease*3/4 - time.Since(sent))
	return nil
}

// keep renews the lease until ctx is done, and keeps the tokens.
func (l *lease) keep(ctx context.Context) {
	w := l.worker
	for {
		sleep(ctx, w.fleet.config.Lease/4)
		if ctx.Err() != nil {
			return
		}
		if err := l.renew(ctx); err != nil {
			continue // the fence sees to it
		}
		w.mu.Lock()
		for r := range w.owned() {
			r.keepToken()
		}
		w.mu.Unlock()
		w.balance(ctx, l.renewed)
	}
}

// balance hands hosts over to workers that have fewer, and when others wait for a worker.
func (w *worker) balance(ctx context.Context, renewed time.Time) {
	c := &w.fleet.config
	signs, err := w.fleet.signs(ctx)
	own, ok := signs[w.id]
	if err != nil || !ok {
		return
	}
	w.reference.set(own.at, renewed)
	// The others are probably dead. The own sign is as old where the read was slow.
	maps.DeleteFunc(signs, func(id string, s sign) bool { return id != w.id && w.reference.age(s.at) > c.Lease/2 })
	w.peers.Store(int64(len(signs)))
	total, least := 0, c.Hosts
	for _, s := range signs {
		total += s.Hosts
		least = min(least, s.Hosts)
	}
	fair := (total + len(signs) - 1) / len(signs)
	w.mu.Lock()
	have := len(w.runs)
	w.most = c.Hosts
	unfair := have > fair+fair/4+1 && least < fair-fair/4
	if unfair || have > fair && least < fair-fair/4 {
		w.most = max(1, fair)
	}
	w.mu.Unlock()
	if unfair {
		w.handOverOldest(have-fair, 0, false)
		return
	}
	if have >= c.Hosts {
		if waiting, err := w.fleet.store.Waiting(ctx); err == nil && waiting > 0 {
			w.handOverOldest(max(1, have/4), c.Turn, true)
		}
	}
}

// signs returns the signs of life of all workers, by their names.
func (f *Fleet) signs(ctx context.Context) (map[string]sign, error) {
	found, err := f.store.Signs(ctx)
	signs := map[string]sign{}
	for id, there := range found {
		s := sign{at: there.At}
		if err := json.Unmarshal(there.Data, &s); err == nil {
			signs[id] = s
		}
	}
	return signs, err
}

// A reference is an instant by the clock of the broker and by the own one, so that the age of a sign of life
// can be told without comparing the clocks: by what the own sign, whose age is known, differs from it.
type reference struct {
	mu            sync.Mutex
	broker, local time.Time
}

// set notes that a sign with the given time was stored, at the latest at the local one.
func (r *reference) set(broker, local time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broker, r.local = broker, local
}

// age returns how old a sign is at least.
func (r *reference) age(at time.Time) time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.local.IsZero() {
		return 0
	}
	return time.Since(r.local) + r.broker.Sub(at)
}

// untilDead returns how long to wait before it can be said that a worker is dead; 0: it is, and can never
// give a sign of life again.
func (w *worker) untilDead(ctx context.Context, id string) (time.Duration, error) {
	s, lease := w.fleet.store, w.fleet.config.Lease
	sign, err := s.Sign(ctx, id)
	if err != nil || sign.Seq == 0 {
		return 0, err
	}
	// The worker itself gives up after three quarters.
	if left := lease*8/10 - w.reference.age(sign.At); left > 0 {
		return left, nil
	}
	if was, err := s.Expire(ctx, sign.Seq); err != nil || !was {
		return lease / 10, err // it has given another, or somebody else was first
	}
	return 0, nil
}
