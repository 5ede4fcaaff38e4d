package clients

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/hashicorp/go-retryablehttp"
	"github.com/sony/gobreaker/v2"
)

// A client of go-retryablehttp keeps its own retries, below those of fetch. What it gives up is an
// error in its own words, without the query.
func TestRetryablehttp(t *testing.T) {
	var requests atomic.Int64
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/down" || requests.Add(1) < 3 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		hello(w, r)
	})
	client := retryablehttp.NewClient()
	client.Logger, client.RetryMax, client.RetryWaitMin, client.RetryWaitMax = nil, 3, time.Millisecond, time.Millisecond
	standard := client.StandardClient()
	defer client.HTTPClient.CloseIdleConnections()
	mustBeFine(t, []fetch.Result{getOne(t, s.URL, fetch.WithClient(standard))}, "hello")

	r := getOne(t, s.URL+"/down?token=s3cret", fetch.WithClient(standard), fetch.WithRetries(1))
	if r.Err == nil || errors.Is(r.Err, fetch.ErrProtocol) || r.Attempts != 1 || contains(r.Err, "s3cret") || !contains(r.Err, "giving up") {
		t.Errorf("%v after %d attempts", r.Err, r.Attempts)
	}
}

// An open breaker of gobreaker ends its URLs at once, in its own words; the cause can be told by errors.Is.
func TestGobreaker(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	breaker := gobreaker.NewCircuitBreaker[*http.Response](gobreaker.Settings{ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= 3 }})
	errServer := errors.New("the server fails")
	results := get(t, numbered(s.URL, 20), fetch.WithConcurrency(1), fetch.WithRetries(2), fetch.WithBackoff(0, 0), fetch.WithTransport(func(next http.RoundTripper) http.RoundTripper {
		return roundTrip(func(req *http.Request) (*http.Response, error) {
			return breaker.Execute(func() (*http.Response, error) {
				resp, err := next.RoundTrip(req)
				if err == nil && resp.StatusCode >= 500 {
					resp.Body.Close()
					return nil, errServer
				}
				return resp, err
			})
		})
	}))
	open := 0
	for _, r := range results {
		if errors.Is(r.Err, gobreaker.ErrOpenState) {
			open++
		} else if !errors.Is(r.Err, errServer) {
			t.Errorf("%s: %v", r.URL, r.Err)
		}
		if errors.Is(r.Err, fetch.ErrProtocol) || r.Attempts != 1 {
			t.Errorf("%v after %d attempts", r.Err, r.Attempts)
		}
	}
	if open != 17 || len(s.seen()) != 3 {
		t.Errorf("%d URLs met the open breaker, %d requests", open, len(s.seen()))
	}
}

// So does one of failsafe-go, around the Fetcher's own client.
func TestFailsafe(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	breaker := circuitbreaker.NewBuilder[*http.Response]().HandleIf(func(resp *http.Response, err error) bool {
		return err != nil || resp.StatusCode >= 500
	}).WithFailureThreshold(3).Build()
	results := get(t, numbered(s.URL, 20), fetch.WithConcurrency(1), fetch.WithTransport(func(next http.RoundTripper) http.RoundTripper {
		return failsafehttp.NewRoundTripper(next, breaker)
	}))
	for i, r := range results {
		if open := errors.Is(r.Err, circuitbreaker.ErrOpen); open != (i >= 3) || !open && r.StatusCode != 500 {
			t.Errorf("%s: %d, %v", r.URL, r.StatusCode, r.Err)
		}
	}
	if len(s.seen()) != 3 {
		t.Errorf("%d requests", len(s.seen()))
	}
}
