package fetch_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
)

func TestResultsAreInTheOrderOfTheURLs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The first URL takes longest, so that they end in the opposite order.
		var urls []string
		for i := range 100 {
			urls = append(urls, fmt.Sprintf("http://host%d/%d", i%7, i))
		}
		took := func(i int) time.Duration { return time.Duration(len(urls)-i) * time.Millisecond }
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(200), over(func(req *http.Request) (*http.Response, error) {
			var i int
			fmt.Sscanf(req.URL.Path, "/%d", &i)
			if err := sleepCtx(req.Context(), took(i)); err != nil {
				return nil, err
			}
			return respond(req, 200+i%4, req.URL.String(), "X-Index", fmt.Sprint(i)), nil
		}))
		checkResults(t, urls, results)
		for i, r := range results {
			if r.Err != nil || r.StatusCode != 200+i%4 || string(r.Body) != urls[i] || r.FinalURL != urls[i] ||
				r.Header.Get("X-Index") != fmt.Sprint(i) || r.Proto != "HTTP/1.1" || r.Attempts != 1 {
				t.Errorf("result %d: %+v", i, r)
			}
			checkTook(t, urls[i], r.Took, took(i))
			checkTook(t, "the queue", r.Waited, 0)
		}
	})
}

func TestEachErrorIsInItsOwnResult(t *testing.T) {
	urls := []string{
		"http://fine/",
		"http://refused/",
		"no such scheme",
		"http://unknown/",
		"http://missing/",
		"http://fine/again",
	}
	results := fetch.FetchAll(t.Context(), urls, over(func(req *http.Request) (*http.Response, error) {
		switch req.URL.Host {
		case "refused":
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		case "unknown":
			return nil, &net.DNSError{Err: "no such host", Name: "unknown", IsNotFound: true}
		case "missing":
			return respond(req, 404, "not here"), nil
		}
		return respond(req, 200, "ok"), nil
	}))
	checkResults(t, urls, results)

	for _, i := range []int{0, 5} {
		if r := results[i]; r.Err != nil || !r.OK() || string(r.Body) != "ok" {
			t.Errorf("result %d: %+v", i, r)
		}
	}
	if err := results[1].Err; !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("refused: %v", err)
	} else if _, ok := errors.AsType[*net.OpError](err); !ok {
		t.Errorf("refused: no *net.OpError in %v", err)
	}
	if err := results[2].Err; !errors.Is(err, fetch.ErrInvalidURL) {
		t.Errorf("invalid: %v", err)
	}
	if dns, ok := errors.AsType[*net.DNSError](results[3].Err); !ok || !dns.IsNotFound {
		t.Errorf("unknown: %v", results[3].Err)
	}
	if r := results[4]; r.Err != nil || r.OK() || r.StatusCode != 404 || string(r.Body) != "not here" {
		t.Errorf("a status alone is not an error: %+v", r)
	}
}

// What a URL gives alone it gives among hostile ones too.
func TestFailureOfOneURLChangesNoOtherResult(t *testing.T) {
	server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/good":
			fmt.Fprintf(w, "good %s", req.URL.RawQuery)
		case "/moved":
			http.Redirect(w, req, "/good?moved", http.StatusFound)
		case "/error":
			http.Error(w, "broken", http.StatusInternalServerError)
		case "/empty":
			w.WriteHeader(http.StatusNoContent)
		default:
			raw := map[string]string{
				"/silent":    "",
				"/garbage":   "\x00\xff garbage\r\n\r\n",
				"/truncated": "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
				"/switch":    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
				"/loop":      "HTTP/1.1 302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\n\r\n",
				"/chunks":    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
			}
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			io.WriteString(conn, raw[req.URL.Path])
			conn.Close()
		}
	})
	var good, hostile []string
	for i := range 20 {
		good = append(good, fmt.Sprintf("%s/good?%d", server.URL, i))
	}
	for _, path := range []string{"/moved", "/error", "/empty"} {
		good = append(good, server.URL+path)
	}
	for _, path := range []string{"/silent", "/garbage", "/truncated", "/switch", "/loop", "/chunks"} {
		hostile = append(hostile, server.URL+path, server.URL+path)
	}
	hostile = append(hostile, "http://127.0.0.1:1/", "://", "ftp://host/")

	type outcome struct {
		status, redirects int
		body, final       string
		err               string
	}
	summary := func(urls []string, results []fetch.Result) map[string]outcome {
		checkResults(t, urls, results)
		all := map[string]outcome{}
		for _, r := range results {
			all[r.URL] = outcome{r.StatusCode, r.Redirects, string(r.Body), r.FinalURL, fmt.Sprint(r.Err)}
		}
		return all
	}
	alone := summary(good, fetch.FetchAll(t.Context(), good))

	mixed := slices.Concat(good, hostile)
	rand.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	among := summary(mixed, fetch.FetchAll(t.Context(), mixed, fetch.WithConcurrency(8)))
	for _, u := range good {
		if alone[u].err != "<nil>" || alone[u] != among[u] {
			t.Errorf("%s:\nalone %+v\namong %+v", u, alone[u], among[u])
		}
	}
	for _, u := range hostile {
		if among[u].err == "<nil>" {
			t.Errorf("%s: no error: %+v", u, among[u])
		}
	}
}

func TestEmptyListGivesAnEmptySlice(t *testing.T) {
	f := newFetcher(t)
	calls := map[string]func() []fetch.Result{
		"nil list":        func() []fetch.Result { return fetch.FetchAll(t.Context(), nil) },
		"empty list":      func() []fetch.Result { return fetch.FetchAll(t.Context(), []string{}) },
		"bad option":      func() []fetch.Result { return fetch.FetchAll(t.Context(), nil, fetch.WithConcurrency(-1)) },
		"Fetcher":         func() []fetch.Result { return f.FetchAll(t.Context(), nil) },
		"DoAll nil list":  func() []fetch.Result { return f.DoAll(t.Context(), nil) },
		"DoAll no member": func() []fetch.Result { return f.DoAll(t.Context(), []*http.Request{}) },
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) { checkResults(t, nil, call()) })
	}
}

func TestNilContextIsAnErrorInEachResult(t *testing.T) {
	var ctx context.Context
	var sent atomic.Int32
	f := newFetcher(t, over(func(req *http.Request) (*http.Response, error) {
		sent.Add(1)
		return respond(req, 200, ""), nil
	}))
	urls := []string{"http://a/", "", "http://b/"}
	body := newTrackedBody("data")
	post, _ := http.NewRequest(http.MethodPost, "http://a/", body)
	for name, call := range map[string]func() ([]string, []fetch.Result){
		"FetchAll": func() ([]string, []fetch.Result) { return urls, f.FetchAll(ctx, urls) },
		"DoAll":    func() ([]string, []fetch.Result) { return urls[:1], f.DoAll(ctx, []*http.Request{post}) },
	} {
		t.Run(name, func(t *testing.T) {
			urls, results := call()
			checkResults(t, urls, results)
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
	if !body.closed.Load() {
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
	"bad percent escape":          "http://h/%zz",
	"bad percent escape, secrets": "http://user:canary99@h/%zz?canary99=canary99#canary99",
	"unclosed bracket":            "http://[::1/",
	"text after the bracket":      "http://[::1]x/",
	"brackets around a name":      "http://[name]/",
}

func TestURLThatCannotBeFetchedIsItsOwnError(t *testing.T) {
	var sent atomic.Int32
	f := newFetcher(t, over(func(req *http.Request) (*http.Response, error) {
		sent.Add(1)
		return respond(req, 200, ""), nil
	}))
	for name, bad := range badURLs {
		t.Run(name, func(t *testing.T) {
			sent.Store(0)
			urls := []string{"http://fine/", bad, "http://fine/"}
			results := f.FetchAll(t.Context(), urls)
			checkResults(t, urls, results)
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
				urls := []string{"http://host/%zz", "http://host:0/", "ftp://host/", "http://ho st/", "http://host/fine"}
				results := fetch.FetchAll(t.Context(), urls, limit, over(answerAfter(0)))
				checkResults(t, urls, results)
				if r := results[4]; r.Err != nil {
					t.Error(r.Err)
				}
				checkTook(t, "the batch", time.Since(start), 0)
			})
		})
	}
}

func TestUserInfoIsSentAsBasicAndShownNowhere(t *testing.T) {
	server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) {
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
	checkResults(t, urls, results)
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
		r := newFetcher(t).DoAll(t.Context(), []*http.Request{req})[0]
		if string(r.Body) != "bob other " {
			t.Errorf("body %q, error %v", r.Body, r.Err)
		}
		if strings.Contains(r.FinalURL, "zelda") {
			t.Errorf("FinalURL %q", r.FinalURL)
		}
	})
}

func TestContextValuesReachTheTransport(t *testing.T) {
	type key string
	f := newFetcher(t, over(func(req *http.Request) (*http.Response, error) {
		return respond(req, 200, fmt.Sprint(req.Context().Value(key("batch")), " ", req.Context().Value(key("request")))), nil
	}))
	ctx := context.WithValue(t.Context(), key("batch"), "b")

	r := f.FetchAll(ctx, []string{"http://host/"})[0]
	checkResult(t, 0, "http://host/", r)
	if string(r.Body) != "b <nil>" {
		t.Errorf("FetchAll: %q, %v", r.Body, r.Err)
	}
	req, _ := http.NewRequestWithContext(context.WithValue(t.Context(), key("request"), "r"), http.MethodGet, "http://host/", nil)
	r = f.DoAll(ctx, []*http.Request{req})[0]
	if !strings.HasSuffix(string(r.Body), " r") {
		t.Errorf("DoAll: %q, %v", r.Body, r.Err)
	}
}

// trackedBody is a request body without GetBody that knows whether it was closed.
type trackedBody struct {
	io.Reader
	closed atomic.Bool
}

func newTrackedBody(text string) *trackedBody { return &trackedBody{Reader: strings.NewReader(text)} }

func (b *trackedBody) Close() error {
	b.closed.Store(true)
	return nil
}

func TestDoAllSendsMethodsHeadersAndBodies(t *testing.T) {
	server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		fmt.Fprintf(w, "%s %s %q %d", req.Method, req.Header.Get("X-Kind"), body, req.ContentLength)
	})
	var reqs []*http.Request
	var urls, want []string
	add := func(method, kind string, body io.Reader, text string, length int) {
		req, err := http.NewRequest(method, server.URL+"/"+kind, body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Kind", kind)
		reqs, urls = append(reqs, req), append(urls, req.URL.String())
		want = append(want, fmt.Sprintf("%s %s %q %d", method, kind, text, length))
	}
	add("POST", "string", strings.NewReader("a string"), "a string", 8)
	add("PUT", "buffer", bytes.NewBufferString("a buffer"), "a buffer", 8)
	add("PATCH", "stream", newTrackedBody("a stream"), "a stream", -1)
	add("DELETE", "nothing", nil, "", 0)
	add("POST", "empty", http.NoBody, "", 0)
	add("OPTIONS", "options", nil, "", 0)
	add("GET", "large", strings.NewReader(strings.Repeat("x", 1<<20)), strings.Repeat("x", 1<<20), 1<<20)

	results := newFetcher(t).DoAll(t.Context(), reqs)
	checkResults(t, urls, results)
	for i, r := range results {
		if r.Err != nil || string(r.Body) != want[i] {
			t.Errorf("%s: %.80q, error %v; want %.80q", r.URL, r.Body, r.Err, want[i])
		}
	}
}

func TestDoAllGivesErrorsForRequestsThatCannotBeSent(t *testing.T) {
	var sent atomic.Int32
	f := newFetcher(t, over(func(req *http.Request) (*http.Response, error) {
		sent.Add(1)
		return respond(req, 200, "ok"), nil
	}))
	body := newTrackedBody("data")
	fine, _ := http.NewRequest("POST", "http://host/", nil)
	noHeader := &http.Request{URL: &url.URL{Scheme: "http", Host: "host", Path: "/"}}
	badMethod := fine.Clone(t.Context())
	badMethod.Method = "NO METHOD"
	badMethod.Body = body

	results := f.DoAll(t.Context(), []*http.Request{
		nil,
		{},
		{Method: "POST", URL: &url.URL{Scheme: "ftp", Host: "host"}, Body: newTrackedBody("")},
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
	checkResults(t, []string{"", "", "ftp://host", "/relative", "http://host:99999", plain, plain, plain, plain, plain, plain}, results)
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
	if !body.closed.Load() {
		t.Error("the body of the bad method was not closed")
	}
}

// snapshot holds what a caller can see of a request.
type snapshot struct {
	Request http.Request
	URL     url.URL
	Header  http.Header
}

func snapshotOf(req *http.Request) snapshot {
	s := snapshot{Request: *req, URL: *req.URL, Header: req.Header.Clone()}
	// Functions cannot be compared, and Body is what the caller knows is used up.
	s.Request.GetBody, s.Request.Body = nil, nil
	return s
}

func TestRequestsAreNotChanged(t *testing.T) {
	server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/moved" {
			http.Redirect(w, req, "/landed", http.StatusSeeOther)
			return
		}
		http.SetCookie(w, &http.Cookie{Name: "seen", Value: "yes"})
		fmt.Fprint(w, req.Header.Get("X-Added"), req.Header.Get("X-Touched"))
	})
	jar, _ := cookiejar.New(nil)
	f := newFetcher(t,
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
	var before []snapshot
	var urls []string
	for _, path := range []string{"/", "/moved"} {
		req, _ := http.NewRequest("POST", strings.Replace(server.URL, "//", "//user:secret@", 1)+path, strings.NewReader("body"))
		req.Header.Set("X-Own", "own")
		reqs, before, urls = append(reqs, req), append(before, snapshotOf(req)), append(urls, req.URL.String())
	}
	list := slices.Clone(reqs)
	for range 2 { // the second time the Jar has a cookie
		for _, req := range reqs {
			req.Body, _ = req.GetBody()
		}
		results := f.DoAll(t.Context(), reqs)
		checkResults(t, urls, results)
		for i, r := range results {
			if r.Err != nil || i == 0 && string(r.Body) != "addedtouched" {
				t.Errorf("%s: %q, %v", r.URL, r.Body, r.Err)
			}
			if after := snapshotOf(reqs[i]); !reflect.DeepEqual(after, before[i]) {
				t.Errorf("%s was changed:\nbefore %+v\nafter  %+v", r.URL, before[i], after)
			}
		}
	}
	if !slices.Equal(list, reqs) {
		t.Error("the slice of requests was changed")
	}
}

func TestRequestBodyIsAlwaysClosed(t *testing.T) {
	closing := func(rt roundTripFunc) roundTripFunc {
		return func(req *http.Request) (*http.Response, error) {
			if req.Body != nil {
				defer req.Body.Close()
			}
			return rt(req)
		}
	}
	cases := map[string]struct {
		transport roundTripFunc
		url       string
		opts      []fetch.Option
		cancel    time.Duration // of the batch, when not 0
		own       time.Duration // deadline of the request, when not 0
	}{
		"sent": {transport: closing(func(req *http.Request) (*http.Response, error) {
			io.Copy(io.Discard, req.Body)
			return respond(req, 200, ""), nil
		})},
		"answered before it was read": {transport: closing(answerAfter(0))},
		"forgotten by the transport":  {transport: answerAfter(0)},
		"failed": {transport: closing(func(*http.Request) (*http.Response, error) {
			return nil, errors.New("broken")
		})},
		"forgotten by a failing transport": {transport: func(*http.Request) (*http.Response, error) {
			return nil, errors.New("broken")
		}},
		"bad URL":   {url: "ftp://host/"},
		"timed out": {transport: closing(answerAfter(time.Hour))},
		"refused by RequestFunc": {opts: []fetch.Option{fetch.WithRequestFunc(func(*http.Request) error {
			return errors.New("no token")
		})}},
		"bad host limits": {opts: []fetch.Option{fetch.WithHostLimits(func(string) fetch.HostLimits {
			return fetch.HostLimits{Concurrency: -1}
		})}},
		"refused by the limiter": {opts: []fetch.Option{fetch.WithLimiter(limiterFunc(func(context.Context) error {
			return errors.New("no permit")
		}))}},
		"cancelled before the call":   {cancel: -1},
		"cancelled in flight":         {transport: closing(answerAfter(time.Hour)), cancel: time.Second},
		"cancelled in a queue":        {opts: []fetch.Option{fetch.WithHostRate(1e-6, 1)}, cancel: time.Second},
		"its own context done before": {own: -1},
		"its own deadline in flight":  {transport: closing(answerAfter(time.Hour)), own: time.Second},
		"its own deadline in a queue": {opts: []fetch.Option{fetch.WithHostRate(1e-6, 1)}, own: time.Second},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				if c.transport == nil {
					c.transport = closing(answerAfter(0))
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
				bodies := []*trackedBody{newTrackedBody("one"), newTrackedBody("two")}
				for _, body := range bodies {
					req, err := http.NewRequestWithContext(own, "POST", c.url, body)
					if err != nil {
						t.Fatal(err)
					}
					reqs, urls = append(reqs, req), append(urls, c.url)
				}
				results := newFetcher(t, append(c.opts, over(c.transport))...).DoAll(ctx, reqs)
				checkResults(t, urls, results)
				for i, body := range bodies {
					if !body.closed.Load() {
						t.Errorf("body %d was not closed (%v)", i, results[i].Err)
					}
				}
			})
		})
	}
}

func TestContextOfARequestEndsThatRequestOnly(t *testing.T) {
	cause := errors.New("the user left")
	for name, c := range map[string]struct {
		opts  []fetch.Option
		first time.Duration // what the request before it takes
		sent  int
	}{
		"in flight":            {sent: 2},
		"waiting for a slot":   {opts: []fetch.Option{fetch.WithConcurrency(1)}, first: time.Minute, sent: 1},
		"waiting for its host": {opts: []fetch.Option{fetch.WithHostConcurrency(1)}, first: time.Minute, sent: 1},
		"waiting for a rate":   {opts: []fetch.Option{fetch.WithRate(1e-6, 1)}, sent: 1},
		"waiting for its rate": {opts: []fetch.Option{fetch.WithHostRate(1e-6, 1)}, sent: 1},
	} {
		for _, kind := range []string{"cancel", "deadline"} {
			t.Run(name+", "+kind, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var sent atomic.Int32
					f := newFetcher(t, append(c.opts, fetch.WithTimeout(0), over(func(req *http.Request) (*http.Response, error) {
						sent.Add(1)
						if req.URL.Path == "/first" {
							return answerAfter(c.first)(req)
						}
						return answerAfter(time.Hour)(req)
					}))...)
					ctx, cancel := context.WithCancelCause(t.Context())
					time.AfterFunc(time.Second, func() { cancel(cause) })
					wantErr := context.Canceled
					if kind == "deadline" {
						var stop context.CancelFunc
						ctx, stop = context.WithTimeoutCause(t.Context(), time.Second, cause)
						defer stop()
						wantErr = context.DeadlineExceeded
					}
					first, _ := http.NewRequest("GET", "http://host/first", nil)
					second, _ := http.NewRequestWithContext(ctx, "GET", "http://host/second", nil)

					start := time.Now()
					results := f.DoAll(t.Context(), []*http.Request{first, second})
					checkTook(t, "the batch", time.Since(start), max(c.first, time.Second))
					checkResults(t, []string{"http://host/first", "http://host/second"}, results)
					if results[0].Err != nil {
						t.Errorf("first: %v", results[0].Err)
					}
					err := results[1].Err
					if !errors.Is(err, wantErr) || !errors.Is(err, cause) || errors.Is(err, fetch.ErrTimeout) {
						t.Errorf("second: %v, want %v and the cause", err, wantErr)
					}
					if int(sent.Load()) != c.sent || results[1].Attempts != c.sent-1 {
						t.Errorf("%d were sent, the second %d times, want %d in all", sent.Load(), results[1].Attempts, c.sent)
					}
				})
			})
		}
	}
}

func TestResponsesWithoutBodyAreComplete(t *testing.T) {
	server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		if req.Method == http.MethodHead || req.URL.Path == "/304" {
			// More than WithMaxBody allows, but it is only announced.
			w.Header().Set("Content-Length", "100000")
		}
		switch req.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.WriteHeader(304)
		}
	})
	var reqs []*http.Request
	var urls []string
	for _, r := range []string{"HEAD /", "GET /204", "HEAD /204", "GET /304", "GET /empty"} {
		method, path, _ := strings.Cut(r, " ")
		req, _ := http.NewRequest(method, server.URL+path, nil)
		reqs, urls = append(reqs, req), append(urls, req.URL.String())
	}
	for name, opts := range map[string][]fetch.Option{
		"own client":      {fetch.WithMaxBody(1000)},
		"injected client": {fetch.WithMaxBody(1000), fetch.WithClient(server.Client())},
	} {
		t.Run(name, func(t *testing.T) {
			results := newFetcher(t, opts...).DoAll(t.Context(), reqs)
			checkResults(t, urls, results)
			for i, want := range []int{200, 204, 204, 304, 200} {
				if r := results[i]; r.Err != nil || r.StatusCode != want || len(r.Body) != 0 {
					t.Errorf("%s %s: status %d, %d bytes, error %v", reqs[i].Method, r.URL, r.StatusCode, len(r.Body), r.Err)
				}
			}
			if got := results[0].Header.Get("Content-Length"); got != "100000" {
				t.Errorf("Content-Length of HEAD is %q", got)
			}
		})
	}
}

func TestStatusErrorsKeepHeaderAndBody(t *testing.T) {
	statuses := []int{200, 204, 299, 300, 304, 400, 404, 500, 503, 999}
	var urls []string
	for _, status := range statuses {
		urls = append(urls, fmt.Sprintf("http://host/%d", status))
	}
	transport := over(func(req *http.Request) (*http.Response, error) {
		var status int
		fmt.Sscanf(req.URL.Path, "/%d", &status)
		body := "body"
		if status == 204 || status == 304 {
			body = ""
		}
		return respond(req, status, body, "X-Kept", "kept"), nil
	})

	t.Run("with the option", func(t *testing.T) {
		results := fetch.FetchAll(t.Context(), urls, transport, fetch.WithStatusErrors())
		checkResults(t, urls, results)
		for i, r := range results {
			statusErr, isErr := errors.AsType[*fetch.StatusError](r.Err)
			if good := statuses[i] < 300; good == isErr || good != r.OK() {
				t.Errorf("%s: error %v", r.URL, r.Err)
			}
			if isErr && statusErr.StatusCode != statuses[i] {
				t.Errorf("%s: StatusError is %+v", r.URL, statusErr)
			}
			wantBody := "body"
			if statuses[i] == 204 || statuses[i] == 304 {
				wantBody = ""
			}
			if r.StatusCode != statuses[i] || string(r.Body) != wantBody || r.Header.Get("X-Kept") != "kept" {
				t.Errorf("%s: not kept: %+v", r.URL, r)
			}
		}
	})
	t.Run("without", func(t *testing.T) {
		results := fetch.FetchAll(t.Context(), urls, transport)
		checkResults(t, urls, results)
		for i, r := range results {
			if r.Err != nil || r.StatusCode != statuses[i] || r.OK() != (statuses[i] < 300) {
				t.Errorf("%s: %+v", r.URL, r)
			}
		}
	})
}

func TestJSONDecodesTheBodyOrSaysWhyNot(t *testing.T) {
	urls := []string{"http://host/good", "http://host/bad?token=canary99", "http://host/missing?token=canary99", "http://host/refused"}
	results := fetch.FetchAll(t.Context(), urls, over(func(req *http.Request) (*http.Response, error) {
		switch req.URL.Path {
		case "/good":
			return respond(req, 200, `{"name":"Ann"}`), nil
		case "/bad":
			return respond(req, 200, `{"name":`), nil
		case "/missing":
			return respond(req, 404, `{"name":"none"}`), nil
		}
		return nil, syscall.ECONNREFUSED
	}))
	checkResults(t, urls, results)
	var user struct{ Name string }

	if err := results[0].JSON(&user); err != nil || user.Name != "Ann" {
		t.Errorf("good: %q, %v", user.Name, err)
	}
	err := results[1].JSON(&user)
	if _, ok := errors.AsType[*json.SyntaxError](err); !ok || !strings.Contains(err.Error(), "http://host/bad") {
		t.Errorf("bad: %v", err)
	}
	checkError(t, urls[1], err)
	err = results[2].JSON(&user)
	if status, ok := errors.AsType[*fetch.StatusError](err); !ok || status.StatusCode != 404 || user.Name != "Ann" {
		t.Errorf("missing: %v, name %q", err, user.Name)
	}
	checkError(t, urls[2], err)
	if err := results[3].JSON(&user); err != results[3].Err || err == nil {
		t.Errorf("refused: %v", err)
	}
}

func TestJoinErrorsWrapsAllErrors(t *testing.T) {
	urls := append(numbered("http://fine", 3), "http://refused/", "ftp://host/")
	results := fetch.FetchAll(t.Context(), urls, over(func(req *http.Request) (*http.Response, error) {
		if req.URL.Host == "refused" {
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
		}
		return respond(req, 404, ""), nil
	}))
	checkResults(t, urls, results)
	err := fetch.JoinErrors(results)
	if !errors.Is(err, syscall.ECONNREFUSED) || !errors.Is(err, fetch.ErrInvalidURL) || errors.Is(err, fetch.ErrTimeout) {
		t.Errorf("joined: %v", err)
	}
	if _, ok := errors.AsType[*net.OpError](err); !ok || !strings.Contains(err.Error(), "2 of 5") {
		t.Errorf("joined: %v", err)
	}
	for _, none := range [][]fetch.Result{nil, {}, results[:3]} {
		if err := fetch.JoinErrors(none); err != nil {
			t.Errorf("of %d without error: %v", len(none), err)
		}
	}
	many := slices.Repeat(results[3:4], 100_000)
	if text := fetch.JoinErrors(many).Error(); len(text) > 10_000 {
		t.Errorf("the text of %d errors has %d bytes", len(many), len(text))
	}
}

func TestDedupSendsEachDistinctURLOnce(t *testing.T) {
	urls := []string{
		"http://host/a", "http://host/a#top", "HTTP://HOST/a", "http://host/a#", // one
		"http://host/A",      // a path has case
		"http://host/a?q",    // a query counts
		"https://host/a",     // another scheme
		"http://u@host/a",    // user information counts
		"http://U@host/a",    // and has case
		"http://U@HOST/a#x",  // as the one before
		"http://refused/",    // an error is shared too
		"http://refused/#it", // as the one before
		"http://h/%zz", "http://h/%zz",
	}
	const distinct = 7 // that can be sent
	var sent atomic.Int32
	transport := over(func(req *http.Request) (*http.Response, error) {
		sent.Add(1)
		if req.URL.Host == "refused" {
			return nil, syscall.ECONNREFUSED
		}
		return respond(req, 200, "body of "+req.URL.String()), nil
	})
	results := fetch.FetchAll(t.Context(), urls, transport, fetch.WithDedup())
	checkResults(t, urls, results)
	if sent.Load() != distinct {
		t.Errorf("%d requests were sent, want %d", sent.Load(), distinct)
	}
	for i, r := range results[:10] {
		if r.Err != nil || len(r.Body) == 0 {
			t.Fatalf("%s: %q, %v", urls[i], r.Body, r.Err)
		}
	}
	for _, i := range []int{1, 2, 3} {
		if &results[i].Body[0] != &results[0].Body[0] {
			t.Errorf("the Body of %s is not shared", urls[i])
		}
	}
	for i, r := range results[10:] {
		if r.Err == nil {
			t.Errorf("%s: no error", urls[10+i])
		}
	}

	sent.Store(0)
	checkResults(t, urls, fetch.FetchAll(t.Context(), urls, transport))
	if sent.Load() != int32(len(urls)-2) {
		t.Errorf("without the option %d were sent, want %d", sent.Load(), len(urls)-2)
	}

	sent.Store(0)
	f := newFetcher(t, transport, fetch.WithDedup())
	req := func() *http.Request {
		r, _ := http.NewRequest("GET", "http://host/a", nil)
		return r
	}
	checkResults(t, []string{"http://host/a", "http://host/a"}, f.DoAll(t.Context(), []*http.Request{req(), req()}))
	if sent.Load() != 2 {
		t.Errorf("of two equal requests of DoAll %d were sent", sent.Load())
	}
}

func TestSeveralBatchesShareOneFetcher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight inFlight
		f := newFetcher(t, fetch.WithConcurrency(8), fetch.WithHostConcurrency(5), over(flight.over(
			func(req *http.Request) (*http.Response, error) {
				if err := sleepCtx(req.Context(), 10*time.Millisecond); err != nil {
					return nil, err
				}
				return respond(req, 200, req.URL.Path), nil
			})))
		var wg sync.WaitGroup
		for batch := range 10 {
			wg.Go(func() {
				var urls []string
				for i := range 50 {
					urls = append(urls, fmt.Sprintf("http://host%d/batch%d/%d", i%4, batch, i))
				}
				results := f.FetchAll(t.Context(), urls)
				checkResults(t, urls, results)
				for i, r := range results {
					if want := fmt.Sprintf("/batch%d/%d", batch, i); r.Err != nil || string(r.Body) != want {
						t.Errorf("%s: %q, %v", r.URL, r.Body, r.Err)
					}
				}
			})
		}
		wg.Wait()
		if flight.most() != 8 || flight.total() != 500 {
			t.Errorf("%d in flight at once, %d in all; want 8 and 500", flight.most(), flight.total())
		}
		for host := range 4 {
			if n := flight.mostOf(fmt.Sprint("host", host)); n > 5 {
				t.Errorf("%d in flight to host %d, want at most 5", n, host)
			}
		}
	})
}

// exported returns the exported fields of a struct, functions as their addresses.
func exported(v any) map[string]any {
	fields := map[string]any{}
	value := reflect.ValueOf(v).Elem()
	for i := range value.NumField() {
		field := value.Type().Field(i)
		switch {
		case !field.IsExported():
		case field.Type.Kind() == reflect.Func:
			fields[field.Name] = value.Field(i).Pointer()
		default:
			fields[field.Name] = value.Field(i).Interface()
		}
	}
	return fields
}

func TestInjectedClientIsNeitherChangedNorClosed(t *testing.T) {
	server, conns := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/3" {
			http.Redirect(w, req, "/landed", http.StatusFound)
		}
		fmt.Fprint(w, "ok")
	})
	jar, _ := cookiejar.New(nil)
	transport := &http.Transport{MaxIdleConnsPerHost: 4, ProxyConnectHeader: http.Header{"X-Proxy": {"x"}}}
	defer transport.CloseIdleConnections()
	client := &http.Client{
		Transport:     transport,
		Jar:           jar,
		Timeout:       time.Minute,
		CheckRedirect: func(*http.Request, []*http.Request) error { return nil },
	}
	// On its first request a Transport settles some fields itself.
	get := func() {
		resp, err := client.Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	get()
	beforeClient, beforeTransport := exported(client), exported(transport.Clone())
	header := transport.ProxyConnectHeader.Clone()

	urls := numbered(server.URL, 50)
	given := slices.Clone(urls)
	opts := []fetch.Option{fetch.WithClient(client), fetch.WithConcurrency(4), fetch.WithTimeout(time.Second),
		fetch.WithMaxRedirects(3), fetch.WithHeader("X-A", "a"), fetch.WithMaxBody(100)}
	checkResults(t, given, fetch.FetchAll(t.Context(), urls, opts...))
	f := newFetcher(t, opts...)
	checkResults(t, given, f.FetchAll(t.Context(), urls))
	f.Close()

	if !slices.Equal(urls, given) {
		t.Error("the slice of URLs was changed")
	}
	if after := exported(client); !reflect.DeepEqual(after, beforeClient) {
		t.Errorf("the client was changed:\nbefore %v\nafter  %v", beforeClient, after)
	}
	after := exported(transport.Clone())
	for _, clone := range []map[string]any{beforeTransport, after} {
		for _, name := range []string{"TLSClientConfig", "TLSNextProto"} { // clones differ in their addresses
			if value := reflect.ValueOf(clone[name]); value.IsValid() && value.Kind() == reflect.Map {
				clone[name] = value.Len()
			} else {
				clone[name] = value.IsValid() && !value.IsNil()
			}
		}
	}
	if !reflect.DeepEqual(after, beforeTransport) || !reflect.DeepEqual(header, transport.ProxyConnectHeader) {
		t.Errorf("the transport was changed:\nbefore %v\nafter  %v", beforeTransport, after)
	}
	open, _, total := conns.counts()
	if open == 0 {
		t.Error("its idle connections were closed")
	}
	get()
	if _, _, now := conns.counts(); now != total {
		t.Error("its idle connections cannot be used any more")
	}
}

func TestOwnConnectionsAreClosedWhenFetchAllReturns(t *testing.T) {
	release := make(chan struct{})
	server, conns := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/1":
			http.Error(w, "broken", http.StatusInternalServerError)
		case "/2":
			select {
			case <-release:
			case <-req.Context().Done():
			}
		case "/3":
			w.Header().Set("Content-Length", "1000000")
			fmt.Fprint(w, "begin")
			w.(http.Flusher).Flush()
			select {
			case <-release:
			case <-req.Context().Done():
			}
		default:
			fmt.Fprint(w, "ok")
		}
	})
	defer close(release)
	urls := numbered(server.URL, 20)

	results := fetch.FetchAll(t.Context(), urls, fetch.WithTimeout(200*time.Millisecond))
	checkResults(t, urls, results)
	if !conns.waitForNone() {
		open, _, total := conns.counts()
		t.Errorf("%d of %d connections are open", open, total)
	}
	if !errors.Is(results[2].Err, fetch.ErrTimeout) || !errors.Is(results[3].Err, fetch.ErrTimeout) {
		t.Errorf("slow: %v, %v", results[2].Err, results[3].Err)
	}
	checkNoLeaks(t)
}

func TestFetcherKeepsItsConnectionsUntilClose(t *testing.T) {
	server, conns := newServer(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, "ok") })
	urls := numbered(server.URL, 20)
	f := newFetcher(t, fetch.WithConcurrency(1))
	for range 3 {
		checkResults(t, urls, f.FetchAll(t.Context(), urls))
	}
	if open, _, total := conns.counts(); open != 1 || total != 1 {
		t.Errorf("%d of %d connections are open, want 1 of 1", open, total)
	}
	f.Close()
	if !conns.waitForNone() {
		t.Error("Close left connections open")
	}
	f.Close()
	results := f.FetchAll(t.Context(), urls)
	checkResults(t, urls, results)
	if err := fetch.JoinErrors(results); err != nil {
		t.Errorf("after Close: %v", err)
	}
}

func TestCloseLeavesRunningCallsAlone(t *testing.T) {
	server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		time.Sleep(time.Millisecond)
		fmt.Fprint(w, "ok")
	})
	f := newFetcher(t, fetch.WithConcurrency(4))
	urls := numbered(server.URL, 200)
	done := make(chan struct{})
	go func() {
		defer close(done)
		mustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
	}()
	for {
		select {
		case <-done:
			return
		default:
			f.Close()
			time.Sleep(500 * time.Microsecond)
		}
	}
}

func TestDefaultTransportCanBeUsed(t *testing.T) {
	server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) { fmt.Fprint(w, "ok") })
	before := exported(http.DefaultTransport)
	urls := numbered(server.URL, 10)
	mustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithClient(http.DefaultClient)))
	mustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithClient(&http.Client{})))
	for name, value := range exported(http.DefaultTransport) {
		// These two net/http sets itself, on the first request.
		if name != "TLSNextProto" && name != "TLSClientConfig" && !reflect.DeepEqual(value, before[name]) {
			t.Errorf("%s of http.DefaultTransport was %v and is %v", name, before[name], value)
		}
	}
	if !reflect.DeepEqual(*http.DefaultClient, http.Client{}) {
		t.Errorf("http.DefaultClient is %+v", http.DefaultClient)
	}
}

func TestConnectionsAreReused(t *testing.T) {
	errorPage := bytes.Repeat([]byte("x"), 64<<10)
	server, conns := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		if strings.HasSuffix(req.URL.Path, "7") {
			w.WriteHeader(http.StatusInternalServerError)
			w.Write(errorPage)
			return
		}
		fmt.Fprint(w, "ok")
	})
	urls := numbered(server.URL, 2000)
	results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(20))
	mustAllBeFine(t, urls, results)
	pages := 0
	for _, r := range results {
		if r.StatusCode == 500 && len(r.Body) == len(errorPage) {
			pages++
		}
	}
	if _, _, total := conns.counts(); pages != 200 || total > 25 {
		t.Errorf("%d connections were opened, want at most 25; %d error pages, want 200", total, pages)
	}
}

func TestCallersSlicesAndHeadersAreNotKept(t *testing.T) {
	f := newFetcher(t, over(answerAfter(0)))
	urls := numbered("http://host", 100)
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

	checkResults(t, given, results)
	checkResults(t, []string{"http://host/"}, fromReqs)
}

func TestWithHeaderAddsToRequestsThatHaveNone(t *testing.T) {
	server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) {
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

	urls := numbered(server.URL, 3)
	results := fetch.FetchAll(t.Context(), urls, opts...)
	checkResults(t, urls, results)
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
	for i, r := range newFetcher(t, opts...).DoAll(t.Context(), []*http.Request{own, noHeader}) {
		want := []string{`["own"] ["mine"] ["tester/1"] own.example`, added}[i]
		checkResult(t, i, server.URL, r)
		if string(r.Body) != want {
			t.Errorf("DoAll: %s, %v; want %s", r.Body, r.Err, want)
		}
	}
}

func TestRequestFuncHasTheLastTouch(t *testing.T) {
	var sent atomic.Int32
	transport := over(func(req *http.Request) (*http.Response, error) {
		sent.Add(1)
		return respond(req, 200, req.Header.Get("X-Signature")+req.URL.Path), nil
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
			f := newFetcher(t, transport, fetch.WithHeader("X-Key", "key"), fetch.WithRequestFunc(c.f))
			urls := []string{"http://host/", "http://host/"}
			results := f.FetchAll(t.Context(), urls)
			checkResults(t, urls, results)
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
		f := newFetcher(t, transport, fetch.WithRequestFunc(func(req *http.Request) error {
			req.Header.Set("X-Signature", "s")
			req.Header["X-Own"][0] = "changed"
			req.URL.Path = "/changed"
			return nil
		}))
		req, _ := http.NewRequest("GET", "http://host/", nil)
		req.Header.Set("X-Own", "own")
		before := snapshotOf(req)
		r := f.DoAll(t.Context(), []*http.Request{req})[0]
		checkResult(t, 0, "http://host/", r)
		if string(r.Body) != "s/changed" || !reflect.DeepEqual(snapshotOf(req), before) {
			t.Errorf("body %q, error %v, the request is now %+v", r.Body, r.Err, req)
		}
	})
}

func TestJarOfTheClientIsUsed(t *testing.T) {
	jar, _ := cookiejar.New(nil)
	client := newClient(roundTripFunc(func(req *http.Request) (*http.Response, error) {
		return respond(req, 200, req.Header.Get("Cookie"), "Set-Cookie", "seen=yes"), nil
	}))
	client.Jar = jar
	f := newFetcher(t, fetch.WithClient(client))
	urls := []string{"http://host/"}
	for _, want := range []string{"", "seen=yes"} {
		results := f.FetchAll(t.Context(), urls)
		checkResults(t, urls, results)
		if got := string(results[0].Body); got != want {
			t.Errorf("the cookies sent were %q, want %q (%v)", got, want, results[0].Err)
		}
	}
}
