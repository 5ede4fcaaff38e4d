package fetch_test

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
)

// What net/http returns for a host that refuses connections, and for a connection that dies.
var (
	errRefused = &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	errReset   = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
)

// inTurn answers the n-th request for each URL with the n-th step, and those
// after the last with the last.
func inTurn(steps ...roundTripFunc) roundTripFunc {
	var mu sync.Mutex
	sent := map[string]int{}
	return func(req *http.Request) (*http.Response, error) {
		mu.Lock()
		n := sent[req.URL.String()]
		sent[req.URL.String()]++
		mu.Unlock()
		return steps[min(n, len(steps)-1)](req)
	}
}

// atOnce answers 200 "ok". It does without a timer of no length: in a bubble each goroutine fires such
// a one by itself, and under the race detector of Go 1.26 two of them at once can crash the process.
func atOnce(req *http.Request) (*http.Response, error) { return respond(req, 200, "ok"), nil }

// always answers with a status and header fields.
func always(status int, header ...string) roundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		return respond(req, status, fmt.Sprintf("body of %d", status), header...), nil
	}
}

func failing(err error) roundTripFunc {
	return func(*http.Request) (*http.Response, error) { return nil, err }
}

// taking makes the answers of rt take d.
func taking(d time.Duration, rt roundTripFunc) roundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		if err := sleepCtx(req.Context(), d); err != nil {
			return nil, err
		}
		return rt(req)
	}
}

// varied makes the answers of rt take 20 to 80 ms, depending on the URL.
func varied(rt roundTripFunc) roundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		return taking(time.Duration((20+60*dice(3, req.URL.String(), 0))*float64(time.Millisecond)), rt)(req)
	}
}

// hanging never answers.
func hanging(req *http.Request) (*http.Response, error) { return nil, untilDone(req.Context()) }

// cut answers with the start of a body, and then the connection dies.
func cut(start string) roundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		resp := respond(req, 200, "")
		resp.ContentLength = int64(len(start)) + 100
		resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(start), failingReader{errReset}))
		return resp, nil
	}
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// A timeline remembers when requests were sent, since it was made.
type timeline struct {
	start time.Time
	mu    sync.Mutex
	sent  []sending
}

type sending struct {
	host, url string
	at        time.Duration
}

func newTimeline() *timeline { return &timeline{start: time.Now()} }

func (l *timeline) over(rt roundTripFunc) roundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		l.mu.Lock()
		l.sent = append(l.sent, sending{req.URL.Host, req.URL.String(), time.Since(l.start)})
		l.mu.Unlock()
		return rt(req)
	}
}

func (l *timeline) of(match func(sending) bool) []time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	var times []time.Duration
	for _, s := range l.sent {
		if match(s) {
			times = append(times, s.at)
		}
	}
	return times
}

// ofHost returns when requests were sent to a host, in that order.
func (l *timeline) ofHost(host string) []time.Duration {
	return l.of(func(s sending) bool { return s.host == host })
}

// ofURL returns when a URL was requested.
func (l *timeline) ofURL(rawURL string) []time.Duration {
	return l.of(func(s sending) bool { return s.url == rawURL })
}

func (l *timeline) len() int { return len(l.of(func(sending) bool { return true })) }

// between returns how many requests a host was sent after from and before to.
func (l *timeline) between(host string, from, to time.Duration) int {
	return len(l.of(func(s sending) bool { return s.host == host && s.at > from && s.at < to }))
}

// dice returns a number in [0, 1) that depends on nothing but its arguments,
// so that the order in which requests of one instant come does not matter.
func dice(seed uint64, rawURL string, n int) float64 {
	h := fnv.New64a()
	fmt.Fprint(h, rawURL, " ", n)
	return rand.New(rand.NewPCG(seed, h.Sum64())).Float64()
}

// flaky fails the given share of requests with step, and answers the others as ok does.
func flaky(share float64, step, ok roundTripFunc) roundTripFunc {
	var mu sync.Mutex
	sent := map[string]int{}
	return func(req *http.Request) (*http.Response, error) {
		rawURL := req.URL.String()
		mu.Lock()
		sent[rawURL]++
		n := sent[rawURL]
		mu.Unlock()
		if dice(1, rawURL, n) < share {
			return step(req)
		}
		return ok(req)
	}
}

// withoutBackOff retries at once.
var withoutBackOff = fetch.WithBackoff(0, 0)

func TestWhatIsRetriedByDefault(t *testing.T) {
	notFound := &net.DNSError{Err: "no such host", Name: "a.example", IsNotFound: true}
	unsure := &net.DNSError{Err: "server misbehaving", Name: "a.example", IsTemporary: true}
	lookupTimeout := &net.DNSError{Err: "i/o timeout", Name: "a.example", IsTimeout: true}
	wrapped := func(err error) error { return &net.OpError{Op: "dial", Net: "tcp", Err: err} }
	certificate := &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
	tooLong := func(req *http.Request) (*http.Response, error) {
		return respond(req, 200, strings.Repeat("x", 2000)), nil
	}

	type outcome struct {
		step    roundTripFunc
		retried bool
	}
	steps := map[string]outcome{
		"connection refused":            {failing(errRefused), true},
		"connection reset":              {failing(errReset), true},
		"EOF":                           {failing(io.EOF), true},
		"unexpected EOF":                {failing(io.ErrUnexpectedEOF), true},
		"idle connection closed":        {failing(errors.New("http: server closed idle connection")), true},
		"temporary DNS error":           {failing(wrapped(unsure)), true},
		"DNS timeout":                   {failing(wrapped(lookupTimeout)), true},
		"timeout of a dial":             {failing(wrapped(timeoutError{})), true},
		"timeout before the head":       {failing(timeoutError{}), true},
		"timeout of the attempt":        {hanging, true},
		"cut body":                      {cut("the first"), true},
		"unknown host":                  {failing(wrapped(notFound)), false},
		"certificate":                   {failing(certificate), false},
		"certificate, in a dial":        {failing(wrapped(certificate)), false},
		"body too large":                {tooLong, false},
		"error that is nothing known":   {failing(errors.New("malformed HTTP response")), false},
		"status 101":                    {always(101), false},
		"redirect to nowhere":           {always(302, "Location", "ftp://a.example/"), false},
		"redirect without end":          {func(req *http.Request) (*http.Response, error) { return always(302, "Location", req.URL.Path)(req) }, false},
		"redirect without Location":     {always(302), false},
		"a 404 with Retry-After":        {always(404, "Retry-After", "1"), false},
		"a 500 with Retry-After":        {always(500, "Retry-After", "1"), true},
		"a 429 with Retry-After":        {always(429, "Retry-After", "1"), true},
		"a 503 with Retry-After":        {always(503, "Retry-After", "1"), true},
		"a 200 that asks to come again": {always(200, "Retry-After", "1"), false},
	}
	for _, status := range []int{408, 429, 500, 502, 503, 504} {
		steps[fmt.Sprint("status ", status)] = outcome{always(status), true}
	}
	for _, status := range []int{200, 201, 204, 206, 304, 400, 401, 403, 404, 405, 409, 410, 412, 413, 418, 421, 422, 451, 501, 505, 507, 511, 599, 999} {
		steps[fmt.Sprint("status ", status)] = outcome{always(status), false}
	}
	for name, c := range steps {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var flight inFlight
				r := getOne(t, "http://a.example/", fetch.WithRetries(2), fetch.WithTimeout(time.Minute), fetch.WithMaxBody(1000),
					over(flight.over(inTurn(c.step, atOnce))))
				want, redirects := 1, r.Redirects
				if c.retried {
					want = 2
					if !r.OK() || string(r.Body) != "ok" {
						t.Errorf("the second attempt: %d, %q, %v", r.StatusCode, r.Body, r.Err)
					}
				}
				if r.Attempts != want {
					t.Errorf("%d attempts, want %d (error %v)", r.Attempts, want, r.Err)
				}
				if name != "redirect without end" && flight.total() != want+redirects {
					t.Errorf("%d requests were sent, want %d", flight.total(), want)
				}
			})
		})
	}
}

// A timeoutError is what a stage of net/http's Transport returns that took too long.
type timeoutError struct{}

func (timeoutError) Error() string   { return "timeout awaiting response headers" }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

func TestRetriesAreOffByDefault(t *testing.T) {
	for name, step := range map[string]roundTripFunc{
		"connection refused": failing(errRefused), "status 503": always(503), "status 429": always(429), "cut body": cut("x"),
	} {
		var flight inFlight
		if r := getOne(t, "http://a.example/", over(flight.over(step))); r.Attempts != 1 || flight.total() != 1 {
			t.Errorf("%s: %d attempts, %d requests", name, r.Attempts, flight.total())
		}
	}
}

func TestOnlyIdempotentRequestsAreRetriedOnceSomethingWasSent(t *testing.T) {
	key := []string{"Idempotency-Key", "8e03978e"}
	for _, c := range []struct {
		method  string
		header  []string
		retried bool
	}{
		{"GET", nil, true}, {"HEAD", nil, true}, {"OPTIONS", nil, true}, {"TRACE", nil, true}, {"PUT", nil, true}, {"DELETE", nil, true},
		{"", nil, true}, {"POST", nil, false}, {"PATCH", nil, false}, {"CONNECT", nil, false}, {"PURGE", nil, false}, {"get", nil, false},
		{"POST", key, true}, {"PATCH", key, true}, {"POST", []string{"X-Idempotency-Key", "k"}, true},
		{"POST", []string{"Idempotency", "k"}, false},
	} {
		for name, step := range map[string]roundTripFunc{
			"status 503": always(503), "status 429": always(429, "Retry-After", "1"), "cut body": cut(""),
			"connection reset": failing(errReset), "timeout": hanging, "nothing sent": failing(errRefused),
		} {
			t.Run(fmt.Sprint(c.method, c.header, " ", name), func(t *testing.T) {
				if c.method == "HEAD" && name == "cut body" {
					t.Skip("it has none")
				}
				synctest.Test(t, func(t *testing.T) {
					req := newRequest(t, cmp.Or(c.method, "GET"), "http://a.example/", strings.NewReader("payload"), c.header...)
					req.Method = c.method
					r := sendOne(t, req, fetch.WithRetries(3), fetch.WithTimeout(time.Second), over(inTurn(step, atOnce)))
					want := 1
					if c.retried || name == "nothing sent" {
						want = 2
					}
					if r.Attempts != want {
						t.Errorf("%d attempts, want %d (%d, %v)", r.Attempts, want, r.StatusCode, r.Err)
					}
				})
			})
		}
	}
}

func TestAnIdempotencyKeyOfTheOptionsCountsToo(t *testing.T) {
	var sent recorder
	r := sendOne(t, newRequest(t, "POST", "http://a.example/", strings.NewReader("payload")), fetch.WithRetries(1), withoutBackOff,
		fetch.WithHeader("Idempotency-Key", "k1"), over(sent.over(inTurn(always(503), atOnce))))
	if r.Attempts != 2 {
		t.Fatalf("%d attempts", r.Attempts)
	}
	for _, s := range sent.take() {
		if s.header.Get("Idempotency-Key") != "k1" || s.body != "payload" {
			t.Errorf("sent %v", s)
		}
	}
}

func TestBodiesAreSentAgainByteForByte(t *testing.T) {
	payload := make([]byte, 300_000)
	for i := range payload {
		payload[i] = byte(rand.Uint32())
	}
	var sent recorder
	// The first attempt breaks off when a part of the body has been read.
	half := func(req *http.Request) (*http.Response, error) {
		io.CopyN(io.Discard, req.Body, 1000)
		return nil, errReset
	}
	r := sendOne(t, newRequest(t, "PUT", "http://a.example/", bytes.NewReader(payload)), fetch.WithRetries(3), withoutBackOff,
		over(inTurn(half, sent.over(always(503)), sent.over(always(500)), sent.over(atOnce))))
	if !r.OK() || r.Attempts != 4 {
		t.Fatalf("%d attempts, %v", r.Attempts, r.Err)
	}
	bodies := sent.take()
	if len(bodies) != 3 {
		t.Fatalf("%d bodies arrived, want 3", len(bodies))
	}
	for i, s := range bodies {
		if s.body != string(payload) {
			t.Errorf("body %d: %d bytes, which are not those of the request", i, len(s.body))
		}
	}
}

func TestABodyThatCannotBeSentAgainIsSentOnce(t *testing.T) {
	for name, step := range map[string]roundTripFunc{
		"status 503": always(503), "connection reset": failing(errReset), "nothing sent": failing(errRefused),
	} {
		for choice, opts := range map[string][]fetch.Option{
			"by default": nil,
			"whatever RetryIf says": {fetch.WithRetryIf(func(fetch.Result) bool {
				return true
			})},
		} {
			body := newTrackedBody("payload")
			var flight inFlight
			r := sendOne(t, newRequest(t, "PUT", "http://a.example/", body, "Idempotency-Key", "k"),
				append(opts, fetch.WithRetries(5), withoutBackOff, over(flight.over(step)))...)
			if r.Attempts != 1 || flight.total() != 1 || !body.closed.Load() {
				t.Errorf("%s, %s: %d attempts, %d requests, body closed: %v", name, choice, r.Attempts, flight.total(), body.closed.Load())
			}
			if name == "status 503" && (r.StatusCode != 503 || string(r.Body) != "body of 503" || r.Err != nil) {
				t.Errorf("%s: the answer is %d %q, %v", choice, r.StatusCode, r.Body, r.Err)
			}
		}
	}
}

func TestAGetBodyThatFailsEndsTheURL(t *testing.T) {
	broken := errors.New("the file is gone")
	req := newRequest(t, "PUT", "http://a.example/", strings.NewReader("payload"))
	req.GetBody = func() (io.ReadCloser, error) { return nil, broken }
	r := sendOne(t, req, fetch.WithRetries(5), withoutBackOff, over(always(503)))
	if !errors.Is(r.Err, broken) || r.Attempts != 2 {
		t.Errorf("%d attempts, error %v", r.Attempts, r.Err)
	}
}

// Without a back-off every figure is known beforehand. Both refusals come before the host
// has accepted anything, so that there is no pace.
func TestAttemptsHistoryWaitedAndTookAreExact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ms = time.Millisecond
		rt := inTurn(
			taking(10*ms, failing(errReset)),
			taking(50*ms, always(429, "Retry-After", "2")),
			taking(ms, always(503, "Retry-After", "3")),
			taking(100*ms, always(500, "Retry-After", "4")), // that is heeded with a 503 or 429 only
			taking(5*ms, always(302, "Location", "http://b.example/")),
			answerAfter(time.Second),
		)
		start := time.Now()
		r := getOne(t, "http://a.example/", fetch.WithRetries(5), withoutBackOff, over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "b.example" {
				return taking(20*ms, always(502))(req)
			}
			return rt(req)
		}))
		want := []fetch.Attempt{
			{Err: errReset, Took: 10 * ms},
			{StatusCode: 429, Took: 50 * ms, RetryAfter: 2 * time.Second},
			{StatusCode: 503, Took: ms, RetryAfter: 3 * time.Second},
			{StatusCode: 500, Took: 100 * ms, RetryAfter: 4 * time.Second},
			{StatusCode: 502, Took: 25 * ms},
			{StatusCode: 200, Took: time.Second},
		}
		if !r.OK() || r.Attempts != 6 || len(r.History) != 6 || r.Redirects != 0 || r.FinalURL != "http://a.example/" {
			t.Fatalf("%d attempts, %d redirects, history %v, %v", r.Attempts, r.Redirects, r.History, r.Err)
		}
		var took time.Duration
		for i, got := range r.History {
			if errors.Is(got.Err, want[i].Err) {
				got.Err = want[i].Err // it is wrapped
			}
			if got != want[i] {
				t.Errorf("attempt %d: %+v, want %+v", i+1, got, want[i])
			}
			took += got.Took
		}
		checkTook(t, "all attempts", r.Took, took)
		checkTook(t, "waiting", r.Waited, 5*time.Second)
		checkTook(t, "all", time.Since(start), r.Took+r.Waited)
	})
}

// Whatever happens to a URL, its time is either waiting or an attempt.
func TestWaitedAndTookAreAllTheTimeThereIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		urls := hostURLs(60, "a.example", "b.example", "c.example")
		rt := varied(flaky(0.5, inTurn(always(500), always(429, "Retry-After", "1"), failing(errReset), always(429), cut("half")), atOnce))
		start := time.Now()
		seen := 0
		for r := range fetch.Stream(t.Context(), slices.Values(urls), fetch.WithRetries(4), fetch.WithConcurrency(8), fetch.WithHostConcurrency(5), over(rt)) {
			checkResult(t, r.Index, urls[r.Index], r)
			seen++
			checkTook(t, r.URL, r.Waited+r.Took, time.Since(start))
			var took time.Duration
			for _, a := range r.History {
				took += a.Took
			}
			if r.Attempts > 1 && took != r.Took {
				t.Errorf("%s: took %v, its attempts %v", r.URL, r.Took, took)
			}
		}
		if seen != len(urls) {
			t.Errorf("%d results for %d URLs", seen, len(urls))
		}
	})
}

func TestTheLastAnswerIsTheResultWhenRetriesAreUsedUp(t *testing.T) {
	for _, status := range []int{500, 503, 429} {
		for name, opts := range map[string][]fetch.Option{
			"by default":        nil,
			"WithStatusErrors":  {fetch.WithStatusErrors()},
			"WithRetryIf":       {fetch.WithRetryIf(func(r fetch.Result) bool { return !r.OK() })},
			"both":              {fetch.WithStatusErrors(), fetch.WithRetryIf(func(r fetch.Result) bool { return !r.OK() })},
			"WithMaxRetryAfter": {fetch.WithMaxRetryAfter(0)},
			"WithBackoff":       {fetch.WithBackoff(time.Second, time.Second)},
		} {
			t.Run(fmt.Sprint(status, " ", name), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var n atomic.Int32
					r := getOne(t, "http://a.example/", append(opts, fetch.WithRetries(2), over(func(req *http.Request) (*http.Response, error) {
						n := n.Add(1)
						return respond(req, status, fmt.Sprintf("answer %d of a few", n), "Retry-After", "1", "X-Number", fmt.Sprint(n)), nil
					}))...)
					if r.Attempts != 3 || n.Load() != 3 {
						t.Errorf("%d attempts, %d requests, want 3", r.Attempts, n.Load())
					}
					if r.StatusCode != status || string(r.Body) != "answer 3 of a few" || r.Header.Get("X-Number") != "3" {
						t.Errorf("got %d %q %v", r.StatusCode, r.Body, r.Header)
					}
					refused, _ := errors.AsType[*fetch.StatusError](r.Err)
					if wanted := name == "WithStatusErrors" || name == "both"; wanted != (refused != nil) || !wanted && r.Err != nil {
						t.Errorf("error %v", r.Err)
					}
					for i, a := range r.History {
						if a.StatusCode != status || a.Err != nil {
							t.Errorf("attempt %d: %+v", i+1, a)
						}
					}
				})
			})
		}
	}
}

func TestTheLastErrorIsTheResultWhenRetriesAreUsedUp(t *testing.T) {
	r := getOne(t, "http://a.example/", fetch.WithRetries(2), withoutBackOff, over(inTurn(always(500), cut("the first half"), failing(errRefused))))
	if !errors.Is(r.Err, syscall.ECONNREFUSED) || r.Attempts != 3 {
		t.Errorf("%d attempts, error %v", r.Attempts, r.Err)
	}
	if r.StatusCode != 0 || r.Header != nil || r.Body != nil {
		t.Errorf("the last attempt got no answer, the Result has %d %v %q", r.StatusCode, r.Header, r.Body)
	}
	if text := r.Err.Error(); !strings.Contains(text, "(attempt 3 of 3)") {
		t.Errorf("the error is %q", text)
	}
	h := r.History
	if h[0].StatusCode != 500 || h[0].Err != nil || h[1].StatusCode != 200 || !errors.Is(h[1].Err, fetch.ErrTruncated) || !errors.Is(h[2].Err, syscall.ECONNREFUSED) {
		t.Errorf("history %+v", h)
	}
}

func TestTheMostRetriesThereAre(t *testing.T) {
	for name, step := range map[string]roundTripFunc{"connection refused": failing(errRefused), "cut body": cut("x"), "status 500": always(500)} {
		steps := slices.Repeat([]roundTripFunc{step}, 5)
		r := getOne(t, "http://a.example/", fetch.WithRetries(math.MaxInt), fetch.WithMaxHostFailures(math.MaxInt), withoutBackOff, over(inTurn(append(steps, atOnce)...)))
		if !r.OK() || r.Attempts != 6 {
			t.Errorf("%s: %d attempts, %v", name, r.Attempts, r.Err)
		}
	}
}

func TestTheBackOffIsRandomWithinItsBounds(t *testing.T) {
	for name, c := range map[string]struct {
		opt       []fetch.Option
		base, max time.Duration
	}{
		"by default":         {nil, 200 * time.Millisecond, 10 * time.Second},
		"with a low maximum": {[]fetch.Option{fetch.WithBackoff(100*time.Millisecond, 300*time.Millisecond)}, 100 * time.Millisecond, 300 * time.Millisecond},
		"with base 0":        {[]fetch.Option{fetch.WithBackoff(0, time.Second)}, 0, time.Second},
		"that is long":       {[]fetch.Option{fetch.WithBackoff(1000*time.Hour, 1<<63-1)}, 1000 * time.Hour, 1<<63 - 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const retries = 6
				urls := hostURLs(1, slices.Collect(numberedHosts(64))...)
				sent := newTimeline()
				results := fetch.FetchAll(t.Context(), urls, append(c.opt, fetch.WithRetries(retries), over(sent.over(taking(time.Millisecond, always(500)))))...)
				checkResults(t, urls, results)
				var gaps [retries][]time.Duration
				for _, rawURL := range urls {
					at := sent.ofURL(rawURL)
					if len(at) != retries+1 {
						t.Fatalf("%s was requested %d times", rawURL, len(at))
					}
					for n := range retries {
						gaps[n] = append(gaps[n], at[n+1]-at[n]-time.Millisecond)
					}
				}
				ceiling := c.base
				for n, gaps := range gaps {
					least, most := slices.Min(gaps), slices.Max(gaps)
					if least < 0 || most > ceiling {
						t.Errorf("back-off %d is from %v to %v, more than %v", n, least, most, ceiling)
					}
					// 64 of them reach into both ends of the range but for one run in a million.
					if least > ceiling/5 || most < ceiling-ceiling/5 {
						t.Errorf("back-off %d is only from %v to %v, not up to %v", n, least, most, ceiling)
					}
					if ceiling > c.max/2 {
						ceiling = c.max
					} else {
						ceiling *= 2
					}
				}
			})
		})
	}
}

func TestALoneURLInBackOffWakesOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := newTimeline()
		const rawURL = "http://a.example/"
		r := getOne(t, rawURL, fetch.WithRetries(1), fetch.WithBackoff(time.Hour, time.Hour), over(sent.over(inTurn(taking(time.Second, always(500)), answerAfter(time.Second)))))
		at := sent.ofURL(rawURL)
		if len(at) != 2 || !r.OK() {
			t.Fatalf("requests at %v, %v", at, r.Err)
		}
		checkTook(t, "the back-off", at[1]-time.Second, r.Waited)
		checkTook(t, "the batch", time.Since(sent.start), r.Waited+2*time.Second)
		if r.Waited > time.Hour {
			t.Errorf("waited %v", r.Waited)
		}
	})
}

func TestAURLInBackOffHoldsNoSlotAndNoGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const waiting, slots = 1000, 4
		var failed atomic.Int32
		before := runtime.NumGoroutine()
		rt := func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "good" {
				if n := failed.Load(); n < waiting-slots {
					t.Errorf("a good URL started when only %d had failed", n)
				}
				if n := runtime.NumGoroutine() - before; n > slots+4 {
					t.Errorf("%d goroutines for %d slots", n, slots)
				}
				return answerAfter(10 * time.Millisecond)(req)
			}
			if failed.Add(1) > waiting {
				return respond(req, 200, "ok"), nil
			}
			return respond(req, 500, "sorry"), nil
		}
		urls := slices.Concat(hostURLs(1, slices.Collect(numberedHosts(waiting))...), numbered("http://good", 400))
		start := time.Now()
		var last time.Duration
		for r := range fetch.Stream(t.Context(), slices.Values(urls), fetch.WithRetries(1), fetch.WithConcurrency(slots),
			fetch.WithBackoff(1000*time.Hour, 1000*time.Hour), over(rt)) {
			checkResult(t, r.Index, urls[r.Index], r)
			if r.Index >= waiting {
				last = time.Since(start)
			}
		}
		checkTook(t, "400 URLs, 4 at once, beside 1000 that wait,", last, time.Second)
	})
}

func TestABackOffThatCannotFitEndsAtOnce(t *testing.T) {
	for name, step := range map[string]roundTripFunc{"status 500": always(500), "connection reset": failing(errReset)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				urls := []string{"http://a.example/"}
				start := time.Now()
				results := fetch.FetchAll(ctx, urls, fetch.WithRetries(9), fetch.WithBackoff(1e6*time.Hour, 1e6*time.Hour), over(step))
				checkTook(t, "the batch", time.Since(start), 0)
				checkResults(t, urls, results)
				r := results[0]
				if r.Attempts != 1 || errors.Is(r.Err, context.DeadlineExceeded) {
					t.Errorf("%d attempts, %d, %v", r.Attempts, r.StatusCode, r.Err)
				}
				if name == "status 500" && (r.StatusCode != 500 || string(r.Body) != "body of 500") {
					t.Errorf("got %d %q", r.StatusCode, r.Body)
				}
			})
		})
	}
}

func TestADeadHostCostsLittleMoreThanOneAttemptForEachURL(t *testing.T) {
	for name, step := range map[string]roundTripFunc{
		"connection refused": failing(errRefused), "status 500": always(500), "503 without Retry-After": always(503), "cut bodies": cut("x"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var flight inFlight
				urls := numbered("http://dead", 5000)
				results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(5), over(flight.over(step)))
				checkResults(t, urls, results)
				if n := flight.total(); n > 5000*12/10+10 || n < 5000*12/10 {
					t.Errorf("%d attempts for 5,000 URLs, want what the budget allows: 6,010", n)
				}
			})
		})
	}
}

func TestTheErrorNamesTheExhaustedBudget(t *testing.T) {
	for name, c := range map[string]struct {
		step  roundTripFunc
		cause error
	}{
		"connection refused": {failing(errRefused), syscall.ECONNREFUSED},
		"cut body":           {cut("x"), fetch.ErrTruncated},
		"status 500":         {always(500), nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				urls := numbered("http://dead", 100)
				results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(9), fetch.WithStatusErrors(), over(c.step))
				checkResults(t, urls, results)
				for _, r := range results {
					refused, _ := errors.AsType[*fetch.StatusError](r.Err)
					if c.cause != nil && !errors.Is(r.Err, c.cause) || c.cause == nil && (refused == nil || string(r.Body) != "body of 500") {
						t.Errorf("the cause is lost: %v, %q", r.Err, r.Body)
					}
					if r.Attempts < 10 && !strings.Contains(r.Err.Error(), "budget") {
						t.Errorf("given up after %d attempts, but the error is %v", r.Attempts, r.Err)
						return // they are all alike
					}
				}
			})
		})
	}
}

func TestAFlakyHostLosesNextToNothing(t *testing.T) {
	for name, step := range map[string]roundTripFunc{"status 500": always(500), "connection reset": failing(errReset), "cut body": cut("half of it")} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				urls := numbered("http://flaky", 500)
				results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(5), over(varied(flaky(0.3, step, atOnce))))
				checkResults(t, urls, results)
				lost, early := 0, 0
				for _, r := range results {
					if !r.OK() {
						lost++
						if r.Attempts < 6 {
							early++
						}
					}
				}
				// 0.3⁶ · 500, a third of a URL, is what six attempts cannot mend.
				if lost > 3 || early > 2 {
					t.Errorf("%d of 500 are lost, %d of them to the budget", lost, early)
				}
			})
		})
	}
}

func TestTheBudgetRefillsAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		outage, calm, again := numbered("http://a.example/outage", 200), numbered("http://a.example/calm", 100), numbered("http://a.example/again", 60)
		mended := inTurn(always(500), atOnce)
		urls := slices.Concat(outage, calm, again)
		results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(3), fetch.WithConcurrency(10), over(taking(time.Second, func(req *http.Request) (*http.Response, error) {
			switch {
			case strings.Contains(req.URL.Path, "outage"):
				return nil, errRefused
			case strings.Contains(req.URL.Path, "again"):
				return mended(req)
			}
			return respond(req, 200, "ok"), nil
		})))
		checkResults(t, urls, results)
		for _, r := range results[200:] {
			if !r.OK() {
				t.Errorf("%s: %d attempts, %d, %v", r.URL, r.Attempts, r.StatusCode, r.Err)
			}
		}
	})
}

func TestTheBudgetIsKeptBetweenCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight inFlight
		f := newFetcher(t, fetch.WithRetries(5), over(flight.over(failing(errRefused))))
		for call := range 4 {
			urls := numbered(fmt.Sprintf("http://dead/%d", call), 50)
			checkResults(t, urls, f.FetchAll(t.Context(), urls))
		}
		if n := flight.total(); n > 200*12/10+10 {
			t.Errorf("%d attempts for 200 URLs", n)
		}
	})
}

// One host's failures use up nothing of another's.
func TestTheBudgetIsThatOfOneHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		mended := inTurn(always(500), atOnce)
		urls := slices.Concat(numbered("http://dead", 300), hostURLs(1, slices.Collect(numberedHosts(50))...))
		results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(5), over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "dead" {
				return nil, errRefused
			}
			return mended(req)
		}))
		checkResults(t, urls, results)
		for _, r := range results[300:] {
			if !r.OK() {
				t.Errorf("%s: %d attempts, %d, %v", r.URL, r.Attempts, r.StatusCode, r.Err)
			}
		}
	})
}

func TestAHostThatCannotBeConnectedToIsGivenUp(t *testing.T) {
	failures := map[string]roundTripFunc{
		"connection refused": failing(errRefused),
		"unknown host":       failing(&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "dead", IsNotFound: true}}),
		"certificate":        failing(&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}),
		"TLS alert":          failing(&net.OpError{Op: "remote error", Err: tls.AlertError(40)}),
		"dial timeout":       failing(&net.OpError{Op: "dial", Net: "tcp", Err: timeoutError{}}),
		"handshake timeout":  failing(timeoutError{}),
		"attempt timeout":    hanging,
	}
	for name, step := range failures {
		for _, retries := range []int{0, 3} {
			t.Run(fmt.Sprintf("%s, %d retries", name, retries), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					const slots = 8
					sent := newTimeline()
					urls := hostURLs(300, "dead", "good")
					results := fetch.FetchAll(t.Context(), urls, fetch.WithMaxHostFailures(20), fetch.WithConcurrency(slots), fetch.WithTimeout(time.Second),
						fetch.WithRetries(retries), over(sent.over(func(req *http.Request) (*http.Response, error) {
							if req.URL.Host == "good" {
								return answerAfter(20 * time.Millisecond)(req)
							}
							return taking(10*time.Millisecond, step)(req)
						})))
					checkResults(t, urls, results)
					if n := len(sent.ofHost("dead")); n < 20 || n > 20+slots {
						t.Errorf("%d attempts, want at most 20 and what was in flight", n)
					}
					down := 0
					for _, r := range results {
						switch isDown := errors.Is(r.Err, fetch.ErrHostDown); {
						case strings.HasPrefix(r.URL, "http://good"):
							if !r.OK() {
								t.Errorf("%s: %v", r.URL, r.Err)
							}
						case isDown:
							down++
						case r.Attempts == 0 || r.Err == nil:
							t.Errorf("%s: %d attempts, %v", r.URL, r.Attempts, r.Err)
						}
					}
					if down < 300-20-slots {
						t.Errorf("%d of 300 are ErrHostDown", down)
					}
				})
			})
		}
	}
}

func TestAnyAnswerStartsTheCountOfFailuresAnew(t *testing.T) {
	for name, answer := range map[string]roundTripFunc{"200": atOnce, "404": always(404), "500": always(500), "cut body": cut("x")} {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int32
			urls := numbered("http://shaky", 200)
			results := fetch.FetchAll(t.Context(), urls, fetch.WithMaxHostFailures(20), fetch.WithConcurrency(1), over(func(req *http.Request) (*http.Response, error) {
				if n.Add(1)%20 == 0 {
					return answer(req)
				}
				return nil, errRefused
			}))
			checkResults(t, urls, results)
			if n.Load() != 200 {
				t.Errorf("%d of 200 were sent", n.Load())
			}
			if err := fetch.JoinErrors(results); errors.Is(err, fetch.ErrHostDown) {
				t.Error("the host was given up")
			}
		})
	}
}

// They tell that the host is there.
func TestFailuresAfterTheConnectDoNotMakeAHostDown(t *testing.T) {
	stuck := func(req *http.Request) (*http.Response, error) {
		resp := respond(req, 200, "")
		resp.Body, resp.ContentLength = stalled(req.Context(), "half"), 100
		return resp, nil
	}
	for name, step := range map[string]roundTripFunc{
		"timeout in the body": stuck, "cut bodies": cut("x"), "status 503": always(503), "malformed answers": failing(errors.New("malformed HTTP status")),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var flight inFlight
				urls := numbered("http://a.example", 50)
				results := fetch.FetchAll(t.Context(), urls, fetch.WithMaxHostFailures(5), fetch.WithConcurrency(5), fetch.WithTimeout(time.Second), over(flight.over(step)))
				checkResults(t, urls, results)
				if flight.total() != 50 {
					t.Errorf("%d of 50 were sent", flight.total())
				}
			})
		})
	}
}

func TestAHostIsGivenUpForWhatComesLaterToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight inFlight
		rt := flight.over(byHost(map[string]roundTripFunc{"dead": failing(errRefused), "door": always(302, "Location", "http://dead/")}))
		urls := append(numbered("http://dead", 50), "http://door/")
		results := collect(t, urls, fetch.Stream(t.Context(), slices.Values(urls), fetch.WithMaxHostFailures(5), fetch.WithLookahead(1), over(rt)))
		for i, r := range results {
			if want := i >= 5; errors.Is(r.Err, fetch.ErrHostDown) != want {
				t.Errorf("%s: %v", r.URL, r.Err)
			}
		}
		if r := results[50]; r.StatusCode != 302 || r.Attempts != 1 {
			t.Errorf("the redirect into it: %d attempts, %d", r.Attempts, r.StatusCode)
		}
		if flight.total() != 6 {
			t.Errorf("%d requests", flight.total())
		}
	})
}

// It is that batch that has given it up.
func TestAHostThatWasGivenUpIsTriedAgainByTheNextCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Bool
		f := newFetcher(t, fetch.WithMaxHostFailures(3), fetch.WithConcurrency(1), over(func(req *http.Request) (*http.Response, error) {
			if !up.Load() {
				return nil, errRefused
			}
			return respond(req, 200, "ok"), nil
		}))
		urls := numbered("http://a.example", 10)
		results := f.FetchAll(t.Context(), urls)
		checkResults(t, urls, results)
		if !errors.Is(results[9].Err, fetch.ErrHostDown) {
			t.Errorf("the last: %v", results[9].Err)
		}
		up.Store(true)
		mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
	})
}

func TestAnAttemptThatTimesOutIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := getOne(t, "http://a.example/", fetch.WithTimeout(time.Second), fetch.WithRetries(2), withoutBackOff, over(hanging))
		checkTook(t, "three attempts", time.Since(start), 3*time.Second)
		if r.Attempts != 3 || !errors.Is(r.Err, fetch.ErrTimeout) || !errors.Is(r.Err, context.DeadlineExceeded) {
			t.Errorf("%d attempts, %v", r.Attempts, r.Err)
		}
		for i, a := range r.History {
			if !errors.Is(a.Err, fetch.ErrTimeout) || a.Took != time.Second {
				t.Errorf("attempt %d: %+v", i+1, a)
			}
		}
	})
}

func TestTheCallersDeadlineIsNeverRetried(t *testing.T) {
	for _, of := range []string{"batch", "request"} {
		t.Run("of the "+of, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				bounded, cancel := context.WithTimeoutCause(t.Context(), 2500*time.Millisecond, errLeft)
				defer cancel()
				batch, request := bounded, t.Context()
				if of == "request" {
					batch, request = request, batch
				}
				req := newRequest(t, "GET", "http://a.example/", nil).WithContext(request)
				f := newFetcher(t, fetch.WithTimeout(time.Second), fetch.WithRetries(9), withoutBackOff, over(hanging),
					fetch.WithRetryIf(func(fetch.Result) bool { return true })) // even when RetryIf would go on
				start := time.Now()
				results := f.DoAll(batch, []*http.Request{req})
				checkTook(t, "two attempts and a half", time.Since(start), 2500*time.Millisecond)
				checkResults(t, []string{"http://a.example/"}, results)
				r := results[0]
				checkCancelled(t, bounded, r)
				if r.Attempts != 3 || !errors.Is(r.History[0].Err, fetch.ErrTimeout) || !errors.Is(r.History[1].Err, fetch.ErrTimeout) || errors.Is(r.History[2].Err, fetch.ErrTimeout) {
					t.Errorf("%d attempts, history %+v", r.Attempts, r.History)
				}
			})
		})
	}
}

func TestRetriesObeyEveryLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight inFlight
		var all, a startLog
		var permits atomic.Int32
		urls := hostURLs(50, "a.example", "b.example")
		rt := flaky(0.4, taking(200*time.Millisecond, failing(errReset)), answerAfter(200*time.Millisecond))
		results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(8), fetch.WithBackoff(10*time.Millisecond, 50*time.Millisecond),
			fetch.WithConcurrency(6), fetch.WithHostConcurrency(4), fetch.WithRate(40, 5), fetch.WithHostRate(25, 3),
			fetch.WithHostLimits(func(host string) fetch.HostLimits {
				if host == "b.example" {
					return fetch.HostLimits{Concurrency: 2}
				}
				return fetch.HostLimits{}
			}),
			fetch.WithLimiter(limiterFunc(func(context.Context) error {
				permits.Add(1)
				return nil
			})),
			over(flight.over(func(req *http.Request) (*http.Response, error) {
				all.add()
				if req.URL.Host == "a.example" {
					a.add()
				}
				return rt(req)
			})))
		mustAllBeFine(t, urls, results)
		attempts := 0
		for _, r := range results {
			attempts += r.Attempts
		}
		if n := flight.total(); n != attempts || n < 130 || int(permits.Load()) < n || int(permits.Load()) > n+1 {
			t.Errorf("%d requests, %d attempts, %d permits", n, attempts, permits.Load())
		}
		all.check(t, 40, 5)
		a.check(t, 25, 3)
		if flight.most() != 6 || flight.mostOf("a.example") > 4 || flight.mostOf("b.example") > 2 {
			t.Errorf("in flight at once: %d, to the hosts %d and %d", flight.most(), flight.mostOf("a.example"), flight.mostOf("b.example"))
		}
	})
}

func TestACutBodyIsFetchedFromTheStart(t *testing.T) {
	const whole = "0123456789"
	var requests atomic.Int32
	url := listen(t, func(conn net.Conn, head string) {
		n := requests.Add(1)
		if strings.Contains(head, "Range:") {
			t.Errorf("a part was asked for: %q", head)
		}
		if n < 3 {
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(whole), whole[:3*n])
			return
		}
		io.WriteString(conn, withLength(whole))
	})
	r := getOne(t, url, fetch.WithRetries(4), fetch.WithBackoff(0, time.Millisecond))
	if !r.OK() || string(r.Body) != whole || r.Attempts != 3 {
		t.Errorf("%d attempts, %q, %v", r.Attempts, r.Body, r.Err)
	}
	for _, a := range r.History[:2] {
		if a.StatusCode != 200 || !errors.Is(a.Err, fetch.ErrTruncated) {
			t.Errorf("history has %+v", a)
		}
	}
}

func TestAnAttemptStartsFromTheOriginalURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent recorder
		broken := inTurn(always(502), failing(errReset), atOnce)
		r := getOne(t, "http://a.example/start", fetch.WithRetries(3), withoutBackOff, over(sent.over(func(req *http.Request) (*http.Response, error) {
			switch req.URL.Path {
			case "/start":
				return always(302, "Location", "/middle")(req)
			case "/middle":
				return always(307, "Location", "http://b.example/end")(req)
			}
			return broken(req)
		})))
		var urls []string
		for _, s := range sent.take() {
			urls = append(urls, s.url)
		}
		chain := []string{"http://a.example/start", "http://a.example/middle", "http://b.example/end"}
		if want := slices.Concat(chain, chain, chain); !slices.Equal(urls, want) {
			t.Errorf("sent %v", urls)
		}
		if !r.OK() || r.Attempts != 3 || r.Redirects != 2 || r.FinalURL != "http://b.example/end" {
			t.Errorf("%d attempts, %d redirects, %q, %v", r.Attempts, r.Redirects, r.FinalURL, r.Err)
		}
	})
}

// What a redirect to another origin has dropped is there again.
func TestAnAttemptHasAllItsHeadersAgain(t *testing.T) {
	var sent recorder
	broken := inTurn(always(502), atOnce)
	transport := sent.over(func(req *http.Request) (*http.Response, error) {
		if req.URL.Host == "a.example" {
			return always(302, "Location", "http://b.example/")(req)
		}
		return broken(req)
	})
	var vias []int
	client := newClient(transport)
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		vias = append(vias, len(via))
		return nil
	}
	r := getOne(t, "http://a.example/", fetch.WithClient(client), fetch.WithRetries(1), withoutBackOff, fetch.WithHeader("X-Api-Key", "k"),
		fetch.WithRequestFunc(func(req *http.Request) error {
			req.Header.Set("Signature", "s")
			return nil
		}))
	if !r.OK() || r.Attempts != 2 {
		t.Fatalf("%d attempts, %v", r.Attempts, r.Err)
	}
	for i, s := range sent.take() {
		if here := i%2 == 0; here != (s.header.Get("X-Api-Key") == "k") || here != (s.header.Get("Signature") == "s") {
			t.Errorf("request %d: %v", i, s)
		}
	}
	if !slices.Equal(vias, []int{1, 1}) {
		t.Errorf("CheckRedirect was given %v requests", vias)
	}
}

// The timeout is that of an attempt, with its redirects, and each has it whole.
func TestEachAttemptHasTheWholeTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		end := inTurn(hanging, answerAfter(300*time.Millisecond))
		r := getOne(t, "http://a.example/start", fetch.WithRetries(1), withoutBackOff, fetch.WithTimeout(time.Second), over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Path == "/start" {
				return taking(600*time.Millisecond, always(302, "Location", "/end"))(req)
			}
			return end(req)
		}))
		if !r.OK() || r.Attempts != 2 {
			t.Errorf("%d attempts, %v", r.Attempts, r.Err)
		}
		checkTook(t, "both", time.Since(start), 1900*time.Millisecond)
	})
}

// What is wrong with these, another attempt would meet again.
func TestErrorsThatStayAreTriedOnce(t *testing.T) {
	hello := func(w http.ResponseWriter, req *http.Request) { io.WriteString(w, strings.Repeat("hello", 1000)) }
	plain, _ := newServer(t, hello)
	secure := httptest.NewUnstartedServer(http.HandlerFunc(hello))
	secure.Config.ErrorLog = log.New(io.Discard, "", 0) // of the handshakes that fail
	secure.StartTLS()
	t.Cleanup(secure.Close)
	circle, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) { http.Redirect(w, req, "/", http.StatusFound) })
	greatHead := listen(t, func(conn net.Conn, _ string) {
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nX-Much: %s\r\n\r\n", strings.Repeat("x", 2<<20))
	})
	noHTTP := listen(t, func(conn net.Conn, _ string) { io.WriteString(conn, "SSH-2.0-OpenSSH_9.6\r\n\r\n") })
	broken := errors.New("broken")

	for name, c := range map[string]struct {
		url      string
		opt      fetch.Option
		is       error
		attempts int
	}{
		"certificate":     {secure.URL, fetch.WithMaxRedirects(1), nil, 1},
		"bad URL":         {"http://a b/", fetch.WithMaxRedirects(1), fetch.ErrInvalidURL, 0},
		"bad scheme":      {"gopher://a.example/", fetch.WithMaxRedirects(1), fetch.ErrInvalidURL, 0},
		"blocked address": {plain.URL, fetch.WithPublicOnly(), fetch.ErrBlocked, 1},
		"body too large":  {plain.URL, fetch.WithMaxBody(100), fetch.ErrBodyTooLarge, 1},
		"redirects":       {circle.URL, fetch.WithMaxRedirects(3), fetch.ErrRedirect, 1},
		"header too long": {greatHead, fetch.WithMaxRedirects(1), fetch.ErrProtocol, 1},
		"no HTTP at all":  {noHTTP, fetch.WithMaxRedirects(1), fetch.ErrProtocol, 1},
		"RequestFunc":     {plain.URL, fetch.WithRequestFunc(func(*http.Request) error { return broken }), broken, 1},
		"BodyFunc":        {plain.URL, fetch.WithBodyFunc(func(context.Context, fetch.Result, io.Reader) error { return broken }), broken, 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := getOne(t, c.url, c.opt, fetch.WithRetries(5), withoutBackOff)
			if r.Attempts != c.attempts || r.Err == nil || c.is != nil && !errors.Is(r.Err, c.is) {
				t.Errorf("%d attempts, want %d; error %v", r.Attempts, c.attempts, r.Err)
			}
			if _, ok := errors.AsType[*tls.CertificateVerificationError](r.Err); name == "certificate" && !ok {
				t.Errorf("error %v", r.Err)
			}
		})
	}
}

// RetryIf sees them and cannot change it.
func TestRetryIfCannotHaveBlockedAddressesAndBadURLsTriedAgain(t *testing.T) {
	server, conns := newServer(t, func(http.ResponseWriter, *http.Request) {})
	for rawURL, is := range map[string]error{server.URL: fetch.ErrBlocked, "http://a b/": fetch.ErrInvalidURL} {
		r := getOne(t, rawURL, fetch.WithPublicOnly(), fetch.WithRetries(5), withoutBackOff, fetch.WithRetryIf(func(fetch.Result) bool { return true }))
		if r.Attempts > 1 || !errors.Is(r.Err, is) {
			t.Errorf("%s: %d attempts, %v", rawURL, r.Attempts, r.Err)
		}
	}
	if _, _, total := conns.counts(); total != 0 {
		t.Errorf("%d connections were made", total)
	}
}

func TestRetryIfSeesTheFinishedAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var seen []fetch.Result
		r := getOne(t, "http://a.example/", fetch.WithRetries(4), withoutBackOff,
			fetch.WithRetryIf(func(r fetch.Result) bool {
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, r)
				return string(r.Body) != "done"
			}),
			over(inTurn(always(200, "X-State", "pending"), failing(errReset), cut("half"), func(req *http.Request) (*http.Response, error) {
				return respond(req, 200, "done"), nil
			})))
		if r.Attempts != 4 || string(r.Body) != "done" || len(seen) != 4 {
			t.Fatalf("%d attempts, %q, RetryIf was asked %d times", r.Attempts, r.Body, len(seen))
		}
		for i, s := range seen {
			if s.Attempts != i+1 || s.URL != "http://a.example/" {
				t.Errorf("asked after attempt %d: %+v", i+1, s)
			}
		}
		if s := seen[0]; s.StatusCode != 200 || string(s.Body) != "body of 200" || s.Header.Get("X-State") != "pending" || s.Err != nil {
			t.Errorf("the first: %+v", s)
		}
		if s := seen[1]; s.StatusCode != 0 || !errors.Is(s.Err, syscall.ECONNRESET) {
			t.Errorf("the second: %+v", s)
		}
		if s := seen[2]; s.StatusCode != 200 || !errors.Is(s.Err, fetch.ErrTruncated) || s.Body != nil {
			t.Errorf("the third: %+v", s)
		}
	})
}

func TestRetryIfReplacesThePolicy(t *testing.T) {
	for name, c := range map[string]struct {
		step  roundTripFunc
		retry bool
	}{
		"a 404 is retried":               {always(404), true},
		"a certificate error is retried": {failing(&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}), true},
		"a body too large is retried": {func(req *http.Request) (*http.Response, error) {
			return respond(req, 200, strings.Repeat("x", 2000)), nil
		}, true},
		"a redirect to nowhere is retried":   {always(302, "Location", "ftp://a.example/"), true},
		"a 503 is not":                       {always(503), false},
		"a 503 with Retry-After is not":      {always(503, "Retry-After", "1"), false},
		"a 429 is not":                       {always(429), false},
		"a connection error is not":          {failing(errRefused), false},
		"an attempt that timed out is not":   {hanging, false},
		"a POST that was answered is, too":   {always(500), true},
		"a body that was cut is not":         {cut("x"), false},
		"an answer that is quite right, too": {always(200), true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				req := newRequest(t, "GET", "http://a.example/", nil)
				if strings.Contains(name, "POST") {
					req = newRequest(t, "POST", "http://a.example/", strings.NewReader("payload"))
				}
				var flight inFlight
				var asked atomic.Int32
				r := sendOne(t, req, fetch.WithRetries(2), fetch.WithMaxBody(1000), fetch.WithTimeout(time.Second), over(flight.over(c.step)),
					fetch.WithRetryIf(func(fetch.Result) bool {
						asked.Add(1)
						return c.retry
					}))
				want := 1
				if c.retry {
					want = 3 // it cannot have more
				}
				if r.Attempts != want || flight.total() != want || asked.Load() == 0 || int(asked.Load()) > want {
					t.Errorf("%d attempts, %d requests, want %d; asked %d times", r.Attempts, flight.total(), want, asked.Load())
				}
			})
		})
	}
}

func TestRetryIfIsNotAskedWithoutRetries(t *testing.T) {
	for _, step := range []roundTripFunc{always(503), failing(errReset), always(200)} {
		r := getOne(t, "http://a.example/", over(step), fetch.WithRetryIf(func(fetch.Result) bool {
			t.Error("RetryIf was asked")
			return true
		}))
		if r.Attempts != 1 {
			t.Errorf("%d attempts", r.Attempts)
		}
	}
}

func TestRetryIfCannotOverrideTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight inFlight
		urls := numbered("http://dead", 1000)
		checkResults(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithRetries(5), over(flight.over(failing(errRefused))),
			fetch.WithRetryIf(func(fetch.Result) bool { return true })))
		if n := flight.total(); n > 1210 {
			t.Errorf("%d attempts for 1,000 URLs", n)
		}
	})
}

func TestRetryIfCannotOverrideADoneContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		var flight inFlight
		urls := []string{"http://a.example/"}
		results := fetch.FetchAll(ctx, urls, fetch.WithRetries(5), withoutBackOff, fetch.WithRetryIf(func(fetch.Result) bool { return true }),
			over(flight.over(func(req *http.Request) (*http.Response, error) {
				cancel(errLeft)
				return nil, errReset
			})))
		checkResults(t, urls, results)
		checkCancelled(t, ctx, results[0])
		if flight.total() != 1 {
			t.Errorf("%d requests", flight.total())
		}
	})
}

func TestARetryIfThatPanicsComesOutAtTheCaller(t *testing.T) {
	for name, step := range map[string]roundTripFunc{"answer": always(503), "error": failing(errReset)} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var flight inFlight
				f := newFetcher(t, fetch.WithRetries(2), fetch.WithTimeout(0), fetch.WithRetryIf(func(r fetch.Result) bool {
					if strings.Contains(r.URL, "bomb") {
						time.Sleep(time.Second) // the others are in flight then
						detonate()
					}
					return false
				}), over(flight.over(func(req *http.Request) (*http.Response, error) {
					switch req.URL.Host {
					case "bomb":
						return step(req)
					case "calm":
						return respond(req, 200, "ok"), nil
					}
					return answerAfter(time.Hour)(req)
				})))
				start := time.Now()
				value, _ := recovered(func() { f.FetchAll(t.Context(), bombURLs) })
				checkTook(t, "the batch", time.Since(start), time.Second)
				if text := fmt.Sprint(value); !strings.Contains(text, "boom") || !strings.Contains(text, "detonate") {
					t.Errorf("recovered %.200q", text)
				}
				if flight.current() != 0 {
					t.Errorf("%d requests still run", flight.current())
				}
				urls := []string{"http://calm/"}
				mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
			})
		})
	}
}

func TestARetryIfThatExitsEndsItsURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		urls := hostURLs(3, "exits", "good")
		results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(2), withoutBackOff, over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "good" {
				return respond(req, 200, "ok"), nil
			}
			return respond(req, 503, "sorry"), nil
		}), fetch.WithRetryIf(func(r fetch.Result) bool {
			if r.StatusCode == 503 {
				runtime.Goexit()
			}
			return false
		}))
		checkResults(t, urls, results)
		for _, r := range results {
			if good := strings.HasPrefix(r.URL, "http://good"); good != (r.Err == nil) {
				t.Errorf("%s: %v", r.URL, r.Err)
			}
		}
	})
}

func TestBodyFuncGetsOnlyTheBodyThatTheURLEndsWith(t *testing.T) {
	for name, opts := range map[string][]fetch.Option{
		"by default":  nil,
		"WithRetryIf": {fetch.WithRetryIf(func(r fetch.Result) bool { return r.Err != nil || r.StatusCode >= 500 || r.StatusCode == 429 })},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				got := map[string][]string{}
				urls := []string{"http://a.example/mended", "http://b.example/never", "http://c.example/cut"}
				rt := map[string]roundTripFunc{
					"/mended": inTurn(always(500), always(429, "Retry-After", "1"), always(503), atOnce),
					"/never":  always(503),
					"/cut":    inTurn(cut("first "), cut("second "), atOnce),
				}
				results := fetch.FetchAll(t.Context(), urls, append(opts, fetch.WithRetries(3),
					over(func(req *http.Request) (*http.Response, error) { return rt[req.URL.Path](req) }),
					fetch.WithBodyFunc(func(_ context.Context, r fetch.Result, body io.Reader) error {
						text, _ := io.ReadAll(body)
						mu.Lock()
						defer mu.Unlock()
						got[r.URL] = append(got[r.URL], fmt.Sprintf("%d %s", r.StatusCode, text))
						return nil // of a read that failed the library must know by itself
					}))...)
				mustAllBeFine(t, urls, results)
				// A cut body was begun before it was known to be cut, and comes again from byte 0.
				for i, want := range [][]string{{"200 ok"}, {"503 body of 503"}, {"200 first ", "200 second ", "200 ok"}} {
					if !slices.Equal(got[urls[i]], want) {
						t.Errorf("%s: BodyFunc got %q, want %q", urls[i], got[urls[i]], want)
					}
				}
				if n := []int{results[0].Attempts, results[1].Attempts, results[2].Attempts}; !slices.Equal(n, []int{4, 4, 3}) {
					t.Errorf("attempts %v", n)
				}
			})
		})
	}
}

func TestStatusErrorsAreRetriedAsStatusesAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []error
		r := getOne(t, "http://a.example/", fetch.WithRetries(3), fetch.WithStatusErrors(), over(inTurn(always(500), always(503), atOnce)))
		if !r.OK() || r.Attempts != 3 || r.History[0].StatusCode != 500 {
			t.Errorf("%d attempts, %v", r.Attempts, r.Err)
		}
		r = getOne(t, "http://a.example/", fetch.WithRetries(3), fetch.WithStatusErrors(), over(inTurn(always(500), always(404))),
			fetch.WithRetryIf(func(r fetch.Result) bool {
				seen = append(seen, r.Err)
				return r.StatusCode == 500
			}))
		if refused, _ := errors.AsType[*fetch.StatusError](r.Err); refused == nil || refused.StatusCode != 404 || r.Attempts != 2 || string(r.Body) != "body of 404" {
			t.Errorf("%d attempts, %q, %v", r.Attempts, r.Body, r.Err)
		}
		if refused, _ := errors.AsType[*fetch.StatusError](seen[0]); len(seen) != 2 || refused == nil || refused.StatusCode != 500 {
			t.Errorf("RetryIf saw %v", seen)
		}
	})
}

func TestACancelEndsABackOffAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(5*time.Second, func() { cancel(errLeft) })
		// The last refused URL waits for its back-off, the other for the pause of its host.
		urls := []string{"http://a.example/", "http://b.example/"}
		steps := inTurn(taking(time.Second, failing(errReset)), taking(time.Second, always(429, "Retry-After", "1")), taking(time.Second, always(429, "Retry-After", "50")))
		start := time.Now()
		results := fetch.FetchAll(ctx, urls, fetch.WithRetries(9), fetch.WithBackoff(1e6*time.Hour, 1e6*time.Hour), over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "a.example" {
				return taking(time.Second, always(500))(req)
			}
			return steps(req)
		}))
		checkTook(t, "the batch", time.Since(start), 5*time.Second)
		checkResults(t, urls, results)
		for _, r := range results {
			checkCancelled(t, ctx, r)
			checkTook(t, r.URL, r.Waited+r.Took, 5*time.Second)
		}
		if r := results[0]; r.Attempts != 1 || r.StatusCode != 500 || r.Took != time.Second {
			t.Errorf("in back-off: %d attempts, %d, took %v", r.Attempts, r.StatusCode, r.Took)
		}
	})
}

func TestACancelKeepsTheHistory(t *testing.T) {
	for name, last := range map[string]roundTripFunc{
		"in a pause":    taking(time.Second, always(429, "Retry-After", "50")),
		"in an attempt": hanging,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				time.AfterFunc(10*time.Second, cancel)
				urls := []string{"http://a.example/"}
				results := fetch.FetchAll(ctx, urls, fetch.WithRetries(9), withoutBackOff,
					over(inTurn(taking(time.Second, failing(errReset)), taking(time.Second, always(500)), last)))
				checkResults(t, urls, results)
				r := results[0]
				checkCancelled(t, ctx, r)
				checkTook(t, "all", r.Waited+r.Took, 10*time.Second)
				if r.Attempts != 3 || !errors.Is(r.History[0].Err, syscall.ECONNRESET) || r.History[1].StatusCode != 500 {
					t.Fatalf("%d attempts, history %+v", r.Attempts, r.History)
				}
				h, status := r.History[2], 429
				if name == "in an attempt" {
					status = 0
					if !errors.Is(h.Err, context.Canceled) {
						t.Errorf("the attempt that was cut off: %+v", h)
					}
				}
				if h.StatusCode != status || r.StatusCode != status || h.RetryAfter != 50*time.Second*time.Duration(status/429) {
					t.Errorf("status %d, the last attempt %+v", r.StatusCode, h)
				}
			})
		})
	}
}

func TestTheEndOfARequestsOwnContextEndsItsBackOffOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(2*time.Second, func() { cancel(errLeft) })
		reqs := []*http.Request{
			newRequest(t, "GET", "http://a.example/0", nil).WithContext(ctx),
			newRequest(t, "GET", "http://a.example/1", nil),
		}
		urls := numbered("http://a.example", 2)
		results := newFetcher(t, fetch.WithRetries(1), over(taking(time.Millisecond, inTurn(always(429, "Retry-After", "5"), atOnce)))).DoAll(t.Context(), reqs)
		checkResults(t, urls, results)
		checkCancelled(t, ctx, results[0])
		checkTook(t, "the cancelled one", results[0].Waited+results[0].Took, 2*time.Second)
		if r := results[1]; !r.OK() || r.Waited < 5*time.Second || r.Waited > 6*time.Second {
			t.Errorf("the other: waited %v, %v", r.Waited, r.Err)
		}
	})
}

func TestLeavingTheLoopEndsBackOffs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		urls := slices.Concat(numbered("http://dead", 5), []string{"http://good/"})
		start := time.Now()
		for r := range fetch.Stream(t.Context(), slices.Values(urls), fetch.WithRetries(1), fetch.WithBackoff(1e6*time.Hour, 1e6*time.Hour), over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "good" {
				return answerAfter(time.Second)(req)
			}
			return nil, errRefused
		})) {
			checkResult(t, 5, "http://good/", r)
			break
		}
		checkTook(t, "the loop", time.Since(start), time.Second)
	})
}

func TestRetriesInStreamsAndDoAll(t *testing.T) {
	rt := func() roundTripFunc { return varied(flaky(0.25, always(500), atOnce)) }
	urls := hostURLs(100, "a.example", "b.example")
	requests := func() []*http.Request {
		var reqs []*http.Request
		for _, rawURL := range urls {
			reqs = append(reqs, newRequest(t, "PUT", rawURL, strings.NewReader("payload")))
		}
		return reqs
	}
	for name, run := range map[string]func(ctx context.Context, f *fetch.Fetcher) []fetch.Result{
		"FetchAll": func(ctx context.Context, f *fetch.Fetcher) []fetch.Result { return f.FetchAll(ctx, urls) },
		"Stream": func(ctx context.Context, f *fetch.Fetcher) []fetch.Result {
			return collect(t, urls, f.Stream(ctx, slices.Values(urls)))
		},
		"DoAll": func(ctx context.Context, f *fetch.Fetcher) []fetch.Result { return f.DoAll(ctx, requests()) },
		"DoStream": func(ctx context.Context, f *fetch.Fetcher) []fetch.Result {
			return collect(t, urls, f.DoStream(ctx, slices.Values(requests())))
		},
	} {
		for order, opts := range map[string][]fetch.Option{
			"as they come": nil, "one by one": {fetch.WithLookahead(1), fetch.WithConcurrency(1)}, "in order": {fetch.WithInOrder()},
		} {
			t.Run(name+" "+order, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFetcher(t, append(opts, fetch.WithRetries(9), over(rt()))...)
					results := run(t.Context(), f)
					if order == "in order" && !slices.IsSorted(indices(results)) {
						t.Error("not in order")
					}
					slices.SortFunc(results, func(a, b fetch.Result) int { return cmp.Compare(a.Index, b.Index) })
					mustAllBeFine(t, urls, results)
					retried := 0
					for _, r := range results {
						if r.Attempts > 1 {
							retried++
						}
						if !r.OK() {
							t.Errorf("%s: %d after %d attempts", r.URL, r.StatusCode, r.Attempts)
						}
					}
					if retried < 20 {
						t.Errorf("only %d were retried", retried)
					}
				})
			})
		}
	}
}

func TestEqualURLsAreRetriedTogether(t *testing.T) {
	urls := []string{"http://a.example/", "http://b.example/", "http://A.EXAMPLE/", "http://a.example/#end"}
	for name, run := range map[string]func(ctx context.Context, f *fetch.Fetcher) []fetch.Result{
		"FetchAll": func(ctx context.Context, f *fetch.Fetcher) []fetch.Result { return f.FetchAll(ctx, urls) },
		"Stream": func(ctx context.Context, f *fetch.Fetcher) []fetch.Result {
			results := collect(t, urls, f.Stream(ctx, slices.Values(urls)))
			slices.SortFunc(results, func(a, b fetch.Result) int { return cmp.Compare(a.Index, b.Index) })
			return results
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var flight inFlight
				f := newFetcher(t, fetch.WithDedup(), fetch.WithRetries(3), over(flight.over(inTurn(always(500), always(429, "Retry-After", "1"), atOnce))))
				results := run(t.Context(), f)
				mustAllBeFine(t, urls, results)
				for _, r := range results {
					if !r.OK() || r.Attempts != 3 || len(r.History) != 3 {
						t.Errorf("%s: %d attempts, %v", r.URL, r.Attempts, r.Err)
					}
				}
				if flight.total() != 6 {
					t.Errorf("%d requests, want 3 for each of two URLs", flight.total())
				}
			})
		})
	}
}

func TestEachAttemptIsSignedAnew(t *testing.T) {
	var sent recorder
	var n atomic.Int32
	r := getOne(t, "http://a.example/", fetch.WithRetries(2), withoutBackOff, over(sent.over(inTurn(always(500), always(500), atOnce))),
		fetch.WithRequestFunc(func(req *http.Request) error {
			if got := req.Header.Get("Signature"); got != "" {
				t.Errorf("the request of attempt %d has the signature %s already", n.Load()+1, got)
			}
			req.Header.Set("Signature", fmt.Sprint(n.Add(1)))
			return nil
		}))
	if r.Attempts != 3 {
		t.Errorf("%d attempts", r.Attempts)
	}
	for i, s := range sent.take() {
		if got := s.header.Get("Signature"); got != fmt.Sprint(i+1) {
			t.Errorf("attempt %d was signed %s", i+1, got)
		}
	}
}

// Discarded bodies are closed before the next attempt starts.
func TestEveryDiscardedBodyIsClosedBeforeTheNextAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight inFlight
		urls := numbered("http://a.example", 5)
		results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(4), fetch.WithConcurrency(1), withoutBackOff,
			over(flight.over(inTurn(always(500), cut("half"), always(429, "Retry-After", "1"), answerAfter(time.Millisecond)))))
		mustAllBeFine(t, urls, results)
		// A request counts as in flight until its body is closed.
		if flight.most() != 1 || flight.current() != 0 {
			t.Errorf("%d bodies were open at once, %d are left", flight.most(), flight.current())
		}
	})
}

func TestAnErrorPageWithoutEndDoesNotHoldTheRetryUp(t *testing.T) {
	chatter := func(pause time.Duration, chunk string) func(w http.ResponseWriter, req *http.Request) {
		return func(w http.ResponseWriter, req *http.Request) {
			for req.Context().Err() == nil {
				if _, err := io.WriteString(w, chunk); err != nil {
					return
				}
				w.(http.Flusher).Flush()
				if sleepCtx(req.Context(), pause) != nil {
					return
				}
			}
		}
	}
	for name, page := range map[string]func(w http.ResponseWriter, req *http.Request){
		"it comes fast":         chatter(0, strings.Repeat("x", 10_000)),
		"it comes byte by byte": chatter(10*time.Millisecond, "x"),
		"it comes to a stop":    chatter(time.Hour, "sorry"),
	} {
		for _, status := range []int{503, 429} {
			t.Run(fmt.Sprint(name, ", ", status), func(t *testing.T) {
				var n atomic.Int32
				server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) {
					if n.Add(1) > 2 {
						io.WriteString(w, "ok")
						return
					}
					w.WriteHeader(status)
					page(w, req)
				})
				start := time.Now()
				r := getOne(t, server.URL, fetch.WithRetries(2), fetch.WithBackoff(time.Millisecond, time.Millisecond))
				if took := time.Since(start); took > 2*time.Second {
					t.Errorf("took %v", took)
				}
				if !r.OK() || string(r.Body) != "ok" || r.Attempts != 3 {
					t.Errorf("%d attempts, %q, %v", r.Attempts, r.Body, r.Err)
				}
			})
		}
	}
}

func TestAShortErrorPageCostsNoConnection(t *testing.T) {
	for name, size := range map[string]int{"empty": 0, "short": 100, "60 KiB": 60 << 10} {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int32
			server, conns := newServer(t, func(w http.ResponseWriter, req *http.Request) {
				switch n := n.Add(1); n % 4 {
				case 0:
					io.WriteString(w, "ok")
				case 1: // with its length
					w.Header().Set("Content-Length", fmt.Sprint(size))
					fallthrough
				default:
					w.WriteHeader([]int{500, 503, 429}[n%3])
					io.WriteString(w, strings.Repeat("x", size))
				}
			})
			urls := numbered(server.URL, 5)
			results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(20), fetch.WithConcurrency(1), fetch.WithBackoff(0, time.Millisecond))
			mustAllBeFine(t, urls, results)
			if _, _, total := conns.counts(); total != 1 || n.Load() != 20 {
				t.Errorf("%d connections for %d requests, want 1 for 20", total, n.Load())
			}
		})
	}
}

func TestADialThatFailsIsRetriedForAnyMethod(t *testing.T) {
	server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) { io.Copy(w, req.Body) })
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close() // nobody listens there now
	var dials atomic.Int32
	transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		if dials.Add(1) < 3 {
			addr = gone.Addr().String()
		}
		return new(net.Dialer).DialContext(ctx, network, addr)
	}}
	defer transport.CloseIdleConnections()
	r := sendOne(t, newRequest(t, "POST", server.URL, strings.NewReader("payload")), fetch.WithClient(newClient(transport)),
		fetch.WithRetries(4), fetch.WithBackoff(0, time.Millisecond))
	if !r.OK() || r.Attempts != 3 || string(r.Body) != "payload" {
		t.Errorf("%d attempts, %q, %v", r.Attempts, r.Body, r.Err)
	}
	if op, ok := errors.AsType[*net.OpError](r.History[0].Err); !ok || op.Op != "dial" {
		t.Errorf("the first attempt: %v", r.History[0].Err)
	}
}

func TestAConnectionThatDiesIsRetriedForIdempotentRequestsOnly(t *testing.T) {
	for name, end := range map[string]func(net.Conn){
		"closed": func(net.Conn) {},
		"reset":  reset,
	} {
		for method, want := range map[string]int{"GET": 2, "PUT": 2, "POST": 1} {
			t.Run(name+" "+method, func(t *testing.T) {
				var n atomic.Int32
				url := listen(t, func(conn net.Conn, _ string) {
					if n.Add(1) == 1 {
						end(conn)
						return
					}
					io.WriteString(conn, withLength("ok"))
				})
				var body io.Reader
				if method != "GET" {
					body = strings.NewReader("payload")
				}
				r := sendOne(t, newRequest(t, method, url, body), fetch.WithRetries(3), fetch.WithBackoff(0, time.Millisecond))
				if r.Attempts != want || r.OK() != (want == 2) || int(n.Load()) != want {
					t.Errorf("%d attempts, %d requests, want %d; %v", r.Attempts, n.Load(), want, r.Err)
				}
			})
		}
	}
}

func TestAnHTTP2StreamThatIsResetIsRetried(t *testing.T) {
	var n atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch n.Add(1) {
		case 1:
			panic(http.ErrAbortHandler) // a reset before the head
		case 2:
			io.WriteString(w, "the first half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		io.WriteString(w, "ok")
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	r := getOne(t, server.URL, fetch.WithClient(server.Client()), fetch.WithRetries(4), fetch.WithBackoff(0, time.Millisecond))
	if !r.OK() || string(r.Body) != "ok" || r.Proto != "HTTP/2.0" || r.Attempts != 3 {
		t.Errorf("%d attempts, %s, %q, %v", r.Attempts, r.Proto, r.Body, r.Err)
	}
	n.Store(0)
	r = sendOne(t, newRequest(t, "POST", server.URL, strings.NewReader("payload")), fetch.WithClient(server.Client()), fetch.WithRetries(4))
	if r.Attempts != 1 || r.Err == nil || n.Load() != 1 {
		t.Errorf("the POST: %d attempts, %d requests, %v", r.Attempts, n.Load(), r.Err)
	}
}
