package soundness_test

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// An tortureEnd is what came of a run.
type tortureEnd struct {
	results  []fetch.Result // without bodies where there is a BodyFunc
	panicked any
	returned bool // rather than ended by Goexit
	took     time.Duration
}

// A way to make a call of the library with the stories of a run.
type tortureCall struct {
	stream bool
	urls   bool // rather than requests: only for GETs
}

var tortureCalls = []tortureCall{{}, {stream: true, urls: true}, {stream: true}, {urls: true}}

// forCall leaves out the stories that a call cannot take. If that is one that a fault of
// the host is to hit, the call is made with requests.
func forCall(c tortureCall, around []story, host string) (tortureCall, []story) {
	if !c.urls {
		return c, around
	}
	isPost := func(s story) bool { return s.method != http.MethodGet }
	if slices.ContainsFunc(around, func(s story) bool { return isPost(s) && s.has(host) }) {
		return tortureCall{stream: c.stream}, around
	}
	return c, slices.DeleteFunc(around, isPost)
}

// collect makes the call. Results go to e as they come: there may be some before a panic.
func (r *torture) collect(ctx context.Context, f *fetch.Fetcher, c tortureCall, e *tortureEnd) {
	var urls []string
	for _, s := range r.stories {
		urls = append(urls, s.url)
	}
	var results iter.Seq[fetch.Result]
	switch {
	case c.stream && c.urls:
		results = f.Stream(ctx, slices.Values(urls))
	case c.stream:
		results = f.DoStream(ctx, r.requests)
	case c.urls:
		results = slices.Values(f.FetchAll(ctx, urls))
	default:
		results = slices.Values(f.DoAll(ctx, slices.Collect(r.requests)))
	}
	for result := range results {
		e.results = append(e.results, result)
	}
}

// run makes a call with the stories, and checks what holds whatever has failed.
func (r *torture) run(opts []fetch.Option, concurrency int, c tortureCall) (e tortureEnd) {
	t := r.t
	t.Helper()
	f := fetchtest.NewFetcher(t, opts...)
	// The deadline shows what hangs. Nothing takes nearly as long.
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	start := time.Now()
	e.panicked, e.returned = fetchtest.Recovered(func() { r.collect(ctx, f, c, &e) })
	e.took = time.Since(start)
	if ctx.Err() != nil {
		t.Errorf("hung for %v", e.took)
	}
	synctest.Wait() // net/http still reads on the connections that are idle
	r.pacify()
	r.checkNothingLeft(concurrency)
	if e.panicked == nil && len(e.results) != len(r.stories) {
		t.Fatalf("%d results", len(e.results))
	}
	seen := map[int]bool{}
	for i, result := range e.results {
		if seen[result.Index] || !c.stream && result.Index != i {
			t.Errorf("result %d has the index %d", i, result.Index)
		}
		seen[result.Index] = true
		fetchtest.CheckResult(t, result.Index, r.stories[result.Index].url, result)
		if result.Attempts > tortureRetries+1 || result.Redirects > 10 {
			t.Errorf("%s: %d attempts, %d redirects", result.URL, result.Attempts, result.Redirects)
		}
	}
	r.checkUsable(f)
	return e
}

// checkNothingLeft checks that nothing of the library runs, that all bodies are closed,
// and that the limits were kept.
func (r *torture) checkNothingLeft(concurrency int) {
	r.t.Helper()
	if left := fetchtest.BubbleGoroutines(); left != "" {
		r.t.Errorf("goroutines are left:\n\n%s", left)
	}
	if r.flight.Current() != 0 || r.flight.Most() > concurrency {
		r.t.Errorf("%d requests were in flight at once, %d still are", r.flight.Most(), r.flight.Current())
	}
	for host := range r.dials {
		if n := r.flight.MostOf(host); n > 1 {
			r.t.Errorf("%d were in flight to %s", n, host)
		}
	}
	r.starts.Check(r.t, 100, 1)
	r.mu.Lock()
	defer r.mu.Unlock()
	for what, n := range r.open {
		if n != 0 {
			r.t.Errorf("%d bodies are open: %s", n, what)
		}
	}
	if r.permits > 0 && r.used > r.permits {
		r.t.Errorf("%d requests with %d permits", r.used, r.permits)
	}
}

// checkUsable checks that the Fetcher has lost no slot.
func (r *torture) checkUsable(f *fetch.Fetcher) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Hour)
	defer cancel()
	urls := []string{"http://plain.test/1", "http://moved.test/"}
	fetchtest.MustAllBeFine(r.t, urls, f.FetchAll(ctx, urls))
}

// isAsEver reports how a result differs from that of a run in which nothing
// failed; "" when it does not, but for more attempts.
func (r *torture) isAsEver(result fetch.Result) string {
	story := r.stories[result.Index]
	final := cmp.Or(story.final, story.url)
	body := string(result.Body)
	if text, ok := r.bodies[result.Index]; ok {
		body = text
	}
	switch {
	case result.Err != nil:
		return result.Err.Error()
	case result.StatusCode != 200, result.FinalURL != final:
		return fmt.Sprintf("status %d of %s", result.StatusCode, result.FinalURL)
	case body != story.body:
		return fmt.Sprintf("a body of %d bytes", len(body))
	}
	return ""
}
