package options_test

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
	"golang.org/x/time/rate"
)

func TestLimitsOfWhatOptionsAcceptAreAccepted(t *testing.T) {
	for name, option := range map[string]fetch.Option{
		"WithConcurrency, most":     fetch.WithConcurrency(math.MaxInt),
		"WithHostConcurrency, none": fetch.WithHostConcurrency(0),
		"WithHostConcurrency, most": fetch.WithHostConcurrency(math.MaxInt),
		"WithRate, infinite":        fetch.WithRate(rate.Inf, 1),
		"WithRate, most":            fetch.WithRate(math.MaxFloat64/2, math.MaxInt),
		"WithRate, least":           fetch.WithRate(math.SmallestNonzeroFloat64, 100),
		"WithHostRate, infinite":    fetch.WithHostRate(rate.Limit(math.Inf(1)), 1),
		"WithHostRate, least":       fetch.WithHostRate(math.SmallestNonzeroFloat64, 100),
		"WithHostLimits, most": fetch.WithHostLimits(func(string) fetch.HostLimits {
			return fetch.HostLimits{Concurrency: math.MaxInt, Rate: rate.Inf, Burst: math.MaxInt}
		}),
		"WithHostGroup, none":       fetch.WithHostGroup(func(string) string { return "" }),
		"WithTimeout, none":         fetch.WithTimeout(0),
		"WithTimeout, most":         fetch.WithTimeout(math.MaxInt64),
		"WithRetries, none":         fetch.WithRetries(0),
		"WithRetries, most":         fetch.WithRetries(math.MaxInt),
		"WithBackoff, none":         fetch.WithBackoff(0, 0),
		"WithBackoff, most":         fetch.WithBackoff(math.MaxInt64, math.MaxInt64),
		"WithMaxRetryAfter, none":   fetch.WithMaxRetryAfter(0),
		"WithMaxRetryAfter, most":   fetch.WithMaxRetryAfter(math.MaxInt64),
		"WithMaxHostFailures, none": fetch.WithMaxHostFailures(0),
		"WithMaxHostFailures, most": fetch.WithMaxHostFailures(math.MaxInt),
		"WithMaxBody, none":         fetch.WithMaxBody(0),
		"WithMaxBody, most":         fetch.WithMaxBody(math.MaxInt64),
		"WithMaxRedirects, none":    fetch.WithMaxRedirects(0),
		"WithMaxRedirects, most":    fetch.WithMaxRedirects(math.MaxInt),
		"WithLookahead, least":      fetch.WithLookahead(1),
		"WithLookahead, most":       fetch.WithLookahead(math.MaxInt),
		"WithHeader, empty":         fetch.WithHeader("Key", ""),
		"WithHeader, tab":           fetch.WithHeader("Key", "a\tb"),
		"WithHeader, same host":     fetch.WithHeader("Host", "a.example"),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				f := fetchtest.NewFetcher(t, fetchtest.Over(fetchtest.AnswerAfter(time.Second)), option)
				urls := fetchtest.HostURLs(10, "a", "b")
				fetchtest.MustAllBeFine(t, urls, f.FetchAll(t.Context(), urls))
				fetchtest.CheckTook(t, "FetchAll", time.Since(start), time.Second)
				n := 0
				for r := range f.Stream(t.Context(), slices.Values(urls)) {
					fetchtest.CheckResult(t, r.Index, urls[r.Index], r)
					n++
				}
				if n != len(urls) {
					t.Errorf("Stream yielded %d results, want %d", n, len(urls))
				}
			})
		})
	}
}

func TestNilMeansTheDefault(t *testing.T) {
	server, conns := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) { io.WriteString(w, "ok") })
	urls := fetchtest.Numbered(server.URL, 3)
	results := fetch.FetchAll(t.Context(), urls,
		fetch.WithClient(fetchtest.NewClient(fetchtest.RoundTripFunc(func(*http.Request) (*http.Response, error) {
			return nil, errors.New("this client was taken back")
		}))),
		fetch.WithClient(nil),
		fetch.WithHostLimits(nil),
		fetch.WithHostGroup(nil),
		fetch.WithLimiter(nil),
		fetch.WithBodyFunc(nil),
		fetch.WithRequestFunc(nil),
		fetch.WithRetryIf(nil))
	fetchtest.MustAllBeFine(t, urls, results)
	for _, r := range results {
		if string(r.Body) != "ok" {
			t.Errorf("Body %q", r.Body)
		}
	}
	if !conns.WaitForNone() {
		t.Error("the own client left connections open")
	}
}

func TestTheLastOfTwoEqualOptionsWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var flight, other fetchtest.InFlight
		urls := fetchtest.HostURLs(20, "a")
		start := time.Now()
		results := fetch.FetchAll(t.Context(), urls,
			fetchtest.Over(other.Over(fetchtest.AnswerAfter(0))), fetchtest.Over(flight.Over(fetchtest.AnswerAfter(time.Second))),
			fetch.WithConcurrency(1), fetch.WithConcurrency(20),
			fetch.WithHostConcurrency(2), fetch.WithHostConcurrency(0),
			fetch.WithTimeout(time.Millisecond), fetch.WithTimeout(0),
			fetch.WithMaxBody(1), fetch.WithMaxBody(2),
			fetch.WithRate(1, 1), fetch.WithRate(100, 20),
			fetch.WithHostRate(1, 1), fetch.WithHostRate(100, 20),
			fetch.WithLimiter(fetchtest.LimiterFunc(fetchtest.UntilDone)), fetch.WithLimiter(nil),
			fetch.WithRequestFunc(func(*http.Request) error { return errors.New("taken back") }), fetch.WithRequestFunc(nil),
			fetch.WithBodyFunc(func(context.Context, fetch.Result, io.Reader) error { return errors.New("taken back") }), fetch.WithBodyFunc(nil))
		fetchtest.MustAllBeFine(t, urls, results)
		fetchtest.CheckTook(t, "the batch", time.Since(start), time.Second)
		if flight.Most() != 20 || other.Total() != 0 {
			t.Errorf("%d were in flight at once, and %d went to the first client", flight.Most(), other.Total())
		}
		if string(results[0].Body) != "ok" {
			t.Errorf("Body %q", results[0].Body)
		}
	})
}
