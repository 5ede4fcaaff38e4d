package order_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestContextValuesReachTheTransport(t *testing.T) {
	type key string
	f := fetchtest.NewFetcher(t, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		return fetchtest.Respond(req, 200, fmt.Sprint(req.Context().Value(key("batch")), " ", req.Context().Value(key("request")))), nil
	}))
	ctx := context.WithValue(t.Context(), key("batch"), "b")

	r := f.FetchAll(ctx, []string{"http://host/"})[0]
	fetchtest.CheckResult(t, 0, "http://host/", r)
	if string(r.Body) != "b <nil>" {
		t.Errorf("FetchAll: %q, %v", r.Body, r.Err)
	}
	req, _ := http.NewRequestWithContext(context.WithValue(t.Context(), key("request"), "r"), http.MethodGet, "http://host/", nil)
	r = f.DoAll(ctx, []*http.Request{req})[0]
	if !strings.HasSuffix(string(r.Body), " r") {
		t.Errorf("DoAll: %q, %v", r.Body, r.Err)
	}
}

func TestDoAllGivesErrorsForRequestsThatCannotBeSent(t *testing.T) {
	var sent atomic.Int32
	f := fetchtest.NewFetcher(t, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		sent.Add(1)
		return fetchtest.Respond(req, 200, "ok"), nil
	}))
	body := fetchtest.NewTrackedBody("data")
	fine, _ := http.NewRequest("POST", "http://host/", nil)
	noHeader := &http.Request{URL: &url.URL{Scheme: "http", Host: "host", Path: "/"}}
	badMethod := fine.Clone(t.Context())
	badMethod.Method = "NO METHOD"
	badMethod.Body = body

	results := f.DoAll(t.Context(), []*http.Request{
		nil,
		{},
		{Method: "POST", URL: &url.URL{Scheme: "ftp", Host: "host"}, Body: fetchtest.NewTrackedBody("")},
		{URL: &url.URL{Path: "/relative"}},
		{URL: &url.URL{Scheme: "http", Host: "host:99999"}},
		badMethod,
		{URL: noHeader.URL, Header: http.Header{"Two Words": {"x"}}},
		{URL: noHeader.URL, Header: http.Header{"X-Key": {"canary99\r\nX-Injected: x"}}},
		{URL: noHeader.URL, RequestURI: "/of-a-server"},
		noHeader,
		fine,
	})
	const plain = "http://host/"
	fetchtest.CheckResults(t, []string{"", "", "ftp://host", "/relative", "http://host:99999", plain, plain, plain, plain, plain, plain}, results)
	for i, r := range results {
		if r.Err != nil && strings.Contains(r.Err.Error(), "canary99") {
			t.Errorf("request %d: the text shows a header's value: %v", i, r.Err)
		}
		if cannot := i < 9; cannot != errors.Is(r.Err, fetch.ErrInvalidURL) || cannot == r.OK() {
			t.Errorf("request %d: status %d, error %v", i, r.StatusCode, r.Err)
		}
	}
	if sent.Load() != 2 {
		t.Errorf("%d requests were sent, want 2", sent.Load())
	}
	if !body.Closed.Load() {
		t.Error("the body of the bad method was not closed")
	}
}

func TestRequestsAreNotChanged(t *testing.T) {
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/moved" {
			http.Redirect(w, req, "/landed", http.StatusSeeOther)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "seen", Value: "yes"})
		fmt.Fprint(w, req.Header.Get("X-Added"), req.Header.Get("X-Touched"))
	})
	jar, _ := cookiejar.New(nil)
	f := fetchtest.NewFetcher(t,
		fetch.WithClient(&http.Client{Jar: jar, Transport: &http.Transport{DisableKeepAlives: true}}),
		fetch.WithHeader("X-Added", "added"),
		fetch.WithHeader("Host", "other.example"),
		fetch.WithRequestFunc(func(req *http.Request) error {
			req.Header.Set("X-Touched", "touched")
			req.Header["X-Own"][0] = "overwritten"
			req.URL.RawQuery = "touched"
			return nil
		}))

	var reqs []*http.Request
	var before []fetchtest.Snapshot
	var urls []string
	for _, path := range []string{"/", "/moved"} {
		req, _ := http.NewRequest("POST", strings.Replace(server.URL, "//", "//user:secret@", 1)+path, strings.NewReader("body"))
		req.Header.Set("X-Own", "own")
		reqs, before, urls = append(reqs, req), append(before, fetchtest.SnapshotOf(req)), append(urls, req.URL.String())
	}
	list := slices.Clone(reqs)
	for range 2 { // the second time the Jar has a cookie
		for _, req := range reqs {
			req.Body, _ = req.GetBody()
		}
		results := f.DoAll(t.Context(), reqs)
		fetchtest.CheckResults(t, urls, results)
		for i, r := range results {
			if r.Err != nil || i == 0 && string(r.Body) != "addedtouched" {
				t.Errorf("%s: %q, %v", r.URL, r.Body, r.Err)
			}
			if after := fetchtest.SnapshotOf(reqs[i]); !reflect.DeepEqual(after, before[i]) {
				t.Errorf("%s was changed:\nbefore %+v\nafter  %+v", r.URL, before[i], after)
			}
		}
	}
	if !slices.Equal(list, reqs) {
		t.Error("the slice of requests was changed")
	}
}

func TestRequestBodyIsAlwaysClosed(t *testing.T) {
	closing := func(rt fetchtest.RoundTripFunc) fetchtest.RoundTripFunc {
		return func(req *http.Request) (*http.Response, error) {
			if req.Body != nil {
				defer req.Body.Close()
			}
			return rt(req)
		}
	}
	cases := map[string]struct {
		transport fetchtest.RoundTripFunc
		url       string
		opts      []fetch.Option
		cancel    time.Duration // of the batch, when not 0
		own       time.Duration // deadline of the request, when not 0
	}{
		"sent": {transport: closing(func(req *http.Request) (*http.Response, error) {
			io.Copy(io.Discard, req.Body)
			return fetchtest.Respond(req, 200, ""), nil
		})},
		"answered before it was read": {transport: closing(fetchtest.AnswerAfter(0))},
		"forgotten by the transport":  {transport: fetchtest.AnswerAfter(0)},
		"failed": {transport: closing(func(*http.Request) (*http.Response, error) {
			return nil, errors.New("broken")
		})},
		"forgotten by a failing transport": {transport: func(*http.Request) (*http.Response, error) {
			return nil, errors.New("broken")
		}},
		"bad URL":   {url: "ftp://host/"},
		"timed out": {transport: closing(fetchtest.AnswerAfter(time.Hour))},
		"refused by RequestFunc": {opts: []fetch.Option{fetch.WithRequestFunc(func(*http.Request) error {
			return errors.New("no token")
		})}},
		"bad host limits": {opts: []fetch.Option{fetch.WithHostLimits(func(string) fetch.HostLimits {
			return fetch.HostLimits{Concurrency: -1}
		})}},
		"refused by the limiter": {opts: []fetch.Option{fetch.WithLimiter(fetchtest.LimiterFunc(func(context.Context) error {
			return errors.New("no permit")
		}))}},
		"cancelled before the call":   {cancel: -1},
		"cancelled in flight":         {transport: closing(fetchtest.AnswerAfter(time.Hour)), cancel: time.Second},
		"cancelled in a queue":        {opts: []fetch.Option{fetch.WithHostRate(1e-6, 1)}, cancel: time.Second},
		"its own context done before": {own: -1},
		"its own deadline in flight":  {transport: closing(fetchtest.AnswerAfter(time.Hour)), own: time.Second},
		"its own deadline in a queue": {opts: []fetch.Option{fetch.WithHostRate(1e-6, 1)}, own: time.Second},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if c.transport == nil {
					c.transport = closing(fetchtest.AnswerAfter(0))
				}
				if c.url == "" {
					c.url = "http://host/"
				}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if c.cancel < 0 {
					cancel()
				} else if c.cancel > 0 {
					time.AfterFunc(c.cancel, cancel)
				}
				own, cancelOwn := t.Context(), context.CancelFunc(func() {})
				if c.own != 0 {
					own, cancelOwn = context.WithTimeout(own, c.own)
				}
				defer cancelOwn()

				var reqs []*http.Request
				var urls []string
				bodies := []*fetchtest.TrackedBody{fetchtest.NewTrackedBody("one"), fetchtest.NewTrackedBody("two")}
				for _, body := range bodies {
					req, err := http.NewRequestWithContext(own, "POST", c.url, body)
					if err != nil {
						t.Fatal(err)
					}
					reqs, urls = append(reqs, req), append(urls, c.url)
				}
				results := fetchtest.NewFetcher(t, append(c.opts, fetchtest.Over(c.transport))...).DoAll(ctx, reqs)
				fetchtest.CheckResults(t, urls, results)
				for i, body := range bodies {
					if !body.Closed.Load() {
						t.Errorf("body %d was not closed (%v)", i, results[i].Err)
					}
				}
			})
		})
	}
}

func TestCallersSlicesAndHeadersAreNotKept(t *testing.T) {
	f := fetchtest.NewFetcher(t, fetchtest.Over(fetchtest.AnswerAfter(0)))
	urls := fetchtest.Numbered("http://host", 100)
	given := slices.Clone(urls)
	header := http.Header{"X-A": {"a"}}
	req, _ := http.NewRequest("GET", "http://host/", nil)
	req.Header = header
	reqs := []*http.Request{req}

	results := f.FetchAll(t.Context(), urls)
	fromReqs := f.DoAll(t.Context(), reqs)
	// The race detector sees it if something of the library still reads these.
	for i := range urls {
		urls[i] = "changed"
	}
	header["X-A"][0] = "changed"
	header.Set("X-B", "new")
	req.URL.Host, reqs[0] = "changed", nil

	fetchtest.CheckResults(t, given, results)
	fetchtest.CheckResults(t, []string{"http://host/"}, fromReqs)
}
