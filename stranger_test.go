package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
)

// What others' code can do to a batch, wherever it runs: a panic must come out at the
// caller, with the stack of where it happened, after all of the batch has stopped;
// runtime.Goexit, which is what t.FailNow does, is the error of one URL. Other batches of
// the Fetcher go on, no slot is lost, and every body is closed. cancel_test.go has the
// basics, this has every place and every way.

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
	} else if !strings.Contains(err.Error(), "fetch_test.blow") {
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
	options func(explode func(), calm roundTripFunc) []fetch.Option
	request func(t testing.TB, explode func()) *http.Request // nil: a GET
	anyURL  bool                                             // it is not the code of one URL
}

// bombed is a transport that answers /bomb itself.
func bombed(calm, answer roundTripFunc) roundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		if req.URL.Path == "/bomb" {
			return answer(req)
		}
		return calm(req)
	}
}

// alwaysAnswering is a transport that gives the same answer to each request.
func alwaysAnswering(status int, header ...string) roundTripFunc {
	return func(req *http.Request) (*http.Response, error) { return respond(req, status, "body", header...), nil }
}

// readingHere is a transport that reads the body where it runs, which is a worker; readingElsewhere
// one that does it on a goroutine of its own, as net/http does. Both close it.
func readingHere(req *http.Request) (*http.Response, error) {
	defer req.Body.Close()
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return nil, err
	}
	return respond(req, 200, "ok"), nil
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
	req := newRequest(t, "POST", "http://bomb/bomb", nil, "Idempotency-Key", "1")
	req.Body, req.GetBody, req.ContentLength = body, getBody, int64(len("the data of a request"))
	return req
}

// sendingBodies is a place in the body of a request, which rt gets.
func sendingBodies(rt roundTripFunc, body func(explode func()) *bombBody) place {
	return place{
		options: func(_ func(), calm roundTripFunc) []fetch.Option { return []fetch.Option{over(bombed(calm, rt))} },
		request: func(t testing.TB, explode func()) *http.Request { return posting(t, body(explode), nil) },
	}
}

func inRead(explode func()) *bombBody  { return newBombBody(explode, nil) }
func inClose(explode func()) *bombBody { return newBombBody(nil, explode) }

// withClient is a place that a client has beside its Transport.
func withClient(answer roundTripFunc, client func(explode func()) http.Client) place {
	return place{options: func(explode func(), calm roundTripFunc) []fetch.Option {
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
func inBodyOf(answer roundTripFunc, body func(io.ReadCloser, func()) io.ReadCloser, opts ...fetch.Option) place {
	return place{options: func(explode func(), calm roundTripFunc) []fetch.Option {
		return append(opts, over(bombed(calm, func(req *http.Request) (*http.Response, error) {
			resp, err := answer(req)
			resp.Body = body(resp.Body, explode)
			return resp, err
		})))
	}}
}

func readBomb(_ io.ReadCloser, explode func()) io.ReadCloser {
	return io.NopCloser(readFunc(func([]byte) (int, error) {
		explode()
		return 0, io.EOF
	}))
}

func closeBomb(body io.ReadCloser, explode func()) io.ReadCloser {
	return &hookedBody{ReadCloser: body, onClose: explode}
}

var places = map[string]place{
	"request body, read on a worker":              sendingBodies(readingHere, inRead),
	"request body, read elsewhere":                sendingBodies(readingElsewhere, inRead),
	"request body, closed on a worker":            sendingBodies(readingHere, inClose),
	"request body, closed elsewhere":              sendingBodies(readingElsewhere, inClose),
	"request body that the transport leaves open": sendingBodies(alwaysAnswering(200), inClose),
	"request body of a transport that hides errors": sendingBodies(func(req *http.Request) (*http.Response, error) {
		readingElsewhere(req)
		return respond(req, 200, "ok"), nil
	}, inRead),
	"request body of a transport that fails": sendingBodies(func(req *http.Request) (*http.Response, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	}, inClose),
	"GetBody for a retry": {
		options: func(_ func(), calm roundTripFunc) []fetch.Option {
			return []fetch.Option{over(bombed(calm, alwaysAnswering(503))), fetch.WithRetries(2)}
		},
		request: func(t testing.TB, explode func()) *http.Request {
			return posting(t, newBombBody(nil, nil), func() (io.ReadCloser, error) {
				explode()
				return nil, errBoom
			})
		},
	},
	"GetBody for a redirect": {
		options: func(_ func(), calm roundTripFunc) []fetch.Option {
			return []fetch.Option{over(bombed(calm, alwaysAnswering(307, "Location", "/next")))}
		},
		request: func(t testing.TB, explode func()) *http.Request {
			return posting(t, newBombBody(nil, nil), func() (io.ReadCloser, error) {
				explode()
				return nil, errBoom
			})
		},
	},
	"the body that GetBody gave": {
		options: func(_ func(), calm roundTripFunc) []fetch.Option {
			first := true
			return []fetch.Option{fetch.WithRetries(2), over(bombed(calm, func(req *http.Request) (*http.Response, error) {
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
	"RetryIf, of a status": {options: func(explode func(), calm roundTripFunc) []fetch.Option {
		return []fetch.Option{over(calm), fetch.WithRetries(2), fetch.WithRetryIf(func(r fetch.Result) bool {
			if strings.HasSuffix(r.URL, "/bomb") {
				explode()
			}
			return false
		})}
	}},
	"RetryIf, of a failure": {options: func(explode func(), calm roundTripFunc) []fetch.Option {
		return []fetch.Option{fetch.WithRetries(2),
			over(bombed(calm, func(*http.Request) (*http.Response, error) { return nil, io.ErrUnexpectedEOF })),
			fetch.WithRetryIf(func(r fetch.Result) bool {
				if r.Err != nil && strings.HasSuffix(r.URL, "/bomb") {
					explode()
				}
				return false
			})}
	}},
	"RetryIf, before the BodyFunc": {options: func(explode func(), calm roundTripFunc) []fetch.Option {
		return []fetch.Option{over(calm), fetch.WithRetries(2),
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
	"RequestFunc, for a redirect": {options: func(explode func(), calm roundTripFunc) []fetch.Option {
		return []fetch.Option{
			over(bombed(calm, alwaysAnswering(302, "Location", "/next"))),
			fetch.WithRequestFunc(func(req *http.Request) error {
				if req.URL.Path == "/next" {
					explode()
				}
				return nil
			}),
		}
	}},
	"HostLimits, for a redirect": {options: func(explode func(), calm roundTripFunc) []fetch.Option {
		return []fetch.Option{
			over(bombed(calm, alwaysAnswering(302, "Location", "http://elsewhere/"))),
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
		req := newRequest(t, "GET", u, nil)
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
	var flight inFlight
	opts := p.options(explode, flight.over(answerAfter(time.Second)))
	f := newFetcher(t, append(opts, fetch.WithConcurrency(slots))...)
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // for what hangs
	defer cancel()
	reqs := crewOf(t, p, call, explode)

	var other sync.WaitGroup
	if !p.anyURL {
		other.Go(func() {
			urls := numbered("http://other", 20)
			mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
		})
	}
	var results []fetch.Result
	start := time.Now()
	value, ended := recovered(func() { results = run(f, ctx, reqs) })
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
	if blown.Load() == 0 {
		t.Fatal("nothing blew up")
	}
	b.checkOut(t, value, ended)
	if n := flight.currentBut("other"); n != 0 {
		t.Errorf("%d requests of the batch are in flight", n)
	}
	checkClosed(t, call, reqs)
	if !b.isPanic() {
		checkOneError(t, reqs, results, p.anyURL)
	}
	other.Wait()
	synctest.Wait()
	if left := bubbleGoroutines(); left != "" {
		t.Errorf("goroutines are left:\n\n%s", left)
	}
	start = time.Now()
	urls := numbered("http://other", 3*slots)
	mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
	checkTook(t, "the requests of three seconds", time.Since(start), 3*time.Second)
}

// checkOneError checks that nothing but the bomb has failed.
func checkOneError(t testing.TB, reqs []*http.Request, results []fetch.Result, anyURL bool) {
	t.Helper()
	checkResults(t, urlsOf(reqs), results)
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

// Bodies of requests that are never sent are closed as well, on whichever goroutine
// finds out: of the caller, of a context, of the Limiter, of a worker.

// unsent are ways for http://bomb/bomb not to be sent. They return the options, and what to do when the batch has started.
var unsent = map[string]func(bomb *http.Request, cancel func()) (opts []fetch.Option, before func()){
	"context done before": func(_ *http.Request, cancel func()) ([]fetch.Option, func()) {
		return []fetch.Option{over(answerAfter(0))}, cancel
	},
	"invalid request": func(bomb *http.Request, _ func()) ([]fetch.Option, func()) {
		bomb.Header["bad field"] = []string{"x"}
		return []fetch.Option{over(answerAfter(0))}, nil
	},
	"bad limits": func(*http.Request, func()) ([]fetch.Option, func()) {
		return []fetch.Option{over(answerAfter(0)), fetch.WithHostLimits(func(host string) fetch.HostLimits {
			if host == "bomb" {
				return fetch.HostLimits{Burst: -1}
			}
			return fetch.HostLimits{}
		})}, nil
	},
	"cancelled while it waits": func(_ *http.Request, cancel func()) ([]fetch.Option, func()) {
		time.AfterFunc(time.Second, cancel)
		return []fetch.Option{fetch.WithTimeout(0), fetch.WithConcurrency(1), over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Path == "/first" {
				return nil, untilDone(req.Context())
			}
			return respond(req, 200, "ok"), nil
		})}, nil
	},
	"its own context ends while it waits": func(bomb *http.Request, _ func()) ([]fetch.Option, func()) {
		ctx, cancel := context.WithCancel(bomb.Context())
		*bomb = *bomb.WithContext(ctx)
		time.AfterFunc(time.Second, cancel)
		return []fetch.Option{over(answerAfter(10 * time.Second)), fetch.WithConcurrency(1)}, nil
	},
	"its own context has ended": func(bomb *http.Request, _ func()) ([]fetch.Option, func()) {
		ctx, cancel := context.WithCancel(bomb.Context())
		cancel()
		*bomb = *bomb.WithContext(ctx)
		return []fetch.Option{over(answerAfter(0))}, nil
	},
	"the Limiter fails": func(*http.Request, func()) ([]fetch.Option, func()) {
		n := 0
		return []fetch.Option{over(answerAfter(0)), fetch.WithConcurrency(1), fetch.WithLimiter(limiterFunc(func(context.Context) error {
			if n++; n == 2 {
				return errors.New("no permit")
			}
			return nil
		}))}, nil
	},
	"its host is paused": func(bomb *http.Request, _ func()) ([]fetch.Option, func()) {
		return []fetch.Option{fetch.WithConcurrency(1), over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "bomb" {
				return respond(req, 429, "", "Retry-After", "3600"), nil
			}
			return respond(req, 200, "ok"), nil
		})}, nil
	},
	"its host is down": func(bomb *http.Request, _ func()) ([]fetch.Option, func()) {
		return []fetch.Option{fetch.WithConcurrency(1), fetch.WithMaxHostFailures(1), over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "bomb" {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
			}
			return respond(req, 200, "ok"), nil
		})}, nil
	},
}

func TestBlastsInBodiesThatAreNotSent(t *testing.T) {
	for where, prepare := range unsent {
		for how, b := range blasts {
			for call, run := range calls {
				if !takesRequests(call) || call == "DoStream" && where == "context done before" { // which reads nothing
					continue
				}
				t.Run(where+", "+how+", "+call, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						ctx, cancel := context.WithCancel(t.Context())
						defer cancel()
						var reqs []*http.Request
						for _, u := range []string{"http://bomb/first", "http://bomb/bomb", "http://a/", "http://b/"} {
							body := newBombBody(nil, nil)
							if strings.HasSuffix(u, "/bomb") {
								body.onClose = b.blow
							}
							req := newRequest(t, "PUT", u, nil)
							req.Body = body
							reqs = append(reqs, req)
						}
						opts, before := prepare(reqs[1], cancel)
						f := newFetcher(t, opts...)
						if before != nil {
							before()
						}
						var results []fetch.Result
						start := time.Now()
						value, ended := recovered(func() { results = run(f, ctx, reqs) })
						if took := time.Since(start); took > time.Minute {
							t.Errorf("took %v", took)
						}
						b.checkOut(t, value, ended)
						checkClosed(t, call, reqs)
						if !b.isPanic() {
							checkResults(t, urlsOf(reqs), results)
							if len(results) == len(reqs) && results[1].Err == nil {
								t.Error("it was sent")
							}
						}
						urls := []string{"http://a/"}
						mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
					})
				})
			}
		}
	}
}

// net/http reads and closes bodies on goroutines of its own, where a panic would end the
// process, and Goexit the connection's life but not the wait for it.

func TestBlastsInBodiesThatNetHTTPReads(t *testing.T) {
	bodies := map[string]func(explode func()) *bombBody{
		"at once": inRead,
		"Close":   inClose,
		"after a part": func(explode func()) *bombBody {
			reads := 0
			return newBombBody(func() {
				if reads++; reads == 2 {
					explode()
				}
			}, nil)
		},
		// The answer is there by then, but not all of it.
		"during the answer": func(explode func()) *bombBody {
			reads := 0
			return newBombBody(func() {
				if reads++; reads == 2 {
					time.Sleep(time.Second)
					explode()
				}
			}, nil)
		},
	}
	for where, body := range bodies {
		for how, b := range blasts {
			for call, run := range calls {
				for _, version := range []int{1, 2} {
					if !takesRequests(call) {
						continue
					}
					t.Run(fmt.Sprintf("%s, %s, %s, HTTP/%d", where, how, call, version), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							f, urls := newPipeFetcher(t, version, nil)
							bomb := body(b.blow)
							if where != "Close" {
								bomb.Reader = io.MultiReader(strings.NewReader("the data of "), strings.NewReader("a request"))
							}
							req := posting(t, bomb, nil)
							reqs := []*http.Request{req, newRequest(t, "GET", urls[0], nil), newRequest(t, "GET", urls[1], nil)}
							sendBlasts(t, f, b, reqs, run)
							if !bomb.closed.Load() {
								t.Error("the body is open")
							}
							mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
						})
					})
				}
			}
		}
	}
}

// newPipeFetcher returns a Fetcher over connections in memory, and URLs for it. Its server
// answers before it reads, and takes 2 s for all.
func newPipeFetcher(t *testing.T, version int, wrap func(net.Conn) net.Conn) (*fetch.Fetcher, []string) {
	listener := servePipes(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		io.WriteString(w, "o")
		w.(http.Flusher).Flush()
		time.Sleep(2 * time.Second)
		if _, err := io.Copy(io.Discard, req.Body); err == nil {
			io.WriteString(w, "k")
		}
	}))
	transport := &http.Transport{
		Protocols: new(http.Protocols),
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := listener.dial(ctx, network, addr)
			if wrap != nil && err == nil {
				conn = wrap(conn)
			}
			return conn, err
		},
	}
	transport.Protocols.SetHTTP1(version == 1)
	transport.Protocols.SetUnencryptedHTTP2(version == 2)
	t.Cleanup(transport.CloseIdleConnections)
	f := newFetcher(t, fetch.WithClient(newClient(transport)), fetch.WithConcurrency(3), fetch.WithTimeout(10*time.Minute))
	return f, []string{"http://calm/1", "http://calm/2"}
}

// sendBlasts sends requests of which the first has a body that blows up.
func sendBlasts(t *testing.T, f *fetch.Fetcher, b blast, reqs []*http.Request, run func(*fetch.Fetcher, context.Context, []*http.Request) []fetch.Result) {
	t.Helper()
	var results []fetch.Result
	start := time.Now()
	value, ended := recovered(func() { results = run(f, t.Context(), reqs) })
	if took := time.Since(start); took > time.Minute {
		t.Errorf("took %v", took)
	}
	b.checkOut(t, value, ended)
	if !b.isPanic() {
		checkOneError(t, reqs, results, false)
	}
	synctest.Wait()
	if left := bubbleGoroutines(); left != "" {
		t.Errorf("goroutines are left:\n\n%s", left)
	}
}

// When a connection dies on which a request was to follow another, net/http asks GetBody for
// another body itself.
func TestBlastsInBodiesThatNetHTTPGetsItself(t *testing.T) {
	for how, b := range blasts {
		for call, run := range calls {
			if !takesRequests(call) {
				continue
			}
			t.Run(how+", "+call, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var dead atomic.Bool
					f, _ := newPipeFetcher(t, 1, func(conn net.Conn) net.Conn { return &mortalConn{Conn: conn, dead: &dead} })
					urls := []string{"http://bomb/calm"}
					mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
					dead.Store(true)
					var second *bombBody
					first := newBombBody(nil, nil)
					req := posting(t, first, func() (io.ReadCloser, error) {
						dead.Store(false)
						second = newBombBody(b.blow, nil)
						return second, nil
					})
					sendBlasts(t, f, b, []*http.Request{req}, run)
					switch {
					case second == nil:
						t.Fatal("net/http did not ask for another body")
					case !first.closed.Load() || !second.closed.Load():
						t.Error("a body is open")
					}
				})
			})
		}
	}
}

// A mortalConn takes no more bytes once dead is set.
type mortalConn struct {
	net.Conn
	dead *atomic.Bool
}

func (c *mortalConn) Write(p []byte) (int, error) {
	if c.dead.Load() {
		return 0, &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
	}
	return c.Conn.Write(p)
}

// A body that net/http has asked for itself, and that blocks, is closed at the end of the
// attempt like any other, which is all that can end it.
func TestABodyThatNetHTTPGetsItselfDoesNotOutlastTheAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dead atomic.Bool
		listener := servePipes(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { io.Copy(w, req.Body) }))
		transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := listener.dial(ctx, network, addr)
			return &mortalConn{Conn: conn, dead: &dead}, err
		}}
		defer transport.CloseIdleConnections()
		f := newFetcher(t, fetch.WithClient(newClient(transport)), fetch.WithTimeout(time.Minute))
		urls := []string{"http://bomb/calm"}
		mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
		dead.Store(true)
		closed := make(chan struct{})
		req := posting(t, newBombBody(nil, nil), func() (io.ReadCloser, error) {
			dead.Store(false)
			body := newBombBody(func() { <-closed }, sync.OnceFunc(func() { close(closed) }))
			body.Reader = iotest.ErrReader(os.ErrClosed) // data could still get through at the last instant
			return body, nil
		})
		start := time.Now()
		r := f.DoAll(t.Context(), []*http.Request{req})[0]
		checkResult(t, 0, req.URL.String(), r)
		if !errors.Is(r.Err, fetch.ErrTimeout) {
			t.Errorf("got %v, want ErrTimeout", r.Err)
		}
		checkTook(t, "the attempt", time.Since(start), time.Minute)
		time.Sleep(time.Second)
		select {
		case <-closed:
		default:
			t.Error("the body is open")
			close(closed)
		}
	})
}

// The input and the loop body are not the code of one URL: Goexit of the input ends the
// goroutine that ranges, as iter.Pull has it, and that of the loop body is its own.

// inputs are streams of both kinds whose input blows up after so many.
var inputs = map[string]func(f *fetch.Fetcher, ctx context.Context, blow func(), n int) iter.Seq[fetch.Result]{
	"Stream": func(f *fetch.Fetcher, ctx context.Context, blow func(), n int) iter.Seq[fetch.Result] {
		return f.Stream(ctx, func(yield func(string) bool) {
			for i := range n {
				if !yield(fmt.Sprintf("http://bomb/%d", i)) {
					return
				}
			}
			blow()
		})
	},
	"DoStream": func(f *fetch.Fetcher, ctx context.Context, blow func(), n int) iter.Seq[fetch.Result] {
		return f.DoStream(ctx, func(yield func(*http.Request) bool) {
			for i := range n {
				req, err := http.NewRequest("POST", fmt.Sprintf("http://bomb/%d", i), strings.NewReader("data"))
				if err != nil || !yield(req) {
					return
				}
			}
			blow()
		})
	},
}

func TestBlastsInInputs(t *testing.T) {
	for kind, stream := range inputs {
		for how, b := range blasts {
			for _, n := range []int{0, 1, 5, 20} {
				t.Run(fmt.Sprintf("%s, %s after %d", kind, how, n), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						blowUpAround(t, func(f *fetch.Fetcher) {
							value, ended := recovered(func() {
								for r := range stream(f, t.Context(), b.blow, n) {
									checkResult(t, r.Index, fmt.Sprintf("http://bomb/%d", r.Index), r)
								}
							})
							if !b.isPanic() {
								if value != nil || ended {
									t.Errorf("the loop went on after its input had exited; %v", value)
								}
								return
							}
							b.checkOut(t, value, ended)
						})
					})
				})
			}
		}
	}
}

func TestBlastsInLoopBodies(t *testing.T) {
	for kind, stream := range inputs {
		for how, b := range blasts {
			for _, n := range []int{0, 3} {
				t.Run(fmt.Sprintf("%s, %s after %d", kind, how, n), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						blowUpAround(t, func(f *fetch.Fetcher) {
							value, ended := recovered(func() {
								seen := 0
								for range stream(f, t.Context(), func() {}, 100) {
									if seen++; seen > n {
										b.blow()
									}
								}
							})
							if !b.isPanic() {
								if value != nil || ended {
									t.Errorf("Goexit has not ended the goroutine; %v", value)
								}
								return
							}
							// It never left the caller's goroutine: it is just what it was.
							if err, ok := value.(error); !ok || !b.is(err) || strings.Contains(err.Error(), "goroutine") {
								t.Errorf("panicked with %.200v", value)
							}
						})
					})
				})
			}
		}
	}
}

// blowUpAround runs a batch that ends badly beside one that must not notice.
func blowUpAround(t *testing.T, bad func(f *fetch.Fetcher)) {
	const slots = 4
	var flight inFlight
	f := newFetcher(t, over(flight.over(answerAfter(time.Second))), fetch.WithConcurrency(slots), fetch.WithLookahead(10))
	var other sync.WaitGroup
	other.Go(func() {
		urls := numbered("http://other", 20)
		mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
	})
	start := time.Now()
	bad(f)
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("took %v", took)
	}
	if n := flight.currentOf("bomb"); n != 0 {
		t.Errorf("%d requests are in flight", n)
	}
	other.Wait()
	synctest.Wait()
	if left := bubbleGoroutines(); left != "" {
		t.Errorf("goroutines are left:\n\n%s", left)
	}
	start = time.Now()
	urls := numbered("http://other", 3*slots)
	mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
	checkTook(t, "the requests of three seconds", time.Since(start), 3*time.Second)
}

// Two at once: both stop the batch, one comes out, and nothing hangs.
func TestBlastsOfSeveralURLsAtOnce(t *testing.T) {
	for how, b := range blasts {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				blowUpAround(t, func(f *fetch.Fetcher) {
					var results []fetch.Result
					var reqs []*http.Request
					for i := range 12 {
						req := posting(t, newBombBody(nil, b.blow), nil)
						req.URL.Path = fmt.Sprintf("/bomb/%d", i)
						reqs = append(reqs, req)
					}
					value, ended := recovered(func() { results = f.DoAll(t.Context(), reqs) })
					b.checkOut(t, value, ended)
					for i, req := range reqs {
						if !req.Body.(*bombBody).closed.Load() {
							t.Errorf("body %d is open", i)
						}
					}
					if b.isPanic() {
						return
					}
					checkResults(t, urlsOf(reqs), results)
					for _, r := range results {
						if r.Err == nil {
							t.Errorf("%s has no error", r.URL)
						}
					}
				})
			})
		})
	}
}

// A Limiter is still asked when no URL wants a permit any more. Its panic has a caller all the same.
func TestBlastsOfALimiterThatIsCancelled(t *testing.T) {
	for how, b := range blasts {
		for call, run := range calls {
			t.Run(how+", "+call, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					calm := false
					f := newFetcher(t, over(answerAfter(0)), fetch.WithLimiter(limiterFunc(func(ctx context.Context) error {
						if calm {
							return nil
						}
						<-ctx.Done()
						b.blow()
						return nil
					})))
					ctx, cancel := context.WithCancel(t.Context())
					time.AfterFunc(time.Second, cancel)
					reqs := crewOf(t, place{}, call, nil)
					start := time.Now()
					value, ended := recovered(func() { run(f, ctx, reqs) })
					b.checkOut(t, value, ended)
					checkTook(t, "the batch", time.Since(start), time.Second)
					checkClosed(t, call, reqs)
					calm = true
					urls := []string{"http://a/"}
					mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
				})
			})
		}
	}
}

// A response body that blows up in Close after its Read has: Go itself lets the later panic
// take the place of the earlier, and of a Goexit.
func TestABlastAfterABlastComesOut(t *testing.T) {
	for how, b := range blasts {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFetcher(t, fetch.WithConcurrency(1), over(bombed(answerAfter(0), func(req *http.Request) (*http.Response, error) {
					resp := respond(req, 200, "ok")
					resp.Body = closeBomb(readBomb(nil, b.blow), func() { panic("second") })
					return resp, nil
				})))
				value, _ := recovered(func() { f.FetchAll(t.Context(), bombURLs) })
				if !strings.Contains(fmt.Sprint(value), "second") {
					t.Errorf("%v came out", value)
				}
				urls := []string{"http://a/"}
				mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
			})
		})
	}
}
