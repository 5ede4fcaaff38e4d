package fleet

import (
	"context"
	"encoding/binary"
	"sync"
	"time"

	"github.com/batchhttp/fetch/fleet/internal/store"
)

// A journal writes down what is done of the pages of a worker that are not done, so that who takes
// over from it when it dies does no more again than what was in flight. One entry stands
// for all that was done since the one before: an entry for each URL would cost as much as
// fetching it.
type journal struct {
	store *store.Store
	id    string // the worker's

	mu    sync.Mutex // guards the fields below, and done and left of all pages
	since time.Time  // of the first news that is not written down; zero: there is none
	noted int        // pieces of news so far
	taken int        // of them, in entries
	wrote int        // and written down
	live  map[*page]struct{}
	dirty map[*page]struct{}
	news  chan struct{}
}

// interval is the least time from one entry to the next.
const interval = 2 * time.Millisecond

// patience is how long news may wait, or if there is more than a little, a tenth of that.
const (
	patience = 100 * time.Millisecond
	fewNews  = 64
)

// whole is after how many writes one replaces all that is there, and maxEntry how large an entry
// becomes before another begins.
const (
	whole    = 500
	maxEntry = store.MaxData / 2
)

func newJournal(s *store.Store, id string) *journal {
	return &journal{store: s, id: id, live: map[*page]struct{}{}, dirty: map[*page]struct{}{}, news: make(chan struct{}, 1)}
}

// note writes down, soon, that a request of a page is done. It reports whether that was the last.
func (j *journal) note(p *page, index int) (last bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if p.done.has(index) {
		return false
	}
	p.done.set(index)
	p.left--
	j.live[p], j.dirty[p] = struct{}{}, struct{}{}
	j.noted++
	if j.since.IsZero() {
		j.since = time.Now()
	}
	j.tellLocked()
	return p.left == 0
}

func (j *journal) tellLocked() {
	select {
	case j.news <- struct{}{}:
	default:
	}
}

// behind reports whether something has waited for long to be written down. Then no more is to be
// done, as it would be done again if the broker stays away.
func (j *journal) behind() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.since.IsZero() {
		return false
	}
	waits := time.Since(j.since)
	return waits > patience || waits > patience/10 && j.noted-j.wrote > fewNews || !j.store.Connected()
}

// flush waits until all that was noted is written down.
func (j *journal) flush(ctx context.Context) {
	j.mu.Lock()
	noted, pending := j.noted, true
	j.mu.Unlock()
	for pending && ctx.Err() == nil {
		j.mu.Lock()
		pending = j.wrote < noted
		j.mu.Unlock()
		if pending {
			time.Sleep(interval)
		}
	}
}

// close forgets a page whose state is kept elsewhere, and returns what is done of it and how many are
// not.
func (j *journal) close(p *page) (done bits, missing int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.live, p)
	delete(j.dirty, p)
	return p.done, p.left
}

// part returns how many requests are done of pages that are not.
func (j *journal) part() (n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for p := range j.live {
		n += p.done.count()
	}
	return n
}

// run writes until ctx is done.
func (j *journal) run(ctx context.Context) {
	for n := 1; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-j.news:
		}
		instead := n%whole == 0
		entries, began := j.entries(instead)
		if j.store.Append(ctx, j.id, entries, instead) != nil {
			j.again()
		} else {
			j.written(began)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(interval):
		}
	}
}

// again marks all pages as not written down.
func (j *journal) again() {
	j.mu.Lock()
	defer j.mu.Unlock()
	for p := range j.live {
		j.dirty[p] = struct{}{}
	}
	j.tellLocked()
}

// written notes that all news up to an instant are written down.
func (j *journal) written(began time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.since, j.wrote = time.Time{}, j.taken
	if len(j.dirty) > 0 {
		j.since = began
	}
}

// entries returns what is to be written, all pages or those with news, and the time.
func (j *journal) entries(all bool) (entries [][]byte, began time.Time) {
	j.mu.Lock()
	defer j.mu.Unlock()
	pages := j.dirty
	if all {
		pages = j.live
	}
	var text []byte
	for p := range pages {
		text = binary.AppendUvarint(text, p.seq)
		text = binary.AppendUvarint(text, uint64(p.left))
		text = appendText(text, p.host)
		text = appendText(text, string(p.done))
		if len(text) >= maxEntry {
			entries, text = append(entries, text), nil
		}
	}
	if len(text) > 0 {
		entries = append(entries, text)
	}
	clear(j.dirty)
	j.taken = j.noted
	return entries, time.Now()
}

func appendText(to []byte, text string) []byte {
	return append(binary.AppendUvarint(to, uint64(len(text))), text...)
}

// A legacy has what a dead worker has done, by hosts and by the numbers of their pages.
type legacy map[string]map[uint64]bequest

// A bequest is what is done of a page.
type bequest struct {
	done bits
	left int
}

// read adds what an entry of a journal says. One that cannot be read says nothing.
func (l legacy) read(text []byte) {
	d := decoder{text: text}
	for len(d.text) > 0 && !d.failed {
		seq, left, host, done := d.number(), d.number(), d.part(), d.part()
		if d.failed {
			return
		}
		pages := l[string(host)]
		if pages == nil {
			pages = map[uint64]bequest{}
			l[string(host)] = pages
		}
		before := pages[seq].done
		pages[seq] = bequest{before.union(bits(done)), int(left)} // the last entry has all that those before have
	}
}

type decoder struct {
	text   []byte
	failed bool
}

func (d *decoder) number() uint64 {
	n, size := binary.Uvarint(d.text)
	if size <= 0 {
		d.failed = true
		return 0
	}
	d.text = d.text[size:]
	return n
}

func (d *decoder) part() []byte {
	n := d.number()
	if n > uint64(len(d.text)) {
		d.failed = true
	}
	if d.failed {
		return nil
	}
	part := d.text[:n]
	d.text = d.text[n:]
	return part
}
