package fetch

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/batchhttp/fetch/internal/attempt"
	"github.com/batchhttp/fetch/internal/body"
	"github.com/batchhttp/fetch/internal/engine"
	"github.com/batchhttp/fetch/internal/fault"
	"github.com/batchhttp/fetch/internal/job"
	"github.com/batchhttp/fetch/internal/netguard"
	"github.com/batchhttp/fetch/internal/redirect"
	"github.com/batchhttp/fetch/internal/sched"
	"github.com/batchhttp/fetch/internal/target"
	"github.com/batchhttp/fetch/internal/transport"
)

// An Option changes how a [Fetcher] works. One that is given twice counts as it
// was given last, unless its comment says that it adds up.
type Option interface{ apply(*config) error }

type optionFunc func(*config) error

func (f optionFunc) apply(c *config) error { return f(c) }

// HostLimits are the limits of one host; see [WithHostLimits]. A zero field
// takes the value of [WithHostConcurrency] or [WithHostRate], or of their
// defaults; the burst is 1 where nothing says more.
type HostLimits struct {
	Concurrency int        // requests in flight
	Rate        rate.Limit // request starts per second
	Burst       int        // starts at once
}

// A Limiter hands out permits, one for each request; see [WithLimiter]. A
// [*rate.Limiter] is one. It must be safe for concurrent use if several
// Fetchers share it.
type Limiter interface {
	// Wait blocks until there is a permit, and takes it. It returns an error if
	// it cannot, or once ctx is done.
	Wait(ctx context.Context) error
}

// A HostLimiter is a [Limiter] that is told the host. If the Limiter of [WithLimiter] is one,
// WaitHost is called instead of Wait.
type HostLimiter interface {
	Limiter
	// WaitHost blocks until there is a permit for a request to the host, and takes it. It
	// returns an error if it cannot, or once ctx is done. It is called from several goroutines
	// at once.
	WaitHost(ctx context.Context, host string) error
}

// config is the sum of the options. It does not change once New has returned.
type config struct {
	client          *http.Client
	concurrency     int
	hostConcurrency int // 0: no limit but the share rule of internal/sched
	rate            rate.Limit
	burst           int
	hostRate        rate.Limit
	hostBurst       int
	hostLimits      func(host string) HostLimits
	hostGroup       func(host string) string
	limiter         Limiter

	timeout    time.Duration
	timeoutSet bool

	retries         int
	backoffBase     time.Duration
	backoffMax      time.Duration
	maxRetryAfter   time.Duration
	retryIf         func(Result) bool
	maxHostFailures int

	maxBody       int64 // that is kept; 0: no limit
	maxRead       int64 // by the BodyFunc; 0: no limit
	maxBodySet    bool
	bodyFunc      func(ctx context.Context, r Result, body io.Reader) error
	header        http.Header
	decoders      []body.Decoder
	requestFunc   func(*http.Request) error
	maxRedirects  int
	redirectsSet  bool
	hostRedirects bool
	statusErrors  bool
	dedup         bool
	lookahead     int
	inOrder       bool

	wraps    []func(http.RoundTripper) http.RoundTripper // the last is outermost
	jar      http.CookieJar
	tls      *tls.Config
	proxy    func(*http.Request) (*url.URL, error) // nil: none
	proxySet bool
	guard    *netguard.Guard // of WithPublicOnly; nil: none

	hooks Hooks
}

// newFetcher returns a Fetcher with the options, or an error that names every invalid one.
func newFetcher(opts []Option) (*Fetcher, error) {
	c, err := newConfig(opts)
	if err != nil {
		return nil, err
	}
	return c.newFetcher()
}

func newConfig(opts []Option) (*config, error) {
	c := &config{
		concurrency:   64,
		timeout:       30 * time.Second,
		backoffBase:   200 * time.Millisecond,
		backoffMax:    10 * time.Second,
		maxRetryAfter: time.Minute,
		maxBody:       10 << 20,
		maxRead:       10 << 20,
		header:        http.Header{},
		maxRedirects:  10,
		lookahead:     10_000,
		proxy:         http.ProxyFromEnvironment,
	}
	var errs []error
	for _, o := range opts {
		if o == nil {
			errs = append(errs, errors.New("nil Option"))
		} else if err := o.apply(c); err != nil {
			errs = append(errs, err)
		}
	}
	errs = append(errs, c.contradictions()...)
	if errs != nil {
		return nil, &optionsError{errs}
	}
	c.fillDefaults()
	return c, nil
}

// contradictions returns the errors of options that do not go together.
func (c *config) contradictions() (errs []error) {
	if err := c.unguardable(); err != nil {
		errs = append(errs, err)
	}
	if c.guard != nil && c.proxySet && c.proxy != nil {
		errs = append(errs, errors.New("WithProxy: WithPublicOnly would only see the address of the proxy"))
	}
	if c.client == nil {
		return errs
	}
	for _, option := range []struct {
		name, instead string
		set           bool
	}{
		{"WithJar", "Jar", c.jar != nil},
		{"WithTLSConfig", "Transport", c.tls != nil},
		{"WithProxy", "Transport", c.proxySet},
	} {
		if option.set {
			errs = append(errs, fmt.Errorf("%s: is for the Fetcher's own client; the one of WithClient has its %s", option.name, option.instead))
		}
	}
	return errs
}

// An optionsError has the errors of all invalid options.
type optionsError struct{ errs []error }

func (e *optionsError) Error() string {
	texts := make([]string, len(e.errs))
	for i, err := range e.errs {
		texts[i] = err.Error()
	}
	return "invalid options: " + strings.Join(texts, "; ")
}

func (e *optionsError) Unwrap() []error { return e.errs }

// fillDefaults works out the defaults that depend on other options.
func (c *config) fillDefaults() {
	if c.bodyFunc != nil && !c.maxBodySet {
		c.maxRead = 0
	}
	if c.client != nil && c.client.Timeout > 0 {
		if !c.timeoutSet || c.timeout == 0 {
			c.timeout = c.client.Timeout
		}
		c.timeout = min(c.timeout, c.client.Timeout)
	}
}

// WithClient sends the requests with c's Transport, Jar, CheckRedirect and
// Timeout. Nothing of c is changed, and its idle connections are never
// closed. The default, also for nil, is a client of the Fetcher's own. It has
// as many connections as requests in flight, and keeps them for 90 s. A request without a
// body is sent on the worker's own goroutine, which halves its cost; and a connection of HTTP/1 on
// which a server sent more than it was asked for serves no other URL. There is one
// connection to an origin that speaks HTTP/2, where it can be: while the first is opened,
// requests to the same origin wait for it, for 300 ms or a quarter of their time at most.
// Requests with a body and those through a proxy go through an [http.Transport].
//
// For tracing, cookies, certificates or a proxy alone there are [WithTransport], [WithJar],
// [WithTLSConfig] and [WithProxy], which keep the Fetcher's own client.
//
// Mind the pool: a client without a Transport is [http.DefaultTransport],
// which keeps 2 idle connections to a host, so that most requests to a busy
// host must connect anew. Give it a Transport whose MaxIdleConnsPerHost is at
// least the number of requests in flight to one host.
func WithClient(c *http.Client) Option {
	return optionFunc(func(cfg *config) error {
		if c == nil {
			cfg.client = nil
			return nil
		}
		if holdsNil(c.Transport) {
			return errors.New("WithClient: the client's Transport is a nil pointer")
		}
		clone := *c
		cfg.client = &clone
		return nil
	})
}

// WithTransport puts a RoundTripper of the caller's around the Fetcher's own client, or around the
// Transport of that of [WithClient]: for tracing, metrics, signatures, a circuit breaker or a
// recorder. wrap gets the RoundTripper within and returns the one around it; it is called
// once, by [New] or the call that makes the Fetcher. A nil wrap, and one that returns nil, are errors.
// WithTransport adds up: the last is outermost. The default is none.
//
// The pool of connections stays that of the Fetcher, and the guard of [WithPublicOnly] stays
// inside. The RoundTripper sees each request, redirects included, and [InfoOf] tells it
// of which URL and attempt. As with any RoundTripper it must not change the request but a
// clone of it. For bodies in codings that the Fetcher has asked for see [WithDecoder]; an error is
// told apart as the one of a [WithClient] client's.
//
//	fetch.WithTransport(func(next http.RoundTripper) http.RoundTripper {
//		return otelhttp.NewTransport(next)
//	})
func WithTransport(wrap func(next http.RoundTripper) http.RoundTripper) Option {
	return optionFunc(func(c *config) error {
		if wrap == nil {
			return errors.New("WithTransport(nil): must be a function")
		}
		c.wraps = append(c.wraps, wrap)
		return nil
	})
}

// WithJar keeps cookies in jar, with the Fetcher's own client: those of responses are
// stored, and those that fit are sent, on redirects too. It must be safe for concurrent use, as a
// [net/http/cookiejar.Jar] is. The default, also for nil, is none. It is an error together
// with [WithClient], whose client has a Jar of its own.
func WithJar(jar http.CookieJar) Option {
	return optionFunc(func(c *config) error {
		if jar != nil && holdsNil(jar) {
			return errors.New("WithJar: the jar is a nil pointer")
		}
		c.jar = jar
		return nil
	})
}

// WithTLSConfig configures the handshakes of the Fetcher's own client: the authorities of a
// company, certificates of the client, the least version. t is cloned. HTTP/2 is
// spoken unless NextProtos says otherwise: where that is nil, h2 and http/1.1 are offered. The
// default, also for nil, is the default of crypto/tls. It is an error together with [WithClient].
func WithTLSConfig(t *tls.Config) Option {
	t = t.Clone()
	return optionFunc(func(c *config) error {
		c.tls = t
		return nil
	})
}

// WithProxy has f choose the proxy for each request of the Fetcher's own client, as the Proxy field of
// an [http.Transport] does; nil is none. f may be called more than once for a request, and
// from several goroutines at once; its error ends the URL. A nil f is no proxy at all. The
// default is [http.ProxyFromEnvironment]. It is an error together with [WithClient],
// and but for a nil f with [WithPublicOnly], which uses no proxy.
func WithProxy(f func(*http.Request) (*url.URL, error)) Option {
	return optionFunc(func(c *config) error {
		c.proxy, c.proxySet = nil, true
		if f != nil {
			c.proxy = func(req *http.Request) (*url.URL, error) {
				proxy, err := f(req)
				if err != nil {
					err = fault.OfCaller(err)
				}
				return proxy, err
			}
		}
		return nil
	})
}

// Hooks are told what becomes of URLs, as it happens; see [WithHooks]. A field that is nil is
// not called.
//
// They are called on several goroutines at once, mostly while the URL in question holds its slot,
// so that a hook that takes long holds up others. They must not call the same Fetcher but for
// [Fetcher.Stats] and [Fetcher.Hosts].
type Hooks struct {
	// Attempt is called when an attempt has ended. r is the Result so far: Attempts counts it,
	// and Err is its own. again is the instant at which another attempt begins at the earliest;
	// zero is never.
	Attempt func(r Result, again time.Time)

	// Done is called exactly once for each URL, before its Result is yielded or returned: of
	// URLs that were cancelled or are invalid, too, and of those that [WithDedup] has not sent.
	// Without a Fetcher, as an option was invalid, there is no call.
	Done func(r Result)

	// Paused is called when a host, as [WithHostLimits] gets it, is not to be called before
	// until, and that is later than was known.
	Paused func(host string, until time.Time)
}

// add makes h call those of other after its own.
func (h *Hooks) add(other Hooks) {
	if first, second := h.Attempt, other.Attempt; first == nil {
		h.Attempt = second
	} else if second != nil {
		h.Attempt = func(r Result, again time.Time) { first(r, again); second(r, again) }
	}
	if first, second := h.Done, other.Done; first == nil {
		h.Done = second
	} else if second != nil {
		h.Done = func(r Result) { first(r); second(r) }
	}
	if first, second := h.Paused, other.Paused; first == nil {
		h.Paused = second
	} else if second != nil {
		h.Paused = func(host string, until time.Time) { first(host, until); second(host, until) }
	}
}

// watchAttempts has the hooks told of the attempts of f.
func (h *Hooks) watchAttempts(f *Fetcher, a *attempt.Config) {
	if h.Attempt != nil {
		a.Attempted = func(x *attempt.Exchange, tally job.Tally, again time.Time) {
			h.Attempt(newResult(x, tally, f.attemptLimit), again)
		}
	}
	if h.Done != nil {
		a.Ended = func(x *attempt.Exchange, tally job.Tally) {
			h.Done(newResult(x, tally, f.attemptLimit))
		}
	}
}

// tellDone tells of a Result where no attempt has ended, on a goroutine that is not to end with
// a runtime.Goexit of the hook.
func (h *Hooks) tellDone(r Result) {
	if h.Done == nil {
		return
	}
	if panicked, _ := fault.Contain(func() { h.Done(r) }); panicked != nil {
		panic(panicked)
	}
}

// WithHooks has h told what becomes of each URL. Hooks add up: those given first are called
// first. The default is none.
func WithHooks(h Hooks) Option {
	return optionFunc(func(c *config) error {
		c.hooks.add(h)
		return nil
	})
}

// WithConcurrency limits the requests in flight, of all hosts and all calls
// of the Fetcher together, to n, which must be at least 1. The default is 64.
func WithConcurrency(n int) Option {
	return optionFunc(func(c *config) error {
		c.concurrency = n
		return atLeast(n, 1, "WithConcurrency(%d)")
	})
}

// WithHostConcurrency limits the requests in flight to each host to n, which
// must not be negative. The default, 0, is no number but a share: no more than half the slots while
// another host has a request that can start, all of them otherwise. A host of which nothing is
// known may begin with ten: see Retries and politeness in the package comment. A host is
// a key as [WithHostLimits] gets it; redirects count for the host they lead to.
func WithHostConcurrency(n int) Option {
	return optionFunc(func(c *config) error {
		c.hostConcurrency = n
		return atLeast(n, 0, "WithHostConcurrency(%d)")
	})
}

// WithRate limits the request starts of the Fetcher, of all hosts together, to
// r a second with bursts of at most burst: in any T seconds at most
// burst + r·T start, redirects included. r must be more than 0, and burst at
// least 1. The default is no limit.
//
// A start that comes late is not made up for beyond the burst: hundreds a second
// need a burst of a few.
func WithRate(r rate.Limit, burst int) Option {
	return optionFunc(func(c *config) error {
		c.rate, c.burst = r, burst
		return checkRate("WithRate", r, burst)
	})
}

// WithHostRate limits the request starts to each host, as [WithRate] does for
// all. A host that waits for its rate holds no slot.
func WithHostRate(r rate.Limit, burst int) Option {
	return optionFunc(func(c *config) error {
		c.hostRate, c.hostBurst = r, burst
		return checkRate("WithHostRate", r, burst)
	})
}

// WithHostLimits asks f for the limits of each host. A zero field of its answer
// means [WithHostConcurrency] or [WithHostRate]; a nil f means none, the
// default.
//
// A host is given in lower case, without a trailing dot, and with its port
// where that is not the default of the scheme: "example.com",
// "example.com:8080", "[2001:db8::1]". http and https share one. An address has
// one spelling (RFC 5952), that of IPv4 where IPv6 maps it: "[::ffff:192.0.2.1]" is
// "192.0.2.1". A non-ASCII spelling of a name is a host of its own; an address in such a
// spelling is the address.
//
// f may be called from several goroutines at once, and again for a host that
// was idle for long. A negative or NaN value is the error of the URL in question.
func WithHostLimits(f func(host string) HostLimits) Option {
	return optionFunc(func(c *config) error {
		c.hostLimits = f
		return nil
	})
}

// WithHostGroup treats hosts as one if f returns the same name for them: www.example.com and
// example.com, the shards of a site, or all names of one server. They share limits, rate, slots,
// pauses, quota, pace, budget of retries and failures in a row. A host for which f returns "" is itself, as are all for
// a nil f, the default.
//
// f gets hosts as [WithHostLimits] describes it, and that option then gets the names of groups, as
// does a [HostPausedError]. A name may be that of a host, which is then one of the group.
// Connections, cookies and headers go by the host as ever.
//
// f is called for each request, on several goroutines at once, and must always return the same
// name for a host. To group by the domain that was registered, with golang.org/x/net/publicsuffix:
//
//	fetch.WithHostGroup(func(host string) string {
//		name := (&url.URL{Host: host}).Hostname()
//		if _, err := netip.ParseAddr(name); err == nil {
//			return "" // an address has no domain
//		}
//		domain, _ := publicsuffix.EffectiveTLDPlusOne(name)
//		return domain
//	})
//
// To group by address, where one server has many sites, look the host up and remember the
// answer, as f must be quick and constant:
//
//	var addresses sync.Map // by host
//	fetch.WithHostGroup(func(host string) string {
//		name := (&url.URL{Host: host}).Hostname()
//		if known, ok := addresses.Load(name); ok {
//			return known.(string)
//		}
//		found, _ := net.LookupHost(name)
//		known, _ := addresses.LoadOrStore(name, strings.Join(found[:min(1, len(found))], ""))
//		return known.(string)
//	})
func WithHostGroup(f func(host string) string) Option {
	return optionFunc(func(c *config) error {
		c.hostGroup = f
		return nil
	})
}

// WithLimiter takes a permit from l before each request, redirects
// included. It is for a limit that several Fetchers or machines share. The
// default, also for nil, is none.
//
// A Fetcher calls Wait on one goroutine at a time, and only while a request could
// otherwise start. The context has no deadline and ends with the
// Fetcher's calls. An error of Wait ends the URL that would have started.
//
// If l is a [HostLimiter], its WaitHost is called instead, with the host as [WithHostLimits]
// describes it or the name of its group: once for each start, for up to eight hosts at once, and
// one at a time for each, on a goroutine of its own. So a limit that several machines share can be
// one for each host. No slot is held meanwhile, and a host that has to wait holds up no other.
func WithLimiter(l Limiter) Option {
	return optionFunc(func(c *config) error {
		if l != nil && holdsNil(l) {
			return errors.New("WithLimiter: the Limiter is a nil pointer")
		}
		c.limiter = l
		return nil
	})
}

// WithTimeout limits one attempt at a URL to d: its connects, redirects and
// bodies, and the [WithBodyFunc]. Waiting for a slot, a limit or a rate never
// counts. d must not be negative; 0 is no limit. The default is 30 s, or the
// Timeout of the [WithClient] client. Given both, the smaller holds.
func WithTimeout(d time.Duration) Option {
	return optionFunc(func(c *config) error {
		c.timeout, c.timeoutSet = d, true
		return notNegative(d, "WithTimeout(%v)")
	})
}

// WithRetries tries a URL up to n times more after a failure that another
// attempt can mend. n must not be negative. The default is 0.
//
// Failures that are retried, unless [WithRetryIf] says otherwise: idempotent requests
// after connection errors, temporary DNS errors, timeouts, a truncated body,
// and the statuses below; and any request of which
// nothing was sent. Idempotent are GET, HEAD, OPTIONS, TRACE, PUT and DELETE
// ([RFC 9110], section 9.2.2), and requests with an Idempotency-Key header.
// Nothing was sent either when a proxy refuses a tunnel with 429, 502, 503 or 504, or by SOCKS,
// and when the connection to a proxy breaks, or has no HTTP or TLS on it, before there is a tunnel.
// Idempotent requests are also retried after an error of a RoundTripper's own whose method
// Temporary or Timeout says so, and after an answer that is no HTTP/1 on a connection that had
// served before: it may be bytes behind an earlier answer.
// Never retried are bad URLs and requests, blocked addresses, host names that do not exist,
// certificate errors, other protocol errors, dials that a hook denies, bodies
// too large, redirect errors, and anything once a context is done.
//
// The statuses that are retried:
//
//   - 408, 500, 502, 503 and 504 ([RFC 9110], sections 15.5.9 and 15.6), 429 ([RFC 6585],
//     section 4) and 425, which another connection can mend ([RFC 8470], section 5.2);
//   - 521, 522 and 524, by which [Cloudflare] says that the site could not be reached, and
//     529, by which some services say that they are overloaded;
//   - 413 with a Retry-After (RFC 9110, section 15.5.14), and 403 and 420 with that or with a
//     quota that is used up: they are refusals as a 429 is.
//
// A response with Retry-After is not followed by another attempt before the instant that it
// names (RFC 9110, section 10.2.3), for which the URL waits without a slot. If that is longer
// than [WithMaxRetryAfter] or the deadline allow, the URL ends with that response.
//
// Each attempt starts from the original URL. So that an outage is not made
// worse, a host has a budget of retries: it starts at 10, gains one for every
// five URLs and one for every success, and holds at most 100. The error says
// when it was exhausted. Retries of refusals take nothing from it: the pause of the host
// bounds them.
//
// [Cloudflare]: https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/
// [RFC 6585]: https://www.rfc-editor.org/rfc/rfc6585
// [RFC 8470]: https://www.rfc-editor.org/rfc/rfc8470
// [RFC 9110]: https://www.rfc-editor.org/rfc/rfc9110
func WithRetries(n int) Option {
	return optionFunc(func(c *config) error {
		c.retries = n
		return atLeast(n, 0, "WithRetries(%d)")
	})
}

// WithBackoff waits before the nth retry for a random time between 0 and
// base·2ⁿ⁻¹, at most max. A URL that waits holds no slot. Under [WithRetries],
// base and max are also the first and the longest pause of a host that answers
// 429 without saying how long to wait. base must not be negative or more than
// max. The default is 200 ms and 10 s.
func WithBackoff(base, max time.Duration) Option {
	return optionFunc(func(c *config) error {
		c.backoffBase, c.backoffMax = base, max
		if base < 0 || base > max {
			return fmt.Errorf("WithBackoff(%v, %v): must be 0 ≤ base ≤ max", base, max)
		}
		return nil
	})
}

// WithMaxRetryAfter is the longest Retry-After that is waited for. A host that refuses and
// asks for more is not called before then: the URL ends with that response, and
// the host's other URLs with a [HostPausedError] (for a 503 or 529 only when three URLs
// in a row got it). A URL that a failure of its own, such as a 500, asks to wait for longer
// ends with that response, and one that a redirect does with [ErrRedirect].
//
// It is also the longest time to the reset of a quota that is waited for before the host
// refuses; see Retries and politeness in the package comment. d must not be negative; 0 ignores
// Retry-After and quotas, so that no host is begun with ten requests either. The default is one minute.
func WithMaxRetryAfter(d time.Duration) Option {
	return optionFunc(func(c *config) error {
		c.maxRetryAfter = d
		return notNegative(d, "WithMaxRetryAfter(%v)")
	})
}

// WithRetryIf has f decide whether a finished attempt is followed by another,
// instead of the policy that [WithRetries] describes. The default, also for nil,
// is that policy. Without WithRetries it is never called.
//
// f sees the Result of the attempt; under [WithBodyFunc] it is asked before the
// body is handed on, and again if reading that fails. It cannot allow more
// attempts than WithRetries and the host's budget do, nor a retry of a body
// that cannot be sent again, of [ErrBlocked] or [ErrInvalidURL], after a wait
// longer than [WithMaxRetryAfter] or the deadline allow, or once a context is
// done. f may be called from several goroutines at once.
func WithRetryIf(f func(Result) bool) Option {
	return optionFunc(func(c *config) error {
		c.retryIf = f
		return nil
	})
}

// WithMaxHostFailures gives a host up for the rest of the batch after n
// failures to connect in a row (dial, DNS, TLS, or a timeout before any
// answer): the batch's other URLs of that host end at once with [ErrHostDown].
// Any answer starts the count anew. n must not be negative; 0, the default, is
// never.
func WithMaxHostFailures(n int) Option {
	return optionFunc(func(c *config) error {
		c.maxHostFailures = n
		return atLeast(n, 0, "WithMaxHostFailures(%d)")
	})
}

// WithMaxBody limits the decoded body of one response to n bytes; a longer
// one is [ErrBodyTooLarge]. n must not be negative; 0 is no limit. The
// default is 10 MiB, and no limit under [WithBodyFunc].
//
// So is one for which 8·n + 1 MiB of encoded bytes are not enough, in any of its
// codings, and one with more than n bytes, or 1 MiB if n is less, behind the end of the encoded
// ones. A body without a coding that is known counts as it comes.
func WithMaxBody(n int64) Option {
	return optionFunc(func(c *config) error {
		if n < 0 {
			return fmt.Errorf("WithMaxBody(%d): must not be negative", n)
		}
		c.maxBody, c.maxRead, c.maxBodySet = n, n, true
		return nil
	})
}

// WithBodyFunc hands the body of each URL to f instead of keeping it: Body of
// the Result stays nil. The default, also for nil, is to keep it.
//
// f gets the Result as far as it is known and the body of the response that the
// URL ends with, decoded, with [WithMaxBody] applied if that is given. It runs
// while the request is in flight, on several goroutines at once, and counts
// against [WithTimeout]; ctx ends with the attempt. It need not read to the
// end. An error that reading the body met fails the attempt even if f returns
// nil, and a retry then calls f again with a body from the start. Another error
// of f ends the URL.
//
// body must not be used after f has returned, and f must not call the same
// Fetcher: it holds one of its slots. Under [WithStatusErrors] f is not called
// for a status outside 200–299.
func WithBodyFunc(f func(ctx context.Context, r Result, body io.Reader) error) Option {
	return optionFunc(func(c *config) error {
		c.bodyFunc = f
		return nil
	})
}

// WithHeader adds a header to every request that has none of that name. Given
// more than once for a key it adds a value each time. "Host" sets the Host of
// the request, once. A key or value that HTTP does not allow is an error. A
// redirect to another scheme, host or port carries only Accept*, User-Agent and
// Range, unless it just turns http into https on the same host and default
// ports.
func WithHeader(key, value string) Option {
	return optionFunc(func(c *config) error {
		return addHeader(c.header, key, value)
	})
}

// WithDecoder undoes the content coding of bodies with open, and asks servers for that
// coding beside gzip. gzip and deflate are known without it; a decoder for them
// takes the place of the known one. coding is a token such as "br" or "zstd", in any case;
// "x-gzip" and "x-compress" are "gzip" and "compress". "identity", "*", anything that
// is no token, and a nil open are errors. WithDecoder adds up, but of two for one
// coding the last counts. The default is none.
//
// open gets an encoded body, which is not empty, and returns a reader of the decoded one.
// The reader is closed with the response if it is an [io.Closer], and may use goroutines that
// end then. An error of open or of that reader is
// [ErrProtocol], or [ErrTruncated] if it is [io.ErrUnexpectedEOF], unless reading the
// response has failed: then it is the error of that. open may be called from several goroutines
// at once. With github.com/andybalholm/brotli and github.com/klauspost/compress/zstd:
//
//	fetch.WithDecoder("br", func(r io.Reader) (io.Reader, error) {
//		return brotli.NewReader(r), nil
//	})
//	fetch.WithDecoder("zstd", func(r io.Reader) (io.Reader, error) {
//		d, err := zstd.NewReader(r)
//		if err != nil {
//			return nil, err
//		}
//		return d.IOReadCloser(), nil
//	})
//
// A request with an Accept-Encoding or Range of the caller's, be it from the request
// itself, from [WithHeader] or from [WithRequestFunc], and one with HEAD, asks for
// nothing, and the body is as it was sent. The same holds for a [WithClient] client with
// DisableCompression set in its *http.Transport, unless there is a decoder: then only
// the coding of that is asked for. Behind any other RoundTripper the body comes as that returns it, and is
// decoded unless its response has Uncompressed set.
func WithDecoder(coding string, open func(io.Reader) (io.Reader, error)) Option {
	return optionFunc(func(c *config) error {
		name := body.CodingName(coding)
		switch {
		case !target.IsToken(coding) || name == "*":
			return fmt.Errorf("WithDecoder(%q, …): not a content coding", coding)
		case name == body.Identity:
			return fmt.Errorf("WithDecoder(%q, …): changes nothing, so that there is nothing to undo", coding)
		case open == nil:
			return fmt.Errorf("WithDecoder(%q, nil): must be a function", coding)
		}
		c.decoders = append(c.decoders, body.Decoder{Coding: name, Open: open})
		return nil
	})
}

// WithRequestFunc calls f on each request before it is sent, for a signature
// or a token. f gets a clone that it may change. It is called for the first
// request of each attempt and for redirects within the same origin (scheme, host
// and port), never once a redirect has left that. It must not change scheme
// or host; a path or query of its own is spelled as that of any URL. Its error ends the URL. It may be called from several
// goroutines at once. The default, also for nil, is none.
func WithRequestFunc(f func(*http.Request) error) Option {
	return optionFunc(func(c *config) error {
		c.requestFunc = f
		return nil
	})
}

// WithMaxRedirects follows at most n redirects; one more is [ErrRedirect]. n
// must not be negative. 0 follows none: the 3xx itself is the result. The
// default is 10, or the CheckRedirect of the [WithClient] client; given both, both hold.
func WithMaxRedirects(n int) Option {
	return optionFunc(func(c *config) error {
		c.maxRedirects, c.redirectsSet = n, true
		return atLeast(n, 0, "WithMaxRedirects(%d)")
	})
}

// WithHostRedirects follows only redirects that stay at their host, as [WithHostLimits] describes
// it. One to another host is a result like any other, with its status and its Location: for programs
// that leave each host to one of several processes, so that they keep to its limits together.
func WithHostRedirects() Option {
	return optionFunc(func(c *config) error {
		c.hostRedirects = true
		return nil
	})
}

// WithStatusErrors makes a status outside 200–299 an error, a
// [*StatusError]. Header and Body are in the Result all the same.
func WithStatusErrors() Option {
	return optionFunc(func(c *config) error {
		c.statusErrors = true
		return nil
	})
}

// WithDedup fetches each distinct URL of a batch once. Every index still gets
// its Result; those of equal URLs share Header and Body. URLs are equal when they
// are sent alike (RFC 3986, section 6.2.2, but for the case of escapes, and 6.2.3):
// "http://h" and "HTTP://H:80/#top", "/é" and "/%C3%A9", but not "/%c3%a9". User
// information counts. In [Stream] only URLs within the lookahead of each other are
// compared. DoAll and DoStream do not compare requests.
func WithDedup() Option {
	return optionFunc(func(c *config) error {
		c.dedup = true
		return nil
	})
}

// WithLookahead lets [Stream] read at most n inputs ahead of the results that
// it has yielded; inputs that are queued or in flight and results not yet
// yielded all count. n must be at least 1. The default is 10,000.
func WithLookahead(n int) Option {
	return optionFunc(func(c *config) error {
		c.lookahead = n
		return atLeast(n, 1, "WithLookahead(%d)")
	})
}

// WithInOrder makes [Stream] yield in the order of the input, and so wait for
// the slowest, instead of in the order of completion.
func WithInOrder() Option {
	return optionFunc(func(c *config) error {
		c.inOrder = true
		return nil
	})
}

// WithPublicOnly lets connections be made to public addresses only, and to
// those in allow: for URLs that come from strangers. The address that is being
// dialled decides, on every redirect and for every answer of a lookup, so that
// no spelling, redirect or change of a name gets around it. Any other address
// is [ErrBlocked], before a packet is sent to it. A prefix that is not valid is
// an error. Ports are not restricted. The default is no guard.
//
// The environment's proxy is not used, since the guard would only see its
// address. With [WithClient] the guard works on a clone of its *http.Transport,
// with a DialContext of its own; a Transport with Proxy, Dial, DialTLS,
// DialTLSContext or TLSNextProto set, and any other RoundTripper, is an error,
// as is a client without Transport, because [http.DefaultTransport] has a
// Proxy.
func WithPublicOnly(allow ...netip.Prefix) Option {
	return optionFunc(func(c *config) error {
		guard, err := netguard.New(allow...)
		if err != nil {
			return fmt.Errorf("WithPublicOnly: %w", err)
		}
		c.guard = guard
		return nil
	})
}

// unguardable reports why WithPublicOnly cannot vouch for the client, or nil.
func (c *config) unguardable() error {
	if c.guard == nil || c.client == nil {
		return nil
	}
	transport, ok := c.client.Transport.(*http.Transport)
	switch {
	case c.client.Transport == nil:
		return errors.New("WithPublicOnly: the client has no Transport, and http.DefaultTransport has a Proxy")
	case !ok:
		return fmt.Errorf("WithPublicOnly: the client's Transport is a %T, not an *http.Transport", c.client.Transport)
	}
	// net/http sets TLSNextProto itself, but the clone has it only if somebody else did.
	transport = transport.Clone()
	for _, field := range []struct {
		name string
		set  bool
	}{
		{"Proxy", transport.Proxy != nil},
		//lint:ignore SA1019 a deprecated field gets around the guard all the same
		{"Dial", transport.Dial != nil},
		//lint:ignore SA1019 likewise
		{"DialTLS", transport.DialTLS != nil},
		{"DialTLSContext", transport.DialTLSContext != nil},
		{"TLSNextProto", transport.TLSNextProto != nil},
	} {
		if field.set {
			return fmt.Errorf("WithPublicOnly: the client's Transport has %s set, which gets around the guard", field.name)
		}
	}
	return nil
}

func atLeast(n, least int, format string) error {
	if n < least {
		return fmt.Errorf(format+": must be at least %d", n, least)
	}
	return nil
}

func notNegative(d time.Duration, format string) error {
	if d < 0 {
		return fmt.Errorf(format+": must not be negative", d)
	}
	return nil
}

func checkRate(name string, r rate.Limit, burst int) error {
	if !(r > 0) { // also false for NaN
		return fmt.Errorf("%s(%v, %d): rate must be more than 0", name, float64(r), burst)
	}
	if burst < 1 {
		return fmt.Errorf("%s(%v, %d): burst must be at least 1", name, float64(r), burst)
	}
	return nil
}

// holdsNil reports whether v is an interface that holds a nil pointer, map, func
// or channel, which compares unequal to nil and panics when it is used.
func holdsNil(v any) bool {
	switch value := reflect.ValueOf(v); value.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Func, reflect.Chan:
		return value.IsNil()
	}
	return false
}

// addHeader adds a header field after the checks that net/http would make
// when it is too late to name the option ([RFC 9110], section 5).
//
// [RFC 9110]: https://www.rfc-editor.org/rfc/rfc9110
func addHeader(h http.Header, key, value string) error {
	if !target.IsToken(key) {
		return fmt.Errorf("WithHeader(%q, …): not a header field name", key)
	}
	// The value may be a secret, so the error does not show it.
	if !target.IsFieldValue(value) {
		return fmt.Errorf("WithHeader(%q, …): the value has a control character", key)
	}
	key = http.CanonicalHeaderKey(key)
	if _, err := target.CleanHost(value); key == "Host" && err != nil {
		return errors.New(`WithHeader("Host", …): not a host`)
	}
	switch {
	case key == "Host" && h.Get(key) != "" && h.Get(key) != value:
		return errors.New(`WithHeader("Host", …): given twice`)
	case key == "Host":
		h.Set(key, value)
	default:
		h.Add(key, value)
	}
	return nil
}

// newFetcher gives each part of a Fetcher the options that it needs.
func (c *config) newFetcher() (*Fetcher, error) {
	f := &Fetcher{
		own:          c.ownClient(),
		streaming:    engine.StreamConfig{Lookahead: c.lookahead, InOrder: c.inOrder, Dedup: c.dedup},
		attemptLimit: min(c.retries, math.MaxInt-1) + 1,
		hooks:        c.hooks,
	}
	if c.dedup && c.hooks.Done != nil {
		f.streaming.Unread = f.unread
	}
	attempts, batches := c.attempts(f), c.batches(f)
	if err := c.wrap(&attempts); err != nil {
		return nil, &optionsError{[]error{err}}
	}
	f.client, f.engine = attempt.New(attempts), engine.New(batches)
	return f, nil
}

// wrap puts the caller's RoundTrippers around the transport.
func (c *config) wrap(a *attempt.Config) error {
	for _, wrap := range c.wraps {
		if a.Transport = wrap(a.Transport); a.Transport == nil || holdsNil(a.Transport) {
			return errors.New("WithTransport: the function returned nil")
		}
	}
	a.Wrapped = len(c.wraps) > 0
	return nil
}

// ownClient returns the Fetcher's own client, or nil if the client of the caller is used unchanged.
func (c *config) ownClient() *transport.Client {
	own := transport.Config{Concurrency: c.concurrency, Timeout: c.timeout, Guard: c.guard, TLS: c.tls}
	switch {
	case c.client == nil && c.guard == nil:
		own.Proxy = c.proxy
	case c.client == nil: // the guard would only see the address of a proxy
	case c.guard != nil:
		own.Base = c.client.Transport.(*http.Transport) // unguardable has looked
	default:
		return nil
	}
	return transport.New(own)
}

// attempts returns the options for the attempts of f.
func (c *config) attempts(f *Fetcher) attempt.Config {
	a := attempt.Config{
		Own:           c.client == nil,
		Header:        c.header,
		Decoders:      c.decoders,
		RequestFunc:   c.requestFunc,
		Redirects:     redirect.Policy{Max: c.maxRedirects, MaxHolds: c.redirectsSet, OwnHost: c.hostRedirects},
		MaxBody:       c.maxBody,
		MaxRead:       c.maxRead,
		StatusErrors:  c.statusErrors,
		Retries:       c.retries,
		Backoff:       c.backoffBase,
		MaxBackoff:    c.backoffMax,
		MaxRetryAfter: c.maxRetryAfter,
		Failures:      c.maxHostFailures > 0,
	}
	if c.client == nil {
		a.Jar, a.Redirects.Jar = c.jar, c.jar != nil
		a.Shown = c.proxySet && c.proxy != nil
	} else {
		a.Transport, a.Jar = cmp.Or(c.client.Transport, http.DefaultTransport), c.client.Jar
		a.Redirects.Check, a.Redirects.Jar = c.client.CheckRedirect, a.Jar != nil
		given, ok := a.Transport.(*http.Transport)
		a.PlainTransport = ok && given.DisableCompression
	}
	if f.own != nil {
		a.Transport, a.NewContext = f.own, transport.NewContext
	}
	if c.bodyFunc != nil {
		a.BodyFunc = func(ctx context.Context, x *attempt.Exchange, tally job.Tally, body io.Reader) error {
			return c.bodyFunc(ctx, newResult(x, tally, f.attemptLimit), body)
		}
	}
	if c.retryIf != nil {
		a.RetryIf = func(x *attempt.Exchange, tally job.Tally) bool {
			return c.retryIf(newResult(x, tally, f.attemptLimit))
		}
	}
	f.hooks.watchAttempts(f, &a)
	return a
}

// batches returns the options for the engine of f.
func (c *config) batches(f *Fetcher) engine.Config {
	e := engine.Config{
		Limits: sched.Config{
			Slots: c.concurrency,
			Rate:  c.rate,
			Burst: c.burst,
			Host:  c.defaultLimits(),
		},
		HostGroup:       c.hostGroup,
		Timeout:         c.timeout,
		Budgets:         c.retries > 0,
		MaxHostFailures: c.maxHostFailures,
		MaxPause:        c.maxRetryAfter,
		Patience:        c.patience(),
		Told:            c.hooks.Done != nil || c.hooks.Attempt != nil,
		Paused:          c.hooks.Paused,
		NewRunner:       func() job.Runner { return attempt.NewRunner(f.client) },
	}
	switch l := c.limiter.(type) {
	case nil:
	case HostLimiter:
		e.Limits.HostPermits, e.HostLimiter = true, l
	default:
		e.Limits.Permits, e.Limiter = true, l
	}
	if c.maxRetryAfter > 0 { // or no quota is heard
		e.Limits.InitialWindow = sched.DefaultInitialWindow
	}
	if c.retries > 0 {
		e.Limits.PauseBase, e.Limits.PauseMax = c.backoffBase, c.backoffMax
	}
	if c.hostLimits != nil {
		e.HostLimits = c.limitsOf
	}
	return e
}

// patience is how long a host may refuse everything before it is given up.
func (c *config) patience() time.Duration {
	longest := c.maxRetryAfter
	if longest == 0 {
		longest = c.backoffMax
	}
	return 2 * min(longest, math.MaxInt64/2)
}

// defaultLimits returns the limits of a host without HostLimits.
func (c *config) defaultLimits() sched.Limits {
	return sched.Limits{Concurrency: c.hostConcurrency, Rate: c.hostRate, Burst: c.hostBurst}
}

// limitsOf asks for the limits of a host, and fills in the defaults.
func (c *config) limitsOf(host string) (sched.Limits, error) {
	own, limits := c.hostLimits(host), c.defaultLimits()
	if own.Concurrency < 0 || own.Burst < 0 || !(own.Rate >= 0) {
		return limits, fmt.Errorf("WithHostLimits: host %s: %d, %v, %d: must not be negative",
			fault.Word(host), own.Concurrency, float64(own.Rate), own.Burst)
	}
	if own.Concurrency > 0 {
		limits.Concurrency = own.Concurrency
	}
	if own.Rate > 0 {
		limits.Rate = own.Rate
	}
	if own.Burst > 0 {
		limits.Burst = own.Burst
	}
	return limits, nil
}
