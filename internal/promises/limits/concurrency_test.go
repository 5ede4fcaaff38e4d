package limits_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestDefaultConcurrencyIs64(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight fetchtest.InFlight
		urls := fetchtest.HostURLs(200, "a")
		fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetchtest.Over(flight.Over(fetchtest.AnswerAfter(time.Second)))))
		if flight.Most() != 64 {
			t.Errorf("%d were in flight at once, want 64", flight.Most())
		}
	})
}

func TestGoroutinesAreNoMoreThanTheSlotsAndFour(t *testing.T) {
	const slots = 16
	urls := fetchtest.HostURLs(20, slices.Collect(fetchtest.NumberedHosts(1000))...)
	before := runtime.NumGoroutine()
	var mu sync.Mutex
	var most, sent int
	fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(slots), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		mu.Lock()
		sent++
		if sent%10 == 0 {
			most = max(most, fetchtest.GoroutinesSince(before, slots+4))
		}
		mu.Unlock()
		runtime.Gosched() // so that the others get to work
		return fetchtest.Respond(req, 200, "ok"), nil
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
				var flight fetchtest.InFlight
				transport := flight.Over(func(req *http.Request) (*http.Response, error) {
					if err := fetchtest.SleepCtx(req.Context(), time.Duration(intN(50))*time.Millisecond); err != nil {
						return nil, err
					}
					switch intN(4) {
					case 0:
						return nil, errors.New("broken")
					case 1:
						return fetchtest.Respond(req, 302, "", "Location", fmt.Sprintf("http://host%d/moved", intN(5))), nil
					}
					return fetchtest.Respond(req, 200, "ok"), nil
				})
				urls := fetchtest.HostURLs(60, slices.Collect(fetchtest.NumberedHosts(5))...)
				fetchtest.CheckResults(t, urls, fetch.FetchAll(t.Context(), urls,
					fetch.WithConcurrency(10), fetch.WithHostConcurrency(3),
					fetch.WithHostLimits(func(host string) fetch.HostLimits {
						return fetch.HostLimits{Concurrency: limits[host]}
					}), fetchtest.Over(transport)))
				if flight.Most() > 10 || flight.Current() != 0 {
					t.Errorf("%d were in flight at once, %d are left; want at most 10, and 0", flight.Most(), flight.Current())
				}
				for host := range fetchtest.NumberedHosts(5) {
					limit := limits[host]
					if limit == 0 {
						limit = 3
					}
					if got := flight.MostOf(host); got > limit {
						t.Errorf("%d were in flight to %s, want at most %d", got, host, limit)
					}
				}
			})
		})
	}
}

// The same at a server's end of real connections, where the race detector watches.
func TestServersNeverSeeMoreThanTheLimits(t *testing.T) {
	var flight fetchtest.InFlight
	serve := func(name string, answer func(w http.ResponseWriter, req *http.Request)) string {
		server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
			leave := flight.Enter(name)
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
		urls = append(urls, fetchtest.Numbered(door, 40)...)
	}
	urls = append(urls, fetchtest.Numbered(target, 40)...)

	results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(8), fetch.WithHostConcurrency(2))
	fetchtest.MustAllBeFine(t, urls, results)
	if got := flight.Most(); got > 8 {
		t.Errorf("%d were in flight at once, want at most 8", got)
	}
	for _, name := range []string{"target", "door0", "door1", "door2"} {
		if got := flight.MostOf(name); got > 2 {
			t.Errorf("%d were in flight to %s, want at most 2", got, name)
		}
	}
}

func TestHostConcurrencyIsReachedWithRedirectsIntoTheHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight fetchtest.InFlight
		transport := flight.Over(func(req *http.Request) (*http.Response, error) {
			if err := fetchtest.SleepCtx(req.Context(), 100*time.Millisecond); err != nil {
				return nil, err
			}
			if req.URL.Host != "target" {
				return fetchtest.Respond(req, 302, "", "Location", "http://target/"), nil
			}
			return fetchtest.Respond(req, 200, "ok"), nil
		})
		urls := fetchtest.HostURLs(10, "a", "b", "c", "target")
		start := time.Now()
		results := fetch.FetchAll(t.Context(), urls, fetch.WithHostConcurrency(4), fetchtest.Over(transport))
		fetchtest.MustAllBeFine(t, urls, results)
		// The target is the bottleneck, and it is busy from the first moment to the last.
		fetchtest.CheckTook(t, "40 requests to the target, 4 at once,", time.Since(start), time.Second)
		for _, host := range []string{"a", "b", "c", "target"} {
			if got := flight.MostOf(host); got != 4 {
				t.Errorf("%d were in flight to %s, want 4", got, host)
			}
		}
	})
}
