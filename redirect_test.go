package fetch_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
)

// A sentRequest is what a transport was given.
type sentRequest struct {
	method, url, host string
	header            http.Header
	body              string
}

func (s sentRequest) String() string {
	return fmt.Sprintf("%s %s (Host %q) %v %q", s.method, s.url, s.host, s.header, s.body)
}

// A recorder remembers what was sent over it.
type recorder struct {
	mu   sync.Mutex
	sent []sentRequest
}

func (r *recorder) over(rt roundTripFunc) roundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		s := sentRequest{method: cmp.Or(req.Method, "GET"), url: req.URL.String(), host: req.Host, header: req.Header.Clone()}
		if req.Body != nil {
			body, err := io.ReadAll(req.Body)
			req.Body.Close()
			if err != nil {
				return nil, err
			}
			s.body = string(body)
		}
		r.mu.Lock()
		r.sent = append(r.sent, s)
		r.mu.Unlock()
		return rt(req)
	}
}

// take returns what was sent since the last call.
func (r *recorder) take() []sentRequest {
	r.mu.Lock()
	defer r.mu.Unlock()
	sent := r.sent
	r.sent = nil
	return sent
}

// A moved is one step of a chain of redirects.
type moved struct {
	status   int
	location string
}

// chain is a transport that answers the n-th request with the n-th step, and
// those after the last with 200 "end". It serves one chain at a time.
func chain(steps ...moved) roundTripFunc {
	var mu sync.Mutex
	n := 0
	return func(req *http.Request) (*http.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		n++
		if n > len(steps) {
			n = 0
			return respond(req, 200, "end"), nil
		}
		step, body := steps[n-1], "see there"
		if step.status == http.StatusNotModified {
			body = ""
		}
		return respond(req, step.status, body, "Location", step.location), nil
	}
}

// found returns steps of 302 to the locations.
func found(locations ...string) []moved {
	steps := make([]moved, len(locations))
	for i, location := range locations {
		steps[i] = moved{302, location}
	}
	return steps
}

// getOne fetches one URL.
func getOne(t testing.TB, rawURL string, opts ...fetch.Option) fetch.Result {
	t.Helper()
	results := fetch.FetchAll(context.Background(), []string{rawURL}, opts...)
	checkResults(t, []string{rawURL}, results)
	return results[0]
}

// sendOne sends one request.
func sendOne(t testing.TB, req *http.Request, opts ...fetch.Option) fetch.Result {
	t.Helper()
	rawURL := req.URL.String()
	results := newFetcher(t, opts...).DoAll(context.Background(), []*http.Request{req})
	checkResults(t, []string{rawURL}, results)
	return results[0]
}

func newRequest(t testing.TB, method, rawURL string, body io.Reader, header ...string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, rawURL, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Add(header[i], header[i+1])
	}
	return req
}

// compared is what must be equal to what net/http sends. It may add
// Accept-Encoding and Referer of its own.
func compared(sent []sentRequest) []string {
	var out []string
	for _, s := range sent {
		header := s.header.Clone()
		header.Del("Accept-Encoding")
		header.Del("Referer")
		u, _ := url.Parse(s.url)
		u.Fragment = ""
		// An empty Host means that of the URL.
		out = append(out, fmt.Sprintf("%s %s host=%s %v body=%q", s.method, u, cmp.Or(s.host, u.Host), header, s.body))
	}
	return out
}

// An outcome is what became of a request, in the terms of both clients.
type outcome struct {
	status int
	body   string
	url    string
	failed bool
}

func outcomeOf(r fetch.Result) outcome {
	return outcome{r.StatusCode, string(r.Body), withoutFragment(r.FinalURL), r.Err != nil}
}

func withoutFragment(rawURL string) string {
	rawURL, _, _ = strings.Cut(rawURL, "#")
	return rawURL
}

// doByNetHTTP sends req as net/http does.
func doByNetHTTP(t *testing.T, client *http.Client, req *http.Request) outcome {
	t.Helper()
	resp, err := client.Do(req)
	if resp == nil {
		return outcome{failed: err != nil}
	}
	defer resp.Body.Close()
	final := *resp.Request.URL
	final.User = nil
	o := outcome{status: resp.StatusCode, url: withoutFragment(final.String()), failed: err != nil}
	if err == nil {
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		o.body = string(body)
	}
	return o
}

func TestRedirectsChangeMethodAndBodyAsNetHTTPDoes(t *testing.T) {
	const start = "http://a.example/start"
	bodies := map[string]func(req *http.Request){
		"no body": func(req *http.Request) {},
		"a body":  func(req *http.Request) {},
		"a body that cannot be sent again": func(req *http.Request) {
			req.GetBody = nil
		},
		"a body of unknown length that cannot be sent again": func(req *http.Request) {
			req.GetBody, req.ContentLength = nil, -1
		},
	}
	chains := map[string][]moved{
		"307 and 302": {{307, "/1"}, {302, "/2"}},
		"302 and 307": {{302, "/1"}, {307, "/2"}},
		"303 and 308": {{303, "/1"}, {308, "/2"}},
	}
	for _, status := range []int{300, 301, 302, 303, 304, 305, 306, 307, 308, 309, 399, 200, 201, 404} {
		chains[fmt.Sprint(status)] = []moved{{status, "/1"}}
	}
	for chainName, steps := range chains {
		for _, method := range []string{"", "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"} {
			for bodyName, change := range bodies {
				if strings.Contains(chainName, " and ") && strings.Contains(bodyName, "again") {
					continue // net/http looks at the first body even when that was dropped long ago
				}
				t.Run(fmt.Sprintf("%s of %s with %s", chainName, cmp.Or(method, "nothing"), bodyName), func(t *testing.T) {
					newReq := func() *http.Request {
						var body io.Reader
						if bodyName != "no body" {
							body = strings.NewReader("payload")
						}
						req := newRequest(t, method, start, body, "Content-Type", "text/x", "Content-Language", "en",
							"X-Key", "1", "X-Key", "2", "Authorization", "Bearer x")
						req.Method = method
						change(req)
						return req
					}
					var theirs, ours recorder
					want := doByNetHTTP(t, newClient(theirs.over(chain(steps...))), newReq())
					got := outcomeOf(sendOne(t, newReq(), over(ours.over(chain(steps...)))))
					if got != want {
						t.Errorf("got %+v, net/http %+v", got, want)
					}
					if got, want := compared(ours.take()), compared(theirs.take()); !slices.Equal(got, want) {
						t.Errorf("sent\n%s\nnet/http sent\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
					}
				})
			}
		}
	}
}

func TestA3xxWithoutLocationIsAResult(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		for name, header := range map[string][]string{"none": nil, "empty": {"Location", ""}} {
			t.Run(fmt.Sprintf("%d, %s", status, name), func(t *testing.T) {
				r := getOne(t, "http://a.example/", over(func(req *http.Request) (*http.Response, error) {
					return respond(req, status, "nowhere", header...), nil
				}))
				if r.Err != nil || r.StatusCode != status || string(r.Body) != "nowhere" || r.Redirects != 0 {
					t.Errorf("got %d, %q, %d redirects, %v", r.StatusCode, r.Body, r.Redirects, r.Err)
				}
			})
		}
	}
}

func TestLocationsAreResolvedAsNetHTTPDoes(t *testing.T) {
	const start = "http://a.example/dir/page?q=1#old"
	for name, location := range map[string]string{
		"absolute path":        "/x",
		"relative path":        "x",
		"parent":               "../x/./y",
		"above the root":       "../../../../x",
		"query only":           "?y",
		"fragment only":        "#new",
		"a fragment":           "/x#new",
		"scheme-relative":      "//b.example/x",
		"two slashes":          "//",
		"three slashes":        "///x",
		"absolute":             "http://b.example:8080/x?y#z",
		"capitals":             "HTTP://B.Example/X",
		"no path":              "http://b.example",
		"escapes":              "/a%20b%2Fc",
		"spaces":               "/a b",
		"raw UTF-8":            "/ü?ü",
		"IPv6":                 "http://[2001:db8::1]:81/",
		"https":                "https://a.example/",
		"a lone percent query": "/x?100%",
	} {
		t.Run(name, func(t *testing.T) {
			var theirs, ours recorder
			want := doByNetHTTP(t, newClient(theirs.over(chain(found(location)...))), newRequest(t, "GET", start, nil))
			r := getOne(t, start, over(ours.over(chain(found(location)...))))
			if got := outcomeOf(r); got != want {
				t.Errorf("got %+v (%v), net/http %+v", got, r.Err, want)
			}
			if got, want := compared(ours.take()), compared(theirs.take()); !slices.Equal(got, want) {
				t.Errorf("sent %q, net/http sent %q", got, want)
			}
			if r.Redirects != 1 {
				t.Errorf("Redirects is %d", r.Redirects)
			}
		})
	}
}

func TestABadLocationIsAnErrorThatShowsNothingOfIt(t *testing.T) {
	for name, location := range map[string]string{
		"a space in the host":    "http://user:canary@a b/?token=canary",
		"bad escape":             "http://user:canary%zz@b.example/?token=canary",
		"open bracket":           "http://user:canary@[::1/?token=canary#canary",
		"no scheme before colon": ":canary",
		"no host":                "http://?canary",
		"an empty host":          "http:///x?canary",
		"user information only":  "http://canary@/x",
		"opaque":                 "http:canary@b.example",
		"port too large":         "http://canary@b.example:99999/?canary",
		"port zero":              "http://canary@b.example:0/?canary",
		"letters as port":        "http://b.example:canary/",
		"a control character":    "http://canary@b.example/\x01?canary",
		"an escape sequence":     "http://canary@b.example/\x1b[31m?canary",
		"at signs all over":      "http://user:ca@b c/p?mail=x@canary#y@canary",
		"another scheme":         "ftp://user:canary@b.example/?canary",
		"a file":                 "file:///etc/passwd?canary",
		"a file in capitals":     "FILE:///etc/passwd?canary",
		"a script":               "javascript:alert('canary')",
		"data":                   "data:text/plain,canary",
		"mail":                   "mailto:canary@b.example",
		"a socket":               "unix:/canary@x",
		"a scheme nobody knows":  "canary://canary@b.example/",
		"WebSocket":              "ws://canary@b.example/",
		"gopher":                 "gopher://b.example:70/_canary",
	} {
		t.Run(name, func(t *testing.T) {
			var sent recorder
			r := getOne(t, "http://a.example/start", over(sent.over(chain(found(location)...))))
			if !errors.Is(r.Err, fetch.ErrRedirect) {
				t.Fatalf("got %d, %v", r.StatusCode, r.Err)
			}
			if text := r.Err.Error(); strings.Contains(text, "canary") && !strings.Contains(location, "canary://") {
				t.Errorf("shows the Location: %s", text)
			}
			if r.StatusCode != 302 || r.Header.Get("Location") != location || r.FinalURL != "http://a.example/start" ||
				r.Redirects != 0 || r.Body != nil {
				t.Errorf("got %d, %v, %q, %d redirects, %q", r.StatusCode, r.Header, r.FinalURL, r.Redirects, r.Body)
			}
			if n := len(sent.take()); n != 1 {
				t.Errorf("%d requests were sent", n)
			}
		})
	}
}

func TestARedirectToAFileIsNotFollowedThoughTheTransportKnowsFiles(t *testing.T) {
	name := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(name, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		w.Header()["Location"] = []string{"file://" + filepath.ToSlash(name)}
		w.WriteHeader(302)
	})
	transport := &http.Transport{}
	transport.RegisterProtocol("file", http.NewFileTransport(http.Dir("/")))
	defer transport.CloseIdleConnections()
	r := getOne(t, server.URL, fetch.WithClient(newClient(transport)))
	if !errors.Is(r.Err, fetch.ErrRedirect) || r.StatusCode != 302 {
		t.Errorf("got %d, %q, %v", r.StatusCode, r.Body, r.Err)
	}
}

// forever is a transport whose every page leads to the next, up to the page
// of the given number.
func forever(last int) roundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		var n int
		fmt.Sscanf(req.URL.Path, "/%d", &n)
		if n == last {
			return respond(req, 200, "end"), nil
		}
		return respond(req, 302, "", "Location", fmt.Sprintf("/%d", n+1)), nil
	}
}

func TestAChainEndsAtTheLimit(t *testing.T) {
	none := func(*http.Request, []*http.Request) error { return nil }
	for _, test := range []struct {
		name   string
		last   int // page
		opts   []fetch.Option
		client *http.Client

		redirects, status int
		err               bool
	}{
		{name: "ten by default", last: 10, redirects: 10, status: 200},
		{name: "eleven", last: 11, redirects: 10, status: 302, err: true},
		{name: "endless", last: -1, redirects: 10, status: 302, err: true},
		{name: "as many as given", last: 3, opts: []fetch.Option{fetch.WithMaxRedirects(3)}, redirects: 3, status: 200},
		{name: "one more than given", last: 4, opts: []fetch.Option{fetch.WithMaxRedirects(3)}, redirects: 3, status: 302, err: true},
		{name: "more than ten when given", last: 25, opts: []fetch.Option{fetch.WithMaxRedirects(25)}, redirects: 25, status: 200},
		{name: "none", last: -1, opts: []fetch.Option{fetch.WithMaxRedirects(0)}, status: 302},
		{name: "the client's own rule replaces the default", last: 15, client: &http.Client{CheckRedirect: none}, redirects: 15, status: 200},
		{name: "the client's own rule and a number", last: 15, client: &http.Client{CheckRedirect: none},
			opts: []fetch.Option{fetch.WithMaxRedirects(3)}, redirects: 3, status: 302, err: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			var sent recorder
			client := cmp.Or(test.client, &http.Client{})
			client.Transport = sent.over(forever(test.last))
			r := getOne(t, "http://a.example/0", append(test.opts, fetch.WithClient(client))...)
			if errors.Is(r.Err, fetch.ErrRedirect) != test.err || (r.Err != nil) != test.err {
				t.Errorf("error is %v", r.Err)
			}
			if r.StatusCode != test.status || r.Redirects != test.redirects {
				t.Errorf("got %d after %d redirects, want %d after %d", r.StatusCode, r.Redirects, test.status, test.redirects)
			}
			if want := fmt.Sprintf("http://a.example/%d", test.redirects); r.FinalURL != want {
				t.Errorf("FinalURL is %q, want %q", r.FinalURL, want)
			}
			if n := len(sent.take()); n != test.redirects+1 {
				t.Errorf("%d requests for %d redirects", n, test.redirects)
			}
		})
	}
}

func TestALoopEndsAtTheLimit(t *testing.T) {
	for name, location := range map[string]func(*http.Request) string{
		"to itself": func(*http.Request) string { return "" },
		"between two hosts": func(req *http.Request) string {
			return "http://" + map[string]string{"a.example": "b.example", "b.example": "a.example"}[req.URL.Host] + "/"
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := getOne(t, "http://a.example/", over(func(req *http.Request) (*http.Response, error) {
				return respond(req, 301, "", "Location", cmp.Or(location(req), "?")), nil
			}))
			if !errors.Is(r.Err, fetch.ErrRedirect) || r.StatusCode != 301 || r.Redirects != 10 {
				t.Errorf("got %d after %d redirects, %v", r.StatusCode, r.Redirects, r.Err)
			}
		})
	}
}

func TestWithoutRedirectsThe3xxItselfIsTheResult(t *testing.T) {
	r := getOne(t, "http://a.example/", over(chain(found("http://b.example/")...)), fetch.WithMaxRedirects(0))
	if r.Err != nil || r.StatusCode != 302 || string(r.Body) != "see there" || r.Header.Get("Location") != "http://b.example/" {
		t.Errorf("got %d, %q, %v, %v", r.StatusCode, r.Body, r.Header, r.Err)
	}
	r = getOne(t, "http://a.example/", over(chain(found("http://b c/")...)), fetch.WithMaxRedirects(0))
	if r.Err != nil || r.StatusCode != 302 {
		t.Errorf("with a bad Location: got %d, %v", r.StatusCode, r.Err)
	}
}

// The origins that a chain visits, and from which on the caller's headers
// must be gone; -1 is never.
var origins = []struct {
	name  string
	chain []string
	gone  int
}{
	{"the same", []string{"http://a.example", "http://a.example"}, -1},
	{"the same in capitals", []string{"http://a.example", "HTTP://A.Example"}, -1},
	{"the same with its default port", []string{"http://a.example", "http://a.example:80", "http://a.example"}, -1},
	{"another host", []string{"http://a.example", "http://b.example"}, 1},
	{"a subdomain", []string{"http://a.example", "http://www.a.example"}, 1},
	{"the parent domain", []string{"http://www.a.example", "http://a.example"}, 1},
	{"a host with the same end", []string{"http://a.example", "http://bada.example"}, 1},
	{"a host that only looks the same", []string{"http://i.example", "http://İ.example"}, 1},
	{"another port", []string{"http://a.example", "http://a.example:8080"}, 1},
	{"from one port to another", []string{"http://a.example:8080", "http://a.example:8081"}, 1},
	{"an IPv6 neighbour", []string{"http://[2001:db8::1]", "http://[2001:db8::11]"}, 1},
	{"up to https", []string{"http://a.example", "https://a.example", "https://a.example"}, -1},
	{"up to https with both ports given", []string{"http://a.example:80", "https://a.example:443"}, -1},
	{"up to https on another port", []string{"http://a.example", "https://a.example:8443"}, 1},
	{"up to https from another port", []string{"http://a.example:8080", "https://a.example"}, 1},
	{"up to https on the same odd port", []string{"http://a.example:8080", "https://a.example:8080"}, 1},
	{"up to https from 443", []string{"http://a.example:443", "https://a.example"}, 1},
	{"up to https of another host", []string{"http://a.example", "https://b.example"}, 1},
	{"down to http", []string{"https://a.example", "http://a.example"}, 1},
	{"down to http on the same port", []string{"https://a.example", "http://a.example:443"}, 1},
	{"up and down", []string{"http://a.example", "https://a.example", "http://a.example"}, 2},
	{"down and up again", []string{"https://a.example", "http://a.example", "https://a.example"}, 1},
	{"away and back", []string{"http://a.example", "http://b.example", "http://a.example"}, 1},
	{"away and staying there", []string{"http://a.example", "http://b.example", "http://b.example"}, 1},
	{"away late", []string{"http://a.example", "http://a.example", "http://b.example", "http://a.example"}, 2},
	{"up and away", []string{"http://a.example", "https://a.example", "https://b.example", "https://a.example"}, 2},
	{"to another port and back", []string{"http://a.example", "http://a.example:81", "http://a.example"}, 1},
}

func TestHeadersOfTheCallerNeverLeaveTheOrigin(t *testing.T) {
	secret := []string{
		"Authorization", "Cookie", "X-Api-Key", "X-Amz-Security-Token", "Proxy-Authorization", "Www-Authenticate",
		"X-Csrf-Token", "Referer", "Origin", "If-None-Match", "X-Forwarded-For", "Api-Key",
	}
	safe := map[string]string{
		"Accept": "text/x", "Accept-Language": "tlh", "User-Agent": "tester", "Range": "bytes=0-99",
	}
	sources := map[string]func(t *testing.T, rawURL string, sent roundTripFunc) fetch.Result{
		"the request": func(t *testing.T, rawURL string, rt roundTripFunc) fetch.Result {
			req := newRequest(t, "GET", rawURL, nil)
			for _, name := range secret {
				// Several values: it is not enough to drop the first.
				req.Header[name] = []string{"canary-1", "canary-2"}
			}
			req.Header["x-raw-key"] = []string{"canary-3"}
			req.Header["authorization"] = []string{"canary-4"}
			for name, value := range safe {
				req.Header.Set(name, value)
			}
			return sendOne(t, req, over(rt))
		},
		"the options": func(t *testing.T, rawURL string, rt roundTripFunc) fetch.Result {
			opts := []fetch.Option{over(rt)}
			for _, name := range secret {
				opts = append(opts, fetch.WithHeader(name, "canary-1"), fetch.WithHeader(strings.ToLower(name), "canary-2"))
			}
			for name, value := range safe {
				opts = append(opts, fetch.WithHeader(name, value))
			}
			return getOne(t, rawURL, opts...)
		},
	}
	for _, test := range origins {
		for source, send := range sources {
			t.Run(test.name+", from "+source, func(t *testing.T) {
				var locations []string
				for i, origin := range test.chain[1:] {
					locations = append(locations, fmt.Sprintf("%s/%d", origin, i+1))
				}
				var log recorder
				r := send(t, test.chain[0]+"/0", log.over(chain(found(locations...)...)))
				if r.Err != nil || r.StatusCode != 200 || r.Redirects != len(locations) {
					t.Fatalf("got %d after %d redirects, %v", r.StatusCode, r.Redirects, r.Err)
				}
				for i, s := range log.take() {
					gone := test.gone >= 0 && i >= test.gone
					if got := strings.Contains(s.String(), "canary"); got == gone {
						t.Errorf("request %d: a header of the caller was sent: %v: %v", i, got, s)
					}
					if got := len(s.header["X-Api-Key"]); !gone && got != 2 {
						t.Errorf("request %d: %d of 2 values", i, got)
					}
					for name, value := range safe {
						if got := s.header.Values(name); !slices.Equal(got, []string{value}) {
							t.Errorf("request %d: %s is %q", i, name, got)
						}
					}
				}
			})
		}
	}
}

func TestContentHeadersCrossOriginsWithABodyOnly(t *testing.T) {
	for _, status := range []int{302, 303, 307, 308} {
		var log recorder
		req := newRequest(t, "GET", "http://a.example/", nil, "Content-Type", "canary", "Content-Token", "canary")
		r := sendOne(t, req, over(log.over(chain(moved{status, "http://b.example/"}))))
		sent := log.take()
		if r.Err != nil || len(sent) != 2 {
			t.Fatal(sent, r.Err)
		}
		if strings.Contains(sent[1].String(), "canary") {
			t.Errorf("after %d: sent %v", status, sent[1])
		}
	}
}

func TestARequestWithoutHeaderMapIsRedirected(t *testing.T) {
	req := newRequest(t, "GET", "http://a.example/", nil)
	req.Header = nil
	if r := sendOne(t, req, over(chain(found("/1", "http://b.example/")...))); r.Err != nil || r.Redirects != 2 {
		t.Error(r.Redirects, r.Err)
	}
}

func TestUserInformationIsSentToItsOriginOnly(t *testing.T) {
	for _, test := range origins {
		t.Run(test.name, func(t *testing.T) {
			var locations []string
			for i, origin := range test.chain[1:] {
				locations = append(locations, fmt.Sprintf("%s/%d", origin, i+1))
			}
			var log recorder
			first := strings.Replace(test.chain[0], "://", "://canary:pass@", 1)
			r := getOne(t, first+"/0", over(log.over(chain(found(locations...)...))))
			if r.Err != nil || strings.Contains(r.FinalURL, "canary") {
				t.Errorf("FinalURL %q, %v", r.FinalURL, r.Err)
			}
			for i, s := range log.take() {
				_, basic := s.header["Authorization"]
				if i == 0 && !basic {
					t.Error("the first request has no Authorization")
				}
				if test.gone >= 0 && i >= test.gone && (basic || strings.Contains(s.String(), "canary")) {
					t.Errorf("request %d: %v", i, s)
				}
			}
		})
	}
}

func TestUserInformationIsSentOnRelativeRedirectsAsNetHTTPDoes(t *testing.T) {
	var theirs, ours recorder
	doByNetHTTP(t, newClient(theirs.over(chain(found("/1", "2")...))), newRequest(t, "GET", "http://user:pa%20ss@a.example/0", nil))
	getOne(t, "http://user:pa%20ss@a.example/0", over(ours.over(chain(found("/1", "2")...))))
	want := theirs.take()
	for i, s := range ours.take() {
		if got, want := s.header["Authorization"], want[i].header["Authorization"]; !slices.Equal(got, want) {
			t.Errorf("request %d: Authorization %q, net/http %q", i, got, want)
		}
	}
}

func TestUserInformationInALocationIsDropped(t *testing.T) {
	for name, location := range map[string]string{
		"the same origin": "http://canary:canary@a.example/1",
		"another origin":  "http://canary:canary@b.example/1",
		"scheme-relative": "//canary@b.example/1",
		"no password":     "http://canary@a.example/1",
	} {
		t.Run(name, func(t *testing.T) {
			var log recorder
			r := getOne(t, "http://a.example/", over(log.over(chain(found(location)...))))
			if r.Err != nil || strings.Contains(r.FinalURL, "canary") {
				t.Errorf("FinalURL %q, %v", r.FinalURL, r.Err)
			}
			s := log.take()[1]
			if _, ok := s.header["Authorization"]; ok || strings.Contains(s.url+s.host, "canary") {
				t.Errorf("sent %v", s)
			}
		})
	}
}

func TestAHostHeaderStaysWithItsOrigin(t *testing.T) {
	for _, location := range []string{"http://b.example/", "https://a.example:8443/", "//a.example:81/"} {
		var log recorder
		r := getOne(t, "http://a.example/", over(log.over(chain(found(location, "http://a.example/2")...))),
			fetch.WithHeader("Host", "canary.example"))
		sent := log.take()
		if r.Err != nil || len(sent) != 3 || sent[0].host != "canary.example" {
			t.Fatalf("%v: %v", sent, r.Err)
		}
		for _, s := range sent[1:] {
			if strings.Contains(s.String(), "canary") {
				t.Errorf("after %s: sent %v", location, s)
			}
		}
	}
}

func TestARefererNeverCrossesOriginsNorGoesDownToHTTP(t *testing.T) {
	for _, test := range origins {
		if test.gone < 0 {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			var locations []string
			for _, origin := range test.chain[1:] {
				locations = append(locations, origin+"/?canary")
			}
			var log recorder
			r := getOne(t, test.chain[0]+"/?canary", over(log.over(chain(found(locations...)...))))
			if r.Err != nil {
				t.Fatal(r.Err)
			}
			for i, s := range log.take() {
				if i == 0 {
					continue
				}
				referer := s.header.Get("Referer")
				if from, _ := url.Parse(referer); referer != "" && from.Scheme+"://"+from.Host != test.chain[i] {
					t.Errorf("request %d, to %s, has Referer %s", i, s.url, referer)
				}
			}
		})
	}
}

// What the second server gets is looked at on the wire.
func TestNoSecretReachesAnotherServer(t *testing.T) {
	got := make(chan string, 1)
	other := listen(t, func(conn net.Conn, head string) {
		got <- head
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		if user, pass, _ := req.BasicAuth(); req.URL.Path == "/basic" && user+pass != "canarycanary" {
			t.Errorf("%s %s", user, pass)
		}
		http.Redirect(w, req, other+"/x", http.StatusFound)
	})
	for name, rawURL := range map[string]string{
		"by header": server.URL + "/?canary",
		"by URL":    strings.Replace(server.URL, "//", "//canary:canary@", 1) + "/basic?canary",
	} {
		t.Run(name, func(t *testing.T) {
			r := getOne(t, rawURL,
				fetch.WithHeader("X-Api-Key", "canary"), fetch.WithHeader("X-Api-Key", "canary"), fetch.WithHeader("Cookie", "c=canary"),
				fetch.WithRequestFunc(func(req *http.Request) error { req.Header.Set("X-Signature", "canary"); return nil }))
			if r.Err != nil || r.Redirects != 1 {
				t.Fatal(r.Err)
			}
			if head := <-got; strings.Contains(head, "canary") {
				t.Errorf("the other server got:\n%s", head)
			}
		})
	}
}

func TestABodyIsNotSentToAnotherOrigin(t *testing.T) {
	for _, status := range []int{307, 308} {
		for name, location := range map[string]string{
			"host": "http://b.example/x", "port": "http://a.example:81/x", "scheme": "http://a.example/x",
		} {
			start := "http://a.example/"
			if name == "scheme" {
				start = "https://a.example/"
			}
			for bodyName, body := range map[string]string{"a body": "canary", "no body": ""} {
				t.Run(fmt.Sprintf("%d to another %s with %s", status, name, bodyName), func(t *testing.T) {
					var log recorder
					req := newRequest(t, "POST", start, strings.NewReader(body))
					r := sendOne(t, req, over(log.over(chain(moved{status, location}))))
					sent := log.take()
					if body == "" {
						if r.Err != nil || len(sent) != 2 || sent[1].method != "POST" {
							t.Errorf("without a body: sent %v, %v", sent, r.Err)
						}
						return
					}
					if !errors.Is(r.Err, fetch.ErrRedirect) || r.StatusCode != status || r.Header.Get("Location") != location || r.Redirects != 0 {
						t.Errorf("got %d, %v, %v", r.StatusCode, r.Header, r.Err)
					}
					if len(sent) != 1 {
						t.Errorf("sent %v", sent)
					}
				})
			}
		}
	}
}

func TestABodyIsReplayedByteForByteWithinTheOrigin(t *testing.T) {
	body := make([]byte, 300_000)
	rand.NewChaCha8([32]byte{1}).Read(body)
	var mu sync.Mutex
	got := map[string][]byte{}
	server, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) {
		all, err := io.ReadAll(req.Body)
		mu.Lock()
		defer mu.Unlock()
		if got[req.URL.Path] = all; err != nil || req.ContentLength != int64(len(body)) {
			t.Errorf("%s: %d announced, %v", req.URL.Path, req.ContentLength, err)
		}
		switch req.URL.Path {
		case "/0":
			http.Redirect(w, req, "/1", http.StatusTemporaryRedirect)
		case "/1":
			http.Redirect(w, req, "/2", http.StatusPermanentRedirect)
		}
	})
	r := sendOne(t, newRequest(t, "PUT", server.URL+"/0", bytes.NewReader(body)))
	if r.Err != nil || r.Redirects != 2 {
		t.Fatal(r.Redirects, r.Err)
	}
	for _, path := range []string{"/0", "/1", "/2"} {
		if !bytes.Equal(got[path], body) {
			t.Errorf("%s got %d bytes that are not those sent", path, len(got[path]))
		}
	}
}

// A call of CheckRedirect, as far as two clients can be compared by it.
type redirectCall struct {
	to, method string
	via        []string
	status     int
	header     string
}

func logRedirects(calls *[]redirectCall, then func(req *http.Request, via []*http.Request) error) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		header := req.Header.Clone()
		header.Del("Referer")
		header.Del("Accept-Encoding")
		call := redirectCall{to: req.URL.String(), method: req.Method, header: fmt.Sprint(header)}
		for _, v := range via {
			call.via = append(call.via, cmp.Or(v.Method, "GET")+" "+v.URL.String())
		}
		if req.Response != nil {
			call.status = req.Response.StatusCode
		}
		*calls = append(*calls, call)
		return then(req, via)
	}
}

func TestCheckRedirectOfTheClientIsAskedAsNetHTTPDoes(t *testing.T) {
	stop := errors.New("no further")
	for _, test := range []struct {
		name  string
		steps []moved
		check func(*http.Request, []*http.Request) error
	}{
		{"it lets pass", []moved{{302, "/1"}, {307, "http://b.example/2"}, {301, "/3"}},
			func(*http.Request, []*http.Request) error { return nil }},
		{"it wants the 3xx", found("/1", "/2", "/3"), func(_ *http.Request, via []*http.Request) error {
			if len(via) == 2 {
				return http.ErrUseLastResponse
			}
			return nil
		}},
		{"it refuses", found("/1", "/2", "/3"), func(_ *http.Request, via []*http.Request) error {
			if len(via) == 2 {
				return fmt.Errorf("wrapped: %w", stop)
			}
			return nil
		}},
		{"it adds a header", found("/1", "/2"), func(req *http.Request, via []*http.Request) error {
			req.Header.Set("X-Hop", fmt.Sprint(len(via)))
			return nil
		}},
		{"it adds a header to the first hop", found("/1", "/2"), func(req *http.Request, via []*http.Request) error {
			if len(via) == 1 {
				req.Header.Set("X-First", "1")
			}
			return nil
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var theirs, ours recorder
			var theirCalls, ourCalls []redirectCall
			client := newClient(theirs.over(chain(test.steps...)))
			client.CheckRedirect = logRedirects(&theirCalls, test.check)
			want := doByNetHTTP(t, client, newRequest(t, "GET", "http://a.example/0", nil, "Accept", "x/y"))
			client = newClient(ours.over(chain(test.steps...)))
			client.CheckRedirect = logRedirects(&ourCalls, test.check)
			r := sendOne(t, newRequest(t, "GET", "http://a.example/0", nil, "Accept", "x/y"), fetch.WithClient(client))

			if got := outcomeOf(r); got != want {
				t.Errorf("got %+v (%v), net/http %+v", got, r.Err, want)
			}
			if !reflect.DeepEqual(ourCalls, theirCalls) {
				t.Errorf("asked\n%+v\nnet/http asks\n%+v", ourCalls, theirCalls)
			}
			if got, want := compared(ours.take()), compared(theirs.take()); !slices.Equal(got, want) {
				t.Errorf("sent\n%s\nnet/http sent\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			if r.Err != nil && (!errors.Is(r.Err, fetch.ErrRedirect) || !errors.Is(r.Err, stop)) {
				t.Errorf("the error is neither ErrRedirect nor that of CheckRedirect: %v", r.Err)
			}
			if want := len(ourCalls); r.Err == nil && r.StatusCode == 200 && r.Redirects != want {
				t.Errorf("Redirects is %d, want %d", r.Redirects, want)
			}
		})
	}
}

func TestCookiesOfTheJarAreAsInNetHTTP(t *testing.T) {
	// Each answer sets cookies: one that changes, one of its own path, one that
	// the caller also has, one of the whole domain.
	answer := func() roundTripFunc {
		next := map[string]string{
			"http://a.example/0":     "/dir/1",
			"http://a.example/dir/1": "http://b.a.example/2",
			"http://b.a.example/2":   "http://a.example/3",
			"http://a.example/3":     "https://a.example/4",
			"https://a.example/4":    "http://a.example/5",
		}
		return func(req *http.Request) (*http.Response, error) {
			name := strings.Trim(strings.ReplaceAll(req.URL.Path, "/", "-"), "-")
			status, location := 302, next[req.URL.String()]
			if location == "" {
				status = 200
			}
			return respond(req, status, "", "Location", location,
				"Set-Cookie", "step="+name+"; Path=/",
				"Set-Cookie", "own-"+name+"=1",
				"Set-Cookie", "mine=theirs",
				"Set-Cookie", "wide-"+name+"=1; Domain=a.example; Path=/",
				"Set-Cookie", "sure-"+name+"=1; Secure; Path=/",
				"Set-Cookie", "foreign=1; Domain=c.example"), nil
		}
	}
	newJar := func() http.CookieJar {
		jar, _ := cookiejar.New(nil)
		u, _ := url.Parse("http://a.example/")
		jar.SetCookies(u, []*http.Cookie{{Name: "old", Value: "1"}})
		return jar
	}
	sorted := func(sent []sentRequest) []string {
		var out []string
		for _, s := range sent {
			cookies := strings.Split(strings.Join(s.header["Cookie"], "; "), "; ")
			slices.Sort(cookies)
			out = append(out, s.url+" "+strings.Join(cookies, "; "))
		}
		return out
	}
	for name, cookie := range map[string]string{"without a header": "", "with a header": "mine=1; other=2"} {
		t.Run(name, func(t *testing.T) {
			newReq := func() *http.Request {
				req := newRequest(t, "GET", "http://a.example/0", nil)
				if cookie != "" {
					req.Header.Set("Cookie", cookie)
				}
				return req
			}
			var theirs, ours recorder
			client := newClient(theirs.over(answer()))
			client.Jar = newJar()
			theirJar := client.Jar
			doByNetHTTP(t, client, newReq())
			client = newClient(ours.over(answer()))
			client.Jar = newJar()
			ourJar := client.Jar
			if r := sendOne(t, newReq(), fetch.WithClient(client)); r.Err != nil || r.Redirects != 5 {
				t.Fatal(r.Redirects, r.Err)
			}
			got, want := sorted(ours.take()), sorted(theirs.take())
			if cookie != "" {
				// net/http would send the caller's cookies to a subdomain as well.
				for _, s := range got[2:] {
					if strings.Contains(s, "other=2") {
						t.Errorf("the caller's cookie has left the origin: %s", s)
					}
				}
				got, want = got[:2], want[:2]
			}
			if !slices.Equal(got, want) {
				t.Errorf("sent\n%s\nnet/http sent\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			for _, raw := range []string{"http://a.example/", "https://a.example/dir/x", "http://b.a.example/", "http://c.example/"} {
				u, _ := url.Parse(raw)
				if got, want := fmt.Sprint(ourJar.Cookies(u)), fmt.Sprint(theirJar.Cookies(u)); got != want {
					t.Errorf("the jar has %s for %s, that of net/http %s", got, raw, want)
				}
			}
		})
	}
}

func TestAHopWaitsForTheLimitsOfTheHostThatItLeadsTo(t *testing.T) {
	toB := func(counter *inFlight, log *startLog) roundTripFunc {
		return counter.over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "a.example" {
				return respond(req, 302, "", "Location", "http://b.example"+req.URL.Path), nil
			}
			if req.URL.Host == "b.example" {
				log.add()
				return answerAfter(time.Second)(req)
			}
			return answerAfter(10 * time.Millisecond)(req)
		})
	}
	t.Run("its concurrency", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var counter inFlight
			urls := append(numbered("http://a.example", 6), numbered("http://c.example", 10)...)
			start := time.Now()
			results := fetch.FetchAll(t.Context(), urls, over(toB(&counter, &startLog{})), fetch.WithConcurrency(3),
				fetch.WithHostLimits(func(host string) fetch.HostLimits {
					if host == "b.example" {
						return fetch.HostLimits{Concurrency: 1}
					}
					return fetch.HostLimits{}
				}))
			checkResults(t, urls, results)
			for _, r := range results {
				if r.Err != nil || r.StatusCode != 200 {
					t.Errorf("%s: %d, %v", r.URL, r.StatusCode, r.Err)
				}
			}
			if n := counter.mostOf("b.example"); n != 1 {
				t.Errorf("%d requests to b.example at once", n)
			}
			checkTook(t, "the batch", time.Since(start).Round(100*time.Millisecond), 6*time.Second)
			// Hops that wait hold no slot.
			for _, r := range results[6:] {
				if r.Waited > 100*time.Millisecond {
					t.Errorf("%s waited %v", r.URL, r.Waited)
				}
			}
		})
	})
	t.Run("its rate, which the timeout does not count", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var counter inFlight
			var log startLog
			urls := numbered("http://a.example", 6)
			results := fetch.FetchAll(t.Context(), urls, over(toB(&counter, &log)), fetch.WithTimeout(3*time.Second),
				fetch.WithHostLimits(func(host string) fetch.HostLimits {
					if host == "b.example" {
						return fetch.HostLimits{Rate: 0.5}
					}
					return fetch.HostLimits{}
				}))
			checkResults(t, urls, results)
			if err := fetch.JoinErrors(results); err != nil {
				t.Error(err)
			}
			log.check(t, 0.5, 1)
			for _, r := range results {
				checkTook(t, r.URL, r.Took, time.Second)
			}
		})
	})
	t.Run("the total rate", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var log startLog
			urls := numbered("http://a.example", 5)
			start := time.Now()
			results := fetch.FetchAll(t.Context(), urls, over(func(req *http.Request) (*http.Response, error) {
				log.add()
				if req.URL.Host == "a.example" {
					return respond(req, 302, "", "Location", "http://b.example/"), nil
				}
				return respond(req, 200, ""), nil
			}), fetch.WithRate(1, 1))
			checkResults(t, urls, results)
			log.check(t, 1, 1)
			checkTook(t, "ten requests at one a second", time.Since(start).Round(time.Millisecond), 9*time.Second)
		})
	})
}

func TestTheTimeoutCoversAllHopsOfAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := getOne(t, "http://a.example/0", fetch.WithTimeout(2500*time.Millisecond), over(func(req *http.Request) (*http.Response, error) {
			if err := sleepCtx(req.Context(), time.Second); err != nil {
				return nil, err
			}
			return forever(5)(req)
		}))
		if !errors.Is(r.Err, fetch.ErrTimeout) || r.Redirects != 2 || r.StatusCode != 302 || r.FinalURL != "http://a.example/1" {
			t.Errorf("got %d from %s after %d redirects, %v", r.StatusCode, r.FinalURL, r.Redirects, r.Err)
		}
		checkTook(t, "the attempt", time.Since(start), 2500*time.Millisecond)
	})
}

func TestAHopThatFailsKeepsTheHeadOfTheLastResponse(t *testing.T) {
	broken := errors.New("broken")
	r := getOne(t, "http://a.example/", over(func(req *http.Request) (*http.Response, error) {
		if req.URL.Host == "b.example" {
			return nil, broken
		}
		return respond(req, 301, "", "Location", "http://b.example/"), nil
	}))
	if !errors.Is(r.Err, broken) || errors.Is(r.Err, fetch.ErrRedirect) {
		t.Errorf("error is %v", r.Err)
	}
	if r.StatusCode != 301 || r.FinalURL != "http://a.example/" || r.Header.Get("Location") == "" || r.Redirects != 1 {
		t.Errorf("got %d from %q, %v, %d redirects", r.StatusCode, r.FinalURL, r.Header, r.Redirects)
	}
}

// stalledBody gives some bytes and then nothing until the request is given up or it is closed.
type stalledBody struct {
	ctx    context.Context
	first  io.Reader
	once   sync.Once
	closed chan struct{}
}

func newStalledBody(ctx context.Context, first string) *stalledBody {
	return &stalledBody{ctx: ctx, first: strings.NewReader(first), closed: make(chan struct{})}
}

func (b *stalledBody) Read(p []byte) (int, error) {
	if n, _ := b.first.Read(p); n > 0 {
		return n, nil
	}
	select {
	case <-b.ctx.Done():
		return 0, context.Cause(b.ctx)
	case <-b.closed:
		return 0, http.ErrBodyReadAfterClose
	}
}

func (b *stalledBody) Close() error {
	b.once.Do(func() { close(b.closed) })
	return nil
}

func TestTheBodyOfARedirectDoesNotHoldTheHop(t *testing.T) {
	for name, body := range map[string]func(ctx context.Context) (io.ReadCloser, int64){
		"it stalls": func(ctx context.Context) (io.ReadCloser, int64) { return newStalledBody(ctx, "ab"), 100 },
		"it stalls at unknown length": func(ctx context.Context) (io.ReadCloser, int64) {
			return newStalledBody(ctx, "ab"), -1
		},
		"it stalls far from its end": func(ctx context.Context) (io.ReadCloser, int64) {
			return newStalledBody(ctx, "ab"), 1 << 40
		},
		"it drips": func(ctx context.Context) (io.ReadCloser, int64) {
			return io.NopCloser(readerFunc(func(p []byte) (int, error) {
				return copy(p[:1], "x"), sleepCtx(ctx, 20*time.Millisecond)
			})), -1
		},
		"it fails": func(context.Context) (io.ReadCloser, int64) {
			return io.NopCloser(readerFunc(func(p []byte) (int, error) { return 0, io.ErrUnexpectedEOF })), 100
		},
		"it is cut": func(context.Context) (io.ReadCloser, int64) { return io.NopCloser(strings.NewReader("ab")), 100 },
		"there is none": func(context.Context) (io.ReadCloser, int64) {
			return nil, 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				r := getOne(t, "http://a.example/", over(func(req *http.Request) (*http.Response, error) {
					if req.URL.Path == "/end" {
						return respond(req, 200, "end"), nil
					}
					resp := respond(req, 302, "", "Location", "/end")
					resp.Body, resp.ContentLength = body(req.Context())
					return resp, nil
				}))
				if r.Err != nil || string(r.Body) != "end" {
					t.Errorf("got %q, %v", r.Body, r.Err)
				}
				if took := time.Since(start); took > time.Second {
					t.Errorf("the hop took %v", took)
				}
			})
		})
	}
}

// readerFunc is an io.Reader.
type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestAnEndlessBodyOfARedirectIsNotRead(t *testing.T) {
	var read, closed int
	r := getOne(t, "http://a.example/", fetch.WithMaxBody(10), over(func(req *http.Request) (*http.Response, error) {
		if req.URL.Path == "/end" {
			return respond(req, 200, "end"), nil
		}
		resp := respond(req, 302, "", "Location", "/end")
		resp.ContentLength = -1
		resp.Body = &hookedBody{io.NopCloser(readerFunc(func(p []byte) (int, error) {
			read += len(p)
			return len(p), nil
		})), func() { closed++ }}
		return resp, nil
	}))
	if r.Err != nil || string(r.Body) != "end" {
		t.Errorf("got %q, %v", r.Body, r.Err)
	}
	if read > 512<<10 || closed == 0 {
		t.Errorf("%d bytes were read, closed %d times", read, closed)
	}
}

// The same on the wire, where the connection must be given up with it.
func TestAStalledRedirectIsLeftUnread(t *testing.T) {
	target, _ := newServer(t, func(w http.ResponseWriter, req *http.Request) { io.WriteString(w, "end") })
	closed := make(chan error, 1)
	stalled := listen(t, func(conn net.Conn, head string) {
		fmt.Fprintf(conn, "HTTP/1.1 302 Found\r\nLocation: %s\r\nContent-Length: 100\r\n\r\nab", target.URL)
		_, err := conn.Read(make([]byte, 1))
		closed <- err
	})
	start := time.Now()
	r := getOne(t, stalled)
	if r.Err != nil || string(r.Body) != "end" {
		t.Errorf("got %q, %v", r.Body, r.Err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
	if err := <-closed; err == nil {
		t.Error("the connection was used again")
	}
}

func TestRequestFuncIsCalledWithinTheOriginOnly(t *testing.T) {
	for _, test := range origins {
		t.Run(test.name, func(t *testing.T) {
			var locations []string
			for i, origin := range test.chain[1:] {
				locations = append(locations, fmt.Sprintf("%s/%d", origin, i+1))
			}
			// An upgrade to https keeps the caller's headers, but is another origin.
			within := 1
			for within < len(test.chain) && sameOrigin(t, test.chain[0], test.chain[within]) {
				within++
			}
			var mu sync.Mutex
			var called []string
			var log recorder
			r := getOne(t, test.chain[0]+"/0", over(log.over(chain(found(locations...)...))),
				fetch.WithRequestFunc(func(req *http.Request) error {
					mu.Lock()
					defer mu.Unlock()
					called = append(called, req.URL.Path)
					req.Header.Add("X-Signature", "canary "+req.URL.Path)
					return nil
				}))
			if r.Err != nil || r.Redirects != len(locations) {
				t.Fatal(r.Redirects, r.Err)
			}
			if want := []string{"/0", "/1", "/2", "/3"}[:within]; !slices.Equal(called, want) {
				t.Errorf("called for %q, want %q", called, want)
			}
			for i, s := range log.take() {
				var want []string
				if i < within {
					want = []string{fmt.Sprintf("canary /%d", i)}
				}
				if got := s.header["X-Signature"]; !slices.Equal(got, want) {
					t.Errorf("request %d has %q, want %q", i, got, want)
				}
			}
		})
	}
}

func sameOrigin(t *testing.T, a, b string) bool {
	t.Helper()
	key := func(raw string) string {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		port := cmp.Or(strings.TrimLeft(u.Port(), "0"), map[string]string{"http": "80", "https": "443"}[u.Scheme])
		// ASCII only: what else has a lower case is another host.
		return u.Scheme + "://" + strings.Map(func(r rune) rune {
			if 'A' <= r && r <= 'Z' {
				r += 'a' - 'A'
			}
			return r
		}, strings.TrimSuffix(u.Hostname(), ".")) + ":" + port
	}
	return key(a) == key(b)
}

func TestAnErrorOfRequestFuncOnAHopEndsTheURL(t *testing.T) {
	refused := errors.New("no token left")
	var log recorder
	calls := 0
	r := getOne(t, "http://a.example/", over(log.over(chain(found("/1", "/2")...))), fetch.WithRequestFunc(func(*http.Request) error {
		if calls++; calls == 2 {
			return refused
		}
		return nil
	}))
	if !errors.Is(r.Err, refused) || r.StatusCode != 302 || r.FinalURL != "http://a.example/" {
		t.Errorf("got %d from %q, %v", r.StatusCode, r.FinalURL, r.Err)
	}
	if n := len(log.take()); n != 1 {
		t.Errorf("%d requests were sent", n)
	}
}

func TestConnectionsAreReusedAcrossRedirects(t *testing.T) {
	for _, size := range []int{0, 100, 2000} {
		server, conns := newServer(t, func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path != "/end" {
				w.Header().Set("Location", "/end")
				w.WriteHeader(302)
				w.Write(bytes.Repeat([]byte("x"), size))
			}
		})
		urls := numbered(server.URL, 20)
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1))
		checkResults(t, urls, results)
		if err := fetch.JoinErrors(results); err != nil {
			t.Fatal(err)
		}
		if _, _, total := conns.counts(); total != 1 {
			t.Errorf("%d connections for 40 requests in turn, the redirects having %d bytes", total, size)
		}
	}
}

// One URL's redirects are nobody else's business.
func TestRedirectsOfABatchDoNotMix(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var urls []string
		for i := range 200 {
			urls = append(urls, fmt.Sprintf("http://h%d.example/%d?hop=0", i%7, i))
		}
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(8), fetch.WithHostConcurrency(2),
			over(func(req *http.Request) (*http.Response, error) {
				var id, hop int
				fmt.Sscanf(req.URL.Path, "/%d", &id)
				fmt.Sscanf(req.URL.RawQuery, "hop=%d", &hop)
				if err := sleepCtx(req.Context(), time.Duration(1+(id*hop)%5)*time.Millisecond); err != nil {
					return nil, err
				}
				if hop == id%5 {
					return respond(req, 200, fmt.Sprint(id)), nil
				}
				return respond(req, 302, "", "Location", fmt.Sprintf("http://h%d.example/%d?hop=%d", (id+hop)%7, id, hop+1)), nil
			}))
		checkResults(t, urls, results)
		for i, r := range results {
			if r.Err != nil || string(r.Body) != fmt.Sprint(i) || r.Redirects != i%5 {
				t.Errorf("%s: %q after %d redirects, %v", r.URL, r.Body, r.Redirects, r.Err)
			}
		}
	})
}
