package limits_test

import (
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
	"golang.org/x/time/rate"
)

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
			results := fetch.FetchAll(t.Context(), []string{rawURL}, fetchtest.Over(fetchtest.AnswerAfter(0)),
				fetch.WithHostLimits(func(host string) fetch.HostLimits {
					mu.Lock()
					defer mu.Unlock()
					got = append(got, host)
					return fetch.HostLimits{}
				}))
			fetchtest.MustAllBeFine(t, []string{rawURL}, results)
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
		}), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "a" {
				return fetchtest.Respond(req, 301, "", "Location", "https://B.:8443/"), nil
			}
			return fetchtest.Respond(req, 200, "ok"), nil
		}))
		fetchtest.MustAllBeFine(t, urls, results)
		if !maps.Equal(got, map[string]bool{"a": true, "b:8443": true}) {
			t.Errorf("it was asked for %v", got)
		}
	})
}

func TestHostLimitsOverrideAndFallBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight fetchtest.InFlight
		logs := map[string]*fetchtest.StartLog{"one": {}, "three": {}, "plain": {}, "slow": {}}
		transport := flight.Over(func(req *http.Request) (*http.Response, error) {
			logs[req.URL.Host].Add()
			return fetchtest.AnswerAfter(time.Second)(req)
		})
		urls := fetchtest.HostURLs(12, "one", "three", "plain", "slow")
		results := fetch.FetchAll(t.Context(), urls, fetchtest.Over(transport),
			fetch.WithConcurrency(60), fetch.WithHostConcurrency(2), fetch.WithHostRate(100, 4),
			fetch.WithHostLimits(func(host string) fetch.HostLimits {
				return map[string]fetch.HostLimits{
					"one":   {Concurrency: 1},
					"three": {Concurrency: 3},
					"slow":  {Rate: 0.5, Burst: 2, Concurrency: 10},
				}[host]
			}))
		fetchtest.MustAllBeFine(t, urls, results)
		for host, most := range map[string]int{"one": 1, "three": 3, "plain": 2, "slow": 2} {
			if got := flight.MostOf(host); got != most {
				t.Errorf("%d were in flight to %s, want %d", got, host, most)
			}
		}
		for _, host := range []string{"one", "three", "plain"} {
			logs[host].Check(t, 100, 4)
		}
		logs["slow"].Check(t, 0.5, 2)
	})
}

func TestBothSchemesShareTheLimitsOfAHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var urls []string
		for i := range 5 {
			urls = append(urls, fmt.Sprintf("http://host/%d", i), fmt.Sprintf("https://HOST.:443/%d", i))
		}
		start := time.Now()
		fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithHostConcurrency(1), fetchtest.Over(fetchtest.AnswerAfter(time.Second))))
		fetchtest.CheckTook(t, "10 requests, one at once,", time.Since(start), 10*time.Second)
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
				fetchtest.Over(func(req *http.Request) (*http.Response, error) {
					sent.Add(1)
					if req.URL.Host == "to-bad" {
						return fetchtest.Respond(req, 302, "", "Location", "http://bad/"), nil
					}
					return fetchtest.Respond(req, 200, "ok"), nil
				}))
			fetchtest.CheckResults(t, urls, results)
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
