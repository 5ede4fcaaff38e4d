package fetch_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
)

// The torture runs a small scenario over connections in memory and counts every
// operation: dials, reads, writes, bodies, hooks. Then it runs the scenario again
// with one of them failing, for each operation and each way to fail.

// A harm is done to an operation: a way to fail.
type harm string

const (
	sound   harm = ""
	fails   harm = "an error"
	ends    harm = "an early end"
	short   harm = "a short count"
	idles   harm = "a count of zero"
	excess  harm = "an impossible count"
	blocks  harm = "blocking"
	late    harm = "coming too late"
	nothing harm = "neither a response nor an error"
	lies    harm = "the wrong answer"
	panics  harm = "a panic"
	exits   harm = "Goexit"
)

// harmRate: one of so many operations fails, where several do.
const harmRate = 25

// harmsOf has the ways in which each kind of operation can fail. Dials and connections
// run on goroutines of net/http, where nobody can catch a panic.
var harmsOf = map[string][]harm{
	"dial":           {fails, blocks, late},
	"read":           {fails, ends, short, blocks},
	"write":          {fails, short, blocks},
	"close":          {fails},
	"deadline":       {fails},
	"round trip":     {fails, nothing, panics, exits},
	"response read":  {fails, ends, short, idles, excess, blocks, panics, exits},
	"response close": {fails, panics, exits},
	"request read":   {fails, short, blocks, panics, exits},
	"request close":  {fails, panics, exits},
	"GetBody":        {fails, panics, exits},
	"RequestFunc":    {fails, blocks, panics, exits},
	"CheckRedirect":  {fails, blocks, panics, exits},
	"Jar":            {panics, exits},
	"RetryIf":        {lies, panics, exits},
	"BodyFunc":       {fails, short, blocks, panics, exits},
	"HostLimits":     {fails, panics, exits},
	"Limiter":        {fails, blocks, panics, exits},
}

func isNetwork(kind string) bool {
	return slices.Contains([]string{"dial", "read", "write", "close", "deadline"}, kind)
}

// An operation is the nth call of its kind for a host, or for one of its connections.
type operation struct {
	kind, host, conn string
	n                int
}

func (o operation) String() string {
	return strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %d", o.kind, o.host, o.conn, o.n)), " ")
}

// errTorn is what operations of the network fail with: a connection that was reset.
// errHook is what the others fail with.
var (
	errTorn = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	errHook = errors.New("torture")
)

// tear has a name to look for in a stack.
func tear() { panic(errHook) }

const (
	tortureTimeout = 10 * time.Second
	tortureRetries = 2
)

// A torture is one run of the scenario.
type torture struct {
	t       *testing.T
	stories []story
	decide  func(operation) harm

	listener  *memoryListener
	transport *http.Transport
	flight    inFlight
	starts    startLog

	mu      sync.Mutex
	calm    bool // nothing is counted, and nothing fails
	counts  map[operation]int
	ops     []operation
	struck  int
	dials   map[string]int // of each host
	asked   map[string]int // the server, by path
	open    map[string]int // bodies
	bodies  map[int]string // that the BodyFunc got
	permits int
	used    int
}

func newTorture(t *testing.T, stories []story, decide func(operation) harm) *torture {
	r := &torture{
		t: t, stories: stories, decide: decide,
		counts: map[operation]int{},
		dials:  map[string]int{}, asked: map[string]int{},
		open: map[string]int{}, bodies: map[int]string{},
	}
	r.listener = servePipes(t, http.HandlerFunc(r.serve))
	r.transport = &http.Transport{DialContext: r.dial}
	t.Cleanup(func() {
		time.Sleep(time.Minute) // for dials that come too late
		r.transport.CloseIdleConnections()
	})
	return r
}

// strike counts an operation and says how it is to fail.
func (r *torture) strike(kind, host, conn string) harm {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calm {
		return sound
	}
	op := operation{kind: kind, host: host, conn: conn}
	r.counts[op]++
	op.n = r.counts[op]
	r.ops = append(r.ops, op)
	f := r.decide(op)
	if f != sound {
		r.struck++
	}
	return f
}

// explode does what all strangers' code can do.
func explode(f harm) {
	switch f {
	case panics:
		tear()
	case exits:
		runtime.Goexit()
	}
}

func (r *torture) pacify() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calm = true
}

func (r *torture) opened(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[what]++
}

func (r *torture) closed(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open[what]--
}

// The scenario. Each host but plain.test serves one URL, so that a harm has one victim.

var (
	largeBody   = strings.Repeat("0123456789abcdef", 40<<6)
	requestText = strings.Repeat("request ", 1<<9)
)

// A story is a URL, and what it must end with when nothing fails.
type story struct {
	method, url string
	final       string // if another
	body        string
	attempts    int
	once        bool // the request's body cannot be had again
}

// has reports whether the story takes the host in; without a host it may be any.
func (s story) has(host string) bool {
	return host == "" || hostOfURL(s.url) == host || hostOfURL(s.final) == host
}

var stories = []story{
	{method: "GET", url: "http://plain.test/1", body: "plain", attempts: 1},
	{method: "GET", url: "http://plain.test/2", body: "plain", attempts: 1},
	{method: "GET", url: "http://moved.test/", final: "http://landed.test/", body: "landed", attempts: 1},
	{method: "GET", url: "http://busy.test/", body: "busy no more", attempts: 2},
	{method: "GET", url: "http://large.test/", body: largeBody, attempts: 1},
	{method: "GET", url: "http://chunked.test/", body: largeBody, attempts: 1},
	{method: "POST", url: "http://post.test/", final: "http://post.test/again", body: requestText, attempts: 1},
	{method: "PUT", url: "http://put.test/", body: requestText, attempts: 2},
	{method: "POST", url: "http://once.test/", body: requestText, attempts: 1, once: true},
}

// storiesAround returns the stories of a host, and those before and after: the rest is too
// far away to matter. Without a host it returns all.
func storiesAround(host string) (around []story) {
	for i, s := range stories {
		before, after := stories[(i+len(stories)-1)%len(stories)], stories[(i+1)%len(stories)]
		if s.has(host) || before.has(host) || after.has(host) {
			around = append(around, s)
		}
	}
	return around
}

func (r *torture) serve(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	r.mu.Lock()
	r.asked[req.Host+req.URL.Path]++
	first := r.asked[req.Host+req.URL.Path] == 1
	r.mu.Unlock()
	switch req.Host {
	case "plain.test":
		io.WriteString(w, "plain")
	case "moved.test":
		http.SetCookie(w, &http.Cookie{Name: "seen", Value: "1"})
		http.Redirect(w, req, "http://landed.test/", http.StatusFound)
	case "landed.test":
		io.WriteString(w, "landed")
	case "busy.test":
		if first {
			w.Header().Set("Retry-After", "1")
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return
		}
		io.WriteString(w, "busy no more")
	case "large.test":
		w.Header().Set("Content-Length", fmt.Sprint(len(largeBody)))
		io.WriteString(w, largeBody)
	case "chunked.test":
		w.Header().Set("Connection", "close")
		for chunk := range slices.Chunk([]byte(largeBody), 32<<10) {
			w.Write(chunk)
			w.(http.Flusher).Flush()
		}
	case "put.test":
		if first {
			http.Error(w, "not yet", http.StatusInternalServerError)
			return
		}
		w.Write(body)
	case "post.test":
		if req.URL.Path == "/" {
			http.Redirect(w, req, "/again", http.StatusTemporaryRedirect)
			return
		}
		w.Write(body)
	case "once.test":
		w.Write(body)
	}
}

// requests yields the requests of the scenario.
func (r *torture) requests(yield func(*http.Request) bool) {
	for _, story := range r.stories {
		req := newRequest(r.t, story.method, story.url, nil)
		if story.method != "GET" {
			// Else net/http would not look into bodies of unknown length at once.
			req.ContentLength = int64(len(requestText))
			req.Body = r.newRequestBody(req.URL.Host)
			req.Header.Set("Idempotency-Key", "1")
			if !story.once {
				req.GetBody = r.getBody(req.URL.Host)
			}
		}
		if !yield(req) {
			return
		}
	}
}

// plainOptions have no hook: what fails is the network, and bodies.
func (r *torture) plainOptions(concurrency int) []fetch.Option {
	return []fetch.Option{
		over(r.roundTrip),
		fetch.WithConcurrency(concurrency),
		fetch.WithHostConcurrency(1),
		fetch.WithTimeout(tortureTimeout),
		fetch.WithRetries(tortureRetries),
		fetch.WithBackoff(time.Second, time.Second),
		fetch.WithRate(100, 1),
	}
}

// hookedOptions have every hook there is.
func (r *torture) hookedOptions(concurrency int) []fetch.Option {
	return append(r.plainOptions(concurrency),
		fetch.WithClient(&http.Client{
			Transport:     roundTripFunc(r.roundTrip),
			Jar:           tortureJar{r},
			CheckRedirect: r.checkRedirect,
		}),
		fetch.WithRequestFunc(r.requestFunc),
		fetch.WithBodyFunc(r.bodyFunc),
		fetch.WithRetryIf(r.retryIf),
		fetch.WithHostLimits(r.hostLimits),
		fetch.WithLimiter(limiterFunc(r.limiter)),
	)
}

func (r *torture) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	host, _, _ := net.SplitHostPort(addr)
	r.mu.Lock()
	r.dials[host]++
	name := fmt.Sprintf("conn %d", r.dials[host])
	r.mu.Unlock()
	switch r.strike("dial", host, "") {
	case fails:
		return nil, &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
	case blocks:
		return nil, untilDone(ctx)
	case late:
		time.Sleep(2 * tortureTimeout)
	}
	conn, err := r.listener.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	dead, _ := net.Pipe()
	return &tortureConn{Conn: conn, dead: dead, run: r, host: host, name: name}, nil
}

// A tortureConn blocks on the other half of a dead pipe, which knows deadlines as well.
type tortureConn struct {
	net.Conn
	dead       net.Conn
	run        *torture
	host, name string
}

func (c *tortureConn) Read(p []byte) (int, error) {
	switch c.run.strike("read", c.host, c.name) {
	case fails:
		return 0, errTorn
	case ends:
		return 0, io.EOF
	case blocks:
		n, err := c.dead.Read(p)
		return n, asSocket(err)
	case short:
		p = p[:1]
	}
	n, err := c.Conn.Read(p)
	return n, asSocket(err)
}

func (c *tortureConn) Write(p []byte) (int, error) {
	switch c.run.strike("write", c.host, c.name) {
	case fails:
		return 0, errTorn
	case blocks:
		n, err := c.dead.Write(p)
		return n, asSocket(err)
	case short:
		n, _ := c.Conn.Write(p[:len(p)/2])
		return n, errTorn
	}
	n, err := c.Conn.Write(p)
	return n, asSocket(err)
}

// asSocket gives the errors of a pipe those of a socket.
func asSocket(err error) error {
	if err == io.ErrClosedPipe {
		return net.ErrClosed
	}
	return err
}

func (c *tortureConn) Close() error {
	c.dead.Close()
	err := c.Conn.Close()
	if c.run.strike("close", c.host, c.name) == fails {
		return errTorn
	}
	return err
}

func (c *tortureConn) SetDeadline(d time.Time) error {
	return c.setDeadline(d, net.Conn.SetDeadline)
}

func (c *tortureConn) SetReadDeadline(d time.Time) error {
	return c.setDeadline(d, net.Conn.SetReadDeadline)
}

func (c *tortureConn) SetWriteDeadline(d time.Time) error {
	return c.setDeadline(d, net.Conn.SetWriteDeadline)
}

func (c *tortureConn) setDeadline(d time.Time, set func(net.Conn, time.Time) error) error {
	if c.run.strike("deadline", c.host, c.name) == fails {
		return errTorn
	}
	set(c.dead, d)
	return set(c.Conn, d)
}

// roundTrip is the stranger's RoundTripper around the http.Transport.
func (r *torture) roundTrip(req *http.Request) (*http.Response, error) {
	host := req.URL.Host
	r.mu.Lock()
	r.used++
	r.mu.Unlock()
	r.starts.add()
	leave := r.flight.enter(host)
	answered := false
	defer func() {
		if !answered {
			leave()
		}
	}()
	f := r.strike("round trip", host, "")
	explode(f)
	if f == fails || f == nothing {
		if req.Body != nil {
			req.Body.Close()
		}
		if f == fails {
			return nil, errTorn
		}
		return nil, nil
	}
	resp, err := r.transport.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	answered = true
	body := &tortureResponse{ReadCloser: resp.Body, run: r, ctx: req.Context(), host: host}
	body.closed = sync.OnceFunc(func() {
		leave()
		r.closed("response of " + host)
	})
	r.opened("response of " + host)
	resp.Body = body
	return resp, nil
}

type tortureResponse struct {
	io.ReadCloser
	run    *torture
	ctx    context.Context
	host   string
	closed func()
}

func (b *tortureResponse) Read(p []byte) (int, error) {
	f := b.run.strike("response read", b.host, "")
	explode(f)
	switch f {
	case fails:
		return 0, errTorn
	case ends:
		return 0, io.ErrUnexpectedEOF
	case idles:
		return 0, nil
	case excess:
		return len(p) + 1, nil
	case blocks:
		return 0, untilDone(b.ctx)
	case short:
		p = p[:1]
	}
	// Buffers come from a pool, so that their sizes, and the number of reads, vary.
	return b.ReadCloser.Read(p[:min(len(p), 32<<10)])
}

func (b *tortureResponse) Close() error {
	b.closed()
	err := b.ReadCloser.Close()
	f := b.run.strike("response close", b.host, "")
	explode(f)
	if f == fails {
		return errTorn
	}
	return err
}

// A tortureRequest is the body of a request.
type tortureRequest struct {
	io.Reader
	run    *torture
	host   string
	closed chan struct{}
	close  func()
}

func (r *torture) newRequestBody(host string) *tortureRequest {
	b := &tortureRequest{Reader: strings.NewReader(requestText), run: r, host: host, closed: make(chan struct{})}
	b.close = sync.OnceFunc(func() {
		r.closed("request to " + host)
		close(b.closed)
	})
	r.opened("request to " + host)
	return b
}

func (r *torture) getBody(host string) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) {
		f := r.strike("GetBody", host, "")
		explode(f)
		if f == fails {
			return nil, errHook
		}
		return r.newRequestBody(host), nil
	}
}

func (b *tortureRequest) Read(p []byte) (int, error) {
	f := b.run.strike("request read", b.host, "")
	explode(f)
	switch f {
	case fails:
		return 0, errTorn
	case blocks:
		<-b.closed
		return 0, net.ErrClosed
	case short:
		p = p[:1]
	}
	return b.Reader.Read(p)
}

func (b *tortureRequest) Close() error {
	b.close()
	f := b.run.strike("request close", b.host, "")
	explode(f)
	if f == fails {
		return errTorn
	}
	return nil
}

func (r *torture) requestFunc(req *http.Request) error {
	return r.hook("RequestFunc", req)
}

func (r *torture) checkRedirect(req *http.Request, _ []*http.Request) error {
	return r.hook("CheckRedirect", req)
}

func (r *torture) hook(kind string, req *http.Request) error {
	f := r.strike(kind, req.URL.Host, "")
	explode(f)
	switch f {
	case fails:
		return errHook
	case blocks:
		return untilDone(req.Context())
	}
	return nil
}

type tortureJar struct{ run *torture }

func (j tortureJar) SetCookies(u *url.URL, _ []*http.Cookie) {
	explode(j.run.strike("Jar", u.Host, "set"))
}

func (j tortureJar) Cookies(u *url.URL) []*http.Cookie {
	explode(j.run.strike("Jar", u.Host, "get"))
	return nil
}

func (r *torture) bodyFunc(ctx context.Context, result fetch.Result, body io.Reader) error {
	f := r.strike("BodyFunc", hostOfURL(result.URL), "")
	explode(f)
	switch f {
	case fails:
		return errHook
	case blocks:
		return untilDone(ctx)
	case short:
		return nil
	}
	text, err := io.ReadAll(body)
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.calm {
		r.bodies[result.Index] = string(text)
	}
	return err
}

// retryIf retries whatever is not a success.
func (r *torture) retryIf(result fetch.Result) bool {
	f := r.strike("RetryIf", hostOfURL(result.URL), "")
	explode(f)
	again := !result.OK()
	if f == lies {
		return !again
	}
	return again
}

func (r *torture) hostLimits(host string) fetch.HostLimits {
	f := r.strike("HostLimits", host, "")
	explode(f)
	if f == fails {
		return fetch.HostLimits{Concurrency: -1}
	}
	return fetch.HostLimits{Concurrency: 1}
}

func (r *torture) limiter(ctx context.Context) error {
	f := r.strike("Limiter", "", "")
	explode(f)
	switch f {
	case fails:
		return errHook
	case blocks:
		if err := sleepCtx(ctx, time.Minute); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.permits++
	return nil
}

func hostOfURL(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Host
}

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
	f := newFetcher(t, opts...)
	// The deadline shows what hangs. Nothing takes nearly as long.
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	start := time.Now()
	e.panicked, e.returned = recovered(func() { r.collect(ctx, f, c, &e) })
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
		checkResult(t, result.Index, r.stories[result.Index].url, result)
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
	if left := bubbleGoroutines(); left != "" {
		r.t.Errorf("goroutines are left:\n\n%s", left)
	}
	if r.flight.current() != 0 || r.flight.most() > concurrency {
		r.t.Errorf("%d requests were in flight at once, %d still are", r.flight.most(), r.flight.current())
	}
	for host := range r.dials {
		if n := r.flight.mostOf(host); n > 1 {
			r.t.Errorf("%d were in flight to %s", n, host)
		}
	}
	r.starts.check(r.t, 100, 1)
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
	mustAllBeFine(r.t, urls, f.FetchAll(ctx, urls))
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

// configurations of the scenario.
var tortureOptions = map[string]func(*torture, int) []fetch.Option{
	"plain":  (*torture).plainOptions,
	"hooked": (*torture).hookedOptions,
}

// countOperations runs the scenario without a harm.
func countOperations(t *testing.T, options func(*torture, int) []fetch.Option) (ops []operation) {
	synctest.Test(t, func(t *testing.T) {
		r := newTorture(t, stories, func(operation) harm { return sound })
		e := r.run(options(r, 1), 1, tortureCalls[0])
		for i, result := range e.results {
			if diff := r.isAsEver(result); diff != "" || result.Attempts != stories[i].attempts {
				t.Errorf("%s: %s after %d attempts", result.URL, diff, result.Attempts)
			}
		}
		if e.took > 5*time.Second {
			t.Errorf("took %v", e.took)
		}
		ops = r.ops
	})
	return ops
}

func TestTortureWithEachOperationFailing(t *testing.T) {
	for name, options := range tortureOptions {
		t.Run(name, func(t *testing.T) {
			ops := countOperations(t, options)
			i := 0
			for _, op := range ops {
				if name == "hooked" && isNetwork(op.kind) {
					continue // as without hooks
				}
				if op.kind == "HostLimits" && op.n > 1 {
					continue // how often a host is asked for again varies
				}
				for _, f := range harmsOf[op.kind] {
					if i++; testing.Short() && i%10 != 0 {
						continue
					}
					t.Run(fmt.Sprintf("%s, %s", op, f), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							call, stories := forCall(tortureCalls[i%len(tortureCalls)], storiesAround(op.host), op.host)
							r := newTorture(t, stories, func(o operation) harm {
								if o == op {
									return f
								}
								return sound
							})
							e := r.run(options(r, 1), 1, call)
							r.checkOneHarm(e, op, f, name == "hooked")
						})
					})
				}
			}
			t.Logf("%d operations, %d ways to fail", len(ops), i)
		})
	}
}

// checkOneHarm checks what one harm has come to.
func (r *torture) checkOneHarm(e tortureEnd, op operation, f harm, hooked bool) {
	t := r.t
	t.Helper()
	if r.struck != 1 {
		t.Fatalf("the operation came up %d times", r.struck)
	}
	// One harm costs at most an attempt, or the minute of the Limiter.
	if limit := tortureTimeout + 15*time.Second; e.took > limit && op.kind != "Limiter" || e.took > limit+time.Minute {
		t.Errorf("took %v", e.took)
	}
	if f == panics {
		r.checkPanic(e)
	} else if e.panicked != nil || !e.returned {
		t.Fatalf("ended with %v", e.panicked)
	}
	different := 0
	for _, result := range e.results {
		story := r.stories[result.Index]
		diff := r.isAsEver(result)
		if diff == "" && result.Attempts <= story.attempts+1 {
			continue
		}
		different++
		switch {
		case f == panics && errors.Is(result.Err, context.Canceled):
		case f == panics && story.has(op.host):
			if strings.Contains(diff, "Goexit") {
				t.Errorf("%s: a panic is not %s", result.URL, diff)
			}
		case !story.has(op.host):
			t.Errorf("%s is none of its business: %s, %d attempts", result.URL, diff, result.Attempts)
		case isMended(op, f, hooked, story):
			t.Errorf("%s was not mended: %s, %d attempts", result.URL, diff, result.Attempts)
		}
	}
	if different > 1 && f != panics {
		t.Errorf("%d URLs were affected", different)
	}
	if f == exits && different != 1 {
		t.Error("Goexit is no URL's error")
	}
}

func (r *torture) checkPanic(e tortureEnd) {
	err, _ := e.panicked.(error)
	if !errors.Is(err, errHook) || !strings.Contains(fmt.Sprint(err), "fetch_test.tear(") {
		r.t.Errorf("panicked with %.100q, want that of tear and its stack", fmt.Sprint(e.panicked))
	}
}

// isMended reports whether another attempt must have made good the harm.
func isMended(op operation, f harm, hooked bool, s story) bool {
	switch {
	case f == exits || s.once:
		return false
	case op.kind == "HostLimits" || op.kind == "Limiter" || op.kind == "RetryIf":
		// There is no attempt yet, or nobody who wants another.
		return false
	case op.kind == "BodyFunc" && f == short:
		return false
	case f == nothing || f == excess || op.kind == "GetBody":
		return hooked // the default policy takes them for final
	}
	return true
}

// TestTortureWithSeveralOperationsFailing has URLs in flight at once, of which several fail.
func TestTortureWithSeveralOperationsFailing(t *testing.T) {
	seeds := 80
	if testing.Short() {
		seeds = 8
	}
	for seed := range seeds {
		for name, options := range tortureOptions {
			for _, version := range []int{1, 2} {
				t.Run(fmt.Sprintf("%s, HTTP/%d, seed %d", name, version, seed), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						decide := harmsBySeed(uint64(seed))
						call, stories := forCall(tortureCalls[seed%len(tortureCalls)], slices.Clone(stories), "nowhere")
						r := newTorture(t, stories, func(op operation) harm {
							if f := decide(op); version == 1 || op.kind != "write" || f != blocks {
								return f
							}
							// net/http holds a mutex meanwhile, and for that the time of a bubble stands still.
							return fails
						})
						r.transport.Protocols = new(http.Protocols)
						r.transport.Protocols.SetHTTP1(version == 1)
						r.transport.Protocols.SetUnencryptedHTTP2(version == 2)
						// A dead connection of HTTP/2 is noticed by pings only.
						r.transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: time.Second, PingTimeout: time.Second}
						r.checkManyHarms(r.run(options(r, 4), 4, call))
					})
				})
			}
		}
	}
}

func (r *torture) checkManyHarms(e tortureEnd) {
	r.t.Helper()
	switch {
	case e.panicked != nil:
		r.checkPanic(e)
	case !e.returned:
		r.t.Error("ended by Goexit")
	}
	// Each URL has three attempts, and the Limiter may take a minute for each request.
	if limit := time.Duration(len(stories)*(tortureRetries+1)) * (tortureTimeout + time.Minute); e.took > limit {
		r.t.Errorf("took %v", e.took)
	}
}

// harmsBySeed lets some of the operations fail. It goes by what they are, not by their
// order, which varies where several URLs are in flight. Panics are rarer, since they end the run.
func harmsBySeed(seed uint64) func(operation) harm {
	return func(op operation) harm {
		h := fnv.New64a()
		fmt.Fprint(h, seed, op)
		n := h.Sum64()
		n ^= n >> 32
		if n%harmRate != 0 {
			return sound
		}
		n /= harmRate
		ways := harmsOf[op.kind]
		f := ways[n%uint64(len(ways))]
		if f == panics && n/uint64(len(ways))%5 != 0 {
			return sound
		}
		return f
	}
}
