package panics_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// Bodies of requests that are never sent are closed as well, on whichever goroutine
// finds out: of the caller, of a context, of the Limiter, of a worker.

// unsent are ways for http://bomb/bomb not to be sent. They return the options, and what to do when the batch has started.
var unsent = map[string]func(bomb *http.Request, cancel func()) (opts []fetch.Option, before func()){
	"context done before": func(_ *http.Request, cancel func()) ([]fetch.Option, func()) {
		return []fetch.Option{fetchtest.Over(fetchtest.AnswerAfter(0))}, cancel
	},
	"invalid request": func(bomb *http.Request, _ func()) ([]fetch.Option, func()) {
		bomb.Header["bad field"] = []string{"x"}
		return []fetch.Option{fetchtest.Over(fetchtest.AnswerAfter(0))}, nil
	},
	"bad limits": func(*http.Request, func()) ([]fetch.Option, func()) {
		return []fetch.Option{fetchtest.Over(fetchtest.AnswerAfter(0)), fetch.WithHostLimits(func(host string) fetch.HostLimits {
			if host == "bomb" {
				return fetch.HostLimits{Burst: -1}
			}
			return fetch.HostLimits{}
		})}, nil
	},
	"cancelled while it waits": func(_ *http.Request, cancel func()) ([]fetch.Option, func()) {
		time.AfterFunc(time.Second, cancel)
		return []fetch.Option{fetch.WithTimeout(0), fetch.WithConcurrency(1), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Path == "/first" {
				return nil, fetchtest.UntilDone(req.Context())
			}
			return fetchtest.Respond(req, 200, "ok"), nil
		})}, nil
	},
	"its own context ends while it waits": func(bomb *http.Request, _ func()) ([]fetch.Option, func()) {
		ctx, cancel := context.WithCancel(bomb.Context())
		*bomb = *bomb.WithContext(ctx)
		time.AfterFunc(time.Second, cancel)
		return []fetch.Option{fetchtest.Over(fetchtest.AnswerAfter(10 * time.Second)), fetch.WithConcurrency(1)}, nil
	},
	"its own context has ended": func(bomb *http.Request, _ func()) ([]fetch.Option, func()) {
		ctx, cancel := context.WithCancel(bomb.Context())
		cancel()
		*bomb = *bomb.WithContext(ctx)
		return []fetch.Option{fetchtest.Over(fetchtest.AnswerAfter(0))}, nil
	},
	"the Limiter fails": func(*http.Request, func()) ([]fetch.Option, func()) {
		n := 0
		return []fetch.Option{fetchtest.Over(fetchtest.AnswerAfter(0)), fetch.WithConcurrency(1), fetch.WithLimiter(fetchtest.LimiterFunc(func(context.Context) error {
			if n++; n == 2 {
				return errors.New("no permit")
			}
			return nil
		}))}, nil
	},
	"its host is paused": func(bomb *http.Request, _ func()) ([]fetch.Option, func()) {
		return []fetch.Option{fetch.WithConcurrency(1), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "bomb" {
				return fetchtest.Respond(req, 429, "", "Retry-After", "3600"), nil
			}
			return fetchtest.Respond(req, 200, "ok"), nil
		})}, nil
	},
	"its host is down": func(bomb *http.Request, _ func()) ([]fetch.Option, func()) {
		return []fetch.Option{fetch.WithConcurrency(1), fetch.WithMaxHostFailures(1), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "bomb" {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
			}
			return fetchtest.Respond(req, 200, "ok"), nil
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
							req := fetchtest.NewRequest(t, "PUT", u, nil)
							req.Body = body
							reqs = append(reqs, req)
						}
						opts, before := prepare(reqs[1], cancel)
						f := fetchtest.NewFetcher(t, opts...)
						if before != nil {
							before()
						}
						var results []fetch.Result
						start := time.Now()
						value, ended := fetchtest.Recovered(func() { results = run(f, ctx, reqs) })
						if took := time.Since(start); took > time.Minute {
							t.Errorf("took %v", took)
						}
						b.checkOut(t, value, ended)
						checkClosed(t, call, reqs)
						if !b.isPanic() {
							fetchtest.CheckResults(t, urlsOf(reqs), results)
							if len(results) == len(reqs) && results[1].Err == nil {
								t.Error("it was sent")
							}
						}
						fetchtest.MustFetch(t, f, "http://a/")
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
							reqs := []*http.Request{req, fetchtest.NewRequest(t, "GET", urls[0], nil), fetchtest.NewRequest(t, "GET", urls[1], nil)}
							sendBlasts(t, f, b, reqs, run)
							if !bomb.closed.Load() {
								t.Error("the body is open")
							}
							fetchtest.MustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
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
	listener := fetchtest.ServePipes(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
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
			conn, err := listener.Dial(ctx, network, addr)
			if wrap != nil && err == nil {
				conn = wrap(conn)
			}
			return conn, err
		},
	}
	transport.Protocols.SetHTTP1(version == 1)
	transport.Protocols.SetUnencryptedHTTP2(version == 2)
	t.Cleanup(transport.CloseIdleConnections)
	f := fetchtest.NewFetcher(t, fetch.WithClient(fetchtest.NewClient(transport)), fetch.WithConcurrency(3), fetch.WithTimeout(10*time.Minute))
	return f, []string{"http://calm/1", "http://calm/2"}
}

// sendBlasts sends requests of which the first has a body that blows up.
func sendBlasts(t *testing.T, f *fetch.Fetcher, b blast, reqs []*http.Request, run func(*fetch.Fetcher, context.Context, []*http.Request) []fetch.Result) {
	t.Helper()
	var results []fetch.Result
	start := time.Now()
	value, ended := fetchtest.Recovered(func() { results = run(f, t.Context(), reqs) })
	if took := time.Since(start); took > time.Minute {
		t.Errorf("took %v", took)
	}
	b.checkOut(t, value, ended)
	if !b.isPanic() {
		checkOneError(t, reqs, results, false)
	}
	checkNothingRuns(t)
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
					fetchtest.MustFetch(t, f, "http://bomb/calm")
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
		listener := fetchtest.ServePipes(t, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { io.Copy(w, req.Body) }))
		transport := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := listener.Dial(ctx, network, addr)
			return &mortalConn{Conn: conn, dead: &dead}, err
		}}
		defer transport.CloseIdleConnections()
		f := fetchtest.NewFetcher(t, fetch.WithClient(fetchtest.NewClient(transport)), fetch.WithTimeout(time.Minute))
		fetchtest.MustFetch(t, f, "http://bomb/calm")
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
		fetchtest.CheckResult(t, 0, req.URL.String(), r)
		if !errors.Is(r.Err, fetch.ErrTimeout) {
			t.Errorf("got %v, want ErrTimeout", r.Err)
		}
		fetchtest.CheckTook(t, "the attempt", time.Since(start), time.Minute)
		time.Sleep(time.Second)
		select {
		case <-closed:
		default:
			t.Error("the body is open")
			close(closed)
		}
	})
}
