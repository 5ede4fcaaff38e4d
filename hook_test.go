package fetch_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

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

func TestFinalURLIsWhatTheRequestFuncHasMadeOfIt(t *testing.T) {
	urls := []string{"http://a.example/plain", "http://a.example/redirected"}
	results := fetch.FetchAll(t.Context(), urls, over(func(req *http.Request) (*http.Response, error) {
		if req.URL.Path == "/redirected" {
			return respond(req, 302, "", "Location", "/plain"), nil
		}
		return respond(req, 200, "ok"), nil
	}), fetch.WithRequestFunc(func(req *http.Request) error {
		req.URL.RawQuery = "signed"
		return nil
	}))
	mustAllBeFine(t, urls, results)
	for _, r := range results {
		if want := "http://a.example/plain?signed"; r.FinalURL != want {
			t.Errorf("%s: FinalURL is %s, want %s", r.URL, r.FinalURL, want)
		}
	}
}

// The own client looks for what it has put into the context.
func TestARequestFuncMayReplaceTheContext(t *testing.T) {
	server, _ := newServer(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	urls := numbered(server.URL, 3)
	mustAllBeFine(t, urls, fetch.FetchAll(t.Context(), urls, fetch.WithRequestFunc(func(req *http.Request) error {
		*req = *req.WithContext(context.Background())
		return nil
	})))
}

// Contexts of requests that end in flight leave nothing behind in a long stream.
func TestContextsThatEndInFlightTakeNoMemory(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector takes memory too")
	}
	const n = 100_000
	f := newFetcher(t, fetch.WithConcurrency(8), fetch.WithLookahead(100), over(func(req *http.Request) (*http.Response, error) {
		<-req.Context().Done()
		return nil, req.Context().Err()
	}))
	var read int
	var early uint64
	for r := range f.DoStream(t.Context(), func(yield func(*http.Request) bool) {
		for range n {
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(20*time.Microsecond, cancel)
			if !yield(newRequest(t, "GET", "http://a.example/", nil).WithContext(ctx)) {
				return
			}
		}
	}) {
		if r.Err == nil {
			t.Fatal("no error")
		}
		switch read++; read {
		case n / 10:
			early = liveHeap()
		case n - 100:
			if grown := float64(liveHeap()) - float64(early); grown > 8*n {
				t.Errorf("%.0f bytes for each request", grown/n)
			}
		}
	}
}
