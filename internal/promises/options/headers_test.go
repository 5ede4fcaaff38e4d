package options_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"sync/atomic"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestWithHeaderAddsToRequestsThatHaveNone(t *testing.T) {
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
		fmt.Fprintf(w, "%q %q %q %s", req.Header["X-Added"], req.Header["X-Twice"], req.Header["User-Agent"], req.Host)
	})
	opts := []fetch.Option{
		fetch.WithHeader("x-added", "added"),
		fetch.WithHeader("X-Twice", "one"),
		fetch.WithHeader("X-Twice", "two"),
		fetch.WithHeader("User-Agent", "tester/1"),
		fetch.WithHeader("Host", "virtual.example"),
	}
	const added = `["added"] ["one" "two"] ["tester/1"] virtual.example`

	urls := fetchtest.Numbered(server.URL, 3)
	results := fetch.FetchAll(t.Context(), urls, opts...)
	fetchtest.CheckResults(t, urls, results)
	for _, r := range results {
		if string(r.Body) != added {
			t.Errorf("FetchAll: %s, %v", r.Body, r.Err)
		}
	}

	own, _ := http.NewRequest("GET", server.URL, nil)
	own.Header.Set("X-Added", "own")
	own.Header.Add("X-Twice", "mine")
	own.Host = "own.example"
	noHeader, _ := http.NewRequest("GET", server.URL, nil)
	noHeader.Header = nil
	for i, r := range fetchtest.NewFetcher(t, opts...).DoAll(t.Context(), []*http.Request{own, noHeader}) {
		want := []string{`["own"] ["mine"] ["tester/1"] own.example`, added}[i]
		fetchtest.CheckResult(t, i, server.URL, r)
		if string(r.Body) != want {
			t.Errorf("DoAll: %s, %v; want %s", r.Body, r.Err, want)
		}
	}
}

func TestRequestFuncHasTheLastTouch(t *testing.T) {
	var sent atomic.Int32
	transport := fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		sent.Add(1)
		return fetchtest.Respond(req, 200, req.Header.Get("X-Signature")+req.URL.Path), nil
	})
	noToken := errors.New("no token")
	for name, c := range map[string]struct {
		f    func(*http.Request) error
		body string // "": it must fail
		err  error
	}{
		"signs what WithHeader set": {f: func(req *http.Request) error {
			req.Header.Set("X-Signature", req.Header.Get("X-Key")+" signed")
			return nil
		}, body: "key signed/"},
		"may change the path": {f: func(req *http.Request) error {
			req.URL.Path = "/other"
			return nil
		}, body: "/other"},
		"ends the URL": {f: func(*http.Request) error { return noToken }, err: noToken},
		"must not change the host": {f: func(req *http.Request) error {
			req.URL.Host = "elsewhere"
			return nil
		}},
		"must not change the port": {f: func(req *http.Request) error {
			req.URL.Host += ":8080"
			return nil
		}},
		"must not change the scheme": {f: func(req *http.Request) error {
			req.URL.Scheme = "https"
			return nil
		}},
		"must not take the URL away": {f: func(req *http.Request) error {
			req.URL = nil
			return nil
		}},
	} {
		t.Run(name, func(t *testing.T) {
			sent.Store(0)
			f := fetchtest.NewFetcher(t, transport, fetch.WithHeader("X-Key", "key"), fetch.WithRequestFunc(c.f))
			urls := []string{"http://host/", "http://host/"}
			results := f.FetchAll(t.Context(), urls)
			fetchtest.CheckResults(t, urls, results)
			for _, r := range results {
				if r.OK() != (c.body != "") || string(r.Body) != c.body || c.err != nil && !errors.Is(r.Err, c.err) {
					t.Errorf("body %q, error %v", r.Body, r.Err)
				}
			}
			if allSent := sent.Load() == 2; allSent != (c.body != "") || !allSent && sent.Load() != 0 {
				t.Errorf("%d were sent", sent.Load())
			}
		})
	}

	t.Run("on a clone", func(t *testing.T) {
		f := fetchtest.NewFetcher(t, transport, fetch.WithRequestFunc(func(req *http.Request) error {
			req.Header.Set("X-Signature", "s")
			req.Header["X-Own"][0] = "changed"
			req.URL.Path = "/changed"
			return nil
		}))
		req, _ := http.NewRequest("GET", "http://host/", nil)
		req.Header.Set("X-Own", "own")
		before := fetchtest.SnapshotOf(req)
		r := f.DoAll(t.Context(), []*http.Request{req})[0]
		fetchtest.CheckResult(t, 0, "http://host/", r)
		if string(r.Body) != "s/changed" || !reflect.DeepEqual(fetchtest.SnapshotOf(req), before) {
			t.Errorf("body %q, error %v, the request is now %+v", r.Body, r.Err, req)
		}
	})
}

func TestErrorsOfHooksAreNotRetriedWhateverTheyWrap(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: io.ErrUnexpectedEOF}
	for name, hook := range map[string]func(called *int) fetch.Option{
		"RequestFunc": func(called *int) fetch.Option {
			return fetch.WithRequestFunc(func(*http.Request) error { *called++; return refused })
		},
		"BodyFunc": func(called *int) fetch.Option {
			return fetch.WithBodyFunc(func(context.Context, fetch.Result, io.Reader) error { *called++; return refused })
		},
	} {
		called := 0
		urls := []string{"http://a.example/", "http://a.example/2"}
		results := fetch.FetchAll(t.Context(), urls, fetchtest.Over(fetchtest.AnswerAfter(0)), hook(&called),
			fetch.WithConcurrency(1), fetch.WithRetries(2), fetch.WithMaxHostFailures(1))
		fetchtest.CheckResults(t, urls, results)
		if called != 2 || results[1].Attempts != 1 {
			t.Errorf("%s was called %d times; %v", name, called, results[1].Err)
		}
	}
}

func TestFinalURLIsWhatTheRequestFuncHasMadeOfIt(t *testing.T) {
	urls := []string{"http://a.example/plain", "http://a.example/redirected"}
	results := fetch.FetchAll(t.Context(), urls, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		if req.URL.Path == "/redirected" {
			return fetchtest.Respond(req, 302, "", "Location", "/plain"), nil
		}
		return fetchtest.Respond(req, 200, "ok"), nil
	}), fetch.WithRequestFunc(func(req *http.Request) error {
		req.URL.RawQuery = "signed"
		return nil
	}))
	fetchtest.MustAllBeFine(t, urls, results)
	for _, r := range results {
		if want := "http://a.example/plain?signed"; r.FinalURL != want {
			t.Errorf("%s: FinalURL is %s, want %s", r.URL, r.FinalURL, want)
		}
	}
}

// The own client looks for what it has put into the context.
func TestARequestFuncMayReplaceTheContext(t *testing.T) {
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	urls := fetchtest.Numbered(server.URL, 3)
	fetchtest.MustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithRequestFunc(func(req *http.Request) error {
		*req = *req.WithContext(context.Background())
		return nil
	})))
}
