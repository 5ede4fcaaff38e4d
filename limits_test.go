package fetch_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"golang.org/x/time/rate"
)

// limiterFunc is a Limiter.
type limiterFunc func(context.Context) error

func (f limiterFunc) Wait(ctx context.Context) error { return f(ctx) }

// hostURLs returns n URLs of each host in turn: a/0, b/0, a/1, b/1, and so on.
func hostURLs(n int, hosts ...string) []string {
	var urls []string
	for i := range n {
		for _, host := range hosts {
			urls = append(urls, fmt.Sprintf("http://%s/%d", host, i))
		}
	}
	return urls
}

// mustAllBeFine checks the results and that none has an error.
func mustAllBeFine(t testing.TB, urls []string, results []fetch.Result) {
	t.Helper()
	checkResults(t, urls, results)
	if err := fetch.JoinErrors(results); err != nil {
		t.Error(err)
	}
}

func TestConcurrencyIsReachedAndNeverExceeded(t *testing.T) {
	for name, urls := range map[string][]string{
		"one host":   hostURLs(70, "a"),
		"two hosts":  hostURLs(35, "a", "b"),
		"many hosts": hostURLs(1, slices.Collect(numberedHosts(70))...),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var flight inFlight
				start := time.Now()
				results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(7), over(flight.over(answerAfter(100*time.Millisecond))))
				checkTook(t, "70 requests of 100 ms, 7 at once,", time.Since(start), time.Second)
				mustAllBeFine(t, urls, results)
				if flight.most() != 7 {
					t.Errorf("%d were in flight at once, want 7", flight.most())
				}
			})
		})
	}
}

func numberedHosts(n int) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for i := range n {
			if !yield(fmt.Sprintf("host%d", i)) {
				return
			}
		}
	}
}

func TestDefaultConcurrencyIs64(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight inFlight
		urls := hostURLs(200, "a")
		mustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, over(flight.over(answerAfter(time.Second)))))
		if flight.most() != 64 {
			t.Errorf("%d were in flight at once, want 64", flight.most())
		}
	})
}

func TestGoroutinesAreNoMoreThanTheSlotsAndFour(t *testing.T) {
	const slots = 16
	urls := hostURLs(20, slices.Collect(numberedHosts(1000))...)
	before := runtime.NumGoroutine()
	var mu sync.Mutex
	var most, sent int
	mustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(slots), over(func(req *http.Request) (*http.Response, error) {
		mu.Lock()
		sent++
		if sent%10 == 0 {
			most = max(most, goroutinesSince(before, slots+4))
		}
		mu.Unlock()
		runtime.Gosched() // so that the others get to work
		return respond(req, 200, "ok"), nil
	})))
	if most > slots+4 {
		t.Errorf("%d goroutines were started for %d slots", most, slots)
	}
}

// Random times, several hosts, redirects between them, and errors.
func TestLimitsHoldForRandomWork(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 1))
				limits := map[string]int{"host0": 1, "host1": 2, "host2": 5}
				var mu sync.Mutex // random is not safe for concurrent use
				intN := func(n int) int {
					mu.Lock()
					defer mu.Unlock()
					return random.IntN(n)
				}
				var flight inFlight
				transport := flight.over(func(req *http.Request) (*http.Response, error) {
					if err := sleepCtx(req.Context(), time.Duration(intN(50))*time.Millisecond); err != nil {
						return nil, err
					}
					switch intN(4) {
					case 0:
						return nil, errors.New("broken")
					case 1:
						return respond(req, 302, "", "Location", fmt.Sprintf("http://host%d/moved", intN(5))), nil
					}
					return respond(req, 200, "ok"), nil
				})
				urls := hostURLs(60, slices.Collect(numberedHosts(5))...)
				checkResults(t, urls, fetch.FetchAll(t.Context(), urls,
					fetch.WithConcurrency(10), fetch.WithHostConcurrency(3),
					fetch.WithHostLimits(func(host string) fetch.HostLimits {
						return fetch.HostLimits{Concurrency: limits[host]}
					}), over(transport)))
				if flight.most() > 10 || flight.current() != 0 {
					t.Errorf("%d were in flight at once, %d are left; want at most 10, and 0", flight.most(), flight.current())
				}
				for host := range numberedHosts(5) {
					limit := limits[host]
					if limit == 0 {
						limit = 3
					}
					if got := flight.mostOf(host); got > limit {
						t.Errorf("%d were in flight to %s, want at most %d", got, host, limit)
					}
				}
			})
		})
	}
}

// The same at a server's end of real connections, where the race detector watches.
func TestServersNeverSeeMoreThanTheLimits(t *testing.T) {
	var flight inFlight
	serve := func(name string, answer func(w http.ResponseWriter, req *http.Request)) string {
		server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) {
			leave := flight.enter(name)
			time.Sleep(time.Millisecond)
			// It must leave before the client can hear of it.
			leave()
			answer(w, req)
		})
		return server.URL
	}
	target := serve("target", func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, "ok") })
	var urls []string
	for i := range 3 {
		door := serve(fmt.Sprint("door", i), func(w http.ResponseWriter, req *http.Request) {
			http.Redirect(w, req, target+req.URL.Path, http.StatusFound)
		})
		urls = append(urls, numbered(door, 40)...)
	}
	urls = append(urls, numbered(target, 40)...)

	results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(8), fetch.WithHostConcurrency(2))
	mustAllBeFine(t, urls, results)
	if got := flight.most(); got > 8 {
		t.Errorf("%d were in flight at once, want at most 8", got)
	}
	for _, name := range []string{"target", "door0", "door1", "door2"} {
		if got := flight.mostOf(name); got > 2 {
			t.Errorf("%d were in flight to %s, want at most 2", got, name)
		}
	}
}

func TestHostConcurrencyIsReachedWithRedirectsIntoTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight inFlight
		transport := flight.over(func(req *http.Request) (*http.Response, error) {
			if err := sleepCtx(req.Context(), 100*time.Millisecond); err != nil {
				return nil, err
			}
			if req.URL.Host != "target" {
				return respond(req, 302, "", "Location", "http://target/"), nil
			}
			return respond(req, 200, "ok"), nil
		})
		urls := hostURLs(10, "a", "b", "c", "target")
		start := time.Now()
		results := fetch.FetchAll(t.Context(), urls, fetch.WithHostConcurrency(4), over(transport))
		mustAllBeFine(t, urls, results)
		// The target is the bottleneck, and it is busy from the first moment to the last.
		checkTook(t, "40 requests to the target, 4 at once,", time.Since(start), time.Second)
		for _, host := range []string{"a", "b", "c", "target"} {
			if got := flight.mostOf(host); got != 4 {
				t.Errorf("%d were in flight to %s, want 4", got, host)
			}
		}
	})
}

func TestRatesHoldInEveryWindow(t *testing.T) {
	const hop = "http://b/hop"
	for name, c := range map[string]struct {
		opt  fetch.Option
		logs func(all, a, b *startLog) []*startLog // those that the limit is for
		took time.Duration                         // 60 URLs: 20 of a, of b, and of a that lead to b
	}{
		"of all hosts": {
			opt:  fetch.WithRate(10, 5),
			logs: func(all, a, b *startLog) []*startLog { return []*startLog{all} },
			took: (80 - 5) * 100 * time.Millisecond,
		},
		"of each host": {
			opt:  fetch.WithHostRate(10, 5),
			logs: func(all, a, b *startLog) []*startLog { return []*startLog{a, b} },
			took: (40 - 5) * 100 * time.Millisecond,
		},
		"of one host": {
			opt: fetch.WithHostLimits(func(host string) fetch.HostLimits {
				if host == "b" {
					return fetch.HostLimits{Rate: 10, Burst: 5}
				}
				return fetch.HostLimits{}
			}),
			logs: func(all, a, b *startLog) []*startLog { return []*startLog{b} },
			took: (40 - 5) * 100 * time.Millisecond,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var all, a, b startLog
				transport := over(func(req *http.Request) (*http.Response, error) {
					all.add()
					if req.URL.Host == "a" {
						a.add()
					} else {
						b.add()
					}
					if strings.HasPrefix(req.URL.Path, "/to-b") {
						return respond(req, 302, "", "Location", hop), nil
					}
					return respond(req, 200, "ok"), nil
				})
				urls := slices.Concat(hostURLs(20, "a", "b"), numbered("http://a/to-b", 20))
				start := time.Now()
				results := fetch.FetchAll(t.Context(), urls, c.opt, transport)
				took := time.Since(start)
				mustAllBeFine(t, urls, results)
				for _, log := range c.logs(&all, &a, &b) {
					log.check(t, 10, 5)
				}
				if all.len() != 80 {
					t.Errorf("%d requests were sent, want 80", all.len())
				}
				// A start may be rounded up by 1 ns, and each by that.
				if took < c.took || took > c.took+time.Microsecond {
					t.Errorf("took %v, want %v", took, c.took)
				}
			})
		})
	}
}

func TestRateThatIsInfiniteIsNoLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		urls := hostURLs(500, "a")
		start := time.Now()
		results := fetch.FetchAll(t.Context(), urls, fetch.WithRate(rate.Inf, 1), fetch.WithHostRate(rate.Limit(math.Inf(1)), 1),
			fetch.WithConcurrency(500), over(answerAfter(time.Second)))
		mustAllBeFine(t, urls, results)
		checkTook(t, "the batch", time.Since(start), time.Second)
	})
}

// A burst is not given a second time to a host that was idle between two calls.
func TestRateIsKeptBetweenCalls(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log startLog
		f := newFetcher(t, fetch.WithHostRate(10, 5), over(func(req *http.Request) (*http.Response, error) {
			log.add()
			return respond(req, 200, "ok"), nil
		}))
		for _, pause := range []time.Duration{0, 100 * time.Millisecond, 250 * time.Millisecond, time.Hour} {
			time.Sleep(pause)
			urls := hostURLs(8, "a")
			mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
		}
		log.check(t, 10, 5)
	})
}

func TestHostLimitsGetHostKeys(t *testing.T) {
	keys := map[string]string{
		"http://example.com/":                   "example.com",
		"http://EXAMPLE.Com/":                   "example.com",
		"HTTP://example.com/":                   "example.com",
		"http://example.com./":                  "example.com",
		"http://example.com:80/":                "example.com",
		"https://example.com:443/":              "example.com",
		"https://example.com/":                  "example.com",
		"http://user:secret@example.com/":       "example.com",
		"http://example.com?q":                  "example.com",
		"http://example.com#f":                  "example.com",
		"http://example.com:443/":               "example.com:443",
		"https://example.com:80/":               "example.com:80",
		"http://example.com:8080/":              "example.com:8080",
		"http://EXAMPLE.com.:8080/":             "example.com:8080",
		"http://[2001:DB8::1]/":                 "[2001:db8::1]",
		"http://[2001:db8::1]:80/":              "[2001:db8::1]",
		"https://[2001:db8::1]:8443/":           "[2001:db8::1]:8443",
		"http://127.0.0.1:8080/":                "127.0.0.1:8080",
		"http://sub.example.com/":               "sub.example.com",
		"http://moved.example/to?x=1#somewhere": "moved.example",
	}
	for rawURL, key := range keys {
		t.Run(rawURL, func(t *testing.T) {
			var mu sync.Mutex
			var got []string
			results := fetch.FetchAll(t.Context(), []string{rawURL}, over(answerAfter(0)),
				fetch.WithHostLimits(func(host string) fetch.HostLimits {
					mu.Lock()
					defer mu.Unlock()
					got = append(got, host)
					return fetch.HostLimits{}
				}))
			mustAllBeFine(t, []string{rawURL}, results)
			if !slices.Equal(slices.Compact(got), []string{key}) {
				t.Errorf("it was asked for %q, want %q", got, key)
			}
		})
	}

	t.Run("the host that a redirect leads to", func(t *testing.T) {
		var mu sync.Mutex
		got := map[string]bool{}
		urls := []string{"http://a/"}
		results := fetch.FetchAll(t.Context(), urls, fetch.WithHostLimits(func(host string) fetch.HostLimits {
			mu.Lock()
			defer mu.Unlock()
			got[host] = true
			return fetch.HostLimits{}
		}), over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "a" {
				return respond(req, 301, "", "Location", "https://B.:8443/"), nil
			}
			return respond(req, 200, "ok"), nil
		}))
		mustAllBeFine(t, urls, results)
		if !maps.Equal(got, map[string]bool{"a": true, "b:8443": true}) {
			t.Errorf("it was asked for %v", got)
		}
	})
}

func TestHostLimitsOverrideAndFallBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight inFlight
		logs := map[string]*startLog{"one": {}, "three": {}, "plain": {}, "slow": {}}
		transport := flight.over(func(req *http.Request) (*http.Response, error) {
			logs[req.URL.Host].add()
			return answerAfter(time.Second)(req)
		})
		urls := hostURLs(12, "one", "three", "plain", "slow")
		results := fetch.FetchAll(t.Context(), urls, over(transport),
			fetch.WithConcurrency(60), fetch.WithHostConcurrency(2), fetch.WithHostRate(100, 4),
			fetch.WithHostLimits(func(host string) fetch.HostLimits {
				return map[string]fetch.HostLimits{
					"one":   {Concurrency: 1},
					"three": {Concurrency: 3},
					"slow":  {Rate: 0.5, Burst: 2, Concurrency: 10},
				}[host]
			}))
		mustAllBeFine(t, urls, results)
		for host, most := range map[string]int{"one": 1, "three": 3, "plain": 2, "slow": 2} {
			if got := flight.mostOf(host); got != most {
				t.Errorf("%d were in flight to %s, want %d", got, host, most)
			}
		}
		for _, host := range []string{"one", "three", "plain"} {
			logs[host].check(t, 100, 4)
		}
		logs["slow"].check(t, 0.5, 2)
	})
}

func TestHostRateWithoutBurstIsABurstOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log startLog
		urls := hostURLs(5, "a")
		results := fetch.FetchAll(t.Context(), urls,
			fetch.WithHostLimits(func(string) fetch.HostLimits { return fetch.HostLimits{Rate: 2} }),
			over(func(req *http.Request) (*http.Response, error) {
				log.add()
				return respond(req, 200, "ok"), nil
			}))
		mustAllBeFine(t, urls, results)
		log.check(t, 2, 1)
	})
}

// The pool of the own client must not be smaller than the limits: what
// waits for a connection is charged to the timeout.
func TestOwnClientHasAConnectionForEachRequestInFlight(t *testing.T) {
	const together = 8
	for name, opts := range map[string][]fetch.Option{
		"concurrency":      {fetch.WithConcurrency(together)},
		"host concurrency": {fetch.WithHostConcurrency(together)},
		"host limits": {
			fetch.WithHostConcurrency(1),
			fetch.WithHostLimits(func(string) fetch.HostLimits { return fetch.HostLimits{Concurrency: together} }),
		},
	} {
		t.Run(name, func(t *testing.T) {
			server, _ := newServer(t, answerWhenTogether(together))
			urls := numbered(server.URL, 2*together)
			mustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, append(opts, fetch.WithTimeout(5*time.Second))...))
		})
	}
}

// answerWhenTogether answers n requests when all n have come, then the next n.
func answerWhenTogether(n int) http.HandlerFunc {
	var mu sync.Mutex
	var here int
	all := make(chan struct{})
	return func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		wait := all
		if here++; here == n {
			close(all)
			here, all = 0, make(chan struct{})
		}
		mu.Unlock()
		select {
		case <-wait:
			fmt.Fprint(w, "ok")
		case <-req.Context().Done():
		}
	}
}

// To net/http all plain HTTP behind a proxy is one host. The environment is read once,
// so that this needs a process of its own.
func TestHostsBehindAProxyDoNotWaitForEachOther(t *testing.T) {
	const hosts, behind = 5, "FETCH_TEST_BEHIND_PROXY"
	if os.Getenv(behind) != "" {
		urls := hostURLs(1, "a.example", "b.example", "c.example", "d.example", "e.example")
		mustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithHostConcurrency(1), fetch.WithTimeout(2*time.Second)))
		return
	}
	proxy, _ := newServer(t, answerWhenTogether(hosts))
	program, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	cmd := exec.Command(program, "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), behind+"=1", "HTTP_PROXY="+proxy.URL, "http_proxy="+proxy.URL, "NO_PROXY=", "no_proxy=", "REQUEST_METHOD=")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("behind the proxy: %v\n%s", err, out)
	}
}

// net/http lets a dial go on after its request has timed out.
func TestDialThatTimedOutDoesNotHoldUpTheNext(t *testing.T) {
	for name, limit := range map[string]fetch.Option{
		"host concurrency": fetch.WithHostConcurrency(1),
		"concurrency":      fetch.WithConcurrency(1),
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewUnstartedServer(http.NotFoundHandler())
			server.Listener = &silentFirst{Listener: server.Listener}
			server.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that the client gives up
			server.StartTLS()
			t.Cleanup(server.Close)

			urls := numbered(server.URL, 2)
			results := fetch.FetchAll(t.Context(), urls, limit, fetch.WithTimeout(700*time.Millisecond))
			checkResults(t, urls, results)
			if !errors.Is(results[0].Err, fetch.ErrTimeout) {
				t.Errorf("the handshake that never ends: %v", results[0].Err)
			}
			// The certificate is unknown here, but that can only be found out on a connection.
			if _, ok := errors.AsType[*tls.CertificateVerificationError](results[1].Err); !ok {
				t.Errorf("the one after it: %v", results[1].Err)
			}
		})
	}
}

// silentFirst hands on no connection but those after the first.
type silentFirst struct {
	net.Listener
	first net.Conn
}

func (l *silentFirst) Accept() (net.Conn, error) {
	if l.first == nil {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.first = conn
	}
	return l.Listener.Accept()
}

func TestBothSchemesShareTheLimitsOfAHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var urls []string
		for i := range 5 {
			urls = append(urls, fmt.Sprintf("http://host/%d", i), fmt.Sprintf("https://HOST.:443/%d", i))
		}
		start := time.Now()
		mustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithHostConcurrency(1), over(answerAfter(time.Second))))
		checkTook(t, "10 requests, one at once,", time.Since(start), 10*time.Second)
	})
}

func TestBadHostLimitsAreTheErrorOfThatURL(t *testing.T) {
	for name, bad := range map[string]fetch.HostLimits{
		"negative Concurrency": {Concurrency: -1},
		"negative Rate":        {Rate: -1},
		"Rate that is NaN":     {Rate: rate.Limit(math.NaN())},
		"negative Burst":       {Rate: 1, Burst: -1},
	} {
		t.Run(name, func(t *testing.T) {
			var sent atomic.Int32
			urls := []string{"http://fine/", "http://bad/0", "http://bad/1", "http://to-bad/", "http://fine/"}
			results := fetch.FetchAll(t.Context(), urls,
				fetch.WithHostLimits(func(host string) fetch.HostLimits {
					if host == "bad" {
						return bad
					}
					return fetch.HostLimits{}
				}),
				over(func(req *http.Request) (*http.Response, error) {
					sent.Add(1)
					if req.URL.Host == "to-bad" {
						return respond(req, 302, "", "Location", "http://bad/"), nil
					}
					return respond(req, 200, "ok"), nil
				}))
			checkResults(t, urls, results)
			for i, wantErr := range []bool{false, true, true, true, false} {
				if got := results[i].Err != nil; got != wantErr {
					t.Errorf("%s: error %v", urls[i], results[i].Err)
				}
			}
			if sent.Load() != 3 {
				t.Errorf("%d were sent, want 3", sent.Load())
			}
		})
	}
}

func TestLimiterGivesOnePermitForEachRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight inFlight
		var permits, waiting atomic.Int32
		limiter := limiterFunc(func(ctx context.Context) error {
			if waiting.Add(1) > 1 {
				t.Error("Wait is called while another call of it runs")
			}
			defer waiting.Add(-1)
			if _, ok := ctx.Deadline(); ok {
				t.Error("the context of Wait has a deadline")
			}
			if n := flight.current(); n >= 3 {
				t.Errorf("Wait is called while %d are in flight, and nothing could start", n)
			}
			permits.Add(1)
			return sleepCtx(ctx, 7*time.Millisecond)
		})
		transport := flight.over(func(req *http.Request) (*http.Response, error) {
			if err := sleepCtx(req.Context(), 50*time.Millisecond); err != nil {
				return nil, err
			}
			if req.URL.Host == "a" {
				return respond(req, 302, "", "Location", "http://c/"), nil
			}
			return respond(req, 200, "ok"), nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		urls := hostURLs(20, "a", "b")
		mustAllBeFine(t, urls, fetch.FetchAll(ctx, urls, fetch.WithLimiter(limiter), fetch.WithConcurrency(3), over(transport)))
		if permits.Load() != 60 || flight.total() != 60 || flight.most() != 3 {
			t.Errorf("%d permits for %d requests, %d at once; want 60, 60, 3", permits.Load(), flight.total(), flight.most())
		}
	})
}

func TestRateLimiterCanBeShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log startLog
		limiter := rate.NewLimiter(10, 1)
		transport := over(func(req *http.Request) (*http.Response, error) {
			log.add()
			return respond(req, 200, "ok"), nil
		})
		urls := hostURLs(10, "a")
		start := time.Now()
		var wg sync.WaitGroup
		for range 2 {
			wg.Go(func() {
				mustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithLimiter(limiter), transport))
			})
		}
		wg.Wait()
		if took := time.Since(start); took < 1899*time.Millisecond || took > 1901*time.Millisecond {
			t.Errorf("20 requests, 10 a second, took %v", took)
		}
		if log.len() != 20 {
			t.Errorf("%d were sent, want 20", log.len())
		}
	})
}

func TestErrorOfTheLimiterEndsTheOldestURL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		noPermit := errors.New("no permit")
		calls := 0
		urls := hostURLs(6, "a")
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1), over(answerAfter(time.Second)),
			fetch.WithLimiter(limiterFunc(func(context.Context) error {
				if calls++; calls == 3 {
					return noPermit
				}
				return nil
			})))
		checkResults(t, urls, results)
		for i, r := range results {
			if want := i == 2; errors.Is(r.Err, noPermit) != want || r.OK() == want {
				t.Errorf("result %d: error %v", i, r.Err)
			}
		}
	})
}

func TestLimiterThatOnlyFailsEndsEveryURL(t *testing.T) {
	noPermit := errors.New("no permit")
	urls := hostURLs(50, "a", "b")
	results := fetch.FetchAll(t.Context(), urls, over(answerAfter(0)),
		fetch.WithLimiter(limiterFunc(func(context.Context) error { return noPermit })))
	checkResults(t, urls, results)
	for _, r := range results {
		if !errors.Is(r.Err, noPermit) || r.Attempts != 0 {
			t.Errorf("%s: %d attempts, error %v", r.URL, r.Attempts, r.Err)
		}
	}
}

// endTimes remembers when the last request of each host ended, since it was made.
type endTimes struct {
	start time.Time
	mu    sync.Mutex
	last  map[string]time.Duration
}

func newEndTimes() *endTimes {
	return &endTimes{start: time.Now(), last: map[string]time.Duration{}}
}

func (e *endTimes) over(rt roundTripFunc) roundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		resp, err := rt(req)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.last[req.URL.Host] = time.Since(e.start)
		return resp, err
	}
}

// of returns when the host was done.
func (e *endTimes) of(host string) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last[host]
}

// takes is a transport that answers after a time that depends on the host.
func takes(times map[string]time.Duration) roundTripFunc {
	return func(req *http.Request) (*http.Response, error) { return answerAfter(times[req.URL.Host])(req) }
}

func TestSlowHostDoesNotHoldUpAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := newEndTimes()
		urls := slices.Concat(hostURLs(20, "slow"), hostURLs(20, "fast"))
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(4), fetch.WithHostConcurrency(1),
			over(ends.over(takes(map[string]time.Duration{"slow": time.Second, "fast": 5 * time.Millisecond}))))
		mustAllBeFine(t, urls, results)
		if got := ends.of("fast"); got > 150*time.Millisecond {
			t.Errorf("the fast host was done after %v, want 100 ms", got)
		}
		checkTook(t, "the slow host", ends.of("slow"), 20*time.Second)
		checkTook(t, "the batch", time.Since(ends.start), 20*time.Second)
	})
}

func TestHostWithARateDoesNotHoldUpAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := newEndTimes()
		urls := slices.Concat(hostURLs(20, "limited"), hostURLs(20, "free"))
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(4),
			fetch.WithHostLimits(func(host string) fetch.HostLimits {
				if host == "limited" {
					return fetch.HostLimits{Rate: 1, Burst: 1}
				}
				return fetch.HostLimits{}
			}),
			over(ends.over(takes(map[string]time.Duration{"limited": 5 * time.Millisecond, "free": 5 * time.Millisecond}))))
		mustAllBeFine(t, urls, results)
		if got := ends.of("free"); got > 60*time.Millisecond {
			t.Errorf("the free host was done after %v, want 50 ms at the most", got)
		}
		if got := ends.of("limited"); got < 19*time.Second || got > 19*time.Second+6*time.Millisecond {
			t.Errorf("the limited host was done after %v, want 19.005 s", got)
		}
	})
}

// Under the defaults: half the slots wait for the dead host, the others do the work.
func TestBlackHoledHostDoesNotHoldUpOthers(t *testing.T) {
	for name, others := range map[string][]string{
		"one other host":  {"fine"},
		"100 other hosts": slices.Collect(numberedHosts(100)),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ends := newEndTimes()
				urls := slices.Concat(hostURLs(200, "dead"), hostURLs(1000/len(others), others...))
				results := fetch.FetchAll(t.Context(), urls, over(ends.over(func(req *http.Request) (*http.Response, error) {
					if req.URL.Host == "dead" {
						if err := sleepCtx(req.Context(), 10*time.Second); err != nil {
							return nil, err
						}
						return nil, &net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded}
					}
					return answerAfter(50 * time.Millisecond)(req)
				})))
				checkResults(t, urls, results)
				for _, r := range results {
					if dead := strings.HasPrefix(r.URL, "http://dead/"); dead == r.OK() {
						t.Fatalf("%s: error %v", r.URL, r.Err)
					}
				}
				for _, host := range others {
					if got := ends.of(host); got > 1800*time.Millisecond {
						t.Fatalf("%s was done after %v, want 1.6 s", host, got)
					}
				}
				// 32 URLs at once for 1.6 s, then 64.
				if got := time.Since(ends.start); got > 42*time.Second {
					t.Errorf("the batch took %v, want 40 s", got)
				}
			})
		})
	}
}

func TestHostAloneGetsAllSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		// The other host is done at once, and from then on this one is alone.
		urls := append(hostURLs(1, "other"), hostURLs(128, "alone")...)
		mustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, over(takes(map[string]time.Duration{"alone": time.Second}))))
		checkTook(t, "128 requests of 1 s in 64 slots", time.Since(start), 2*time.Second)
	})
}

func TestWaitingInAQueueIsNotChargedToTheTimeout(t *testing.T) {
	for name, c := range map[string]struct {
		limit fetch.Option
		every time.Duration // between starts
	}{
		"of a slot":         {fetch.WithConcurrency(1), 200 * time.Millisecond},
		"of its host":       {fetch.WithHostConcurrency(1), 200 * time.Millisecond},
		"of a rate":         {fetch.WithRate(1, 1), time.Second},
		"of a host rate":    {fetch.WithHostRate(1, 1), time.Second},
		"of the limiter":    {fetch.WithLimiter(everySecond()), time.Second},
		"of WithHostLimits": {fetch.WithHostLimits(func(string) fetch.HostLimits { return fetch.HostLimits{Rate: 1} }), time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				urls := hostURLs(50, "host")
				results := fetch.FetchAll(t.Context(), urls, c.limit,
					fetch.WithTimeout(500*time.Millisecond), over(answerAfter(200*time.Millisecond)))
				took := time.Since(start)
				mustAllBeFine(t, urls, results)
				near := func(got, want time.Duration) bool { return got >= want && got < want+time.Microsecond }
				for i, r := range results {
					if want := time.Duration(i) * c.every; !near(r.Waited, want) || r.Took != 200*time.Millisecond {
						t.Errorf("result %d: Waited %v, Took %v, want %v and 200 ms", i, r.Waited, r.Took, want)
					}
				}
				if want := 49*c.every + 200*time.Millisecond; !near(took, want) {
					t.Errorf("the batch took %v, want %v", took, want)
				}
			})
		})
	}
}

// everySecond is a Limiter whose first permit is free and whose others take a second each.
func everySecond() fetch.Limiter {
	var next time.Time
	return limiterFunc(func(ctx context.Context) error {
		defer func() { next = time.Now().Add(time.Second) }()
		return sleepCtx(ctx, time.Until(next))
	})
}

func TestWaitedAndTookAddUpOverRedirects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The request to b waits for the one that is in flight there.
		transport := over(func(req *http.Request) (*http.Response, error) {
			switch req.URL.String() {
			case "http://b/busy":
				return answerAfter(time.Second)(req)
			case "http://a/":
				if err := sleepCtx(req.Context(), 100*time.Millisecond); err != nil {
					return nil, err
				}
				return respond(req, 302, "", "Location", "http://b/target"), nil
			}
			return answerAfter(30 * time.Millisecond)(req)
		})
		urls := []string{"http://b/busy", "http://a/"}
		results := fetch.FetchAll(t.Context(), urls, fetch.WithHostConcurrency(1), fetch.WithTimeout(1100*time.Millisecond), transport)
		mustAllBeFine(t, urls, results)
		r := results[1]
		checkTook(t, "the hops", r.Took, 130*time.Millisecond)
		checkTook(t, "the queue of b", r.Waited, 900*time.Millisecond)
		if r.Redirects != 1 || r.FinalURL != "http://b/target" || r.Attempts != 1 {
			t.Errorf("%+v", r)
		}
	})
}

func TestSmallBatchBesideAHugeOneIsServedAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		opts  []fetch.Option
		hosts []string // of the huge batch
		small string   // host of the small one
		want  time.Duration
	}{
		"on another host": {hosts: slices.Collect(numberedHosts(6)), small: "small", want: 400 * time.Millisecond},
		"on the same host": {
			hosts: slices.Collect(numberedHosts(1)), small: "host0", want: 400 * time.Millisecond,
		},
		"beside hosts with limits": {
			opts:  []fetch.Option{fetch.WithHostConcurrency(2)},
			hosts: slices.Collect(numberedHosts(6)), small: "small", want: 700 * time.Millisecond,
		},
		"beside hosts with rates": {
			opts:  []fetch.Option{fetch.WithHostRate(20, 1)},
			hosts: slices.Collect(numberedHosts(6)), small: "small", want: 1200 * time.Millisecond,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFetcher(t, append(c.opts, fetch.WithConcurrency(10), over(answerAfter(100*time.Millisecond)))...)
				ctx, cancel := context.WithCancel(t.Context())
				var wg sync.WaitGroup
				wg.Go(func() {
					huge := hostURLs(4800/len(c.hosts), c.hosts...)
					checkResults(t, huge, f.FetchAll(ctx, huge))
				})
				time.Sleep(5050 * time.Millisecond)

				start := time.Now()
				urls := numbered("http://"+c.small+"/small", 10)
				mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
				if took := time.Since(start); took > c.want {
					t.Errorf("the small batch took %v, want at most %v", took, c.want)
				}
				cancel()
				wg.Wait()
			})
		})
	}
}

func TestHostThatDecidesTheEndIsServedFirst(t *testing.T) {
	for name, c := range map[string]struct {
		short []string
		slots int
	}{
		"among two others":  {[]string{"a", "b"}, 2},
		"among eight":       {slices.Collect(numberedHosts(8)), 3},
		"among two hundred": {slices.Collect(numberedHosts(200)), 10},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				const each = 10 * time.Millisecond
				// As many URLs of the long host, listed last, as one slot can do
				// while the other slots do the rest.
				rest := hostURLs(20, c.short...)
				urls := append(rest, hostURLs(len(rest)/(c.slots-1), "long")...)
				bound := time.Duration(len(urls)/c.slots) * each
				start := time.Now()
				results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(c.slots), fetch.WithHostConcurrency(1), over(answerAfter(each)))
				mustAllBeFine(t, urls, results)
				if took := time.Since(start); took > bound*11/10 {
					t.Errorf("took %v, want about %v", took, bound)
				}
			})
		})
	}
}
