package limits_test

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// bySite puts www.site and cdn1.site into the group of site. Others are in none.
func bySite(host string) string {
	for _, prefix := range []string{"www.", "cdn1.", "cdn2."} {
		if site, ok := strings.CutPrefix(host, prefix); ok {
			return site
		}
	}
	return ""
}

func TestHostsOfAGroupShareTheirLimits(t *testing.T) {
	urls := fetchtest.HostURLs(5, "site", "www.site", "cdn1.site", "other")
	for name, c := range map[string]struct {
		option fetch.Option
		took   time.Duration // of the 15 URLs of the group
	}{
		"concurrency":    {fetch.WithHostConcurrency(3), 5 * time.Second},
		"rate":           {fetch.WithHostRate(1, 1), 15 * time.Second},
		"WithHostLimits": {fetch.WithHostLimits(func(string) fetch.HostLimits { return fetch.HostLimits{Concurrency: 5} }), 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				results := fetch.FetchAll(t.Context(), urls, fetch.WithHostGroup(bySite), c.option, fetchtest.Over(fetchtest.AnswerAfter(time.Second)))
				fetchtest.MustAllBeFine(t, urls, results)
				fetchtest.CheckTook(t, "the group", time.Since(start), c.took)
				for i, r := range results {
					if strings.Contains(r.URL, "//other/") && r.Waited > 4*time.Second {
						t.Errorf("%s waited %v", urls[i], r.Waited)
					}
				}
			})
		})
	}
}

func TestWithHostLimitsIsAskedForGroups(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	urls := fetchtest.HostURLs(3, "site", "www.site", "cdn1.site", "other", "old.example:8080")
	results := fetch.FetchAll(t.Context(), urls, fetch.WithHostGroup(bySite), fetch.WithHostLimits(func(host string) fetch.HostLimits {
		mu.Lock()
		defer mu.Unlock()
		asked = append(asked, host)
		return fetch.HostLimits{}
	}), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		if strings.HasPrefix(req.URL.Host, "old.") {
			return fetchtest.Respond(req, 301, "", "Location", "https://cdn2.new.example/"), nil
		}
		return fetchtest.AtOnce(req)
	}))
	fetchtest.MustAllBeFine(t, urls, results)
	slices.Sort(asked)
	if got := slices.Compact(asked); !slices.Equal(got, []string{"new.example", "old.example:8080", "other", "site"}) {
		t.Errorf("asked for %q", got)
	}
}

// The host of a redirect belongs to its group as any other does.
func TestRedirectsWithinAGroupCountForIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight fetchtest.InFlight
		start := time.Now()
		urls := fetchtest.HostURLs(6, "site")
		results := fetch.FetchAll(t.Context(), urls, fetch.WithHostGroup(bySite), fetch.WithHostConcurrency(2), fetchtest.Over(flight.Over(fetchtest.Taking(time.Second, func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "site" {
				return fetchtest.Respond(req, 301, "", "Location", "http://www.site"+req.URL.Path), nil
			}
			return fetchtest.AtOnce(req)
		}))))
		fetchtest.MustAllBeFine(t, urls, results)
		fetchtest.CheckTook(t, "12 requests, 2 at once,", time.Since(start), 6*time.Second)
	})
}

func TestAPauseIsOfTheGroup(t *testing.T) {
	for name, header := range map[string][]string{
		"refusal": {"Retry-After", "10"},
		"quota":   {"RateLimit", `"a";r=0;t=10`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sent := fetchtest.NewTimeline()
				f := fetchtest.NewFetcher(t, fetch.WithHostGroup(bySite), fetchtest.Over(sent.Over(func(req *http.Request) (*http.Response, error) {
					if time.Since(sent.Start) == 0 {
						status := map[string]int{"refusal": 429, "quota": 200}[name]
						return fetchtest.Respond(req, status, "", header...), nil
					}
					return fetchtest.AtOnce(req)
				})))
				fetchtest.MustFetch(t, f, "http://www.site/")
				time.Sleep(time.Second)
				urls := []string{"http://site/", "http://cdn1.site/", "http://other/"}
				fetchtest.MustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
				if at := sent.OfHost("site"); at[0] != 10*time.Second {
					t.Errorf("site is requested at %v", at)
				}
				if at := sent.OfHost("cdn1.site"); at[0] != 10*time.Second {
					t.Errorf("cdn1.site is requested at %v", at)
				}
				if at := sent.OfHost("other"); at[0] != time.Second {
					t.Errorf("other is requested at %v", at)
				}
			})
		})
	}
}

func TestAHostPausedErrorNamesTheGroup(t *testing.T) {
	urls := []string{"http://www.site/", "http://cdn1.site/", "http://other/"}
	results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1), fetch.WithHostGroup(bySite), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		if req.URL.Host == "other" {
			return fetchtest.AtOnce(req)
		}
		return fetchtest.Respond(req, 429, "", "Retry-After", "3600"), nil
	}))
	fetchtest.CheckResults(t, urls, results)
	paused, _ := errors.AsType[*fetch.HostPausedError](results[1].Err)
	if results[0].StatusCode != 429 || paused == nil || paused.Host != "site" || !results[2].OK() {
		t.Errorf("%d, %v, %v", results[0].StatusCode, results[1].Err, results[2].Err)
	}
}

func TestFailuresToConnectCountForTheGroup(t *testing.T) {
	var flight fetchtest.InFlight
	urls := fetchtest.HostURLs(4, "site", "www.site", "cdn1.site")
	results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1), fetch.WithMaxHostFailures(3), fetch.WithHostGroup(bySite), fetchtest.Over(flight.Over(fetchtest.Failing(fetchtest.ErrRefused))))
	fetchtest.CheckResults(t, urls, results)
	if n := flight.Total(); n != 3 {
		t.Errorf("%d requests", n)
	}
	for _, r := range results {
		if r.Attempts == 0 && !errors.Is(r.Err, fetch.ErrHostDown) {
			t.Errorf("%s: %v", r.URL, r.Err)
		}
	}
}

// A name that the function makes up is no host, and its own host is one of a group.
func TestAGroupCanHaveAnyName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, call := range []string{"FetchAll", "Stream", "DoAll"} {
			start := time.Now()
			urls := fetchtest.HostURLs(2, "a", "b", "c")
			f := fetchtest.NewFetcher(t, fetch.WithHostConcurrency(1), fetchtest.Over(fetchtest.AnswerAfter(time.Second)), fetch.WithHostGroup(func(host string) string {
				return map[string]string{"a": " \x00 any name", "b": " \x00 any name"}[host]
			}))
			switch call {
			case "FetchAll":
				fetchtest.MustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
			case "Stream":
				fetchtest.Collect(t, urls, f.Stream(t.Context(), slices.Values(urls)))
			case "DoAll":
				var reqs []*http.Request
				for _, u := range urls {
					req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u, nil)
					if err != nil {
						t.Fatal(err)
					}
					reqs = append(reqs, req)
				}
				fetchtest.MustAllBeFine(t, urls, f.DoAll(t.Context(), reqs))
			}
			fetchtest.CheckTook(t, fmt.Sprintf("%s of 4 URLs in a group, one at once,", call), time.Since(start), 4*time.Second)
		}
	})
}
