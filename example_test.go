package fetch_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"expvar"
	"fmt"
	"io"
	"iter"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
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

// web is an in-memory http.RoundTripper with a handler for each host: tests
// and examples that use it can fetch from "https://api.example.com" without a
// network. It is short enough to copy into your own tests.
type web map[string]http.HandlerFunc

func (w web) RoundTrip(r *http.Request) (*http.Response, error) {
	handler, ok := w[r.URL.Host]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: r.URL.Hostname(), IsNotFound: true}
	}
	r = r.Clone(r.Context()) // a RoundTripper must not change its request
	r.Host = cmp.Or(r.Host, r.URL.Host)
	if r.Body == nil {
		r.Body = http.NoBody
	}
	defer r.Body.Close()
	recorder := httptest.NewRecorder()
	handler(recorder, r)
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	response := recorder.Result()
	response.Request = r
	return response, nil
}

// text is a handler that answers with s.
func text(s string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, s) }
}

// silent is a handler that does not answer.
func silent(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// Fetch a list of URLs. Results come in the order of the URLs, and each has
// its own error.
func ExampleFetchAll() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "this is %s", r.URL.Path)
	}))
	defer server.Close()

	urls := []string{server.URL + "/one", server.URL + "/two", "ftp://example.com/three"}
	for _, r := range fetch.FetchAll(context.Background(), urls) {
		if r.Err != nil {
			fmt.Println(r.Err)
			continue
		}
		fmt.Println(r.StatusCode, string(r.Body))
	}
	// Output:
	// 200 this is /one
	// 200 this is /two
	// fetch: GET ftp://example.com/three: invalid URL: scheme is not http or https
}

// Show how a batch gets on: how many URLs are done, and how long the rest will take.
func ExampleFetcher_Stats() {
	client := &http.Client{Transport: web{"example.com": func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(time.Millisecond)
	}}}
	f, err := fetch.New(fetch.WithClient(client), fetch.WithConcurrency(4))
	if err != nil {
		log.Fatal(err)
	}
	var urls []string
	for i := range 200 {
		urls = append(urls, fmt.Sprint("https://example.com/", i))
	}

	stop := make(chan struct{})
	var bar sync.WaitGroup
	bar.Go(func() {
		ticks := time.Tick(10 * time.Millisecond)
		for {
			s := f.Stats()
			done := int(s.Done) * 20 / len(urls)
			fmt.Fprintf(io.Discard, "\r[%-20s] %d failed, %v left", strings.Repeat("#", done), s.Failed, s.Left.Round(time.Second)) // or to os.Stderr
			select {
			case <-ticks:
			case <-stop:
				return
			}
		}
	})
	f.FetchAll(context.Background(), urls)
	close(stop)
	bar.Wait()

	s := f.Stats()
	fmt.Println(s.Done, "done,", s.Failed, "failed,", s.Queued+s.BackingOff+s.InFlight, "to do")
	// Output:
	// 200 done, 0 failed, 0 to do
}

// Publish what a program fetches for monitoring, at /debug/vars of its http.DefaultServeMux.
func ExampleFetcher_Stats_expvar() {
	f, err := fetch.New(fetch.WithClient(&http.Client{Transport: web{"example.com": text("hello")}}))
	if err != nil {
		log.Fatal(err)
	}
	expvar.Publish("fetch", expvar.Func(func() any { return f.Stats() }))

	f.FetchAll(context.Background(), []string{"https://example.com/1", "https://example.com/2"})
	fmt.Println(expvar.Get("fetch"))
	// Output:
	// {"Queued":0,"BackingOff":0,"InFlight":0,"PausedHosts":0,"Done":2,"Failed":0,"Attempts":2,"Bytes":10,"Left":0}
}

// Log each attempt that is followed by another, each host that asks for a pause, and each URL.
// A Result shows no secret in a log.
func ExampleWithHooks() {
	answers := 0
	client := &http.Client{Transport: web{"api.example.com": func(w http.ResponseWriter, r *http.Request) {
		if answers++; answers == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		}
	}}}
	// Without times, as they differ each time the example runs.
	logger := slog.New(slog.NewTextHandler(os.Stdout, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		switch a.Key {
		case slog.TimeKey, "waited", "took", "queued":
			return slog.Attr{}
		}
		return a
	}}))

	fetch.FetchAll(context.Background(), []string{"https://api.example.com/v1/users?key=secret"},
		fetch.WithClient(client), fetch.WithRetries(2), fetch.WithHooks(fetch.Hooks{
			Attempt: func(r fetch.Result, again time.Time) {
				if !again.IsZero() {
					logger.Warn("tried again", "result", r)
				}
			},
			Paused: func(host string, until time.Time) { logger.Warn("paused", "host", host) },
			Done:   func(r fetch.Result) { logger.Info("done", "result", r) },
		}))
	// Output:
	// level=WARN msg="tried again" result.method=GET result.url=https://api.example.com/v1/users result.status=429 result.bytes=0 result.attempts=1
	// level=WARN msg=paused host=api.example.com
	// level=INFO msg=done result.method=GET result.url=https://api.example.com/v1/users result.status=200 result.bytes=0 result.attempts=2
}

// Put a RoundTripper around the Fetcher's own client, here one that gives each request an ID and
// tells of which URL it is.
func ExampleWithTransport() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/old" {
			http.Redirect(w, r, "/new", http.StatusFound)
		}
	}))
	defer server.Close()

	fetch.FetchAll(context.Background(), []string{server.URL + "/old"},
		fetch.WithTransport(func(next http.RoundTripper) http.RoundTripper {
			return roundTripFunc(func(req *http.Request) (*http.Response, error) {
				req = req.Clone(req.Context()) // a RoundTripper must not change its request
				info, _ := fetch.InfoOf(req.Context())
				req.Header.Set("X-Request-Id", fmt.Sprintf("%d.%d.%d", info.Index, info.Attempt, info.Redirect))
				fmt.Println(req.URL.Path, req.Header.Get("X-Request-Id"))
				return next.RoundTrip(req)
			})
		}))
	// Output:
	// /old 0.1.0
	// /new 0.1.1
}

type roundTripFunc func(*http.Request) (*http.Response, error)

func (f roundTripFunc) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// Send one request, under the limits that it shares with all others.
func ExampleFetcher_Do() {
	f, err := fetch.New(fetch.WithHostRate(5, 1))
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, r.Body)
	}))
	defer server.Close()

	req, err := http.NewRequest(http.MethodPut, server.URL, strings.NewReader("some text"))
	if err != nil {
		log.Fatal(err)
	}
	r := f.Do(context.Background(), req)
	fmt.Println(r.StatusCode, string(r.Body), r.Err)
	// Output:
	// 200 some text <nil>
}

// Put a dashboard together from several APIs. A part that cannot be had in
// time is left out, and the others are shown.
func ExampleFetchAll_dashboard() {
	client := &http.Client{Transport: web{
		"users.example.com":   text(`{"online": 17}`),
		"orders.example.com":  text(`[{"id": 1, "total": 9.5}, {"id": 2, "total": 20}]`),
		"weather.example.com": silent,
	}}

	type Order struct {
		ID    int
		Total float64
	}
	type Dashboard struct {
		Users   struct{ Online int }
		Orders  []Order
		Weather struct{ Celsius float64 }
		Missing []string
	}

	var d Dashboard
	parts := []struct {
		name, url string
		into      any
	}{
		{"users", "https://users.example.com/v1/stats", &d.Users},
		{"orders", "https://orders.example.com/v1/orders", &d.Orders},
		{"weather", "https://weather.example.com/now?city=Basel", &d.Weather},
	}
	urls := make([]string, len(parts))
	for i, part := range parts {
		urls[i] = part.url
	}
	results := fetch.FetchAll(context.Background(), urls,
		fetch.WithClient(client), fetch.WithTimeout(200*time.Millisecond))
	for i, r := range results {
		if err := r.JSON(parts[i].into); err != nil {
			d.Missing = append(d.Missing, parts[i].name)
		}
	}

	shown, _ := json.MarshalIndent(d, "", "  ")
	fmt.Println(string(shown))
	// Output:
	// {
	//   "Users": {
	//     "Online": 17
	//   },
	//   "Orders": [
	//     {
	//       "ID": 1,
	//       "Total": 9.5
	//     },
	//     {
	//       "ID": 2,
	//       "Total": 20
	//     }
	//   ],
	//   "Weather": {
	//     "Celsius": 0
	//   },
	//   "Missing": [
	//     "weather"
	//   ]
	// }
}

// A deadline for the whole batch: what is done by then is kept.
func ExampleFetchAll_deadline() {
	client := &http.Client{Transport: web{
		"fast.example.com": text("here I am"),
		"slow.example.com": silent,
	}}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()

	urls := []string{"http://slow.example.com/", "http://fast.example.com/"}
	for _, r := range fetch.FetchAll(ctx, urls, fetch.WithClient(client)) {
		switch {
		case r.Err == nil:
			fmt.Println(r.URL, "done:", string(r.Body))
		case errors.Is(r.Err, ctx.Err()):
			fmt.Println(r.URL, "was not done in time")
		default:
			fmt.Println(r.URL, "failed:", r.Err)
		}
	}
	// Output:
	// http://slow.example.com/ was not done in time
	// http://fast.example.com/ done: here I am
}

// Test code that fetches against a server of net/http/httptest: the client
// that the server gives trusts its certificate, and sends example.com to it.
func ExampleFetchAll_httptest() {
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" {
			http.NotFound(w, r)
		}
	}))
	defer server.Close()

	urls := []string{server.URL + "/healthz", server.URL + "/secret", "https://example.com/healthz"}
	for _, r := range fetch.FetchAll(context.Background(), urls, fetch.WithClient(server.Client())) {
		fmt.Println(r.Index, r.StatusCode, r.OK(), r.Err)
	}
	// Output:
	// 0 200 true <nil>
	// 1 404 false <nil>
	// 2 200 true <nil>
}

// Read URLs from a file, line by line, while they are fetched. Neither the
// list nor the results are ever in memory as a whole.
func ExampleStream() {
	client := &http.Client{Transport: web{
		"a.example.com": text("aaa"),
		"b.example.com": text("bb"),
		"c.example.com": http.NotFound,
	}}
	file := strings.NewReader("http://a.example.com/\nhttp://b.example.com/\nhttp://c.example.com/\n")

	lines := bufio.NewScanner(file)
	urls := func(yield func(string) bool) {
		for lines.Scan() {
			if !yield(lines.Text()) {
				return
			}
		}
	}
	for r := range fetch.Stream(context.Background(), urls, fetch.WithClient(client)) {
		if r.Err != nil {
			fmt.Println(r.Err)
			continue
		}
		fmt.Println(r.Index, r.URL, r.StatusCode, len(r.Body))
	}
	if err := lines.Err(); err != nil {
		log.Print(err) // the list was not read to its end
	}
	// Unordered output:
	// 0 http://a.example.com/ 200 3
	// 1 http://b.example.com/ 200 2
	// 2 http://c.example.com/ 404 19
}

// Take the first answer of several mirrors. Leaving the loop cancels the
// other requests.
func ExampleStream_firstAnswer() {
	client := &http.Client{Transport: web{
		"mirror1.example.com": silent,
		"mirror2.example.com": text("the file"),
	}}
	mirrors := []string{
		"http://mirror1.example.com/file",
		"http://mirror2.example.com/file",
		"http://mirror3.example.com/file", // does not exist
	}
	for r := range fetch.Stream(context.Background(), slices.Values(mirrors), fetch.WithClient(client)) {
		if r.OK() {
			fmt.Println(r.URL, string(r.Body))
			break
		}
	}
	// Output: http://mirror2.example.com/file the file
}

// Share one Fetcher in the whole program: connections are reused, and its
// limits hold for all callers together.
func ExampleFetcher() {
	var now, most atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		time.Sleep(time.Millisecond)
	}))
	defer server.Close()

	f, err := fetch.New(fetch.WithHostConcurrency(3), fetch.WithTimeout(5*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()

	var callers sync.WaitGroup
	for range 4 {
		callers.Go(func() {
			urls := slices.Repeat([]string{server.URL}, 10)
			if err := fetch.JoinErrors(f.FetchAll(context.Background(), urls)); err != nil {
				log.Print(err)
			}
		})
	}
	callers.Wait()
	fmt.Println("at most 3 at once:", most.Load() <= 3)
	// Output: at most 3 at once: true
}

// Send POST requests, each with its own body and headers.
func ExampleFetcher_DoAll() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var order struct{ Item string }
		if err := json.NewDecoder(r.Body).Decode(&order); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusCreated)
		fmt.Fprintf(w, "%s: %s", r.Header.Get("X-Customer"), order.Item)
	}))
	defer server.Close()

	f, err := fetch.New(fetch.WithHeader("Content-Type", "application/json"))
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()

	var reqs []*http.Request
	for _, body := range []string{`{"item": "tea"}`, `{"item": "milk"}`, `{"item": `} {
		// NewRequest also sets GetBody for a strings.Reader, so that the body can be sent again.
		req, err := http.NewRequest(http.MethodPost, server.URL+"/orders", strings.NewReader(body))
		if err != nil {
			log.Fatal(err)
		}
		req.Header.Set("X-Customer", "Ada")
		reqs = append(reqs, req)
	}
	for _, r := range f.DoAll(context.Background(), reqs) {
		fmt.Println(r.StatusCode, strings.TrimSpace(string(r.Body)))
	}
	// Output:
	// 201 Ada: tea
	// 201 Ada: milk
	// 400 unexpected EOF
}

// Check links with HEAD requests, which are made as they are needed.
func ExampleFetcher_DoStream() {
	f, err := fetch.New(fetch.WithClient(&http.Client{Transport: web{
		"example.com":     text("a page"),
		"old.example.com": http.NotFound,
	}}))
	if err != nil {
		log.Fatal(err)
	}

	links := []string{"https://example.com/", "https://old.example.com/page", "https://gone.example.com/"}
	heads := func(yield func(*http.Request) bool) {
		for _, link := range links {
			req, _ := http.NewRequest(http.MethodHead, link, nil)
			if !yield(req) { // a nil request gets an error for its Result
				return
			}
		}
	}
	for r := range f.DoStream(context.Background(), heads) {
		if !r.OK() {
			fmt.Println("broken:", links[r.Index])
		}
	}
	// Unordered output:
	// broken: https://old.example.com/page
	// broken: https://gone.example.com/
}

// Tell apart why URLs failed.
func ExampleError() {
	client := &http.Client{Transport: web{
		"slow.example.com":  silent,
		"large.example.com": text(strings.Repeat("x", 5000)),
		"loop.example.com":  http.RedirectHandler("/again", http.StatusFound).ServeHTTP,
	}}
	urls := []string{
		"https://slow.example.com/report?token=secret",
		"https://large.example.com/",
		"https://loop.example.com/",
		"https://missing.example.com/",
		"example.com",
	}
	results := fetch.FetchAll(context.Background(), urls, fetch.WithClient(client),
		fetch.WithTimeout(200*time.Millisecond), fetch.WithMaxBody(1000))
	for _, r := range results {
		switch {
		case r.Err == nil:
			fmt.Println("complete, with status", r.StatusCode)
		case errors.Is(r.Err, fetch.ErrTimeout):
			fmt.Println("too slow")
		case errors.Is(r.Err, fetch.ErrBodyTooLarge):
			fmt.Println("too large, status", r.StatusCode)
		case errors.Is(r.Err, fetch.ErrRedirect):
			fmt.Println("too many redirects, the last by", r.FinalURL)
		case errors.Is(r.Err, fetch.ErrInvalidURL):
			fmt.Println("not a URL that can be fetched")
		default:
			if e, ok := errors.AsType[*net.DNSError](r.Err); ok && e.IsNotFound {
				fmt.Println("no such host:", e.Name)
			}
		}
	}

	// The text has the URL, without what may be secret in it.
	e, _ := errors.AsType[*fetch.Error](results[0].Err)
	fmt.Println(e.Method, e.URL, e.Timeout())
	// Output:
	// too slow
	// too large, status 200
	// too many redirects, the last by https://loop.example.com/again
	// no such host: missing.example.com
	// not a URL that can be fetched
	// GET https://slow.example.com/report true
}

// Treat a batch as a whole: all or nothing.
func ExampleJoinErrors() {
	client := &http.Client{Transport: web{"a.example.com": text("a")}}
	urls := []string{"http://a.example.com/", "http://b.example.com/"}

	results := fetch.FetchAll(context.Background(), urls, fetch.WithClient(client))
	if err := fetch.JoinErrors(results); err != nil {
		fmt.Println(err)
	}
	// Output:
	// fetch: 1 of 2 failed
	// fetch: GET http://b.example.com/: lookup b.example.com: no such host
}

// Decode JSON. A transport error, a status that is not 2xx and a body that
// does not fit are all an error of JSON, which names the URL.
func ExampleResult_JSON() {
	client := &http.Client{Transport: web{"api.example.com": func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/users/1":
			io.WriteString(w, `{"name": "Ada"}`)
		case "/users/2":
			io.WriteString(w, `<html>down for maintenance</html>`)
		default:
			http.NotFound(w, r)
		}
	}}}
	urls := []string{
		"https://api.example.com/users/1",
		"https://api.example.com/users/2",
		"https://api.example.com/users/3",
	}
	for _, r := range fetch.FetchAll(context.Background(), urls, fetch.WithClient(client)) {
		var user struct{ Name string }
		err := r.JSON(&user)
		if e, ok := errors.AsType[*fetch.StatusError](err); ok && e.StatusCode == http.StatusNotFound {
			fmt.Println("no such user")
		} else if err != nil {
			fmt.Println(err)
		} else {
			fmt.Println(user.Name)
		}
	}
	// Output:
	// Ada
	// fetch: GET https://api.example.com/users/2: invalid character '<' looking for beginning of value
	// no such user
}

// Use your own client: its Transport, Jar, CheckRedirect and Timeout.
func ExampleWithClient() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "hello")
	}))
	defer server.Close()

	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost = 16 // as many as there are requests in flight to one host
	transport.ResponseHeaderTimeout = 5 * time.Second
	defer transport.CloseIdleConnections() // it is yours; the library leaves it alone

	results := fetch.FetchAll(context.Background(), []string{server.URL},
		fetch.WithClient(&http.Client{Transport: transport}),
		fetch.WithConcurrency(16))
	fmt.Println(string(results[0].Body))
	// Output: hello
}

// Give one host a rate and another a number of requests at once. A host that
// waits for its limit does not hold up the others.
func ExampleWithHostLimits() {
	client := &http.Client{Transport: web{
		"api.example.com": text("{}"),
		"old.example.com": text("<html>"),
		"cdn.example.com": text("body {}"),
	}}
	limits := map[string]fetch.HostLimits{
		"api.example.com": {Rate: 50, Burst: 5}, // 50 requests a second, 5 of them at once
		"old.example.com": {Concurrency: 1},     // one after another
	}

	var urls []string
	for range 10 {
		urls = append(urls, "http://api.example.com/", "http://old.example.com/", "http://cdn.example.com/")
	}
	start := time.Now()
	results := fetch.FetchAll(context.Background(), urls, fetch.WithClient(client),
		fetch.WithHostLimits(func(host string) fetch.HostLimits { return limits[host] }))

	fmt.Println(len(results), fetch.JoinErrors(results))
	fmt.Println("5 at once and 5 at 50 a second:", time.Since(start) >= 100*time.Millisecond)
	// Output:
	// 30 <nil>
	// 5 at once and 5 at 50 a second: true
}

// Be polite to every host: at most so many requests a second.
func ExampleWithHostRate() {
	client := &http.Client{Transport: web{"a.example.com": text("a"), "b.example.com": text("b")}}
	urls := []string{"http://a.example.com/1", "http://a.example.com/2", "http://a.example.com/3", "http://b.example.com/"}

	// One request every 20 ms to each host.
	results := fetch.FetchAll(context.Background(), urls, fetch.WithClient(client),
		fetch.WithHostRate(rate.Every(20*time.Millisecond), 1))
	fmt.Println("the third waited for two others:", results[2].Waited >= 35*time.Millisecond)
	// Output: the third waited for two others: true
}

// Share a limit among several Fetchers. A Limiter of your own can ask a
// server for permits, and so share it among several machines.
func ExampleWithLimiter() {
	client := &http.Client{Transport: web{"example.com": text("ok")}}
	limiter := rate.NewLimiter(rate.Every(10*time.Millisecond), 1)

	start := time.Now()
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			urls := slices.Repeat([]string{"http://example.com/"}, 3)
			fetch.FetchAll(context.Background(), urls, fetch.WithClient(client), fetch.WithLimiter(limiter))
		})
	}
	both.Wait()
	fmt.Println("6 requests, 10 ms between them:", time.Since(start) >= 50*time.Millisecond)
	// Output: 6 requests, 10 ms between them: true
}

// Limit what one response may hold, after decompression. It is an error to be
// longer, and never a body that is silently cut.
func ExampleWithMaxBody() {
	client := &http.Client{Transport: web{
		"small.example.com": text("just right"),
		"large.example.com": text("much too long"),
	}}
	urls := []string{"http://small.example.com/", "http://large.example.com/"}
	for _, r := range fetch.FetchAll(context.Background(), urls, fetch.WithClient(client), fetch.WithMaxBody(10)) {
		fmt.Printf("%q %t\n", r.Body, errors.Is(r.Err, fetch.ErrBodyTooLarge))
	}
	// Output:
	// "just right" false
	// "" true
}

// Download to files without holding the bodies in memory.
func ExampleWithBodyFunc() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/missing" {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, strings.Repeat(r.URL.Path, 1000))
	}))
	defer server.Close()
	dir, err := os.MkdirTemp("", "downloads")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	// Names are made from the index: one from a URL could lead out of dir.
	name := func(r fetch.Result) string { return filepath.Join(dir, fmt.Sprintf("%03d", r.Index)) }
	save := func(ctx context.Context, r fetch.Result, body io.Reader) error {
		file, err := os.Create(name(r))
		if err != nil {
			return err
		}
		_, err = io.Copy(file, body)
		return errors.Join(err, file.Close())
	}

	urls := []string{server.URL + "/a", server.URL + "/bc", server.URL + "/missing"}
	results := fetch.FetchAll(context.Background(), urls, fetch.WithBodyFunc(save),
		fetch.WithStatusErrors()) // so that no error page is saved
	for _, r := range results {
		if r.Err != nil {
			os.Remove(name(r)) // what may be there is not complete
			fmt.Println(r.Index, "status", r.StatusCode)
			continue
		}
		info, err := os.Stat(name(r))
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(r.Index, info.Size(), "bytes")
	}
	// Output:
	// 0 2000 bytes
	// 1 3000 bytes
	// 2 status 404
}

// Send headers with every request. Secrets such as Authorization do not
// follow a redirect to another host.
func ExampleWithDecoder() {
	// A server that sends base64 to whoever asks for it. Real codings are br and zstd.
	api := web{"api.example.com": func(w http.ResponseWriter, r *http.Request) {
		fmt.Println("asked for", r.Header.Get("Accept-Encoding"))
		w.Header().Set("Content-Encoding", "base64")
		fmt.Fprint(w, base64.StdEncoding.EncodeToString([]byte("hello")))
	}}
	urls := []string{"https://api.example.com/"}
	client := fetch.WithClient(&http.Client{Transport: api})

	for _, r := range fetch.FetchAll(context.Background(), urls, client) {
		fmt.Printf("%s in %q\n", r.Body, r.Header.Get("Content-Encoding"))
	}
	undo := func(r io.Reader) (io.Reader, error) { return base64.NewDecoder(base64.StdEncoding, r), nil }
	for _, r := range fetch.FetchAll(context.Background(), urls, client, fetch.WithDecoder("base64", undo)) {
		fmt.Printf("%s in %q\n", r.Body, r.Header.Get("Content-Encoding"))
	}
	// Output:
	// asked for gzip
	// aGVsbG8= in "base64"
	// asked for gzip, base64
	// hello in ""
}

func ExampleWithHeader() {
	show := func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.Host, ": ", r.UserAgent(), ", ", cmp.Or(r.Header.Get("Authorization"), "no token"))
	}
	client := &http.Client{Transport: web{
		"example.com":     show,
		"cdn.example.com": show,
		"old.example.com": http.RedirectHandler("http://cdn.example.com/", http.StatusFound).ServeHTTP,
	}}
	urls := []string{"http://example.com/", "http://old.example.com/"}
	results := fetch.FetchAll(context.Background(), urls, fetch.WithClient(client),
		fetch.WithHeader("User-Agent", "linkcheck/1.0 (+https://example.org/linkcheck)"),
		fetch.WithHeader("Authorization", "Bearer 123"))
	for _, r := range results {
		fmt.Println(string(r.Body))
	}
	// Output:
	// example.com: linkcheck/1.0 (+https://example.org/linkcheck), Bearer 123
	// cdn.example.com: linkcheck/1.0 (+https://example.org/linkcheck), no token
}

// Sign each request just before it is sent.
func ExampleWithRequestFunc() {
	key := []byte("shared secret")
	signature := func(r *http.Request) string {
		mac := hmac.New(sha256.New, key)
		fmt.Fprintf(mac, "%s %s", r.Method, r.URL.RequestURI())
		return hex.EncodeToString(mac.Sum(nil))
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Signature") != signature(r) {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	defer server.Close()

	urls := []string{server.URL + "/v1/items?page=1", server.URL + "/v1/items?page=2"}
	results := fetch.FetchAll(context.Background(), urls, fetch.WithRequestFunc(func(r *http.Request) error {
		r.Header.Set("X-Signature", signature(r))
		return nil
	}))
	for _, r := range results {
		fmt.Println(r.StatusCode)
	}
	// Output:
	// 200
	// 200
}

// See redirects instead of following them.
func ExampleWithMaxRedirects() {
	client := &http.Client{Transport: web{
		"example.com": http.RedirectHandler("https://www.example.com/", http.StatusMovedPermanently).ServeHTTP,
	}}
	for _, r := range fetch.FetchAll(context.Background(), []string{"http://example.com/"},
		fetch.WithClient(client), fetch.WithMaxRedirects(0)) {
		fmt.Println(r.StatusCode, r.Header.Get("Location"), r.Err)
	}
	// Output: 301 https://www.example.com/ <nil>
}

// Make a status outside 200–299 an error. Header and Body are there all the same.
func ExampleWithStatusErrors() {
	client := &http.Client{Transport: web{
		"api.example.com": func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "database is down", http.StatusInternalServerError)
		},
	}}
	results := fetch.FetchAll(context.Background(), []string{"https://api.example.com/"},
		fetch.WithClient(client), fetch.WithStatusErrors())
	fmt.Println(results[0].Err)
	fmt.Print(string(results[0].Body))
	// Output:
	// fetch: GET https://api.example.com/: status 500 Internal Server Error
	// database is down
}

// Fetch equal URLs once. Every position of the list gets a Result.
func ExampleWithDedup() {
	var requests atomic.Int64
	client := &http.Client{Transport: web{"example.com": func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		io.WriteString(w, r.URL.Path)
	}}}
	urls := []string{
		"https://example.com/a",
		"https://example.com/b",
		"https://EXAMPLE.com/a#top",
	}
	for _, r := range fetch.FetchAll(context.Background(), urls, fetch.WithClient(client), fetch.WithDedup()) {
		fmt.Println(r.URL, string(r.Body))
	}
	fmt.Println(requests.Load(), "requests")
	// Output:
	// https://example.com/a /a
	// https://example.com/b /b
	// https://EXAMPLE.com/a#top /a
	// 2 requests
}

// Have the results of a Stream in the order of its input.
func ExampleWithInOrder() {
	client := &http.Client{Transport: web{"example.com": func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.URL.Path)
	}}}
	chapters := func(yield func(string) bool) {
		for i := range 4 {
			if !yield(fmt.Sprintf("https://example.com/chapter/%d", i)) {
				return
			}
		}
	}
	for r := range fetch.Stream(context.Background(), chapters, fetch.WithClient(client), fetch.WithInOrder()) {
		fmt.Println(string(r.Body))
	}
	// Output:
	// /chapter/0
	// /chapter/1
	// /chapter/2
	// /chapter/3
}

// Fetch pages whose number is not known: the input never ends, and the loop
// ends with the first page that is missing. The lookahead limits how many
// pages are asked for beyond that.
func ExampleWithLookahead() {
	client := &http.Client{Transport: web{"example.com": func(w http.ResponseWriter, r *http.Request) {
		page := r.FormValue("page")
		if len(page) > 1 { // there are nine
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, "page ", page)
	}}}
	pages := func(yield func(string) bool) {
		query := url.Values{}
		for n := 1; ; n++ {
			query.Set("page", fmt.Sprint(n))
			if !yield("https://example.com/list?" + query.Encode()) {
				return
			}
		}
	}
	var last []byte
	for r := range fetch.Stream(context.Background(), pages, fetch.WithClient(client),
		fetch.WithInOrder(), fetch.WithLookahead(4)) {
		if !r.OK() {
			break
		}
		last = r.Body
	}
	fmt.Println(string(last))
	// Output: page 9
}

// countWords is code to be tested: it fetches documents, politely, and counts
// their words. It takes an *http.Client, so that a test can bring its own.
func countWords(ctx context.Context, client *http.Client, urls iter.Seq[string]) (words int, err error) {
	var failed []fetch.Result
	for r := range fetch.Stream(ctx, urls,
		fetch.WithClient(client),
		fetch.WithHostRate(1, 1), // one request a second
		fetch.WithTimeout(time.Minute),
		fetch.WithStatusErrors(),
	) {
		if r.Err != nil {
			failed = append(failed, r)
			continue
		}
		words += len(bytes.Fields(r.Body))
	}
	return words, fetch.JoinErrors(failed)
}

// Code that fetches can be tested in virtual time. In a bubble of
// testing/synctest the clock jumps to the next moment at which something
// happens: minutes of rates, timeouts and deadlines pass in an instant.
//
// Two things are needed: the Fetcher is made inside the bubble, and the
// requests do not leave the process, because synctest cannot see that a
// goroutine waits for a network. An http.RoundTripper such as web, at the top
// of this file, does.
func TestInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := &http.Client{Transport: web{
			"docs.example.com": text("three short words"),
			"hung.example.com": silent,
		}}
		urls := slices.Repeat([]string{"https://docs.example.com/"}, 100)
		urls = append(urls, "https://hung.example.com/")

		start := time.Now()
		words, err := countWords(t.Context(), client, slices.Values(urls))

		if words != 300 {
			t.Errorf("got %d words, want 300", words)
		}
		if !errors.Is(err, fetch.ErrTimeout) {
			t.Errorf("got error %v, want that of the host that hangs", err)
		}
		// 100 documents at one a second; the minute of the host that hangs passes meanwhile.
		if got, want := time.Since(start).Round(time.Millisecond), 99*time.Second; got != want {
			t.Errorf("took %v, want %v", got, want)
		}
	})
}
