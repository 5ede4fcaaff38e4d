package politeness_test

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

// The wait that a response asks for is the URL's own, whatever the status that is retried, but
// for those that speak for their host.
func TestEveryRetryAfterIsKept(t *testing.T) {
	for _, status := range []int{408, 413, 425, 500, 502, 504, 521, 522, 524} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sent := fetchtest.NewTimeline()
				urls := []string{"http://a.example/late", "http://a.example/1", "http://a.example/2"}
				results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1), fetch.WithRetries(1), fetch.WithTimeout(time.Second),
					fetchtest.Over(sent.Over(func(req *http.Request) (*http.Response, error) {
						if req.URL.Path != "/late" || len(sent.OfURL(urls[0])) > 1 {
							return fetchtest.AnswerAfter(100 * time.Millisecond)(req)
						}
						return fetchtest.Respond(req, status, "", "Retry-After", "20"), nil
					})))
				fetchtest.MustAllBeFine(t, urls, results)
				late := sent.OfURL(urls[0])
				if len(late) != 2 || late[1] < 20*time.Second || late[1] > 30*time.Second {
					t.Errorf("requested at %v, which asks for 20 s", late)
				}
				// It waits without the only slot, and for itself alone.
				for _, r := range results[1:] {
					if r.Waited > 200*time.Millisecond {
						t.Errorf("%s waited %v", r.URL, r.Waited)
					}
				}
				if h := results[0].History; len(h) != 2 || h[0].RetryAfter != 20*time.Second {
					t.Errorf("the history is %v", h)
				}
			})
		})
	}
}

func TestARetryAfterThatDoesNotFitEndsItsURLOnly(t *testing.T) {
	for name, opts := range map[string][]fetch.Option{
		"longer than WithMaxRetryAfter": {fetch.WithMaxRetryAfter(10 * time.Second)},
		"decided by WithRetryIf":        {fetch.WithMaxRetryAfter(10 * time.Second), fetch.WithRetryIf(func(r fetch.Result) bool { return true })},
	} {
		for _, status := range []int{500, 504, 413} {
			t.Run(fmt.Sprintf("%s, %d", name, status), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					sent := fetchtest.NewTimeline()
					urls := fetchtest.Numbered("http://a.example", 20)
					results := fetch.FetchAll(t.Context(), urls, append(opts, fetch.WithRetries(3), fetch.WithConcurrency(1), fetchtest.Over(sent.Over(func(req *http.Request) (*http.Response, error) {
						if req.URL.String() == urls[0] {
							return fetchtest.Respond(req, status, "", "Retry-After", "11"), nil
						}
						return fetchtest.AtOnce(req)
					})))...)
					fetchtest.MustAllBeFine(t, urls, results)
					if r := results[0]; r.StatusCode != status || r.Attempts != 1 {
						t.Errorf("%d after %d attempts", r.StatusCode, r.Attempts)
					}
				})
			})
		}
	}
}

func TestWithMaxRetryAfter0KeepsNoWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := fetchtest.NewTimeline()
		redirect := fetchtest.Always(303, "Retry-After", "5", "Location", "http://a.example/done")
		urls := []string{"http://a.example/500", "http://a.example/303", "http://a.example/413", "http://a.example/403"}
		results := fetch.FetchAll(t.Context(), urls, fetch.WithMaxRetryAfter(0), fetch.WithRetries(1), fetch.WithBackoff(0, 0), fetchtest.Over(sent.Over(func(req *http.Request) (*http.Response, error) {
			switch req.URL.Path {
			case "/500":
				return fetchtest.InTurn(fetchtest.Always(500, "Retry-After", "5"))(req)
			case "/303":
				return redirect(req)
			case "/413":
				return fetchtest.Always(413, "Retry-After", "5")(req)
			case "/403":
				return fetchtest.Always(403, "Retry-After", "5", "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", "5")(req)
			}
			return fetchtest.AtOnce(req)
		})))
		fetchtest.MustAllBeFine(t, urls, results)
		fetchtest.CheckTook(t, "the batch", time.Since(sent.Start), 0)
		for i, attempts := range []int{2, 1, 1, 1} {
			if results[i].Attempts != attempts {
				t.Errorf("%s: %d attempts, want %d", urls[i], results[i].Attempts, attempts)
			}
		}
	})
}

// A server that works on something redirects to the same URL until that is done (RFC 9110,
// section 10.2.3).
func TestTheNextHopWaitsAsTheRedirectAsks(t *testing.T) {
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sent := fetchtest.NewTimeline()
				urls := []string{"http://a.example/job", "http://a.example/1", "http://b.example/"}
				results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1), fetch.WithTimeout(time.Second), fetchtest.Over(sent.Over(func(req *http.Request) (*http.Response, error) {
					if req.URL.Path == "/job" && time.Since(sent.Start) < 30*time.Second {
						return fetchtest.Respond(req, status, "", "Location", "/job", "Retry-After", "7"), nil
					}
					return fetchtest.AtOnce(req)
				})))
				fetchtest.MustAllBeFine(t, urls, results)
				at := sent.OfURL(urls[0])
				for i := range at {
					if at[i] != time.Duration(i)*7*time.Second {
						t.Errorf("requested at %v, each asks for 7 s", at)
						break
					}
				}
				if r := results[0]; r.Redirects != 5 || r.Attempts != 1 || r.Waited != 35*time.Second {
					t.Errorf("%d redirects, %d attempts, waited %v", r.Redirects, r.Attempts, r.Waited)
				}
				for _, r := range results[1:] {
					if r.Waited != 0 {
						t.Errorf("%s waited %v for the slot", r.URL, r.Waited)
					}
				}
			})
		})
	}
}

func TestARedirectThatAsksForTooMuchIsNotFollowed(t *testing.T) {
	for name, c := range map[string]struct {
		asks string
		opts []fetch.Option
		ctx  time.Duration
	}{
		"longer than WithMaxRetryAfter": {"61", nil, time.Hour},
		"past the deadline":             {"30", nil, 20 * time.Second},
		"with retries":                  {"61", []fetch.Option{fetch.WithRetries(3)}, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), c.ctx)
				defer cancel()
				sent := fetchtest.NewTimeline()
				urls := []string{"http://a.example/from"}
				results := fetch.FetchAll(ctx, urls, append(c.opts, fetchtest.Over(sent.Over(fetchtest.Always(303, "Location", "/to", "Retry-After", c.asks))))...)
				fetchtest.CheckResults(t, urls, results)
				r := results[0]
				if !errors.Is(r.Err, fetch.ErrRedirect) || r.StatusCode != 303 || r.Header.Get("Retry-After") != c.asks || r.Attempts != 1 || sent.Len() != 1 {
					t.Errorf("%d after %d requests, %v", r.StatusCode, sent.Len(), r.Err)
				}
				if r.Err == nil || !strings.Contains(r.Err.Error(), "asks to wait for") {
					t.Errorf("the error does not say why: %v", r.Err)
				}
				fetchtest.CheckTook(t, "the batch", time.Since(sent.Start), 0)
			})
		})
	}
}

// A URL that waits for its next hop ends with its context.
func TestAHopThatWaitsEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		start := time.Now()
		time.AfterFunc(3*time.Second, cancel)
		urls := []string{"http://a.example/"}
		results := fetch.FetchAll(ctx, urls, fetchtest.Over(fetchtest.Always(302, "Location", "/", "Retry-After", "10")))
		fetchtest.CheckResults(t, urls, results)
		fetchtest.CheckCancelled(t, ctx, results[0])
		fetchtest.CheckTook(t, "the batch", time.Since(start), 3*time.Second)
	})
}

// In a bubble it is midnight of 1 January 2000, UTC.
func TestTheDateOfAStoredAnswerIsNoClock(t *testing.T) {
	for name, c := range map[string]struct {
		age  []string
		want time.Duration
	}{
		"stored":         {[]string{"600"}, 2 * time.Second},
		"just stored":    {[]string{"0"}, 2 * time.Second},
		"not stored":     {nil, 602 * time.Second},
		"age is no such": {[]string{"-1"}, 602 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				refuse := func(req *http.Request) (*http.Response, error) {
					resp := fetchtest.Respond(req, 429, "", "Date", "Fri, 31 Dec 1999 23:50:00 GMT", "Retry-After", "Sat, 01 Jan 2000 00:00:02 GMT")
					resp.Header["Age"] = c.age
					return resp, nil
				}
				r := fetchtest.GetOne(t, "http://a.example/", fetch.WithRetries(1), fetch.WithMaxRetryAfter(time.Hour), fetchtest.Over(fetchtest.InTurn(refuse, fetchtest.AtOnce)))
				if !r.OK() || r.Waited != c.want {
					t.Errorf("%d after %v, want %v", r.StatusCode, r.Waited, c.want)
				}
			})
		})
	}
}

// With Retry-After these statuses are messages about the host, as a 429 is; without it they are not.
func TestOtherRefusalsPauseTheHost(t *testing.T) {
	for _, status := range []int{403, 420, 503, 529} {
		for _, tells := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d, Retry-After %v", status, tells), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					sent := fetchtest.NewTimeline()
					var n atomic.Int32
					var header []string
					if tells {
						header = []string{"Retry-After", "3"}
					}
					urls := fetchtest.Numbered("http://a.example", 20)
					results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1), fetch.WithRetries(1), fetchtest.WithoutBackOff, fetchtest.Over(sent.Over(func(req *http.Request) (*http.Response, error) {
						if n.Add(1) == 1 {
							return fetchtest.Respond(req, status, "", header...), nil
						}
						return fetchtest.AtOnce(req)
					})))
					fetchtest.MustAllBeFine(t, urls, results)
					at := sent.OfHost("a.example")
					switch retried := status > 500; {
					case tells && (len(at) != 21 || at[1] != 3*time.Second || !results[0].OK()):
						t.Errorf("requests at %v, the first ends with %d", at, results[0].StatusCode)
					case !tells && retried != results[0].OK():
						t.Errorf("the first ends with %d", results[0].StatusCode)
					case !tells && at[len(at)-1] != 0:
						t.Errorf("requests at %v", at)
					}
				})
			})
		}
	}
}

// A 403 speaks for its host at once; an overload is believed when three URLs in a row got it.
func TestOtherRefusalsThatAskForTooMuch(t *testing.T) {
	for status, most := range map[int]int{403: 1, 420: 1, 503: 3, 529: 3} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sent := fetchtest.NewTimeline()
				urls := fetchtest.Numbered("http://a.example", 10)
				until := time.Now().Add(2 * time.Hour)
				results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1), fetch.WithRetries(1), fetchtest.Over(sent.Over(fetchtest.Always(status, "Retry-After", "7200"))))
				fetchtest.CheckResults(t, urls, results)
				if sent.Len() != most {
					t.Errorf("%d requests, want %d", sent.Len(), most)
				}
				for _, r := range results[most:] {
					checkPaused(t, r, "a.example", until)
				}
			})
		})
	}
}
