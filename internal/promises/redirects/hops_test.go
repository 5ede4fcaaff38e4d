package redirects_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestAHopWaitsForTheLimitsOfTheHostThatItLeadsTo(t *testing.T) {
	toB := func(counter *fetchtest.InFlight, log *fetchtest.StartLog) fetchtest.RoundTripFunc {
		return counter.Over(func(req *http.Request) (*http.Response, error) {
			if req.URL.Host == "a.example" {
				return fetchtest.Respond(req, 302, "", "Location", "http://b.example"+req.URL.Path), nil
			}
			if req.URL.Host == "b.example" {
				log.Add()
				return fetchtest.AnswerAfter(time.Second)(req)
			}
			return fetchtest.AnswerAfter(10 * time.Millisecond)(req)
		})
	}
	t.Run("its concurrency", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var counter fetchtest.InFlight
			urls := append(fetchtest.Numbered("http://a.example", 6), fetchtest.Numbered("http://c.example", 10)...)
			start := time.Now()
			results := fetch.FetchAll(t.Context(), urls, fetchtest.Over(toB(&counter, &fetchtest.StartLog{})), fetch.WithConcurrency(3),
				fetch.WithHostLimits(func(host string) fetch.HostLimits {
					if host == "b.example" {
						return fetch.HostLimits{Concurrency: 1}
					}
					return fetch.HostLimits{}
				}))
			fetchtest.CheckResults(t, urls, results)
			for _, r := range results {
				if r.Err != nil || r.StatusCode != 200 {
					t.Errorf("%s: %d, %v", r.URL, r.StatusCode, r.Err)
				}
			}
			if n := counter.MostOf("b.example"); n != 1 {
				t.Errorf("%d requests to b.example at once", n)
			}
			fetchtest.CheckTook(t, "the batch", time.Since(start).Round(100*time.Millisecond), 6*time.Second)
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
			var counter fetchtest.InFlight
			var log fetchtest.StartLog
			urls := fetchtest.Numbered("http://a.example", 6)
			results := fetch.FetchAll(t.Context(), urls, fetchtest.Over(toB(&counter, &log)), fetch.WithTimeout(3*time.Second),
				fetch.WithHostLimits(func(host string) fetch.HostLimits {
					if host == "b.example" {
						return fetch.HostLimits{Rate: 0.5}
					}
					return fetch.HostLimits{}
				}))
			fetchtest.CheckResults(t, urls, results)
			if err := fetch.JoinErrors(results); err != nil {
				t.Error(err)
			}
			log.Check(t, 0.5, 1)
			for _, r := range results {
				fetchtest.CheckTook(t, r.URL, r.Took, time.Second)
			}
		})
	})
	t.Run("the total rate", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var log fetchtest.StartLog
			urls := fetchtest.Numbered("http://a.example", 5)
			start := time.Now()
			results := fetch.FetchAll(t.Context(), urls, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
				log.Add()
				if req.URL.Host == "a.example" {
					return fetchtest.Respond(req, 302, "", "Location", "http://b.example/"), nil
				}
				return fetchtest.Respond(req, 200, ""), nil
			}), fetch.WithRate(1, 1))
			fetchtest.CheckResults(t, urls, results)
			log.Check(t, 1, 1)
			fetchtest.CheckTook(t, "ten requests at one a second", time.Since(start).Round(time.Millisecond), 9*time.Second)
		})
	})
}

func TestTheTimeoutCoversAllHopsOfAnAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		r := fetchtest.GetOne(t, "http://a.example/0", fetch.WithTimeout(2500*time.Millisecond), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
			if err := fetchtest.SleepCtx(req.Context(), time.Second); err != nil {
				return nil, err
			}
			return forever(5)(req)
		}))
		if !errors.Is(r.Err, fetch.ErrTimeout) || r.Redirects != 2 || r.StatusCode != 302 || r.FinalURL != "http://a.example/1" {
			t.Errorf("got %d from %s after %d redirects, %v", r.StatusCode, r.FinalURL, r.Redirects, r.Err)
		}
		fetchtest.CheckTook(t, "the attempt", time.Since(start), 2500*time.Millisecond)
	})
}

func TestAHopThatFailsKeepsTheHeadOfTheLastResponse(t *testing.T) {
	broken := errors.New("broken")
	r := fetchtest.GetOne(t, "http://a.example/", fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		if req.URL.Host == "b.example" {
			return nil, broken
		}
		return fetchtest.Respond(req, 301, "", "Location", "http://b.example/"), nil
	}))
	if !errors.Is(r.Err, broken) || errors.Is(r.Err, fetch.ErrRedirect) {
		t.Errorf("error is %v", r.Err)
	}
	if r.StatusCode != 301 || r.FinalURL != "http://a.example/" || r.Header.Get("Location") == "" || r.Redirects != 1 {
		t.Errorf("got %d from %q, %v, %d redirects", r.StatusCode, r.FinalURL, r.Header, r.Redirects)
	}
}

func TestConnectionsAreReusedAcrossRedirects(t *testing.T) {
	for _, size := range []int{0, 100, 2000} {
		server, conns := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path != "/end" {
				w.Header().Set("Location", "/end")
				w.WriteHeader(302)
				w.Write(bytes.Repeat([]byte("x"), size))
			}
		})
		urls := fetchtest.Numbered(server.URL, 20)
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1))
		fetchtest.CheckResults(t, urls, results)
		if err := fetch.JoinErrors(results); err != nil {
			t.Fatal(err)
		}
		if _, _, total := conns.Counts(); total != 1 {
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
			fetchtest.Over(func(req *http.Request) (*http.Response, error) {
				var id, hop int
				fmt.Sscanf(req.URL.Path, "/%d", &id)
				fmt.Sscanf(req.URL.RawQuery, "hop=%d", &hop)
				if err := fetchtest.SleepCtx(req.Context(), time.Duration(1+(id*hop)%5)*time.Millisecond); err != nil {
					return nil, err
				}
				if hop == id%5 {
					return fetchtest.Respond(req, 200, fmt.Sprint(id)), nil
				}
				return fetchtest.Respond(req, 302, "", "Location", fmt.Sprintf("http://h%d.example/%d?hop=%d", (id+hop)%7, id, hop+1)), nil
			}))
		fetchtest.CheckResults(t, urls, results)
		for i, r := range results {
			if r.Err != nil || string(r.Body) != fmt.Sprint(i) || r.Redirects != i%5 {
				t.Errorf("%s: %q after %d redirects, %v", r.URL, r.Body, r.Redirects, r.Err)
			}
		}
	})
}
