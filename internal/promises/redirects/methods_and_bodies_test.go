package redirects_test

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// A moved is one step of a chain of redirects.
type moved struct {
	status   int
	location string
}

// chain is a transport that answers the n-th request with the n-th step, and
// those after the last with 200 "end". It serves one chain at a time.
func chain(steps ...moved) fetchtest.RoundTripFunc {
	var mu sync.Mutex
	n := 0
	return func(req *http.Request) (*http.Response, error) {
		mu.Lock()
		defer mu.Unlock()
		n++
		if n > len(steps) {
			n = 0
			return fetchtest.Respond(req, 200, "end"), nil
		}
		step, body := steps[n-1], "see there"
		if step.status == http.StatusNotModified {
			body = ""
		}
		return fetchtest.Respond(req, step.status, body, "Location", step.location), nil
	}
}

// compared is what must be equal to what net/http sends. It may add
// Accept-Encoding and Referer of its own.
func compared(sent []fetchtest.SentRequest) []string {
	var out []string
	for _, s := range sent {
		header := s.Header.Clone()
		header.Del("Accept-Encoding")
		header.Del("Referer")
		u, _ := url.Parse(s.URL)
		u.Fragment = ""
		// An empty Host means that of the URL.
		out = append(out, fmt.Sprintf("%s %s host=%s %v body=%q", s.Method, u, cmp.Or(s.Host, u.Host), header, s.Body))
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
						req := fetchtest.NewRequest(t, method, start, body, "Content-Type", "text/x", "Content-Language", "en",
							"X-Key", "1", "X-Key", "2", "Authorization", "Bearer x")
						req.Method = method
						change(req)
						return req
					}
					var theirs, ours fetchtest.Recorder
					want := doByNetHTTP(t, fetchtest.NewClient(theirs.Over(chain(steps...))), newReq())
					got := outcomeOf(fetchtest.SendOne(t, newReq(), fetchtest.Over(ours.Over(chain(steps...)))))
					if got != want {
						t.Errorf("got %+v, net/http %+v", got, want)
					}
					if got, want := compared(ours.Take()), compared(theirs.Take()); !slices.Equal(got, want) {
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
				r := fetchtest.GetOne(t, "http://a.example/", fetchtest.Over(func(req *http.Request) (*http.Response, error) {
					return fetchtest.Respond(req, status, "nowhere", header...), nil
				}))
				if r.Err != nil || r.StatusCode != status || string(r.Body) != "nowhere" || r.Redirects != 0 {
					t.Errorf("got %d, %q, %d redirects, %v", r.StatusCode, r.Body, r.Redirects, r.Err)
				}
			})
		}
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
					var log fetchtest.Recorder
					req := fetchtest.NewRequest(t, "POST", start, strings.NewReader(body))
					r := fetchtest.SendOne(t, req, fetchtest.Over(log.Over(chain(moved{status, location}))))
					sent := log.Take()
					if body == "" {
						if r.Err != nil || len(sent) != 2 || sent[1].Method != "POST" {
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
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
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
	r := fetchtest.SendOne(t, fetchtest.NewRequest(t, "PUT", server.URL+"/0", bytes.NewReader(body)))
	if r.Err != nil || r.Redirects != 2 {
		t.Fatal(r.Redirects, r.Err)
	}
	for _, path := range []string{"/0", "/1", "/2"} {
		if !bytes.Equal(got[path], body) {
			t.Errorf("%s got %d bytes that are not those sent", path, len(got[path]))
		}
	}
}
