package redirects_test

import (
	"net/http"
	"sync"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
	"github.com/batchhttp/fetch/internal/redirect"
)

func TestARedirectToAnotherHostCanBeTheResult(t *testing.T) {
	locations := map[string]string{
		"http://a.example/own":      "/there",
		"http://a.example/upgrade":  "https://A.example/there",
		"http://a.example/other":    "http://b.example/there",
		"http://a.example/port":     "http://a.example:8080/there",
		"http://a.example/two-hops": "/other",
	}
	answers := fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		if to := locations[req.URL.String()]; to != "" {
			return fetchtest.Respond(req, 302, "moved", "Location", to), nil
		}
		return fetchtest.Respond(req, 200, "there"), nil
	})
	for rawURL, want := range map[string]struct {
		final             string
		status, redirects int
	}{
		"http://a.example/own":      {"http://a.example/there", 200, 1},
		"http://a.example/upgrade":  {"https://A.example/there", 200, 1},
		"http://a.example/other":    {"http://a.example/other", 302, 0},
		"http://a.example/port":     {"http://a.example/port", 302, 0},
		"http://a.example/two-hops": {"http://a.example/other", 302, 1},
	} {
		r := fetchtest.GetOne(t, rawURL, answers, fetch.WithHostRedirects())
		if r.Err != nil || r.StatusCode != want.status || r.FinalURL != want.final || r.Redirects != want.redirects {
			t.Errorf("%s: %d %s after %d, %v", rawURL, r.StatusCode, r.FinalURL, r.Redirects, r.Err)
		}
	}
}

// A request that goes on with a chain of redirects that began elsewhere, at another origin, gets no
// secret of this Fetcher's.
func TestAChainThatBeganElsewhereGetsNoSecret(t *testing.T) {
	var mu sync.Mutex
	var got []http.Header
	asked := 0
	f := fetchtest.NewFetcher(t, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, req.Header.Clone())
		if req.URL.Path == "/" {
			return fetchtest.Respond(req, 302, "moved", "Location", "/again"), nil
		}
		return fetchtest.Respond(req, 200, "ok"), nil
	}), fetch.WithHeader("Authorization", "secret"), fetch.WithHeader("User-Agent", "me"), fetch.WithHeader("Host", "secret.example"),
		fetch.WithRequestFunc(func(*http.Request) error {
			asked++
			return nil
		}))
	req := fetchtest.NewRequest(t, "GET", "http://a.example/", nil)
	req = req.WithContext(redirect.WithLeg(req.Context(), &redirect.Leg{Left: true}))
	results := f.DoAll(t.Context(), []*http.Request{req})
	fetchtest.CheckResults(t, []string{"http://a.example/"}, results)
	if results[0].Err != nil || results[0].Redirects != 1 {
		t.Errorf("%+v", results[0])
	}
	for _, header := range got {
		if header.Get("Authorization") != "" || header.Get("Referer") != "" || header.Get("User-Agent") != "me" {
			t.Errorf("sent %v", header)
		}
	}
	if asked > 0 || len(got) != 2 {
		t.Errorf("%d calls of the function, %d requests", asked, len(got))
	}
}
