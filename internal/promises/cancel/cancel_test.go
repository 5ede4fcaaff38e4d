package cancel_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// stages are where a URL can be when its batch is cancelled. Each has a transport that
// the URLs after the first, http://done/, get stuck in, or options that keep them from it.
var stages = map[string]struct {
	opts  func() []fetch.Option
	stuck fetchtest.RoundTripFunc // nil: none must get there
}{
	"waiting for a slot": {
		opts:  func() []fetch.Option { return []fetch.Option{fetch.WithConcurrency(1)} },
		stuck: fetchtest.AnswerAfter(1000 * time.Hour),
	},
	"waiting for its host": {
		opts:  func() []fetch.Option { return []fetch.Option{fetch.WithHostConcurrency(1)} },
		stuck: fetchtest.AnswerAfter(1000 * time.Hour),
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
		stuck: fetchtest.AnswerAfter(1000 * time.Hour), // the burst
	},
	"waiting for the limiter": {
		opts: func() []fetch.Option {
			var calls atomic.Int32
			return []fetch.Option{fetch.WithLimiter(fetchtest.LimiterFunc(func(ctx context.Context) error {
				if calls.Add(1) == 1 {
					return nil
				}
				return fetchtest.UntilDone(ctx)
			}))}
		},
	},
	"waiting for the head": {stuck: fetchtest.AnswerAfter(1000 * time.Hour)},
	"in the body": {stuck: func(req *http.Request) (*http.Response, error) {
		resp := fetchtest.Respond(req, 200, "")
		resp.Body, resp.ContentLength = fetchtest.Stalled(req.Context(), "the first half"), 1000
		return resp, nil
	}},
	"in a body of unknown length": {stuck: func(req *http.Request) (*http.Response, error) {
		resp := fetchtest.Respond(req, 200, "")
		resp.Body, resp.ContentLength = fetchtest.Stalled(req.Context(), "the first half"), -1
		return resp, nil
	}},
	"in the BodyFunc": {
		opts: func() []fetch.Option {
			return []fetch.Option{fetch.WithBodyFunc(func(ctx context.Context, r fetch.Result, body io.Reader) error {
				if r.StatusCode == 202 {
					return fetchtest.UntilDone(ctx)
				}
				_, err := io.Copy(io.Discard, body)
				return err
			})}
		},
		stuck: func(req *http.Request) (*http.Response, error) { return fetchtest.Respond(req, 202, "ok"), nil },
	},
	"in the BodyFunc, in the body": {
		opts: func() []fetch.Option {
			return []fetch.Option{fetch.WithBodyFunc(func(_ context.Context, r fetch.Result, body io.Reader) error {
				io.Copy(io.Discard, body)
				return nil
			})}
		},
		stuck: func(req *http.Request) (*http.Response, error) {
			resp := fetchtest.Respond(req, 200, "")
			resp.Body, resp.ContentLength = fetchtest.Stalled(req.Context(), "the first half"), -1
			return resp, nil
		},
	},
	"on its way to another host": {
		opts: func() []fetch.Option { return []fetch.Option{fetch.WithHostConcurrency(1)} },
		stuck: func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "target" {
				return fetchtest.AnswerAfter(1000 * time.Hour)(req)
			}
			return fetchtest.Respond(req, 302, "", "Location", "http://target/"), nil
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
			time.AfterFunc(d, func() { cancel(fetchtest.ErrLeft) })
			return ctx, func() { cancel(nil) }
		},
		"deadline": func(parent context.Context, d time.Duration) (context.Context, func()) {
			ctx, cancel := context.WithTimeout(parent, d)
			return ctx, cancel
		},
		"deadline with a cause": func(parent context.Context, d time.Duration) (context.Context, func()) {
			ctx, cancel := context.WithTimeoutCause(parent, d, fetchtest.ErrLeft)
			return ctx, cancel
		},
	}
	for name, stage := range stages {
		for kind, newContext := range contexts {
			t.Run(name+", "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var sent atomic.Int32
					opts := []fetch.Option{fetch.WithTimeout(0), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
						sent.Add(1)
						switch {
						case req.URL.Host == "done":
							return fetchtest.Respond(req, 200, "ok"), nil
						case stage.stuck == nil:
							t.Errorf("%s was sent", req.URL)
							return fetchtest.Respond(req, 500, ""), nil
						}
						return stage.stuck(req)
					})}
					if stage.opts != nil {
						opts = append(opts, stage.opts()...)
					}
					f := fetchtest.NewFetcher(t, opts...)
					urls := append([]string{"http://done/", "http://%zz/"}, fetchtest.HostURLs(10, "a", "b")...)

					start := time.Now()
					ctx, stop := newContext(t.Context(), time.Second)
					defer stop()
					results := f.FetchAll(ctx, urls)
					fetchtest.CheckTook(t, "the batch", time.Since(start), time.Second)
					fetchtest.CheckResults(t, urls, results)
					if r := results[0]; !r.OK() {
						t.Errorf("what was done is lost: %+v", r)
					}
					if !errors.Is(results[1].Err, fetch.ErrInvalidURL) {
						t.Errorf("the error that was there before is lost: %v", results[1].Err)
					}
					for _, r := range results[2:] {
						fetchtest.CheckCancelled(t, ctx, r)
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
	transport := fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		sent.Add(1)
		return fetchtest.Respond(req, 200, "ok"), nil
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(fetchtest.ErrLeft)
	urls := append(fetchtest.HostURLs(100, "a", "b"), "ftp://host/")
	results := fetch.FetchAll(ctx, urls, transport)
	fetchtest.CheckResults(t, urls, results)
	for _, r := range results[:200] {
		fetchtest.CheckCancelled(t, ctx, r)
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
		urls := fetchtest.HostURLs(25, "a", "b")
		results := fetch.FetchAll(ctx, urls, fetch.WithConcurrency(1), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			if sent++; sent == last+1 {
				cancel(fetchtest.ErrLeft)
			}
			return fetchtest.Respond(req, 200, "ok"), nil
		}))
		fetchtest.CheckResults(t, urls, results)
		if sent != last+1 {
			t.Errorf("%d requests were sent, the cancel came in number %d", sent, last+1)
		}
		done := 0
		for _, r := range results {
			if r.OK() {
				done++
			} else {
				fetchtest.CheckCancelled(t, ctx, r)
			}
		}
		// The one that cancels may have been finished or not.
		if done != last && done != last+1 {
			t.Errorf("%d are done, the cancel came in number %d", done, last+1)
		}
	}
}

func TestCancelOf100000QueuedURLsIsQuick(t *testing.T) {
	urls := fetchtest.HostURLs(100, slices.Collect(fetchtest.NumberedHosts(1000))...)
	cancelAll := func() time.Duration {
		ctx, cancel := context.WithCancelCause(t.Context())
		var once sync.Once
		var cancelled time.Time
		results := fetch.FetchAll(ctx, urls, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			once.Do(func() {
				cancelled = time.Now()
				cancel(fetchtest.ErrLeft)
			})
			return nil, fetchtest.UntilDone(req.Context())
		}))
		took := time.Since(cancelled)
		fetchtest.CheckResults(t, urls, results)
		for _, r := range results {
			if !errors.Is(r.Err, fetchtest.ErrLeft) || !errors.Is(r.Err, context.Canceled) {
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
			return nil, fetchtest.UntilDone(ctx)
		}}
		// net/http lets a dial go on that no request waits for any more; this ends it.
		defer transport.CloseIdleConnections()
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(fetchtest.ErrLeft) })
		start := time.Now()
		urls := fetchtest.HostURLs(5, "a", "b")
		results := fetch.FetchAll(ctx, urls, fetch.WithClient(fetchtest.NewClient(transport)))
		fetchtest.CheckTook(t, "the batch", time.Since(start), time.Second)
		fetchtest.CheckResults(t, urls, results)
		for _, r := range results {
			fetchtest.CheckCancelled(t, ctx, r)
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
	server, conns := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
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
		cancel(fetchtest.ErrLeft)
	})
	results := fetch.FetchAll(ctx, urls)
	took := time.Since(cancelled)
	fetchtest.CheckResults(t, urls, results)
	if !results[0].OK() {
		t.Errorf("what was done is lost: %v", results[0].Err)
	}
	for _, r := range results[1:] {
		fetchtest.CheckCancelled(t, ctx, r)
		if half := strings.HasSuffix(r.URL, "/half"); half != (r.StatusCode == 200) {
			t.Errorf("%s: status %d", r.URL, r.StatusCode)
		}
	}
	if took > 2*time.Second {
		t.Errorf("took %v after the cancel", took)
	}
	if !conns.WaitForNone() {
		t.Error("connections are left open")
	}
	fetchtest.CheckNoLeaks(t)
}

func TestCancelOfOneBatchLeavesOthersAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight fetchtest.InFlight
		f := fetchtest.NewFetcher(t, fetch.WithConcurrency(4), fetchtest.Over(flight.Over(fetchtest.AnswerAfter(100*time.Millisecond))))
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(450*time.Millisecond, cancel)
		var wg sync.WaitGroup
		wg.Go(func() {
			urls := fetchtest.HostURLs(1000, "cancelled")
			fetchtest.CheckResults(t, urls, f.FetchAll(ctx, urls))
		})
		start := time.Now()
		fetchtest.MustFetch(t, f, fetchtest.HostURLs(48, "other")...)
		// Two slots until the cancel, which is ten URLs, then all four.
		if took := time.Since(start); took > 1500*time.Millisecond {
			t.Errorf("the other batch took %v, want about 1.45 s", took)
		}
		wg.Wait()
		if flight.Most() != 4 || flight.Current() != 0 {
			t.Errorf("%d were in flight at once, %d are left", flight.Most(), flight.Current())
		}
	})
}

// Nothing can interrupt a transport that does not look at its context.
func TestTransportThatIgnoresItsContextIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Second, func() { cancel(fetchtest.ErrLeft) })
		var running atomic.Int32
		start := time.Now()
		urls := fetchtest.HostURLs(5, "a", "b")
		results := fetch.FetchAll(ctx, urls, fetch.WithConcurrency(2), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			running.Add(1)
			defer running.Add(-1)
			time.Sleep(5 * time.Second)
			return fetchtest.Respond(req, 200, "ok"), nil
		}))
		fetchtest.CheckTook(t, "the batch", time.Since(start), 5*time.Second)
		fetchtest.CheckResults(t, urls, results)
		if running.Load() != 0 {
			t.Error("a request still runs")
		}
		for _, r := range results[2:] {
			fetchtest.CheckCancelled(t, ctx, r)
		}
	})
}

func TestContextOfARequestEndsThatRequestOnly(t *testing.T) {
	cause := errors.New("the user left")
	for name, c := range map[string]struct {
		opts  []fetch.Option
		first time.Duration // what the request before it takes
		sent  int
	}{
		"in flight":            {sent: 2},
		"waiting for a slot":   {opts: []fetch.Option{fetch.WithConcurrency(1)}, first: time.Minute, sent: 1},
		"waiting for its host": {opts: []fetch.Option{fetch.WithHostConcurrency(1)}, first: time.Minute, sent: 1},
		"waiting for a rate":   {opts: []fetch.Option{fetch.WithRate(1e-6, 1)}, sent: 1},
		"waiting for its rate": {opts: []fetch.Option{fetch.WithHostRate(1e-6, 1)}, sent: 1},
	} {
		for _, kind := range []string{"cancel", "deadline"} {
			t.Run(name+", "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var sent atomic.Int32
					f := fetchtest.NewFetcher(t, append(c.opts, fetch.WithTimeout(0), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
						sent.Add(1)
						if req.URL.Path == "/first" {
							return fetchtest.AnswerAfter(c.first)(req)
						}
						return fetchtest.AnswerAfter(time.Hour)(req)
					}))...)
					ctx, cancel := context.WithCancelCause(t.Context())
					time.AfterFunc(time.Second, func() { cancel(cause) })
					wantErr := context.Canceled
					if kind == "deadline" {
						var stop context.CancelFunc
						ctx, stop = context.WithTimeoutCause(t.Context(), time.Second, cause)
						defer stop()
						wantErr = context.DeadlineExceeded
					}
					first, _ := http.NewRequest("GET", "http://host/first", nil)
					second, _ := http.NewRequestWithContext(ctx, "GET", "http://host/second", nil)

					start := time.Now()
					results := f.DoAll(t.Context(), []*http.Request{first, second})
					fetchtest.CheckTook(t, "the batch", time.Since(start), max(c.first, time.Second))
					fetchtest.CheckResults(t, []string{"http://host/first", "http://host/second"}, results)
					if results[0].Err != nil {
						t.Errorf("first: %v", results[0].Err)
					}
					err := results[1].Err
					if !errors.Is(err, wantErr) || !errors.Is(err, cause) || errors.Is(err, fetch.ErrTimeout) {
						t.Errorf("second: %v, want %v and the cause", err, wantErr)
					}
					if int(sent.Load()) != c.sent || results[1].Attempts != c.sent-1 {
						t.Errorf("%d were sent, the second %d times, want %d in all", sent.Load(), results[1].Attempts, c.sent)
					}
				})
			})
		}
	}
}
