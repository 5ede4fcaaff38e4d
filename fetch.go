// Package fetch fetches many URLs over HTTP at once: one call, one [Result]
// for every URL, in the order of the URLs, each with its own error.
//
// Most callers want [FetchAll]. [Stream] yields results as they arrive and
// takes inputs of any length. A [Fetcher] is for many batches that share
// connections and limits, and for methods other than GET.
//
//	for _, r := range fetch.FetchAll(ctx, urls) {
//		if r.Err != nil {
//			log.Print(r.Err)
//			continue
//		}
//		fmt.Println(r.StatusCode, r.URL, len(r.Body))
//	}
//
// Bodies come whole, and decoded from gzip, deflate and the codings of [WithDecoder];
// a coding that is not known stays in the Header.
//
// # URLs
//
// A URL is sent as it was meant, be it a text, that of a request, or a Location. Escapes
// stay byte for byte. Bytes that a path or query must not have are escaped ([RFC 3986],
// sections 3.3 and 3.4; [ and ] are left, as in browsers), and so is a % in a path that begins no
// escape. Blanks and line ends around the URL, and its fragment, are dropped. As in
// browsers ([WHATWG URL]) dot segments are removed, and a backslash before the query is a slash.
// Addresses have one spelling ([RFC 5952]): [0:0::1] is [::1], and
// [::ffff:192.0.2.1], 0xc0.513 and 192。0。2。1 are 192.0.2.1. The Host field of a name beyond
// ASCII is the name that is dialled, in Punycode and with its letters mapped ([UTS 46]).
// User information is sent as Basic, decoded. A Location is relative to the request
// target: the Path of a URL, its Opaque, or the * of OPTIONS.
// Control characters within, a host with characters that no name has, and an Opaque with
// a fragment are [ErrInvalidURL]. The FinalURL of a [Result] is the URL as it was sent.
//
// # Limits
//
// At most [WithConcurrency] requests are in flight. A request takes one of
// these slots only when it can start at once: while it waits for its host
// ([WithHostConcurrency], [WithHostRate], [WithHostLimits]) or for a rate
// ([WithRate], [WithLimiter]) it holds no slot and no goroutine, so that a
// busy, slow or dead host does not hold up another. A host without a limit of its
// own gets at most half the slots while another host has something to do.
//
// Nor do many dead hosts. When hosts that have not answered for ten times as long as answers
// usually take hold half the slots, then neither they nor new hosts get more while a host that
// answers has something to do. The dead and the new get all slots that are not used otherwise, or
// are kept for a host of which nothing is known yet: see Retries and politeness.
//
// Batches that run on one Fetcher at the same time take turns. Within a batch
// the oldest URL goes first, with two exceptions. If the limits and the response times of a host
// decide when the whole batch ends, it is served before the others. And a batch with more hosts
// than slots begins at both ends, until it is known whether the first hosts answer, so that a
// row of dead ones cannot take all slots.
//
// Redirects are requests like any other: each waits for the limits of the
// host that it leads to.
//
// # Retries and politeness
//
// A status 429, one of 403, 420, 503 and 529 with a Retry-After field, and a 403 or 420 that
// says that a quota is used up, is a refusal: a message about the host, and all of the host's URLs
// obey it, in every batch of the [Fetcher], whether retries are on or not:
//
//   - The host is paused until the instant that it named. Nothing is sent to it
//     earlier, and then one request probes it. Other hosts do not notice.
//   - Once it accepts again, the number of requests in flight to it grows from one, and their
//     starts keep to the pace that it has accepted so far. The pace is raised bit by
//     bit, and forgotten when it no longer holds anything up.
//   - With [WithRetries] the refused URL is queued again, behind the others of its
//     host, and its next attempt counts as a retry. Without, it ends with that response,
//     and only the others wait.
//   - A 429 without a valid Retry-After pauses the host for the times of
//     [WithBackoff], doubled each time, if retries are on; otherwise it is a
//     status like any other.
//   - Nobody waits for longer than [WithMaxRetryAfter] or past the deadline of
//     ctx. The URL that was told so ends with that response, and the host's
//     other URLs end with a [HostPausedError], which has the instant. (A 503 or 529 is
//     believed when three URLs in a row got it.)
//   - A host that has accepted nothing for twice WithMaxRetryAfter is given up in the same way.
//
// Many hosts tell their quota before they have to refuse: in RateLimit ([draft 10], and 7),
// in RateLimit-Remaining and -Reset, or in X-RateLimit-Remaining and -Reset, also spelled
// X-Rate-Limit, with Reset in seconds or as an instant. It is heard in every response but those
// of caches. While anything is left of it, nothing is slowed. With nothing left the host waits
// for the reset, without a slot, and then goes on at full speed. Others that use the same quota
// show as less left. A reset that is further away than WithMaxRetryAfter or the deadline pauses nothing,
// until the host refuses: then its URLs end with a [HostPausedError] that names it.
//
// Before the first answer of a host nothing is known of it, and what is in flight by then may be more
// than its quota. So a host that may have more than 40 requests in flight begins with ten, and gets twice
// as many with each second. All others follow when a request has ended, well or badly. That is so
// only while more than 120 other URLs wait for the host, and more than [WithConcurrency], or a [Stream]
// has read one more for it in the last 10 ms. Hosts with a rate, or whose quota is known, do not begin
// so, and those of more than 120 requests not again, unless they are idle for ten minutes.
// WithMaxRetryAfter(0) turns this off as well.
//
// Other failures are retried after a random back-off, without holding a slot, as
// long as the host's budget of retries lasts: see [WithRetries]. A Retry-After that
// comes with them is kept by the URL that got it, and that of a redirect by the next hop. The
// date in one is counted from the Date of the response, but from now if it has an Age, as
// answers from caches do.
//
// # Watching a batch
//
// [Fetcher.Stats] has the sums of all that a Fetcher does, and how long it will take at the least;
// [Fetcher.Hosts] has the same for each host. Both are cheap enough to be asked many times a second,
// by a progress bar or a collector of metrics.
//
// [WithHooks] tells what happens, as it happens: an attempt ended, a URL is done, a host is paused.
// Metrics that count, and logs, are made of these; [Result.LogValue] makes a Result fit for a log.
//
// [WithTransport] puts a RoundTripper around each request, where libraries for tracing and metrics
// have theirs, and [InfoOf] tells it whose request it sees. The module [github.com/batchhttp/fetch/har]
// records a batch in this way, for the network panels of browsers.
//
// # Safety
//
// There is exactly one Result for each URL, at its index, and a failure
// of one URL changes the Result of no other, unless it shows that their host
// is paused or down. Only http and https are fetched. Limits are never
// exceeded, redirects and retries included. Bodies are limited after decoding,
// headers to 1 MiB unless [WithClient] is given, and no server can make an
// attempt last longer than [WithTimeout].
//
// When a redirect changes scheme, host or port, all headers that the caller set
// are dropped for good but Accept*, User-Agent and Range, and a body is not
// sent along. A change from http to https on the same host and default ports
// drops nothing. Errors show no user information, query or header value, and
// the bytes of a server are made printable and cut short. For URLs from
// strangers there is [WithPublicOnly].
//
// After the return nothing of the call runs any more, but for a name lookup
// that the resolver has not ended and dials of a transport from [WithClient].
// Code of the caller's (functions of options, request bodies, transports) that
// ignores its context is waited for. A panic in it stops its batch and is
// raised again on the goroutine that made the call; [runtime.Goexit] in it is
// an error of its URL.
//
// [draft 10]: https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-10
// [RFC 3986]: https://www.rfc-editor.org/rfc/rfc3986
// [UTS 46]: https://www.unicode.org/reports/tr46/
// [RFC 5952]: https://www.rfc-editor.org/rfc/rfc5952
// [WHATWG URL]: https://url.spec.whatwg.org/
package fetch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/batchhttp/fetch/internal/attempt"
	"github.com/batchhttp/fetch/internal/engine"
	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/job"
	"github.com/batchhttp/fetch/internal/sched"
	"github.com/batchhttp/fetch/internal/target"
	"github.com/batchhttp/fetch/internal/transport"
)

// FetchAll fetches the URLs with GET and returns one Result for each, in their
// order: always len(urls) results, never nil. It returns when all are done.
// When ctx is done, finished results stay, every other URL gets an error that
// matches ctx.Err() and [context.Cause], and FetchAll returns without waiting
// for servers.
//
// It makes a [Fetcher] for this one call: when it returns nothing of it runs,
// but for the exceptions that the package comment names under Safety, and the connections of
// its own client are closed. If an option is invalid nothing is sent, and every
// Result has the error.
func FetchAll(ctx context.Context, urls []string, opts ...Option) []Result {
	f, err := newFetcher(opts)
	if err != nil {
		return failAll(urls, err)
	}
	defer f.shutdown()
	return f.FetchAll(ctx, urls)
}

// Stream fetches the URLs with GET and yields one Result for each as they
// complete, or in input order with [WithInOrder]. Result.Index is the position
// in the input.
//
// Nothing starts before the returned iterator is ranged over; each range is a
// run of its own. The input is read on another goroutine, at most
// [WithLookahead] ahead of the results that it has yielded, and no request starts while unread
// results hold more than 64 MiB of bodies, but the one that [WithInOrder] waits
// for. Leaving the loop cancels the requests in
// flight and waits for it, and for the input iterator if that is blocked. When
// ctx is done no further input is read, and each URL that was read gets its
// Result. If an option is invalid, nothing is read, and one Result with the
// error is yielded, its Index 0.
func Stream(ctx context.Context, urls iter.Seq[string], opts ...Option) iter.Seq[Result] {
	return func(yield func(Result) bool) {
		f, err := newFetcher(opts)
		if err != nil {
			yield(failed(Result{}, err))
			return
		}
		defer f.shutdown()
		f.Stream(ctx, urls)(yield)
	}
}

// A Fetcher fetches batches of URLs with one set of options. It keeps
// connections and the state of hosts between calls, and calls that run at the
// same time share them and the slots: each batch gets its turn. It is safe for
// concurrent use. Between calls it holds no goroutines but those of net/http for idle
// connections: of HTTP/2, and of requests with a body. [Fetcher.Close] ends them. Make
// one with [New].
type Fetcher struct {
	own          *transport.Client // nil if the caller's client is used as it is
	client       *attempt.Client
	engine       *engine.Engine
	streaming    engine.StreamConfig
	attemptLimit int
	hooks        Hooks
}

// New returns a Fetcher with the given options, or an error that names every invalid one.
func New(opts ...Option) (*Fetcher, error) {
	f, err := newFetcher(opts)
	if err != nil {
		return nil, fmt.Errorf("fetch: %w", err)
	}
	return f, nil
}

// FetchAll is [FetchAll] with the options of f.
func (f *Fetcher) FetchAll(ctx context.Context, urls []string) []Result {
	results := make([]Result, len(urls))
	for i, u := range urls {
		results[i].Index, results[i].URL = i, u
	}
	f.runList(ctx, &urlList{f, results}, len(urls), f.streaming.Dedup)
	return results
}

// runList runs n inputs, of which there may be none.
func (f *Fetcher) runList(ctx context.Context, l engine.List, n int, dedup bool) {
	if err := contextError(ctx); err != nil {
		f.engine.RefuseList(n, l, err)
	} else if n > 0 {
		f.engine.RunList(ctx, n, l, dedup)
	}
}

// Stream is [Stream] with the options of f.
func (f *Fetcher) Stream(ctx context.Context, urls iter.Seq[string]) iter.Seq[Result] {
	return f.stream(ctx, urls == nil, func(yield func(job.Job) bool) {
		i := 0
		for u := range urls {
			if !yield(f.client.Get(i, u)) {
				return
			}
			i++
		}
	})
}

// DoAll sends the requests, of any method and with any header and body, and
// returns one Result for each, in their order. The context of each request
// applies as well as ctx: either ends it, and its values are those of its own
// context and then of ctx.
//
// A request is not changed: a URL that cannot be sent as it is, is spelled anew in a copy.
// Its body is always closed, sent or not. A request
// with a body but without GetBody is sent once: never retried, and never sent
// again by a redirect. A nil request, or one that cannot be sent, is
// [ErrInvalidURL].
func (f *Fetcher) DoAll(ctx context.Context, reqs []*http.Request) []Result {
	results := make([]Result, len(reqs))
	for i, req := range reqs {
		results[i].Index, results[i].URL, results[i].Request = i, target.RequestText(req), req
	}
	f.runList(ctx, &requestList{urlList{f, results}}, len(reqs), false)
	return results
}

// Do is [Fetcher.DoAll] for one request: it waits for its turn among all that f does, under all
// limits.
func (f *Fetcher) Do(ctx context.Context, req *http.Request) Result {
	return f.DoAll(ctx, []*http.Request{req})[0]
}

// DoStream is to [Fetcher.DoAll] what [Stream] is to [FetchAll].
func (f *Fetcher) DoStream(ctx context.Context, reqs iter.Seq[*http.Request]) iter.Seq[Result] {
	return f.stream(ctx, reqs == nil, func(yield func(job.Job) bool) {
		i := 0
		for req := range reqs {
			if !yield(f.client.Send(i, req, target.RequestText(req))) {
				return
			}
			i++
		}
	})
}

// stream streams the jobs, of which there are none if empty is set: a nil
// iterator cannot be ranged over.
func (f *Fetcher) stream(ctx context.Context, empty bool, jobs iter.Seq[job.Job]) iter.Seq[Result] {
	return func(yield func(Result) bool) {
		switch {
		case empty:
		case ctx == nil:
			yield(failed(Result{}, errNilContext))
		default:
			f.engine.RunStream(ctx, jobs, f.streaming, func(done engine.Finished) bool {
				return yield(f.finished(done))
			})
		}
	}
}

// finished returns the Result of a job of a stream.
func (f *Fetcher) finished(done engine.Finished) Result {
	x := done.Ran.(*attempt.Exchange)
	r := newResult(x, done.Tally, f.attemptLimit)
	r.Index, r.URL = done.Index, done.Job.(*attempt.Exchange).URL
	if !f.streaming.Dedup { // or another that equals it may need it
		x.Free()
	} else if done.Job != done.Ran {
		f.hooks.tellDone(r)
	}
	return r
}

// unread tells of a result of a stream that the loop has left unread.
func (f *Fetcher) unread(done engine.Finished) {
	if done.Job != done.Ran {
		f.finished(done)
	}
}

// A HostState is what a Fetcher has learnt of a host. The zero HostState is that of a host of
// which nothing is known.
type HostState struct {
	PausedUntil time.Time  // nothing is sent to it before
	Refusing    time.Time  // its first refusal since it last accepted a request
	Pace        rate.Limit // request starts per second that it accepts; 0 is none known
	InFlight    int        // requests in flight that it accepts, if it has refused some; 0 is none known
	Failures    int        // to connect, in a row
	Spent       time.Time  // when the burst of its rate was used up, if nothing was sent since; zero is never

	// The quota that it has told: QuotaLeft starts of QuotaSize, until QuotaReset; zero is none.
	QuotaLeft, QuotaSize int
	QuotaReset           time.Time
}

// HostState returns what f has learnt of a host, which is named as [WithHostLimits] describes it:
// to keep it until the program runs again, or to hand it to another that will
// call the host. Of a host that has been idle for ten minutes nothing is known.
func (f *Fetcher) HostState(host string) HostState {
	s := f.engine.HostState(host)
	return HostState{
		PausedUntil: s.Until, Refusing: s.Refusing, Pace: rate.Limit(s.Pace), InFlight: s.Window, Failures: s.Failures, Spent: s.Spent,
		QuotaLeft: s.Quota.Left, QuotaSize: s.Quota.Size, QuotaReset: s.Reset,
	}
}

// SetHostState has f go on with a host from there, in place of what it knew: it keeps to the
// pause, sends one request to probe the host, and then keeps to the pace. A negative or NaN
// value, and one that [WithHostLimits] returns, is an error, and changes nothing.
func (f *Fetcher) SetHostState(host string, s HostState) error {
	for _, field := range []struct {
		name  string
		value float64
	}{
		{"Pace", float64(s.Pace)}, {"InFlight", float64(s.InFlight)}, {"Failures", float64(s.Failures)},
		{"QuotaLeft", float64(s.QuotaLeft)}, {"QuotaSize", float64(s.QuotaSize)},
	} {
		if !(field.value >= 0) { // NaN too
			return fmt.Errorf("fetch: HostState of %s: %s %v: must not be negative", fault.Word(host), field.name, field.value)
		}
	}
	state := sched.State{
		Until: s.PausedUntil, Refusing: s.Refusing, Pace: float64(s.Pace), Window: s.InFlight, Spent: s.Spent,
		Quota: sched.Quota{Left: s.QuotaLeft, Size: s.QuotaSize}, Reset: s.QuotaReset,
	}
	return f.engine.SetHostState(host, engine.HostState{State: state, Failures: s.Failures})
}

// Close closes the idle connections of f's own client. Calls that run go on,
// and f can still be used. A client given with [WithClient] is left alone.
func (f *Fetcher) Close() {
	if f.own != nil {
		f.own.CloseIdle()
	}
}

// shutdown closes all connections of f's own client.
func (f *Fetcher) shutdown() {
	if f.own != nil {
		f.own.Close()
	}
}

// A urlList is the engine.List of FetchAll. Its results have Index and URL from the start.
type urlList struct {
	f       *Fetcher
	results []Result
}

func (l *urlList) Input(i int) (key string, ctx context.Context, err error) {
	key, err = target.Host(l.results[i].URL)
	return key, nil, err
}

func (l *urlList) Distinct(i int) string { return target.Distinct(l.results[i].URL) }
func (l *urlList) Job(i int) job.Job     { return l.f.client.Get(i, l.results[i].URL) }

func (l *urlList) Done(i int, j job.Job, tally job.Tally) {
	x := j.(*attempt.Exchange)
	l.results[i] = newResult(x, tally, l.f.attemptLimit)
	x.Free()
}

func (l *urlList) Refuse(i int, err error, tally job.Tally) {
	l.refuse(i, err, tally)
	l.f.hooks.tellDone(l.results[i])
}

func (l *urlList) refuse(i int, err error, tally job.Tally) {
	l.results[i].Queued, l.results[i].Waited = tally.Queued, tally.Waited
	l.results[i].fail(err)
}

func (l *urlList) Rest(err error, tally job.Tally) { l.rest(l.Refuse, err, tally) }

// rest refuses all inputs without a result, before it panics as one of them did.
func (l *urlList) rest(refuse func(int, error, job.Tally), err error, tally job.Tally) {
	var panicked *fault.Panic
	for i := range l.results {
		if !l.has(i) {
			panicked = cmp.Or(panicked, fault.Catch(func() { refuse(i, err, tally) }))
		}
	}
	if panicked != nil {
		panic(panicked)
	}
}

// has reports whether an input has its result.
func (l *urlList) has(i int) bool { return l.results[i].Err != nil || l.results[i].StatusCode != 0 }

func (l *urlList) Copy(i, first int) (failed, ok bool) {
	if !l.has(first) {
		return false, false
	}
	own := l.results[i]
	l.results[i] = l.results[first]
	l.results[i].Index, l.results[i].URL = own.Index, own.URL
	l.f.hooks.tellDone(l.results[i])
	return l.results[i].Err != nil, true
}

// A requestList is the engine.List of DoAll. Its results have Request from the start, too.
type requestList struct {
	urlList
}

func (l *requestList) Job(i int) job.Job { return l.exchange(i) }

func (l *requestList) exchange(i int) *attempt.Exchange {
	return l.f.client.Send(i, l.results[i].Request, l.results[i].URL)
}

func (l *requestList) Input(i int) (key string, ctx context.Context, err error) {
	req := l.results[i].Request
	if key, err = target.RequestHost(req); err != nil {
		return "", nil, err
	}
	return key, req.Context(), nil
}

// Refuse closes the body of a request that is not sent, which may panic.
func (l *requestList) Refuse(i int, err error, tally job.Tally) {
	l.refuse(i, err, tally)
	defer l.f.hooks.tellDone(l.results[i])
	l.exchange(i).End(err)
}

func (l *requestList) Rest(err error, tally job.Tally) { l.rest(l.Refuse, err, tally) }

var errNilContext = errors.New("nil context")

// contextError reports why nothing can be sent in ctx, or nil.
func contextError(ctx context.Context) error {
	switch {
	case ctx == nil:
		return errNilContext
	case ctx.Err() != nil:
		return fault.Cancellation(ctx)
	}
	return nil
}

// failAll returns the results of URLs that all fail with err before anything is sent.
func failAll(urls []string, err error) []Result {
	results := make([]Result, len(urls))
	for i, u := range urls {
		results[i] = failed(Result{Index: i, URL: u}, err)
	}
	return results
}

// failed returns r with err as that of a URL that has not been attempted.
func failed(r Result, err error) Result {
	r.fail(err)
	return r
}

// Stats are sums over all that a Fetcher does and has done; see [Fetcher.Stats]. A URL is in one
// of Queued, BackingOff, InFlight and Done from when it was accepted: in none of them for the
// moment in which it is ended without a slot, or while [Hooks].Paused runs, and before the
// Fetcher has come to it in a very long list.
type Stats struct {
	// Queued is how many URLs wait for a slot or for their host, BackingOff how many for an instant
	// of their own before they are tried again, and InFlight how many have a slot.
	Queued, BackingOff, InFlight int
	// PausedHosts is how many hosts with something to do are paused.
	PausedHosts int

	// Done is how many URLs have their Result, Failed how many of those with an error, Attempts how
	// often a URL was tried, and Bytes what the bodies of the URLs that are done had, decoded.
	Done, Failed, Attempts, Bytes int64

	// Left is how long the Fetcher needs for what it has to do: the least by all that it has learnt of
	// the times that requests take, and knows of limits, rates and pauses, with the present
	// [WithConcurrency]. It is an estimate, 0 while nothing is known, and does not know of a
	// [WithLimiter] or of URLs that a stream has not read.
	Left time.Duration
}

// HostStats are those of one host with something to do; see [Fetcher.Hosts].
type HostStats struct {
	Host                         string        // as [WithHostLimits] gets it
	Queued, BackingOff, InFlight int           // as in Stats
	PausedUntil                  time.Time     // zero: it is not paused
	Pace                         rate.Limit    // in starts a second, that was learnt from refusals; 0 is none
	Took                         time.Duration // by a request, on a moving average
	Left                         time.Duration // as in Stats, for the host alone
}

// Stats returns the sums as they are at one instant. It may be called from any goroutine, and
// takes less than a microsecond with a few hosts, and some ten with 10,000 that have limits.
func (f *Fetcher) Stats() Stats { return Stats(f.engine.Stats()) }

// Hosts returns those with something to do, the one that ends last first. It may be called from any
// goroutine, and takes milliseconds for 10,000 hosts; for a part of that it holds the others up.
func (f *Fetcher) Hosts() []HostStats {
	known := f.engine.Hosts()
	hosts := make([]HostStats, len(known))
	for i, h := range known {
		hosts[i] = HostStats{
			Host: h.Host, Queued: h.Queued, BackingOff: h.Delayed, InFlight: h.InFlight,
			PausedUntil: h.PausedUntil, Pace: rate.Limit(h.Pace), Took: h.Took, Left: h.Left,
		}
	}
	slices.SortFunc(hosts, func(a, b HostStats) int {
		if c := cmp.Compare(b.Left, a.Left); c != 0 {
			return c
		}
		return cmp.Compare(a.Host, b.Host)
	})
	return hosts
}
