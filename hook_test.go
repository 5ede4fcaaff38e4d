package fetch_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/batchhttp/fetch"
)

func TestErrorsOfHooksAreNotRetriedWhateverTheyWrap(t *testing.T) {
	refused := &net.OpError{Op: "dial", Err: io.ErrUnexpectedEOF}
	for name, hook := range map[string]func(called *int) fetch.Option{
		"RequestFunc": func(called *int) fetch.Option {
			return fetch.WithRequestFunc(func(*http.Request) error { *called++; return refused })
		},
		"BodyFunc": func(called *int) fetch.Option {
			return fetch.WithBodyFunc(func(context.Context, fetch.Result, io.Reader) error { *called++; return refused })
		},
	} {
		called := 0
		urls := []string{"http://a.example/", "http://a.example/2"}
		results := fetch.FetchAll(t.Context(), urls, over(answerAfter(0)), hook(&called),
			fetch.WithConcurrency(1), fetch.WithRetries(2), fetch.WithMaxHostFailures(1))
		checkResults(t, urls, results)
		if called != 2 || results[1].Attempts != 1 {
			t.Errorf("%s was called %d times; %v", name, called, results[1].Err)
		}
	}
}
