package fleet

import (
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/fleet/internal/store"
	"github.com/batchhttp/fetch/internal/quota"
	"github.com/batchhttp/fetch/internal/retry"
	"github.com/batchhttp/fetch/internal/target"
)

// take takes the Result of a task that is out.
func (r *run) take(res fetch.Result) {
	r.mu.Lock()
	t := r.out[res.Index]
	r.mu.Unlock()
	r.handle(t, res)
	r.mu.Lock()
	delete(r.out, res.Index)
	r.adaptLocked(res)
	cleared := r.clearLocked()
	r.mu.Unlock()
	if cleared {
		r.trust()
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// adaptLocked feeds as many as keep the host busy, and hardly more: those that wait in the Fetcher
// cannot be handed over.
func (r *run) adaptLocked(res fetch.Result) {
	switch {
	case r.careful > 0:
	case res.Waited <= res.Took/4: // both are zero where nothing was sent
		r.window = min(r.window+1, maxWindow)
	case res.Waited > res.Took:
		r.window = max(r.window-1, 2)
	}
}

// clearLocked counts a task that ran alone, and reports whether it was the last.
func (r *run) clearLocked() bool {
	if r.careful == 0 {
		return false
	}
	if r.careful--; r.careful == 0 {
		r.window = firstWindow
	}
	return r.careful == 0
}

// trust ends the time in which tasks run alone.
func (r *run) trust() {
	r.recordMu.Lock()
	defer r.recordMu.Unlock()
	r.rec.acquit(nil)
	r.fenceUnless(r.writeLocked(r.worker.ctx))
}

const (
	firstRest = time.Minute // of a host that cannot be reached
	maxRest   = time.Hour
)

// handle decides about a task that the Fetcher has answered.
func (r *run) handle(t *task, res fetch.Result) {
	if t.locked {
		defer r.worker.unlockSuspect()
	}
	if r.worker.ctx.Err() != nil {
		return // another may have the host
	}
	var paused *fetch.HostPausedError
	wait, refused := refusal(&res)
	switch {
	case r.host == "": // its URLs have no host in common that could be closed
	case errors.As(res.Err, &paused):
		if r.rest(func(int) time.Time { return paused.Until }) {
			return // not done, and done when the host is back
		}
	case errors.Is(res.Err, fetch.ErrHostDown):
		if r.rest(func(rounds int) time.Time { return time.Now().Add(backoff(firstRest, maxRest, rounds)) }) {
			return
		}
	case refused:
		if t.Deliveries+1 < r.worker.fleet.config.MaxDeliveries {
			r.again(t, max(wait, time.Second))
			return
		}
	case res.StatusCode > 0:
		r.accepted()
	}
	if t.leg.Next != nil && res.Err == nil {
		err := r.hop(t, res.Redirects+1)
		if err == nil {
			return
		}
		res.Err = &fetch.Error{Method: target.Method(t.Method), URL: target.Redact(t.given().URL), Attempts: res.Attempts, Err: err}
	}
	r.deliver(t, res)
}

// refusal reports whether a response is a refusal of its host, by the rules of package fetch, and how
// long it asks to wait.
func refusal(res *fetch.Result) (wait time.Duration, refused bool) {
	now, hint := time.Now(), retry.NoHint
	if asked, ok := retry.After(res.Header, now); ok {
		wait, hint = asked, retry.Asked
	} else if q, ok := quota.Read(res.Header, now); ok && q.Left == 0 {
		wait, hint = q.Reset, retry.UsedUp
	}
	message := retry.Message(res.StatusCode, hint)
	return wait, message == retry.Refusal || message == retry.Overload
}

// deliver gives a Result to the handler.
func (r *run) deliver(t *task, res fetch.Result) {
	w := r.worker
	asked := t.given()
	res.URL, res.Index = asked.URL, 0
	res.Redirects += t.hops()
	err := w.handler(w.ctx, Delivery{Request: asked, Host: r.host, Deliveries: t.Deliveries, Result: res})
	switch {
	case w.ctx.Err() != nil:
	case err == nil:
		w.done.Add(1)
		if res.Err != nil {
			w.failed.Add(1)
		}
		r.done(t)
	case t.Deliveries+1 >= w.fleet.config.MaxDeliveries:
		r.poison(t, err)
	default:
		r.again(t, backoff(time.Second, time.Minute, t.Deliveries+1))
	}
}

// done notes that a task is done, and deletes its page if it was the last.
func (r *run) done(t *task) {
	if r.worker.journal.note(t.page, t.index) {
		r.delete(t.page)
	}
}

// delete deletes a page that is done. Its URLs stay known for a while.
func (r *run) delete(p *page) {
	w := r.worker
	if dedup := w.fleet.config.Dedup; len(p.prints) > 0 {
		r.seen.done(p.prints)
		if err := w.fleet.store.AddSeen(w.ctx, r.host, encodeFingerprints(p.prints), dedup); err == nil {
			r.recordMu.Lock()
			r.rec.SeenUntil = time.Now().Add(dedup)
			r.recordMu.Unlock()
		}
	}
	if err := w.fleet.store.DeletePage(w.ctx, p.seq); err != nil {
		return // what is done of it stays in the record
	}
	w.journal.close(p)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pages, p.seq)
}

// again queues a task behind the others of its host, to be done after some time.
func (r *run) again(t *task, after time.Duration) {
	s := t.stored
	s.Deliveries++
	s.NotBefore = time.Now().Add(after)
	r.worker.again.Add(1)
	if err := r.replace(t, r.host, s); err != nil {
		r.poison(t, err)
	}
}

// hop queues the request that a redirect leads to at its host, after so many more redirects. It fails
// if that is too large to be queued.
func (r *run) hop(t *task, redirects int) error {
	next := t.leg.Next
	maps.DeleteFunc(next.Header, func(key string, _ []string) bool {
		return t.Header[key] == nil // an option's, which the next worker has too, or of a CheckRedirect
	})
	s := stored{
		Request: Request{URL: next.URL.String(), Method: next.Method, Header: next.Header},
		Hop:     &hop{Origin: t.given(), Redirects: t.hops() + redirects},
	}
	if t.leg.Wait > 0 {
		s.NotBefore = time.Now().Add(t.leg.Wait)
	}
	if err := r.replace(t, queueOf(target.HostOf(next.URL)), s); err != nil {
		return fmt.Errorf("%w: %w", fetch.ErrRedirect, err)
	}
	return nil
}

// replace stores what takes the place of a task, and then notes that as done: in this order, so that it
// may be there twice but not get lost. If it was stored before, it has the same name. It fails, and the
// task is where it was, if no page can have what is to be stored.
func (r *run) replace(t *task, host string, s stored) error {
	w := r.worker
	var text pageText
	text.add(s)
	data, err := text.encode()
	switch {
	case err != nil:
		return err
	case len(data) > store.MaxData:
		return fmt.Errorf("what is to be queued takes %d bytes, and %d is the most", len(data), store.MaxData)
	}
	id := fmt.Sprintf("%d.%d.%d", t.page.seq, t.index, s.Deliveries)
	_, err = w.fleet.store.AddPages(w.ctx, []store.NewPage{{Host: host, Count: 1, Data: data, ID: id}})
	if err != nil {
		r.holdOff()
		return nil
	}
	r.done(t)
	return nil
}

// holdOff ends the run for a while: what became of a task cannot be stored, so that it stays as it is.
func (r *run) holdOff() {
	r.recordMu.Lock()
	defer r.recordMu.Unlock()
	r.rec.Rest = later(r.rec.Rest, time.Now().Add(holdOffTime))
	r.feedNoMore()
}

const holdOffTime = 5 * time.Second

// poison puts a task with the poison.
func (r *run) poison(t *task, reason error) {
	id := fmt.Sprintf("%d.%d", t.page.seq, t.index)
	if err := r.addPoison(id, t.given(), t.Deliveries+1, reason); err != nil {
		r.holdOff()
		return
	}
	r.done(t)
}

// discard puts a page that cannot be read, or as much of it as has room, with the poison: it was not
// written by this program.
func (r *run) discard(p store.Page, reason error) {
	data := p.Data[:min(len(p.Data), store.MaxData/2)]
	if r.addPoison(fmt.Sprint(p.Seq), Request{Body: data}, 1, reason) == nil {
		r.worker.fleet.store.DeletePage(r.worker.ctx, p.Seq)
	}
}

func (r *run) addPoison(id string, req Request, deliveries int, reason error) error {
	p, err := newPoisoned(req, deliveries, reason)
	if err != nil {
		return err
	}
	data, err := encodeJSON(p)
	if err != nil {
		return err
	}
	return r.worker.fleet.store.AddPoison(r.worker.ctx, r.host, data, id)
}
