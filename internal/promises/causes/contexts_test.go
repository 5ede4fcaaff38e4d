package causes_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

type key string

func TestARequestHasTheValuesOfItsContextAndOfTheBatch(t *testing.T) {
	var got []any
	f := fetchtest.NewFetcher(t, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		got = nil
		for _, k := range []key{"batch", "both", "request", "none"} {
			got = append(got, req.Context().Value(k))
		}
		return fetchtest.Respond(req, 200, "ok"), nil
	}))
	batch := context.WithValue(context.WithValue(t.Context(), key("batch"), 1), key("both"), 1)
	own := context.WithValue(context.WithValue(context.Background(), key("request"), 2), key("both"), 2)
	for name, test := range map[string]struct {
		ctx  context.Context
		want [4]any
	}{
		"none":      {context.Background(), [4]any{1, 1, nil, nil}},
		"values":    {own, [4]any{1, 2, 2, nil}},
		"with ends": {withCancel(t, own), [4]any{1, 2, 2, nil}},
	} {
		req := fetchtest.NewRequest(t, "GET", "http://a.example/", nil).WithContext(test.ctx)
		results := f.DoAll(batch, []*http.Request{req})
		fetchtest.MustAllBeFine(t, []string{"http://a.example/"}, results)
		if [4]any(got) != test.want {
			t.Errorf("%s: got %v, want %v", name, got, test.want)
		}
	}
}

func withCancel(t *testing.T, ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	t.Cleanup(cancel)
	return ctx
}

func TestEitherContextEndsARequest(t *testing.T) {
	for name, test := range map[string]struct{ batch, own time.Duration }{
		"the request's":               {2 * time.Second, time.Second},
		"the batch's":                 {time.Second, 2 * time.Second},
		"the only one that ever ends": {time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				batch, cancel := context.WithTimeout(t.Context(), test.batch)
				defer cancel()
				own := context.WithValue(context.Background(), key("request"), 2)
				if test.own > 0 {
					var cancel context.CancelFunc
					own, cancel = context.WithTimeout(own, test.own)
					defer cancel()
				}
				start := time.Now()
				f := fetchtest.NewFetcher(t, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
					if deadline, ok := req.Context().Deadline(); !ok || deadline.Sub(start) != time.Second {
						t.Errorf("the deadline is after %v", deadline.Sub(start))
					}
					return fetchtest.Hanging(req)
				}))
				req := fetchtest.NewRequest(t, "GET", "http://a.example/", nil).WithContext(own)
				results := f.DoAll(batch, []*http.Request{req})
				fetchtest.CheckResults(t, []string{"http://a.example/"}, results)
				if !errors.Is(results[0].Err, context.DeadlineExceeded) || errors.Is(results[0].Err, fetch.ErrTimeout) {
					t.Errorf("%v", results[0].Err)
				}
				fetchtest.CheckTook(t, "the batch", time.Since(start), time.Second)
			})
		})
	}
}
