package retries_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestAHostThatCannotBeConnectedToIsGivenUp(t *testing.T) {
	failures := map[string]fetchtest.RoundTripFunc{
		"connection refused": fetchtest.Failing(fetchtest.ErrRefused),
		"unknown host":       fetchtest.Failing(&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "dead", IsNotFound: true}}),
		"certificate":        fetchtest.Failing(&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}),
		"TLS alert":          fetchtest.Failing(&net.OpError{Op: "remote error", Err: tls.AlertError(40)}),
		"dial timeout":       fetchtest.Failing(&net.OpError{Op: "dial", Net: "tcp", Err: timeoutError{}}),
		"handshake timeout":  fetchtest.Failing(timeoutError{}),
		"attempt timeout":    fetchtest.Hanging,
	}
	for name, step := range failures {
		for _, retries := range []int{0, 3} {
			t.Run(fmt.Sprintf("%s, %d retries", name, retries), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					const slots = 8
					sent := fetchtest.NewTimeline()
					urls := fetchtest.HostURLs(300, "dead", "good")
					results := fetch.FetchAll(t.Context(), urls, fetch.WithMaxHostFailures(20), fetch.WithConcurrency(slots), fetch.WithTimeout(time.Second),
						fetch.WithRetries(retries), fetchtest.Over(sent.Over(func(req *http.Request) (*http.Response, error) {
							if req.URL.Host == "good" {
								return fetchtest.AnswerAfter(20 * time.Millisecond)(req)
							}
							return fetchtest.Taking(10*time.Millisecond, step)(req)
						})))
					fetchtest.CheckResults(t, urls, results)
					if n := len(sent.OfHost("dead")); n < 20 || n > 20+slots {
						t.Errorf("%d attempts, want at most 20 and what was in flight", n)
					}
					down := 0
					for _, r := range results {
						switch isDown := errors.Is(r.Err, fetch.ErrHostDown); {
						case strings.HasPrefix(r.URL, "http://good"):
							if !r.OK() {
								t.Errorf("%s: %v", r.URL, r.Err)
							}
						case isDown:
							down++
						case r.Attempts == 0 || r.Err == nil:
							t.Errorf("%s: %d attempts, %v", r.URL, r.Attempts, r.Err)
						}
					}
					if down < 300-20-slots {
						t.Errorf("%d of 300 are ErrHostDown", down)
					}
				})
			})
		}
	}
}

func TestAnyAnswerStartsTheCountOfFailuresAnew(t *testing.T) {
	for name, answer := range map[string]fetchtest.RoundTripFunc{"200": fetchtest.AtOnce, "404": fetchtest.Always(404), "500": fetchtest.Always(500), "cut body": fetchtest.Cut("x")} {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int32
			urls := fetchtest.Numbered("http://shaky", 200)
			results := fetch.FetchAll(t.Context(), urls, fetch.WithMaxHostFailures(20), fetch.WithConcurrency(1), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
				if n.Add(1)%20 == 0 {
					return answer(req)
				}
				return nil, fetchtest.ErrRefused
			}))
			fetchtest.CheckResults(t, urls, results)
			if n.Load() != 200 {
				t.Errorf("%d of 200 were sent", n.Load())
			}
			if err := fetch.JoinErrors(results); errors.Is(err, fetch.ErrHostDown) {
				t.Error("the host was given up")
			}
		})
	}
}

// They tell that the host is there.
func TestFailuresAfterTheConnectDoNotMakeAHostDown(t *testing.T) {
	stuck := func(req *http.Request) (*http.Response, error) {
		resp := fetchtest.Respond(req, 200, "")
		resp.Body, resp.ContentLength = fetchtest.Stalled(req.Context(), "half"), 100
		return resp, nil
	}
	for name, step := range map[string]fetchtest.RoundTripFunc{
		"timeout in the body": stuck, "cut bodies": fetchtest.Cut("x"), "status 503": fetchtest.Always(503), "malformed answers": fetchtest.Failing(errors.New("malformed HTTP status")),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var flight fetchtest.InFlight
				urls := fetchtest.Numbered("http://a.example", 50)
				results := fetch.FetchAll(t.Context(), urls, fetch.WithMaxHostFailures(5), fetch.WithConcurrency(5), fetch.WithTimeout(time.Second), fetchtest.Over(flight.Over(step)))
				fetchtest.CheckResults(t, urls, results)
				if flight.Total() != 50 {
					t.Errorf("%d of 50 were sent", flight.Total())
				}
			})
		})
	}
}

func TestAHostIsGivenUpForWhatComesLaterToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight fetchtest.InFlight
		rt := flight.Over(fetchtest.ByHost(map[string]fetchtest.RoundTripFunc{"dead": fetchtest.Failing(fetchtest.ErrRefused), "door": fetchtest.Always(302, "Location", "http://dead/")}))
		urls := append(fetchtest.Numbered("http://dead", 50), "http://door/")
		results := fetchtest.Collect(t, urls, fetch.Stream(t.Context(), slices.Values(urls), fetch.WithMaxHostFailures(5), fetch.WithLookahead(1), fetchtest.Over(rt)))
		for i, r := range results {
			if want := i >= 5; errors.Is(r.Err, fetch.ErrHostDown) != want {
				t.Errorf("%s: %v", r.URL, r.Err)
			}
		}
		if r := results[50]; r.StatusCode != 302 || r.Attempts != 1 {
			t.Errorf("the redirect into it: %d attempts, %d", r.Attempts, r.StatusCode)
		}
		if flight.Total() != 6 {
			t.Errorf("%d requests", flight.Total())
		}
	})
}

// It is that batch that has given it up.
func TestAHostThatWasGivenUpIsTriedAgainByTheNextCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Bool
		f := fetchtest.NewFetcher(t, fetch.WithMaxHostFailures(3), fetch.WithConcurrency(1), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			if !up.Load() {
				return nil, fetchtest.ErrRefused
			}
			return fetchtest.Respond(req, 200, "ok"), nil
		}))
		urls := fetchtest.Numbered("http://a.example", 10)
		results := f.FetchAll(t.Context(), urls)
		fetchtest.CheckResults(t, urls, results)
		if !errors.Is(results[9].Err, fetch.ErrHostDown) {
			t.Errorf("the last: %v", results[9].Err)
		}
		up.Store(true)
		fetchtest.MustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
	})
}
