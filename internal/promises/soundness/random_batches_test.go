package soundness_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"iter"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
	"golang.org/x/time/rate"
)

// TestRandomBatches runs several batches of all four kinds at once on one Fetcher with random
// options, against a random server, with random cancels and breaks, and checks what is always true.
func TestRandomBatches(t *testing.T) {
	seeds := uint64(200)
	if testing.Short() || fetchtest.RaceEnabled {
		seeds = 50
	}
	for seed := range seeds {
		ok := t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { runRandomBatches(t, seed) })
		})
		if !ok {
			return
		}
	}
}

func runRandomBatches(t *testing.T, seed uint64) {
	const perSecond, burst = 5, 2 // starts, to one host
	r := rand.New(rand.NewPCG(seed, 0))
	chance := func(p float64) bool { return r.Float64() < p }
	w := &randomWorld{
		t: t, seed: seed, retries: r.IntN(4), concurrency: 1 + r.IntN(6), hostConcurrency: 1 + r.IntN(4), lookahead: 1 + r.IntN(10),
		inOrder: chance(0.4), visits: map[string]int{}, starts: map[string]*fetchtest.StartLog{}, pauses: map[string][2]time.Time{}, ended: map[string]time.Time{},
	}
	opts := []fetch.Option{
		fetchtest.Over(w.inFlight.Over(w.roundTrip)), fetch.WithRetries(w.retries), fetch.WithConcurrency(w.concurrency),
		fetch.WithHostConcurrency(w.hostConcurrency), fetch.WithHostRate(perSecond, burst), fetch.WithLookahead(w.lookahead),
	}
	if w.inOrder {
		opts = append(opts, fetch.WithInOrder())
	}
	for _, o := range []fetch.Option{
		fetch.WithTimeout(2 * time.Second), fetch.WithBackoff(0, 0), fetch.WithMaxHostFailures(2), fetch.WithDedup(),
		fetch.WithStatusErrors(), fetch.WithMaxBody(20), fetch.WithMaxRetryAfter(3 * time.Second), fetch.WithLimiter(rate.NewLimiter(10, 1)),
		fetch.WithHostLimits(func(string) fetch.HostLimits { return fetch.HostLimits{Rate: perSecond} }),
		fetch.WithBodyFunc(func(_ context.Context, _ fetch.Result, body io.Reader) error {
			_, err := io.CopyN(io.Discard, body, 10)
			return err
		}),
	} {
		if chance(0.25) {
			opts = append(opts, o)
		}
	}
	w.fetcher = fetchtest.NewFetcher(t, opts...)
	var all sync.WaitGroup
	for user := range 3 {
		r := rand.New(rand.NewPCG(seed, uint64(user+1)))
		all.Go(func() {
			for batch := range 2 {
				time.Sleep(time.Duration(r.Int64N(int64(4 * time.Second))))
				w.run(r, fmt.Sprintf("%d-%d", user, batch), 0)
			}
		})
	}
	all.Wait()
	if got := w.inFlight.Most(); got > w.concurrency {
		t.Errorf("%d in flight, want at most %d", got, w.concurrency)
	}
	for host, starts := range w.starts {
		starts.Check(t, perSecond, burst)
		if got := w.inFlight.MostOf(host); got > w.hostConcurrency {
			t.Errorf("%d in flight to %s, want at most %d", got, host, w.hostConcurrency)
		}
	}
	if responses, requests := w.inFlight.Current(), w.openBodies.Load(); responses+int(requests) != 0 {
		t.Errorf("%d response bodies and %d request bodies are not closed", responses, requests)
	}
}

// A randomWorld is a server that knows its callers.
type randomWorld struct {
	t                                                *testing.T
	seed                                             uint64
	fetcher                                          *fetch.Fetcher
	retries, concurrency, hostConcurrency, lookahead int
	inOrder                                          bool
	inFlight                                         fetchtest.InFlight
	openBodies                                       atomic.Int32 // of requests

	mu     sync.Mutex
	visits map[string]int                 // by URL
	starts map[string]*fetchtest.StartLog // by host
	pauses map[string][2]time.Time        // by host: when it was asked for, and its end
	ended  map[string]time.Time           // by batch: the end of its context
}

// roundTrip answers by what the seed, the URL and the number of its visits say: not by the order of requests.
func (w *randomWorld) roundTrip(req *http.Request) (*http.Response, error) {
	host, now := req.URL.Host, time.Now()
	batch, _, _ := strings.Cut(req.URL.Path[1:], "/")
	w.mu.Lock()
	if w.starts[host] == nil {
		w.starts[host] = &fetchtest.StartLog{}
	}
	w.starts[host].Add()
	if pause := w.pauses[host]; now.After(pause[0]) && now.Before(pause[1]) {
		w.t.Errorf("request to %s at %v, which is paused until %v", host, now, pause[1])
	}
	if end, ok := w.ended[batch]; ok && now.After(end) {
		w.t.Errorf("request of batch %s at %v, which ended at %v", batch, now, end)
	}
	w.visits[req.URL.String()]++
	r := w.rand(req.URL, w.visits[req.URL.String()])
	w.mu.Unlock()
	if req.Body != nil {
		defer req.Body.Close()
		if r.IntN(2) == 0 {
			io.Copy(io.Discard, req.Body)
		}
	}
	if err := fetchtest.SleepCtx(req.Context(), time.Duration(r.Int64N(int64(3*time.Second)))); err != nil {
		return nil, err
	}
	body := strings.Repeat("x", r.IntN(30))
	switch r.IntN(16) {
	case 0:
		return nil, io.ErrUnexpectedEOF
	case 1:
		return nil, &net.OpError{Op: "dial", Err: errors.New("refused")}
	case 2:
		return fetchtest.Respond(req, 302, body, "Location", fmt.Sprintf("http://h%d/%s/to", r.IntN(4), batch)), nil
	case 3:
		return fetchtest.Respond(req, 307, body, "Location", fmt.Sprintf("/%s/again", batch)), nil
	case 4:
		return fetchtest.Respond(req, 503, body), nil
	case 5:
		return fetchtest.Respond(req, 503, body, "Retry-After", "2"), nil
	case 6:
		return fetchtest.Respond(req, 429, ""), nil
	case 7:
		asked := []int{1, 2, 100}[r.IntN(3)]
		now, until := time.Now(), time.Now().Add(time.Duration(asked)*time.Second)
		w.mu.Lock()
		defer w.mu.Unlock()
		if until.After(w.pauses[host][1]) {
			w.pauses[host] = [2]time.Time{now, until}
		}
		return fetchtest.Respond(req, 429, "", "Retry-After", fmt.Sprint(asked)), nil
	case 8:
		resp := fetchtest.Respond(req, 200, body)
		resp.ContentLength++ // cut short
		return resp, nil
	}
	return fetchtest.Respond(req, 200, body), nil
}

// request returns a request that the seed and its place say, sometimes one with a body or a deadline.
func (w *randomWorld) request(url string, i int) *http.Request {
	r := w.rand(url, i)
	ctx := w.t.Context()
	if r.IntN(3) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(r.Int64N(int64(10*time.Second))))
		context.AfterFunc(ctx, cancel)
	}
	method := []string{"GET", "HEAD", "POST", "PUT"}[r.IntN(4)]
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	if method == "GET" || method == "HEAD" {
		return req
	}
	body := func() (io.ReadCloser, error) {
		w.openBodies.Add(1)
		closed := sync.OnceFunc(func() { w.openBodies.Add(-1) })
		return &fetchtest.HookedBody{ReadCloser: io.NopCloser(strings.NewReader("body")), OnClose: closed}, nil
	}
	req.Body, _ = body()
	req.ContentLength = 4
	if r.IntN(2) == 0 {
		req.GetBody = body
	}
	return req
}

// rand returns random numbers that depend on the seed and the arguments, but not on who comes first.
func (w *randomWorld) rand(args ...any) *rand.Rand {
	hash := fnv.New64a()
	fmt.Fprint(hash, args...)
	return rand.New(rand.NewPCG(w.seed, hash.Sum64()))
}

// A randomBatch is a call, and what of it has been seen.
type randomBatch struct {
	*randomWorld
	name  string
	ctx   context.Context
	start time.Time
	urls  []string

	mu         sync.Mutex
	read, done int
}

// run runs a batch of a random kind.
func (w *randomWorld) run(r *rand.Rand, name string, depth int) {
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	if r.IntN(2) == 0 {
		after := time.Duration(r.Int64N(int64(15 * time.Second)))
		ctx, cancel = context.WithTimeout(ctx, after)
		defer cancel()
		w.mu.Lock()
		w.ended[name] = time.Now().Add(after)
		w.mu.Unlock()
	}
	b := &randomBatch{randomWorld: w, name: name, ctx: ctx, start: time.Now(), urls: make([]string, r.IntN(30))}
	for i := range b.urls {
		b.urls[i] = fmt.Sprintf("http://h%d/%s/%d", r.IntN(1+r.IntN(4)), name, r.IntN(20))
	}
	switch r.IntN(4) {
	case 0:
		b.checkList(w.fetcher.FetchAll(ctx, b.urls))
	case 1:
		reqs := make([]*http.Request, len(b.urls))
		for i, url := range b.urls {
			reqs[i] = w.request(url, i)
		}
		b.checkList(w.fetcher.DoAll(ctx, reqs))
	case 2:
		b.checkStream(r, depth, w.fetcher.Stream(ctx, func(yield func(string) bool) {
			for i := range b.urls {
				if !yield(b.next(i)) {
					return
				}
			}
		}))
	case 3:
		b.checkStream(r, depth, w.fetcher.DoStream(ctx, func(yield func(*http.Request) bool) {
			for i := range b.urls {
				if !yield(w.request(b.next(i), i)) {
					return
				}
			}
		}))
	}
}

// next returns an input of a Stream when it is read.
func (b *randomBatch) next(i int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.read++
	if b.read-b.done > b.lookahead {
		b.t.Errorf("batch %s: %d read and %d yielded, lookahead %d", b.name, b.read, b.done, b.lookahead)
	}
	return b.urls[i]
}

func (b *randomBatch) checkList(results []fetch.Result) {
	if end, ok := b.ctx.Deadline(); ok && time.Now().After(end) && b.start.Before(end) {
		b.t.Errorf("batch %s returned %v after its deadline", b.name, time.Since(end))
	}
	fetchtest.CheckResults(b.t, b.urls, results)
	for _, r := range results {
		b.check(r)
	}
}

// checkStream ranges over a Stream, now and then breaks out of it or runs a batch in the loop.
func (b *randomBatch) checkStream(r *rand.Rand, depth int, results iter.Seq[fetch.Result]) {
	last := r.IntN(100) // most often there are not so many
	seen := map[int]bool{}
	for result := range results {
		if seen[result.Index] || b.inOrder && result.Index != len(seen) {
			b.t.Errorf("batch %s: index %d after %d results", b.name, result.Index, len(seen))
		}
		seen[result.Index] = true
		fetchtest.CheckResult(b.t, result.Index, b.urls[result.Index], result)
		b.check(result)
		if depth < 2 && r.IntN(15) == 0 {
			b.run(r, fmt.Sprintf("%s-%d", b.name, result.Index), depth+1)
		}
		if len(seen) == last {
			return
		}
		b.mu.Lock()
		b.done++
		b.mu.Unlock()
	}
	if len(seen) != b.read || b.ctx.Err() == nil && b.read != len(b.urls) {
		b.t.Errorf("batch %s: %d results, %d read of %d", b.name, len(seen), b.read, len(b.urls))
	}
}

func (b *randomBatch) check(r fetch.Result) {
	if spent := time.Since(b.start); r.Waited+r.Took > spent || r.Attempts > b.retries+1 {
		b.t.Errorf("result %d of batch %s: %d attempts, waited %v and took %v in %v", r.Index, b.name, r.Attempts, r.Waited, r.Took, spent)
	}
	if b.ctx.Err() == nil && errors.Is(r.Err, context.Canceled) {
		b.t.Errorf("result %d of batch %s: cancelled by nobody: %v", r.Index, b.name, r.Err)
	}
}
