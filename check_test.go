package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
)

// What all tests here share. The tests of this package do not run in
// parallel: checkNoLeaks looks at all goroutines there are.

// TestMain fails when the library has left goroutines behind.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := waitForLeaks(); code == 0 && left != "" {
		fmt.Fprintf(os.Stderr, "goroutines of the library are left after all tests:\n\n%s\n", left)
		code = 1
	}
	os.Exit(code)
}

// checkNoLeaks fails the test when goroutines of the library still run.
func checkNoLeaks(t testing.TB) {
	t.Helper()
	if left := waitForLeaks(); left != "" {
		t.Errorf("goroutines of the library are left:\n\n%s", left)
	}
}

// waitForLeaks returns the stacks of the library's goroutines that are still
// there after 2 s: one that has done its work can take a moment to exit.
func waitForLeaks() string {
	for wait := time.Millisecond; ; wait *= 2 {
		left := libraryGoroutines("")
		if left == "" || wait > 1300*time.Millisecond {
			return left
		}
		time.Sleep(wait)
	}
}

// A check that sees nothing would pass everything.
func TestGoroutinesOfTheLibraryAreSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFetcher(t, over(answerAfter(time.Second)))
		urls := numbered("http://a.example", 1)
		var call sync.WaitGroup
		call.Go(func() { mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls)) })
		synctest.Wait()
		if bubbleGoroutines() == "" {
			t.Error("a request is in flight, and no goroutine is seen")
		}
		call.Wait()
		synctest.Wait()
		if left := bubbleGoroutines(); left != "" {
			t.Errorf("goroutines are left:\n\n%s", left)
		}
	})
}

// goroutinesSince counts the goroutines there are in addition to those before. It looks
// again when they are more than allowed, since one that has been replaced may not have got
// round to its exit.
func goroutinesSince(before, allowed int) int {
	n := runtime.NumGoroutine() - before
	for try := 0; try < 10 && n > allowed; try++ {
		time.Sleep(time.Millisecond)
		n = min(n, runtime.NumGoroutine()-before)
	}
	return n
}

// bubbleGoroutines returns the stacks of the library's goroutines in the bubble of the test.
// Those that an earlier test has left to net/http may still be on their way out.
func bubbleGoroutines() string { return libraryGoroutines("synctest bubble") }

// libraryGoroutines returns the stacks of the library's goroutines whose first line contains where.
func libraryGoroutines(where string) string {
	buf := make([]byte, 1<<16)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	var left []string
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		if head, _, _ := strings.Cut(stack, "\n"); !strings.Contains(head, where) {
			continue
		}
		ours := strings.Contains(stack, "batchhttp/fetch.") || strings.Contains(stack, "batchhttp/fetch/internal/")
		// The goroutine of a test may itself be in the package.
		if ours && !strings.Contains(stack, "testing.tRunner(") {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}

// checkResults checks what is true of every batch: one Result for each URL, at
// its index, and sound.
func checkResults(t testing.TB, urls []string, results []fetch.Result) {
	t.Helper()
	if results == nil {
		t.Fatal("the results are a nil slice")
	}
	if len(results) != len(urls) {
		t.Fatalf("got %d results for %d URLs", len(results), len(urls))
	}
	for i, r := range results {
		checkResult(t, i, urls[i], r)
	}
}

// checkResult checks what is true of every Result. index and rawURL are what
// its Index and URL must be.
func checkResult(t testing.TB, index int, rawURL string, r fetch.Result) {
	t.Helper()
	fail := func(format string, args ...any) {
		t.Helper()
		t.Errorf("result %d (%q): %s", index, rawURL, fmt.Sprintf(format, args...))
	}
	if r.Index != index {
		fail("Index is %d", r.Index)
	}
	if r.URL != rawURL {
		fail("URL is %q", r.URL)
	}
	if r.Attempts < 0 || r.Redirects < 0 || r.Waited < 0 || r.Took < 0 {
		fail("negative: Attempts %d, Redirects %d, Waited %v, Took %v", r.Attempts, r.Redirects, r.Waited, r.Took)
	}
	if r.Attempts == 0 && (r.StatusCode != 0 || r.Took != 0) {
		fail("no attempt, but StatusCode %d, Took %v", r.StatusCode, r.Took)
	}
	if r.Attempts <= 1 && r.History != nil {
		fail("History %v after %d attempts", r.History, r.Attempts)
	}
	if r.Attempts > 1 && len(r.History) != r.Attempts {
		fail("History has %d entries after %d attempts", len(r.History), r.Attempts)
	}
	// A status line of "000" is a response head as well; it is told by Proto.
	if got := r.FinalURL != ""; got != (r.StatusCode != 0) && (r.StatusCode != 0 || r.Proto == "") {
		fail("FinalURL %q with StatusCode %d", r.FinalURL, r.StatusCode)
	}
	if u, err := url.Parse(r.FinalURL); err != nil || u.User != nil {
		fail("FinalURL %q: does not parse (%v), or has user information", r.FinalURL, err)
	}
	if r.Err == nil {
		if r.StatusCode < 100 || r.StatusCode == 101 || r.Attempts < 1 {
			fail("no error, but StatusCode %d, Attempts %d", r.StatusCode, r.Attempts)
		}
		return
	}
	if r.OK() {
		fail("OK with error %v", r.Err)
	}
	if _, ok := errors.AsType[*fetch.StatusError](r.Err); !ok && r.Body != nil {
		fail("error %v with a Body of %d bytes", r.Err, len(r.Body))
	}
	checkError(t, rawURL, r.Err)
	if e, ok := r.Err.(*fetch.Error); ok && e.Attempts != r.Attempts {
		fail("Error.Attempts is %d, Result.Attempts %d", e.Attempts, r.Attempts)
	}
}

// checkError checks what is true of every error of a URL: its type, that its
// text can be logged, and that the sentinels do not contradict each other.
func checkError(t testing.TB, rawURL string, err error) {
	t.Helper()
	if _, ok := err.(*fetch.Error); !ok {
		t.Errorf("%q: error is a %T, not an *Error: %v", rawURL, err, err)
		return
	}
	text := err.Error()
	if !strings.HasPrefix(text, "fetch: ") || strings.Count(text, "fetch: ") > 1 {
		t.Errorf("%q: error text must have one prefix: %q", rawURL, text)
	}
	if i := strings.IndexFunc(text, func(r rune) bool { return r < ' ' || 0x7f <= r && r < 0xa0 }); i >= 0 {
		t.Errorf("%q: error text has a control character at %d: %q", rawURL, i, text)
	}
	for _, secret := range secretsOf(rawURL) {
		if strings.Contains(text, secret) {
			t.Errorf("%q: error text shows %q: %q", rawURL, secret, text)
		}
	}
	if errors.Is(err, fetch.ErrTimeout) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%q: ErrTimeout without context.DeadlineExceeded: %v", rawURL, err)
	}
}

// secretsOf returns what of a URL must not show in an error: user information
// and query, and words of theirs that are long enough not to be there by chance.
func secretsOf(rawURL string) []string {
	_, rest, ok := strings.Cut(rawURL, "://")
	if !ok {
		rest = rawURL
	}
	rest, _, _ = strings.Cut(rest, "#")
	var secrets, words []string
	rest, query, _ := strings.Cut(rest, "?")
	if query != "" {
		secrets = append(secrets, "?"+query)
		words = append(words, strings.FieldsFunc(query, func(r rune) bool { return r == '&' || r == '=' })...)
	}
	authority, _, _ := strings.Cut(rest, "/")
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		secrets = append(secrets, authority[:i+1])
		words = append(words, strings.Split(authority[:i], ":")...)
	}
	for _, word := range words {
		if len(word) >= 6 {
			secrets = append(secrets, word)
		}
	}
	return secrets
}

// roundTripFunc is an in-memory transport. Over one of these a Fetcher
// works in a synctest bubble.
type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

func newClient(rt http.RoundTripper) *http.Client { return &http.Client{Transport: rt} }

// over is the option that most in-memory tests begin with.
func over(rt roundTripFunc) fetch.Option { return fetch.WithClient(newClient(rt)) }

// newFetcher returns a Fetcher with options that must be valid.
func newFetcher(t testing.TB, opts ...fetch.Option) *fetch.Fetcher {
	t.Helper()
	f, err := fetch.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

// respond returns a whole response, with the header fields given as key, value, key, value.
func respond(req *http.Request, status int, body string, header ...string) *http.Response {
	resp := &http.Response{
		Status:        fmt.Sprintf("%d %s", status, http.StatusText(status)),
		StatusCode:    status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        http.Header{},
		Body:          io.NopCloser(strings.NewReader(body)),
		ContentLength: int64(len(body)),
		Request:       req,
	}
	for i := 0; i+1 < len(header); i += 2 {
		resp.Header.Add(header[i], header[i+1])
	}
	if req.Method == http.MethodHead {
		resp.Body = http.NoBody
	}
	return resp
}

// answerAfter is a transport that answers 200 "ok" after d, or fails when the
// request's context is done before that.
func answerAfter(d time.Duration) roundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		if err := sleepCtx(req.Context(), d); err != nil {
			return nil, err
		}
		return respond(req, 200, "ok"), nil
	}
}

// sleepCtx sleeps for d, or until ctx is done; then it returns the cause, as net/http does.
func sleepCtx(ctx context.Context, d time.Duration) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if d <= 0 {
		// No timer: one that has expired already upsets the race detector of Go 1.26 in a bubble.
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// numbered returns n URLs of a host, given with its scheme: base/0, base/1, and so on.
func numbered(base string, n int) []string {
	urls := make([]string, n)
	for i := range urls {
		urls[i] = fmt.Sprintf("%s/%d", base, i)
	}
	return urls
}

// An inFlight counts requests that are in flight at once, in total and by
// host, and remembers the most there were.
type inFlight struct {
	mu         sync.Mutex
	now, max   int
	hosts      map[string]int
	maxOfHosts map[string]int
	requests   int
}

// enter counts a request until leave is called. Calls of leave after the first do nothing.
func (f *inFlight) enter(host string) (leave func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hosts == nil {
		f.hosts, f.maxOfHosts = map[string]int{}, map[string]int{}
	}
	f.requests++
	f.now++
	f.max = max(f.max, f.now)
	f.hosts[host]++
	f.maxOfHosts[host] = max(f.maxOfHosts[host], f.hosts[host])
	return sync.OnceFunc(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.now--
		f.hosts[host]--
	})
}

// over counts the requests of a transport, each until it fails or its body is closed.
func (f *inFlight) over(rt roundTripFunc) roundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		leave := f.enter(req.URL.Host)
		answered := false // not so after a panic either
		defer func() {
			if !answered {
				leave()
			}
		}()
		resp, err := rt(req)
		if err != nil {
			return nil, err
		}
		answered = true
		resp.Body = &hookedBody{ReadCloser: resp.Body, onClose: leave}
		return resp, nil
	}
}

func (f *inFlight) most() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.max
}

func (f *inFlight) mostOf(host string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.maxOfHosts[host]
}

func (f *inFlight) total() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.requests
}

func (f *inFlight) current() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now
}

func (f *inFlight) currentOf(host string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.hosts[host]
}

// currentBut counts what is in flight to other hosts. Two counts, one
// after the other, would not do: what they count changes in between.
func (f *inFlight) currentBut(host string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now - f.hosts[host]
}

// hookedBody calls onClose each time it is closed.
type hookedBody struct {
	io.ReadCloser
	onClose func()
}

func (b *hookedBody) Close() error {
	b.onClose()
	return b.ReadCloser.Close()
}

// A startLog holds the times at which requests started.
type startLog struct {
	mu    sync.Mutex
	times []time.Time
}

func (l *startLog) add() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.times = append(l.times, time.Now())
}

func (l *startLog) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.times)
}

// check fails the test when some window of time, of whatever length T, has
// more than burst + perSecond·T starts.
func (l *startLog) check(t testing.TB, perSecond float64, burst int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, from := range l.times {
		for j := i; j < len(l.times); j++ {
			window := l.times[j].Sub(from).Seconds()
			// 1e-6 is for the rounding of floats.
			if starts := j - i + 1; float64(starts) > float64(burst)+perSecond*window+1e-6 {
				t.Fatalf("%d starts in %.6f s: more than %d + %v/s allow", starts, window, burst, perSecond)
			}
		}
	}
}

// newServer returns a server on a loopback socket that counts its connections.
func newServer(t testing.TB, handler http.HandlerFunc) (*httptest.Server, *connCounter) {
	t.Helper()
	conns := &connCounter{open: map[net.Conn]bool{}}
	server := httptest.NewUnstartedServer(handler)
	server.Config.ConnState = conns.change
	server.Start()
	t.Cleanup(server.Close)
	return server, conns
}

// A connCounter counts the connections to a server.
type connCounter struct {
	mu         sync.Mutex
	open       map[net.Conn]bool
	max, total int
}

func (c *connCounter) change(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.total++
		c.open[conn] = true
		c.max = max(c.max, len(c.open))
	case http.StateClosed, http.StateHijacked:
		delete(c.open, conn)
	}
}

// counts returns how many are open, how many were open at once, and how many were opened.
func (c *connCounter) counts() (open, most, total int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open), c.max, c.total
}

// waitForNone reports whether all are closed, within 2 s: the server hears of
// it a moment after the client has done it.
func (c *connCounter) opened() int {
	_, _, total := c.counts()
	return total
}

func (c *connCounter) waitForNone() bool {
	for range 200 {
		if open, _, _ := c.counts(); open == 0 {
			return true
		}
		time.Sleep(10 * time.Millisecond)
	}
	return false
}

// checkTook fails the test unless got is want. It is for virtual time, which is exact.
func checkTook(t testing.TB, what string, got, want time.Duration) {
	t.Helper()
	if got != want {
		t.Errorf("%s took %v, want %v", what, got, want)
	}
}
