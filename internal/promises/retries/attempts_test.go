package retries_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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

func TestRetriesObeyEveryLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight fetchtest.InFlight
		var all, a fetchtest.StartLog
		var permits atomic.Int32
		urls := fetchtest.HostURLs(50, "a.example", "b.example")
		rt := fetchtest.Flaky(0.4, fetchtest.Taking(200*time.Millisecond, fetchtest.Failing(fetchtest.ErrReset)), fetchtest.AnswerAfter(200*time.Millisecond))
		results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(8), fetch.WithBackoff(10*time.Millisecond, 50*time.Millisecond),
			fetch.WithConcurrency(6), fetch.WithHostConcurrency(4), fetch.WithRate(40, 5), fetch.WithHostRate(25, 3),
			fetch.WithHostLimits(func(host string) fetch.HostLimits {
				if host == "b.example" {
					return fetch.HostLimits{Concurrency: 2}
				}
				return fetch.HostLimits{}
			}),
			fetch.WithLimiter(fetchtest.LimiterFunc(func(context.Context) error {
				permits.Add(1)
				return nil
			})),
			fetchtest.Over(flight.Over(func(req *http.Request) (*http.Response, error) {
				all.Add()
				if req.URL.Host == "a.example" {
					a.Add()
				}
				return rt(req)
			})))
		fetchtest.MustAllBeFine(t, urls, results)
		attempts := 0
		for _, r := range results {
			attempts += r.Attempts
		}
		if n := flight.Total(); n != attempts || n < 130 || int(permits.Load()) < n || int(permits.Load()) > n+1 {
			t.Errorf("%d requests, %d attempts, %d permits", n, attempts, permits.Load())
		}
		all.Check(t, 40, 5)
		a.Check(t, 25, 3)
		if flight.Most() != 6 || flight.MostOf("a.example") > 4 || flight.MostOf("b.example") > 2 {
			t.Errorf("in flight at once: %d, to the hosts %d and %d", flight.Most(), flight.MostOf("a.example"), flight.MostOf("b.example"))
		}
	})
}

func TestACutBodyIsFetchedFromTheStart(t *testing.T) {
	const whole = "0123456789"
	var requests atomic.Int32
	url := fetchtest.Listen(t, func(conn net.Conn, head string) {
		n := requests.Add(1)
		if strings.Contains(head, "Range:") {
			t.Errorf("a part was asked for: %q", head)
		}
		if n < 3 {
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(whole), whole[:3*n])
			return
		}
		io.WriteString(conn, fetchtest.WithLength(whole))
	})
	r := fetchtest.GetOne(t, url, fetch.WithRetries(4), fetch.WithBackoff(0, time.Millisecond))
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
		var sent fetchtest.Recorder
		broken := fetchtest.InTurn(fetchtest.Always(502), fetchtest.Failing(fetchtest.ErrReset), fetchtest.AtOnce)
		r := fetchtest.GetOne(t, "http://a.example/start", fetch.WithRetries(3), fetchtest.WithoutBackOff, fetchtest.Over(sent.Over(func(req *http.Request) (*http.Response, error) {
			switch req.URL.Path {
			case "/start":
				return fetchtest.Always(302, "Location", "/middle")(req)
			case "/middle":
				return fetchtest.Always(307, "Location", "http://b.example/end")(req)
			}
			return broken(req)
		})))
		var urls []string
		for _, s := range sent.Take() {
			urls = append(urls, s.URL)
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

// The headers that a redirect to another origin has dropped are there again.
func TestAnAttemptHasAllItsHeadersAgain(t *testing.T) {
	var sent fetchtest.Recorder
	broken := fetchtest.InTurn(fetchtest.Always(502), fetchtest.AtOnce)
	transport := sent.Over(func(req *http.Request) (*http.Response, error) {
		if req.URL.Host == "a.example" {
			return fetchtest.Always(302, "Location", "http://b.example/")(req)
		}
		return broken(req)
	})
	var vias []int
	client := fetchtest.NewClient(transport)
	client.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		vias = append(vias, len(via))
		return nil
	}
	r := fetchtest.GetOne(t, "http://a.example/", fetch.WithClient(client), fetch.WithRetries(1), fetchtest.WithoutBackOff, fetch.WithHeader("X-Api-Key", "k"),
		fetch.WithRequestFunc(func(req *http.Request) error {
			req.Header.Set("Signature", "s")
			return nil
		}))
	if !r.OK() || r.Attempts != 2 {
		t.Fatalf("%d attempts, %v", r.Attempts, r.Err)
	}
	for i, s := range sent.Take() {
		if here := i%2 == 0; here != (s.Header.Get("X-Api-Key") == "k") || here != (s.Header.Get("Signature") == "s") {
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
		end := fetchtest.InTurn(fetchtest.Hanging, fetchtest.AnswerAfter(300*time.Millisecond))
		r := fetchtest.GetOne(t, "http://a.example/start", fetch.WithRetries(1), fetchtest.WithoutBackOff, fetch.WithTimeout(time.Second), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Path == "/start" {
				return fetchtest.Taking(600*time.Millisecond, fetchtest.Always(302, "Location", "/end"))(req)
			}
			return end(req)
		}))
		if !r.OK() || r.Attempts != 2 {
			t.Errorf("%d attempts, %v", r.Attempts, r.Err)
		}
		fetchtest.CheckTook(t, "both", time.Since(start), 1900*time.Millisecond)
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
				rt := map[string]fetchtest.RoundTripFunc{
					"/mended": fetchtest.InTurn(fetchtest.Always(500), fetchtest.Always(429, "Retry-After", "1"), fetchtest.Always(503), fetchtest.AtOnce),
					"/never":  fetchtest.Always(503),
					"/cut":    fetchtest.InTurn(fetchtest.Cut("first "), fetchtest.Cut("second "), fetchtest.AtOnce),
				}
				results := fetch.FetchAll(t.Context(), urls, append(opts, fetch.WithRetries(3),
					fetchtest.Over(func(req *http.Request) (*http.Response, error) { return rt[req.URL.Path](req) }),
					fetch.WithBodyFunc(func(_ context.Context, r fetch.Result, body io.Reader) error {
						text, _ := io.ReadAll(body)
						mu.Lock()
						defer mu.Unlock()
						got[r.URL] = append(got[r.URL], fmt.Sprintf("%d %s", r.StatusCode, text))
						return nil // of a read that failed the library must know by itself
					}))...)
				fetchtest.MustAllBeFine(t, urls, results)
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

func TestRetriesInStreamsAndDoAll(t *testing.T) {
	rt := func() fetchtest.RoundTripFunc {
		return fetchtest.Varied(fetchtest.Flaky(0.25, fetchtest.Always(500), fetchtest.AtOnce))
	}
	urls := fetchtest.HostURLs(100, "a.example", "b.example")
	requests := func() []*http.Request {
		var reqs []*http.Request
		for _, rawURL := range urls {
			reqs = append(reqs, fetchtest.NewRequest(t, "PUT", rawURL, strings.NewReader("payload")))
		}
		return reqs
	}
	for name, run := range map[string]func(ctx context.Context, f *fetch.Fetcher) []fetch.Result{
		"FetchAll": func(ctx context.Context, f *fetch.Fetcher) []fetch.Result { return f.FetchAll(ctx, urls) },
		"Stream": func(ctx context.Context, f *fetch.Fetcher) []fetch.Result {
			return fetchtest.Collect(t, urls, f.Stream(ctx, slices.Values(urls)))
		},
		"DoAll": func(ctx context.Context, f *fetch.Fetcher) []fetch.Result { return f.DoAll(ctx, requests()) },
		"DoStream": func(ctx context.Context, f *fetch.Fetcher) []fetch.Result {
			return fetchtest.Collect(t, urls, f.DoStream(ctx, slices.Values(requests())))
		},
	} {
		for order, opts := range map[string][]fetch.Option{
			"as they come": nil, "one by one": {fetch.WithLookahead(1), fetch.WithConcurrency(1)}, "in order": {fetch.WithInOrder()},
		} {
			t.Run(name+" "+order, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := fetchtest.NewFetcher(t, append(opts, fetch.WithRetries(9), fetchtest.Over(rt()))...)
					results := run(t.Context(), f)
					if order == "in order" && !slices.IsSorted(fetchtest.Indices(results)) {
						t.Error("not in order")
					}
					slices.SortFunc(results, func(a, b fetch.Result) int { return cmp.Compare(a.Index, b.Index) })
					fetchtest.MustAllBeFine(t, urls, results)
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
			results := fetchtest.Collect(t, urls, f.Stream(ctx, slices.Values(urls)))
			slices.SortFunc(results, func(a, b fetch.Result) int { return cmp.Compare(a.Index, b.Index) })
			return results
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var flight fetchtest.InFlight
				f := fetchtest.NewFetcher(t, fetch.WithDedup(), fetch.WithRetries(3), fetchtest.Over(flight.Over(fetchtest.InTurn(fetchtest.Always(500), fetchtest.Always(429, "Retry-After", "1"), fetchtest.AtOnce))))
				results := run(t.Context(), f)
				fetchtest.MustAllBeFine(t, urls, results)
				for _, r := range results {
					if !r.OK() || r.Attempts != 3 || len(r.History) != 3 {
						t.Errorf("%s: %d attempts, %v", r.URL, r.Attempts, r.Err)
					}
				}
				if flight.Total() != 6 {
					t.Errorf("%d requests, want 3 for each of two URLs", flight.Total())
				}
			})
		})
	}
}

func TestEachAttemptIsSignedAnew(t *testing.T) {
	var sent fetchtest.Recorder
	var n atomic.Int32
	r := fetchtest.GetOne(t, "http://a.example/", fetch.WithRetries(2), fetchtest.WithoutBackOff, fetchtest.Over(sent.Over(fetchtest.InTurn(fetchtest.Always(500), fetchtest.Always(500), fetchtest.AtOnce))),
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
	for i, s := range sent.Take() {
		if got := s.Header.Get("Signature"); got != fmt.Sprint(i+1) {
			t.Errorf("attempt %d was signed %s", i+1, got)
		}
	}
}

// Discarded bodies are closed before the next attempt starts.
func TestEveryDiscardedBodyIsClosedBeforeTheNextAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight fetchtest.InFlight
		urls := fetchtest.Numbered("http://a.example", 5)
		results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(4), fetch.WithConcurrency(1), fetchtest.WithoutBackOff,
			fetchtest.Over(flight.Over(fetchtest.InTurn(fetchtest.Always(500), fetchtest.Cut("half"), fetchtest.Always(429, "Retry-After", "1"), fetchtest.AnswerAfter(time.Millisecond)))))
		fetchtest.MustAllBeFine(t, urls, results)
		// A request counts as in flight until its body is closed.
		if flight.Most() != 1 || flight.Current() != 0 {
			t.Errorf("%d bodies were open at once, %d are left", flight.Most(), flight.Current())
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
				if fetchtest.SleepCtx(req.Context(), pause) != nil {
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
				server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
					if n.Add(1) > 2 {
						io.WriteString(w, "ok")
						return
					}
					w.WriteHeader(status)
					page(w, req)
				})
				start := time.Now()
				r := fetchtest.GetOne(t, server.URL, fetch.WithRetries(2), fetch.WithBackoff(time.Millisecond, time.Millisecond))
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
			server, conns := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
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
			urls := fetchtest.Numbered(server.URL, 5)
			results := fetch.FetchAll(t.Context(), urls, fetch.WithRetries(20), fetch.WithConcurrency(1), fetch.WithBackoff(0, time.Millisecond))
			fetchtest.MustAllBeFine(t, urls, results)
			if _, _, total := conns.Counts(); total != 1 || n.Load() != 20 {
				t.Errorf("%d connections for %d requests, want 1 for 20", total, n.Load())
			}
		})
	}
}
