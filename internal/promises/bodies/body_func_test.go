package bodies_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestBodyFuncGetsTheBodyAndTheResultSoFar(t *testing.T) {
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "value")
	urls := []string{"http://a.example/0", "http://a.example/1"}
	var mu sync.Mutex
	got := map[int]string{}
	results := fetchtest.NewFetcher(t, fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		if req.URL.Path == "/1" {
			return fetchtest.Respond(req, 302, "moved", "Location", "/2"), nil
		}
		return fetchtest.Respond(req, 404, "body of "+req.URL.Path, "X-Y", "z"), nil
	}), fetch.WithBodyFunc(func(ctx context.Context, r fetch.Result, body io.Reader) error {
		all, err := io.ReadAll(body)
		mu.Lock()
		defer mu.Unlock()
		got[r.Index] = string(all)
		if r.URL != urls[r.Index] || r.StatusCode != 404 || r.Header.Get("X-Y") != "z" || r.Proto != "HTTP/1.1" ||
			r.FinalURL != []string{urls[0], "http://a.example/2"}[r.Index] || r.Redirects != r.Index || r.Attempts != 1 {
			t.Errorf("f got %+v", r)
		}
		if ctx.Value(key{}) != "value" || ctx.Err() != nil {
			t.Errorf("f got context %v", ctx)
		}
		return err
	})).FetchAll(ctx, urls)
	fetchtest.CheckResults(t, urls, results)
	for i, r := range results {
		if r.Err != nil || r.Body != nil || r.StatusCode != 404 {
			t.Errorf("%s: %d, %q, %v", r.URL, r.StatusCode, r.Body, r.Err)
		}
		if want := []string{"body of /0", "body of /2"}[i]; got[i] != want {
			t.Errorf("%s: f read %q", r.URL, got[i])
		}
	}
}

func TestHowBodyFuncEndsAURL(t *testing.T) {
	mine := errors.New("disk full")
	long := strings.Repeat("x", 11<<20)
	readAll := func(_ context.Context, _ fetch.Result, body io.Reader) error {
		_, err := io.Copy(io.Discard, body)
		return err
	}
	careless := func(_ context.Context, _ fetch.Result, body io.Reader) error {
		io.Copy(io.Discard, body)
		return nil
	}
	for _, test := range []struct {
		name string
		body string
		cut  bool
		opts []fetch.Option
		f    func(context.Context, fetch.Result, io.Reader) error
		errs []error
	}{
		{name: "it reads all", body: "hello", f: readAll},
		{name: "it reads nothing", body: "hello", f: func(context.Context, fetch.Result, io.Reader) error { return nil }},
		{name: "it reads a part", body: long, f: func(_ context.Context, _ fetch.Result, body io.Reader) error {
			_, err := io.ReadFull(body, make([]byte, 10))
			return err
		}},
		{name: "it fails", body: "hello", f: func(context.Context, fetch.Result, io.Reader) error { return fmt.Errorf("saving: %w", mine) }, errs: []error{mine}},
		{name: "it fails having read all", body: "hello", f: func(ctx context.Context, r fetch.Result, body io.Reader) error {
			readAll(ctx, r, body)
			return mine
		}, errs: []error{mine}},
		{name: "it returns the end of the body", body: "hello", f: func(context.Context, fetch.Result, io.Reader) error { return io.EOF }, errs: []error{io.EOF}},
		{name: "more than the default limit", body: long, f: readAll},
		{name: "as much as a limit", body: "hello", opts: []fetch.Option{fetch.WithMaxBody(5)}, f: readAll},
		{name: "more than a limit", body: "hello", opts: []fetch.Option{fetch.WithMaxBody(4)}, f: readAll, errs: []error{fetch.ErrBodyTooLarge}},
		{name: "more than a limit, not caring", body: "hello", opts: []fetch.Option{fetch.WithMaxBody(4)}, f: careless, errs: []error{fetch.ErrBodyTooLarge}},
		{name: "a cut body", body: "hello", cut: true, f: readAll, errs: []error{fetch.ErrTruncated, io.ErrUnexpectedEOF}},
		{name: "a cut body, not caring", body: "hello", cut: true, f: careless, errs: []error{fetch.ErrTruncated}},
	} {
		t.Run(test.name, func(t *testing.T) {
			target := fetchtest.Listen(t, func(conn net.Conn, _ string) {
				length := len(test.body)
				if test.cut {
					length++
				}
				fmt.Fprintf(conn, "%sContent-Length: %d\r\n\r\n%s", fetchtest.StatusOK, length, test.body)
			})
			r := fetchtest.GetOne(t, target, append(test.opts, fetch.WithBodyFunc(test.f))...)
			if (r.Err != nil) != (test.errs != nil) || r.Body != nil || r.StatusCode != 200 || r.Attempts != 1 {
				t.Errorf("got %d, %d bytes, %v", r.StatusCode, len(r.Body), r.Err)
			}
			for _, want := range test.errs {
				if !errors.Is(r.Err, want) {
					t.Errorf("error %v is not %v", r.Err, want)
				}
			}
		})
	}
}

func TestBodyFuncIsNotCalledForAnErrorStatus(t *testing.T) {
	var called atomic.Int32
	count := fetch.WithBodyFunc(func(context.Context, fetch.Result, io.Reader) error { called.Add(1); return nil })
	answer := fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		return fetchtest.Respond(req, 404, "not here", "X", "y"), nil
	})

	r := fetchtest.GetOne(t, "http://a.example/", answer, count, fetch.WithStatusErrors())
	status, ok := errors.AsType[*fetch.StatusError](r.Err)
	if !ok || status.StatusCode != 404 || string(r.Body) != "not here" || r.Header.Get("X") != "y" || called.Load() != 0 {
		t.Errorf("got %q, %v; f was called %d times", r.Body, r.Err, called.Load())
	}
	r = fetchtest.GetOne(t, "http://a.example/", answer, count)
	if r.Err != nil || r.Body != nil || called.Load() != 1 {
		t.Errorf("without WithStatusErrors: %q, %v; f was called %d times", r.Body, r.Err, called.Load())
	}
}

func TestBodyFuncRunsInTheSlotAndUnderTheTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		urls := fetchtest.Numbered("http://a.example", 3)
		start := time.Now()
		results := fetch.FetchAll(t.Context(), urls, fetchtest.Over(fetchtest.AnswerAfter(time.Second)), fetch.WithConcurrency(1),
			fetch.WithTimeout(5*time.Second),
			fetch.WithBodyFunc(func(ctx context.Context, r fetch.Result, _ io.Reader) error {
				if r.Index == 1 {
					<-ctx.Done()
					return ctx.Err()
				}
				return fetchtest.SleepCtx(ctx, time.Second)
			}))
		fetchtest.CheckResults(t, urls, results)
		if results[0].Err != nil || !errors.Is(results[1].Err, fetch.ErrTimeout) || results[2].Err != nil {
			t.Errorf("got %v", fetch.JoinErrors(results))
		}
		fetchtest.CheckTook(t, "the batch", time.Since(start), (2+5+2)*time.Second)
	})
}

func TestTheBodyIsDeadOnceBodyFuncHasReturned(t *testing.T) {
	var kept io.Reader
	r := fetchtest.GetOne(t, "http://a.example/", fetchtest.Over(func(req *http.Request) (*http.Response, error) {
		return fetchtest.Respond(req, 200, "hello"), nil
	}), fetch.WithBodyFunc(func(_ context.Context, _ fetch.Result, body io.Reader) error {
		kept = body
		_, err := io.ReadFull(body, make([]byte, 1))
		return err
	}))
	if r.Err != nil {
		t.Error(r.Err)
	}
	if n, err := kept.Read(make([]byte, 10)); n != 0 || err == nil || err == io.EOF {
		t.Errorf("read %d bytes, %v", n, err)
	}
}
