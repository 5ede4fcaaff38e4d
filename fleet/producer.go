package fleet

import (
	"context"
	"crypto/rand"
	"fmt"
	"iter"
	"sync"
	"time"

	"github.com/batchhttp/fetch/fleet/internal/store"
	"github.com/batchhttp/fetch/internal/target"
)

// Add stores URLs to be fetched with GET, and returns how many it has stored. It reads urls as it
// goes, and what it has read is stored within about a second. A URL that cannot be fetched is
// stored too: its Result says why. The same URL is fetched once, however often it is added
// while it waits or within [Config.Dedup] after it was done.
//
// When the broker refuses, for want of room for example, Add returns its error, and what it did not
// count may have been stored or not. While the broker cannot be reached it waits, until ctx is done or the
// connection is closed for good. A URL of more than about 512 KiB ends the call, see [Fleet.AddRequests].
func (f *Fleet) Add(ctx context.Context, urls iter.Seq[string]) (int, error) {
	return f.AddRequests(ctx, func(yield func(Request) bool) {
		for u := range urls {
			if !yield(Request{URL: u}) {
				return
			}
		}
	})
}

// AddRequests is [Fleet.Add] for any method, header and body. A GET without either counts as its
// URL, and all others are fetched as often as they are added.
//
// A request that may take more than 768 KiB as it is stored, of about 512 KiB of URL or 576 KiB of body, ends
// the call with an error that names its URL. What came before is stored, and what comes after is not read.
func (f *Fleet) AddRequests(ctx context.Context, reqs iter.Seq[Request]) (int, error) {
	a := newAdder(ctx, f.store)
	stop := a.flushEvery(time.Second)
	var err error
	for r := range reqs {
		if err = a.add(r); err != nil {
			break
		}
	}
	stop()
	if flushErr := a.flush(); err == nil {
		err = flushErr
	}
	if err != nil {
		err = fmt.Errorf("fleet: adding: %w", err)
	}
	return a.stored, err
}

const (
	pageRequests = 100       // of a page, at most
	pageBytes    = 128 << 10 // of a page, about
	maxRequest   = 768 << 10 // of one request
	fullPages    = 64        // are stored together
	maxBuffered  = 20_000    // requests in pages that are not full
	maxBytes     = 32 << 20  // in all pages that are not stored, about
)

// An adder collects requests into the pages of their hosts.
type adder struct {
	ctx   context.Context
	store *store.Store
	id    string // of its pages

	mu       sync.Mutex // guards the fields below
	open     map[string]*openPage
	full     []store.NewPage
	buffered int // requests in open pages
	bytes    int // in all pages
	pages    int
	stored   int
	err      error
}

type openPage struct {
	text  pageText
	bytes int
}

func newAdder(ctx context.Context, s *store.Store) *adder {
	return &adder{ctx: ctx, store: s, id: rand.Text(), open: map[string]*openPage{}}
}

func (a *adder) add(r Request) error {
	if r.Method == "GET" {
		r.Method = ""
	}
	host, _ := target.Host(r.URL) // a URL without one has no host, and its result says so
	host = queueOf(host)
	size := r.room()
	if size > maxRequest {
		return fmt.Errorf("%.200s: the request may take %d bytes as it is stored, and %d is the most", target.Redact(r.URL), size, maxRequest)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	p := a.open[host]
	if p == nil {
		p = &openPage{}
		a.open[host] = p
	}
	p.text.add(stored{Request: r})
	p.bytes += size
	a.bytes += size
	a.buffered++
	if p.text.count() >= pageRequests || p.bytes >= pageBytes {
		a.closeLocked(host, p)
	}
	switch {
	case a.buffered >= maxBuffered || a.bytes >= maxBytes:
		a.flushLocked()
	case len(a.full) >= fullPages:
		a.storeLocked()
	}
	return a.err
}

// closeLocked makes a page of what has come of a host.
func (a *adder) closeLocked(host string, p *openPage) {
	data, err := p.text.encode()
	if err != nil {
		a.err = err
		return
	}
	a.pages++
	a.full = append(a.full, store.NewPage{
		Host: host, Count: p.text.count(), Data: data, ID: fmt.Sprintf("%s.%d", a.id, a.pages),
	})
	a.buffered -= p.text.count()
	a.bytes += len(data) - p.bytes
	delete(a.open, host)
}

func (a *adder) storeLocked() {
	if a.err != nil || len(a.full) == 0 {
		return
	}
	n, err := a.store.AddPagesWithinLimit(a.ctx, a.full)
	for i, p := range a.full {
		a.bytes -= len(p.Data)
		if i < n {
			a.stored += p.Count
		}
	}
	a.full, a.err = a.full[:0], err
}

func (a *adder) flushLocked() {
	for host, p := range a.open {
		a.closeLocked(host, p)
	}
	a.storeLocked()
}

func (a *adder) flush() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.flushLocked()
	return a.err
}

// flushEvery flushes until stop is called: the requests may come slowly.
func (a *adder) flushEvery(d time.Duration) (stop func()) {
	ticker, done := time.NewTicker(d), make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		for {
			select {
			case <-ticker.C:
				a.flush()
			case <-done:
				return
			}
		}
	})
	return func() {
		ticker.Stop()
		close(done)
		ended.Wait()
	}
}
