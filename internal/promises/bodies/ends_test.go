package bodies_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/batchhttp/fetch"
	"github.com/batchhttp/fetch/internal/promises/fetchtest"
)

func TestAStallInTheBodyIsATimeout(t *testing.T) {
	for name, body := range map[string]func(ctx context.Context) io.ReadCloser{
		"silence": func(ctx context.Context) io.ReadCloser { return fetchtest.NewStalledBody(ctx, "ab") },
		"a drip": func(ctx context.Context) io.ReadCloser {
			return io.NopCloser(fetchtest.ReaderFunc(func(p []byte) (int, error) {
				return copy(p[:1], "x"), fetchtest.SleepCtx(ctx, 100*time.Millisecond)
			}))
		},
	} {
		for _, length := range []int64{-1, 1000, 5 << 20} {
			t.Run(fmt.Sprintf("%s, length %d", name, length), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					start := time.Now()
					r := fetchtest.GetOne(t, "http://a.example/", fetch.WithTimeout(3*time.Second), fetchtest.Over(func(req *http.Request) (*http.Response, error) {
						resp := fetchtest.Respond(req, 200, "")
						resp.Body, resp.ContentLength = body(req.Context()), length
						return resp, nil
					}))
					if !errors.Is(r.Err, fetch.ErrTimeout) || errors.Is(r.Err, fetch.ErrTruncated) || r.StatusCode != 200 {
						t.Errorf("got %d, %v", r.StatusCode, r.Err)
					}
					fetchtest.CheckTook(t, "the attempt", time.Since(start), 3*time.Second)
					fetchtest.CheckTook(t, "it says it", r.Took, 3*time.Second)
				})
			})
		}
	}
	t.Run("on the wire", func(t *testing.T) {
		target := fetchtest.Listen(t, func(conn net.Conn, _ string) {
			io.WriteString(conn, fetchtest.StatusOK+"Content-Length: 100\r\n\r\nab")
			fetchtest.UntilClosed(conn)
		})
		start := time.Now()
		r := fetchtest.GetOne(t, target, fetch.WithTimeout(200*time.Millisecond))
		if took := time.Since(start); !errors.Is(r.Err, fetch.ErrTimeout) || took > 2*time.Second {
			t.Errorf("after %v: %v", took, r.Err)
		}
	})
}

func TestEveryBodyIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var given, closed atomic.Int32
		answer := func(req *http.Request) (*http.Response, error) {
			resp := fetchtest.Respond(req, 200, "hello")
			switch req.URL.Path {
			case "/redirect":
				resp = fetchtest.Respond(req, 302, "moved", "Location", "/")
			case "/lost":
				resp = fetchtest.Respond(req, 302, "moved", "Location", "ftp://x/")
			case "/switch":
				resp.StatusCode = 101
			case "/zero":
				resp.StatusCode = 0
			case "/error":
				resp.StatusCode = 500
			case "/nothing":
				resp.StatusCode, resp.ContentLength = 204, 0
			case "/large":
				resp.ContentLength = 1 << 40
			case "/endless":
				resp.Body, resp.ContentLength = io.NopCloser(fetchtest.ReaderFunc(func(p []byte) (int, error) { return len(p), nil })), -1
			case "/cut":
				resp.ContentLength = 100
			case "/stall":
				resp.Body = fetchtest.NewStalledBody(req.Context(), "he")
			case "/slow":
				if err := fetchtest.SleepCtx(req.Context(), time.Hour); err != nil {
					return nil, err
				}
			}
			given.Add(1)
			var once sync.Once
			resp.Body = &fetchtest.HookedBody{ReadCloser: resp.Body, OnClose: func() { once.Do(func() { closed.Add(1) }) }}
			return resp, nil
		}
		var urls []string
		for _, path := range []string{"", "redirect", "lost", "switch", "zero", "error", "nothing", "large", "endless", "cut", "stall", "slow"} {
			urls = append(urls, "http://a.example/"+path)
		}
		for name, opts := range map[string][]fetch.Option{
			"plain":         nil,
			"status errors": {fetch.WithStatusErrors()},
			"a body func": {fetch.WithMaxBody(1000), fetch.WithBodyFunc(func(_ context.Context, _ fetch.Result, body io.Reader) error {
				_, err := io.Copy(io.Discard, body)
				return err
			})},
			"a body func that does not read": {fetch.WithBodyFunc(func(context.Context, fetch.Result, io.Reader) error { return nil })},
			"a body func that fails":         {fetch.WithBodyFunc(func(context.Context, fetch.Result, io.Reader) error { return io.EOF })},
			"no redirects":                   {fetch.WithMaxRedirects(0)},
			"one at a time":                  {fetch.WithConcurrency(1)},
		} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			fetchtest.CheckResults(t, urls, fetch.FetchAll(ctx, urls, append(opts, fetchtest.Over(answer), fetch.WithTimeout(10*time.Second))...))
			cancel()
			if given.Load() != closed.Load() {
				t.Errorf("%s: %d bodies, %d closed", name, given.Load(), closed.Load())
			}
		}
		for range fetch.Stream(t.Context(), slices.Values(urls), fetchtest.Over(answer)) {
			break
		}
		if given.Load() != closed.Load() {
			t.Errorf("after a break: %d bodies, %d closed", given.Load(), closed.Load())
		}
	})
}

func TestAConnectionIsUsedAgainOnceItsBodyWasRead(t *testing.T) {
	server, conns := fetchtest.NewServer(t, func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/gzip":
			w.Header().Set("Content-Encoding", "gzip")
			io.WriteString(w, fetchtest.Zipped(make([]byte, 100_000)))
		case "/204":
			w.WriteHeader(204)
		case "/500":
			w.WriteHeader(500)
			w.Write(make([]byte, 64<<10))
		case "/chunks":
			for range 3 {
				w.Write(make([]byte, 10_000))
				http.NewResponseController(w).Flush()
			}
		case "/large":
			w.Header().Set("Content-Length", fmt.Sprint(3<<20))
			w.Write(make([]byte, 3<<20))
		}
	})
	var urls []string
	for _, path := range []string{"", "gzip", "204", "500", "chunks", "large"} {
		urls = append(urls, server.URL+"/"+path, server.URL+"/"+path)
	}
	for name, opts := range map[string][]fetch.Option{
		"buffered":      nil,
		"status errors": {fetch.WithStatusErrors()},
		"a body func": {fetch.WithBodyFunc(func(_ context.Context, _ fetch.Result, body io.Reader) error {
			_, err := io.Copy(io.Discard, body)
			return err
		})},
	} {
		_, _, before := conns.Counts()
		results := fetch.FetchAll(t.Context(), urls, append(opts, fetch.WithConcurrency(1))...)
		fetchtest.CheckResults(t, urls, results)
		if _, _, after := conns.Counts(); after-before != 1 {
			t.Errorf("%s: %d connections for %d requests in turn: %v", name, after-before, len(urls), fetch.JoinErrors(results))
		}
		if !conns.WaitForNone() {
			t.Errorf("%s: a connection is still open", name)
		}
	}
}
