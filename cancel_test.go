package fetch_test

import (
	"context"
	"errors"
	"fmt"
	"io"
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
)

// errLeft is the cause that the tests cancel with.
var errLeft = errors.New("the user left")

// checkCancelled checks the error of a URL that the end of the batch's context cut off.
func checkCancelled(t testing.TB, ctx context.Context, r fetch.Result) {
	t.Helper()
	if !errors.Is(r.Err, ctx.Err()) || !errors.Is(r.Err, context.Cause(ctx)) || errors.Is(r.Err, fetch.ErrTimeout) {
		t.Errorf("%s: error %v, want %v and %v", r.URL, r.Err, ctx.Err(), context.Cause(ctx))
	}
	fetchErr, _ := errors.AsType[*fetch.Error](r.Err)
	if want := errors.Is(ctx.Err(), context.DeadlineExceeded); fetchErr != nil && fetchErr.Timeout() != want {
		t.Errorf("%s: Timeout() is %v for %v", r.URL, !want, r.Err)
	}
}

// stalled is a body that has some bytes and then no more until ctx is done.
func stalled(ctx context.Context, text string) io.ReadCloser {
	r, w := io.Pipe()
	go func() {
		io.WriteString(w, text)
		<-ctx.Done()
		w.CloseWithError(context.Cause(ctx))
	}()
	return r
}

// untilDone blocks until ctx is done.
func untilDone(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

// stages are where a URL can be when its batch is cancelled. Each has a transport that
// the URLs after the first, http://done/, get stuck in, or options that keep them from it.
var stages = map[string]struct {
	opts  func() []fetch.Option
	stuck roundTripFunc // nil: none must get there
}{
	"waiting for a slot": {
		opts:  func() []fetch.Option { return []fetch.Option{fetch.WithConcurrency(1)} },
		stuck: answerAfter(1000 * time.Hour),
	},
	"waiting for its host": {
		opts:  func() []fetch.Option { return []fetch.Option{fetch.WithHostConcurrency(1)} },
		stuck: answerAfter(1000 * time.Hour),
	},
	"waiting for a rate": {
		opts: func() []fetch.Option { return []fetch.Option{fetch.WithRate(1e-6, 1)} },
	},
	"waiting for the rate of its host": {
		opts: func() []fetch.Option {
			return []fetch.Option{fetch.WithHostLimits(func(host string) fetch.HostLimits {
				if host == "done" {
					return fetch.HostLimits{}
				}
				return fetch.HostLimits{Rate: 1e-6}
			})}
		},
		stuck: answerAfter(1000 * time.Hour), // the burst
	},
	"waiting for the limiter": {
		opts: func() []fetch.Option {
			var calls atomic.Int32
			return []fetch.Option{fetch.WithLimiter(limiterFunc(func(ctx context.Context) error {
				if calls.Add(1) == 1 {
					return nil
				}
				return untilDone(ctx)
			}))}
		},
	},
	"waiting for the head": {stuck: answerAfter(1000 * time.Hour)},
	"in the body": {stuck: func(req *http.Request) (*http.Response, error) {
		resp := respond(req, 200, "")
		resp.Body, resp.ContentLength = stalled(req.Context(), "the first half"), 1000
		return resp, nil
	}},
	"in a body of unknown length": {stuck: func(req *http.Request) (*http.Response, error) {
		resp := respond(req, 200, "")
		resp.Body, resp.ContentLength = stalled(req.Context(), "the first half"), -1
		return resp, nil
	}},
	"in the BodyFunc": {
		opts: func() []fetch.Option {
			return []fetch.Option{fetch.WithBodyFunc(func(ctx context.Context, r fetch.Result, body io.Reader) error {
				if r.StatusCode == 202 {
					return untilDone(ctx)
				}
				_, err := io.Copy(io.Discard, body)
				return err
			})}
		},
		stuck: func(req *http.Request) (*http.Response, error) { return respond(req, 202, "ok"), nil },
	},
	"in the BodyFunc, in the body": {
		opts: func() []fetch.Option {
			return []fetch.Option{fetch.WithBodyFunc(func(_ context.Context, r fetch.Result, body io.Reader) error {
				io.Copy(io.Discard, body)
				return nil
			})}
		},
		stuck: func(req *http.Request) (*http.Response, error) {
			resp := respond(req, 200, "")
			resp.Body, resp.ContentLength = stalled(req.Context(), "the first half"), -1
			return resp, nil
		},
	},
	"on its way to another host": {
		opts: func() []fetch.Option { return []fetch.Option{fetch.WithHostConcurrency(1)} },
		stuck: func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "target" {
				return answerAfter(1000 * time.Hour)(req)
			}
			return respond(req, 302, "", "Location", "http://target/"), nil
		},
	},
}

func TestCancelEndsTheBatchAtOnceAtEveryStage(t *testing.T) {
	contexts := map[string]func(parent context.Context, d time.Duration) (context.Context, func()){
		"cancel": func(parent context.Context, d time.Duration) (context.Context, func()) {
			ctx, cancel := context.WithCancel(parent)
			time.AfterFunc(d, cancel)
			return ctx, cancel
		},
		"cancel with a cause": func(parent context.Context, d time.Duration) (context.Context, func()) {
			ctx, cancel := context.WithCancelCause(parent)
			time.AfterFunc(d, func() { cancel(errLeft) })
			return ctx, func() { cancel(nil) }
		},
		"deadline": func(parent context.Context, d time.Duration) (context.Context, func()) {
			ctx, cancel := context.WithTimeout(parent, d)
			return ctx, cancel
		},
		"deadline with a cause": func(parent context.Context, d time.Duration) (context.Context, func()) {
			ctx, cancel := context.WithTimeoutCause(parent, d, errLeft)
			return ctx, cancel
		},
	}
	for name, stage := range stages {
		for kind, newContext := range contexts {
			t.Run(name+", "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var sent atomic.Int32
					opts := []fetch.Option{fetch.WithTimeout(0), over(func(req *http.Request) (*http.Response, error) {
						sent.Add(1)
						switch {
						case req.URL.Host == "done":
							return respond(req, 200, "ok"), nil
						case stage.stuck == nil:
							t.Errorf("%s was sent", req.URL)
							return respond(req, 500, ""), nil
						}
						return stage.stuck(req)
					})}
					if stage.opts != nil {
						opts = append(opts, stage.opts()...)
					}
					f := newFetcher(t, opts...)
					urls := append([]string{"http://done/", "http://%zz/"}, hostURLs(10, "a", "b")...)

					start := time.Now()
					ctx, stop := newContext(t.Context(), time.Second)
					defer stop()
					results := f.FetchAll(ctx, urls)
					checkTook(t, "the batch", time.Since(start), time.Second)
					checkResults(t, urls, results)
					if r := results[0]; !r.OK() {
						t.Errorf("what was done is lost: %+v", r)
					}
					if !errors.Is(results[1].Err, fetch.ErrInvalidURL) {
						t.Errorf("the error that was there before is lost: %v", results[1].Err)
					}
					for _, r := range results[2:] {
						checkCancelled(t, ctx, r)
						if r.Waited+r.Took != time.Second {
							t.Fatalf("%s: Waited %v and Took %v, want 1 s together", r.URL, r.Waited, r.Took)
						}
					}

					before := sent.Load()
					time.Sleep(10000 * time.Hour)
					if after := sent.Load(); after != before {
						t.Errorf("%d requests started after the cancel", after-before)
					}
				})
			})
		}
	}
}

func TestContextThatIsDoneSendsNothing(t *testing.T) {
	var sent atomic.Int32
	transport := over(func(req *http.Request) (*http.Response, error) {
		sent.Add(1)
		return respond(req, 200, "ok"), nil
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errLeft)
	urls := append(hostURLs(100, "a", "b"), "ftp://host/")
	results := fetch.FetchAll(ctx, urls, transport)
	checkResults(t, urls, results)
	for _, r := range results[:200] {
		checkCancelled(t, ctx, r)
		if r.Attempts != 0 {
			t.Errorf("%s: %d attempts", r.URL, r.Attempts)
		}
	}
	if results[200].Err == nil || sent.Load() != 0 {
		t.Errorf("%d were sent; last error %v", sent.Load(), results[200].Err)
	}
}

// The request that cancels is the last: the one worker there is looks at the
// context before it takes another.
func TestNoRequestStartsAfterCancel(t *testing.T) {
	for last := range 20 {
		ctx, cancel := context.WithCancelCause(t.Context())
		sent := 0
		urls := hostURLs(25, "a", "b")
		results := fetch.FetchAll(ctx, urls, fetch.WithConcurrency(1), over(func(req *http.Request) (*http.Response, error) {
			if sent++; sent == last+1 {
				cancel(errLeft)
			}
			return respond(req, 200, "ok"), nil
		}))
		checkResults(t, urls, results)
		if sent != last+1 {
			t.Errorf("%d requests were sent, the cancel came in number %d", sent, last+1)
		}
		done := 0
		for _, r := range results {
			if r.OK() {
				done++
			} else {
				checkCancelled(t, ctx, r)
			}
		}
		// The one that cancels may have been finished or not.
		if done != last && done != last+1 {
			t.Errorf("%d are done, the cancel came in number %d", done, last+1)
		}
	}
}

func TestCancelOf100000QueuedURLsIsQuick(t *testing.T) {
	urls := hostURLs(100, slices.Collect(numberedHosts(1000))...)
	cancelAll := func() time.Duration {
		ctx, cancel := context.WithCancelCause(t.Context())
		var once sync.Once
		var cancelled time.Time
		results := fetch.FetchAll(ctx, urls, over(func(req *http.Request) (*http.Response, error) {
			once.Do(func() {
				cancelled = time.Now()
				cancel(errLeft)
			})
			return nil, untilDone(req.Context())
		}))
		took := time.Since(cancelled)
		checkResults(t, urls, results)
		for _, r := range results {
			if !errors.Is(r.Err, errLeft) || !errors.Is(r.Err, context.Canceled) {
				t.Fatalf("%s: %v", r.URL, r.Err)
			}
		}
		return took
	}
	// It takes tens of milliseconds; the bound has room for the race detector on a
	// busy machine, and none for work that is quadratic.
	took := cancelAll()
	if took > 2*time.Second {
		took = cancelAll()
	}
	if took > 2*time.Second {
		t.Errorf("took %v after the cancel", took)
	}
}

func TestCancelWhileDialing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return nil, untilDone(ctx)
		}}
		// net/http lets a dial go on that no request waits for any more; this ends it.
		defer transport.CloseIdleConnections()
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(errLeft) })
		start := time.Now()
		urls := hostURLs(5, "a", "b")
		results := fetch.FetchAll(ctx, urls, fetch.WithClient(newClient(transport)))
		checkTook(t, "the batch", time.Since(start), time.Second)
		checkResults(t, urls, results)
		for _, r := range results {
			checkCancelled(t, ctx, r)
		}
	})
}

// silentListener accepts connections, and says nothing.
func silentListener(t testing.TB) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var conns []net.Conn
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		defer mu.Unlock()
		for _, conn := range conns {
			conn.Close()
		}
	})
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
		}
	}()
	return l.Addr().String()
}

func TestCancelOnRealConnectionsLeavesNothing(t *testing.T) {
	server, conns := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/half":
			w.Header().Set("Content-Length", "1000")
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			<-req.Context().Done()
		case "/head":
			<-req.Context().Done()
		}
	})
	silent := silentListener(t)
	urls := []string{server.URL + "/done"}
	for range 5 {
		urls = append(urls, server.URL+"/half", server.URL+"/head", "http://"+silent+"/", "https://"+silent+"/")
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	var cancelled time.Time
	time.AfterFunc(300*time.Millisecond, func() {
		cancelled = time.Now()
		cancel(errLeft)
	})
	results := fetch.FetchAll(ctx, urls)
	took := time.Since(cancelled)
	checkResults(t, urls, results)
	if !results[0].OK() {
		t.Errorf("what was done is lost: %v", results[0].Err)
	}
	for _, r := range results[1:] {
		checkCancelled(t, ctx, r)
		if half := strings.HasSuffix(r.URL, "/half"); half != (r.StatusCode == 200) {
			t.Errorf("%s: status %d", r.URL, r.StatusCode)
		}
	}
	if took > 2*time.Second {
		t.Errorf("took %v after the cancel", took)
	}
	if !conns.waitForNone() {
		t.Error("connections are left open")
	}
	checkNoLeaks(t)
}

func TestCancelOfOneBatchLeavesOthersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight inFlight
		f := newFetcher(t, fetch.WithConcurrency(4), over(flight.over(answerAfter(100*time.Millisecond))))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(450*time.Millisecond, cancel)
		var wg sync.WaitGroup
		wg.Go(func() {
			urls := hostURLs(1000, "cancelled")
			checkResults(t, urls, f.FetchAll(ctx, urls))
		})
		start := time.Now()
		urls := hostURLs(48, "other")
		mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
		// Two slots until the cancel, which is ten URLs, then all four.
		if took := time.Since(start); took > 1500*time.Millisecond {
			t.Errorf("the other batch took %v, want about 1.45 s", took)
		}
		wg.Wait()
		if flight.most() != 4 || flight.current() != 0 {
			t.Errorf("%d were in flight at once, %d are left", flight.most(), flight.current())
		}
	})
}

// Nothing can interrupt a transport that does not look at its context.
func TestTransportThatIgnoresItsContextIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(errLeft) })
		var running atomic.Int32
		start := time.Now()
		urls := hostURLs(5, "a", "b")
		results := fetch.FetchAll(ctx, urls, fetch.WithConcurrency(2), over(func(req *http.Request) (*http.Response, error) {
			running.Add(1)
			defer running.Add(-1)
			time.Sleep(5 * time.Second)
			return respond(req, 200, "ok"), nil
		}))
		checkTook(t, "the batch", time.Since(start), 5*time.Second)
		checkResults(t, urls, results)
		if running.Load() != 0 {
			t.Error("a request still runs")
		}
		for _, r := range results[2:] {
			checkCancelled(t, ctx, r)
		}
	})
}

func TestTimeoutOfAnAttemptIsErrTimeout(t *testing.T) {
	for name, c := range map[string]struct {
		stuck roundTripFunc
		opt   fetch.Option
	}{
		"waiting for the head": {stuck: answerAfter(time.Hour)},
		"in the body":          {stuck: stages["in the body"].stuck},
		"in a redirect's second hop": {stuck: func(req *http.Request) (*http.Response, error) {
			if req.URL.Path != "/moved" {
				return respond(req, 302, "", "Location", "/moved"), nil
			}
			return answerAfter(time.Hour)(req)
		}},
		"in the BodyFunc": {
			stuck: answerAfter(0),
			opt: fetch.WithBodyFunc(func(ctx context.Context, _ fetch.Result, _ io.Reader) error {
				return untilDone(ctx)
			}),
		},
		"in a BodyFunc that hides it": {
			stuck: stages["in the body"].stuck,
			opt: fetch.WithBodyFunc(func(_ context.Context, _ fetch.Result, body io.Reader) error {
				io.Copy(io.Discard, body)
				return nil
			}),
		},
		"in a transport that hides it": {stuck: func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, errors.New("something went wrong")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, errLeft)
				defer cancel()
				opts := []fetch.Option{fetch.WithTimeout(time.Second), over(c.stuck)}
				if c.opt != nil {
					opts = append(opts, c.opt)
				}
				start := time.Now()
				urls := []string{"http://host/"}
				results := fetch.FetchAll(ctx, urls, opts...)
				checkTook(t, "the batch", time.Since(start), time.Second)
				checkResults(t, urls, results)
				r := results[0]
				fetchErr, ok := errors.AsType[*fetch.Error](r.Err)
				if !errors.Is(r.Err, fetch.ErrTimeout) || !errors.Is(r.Err, context.DeadlineExceeded) || !ok || !fetchErr.Timeout() {
					t.Errorf("error %v, want ErrTimeout", r.Err)
				}
				if errors.Is(r.Err, errLeft) || errors.Is(r.Err, context.Canceled) {
					t.Errorf("error %v matches what the caller did not do", r.Err)
				}
				checkTook(t, "the attempt", r.Took, time.Second)
			})
		})
	}
}

// The timeouts that the client brings along, each at a real connection.
func TestTimeoutsOfTheClientAreErrTimeout(t *testing.T) {
	const soon = 50 * time.Millisecond
	silent := silentListener(t)
	for name, c := range map[string]struct {
		scheme    string
		client    time.Duration
		transport *http.Transport
	}{
		"client":        {"http", soon, &http.Transport{}},
		"response head": {"http", 0, &http.Transport{ResponseHeaderTimeout: soon}},
		"TLS handshake": {"https", 0, &http.Transport{TLSHandshakeTimeout: soon}},
		"dial": {"http", 0, &http.Transport{DialContext: (&net.Dialer{
			Timeout: soon,
			ControlContext: func(ctx context.Context, _, _ string, _ syscall.RawConn) error {
				return untilDone(ctx)
			},
		}).DialContext}},
	} {
		t.Run(name, func(t *testing.T) {
			defer c.transport.CloseIdleConnections()
			urls := []string{c.scheme + "://" + silent + "/"}
			results := fetch.FetchAll(t.Context(), urls, fetch.WithClient(&http.Client{Transport: c.transport, Timeout: c.client}))
			checkResults(t, urls, results)
			err := results[0].Err
			fetchErr, ok := errors.AsType[*fetch.Error](err)
			if !errors.Is(err, fetch.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) || !ok || !fetchErr.Timeout() {
				t.Errorf("error %v, want ErrTimeout", err)
			}
		})
	}
}

// explosives are the places where code of others runs inside a batch. The options
// that they return call explode there, and use calm for all other URLs.
var explosives = map[string]func(explode func(), calm roundTripFunc) []fetch.Option{
	"transport": func(explode func(), calm roundTripFunc) []fetch.Option {
		return []fetch.Option{over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Path == "/bomb" {
				explode()
			}
			return calm(req)
		})}
	},
	"response body": func(explode func(), calm roundTripFunc) []fetch.Option {
		return []fetch.Option{over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Path == "/bomb" {
				resp := respond(req, 200, "")
				resp.Body, resp.ContentLength = io.NopCloser(readFunc(func([]byte) (int, error) {
					explode()
					return 0, io.EOF
				})), -1
				return resp, nil
			}
			return calm(req)
		})}
	},
	"closing a response body": func(explode func(), calm roundTripFunc) []fetch.Option {
		return []fetch.Option{over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Path == "/bomb" {
				resp := respond(req, 200, "ok")
				resp.Body = &hookedBody{ReadCloser: resp.Body, onClose: explode}
				return resp, nil
			}
			return calm(req)
		})}
	},
	"BodyFunc": func(explode func(), calm roundTripFunc) []fetch.Option {
		return []fetch.Option{
			over(func(req *http.Request) (*http.Response, error) {
				if req.URL.Path == "/bomb" {
					return respond(req, 200, ""), nil
				}
				return calm(req)
			}),
			fetch.WithBodyFunc(func(_ context.Context, r fetch.Result, _ io.Reader) error {
				if strings.HasSuffix(r.URL, "/bomb") {
					explode()
				}
				return nil
			}),
		}
	},
	"RequestFunc": func(explode func(), calm roundTripFunc) []fetch.Option {
		return []fetch.Option{over(calm), fetch.WithRequestFunc(func(req *http.Request) error {
			if req.URL.Path == "/bomb" {
				explode()
			}
			return nil
		})}
	},
	"Limiter": func(explode func(), calm roundTripFunc) []fetch.Option {
		calls := 0
		return []fetch.Option{over(calm), fetch.WithLimiter(limiterFunc(func(context.Context) error {
			if calls++; calls == 4 {
				explode()
			}
			return nil
		}))}
	},
	"HostLimits": func(explode func(), calm roundTripFunc) []fetch.Option {
		return []fetch.Option{over(calm), fetch.WithHostLimits(func(host string) fetch.HostLimits {
			if host == "bomb" {
				explode()
			}
			return fetch.HostLimits{}
		})}
	},
	"CheckRedirect": func(explode func(), calm roundTripFunc) []fetch.Option {
		return []fetch.Option{fetch.WithClient(&http.Client{
			Transport: roundTripFunc(func(req *http.Request) (*http.Response, error) {
				if req.URL.Path == "/bomb" {
					return respond(req, 302, "", "Location", "/next"), nil
				}
				return calm(req)
			}),
			CheckRedirect: func(*http.Request, []*http.Request) error {
				explode()
				return nil
			},
		})}
	},
	"Jar": func(explode func(), calm roundTripFunc) []fetch.Option {
		return []fetch.Option{fetch.WithClient(&http.Client{
			Transport: calm,
			Jar: jarFunc(func(u *url.URL) []*http.Cookie {
				if u.Path == "/bomb" {
					explode()
				}
				return nil
			}),
		})}
	},
}

// bombURLs are those that the explosives go by: the fourth is the one.
var bombURLs = []string{"http://a/", "http://b/", "http://c/", "http://bomb/bomb", "http://a/2", "http://b/2"}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

type jarFunc func(*url.URL) []*http.Cookie

func (f jarFunc) SetCookies(*url.URL, []*http.Cookie)   {}
func (f jarFunc) Cookies(u *url.URL) (c []*http.Cookie) { return f(u) }

// detonate has a name to look for in a stack.
func detonate() { panic("boom") }

// recovered runs f on a goroutine of its own and returns what it panicked
// with, and whether it returned or panicked, rather than ended with Goexit.
func recovered(f func()) (value any, ended bool) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if value = recover(); value != nil {
				ended = true
			}
		}()
		f()
		ended = true
	}()
	<-done
	return value, ended
}

func TestPanicOfOthersCodeComesOutAtTheCaller(t *testing.T) {
	for name, options := range explosives {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				// The bomb goes off after a second, when the others are in flight.
				var flight inFlight
				f := newFetcher(t, append(options(func() {
					if name != "Limiter" && name != "HostLimits" { // no others start while these wait
						time.Sleep(time.Second)
					}
					detonate()
				}, flight.over(answerAfter(time.Hour))), fetch.WithTimeout(0))...)
				start := time.Now()
				value, _ := recovered(func() { f.FetchAll(t.Context(), bombURLs) })
				if took := time.Since(start); took > time.Second {
					t.Errorf("took %v: the others were not stopped", took)
				}
				if text := fmt.Sprint(value); !strings.Contains(text, "boom") || !strings.Contains(text, "detonate") {
					t.Errorf("recovered %.200q, want boom and the stack of where it happened", text)
				}
				if n := flight.current(); n != 0 {
					t.Errorf("%d requests still run", n)
				}
				urls := []string{"http://calm/"}
				mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
			})
		})
	}
}

func TestPanicLeavesNoRequestBodyOpen(t *testing.T) {
	for name, options := range explosives {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFetcher(t, append(options(detonate, answerAfter(time.Hour)), fetch.WithConcurrency(4))...)
				var reqs []*http.Request
				var bodies []*trackedBody
				for _, u := range bombURLs {
					body := newTrackedBody("data")
					req, err := http.NewRequest("POST", u, body)
					if err != nil {
						t.Fatal(err)
					}
					reqs, bodies = append(reqs, req), append(bodies, body)
				}
				if value, _ := recovered(func() { f.DoAll(t.Context(), reqs) }); value == nil {
					t.Error("the panic did not come out")
				}
				for i, body := range bodies {
					if !body.closed.Load() {
						t.Errorf("body %d is open", i)
					}
				}
			})
		})
	}
}

func TestPanicStopsItsBatchAndNoOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight inFlight
		var sent atomic.Int32 // of the batch that panics
		f := newFetcher(t, fetch.WithConcurrency(4), over(flight.over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "calm" {
				return answerAfter(100 * time.Millisecond)(req)
			}
			sent.Add(1)
			if req.URL.Path == "/0" {
				time.Sleep(time.Second)
				detonate()
			}
			return answerAfter(time.Hour)(req)
		})))
		var wg sync.WaitGroup
		wg.Go(func() {
			urls := numbered("http://calm", 100)
			mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
		})
		value, _ := recovered(func() { f.FetchAll(t.Context(), numbered("http://bomb", 50)) })
		if value == nil {
			t.Error("the panic did not come out")
		}
		if n := flight.currentOf("bomb"); n != 0 {
			t.Errorf("%d requests of the batch are in flight", n)
		}
		before := sent.Load()
		wg.Wait()
		if sent.Load() != before {
			t.Error("requests of the batch started after it had panicked")
		}
		// No slot was lost.
		start := time.Now()
		urls := numbered("http://calm", 40)
		mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
		checkTook(t, "40 requests of 100 ms, 4 at once,", time.Since(start), time.Second)
	})
}

func TestPanicValuesOfAllKindsComeOut(t *testing.T) {
	for name, value := range map[string]any{
		"nil":             nil,
		"error":           errors.New("boom"),
		"number":          42,
		"ErrAbortHandler": http.ErrAbortHandler,
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := recovered(func() {
				fetch.FetchAll(t.Context(), []string{"http://host/"}, over(func(*http.Request) (*http.Response, error) { panic(value) }))
			})
			if got == nil || value != nil && !strings.Contains(fmt.Sprint(got), fmt.Sprint(value)) {
				t.Errorf("recovered %.100q, want %v", fmt.Sprint(got), value)
			}
		})
	}
}

// net/http reads request bodies on goroutines of its own.
func TestPanicOfARequestBodyComesOutAtTheCaller(t *testing.T) {
	server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) { io.Copy(io.Discard, req.Body) })
	f := newFetcher(t)
	body := readFunc(func([]byte) (int, error) {
		detonate()
		return 0, io.EOF
	})
	req, err := http.NewRequest("POST", server.URL, body)
	if err != nil {
		t.Fatal(err)
	}
	value, _ := recovered(func() { f.DoAll(t.Context(), []*http.Request{req}) })
	if text := fmt.Sprint(value); !strings.Contains(text, "boom") || !strings.Contains(text, "detonate") {
		t.Errorf("recovered %.200q", text)
	}
	urls := []string{server.URL}
	mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
}

// That is what t.FailNow does.
func TestGoexitInOthersCodeIsAnErrorOfThatURL(t *testing.T) {
	for name, options := range explosives {
		if name == "Limiter" {
			continue // below: it is not the code of one URL
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFetcher(t, append(options(runtime.Goexit, answerAfter(time.Hour)), fetch.WithTimeout(time.Minute), fetch.WithConcurrency(1))...)
				var results []fetch.Result
				start := time.Now()
				value, ended := recovered(func() { results = f.FetchAll(t.Context(), bombURLs) })
				if value != nil || !ended {
					t.Fatalf("FetchAll panicked with %v, or never returned", value)
				}
				// Five run into their timeout one after another: the slot was not lost.
				checkTook(t, "the batch", time.Since(start), 5*time.Minute)
				checkResults(t, bombURLs, results)
				for i, r := range results {
					if r.Err == nil || errors.Is(r.Err, fetch.ErrTimeout) != (i != 3) {
						t.Errorf("%s: %v", r.URL, r.Err)
					}
				}
			})
		})
	}
}

func TestGoexitInTheLimiterIsAnErrorOfOneURL(t *testing.T) {
	calls := 0
	urls := hostURLs(5, "a")
	results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1), over(answerAfter(0)),
		fetch.WithLimiter(limiterFunc(func(context.Context) error {
			if calls++; calls == 2 {
				runtime.Goexit()
			}
			return nil
		})))
	checkResults(t, urls, results)
	for i, r := range results {
		if (r.Err != nil) != (i == 1) {
			t.Errorf("result %d: %v", i, r.Err)
		}
	}
}
