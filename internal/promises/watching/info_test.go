package watching_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestInfoTellsWhoseRequestOneIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		var mu sync.Mutex
		var got []string
		note := func(where string, ctx context.Context) {
			i, ok := fetch.InfoOf(ctx)
			if !ok {
				t.Errorf("%s: no Info", where)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			got = append(got, fmt.Sprintf("%s: %d %s, attempt %d, redirect %d, queued %v, started %v", where, i.Index, i.URL, i.Attempt, i.Redirect, i.Queued.Sub(start), i.Started.Sub(start)))
		}
		rt := fetchtest.InTurn(
			fetchtest.Taking(time.Second, fetchtest.Always(302, "Location", "/2")),
			fetchtest.Taking(time.Second, fetchtest.Always(302, "Location", "/3")),
		)
		urls := []string{"http://a.example/0", "http://a.example/1"}
		results := fetch.FetchAll(t.Context(), urls, fetch.WithConcurrency(1), fetch.WithRetries(1), fetchtest.WithoutBackOff,
			fetchtest.Over(func(req *http.Request) (*http.Response, error) {
				note("transport", req.Context())
				switch req.URL.Path {
				case "/1":
					return fetchtest.AnswerAfter(time.Second)(req)
				case "/0":
					return rt(req)
				case "/2":
					return fetchtest.Taking(time.Second, fetchtest.Failing(fetchtest.ErrReset))(req)
				}
				return fetchtest.AnswerAfter(time.Second)(req)
			}),
			fetch.WithBodyFunc(func(ctx context.Context, _ fetch.Result, _ io.Reader) error {
				note("BodyFunc", ctx)
				return nil
			}),
			fetch.WithRequestFunc(func(req *http.Request) error {
				if req.URL.Path == "/1" {
					note("RequestFunc", req.Context())
				}
				return nil
			}))
		fetchtest.MustAllBeFine(t, urls, results)
		want := []string{
			"transport: 0 http://a.example/0, attempt 1, redirect 0, queued 0s, started 0s",
			"transport: 0 http://a.example/0, attempt 1, redirect 1, queued 0s, started 0s",
			"transport: 0 http://a.example/0, attempt 2, redirect 0, queued 0s, started 2s",
			"transport: 0 http://a.example/0, attempt 2, redirect 1, queued 0s, started 2s",
			"BodyFunc: 0 http://a.example/0, attempt 2, redirect 1, queued 0s, started 2s",
			"RequestFunc: 1 http://a.example/1, attempt 1, redirect 0, queued 0s, started 4s",
			"transport: 1 http://a.example/1, attempt 1, redirect 0, queued 0s, started 4s",
			"BodyFunc: 1 http://a.example/1, attempt 1, redirect 0, queued 0s, started 4s",
		}
		if !slices.Equal(got, want) {
			t.Errorf("got\n%q\nwant\n%q", got, want)
		}
	})
}

func TestThereIsNoInfoOutsideARequest(t *testing.T) {
	if i, ok := fetch.InfoOf(t.Context()); ok || i != (fetch.Info{}) {
		t.Errorf("%+v", i)
	}
}

// Whoever keeps a context keeps its Info: that of no other request appears in it.
func TestInfoOfAContextStaysTheSame(t *testing.T) {
	server, _ := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) { io.WriteString(w, "ok") })
	urls := fetchtest.Numbered(server.URL, 200)
	var mu sync.Mutex
	kept := map[string][]context.Context{}
	results := fetch.FetchAll(t.Context(), urls, fetch.WithTransport(func(next http.RoundTripper) http.RoundTripper {
		return fetchtest.RoundTripFunc(func(req *http.Request) (*http.Response, error) {
			mu.Lock()
			kept[req.URL.String()] = append(kept[req.URL.String()], req.Context())
			mu.Unlock()
			return next.RoundTrip(req)
		})
	}))
	fetchtest.MustAllBeFine(t, urls, results)
	for i, u := range urls {
		if len(kept[u]) != 1 {
			t.Fatalf("%d requests for %s", len(kept[u]), u)
		}
		info, _ := fetch.InfoOf(kept[u][0])
		want := fetch.Info{Index: i, Attempt: 1, URL: u, Queued: results[i].Queued, Started: results[i].Started}
		if info != want {
			t.Errorf("%s: %+v, want %+v", u, info, want)
		}
	}
}

func TestInfoOfARequestOfTheCallers(t *testing.T) {
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "the caller's")
	req := fetchtest.NewRequest(t, "GET", "http://a.example/", nil).WithContext(ctx)
	var info fetch.Info
	f := fetchtest.NewFetcher(t, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		info, _ = fetch.InfoOf(req.Context())
		return fetchtest.Respond(req, 200, fmt.Sprint(req.Context().Value(key{}))), nil
	}))
	r := f.Do(t.Context(), req)
	fetchtest.CheckResult(t, 0, "http://a.example/", r)
	if info.Attempt != 1 || info.Queued != r.Queued || string(r.Body) != "the caller's" || r.Request != req {
		t.Errorf("%+v, %q, %v", info, r.Body, r.Err)
	}
}
