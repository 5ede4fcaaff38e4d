package fetch_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
)

// canary is the secret that must not show. Every fault (fault_test.go) is run with it in
// user information, query, fragment, headers, cookies and body of the request, some with
// it in what the server sends; and what redirects lead to looks for it in what it gets.
const canary = "canary93ab17"

// basicCanary is how user information is sent.
var basicCanary = base64.StdEncoding.EncodeToString([]byte(canary + ":" + canary))

const secretURL = "http://user:" + canary + "@a.example/path?key=" + canary + "#" + canary

// The errors that no server causes.
func TestNoErrorOfTheLibrarysOwnShowsASecret(t *testing.T) {
	refused := func(req *http.Request) (*http.Response, error) { return nil, errors.New("dial failed") }
	status := func(code int, header ...string) roundTripFunc {
		return func(req *http.Request) (*http.Response, error) { return respond(req, code, canary, header...), nil }
	}
	timedOut := func(req *http.Request) (*http.Response, error) {
		return nil, &url.Error{Op: "Get", URL: secretURL, Err: context.DeadlineExceeded}
	}
	for name, test := range map[string]struct {
		transport roundTripFunc
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
		"a bad option":       {transport: refused, opts: []fetch.Option{fetch.WithHeader("X-Api-Key", canary+"\n"), fetch.WithConcurrency(0)}},
		"a bad limit":        {transport: refused, opts: []fetch.Option{fetch.WithHostLimits(func(string) fetch.HostLimits { return fetch.HostLimits{Burst: -1} })}},
		"a changed host":     {transport: refused, opts: []fetch.Option{fetch.WithRequestFunc(func(req *http.Request) error { req.URL.Host = canary; return nil })}},
		"a URL in the error": {transport: timedOut},
		"URLs in the error": {transport: func(*http.Request) (*http.Response, error) {
			return nil, &url.Error{Op: "Get", URL: secretURL, Err: &url.Error{Op: "Get", URL: secretURL, Err: io.EOF}}
		}},
		"a URL deep inside it": {transport: func(*http.Request) (*http.Response, error) {
			return nil, fmt.Errorf("proxy: %w", &url.Error{Op: "Get", URL: secretURL, Err: io.EOF})
		}},
		"a cancel": {transport: answerAfter(time.Hour), ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		}},
		"a cancel with a cause": {transport: answerAfter(time.Hour), ctx: func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeoutCause(ctx, time.Second, &url.Error{Op: "Get", URL: secretURL, Err: io.EOF})
		}},
		"a timeout": {transport: answerAfter(time.Hour), opts: []fetch.Option{fetch.WithTimeout(time.Second)}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if test.ctx != nil {
					var cancel context.CancelFunc
					ctx, cancel = test.ctx(ctx)
					defer cancel()
				}
				urls := []string{secretURL, secretURL, secretURL}
				results := fetch.FetchAll(ctx, urls, append(test.opts, over(test.transport))...)
				checkResults(t, urls, results)
				checkNoSecret(t, results)
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
			r := getOne(t, secretURL, over(status(code)))
			var v any
			if err := r.JSON(&v); err == nil || strings.Contains(err.Error(), canary) {
				t.Errorf("the error is %v", err)
			}
		}
	})
}

// checkNoSecret looks for the canary in all texts that results have.
func checkNoSecret(t testing.TB, results []fetch.Result) {
	t.Helper()
	for _, r := range results {
		errs := []error{r.Err, fetch.JoinErrors(results)}
		for _, attempt := range r.History {
			errs = append(errs, attempt.Err)
		}
		for _, err := range errs {
			if text := fmt.Sprintf("%v %+v %q", err, err, err); strings.Contains(text, canary) || strings.Contains(text, basicCanary) {
				t.Errorf("an error shows a secret: %s", text)
			}
		}
		if strings.Contains(r.FinalURL, canary+"@") || strings.Contains(r.FinalURL, canary+":") {
			t.Errorf("FinalURL has user information: %s", r.FinalURL)
		}
	}
}

// watchLog fails the test if a secret is logged: net/http logs a line when a
// server sends more than was asked for.
func watchLog(t *testing.T) {
	var logged lockedBuffer
	before := log.Writer()
	log.SetOutput(&logged)
	t.Cleanup(func() {
		log.SetOutput(before)
		if text := logged.String(); strings.Contains(text, canary) {
			t.Errorf("a secret was logged: %s", text)
		}
	})
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
