package watching_test

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// A logbook keeps the Results of which it was told, by their index.
type logbook struct {
	mu   sync.Mutex
	done map[int][]fetch.Result
}

func (l *logbook) hooks() fetch.Option {
	l.done = map[int][]fetch.Result{}
	return fetch.WithHooks(fetch.Hooks{Done: func(r fetch.Result) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.done[r.Index] = append(l.done[r.Index], r)
	}})
}

// check checks that a Result was told before it was handed out, once, as it is.
func (l *logbook) check(t *testing.T, r fetch.Result) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	told := l.done[r.Index]
	if len(told) != 1 {
		t.Errorf("%q: told %d times", r.URL, len(told))
		return
	}
	if got, want := summary(told[0]), summary(r); got != want {
		t.Errorf("told of\n%s\nwhere the result is\n%s", got, want)
	}
}

// summary has all of a Result, errors by their text.
func summary(r fetch.Result) string {
	var history []string
	for _, a := range r.History {
		history = append(history, fmt.Sprint(a.StatusCode, a.Err, a.Started, a.Took, a.RetryAfter))
	}
	return fmt.Sprint(r.Index, r.URL, r.FinalURL, r.StatusCode, r.Header, string(r.Body), r.Err, r.Attempts, r.Redirects,
		r.Waited, r.Took, r.Queued, r.Started, r.Request, history)
}

// mixed are URLs of every fate, each twice.
func mixed() []string {
	var urls []string
	for range 2 {
		urls = append(urls, "http://a.example/ok", "not a URL", "http://down.example/", "http://moved.example/", "http://b.example/ok",
			"http://busy.example/", "http://slow.example/", "http://a.example/ok", "http://c.example:99999/")
	}
	return urls
}

func answerMixed(req *http.Request) (*http.Response, error) {
	switch req.URL.Host {
	case "down.example":
		return nil, fetchtest.ErrReset
	case "moved.example":
		return fetchtest.Respond(req, 302, "", "Location", "http://busy.example/"), nil
	case "busy.example":
		return fetchtest.Respond(req, 429, "", "Retry-After", "1"), nil
	case "slow.example":
		return fetchtest.AnswerAfter(time.Minute)(req)
	}
	return fetchtest.AnswerAfter(10 * time.Millisecond)(req)
}

// runs are the ways to get results. Each takes as many as it wants from the iterator.
var runs = map[string]func(f *fetch.Fetcher, ctx context.Context) iter.Seq[fetch.Result]{
	"FetchAll": func(f *fetch.Fetcher, ctx context.Context) iter.Seq[fetch.Result] {
		return slices.Values(f.FetchAll(ctx, mixed()))
	},
	"Stream": func(f *fetch.Fetcher, ctx context.Context) iter.Seq[fetch.Result] {
		return f.Stream(ctx, slices.Values(mixed()))
	},
	"DoAll": func(f *fetch.Fetcher, ctx context.Context) iter.Seq[fetch.Result] {
		return slices.Values(f.DoAll(ctx, requests()))
	},
	"DoStream": func(f *fetch.Fetcher, ctx context.Context) iter.Seq[fetch.Result] {
		return f.DoStream(ctx, slices.Values(requests()))
	},
}

// requests returns requests for URLs that can be parsed, and one that is nil.
func requests() []*http.Request {
	reqs := []*http.Request{nil}
	for _, u := range mixed() {
		if req, err := http.NewRequest("PUT", u, fetchtest.NewTrackedBody("body")); err == nil {
			reqs = append(reqs, req)
		}
	}
	return reqs
}

func TestDoneIsToldOnceOfEachURL(t *testing.T) {
	for name, run := range runs {
		for _, dedup := range []bool{false, true} {
			for _, inOrder := range []bool{false, true} {
				for _, ends := range []time.Duration{0, time.Millisecond, 1500 * time.Millisecond, time.Hour} {
					t.Run(fmt.Sprintf("%s, dedup %v, in order %v, ends after %v", name, dedup, inOrder, ends), func(t *testing.T) {
						synctest.Test(t, func(t *testing.T) {
							var log logbook
							opts := []fetch.Option{log.hooks(), fetchtest.Over(answerMixed), fetch.WithRetries(2), fetch.WithConcurrency(3), fetch.WithMaxRetryAfter(10 * time.Second), fetch.WithMaxHostFailures(2)}
							if dedup {
								opts = append(opts, fetch.WithDedup())
							}
							if inOrder {
								opts = append(opts, fetch.WithInOrder())
							}
							ctx, cancel := context.WithTimeout(t.Context(), ends)
							defer cancel()
							n := 0
							for r := range run(fetchtest.NewFetcher(t, opts...), ctx) {
								n++
								log.check(t, r)
							}
							if len(log.done) != n || n == 0 && ends > 0 {
								t.Errorf("told of %d URLs, and there are %d results", len(log.done), n)
							}
						})
					})
				}
			}
		}
	}
}

// Inputs that were read before the loop was left are told of, too.
func TestDoneIsToldOfResultsThatNobodyReads(t *testing.T) {
	for _, inOrder := range []bool{false, true} {
		for leaveAfter := 1; leaveAfter < 10; leaveAfter++ {
			synctest.Test(t, func(t *testing.T) {
				var log logbook
				read := 0
				opts := []fetch.Option{log.hooks(), fetchtest.Over(answerMixed), fetch.WithDedup(), fetch.WithConcurrency(2), fetch.WithLookahead(12)}
				if inOrder {
					opts = append(opts, fetch.WithInOrder())
				}
				yielded := 0
				for range fetchtest.NewFetcher(t, opts...).Stream(t.Context(), func(yield func(string) bool) {
					for _, u := range mixed() {
						read++
						if !yield(u) {
							return
						}
					}
				}) {
					if yielded++; yielded == leaveAfter {
						break
					}
				}
				if len(log.done) != read {
					t.Errorf("told of %d URLs, %d were read", len(log.done), read)
				}
				for index, told := range log.done {
					if len(told) != 1 {
						t.Errorf("told %d times of %d", len(told), index)
					}
				}
			})
		}
	}
}

func TestAttemptsAreToldWithTheTimeOfTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const ms = time.Millisecond
		rt := fetchtest.InTurn(
			fetchtest.Taking(10*ms, fetchtest.Failing(fetchtest.ErrReset)),
			fetchtest.Taking(20*ms, fetchtest.Always(503, "Retry-After", "3")),
			fetchtest.Taking(30*ms, fetchtest.Always(302, "Location", "/2")),
		)
		start := time.Now()
		var told []string
		r := fetchtest.GetOne(t, "http://a.example/", fetch.WithRetries(5), fetchtest.WithoutBackOff,
			fetchtest.Over(func(req *http.Request) (*http.Response, error) {
				if req.URL.Path == "/2" {
					return fetchtest.AnswerAfter(5 * ms)(req)
				}
				return rt(req)
			}),
			fetch.WithHooks(fetch.Hooks{Attempt: func(r fetch.Result, again time.Time) {
				next := "never"
				if !again.IsZero() {
					next = again.Sub(start).String()
				}
				told = append(told, fmt.Sprintf("%v: %d of %d in history, %d, %v, took %v, %d redirects, again %s",
					time.Since(start), r.Attempts, len(r.History), r.StatusCode, r.Err != nil, r.Took, r.Redirects, next))
			}}))
		want := []string{
			"10ms: 1 of 0 in history, 0, true, took 10ms, 0 redirects, again 10ms",
			"30ms: 2 of 2 in history, 503, false, took 30ms, 0 redirects, again 3.03s",
			"3.065s: 3 of 3 in history, 200, false, took 65ms, 1 redirects, again never",
		}
		if !slices.Equal(told, want) || r.Attempts != 3 {
			t.Errorf("told of\n%s\nwant\n%s", strings.Join(told, "\n"), strings.Join(want, "\n"))
		}
	})
}

// Where a host refuses without saying for how long, the pause that follows is known all the same.
func TestTheTimeOfTheNextAttemptCountsPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		steps := fetchtest.InTurn(
			fetchtest.Always(429), fetchtest.Always(429), fetchtest.Always(429, "Retry-After", "9"), fetchtest.Always(503, "Retry-After", "1"), fetchtest.AtOnce,
		)
		var told []time.Time
		r := fetchtest.GetOne(t, "http://a.example/", fetch.WithRetries(5), fetch.WithBackoff(time.Second, time.Minute), fetchtest.Over(steps),
			fetch.WithHooks(fetch.Hooks{Attempt: func(_ fetch.Result, again time.Time) { told = append(told, again) }}))
		if !r.OK() || len(r.History) != 5 || len(told) != 5 {
			t.Fatalf("%v after %d attempts, told of %d", r.Err, r.Attempts, len(told))
		}
		for i, next := range r.History[1:] {
			if next.Started != told[i] {
				t.Errorf("attempt %d began at %v, and %v was told", i+2, next.Started, told[i])
			}
		}
	})
}

func TestPausesAreToldWhenTheyGrow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var mu sync.Mutex
		var told []string
		urls := fetchtest.HostURLs(6, "busy.example:8080", "calm.example")
		results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(3),
			fetchtest.Over(fetchtest.ByHost(map[string]fetchtest.RoundTripFunc{
				"calm.example": fetchtest.AnswerAfter(time.Millisecond),
				"busy.example:8080": func(req *http.Request) (*http.Response, error) {
					var n int
					fmt.Sscanf(req.URL.Path, "/%d", &n)
					if time.Since(start) > 0 {
						return fetchtest.Respond(req, 200, "ok"), nil
					}
					// The second and the fourth ask for more than was known.
					return fetchtest.Taking(time.Duration(n+1)*time.Millisecond, fetchtest.Always(429, "Retry-After", []string{"2", "4", "3", "5", "5", "1"}[n%6]))(req)
				},
			})),
			fetch.WithHooks(fetch.Hooks{Paused: func(host string, until time.Time) {
				mu.Lock()
				defer mu.Unlock()
				told = append(told, fmt.Sprint(host, " ", until.Sub(start).Round(time.Second)))
			}}))
		fetchtest.MustAllBeFine(t, urls, results)
		seconds := 0
		for i, text := range told {
			var now int
			if n, _ := fmt.Sscanf(text, "busy.example:8080 %ds", &now); n != 1 || now < seconds || i == 0 && now < 2 {
				t.Errorf("told of %q", told)
			}
			seconds = now
		}
		if len(told) < 2 || seconds != 5 {
			t.Errorf("told of %q", told)
		}
	})
}

// It runs without a slot and without the lock: it may ask the Fetcher, and holds up no other host.
func TestAPanicOfPausedComesOutAtTheCaller(t *testing.T) {
	for name, blow := range map[string]func(){"panic": func() { panic("boom") }, "Goexit": runtime.Goexit} {
		synctest.Test(t, func(t *testing.T) {
			urls := fetchtest.HostURLs(3, "busy", "calm")
			f := fetchtest.NewFetcher(t, fetch.WithConcurrency(2), fetchtest.Over(fetchtest.ByHost(map[string]fetchtest.RoundTripFunc{
				"calm": fetchtest.AnswerAfter(time.Millisecond), "busy": fetchtest.Always(429, "Retry-After", "1"),
			})), fetch.WithHooks(fetch.Hooks{Paused: func(string, time.Time) { blow() }}))
			var results []fetch.Result
			value, _ := fetchtest.Recovered(func() { results = f.FetchAll(t.Context(), urls) })
			if panics := name == "panic"; panics != (value != nil) || panics && !strings.Contains(fmt.Sprint(value), "boom") {
				t.Errorf("%s: %.200v came out", name, value)
			}
			if name == "Goexit" {
				fetchtest.CheckResults(t, urls, results) // a host is nobody's URL
			}
			fetchtest.MustFetch(t, f, "http://calm/") // no slot is lost
		})
	}
}

func TestHooksAddUpInTheirOrder(t *testing.T) {
	var told []string
	hooks := func(name string) fetch.Option {
		return fetch.WithHooks(fetch.Hooks{
			Attempt: func(fetch.Result, time.Time) { told = append(told, name+" attempt") },
			Done:    func(fetch.Result) { told = append(told, name+" done") },
			Paused:  func(string, time.Time) { told = append(told, name+" paused") },
		})
	}
	r := fetchtest.GetOne(t, "http://a.example/", fetchtest.Over(fetchtest.Always(429, "Retry-After", "1")), hooks("first"), fetch.WithHooks(fetch.Hooks{}), hooks("second"))
	if r.Err != nil {
		t.Error(r.Err)
	}
	if want := []string{"first attempt", "second attempt", "first done", "second done", "first paused", "second paused"}; !slices.Equal(told, want) {
		t.Errorf("told %q", told)
	}
}

// The hooks' Result has what the caller's code may read at that time, and no more is shared.
func TestHooksMayKeepResults(t *testing.T) {
	var log logbook
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) { io.WriteString(w, req.URL.Path) })
	urls := fetchtest.Numbered(server.URL, 300)
	results := fetch.FetchAll(t.Context(), urls, log.hooks())
	fetchtest.MustAllBeFine(t, urls, results)
	for _, r := range results {
		log.check(t, r)
	}
}
