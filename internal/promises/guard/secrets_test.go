package guard_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// The errors that no server causes.
func TestNoErrorOfTheLibrarysOwnShowsASecret(t *testing.T) {
	refused := func(req *http.Request) (*http.Response, error) { return nil, errors.New("dial failed") }
	status := func(code int, header ...string) fetchtest.RoundTripFunc {
		return func(req *http.Request) (*http.Response, error) {
			return fetchtest.Respond(req, code, fetchtest.Canary, header...), nil
		}
	}
	timedOut := func(req *http.Request) (*http.Response, error) {
		return nil, &url.Error{Op: "Get", URL: fetchtest.SecretURL, Err: context.DeadlineExceeded}
	}
	for name, test := range map[string]struct {
		transport fetchtest.RoundTripFunc
		opts      []fetch.Option
		ctx       func(context.Context) (context.Context, context.CancelFunc)
	}{
		"any error":    {transport: refused},
		"with retries": {transport: timedOut, opts: []fetch.Option{fetch.WithRetries(3)}},
		"a host that is down": {
			transport: timedOut, opts: []fetch.Option{fetch.WithMaxHostFailures(1), fetch.WithConcurrency(1)},
		},
		"a host that is paused": {
			transport: status(429, "Retry-After", "10000"), opts: []fetch.Option{fetch.WithConcurrency(1), fetch.WithStatusErrors()},
		},
		"a budget that is exhausted": {
			transport: timedOut, opts: []fetch.Option{fetch.WithRetries(100), fetch.WithBackoff(0, 0)},
		},
		"a status":           {transport: status(500), opts: []fetch.Option{fetch.WithStatusErrors()}},
		"a body too large":   {transport: status(200), opts: []fetch.Option{fetch.WithMaxBody(1)}},
		"a bad option":       {transport: refused, opts: []fetch.Option{fetch.WithHeader("X-Api-Key", fetchtest.Canary+"\n"), fetch.WithConcurrency(0)}},
		"a bad limit":        {transport: refused, opts: []fetch.Option{fetch.WithHostLimits(func(string) fetch.HostLimits { return fetch.HostLimits{Burst: -1} })}},
		"a changed host":     {transport: refused, opts: []fetch.Option{fetch.WithRequestFunc(func(req *http.Request) error { req.URL.Host = fetchtest.Canary; return nil })}},
		"a URL in the error": {transport: timedOut},
		"URLs in the error": {transport: func(*http.Request) (*http.Response, error) {
			return nil, &url.Error{Op: "Get", URL: fetchtest.SecretURL, Err: &url.Error{Op: "Get", URL: fetchtest.SecretURL, Err: io.EOF}}
		}},
		"a URL deep inside it": {transport: func(*http.Request) (*http.Response, error) {
			return nil, fmt.Errorf("proxy: %w", &url.Error{Op: "Get", URL: fetchtest.SecretURL, Err: io.EOF})
		}},
		"a cancel": {transport: fetchtest.AnswerAfter(time.Hour), ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		}},
		"a cancel with a cause": {transport: fetchtest.AnswerAfter(time.Hour), ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeoutCause(ctx, time.Second, &url.Error{Op: "Get", URL: fetchtest.SecretURL, Err: io.EOF})
		}},
		"a timeout": {transport: fetchtest.AnswerAfter(time.Hour), opts: []fetch.Option{fetch.WithTimeout(time.Second)}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if test.ctx != nil {
					var cancel context.CancelFunc
					ctx, cancel = test.ctx(ctx)
					defer cancel()
				}
				urls := []string{fetchtest.SecretURL, fetchtest.SecretURL, fetchtest.SecretURL}
				results := fetch.FetchAll(ctx, urls, append(test.opts, fetchtest.Over(test.transport))...)
				fetchtest.CheckResults(t, urls, results)
				fetchtest.CheckNoSecret(t, results)
				for _, r := range results {
					if r.Err == nil {
						t.Errorf("no error: %d", r.StatusCode)
					}
				}
			})
		})
	}
	t.Run("from JSON", func(t *testing.T) {
		for _, code := range []int{200, 404} {
			r := fetchtest.GetOne(t, fetchtest.SecretURL, fetchtest.Over(status(code)))
			var v any
			if err := r.JSON(&v); err == nil || strings.Contains(err.Error(), fetchtest.Canary) {
				t.Errorf("the error is %v", err)
			}
		}
	})
}
