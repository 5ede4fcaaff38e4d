package engine

import (
	"context"
	"maps"
	"math"
	"slices"
	"sync"

	"github.com/batchhttp/fetch/internal/job"
)

// unreadBytes is how much the results that were not yielded yet may hold before nothing
// more starts.
const unreadBytes = 64 << 20

// results has the results of a stream between their ends and the loop that takes them, and
// bounds how many there can be.
type results struct {
	config StreamConfig
	slots  int
	more   chan struct{} // wakes the loop
	room   chan struct{} // wakes the puller

	// mu guards the fields below. It may be locked under Engine.mu, never the other way round.
	mu         sync.Mutex
	inputs     int
	ended      int // of the inputs
	taken      int // yielded, and done with
	unread     []Finished
	early      map[int]Finished // that wait for their turn, under InOrder
	next       int              // the input that is yielded next, under InOrder
	bytes      int              // of all results not yet yielded
	held       bool             // whether the lane is held for bytes
	pulling    bool             // the puller waits for room
	duplicates duplicates
}

func newResults(c StreamConfig, slots int) *results {
	r := &results{config: c, slots: slots, more: make(chan struct{}, 1), room: make(chan struct{}, 1)}
	if c.InOrder {
		r.early = map[int]Finished{}
	}
	if c.Dedup {
		r.duplicates = newDuplicates()
	}
	return r
}

// read takes an input. It returns the input's number, and whether it is to be run: another
// that equals it may run already, or may have. Then it returns the result.
func (r *results) read(j job.Job) (id int, result Finished, rank rank) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id = r.inputs
	r.inputs++
	result, rank = r.duplicates.add(id, j)
	if rank == finishedBefore {
		r.ended++
		r.placeLocked(result)
		wake(r.more)
	}
	return id, result, rank
}

// add takes a result, and gives it to the inputs that equal its own. It returns how many have it.
func (r *results) add(f Finished) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended++
	r.placeLocked(f)
	duplicates := r.duplicates.finish(f)
	for _, duplicate := range duplicates {
		r.ended++
		r.placeLocked(duplicate)
	}
	wake(r.more)
	return 1 + len(duplicates)
}

// placeLocked puts a result among the unread when it is its turn.
func (r *results) placeLocked(f Finished) {
	r.bytes += f.size
	if !r.config.InOrder {
		r.unread = append(r.unread, f)
		return
	}
	r.early[f.Index] = f
	for {
		f, ok := r.early[r.next]
		if !ok {
			return
		}
		delete(r.early, r.next)
		r.next++
		r.unread = append(r.unread, f)
	}
}

// take returns the results that are to be yielded next.
func (r *results) take() []Finished {
	r.mu.Lock()
	defer r.mu.Unlock()
	unread := r.unread
	r.unread = nil
	return unread
}

// rest returns all results that were not taken, in no particular order.
func (r *results) rest() []Finished {
	unread := r.take()
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.AppendSeq(unread, maps.Values(r.early))
}

// waitRoom waits until one more input may be read, and reports whether that ever is.
func (r *results) waitRoom(ctx context.Context) bool {
	for ctx.Err() == nil {
		r.mu.Lock()
		r.pulling = r.inputs-r.taken >= r.config.Lookahead
		pulling := r.pulling
		r.mu.Unlock()
		if !pulling {
			return true
		}
		select {
		case <-r.room:
		case <-ctx.Done():
		}
	}
	return false
}

// yielded is called when the loop is done with a result. It reports whether
// the lane is held, and may have to be held no longer.
func (r *results) yielded(f Finished) (held bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.taken++
	r.bytes -= f.size
	r.duplicates.forget(f)
	// Waking the puller for each free place would cost a switch of goroutines for each input. It
	// is woken when there is much room, or when no job waits for a slot.
	room := r.config.Lookahead - (r.inputs - r.taken)
	if r.pulling && (room >= max(1, r.config.Lookahead/8) || r.inputs-r.ended <= r.slots) {
		r.pulling = false
		wake(r.room)
	}
	return r.held
}

// A hold says how the lane of a stream is to change.
type hold uint8

const (
	leaveLane hold = iota
	holdLane
	unholdLane
)

// hold says whether unread results hold too much memory, and which input may start although
// they do: the input that the loop waits for. A loop with other results at hand waits for none.
func (r *results) hold() (h hold, exempt int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	exempt = math.MinInt
	if r.config.InOrder && r.taken == r.next {
		exempt = r.next
	}
	limit := unreadBytes
	if r.held {
		limit /= 2 // once for many results, as holding a lane costs more than one result
	}
	switch {
	case r.bytes > limit:
		r.held = true
		return holdLane, exempt
	case r.held:
		r.held = false
		return unholdLane, exempt
	}
	return leaveLane, exempt
}

// awaits reports whether no other input than the given one may start.
func (r *results) awaits(id int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held && r.config.InOrder && r.next == id
}

// wake has the loop look again.
func (r *results) wake() { wake(r.more) }

// wake sends to c, which has room for one, unless a wake-up waits there already.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
