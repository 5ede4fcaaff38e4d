package retries_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// RetryIf sees them and cannot change it.
func TestRetryIfCannotHaveBlockedAddressesAndBadURLsTriedAgain(t *testing.T) {
	server, conns := fetchtest.NewServer(t, func(http.ResponseWriter, *http.Request) {})
	for rawURL, is := range map[string]error{server.URL: fetch.ErrBlocked, "http://a b/": fetch.ErrInvalidURL} {
		r := fetchtest.GetOne(t, rawURL, fetch.WithPublicOnly(), fetch.WithRetries(5), fetchtest.WithoutBackOff, fetch.WithRetryIf(func(fetch.Result) bool { return true }))
		if r.Attempts > 1 || !errors.Is(r.Err, is) {
			t.Errorf("%s: %d attempts, %v", rawURL, r.Attempts, r.Err)
		}
	}
	if _, _, total := conns.Counts(); total != 0 {
		t.Errorf("%d connections were made", total)
	}
}

func TestRetryIfSeesTheFinishedAttempt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var seen []fetch.Result
		r := fetchtest.GetOne(t, "http://a.example/", fetch.WithRetries(4), fetchtest.WithoutBackOff,
			fetch.WithRetryIf(func(r fetch.Result) bool {
				mu.Lock()
				defer mu.Unlock()
				seen = append(seen, r)
				return string(r.Body) != "done"
			}),
			fetchtest.Over(fetchtest.InTurn(fetchtest.Always(200, "X-State", "pending"), fetchtest.Failing(fetchtest.ErrReset), fetchtest.Cut("half"), func(req *http.Request) (*http.Response, error) {
				return fetchtest.Respond(req, 200, "done"), nil
			})))
		if r.Attempts != 4 || string(r.Body) != "done" || len(seen) != 4 {
			t.Fatalf("%d attempts, %q, RetryIf was asked %d times", r.Attempts, r.Body, len(seen))
		}
		for i, s := range seen {
			if s.Attempts != i+1 || s.URL != "http://a.example/" {
				t.Errorf("asked after attempt %d: %+v", i+1, s)
			}
		}
		if s := seen[0]; s.StatusCode != 200 || string(s.Body) != "body of 200" || s.Header.Get("X-State") != "pending" || s.Err != nil {
			t.Errorf("the first: %+v", s)
		}
		if s := seen[1]; s.StatusCode != 0 || !errors.Is(s.Err, syscall.ECONNRESET) {
			t.Errorf("the second: %+v", s)
		}
		if s := seen[2]; s.StatusCode != 200 || !errors.Is(s.Err, fetch.ErrTruncated) || s.Body != nil {
			t.Errorf("the third: %+v", s)
		}
	})
}

func TestRetryIfReplacesThePolicy(t *testing.T) {
	for name, c := range map[string]struct {
		step  fetchtest.RoundTripFunc
		retry bool
	}{
		"a 404 is retried":               {fetchtest.Always(404), true},
		"a certificate error is retried": {fetchtest.Failing(&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}), true},
		"a body too large is retried": {func(req *http.Request) (*http.Response, error) {
			return fetchtest.Respond(req, 200, strings.Repeat("x", 2000)), nil
		}, true},
		"a redirect to nowhere is retried":   {fetchtest.Always(302, "Location", "ftp://a.example/"), true},
		"a 503 is not":                       {fetchtest.Always(503), false},
		"a 503 with Retry-After is not":      {fetchtest.Always(503, "Retry-After", "1"), false},
		"a 429 is not":                       {fetchtest.Always(429), false},
		"a connection error is not":          {fetchtest.Failing(fetchtest.ErrRefused), false},
		"an attempt that timed out is not":   {fetchtest.Hanging, false},
		"a POST that was answered is, too":   {fetchtest.Always(500), true},
		"a body that was cut is not":         {fetchtest.Cut("x"), false},
		"an answer that is quite right, too": {fetchtest.Always(200), true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				req := fetchtest.NewRequest(t, "GET", "http://a.example/", nil)
				if strings.Contains(name, "POST") {
					req = fetchtest.NewRequest(t, "POST", "http://a.example/", strings.NewReader("payload"))
				}
				var flight fetchtest.InFlight
				var asked atomic.Int32
				r := fetchtest.SendOne(t, req, fetch.WithRetries(2), fetch.WithMaxBody(1000), fetch.WithTimeout(time.Second), fetchtest.Over(flight.Over(c.step)),
					fetch.WithRetryIf(func(fetch.Result) bool {
						asked.Add(1)
						return c.retry
					}))
				want := 1
				if c.retry {
					want = 3 // it cannot have more
				}
				if r.Attempts != want || flight.Total() != want || asked.Load() == 0 || int(asked.Load()) > want {
					t.Errorf("%d attempts, %d requests, want %d; asked %d times", r.Attempts, flight.Total(), want, asked.Load())
				}
			})
		})
	}
}

func TestRetryIfIsNotAskedWithoutRetries(t *testing.T) {
	for _, step := range []fetchtest.RoundTripFunc{fetchtest.Always(503), fetchtest.Failing(fetchtest.ErrReset), fetchtest.Always(200)} {
		r := fetchtest.GetOne(t, "http://a.example/", fetchtest.Over(step), fetch.WithRetryIf(func(fetch.Result) bool {
			t.Error("RetryIf was asked")
			return true
		}))
		if r.Attempts != 1 {
			t.Errorf("%d attempts", r.Attempts)
		}
	}
}

func TestRetryIfCannotOverrideTheBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight fetchtest.InFlight
		urls := fetchtest.Numbered("http://dead", 1000)
		fetchtest.CheckResults(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithRetries(5), fetchtest.Over(flight.Over(fetchtest.Failing(fetchtest.ErrRefused))),
			fetch.WithRetryIf(func(fetch.Result) bool { return true })))
		if n := flight.Total(); n > 1210 {
			t.Errorf("%d attempts for 1,000 URLs", n)
		}
	})
}

func TestRetryIfCannotOverrideADoneContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		var flight fetchtest.InFlight
		urls := []string{"http://a.example/"}
		results := fetch.FetchAll(ctx, urls, fetch.WithRetries(5), fetchtest.WithoutBackOff, fetch.WithRetryIf(func(fetch.Result) bool { return true }),
			fetchtest.Over(flight.Over(func(req *http.Request) (*http.Response, error) {
				cancel(fetchtest.ErrLeft)
				return nil, fetchtest.ErrReset
			})))
		fetchtest.CheckResults(t, urls, results)
		fetchtest.CheckCancelled(t, ctx, results[0])
		if flight.Total() != 1 {
			t.Errorf("%d requests", flight.Total())
		}
	})
}
