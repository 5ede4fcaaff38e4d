package order_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestEmptyListGivesAnEmptySlice(t *testing.T) {
	f := fetchtest.NewFetcher(t)
	calls := map[string]func() []fetch.Result{
		"nil list":        func() []fetch.Result { return fetch.FetchAll(t.Context(), nil) },
		"empty list":      func() []fetch.Result { return fetch.FetchAll(t.Context(), []string{}) },
		"bad option":      func() []fetch.Result { return fetch.FetchAll(t.Context(), nil, fetch.WithConcurrency(-1)) },
		"Fetcher":         func() []fetch.Result { return f.FetchAll(t.Context(), nil) },
		"DoAll nil list":  func() []fetch.Result { return f.DoAll(t.Context(), nil) },
		"DoAll no member": func() []fetch.Result { return f.DoAll(t.Context(), []*http.Request{}) },
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) { fetchtest.CheckResults(t, nil, call()) })
	}
}

func TestNilContextIsAnErrorInEachResult(t *testing.T) {
	var ctx context.Context
	var sent atomic.Int32
	f := fetchtest.NewFetcher(t, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		sent.Add(1)
		return fetchtest.Respond(req, 200, ""), nil
	}))
	urls := []string{"http://a/", "", "http://b/"}
	body := fetchtest.NewTrackedBody("data")
	post, _ := http.NewRequest(http.MethodPost, "http://a/", body)
	for name, call := range map[string]func() ([]string, []fetch.Result){
		"FetchAll": func() ([]string, []fetch.Result) { return urls, f.FetchAll(ctx, urls) },
		"DoAll":    func() ([]string, []fetch.Result) { return urls[:1], f.DoAll(ctx, []*http.Request{post}) },
	} {
		t.Run(name, func(t *testing.T) {
			urls, results := call()
			fetchtest.CheckResults(t, urls, results)
			for _, r := range results {
				if r.Err == nil {
					t.Errorf("no error: %+v", r)
				}
			}
		})
	}
	if sent.Load() != 0 {
		t.Errorf("%d requests were sent", sent.Load())
	}
	if !body.Closed.Load() {
		t.Error("the body was not closed")
	}
}

// badURLs cannot be fetched. canary must not be in any text.
var badURLs = map[string]string{
	"empty":                       "",
	"blank":                       "   ",
	"line ends":                   "\t\r\n",
	"relative path":               "page.html",
	"absolute path":               "/page.html?canary=canary99",
	"query only":                  "?canary99",
	"no scheme":                   "//host/page",
	"no scheme but a port":        "localhost:8080/page",
	"file":                        "file:///etc/passwd",
	"ftp":                         "ftp://user:canary99@host/",
	"data":                        "data:text/plain,canary99",
	"javascript":                  "javascript:alert('canary99')",
	"unix":                        "unix:/run/socket",
	"scheme that begins with one": "httpx://host/",
	"http opaque":                 "http:opaque",
	"https opaque":                "https:user:canary99@host?canary99",
	"nothing after the scheme":    "http://",
	"no host":                     "http:///page?canary99",
	"no host but a port":          "http://:80/",
	"no host but user info":       "http://user:canary99@/",
	"a dot for a host":            "http://./",
	"port too large":              "http://host:99999/",
	"port 65536":                  "http://host:65536/",
	"port zero":                   "http://host:0/",
	"negative port":               "http://host:-1/",
	"port of letters":             "http://host:canary99/",
	"two ports":                   "http://host:80:80/",
	"space in the host":           "http://ho st/",
	"NUL in the path":             "http://host/\x00?canary99",
	"line end in the path":        "http://user:canary99@host/\r\nX-Injected: canary99",
	"DEL in the host":             "http://ho\x7fst/",
	"escape in the query":         "http://host/?canary99=\x1b[31m",
	"space in the user info":      "http://user:canary99 ss/@h",
	"bad percent escape":          "http://h%zz/",
	"bad percent escape, secrets": "http://user:canary99@h%zz/?canary99=canary99#canary99",
	"unclosed bracket":            "http://[::1/",
	"text after the bracket":      "http://[::1]x/",
	"brackets around a name":      "http://[name]/",
}

func TestURLThatCannotBeFetchedIsItsOwnError(t *testing.T) {
	var sent atomic.Int32
	f := fetchtest.NewFetcher(t, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		sent.Add(1)
		return fetchtest.Respond(req, 200, ""), nil
	}))
	for name, bad := range badURLs {
		t.Run(name, func(t *testing.T) {
			sent.Store(0)
			urls := []string{"http://fine/", bad, "http://fine/"}
			results := f.FetchAll(t.Context(), urls)
			fetchtest.CheckResults(t, urls, results)
			r := results[1]
			if !errors.Is(r.Err, fetch.ErrInvalidURL) || r.Attempts != 0 {
				t.Errorf("%d attempts, error %v, want 0 and ErrInvalidURL", r.Attempts, r.Err)
			}
			if r.Err != nil && strings.Contains(r.Err.Error(), "canary99") {
				t.Errorf("the text shows a secret: %q", r.Err)
			}
			if results[0].Err != nil || results[2].Err != nil || sent.Load() != 2 {
				t.Errorf("the others: %v, %v; %d were sent, want 2", results[0].Err, results[2].Err, sent.Load())
			}
		})
	}
}

func TestURLThatCannotBeFetchedTakesNoTokenOfARate(t *testing.T) {
	for name, limit := range map[string]fetch.Option{
		"of the host":  fetch.WithHostRate(0.001, 1),
		"of all hosts": fetch.WithRate(0.001, 1),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				urls := []string{"http://host%zz/", "http://host:0/", "ftp://host/", "http://ho st/", "http://host/fine"}
				results := fetch.FetchAll(t.Context(), urls, limit, fetchtest.Over(fetchtest.AnswerAfter(0)))
				fetchtest.CheckResults(t, urls, results)
				if r := results[4]; r.Err != nil {
					t.Error(r.Err)
				}
				fetchtest.CheckTook(t, "the batch", time.Since(start), 0)
			})
		})
	}
}

func TestUserInfoIsSentAsBasicAndShownNowhere(t *testing.T) {
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
		user, password, _ := req.BasicAuth()
		switch req.URL.Path {
		case "/cut":
			w.Header().Set("Content-Length", "100")
		case "/moved":
			http.Redirect(w, req, "/landed", http.StatusFound)
		}
		fmt.Fprintf(w, "%s %s %s", user, password, req.Header.Get("X-Kind"))
	})
	withUser := strings.Replace(server.URL, "http://", "http://zelda:pass%20word99@", 1)

	urls := []string{withUser + "/", withUser + "/moved", withUser + "/cut?token99"}
	results := fetch.FetchAll(t.Context(), urls)
	fetchtest.CheckResults(t, urls, results)
	for i, final := range []string{"/", "/landed"} {
		if r := results[i]; string(r.Body) != "zelda pass word99 " || r.FinalURL != server.URL+final {
			t.Errorf("body %q, FinalURL %q", r.Body, r.FinalURL)
		}
	}
	if r := results[2]; r.Err == nil || strings.Contains(r.Err.Error(), "word99") || strings.Contains(r.Err.Error(), "zelda") {
		t.Errorf("cut: %v", r.Err)
	}

	t.Run("but not over a header of the request", func(t *testing.T) {
		req, _ := http.NewRequest(http.MethodGet, withUser+"/", nil)
		req.SetBasicAuth("bob", "other")
		r := fetchtest.NewFetcher(t).DoAll(t.Context(), []*http.Request{req})[0]
		if string(r.Body) != "bob other " {
			t.Errorf("body %q, error %v", r.Body, r.Err)
		}
		if strings.Contains(r.FinalURL, "zelda") {
			t.Errorf("FinalURL %q", r.FinalURL)
		}
	})
}
