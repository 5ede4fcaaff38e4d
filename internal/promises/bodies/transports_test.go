package bodies_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

// strange returns a transport that gives every URL but those of
// good.example a response that change has had its way with.
func strange(change func(ctx context.Context, resp *http.Response) (*http.Response, error)) fetchtest.RoundTripFunc {
	return func(req *http.Request) (*http.Response, error) {
		resp := fetchtest.Respond(req, 200, "hello")
		if req.URL.Host == "good.example" {
			return resp, nil
		}
		return change(req.Context(), resp)
	}
}

// A strangeBody has a Read of its own.
type strangeBody struct {
	io.Reader
	close error
}

func (b strangeBody) Close() error { return b.close }

func TestAStrangeRoundTripperHarmsItsOwnURLOnly(t *testing.T) {
	reads := func(f fetchtest.ReaderFunc) func(context.Context, *http.Response) (*http.Response, error) {
		return func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.Body, resp.ContentLength = strangeBody{Reader: f}, -1
			return resp, nil
		}
	}
	odd := errors.New("odd")
	for _, test := range []struct {
		name   string
		change func(context.Context, *http.Response) (*http.Response, error)
		want   string // "hello", "nothing" or, when empty, an error; "either" is hello or an error
		errs   []error
	}{
		{name: "no response and no error", change: func(context.Context, *http.Response) (*http.Response, error) { return nil, nil }},
		{name: "a response and an error", change: func(_ context.Context, resp *http.Response) (*http.Response, error) { return resp, odd },
			errs: []error{odd}},
		{name: "no body", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.Body, resp.ContentLength = nil, 0
			return resp, nil
		}, want: "nothing"},
		{name: "no body but a length", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.Body = nil
			return resp, nil
		}},
		{name: "no header", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.Header = nil
			return resp, nil
		}, want: "hello"},
		{name: "a redirect without header", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.Header, resp.StatusCode = nil, 302
			return resp, nil
		}, want: "hello"},
		{name: "no request in the response", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.Request = nil
			return resp, nil
		}, want: "hello"},
		{name: "a negative status", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.StatusCode = -5
			return resp, nil
		}, errs: []error{fetch.ErrProtocol}},
		{name: "a negative number of bytes", change: reads(func(p []byte) (int, error) { return -1, nil })},
		{name: "a very negative number of bytes", change: reads(func(p []byte) (int, error) { return math.MinInt, nil })},
		{name: "more bytes than fit", change: reads(func(p []byte) (int, error) { return len(p) + 1, nil })},
		{name: "more bytes than fit and the end", change: reads(func(p []byte) (int, error) { return math.MaxInt, io.EOF })},
		{name: "nothing for ever", change: reads(func(p []byte) (int, error) { return 0, nil })},
		{name: "nothing for ever, with a length", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.Body = strangeBody{Reader: fetchtest.ReaderFunc(func(p []byte) (int, error) { return 0, nil })}
			return resp, nil
		}},
		{name: "a failing body", change: reads(func(p []byte) (int, error) { return 0, odd }), errs: []error{odd}},
		{name: "bytes and an error", change: reads(func(p []byte) (int, error) { return copy(p, "hello"), odd }), errs: []error{odd}},
		{name: "bytes and the end", change: reads(func(p []byte) (int, error) { return copy(p, "hello"), io.EOF }), want: "hello"},
		{name: "a length too long", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.ContentLength++
			return resp, nil
		}, errs: []error{fetch.ErrTruncated, io.ErrUnexpectedEOF}},
		{name: "a length much too long", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.ContentLength += 5 << 20
			return resp, nil
		}, errs: []error{fetch.ErrTruncated, io.ErrUnexpectedEOF}},
		// Either is sound; a body cut to the length is not.
		{name: "a length too short", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.ContentLength--
			return resp, nil
		}, want: "either"},
		{name: "a length of zero", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.ContentLength = 0
			return resp, nil
		}, want: "hello"},
		{name: "a length of less than nothing", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.ContentLength = math.MinInt64
			return resp, nil
		}, want: "hello"},
		{name: "a Close that fails", change: func(_ context.Context, resp *http.Response) (*http.Response, error) {
			resp.Body = strangeBody{resp.Body, odd}
			return resp, nil
		}, want: "hello"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				urls := []string{"http://good.example/1", "http://bad.example/", "http://good.example/2"}
				results := fetch.FetchAll(t.Context(), urls, fetchtest.Over(strange(test.change)))
				fetchtest.CheckResults(t, urls, results)
				fetchtest.CheckTook(t, "the batch", time.Since(start), 0)
				for _, i := range []int{0, 2} {
					if r := results[i]; r.Err != nil || string(r.Body) != "hello" {
						t.Errorf("%s: %q, %v", r.URL, r.Body, r.Err)
					}
				}
				r := results[1]
				got := cmp.Or(string(r.Body), "nothing")
				if r.Err != nil {
					got = "an error"
				}
				if want := cmp.Or(test.want, "an error"); got != want && (want != "either" || got != "hello" && got != "an error") {
					t.Errorf("got %s, want %s: %q, %v", got, want, r.Body, r.Err)
				}
				for _, want := range test.errs {
					if !errors.Is(r.Err, want) {
						t.Errorf("error %v is not %v", r.Err, want)
					}
				}
			})
		})
	}
}
