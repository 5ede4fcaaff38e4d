package panics_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
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
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// Code of the caller's can harm a batch wherever it runs: a panic must come out at the
// caller, with the stack of where it happened, after all of the batch has stopped;
// runtime.Goexit, which t.FailNow calls, is the error of one URL. Other batches of
// the Fetcher go on, no slot is lost, and every body is closed. panics_test.go and
// exits_test.go have the basics, this file has every place and every way.

var errBoom = errors.New("boom")

// A blast is a way for others' code not to return.
type blast struct {
	blow func()
	is   func(error) bool // whether an error is what came out of blow; nil for Goexit
}

func (b blast) isPanic() bool { return b.is != nil }

// The functions have names to look for in a stack.
func blowError() { panic(errBoom) }
func blowNil()   { panic(nil) }
func blowAbort() { panic(http.ErrAbortHandler) }

var blasts = map[string]blast{
	"panic(error)": {blowError, func(err error) bool { return errors.Is(err, errBoom) }},
	"panic(nil)": {blowNil, func(err error) bool {
		_, ok := errors.AsType[*runtime.PanicNilError](err)
		return ok
	}},
	"panic(ErrAbortHandler)": {blowAbort, func(err error) bool { return errors.Is(err, http.ErrAbortHandler) }},
	"Goexit":                 {blow: runtime.Goexit},
}

// checkOut checks what has come out of a call during which the blast happened.
func (b blast) checkOut(t testing.TB, value any, ended bool) {
	t.Helper()
	if !b.isPanic() {
		if value != nil || !ended {
			t.Errorf("Goexit came out: %.200q", fmt.Sprint(value))
		}
		return
	}
	err, ok := value.(error)
	if !ok || !b.is(err) {
		t.Errorf("panicked with %.200q", fmt.Sprint(value))
	} else if !strings.Contains(err.Error(), "panics_test.blow") {
		t.Errorf("no stack of where it happened: %.2000s", err)
	}
}

// calls are the ways to run a batch.
var calls = map[string]func(f *fetch.Fetcher, ctx context.Context, reqs []*http.Request) []fetch.Result{
	"FetchAll": func(f *fetch.Fetcher, ctx context.Context, reqs []*http.Request) []fetch.Result {
		return f.FetchAll(ctx, urlsOf(reqs))
	},
	"Stream": func(f *fetch.Fetcher, ctx context.Context, reqs []*http.Request) []fetch.Result {
		return inOrder(f.Stream(ctx, slices.Values(urlsOf(reqs))))
	},
	"DoAll": (*fetch.Fetcher).DoAll,
	"DoStream": func(f *fetch.Fetcher, ctx context.Context, reqs []*http.Request) []fetch.Result {
		return inOrder(f.DoStream(ctx, func(yield func(*http.Request) bool) {
			for _, req := range reqs {
				if body, ok := req.Body.(*bombBody); ok {
					body.given.Store(true)
				}
				if !yield(req) {
					return
				}
			}
		}))
	},
}

func takesRequests(call string) bool { return strings.HasPrefix(call, "Do") }

func urlsOf(reqs []*http.Request) []string {
	urls := make([]string, len(reqs))
	for i, req := range reqs {
		urls[i] = req.URL.String()
	}
	return urls
}

func inOrder(stream iter.Seq[fetch.Result]) []fetch.Result {
	results := []fetch.Result{}
	for r := range stream {
		results = append(results, r)
	}
	slices.SortFunc(results, func(a, b fetch.Result) int { return a.Index - b.Index })
	return results
}

// A place is where others' code runs. The options make it blow up for the URL with the
// path /bomb, and use calm for the rest.
type place struct {
	options func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option
	request func(t testing.TB, explode func()) *http.Request // nil: a GET
	anyURL  bool                                             // it is not the code of one URL
}

// bombed is a transport that answers /bomb itself.
func bombed(calm, answer fetchtest.RoundTripFunc) fetchtest.RoundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		if req.URL.Path == "/bomb" {
			return answer(req)
		}
		return calm(req)
	}
}

// alwaysAnswering is a transport that gives the same answer to each request.
func alwaysAnswering(status int, header ...string) fetchtest.RoundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		return fetchtest.Respond(req, status, "body", header...), nil
	}
}

// readingHere is a transport that reads the body where it runs, which is a worker; readingElsewhere
// one that does it on a goroutine of its own, as net/http does. Both close it.
func readingHere(req *http.Request) (*http.Response, error) {
	defer req.Body.Close()
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return nil, err
	}
	return fetchtest.Respond(req, 200, "ok"), nil
}

func readingElsewhere(req *http.Request) (resp *http.Response, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		resp, err = readingHere(req)
	}()
	<-done
	return resp, err
}

// A bombBody is a body of a request that blows up. It knows whether a stream has read its request.
type bombBody struct {
	io.Reader
	onRead, onClose func() // or nil
	given, closed   atomic.Bool
}

func (b *bombBody) Read(p []byte) (int, error) {
	if b.onRead != nil {
		b.onRead()
	}
	return b.Reader.Read(p)
}

func (b *bombBody) Close() error {
	b.closed.Store(true)
	if b.onClose != nil {
		b.onClose()
	}
	return nil
}

func newBombBody(onRead, onClose func()) *bombBody {
	return &bombBody{Reader: strings.NewReader("the data of a request"), onRead: onRead, onClose: onClose}
}

// posting is a request with a body, which may be retried if getBody is given.
func posting(t testing.TB, body io.ReadCloser, getBody func() (io.ReadCloser, error)) *http.Request {
	req := fetchtest.NewRequest(t, "POST", "http://bomb/bomb", nil, "Idempotency-Key", "1")
	req.Body, req.GetBody, req.ContentLength = body, getBody, int64(len("the data of a request"))
	return req
}

// sendingBodies is a place in the body of a request, which rt gets.
func sendingBodies(rt fetchtest.RoundTripFunc, body func(explode func()) *bombBody) place {
	return place{
		options: func(_ func(), calm fetchtest.RoundTripFunc) []fetch.Option {
			return []fetch.Option{fetchtest.Over(bombed(calm, rt))}
		},
		request: func(t testing.TB, explode func()) *http.Request { return posting(t, body(explode), nil) },
	}
}

func inRead(explode func()) *bombBody  { return newBombBody(explode, nil) }
func inClose(explode func()) *bombBody { return newBombBody(nil, explode) }

// withClient is a place that a client has beside its Transport.
func withClient(answer fetchtest.RoundTripFunc, client func(explode func()) http.Client) place {
	return place{options: func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option {
		c := client(explode)
		c.Transport = bombed(calm, answer)
		return []fetch.Option{fetch.WithClient(&c)}
	}}
}

// aJar sets and gets cookies.
type aJar struct {
	set func(u *url.URL, cookies []*http.Cookie)
	jarFunc
}

func (j aJar) SetCookies(u *url.URL, cookies []*http.Cookie) { j.set(u, cookies) }

// inBodyOf is a place in Read or Close of the body of the answer to /bomb.
func inBodyOf(answer fetchtest.RoundTripFunc, body func(io.ReadCloser, func()) io.ReadCloser, opts ...fetch.Option) place {
	return place{options: func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option {
		return append(opts, fetchtest.Over(bombed(calm, func(req *http.Request) (*http.Response, error) {
			resp, err := answer(req)
			resp.Body = body(resp.Body, explode)
			return resp, err
		})))
	}}
}

func readBomb(_ io.ReadCloser, explode func()) io.ReadCloser {
	return io.NopCloser(fetchtest.ReaderFunc(func([]byte) (int, error) {
		explode()
		return 0, io.EOF
	}))
}

func closeBomb(body io.ReadCloser, explode func()) io.ReadCloser {
	return &fetchtest.HookedBody{ReadCloser: body, OnClose: explode}
}

func explodingInGetBody(t testing.TB, explode func()) *http.Request {
	return posting(t, newBombBody(nil, nil), func() (io.ReadCloser, error) {
		explode()
		return nil, errBoom
	})
}

var places = map[string]place{
	"request body, read on a worker":              sendingBodies(readingHere, inRead),
	"request body, read elsewhere":                sendingBodies(readingElsewhere, inRead),
	"request body, closed on a worker":            sendingBodies(readingHere, inClose),
	"request body, closed elsewhere":              sendingBodies(readingElsewhere, inClose),
	"request body that the transport leaves open": sendingBodies(alwaysAnswering(200), inClose),
	"request body of a transport that hides errors": sendingBodies(func(req *http.Request) (*http.Response, error) {
		readingElsewhere(req)
		return fetchtest.Respond(req, 200, "ok"), nil
	}, inRead),
	"request body of a transport that fails": sendingBodies(func(req *http.Request) (*http.Response, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}, inClose),
	"GetBody for a retry": {
		options: func(_ func(), calm fetchtest.RoundTripFunc) []fetch.Option {
			return []fetch.Option{fetchtest.Over(bombed(calm, alwaysAnswering(503))), fetch.WithRetries(2)}
		},
		request: explodingInGetBody,
	},
	"GetBody for a redirect": {
		options: func(_ func(), calm fetchtest.RoundTripFunc) []fetch.Option {
			return []fetch.Option{fetchtest.Over(bombed(calm, alwaysAnswering(307, "Location", "/next")))}
		},
		request: explodingInGetBody,
	},
	"the body that GetBody gave": {
		options: func(_ func(), calm fetchtest.RoundTripFunc) []fetch.Option {
			first := true
			return []fetch.Option{fetch.WithRetries(2), fetchtest.Over(bombed(calm, func(req *http.Request) (*http.Response, error) {
				if first {
					first = false
					return alwaysAnswering(503)(req)
				}
				return readingElsewhere(req)
			}))}
		},
		request: func(t testing.TB, explode func()) *http.Request {
			return posting(t, newBombBody(nil, nil), func() (io.ReadCloser, error) { return newBombBody(explode, nil), nil })
		},
	},
	"RetryIf, of a status": {options: func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option {
		return []fetch.Option{fetchtest.Over(calm), fetch.WithRetries(2), fetch.WithRetryIf(func(r fetch.Result) bool {
			if strings.HasSuffix(r.URL, "/bomb") {
				explode()
			}
			return false
		})}
	}},
	"RetryIf, of a failure": {options: func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option {
		return []fetch.Option{fetch.WithRetries(2),
			fetchtest.Over(bombed(calm, func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF })),
			fetch.WithRetryIf(func(r fetch.Result) bool {
				if r.Err != nil && strings.HasSuffix(r.URL, "/bomb") {
					explode()
				}
				return false
			})}
	}},
	"RetryIf, before the BodyFunc": {options: func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option {
		return []fetch.Option{fetchtest.Over(calm), fetch.WithRetries(2),
			fetch.WithBodyFunc(func(context.Context, fetch.Result, io.Reader) error { return nil }),
			fetch.WithRetryIf(func(r fetch.Result) bool {
				if strings.HasSuffix(r.URL, "/bomb") {
					explode()
				}
				return false
			})}
	}},
	"Jar.SetCookies": withClient(alwaysAnswering(200, "Set-Cookie", "a=b"), func(explode func()) http.Client {
		return http.Client{Jar: aJar{
			set:     func(*url.URL, []*http.Cookie) { explode() },
			jarFunc: func(*url.URL) []*http.Cookie { return nil },
		}}
	}),
	"Jar.Cookies, for a redirect": withClient(alwaysAnswering(302, "Location", "/next"), func(explode func()) http.Client {
		return http.Client{Jar: jarFunc(func(u *url.URL) []*http.Cookie {
			if u.Path == "/next" {
				explode()
			}
			return nil
		})}
	}),
	"RequestFunc, for a redirect": {options: func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option {
		return []fetch.Option{
			fetchtest.Over(bombed(calm, alwaysAnswering(302, "Location", "/next"))),
			fetch.WithRequestFunc(func(req *http.Request) error {
				if req.URL.Path == "/next" {
					explode()
				}
				return nil
			}),
		}
	}},
	"HostGroup": {options: func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option {
		return []fetch.Option{fetchtest.Over(calm), fetch.WithHostGroup(func(host string) string {
			if host == "bomb" {
				explode()
			}
			return ""
		})}
	}},
	"HostGroup, for a redirect": {options: func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option {
		return []fetch.Option{
			fetchtest.Over(bombed(calm, alwaysAnswering(302, "Location", "http://elsewhere/"))),
			fetch.WithHostGroup(func(host string) string {
				if host == "elsewhere" {
					explode()
				}
				return ""
			}),
		}
	}},
	"HostLimits, for a redirect": {options: func(explode func(), calm fetchtest.RoundTripFunc) []fetch.Option {
		return []fetch.Option{
			fetchtest.Over(bombed(calm, alwaysAnswering(302, "Location", "http://elsewhere/"))),
			fetch.WithHostLimits(func(host string) fetch.HostLimits {
				if host == "elsewhere" {
					explode()
				}
				return fetch.HostLimits{}
			}),
		}
	}},
	"reading the body of a redirect":   inBodyOf(alwaysAnswering(302, "Location", "/next"), readBomb),
	"closing the body of a redirect":   inBodyOf(alwaysAnswering(302, "Location", "/next"), closeBomb),
	"reading the body of a retried":    inBodyOf(alwaysAnswering(503), readBomb, fetch.WithRetries(2)),
	"closing the body of a retried":    inBodyOf(alwaysAnswering(503), closeBomb, fetch.WithRetries(2)),
	"closing a body that is too large": inBodyOf(alwaysAnswering(200), closeBomb, fetch.WithMaxBody(3)),
	"closing the body of a 101":        inBodyOf(alwaysAnswering(101), closeBomb),
	"reading a body in the BodyFunc": inBodyOf(alwaysAnswering(200), readBomb, fetch.WithBodyFunc(func(_ context.Context, _ fetch.Result, body io.Reader) error {
		_, err := io.Copy(io.Discard, body)
		return err
	})),
}

func init() {
	for name, options := range explosives {
		places[name] = place{options: options, anyURL: name == "Limiter"}
	}
}

// crewOf returns the requests of a batch with a bomb in it. They have bodies if the call takes requests.
func crewOf(t testing.TB, p place, call string, explode func()) (reqs []*http.Request) {
	for _, u := range bombURLs {
		req := fetchtest.NewRequest(t, "GET", u, nil)
		switch {
		case !takesRequests(call):
		case !strings.HasSuffix(u, "/bomb"):
			req.Method, req.Body = "POST", newBombBody(nil, nil)
		case p.request != nil:
			req = p.request(t, explode)
		}
		reqs = append(reqs, req)
	}
	return reqs
}

// checkClosed checks that the bodies of the requests are closed, but for those that a
// stream has not come to.
func checkClosed(t testing.TB, call string, reqs []*http.Request) {
	t.Helper()
	for _, req := range reqs {
		body, ok := req.Body.(*bombBody)
		if ok && !body.closed.Load() && (call == "DoAll" || body.given.Load()) {
			t.Errorf("the body of %s is open", req.URL)
		}
	}
}

func TestBlastsInOthersCode(t *testing.T) {
	for where, p := range places {
		for how, b := range blasts {
			for call, run := range calls {
				if p.request != nil && !takesRequests(call) {
					continue
				}
				t.Run(where+", "+how+", "+call, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { blowUp(t, p, b, call, run) })
				})
			}
		}
	}
}

func blowUp(t *testing.T, p place, b blast, call string, run func(*fetch.Fetcher, context.Context, []*http.Request) []fetch.Result) {
	const slots = 4
	// It happens when others are in flight.
	var blown atomic.Int32
	explode := func() {
		blown.Add(1)
		time.Sleep(100 * time.Millisecond)
		b.blow()
	}
	var flight fetchtest.InFlight
	opts := p.options(explode, flight.Over(fetchtest.AnswerAfter(time.Second)))
	f := fetchtest.NewFetcher(t, append(opts, fetch.WithConcurrency(slots))...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // for what hangs
	defer cancel()
	reqs := crewOf(t, p, call, explode)

	var other sync.WaitGroup
	if !p.anyURL {
		other.Go(func() {
			fetchtest.MustFetch(t, f, fetchtest.Numbered("http://other", 20)...)
		})
	}
	var results []fetch.Result
	start := time.Now()
	value, ended := fetchtest.Recovered(func() { results = run(f, ctx, reqs) })
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
	if blown.Load() == 0 {
		t.Fatal("nothing blew up")
	}
	b.checkOut(t, value, ended)
	if n := flight.CurrentBut("other"); n != 0 {
		t.Errorf("%d requests of the batch are in flight", n)
	}
	checkClosed(t, call, reqs)
	if !b.isPanic() {
		checkOneError(t, reqs, results, p.anyURL)
	}
	other.Wait()
	checkUsable(t, f, slots)
}

// checkUsable checks that a batch has left nothing running, and all slots free.
func checkUsable(t *testing.T, f *fetch.Fetcher, slots int) {
	t.Helper()
	checkNothingRuns(t)
	start := time.Now()
	fetchtest.MustFetch(t, f, fetchtest.Numbered("http://other", 3*slots)...)
	fetchtest.CheckTook(t, "the requests of three seconds", time.Since(start), 3*time.Second)
}

func checkNothingRuns(t *testing.T) {
	t.Helper()
	synctest.Wait()
	if left := fetchtest.BubbleGoroutines(); left != "" {
		t.Errorf("goroutines are left:\n\n%s", left)
	}
}

// checkOneError checks that nothing but the bomb has failed.
func checkOneError(t testing.TB, reqs []*http.Request, results []fetch.Result, anyURL bool) {
	t.Helper()
	fetchtest.CheckResults(t, urlsOf(reqs), results)
	failed := 0
	for _, r := range results {
		bomb := strings.HasSuffix(r.URL, "/bomb")
		if r.Err != nil {
			failed++
		}
		if !anyURL && (r.Err != nil) != bomb {
			t.Errorf("%s: %v", r.URL, r.Err)
		}
		if r.Err != nil && !strings.Contains(r.Err.Error(), "Goexit") {
			t.Errorf("%s does not say what happened: %v", r.URL, r.Err)
		}
	}
	if failed != 1 {
		t.Errorf("%d URLs have an error", failed)
	}
}
