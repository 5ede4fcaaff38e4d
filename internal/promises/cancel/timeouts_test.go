package cancel_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestTimeoutOfAnAttemptIsErrTimeout(t *testing.T) {
	for name, c := range map[string]struct {
		stuck fetchtest.RoundTripFunc
		opt   fetch.Option
	}{
		"waiting for the head": {stuck: fetchtest.AnswerAfter(time.Hour)},
		"in the body":          {stuck: stages["in the body"].stuck},
		"in a redirect's second hop": {stuck: func(req *http.Request) (*http.Response, error) {
			if req.URL.Path != "/moved" {
				return fetchtest.Respond(req, 302, "", "Location", "/moved"), nil
			}
			return fetchtest.AnswerAfter(time.Hour)(req)
		}},
		"in the BodyFunc": {
			stuck: fetchtest.AnswerAfter(0),
			opt: fetch.WithBodyFunc(func(ctx context.Context, _ fetch.Result, _ io.Reader) error {
				return fetchtest.UntilDone(ctx)
			}),
		},
		"in a BodyFunc that hides it": {
			stuck: stages["in the body"].stuck,
			opt: fetch.WithBodyFunc(func(_ context.Context, _ fetch.Result, body io.Reader) error {
				io.Copy(io.Discard, body)
				return nil
			}),
		},
		"in a transport that hides it": {stuck: func(req *http.Request) (*http.Response, error) {
			<-req.Context().Done()
			return nil, errors.New("something went wrong")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeoutCause(t.Context(), time.Hour, fetchtest.ErrLeft)
				defer cancel()
				opts := []fetch.Option{fetch.WithTimeout(time.Second), fetchtest.Over(c.stuck)}
				if c.opt != nil {
					opts = append(opts, c.opt)
				}
				start := time.Now()
				urls := []string{"http://host/"}
				results := fetch.FetchAll(ctx, urls, opts...)
				fetchtest.CheckTook(t, "the batch", time.Since(start), time.Second)
				fetchtest.CheckResults(t, urls, results)
				r := results[0]
				fetchErr, ok := errors.AsType[*fetch.Error](r.Err)
				if !errors.Is(r.Err, fetch.ErrTimeout) || !errors.Is(r.Err, context.DeadlineExceeded) || !ok || !fetchErr.Timeout() {
					t.Errorf("error %v, want ErrTimeout", r.Err)
				}
				if errors.Is(r.Err, fetchtest.ErrLeft) || errors.Is(r.Err, context.Canceled) {
					t.Errorf("error %v matches what the caller did not do", r.Err)
				}
				fetchtest.CheckTook(t, "the attempt", r.Took, time.Second)
			})
		})
	}
}

// The timeouts that the client brings along, each at a real connection.
func TestTimeoutsOfTheClientAreErrTimeout(t *testing.T) {
	const soon = 50 * time.Millisecond
	silent := silentListener(t)
	for name, c := range map[string]struct {
		scheme    string
		client    time.Duration
		transport *http.Transport
	}{
		"client":        {"http", soon, &http.Transport{}},
		"response head": {"http", 0, &http.Transport{ResponseHeaderTimeout: soon}},
		"TLS handshake": {"https", 0, &http.Transport{TLSHandshakeTimeout: soon}},
		"dial": {"http", 0, &http.Transport{DialContext: (&net.Dialer{
			Timeout: soon,
			ControlContext: func(ctx context.Context, _, _ string, _ syscall.RawConn) error {
				return fetchtest.UntilDone(ctx)
			},
		}).DialContext}},
	} {
		t.Run(name, func(t *testing.T) {
			defer c.transport.CloseIdleConnections()
			urls := []string{c.scheme + "://" + silent + "/"}
			results := fetch.FetchAll(t.Context(), urls, fetch.WithClient(&http.Client{Transport: c.transport, Timeout: c.client}))
			fetchtest.CheckResults(t, urls, results)
			err := results[0].Err
			fetchErr, ok := errors.AsType[*fetch.Error](err)
			if !errors.Is(err, fetch.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) || !ok || !fetchErr.Timeout() {
				t.Errorf("error %v, want ErrTimeout", err)
			}
		})
	}
}
